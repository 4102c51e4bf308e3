"""Files for users: phantoms that open as a data set, and layers that recompose to the image they came from."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from test_dicom import dicom

from lsn_core.data import MANIFEST, open_dataset
from lsn_core.detector import COMPUTED_RADIOGRAPHY, PERFECT
from lsn_core.export import beside, separate_files, write_phantoms
from lsn_core.files import InputError
from lsn_core.images import read_image, write_image, write_mask
from lsn_core.joint import FINGERS
from lsn_core.phantom import FIELD_MM, phantoms

HALF_A_LEVEL = 0.5 / 65535 + 1e-7
PARTS = ("soft", "lower", "upper")


# --- phantoms --------------------------------------------------------------------------------------------------------


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


# --- separation ------------------------------------------------------------------------------------------------------


@pytest.fixture(name="images")
def _images(tmp_path) -> Path:
    """Two images of other sizes than the generator's, with their masks beside them."""
    folder = tmp_path / "images"
    for stem, size in (("a", 96), ("b", 48)):
        joint = next(phantoms(1, seed=4, size=size))
        write_image(folder / f"{stem}.png", joint.image[0].numpy())
        for part, mask in zip(("lower", "upper"), joint.masks[1:], strict=True):
            write_mask(folder / f"{stem}_mask_{part}.png", mask.numpy() > 0)
    return folder


def separate(images: list[Path], out: Path, trained: Path, **options) -> list[str]:
    """Separate with the trained run's generator."""
    return list(separate_files(images, out, weights=str(trained), **options))


def test_layers_recompose_at_the_images_own_size(images, trained, tmp_path):
    out = tmp_path / "new" / "layers"
    told = separate([images / "a.png", images / "b.png"], out, trained)
    assert len(told) == 2 and told[0].startswith("a: three layers in")
    assert sorted(p.name for p in out.iterdir()) == sorted(f"{stem}_{part}.png" for stem in "ab" for part in PARTS)
    for stem in "ab":
        image = read_image(images / f"{stem}.png")
        layers = np.stack([read_image(out / f"{stem}_{part}.png") for part in PARTS])
        assert layers.shape[1:] == image.shape
        assert np.abs(1 - (1 - layers).prod(axis=0) - image)[image >= 0.05].max() < 4 * HALF_A_LEVEL
        assert layers[1:].max() > 0.05  # something was separated


def test_masks_of_other_names(images, trained, tmp_path):
    expected = separate([images / "a.png"], tmp_path / "1", trained)
    for part in ("lower", "upper"):
        shutil.move(images / f"a_mask_{part}.png", images / f"{part} bone.png")
    options = {part: images / f"{part} bone.png" for part in ("lower", "upper")}
    told = separate([images / "a.png"], tmp_path / "2", trained, **options)
    assert [line.split("; ")[1] for line in told] == [line.split("; ")[1] for line in expected]
    for part in PARTS:
        assert (tmp_path / "1" / f"a_{part}.png").read_bytes() == (tmp_path / "2" / f"a_{part}.png").read_bytes()


def test_dicom_is_separated_as_the_same_image_in_another_container(images, trained, tmp_path):
    """Named by its UID, whose last number is no suffix."""
    levels = np.round(read_image(images / "a.png") * 65535).astype(np.uint16)
    (images / "1.2.840.1").write_bytes(dicom(levels, bits=16))
    for part in ("lower", "upper"):
        shutil.copy(images / f"a_mask_{part}.png", images / f"1.2.840.1_mask_{part}.png")
    separate([images / "a.png", images / "1.2.840.1"], tmp_path / "out", trained)
    for part in PARTS:
        one, other = (read_image(tmp_path / "out" / f"{stem}_{part}.png") for stem in ("a", "1.2.840.1"))
        np.testing.assert_array_equal(one, other)


def test_words_that_are_no_radiographs(images, trained, tmp_path):
    with pytest.raises(InputError, match=r"images: is a folder; give the images in it, as in .*/images/\*.png"):
        separate([images], tmp_path / "out", trained)
    with pytest.raises(InputError, match=r"a_mask_lower.png and \d more: no radiograph but a mask .* by themselves"):
        separate(sorted(images.glob("*_mask_*.png")), tmp_path / "out", trained)
    assert not (tmp_path / "out").exists()


def test_masks_that_a_pattern_brought_along_are_left_out(images, trained, tmp_path):
    radiographs = [path for path in sorted(images.glob("*.png")) if "_mask_" not in path.name]
    separate(sorted(images.glob("*.png")), tmp_path / "out", trained)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {f"{path.stem}_{part}.png" for path in radiographs for part in PARTS} and radiographs


def test_the_mask_beside_an_image(tmp_path):
    for name in ("x_mask_lower.txt", "x_mask_lower.BMP", "x1_mask_lower.png", "y[1]_mask_lower.png"):
        (tmp_path / name).write_text("")
    assert beside(tmp_path / "x.jpg", "lower").name == "x_mask_lower.BMP"
    assert beside(tmp_path / "y[1].png", "lower").name == "y[1]_mask_lower.png"
    with pytest.raises(
        InputError, match=r"x_mask_upper.png: no mask of the upper bone; draw one there, or name it with"
    ):
        beside(tmp_path / "x.jpg", "upper")


def test_options_that_do_not_go_together(images, trained, tmp_path):
    a, b = images / "a.png", images / "b.png"
    for some, options in (([a, b], {"lower": a, "upper": b}), ([a], {"lower": a}), ([a], {"upper": a})):
        with pytest.raises(InputError, match="--lower and --upper: both belong to one image"):
            separate(some, tmp_path / "out", trained, **options)
    with pytest.raises(InputError, match="a: two images have this name"):
        separate([a, images / "other" / "a.jpg"], tmp_path / "out", trained)
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_before_all_is_read(images, trained, tmp_path):
    write_mask(images / "b_mask_upper.png", np.eye(9, dtype=bool))
    with pytest.raises(InputError, match=r"b_mask_upper.png: the mask is 9 x 9 px and its image 48 x 48; export both"):
        separate([images / "a.png", images / "b.png"], tmp_path / "out", trained)
    (images / "b.png").unlink()
    with pytest.raises(InputError, match=r"b.png: no such file"):
        separate([images / "a.png", images / "b.png"], tmp_path / "out", trained)
    assert not (tmp_path / "out").exists()


def test_weights_that_are_none(images, tmp_path):
    with pytest.raises(InputError, match=r"absent: no such weights; give a trained run's folder, a file, or a shipped"):
        separate([images / "a.png"], tmp_path / "out", tmp_path / "absent")
    with pytest.raises(InputError, match=r"a.png: not a generator of this version"):
        separate([images / "a.png"], tmp_path / "out", images / "a.png")
