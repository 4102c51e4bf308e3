"""Phantoms: the truth that they claim, measured from what they draw."""

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from lsn_core.anatomy import contact
from lsn_core.bone import Erosion
from lsn_core.joint import FINGERS, Joint
from lsn_core.masks import bones, overlap
from lsn_core.phantom import FIELD_MM, Phantom, phantoms, visits
from lsn_core.radiograph import absorbance, compose

SEEDS = st.integers(0, 2**63)
SEVERITIES = st.just(0.0) | st.floats(0, 1)
WIDTHS = st.floats(-2.0, 4.0)
AS_FOUND = (Phase.explicit, Phase.generate)  # a smaller seed is no simpler a joint, and to look for it takes minutes


def changed(phantom: Phantom, *, upper: dict | None = None, shape: dict | None = None, **pose: float) -> Phantom:
    """The phantom with another upper bone, or in another pose."""
    other, bone = replace(phantom), phantom.anatomy.upper
    bone = replace(bone, shape=replace(bone.shape, **(shape or {})), **(upper or {}))
    other.__dict__.update(anatomy=replace(phantom.anatomy, upper=bone), pose=replace(phantom.pose, **pose))
    return other


def finger_coordinates(phantom: Phantom) -> tuple[np.ndarray, np.ndarray]:
    """(u, v) of every pixel in mm of the image: across the phalanx and towards the wrist, from its commanded pose."""
    place = (np.arange(phantom.size) - (phantom.size - 1) / 2) * FIELD_MM / phantom.size
    z = (place[None, :] - phantom.pose.centre[0]) + 1j * (place[:, None] - phantom.pose.centre[1])
    turned = z * np.exp(1j * math.radians(phantom.pose.tilt))  # rows point down: turning the finger back is clockwise
    return turned.real, turned.imag


def mean_gap(phantom: Phantom, lower: np.ndarray, upper: np.ndarray) -> float:
    """Mean gap in mm between two bones over the central half of their contact, by counting their pixels.

    In a strip along the finger each pixel of neither bone lengthens the gap, and each of both shortens it.
    """
    u, v = finger_coordinates(phantom)
    half = contact(phantom.anatomy.lower.shape, phantom.anatomy.upper.shape) * phantom.pose.magnification / 2
    reach = 6.0  # mm on both sides of the joint: bone everywhere but in the gap
    strip = (np.abs(u) <= half / 2) & (np.abs(v) <= reach)
    balance = (~lower & ~upper)[strip].sum() - (lower & upper)[strip].sum(dtype=int)
    return 2 * reach * balance / strip.sum()


def above_the_cup(phantom: Phantom, jsw_mm: float | None) -> np.ndarray:
    """Where the upper bone is drawn above the bottom line of its cup, seen through its rims.

    Two long rims absorb more than one below that line, and nowhere else.
    """
    drawn = [changed(phantom, shape={"rims": (dorsal, 3.0)}).render(jsw_mm).layers[2] for dorsal in (0.0, 3.0)]
    return ((drawn[0] > 0) & ~(drawn[1] > drawn[0])).numpy()


@example(seed=143645769203, finger="small", severity=0.0, visit=12, jsw=0.06)  # bumps face the cup of a bent finger
@settings(max_examples=12, phases=AS_FOUND)
@given(
    seed=SEEDS, finger=st.sampled_from(FINGERS), severity=SEVERITIES, visit=st.integers(0, 50), jsw=WIDTHS | st.none()
)
def test_a_joint_is_as_wide_as_commanded_seen_through_its_rims(seed, finger, severity, visit, jsw):
    """At any tilt and deviation; an upright finger is tilted, else whole rows of pixels fall to one side."""
    phantom = Phantom(seed, finger, 320, severity, visit)
    tilt = math.copysign(max(abs(phantom.pose.tilt), 3.0), phantom.pose.tilt)
    plain = changed(phantom, upper={"cortex": replace(phantom.anatomy.upper.cortex, plate=0.0)}, flexion=0.0, tilt=tilt)
    joint = plain.render(jsw)
    assert joint.jsw_mm == (phantom.anatomy.jsw_mm if jsw is None else jsw)
    lower = joint.masks[1].numpy() > 0
    assert abs(mean_gap(plain, lower, above_the_cup(plain, jsw)) - joint.jsw_mm) < 0.02


def test_the_gap_of_the_masks_is_the_width_where_there_are_no_rims():
    for seed in range(4):
        phantom = Phantom(seed, FINGERS[seed], 320)
        bare = changed(phantom, shape={"rims": (0.0, 0.0), "corner": 0.0}, flexion=0.0, tilt=5.0, deviation=4.0 * seed)
        for width in (-1.0, 1.3):
            lower, upper = (mask.numpy() > 0 for mask in bare.render(width).masks[1:])
            assert abs(mean_gap(bare, lower, upper) - width) < 0.02
        lower, upper = (mask.numpy() > 0 for mask in phantom.render(1.3).masks[1:])
        assert mean_gap(phantom, lower, upper) < 1.2  # and with them it is not


def test_the_curvature_of_the_joint_surfaces_and_the_deviation_do_not_bias_the_width():
    """Pixel counts of one joint are uncertain by some 0.005 mm, so their mean by less."""
    missed = []
    for seed in range(6):
        phantom = changed(Phantom(seed, "thumb", 256), shape={"bumps": ()}, flexion=0.0, tilt=4.0, deviation=15.0)
        plain = changed(phantom, upper={"cortex": replace(phantom.anatomy.upper.cortex, plate=0.0)})
        lower = plain.render(1.5).masks[1].numpy() > 0
        missed.append(mean_gap(plain, lower, above_the_cup(plain, 1.5)) - 1.5)
    assert abs(np.mean(missed)) < 0.006


@settings(max_examples=25, phases=AS_FOUND)
@given(
    seed=SEEDS,
    finger=st.sampled_from(FINGERS),
    size=st.integers(16, 96),
    severity=SEVERITIES,
    visit=st.integers(0, 2**31),
    jsw=WIDTHS | st.none(),
)
def test_the_layers_are_exact_and_the_masks_are_their_support(seed, finger, size, severity, visit, jsw):
    joint = Phantom(seed, finger, size, severity, visit).render(jsw)
    layers, masks = joint.layers.double(), joint.masks
    assert joint.image.shape == (1, size, size) and layers.shape == masks.shape == (3, size, size)
    assert layers.isfinite().all() and layers.min() >= 0 and layers.max() < 1
    assert torch.equal(masks[1:], (layers[1:] > 0).float())
    assert torch.equal(masks[0], (layers > 0).any(dim=0).float())
    added = -torch.expm1(torch.log1p(-layers).sum(dim=0, keepdim=True))  # absorbances add
    torch.testing.assert_close(joint.image.double(), added, atol=1e-6, rtol=0)
    torch.testing.assert_close(compose(joint.layers[None])[0], joint.image, atol=1e-6, rtol=0)
    assert masks[1].any() and masks[2].any() and masks[0].any()
    assert joint.spacing_mm == pytest.approx(21 / size) and joint.finger == finger and joint.side in ("L", "R")


def test_the_seed_the_finger_and_the_visit_decide_everything():
    one, again = (Phantom(5, "ring", 64).render() for _ in range(2))
    assert torch.equal(one.image, again.image) and torch.equal(one.layers, again.layers)
    assert one.name == again.name and one.jsw_mm == again.jsw_mm
    others = [Phantom(6, "ring", 64), Phantom(5, "small", 64), Phantom(5 + 2**32, "ring", 64)]
    for other in (each.render() for each in others):
        assert (other.image - one.image).abs().mean() > 0.005
        assert other.joint != one.joint and other.name != one.name and other.subject != one.subject
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    Phantom(5, "ring", 32, 0.5).render()
    assert torch.equal(torch.rand(1), first[0]) and np.random.rand() == first[1]  # noqa: NPY002


def upright(seed: int, finger: str, size: int) -> Phantom:
    """Without tilt, so that bones move along columns."""
    return changed(Phantom(seed, finger, size), tilt=0.0)


@pytest.mark.parametrize(("seed", "finger"), [(4, "middle"), (9, "small")])
def test_another_width_moves_only_the_bones_and_each_by_half_along_the_phalanx(seed, finger):
    phantom = upright(seed, finger, 128)
    assert abs(phantom.pose.deviation) > 1  # the metacarpal does not lie along the columns
    narrow, wide = phantom.render(1.0), phantom.render(1.0 + 6 * phantom.spacing_mm)
    assert torch.equal(narrow.layers[0], wide.layers[0])
    torch.testing.assert_close(wide.layers[1, 3:], narrow.layers[1, :-3], atol=5e-5, rtol=0)  # 3 px down
    torch.testing.assert_close(wide.layers[2, :-3], narrow.layers[2, 3:], atol=5e-5, rtol=0)  # 3 px up
    assert (wide.layers - narrow.layers)[1:].abs().max() > 0.1


def test_a_tilted_finger_is_the_upright_one_turned():
    """By a right angle counter-clockwise about the frame's centre: its tip points left."""
    still = changed(Phantom(2, "index", 96), centre=(0.0, 0.0), tilt=0.0)
    turned = changed(still, tilt=90.0)
    for name in ("layers", "masks"):
        upright_one, other = (getattr(each.render(1.0), name) for each in (still, turned))
        torch.testing.assert_close(other, upright_one.rot90(1, (1, 2)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("deviation", [-9.0, 12.0])
def test_deviation_turns_the_metacarpal_about_its_heads_centre(deviation):
    """Tilted back by as much it stands upright again, where it was when its centre is put there."""
    width, straight = 1.5, changed(Phantom(2, "index", 96), tilt=0.0, deviation=0.0)
    body, scale = straight.anatomy, straight.pose.magnification

    def centre_of_head(bend: float) -> float:
        """Its v in the phalanx's frame, in mm of the image."""
        return (width - body.clearance(bend) * scale) / 2 + body.lower.shape.height * scale

    turned = -1j * centre_of_head(deviation) * np.exp(-1j * math.radians(deviation))  # as x - iy, v is -i
    x, y = straight.pose.centre
    centre = (x - turned.real, y + centre_of_head(0.0) + turned.imag)
    bent = changed(straight, tilt=-deviation, deviation=deviation, centre=centre).render(width)
    torch.testing.assert_close(bent.layers[1], straight.render(width).layers[1], atol=1e-4, rtol=0)
    assert (bent.layers[2] - straight.render(width).layers[2]).abs().mean() > 0.02  # the phalanx is turned


def test_exposure_multiplies_absorbances_and_magnification_lengths():
    phantom = Phantom(8, "index", 128)
    dark, bright = (changed(phantom, gain=gain).render(1.5) for gain in (0.8, 1.2))
    torch.testing.assert_close(absorbance(bright.layers), 1.5 * absorbance(dark.layers), atol=1e-5, rtol=1e-4)
    assert torch.equal(dark.masks, bright.masks)
    still = {"tilt": 0.0, "centre": (0.0, 0.0), "deviation": 0.0}
    once, twice = (changed(phantom, magnification=scale, **still).render(width) for scale, width in ((1, 1.5), (2, 3)))
    enlarged = torch.nn.functional.interpolate(once.layers[None, :, 32:96, 32:96], scale_factor=2.0, mode="bilinear")[0]
    assert (enlarged - twice.layers).square().mean().sqrt() < 0.03 < (once.layers - twice.layers).square().mean().sqrt()


def test_the_same_joint_is_drawn_at_every_size():
    small, large = Phantom(7, "thumb", 40).render(1.5), Phantom(7, "thumb", 120).render(1.5)
    assert small.spacing_mm == pytest.approx(3 * large.spacing_mm) == pytest.approx(21 / 40)
    for name in ("image", "layers", "masks"):  # every third pixel has the same centre
        torch.testing.assert_close(getattr(small, name), getattr(large, name)[:, 1::3, 1::3], atol=5e-5, rtol=0)


def test_a_finer_drawing_averages_to_the_coarser_one():
    for finger in ("index", "small"):
        phantom = Phantom(7, finger, 128)
        small, large = phantom.render(), replace(phantom, size=256).render()
        averaged = torch.nn.functional.avg_pool2d(large.image, 2)
        assert (averaged - small.image).square().mean().sqrt() < 0.02
        assert abs(float((averaged - small.image).mean())) < 5e-4
        area = [joint.masks.mean(dim=(1, 2)) for joint in (small, large)]
        torch.testing.assert_close(area[0], area[1], atol=3e-3, rtol=0)


@pytest.fixture(scope="module")
def gallery() -> list[Joint]:
    """Forty healthy joints, eight of each finger."""
    return list(phantoms(40, seed=100, size=64, diseased=0.0))


def test_joints_look_like_radiographs(gallery):
    """Display levels of the public data (`method.md`, A1), a detector's fog aside: bone 0.54 +- 0.07, tissue 0.30."""
    levels = defaultdict(list)
    for joint in gallery:
        bone, both = bones(joint.masks[None])[0] > 0, overlap(joint.masks[None])[0] > 0
        levels["bone"].append(float(joint.image[bone & ~both].mean()))
        levels["soft"].append(float(joint.image[~bone & (joint.masks[:1] > 0)].mean()))
        assert joint.masks[1, -1].any() and joint.masks[2, 0].any()  # bones leave the frame below and above
        assert not joint.masks[1, :16].any() and not joint.masks[2, -16:].any()
    assert abs(np.mean(levels["bone"]) - 0.54) < 0.07 and 0.03 < np.std(levels["bone"]) < 0.1
    assert abs(np.mean(levels["soft"]) - 0.29) < 0.06 and 0.01 < np.std(levels["soft"]) < 0.08
    assert min(np.subtract(levels["bone"], levels["soft"])) > 0.1
    overlapped = [Phantom(seed, finger, 64).render(-2.0) for seed, finger in enumerate(FINGERS * 2)]
    dense = [float(joint.image[overlap(joint.masks[None])[0] > 0].mean()) for joint in overlapped]
    assert abs(np.mean(dense) - 0.69) < 0.09


def test_air_is_black_and_in_frames_of_the_thumb_and_the_small_finger_only(gallery):
    shares = defaultdict(list)
    for joint in gallery:
        air = joint.masks[:1] == 0
        assert not joint.image[air].any()
        shares[joint.finger].append(float(air.float().mean()))
    for finger, share in shares.items():
        assert max(share) < 0.25
        assert np.mean(share) > 0.003 if finger in ("thumb", "small") else max(share) == 0


def test_rims_project_over_the_head_of_many_open_joints(gallery):
    """Masks touch in 47 % of the public radiographs, though nearly all of those joints are open."""
    touching = [float(overlap(joint.masks[None]).sum()) > 0 for joint in gallery]
    assert min(joint.jsw_mm for joint in gallery) > 0.8
    assert 0.2 < np.mean(touching) < 0.85


def test_disease_narrows_thins_and_erodes_what_is_drawn():
    narrowed, thinned, bitten = [], [], []
    for seed in range(10):
        well, ill = (Phantom(seed, FINGERS[seed % 5], 64, severity) for severity in (0.0, 1.0))
        narrowed.append(well.render().jsw_mm - ill.render().jsw_mm)
        drawn = [changed(each, **vars(well.pose)).render(1.5) for each in (well, ill)]  # in the same pose
        assert torch.equal(drawn[0].masks, drawn[1].masks) and torch.equal(drawn[0].layers[0], drawn[1].layers[0])
        dense = [float(absorbance(joint.layers[1:]).sum()) for joint in drawn]
        thinned.append(dense[1] / dense[0])
        bitten.append(len(ill.anatomy.lower.erosions + ill.anatomy.upper.erosions))
    assert min(narrowed) >= 0 and np.mean(narrowed) > 0.4
    assert max(thinned) < 1 and 0.65 < np.mean(thinned) < 0.97
    assert np.mean(bitten) >= 1


def test_an_erosion_is_seen_in_its_own_bone_only():
    phantom = Phantom(3, "middle", 96)
    bite = Erosion(phantom.anatomy.upper.shape.half * 0.8, 2.0, 1.5)
    whole, eaten = (changed(phantom, upper={"erosions": bites}).render(1.5) for bites in ((), (bite,)))
    assert torch.equal(whole.layers[:2], eaten.layers[:2]) and torch.equal(whole.masks, eaten.masks)
    lost = whole.layers[2] - eaten.layers[2]
    assert lost.min() >= 0 and lost.max() > 0.1 and 0.002 < float((lost > 0.01).float().mean()) < 0.05


def test_visits_show_the_same_bones_in_other_poses():
    first = Phantom(21, "index", 64)
    series = list(visits(first, 4))
    assert len({joint.name for joint in series}) == 4 and {joint.joint for joint in series} == {series[0].joint}
    assert torch.equal(series[0].image, first.render().image)
    assert {joint.jsw_mm for joint in series} == {first.anatomy.jsw_mm}  # a healthy joint stays as wide
    for visit, joint in enumerate(series):
        later = Phantom(21, "index", 64, visit=visit)
        assert torch.equal(joint.image, later.render().image)  # drawn alone, it is the same
        assert torch.equal(later.anatomy.lower.mesh.field, first.anatomy.lower.mesh.field)
        assert later.anatomy.lower.shape == first.anatomy.lower.shape
        assert visit == 0 or later.pose != first.pose
        assert visit == 0 or (joint.image - series[0].image).abs().mean() > 0.005
        same_pose = changed(later, **vars(first.pose)).render()
        assert torch.equal(same_pose.image, series[0].image)  # nothing but the pose differs


def test_a_diseased_joint_narrows_from_visit_to_visit():
    widths = np.array([[joint.jsw_mm for joint in visits(Phantom(seed, "ring", 32, 0.9), 5)] for seed in range(4)])
    steps = np.diff(widths, axis=1)
    assert steps.max() < 0 and steps.min() >= -0.3 * 0.9 and len(np.unique(steps)) == steps.size
    later = [joint.jsw_mm for joint in visits(Phantom(0, "ring", 32, 0.9, visit=3), 2)]
    assert later[0] == pytest.approx(widths[0, 0])  # a series starts where its first joint stands


def test_a_series_takes_the_fingers_in_turn_and_names_each_joint_once():
    series = list(phantoms(7, seed=20, size=32, diseased=0.0))
    assert [joint.finger for joint in series] == [*FINGERS, *FINGERS[:2]]
    assert len({joint.name for joint in series}) == 7
    assert torch.equal(series[2].image, Phantom(22, "middle", 32).render().image)
    again = list(phantoms(2, seed=25, size=32, diseased=0.0))
    assert torch.equal(again[0].image, series[5].image)  # the fingers' turn starts with the series, its seeds do not


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_a_series_is_diseased_to_any_degree(monkeypatch, share):
    monkeypatch.setattr(Phantom, "render", lambda self: self)  # what would be drawn
    series = list(phantoms(400, seed=7, size=16, diseased=share))
    assert [phantom.seed for phantom in series] == list(range(7, 407)) and series[3].finger == FINGERS[3]
    severities = np.array([phantom.severity for phantom in series])
    assert np.mean(severities > 0) == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 400))
    if share:
        ill = severities[severities > 0]
        assert ill.max() <= 1 and abs(ill.mean() - 0.5) < 4 * math.sqrt(1 / 12 / len(ill)) and ill.std() > 0.2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"finger": "pinky"}, "'pinky' is unknown; choose one of thumb, index, middle, ring, small"),
        ({"size": 8}, "size 8 is too small"),
        ({"severity": 1.5}, "severity 1.5 is not between 0"),
        ({"severity": math.nan}, "severity nan is not between 0"),
        ({"visit": -1}, "visit -1 is negative"),
        ({"seed": -1}, "seed -1 is negative"),
    ],
)
def test_what_cannot_be_drawn_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Phantom(**{"seed": 0, **wrong})


@pytest.mark.parametrize("width", [50.0, -8.1, float("nan"), float("inf")])
def test_a_width_that_no_finger_has_is_refused(width):
    with pytest.raises(ValueError, match="is no joint space of a finger; give -8"):
        Phantom(0, size=16).render(width)


def test_a_frame_beyond_memory_is_refused():
    with pytest.raises(ValueError, match="size 100000 is more than memory holds; choose 4096 px or less"):
        Phantom(0, size=100_000)
