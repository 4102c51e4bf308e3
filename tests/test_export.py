"""Phantoms as files: they open as a data set, and hold their truth."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from lsn_core.data import MANIFEST, open_dataset
from lsn_core.detector import COMPUTED_RADIOGRAPHY, PERFECT
from lsn_core.export import write_phantoms
from lsn_core.files import InputError
from lsn_core.images import read_image
from lsn_core.joint import FINGERS
from lsn_core.phantom import FIELD_MM, phantoms

HALF_A_LEVEL = 0.5 / 65535 + 1e-7
PARTS = ("soft", "lower", "upper")


def test_phantoms_open_as_a_data_set(phantom_folder):
    dataset = open_dataset(phantom_folder, split="all")
    drawn = list(phantoms(10, seed=0, size=64))
    assert len(dataset) == 10 and len({joint.name for joint in dataset}) == 10
    for read, made in zip(dataset, drawn, strict=True):
        assert (read.image - made.image).abs().max() <= HALF_A_LEVEL
        assert torch.equal(read.masks[1:], made.masks[1:])
        assert read.spacing_mm == pytest.approx(FIELD_MM / 64, abs=1e-6)
        assert (read.name, read.joint, read.finger, read.side) == (made.name, made.joint, made.finger, made.side)


def test_the_manifest_holds_the_truth(phantom_folder):
    with (phantom_folder / MANIFEST).open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, made in zip(rows, phantoms(10, seed=0, size=64), strict=True):
        assert float(row["jsw_mm"]) == pytest.approx(made.jsw_mm, abs=1e-4)
        layers = np.stack([read_image(phantom_folder / row[f"layer_{part}"]) for part in PARTS])
        assert np.abs(layers - made.layers.numpy()).max() <= HALF_A_LEVEL
        assert (
            np.abs(1 - (1 - layers).prod(axis=0) - read_image(phantom_folder / row["image"])).max() < 4 * HALF_A_LEVEL
        )


def test_one_in_five_is_for_the_test_and_all_fingers_come_up(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "lsn_core.export._write_phantom", lambda _, joint, visit, split: {"split": split, "finger": joint.finger}
    )
    write_phantoms(tmp_path, count=25, size=16, seed=3)
    with (tmp_path / MANIFEST).open(newline="") as file:
        rows = [(row["split"], row["finger"]) for row in csv.DictReader(file)]
    tested = [finger for split, finger in rows if split == "test"]
    assert sorted(tested) == sorted(FINGERS) and len(rows) == 25 and {split for split, _ in rows} == {"test", "train"}


def test_visits_are_of_one_joint_and_film_changes_only_the_image(tmp_path):
    drawing = {"count": 2, "size": 48, "seed": 5, "diseased": 1.0, "times": 3}
    for name, detector in (("clean", PERFECT), ("film", COMPUTED_RADIOGRAPHY)):
        write_phantoms(tmp_path / name, **drawing, detector=detector)
    clean, film = (open_dataset(tmp_path / name, split="all") for name in ("clean", "film"))
    assert [row.visit for row in clean.rows] == ["0", "1", "2"] * 2 and len({row.joint for row in clean.rows}) == 2
    for one, other in zip(clean, film, strict=True):
        assert torch.equal(one.masks[1:], other.masks[1:]) and (one.image - other.image).abs().mean() > 1e-3
    texts = [(tmp_path / name / MANIFEST).read_text() for name in ("clean", "film")]
    assert texts[0] == texts[1]
    widths = [float(row["jsw_mm"]) for row in csv.DictReader(texts[0].splitlines())]
    assert widths[0] >= widths[1] >= widths[2] and widths[3] >= widths[4] >= widths[5]


def test_a_data_set_is_only_replaced_on_demand(tmp_path):
    (tmp_path / MANIFEST).write_text("mine")
    with pytest.raises(
        InputError, match=r"manifest.csv: exists already; choose another folder, or replace the data wi"
    ):
        write_phantoms(tmp_path, count=1, size=16, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST] and (tmp_path / MANIFEST).read_text() == "mine"
    write_phantoms(tmp_path, count=1, size=16, seed=0, force=True)
    assert len(open_dataset(tmp_path, split="all")) == 1


def test_the_manifest_comes_last(tmp_path, monkeypatch):
    """A folder that was not finished is no data set."""

    def full(out: Path, *_) -> None:
        raise InputError("full")

    monkeypatch.setattr("lsn_core.export._write_phantom", full)
    with pytest.raises(InputError, match="full"):
        write_phantoms(tmp_path, count=1, size=16, seed=0)
    assert not (tmp_path / MANIFEST).exists()
