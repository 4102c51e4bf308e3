"""Evaluation: its numbers are the metrics of the layers, image by image, and it says where they come from."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lsn_core import evaluation, metrics
from lsn_core.batch import stack
from lsn_core.data import open_dataset
from lsn_core.evaluation import COLUMNS, evaluate, evaluate_run, table_1
from lsn_core.networks import Generator, Recipe, Separator, partition_head, sigmoid_head
from lsn_core.phantom import phantoms
from lsn_core.radiograph import compose


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


@pytest.fixture(scope="module", name="joints")
def _joints():
    joints = list(phantoms(7, seed=0, size=64))
    noisy = [replace(joint, image=joint.image.clamp_min(0.03)) for joint in joints]  # air is not quite black
    return [replace(joint, joint=f"j{k % 3}") for k, joint in enumerate(noisy)]  # two or three visits each


@pytest.mark.parametrize("head", [sigmoid_head, partition_head])
def test_each_number_is_the_metric_of_its_image(joints, head):
    rows = evaluate(separator(head), joints)["images"]
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
        evaluate(separator(head), joints)["overall"]["psnr_hand_db"] for head in (partition_head, sigmoid_head)
    )
    assert exact["mean"] > 120 > 20 > free["mean"]


def test_summaries_are_over_images_by_finger_and_count_joints(joints):
    results = evaluate(separator(sigmoid_head), joints)
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
    whole = evaluate(separator(sigmoid_head), joints)
    monkeypatch.setattr(evaluation, "CHUNK", 3)
    parts = evaluate(separator(sigmoid_head), iter(joints))
    for one, other in zip(whole["images"], parts["images"], strict=True):
        assert one["name"] == other["name"]
        assert [one[name] for name in COLUMNS] == pytest.approx([other[name] for name in COLUMNS], rel=1e-4, abs=1e-6)


def test_what_cannot_be_measured_is_left_out(joints):
    """At 32 px a band of 6 px at 256 is narrower than a pixel."""
    results = evaluate(separator(sigmoid_head, size=32), joints[:2])
    nothing = {"mean": None, "sd": None, "n": 0, "groups": 0, "low": None, "high": None}
    assert results["overall"]["shadow"] == nothing and results["overall"]["mse"]["n"] == 2
    assert " - " in table_1(results).splitlines()[-1]


def test_the_table_has_a_row_for_each_finger_and_one_overall(joints):
    results = evaluate(separator(sigmoid_head), joints[1:4])
    head, rule, *rows = table_1(results).splitlines()
    assert [row.split()[:2] for row in rows] == [["index", "1"], ["middle", "1"], ["ring", "1"], ["overall", "3"]]
    assert all(heading in head for heading, _ in COLUMNS.values()) and set(rule) == {"-", " "}
    mse = results["overall"]["mse"]
    assert f"{mse['mean']:.2e} ± {mse['sd']:.2e}" in rows[-1]


def test_an_evaluated_run(trained, phantom_folder, tmp_path):
    results, path = evaluate_run(trained, str(phantom_folder), "all", tmp_path / "m.json")
    record = json.loads(path.read_text())
    assert record["metrics"] == results
    known, dataset = record["provenance"], open_dataset(phantom_folder, split="all")
    wanted = {"kind", "data", "split", "run", "recipe", "commit", "machine", "device", "versions", "date"}
    assert wanted <= set(known) and (known["kind"], known["run"]) == ("evaluation", "trained")
    assert known["data"] == dataset.fingerprint() and known["recipe"]["head"] == "partition"
    assert {"torch", "lsn-core", "numpy"} <= set(known["versions"])
    with (tmp_path / "m.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [row.name for row in dataset.rows]
    assert float(np.mean([float(row["mse"]) for row in rows])) == pytest.approx(results["overall"]["mse"]["mean"])
    assert results["overall"]["psnr_hand_db"]["mean"] > 60


def test_names_with_commas_stay_in_one_column(trained, phantom_folder, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    for part in ("", "_mask_lower", "_mask_upper"):
        source = phantom_folder / f"phantom_index_00001{part}.png"
        (own / f"left, 2nd{part}.png").write_bytes(source.read_bytes())
    names = ",".join(f'"left, 2nd{part}.png"' for part in ("", "_mask_lower", "_mask_upper"))
    (own / "manifest.csv").write_text(f"image,lower,upper\n{names}\n")
    evaluate_run(trained, str(own), "test", tmp_path / "m.json")
    with (tmp_path / "m.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["name"] == "left, 2nd" and row["finger"] == "" and float(row["mse"]) < 1e-6
