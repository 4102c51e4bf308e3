"""Evaluation: its numbers are the metrics of the layers, image by image, and it says where they come from."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lsn_core.cases
from lsn_core import evaluation, metrics, motion, probe, traces
from lsn_core.baseline import harmonic
from lsn_core.batch import stack
from lsn_core.cases import Cases, prepare, prepare_phantoms
from lsn_core.data import open_dataset
from lsn_core.evaluation import (
    HELD_OUT,
    candidates,
    evaluate,
    evaluate_probe,
    evaluate_run,
    evaluate_truth,
    evaluate_visits,
    report,
    trace_scores,
)
from lsn_core.fidelity import COLUMNS, table_1
from lsn_core.files import InputError
from lsn_core.networks import (
    Generator,
    Recipe,
    Separator,
    compact_networks,
    enlarge,
    partition_head,
    save_generator,
    sigmoid_head,
)
from lsn_core.phantom import Phantom, phantoms, visits
from lsn_core.radiograph import compose
from lsn_core.truth import layer_scores, mass_errors


class Even(nn.Module):
    """A backbone that prefers nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.level.expand(len(inputs), 3, *inputs.shape[-2:])


def separator(head, size: int = 64, dilate_px: float = 8.0) -> Separator:
    """A generator without training."""
    return Separator(Generator(Even(), head), Recipe("compact", head.__name__, size, dilate_px)).eval()


def cases(model, joints, size: int | None = None) -> Cases:
    """Joints as a model is measured on them."""
    return prepare(joints, size=size or model.recipe.size, dilate_px=model.recipe.dilate_px)


def evaluated(model, joints, size: int | None = None) -> dict:
    """What is measured of a model on some joints."""
    return evaluate(model, cases(model, joints, size))


@pytest.fixture(scope="module", name="joints")
def _joints():
    joints = list(phantoms(7, seed=0, size=64))
    noisy = [replace(joint, image=joint.image.clamp_min(0.03)) for joint in joints]  # air is not quite black
    return [replace(joint, joint=f"j{k % 3}") for k, joint in enumerate(noisy)]  # two or three visits each


@pytest.mark.parametrize("head", [sigmoid_head, partition_head])
def test_each_number_is_the_metric_of_its_image(joints, head):
    rows = evaluated(separator(head), joints)["images"]
    assert [row["name"] for row in rows] == [joint.name for joint in joints]
    for row, joint in zip(rows, joints, strict=True):
        batch = stack([joint], size=64, dilate_px=8.0)
        layers = head(torch.zeros(1, 3, 64, 64), batch.image, batch.masks)
        hand, soft, composed = batch.masks[:, :1], layers[:, :1], compose(layers)
        squares = ((composed - batch.image) ** 2 * hand).double()
        drawn, wide = batch.drawn.float(), batch.masks
        expected = {
            "mse": squares.mean(),
            "psnr_db": -10 * squares.mean().clamp_min(1e-16).log10(),
            "psnr_hand_db": -10 * (squares.sum() / hand.sum()).clamp_min(1e-16).log10(),
            "ssim": metrics.ssim(composed, batch.image * hand),
            "row_frechet": metrics.row_frechet(composed, batch.image * hand),
            "clipped": (hand * (batch.image >= 1)).sum() / hand.sum(),
            "shadow": metrics.shadow_contrast(soft, wide).abs(),
            "shadow_drawn": metrics.shadow_contrast(soft, drawn).abs(),
            "shadow_image": metrics.shadow_contrast(batch.image, wide).abs(),
            "shadow_fill": metrics.shadow_contrast(batch.fill, wide).abs(),
        }
        assert set(expected) == set(COLUMNS)
        for name, value in expected.items():
            assert row[name] == pytest.approx(float(value), rel=2e-2 if name == "psnr_db" else 1e-3, abs=1e-6), name


def test_the_partition_head_is_exact_and_the_sigmoid_head_is_not(joints):
    exact, free = (
        evaluated(separator(head), joints)["overall"]["psnr_hand_db"] for head in (partition_head, sigmoid_head)
    )
    assert exact["mean"] > 120 > 20 > free["mean"]


def test_summaries_are_over_images_by_finger_and_count_joints(joints):
    results = evaluated(separator(sigmoid_head), joints)
    rows = results["images"]
    assert list(results["by_finger"]) == ["thumb", "index", "middle", "ring", "small"]
    for name in COLUMNS:
        values = np.array([row[name] for row in rows])
        overall = results["overall"][name]
        assert overall["mean"] == pytest.approx(values.mean()) and overall["sd"] == pytest.approx(values.std(ddof=1))
        assert (overall["n"], overall["groups"]) == (7, 3)
        thumbs = results["by_finger"]["thumb"][name]  # the first and the sixth
        assert thumbs["mean"] == pytest.approx(values[[0, 5]].mean()) and (thumbs["n"], thumbs["groups"]) == (2, 2)


def test_parts_of_a_data_set_change_nothing(joints, monkeypatch):
    whole = evaluated(separator(sigmoid_head), joints)
    monkeypatch.setattr(lsn_core.cases, "CHUNK", 3)
    parts = evaluated(separator(sigmoid_head), iter(joints))
    for one, other in zip(whole["images"], parts["images"], strict=True):
        assert one["name"] == other["name"]
        assert [one[name] for name in COLUMNS] == pytest.approx([other[name] for name in COLUMNS], rel=1e-4, abs=1e-6)


def test_what_cannot_be_measured_is_left_out(joints):
    """At 32 px a band of 6 px at 256 is narrower than a pixel."""
    results = evaluated(separator(sigmoid_head, size=32), joints[:2])
    nothing = {"mean": None, "sd": None, "n": 0, "groups": 0, "low": None, "high": None}
    assert results["overall"]["shadow"] == nothing and results["overall"]["mse"]["n"] == 2
    assert " - " in table_1(results).splitlines()[-1]


def test_the_table_has_a_row_for_each_finger_and_one_overall(joints):
    results = evaluated(separator(sigmoid_head), joints[1:4])
    head, rule, *rows = table_1(results).splitlines()
    assert [row.split()[:2] for row in rows] == [["index", "1"], ["middle", "1"], ["ring", "1"], ["overall", "3"]]
    assert all(heading in head for heading, _ in COLUMNS.values()) and set(rule) == {"-", " "}
    mse = results["overall"]["mse"]
    assert f"{mse['mean']:.2e} ± {mse['sd']:.2e}" in rows[-1]


def test_another_size_is_judged_by_what_the_generator_gives_there(joints):
    """At twice its size a generator's layers are enlarged; the closed form works at any."""
    batch = stack(joints[:2], size=128, dilate_px=8.0)
    small = stack(joints[:2], size=64, dilate_px=8.0)
    given = separator(partition_head)(batch.image, batch.drawn.float())
    assert given.shape[-1] == 128 and compose(given).allclose(batch.image * batch.masks[:, :1], atol=1e-5)
    enlarged = enlarge(partition_head(torch.zeros(2, 3, 64, 64), small.image, small.masks), batch.image, batch.masks)
    assert (given - enlarged).abs().mean() < 0.02
    for model in (separator(partition_head), harmonic()):
        rows = evaluated(model, joints[:2], size=128)["images"]
        layers = model(batch.image, batch.drawn.float())
        expected = metrics.shadow_contrast(layers[:, :1], batch.drawn.float()).abs()
        wide = stack(joints[:2], size=128, dilate_px=model.recipe.dilate_px).masks
        assert [row["shadow_drawn"] for row in rows] == pytest.approx(expected.tolist(), rel=1e-4)
        expected = metrics.shadow_contrast(layers[:, :1], wide).abs()
        assert [row["shadow"] for row in rows] == pytest.approx(expected.tolist(), rel=1e-4)


def test_layer_truth_is_of_the_clean_layers_for_clean_images_and_film():
    shown = prepare_phantoms(3, seed=5, size=64, dilate_px=4.0)
    found = evaluate_truth(harmonic(size=64), shown)
    assert set(found) == {"clean", "film", "images"} == {*shown, "images"}
    for title, some in shown.items():
        layers = harmonic()(some.batch.image, some.drawn)
        expected = layer_scores(layers, some.batch.layers, some.drawn)
        expected |= mass_errors(layers, some.batch.layers)
        rows = [row for row in found["images"] if row["image"] == title]
        assert [row["name"] for row in rows] == [row["name"] for row in some.known]
        for name, values in expected.items():
            assert [row[name] for row in rows] == pytest.approx(values.tolist(), rel=1e-4, abs=1e-6, nan_ok=True)
            finite = values[~values.isnan()]
            assert found[title][name]["n"] == len(finite)
            if len(finite):
                assert found[title][name]["mean"] == pytest.approx(float(finite.mean()), rel=1e-4, abs=1e-6)
    assert found["clean"]["soft_mask_mae"] != found["film"]["soft_mask_mae"]


def test_true_layers_are_measured_beside_and_only_clean_phantoms_are_drawn_again():
    shown = prepare_phantoms(3, seed=5, size=64, dilate_px=4.0)
    found = evaluate_truth(harmonic(size=64), shown)
    clean, film = found["clean"], found["film"]
    again = {f"rendered_{way}_{part}_db" for way in ("wider", "narrower") for part in ("frame", "band")}
    assert {name for name in clean if name.startswith("rendered")} == again and not again & film.keys()
    true = shown["clean"].batch.layers
    for name, values in trace_scores(true[:, :1], shown["clean"]).items():
        assert clean[f"true_{name}"] == film[f"true_{name}"]
        assert clean[f"true_{name}"]["n"] == int(values.isfinite().sum())
    assert all(clean[f"true_{name}"]["mean"] > clean[name]["mean"] for name in again)


def test_two_visits_of_a_joint_are_a_row():
    shown = [joint for seed in (1, 2) for joint in visits(Phantom(seed, "index", 64), 2)]
    model = separator(partition_head)
    found = evaluate_visits(model, cases(model, shown))
    assert [row["name"] for row in found["images"]] == [
        f"{a.name}, {b.name}" for a, b in zip(shown[::2], shown[1::2], strict=True)
    ]
    assert set(found) == {*(f"{bone}{end}" for bone in ("lower", "upper") for end in ("", "_image", "_gain")), "images"}
    for row in found["images"]:
        assert row["lower_gain"] == pytest.approx(row["lower"] - row["lower_image"], abs=1e-6) and row["lower"] > 0.5


def test_what_is_left_in_soft_tissue_and_the_cycle_are_those_of_its_layers(joints):
    model = separator(partition_head)
    some = cases(model, joints)
    layers = model(some.batch.image, some.drawn)
    rows = evaluate(model, some)["images"]
    hand = some.drawn[:, :1]
    expected = {
        "grain_db": traces.grain_db(layers[:, :1] * hand, some.drawn),
        "cross_talk": traces.cross_talk(layers[:, :1] * hand, some.drawn),
        "shade_auc": traces.shade_auc(layers[:, :1] * hand, some.drawn, some.joints),
    }
    cycle = motion.cycle_scores(model, layers, some.drawn, dilate_px=model.recipe.dilate_px)
    expected |= {f"cycle_{name}_db": values for name, values in cycle.items()}
    assert {*expected} == {*evaluation.TRACES, *evaluation.MOTION}
    for name, values in expected.items():
        assert [row[name] for row in rows] == pytest.approx(values.tolist(), rel=1e-3, nan_ok=True), name


def test_what_probes_are_shown_is_black_in_the_air_and_the_truth_only_where_it_is_known(joints, monkeypatch):
    monkeypatch.setattr(probe, "SIZE", 32)
    shown = candidates(harmonic(), cases(harmonic(), joints, 64))
    assert set(shown) == {"layer", "image", "fill", "truth", "outline", "masks"} == {*probe.CANDIDATES, "masks"}
    air = shown["masks"][:, :1] == 0
    for name, planes in shown.items():
        assert planes.shape[-2:] == (32, 32) and len(planes) == len(joints)
        assert name == "masks" or not planes[air].any()
    hand = shown["masks"][:, :1] == 1
    assert (shown["outline"][hand] == 1).all() and (shown["image"] >= shown["layer"] - 1e-5).all()
    radiographs = [replace(joint, layers=None) for joint in joints]
    assert set(candidates(harmonic(), cases(harmonic(), radiographs, 64))) == {
        "layer",
        "image",
        "fill",
        "outline",
        "masks",
    }


@pytest.fixture(name="quick")
def _quick(monkeypatch):
    """Probes that learn next to nothing."""
    for name, value in {"SIZE": 32, "STEPS": 2}.items():
        monkeypatch.setattr(probe, name, value)
    monkeypatch.setattr(evaluation, "LEARNT_PHANTOMS", 4)


def test_every_candidate_is_probed_alike(quick):
    learnt, tested = list(phantoms(4, seed=0, size=64)), list(phantoms(3, seed=50, size=64))
    found = evaluate_probe(harmonic(), *(cases(harmonic(), some, 64) for some in (learnt, tested)))
    rows = found.pop("images")
    assert set(found) == set(probe.CANDIDATES)
    for name, summary in found.items():
        mine = [row for row in rows if row["shown"] == name]
        assert [row["name"] for row in mine] == [joint.name for joint in tested]
        assert [row["prior"] for row in mine] == [row["prior"] for row in rows[:3]]
        assert summary["excess"]["mean"] == pytest.approx(np.mean([row["probe"] - row["prior"] for row in mine]))
    assert found["layer"] != found["image"]


# --- what is written -------------------------------------------------------------------------------------------------


@pytest.fixture(name="run")
def _run(tmp_path) -> Path:
    """The folder of a run, with a fresh generator of 64 px."""
    folder = tmp_path / "run"
    generator = compact_networks("partition", 64).generator
    save_generator(folder / "generator.safetensors", generator, Recipe("compact", "partition", 64, 4.0), {})
    return folder


def read_csv(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_an_evaluated_run(run, phantom_folder, tmp_path):
    path = tmp_path / "m.json"
    results, written = evaluate_run(str(run), data=str(phantom_folder), split="all", held_out=0, out=path)
    record = json.loads(written.read_text())
    assert written == path and record["metrics"] == results and {"overall", "by_finger", "seconds"} == set(results)
    known, dataset = record["provenance"], open_dataset(phantom_folder, split="all")
    wanted = {"kind", "data", "split", "run", "recipe", "size", "commit", "machine", "device", "versions", "date"}
    assert wanted <= set(known) and (known["kind"], known["run"]) == ("evaluation", "run")
    assert known["data"] == dataset.fingerprint() and known["recipe"]["head"] == "partition" and known["size"] == 64
    assert {"torch", "lsn-core", "numpy"} <= set(known["versions"])
    rows = read_csv(tmp_path / "m.csv")
    assert [row["name"] for row in rows] == [row.name for row in dataset.rows]
    assert float(np.mean([float(row["mse"]) for row in rows])) == pytest.approx(results["overall"]["mse"]["mean"])
    assert results["overall"]["psnr_hand_db"]["mean"] > 60
    _, written = evaluate_run(str(run), size=32, held_out=1)
    assert written == run / "metrics_phantoms.json" and written.is_file()


def test_everything_at_once(phantom_folder, tmp_path, quick):
    """The closed form on data and phantoms, with probes: numbers, rows and tables of all four parts."""
    path = tmp_path / "all.json"
    results, _ = evaluate_run("harmonic", data=str(phantom_folder), size=64, held_out=3, probes=True, out=path)
    record = json.loads(path.read_text())
    assert record["metrics"] == results and record["provenance"]["phantoms"] == {"seed": HELD_OUT, "count": 3}
    parts = {"data": "", "phantoms": "_phantoms", "probe": "_probe", "probe_phantoms": "_probe_phantoms"}
    assert list(results["seconds"]) == ["preparing", "data", "phantoms", "probe", "probe_phantoms"]
    rows = {part: read_csv(tmp_path / f"all{ending}.csv") for part, ending in parts.items()}
    assert {part: len(some) for part, some in rows.items()} == {
        "data": 2,
        "phantoms": 2 * 3,
        "probe": 4 * 2,
        "probe_phantoms": 5 * 3,
    }
    assert {row["name"] for row in rows["phantoms"]} == {joint.name for joint in phantoms(3, seed=HELD_OUT, size=64)}
    told = report(results)
    for heading in (
        "psnr",
        "layer truth, clean",
        "layer truth, film",
        "in the data:",
        "in phantoms:",
        "time: preparing",
    ):
        assert heading.lower() in told.lower()
    assert "overall" not in (alone := {key: results[key] for key in ("phantoms", "seconds")})
    assert "overall" not in report(alone) and "probe" not in report(alone).split("time:")[0]


def test_probes_learn_on_other_joints_than_they_are_tested_on(phantom_folder, tmp_path, quick, monkeypatch):
    seen = {}

    def spy(model, learnt, tested):
        seen.update(learnt=set(learnt.joints), tested=set(tested.joints))
        return {"images": [{}]}

    monkeypatch.setattr(evaluation, "evaluate_probe", spy)
    told = {"data": str(phantom_folder), "size": 64, "held_out": 0, "probes": True, "out": tmp_path / "m.json"}
    evaluate_run("harmonic", split="test", **told)
    assert len(seen["learnt"]) == 8 and len(seen["tested"]) == 2 and not seen["learnt"] & seen["tested"]
    with pytest.raises(InputError, match="the split holds every training joint; choose"):
        evaluate_run("harmonic", split="train", **told)


def test_the_command_measures_phantoms_alone_and_says_where_the_numbers_are(lsn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = lsn("evaluate", "harmonic", "--phantoms", "2", "--size", "64")
    assert told.code == 0 and told.out.splitlines()[-1] == "written to harmonic_phantoms.json"
    assert {path.name for path in tmp_path.iterdir()} == {"harmonic_phantoms.json", "harmonic_phantoms_phantoms.csv"}
    assert "lower, overlap" in told.out and "overall" not in told.out
    told = lsn("evaluate", "harmonic", "--phantoms", "0")
    assert told.code == 1 and "no data set and no phantoms: nothing to measure; give --data" in told.err


def test_inception_weights_without_radiographs(lsn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = lsn("evaluate", "harmonic", "--phantoms", "2", "--inception", "w.pth")
    assert told.code == 1 and "--inception w.pth: FID and KID compare radiographs; name a data set" in told.err


def test_names_with_commas_stay_in_one_column(run, phantom_folder, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    for part in ("", "_mask_lower", "_mask_upper"):
        source = phantom_folder / f"phantom_index_00001{part}.png"
        (own / f"left, 2nd{part}.png").write_bytes(source.read_bytes())
    names = ",".join(f'"left, 2nd{part}.png"' for part in ("", "_mask_lower", "_mask_upper"))
    (own / "manifest.csv").write_text(f"image,lower,upper\n{names}\n")
    evaluate_run(str(run), data=str(own), held_out=0, out=tmp_path / "m.json")
    (row,) = read_csv(tmp_path / "m.csv")
    assert row["name"] == "left, 2nd" and row["finger"] == "" and float(row["mse"]) < 1e-6
