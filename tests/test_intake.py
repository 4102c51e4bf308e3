"""Intake: every kind of folder becomes joints, and whatever is wrong with one file is said in a sentence of its own."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from test_dicom import dicom

from lsn_core import intake
from lsn_core.data import MANIFEST
from lsn_core.export import write_phantoms
from lsn_core.files import InputError
from lsn_core.images import read_image, write_image, write_mask
from lsn_core.intake import Candidate, Refused, candidates, radiographs, read_joint, reader, twins
from lsn_core.inventory import mask_beside
from lsn_core.joint import Joint
from lsn_core.segmentation import Outliner

NOBODY = (None, None)
SPACING = 21 / 48


def nobody() -> Outliner:
    raise AssertionError("nobody asked for an outliner")


@pytest.fixture(scope="module", name="drawn")
def _drawn(tmp_path_factory) -> Path:
    """Five phantoms of 48 px with a manifest."""
    return write_phantoms(tmp_path_factory.mktemp("drawn"), count=5, size=48, seed=3).parent


@pytest.fixture(name="plain")
def _plain(drawn, tmp_path) -> Path:
    """The same files, which nothing lists."""
    shutil.copytree(drawn, tmp_path / "plain")
    (tmp_path / "plain" / MANIFEST).unlink()
    return tmp_path / "plain"


def first(folder: Path) -> Path:
    return next(path for path in sorted(folder.glob("*.png")) if "_mask_" not in path.name)


def undraw(image: Path) -> None:
    for part in ("lower", "upper"):
        (image.parent / f"{image.stem}_mask_{part}.png").unlink()


@pytest.fixture(name="by_hand")
def _by_hand(monkeypatch) -> list[str]:
    """An outliner that draws two boxes; the names of the images that it drew."""
    asked = []

    def draw(image: np.ndarray, outliner: Outliner, name: str) -> np.ndarray:
        asked.append(name)
        masks = np.zeros((3, *image.shape), bool)
        masks[0], masks[1, 30:, 10:30], masks[2, :20, 10:30] = True, True, True
        return masks

    monkeypatch.setattr(intake, "draw_masks", draw)
    return asked


def taken(folder: Path, outliner=nobody, *, split: str = "all", spacing_mm: float | None = None, **options) -> list:
    return [one.take() for one in candidates(folder, outliner, split=split, spacing_mm=spacing_mm, **options)]


# --- folders ---------------------------------------------------------------------------------------------------------


def test_a_data_set_comes_with_what_its_manifest_knows(drawn):
    found = list(candidates(drawn, nobody, split="all", spacing_mm=None))
    assert len(found) == 5 and sorted(one.split for one in found) == ["test", *["train"] * 4]
    for one in found:
        joint = one.take()
        assert isinstance(joint, Joint) and joint.name == one.name
        assert joint.spacing_mm == pytest.approx(SPACING, abs=1e-6) and joint.finger
    assert len(taken(drawn, split="test")) == 1


def test_a_folder_that_nothing_lists_is_read_with_the_masks_beside_the_images(drawn, plain):
    (plain / "notes.txt").write_text("not an image")
    listed = {joint.name: joint for joint in taken(drawn)}
    found = taken(plain, spacing_mm=SPACING)
    assert [joint.name for joint in found] == sorted(listed)  # without masks and layers
    for joint in found:
        assert torch.equal(joint.image, listed[joint.name].image)
        assert torch.equal(joint.masks, listed[joint.name].masks)
        assert joint.spacing_mm == SPACING and joint.spacing_from is None


def test_images_without_masks_are_drawn(plain, by_hand):
    image = first(plain)
    undraw(image)
    found = {joint.name: joint for joint in taken(plain, Outliner)}
    assert by_hand == [str(image)] and len(found) == 5
    assert found[image.stem].masks[1].sum() == 18 * 20


def test_a_bad_file_among_good_ones_is_refused_alone(plain):
    good = first(plain)
    for name, data in (("bad", good.read_bytes()[:200]), ("empty", b""), ("text", b"hello")):
        (plain / f"{name}.png").write_bytes(data)
        for part in ("lower", "upper"):
            shutil.copy(plain / f"{good.stem}_mask_{part}.png", plain / f"{name}_mask_{part}.png")
    found = taken(plain)
    refused = {one.name: one.why for one in found if isinstance(one, Refused)}
    assert len(found) == 8 and sorted(refused) == ["bad", "empty", "text"]
    for name, why in (("bad", "the image is damaged"), ("empty", "is empty, 0 bytes"), ("text", "not an image that")):
        assert refused[name].startswith(f"{plain}/{name}.png: ") and why in refused[name] and "; " in refused[name]


@pytest.mark.parametrize("what", ["empty", "text", "masks"])
def test_folders_without_a_radiograph(tmp_path, what):
    if what == "text":
        (tmp_path / "a.txt").write_text("hello")
    if what == "masks":
        write_mask(tmp_path / "a_mask_lower.png", np.eye(9) > 0)
    with pytest.raises(InputError, match="no radiograph there; give images, or a folder of them: masks and layers"):
        taken(tmp_path)


def test_what_is_neither_folder_nor_data_set(tmp_path):
    with pytest.raises(InputError, match="absent: no such folder or file"):
        taken(tmp_path / "absent")
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(InputError, match=r"a\.txt: not a packed data set"):
        taken(tmp_path / "a.txt")


def test_what_was_written_there_is_not_read_again(plain):
    """Else a production that goes on would go on with its own images."""
    out = plain / "out"
    shutil.copytree(plain, out)
    assert len(taken(plain)) == 10 and len(taken(plain, out=out)) == 5
    with pytest.raises(InputError, match="plain: holds the radiographs; name another folder"):
        radiographs([plain], out=plain)
    assert len(radiographs([first(plain)], out=plain)) == 1  # a single image may have its layers beside it


def test_visits_in_a_folder_are_of_one_joint(plain):
    for visit in ("a", "b"):
        for file in (plain / "p1" / "r2", plain / "p2" / "r2"):
            file.mkdir(parents=True, exist_ok=True)
            shutil.copy(first(plain), file / f"{visit}.png")
            for part in ("lower", "upper"):
                mask = mask_beside(first(plain), part)
                shutil.copy(mask, file / f"{visit}_mask_{part}{mask.suffix}")
    found = [joint for joint in taken(plain) if "/" in joint.name]
    assert [joint.name for joint in found] == ["p1/r2/a", "p1/r2/b", "p2/r2/a", "p2/r2/b"]
    assert [joint.joint for joint in found] == ["p1/r2", "p1/r2", "p2/r2", "p2/r2"]


def test_two_images_of_one_name():
    paths = [Path(name) for name in ("a.png", "a.dcm", "b.png", "a.jpg")]
    assert twins({path: path.stem for path in paths}) == {
        paths[0]: paths[3],
        paths[1]: paths[0],
        paths[3]: paths[1],
    }


def test_only_images_of_one_name_are_refused(plain):
    shutil.copy(first(plain), first(plain).with_suffix(".PNG"))
    found = taken(plain)
    refused = [one.why for one in found if isinstance(one, Refused)]
    assert len(found) == 6 and len(refused) == 2
    assert all(re.search(r": has the name of .*; rename one$", why) for why in refused)


# --- single images ---------------------------------------------------------------------------------------------------


def test_masks_of_other_names_are_used(plain):
    image = first(plain)
    expected = read_joint(image, nobody, drawn=NOBODY)
    files = tuple(plain / f"{part} bone.png" for part in ("lower", "upper"))
    for part, file in zip(("lower", "upper"), files, strict=True):
        (plain / f"{image.stem}_mask_{part}.png").rename(file)
    assert torch.equal(read_joint(image, nobody, drawn=files).masks, expected.masks)


@pytest.mark.parametrize(("there", "lacking"), [("lower", "upper"), ("upper", "lower")])
def test_a_single_mask_is_not_thrown_away(plain, there, lacking):
    """Drawn by hand, it must not be replaced in silence."""
    image = first(plain)
    (plain / f"{image.stem}_mask_{lacking}.png").unlink()
    with pytest.raises(InputError, match=f"has a mask of one bone only; draw {lacking} too, or move the other away"):
        read_joint(image, nobody, drawn=NOBODY)
    assert (plain / f"{image.stem}_mask_{there}.png").exists()


def test_the_image_is_read_before_an_outliner_is_loaded(tmp_path):
    for name, told in (("absent.png", "no such file"), ("text.png", "not an image that can be read")):
        (tmp_path / "text.png").write_text("hello")
        with pytest.raises(InputError, match=f"{name}: {told}"):
            read_joint(tmp_path / name, nobody, drawn=NOBODY)


def test_an_image_that_is_no_square(tmp_path):
    write_image(tmp_path / "wide.png", np.eye(40, 60))
    with pytest.raises(InputError, match=r"wide.png: the image is 60 x 40 px; crop joints to squares"):
        read_joint(tmp_path / "wide.png", nobody, drawn=NOBODY)


def test_an_image_that_shows_nothing(tmp_path):
    write_image(tmp_path / "grey.png", np.full((48, 48), 0.4))
    with pytest.raises(InputError, match=r"grey.png: its greys span 0.0% of their range; export"):
        read_joint(tmp_path / "grey.png", Outliner, drawn=NOBODY)


def test_what_the_outliner_is_not_sure_of_is_refused_with_its_reason(tmp_path):
    """Fresh weights are sure of nothing."""
    write_image(tmp_path / "x.png", np.random.default_rng(0).random((48, 48)))
    torch.manual_seed(0)
    with pytest.raises(InputError, match=r"x.png: .+; .+"):
        read_joint(tmp_path / "x.png", lambda: Outliner().eval(), drawn=NOBODY)


def test_a_mask_of_another_size(plain):
    image = first(plain)
    write_mask(plain / f"{image.stem}_mask_upper.png", np.eye(9) > 0)
    with pytest.raises(InputError, match=r"_mask_upper.png: the mask is 9 x 9 px and its image 48 x 48; export both"):
        read_joint(image, nobody, drawn=NOBODY)


# --- millimetres -----------------------------------------------------------------------------------------------------


def in_dicom(plain: Path, **elements) -> Path:
    """An image as DICOM, with its masks."""
    image, path = first(plain), plain / "1.2.840.1"
    path.write_bytes(dicom(np.round(read_image(image) * 65535).astype(np.uint16), bits=16, **elements))
    for part in ("lower", "upper"):
        shutil.copy(plain / f"{image.stem}_mask_{part}.png", plain / f"1.2.840.1_mask_{part}.png")
    return path


def spacing_of(path: Path, given: float | None) -> float | None:
    return reader(path, nobody, spacing_mm=given)().spacing_mm


def test_a_spacing_is_the_headers_or_else_the_users(plain):
    bare, known = first(plain), in_dicom(plain, PixelSpacing=[0.4, 0.4])
    assert spacing_of(bare, None) is None and spacing_of(bare, 0.3) == 0.3
    assert spacing_of(known, None) == 0.4 and spacing_of(known, 0.4) == 0.4 and spacing_of(known, 0.402) == 0.4
    assert reader(known, nobody, spacing_mm=None)().spacing_from == "patient"
    assert spacing_of(in_dicom(plain), 0.3) == 0.3


def test_a_header_and_an_option_that_contradict_each_other(plain):
    found = Candidate("x", reader(in_dicom(plain, PixelSpacing=[0.4, 0.4]), nobody, spacing_mm=0.3)).take()
    assert isinstance(found, Refused)
    assert found.why == "1.2.840.1: its file says 0.4 mm a pixel and --spacing-mm 0.3; leave the option out"
