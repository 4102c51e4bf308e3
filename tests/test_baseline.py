"""The closed form: exact, bounded, and what it should be on joints that can be computed by hand."""

import pytest
import torch

from lsn_core.baseline import harmonic
from lsn_core.masks import bones, dilate
from lsn_core.phantom import phantoms
from lsn_core.pseudo import harmonic_fill
from lsn_core.radiograph import absorbance, compose


@pytest.fixture(scope="module", name="joints")
def _joints():
    """Images and masks of four phantoms at 64 px, one of them saturated in places, one noisy."""
    drawn = list(phantoms(4, seed=9, size=64))
    image = torch.stack([joint.image for joint in drawn])
    image[1] = (1.6 * image[1]).clamp(0, 1)
    noise = torch.randn(image[2].shape, generator=torch.Generator().manual_seed(0))
    image[2] = (image[2] + 0.1 * noise).clamp(0, 1)
    return image, torch.stack([joint.masks for joint in drawn])


def flat(size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Even soft tissue of 0.2 with two even bones, 0.5 and 0.6, that overlap in four rows, where it is 0.75."""
    masks = torch.ones(1, 3, size, size)
    masks[:, 1:, :, :8] = masks[:, 1:, :, -8:] = 0
    masks[:, 1, : size // 2 - 2] = masks[:, 2, size // 2 + 2 :] = 0
    image = torch.full((1, 1, size, size), 0.2)
    image = torch.where(masks[:, 1:2] > 0, 0.6, torch.where(masks[:, 2:3] > 0, 0.5, image))
    return torch.where(masks[:, 1:2] * masks[:, 2:3] > 0, 0.75, image), masks


def test_by_hand_even_bones_in_even_tissue():
    """Bones pass 1/2 and 5/8 of what the tissue passes; in the overlap, 5/16: its root each."""
    image, masks = flat()
    soft, lower, upper = harmonic(size=32, dilate_px=0.0)(image, masks)[0]
    torch.testing.assert_close(soft, torch.full((32, 32), 0.2), atol=1e-4, rtol=0)
    column = slice(12, 20)
    torch.testing.assert_close(upper[:14, column], torch.full((14, 8), 1 - 5 / 8), atol=1e-3, rtol=0)
    torch.testing.assert_close(lower[18:, column], torch.full((14, 8), 1 - 1 / 2), atol=1e-3, rtol=0)
    for bone in (lower, upper):
        torch.testing.assert_close(bone[14:18, column], torch.full((4, 8), 1 - (5 / 16) ** 0.5), atol=1e-3, rtol=0)


@pytest.mark.parametrize("dilate_px", [0.0, 4.0])
def test_layers_compose_to_the_image_in_the_hand_and_stay_in_range(joints, dilate_px):
    image, masks = joints
    layers = harmonic(dilate_px=dilate_px)(image, masks)
    wide = dilate(masks, dilate_px / 4)
    torch.testing.assert_close(compose(layers), image * wide[:, :1], atol=2e-6, rtol=0)
    assert layers.min() >= 0 and layers.max() <= 1
    assert not (layers * (1 - wide)).any()


def test_soft_tissue_is_the_image_beside_the_bones_and_never_above_it_or_its_fill(joints):
    image, masks = joints
    soft, wide = harmonic()(image, masks)[:, :1], dilate(masks, 1.0)
    beside = (bones(wide) == 0) & (wide[:, :1] > 0)
    assert torch.equal(soft[beside], image[beside])
    fill = harmonic_fill(image, bones(wide) > 0)
    assert (soft <= image).all() and (soft <= fill).all()
    darker = (fill > image) & (wide[:, :1] > 0)
    assert darker.any() and torch.equal(soft[darker], image[darker])


def test_both_bones_take_half_of_what_absorbs_in_the_overlap(joints):
    image, masks = joints
    layers, both = harmonic(dilate_px=0.0)(image, masks), (masks[:, 1:2] * masks[:, 2:3]) > 0
    assert both.any()
    soft, lower, upper = (absorbance(layers[:, i : i + 1])[both] for i in range(3))
    torch.testing.assert_close(lower, upper)
    seen = absorbance(image)[both]
    whole = seen < 6  # where the pixel is not nearly white
    torch.testing.assert_close((soft + lower + upper)[whole], seen[whole], atol=1e-3, rtol=0)


def test_it_is_used_as_a_generator_and_learns_nothing():
    closed = harmonic(size=48, dilate_px=2.0)
    assert (closed.recipe.size, closed.recipe.dilate_px) == (48, 2.0) and not list(closed.parameters())
    image, masks = flat(48)
    assert closed(image, masks).shape == (1, 3, 48, 48)
    masks[:, 1] = 1
    with pytest.raises(ValueError, match="covers the whole frame"):
        closed(image, masks)
