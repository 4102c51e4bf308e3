"""Joint space width: the gap between drawn surfaces, the phantom's commanded gap, and what must not change it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lsn_core.joint import FINGERS
from lsn_core.jsw import SVDH_MM, jsw_mm, measure, svdh_like
from lsn_core.phantom import Phantom
from lsn_core.radiograph import Shift, centroid, compose, display, joint_axis, shift

SPACING = 21.0 / 256  # mm
PLATE, RIM = 0.6, 1.0  # mm: thickness of the drawn plate, and how far the upper mask hangs over the gap
HALF = 5.0  # mm, half width of both bones


def drawn(
    gap: float, *, curve: float = 0.0, degrees: float = 0.0, spacing: float = SPACING, at: tuple[float, float] = (0, 0)
) -> tuple[np.ndarray, np.ndarray]:
    """Layers and masks of two bones whose surfaces v = curve u^2 are `gap` mm apart along an axis that is turned.

    The plate is a bright line in the upper layer, below which a rim overhangs, and its mask with it.
    """
    place = (np.arange(round(21.0 / spacing)) - (round(21.0 / spacing) - 1) / 2) * spacing
    x, y = place[None, :] - at[0], place[:, None] - at[1]
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    u, v = x * cos - y * sin, x * sin + y * cos  # the axis turns counter-clockwise as seen
    below = v - curve * u**2 - gap / 2  # depth in the lower bone
    above = curve * u**2 - gap / 2 - v  # and in the upper one

    def inside(depth: np.ndarray) -> np.ndarray:
        return np.clip(depth / spacing + 0.5, 0, 1) * (abs(u) < HALF)

    lower = 0.5 * inside(below)
    upper = 0.35 * inside(above) + 0.35 * (inside(above) - inside(above - PLATE))
    upper = upper + 0.38 * (inside(above + RIM) - inside(above))  # its end is a stronger edge than the plate is
    soft = np.full_like(upper, 0.3)
    masks = np.stack((np.ones_like(u) > 0, inside(below) > 0.5, inside(above + RIM) > 0.5))
    return -np.expm1(-np.stack((soft, lower, upper))).astype(np.float32), masks


def gap_of(layers: np.ndarray, masks: np.ndarray, spacing: float = SPACING) -> float:
    """The measured width in mm."""
    return measure(layers, masks, spacing_mm=spacing).jsw_mm


def stacked(*phantoms_at: tuple[Phantom, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Layers and masks of phantoms at widths, as batches."""
    joints = [phantom.render(width) for phantom, width in phantoms_at]
    return torch.stack([joint.layers for joint in joints]), torch.stack([joint.masks for joint in joints])


@settings(max_examples=40)
@given(
    gap=st.floats(0.2, 3.0),
    curve=st.floats(0.0, 0.08),
    degrees=st.floats(-10, 10),
    spacing=st.sampled_from([0.06, SPACING, 0.15]),
    at=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
)
def test_a_drawn_gap_is_measured_at_any_angle_pixel_size_and_place(gap, curve, degrees, spacing, at):
    layers, masks = drawn(gap, curve=curve, degrees=degrees, spacing=spacing, at=at)
    assert abs(gap_of(layers, masks, spacing) - gap) < 0.03


@given(gap=st.floats(-1.2, -0.1), curve=st.floats(0.0, 0.08), degrees=st.floats(-10, 10))
def test_it_is_negative_where_the_surfaces_overlap(gap, curve, degrees):
    assert abs(gap_of(*drawn(gap, curve=curve, degrees=degrees)) - gap) < 0.03


def test_the_gap_of_the_masks_is_not_what_is_measured():
    layers, masks = drawn(1.4)
    middle = masks[:, :, masks.shape[-1] // 2]
    drawn_gap = np.flatnonzero(middle[1])[0] - np.flatnonzero(middle[2])[-1] - 1
    assert abs(drawn_gap * SPACING - (1.4 - RIM)) < 0.1
    assert abs(gap_of(layers, masks) - 1.4) < 0.03


@pytest.mark.parametrize("source", ["layers", "image"])
@pytest.mark.parametrize("change", ["mirrored", "brighter", "moved"])
def test_what_is_not_the_joint_does_not_change_it(source, change):
    joint = Phantom(11, "middle").render(1.5)
    layers = joint.layers if source == "layers" else joint.image.expand(3, -1, -1)
    masks = joint.masks
    before = gap_of(layers.numpy(), masks.numpy() > 0)
    if change == "mirrored":
        layers, masks, most = layers.flip(-1), masks.flip(-1), 0.005
    elif change == "brighter":  # a longer exposure scales all absorbances
        layers, most = display(-1.3 * torch.log1p(-layers)), 0.005
    else:
        by = Shift(dx=4.3, dy=-3.6)
        layers, masks, most = shift(layers[None], by)[0], shift(masks[None], by)[0].round(), 0.03
    assert abs(gap_of(layers.numpy(), masks.numpy() > 0) - before) < most


@pytest.mark.parametrize("delta", [-0.4, 0.5, 1.0])
def test_moving_the_bones_apart_opens_it_by_as_much(delta):
    """As `adjust_jsw` moves them, with their masks."""
    layers, masks = stacked((Phantom(3, "index"), 1.4), (Phantom(4, "ring"), 1.6))
    x, y = joint_axis(masks)
    half = delta / SPACING / 2
    for bone, way in ((1, -half), (2, half)):
        by, centre = Shift(dx=way * x, dy=way * y), centroid(masks[:, bone : bone + 1])
        for planes in (layers, masks):
            planes[:, bone : bone + 1] = shift(planes[:, bone : bone + 1].clone(), by, centre=centre)
    opened = jsw_mm(layers, masks.round(), spacing_mm=SPACING)
    before = jsw_mm(*stacked((Phantom(3, "index"), 1.4), (Phantom(4, "ring"), 1.6)), spacing_mm=SPACING)
    np.testing.assert_allclose(opened - before, delta, atol=0.05)


@pytest.mark.parametrize("finger", FINGERS)
def test_a_phantom_opens_as_it_is_commanded(finger):
    """From overlap to wide: each step as large as commanded, so the order is kept; and near the command itself."""
    widths = [-1.0, -0.4, 0.0, 0.6, 1.2, 1.8, 2.4]
    found = jsw_mm(*stacked(*((Phantom(7, finger), width) for width in widths)), spacing_mm=SPACING)
    np.testing.assert_allclose(np.diff(found), np.diff(widths), atol=0.12)
    np.testing.assert_allclose(found, widths, atol=0.25)


def test_phantoms_are_measured_without_bias_and_within_limits():
    rng = np.random.default_rng(0)
    commanded = rng.uniform(0.4, 2.4, 15)
    phantoms_at = [(Phantom(300 + k, FINGERS[k % 5], severity=(k % 3) / 3), w) for k, w in enumerate(commanded)]
    layers, masks = stacked(*phantoms_at)
    for given_layers, most in ((layers, 0.08), (compose(layers).expand(-1, 3, -1, -1), 0.12)):
        error = jsw_mm(given_layers, masks, spacing_mm=SPACING).numpy() - commanded
        assert abs(error.mean()) < 0.08 and error.std(ddof=1) < most


def test_the_surfaces_lie_in_the_frame_one_above_the_other_and_at_the_gap():
    joint = Phantom(5, "thumb").render(1.3)
    space = measure(joint.layers.numpy(), joint.masks.numpy() > 0, spacing_mm=joint.spacing_mm)
    both = np.concatenate((space.upper, space.lower))
    assert (both >= 0).all() and (both <= 255).all()
    assert (space.upper[:, 1] < space.lower[:, 1]).all()
    apart = np.linalg.norm(space.lower - space.upper, axis=1).mean() * joint.spacing_mm
    assert abs(apart - space.jsw_mm) < 1e-6


@pytest.mark.parametrize("degrees", [-9, 8])
def test_the_surfaces_are_where_they_were_drawn(degrees):
    space = measure(*drawn(1.2, curve=0.04, degrees=degrees, at=(0.5, -0.4)), spacing_mm=SPACING)
    turn = np.exp(1j * np.radians(degrees))
    for points, offset in ((space.upper, -0.6), (space.lower, 0.6)):
        x, y = ((points - 127.5) * SPACING - (0.5, -0.4)).T
        z = (x + 1j * y) * turn
        np.testing.assert_allclose(z.imag - 0.04 * z.real**2, offset, atol=0.08)  # mm: a pixel


@pytest.mark.parametrize("missing", [1, 2])
def test_a_joint_without_a_mask_or_without_bone_in_a_layer_has_no_width(missing):
    layers, masks = (part.repeat(3, 1, 1, 1) for part in stacked((Phantom(1), 1.5)))
    masks[0, missing], layers[1, missing] = 0, 0
    found = jsw_mm(layers, masks, spacing_mm=SPACING)
    assert found.isnan().tolist() == [True, True, False]
    assert measure(layers[0].numpy(), masks[0].numpy() > 0, spacing_mm=SPACING) is None


# --- classes ---------------------------------------------------------------------------------------------------------

CLASSES = [
    *((99.0, 0), (1.75, 0), (1.7499, 1), (1.3125, 1), (1.3124, 2), (0.875, 2), (0.8749, 3), (0.4375, 3)),
    *((0.4374, 4), (0.0, 4), (-0.5, 4), (-99.0, 4), (np.inf, 0), (-np.inf, 4)),
]


@pytest.mark.parametrize(("width", "expected"), CLASSES)
@pytest.mark.parametrize("kind", [float, np.float64])
def test_classes_by_hand(kind, width, expected):
    found = svdh_like(kind(width))
    assert found == expected and type(found) is int


def test_classes_are_cut_at_quarters_of_a_healthy_joint_and_only_grow_as_it_narrows():
    assert np.array_equal(np.array(SVDH_MM) / SVDH_MM[0], [1, 0.75, 0.5, 0.25])
    found = [svdh_like(width) for width in np.linspace(3, -1, 401)]
    assert found[0] == 0 and found[-1] == 4 and (np.diff(found) >= 0).all() and set(found) == set(range(5))


def test_an_unknown_width_has_no_class():
    with pytest.raises(ValueError, match="the joint space width is not known, so it has no class"):
        svdh_like(float("nan"))
