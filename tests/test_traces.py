"""Traces: laws that hold for any layer, and scipy and numpy as judges."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from lsn_core.detector import blurred
from lsn_core.masks import bones
from lsn_core.phantom import phantoms
from lsn_core.traces import SCALES, around, bands, cross_talk, grain_db, shade_auc


@pytest.fixture(scope="module", name="joints")
def _joints():
    """Images, true layers and masks of six phantoms at 64 px."""
    drawn = list(phantoms(6, seed=3, size=64))
    return tuple(torch.stack([getattr(joint, name) for joint in drawn]) for name in ("image", "layers", "masks"))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def column(size: int = 128) -> torch.Tensor:
    """Masks of one wide column of bone, half of it each bone's, in a hand that fills the frame."""
    masks = torch.ones(1, 3, size, size)
    masks[:, 1:, :, : size // 4] = masks[:, 1:, :, -size // 4 :] = 0
    masks[:, 1, : size // 2] = masks[:, 2, size // 2 :] = 0
    return masks


def test_means_around_are_scipys_of_the_hand_alone(joints):
    image, _, masks = joints
    hand = masks[:, :1]
    found = around(image, hand, 10.0)  # 2.5 px
    for mean, one, inside in zip(found[:, 0], image[:, 0].numpy(), hand[:, 0].numpy(), strict=True):
        total, weight = (ndimage.gaussian_filter(x, 2.5, mode="nearest", truncate=3.2) for x in (one * inside, inside))
        known = inside > 0
        np.testing.assert_allclose(mean.numpy()[known], (total / weight)[known], atol=4e-3)
    flat = around(0.3 * torch.ones_like(image), hand, 10.0)
    torch.testing.assert_close(flat[hand > 0], torch.full_like(flat[hand > 0], 0.3))


def test_bands_add_up_to_what_lies_between_the_finest_and_the_widest_mean(joints):
    image, _, masks = joints
    hand = masks[:, :1]
    whole = (around(image, hand, SCALES[0]) - around(image, hand, SCALES[-1])) * hand
    torch.testing.assert_close(bands(image, hand).sum(dim=1, keepdim=True), whole, atol=1e-6, rtol=0)
    assert bands(torch.ones_like(image), hand).abs().max() < 1e-6


@pytest.mark.parametrize("times", [0.5, 1.0, 3.0])
def test_grain_that_is_so_many_times_as_strong_under_bone(times):
    masks = column()
    texture = 0.01 * noise(8, 1, 128, 128)
    soft = 0.3 + texture * torch.where(bones(masks) > 0, times, 1.0)
    found = grain_db(soft, masks.expand(8, -1, -1, -1)).mean()
    assert found == pytest.approx(20 * np.log10(times), abs=0.8)


def test_smooth_flesh_is_cut_and_a_slope_is_no_grain():
    masks = column()
    texture, ramp = 0.01 * noise(1, 1, 128, 128), torch.linspace(0, 0.2, 128)[:, None]
    smooth = 0.3 + texture * (1 - bones(masks))
    assert grain_db(smooth, masks) == -60
    torch.testing.assert_close(grain_db(0.3 + texture + ramp, masks), grain_db(0.3 + texture, masks), atol=0.1, rtol=0)
    assert grain_db(torch.zeros(1, 1, 32, 32), torch.ones(1, 3, 32, 32)).isnan()  # no flesh beside


@pytest.mark.parametrize("gain", [0.2, -0.1])
def test_a_layer_that_is_the_outline_is_all_cross_talk(joints, gain):
    masks = joints[2]
    outline = blurred(bones(masks), 3 * 64 / 256)
    torch.testing.assert_close(cross_talk(0.5 + gain * outline, masks), torch.ones(6))
    assert cross_talk(noise(6, 1, 64, 64), masks).max() < 0.1
    assert cross_talk(torch.full((6, 1, 64, 64), 0.4), masks).isnan().all()


def test_slopes_are_those_of_numpy_inside_the_hand(joints):
    image, _, masks = (part[:1] for part in joints)
    outline = blurred(bones(masks), 3 * 64 / 256)
    inside = masks[0, 0].numpy()
    inside = inside[:-1, :-1] * inside[1:, :-1] * inside[:-1, 1:] * inside[1:, 1:]

    def slopes(plane: np.ndarray) -> np.ndarray:
        down, right = np.diff(plane, axis=0), np.diff(plane, axis=1)
        return np.stack((right[:-1] + right[1:], down[:, :-1] + down[:, 1:])) * inside

    one, other = slopes(image[0, 0].numpy()).ravel(), slopes(outline[0, 0].numpy()).ravel()
    expected = abs(one @ other) / np.sqrt((one @ one) * (other @ other))
    assert float(cross_talk(image, masks)) == pytest.approx(expected, rel=1e-4)


def test_shade_tells_bright_bones_and_not_noise(joints):
    image, layers, masks = joints
    names = list("abcdef")
    assert shade_auc(noise(6, 1, 64, 64), masks, names).mean() == pytest.approx(0.5, abs=0.06)
    bright = shade_auc(image, masks, names).mean()
    assert bright > 0.8 and bright > shade_auc(layers[:, :1], masks, names).mean() + 0.1


def test_visits_of_a_joint_are_never_on_both_sides():
    """Noise with a sign of its own in each joint: only who has seen the joint can tell its bones."""
    masks = column(64).expand(8, -1, -1, -1)
    sign = torch.tensor([1.0, 1.0, -1.0, -1.0] * 2)[:, None, None, None]  # visits are alike, the two joints opposite
    soft = 0.3 + 0.1 * sign * blurred(bones(masks), 2.0) + 0.001 * noise(8, 1, 64, 64)
    known = shade_auc(soft, masks, ["a", "b"] * 4)  # each half has both signs: products of shades still tell
    asked = shade_auc(soft, masks, ["a", "a", "b", "b"] * 2)
    assert asked.mean() < 0.5 or asked.mean() < known.mean()


def test_mirrored_joints_are_told_alike_for_no_place_is_known(joints):
    image, _, masks = joints
    names = list("abcdef")
    found = shade_auc(image, masks, names)
    torch.testing.assert_close(found, shade_auc(image.flip(-1), masks.flip(-1), names), atol=2e-3, rtol=0)


def test_an_empty_layer_is_at_chance(joints):
    masks = joints[2]
    assert shade_auc(torch.zeros(6, 1, 64, 64), masks, list("abcdef")).tolist() == [0.5] * 6
