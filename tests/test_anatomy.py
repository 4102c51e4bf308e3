"""Anatomy: what a seed decides, and how a joint's parts lie to each other."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from lsn_core.anatomy import (
    BUILDS,
    JSW_MM,
    JSW_SD_MM,
    NEIGHBOURS,
    SOFT,
    Anatomy,
    Dice,
    Tissue,
    contact,
    diseased,
    draw_anatomy,
    draw_base,
    draw_head,
    draw_ossicles,
    draw_pose,
    draw_tissue,
    turned,
)
from lsn_core.bone import Bone
from lsn_core.grain import Grain
from lsn_core.joint import FINGERS

FLAT = Grain(torch.zeros(4, 4), 10.0)
AIRLESS = Tissue(thickness=16.0, slope=(0.0, 0.0), web=0.0, skin=60.0, lean=0.0, slow=FLAT, fine=FLAT, ossicles=())


@pytest.fixture(scope="module")
def healthy() -> Anatomy:
    return draw_anatomy(11, "middle", 0.0)


def reshaped(joint: Anatomy, *, lower: dict | None = None, upper: dict | None = None) -> Anatomy:
    """The joint with other measures of its heads and bases."""
    bones = [(joint.lower, lower), (joint.upper, upper)]
    lower, upper = (replace(bone, shape=replace(bone.shape, **(changes or {}))) for bone, changes in bones)
    return replace(joint, lower=lower, upper=upper)


def test_there_is_a_build_and_a_neighbour_for_every_finger():
    assert tuple(BUILDS) == FINGERS == tuple(NEIGHBOURS)


def test_dice_fall_as_their_names_say():
    dice = Dice(1)
    flat = np.array([dice.uniform(2.0, 5.0) for _ in range(4000)])
    assert flat.min() >= 2 and flat.max() <= 5
    assert abs(flat.mean() - 3.5) < 0.06 and flat.std() == pytest.approx(3 / math.sqrt(12), rel=0.05)
    bell = np.array([dice.normal(7.0, 2.0) for _ in range(4000)])
    assert abs(bell.mean() - 7) < 0.15 and bell.std() == pytest.approx(2 * 0.98, rel=0.05)
    assert np.abs(bell - 7).max() == pytest.approx(5)  # cut at 2.5 SD, and it happens
    assert np.mean([dice.chance(0.2) for _ in range(4000)]) == pytest.approx(0.2, abs=0.03)
    assert {dice.sign() for _ in range(40)} == {-1.0, 1.0}
    assert not any(dice.chance(0.0) for _ in range(40)) and all(dice.chance(1.0) for _ in range(40))


def test_turning_is_counter_clockwise_as_seen_and_keeps_distances():
    """v points down: a point above the pivot goes to the left."""
    u, v = turned(np.array([0.0, 1.0]), np.array([-2.0, 3.0]), 90.0, 3.0)
    np.testing.assert_allclose(u, [-5, 0], atol=1e-12)
    np.testing.assert_allclose(v, [3, 2], atol=1e-12)


@given(degrees=st.floats(-180, 180), pivot=st.floats(-9, 9), x=st.floats(-9, 9), y=st.floats(-9, 9))
def test_turning_back_undoes_a_turn(degrees, pivot, x, y):
    there = turned(np.array([x]), np.array([y]), degrees, pivot)
    np.testing.assert_allclose(np.ravel(turned(*there, -degrees, pivot)), (x, y), atol=1e-12)
    assert np.hypot(there[0], there[1] - pivot) == pytest.approx(math.hypot(x, y - pivot), abs=1e-12)


def test_the_clearance_of_two_circles_is_known(healthy):
    """A round head turns about its own centre: bending changes nothing. The gap is an integral of two arcs."""
    round_head = {"half": 7.0, "height": 7.0, "lean": 0.0, "bumps": (), "ridges": ()}
    joint = reshaped(healthy, lower=round_head, upper={"half": 7.5, "cup": 9.0})
    assert contact(joint.lower.shape, joint.upper.shape) == 14
    reach = 14 / 4  # the central half
    gap = quad(lambda u: (7 - math.sqrt(49 - u * u)) - (9 - math.sqrt(81 - u * u)), -reach, reach)[0] / (2 * reach)
    for deviation in (-15.0, 0.0, 4.0, 15.0):
        assert joint.clearance(deviation) == pytest.approx(gap, abs=1e-3)


def test_the_clearance_of_an_upright_joint_is_the_mean_gap_of_its_surfaces(healthy):
    head, base = healthy.lower.shape, healthy.upper.shape
    assert contact(head, base) == 2 * min(head.half, base.half)
    u = torch.linspace(-1, 1, 20001, dtype=torch.float64) * contact(head, base) / 4
    # in v, down: the head falls away from its top, and the cup's bottom line comes towards it beside the axis
    gap = head.surface(u) - (base.cup - (base.cup**2 - u**2).sqrt())
    assert healthy.clearance(0.0) == pytest.approx(float(gap.mean()), abs=1e-3)
    assert healthy.clearance(8.0) != pytest.approx(healthy.clearance(0.0), abs=1e-4)  # its head is not round


@given(degrees=st.floats(-10, 12))
def test_flexion_raises_the_dorsal_rim_and_sinks_the_volar_one(healthy, degrees):
    """By the same amount, which is that of a base so thick, turned; and nothing else of the bone changes."""
    joint = reshaped(healthy, upper={"half": 7.0, "flatness": 0.6, "rims": (2.0, 2.0)})
    bent = joint.flexed(degrees)
    drop = 0.6 * 7.0 * math.sin(math.radians(degrees))
    assert bent.shape.rims == pytest.approx((2 - drop, 2 + drop))
    assert replace(bent, shape=replace(bent.shape, rims=(2.0, 2.0))) == joint.upper


def test_a_rim_rises_no_further_than_the_bottom_of_the_cup(healthy):
    joint = reshaped(healthy, upper={"rims": (0.1, 0.2)})
    assert joint.flexed(40.0).shape.rims[0] == 0 == joint.flexed(-40.0).shape.rims[1]
    assert joint.flexed(0.0) == joint.upper


def measures(joint: Anatomy) -> tuple:
    return joint.lower.shape, joint.upper.shape, joint.jsw_mm


def test_the_seed_finger_and_severity_decide_a_joint():
    one = draw_anatomy(5, "ring", 0.0)
    torch.manual_seed(1)
    again = draw_anatomy(5, "ring", 0.0)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))  # the caller's random state is untouched
    assert measures(one) == measures(again) and torch.equal(one.lower.mesh.field, again.lower.mesh.field)
    assert torch.equal(one.tissue.slow.field, again.tissue.slow.field)
    others = [draw_anatomy(seed, finger, 0.0) for seed, finger in ((6, "ring"), (5, "small"), (5 + 2**29, "ring"))]
    for other in others:
        assert measures(other) != measures(one) and not torch.equal(other.lower.mesh.field, one.lower.mesh.field)
    assert not torch.equal(one.lower.mesh.field, one.upper.mesh.field)  # nor do a joint's bones share their grain
    ill = draw_anatomy(5, "ring", 0.8)
    assert measures(ill)[:2] == measures(one)[:2] and torch.equal(ill.upper.strands.field, one.upper.strands.field)


def test_healthy_joint_spaces_are_those_of_adults(monkeypatch):
    monkeypatch.setattr("lsn_core.anatomy.draw_grain", lambda *_, **__: FLAT)  # which takes all the time
    drawn = [draw_anatomy(seed, FINGERS[seed % 5], 0.0) for seed in range(80)]
    widths = [joint.jsw_mm for joint in drawn]
    assert abs(np.mean(widths) - JSW_MM) < 4 * JSW_SD_MM / math.sqrt(80)
    assert np.std(widths) == pytest.approx(JSW_SD_MM, rel=0.3)
    assert not any(joint.lower.erosions or joint.upper.erosions for joint in drawn)
    diseased_widths = [draw_anatomy(seed, FINGERS[seed % 5], 1.0).jsw_mm for seed in range(40)]
    assert np.mean(diseased_widths) < np.mean(widths) - 0.4


@pytest.mark.parametrize("finger", FINGERS)
def test_sizes_are_those_of_the_finger(finger):
    build, dice = BUILDS[finger], Dice(3)
    heads = [draw_head(dice, build, 1.1) for _ in range(100)]
    bases = [draw_base(dice, build, 1.1) for _ in range(100)]
    for typical, found in (
        (build.head, [2 * head.half for head in heads]),
        (build.height, [head.height for head in heads]),
        (build.base, [2 * base.half for base in bases]),
        (build.shaft, [2 * base.shaft for base in bases]),
    ):
        assert np.mean(found) == pytest.approx(1.1 * typical, rel=0.025)
        assert 0.02 < np.std(found) / np.mean(found) < 0.1
    assert all(
        min(base.rims) > 0 and base.cup > 0.75 * base.half for base in bases
    )  # the cup is wider than the contact
    assert all(0 < share < 1 for head in heads for share in head.back)
    sides = np.array([head.lean for head in heads])
    assert (sides > 0).any() and (sides < 0).any()


def lasting(bone: Bone) -> np.ndarray:
    """What periarticular bone loss takes from: plate, cortex at the joint and in the shaft, trabecular density."""
    cortex = bone.cortex
    return np.array([cortex.plate, cortex.joint, cortex.shaft, cortex.density])


def test_disease_narrows_thins_and_erodes(healthy):
    narrowed, left, bites = {}, {}, {}
    for severity in (0.2, 0.6, 1.0):
        ill = [diseased(healthy, Dice(k), severity) for k in range(300)]
        narrowed[severity] = np.array([healthy.jsw_mm - joint.jsw_mm for joint in ill])
        left[severity] = np.array([lasting(getattr(j, b)) / lasting(getattr(healthy, b)) for j in ill for b in BONES])
        bites[severity] = np.array([len(joint.lower.erosions + joint.upper.erosions) for joint in ill])
        for joint in ill:
            assert joint.tissue is healthy.tissue and joint.lower.shape == healthy.lower.shape
            assert joint.upper.shape == healthy.upper.shape and joint.lower.cortex.hollow == healthy.lower.cortex.hollow
    for mild, worse in ((0.2, 0.6), (0.6, 1.0)):
        assert narrowed[mild].min() >= 0 and narrowed[mild].mean() < narrowed[worse].mean() - 0.1
        assert (left[worse].mean(axis=0) < left[mild].mean(axis=0)).all() and left[mild].max() <= 1
        assert bites[mild].mean() < bites[worse].mean()
    assert (left[1.0].min(axis=0) > [0.79, 0.79, 0.79, 0.66]).all()  # a fifth of the cortex, a third of the trabeculae
    assert (narrowed[1.0] > healthy.jsw_mm / 2).mean() > 0.2 and bites[1.0].max() >= 3


BONES = ("lower", "upper")


def test_erosions_are_at_the_margins_of_both_bones_on_both_sides(healthy):
    found = {bone: [] for bone in BONES}
    for k in range(100):
        joint = diseased(healthy, Dice(k), 1.0)
        for bone in BONES:
            found[bone] += [(bite, getattr(joint, bone).shape.half) for bite in getattr(joint, bone).erosions]
    for bitten in found.values():
        assert {math.copysign(1, bite.u) for bite, _ in bitten} == {-1.0, 1.0}
        for bite, half in bitten:
            assert 0.8 * half < abs(bite.u) < 1.1 * half and 0 < bite.depth < 8 and 0 < bite.radius < 3


def test_soft_tissue_alone_is_its_thickness():
    u, v = torch.meshgrid(torch.linspace(-10, 10, 41), torch.linspace(-10, 10, 41), indexing="xy")
    torch.testing.assert_close(AIRLESS.absorbance(u, v), torch.full_like(u, SOFT * 16))
    sloping = replace(AIRLESS, slope=(0.01, 0.02)).absorbance(u, v)
    torch.testing.assert_close(sloping, SOFT * 16 * (1 + 0.01 * u + 0.02 * v))
    webbed = replace(AIRLESS, web=0.5).absorbance(u, v) / (SOFT * 16)
    assert (webbed[u.abs() <= 4] == 1).all() and (webbed[v >= 7] == 1).all()  # the finger, and the hand below the web
    assert webbed.min() < 0.75 and (webbed[-1].diff() == 0).all() and (webbed[:, 0].diff() >= 0).all()
    thin = replace(AIRLESS, slow=Grain(torch.full((4, 4), -1e3), 10.0)).absorbance(u, v)
    assert (thin > 0).all()  # there is tissue wherever there is no air


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_beyond_the_skin_line_there_is_air(side):
    u, v = torch.meshgrid(torch.linspace(-10, 10, 201), torch.linspace(-10, 10, 41), indexing="xy")
    hand = replace(AIRLESS, skin=side * 4.0, lean=side * 0.1).absorbance(u, v)
    outside = side * u > 4.0 + 0.1 * v
    assert torch.equal(hand == 0, outside | (side * u == 4.0 + 0.1 * v))
    inward = hand if side < 0 else hand.flip(1)  # from the left, into the hand
    assert (inward.diff(dim=1) >= -1e-6).all() and (inward[:, -1] == SOFT * 16).all()


def test_what_lies_in_the_tissue_adds_to_it_but_not_in_the_air():
    u, v = torch.meshgrid(torch.linspace(-10, 10, 101), torch.linspace(-10, 10, 101), indexing="xy")
    found = next(
        filter(None, (draw_ossicles(Dice(k), "thumb", draw_head(Dice(k), BUILDS["thumb"], 1.0), 1.0) for k in range(9)))
    )
    added = replace(AIRLESS, ossicles=found).absorbance(u, v) - AIRLESS.absorbance(u, v)
    torch.testing.assert_close(added, sum(one.absorbance(u, v, FLAT) for one in found), atol=1e-6, rtol=0)
    assert added.max() > 0.05
    cut = replace(AIRLESS, ossicles=found, skin=1.0).absorbance(u, v)
    assert (cut[u > 1] == 0).all()


def test_air_is_in_frames_of_the_fingers_at_the_side_of_the_hand():
    sides = set()
    for finger in FINGERS:
        for k in range(4):
            head = draw_head(Dice(k), BUILDS[finger], 1.0)
            tissue = draw_tissue(Dice(k), finger, head)
            if finger in ("thumb", "small"):
                assert head.half < abs(tissue.skin) < 12  # outside the bone, inside the frame
                sides.add(math.copysign(1, tissue.skin))
            else:
                assert abs(tissue.skin) - 15 * abs(tissue.lean) > 21 + 6.5  # nothing of the skin line's fall shows
            assert 10 < tissue.thickness < 22 and 0 <= tissue.web < 1
    assert sides == {-1.0, 1.0}


def test_thumbs_have_sesamoids_and_some_frames_a_neighbour():
    for finger in FINGERS:
        head = draw_head(Dice(0), BUILDS[finger], 1.0)
        drawn = [draw_ossicles(Dice(k), finger, head, 1.0) for k in range(300)]
        far = [[one for one in some if abs(one.centre[0]) > 12] for some in drawn]  # at the frame's edge
        near = [[one for one in some if abs(one.centre[0]) <= 12] for some in drawn]
        share = NEIGHBOURS[finger]
        tolerance = 4 * math.sqrt(share * (1 - share) / 300)
        assert abs(np.mean([len(some) for some in far]) - share) <= tolerance
        assert all(len(some) <= 1 for some in far)
        assert np.mean([len(some) for some in near]) > 1 if finger == "thumb" else not any(near)
        assert all(one.centre[0] < 0 for some in far for one in some) or finger != "small"  # not in the air
        assert all(min(one.half) > one.shell for some in drawn for one in some)


def test_poses_differ_between_seeds_and_visits_and_are_plausible():
    poses = [draw_pose(seed, visit, 1.75) for seed in range(60) for visit in range(5)]
    assert len(set(poses)) == 300 and poses[0] == draw_pose(0, 0, 1.75)
    assert draw_pose(0, 0, 1.75) != draw_pose(2**22, 0, 1.75)
    for pose in poses:
        assert 1.02 <= pose.magnification <= 1.05 and 0.7 < pose.gain < 1.4
        assert max(map(abs, pose.centre)) < 3 and abs(pose.tilt) <= 15 and abs(pose.deviation) <= 20
    for name in ("tilt", "deviation"):
        angles = np.array([getattr(pose, name) for pose in poses])
        assert abs(angles.mean()) < 4 * angles.std() / math.sqrt(300) and angles.std() > 1
        table = angles.reshape(60, 5)  # visits of a joint are no more alike than visits of two joints
        assert np.corrcoef(table[:, 0], table[:, 1])[0, 1] == pytest.approx(0, abs=0.5)


@given(narrow=st.floats(-2, 4), wide=st.floats(-2, 4))
def test_a_crop_is_centred_on_the_head_half_a_joint_space_below(narrow, wide):
    one, other = draw_pose(3, 1, narrow), draw_pose(3, 1, wide)
    assert other.centre[1] - one.centre[1] == pytest.approx((narrow - wide) / 2, abs=1e-12)
    assert replace(one, centre=other.centre) == other
