"""Texture statistics of fields whose spectrum is known."""

import numpy as np
import pytest

from lsn_core.texture import texture_statistics

MM = 21 / 256
WHOLE = np.ones((256, 256), dtype=bool)


def field(slope: float, seed: int = 0, stretch: float = 1.0) -> np.ndarray:
    """A field of unit variance whose power falls as f^slope, `stretch` times longer along the finger."""
    noise = np.fft.fft2(np.random.default_rng(seed).standard_normal((256, 256)))
    f = np.fft.fftfreq(256)
    radius = np.hypot(stretch * f[:, None], f)
    radius[0, 0] = np.inf
    drawn = np.fft.ifft2(noise * radius ** (slope / 2)).real
    return drawn / drawn.std()


@pytest.mark.parametrize("slope", [0.0, -1.0, -2.0, -3.0])
@pytest.mark.parametrize("side", [40, 48])
def test_slope_of_a_power_law(slope, side):
    """Mean of four fields. Taking the plane away also takes some of the lowest waves, which flattens a low band."""
    found = [texture_statistics(field(slope, seed), WHOLE, side, MM) for seed in range(4)]
    assert np.mean([one["slope_high"] for one in found]) == pytest.approx(slope, abs=0.17)
    assert np.mean([one["slope_low"] for one in found]) == pytest.approx(slope, abs=0.3)


@pytest.mark.parametrize("side", [40, 48])
def test_white_noise_keeps_its_sd_and_spreads_over_all_frequencies(side):
    found = texture_statistics(0.03 * field(0.0) + 0.5, WHOLE, side, MM)
    assert found["texture"] == pytest.approx(0.03, rel=0.02)
    assert found["fine"] == pytest.approx(1 - np.pi * (3.0 * MM) ** 2, abs=0.01)  # the plane less a disk


def test_a_plane_is_no_texture():
    down, right = np.mgrid[:256, :256] / 256
    noise = 0.01 * field(0.0)
    bare, tilted = (texture_statistics(image, WHOLE, 48, MM) for image in (noise, noise + 0.3 * down - 0.7 * right))
    assert tilted == pytest.approx(bare, rel=1e-6)


def test_grain_is_above_one_along_the_finger_and_turning_the_image_inverts_it():
    image = field(-1.0, stretch=3.0)
    upright, lying = (texture_statistics(one, WHOLE, 48, MM)["grain"] for one in (image, image.T))
    assert upright > 1.5 and lying == pytest.approx(1 / upright)
    assert texture_statistics(field(-1.0), WHOLE, 48, MM)["grain"] == pytest.approx(1.0, abs=0.15)


def test_only_windows_wholly_inside_count():
    """A bright square cuts every window but those left of it."""
    image, region = 0.01 * field(0.0), WHOLE.copy()
    image[:, 60:] += np.where(np.arange(196) % 2, 0.4, -0.4)
    region[:, 60:] = False
    assert texture_statistics(image, region, 40, MM)["texture"] == pytest.approx(0.01, rel=0.1)
    assert all(np.isnan(v) for v in texture_statistics(image, region & (np.arange(256) > 21), 40, MM).values())


def test_without_spacing_there_are_no_frequencies():
    found = texture_statistics(field(-2.0), WHOLE, 40, np.nan)
    assert np.isfinite(found.pop("texture")) and all(np.isnan(value) for value in found.values())


def test_a_flat_region_has_no_slope():
    found = texture_statistics(np.full((256, 256), 0.4), WHOLE, 40, MM)
    assert found.pop("texture") == pytest.approx(0, abs=1e-12) and all(np.isnan(value) for value in found.values())


def test_pixels_too_coarse_for_a_band_give_no_slope():
    assert np.isnan(texture_statistics(field(-2.0), WHOLE, 40, 0.25)["slope_high"])  # resolves 2 cycles per mm
