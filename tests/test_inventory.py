"""`lsn data init`: what lies in a folder becomes a manifest that opens at once."""

import csv
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_data import drawing
from test_dicom import RAMP, dicom

from lsn_core.check import check
from lsn_core.data import COLUMNS, MANIFEST, open_dataset
from lsn_core.files import InputError
from lsn_core.inventory import groups_for_test, images_below, mask_beside, take_inventory


def joint(
    root: Path, name: str, *, seed: int = 2, suffix: str = ".png", parts: Iterable[str] = ("lower", "upper")
) -> None:
    """An image and its masks, STEM_mask_lower.png and STEM_mask_upper.png beside it."""
    image, *masks = drawing(seed)
    path = root / f"{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    for part, mask in zip(("lower", "upper"), masks, strict=True):
        if part in parts:
            Image.fromarray(mask).save(root / f"{name}_mask_{part}.png")


def hospital(root: Path, name: str, **elements) -> None:
    """A DICOM file of any name and its masks."""
    joint(root, "m")
    (root / name).write_bytes(dicom(RAMP[:40, :48], **elements))
    stem = name.removesuffix(".dcm")
    for part in ("lower", "upper"):
        shutil.move(root / f"m_mask_{part}.png", root / f"{stem}_mask_{part}.png")
    (root / "m.png").unlink()


def lines(root: Path) -> dict[str, dict[str, str]]:
    """The manifest's lines by their images."""
    with (root / MANIFEST).open(newline="") as file:
        return {line["image"]: line for line in csv.DictReader(file)}


def test_images_with_both_masks_are_listed_and_the_others_told(tmp_path):
    joint(tmp_path, "a")
    joint(tmp_path, "b", suffix=".jpg", parts=("lower",))
    joint(tmp_path, "c", suffix=".tif", parts=())
    joint(tmp_path, ".hidden/d")
    (tmp_path / "notes.txt").write_text("x")
    found = take_inventory(tmp_path)
    assert list(lines(tmp_path)) == ["a.png"] and found.lacking == {"b.jpg": ["upper"], "c.tif": ["lower", "upper"]}
    assert found.told()[-2:] == [
        "left out: b.jpg has no mask_upper",
        "left out: c.tif has no mask_lower and no mask_upper",
    ]
    (row,) = open_dataset(tmp_path, split="all").rows
    assert (row.joint, row.visit, row.subject, row.spacing_mm) == ("a", None, None, None)
    assert not check(open_dataset(tmp_path, split="all"))


def test_a_folder_holds_the_visits_of_a_joint(tmp_path):
    for name in ("R2/2019", "R2/2021", "L2/2019", "alone"):
        joint(tmp_path, name)
    take_inventory(tmp_path)
    rows = {row.image: row for row in open_dataset(tmp_path, split="all").rows}
    assert [(row.joint, row.visit) for row in rows.values()] == [
        ("L2", "2019"),
        ("R2", "2019"),
        ("R2", "2021"),
        ("alone", None),
    ]
    assert rows["R2/2019.png"].splits == rows["R2/2021.png"].splits
    assert {split for row in rows.values() for split in row.splits} == {"test", "train"}


def test_headers_are_read(tmp_path):
    hospital(tmp_path, "a.dcm", ImagerPixelSpacing=[0.15, 0.15], ImageLaterality="R")
    hospital(tmp_path, "1.2.840.1", PixelSpacing=[0.2, 0.1])
    hospital(tmp_path, "1.2.840.2")
    (tmp_path / "1.2.840.3").write_text("a text, not of interest")
    joint(tmp_path, "b")
    (tmp_path / "damaged.dcm").write_bytes(b"x")
    found = take_inventory(tmp_path)
    facts = {image: (line["spacing_mm"], line["spacing_from"], line["side"]) for image, line in lines(tmp_path).items()}
    assert facts == {
        "1.2.840.1": ("0.1", "patient", ""),
        "1.2.840.2": ("", "", ""),
        "a.dcm": ("0.15", "detector", "R"),
        "b.png": ("", "", ""),
    }
    assert found.told()[1] == "pixel spacing known of 2: 1 calibrated at the patient, 1 at the detector"
    joints = {made.name: made for made in open_dataset(tmp_path, split="all")}
    assert joints["1.2.840.1"].image.shape == (1, 80, 48) and joints["1.2.840.1"].spacing_mm == 0.1
    assert set(joints) == {"1.2.840.1", "1.2.840.2", "a", "b"} and joints["a"].side == "R"


def test_persons_stay_on_one_side(tmp_path):
    for person in range(9):
        for finger in ("R2", "R3"):
            joint(tmp_path, f"p{person}_{finger}")
            joint(tmp_path, f"{finger}/p{person}")  # a folder that holds several people is no joint
    take_inventory(tmp_path, subject=r"(p\d+)")
    rows = open_dataset(tmp_path, split="all").rows  # which refuses torn subjects and joints
    sides = {row.subject: row.splits for row in rows}
    assert set(sides) == {f"p{k}" for k in range(9)} and set(sides.values()) == {("test",), ("train",)}
    assert len({row.joint for row in rows}) == len(rows) == 36


@given(st.sets(st.text(min_size=1, max_size=8), max_size=40), st.text(min_size=1, max_size=8))
def test_a_group_stays_where_it_is_when_others_join(groups, newcomer):
    chosen = groups_for_test(groups)
    assert chosen <= groups and (len(groups) < 2 or 0 < len(chosen) < len(groups))
    if len(groups) > 30:  # so many that both sides have some by their hashes
        assert groups_for_test(groups | {newcomer}) - {newcomer} == chosen - {newcomer}


def test_about_one_in_four_is_tested():
    share = len(groups_for_test(f"joint {k}" for k in range(4000))) / 4000
    assert share == pytest.approx(0.25, abs=3 * np.sqrt(0.25 * 0.75 / 4000))


def test_a_manifest_is_only_replaced_on_demand(tmp_path):
    joint(tmp_path, "a")
    take_inventory(tmp_path)
    written = (tmp_path / MANIFEST).read_text()
    assert written.splitlines()[0] == ",".join(COLUMNS)
    joint(tmp_path, "b")
    with pytest.raises(InputError, match=r"manifest.csv: exists already; keep it, or replace it with --force"):
        take_inventory(tmp_path)
    assert (tmp_path / MANIFEST).read_text() == written
    assert len(take_inventory(tmp_path, force=True).lines) == 2


@pytest.mark.parametrize(
    ("subject", "told"),
    [
        (r"p\d+", r"--subject .*: has 0 groups; put one around the person's part"),
        (r"(p)(\d+)", r"--subject .*: has 2 groups; put one"),
        (r"(p", r"--subject .*: not a regular expression \(.*\); correct it"),
        (r"(q\d+)", r"/p1.png: its path below .* does not match --subject .*; rename or move it"),
        (r"(q?)", r"/p1.png: its path below .* does not match"),
    ],
)
def test_expressions_that_name_nobody(tmp_path, subject, told):
    joint(tmp_path, "p1")
    with pytest.raises(InputError, match=told):
        take_inventory(tmp_path, subject=subject)
    assert not (tmp_path / MANIFEST).exists()


def test_folders_that_make_no_data_set(tmp_path):
    with pytest.raises(InputError, match=r"absent: no such folder; give the folder"):
        take_inventory(tmp_path / "absent")
    with pytest.raises(InputError, match=r"no image has both masks; name them STEM_mask_lower.png and STEM_mask_u"):
        take_inventory(tmp_path)
    joint(tmp_path, "a")
    joint(tmp_path, "a", suffix=".jpg")
    with pytest.raises(InputError, match=r"/a.png: a.jpg has the same name but for its suffix; move one of them away"):
        take_inventory(tmp_path)
    assert not (tmp_path / MANIFEST).exists()


def test_masks_are_found_by_the_whole_stem(tmp_path):
    for name in (
        "x.png",
        "x_mask_lower.BMP",
        "x_mask_lower.txt",
        "x1_mask_lower.png",
        "y[1].png",
        "y[1]_mask_lower.png",
    ):
        (tmp_path / name).write_text("")
    assert mask_beside(tmp_path / "x.png", "lower").name == "x_mask_lower.BMP"
    assert mask_beside(tmp_path / "y[1].png", "lower").name == "y[1]_mask_lower.png"
    assert mask_beside(tmp_path / "x.png", "upper") is None
    assert [path.name for path in images_below(tmp_path)] == ["x.png", "y[1].png"]
