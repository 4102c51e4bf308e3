"""What the benchmarks compare is one and the same."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from lsn_core import training

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "training.py"


@pytest.fixture(scope="module")
def benchmark() -> dict:
    return runpy.run_path(str(SCRIPT))


def test_the_plain_loop_makes_the_same_step_from_files_as_the_package_from_tensors(benchmark, tmp_path):
    config, files, having = benchmark["prepare"]("compact:32:2", tmp_path)
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    torch.manual_seed(0)
    ours = training.set_up(fabric, config)
    torch.manual_seed(0)
    plain = training.set_up(fabric, config)
    values = training.train_step(fabric, ours, having, config, 0)
    terms = benchmark["plain_step"](fabric, plain, having, files, config, 0)
    assert set(terms) == {"reconstruction", "supervision", "bones", "softness"}
    assert {name: float(term.detach()) for name, term in terms.items()} == pytest.approx(
        {name: values[name] for name in terms}, rel=1e-4, abs=1e-6
    )
    for name in ("generator", "segmenter"):  # N_D learns from layers that the plain loop makes after G's update
        pair = (list(players.modules()[name].parameters()) for players in (ours, plain))
        for one, other in zip(*pair, strict=True):
            torch.testing.assert_close(one.grad, other.grad, atol=1e-6, rtol=1e-3)


def test_the_parts_of_a_step_are_all_counted_and_leave_nothing_behind(benchmark, tmp_path):
    config, _, having = benchmark["prepare"]("compact:32:2", tmp_path)
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    players, before = training.set_up(fabric, config), training.show
    began = benchmark["perf_counter"]()
    with benchmark["clocked"](fabric, players) as parts:
        training.train_step(fabric, players, having, config, 0)
    assert sum(parts.values()) <= benchmark["perf_counter"]() - began
    assert training.show is before and min(parts.values()) > 0
    assert set(parts) == {
        *(f"{name} forward" for name in players.modules()),
        *("backward", "optimisers", "losses", "pseudo-images", "shifts", "the rest"),
    }


def test_a_case_is_measured_whole(benchmark):
    found = benchmark["measure"]("compact:32:2", torch.get_num_threads(), 1, 0.0)
    assert found["times_plain"] == found["plain_seconds"] / found["seconds"]
    assert 0 < found["utilisation"] < 1 and sum(found["parts"].values()) == pytest.approx(1)
    assert len(benchmark["line"](found)) == len(benchmark["COLUMNS"])


def test_the_ways_to_synthesise_make_the_same_images():
    """The batch and the stored layers agree within 1e-3; PIL's nearest pixel is off by what an edge is."""
    ways = runpy.run_path(str(SCRIPT.with_name("synthesis.py")))
    joint = ways["Phantom"](7, size=64).render()
    source, some = ways["stored"](joint, joint.layers[None], 0.0), ways["movements"](6)
    exact = ways["by_shift"](source, some, torch.device("cpu"))[:, 0].numpy()
    made = np.zeros_like(exact)
    with ways["workers"](2) as pool:
        assert np.abs(ways["by_source"](pool, source, some, made) - exact).max() < 1e-3
    assert 0.01 < np.abs(ways["by_pil"](source, some, made) - exact).max() < 0.5
    assert np.abs(made - exact).mean() < 0.02
