"""The deep prior: it fits each image by itself, the same for the same seed; its exclusion by hand."""

import math

import pytest
import torch

from lsn_core.dip import DeepPrior, exclusion, fit, shared_edges
from lsn_core.files import InputError
from lsn_core.masks import dilate
from lsn_core.metrics import masked_mse
from lsn_core.phantom import phantoms
from lsn_core.radiograph import compose


@pytest.fixture(scope="module", name="joints")
def _joints():
    """Images and masks of three phantoms at 32 px; the second without its upper bone."""
    drawn = list(phantoms(3, seed=9, size=32))
    image, masks = torch.stack([joint.image for joint in drawn]), torch.stack([joint.masks for joint in drawn])
    masks[1, 2] = 0
    return image, masks


def step(at: int, height: float, *, size: int = 16) -> torch.Tensor:
    """A layer that rises by `height` at a column."""
    layer = torch.full((1, 1, size, size), 0.1)
    layer[..., at:] += height
    return layer


def test_the_longer_the_fit_the_nearer_the_image(joints):
    image, masks = (planes[:2] for planes in joints)
    hand = dilate(masks, 0.5)[:, :1]
    errors = torch.stack([masked_mse(compose(DeepPrior(steps=n)(image, masks)), image, hand) for n in (0, 8, 32)])
    assert (errors.diff(dim=0) < 0).all() and (errors[2] < 0.1 * errors[0]).all()


@pytest.mark.parametrize("dilate_px", [0.0, 16.0])
def test_layers_stay_in_range_and_in_their_widened_masks_whatever_the_caller_does_with_gradients(joints, dilate_px):
    image, masks = joints
    prior = DeepPrior(dilate_px=dilate_px, steps=3)
    with torch.no_grad():
        layers = prior(image, masks)
    assert layers.shape == masks.shape and layers.dtype == torch.float32 and not layers.requires_grad
    assert layers.min() >= 0 and layers.max() <= 1
    wide = dilate(masks, dilate_px / 8)
    assert not (layers * (1 - wide)).any() and (layers[wide > 0] > 0).all()
    assert torch.equal(prior(image, masks), layers)


def test_an_image_is_fitted_by_itself_whatever_else_is_in_the_batch(joints):
    image, masks = joints
    prior = DeepPrior(steps=5)
    together = prior(image, masks)
    assert torch.equal(prior(image.flip(0), masks.flip(0)), together.flip(0))
    assert torch.equal(prior(image[2:], masks[2:]), together[2:])


def test_a_seed_is_a_fit_and_the_callers_random_numbers_are_its_own(joints):
    image, masks = (planes[:1] for planes in joints)
    before = torch.get_rng_state()
    first = DeepPrior(steps=3, seed=1)(image, masks)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert torch.equal(DeepPrior(steps=3, seed=1)(image, masks), first)
    assert not torch.equal(DeepPrior(steps=3, seed=2)(image, masks), first)


def test_fits_do_not_see_the_air():
    """What lies outside the hand changes nothing."""
    masks = torch.zeros(1, 3, 32, 32)
    masks[..., 4:28, 4:28] = 1
    image = torch.full((1, 1, 32, 32), 0.5)
    assert torch.equal(fit(image * masks[:, :1], masks, steps=3, seed=0), fit(image, masks, steps=3, seed=0))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (step(4, 0.3), step(12, 0.3), 0),  # elsewhere
        (step(8, 0.3), step(8, 0.3).mT, 0),  # across
        (step(8, 0.3), step(8, 0.0), 0),  # never
        (step(8, 0.3), step(8, 0.3), math.tanh(0.3) ** 2),  # the same
        (step(8, 0.3), step(8, -0.3), math.tanh(0.3) ** 2),  # where one gives what the other takes
        (step(8, 0.1), step(8, 0.9), math.tanh(0.3) ** 2),  # each brought to the root of their product
    ],
)
def test_exclusion_by_hand(one, other, expected):
    """The step is one of 15 changes along a row, of 7 at half the scale, and of 3 at a quarter."""
    found = exclusion(one, other, torch.ones_like(one))
    torch.testing.assert_close(found, torch.tensor(expected * (1 / 15 + 1 / 7 + 1 / 3) / 3), atol=1e-5, rtol=0)


def test_exclusion_counts_changes_inside_the_mask_only():
    where = torch.ones(1, 1, 16, 16)
    where[..., 8:] = 0
    assert exclusion(step(8, 0.3), step(8, 0.3), where) == 0 < exclusion(step(4, 0.3), step(4, 0.3), where)
    assert exclusion(step(8, 0.3), step(8, 0.3), torch.zeros_like(where)) == 0


def test_soft_tissue_shares_edges_with_a_bone_in_it_and_bones_with_each_other_in_their_overlap():
    flat, edge, masks = step(8, 0.0), step(8, 0.3), torch.ones(1, 3, 16, 16)
    once = exclusion(edge, edge, torch.ones_like(edge))
    for parts in ((edge, edge, flat), (edge, flat, edge), (flat, edge, edge)):
        torch.testing.assert_close(shared_edges(torch.cat(parts, dim=1), masks), once)
    masks[:, 1, :8], masks[:, 2, 8:] = 0, 0
    assert shared_edges(torch.cat((flat, edge, edge), dim=1), masks) == 0


def test_it_is_used_as_a_generator_and_keeps_nothing(joints):
    prior = DeepPrior(size=48, dilate_px=2.0)
    assert (prior.recipe.size, prior.recipe.dilate_px) == (48, 2.0) and not prior.state_dict()
    assert DeepPrior().recipe.size == 128
    image, masks = torch.full((1, 1, 256, 256), 0.5), torch.ones(1, 3, 256, 256)
    assert DeepPrior(steps=1)(image, masks).shape == masks.shape
    with pytest.raises(InputError, match=r"20 x 32 px.* 8 divides"):
        prior(joints[0][..., :20], joints[1][..., :20])
