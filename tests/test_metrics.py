"""Metrics: hand-computed values, and independent libraries as judges."""

import numpy as np
import piq
import pytest
import torch
from scipy import ndimage
from scipy.linalg import sqrtm
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import peak_signal_noise_ratio as torchmetrics_psnr

from lsn_core.metrics import (
    clipped_share,
    halo,
    masked_mean,
    masked_mse,
    mse,
    psnr,
    ring_errors,
    row_frechet,
    shadow_contrast,
    ssim,
)
from lsn_core.phantom import phantoms


def pair(size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Radiographs (3, 1, h, w), and the same a little brighter, smoother and noisier."""
    target = torch.stack([joint.image for joint in phantoms(3, seed=2, size=size)])
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    blurred = torch.nn.functional.avg_pool2d(target, 5, stride=1, padding=2)
    return (blurred * 1.03 + noise * torch.tensor([0.01, 0.04, 0.2])[:, None, None, None]).clamp(0, 1), target


def flat_overlap(image_in_both: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two flat bones of 0.6 and 0.5 over flesh of 0.3, 64 px high and wide, and what is seen where both are."""
    masks = torch.ones(1, 3, 64, 64)
    masks[:, 1, :20], masks[:, 2, 40:] = 0, 0
    image = torch.full((1, 1, 64, 64), image_in_both)
    image[:, :, :20], image[:, :, 40:] = 0.5, 0.6
    return image, masks, torch.full_like(image, 0.3)


@pytest.mark.parametrize("rule", ["added", "Eq. 10"])
def test_ring_errors_vanish_where_the_rule_holds(rule):
    truth = {"added": 0.6 + 0.5 - 0.3, "Eq. 10": 1 - 0.4 * 0.5 / 0.7}
    errors, enough = ring_errors(*flat_overlap(truth[rule]))
    assert enough.tolist() == [True] and errors[rule].item() == pytest.approx(0, abs=1e-6)
    (other,) = truth.keys() - {rule}
    assert errors[other].item() == pytest.approx(truth[rule] - truth[other], abs=1e-6)


def test_ring_errors_need_an_overlap():
    image, masks, fill = flat_overlap(0.7)
    masks[:, 2] = 0
    errors, enough = ring_errors(image, masks, fill)
    assert enough.tolist() == [False] and all(len(error) == 0 for error in errors.values())


def test_masked_means_by_hand_and_not_a_number_without_pixels():
    values = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]).reshape(2, 1, 2, 2)
    mask = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]]).reshape(2, 1, 2, 2)
    for found, expected in ((masked_mean(values, mask), 2.5), (masked_mse(values, values + 2 * mask, mask), 4.0)):
        assert found[0] == expected and found[1].isnan()
    torch.testing.assert_close(mse(values, values + 2 * mask), torch.tensor([2.0, 0.0]))
    assert clipped_share(torch.tensor([[[[1.0, 0.99, 1.0, 1.0]]]]), torch.tensor([[[[1.0, 1.0, 1.0, 0.0]]]])) == 2 / 3


def test_psnr_by_hand_and_by_the_judges():
    assert psnr(torch.tensor([1.0, 0.01, 1e-4, 0.0])).tolist() == pytest.approx([0, 20, 40, 160])
    predicted, target = pair()
    ours = psnr(mse(predicted, target))
    for k in range(3):
        reference = peak_signal_noise_ratio(target[k, 0].numpy(), predicted[k, 0].numpy(), data_range=1.0)
        assert float(ours[k]) == pytest.approx(reference, abs=1e-3)
        assert float(ours[k]) == pytest.approx(
            float(torchmetrics_psnr(predicted[k], target[k], data_range=1.0)), abs=1e-3
        )


def test_ssim_agrees_with_scikit_image_and_piq():
    predicted, target = pair()
    ours = ssim(predicted, target)
    judged = piq.ssim(predicted, target, data_range=1.0, reduction="none", downsample=False)
    torch.testing.assert_close(ours, judged, atol=1e-4, rtol=0)
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    for k in range(3):
        reference = structural_similarity(predicted[k, 0].numpy(), target[k, 0].numpy(), **gaussian)
        assert float(ours[k]) == pytest.approx(reference, abs=1e-4)
    assert ours[0] > ours[1] > ours[2]
    torch.testing.assert_close(ssim(target, target), torch.ones(3))


def test_ssim_of_two_flat_images_by_hand():
    a, b, c = 0.2, 0.6, 0.01**2  # without structure only the luminance term is left
    flat = ssim(torch.full((1, 1, 32, 32), a), torch.full((1, 1, 32, 32), b))
    assert float(flat) == pytest.approx((2 * a * b + c) / (a * a + b * b + c), abs=1e-4)


def frechet_by_roots(predicted: np.ndarray, target: np.ndarray) -> float:
    """The textbook formula, with a matrix root."""
    mean = predicted.mean(axis=0) - target.mean(axis=0)
    one, two = np.cov(predicted, rowvar=False), np.cov(target, rowvar=False)
    return float(mean @ mean + np.trace(one + two - 2 * sqrtm(one @ two).real))


def test_row_frechet_is_the_textbook_formula_over_rows():
    random = torch.rand((3, 1, 60, 12), generator=torch.Generator().manual_seed(0))
    other = 0.2 + 0.5 * torch.rand((3, 1, 60, 12), generator=torch.Generator().manual_seed(1))
    for k, ours in enumerate(row_frechet(random, other)):
        reference = frechet_by_roots(random[k, 0].double().numpy(), other[k, 0].double().numpy())
        assert float(ours) == pytest.approx(reference, rel=1e-5)


def test_row_frechet_by_hand_even_where_covariances_are_singular():
    rows = torch.tensor([[0.0, 0.0], [1.0, 0.0]])[None, None]  # variance 0.5 along x alone
    across = torch.tensor([[0.0, 0.0], [0.0, 1.0]])[None, None]  # 0.5 along y alone: nothing shared
    assert float(row_frechet(rows, across)) == pytest.approx(0.25 + 0.25 + 0.5 + 0.5)
    assert float(row_frechet(rows, rows + 0.5)) == pytest.approx(2 * 0.25)  # the means differ, the spread does not
    assert float(row_frechet(rows, 3 * rows)) == pytest.approx(1 + 0.5 * (3 - 1) ** 2)
    predicted, target = pair()
    assert (row_frechet(target, target) < 1e-6).all()
    found = row_frechet(predicted, target)
    assert found[2] > found[1] > found[0] > 0
    torch.testing.assert_close(row_frechet(target, predicted), found, atol=1e-5, rtol=1e-4)


def square(size: int = 64, soft: float = 0.25) -> tuple[torch.Tensor, torch.Tensor]:
    """Uniform tissue, and masks of one square bone of half the frame's side."""
    masks = torch.zeros(1, 3, size, size)
    masks[:, 0] = 1
    masks[:, 1, size // 4 : -size // 4, size // 4 : -size // 4] = 1
    return torch.full((1, 1, size, size), soft), masks


@pytest.mark.parametrize("size", [64, 256])
def test_shadow_contrast_of_a_square_of_known_contrast(size):
    soft, masks = square(size)
    assert shadow_contrast(soft, masks) == 0
    for contrast in (0.4, -0.2):
        shadowed = soft * (1 + contrast * masks[:, 1:2])
        assert float(shadow_contrast(shadowed, masks)) == pytest.approx(contrast, rel=1e-4)
        assert float(shadow_contrast(shadowed / 3, masks)) == pytest.approx(contrast, rel=1e-4)


def test_shadow_contrast_looks_only_six_pixels_of_256_to_each_side_and_only_in_the_hand():
    soft, masks = square(256)
    deep, far, air = soft.clone(), soft.clone(), soft.clone()
    deep[..., 70:-70, 70:-70] = 0.9  # 6 px inside the contour and more
    far[..., :58, :] = far[..., :58] = 0.9  # 6 px outside and more
    assert shadow_contrast(deep, masks) == shadow_contrast(far, masks) == 0
    air[..., :64] = 0  # air reaches the bone's left side
    masks[:, 0, :, :64] = 0
    assert shadow_contrast(air, masks) == 0
    deep[..., 69, 128] = 0.9  # the last pixel of the band
    assert shadow_contrast(deep, masks) > 0


def test_a_band_that_is_empty_gives_not_a_number():
    soft, masks = square()
    masks[:, 1] = 0
    assert shadow_contrast(soft, masks).isnan() and halo(soft, masks).isnan()
    masks[:, 1] = 1
    assert shadow_contrast(soft, masks).isnan() and halo(soft, masks).isnan()


def test_halo_compares_three_pixels_beside_the_bone_with_nine_to_twelve():
    soft, masks = square(128, 0.2)
    assert float(halo(soft, masks)) == pytest.approx(0, abs=1e-6)
    away = 2 * torch.from_numpy(ndimage.distance_transform_edt(masks[0, 1].numpy() == 0))  # px at 256
    for reach, expected in ((3, 0.5), (9, 0.5), (12, 0.0)):  # px outside that are bright; the far band is beyond 9
        rim = torch.where(away <= reach, 0.3, soft)
        assert float(halo(rim, masks)) == pytest.approx(expected, abs=1e-4)
