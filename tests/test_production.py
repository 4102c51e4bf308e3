"""Production: what is written can be made again, a stopped one goes on byte by byte, and nobody's files are touched."""

import csv
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lsn_core.check import check
from lsn_core.data import MANIFEST, open_dataset
from lsn_core.files import InputError
from lsn_core.images import read_image, read_mask, write_image
from lsn_core.intake import Candidate, Refused
from lsn_core.joint import Joint
from lsn_core.jsw import svdh_like
from lsn_core.labels import LABELS, movement_of, read_labels, tally
from lsn_core.manifest import COLUMNS
from lsn_core.networks import load_generator, weights_path
from lsn_core.phantom import Phantom
from lsn_core.production import RECIPE, Maker, file_hash, packed, produce, workplace
from lsn_core.sampling import Plan
from lsn_core.synthesis import recompose, settled

HALF_A_LEVEL = 0.5 / 65535 + 1e-7
FINGERS = ("thumb", "index", "ring")
SHIPPED = file_hash(weights_path("compact"))
PLAN = Plan(copies=3, seed=2)


@pytest.fixture(scope="module", name="joints")
def _joints() -> dict[str, Joint]:
    """Three joints as they come from files, one of them in a subfolder."""
    names = ("a", "visits/b", "1.2.3")
    drawn = [Phantom(30 + k, finger, size=64).render() for k, finger in enumerate(FINGERS)]
    return {
        name: replace(joint, name="file", layers=None, jsw_mm=None) for name, joint in zip(names, drawn, strict=True)
    }


@pytest.fixture(scope="module", name="maker")
def _maker() -> Maker:
    return Maker.of("compact", PLAN, size=None)


def some(joints: dict[str, Joint], *, split: str = "train") -> list[Candidate]:
    return [Candidate(name, lambda joint=joint: joint, split) for name, joint in joints.items()]


def made(out: Path, candidates, maker: Maker) -> tuple[list[int], list[Refused]]:
    """How many images each gave, and what was refused."""
    refused: list[Refused] = []
    return list(produce(out, candidates, maker, told=refused.append)), refused


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", name="whole")
def _whole(tmp_path_factory, joints, maker) -> Path:
    """A production without interruption."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert made(out, some(joints), maker) == ([3, 3, 3], [])
    return out


# --- what is written -------------------------------------------------------------------------------------------------


def test_the_folder_is_a_data_set_without_faults(whole):
    dataset = open_dataset(whole, split="train")
    assert len(dataset) == 9 and not check(dataset)
    rows = read_labels(whole / LABELS)
    for joint, row in zip(dataset, rows, strict=True):
        assert joint.name == row["image"].removesuffix(".png")
        assert joint.spacing_mm == pytest.approx(21 / 64, abs=1e-6)
        assert (joint.finger, joint.side, joint.joint) == (row["finger"], row["side"], row["joint"])
    files = {row[part] for row in rows for part in ("image", "lower", "upper")}
    assert set(contents(whole)) == files | {LABELS, MANIFEST, RECIPE}


def test_manifest_and_labels_say_the_same(whole):
    with (whole / MANIFEST).open(newline="", encoding="utf-8") as file:
        manifest = list(csv.DictReader(file))
    columns = (*COLUMNS, "jsw_mm")
    assert manifest == [{column: row[column] for column in columns} for row in read_labels(whole / LABELS)]


def test_every_image_can_be_made_again_from_its_row(whole, joints, maker):
    """By the reference too, from the joint, the weights and the row."""
    for row in read_labels(whole / LABELS):
        assert row["weights"] == SHIPPED and row["seed"] == "2"
        ready = maker.prepared(replace(joints[row["source"]], name=row["source"]))
        written, movement = read_image(whole / row["image"]), movement_of(row)
        assert np.abs(ready.source.picture(movement) - written).max() <= HALF_A_LEVEL
        joint, separate = joints[row["source"]], maker.separate
        wide = separate.widen(joint.masks[None])
        layers = settled(separate(joint.image[None], joint.masks[None]), wide)
        again = recompose(layers, wide, movement, ready.source.hinge)[0, 0].numpy()
        assert np.abs(again - ready.source.image(movement)).max() < 1e-4
        assert np.abs(again - written).mean() < 0.01  # the reference is linear between pixels
        for part, mask in zip(("lower", "upper"), ready.source.masks(movement)[1:], strict=True):
            np.testing.assert_array_equal(read_mask(whole / row[part]), mask)


def test_labels_follow_from_the_plan(whole):
    rows = read_labels(whole / LABELS)
    for k, row in enumerate(rows):
        width = float(row["jsw_mm"])
        assert int(row["svdh_like"]) == svdh_like(width) and row["copy"] == str(k % 3)
        assert width == pytest.approx(float(row["source_jsw_mm"]) + float(row["delta_mm"]), abs=2e-6)
        third = PLAN.high_mm / 3
        assert k % 3 * third - 1e-6 <= width <= (k % 3 + 1) * third + 1e-6
    assert sum(map(int, (part.split(": ")[1] for part in tally(rows).split(", ")))) == 9


def test_a_source_gives_the_same_whatever_stands_before_it(whole, joints, maker, tmp_path):
    made(tmp_path / "out", some(dict(reversed(joints.items()))), maker)
    ours, theirs = contents(tmp_path / "out"), contents(whole)
    images = [name for name in theirs if name.endswith(".png")]
    assert len(images) == 27 and all(ours[name] == theirs[name] for name in images)


def test_images_of_another_size(joints, maker, tmp_path):
    made(tmp_path / "out", some({"a": joints["a"]}), replace(maker, size=48))
    (joint, *_), row = open_dataset(tmp_path / "out", split="all"), read_labels(tmp_path / "out" / LABELS)[0]
    assert joint.image.shape == (1, 48, 48) and float(row["spacing_mm"]) == pytest.approx(21 / 48, abs=1e-6)
    assert float(row["jsw_px"]) == pytest.approx(float(row["jsw_mm"]) * 48 / 21, abs=1e-4)


# --- stopped, and gone on --------------------------------------------------------------------------------------------


class StopError(Exception):
    """What stands for Ctrl-C."""


def stopping(candidates: list[Candidate], after: int) -> Iterator[Candidate]:
    """So many candidates, then a stop."""
    yield from candidates[:after]
    raise StopError


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_stopped_production_goes_on_to_the_same_bytes(whole, joints, maker, tmp_path, after):
    out = tmp_path / "out"
    with pytest.raises(StopError):
        made(out, stopping(some(joints), after), maker)
    assert not (out / MANIFEST).exists() and len(read_labels(out / LABELS)) == 3 * after
    assert made(out, some(joints), maker)[0] == [0] * after + [3] * (3 - after)
    assert contents(out) == contents(whole)


@pytest.mark.parametrize("cut", [1, 200, 5000])
def test_one_killed_while_it_wrote_its_labels_goes_on(whole, joints, maker, tmp_path, cut):
    """A last line that is half, one without its end, and labels of some copies only."""
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (out / MANIFEST).unlink()
    labels = (out / LABELS).read_bytes()
    (out / LABELS).write_bytes(labels[: max(len(labels) - cut, labels.index(b"\n") + 1)])
    (out / "1.2.3_001.png").unlink()
    made(out, some(joints), maker)
    assert contents(out) == contents(whole)


def test_one_stopped_within_a_source_goes_on(whole, joints, maker, tmp_path, monkeypatch):
    out, count = tmp_path / "out", iter(range(100))

    def failing(path: Path, image: np.ndarray) -> Path:
        if next(count) == 4:
            raise StopError
        return write_image(path, image)

    with monkeypatch.context() as patched:
        patched.setattr("lsn_core.production.write_image", failing)
        with pytest.raises(StopError):
            made(out, some(joints), maker)
    assert [row["source"] for row in read_labels(out / LABELS)] == ["a"] * 3
    made(out, some(joints), maker)
    assert contents(out) == contents(whole)


def test_a_finished_one_is_left_as_it_is(whole, joints, maker):
    before = contents(whole)
    assert made(whole, some(joints), maker) == ([0, 0, 0], [])
    assert contents(whole) == before


@pytest.mark.parametrize(
    "other", [{"plan": replace(PLAN, seed=3)}, {"plan": replace(PLAN, copies=4)}, {"weights": "0" * 64}, {"size": 48}]
)
def test_another_plan_or_other_weights_are_refused(whole, joints, maker, other):
    before = contents(whole)
    with pytest.raises(InputError, match="out: was begun with another plan or other weights; name another folder"):
        made(whole, some(joints), replace(maker, **other))
    assert contents(whole) == before


# --- what cannot be used ---------------------------------------------------------------------------------------------


def refusing(why: str):
    def read() -> Joint:
        raise InputError(why)

    return read


def test_bad_ones_among_good_ones(whole, joints, maker, tmp_path):
    """Each is told with its own sentence; the good ones are as if the bad ones were not there."""
    masks = joints["a"].masks.clone()
    masks[1] = 0
    bad = {
        "damaged": refusing("damaged.png: the image is damaged; copy it again"),
        "unmeasured": lambda: replace(joints["a"], spacing_mm=None),
        "chest": lambda: replace(joints["a"], spacing_mm=5.0),
        "boneless": lambda: replace(joints["a"], masks=masks),
    }
    candidates = [Candidate(name, read) for name, read in bad.items()] + some(joints)
    counts, refused = made(tmp_path / "out", candidates, maker)
    assert counts == [0, 0, 0, 0, 3, 3, 3] and [one.name for one in refused] == list(bad)
    told = refused[2].why
    assert re.fullmatch(r"chest: at 5 mm a pixel its bones are .* mm wide, which no adult's are; .*", told)
    assert [one.why for one in refused] == [
        "damaged.png: the image is damaged; copy it again",
        "unmeasured: has no pixel spacing, so no widths in mm; state it with --spacing-mm",
        told,
        "boneless: no joint space was found in its layers; redraw its masks",
    ]
    assert contents(tmp_path / "out") == contents(whole)


def test_where_nothing_can_be_used_nothing_is_written(maker, tmp_path, monkeypatch):
    refused: list[Refused] = []
    bad = [Candidate("x", refusing("x: is bad; mend it"))]
    with pytest.raises(InputError, match="out: none of the radiographs could be used, so nothing was written there"):
        list(produce(tmp_path / "out", bad, maker, told=refused.append))
    assert [one.why for one in refused] == ["x: is bad; mend it"] and not (tmp_path / "out").exists()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="none of the radiographs"):
        made(Path("."), bad, maker)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_somebody_else_is_not_touched(joints, maker, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(InputError, match="holds other files; name a new folder"):
            made(out, some(joints), maker)
    assert contents(tmp_path) == {"mine.txt": b"mine"}


def test_names_that_lead_elsewhere_stay_below_the_folder(joints, maker, tmp_path):
    made(tmp_path / "out", some({"../other/a": joints["a"]}), maker)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(open_dataset(tmp_path / "out", split="all")) == 3
    assert {row["source"] for row in read_labels(tmp_path / "out" / LABELS)} == {"../other/a"}
    assert made(tmp_path / "out", some({"../other/a": joints["a"]}), maker)[0] == [0]


def test_weights_that_are_none(tmp_path):
    with pytest.raises(InputError, match="nothing: no such weights"):
        Maker.of(str(tmp_path / "nothing"), PLAN, size=None)


# --- one file --------------------------------------------------------------------------------------------------------


def test_a_packed_production_is_the_folder_in_one_file(whole, tmp_path):
    out = tmp_path / "new.safetensors"
    folder = workplace(out)
    assert folder == tmp_path / "new.part" and workplace(tmp_path / "new") == tmp_path / "new"
    shutil.copytree(whole, folder)
    assert packed(folder, out) == out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.csv", "new.safetensors"]
    assert read_labels(tmp_path / "new.csv") == read_labels(whole / LABELS)
    for one, other in zip(open_dataset(out, split="train"), open_dataset(whole, split="train"), strict=True):
        assert one.name == other.name and one.spacing_mm == other.spacing_mm
        assert torch.equal(one.image, other.image) and torch.equal(one.masks, other.masks)


@pytest.mark.parametrize("name", ["new.safetensors", "new.csv"])
def test_a_file_that_is_there_is_kept(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"{name}: exists already; name another file"):
        workplace(tmp_path / "new.safetensors")
    assert (tmp_path / name).read_text() == "mine"


def test_a_packing_that_was_stopped_goes_on(whole, tmp_path):
    """The table is written first; as long as the folder is there both are its own."""
    shutil.copytree(whole, tmp_path / "new.part")
    shutil.copy(whole / LABELS, tmp_path / "new.csv")
    assert packed(workplace(tmp_path / "new.safetensors"), tmp_path / "new.safetensors").is_file()


def test_the_recipe_says_what_was_asked_for(whole):
    recipe = json.loads((whole / RECIPE).read_text())
    assert recipe["plan"]["copies"] == 3 and recipe["weights"] == SHIPPED and recipe["size"] is None
    assert load_generator("compact").recipe.size == 128  # whose layers came at the images' own size
