"""`lsn data check`: each of many kinds of damage is listed with its reason, and what is good passes."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_data import drawing
from test_dicom import WRONG as WRONG_DICOM
from test_dicom import dicom

from lsn_core.check import survey
from lsn_core.data import MANIFEST, open_dataset

HEADER = "image,lower,upper,joint,finger,side,spacing_mm,split,subject"
GOOD = 5
IMAGE, LOWER, UPPER = drawing(2)
Damage = tuple[Callable[[Path], str], str]


def image_as(name: str, data: bytes | np.ndarray) -> Callable[[Path], str]:
    """Another file in the place of the image: its bytes, or the array to save."""

    def harm(stem: Path) -> str:
        path = stem.with_name(f"{stem.name}.{name}" if name else stem.name)
        stem.with_name(f"{stem.name}.png").unlink()
        path.write_bytes(data) if isinstance(data, bytes) else np.save(path, data)
        return line(stem.name, image=path.name)

    return harm


def mask_as(plane: np.ndarray, *, part: str = "lower") -> Callable[[Path], str]:
    """Another mask in the place of one."""

    def harm(stem: Path) -> str:
        Image.fromarray(plane).save(stem.with_name(f"{stem.name}_{part}.png"))
        return line(stem.name)

    return harm


def listed_as(**cells: str) -> Callable[[Path], str]:
    """Good files, and a manifest's line with these cells; @ stands for the stem."""
    return lambda stem: line(stem.name, **{column: cell.replace("@", stem.name) for column, cell in cells.items()})


def line(name: str, **cells: str) -> str:
    """A manifest's line."""
    usual = {"image": f"{name}.png", "lower": f"{name}_lower.png", "upper": f"{name}_upper.png", "split": "test"}
    return ",".join((usual | cells).get(column, "") for column in HEADER.split(","))


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    """Encoded by Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()


def removed(part: str) -> Callable[[Path], str]:
    """A file that is not there."""

    def harm(stem: Path) -> str:
        stem.with_name(f"{stem.name}{part}.png").unlink()
        return line(stem.name)

    return harm


def folder_for_image(stem: Path) -> str:
    """A folder of the image's name."""
    stem.with_name(f"{stem.name}.png").unlink()
    stem.with_name(f"{stem.name}.png").mkdir()
    return line(stem.name)


NAN = np.where(np.eye(*IMAGE.shape) > 0, np.nan, 0.5).astype(np.float32)


def pages(stem: Path) -> str:
    """A TIFF of two pages."""
    picture = Image.fromarray(IMAGE)
    picture.save(stem.with_name(f"{stem.name}.tif"), save_all=True, append_images=[picture])
    return line(stem.name, image=f"{stem.name}.tif")


def tiny(stem: Path) -> str:
    """An image of 9 px a side with masks to it."""
    for part, plane in (("", IMAGE), ("_lower", LOWER), ("_upper", UPPER)):
        Image.fromarray(plane).resize((9, 9)).save(stem.with_name(f"{stem.name}{part}.png"))
    return line(stem.name)


def contradicted(stem: Path) -> str:
    """A DICOM file whose header has another spacing than the list."""
    path = stem.with_name(f"{stem.name}.dcm")
    path.write_bytes(dicom(IMAGE * np.uint16(16), PixelSpacing=[0.15, 0.15]))
    return line(stem.name, image=path.name, spacing_mm="0.3")


def swapped(stem: Path) -> str:
    """The masks under each other's names."""
    mask_as(UPPER)(stem)
    return mask_as(LOWER, part="upper")(stem)


DAMAGES: dict[str, Damage] = {  # kind: (how, what is said of it); @ stands for the stem
    "missing image": (removed(""), r"@.png: listed but not there; restore"),
    "missing lower mask": (removed("_lower"), r"@_lower.png: listed but not there; restore"),
    "missing upper mask": (removed("_upper"), r"@_upper.png: listed but not there; restore"),
    "empty file": (image_as("jpg", b""), r"@.jpg: the file is empty, 0 bytes; copy it again"),
    "text": (image_as("png", b"a text"), r"@.png: not an image that can be read; convert"),
    "truncated JPEG": (image_as("jpg", encoded(IMAGE, "jpeg")[:-300]), r"@.jpg: the image is damaged \(.*truncated"),
    "truncated PNG": (image_as("png", encoded(IMAGE, "png")[:-300]), r"@.png: the image is damaged \(.*truncated"),
    "truncated DICOM": (image_as("dcm", dicom()[:-300]), r"@.dcm: the DICOM is damaged"),
    "DICOM of two frames": (image_as("dcm", WRONG_DICOM["several frames"][0]), r"@.dcm: the DICOM holds 2 frames"),
    "DICOM in colour": (image_as("dcm", WRONG_DICOM["colour"][0]), r"@.dcm: the DICOM holds RGB, not a grey"),
    "DICOM without decoder": (
        image_as("", WRONG_DICOM["no decoder"][0]),
        r"@: no decoder for the DICOM's compression",
    ),
    "NaN": (image_as("npy", NAN), r"@.npy: 40 values are NaN or infinite; export"),
    "wrong scale": (image_as("npy", IMAGE.astype(np.float32)), r"@.npy: floating-point values run from 0 to 249"),
    "array of three planes": (image_as("npy", np.zeros((3, 9, 9), np.uint8)), r"@.npy: holds a uint8 array of shape"),
    "pickle": (image_as("npy", np.array([[{}]], dtype=object)), r"@.npy: not a numeric .npy array"),
    "constant image": (image_as("png", encoded(IMAGE * 0 + 90, "png")), r"@.png: the image is the same grey all over"),
    "folder": (folder_for_image, r"@.png: cannot be read \(Is a directory\); check what it is"),
    "several pages": (pages, r"@.tif: holds 2 pictures; save each to a file of its own"),
    "tiny image": (tiny, r"@.png: the image is 9 x 9 px; export it with at least 16 px a side"),
    "empty mask": (mask_as(LOWER & False), r"@_lower.png: the mask is all black; draw"),
    "full mask": (mask_as(LOWER | True), r"@_lower.png: the mask covers the whole frame; draw"),
    "mask of another size": (mask_as(np.eye(9) > 0), r"@_lower.png: the mask is 9 x 9 px and its image 48 x 40; exp"),
    "grey mask": (mask_as(IMAGE), r"@_lower.png: \d+% of the mask is grey; draw"),
    "coloured mask": (
        mask_as(np.stack([LOWER, UPPER, UPPER], axis=-1) * np.uint8(255)),
        r"@_lower.png: the mask is coloured; draw one bone in white on black",
    ),
    "speck": (
        mask_as(np.arange(LOWER.size).reshape(LOWER.shape) == 1700),
        r"@_lower.png: the mask covers less than 1%",
    ),
    "one bone drawn twice": (mask_as(UPPER), r"@_upper.png: it lies on the bone of the lower mask; redraw"),
    "swapped masks": (swapped, r"@_upper.png: not above"),
    "one file for both masks": (
        listed_as(lower="@_upper.png"),
        r"one file stands for two of image, lower, upper; name",
    ),
    "the image as its mask": (listed_as(upper="@.png"), r"one file stands for two of image, lower, upper; name"),
    "absolute path": (listed_as(lower="/@_lower.png"), r"/@_lower.png is an absolute path; give it relative"),
    "no mask named": (listed_as(lower=""), r"image, lower, upper are not all given; name three files"),
    "unknown finger": (listed_as(finger="toe"), r"finger 'toe' is unknown; use one of thumb"),
    "unknown side": (listed_as(side="left"), r"side 'left' is unknown; use one of L, R"),
    "unknown split": (listed_as(split="tset"), r"split 'tset' is unknown; use one of train, test"),
    "spacing in words": (listed_as(spacing_mm="fine"), r"spacing_mm 'fine' is not a positive number; give"),
    "comma for a point": (listed_as(subject="x,15"), r"it has more cells than the header; put texts with commas"),
    "a joint in two splits": (
        listed_as(joint="good0", split="train"),
        r"joint good0 is in test in line 2 and in train",
    ),
    "a person in two splits": (listed_as(subject="p", split="train"), r"subject p is in test in line 3 and in train h"),
    "a joint of two people": (listed_as(joint="j1", subject="q"), r"joint j1 is p's in line 3 and q's here; give"),
    "a name twice": (listed_as(image="good0.jpg"), r"an image called good0 is in line 2 already; rename"),
    "contradicted spacing": (contradicted, r"@.dcm: the list says 0.3 mm a pixel and the header 0.15"),
}


def joint(stem: Path) -> Path:
    """A good joint's three files."""
    for part, plane in (("", IMAGE), ("_lower", LOWER), ("_upper", UPPER)):
        Image.fromarray(plane).save(stem.with_name(f"{stem.name}{part}.png"))
    return stem


@pytest.fixture(name="damaged")
def _damaged(tmp_path) -> Path:
    """A folder of good joints (lines 2, 3, 4 and the last two of its manifest) and one joint of every damage."""
    root = tmp_path / "damaged"
    root.mkdir()
    known = {1: {"joint": "j1", "subject": "p"}}
    good = [line(joint(root / f"good{k}").name, **known.get(k, {})) for k in range(GOOD)]
    bad = [harm(joint(root / f"bad{k:02}")) for k, (harm, _) in enumerate(DAMAGES.values())]
    (root / MANIFEST).write_text("\n".join([HEADER, *good[:3], *bad, *good[3:]]))
    return root


def test_every_damage_is_listed_with_its_reason_and_the_good_pass(damaged):
    found = survey(damaged)
    assert len(DAMAGES) >= 30 and found.total == len(DAMAGES) + GOOD
    assert [row.name for row in found.good] == [f"good{k}" for k in range(GOOD)]
    assert len(found.findings) == len(DAMAGES)
    for k, (kind, (_, told)) in enumerate(DAMAGES.items()):
        names = (f"bad{k:02}", f"{damaged / MANIFEST} line {k + 5}")
        (reason,) = [finding.reason for finding in found.findings if finding.name in names]
        assert re.search(told.replace("@", f"bad{k:02}"), reason), (kind, reason)
        assert "\n" not in reason and re.search("; [a-z]", reason)


def test_the_command_lists_all_of_it(lsn, damaged):
    told = lsn("data", "check", damaged)
    errors = [text for text in told.err.splitlines() if text.startswith("error: ")]
    assert told.code == 1 and len(errors) == len(DAMAGES)
    assert told.out.endswith(f"{GOOD} of {GOOD + len(DAMAGES)} radiographs can be used\n")


def test_packing_refuses_and_counts(lsn, damaged, tmp_path):
    told = lsn("data", "pack", damaged, tmp_path / "p.safetensors")
    doubtful = 3  # speck, one bone drawn twice, swapped: they can be decoded
    count = f"; {len(DAMAGES) - doubtful} of {len(DAMAGES) + GOOD} cannot be used, which 'lsn data check' lists\n"
    assert told.code == 1 and told.err.startswith("error: ") and told.err.endswith(count)
    assert not (tmp_path / "p.safetensors").exists()


def test_one_radiograph_may_have_several_faults(tmp_path):
    stem = joint(tmp_path / "a")
    (tmp_path / "a.png").write_text("x")
    Image.fromarray(LOWER & False).save(tmp_path / "a_lower.png")
    (tmp_path / "a_upper.png").unlink()
    (tmp_path / MANIFEST).write_text(
        f"{HEADER}\n{line(stem.name)}\n{line('b', finger='toe', side='left', spacing_mm='-1')}\n"
    )
    found = survey(tmp_path)
    assert len(found.findings) == 6 and found.total == 2 and not found.good


def test_a_detectors_spacing_is_told(lsn, tmp_path):
    """Its millimetres are not the patient's."""
    for k, element in enumerate(("PixelSpacing", "ImagerPixelSpacing", "ImageComments")):
        value = "no spacing" if element == "ImageComments" else [0.15, 0.15]
        joint(tmp_path / f"{k}")
        (tmp_path / f"{k}.dcm").write_bytes(dicom(IMAGE * np.uint16(16), **{element: value}))
    rows = [line(f"{k}", image=f"{k}.dcm") for k in range(3)]
    (tmp_path / MANIFEST).write_text("\n".join([HEADER, *rows]))
    told = lsn("data", "check", tmp_path)
    assert "pixel spacing known of 2, of 1 at the detector, where a hand is shown magnified\n" in told.out


def test_doubtful_masks_are_packed_with_a_warning(lsn, tmp_path):
    """The public release has some; they are used as they are drawn."""
    root = tmp_path / "d"
    root.mkdir()
    lines = [line(joint(root / name).name) for name in "ab"]
    (root / MANIFEST).write_text("\n".join([HEADER, *lines]))
    mask_as(UPPER)(root / "a")
    told = lsn("data", "pack", root, tmp_path / "p.safetensors")
    assert told.code == 0 and told.err == "warning: 1 radiographs have doubtful masks, which 'lsn data check' lists\n"
    assert len(open_dataset(tmp_path / "p.safetensors")) == 2


def test_the_public_release(bls_gan):
    """Of its tested radiographs four have both masks on one bone; nothing else is wrong with them."""
    found = survey(bls_gan, split="test")
    assert len(found.good) + len(found.findings) == found.total == 395
    assert all(finding.usable and "on the bone of the lower mask" in finding.reason for finding in found.findings)
    assert {f.name[:5] for f in found.findings} == {"00015", "00132", "00145", "00327"}
