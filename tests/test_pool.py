"""What networks are shown: `shift` and the stored layers as judges of pools, itertools of pairs."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from test_cohort import LEVEL, SIZE, gathered

from lsn_core.cohort import TRAIN
from lsn_core.masks import at_256, grow
from lsn_core.movement import Hinge, Movement, shifts
from lsn_core.pool import (
    CUT_PX,
    Cutting,
    Examples,
    cut_and_shifted,
    motion_of,
    radiographs,
    synthetic,
    with_labels_of_others,
)
from lsn_core.radiograph import shift
from lsn_core.sampling import Plan

PLAN = Plan(copies=3, degrees=5.0, seed=1)
STILL = Plan("around", copies=2, spread_mm=0.0, slide_mm=0.0, degrees=0.0)
INDEX = torch.tensor([0, 5, 17])
BOTH = pytest.mark.parametrize("made", [synthetic, cut_and_shifted])
MOVEMENTS = st.builds(
    Movement,
    st.floats(-1, 1),
    share=st.floats(0, 1),
    slide_mm=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    degrees=st.tuples(st.floats(-45, 45), st.floats(-45, 45)),
)


def examples_of(groups: list[int]) -> Examples:
    """Examples without anything to see, of these groups."""
    count = len(groups)
    planes = torch.zeros(count, 1, 4, 4, dtype=torch.uint8), torch.zeros(count, 2, 4, 4).bool()
    return Examples(*planes, torch.arange(float(count)), torch.tensor(groups))


# --- examples --------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_pairs_are_all_permutations_within_a_group(groups):
    found = examples_of(groups).pairs()
    expected = {(i, j) for i, j in permutations(range(len(groups)), 2) if groups[i] == groups[j]}
    assert found.shape == (len(expected), 2) and set(map(tuple, found.tolist())) == expected


def test_radiographs_of_one_joint_are_a_group():
    cohort = gathered()
    index = torch.tensor([9, 2, 8, 3, 20])
    found = radiographs(cohort, index)
    assert len(found) == 5 and found.motion is None
    joints = cohort.joints[index.numpy()]
    assert ((found.group[:, None] == found.group).numpy() == (joints[:, None] == joints)).all()
    for name in ("image", "bones", "jsw_mm"):
        assert torch.equal(getattr(found, name), getattr(cohort, name)[index])


def test_labels_of_others_are_the_same_labels_on_other_images():
    pool = synthetic(gathered(), INDEX, PLAN)
    found, again, other = (with_labels_of_others(pool, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(found.jsw_mm.sort().values, pool.jsw_mm.sort().values)
    assert (found.jsw_mm != pool.jsw_mm).float().mean() > 0.5
    assert torch.equal(found.jsw_mm, again.jsw_mm) and not torch.equal(found.jsw_mm, other.jsw_mm)
    assert all(getattr(found, name) is getattr(pool, name) for name in ("image", "bones", "group", "motion"))


def test_examples_go_to_a_device_with_all_they_have():
    for pool in (synthetic(gathered(), INDEX, PLAN), examples_of([0, 1])):
        found = pool.to("meta")
        assert {found.image.device.type, found.bones.device.type, found.jsw_mm.device.type} == {"meta"}
        assert (found.motion is None) == (pool.motion is None) and len(found) == len(pool)


# --- synthetic pools -------------------------------------------------------------------------------------------------


@BOTH
def test_each_radiograph_gives_its_copies_with_labels_that_follow_from_the_movements(made):
    cohort = gathered()
    pool = made(cohort, INDEX, PLAN)
    assert len(pool) == 9 and pool.group.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    row = 0
    for k in INDEX.tolist():
        source, own = cohort.source(k), cohort.jsw_mm[k].item()
        for movement in PLAN.movements(cohort.rows[k].name, own, reach_mm=source.reach_mm):
            assert pool.jsw_mm[row].item() == pytest.approx(own + movement.delta_mm, abs=1e-5)
            np.testing.assert_array_equal(pool.bones[row], source.masks(movement)[1:])
            torch.testing.assert_close(pool.motion[row], motion_of(movement, source.hinge))
            row += 1
    assert pool.jsw_mm.min() >= PLAN.low_mm - 1e-5 and pool.jsw_mm.max() <= PLAN.high_mm + 1e-5
    assert pool.jsw_mm.unique().numel() == 9


def test_synthetic_images_are_those_of_the_stored_layers():
    cohort = gathered()
    pool = synthetic(cohort, INDEX, PLAN)
    own, source = cohort.jsw_mm[5].item(), cohort.source(5)
    movements = PLAN.movements(cohort.rows[5].name, own, reach_mm=source.reach_mm)
    for row, movement in zip((3, 4, 5), movements, strict=True):
        np.testing.assert_allclose(pool.image[row, 0] / 255, source.picture(movement), atol=0.501 * LEVEL)


@BOTH
def test_what_does_not_move_is_the_radiograph(made):
    cohort = gathered()
    index = cohort.of(TRAIN)
    pool = made(cohort, index, STILL)
    own = index.repeat_interleave(2)
    assert torch.equal(pool.jsw_mm, cohort.jsw_mm[own]) and torch.equal(pool.bones, cohort.bones[own])
    shown = cohort.bones[own].any(dim=1) if made is cut_and_shifted else cohort.hand[own]  # around the hand is no air
    assert (pool.image.int() - cohort.image[own].int()).abs()[shown[:, None]].max() <= 2
    eye = torch.eye(2, 3).expand(len(pool), 2, 2, 3)
    torch.testing.assert_close(pool.motion, eye, atol=1e-4, rtol=0)


def test_both_ways_of_making_differ_in_their_images_alone():
    one, other = (made(gathered(), INDEX, PLAN) for made in (synthetic, cut_and_shifted))
    for name in ("bones", "jsw_mm", "group", "motion"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    away = (one.image.float() - other.image.float()).abs().mean(dim=(1, 2, 3))
    assert (away > 0.5).all()


# --- motions ---------------------------------------------------------------------------------------------------------


@given(MOVEMENTS, st.integers(24, 40), st.integers(24, 40))
def test_a_motion_takes_a_spot_where_shift_takes_it(movement, x, y):
    """By less than 0.05 px, which is what a warp rounds."""
    hinge = Hinge((30.0, 34.0), (0.28, -0.96), 0.25)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    spot = torch.from_numpy(np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8.0))[None, None]
    for matrix, by in zip(motion_of(movement, hinge), shifts(movement, hinge), strict=True):
        moved = shift(spot, by, centre=hinge.middle)[0, 0].numpy()
        row, column = ndimage.center_of_mass(moved)
        np.testing.assert_allclose(matrix.numpy() @ (x, y, 1), (column, row), atol=0.05)


def test_a_motion_by_hand():
    """Wider by 1 mm at 0.5 mm a pixel, a quarter of it by the upper bone: 0.5 px up, the lower one 1.5 px down."""
    found = motion_of(Movement(1.0, share=0.25), Hinge((10.0, 20.0), (0.0, -1.0), 0.5))
    torch.testing.assert_close(found, torch.tensor([[[1.0, 0, 0], [0, 1, 1.5]], [[1, 0, 0], [0, 1, -0.5]]]))
    turned = motion_of(Movement(degrees=(0.0, 90.0)), Hinge((10.0, 20.0), (0.0, -1.0), 0.5))[1]
    torch.testing.assert_close(turned @ torch.tensor([13.0, 20, 1]), torch.tensor([10.0, 17]))  # counter-clockwise


# --- cutting ---------------------------------------------------------------------------------------------------------


def test_a_cut_bone_is_carried_with_the_tissue_over_it():
    """Whole pixels up: the bone is the radiograph's, moved; where nothing comes or was, the radiograph stays."""
    cohort, hinge = gathered(), Hinge((32.0, 32.0), (0.0, -1.0), 1.0)
    image, steps = cohort.image[3, 0].numpy() / 255, 3
    found = Cutting.of(cohort, 3, hinge).picture(Movement(float(steps), share=1.0))
    lower, upper = (grow(cohort.bones[[3]][:, [k]].float(), at_256(CUT_PX, SIZE))[0, 0].numpy() > 0 for k in (0, 1))
    after = np.vstack((upper[steps:], np.repeat(upper[-1:], steps, axis=0)))
    moved = np.vstack((image[steps:], np.repeat(image[-1:], steps, axis=0)))
    assert after.sum() > 500
    np.testing.assert_allclose(found[after], moved[after], atol=1e-6)
    np.testing.assert_allclose(found[lower & ~after], image[lower & ~after], atol=1e-6)
    untouched = ~(lower | upper | after)
    np.testing.assert_allclose(found[untouched], image[untouched], atol=1e-6)
    bare = upper & ~after & ~lower
    assert bare.sum() > 10 and found[bare].mean() < image[bare].mean() - 0.05  # soft tissue is darker than bone


def test_the_upper_bone_lies_over_the_lower():
    cohort, hinge = gathered(), Hinge((32.0, 32.0), (0.0, -1.0), 1.0)
    cut = Cutting.of(cohort, 3, hinge)
    flat = replace(cut, image=np.where(cut.bones[1] > 0, 0.9, 0.2).astype(np.float32))
    found = flat.picture(Movement(-6.0, share=1.0))
    below = np.vstack((np.repeat(cut.bones[1][:1], 6, axis=0), cut.bones[1][:-6])) > 0
    assert (below & (cut.bones[0] > 0)).sum() > 10
    np.testing.assert_allclose(found[below], 0.9, atol=1e-6)
