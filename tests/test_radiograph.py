"""Imaging physics: laws of `compose`, `shift` and `adjust_jsw`, with scipy as the judge of geometry."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from lsn_core.masks import grow
from lsn_core.phantom import Phantom
from lsn_core.radiograph import Shift, absorbance, adjust_jsw, centroid, compose, display, joint_axis, move_bones, shift


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def picture(rows: str) -> torch.Tensor:
    return torch.tensor([[int(digit) for digit in row] for row in rows.split()], dtype=torch.float32)[None, None] / 9


def test_empty_layers_compose_to_black_and_one_layer_to_itself():
    layers = torch.zeros(2, 3, 4, 5)
    assert torch.equal(compose(layers), torch.zeros(2, 1, 4, 5))
    layers[:, 1:2] = random(2, 1, 4, 5)
    torch.testing.assert_close(compose(layers), layers[:, 1:2])


def test_composing_two_half_transparent_layers_lets_a_quarter_through():
    layers = torch.tensor([0.5, 0.5, 0.0]).reshape(1, 3, 1, 1)
    assert compose(layers).item() == 0.75


def test_composing_ignores_order_stays_in_range_and_adds_absorbances():
    layers = 0.9 * random(2, 3, 16, 16)
    image = compose(layers)
    assert image.min() >= 0 and image.max() <= 1
    for order in permutations(range(3)):
        torch.testing.assert_close(compose(layers[:, list(order)]), image)
    torch.testing.assert_close(absorbance(image), absorbance(layers).sum(dim=1, keepdim=True), atol=1e-5, rtol=1e-5)


def test_adding_bone_never_darkens():
    layers, more = random(4, 3, 16, 16), random(4, 3, 16, 16, seed=1)
    thicker = layers.clone()
    thicker[:, 1:] = torch.maximum(layers, more)[:, 1:]
    gain = compose(thicker) - compose(layers)
    assert gain.min() >= 0 and gain.max() > 0.1


def test_absorbance_is_the_logarithm_of_transmission_and_finite_at_white():
    values = torch.tensor([0.0, 0.5, 1 - math.exp(-2), 1.0])
    torch.testing.assert_close(absorbance(values), torch.tensor([0.0, math.log(2), 2.0, 17 * math.log(2)]))
    levels = torch.arange(65535) / 65535  # every 16-bit level but white
    torch.testing.assert_close(display(absorbance(levels)), levels, atol=2e-7, rtol=0)


def test_no_shift_is_the_identity():
    layer = random(2, 3, 9, 12)
    for border in ("extend", "zero"):
        torch.testing.assert_close(shift(layer, Shift(), border=border), layer, atol=1e-6, rtol=0)


def test_positive_dx_moves_right_and_positive_dy_down():
    drawn = picture("12000 30000 00000 00000")
    torch.testing.assert_close(shift(drawn, Shift(dx=2.0), border="zero"), picture("00120 00300 00000 00000"))
    torch.testing.assert_close(shift(drawn, Shift(dy=1.0), border="zero"), picture("00000 12000 30000 00000"))


def test_positive_degrees_turn_counter_clockwise_as_seen():
    drawn, turned = picture("12000 30000 00000 00000 00000"), picture("00000 00000 00000 20000 13000")
    torch.testing.assert_close(shift(drawn, Shift(degrees=90.0), border="zero"), turned, atol=1e-5, rtol=0)


def test_turning_is_about_the_given_centre():
    drawn, turned = picture("00000 00000 01230 00000 00000"), picture("03000 02000 01000 00000 00000")
    about = shift(drawn, Shift(degrees=90.0), centre=(1.0, 2.0), border="zero")
    torch.testing.assert_close(about, turned, atol=1e-5, rtol=0)


@given(st.lists(st.integers(-4, 4), min_size=4, max_size=4))
def test_whole_pixel_shifts_roll_the_picture_and_add_up_away_from_the_border(steps):
    ax, ay, bx, by = steps
    layer, inner = random(1, 2, 24, 20), (..., slice(8, -8), slice(8, -8))
    twice = shift(shift(layer, Shift(float(ax), float(ay))), Shift(float(bx), float(by)))
    once = shift(layer, Shift(float(ax + bx), float(ay + by)))
    torch.testing.assert_close(twice[inner], once[inner], atol=1e-5, rtol=0)
    torch.testing.assert_close(twice[inner], layer.roll((ay + by, ax + bx), (2, 3))[inner], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("border", "mode"), [("extend", "nearest"), ("zero", "grid-constant")])
@pytest.mark.parametrize(("dx", "dy", "degrees"), [(1.3, -2.6, 0.0), (0.0, 0.0, 12.0), (-3.7, 1.2, -25.0)])
def test_sub_pixel_motion_agrees_with_scipy(border, mode, dx, dy, degrees):
    layer, (cx, cy), angle = random(1, 1, 21, 30, dtype=torch.float64), (11.0, 7.5), math.radians(degrees)
    forward = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])  # of (row, column)
    centre, moved_to = np.array([cy, cx]), np.array([cy + dy, cx + dx])
    back = np.linalg.inv(forward)
    expected = ndimage.affine_transform(layer[0, 0].numpy(), back, centre - back @ moved_to, order=1, mode=mode)
    ours = shift(layer, Shift(dx, dy, degrees), centre=(cx, cy), border=border)[0, 0].numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-9)


def test_border_extend_leaves_no_dark_strip_and_zero_does():
    shaft = torch.full((1, 1, 12, 12), 0.6)
    for by in (Shift(dy=4.0), Shift(dx=-4.5), Shift(2.0, 2.0, 20.0)):
        torch.testing.assert_close(shift(shaft, by), shaft)
        assert shift(shaft, by, border="zero").min() == 0
    with pytest.raises(KeyError):
        shift(shaft, Shift(), border="reflect")


def test_each_item_moves_by_its_own_amount_about_its_own_centre():
    layer = random(3, 2, 15, 17)
    dx, dy, degrees = torch.tensor([0.0, 1.5, -3.0]), torch.tensor([2.0, 0.0, 0.5]), torch.tensor([0.0, 30.0, -5.0])
    cx, cy = torch.tensor([3.0, 8.0, 5.0]), torch.tensor([7.0, 2.0, 9.0])
    together = shift(layer, Shift(dx, dy, degrees), centre=(cx, cy))
    for k in range(3):
        by = Shift(float(dx[k]), float(dy[k]), float(degrees[k]))
        alone = shift(layer[k : k + 1], by, centre=(float(cx[k]), float(cy[k])))
        torch.testing.assert_close(together[k : k + 1], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("border", ["extend", "zero"])
def test_shift_is_differentiable_in_the_layer_and_in_the_motion(border):
    def moved(layer, dx, dy, degrees):
        return shift(layer, Shift(dx, dy, degrees), border=border)

    layer = random(2, 2, 6, 7, dtype=torch.float64)
    motion = [torch.tensor(values, dtype=torch.float64) for values in ((0.37, -1.21), (0.83, 0.44), (3.1, -7.7))]
    assert torch.autograd.gradcheck(moved, [each.requires_grad_() for each in (layer, *motion)])


def test_centroid_and_axis_of_hand_placed_pixels():
    masks = torch.zeros(2, 3, 10, 10)
    masks[0, 1, 8, 2] = masks[0, 2, 4, 5] = 1  # 3 right and 4 up
    assert [float(c[0]) for c in centroid(masks[:, 1:2])] == [2, 8]
    assert [float(c[1]) for c in centroid(masks[:, 1:2])] == [4.5, 4.5]  # empty: the frame's centre
    x, y = joint_axis(masks)
    torch.testing.assert_close(torch.stack((x, y)), torch.tensor([[0.6, 0.0], [-0.8, -1.0]]))
    weights = random(1, 1, 7, 9)
    cx, cy = centroid(weights)
    np.testing.assert_allclose((float(cy), float(cx)), ndimage.center_of_mass(weights[0, 0].numpy()), rtol=1e-5)


def two_discs(size: int = 80) -> tuple[torch.Tensor, torch.Tensor]:
    """Layers and masks of two discs on a slanted axis in textured soft tissue, upper one 3-4-5 up to the right."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    lower, upper = (((x - cx) ** 2 + (y - cy) ** 2 <= 60).float() for cx, cy in ((30, 52), (48, 28)))
    masks = torch.stack((torch.ones(size, size), lower, upper))[None]
    return masks * torch.stack((0.2 + 0.2 * random(size, size), 0.5 * lower, 0.4 * upper)), masks


def bone_centres(image: torch.Tensor, soft: torch.Tensor) -> np.ndarray:
    """Centres (y, x) of what absorbs beside the soft tissue, the lower disc first."""
    bone = (absorbance(image) - absorbance(soft))[0, 0].numpy().clip(1e-4) - 1e-4
    blobs, count = ndimage.label(bone)
    assert count == 2
    return np.array(ndimage.center_of_mass(bone, blobs, [2, 1]))


@pytest.mark.parametrize("delta", [2.0, -1.0, 0.35])
def test_adjusting_moves_both_bones_by_half_along_the_axis_and_leaves_the_soft_tissue(delta):
    layers, masks = two_discs()
    soft, spacing = layers[:, :1], 0.25
    assert torch.allclose(adjust_jsw(layers, masks, 0.0, spacing_mm=spacing), compose(layers), atol=1e-6)
    adjusted = adjust_jsw(layers, masks, delta, spacing_mm=spacing)
    travel = bone_centres(adjusted, soft) - bone_centres(compose(layers), soft)
    upward = np.array([-0.8, 0.6]) * delta / spacing / 2  # of the upper bone, (y, x)
    np.testing.assert_allclose(travel, [-upward, upward], atol=0.02)
    away = (adjusted - soft).abs() < 1e-6
    assert away.float().mean() > 0.9 and (adjusted >= soft - 1e-6).all()


def test_each_joint_is_adjusted_by_its_own_millimetres_and_spacing():
    layers, masks = (each.expand(2, -1, -1, -1) for each in two_discs())
    both = adjust_jsw(layers, masks, torch.tensor([1.0, -0.5]), spacing_mm=torch.tensor([0.25, 0.1]))
    for k, (delta, spacing) in enumerate([(1.0, 0.25), (-0.5, 0.1)]):
        torch.testing.assert_close(both[k : k + 1], adjust_jsw(layers[:1], masks[:1], delta, spacing_mm=spacing))


def test_a_bone_turns_about_its_own_centroid():
    layers, masks = two_discs()
    moved = move_bones(layers, Shift(degrees=35.0), Shift(degrees=-20.0), masks=masks)
    assert torch.equal(moved[:, :1], layers[:, :1])
    for k in (1, 2):  # a disc turned about its own centre stays
        assert (moved[:, k] - layers[:, k]).abs().mean() < 0.002


@pytest.mark.parametrize(("seed", "finger"), [(0, "thumb"), (3, "index")])
def test_an_adjusted_phantom_is_the_phantom_rendered_at_that_width(seed, finger):
    """Bilinear moves soften a bone's grain, which is as fine as the pixels, by some 0.01, and its contour, which is
    excluded; near the frame `extend` repeats what a rendering would newly show."""
    phantom = Phantom(seed, finger)
    before, after = phantom.render(1.2), phantom.render(1.8)
    adjusted = adjust_jsw(before.layers[None], before.masks[None], 0.6, spacing_mm=before.spacing_mm)[0]
    drawn = torch.cat((before.masks[1:], after.masks[1:]))[:, None]
    inside = ((grow(drawn, 8.0) * grow(1 - drawn, 8.0)).amax(dim=0) == 0)[:, 16:-16, 16:-16]

    def rms(image: torch.Tensor) -> float:
        return float((image - after.image)[:, 16:-16, 16:-16][inside].square().mean().sqrt())

    assert inside.float().mean() > 0.5
    assert rms(adjusted) < 0.25 * rms(before.image)  # what not moving the bones would cost
