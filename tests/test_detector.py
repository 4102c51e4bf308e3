"""Detectors: each violation of Eq. 4 by itself, at its commanded strength."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.signal import welch

from lsn_core.detector import COMPUTED_RADIOGRAPHY, PIXEL_MM, VEIL_MM, Detector
from lsn_core.joint import Joint
from lsn_core.phantom import Phantom

SPACING_MM = 0.1
OFF = {field.name: field.default for field in fields(Detector)}


def joint_of(image: torch.Tensor, spacing_mm: float | None = SPACING_MM) -> Joint:
    """A joint of which only the image matters; (h, w) in [0, 1]."""
    masks = torch.ones(3, *image.shape)
    return Joint(image[None].float(), masks, "test", "test", spacing_mm=spacing_mm, layers=masks / 4)


def shown(detector: Detector, image: torch.Tensor, *, spacing_mm: float = SPACING_MM, seed: int = 0) -> np.ndarray:
    return detector.expose(joint_of(image, spacing_mm), seed=seed).image[0].double().numpy()


def wave(cycles_per_mm: float, *, size: int = 192) -> torch.Tensor:
    """Half transmitted, and 0.3 more and less in stripes across the finger."""
    along = torch.arange(size) * SPACING_MM
    return 0.5 + 0.3 * torch.cos(2 * math.pi * cycles_per_mm * along)[None, :].expand(size, size)


def contrast(image: np.ndarray, cycles_per_mm: float) -> float:
    """Amplitude of the stripes, from whole periods in the middle of the frame."""
    period = round(1 / cycles_per_mm / SPACING_MM)
    middle = image[96, 96 - 2 * period : 96 + 2 * period]
    return 2 * abs(np.exp(-2j * np.pi * np.arange(4 * period) / period) @ middle) / (4 * period)


def flat(value: float, size: int = 140) -> torch.Tensor:
    return torch.full((size, size), value)


def test_a_perfect_detector_shows_what_there_is():
    joint = Phantom(3, size=64).render()
    exposed = Detector().expose(joint, seed=0)
    torch.testing.assert_close(exposed.image, joint.image, atol=1e-6, rtol=0)
    assert set(OFF.values()) == {0.0, 1.0, None}


def test_only_the_image_changes():
    joint = Phantom(3, size=64).render()
    before = {field.name: getattr(joint, field.name) for field in fields(joint)}
    copies = {name: value.clone() for name, value in before.items() if isinstance(value, torch.Tensor)}
    exposed = COMPUTED_RADIOGRAPHY.expose(joint, seed=0)
    assert (exposed.image - joint.image).abs().mean() > 1e-3 and exposed.image.shape == joint.image.shape
    for name in before:
        assert name == "image" or getattr(exposed, name) is before[name]
    assert all(torch.equal(getattr(joint, name), copy) for name, copy in copies.items())  # nor what was given


@given(
    blur=st.floats(0, 0.5),
    noise=st.floats(0, 0.9),
    scatter=st.floats(0, 0.9),
    fog=st.floats(0, 0.9),
    gamma=st.floats(0.2, 4),
    jpeg=st.none() | st.integers(1, 95),
    size=st.integers(16, 48),
)
def test_any_detector_shows_an_image(blur, noise, scatter, fog, gamma, jpeg, size):
    detector = Detector(blur, noise, scatter, fog, gamma, jpeg)
    image = torch.rand(size, size + 5, generator=torch.Generator().manual_seed(size)).round(decimals=1)
    exposed = detector.expose(joint_of(image, 21 / size), seed=1).image
    assert exposed.shape == (1, size, size + 5) and exposed.dtype == torch.float32
    assert exposed.isfinite().all() and exposed.min() >= 0 and exposed.max() <= 1


@pytest.mark.parametrize("blur_mm", [0.1, 0.15, 0.3])
@pytest.mark.parametrize("frequency", [0.25, 0.5, 1.0, 2.5])
def test_blur_has_the_transfer_function_of_its_point_spread(blur_mm, frequency):
    left = contrast(shown(Detector(blur_mm=blur_mm), wave(frequency)), frequency) / 0.3
    # A point spread of 0.1 mm sampled at 0.1 mm, and cut at three SD, is within 0.01 of the Gaussian's.
    assert left == pytest.approx(math.exp(-2 * (math.pi * blur_mm * frequency) ** 2), abs=0.01)
    turned = contrast(shown(Detector(blur_mm=blur_mm), wave(frequency).T).T, frequency) / 0.3
    assert turned == pytest.approx(left, abs=1e-5)  # the same both ways


def test_blur_is_scipys_and_keeps_the_mean():
    image = torch.zeros(96, 96)
    image[30:60, 40:50] = torch.rand(30, 10, generator=torch.Generator().manual_seed(0))
    blurred = shown(Detector(blur_mm=0.2), image)
    np.testing.assert_allclose(blurred, gaussian_filter(image.double(), 2.0, mode="nearest", truncate=3), atol=1e-5)
    assert blurred.mean() == pytest.approx(float(image.mean()), abs=1e-6)
    corner = torch.full((48, 48), 0.7)
    np.testing.assert_allclose(shown(Detector(blur_mm=0.9), corner), 0.7, atol=1e-6)  # no dark frame


@pytest.mark.parametrize("value", [0.0, 0.3, 0.75, 0.96])
def test_noise_has_its_strength_at_the_plates_pixels(value):
    """It falls with the square root of what is transmitted, and darkens nothing."""
    noise = 0.02
    drawn = np.stack([shown(Detector(noise=noise), flat(value), spacing_mm=PIXEL_MM, seed=k) for k in range(4)])
    expected = noise * math.sqrt(1 - value)
    if value:
        assert drawn.std() == pytest.approx(expected, rel=0.02)
        assert drawn.mean() == pytest.approx(value, abs=4 * expected / 280)
        plain = drawn[0] - drawn[0].mean()
        assert abs((plain[:, 1:] * plain[:, :-1]).mean()) < 0.03 * expected**2  # each pixel has its own
    else:  # where nothing absorbs the display ends: half the noise is cut off
        assert drawn.min() == 0 and drawn[drawn > 0].mean() == pytest.approx(
            expected * math.sqrt(2 / math.pi), rel=0.03
        )


def test_where_nothing_is_transmitted_there_is_no_noise():
    assert (shown(Detector(noise=0.5), flat(1.0)) == 1).all()


def test_noise_is_of_the_plate_not_of_the_frame():
    """In a finer frame it is as strong below what the plate resolves, and has nothing beyond."""
    fine = shown(Detector(noise=0.02), flat(0.5, 420), spacing_mm=PIXEL_MM / 3)
    plate = shown(Detector(noise=0.02), flat(0.5), spacing_mm=PIXEL_MM)
    frequency, power = welch(fine - 0.5, fs=3 / PIXEL_MM, axis=1, nperseg=210)
    power, limit = power.mean(axis=0), 0.5 / PIXEL_MM
    assert power[frequency > 1.5 * limit].max() < 0.05 * power[(frequency > 0.2) & (frequency < 0.5 * limit)].mean()
    coarse = fine.reshape(35, 12, 35, 12).mean(axis=(1, 3)).std(), plate.reshape(35, 4, 35, 4).mean(axis=(1, 3)).std()
    assert coarse[0] == pytest.approx(coarse[1], rel=0.08)  # over 0.6 mm


def test_a_coarse_frame_averages_the_plates_noise():
    coarse = shown(Detector(noise=0.02), flat(0.5, 70), spacing_mm=2 * PIXEL_MM)
    assert coarse.std() == pytest.approx(0.02 * math.sqrt(0.5) / 2, rel=0.25)  # four pixels of the plate in one


def test_scatter_veils_fine_detail_and_leaves_even_light():
    """A veil as strong as share s of the primary light takes detail finer than its reach down to 1 / (1 + s)."""
    for scatter in (0.1, 0.5):
        veiled = shown(Detector(scatter=scatter), wave(1.0))
        assert contrast(veiled, 1.0) == pytest.approx(0.3 / (1 + scatter), rel=1e-3)
        assert veiled[96, 86:106].mean() == pytest.approx(0.5, abs=2e-3)
        np.testing.assert_allclose(shown(Detector(scatter=scatter), flat(0.8)), 0.8, atol=1e-6)


def test_scatter_comes_from_the_veils_reach():
    """A bone in light is veiled more at its edge than 15 mm inside, and light is lost near it."""
    image = flat(0.1, 480)
    image[:, 240:] = 0.9
    row = shown(Detector(scatter=0.5), image)[240]
    assert (np.diff(row) > -1e-6).all()
    assert row[5] == pytest.approx(0.1, abs=1e-4) and row[-5] == pytest.approx(0.9, abs=1e-4)
    at_edge = row[239:241].mean()
    assert at_edge == pytest.approx(0.5, abs=1e-5) and row[240] - row[239] == pytest.approx(0.8 / 1.5, rel=0.02)
    one_reach_out = 0.9 - row[240 + round(VEIL_MM / SPACING_MM)]
    assert one_reach_out == pytest.approx(0.5 / 1.5 * 0.8 * 0.1587, rel=0.05)  # the normal tail beyond 1 SD


@given(value=st.floats(0.01, 1), fog=st.floats(0, 0.9), gamma=st.floats(0.3, 3))
def test_fog_and_gamma_are_a_display_curve(value, fog, gamma):
    seen = shown(Detector(fog=fog, gamma=gamma), flat(value, 4))
    np.testing.assert_allclose(seen, (fog + (1 - fog) * np.float32(value)) ** gamma, atol=1e-5)


def test_jpeg_rounds_to_eight_bits_and_loses_more_at_lower_quality():
    image = Phantom(5, size=128).render().image[0]
    lost = []
    for quality in (95, 75, 40, 10):
        levels = shown(Detector(jpeg=quality), image) * 255
        np.testing.assert_allclose(levels, levels.round(), atol=1e-4)
        lost.append(float(np.sqrt(np.mean((levels - image.double().numpy() * 255) ** 2))))
    assert lost == sorted(lost) and 0.28 < lost[0] < 4 and lost[-1] > 2 * lost[0]  # rounding alone loses 0.29 levels
    even = shown(Detector(jpeg=50), flat(0.5, 16)) * 255
    assert abs(even - 127.5).max() < 1.01


def test_the_seed_draws_the_noise_and_nothing_else():
    detector, image = Detector(noise=0.05), flat(0.5, 64)
    torch.manual_seed(2)
    one, again, other = (shown(detector, image, seed=seed) for seed in (4, 4, 5))
    after = torch.rand(1)
    torch.manual_seed(2)
    assert torch.equal(after, torch.rand(1))  # the caller's random state is untouched
    assert (one == again).all() and abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.1
    silent = replace(COMPUTED_RADIOGRAPHY, noise=0.0)
    assert (shown(silent, wave(0.5), seed=1) == shown(silent, wave(0.5), seed=2)).all()


def test_violations_come_in_the_order_of_the_imaging_chain():
    """The plate blurs light, not noise; the display comes after both; the file last."""
    strengths = {"blur_mm": 0.2, "noise": 0.05, "fog": 0.1, "gamma": 1.5, "jpeg": 60}
    image = wave(0.5)
    together = shown(Detector(**strengths), image, seed=7)
    stepwise = torch.from_numpy(shown(Detector(blur_mm=0.2), image, seed=7))
    stepwise = torch.from_numpy(shown(Detector(noise=0.05), stepwise, seed=7))
    stepwise = shown(Detector(fog=0.1, gamma=1.5, jpeg=60), stepwise, seed=7)
    assert np.mean(np.abs(together - stepwise) > 1e-6) < 0.01  # floats may round to another level


def test_the_named_detector_is_within_what_is_measured_of_such_plates():
    """`method.md`, B2: point spread, scatter of a hand, a noise of some per cent at most, 8-bit JPEG."""
    assert 0.08 <= COMPUTED_RADIOGRAPHY.blur_mm <= 0.15 and 0.05 <= COMPUTED_RADIOGRAPHY.scatter <= 0.2
    assert 0 < COMPUTED_RADIOGRAPHY.noise <= 0.06 and COMPUTED_RADIOGRAPHY.jpeg is not None


@pytest.mark.parametrize("name", ["blur_mm", "noise", "scatter", "fog"])
@pytest.mark.parametrize("strength", [-0.01, 1.0, math.nan, math.inf])
def test_strengths_that_mean_nothing_are_refused(name, strength):
    with pytest.raises(ValueError, match=f"{name} {strength} is not between 0 and 1"):
        Detector(**{name: strength})


@pytest.mark.parametrize(
    "wrong", [{"gamma": g} for g in (0.0, -1.0, math.nan, math.inf)] + [{"jpeg": q} for q in (0, 96)]
)
def test_display_curves_and_qualities_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match=r"must be positive, and jpeg .* from 1 to 95 or None"):
        Detector(**wrong)


def test_a_radiograph_without_a_scale_is_refused():
    with pytest.raises(ValueError, match="test has no pixel spacing: blur and noise are given in mm"):
        COMPUTED_RADIOGRAPHY.expose(joint_of(flat(0.5, 32), None), seed=0)
