"""Defects: drawn strips and ghosts of known strength, and none in drawn truth."""

import numpy as np
import pytest
import torch

from lsn_core.defects import border_gap, ghost
from lsn_core.masks import bones
from lsn_core.phantom import Phantom

SIZE, ROWS = 128, 6
TEXTURE = 0.05 * torch.rand(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def masks_at(top: int, bottom: int) -> torch.Tensor:
    """Masks of two bars at both edges that end at row `top` and begin at row `bottom`, in a hand all over."""
    masks = torch.zeros(1, 3, SIZE, SIZE)
    masks[:, 0] = 1
    masks[:, 2, :top, 40:90] = 1
    masks[:, 1, bottom:, 40:90] = 1
    return masks


BEFORE = masks_at(60, 70)
APART = masks_at(50, 80)


@pytest.mark.parametrize("strength", [0.0, 0.25, -0.25, -1.0])
def test_a_strip_is_as_dark_as_it_was_drawn(strength):
    image = (0.5 * bones(BEFORE) + 0.1).expand(1, 1, SIZE, SIZE).clone()
    for rows in (slice(0, ROWS), slice(SIZE - ROWS, SIZE)):
        image[..., rows, :] *= 1 + strength
    found = border_gap(image, BEFORE, ROWS)
    torch.testing.assert_close(found["gap"], torch.tensor([strength]))


def test_the_grain_of_a_strip_of_stripes_is_none_and_of_grain_all_of_it():
    whole = 0.4 + TEXTURE
    striped = whole.clone()
    striped[..., :ROWS, :] = whole[..., ROWS : ROWS + 1, :]
    striped[..., -ROWS:, :] = whole[..., -ROWS - 1 : -ROWS, :]
    assert abs(border_gap(whole, BEFORE, ROWS)["grain"].item() - 1) < 0.1
    assert border_gap(striped, BEFORE, ROWS)["grain"].item() < 0.15  # the last row has no next one


def test_what_is_beside_the_bones_does_not_count_for_the_strip():
    image = 0.4 + TEXTURE
    other = torch.where(bones(BEFORE) > 0, image, torch.zeros_like(image))
    one, two = (border_gap(shown, BEFORE, ROWS)["gap"] for shown in (image, other))
    torch.testing.assert_close(one, two)


def test_bones_that_reach_no_edge_have_no_strip():
    masks = BEFORE.clone()
    masks[..., : 2 * ROWS, :] = masks[..., -2 * ROWS :, :] = 0
    assert all(np.isnan(value.item()) for value in border_gap(0.4 + TEXTURE, masks, ROWS).values())


@pytest.mark.parametrize("strength", [0.0, 0.1, 0.5, -0.2])
def test_a_ghost_is_as_bright_as_it_was_drawn(strength):
    """Where the bones were and are no more it is brighter by so much than beside it."""
    left = bones(BEFORE) * (1 - bones(APART))
    image = 0.3 * (1 + strength * left) + 0.4 * bones(APART)
    torch.testing.assert_close(ghost(image, BEFORE, APART), torch.tensor([strength]), atol=1e-5, rtol=0)


def test_what_has_not_moved_has_no_ghost():
    assert ghost(0.4 + TEXTURE, BEFORE, BEFORE).isnan().all()


def test_each_image_has_its_own_defects():
    left = bones(BEFORE) * (1 - bones(APART))
    images = torch.cat((0.3 * (1 + 0.1 * left), 0.3 * (1 + 0.3 * left)))
    masks = [planes.expand(2, -1, -1, -1) for planes in (BEFORE, APART)]
    torch.testing.assert_close(ghost(images, *masks), torch.tensor([0.1, 0.3]), atol=1e-5, rtol=0)
    assert border_gap(images, masks[0], ROWS)["gap"].shape == (2,)


@pytest.mark.parametrize("size", [96, 128])
def test_a_phantom_drawn_again_has_hardly_any(size):
    """The measures of truth itself: what they show of a synthetic image is beside these."""
    phantom = Phantom(4, "ring", size=size)
    before, after = phantom.render(1.2), phantom.render(2.4)
    found = border_gap(after.image[None], after.masks[None], round(8 * size / 256))
    assert abs(found["gap"]) < 0.1 and 0.5 < found["grain"] < 1.5
    assert abs(ghost(after.image[None], before.masks[None], after.masks[None])) < 0.15
