"""Traces: laws that hold for any layer, and scipy and numpy as judges."""

from itertools import combinations_with_replacement, pairwise

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.stats import mannwhitneyu

from lsn_core.detector import blurred
from lsn_core.masks import bones
from lsn_core.phantom import drawn, phantoms
from lsn_core.traces import CLEAR, RIDGE, SCALES, around, bands, cross_talk, grain_db, shade_auc

NAMES = list("abcdef")


@pytest.fixture(scope="module", name="joints")
def _joints():
    """Images, true layers and masks of six phantoms at 64 px; three of the hands end in the frame."""
    some = list(phantoms(6, seed=3, size=64))
    return tuple(torch.stack([getattr(joint, name) for joint in some]) for name in ("image", "layers", "masks"))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def column(size: int = 128) -> torch.Tensor:
    """Masks of one wide column of bone, half of it each bone's, in a hand that fills the frame."""
    masks = torch.ones(1, 3, size, size)
    masks[:, 1:, :, : size // 4] = masks[:, 1:, :, -size // 4 :] = 0
    masks[:, 1, : size // 2] = masks[:, 2, size // 2 :] = 0
    return masks


def wave(size: int, period: float) -> torch.Tensor:
    """A cosine down the frame, of so many px at 256."""
    down = torch.cos(2 * torch.pi * torch.arange(size) / (period * size / 256))
    return down[:, None].expand(1, 1, size, size)


# --- means and bands -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES[:3])
def test_means_around_are_scipys_of_the_hand_alone(joints, scale):
    image, _, masks = joints
    hand = masks[:, :1]
    assert (hand == 0).any()
    how = {"sigma": scale * 64 / 256, "mode": "nearest", "truncate": 3.0}
    for mean, one, inside in zip(around(image, hand, scale)[:, 0], image[:, 0], hand[:, 0], strict=True):
        total, weight = (ndimage.gaussian_filter(x.double().numpy(), **how) for x in (one * inside, inside))
        known = inside.numpy() > 0
        np.testing.assert_allclose(mean.numpy()[known], total[known] / weight[known], atol=1e-5)


@pytest.mark.parametrize("scale", SCALES)
def test_the_mean_of_a_constant_is_the_constant_at_the_hands_edge_too_whatever_the_air(joints, scale):
    image, _, masks = joints
    hand = masks[:, :1] > 0
    found = around(torch.where(hand, 0.3, image + 0.5), hand.float(), scale)
    torch.testing.assert_close(found[hand], torch.full_like(found[hand], 0.3))


def test_bands_add_up_to_what_lies_between_the_finest_and_the_widest_mean(joints):
    image, _, masks = joints
    hand, soft = masks[:, :1], image + noise(6, 1, 64, 64)
    found = bands(soft, hand)
    whole = (around(soft, hand, SCALES[0]) - around(soft, hand, SCALES[-1])) * hand
    torch.testing.assert_close(found.sum(dim=1, keepdim=True), whole, atol=1e-5, rtol=0)
    assert not found[(hand == 0).expand_as(found)].any() and found.std(dim=(0, 2, 3)).min() > 0.01
    assert bands(torch.full_like(soft, 0.7), hand).abs().max() < 1e-6


@pytest.mark.parametrize("size", [128, 256])
@pytest.mark.parametrize("period", [8, 16, 30, 64])
def test_bands_pass_the_waves_between_their_scales(size, period):
    """The Fourier transform of a Gaussian of SD s is exp(-2 (pi s / period)^2); far from the frame's edges."""
    passed = [np.exp(-2 * (np.pi * scale / period) ** 2) for scale in SCALES]
    made, middle = wave(size, period), slice(size * 3 // 8, size * 5 // 8)
    for band, (fine, coarse) in zip(bands(made, torch.ones_like(made))[0], pairwise(passed), strict=True):
        np.testing.assert_allclose(band[middle, middle], (fine - coarse) * made[0, 0, middle, middle], atol=0.01)


# --- grain -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [0.1, 1.0, 3.0])
def test_grain_that_is_so_many_times_as_strong_under_bone(times):
    masks = column()
    soft = 0.3 + 0.01 * wave(128, 16) * torch.where(bones(masks) > 0, times, 1.0)
    assert float(grain_db(soft, masks)) == pytest.approx(20 * np.log10(times), abs=0.02)


def test_grain_is_the_ratio_of_the_powers_that_numpys_fft_finds_in_the_band():
    masks, (fine, coarse) = column(256), SCALES[:2]
    soft = 0.3 + 0.01 * noise(1, 1, 256, 256) * torch.where(bones(masks) > 0, 2.0, 1.0)
    wide = np.pad(soft[0, 0].double().numpy(), 32, mode="edge")
    waves = np.hypot(np.fft.fftfreq(320)[:, None], np.fft.fftfreq(320)[None, :])
    passed = np.exp(-2 * (np.pi * fine * waves) ** 2) - np.exp(-2 * (np.pi * coarse * waves) ** 2)
    power = np.fft.ifft2(np.fft.fft2(wide) * passed).real[32:-32, 32:-32] ** 2
    inside = bones(masks)[0, 0].numpy() > 0
    under, beside = (ndimage.distance_transform_edt(part) > CLEAR for part in (inside, ~inside))
    expected = 10 * np.log10(power[under].mean() / power[beside].mean())
    assert float(grain_db(soft, masks)) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("size", [64, 128, 256])
def test_a_shadow_of_the_bone_is_no_grain(size):
    """A bright bone shows in the band only near its contour, where grain is not measured."""
    masks = column(size)
    soft = 0.3 + 0.02 * noise(1, 1, size, size)
    torch.testing.assert_close(grain_db(soft + 0.3 * bones(masks), masks), grain_db(soft, masks), atol=1e-3, rtol=0)


def test_the_air_has_no_grain():
    masks, soft = column(), 0.3 + 0.02 * noise(1, 1, 128, 128)
    masks[:, 0, :, :16] = 0
    found = grain_db(soft, masks)
    soft[..., :16] = noise(1, 1, 128, 16)
    torch.testing.assert_close(grain_db(soft, masks), found)
    assert found.abs() < 1.5


def test_smooth_flesh_is_cut_and_a_slope_is_no_grain():
    masks = column()
    texture, ramp = 0.01 * noise(1, 1, 128, 128), torch.linspace(0, 0.2, 128)[:, None]
    assert grain_db(0.3 + texture * (1 - bones(masks)), masks) == -60
    assert grain_db(0.3 + texture * bones(masks), masks) == 60
    torch.testing.assert_close(grain_db(0.3 + texture + ramp, masks), grain_db(0.3 + texture, masks), atol=0.1, rtol=0)


def test_grain_is_not_a_number_without_flesh_beside_or_under_bone():
    whole, narrow = torch.ones(1, 3, 32, 32), column(32)
    narrow[:, 1:, :, :14] = narrow[:, 1:, :, 18:] = 0  # 4 px: nothing is 2 px from both sides
    assert grain_db(noise(1, 1, 32, 32), whole).isnan() and grain_db(noise(1, 1, 32, 32), narrow).isnan()
    assert grain_db(noise(1, 1, 32, 32), column(32)).isfinite()


def test_the_same_anatomy_has_the_same_grain_at_another_size():
    for seed in (3, 4):
        small, large = (next(drawn(1, seed=seed, size=size)).render() for size in (128, 256))
        for name in ("image", "layers"):
            found = [float(grain_db(getattr(one, name)[None, :1], one.masks[None])) for one in (small, large)]
            assert found[0] == pytest.approx(found[1], abs=0.5)


# --- cross-talk ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [0.2, -0.1])
@pytest.mark.parametrize("size", [64, 128])
def test_a_layer_that_is_the_outline_is_all_cross_talk(gain, size):
    masks = torch.stack([joint.masks for joint in phantoms(3, seed=3, size=size)])
    outline = blurred(bones(masks), 3 * size / 256)
    torch.testing.assert_close(cross_talk(0.5 + gain * outline, masks), torch.ones(3))
    assert cross_talk(0.5 + gain * outline + 0.05 * noise(3, 1, size, size), masks).max() < 0.95


def test_noise_has_no_cross_talk_and_radiographs_more_than_flesh(joints):
    image, layers, masks = joints
    assert cross_talk(noise(6, 1, 64, 64), masks).max() < 0.05  # 1 / 64 is the SD of a chance correlation
    assert (cross_talk(image, masks) > 0.3).all() and (cross_talk(layers[:, :1], masks) < 0.15).all()


@pytest.mark.parametrize(("gain", "offset"), [(3.0, 0.1), (-0.2, 0.5)])
def test_cross_talk_knows_no_gain_and_no_offset_and_no_air(joints, gain, offset):
    image, _, masks = joints
    changed = torch.where(masks[:, :1] > 0, gain * image + offset, noise(6, 1, 64, 64))
    torch.testing.assert_close(cross_talk(changed, masks), cross_talk(image, masks), atol=1e-4, rtol=0)


def test_cross_talk_is_not_a_number_without_a_slope_or_an_outline(joints):
    image, _, masks = joints
    assert cross_talk(torch.full_like(image, 0.4), masks).isnan().all()
    assert cross_talk(image, masks * torch.tensor([1.0, 0.0, 0.0])[:, None, None]).isnan().all()


def test_slopes_are_those_of_numpy_inside_the_hand(joints):
    image, _, masks = joints
    for k in range(6):
        inside = masks[k, 0].numpy()
        inside = inside[:-1, :-1] * inside[1:, :-1] * inside[:-1, 1:] * inside[1:, 1:]
        outline = ndimage.gaussian_filter(bones(masks)[k, 0].numpy(), 3 * 64 / 256, mode="nearest", truncate=3.0)

        def slopes(plane: np.ndarray, inside: np.ndarray = inside) -> np.ndarray:
            down, right = np.diff(plane, axis=0), np.diff(plane, axis=1)
            return (np.stack((right[:-1] + right[1:], down[:, :-1] + down[:, 1:])) * inside).ravel()

        one, other = slopes(image[k, 0].numpy()), slopes(outline)
        expected = abs(one @ other) / np.sqrt((one @ one) * (other @ other))
        assert float(cross_talk(image, masks)[k]) == pytest.approx(expected, rel=1e-3)


# --- shade -----------------------------------------------------------------------------------------------------------


def judged(soft: torch.Tensor, masks: torch.Tensor, names: list[str]) -> list[float]:
    """The areas by numpy's least squares and scipy's ranks."""
    hand, bone = (plane[:, 0].numpy() > 0 for plane in (masks[:, :1], bones(masks)))
    shades = bands(soft, masks[:, :1]).double().numpy()
    shades = np.moveaxis(shades / shades.std(axis=(0, 2, 3), ddof=1, keepdims=True), 1, 0)
    seen = np.stack([a * b for a, b in combinations_with_replacement([np.ones_like(shades[0]), *shades], 2)], axis=-1)
    areas = []
    for k, name in enumerate(names):
        half = [sorted(set(names)).index(other) % 2 != sorted(set(names)).index(name) % 2 for other in names]
        rows, wanted = seen[half][hand[half]], np.where(bone[half][hand[half]], 1.0, -1.0)
        ridge = np.sqrt(RIDGE * len(rows)) * np.eye(10)
        weights = np.linalg.lstsq(np.concatenate((rows, ridge)), np.concatenate((wanted, np.zeros(10))))[0]
        under, beside = (seen[k][hand[k] & part] @ weights for part in (bone[k], ~bone[k]))
        areas.append(mannwhitneyu(under, beside, method="asymptotic").statistic / (len(under) * len(beside)))
    return areas


@pytest.mark.parametrize("names", ["abcdef", "aabbcc", "bacbab"])
def test_the_probe_is_least_squares_on_the_joints_of_the_other_half(joints, names):
    image, layers, masks = joints
    for soft in (image, layers[:, :1] + 0.02 * noise(6, 1, 64, 64)):
        found = shade_auc(soft, masks, list(names))
        assert found.tolist() == pytest.approx(judged(soft, masks, list(names)), abs=2e-3)


def test_bright_bones_are_told_and_noise_tells_next_to_nothing(joints):
    image, layers, masks = joints
    bright = 0.3 + 0.3 * blurred(bones(masks), 1.5)
    assert shade_auc(bright, masks, NAMES).min() > 0.99
    found = shade_auc(image, masks, NAMES)
    assert found.min() > 0.85 and (found > shade_auc(layers[:, :1], masks, NAMES) + 0.1).all()
    blind = torch.stack([shade_auc(noise(6, 1, 64, 64, seed=seed), masks, NAMES) for seed in range(8)]).mean()
    assert blind == pytest.approx(0.5, abs=0.06)


def test_visits_of_a_joint_are_never_on_both_sides():
    """Bones are bright in one joint and dark in the other: who has seen the other alone is wrong everywhere."""
    masks = column(64).expand(8, -1, -1, -1)
    sign = torch.tensor([1.0, 1.0, -1.0, -1.0] * 2)[:, None, None, None]
    soft = 0.3 + 0.1 * sign * blurred(bones(masks), 2.0) + 0.001 * noise(8, 1, 64, 64)
    assert shade_auc(soft, masks, list("aabbaabb")).max() < 0.1
    assert shade_auc(sign * soft, masks, list("aabbaabb")).min() > 0.9


@pytest.mark.parametrize("names", ["abacba", "dbdcbd", "abacda"])
def test_a_visit_changes_nothing_for_other_visits_of_its_joint(joints, names):
    image, _, masks = joints
    changed = image.clone()
    changed[0] *= -1  # the bands keep their spread
    difference = (shade_auc(changed, masks, list(names)) - shade_auc(image, masks, list(names))).abs()
    assert difference[2] < 1e-3 and difference[5] < 1e-3 < difference.max()


def test_neither_places_nor_the_order_of_images_are_known(joints):
    image, _, masks = joints
    found, order = shade_auc(image, masks, NAMES), torch.tensor([3, 0, 5, 1, 4, 2])
    for axis in (-1, -2):
        mirrored = shade_auc(image.flip(axis), masks.flip(axis), NAMES)
        torch.testing.assert_close(found, mirrored, atol=2e-3, rtol=0)
    again = shade_auc(image[order], masks[order], [NAMES[k] for k in order])
    torch.testing.assert_close(again, found[order], atol=1e-3, rtol=0)


def test_an_empty_layer_is_at_chance_and_all_bone_or_none_is_not_a_number(joints):
    image, _, masks = joints
    assert shade_auc(torch.zeros_like(image), masks, NAMES).tolist() == [0.5] * 6
    masks = masks.clone()
    masks[1, 1:], masks[4, 1:] = 0, masks[4, :1]
    assert shade_auc(image, masks, NAMES).isnan().tolist() == [False, True, False, False, True, False]


def test_with_a_single_joint_nobody_can_be_asked(joints):
    image, _, masks = joints[:3]
    assert shade_auc(image[:2], masks[:2], ["a", "a"]).isnan().all()
