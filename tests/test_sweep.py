"""Sweeps: how they expand, and what is refused before anything runs."""

import sys
from pathlib import Path

import pytest
import yaml
from conftest import write_notebook

from lsn_core.files import InputError
from lsn_core.notebook import parameter_values
from lsn_core.sweep import NEEDS, read_sweep

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch) -> None:
    """A folder with one notebook, in which one works."""
    monkeypatch.chdir(tmp_path)
    write_notebook(Path("notebooks/01_a.ipynb"), "seed: int = 1\nname: str = 'a'\nout_dir: str = 'runs'")


def plan(**changes) -> Path:
    """A sweep with changes to its one block."""
    block = {"notebook": "notebooks/01_a.ipynb", "grid": {"seed": [0, 1]}} | changes
    Path("s.yaml").write_text(yaml.safe_dump({"runs": [{k: v for k, v in block.items() if v is not None}]}))
    return Path("s.yaml")


def test_a_grid_is_every_combination():
    sweep = read_sweep(plan(grid={"seed": [0, 1, 2], "name": ["b c", "d"]}, megabytes=100))
    assert len(sweep.runs) == 6 and sweep.retries == 1 and sweep.shown == ()
    run = sweep.runs["01_a_name-b-c_seed-2"]
    assert run.parameters == {"seed": 2, "name": "b c"} and run.needs == NEEDS | {"megabytes": 100}
    start = [sys.executable, "-m", "lsn_core.cli", "run", "notebooks/01_a.ipynb", "--out", "x/notebook.ipynb"]
    assert run.command(Path("x")) == [*start, "-p", "name=b c", "-p", "seed=2", "-p", "out_dir=x"]


def test_parameters_hold_for_all_and_a_block_without_grid_is_one_run():
    (run,) = read_sweep(plan(grid=None, parameters={"seed": 5})).runs.values()
    assert (run.name, run.parameters) == ("01_a", {"seed": 5})


def test_inputs_follow_what_the_run_depends_on():
    first, second = (run.inputs() for run in read_sweep(plan()).runs.values())
    assert first != second and read_sweep(plan()).runs["01_a_seed-0"].inputs() == first
    write_notebook(Path("notebooks/01_a.ipynb"), "seed: int = 1", "print(seed)")
    assert read_sweep(plan()).runs["01_a_seed-0"].inputs() != first


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"grid": {"sede": [1]}}, r"run 1: .*sets 'sede', which the notebook does not declare; it declares seed"),
        ({"grid": {"seed": ["x"]}}, r"sets 'seed' to 'x', which is not int"),
        ({"grid": {"seed": []}}, r"the grid's seed is \[\]"),
        ({"grid": {"seed": 3}}, r"the grid's seed is 3; give a list"),
        ({"parameters": {"seed": 3}}, r"of what 'parameters' does not set"),
        ({"grid": {"seed": [1, 1]}}, r"01_a_seed-1 is listed twice"),
        ({"notebook": None}, r"names no notebook"),
        ({"notebook": "absent.ipynb"}, r"absent.ipynb: no such file"),
        ({"gpu": 1}, r"'gpu' is unknown; the keys are notebook"),
        ({"minutes": "long"}, r"minutes is 'long', which is not of the type int"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(changes, told):
    with pytest.raises(InputError, match=told) as refusal:
        read_sweep(plan(**changes))
    assert "s.yaml" in str(refusal.value)


@pytest.mark.parametrize(("text", "told"), [("", "not a mapping"), ("runs: []", "has no runs"), ("run: []", "'run'")])
def test_odd_files_are_refused(text, told):
    Path("s.yaml").write_text(text)
    with pytest.raises(InputError, match=told):
        read_sweep(Path("s.yaml"))


@pytest.mark.parametrize("path", sorted((ROOT / "workflow/sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_sweeps_are_twelve_runs(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    sweep = read_sweep(path)
    assert len(sweep.runs) == 12
    assert all(parameter_values(run.source, run.parameters, run.profile) is not None for run in sweep.runs.values())
