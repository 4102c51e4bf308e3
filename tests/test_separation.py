"""Files for users: layers that recompose to their image, masks beside images, and joints at other widths."""

import re
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from test_dicom import dicom
from test_production import contents

from lsn_core import intake
from lsn_core.files import InputError
from lsn_core.images import read_image, read_mask, write_image, write_mask
from lsn_core.intake import Refused
from lsn_core.inventory import mask_beside
from lsn_core.joint import Joint
from lsn_core.movement import Movement
from lsn_core.phantom import Phantom, phantoms
from lsn_core.segmentation import Outliner, save_outliner
from lsn_core.separation import adjust_file, draw_files, explore_file, outliner_of, separate_files

HALF_A_LEVEL = 0.5 / 65535 + 1e-7
PARTS = ("soft", "lower", "upper")


@cache
def drawn(size: int) -> Joint:
    return next(phantoms(1, seed=4, size=size))


@pytest.fixture(name="images")
def _images(tmp_path) -> Path:
    """Two images of other sizes than the generator's, with their masks beside them."""
    folder = tmp_path / "images"
    for stem, size in (("a", 96), ("b", 49)):
        joint = drawn(size)
        write_image(folder / f"{stem}.png", joint.image[0].numpy())
        for part, mask in zip(("lower", "upper"), joint.masks[1:], strict=True):
            write_mask(folder / f"{stem}_mask_{part}.png", mask.numpy() > 0)
    return folder


@pytest.fixture(scope="module", name="outlines")
def _outlines(tmp_path_factory) -> str:
    """An outliner that nobody trained."""
    return str(save_outliner(tmp_path_factory.mktemp("outlines") / "o.safetensors", Outliner(), {}))


@pytest.fixture(name="by_hand")
def _by_hand(monkeypatch) -> None:
    """Masks that are two boxes, of images that are bright enough."""

    def draw(image: np.ndarray, outliner: Outliner, name: str) -> np.ndarray:
        if image.max() < 0.2:
            raise InputError(f"{name}: shows no joint; crop one")
        masks, third = np.zeros((3, *image.shape), bool), len(image) // 3
        masks[0], masks[1, -third:, third:-third], masks[2, :third, third:-third] = True, True, True
        return masks

    monkeypatch.setattr(intake, "draw_masks", draw)


def undraw(folder: Path, stem: str) -> None:
    for part in ("lower", "upper"):
        (folder / f"{stem}_mask_{part}.png").unlink()


def separate(paths: list[Path], out: Path, *, outlines: str = "outlines", **options) -> list[str | Refused]:
    return list(separate_files(paths, out, weights="compact", outlines=outlines, **options))


# --- layers ----------------------------------------------------------------------------------------------------------


def test_layers_recompose_at_the_images_own_size(images, tmp_path):
    out = tmp_path / "new" / "layers"
    told = separate([images / "a.png", images / "b.png"], out)
    assert len(told) == 2 and told[0].startswith(f"a: three layers in {out}; recomposed, no pixel of the hand is off")
    assert sorted(contents(out)) == sorted(f"{stem}_{part}.png" for stem in "ab" for part in PARTS)
    for stem in "ab":
        image = read_image(images / f"{stem}.png")
        layers = np.stack([read_image(out / f"{stem}_{part}.png") for part in PARTS])
        assert layers.shape[1:] == image.shape
        assert np.abs(1 - (1 - layers).prod(axis=0) - image)[image >= 0.05].max() < 4 * HALF_A_LEVEL
        assert layers[1:].max() > 0.05  # something was separated


def test_a_folder_is_its_images_without_their_masks(images, tmp_path):
    one = separate([images], tmp_path / "1")
    other = separate(sorted(images.glob("*.png")), tmp_path / "2")
    assert len(one) == len(other) == 2 and contents(tmp_path / "1") == contents(tmp_path / "2")


def test_layers_below_the_folder_are_not_separated_again(images):
    for _ in range(2):
        assert len(separate([images], images / "layers")) == 2
    assert len(contents(images / "layers")) == 6


def test_masks_of_other_names(images, tmp_path):
    separate([images / "a.png"], tmp_path / "1")
    drawn = tuple(images / f"{part} bone.png" for part in ("lower", "upper"))
    for part, file in zip(("lower", "upper"), drawn, strict=True):
        shutil.move(images / f"a_mask_{part}.png", file)
    separate([images / "a.png"], tmp_path / "2", drawn=drawn)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_dicom_is_separated_as_the_same_image_in_another_container(images, tmp_path):
    """Named by its UID, whose last number is no suffix."""
    levels = np.round(read_image(images / "a.png") * 65535).astype(np.uint16)
    (images / "1.2.840.1").write_bytes(dicom(levels, bits=16))
    for part in ("lower", "upper"):
        shutil.copy(images / f"a_mask_{part}.png", images / f"1.2.840.1_mask_{part}.png")
    separate([images / "a.png", images / "1.2.840.1"], tmp_path / "out")
    for part in PARTS:
        one, other = (read_image(tmp_path / "out" / f"{stem}_{part}.png") for stem in ("a", "1.2.840.1"))
        np.testing.assert_array_equal(one, other)


def test_an_image_without_masks_gets_drawn_ones_beside_its_layers(images, tmp_path, outlines, by_hand):
    undraw(images, "b")
    told = separate([images], tmp_path / "out", outlines=outlines)
    assert told[1].startswith(f"b: three layers in {tmp_path}/out by outlines that the network drew; recomposed")
    written = {f"{stem}_{part}.png" for stem in "ab" for part in PARTS}
    assert set(contents(tmp_path / "out")) == written | {"b_mask_lower.png", "b_mask_upper.png"}
    assert read_mask(tmp_path / "out" / "b_mask_lower.png").sum() == 16 * 17
    assert "b_mask_lower.png" not in contents(images)


def test_a_bad_file_is_refused_and_the_rest_is_done(images, tmp_path):
    separate([images / "a.png"], tmp_path / "good")
    write_mask(images / "b_mask_upper.png", np.eye(9, dtype=bool))
    paths = [images / "absent.png", images / "b.png", images / "a.png"]
    absent, mismatched, done = separate(paths, tmp_path / "out")
    assert absent.why.startswith(f"{images}/absent.png: no such file; check the path")
    assert mismatched.why.endswith(
        "b_mask_upper.png: the mask is 9 x 9 px and its image 49 x 49; export both at the same size"
    )
    assert done.startswith("a: three layers") and contents(tmp_path / "out") == contents(tmp_path / "good")


def test_layers_do_not_replace_the_only_mask_of_an_image(images):
    """Whoever drew one bone has not yet drawn the other."""
    (images / "b_mask_upper.png").unlink()
    before = contents(images)
    (refused,) = separate([images / "b.png"], images)
    assert refused.why.endswith("b.png: has a mask of one bone only; draw upper too, or move the other away")
    assert contents(images) == before


def test_options_that_make_no_sense(images, tmp_path):
    a, b = images / "a.png", images / "b.png"
    for some, drawn in (([a, b], (a, b)), ([a], (a, None)), ([a], (None, a))):
        with pytest.raises(InputError, match="--lower and --upper: both belong to one image"):
            separate(some, tmp_path / "out", drawn=drawn)
    told = separate([a, images / "other" / "a.jpg"], tmp_path / "out")
    assert all(isinstance(one, Refused) and "has the name of" in one.why for one in told)
    with pytest.raises(InputError, match="no radiograph there; give images, or a folder"):
        separate(sorted(images.glob("*_mask_*.png")), tmp_path / "out")
    with pytest.raises(InputError, match="images: holds the radiographs; name another folder"):
        separate([images], images)
    assert not (tmp_path / "out").exists()


def test_weights_that_are_none(images, tmp_path):
    for weights, told in (
        (tmp_path / "absent", "absent: no such weights; give a trained"),
        (images / "a.png", "a.png: not"),
    ):
        with pytest.raises(InputError, match=told):
            list(separate_files([images / "a.png"], tmp_path / "out", weights=str(weights), outlines="outlines"))


def test_the_mask_beside_an_image(tmp_path):
    for name in ("x_mask_lower.txt", "x_mask_lower.BMP", "x1_mask_lower.png", "y[1]_mask_lower.png"):
        (tmp_path / name).write_text("")
    assert mask_beside(tmp_path / "x.jpg", "lower").name == "x_mask_lower.BMP"
    assert mask_beside(tmp_path / "y[1].png", "lower").name == "y[1]_mask_lower.png"
    assert mask_beside(tmp_path / "x.jpg", "upper") is None


# --- masks -----------------------------------------------------------------------------------------------------------


def test_masks_are_drawn_of_images_that_have_none(images, outlines, by_hand):
    undraw(images, "a")
    write_image(images / "dark.png", np.eye(48) * 0.1)
    before = contents(images)
    drawn, kept, dark = draw_files([images], outlines=outlines)
    assert drawn == f"{images}/a.png: two masks beside it; look at them before you use them"
    assert kept == f"{images}/b.png: has a mask beside it already, which was left as it is; --force draws it again"
    assert dark.why == f"{images}/dark.png: shows no joint; crop one"
    after = contents(images)
    assert set(after) - set(before) == {"a_mask_lower.png", "a_mask_upper.png"}
    assert {name: after[name] for name in before} == before
    assert read_mask(images / "a_mask_upper.png").sum() == 32 * 32


def test_masks_are_drawn_again_only_by_force(images, outlines, by_hand):
    before = contents(images)
    assert all(isinstance(line, str) for line in draw_files([images], outlines=outlines, force=True))
    assert {name for name in before if contents(images)[name] != before[name]} == {n for n in before if "_mask_" in n}


def test_an_outliner_is_loaded_once_and_when_it_is_needed(outlines):
    load = outliner_of(outlines)
    assert load() is load()
    with pytest.raises(InputError, match="absent: no such weights; give a file, or the shipped 'outlines'"):
        outliner_of("absent")


# --- other widths ----------------------------------------------------------------------------------------------------


def adjust(path: Path, out: Path, jsw_mm: float, **options) -> str:
    asked = {"spacing_mm": 21 / 96} | {key: options.pop(key) for key in ("spacing_mm",) if key in options}
    return adjust_file(path, out, jsw_mm, Movement(**options), weights="compact", outlines="outlines", **asked)


def width_told(line: str) -> float:
    return float(line.split("joint space ")[1].split()[0])


def test_its_own_width_is_the_image_itself(images, tmp_path):
    own = width_told(adjust(images / "a.png", tmp_path / "1.png", 1.0))
    told = adjust(images / "a.png", tmp_path / "2.png", own)
    assert told.startswith(f"{tmp_path}/2.png: joint space {own:.2f} mm as measured, now {own:.2f} (")
    image, again = read_image(images / "a.png"), read_image(tmp_path / "2.png")
    assert np.abs(again - image).mean() < 2e-3 and again.shape == image.shape
    assert np.abs(read_image(tmp_path / "1.png") - image).mean() > 5e-3


def test_it_is_the_phantom_of_that_width(tmp_path):
    phantom = Phantom(8, "index", size=128)
    own, true = phantom.render(1.6), phantom.render(0.8)
    write_image(tmp_path / "x.png", own.image[0].numpy())
    for part, mask in zip(("lower", "upper"), own.masks[1:], strict=True):
        write_mask(tmp_path / f"x_mask_{part}.png", mask.numpy() > 0)
    adjust(tmp_path / "x.png", tmp_path / "y.png", 0.8, spacing_mm=own.spacing_mm)
    found = read_image(tmp_path / "y.png")
    errors = [np.square(shown - true.image[0].numpy()).mean() for shown in (found, own.image[0].numpy())]
    assert errors[0] < 0.25 * errors[1]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"jsw_mm": 12.0}, r"a.png: 12 mm is out of reach of a joint space of \d.\d\d; give -?\d.\d\d to \d.\d\d mm"),
        ({"jsw_mm": float("nan")}, "a.png: nan mm is out of reach"),
        ({"slide_mm": (0.0, 6.0)}, "a bone may slide by 5 mm and turn by 45 degrees; give less"),
        ({"slide_mm": (0.0, float("nan"))}, "a bone may slide by 5 mm and turn"),
        ({"degrees": (0.0, float("inf"))}, "a bone may slide by 5 mm and turn"),
        ({"spacing_mm": None}, "a: has no pixel spacing, so no widths in mm; state it with --spacing-mm"),
        ({"spacing_mm": 5.0}, r"a: at 5 mm a pixel its bones are \d+ mm wide, which no adult's are; correct"),
        ({"spacing_mm": float("nan")}, "a: at nan mm a pixel its bones are nan mm wide"),
        ({"out": "y.jpg"}, "y.jpg: name a file that ends in .png"),
        ({"out": "images/a.png"}, "a.png: is the image itself; name another file"),
        ({"path": "images/absent.png"}, "absent.png: no such file; check the path"),
        ({"path": "images"}, "images: is a folder; give one image, or make a data set"),
    ],
)
def test_widths_that_cannot_be_shown(images, tmp_path, asked, told):
    before = contents(tmp_path)
    words = {"path": "images/a.png", "out": "y.png", "jsw_mm": 1.0} | asked
    path, out = tmp_path / words.pop("path"), tmp_path / words.pop("out")
    with pytest.raises(InputError, match=told):
        adjust(path, out, words.pop("jsw_mm"), **words)
    assert contents(tmp_path) == before


def test_a_page_to_move_bones_in(images, tmp_path):
    asked = {"weights": "compact", "outlines": "outlines", "spacing_mm": 21 / 96}
    told = explore_file(images / "a.png", tmp_path / "a.html", **asked)
    assert re.fullmatch(r".*a.html: joint space \d\.\d\d mm as measured; open it in a browser", told)
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") and "lsn-jsw" in text and "http" not in text.replace("http-equiv", "")
    with pytest.raises(InputError, match=r"a.png: name a file that ends in .html"):
        explore_file(images / "a.png", tmp_path / "a.png", **asked)
