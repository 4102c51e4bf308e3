"""Appearance: statistics of drawn joints whose brightness, edges and profiles are known."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from scipy.special import ndtr

from lsn_core.appearance import FRAME_REGIONS, frame_regions, joint_statistics, ten_to_ninety
from lsn_core.batch import resize
from lsn_core.files import InputError
from lsn_core.joint import Joint
from lsn_core.masks import hand_mask

ROWS, COLUMNS = np.mgrid[:256, :256]
ACROSS = (COLUMNS >= 78) & (COLUMNS < 178)
UPPER, LOWER = ACROSS & (ROWS < 120), ACROSS & (ROWS >= 130)


def joint(image: np.ndarray, *, lower: np.ndarray = LOWER, upper: np.ndarray = UPPER, mm: float | None = 21 / 256):
    """A joint of these pixels and masks, all of it hand."""
    masks = torch.from_numpy(np.stack((np.ones_like(lower), lower, upper)).astype(np.float32))
    return Joint(torch.from_numpy(image.astype(np.float32))[None], masks, name="drawn", joint="drawn", spacing_mm=mm)


def painted(soft: float = 0.3, lower: float = 0.6, upper: float = 0.5, *, sigma: float = 0.0) -> np.ndarray:
    """Two flat bones in flat tissue, blurred."""
    image = np.select([LOWER, UPPER], [lower, upper], soft)
    return ndimage.gaussian_filter(image, sigma, mode="nearest") if sigma else image


def test_brightness_of_every_region():
    image = painted(sigma=1.0)
    image[:, 230:] = 0.02
    found = joint_statistics(joint(image, upper=UPPER | ACROSS & (ROWS < 140)))
    assert found["soft_mean"] == pytest.approx(0.3, abs=0.002) and found["air_mean"] == pytest.approx(0.02)
    assert found["lower_mean"] == pytest.approx(0.6, abs=0.002)
    assert found["overlap_mean"] == pytest.approx(image[LOWER & (ROWS < 140)].mean(), abs=1e-6)
    assert found["overlap_px"] == 1000 and found["contact"] == 1
    assert found["air_share"] == pytest.approx(26 / 256)
    assert found["lower_sd"] < 0.001 and found["air_sd"] == pytest.approx(0, abs=1e-6)


def test_sd_is_that_of_the_pixels():
    image = painted() + 0.02 * np.random.default_rng(0).standard_normal((256, 256))
    found = joint_statistics(joint(image))
    for region in ("soft", "lower", "upper"):
        assert found[f"{region}_sd"] == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("size", [128, 512])
def test_every_frame_size_is_measured_at_256(size):
    """Bones of an even number of px, so that halving them is exact."""
    image = painted(sigma=4.0) + 0.02 * ndimage.gaussian_filter(np.random.default_rng(1).standard_normal((256, 256)), 4)
    same, other = joint_statistics(joint(image)), joint_statistics(resize(joint(image), size))
    for name in ("soft_mean", "lower_mean", "upper_mean", "head_width_mm", "gap_mm", "joint_row_px", "cortex"):
        assert other[name] == pytest.approx(same[name], rel=0.02), name
    assert other["edge_px"] == pytest.approx(same["edge_px"], rel=0.05)


@pytest.mark.parametrize("sigma", [1.5, 2.0, 2.5])
def test_a_step_blurred_by_a_gaussian_is_2_563_sigma_wide(sigma):
    assert joint_statistics(joint(painted(sigma=sigma)))["edge_px"] == pytest.approx(2.563 * sigma, abs=0.16)


def test_edges_are_measured_where_they_are_not_where_the_mask_is_drawn():
    wide = ndimage.binary_dilation(UPPER, np.ones((1, 7)))
    drawn = joint_statistics(joint(painted(sigma=2.0), upper=wide))["edge_px"]
    assert drawn == pytest.approx(2.563 * 2.0, rel=0.03)


def test_edge_of_a_profile_by_hand():
    x = np.arange(-14, 14.01, 0.5)
    assert 0.5 * ten_to_ninety(ndtr(x / 2)) == pytest.approx(2.563 * 2, rel=0.01)
    assert ten_to_ninety(np.clip((x + 5) / 10, 0, 1)) == pytest.approx(16)  # 8 px of a 10 px ramp
    assert np.isnan(ten_to_ninety(np.ones(40))) and np.isnan(ten_to_ninety(-x))


def test_profiles_are_the_ratios_that_were_painted():
    image = painted(lower=0.6, upper=0.5)
    image[UPPER & (ROWS >= 112) & (ROWS < 118)] = 0.8  # a subchondral line
    image[UPPER & (ROWS < 60) & (np.abs(COLUMNS - 127.5) > 35)] = 0.7  # cortices
    image[LOWER & (np.abs(COLUMNS - 127.5) < 20)] = 0.66
    found = joint_statistics(joint(image))
    assert found["subchondral"] == pytest.approx(0.8 / 0.5, rel=1e-3)
    assert found["head_centre"] == pytest.approx(0.66 / 0.6, rel=1e-3)
    assert found["cortex"] > 1.1  # brightest place of each side over the middle


def test_cortex_is_the_brightest_of_each_side_over_the_middle():
    image = painted(upper=0.5)
    image[UPPER & (np.abs(COLUMNS - 127.5) > 35) & (np.abs(COLUMNS - 127.5) < 45)] = 0.7
    assert joint_statistics(joint(image))["cortex"] == pytest.approx(0.7 / 0.5, rel=1e-3)


def test_blockiness_tells_jpeg_from_noise():
    noisy = np.clip(painted(sigma=3) + 0.03 * np.random.default_rng(0).standard_normal((256, 256)), 0, 1)
    buffer = io.BytesIO()
    Image.fromarray((noisy * 255).astype(np.uint8)).save(buffer, "JPEG", quality=20)
    stored = np.asarray(Image.open(buffer)) / 255
    before, after = (joint_statistics(joint(image))["blockiness"] for image in (noisy, stored))
    assert before == pytest.approx(1.0, abs=0.05) and after > 1.3


def test_what_is_absent_is_nan():
    found = joint_statistics(joint(painted(sigma=2.0), mm=None))
    absent = {name for name, value in found.items() if np.isnan(value)}
    spectra = {
        f"{region}_{name}" for region in ("soft", "bone") for name in ("fine", "grain", "slope_low", "slope_high")
    }
    regions = {f"{region}_{name}" for region in ("air", "overlap") for name in ("mean", "sd")}
    assert absent == spectra | regions | {name for name in found if name.endswith("_mm")}


def test_no_bone_beside_the_frame_has_no_edge():
    everywhere = np.ones((256, 256), dtype=bool)
    found = joint_statistics(
        joint(np.full((256, 256), 0.5), lower=everywhere & (ROWS >= 130), upper=everywhere & (ROWS < 120))
    )
    assert np.isnan(found["edge_px"])


def test_frames_that_are_not_square_are_refused():
    crop = replace(joint(painted()), image=torch.zeros(1, 256, 200), masks=torch.ones(3, 256, 200))
    with pytest.raises(InputError, match="crop joints to squares"):
        joint_statistics(crop)


def test_every_pixel_of_a_frame_has_one_region():
    image = painted()
    image[:, 240:] = 0.0
    places = frame_regions(joint(image))
    at = {name: places == k for k, name in enumerate(FRAME_REGIONS)}
    inner = np.zeros_like(UPPER)
    inner[8:-8, 8:-8] = True
    assert places.max() < len(FRAME_REGIONS) and (at["frame border"] == ~inner).all()
    assert (at["air"] == ~hand_mask(image.astype(np.float32)) & inner).all() and at["air"].any()
    assert at["bone"][50, 128] and at["bone"][200, 128] and at["joint space"][125, 128]
    assert at["bone edge"][50, 79] and at["bone edge"][50, 76] and at["soft tissue"][50, 60]
