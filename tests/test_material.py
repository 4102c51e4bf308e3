"""What a training learns from: whole joints on one side, phantoms of fixed seeds, nothing that is drawn wrong."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lsn_core.config import Config
from lsn_core.data import Folder, JointDataset, Row, open_dataset
from lsn_core.files import InputError
from lsn_core.material import FIRST_WATCHED, WATCHED, decode, drawn_phantoms, gather, held_out
from lsn_core.stage import Stage

PHANTOMS, REAL = Stage("phantoms", epochs=1, phantoms=1.0), Stage("real", epochs=1)
CONFIG = Config(networks="compact", head="partition", size=32, stages=(REAL,), precision="32-true")


def dataset(joints: int, visits: int = 3) -> JointDataset:
    """Rows of joints with several visits each; no files."""
    names = [(f"j{joint}", visit) for visit in range(visits) for joint in range(joints)]
    return JointDataset(
        [Row(f"{j}/{v}", "", "", "", j, None, None, None, ("train",)) for j, v in names], Folder(Path())
    )


@pytest.mark.parametrize(
    ("joints", "share", "watched"), [(20, 0.1, 2), (20, 0.5, 10), (3, 0.1, 1), (2, 0.9, 1), (4, 7.0, 3)]
)
def test_whole_joints_are_held_out(joints, share, watched):
    everything = dataset(joints)
    sides = [{row.joint for row in part.rows} for part in held_out(everything, share)]
    assert len(sides[1]) == watched and not sides[0] & sides[1]
    assert sides[0] | sides[1] == {row.joint for row in everything.rows}
    assert sum(len(part) for part in held_out(everything, share)) == len(everything)
    assert [part.rows for part in held_out(everything, share)] == [
        part.rows for part in held_out(dataset(joints), share)
    ]


@pytest.mark.parametrize(("joints", "share"), [(1, 0.1), (5, 0.0)])
def test_without_a_share_the_same_images_serve_both(joints, share):
    learn, watch = held_out(dataset(joints), share)
    assert learn.rows == watch.rows == dataset(joints).rows


def test_decoding_in_parts_changes_nothing(phantom_folder):
    some = open_dataset(phantom_folder, split="all")
    rows = JointDataset(some.rows * 7, some.store)  # more than one part
    (batch, names, left_out), (part, _, _) = decode(rows, CONFIG, title="x"), decode(some, CONFIG, title="x")
    assert len(batch) == 70 and names == tuple(row.name for row in rows.rows) and left_out == ()
    for name in ("image", "drawn", "wide"):
        assert torch.equal(getattr(batch, name), getattr(part, name).repeat(7, 1, 1, 1))
    assert torch.allclose(batch.fill, part.fill.repeat(7, 1, 1, 1), atol=1e-6)


@pytest.fixture(name="slipped")
def _slipped(phantom_folder, tmp_path) -> tuple[Path, str]:
    """A copy of the phantoms, of which one to be learnt from has its lower mask twice; and its name."""
    folder = shutil.copytree(phantom_folder, tmp_path / "slipped")
    row = gather_rows(folder)[0]
    shutil.copy(folder / row.lower, folder / row.upper)
    return folder, row.name


def gather_rows(folder: Path) -> list[Row]:
    """Of the radiographs that are learnt from."""
    return held_out(open_dataset(folder, split="train"), CONFIG.validation)[0].rows


def test_masks_on_one_bone_are_left_out(slipped):
    folder, name = slipped
    material = gather(str(folder), CONFIG)
    assert material.left_out == (name,)
    assert material.names == tuple(row.name for row in gather_rows(folder) if row.name != name)
    assert len(material.learn.radiographs) == len(material.names)


def test_the_fingerprint_is_the_datas(phantom_folder, slipped):
    marks = [gather(str(folder), CONFIG).fingerprint for folder in (phantom_folder, phantom_folder, slipped[0])]
    assert marks[0] == marks[1] != marks[2]
    assert gather(None, replace(CONFIG, phantoms=2, stages=(PHANTOMS,))).fingerprint is None


def test_phantoms_learnt_from_are_not_those_watched():
    material = gather(None, replace(CONFIG, phantoms=3, stages=(PHANTOMS,)))
    learnt, watched = material.learn.phantoms, material.watch.phantoms
    assert (len(learnt), len(watched)) == (3, WATCHED) and learnt.layers is not None
    assert not (learnt.image[:, None] == watched.image[None]).flatten(2).all(dim=2).any()
    again = drawn_phantoms(CONFIG, 2, FIRST_WATCHED, quiet=True)
    assert torch.equal(again.image, watched.image[:2])  # the same in every run
    assert gather_radiographs(material) == (None, None)


def gather_radiographs(material) -> tuple:
    """Those learnt from and those watched."""
    return material.learn.radiographs, material.watch.radiographs


def test_previews_show_phantoms_unless_told_otherwise(phantom_folder):
    material = gather(str(phantom_folder), CONFIG)
    shown = material.preview(CONFIG)
    assert torch.equal(shown.image, drawn_phantoms(CONFIG, 4, FIRST_WATCHED, quiet=True).image)
    own = material.preview(replace(CONFIG, preview="held-out"))
    assert torch.equal(own.image, material.watch.radiographs.image[:4])


def test_too_little_is_refused(phantom_folder):
    with pytest.raises(InputError, match=r"^stage 'real' shows radiographs; name a data set with --data$"):
        gather(None, CONFIG)
    with pytest.raises(InputError, match=r"^preview is 'held-out', which are radiographs; name a data set"):
        gather(None, replace(CONFIG, phantoms=2, stages=(PHANTOMS,), preview="held-out"))
    count = len(gather_rows(phantom_folder))
    gather(str(phantom_folder), CONFIG, world=count)
    with pytest.raises(InputError, match=rf"^stage 'real': {count} to learn from; give one or more to each of"):
        gather(str(phantom_folder), CONFIG, world=count + 1)


def test_a_data_set_of_slips_alone_is_refused(phantom_folder, tmp_path):
    folder = shutil.copytree(phantom_folder, tmp_path / "slips")
    for row in open_dataset(folder, split="all").rows:
        shutil.copy(folder / row.lower, folder / row.upper)
    with pytest.raises(InputError, match=r"^stage 'real': no radiograph is left to learn from; redraw the masks"):
        gather(str(folder), CONFIG)
