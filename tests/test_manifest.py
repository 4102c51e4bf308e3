"""manifest.csv: what its cells mean, as spreadsheets write it, and every wrong line with its remedy."""

from pathlib import Path

import pytest
from test_data import HEADER, ROWS, line, own_folder, rename

from lsn_core.data import open_dataset
from lsn_core.files import InputError


@pytest.fixture(name="own")
def _own(tmp_path) -> Path:
    return own_folder(tmp_path / "own", ROWS)


def test_a_manifest(own):
    a, b = open_dataset(own, split="train")
    assert (a.name, a.joint, a.finger, a.side, a.spacing_mm) == ("a", "j1", "index", "L", 0.1) and b.joint == "j1"
    (c,) = open_dataset(own)  # an empty split is "test"; the other empty cells are unknown
    assert (c.name, c.joint, c.finger, c.side, c.spacing_mm) == ("c", "c", None, None, None)
    assert len(open_dataset(own, split="validation")) == 1 and len(open_dataset(own, split="all")) == 4


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_manifest_as_spreadsheets_write_it(own, ending, mark):
    (own / "manifest.csv").write_bytes((mark + ending.join([*ROWS, ""])).encode())
    assert [row.image for row in open_dataset(own, split="all").rows] == ["a.png", "b.png", "c.png", "d.png"]


def test_a_manifest_stands_for_its_folder(own):
    assert open_dataset(own / "manifest.csv").rows == open_dataset(own).rows


def test_a_manifest_may_know_more(tmp_path):
    header = f"{HEADER},subject,visit,spacing_from,jsw_mm,layer_soft"
    own = own_folder(tmp_path / "own", [header, line("a", ",j1,,,0.1,test,p1,2019-03,patient,1.5,soft.png")])
    (row,) = open_dataset(own).rows
    assert (row.subject, row.visit, row.spacing_from) == ("p1", "2019-03", "patient")
    joint = open_dataset(own)[0]
    assert (joint.subject, joint.spacing_from) == ("p1", "patient")


def test_a_manifest_needs_three_columns(tmp_path):
    own = own_folder(tmp_path / "own", ["upper,image,lower", "a_upper.png,a.png,a_lower.png"])
    assert open_dataset(own)[0].name == "a"


def subjects(root: Path, first: str, second: str) -> None:
    """Two lines with subjects: two joints in two splits if it is one person, else one joint in one split."""
    other = ",j2,,,,test," if first == second else ",j1,,,,train,"
    lines = [f"{HEADER},subject", line("c", f",j1,,,,train,{first}"), line("d", f"{other}{second}")]
    (root / "manifest.csv").write_text("\n".join(lines))


WRONG_LISTS = {  # damage to the manifest
    "missing image": (lambda root: (root / "c.png").unlink(), r"/c.png: listed but not there; restore"),
    "missing mask": (lambda root: (root / "c_lower.png").unlink(), r"/c_lower.png: listed but not there; restore"),
    "no column": (lambda root: rename(root, "lower,", "mask,"), r"manifest.csv: no column lower; the header is"),
    "empty manifest": (lambda root: (root / "manifest.csv").write_text(""), r"manifest.csv: no column image, lower"),
    "semicolons": (lambda root: rename(root, ",", ";"), r"manifest.csv: its cells are separated by semicolons; export"),
    "unknown column": (lambda root: rename(root, "_mm,", ","), r"manifest.csv: column 'spacing' is unknown; rename"),
    "a column twice": (lambda root: rename(root, "finger", "side"), r"manifest.csv: column side comes twice; remove"),
    "no rows": (lambda root: (root / "manifest.csv").write_text(HEADER), r"'test' has no joints; choose one of all,"),
    "empty cell": (lambda root: rename(root, "c_lower.png", ""), r"manifest.csv line 4: image, lower, upper are not"),
    "one mask for both": (lambda root: rename(root, "c_upper", "./c_lower"), r"line 4: one file stands for two of"),
    "the image as a mask": (lambda root: rename(root, "c_upper", "c"), r"line 4: one file stands for two of .*; name"),
    "absolute path": (lambda root: rename(root, "c_upper", "/c_upper"), r"line 4: /c_upper.png is an absolute path; "),
    "a drive's path": (lambda root: rename(root, "c_upper", "C:\\c"), r"line 4: C:\\c.png is an absolute path; give"),
    "toe": (
        lambda root: rename(root, "a_upper.png,j1,index", "a_upper.png,j1,toe"),
        r"line 2: finger 'toe' is unknown",
    ),
    "left": (lambda root: rename(root, "a_upper.png,j1,index,L", "a_upper.png,j1,index,l"), r"line 2: side 'l' is unk"),
    "unknown split": (lambda root: rename(root, "validation", "tset"), r"line 5: split 'tset' is unknown; use one of"),
    "spacing in words": (
        lambda root: rename(root, "0.1,train\nb", "fine,train\nb"),
        r"line 2: spacing_mm 'fine' is not",
    ),
    "spacing of zero": (
        lambda root: rename(root, "0.1,train\nb", "0,train\nb"),
        r"line 2: spacing_mm '0' is not a pos",
    ),
    "spacing of NaN": (lambda root: rename(root, "0.1,train\nb", "nan,train\nb"), r"line 2: spacing_mm 'nan' is not a"),
    "too many cells": (
        lambda root: rename(root, "validation", "test,,,,4"),
        r"line 5: it has more cells than the header",
    ),
    "a joint in two splits": (
        lambda root: rename(root, "c_upper.png", "c_upper.png,j1"),
        r"line 4: joint j1 is in train in line 2 and in test here; keep all",
    ),
    "a subject in two splits": (
        lambda root: subjects(root, "p1", "p1"),
        r"line 3: subject p1 is in train in line 2 and",
    ),
    "a joint of two people": (
        lambda root: subjects(root, "p1", "p2"),
        r"line 3: joint j1 is p1's in line 2 and p2's h",
    ),
    "a name twice": (lambda root: rename(root, "b.png", "a.jpg"), r"line 3: an image called a is in line 2 already; "),
}


@pytest.mark.parametrize("damage", WRONG_LISTS)
def test_wrong_manifests(own, damage):
    harm, told = WRONG_LISTS[damage]
    harm(own)
    with pytest.raises(InputError, match=told) as refusal:
        open_dataset(own)
    assert str(own) in str(refusal.value) and "\n" not in str(refusal.value)


def test_the_first_wrong_line_says_how_many_there_are(own):
    rename(own, "index", "toe")
    with pytest.raises(InputError, match=r"line 2: finger 'toe' .*; 1 more things are wrong, which 'lsn data check' l"):
        open_dataset(own)
