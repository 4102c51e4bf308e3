"""Cohorts: phantoms as judges of what is known of them, the maker of synthetic sets as judge of stored layers."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lsn_core.cohort import (
    FIRST,
    TEST,
    TRAIN,
    Cohort,
    Row,
    gather_cohort,
    of_dataset,
    of_phantoms,
    read_cohort,
    write_cohort,
)
from lsn_core.detector import COMPUTED_RADIOGRAPHY
from lsn_core.files import InputError
from lsn_core.intake import Refused
from lsn_core.joint import Joint
from lsn_core.movement import Movement
from lsn_core.phantom import drawn, visits
from lsn_core.production import Maker
from lsn_core.sampling import Plan

SIZE = 64
LEVEL = 1 / 255
MOVEMENTS = (Movement(), Movement(-0.6), Movement(0.8, share=1.0, slide_mm=(0.2, -0.1), degrees=(3, -4)))


@cache
def gathered(*, count: int = 12, times: int = 2) -> Cohort:
    """Phantoms of 64 px as a cohort, none of which is refused."""
    told: list[Refused] = []
    cohort = gather_cohort(of_phantoms(count, times=times, size=SIZE), weights="compact", size=SIZE, told=told.append)
    assert not told
    return cohort


@cache
def exposed() -> dict[str, Joint]:
    """The same phantoms, by their names."""
    return {joint.name: joint for joint, _ in of_phantoms(12, times=2, size=SIZE)}


def rows_of(*joints: str) -> tuple[Row, ...]:
    """A radiograph of each of these training joints."""
    return tuple(Row(f"{joint}_{k}", joint, "index", TRAIN) for k, joint in enumerate(joints))


# --- phantoms and data sets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "times"), [(8, 1), (9, 3), (13, 2)])
def test_the_last_quarter_of_phantoms_is_to_test_on(count, times):
    found = list(of_phantoms(count, times=times, size=32))
    splits = {joint.joint: split for joint, split in found}
    assert len(found) == count * times and len(splits) == count
    assert all(splits[joint.joint] == split for joint, split in found)  # no joint is in both
    assert list(splits.values()) == sorted(splits.values(), reverse=True)
    assert abs(list(splits.values()).count(TEST) - count / 4) <= 0.5


def test_phantoms_are_those_of_seeds_that_no_network_has_learnt_from_and_are_exposed_one_by_one():
    truth = [joint for phantom in drawn(12, seed=FIRST, size=SIZE) for joint in visits(phantom, 2)]
    found = list(exposed().values())
    assert [joint.name for joint in found] == [joint.name for joint in truth]
    assert [joint.jsw_mm for joint in found] == [joint.jsw_mm for joint in truth]
    noise = [
        joint.image - COMPUTED_RADIOGRAPHY.expose(true, seed=0).image for joint, true in zip(found, truth, strict=True)
    ]
    assert all(one.abs().max() > 0 for one in noise)  # each has a noise of its own
    assert int(found[0].name.split("_")[2]) == FIRST


def test_a_data_sets_splits_are_kept_and_masks_on_one_bone_left_out(phantom_folder, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(phantom_folder, folder)
    misdrawn = sorted(folder.glob("*_mask_upper.png"))[0]
    shutil.copy(folder / misdrawn.name.replace("upper", "lower"), misdrawn)
    before, after = ([(joint.name, split) for joint, split in of_dataset(path)] for path in (phantom_folder, folder))
    assert [split for _, split in before] == 8 * [TRAIN] + 2 * [TEST]
    assert len(after) == 9 and set(before) - set(after) == {(misdrawn.name.removesuffix("_mask_upper.png"), TRAIN)}


# --- gathering -------------------------------------------------------------------------------------------------------


def test_widths_masks_and_images_are_the_phantoms():
    cohort, known = gathered(), exposed()
    assert sorted(row.name for row in cohort.rows) == sorted(known) and cohort.size == SIZE
    for k, row in enumerate(cohort.rows):
        joint = known[row.name]
        assert (row.joint, row.finger) == (joint.joint, joint.finger)
        assert cohort.jsw_mm[k].item() == pytest.approx(joint.jsw_mm, abs=1e-6)
        assert cohort.spacing_mm[k].item() == pytest.approx(21 / SIZE)
        torch.testing.assert_close(cohort.image[k] / 255, joint.image, atol=0.501 * LEVEL, rtol=0)
        assert torch.equal(cohort.bones[k].float(), joint.masks[1:])


def test_splits_share_no_joint_and_only_what_is_to_learn_from_has_layers():
    cohort = gathered()
    train, test = cohort.of(TRAIN).tolist(), cohort.of(TEST).tolist()
    assert train + test == list(range(24)) and len(test) == 6
    assert not set(cohort.joints[train]) & set(cohort.joints[test])
    assert {len(part) for part in (cohort.light, cohort.outlines, cohort.hand, cohort.hinge)} == {len(train)}
    assert cohort.told() == "18 radiographs of 9 joints to train on, 6 radiographs of 3 joints to test on"


def pair(size: int) -> Iterator[tuple[Joint, str]]:
    """A joint to learn from and one to test on."""
    first, second = drawn(2, seed=40, size=size)
    yield first.render(), TRAIN
    yield second.render(), TEST


def test_widths_are_measured_at_full_size_and_stand_in_where_none_is_known():
    unknown = [(replace(joint, jsw_mm=None, layers=None), split) for joint, split in pair(128)]
    cohort = gather_cohort(unknown, weights="compact", size=SIZE, told=pytest.fail)
    full, small = (
        [Maker.of("compact", Plan(), size=size).prepared(joint).own_mm for joint, _ in unknown] for size in (None, SIZE)
    )
    np.testing.assert_allclose(cohort.measured_mm, full, atol=1e-6)
    assert torch.equal(cohort.jsw_mm, cohort.measured_mm) and not np.allclose(full, small, atol=1e-3)
    np.testing.assert_allclose(cohort.spacing_mm, 21 / SIZE, rtol=1e-6)


def test_what_is_measured_is_near_the_truth():
    cohort = gathered()
    assert (cohort.measured_mm - cohort.jsw_mm).abs().max() < 0.3


def test_what_cannot_be_used_is_told_and_left_out():
    good = list(pair(SIZE))
    nowhere, wide = (
        replace(good[0][0], name="nowhere", spacing_mm=None),
        replace(good[1][0], name="wide", spacing_mm=3.0),
    )
    told: list[Refused] = []
    cohort = gather_cohort([(nowhere, TRAIN), *good, (wide, TEST)], weights="compact", size=SIZE, told=told.append)
    assert [row.name for row in cohort.rows] == [joint.name for joint, _ in good]
    assert [no.name for no in told] == ["nowhere", "wide"]
    assert "has no pixel spacing" in told[0].why and "which no adult's are" in told[1].why


@pytest.mark.parametrize("left", [TRAIN, TEST])
def test_a_split_with_nothing_is_refused(left):
    some = [(joint, split) for joint, split in pair(SIZE) if split == left]
    empty = TEST if left == TRAIN else TRAIN
    with pytest.raises(InputError, match=f"no radiograph of the {empty} split can be used; see above why"):
        gather_cohort(some, weights="compact", size=SIZE, told=pytest.fail)


# --- shares ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_larger_shares_hold_smaller_ones_and_all_radiographs_of_a_joint(seed):
    cohort, before = gathered(), set()
    train = set(cohort.of(TRAIN).tolist())
    for share, joints in ((0.05, 1), (0.2, 2), (0.4, 4), (0.8, 7), (1.0, 9)):  # of 9
        index = cohort.annotated(share, seed=seed).tolist()
        names = cohort.joints[index]
        assert before <= set(index) <= train and len(set(names)) == joints
        assert all(list(names).count(name) == 2 for name in names) and index == sorted(index)
        before = set(index)
    assert before == train


def test_seeds_hold_different_joints():
    cohort = gathered()
    assert len({tuple(cohort.annotated(0.4, seed=seed).tolist()) for seed in range(6)}) > 3


def test_a_share_does_not_depend_on_the_order_of_the_radiographs():
    one = replace(gathered(), rows=rows_of(*"abcdefgh"))
    other = replace(gathered(), rows=rows_of(*"hgfedcba"))
    for seed in range(3):
        found = [{c.rows[k].joint for k in c.annotated(0.5, seed=seed).tolist()} for c in (one, other)]
        assert found[0] == found[1]


@pytest.mark.parametrize("share", [0, -0.1, 1.01])
def test_a_share_that_is_none(share):
    with pytest.raises(ValueError, match=f"share {share} of the joints: give more than 0, and 1 at most"):
        gathered().annotated(share, seed=0)


# --- stored layers ---------------------------------------------------------------------------------------------------


def test_stored_layers_are_the_makers_own_in_8_bits():
    cohort, maker = gathered(), Maker.of("compact", Plan(), size=SIZE)
    for k in (0, 7, 17):
        found, expected = cohort.source(k), maker.prepared(exposed()[cohort.rows[k].name]).source
        for name in ("light", "outlines"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=0.501 * LEVEL)
        np.testing.assert_array_equal(found.hand, expected.hand)
        assert found.margin == expected.margin and found.hinge.middle == pytest.approx(expected.hinge.middle, abs=1e-4)
        assert found.hinge.axis == pytest.approx(expected.hinge.axis, abs=1e-6)
        assert found.hinge.spacing_mm == pytest.approx(expected.hinge.spacing_mm)
        for movement in MOVEMENTS:
            np.testing.assert_allclose(found.picture(movement), expected.picture(movement), atol=2 * LEVEL)
            np.testing.assert_array_equal(found.masks(movement), expected.masks(movement))


def test_what_does_not_move_is_the_radiograph():
    """In the hand: around it layers hold no air, whose noise is left out."""
    cohort = gathered()
    for k in cohort.of(TRAIN).tolist():
        picture, hand = cohort.source(k).picture(Movement()), cohort.hand[k].numpy()
        np.testing.assert_allclose(picture[hand], cohort.image[k, 0].numpy()[hand] / 255, atol=2 * LEVEL)
        assert hand.mean() > 0.5 and picture[~hand].max(initial=0) == 0


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_file_holds_all_of_a_cohort_and_its_origin(tmp_path):
    origin = {"data": "phantoms", "weights": "compact", "size": 64, "more": [1, None]}
    path = write_cohort(tmp_path / "new" / "c.safetensors", gathered(), **origin)
    found, known = read_cohort(path)
    assert known == origin and found.rows == gathered().rows
    for field in fields(Cohort)[1:]:
        one, other = getattr(found, field.name), getattr(gathered(), field.name)
        assert torch.equal(one, other) and one.dtype == other.dtype
    assert [path.name for path in path.parent.iterdir()] == ["c.safetensors"]


def test_a_gathering_can_be_repeated():
    again = gather_cohort(of_phantoms(12, times=2, size=SIZE), weights="compact", size=SIZE, told=pytest.fail)
    assert all(torch.equal(getattr(again, f.name), getattr(gathered(), f.name)) for f in fields(Cohort)[1:])


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text").write_text("hello")
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    save_file({"a": torch.zeros(1)}, tmp_path / "old", {"format": "lsn-cohort-0", "rows": json.dumps([])})
    whole = write_cohort(tmp_path / "whole", gathered()).read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    for name, told in (
        ("text", r"not a cohort \(.*\); write one with 'lsn downstream prepare'"),
        ("cut", r"not a cohort \(.*\); write one with"),
        ("absent", r"not a cohort \(.*\); write one with"),
        ("other", "not a cohort of this version; write it again with 'lsn downstream prepare'"),
        ("old", "not a cohort of this version; write it again"),
    ):
        with pytest.raises(InputError, match=f"^{re.escape(str(tmp_path / name))}: {told}"):
            read_cohort(Path(tmp_path / name))
