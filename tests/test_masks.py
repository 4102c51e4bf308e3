"""Masks: growing agrees with scipy's dilation; the hand is everything but the air."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from lsn_core.masks import at_256, bones, dilate, grow, hand_mask, overlap, to_edge


def blobs(seed: int = 0) -> torch.Tensor:
    """Sparse random masks (2, 3, 40, 31), some pixels of them on the frame."""
    return (torch.rand((2, 3, 40, 31), generator=torch.Generator().manual_seed(seed)) > 0.985).float()


def disk(radius: float) -> np.ndarray:
    y, x = np.mgrid[-int(radius) : int(radius) + 1, -int(radius) : int(radius) + 1]
    return np.hypot(x, y) <= radius


def test_distances_scale_with_the_frame():
    assert [at_256(4.0, size) for size in (256, 128, 64)] == [4, 2, 1]


def test_union_and_overlap_of_the_bones_by_hand():
    masks = torch.tensor([[[[1, 1, 1, 1]], [[0, 1, 1, 0]], [[0, 0, 1, 1]]]]).float()
    assert bones(masks).flatten().tolist() == [0, 1, 1, 1]
    assert overlap(masks).flatten().tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("radius", [1.0, 1.5, 2.0, 3.7, 5.0])
def test_growing_is_scipys_dilation_by_a_disk(radius):
    mask = blobs()[:, :1]
    expected = [ndimage.binary_dilation(one[0].numpy(), disk(radius)) for one in mask]
    np.testing.assert_array_equal(grow(mask, radius)[:, 0].numpy() > 0.5, expected)


def test_growing_a_filled_region_reaches_as_far_as_the_distance_transform_says():
    mask = torch.zeros(1, 1, 30, 30)
    mask[..., 10:16, 8:13] = 1
    away = ndimage.distance_transform_edt(mask[0, 0].numpy() == 0)
    np.testing.assert_array_equal(grow(mask, 4.0)[0, 0].numpy() == 1, away <= 4)


@pytest.mark.parametrize("radius", [0.0, 0.4, 1.0, 3.0])
def test_dilating_never_shrinks_and_the_hand_covers_its_bones(radius):
    masks = blobs()
    masks[:, 0, 10:30, 5:25] = 1
    wide = dilate(masks, radius)
    assert set(wide.unique().tolist()) == {0, 1}
    assert (wide >= masks).all() and (wide[:, :1] >= bones(wide)).all()
    assert (wide[:, 1:].sum() > masks[:, 1:].sum()) == (radius >= 1)
    assert torch.equal(
        wide[:, :1], torch.maximum(masks[:, :1], bones(wide))
    )  # the hand grows no further than its bones


HAND = 0.3 * np.ones((20, 24))


def with_dark(*regions: tuple[slice, slice]) -> np.ndarray:
    image = HAND.copy()
    for region in regions:
        image[region] = 0.01
    return image


def test_air_is_the_largest_dark_region_at_the_frame():
    side, corner, island = np.s_[:, :5], np.s_[17:, 20:], np.s_[8:14, 10:18]
    expected = np.ones(HAND.shape, bool)
    expected[side] = False
    np.testing.assert_array_equal(hand_mask(with_dark(side)), expected)
    np.testing.assert_array_equal(hand_mask(with_dark(side, island)), expected)  # an island stays hand
    np.testing.assert_array_equal(hand_mask(with_dark(side, corner)), expected)  # and so does a smaller dark corner


def test_without_air_all_is_hand_and_a_large_island_is_not_taken_for_air():
    assert hand_mask(HAND).all()
    assert hand_mask(with_dark(np.s_[3:17, 3:20])).all()
    assert hand_mask(with_dark(np.s_[3:17, 3:20], np.s_[0, :2])).sum() == HAND.size - 2


def test_masks_that_stop_short_of_the_frame_reach_it_and_others_do_not():
    masks = torch.zeros(1, 3, 256, 256)
    masks[:, 1, 150:253, 40:80] = 1  # 3 px short of the last row
    masks[:, 2, 6:100, 60:90] = 1  # 6 px away from the first
    masks[:, 0] = masks.amax(dim=1)
    found = to_edge(torch.cat((torch.zeros_like(masks), masks)))[1:]
    assert found[0, 1, 253:, 40:80].all() and found[0, 0, 253:, 40:80].all() and found[0, 1, 253:].sum() == 3 * 40
    assert torch.equal(found[:, 2], masks[:, 2]) and torch.equal(found[..., :253, :], masks[..., :253, :])
    assert torch.equal(to_edge(found), found) and not masks[0, 1, 253:].any()
