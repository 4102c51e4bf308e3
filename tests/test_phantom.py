"""Phantoms: the truth that they claim, measured from what they draw."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lsn_core.joint import FINGERS, Joint
from lsn_core.masks import bones, overlap
from lsn_core.phantom import Phantom, phantoms


def finger_coordinates(phantom: Phantom) -> tuple[np.ndarray, np.ndarray]:
    """(u, v) of every pixel in mm: across the finger and towards the wrist, from its commanded pose."""
    middle = (phantom.size - 1) / 2
    place = (np.arange(phantom.size) - middle) * phantom.spacing_mm
    z = (place[None, :] - phantom.anatomy.centre[0]) + 1j * (place[:, None] - phantom.anatomy.centre[1])
    turned = z * np.exp(1j * phantom.anatomy.tilt)  # rows point down: turning the finger back is clockwise
    return turned.real, turned.imag


def measured_jsw(phantom: Phantom, joint: Joint) -> float:
    """Mean gap in mm between the two bones over the central half of their contact, by counting pixels of the masks.

    In a strip along the finger each pixel of neither bone lengthens the gap, and each of both shortens it.
    """
    u, v = finger_coordinates(phantom)
    lower, upper = (mask.numpy() > 0 for mask in joint.masks[1:])
    contact = min(np.abs(u[lower]).max(), np.abs(u[upper]).max())
    strip, reach = np.abs(u) <= contact / 2, 6.0  # mm on both sides of the joint: bone everywhere but in the gap
    strip &= np.abs(v) <= reach
    balance = (~lower & ~upper)[strip].sum() - (lower & upper)[strip].sum()
    return 2 * reach * balance / strip.sum()


@settings(max_examples=6)
@given(seed=st.integers(0, 10**6), finger=st.sampled_from(FINGERS), jsw=st.none() | st.floats(-2.0, 4.0))
def test_a_joint_is_as_wide_as_commanded_and_its_layers_make_its_image(seed, finger, jsw):
    phantom = Phantom(seed, finger, 384)  # where the finger is upright whole rows of pixels fall to one side
    joint = phantom.render(jsw)
    assert joint.jsw_mm == (phantom.anatomy.jsw_mm if jsw is None else jsw)
    assert abs(measured_jsw(phantom, joint) - joint.jsw_mm) < 0.02
    layers, masks = joint.layers.numpy().astype(np.float64), joint.masks.numpy()
    assert layers.min() >= 0 and layers.max() < 1
    np.testing.assert_allclose(joint.image[0], -np.expm1(np.log1p(-layers).sum(axis=0)), atol=1e-6)
    np.testing.assert_array_equal(masks[1:], layers[1:] > 0)
    np.testing.assert_array_equal(masks[0], (layers > 0).any(axis=0))


def test_the_curvature_of_the_joint_surfaces_does_not_bias_the_width():
    """On a thumb's axis the gap is up to 0.03 mm wider than its mean; one joint's pixels are uncertain by 0.005 mm."""
    drawn = [(phantom, phantom.render(1.5)) for phantom in (Phantom(seed, "thumb") for seed in range(5))]
    assert abs(np.mean([measured_jsw(*each) - 1.5 for each in drawn])) < 0.008


def test_the_seed_and_the_finger_decide_everything():
    one, again = (Phantom(5, "ring", 64).render() for _ in range(2))
    assert torch.equal(one.image, again.image) and one.name == again.name and one.jsw_mm == again.jsw_mm
    for other in (Phantom(6, "ring", 64).render(), Phantom(5, "small", 64).render()):
        assert (other.image - one.image).abs().mean() > 0.005 and other.joint != one.joint
    torch.manual_seed(1)
    first = torch.rand(1)
    torch.manual_seed(1)
    Phantom(5, "ring", 32).render()
    assert torch.equal(torch.rand(1), first)  # the caller's random state is untouched


def test_another_width_moves_only_the_bones_and_each_by_half():
    phantom = Phantom(4, "middle", 128)
    phantom.__dict__["anatomy"] = replace(phantom.anatomy, tilt=0.0)  # upright: the bones move along columns
    narrow, wide = phantom.render(1.0), phantom.render(1.0 + 6 * phantom.spacing_mm)
    assert torch.equal(narrow.layers[0], wide.layers[0])
    torch.testing.assert_close(wide.layers[1, 3:], narrow.layers[1, :-3], atol=2e-5, rtol=0)  # 3 px down
    torch.testing.assert_close(wide.layers[2, :-3], narrow.layers[2, 3:], atol=2e-5, rtol=0)  # 3 px up
    assert (wide.layers - narrow.layers)[1:].abs().max() > 0.1


def test_the_same_joint_is_drawn_at_every_size():
    small, large = Phantom(7, "thumb", 40).render(1.5), Phantom(7, "thumb", 120).render(1.5)
    assert small.spacing_mm == pytest.approx(3 * large.spacing_mm) == pytest.approx(21 / 40)
    for name in ("image", "layers", "masks"):  # every third pixel has the same centre
        torch.testing.assert_close(getattr(small, name), getattr(large, name)[:, 1::3, 1::3], atol=2e-5, rtol=0)


def test_a_finer_drawing_averages_to_the_coarser_one():
    small, large = Phantom(7, "index", 128).render(), Phantom(7, "index", 256).render()
    averaged = torch.nn.functional.avg_pool2d(large.image, 2)
    assert (averaged - small.image).square().mean().sqrt() < 0.006


def test_joints_look_like_radiographs():
    """Display levels as measured on the public data (bone 0.54 +- 0.07, soft tissue 0.30, overlap 0.69 +- 0.09), bones
    that leave the frame above and below, and air only in crops of a finger at the hand's side."""
    for joint in phantoms(10, seed=0, size=64):
        masks, image = joint.masks[None], joint.image[None]
        single = (bones(masks) - overlap(masks)) > 0
        assert 0.44 < image[single].median() < 0.64
        assert 0.24 < image[(bones(masks) == 0) & (masks[:, :1] > 0)].median() < 0.36
        assert joint.masks[1, -1].any() and joint.masks[2, 0].any()
        assert not joint.masks[1, :20].any() and not joint.masks[2, -20:].any()
        assert (joint.image[joint.masks[:1] == 0] == 0).all()
        assert joint.finger in ("thumb", "small") or joint.masks[0].all()
    overlapped = Phantom(0).render(-2.0)
    assert 0.6 < overlapped.image[overlap(overlapped.masks[None])[0] > 0].median() < 0.78


def test_a_series_takes_the_fingers_in_turn_and_names_each_joint_once():
    series = list(phantoms(7, seed=20, size=32))
    assert [joint.finger for joint in series] == [*FINGERS, *FINGERS[:2]]
    assert len({joint.name for joint in series}) == 7
    assert torch.equal(series[2].image, Phantom(22, "middle", 32).render().image)
    widths = [Phantom(seed).anatomy.jsw_mm for seed in range(200)]  # healthy adults: 1.75 +- 0.25 mm
    assert abs(np.mean(widths) - 1.75) < 4 * 0.25 / np.sqrt(200) and 0.2 < np.std(widths) < 0.3


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="'pinky' is unknown; choose one of thumb, index, middle, ring, small"):
        Phantom(0, "pinky")
    with pytest.raises(ValueError, match="size 8 is too small"):
        Phantom(0, size=8)
