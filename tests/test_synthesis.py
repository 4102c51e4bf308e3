"""Synthesis: scipy, `shift` with `compose`, and `adjust_jsw` as judges of every pixel; phantoms drawn again."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from lsn_core.adjustment import stored
from lsn_core.detector import COMPUTED_RADIOGRAPHY
from lsn_core.joint import Joint
from lsn_core.masks import bones, dilate, grow
from lsn_core.movement import Hinge, Movement, find_hinge, shifts, source_matrix
from lsn_core.phantom import Phantom
from lsn_core.radiograph import absorbance, adjust_jsw, compose, display, shift
from lsn_core.synthesis import Source, margin_of, recompose, settled

SIZES = (64, 65, 97)
MOVEMENTS = st.builds(
    Movement,
    st.floats(-4, 4),
    share=st.floats(0, 1),
    slide_mm=st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
    degrees=st.tuples(st.floats(-180, 180), st.floats(-180, 180)),
)


@cache
def drawn(size: int = 64, seed: int = 3, finger: str = "middle") -> Joint:
    return Phantom(seed, finger, size=size).render()


@cache
def prepared(size: int = 64) -> tuple[Joint, Source, Hinge]:
    """A phantom's true layers, ready to be moved."""
    joint = drawn(size)
    source = stored(joint, joint.layers[None], 0.0)
    return joint, source, source.hinge


@pytest.mark.parametrize("size", SIZES)
def test_no_movement_is_the_identity(size):
    joint, source, hinge = prepared(size)
    again = recompose(joint.layers[None], joint.masks[None], Movement(), hinge)
    for image in (source.image(Movement()), again[0, 0].numpy()):
        np.testing.assert_allclose(image, joint.image[0], atol=1e-6 if size == 64 else 2e-5)
    np.testing.assert_array_equal(source.masks(Movement()), joint.masks > 0)


@given(movement=MOVEMENTS, size=st.sampled_from(SIZES))
def test_a_source_agrees_with_the_reference(movement, size):
    joint, source, hinge = prepared(size)
    expected = recompose(joint.layers[None], joint.masks[None], movement, hinge)[0, 0].numpy()
    np.testing.assert_allclose(source.image(movement), expected, atol=1e-4)


@given(movement=MOVEMENTS)
def test_bones_move_as_scipy_moves_them(movement):
    """Continued planes as the source holds them, moved by the inverse matrix of an independent resampler."""
    _, source, hinge = prepared(65)
    light = source.light[0, source.margin : -source.margin].copy()
    for plane, by in zip(source.light[1:], shifts(movement, hinge), strict=True):
        matrix = source_matrix(by, hinge.middle) + np.array([[0, 0, 0], [0, 0, source.margin]])
        swapped = matrix[::-1, [1, 0, 2]]  # of (row, column)
        light *= ndimage.affine_transform(
            plane.astype(float), swapped[:, :2], swapped[:, 2], (65, 65), order=1, mode="nearest"
        )
    np.testing.assert_allclose(source.image(movement), 1 - light, atol=1e-4)


@given(movement=MOVEMENTS)
def test_an_image_can_be_written_where_there_is_room(movement):
    _, source, _ = prepared()
    room = np.full((64, 64), np.nan, np.float32)
    assert source.image(movement, out=room) is room
    np.testing.assert_array_equal(room, source.image(movement))
    assert room.min() >= 0 and room.max() <= 1


@given(delta=st.floats(0.0, 1.5))
def test_widening_without_continuation_is_adjust_jsw(delta):
    """Bones that are moved away from the joint bring nothing new into the frame."""
    joint, source, _ = prepared()
    planes = joint.layers[None], joint.masks[None]
    expected = adjust_jsw(*planes, delta, spacing_mm=joint.spacing_mm)[0, 0].numpy()
    np.testing.assert_allclose(source.image(Movement(delta)), expected, atol=1e-3)


@given(movement=MOVEMENTS)
def test_it_is_shift_and_compose_where_no_bone_comes_from_beyond(movement):
    """On layers whose bones end within the frame, continuation adds nothing."""
    joint, _, hinge = prepared()
    away = torch.zeros_like(joint.layers[None])
    away[..., 20:44, 20:44] = 1
    layers, masks = joint.layers[None] * away, joint.masks[None] * away
    layers[:, 0] = joint.layers[0]
    moved = [shift(layers[:, [k]], by, centre=hinge.middle) for k, by in enumerate(shifts(movement, hinge), start=1)]
    expected = compose(torch.cat((layers[:, :1], *moved), dim=1))[0, 0].numpy()
    np.testing.assert_allclose(Source.of(layers, masks, masks, hinge).image(movement), expected, atol=1e-4)


def alone(joint: Joint, bone: int, *, elsewhere: float = 0.0) -> Source:
    """A source whose other bone is not there."""
    layers, masks = joint.layers[None].clone(), joint.masks[None].clone()
    layers[:, 3 - bone] = elsewhere
    return Source.of(layers, masks, masks, find_hinge(masks, spacing_mm=joint.spacing_mm))


@pytest.mark.parametrize(("share", "still"), [(1.0, 1), (0.0, 2)])
def test_the_bone_without_a_share_stays_in_place(share, still):
    joint, source, _ = prepared()
    movement = Movement(-0.7, share=share)
    np.testing.assert_array_equal(source.masks(movement)[still], joint.masks[still] > 0)
    there = alone(joint, still)
    np.testing.assert_allclose(there.image(movement), there.image(Movement()), atol=1e-6)
    assert (source.masks(movement)[3 - still] != (joint.masks[3 - still].numpy() > 0)).any()


@given(delta=st.floats(-2, 2), slide=st.floats(-1, 1), turn=st.floats(-20, 20))
def test_masks_move_with_their_bones(delta, slide, turn):
    """A layer that is its mask is, where it is brighter than half, the moved mask."""
    joint = drawn()
    masks = joint.masks[None]
    layers = torch.cat((torch.zeros_like(masks[:, :1]), masks[:, 1:]), dim=1)
    hinge = find_hinge(masks, spacing_mm=joint.spacing_mm)
    movement = Movement(delta, slide_mm=(slide, -slide), degrees=(turn, -turn / 2))
    found = Source.of(layers, masks, masks, hinge)
    hand, lower, upper = found.masks(movement)
    for bone, mask in ((1, lower), (2, upper)):
        planes = layers.clone()
        planes[:, 3 - bone] = 0
        shown = Source.of(planes, masks, masks, hinge).image(movement)
        assert np.mean((shown > 0.5) != mask) < 1e-3
    assert (hand >= (lower | upper)).all() and (hand >= (joint.masks[0].numpy() > 0)).all()


def test_masks_are_drawn_outlines_and_not_the_wide_ones():
    joint = drawn()
    masks = joint.masks[None]
    source = Source.of(joint.layers[None], dilate(masks, 3.0), masks, prepared()[2])
    np.testing.assert_array_equal(source.masks(Movement()), joint.masks > 0)


def test_an_outline_is_not_cut_where_its_layer_shows_nothing():
    joint = drawn()
    masks = joint.masks[None]
    source = Source.of(torch.zeros_like(masks), masks, masks, prepared()[2])
    assert not source.image(Movement(0.3)).any()
    np.testing.assert_array_equal(source.masks(Movement()), joint.masks > 0)


@given(degrees=st.floats(-45, 45))
def test_a_turn_about_the_hinge_keeps_the_hinge(degrees):
    """A spot at the hinge stays, one beside it turns about it."""
    hinge = Hinge((31.0, 33.0), (0.0, -1.0), 0.3)
    layers, masks = torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
    layers[0, 2, 33, 31] = layers[0, 2, 33, 41] = 0.9
    image = Source.of(layers, masks, masks, hinge).image(Movement(degrees=(0.0, degrees)))
    assert image[33, 31] > 0.89
    beside = image.copy()
    beside[32:35, 30:33] = 0
    y, x = ndimage.center_of_mass(beside)
    angle = np.radians(degrees)
    np.testing.assert_allclose((x - 31, 33 - y), (10 * np.cos(angle), 10 * np.sin(angle)), atol=0.15)


def test_the_reference_is_differentiable_and_takes_batches():
    joints = [drawn(), drawn(seed=4, finger="ring")]
    layers = torch.stack([joint.layers for joint in joints]).requires_grad_()
    masks = torch.stack([joint.masks for joint in joints])
    hinge = prepared()[2]
    both = recompose(layers, masks, Movement(-0.4, degrees=(0.0, 3.0)), hinge)
    both.sum().backward()
    assert layers.grad.abs().sum() > 0 and layers.grad.isfinite().all()
    one = recompose(layers[1:].detach(), masks[1:], Movement(-0.4, degrees=(0.0, 3.0)), hinge)
    torch.testing.assert_close(both[1:].detach(), one)


@pytest.mark.parametrize("size", [4, 5, 16])
def test_the_smallest_frames(size):
    layers = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    masks = torch.ones(1, 3, size, size)
    hinge = Hinge((size / 2, size / 2), (0.0, -1.0), 21 / size)
    image = recompose(layers, masks, Movement(0.5), hinge)
    assert image.shape == (1, 1, size, size)
    np.testing.assert_allclose(Source.of(layers, masks, masks, hinge).image(Movement(0.5)), image[0, 0], atol=1e-4)


def test_reach_is_the_margin_in_millimetres():
    joint, source, _ = prepared()
    assert source.margin == margin_of(64) == 8
    assert source.reach_mm == pytest.approx(8 * joint.spacing_mm)


@pytest.mark.parametrize("delta", [-0.8, 0.8])
@pytest.mark.parametrize(("seed", "finger"), [(0, "thumb"), (7, "index")])
def test_true_layers_give_the_phantom_drawn_at_that_width(delta, seed, finger):
    """Bilinear moves soften what is as fine as pixels; where no contour was or is, less than 0.02 is left of it."""
    phantom = Phantom(seed, finger, size=128)
    before, after = phantom.render(), phantom.render(phantom.anatomy.jsw_mm + delta)
    image = stored(before, before.layers[None], 0.0).image(Movement(delta))
    outlines = torch.cat((before.masks[1:], after.masks[1:]))[:, None]
    inside = (grow(outlines, 4.0) * grow(1 - outlines, 4.0)).amax(dim=0)[0].numpy() == 0
    errors = [np.abs(shown - after.image[0].numpy())[inside].mean() for shown in (image, before.image[0].numpy())]
    assert errors[0] < 0.02 and errors[0] < 0.6 * errors[1], errors


# --- settled soft tissue ---------------------------------------------------------------------------------------------


def haunted(joint: Joint, share: float = 0.1) -> torch.Tensor:
    """Layers of a phantom of whose bones a share is left in the soft tissue."""
    absorbed = absorbance(joint.layers[None])
    left = share * absorbed[:, 1:].sum(dim=1, keepdim=True)
    return display(torch.cat((absorbed[:, :1] + left, (1 - share) * absorbed[:, 1:]), dim=1))


@pytest.mark.parametrize("size", SIZES)
def test_settling_changes_neither_the_image_nor_what_is_beside_the_bones(size):
    joint = drawn(size)
    layers, masks = haunted(joint), joint.masks[None]
    found = settled(layers, masks)
    torch.testing.assert_close(compose(found), compose(layers), atol=1e-5, rtol=0)
    away = 1 - bones(masks)
    torch.testing.assert_close(found * away, layers * away, atol=1e-5, rtol=0)
    assert found.min() >= 0 and found.max() <= 1 and not (found[:, 1:] * (1 - masks[:, 1:])).any()


def test_settling_gives_the_grain_of_bones_back_to_them():
    joint = drawn(128)
    masks = joint.masks[None]
    layers = haunted(joint)
    inner = 1 - grow(1 - bones(masks), 6.0)

    def grain(planes: torch.Tensor) -> float:
        change = (planes[..., 1:, :] - planes[..., :-1, :]).abs() * inner[..., 1:, :]
        return float(change.sum() / inner.sum())

    assert grain(settled(layers, masks)[:, :1]) < 0.7 * grain(layers[:, :1])


def test_a_picture_is_as_sharp_as_its_source_and_an_image_is_not():
    """Half a pixel aside is where linear interpolation blurs most."""
    image = COMPUTED_RADIOGRAPHY.expose(Phantom(seed=5, finger="ring", size=128).render(), seed=0).image[None]
    layers, hinge = torch.cat((0 * image, image, 0 * image), dim=1), Hinge((63.5, 63.5), (0.0, -1.0), 0.1)
    source = Source.of(layers, torch.ones_like(layers), torch.ones_like(layers), hinge)
    aside = Movement(share=0.0, slide_mm=(0.05, 0.0))
    still, linear, cubic = source.picture(Movement()), source.image(aside), source.picture(aside)
    np.testing.assert_allclose(still, image[0, 0], atol=1e-6)
    grain = [np.diff(one[20:-20, 20:-20], axis=1).std() for one in (still, linear, cubic)]
    assert grain[1] < 0.95 * grain[0] and abs(grain[2] / grain[0] - 1) < 0.03
    assert cubic.min() >= 0 and cubic.max() <= 1
