"""Registration without learning: phantoms moved by known transforms, and ITK as judge of its own conventions."""

from functools import cache

import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import given
from hypothesis import strategies as st

from lsn_core.adjustment import stored
from lsn_core.movement import Movement, shifts, source_matrix
from lsn_core.phantom import Phantom
from lsn_core.radiograph import Shift, shift
from lsn_core.registration import Transforms, between, image_errors, narrowing_mm, places, warped
from lsn_core.registration_baselines import (
    by_intensity,
    by_phase_correlation,
    from_itk,
    optimised,
    regions,
    standardised,
    to_itk,
    windows,
)
from lsn_core.shapes import Bones, Image
from lsn_core.synthesis import Source

FINGERS = ("index", "middle", "ring", "small")
BOTH = pytest.mark.parametrize("register", [by_phase_correlation, by_intensity])
STILL = torch.tensor([1.0, 0, 0, 0]).repeat(1, 2, 1)


@cache
def prepared(seed: int, size: int) -> Source:
    """A phantom's true layers, ready to be moved."""
    joint = Phantom(seed, FINGERS[seed % 4], size=size).render()
    return stored(joint, joint.layers[None], 0.0)


def visits(source: Source, movement: Movement) -> tuple[Image, Image, Bones]:
    """The joint before and after a movement, and its bones' masks after it."""
    moving, fixed = (torch.from_numpy(source.picture(by))[None, None] for by in (Movement(), movement))
    return moving, fixed, torch.from_numpy(source.masks(movement)[1:])[None].float()


def narrowing(transforms: Transforms, bones: Bones, source: Source) -> float:
    """In mm, of a joint whose bones are there in the fixed image."""
    return narrowing_mm(transforms, places(bones), source.hinge.spacing_mm).item()


def truth(source: Source, movement: Movement) -> Transforms:
    """What takes each bone from where it was to where the movement puts it."""
    sources = np.stack([source_matrix(by, source.hinge.middle) for by in shifts(movement, source.hinge)])
    whole = np.concatenate((sources, np.broadcast_to([[[0.0, 0, 1]]], (2, 1, 3))), axis=1)
    still = torch.eye(2, 3, dtype=torch.float64).expand(1, 2, 2, 3)
    forward = torch.from_numpy(np.linalg.inv(whole)[:, :2])[None]
    return between(still, forward, source.hand.shape[0]).float()


@BOTH
@pytest.mark.parametrize("size", [128, 256])
@pytest.mark.parametrize("delta_mm", [-0.4, 0.4])
def test_a_change_of_the_joint_space_is_found(register, size, delta_mm):
    """Of 0.4 mm, either way, to within 0.05 mm; the share that each bone has in it is found as well."""
    for seed, share in ((0, 0.5), (1, 1.0)):
        source, movement = prepared(seed, size), Movement(delta_mm, share=share)
        images = visits(source, movement)
        found, expected = register(*images), truth(source, movement)
        spacing = source.hinge.spacing_mm
        measured = narrowing(found, images[2], source)
        assert abs(measured - narrowing(expected, images[2], source)) < 0.05
        assert np.sign(measured) == -np.sign(delta_mm)
        torch.testing.assert_close(found[..., 3] * spacing, expected[..., 3] * spacing, atol=0.05, rtol=0)


def test_turns_are_found_by_intensity():
    """The lower bone turns by 4 and the upper by -3 degrees, and both slide: to 0.6 degrees and 0.05 mm."""
    source, movement = prepared(2, 128), Movement(-0.3, slide_mm=(0.2, -0.3), degrees=(4, -3))
    images = visits(source, movement)
    found, expected = by_intensity(*images), truth(source, movement)
    assert found[0, :, 0].tolist() == [1, 1]
    torch.testing.assert_close(found[..., 1], expected[..., 1], atol=0.6, rtol=0)
    measured, known = (narrowing(transforms, images[2], source) for transforms in (found, expected))
    assert abs(measured - known) < 0.05
    errors = [image_errors(*images, transforms).item() for transforms in (found, STILL)]
    assert 4 * errors[0] < errors[1]


@BOTH
def test_a_hand_laid_elsewhere_and_exposed_otherwise_has_not_changed(register):
    """The whole frame moved by 1.5 mm to the right and up, and its absorbances raised by a fifth."""
    source = prepared(3, 128)
    image, _, bones = visits(source, Movement())
    fixed, masks = (shift(planes, Shift(9, -9)) for planes in (1 - (1 - image) ** 1.2, bones))
    found = register(image, fixed, masks.round())
    assert abs(narrowing(found, masks.round(), source)) < 0.05
    torch.testing.assert_close(found[..., 2:], torch.tensor([[[9.0, -9], [9, -9]]]), atol=0.4, rtol=0)


@BOTH
def test_an_image_lies_on_itself(register):
    image, _, bones = visits(prepared(0, 128), Movement())
    torch.testing.assert_close(register(image, image, bones), STILL, atol=1e-2, rtol=0)


def test_items_of_a_batch_are_registered_by_themselves():
    source = prepared(1, 128)
    both = [visits(source, Movement(delta)) for delta in (-0.4, 0.3)]
    together = by_phase_correlation(*(torch.cat(planes) for planes in zip(*both, strict=True)))
    apart = torch.cat([by_phase_correlation(*one) for one in both])
    torch.testing.assert_close(together, apart, atol=0.021, rtol=0)  # a step of the search


@given(st.floats(-90, 90), st.floats(-9, 9), st.floats(-9, 9), st.sampled_from([(24, 24), (24, 33)]))
def test_itk_resamples_as_we_warp(degrees, dx, dy, shape):
    """ITK's resampling of a smooth image, where it does not reach beyond the frame."""
    y, x = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    image = (np.sin(x / 3) * np.cos(y / 4) + 2).astype(np.float32)
    transform = to_itk((degrees, dx, dy), shape)
    plane = SimpleITK.GetImageFromArray(image)
    expected = SimpleITK.GetArrayFromImage(SimpleITK.Resample(plane, plane, transform, SimpleITK.sitkLinear, 0.0))
    row = torch.tensor([1, degrees, dx, dy], dtype=torch.float32).repeat(1, 2, 1)
    found = warped(torch.from_numpy(image)[None, None], row)[0, 0].numpy()
    np.testing.assert_allclose(found[expected > 0], expected[expected > 0], atol=2e-3)
    assert from_itk(transform) == pytest.approx((degrees, dx, dy), abs=1e-9)


def test_regions_cover_the_edge_of_a_bone_and_nothing_of_the_other():
    _, _, bones = visits(prepared(0, 128), Movement(-1.5))
    wide = regions(bones)
    assert (wide * bones.flip(1)).max() == 0
    alone = bones * (1 - bones.flip(1))
    assert torch.all(wide >= alone) and wide.sum() > alone.sum()
    assert windows(bones).max() <= 1.0001 and windows(bones).min() >= 0


def test_standardised_images_do_not_tell_exposures_apart():
    image, _, bones = visits(prepared(0, 128), Movement())
    window = windows(bones)
    torch.testing.assert_close(
        standardised(0.5 * image + 0.2, window), standardised(image, window), atol=1e-3, rtol=1e-3
    )


@BOTH
def test_a_bone_without_a_mask_is_told(register):
    image = torch.rand(1, 1, 64, 64)
    masks = torch.zeros(1, 2, 64, 64)
    masks[:, 0, 40:] = 1
    with pytest.raises(ValueError, match="no mask of its own"):
        register(image, image, masks)


def test_a_bone_lost_beyond_the_frame_stays_where_it_was_sought():
    plane, mask = np.random.default_rng(0).random((32, 32), dtype=np.float32), np.eye(32, dtype=bool)
    assert optimised(plane, plane, mask, (5.0, 500.0, 0.0)) == pytest.approx((5.0, 500.0, 0.0))
