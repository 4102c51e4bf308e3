"""Grain: what a random field is asked for, judged by scipy's spectra."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import periodogram
from scipy.stats import linregress

from lsn_core.grain import Grain, band, draw_grain, power_law

GRID = {"points": 256, "period_mm": 16.0}


def drawn(amplitudes: torch.Tensor, seed: int = 0) -> Grain:
    return draw_grain(amplitudes, torch.Generator().manual_seed(seed), period_mm=GRID["period_mm"])


def power_of_lines(field: np.ndarray, *, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies in cycles per mm, and the mean power of the field's lines along an axis, without the zero."""
    frequency, power = periodogram(field, fs=GRID["points"] / GRID["period_mm"], axis=axis)
    return frequency[1:-1], power.mean(axis=1 - axis)[1:-1]


@pytest.mark.parametrize("amplitudes", [power_law(1.0, -2.5, 2.0, **GRID), band(1.0, 0.5, **GRID)])
def test_a_grain_has_zero_mean_and_unit_variance(amplitudes):
    field = drawn(amplitudes).field.double()
    assert field.shape == (256, 256)
    assert abs(float(field.mean())) < 1e-6 and float(field.var()) == pytest.approx(1, abs=1e-5)


@given(
    u=st.floats(-40, 40), v=st.floats(-40, 40), across=st.integers(-3, 3), along=st.integers(-3, 3), n=st.integers(2, 9)
)
def test_a_grain_repeats(u, v, across, along, n):
    grain = Grain(torch.randn(n, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64), 10.0)
    here, there = (
        grain.at(torch.tensor([[x]], dtype=torch.float64), torch.tensor([[y]], dtype=torch.float64))
        for x, y in ((u, v), (u + 10 * across, v + 10 * along))
    )
    torch.testing.assert_close(here, there, atol=1e-9, rtol=0)


def test_a_grain_is_looked_up_between_its_points_u_across_and_v_along():
    field = torch.arange(16.0).reshape(4, 4)  # rows 4 apart, columns 1 apart; points 2.5 mm apart, from -5 mm

    def at(u: float, v: float) -> float:
        return float(Grain(field, 10.0).at(torch.tensor([[u]]), torch.tensor([[v]])))

    assert at(-5.0, -5.0) == 0 and at(-2.5, -5.0) == 1 and at(-5.0, -2.5) == 4 and at(2.5, 2.5) == 15
    assert at(-3.75, -5.0) == 0.5 and at(-5.0, -3.75) == 2 and at(-3.75, -3.75) == 2.5  # half way, and bilinear
    assert at(3.75, -5.0) == 1.5  # between the last column and the first


@pytest.mark.parametrize("slope", [-1.5, -2.6, -4.0])
def test_power_falls_with_the_slope_that_is_asked(slope):
    """A line through a plane field whose power falls as f^s has power that falls as f^(s + 1)."""
    field = drawn(power_law(0.05, slope, 1.0, **GRID)).field.numpy()
    frequency, power = power_of_lines(field, axis=1)
    middle = (frequency > 0.4) & (frequency < (2.5 if slope > -2 else 4))  # below where the grid cuts the plane off
    fitted = linregress(np.log(frequency[middle]), np.log(power[middle])).slope
    assert fitted == pytest.approx(slope + 1, abs=0.25)


def test_power_is_flat_below_the_corner():
    squares = power_law(2.0, -4.0, 1.0, **GRID).double() ** 2
    assert squares[0, 0] == pytest.approx(1) and float(squares[0, 3]) == pytest.approx(1, abs=0.02)
    at_corner, high = float(squares[0, 32]), [float(squares[0, k]) for k in (64, 128)]  # 2, 4 and 8 cycles per mm
    assert at_corner == pytest.approx(0.25) and high[0] / high[1] == pytest.approx(2**4, rel=0.5)


@pytest.mark.parametrize("stretch", [1.0, 1.8, 3.0])
def test_a_stretched_grain_is_longer_along_the_finger(stretch):
    """The steepness of the field across the finger is so many times that along it."""
    field = drawn(power_law(0.4, -7.0, stretch, **GRID)).field.numpy()
    along, across = (np.square(np.diff(field, axis=axis)).mean() ** 0.5 for axis in (0, 1))
    assert across / along == pytest.approx(stretch, rel=0.15)


@pytest.mark.parametrize(("centre", "octaves"), [(0.75, 0.55), (2.0, 0.3)])
def test_a_band_has_its_peak_and_its_width(centre, octaves):
    """Mean power over rings of the plane's spectrum: a parabola in the logarithms."""
    field = np.mean(
        [np.abs(np.fft.fft2(drawn(band(centre, octaves, **GRID), seed).field)) ** 2 for seed in range(4)], 0
    )
    step = np.fft.fftfreq(GRID["points"], GRID["period_mm"] / GRID["points"])
    octave = np.log2(np.maximum(np.hypot(step[:, None], step[None, :]), 1e-9) / centre)
    near = np.abs(octave) < 1.5 * octaves
    curve = np.polynomial.Polynomial.fit(octave[near], np.log(field[near]), 2).convert().coef
    assert -curve[1] / (2 * curve[2]) == pytest.approx(0, abs=0.08)  # the peak, in octaves from the centre
    assert math.sqrt(-1 / curve[2]) == pytest.approx(octaves, rel=0.12)  # power is the square of the Gaussian


def test_the_generator_decides_the_grain():
    amplitudes = power_law(1.0, -2.5, 1.0, **GRID)
    torch.manual_seed(3)
    one, again, other = drawn(amplitudes).field, drawn(amplitudes).field, drawn(amplitudes, 1).field
    assert torch.equal(one, again) and abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.2
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))  # the caller's random state is untouched
