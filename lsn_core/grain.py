"""Random fields with a prescribed spectrum: the grain of trabecular bone and of soft tissue.

A grain is periodic noise whose amplitude at each spatial frequency is chosen. It is drawn once on a square grid, with
one pair of Fourier transforms, and looked up wherever a joint needs it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Grain:
    """A periodic random field of zero mean and unit variance."""

    field: Tensor  # (n, n)
    period_mm: float  # side of the square that repeats

    def at(self, u: Tensor, v: Tensor) -> Tensor:
        """The field at points (h, w) given in mm across (u) and along (v) the finger, bilinear."""
        halves = torch.stack((u, v), dim=-1) / (self.period_mm / 2)
        wrapped = torch.remainder(halves + 1, 2) - 1  # a point of the next period is the same point of this one
        grid = F.pad(self.field[None, None], (0, 1, 0, 1), mode="circular")
        return F.grid_sample(grid, wrapped[None], align_corners=True)[0, 0]


def squared_frequency(stretch: float, points: int, period_mm: float) -> Tensor:
    """Squares of a grid's spatial frequencies in cycles per mm, (points, points / 2 + 1); v counts `stretch` times."""
    across = torch.fft.rfftfreq(points, period_mm / points)
    along = torch.fft.fftfreq(points, period_mm / points)
    return across[None, :] ** 2 + (stretch * along[:, None]) ** 2


def power_law(low: float, slope: float, stretch: float, *, points: int, period_mm: float) -> Tensor:
    """Amplitudes whose power is flat below `low` cycles per mm and falls as f^slope above it, slope being negative.

    `stretch` makes the grain that many times longer along v than across.
    """
    return (1 + squared_frequency(stretch, points, period_mm) / low**2) ** (slope / 4)


def band(centre: float, octaves: float, *, points: int, period_mm: float) -> Tensor:
    """Amplitudes of a band around `centre` cycles per mm, a Gaussian of `octaves` in the frequency's logarithm."""
    frequency = squared_frequency(1.0, points, period_mm).clamp_min(1e-8).sqrt()
    return torch.exp(-0.5 * (torch.log2(frequency / centre) / octaves) ** 2)


def draw_grain(amplitudes: Tensor, generator: torch.Generator, *, period_mm: float) -> Grain:
    """White noise from `generator`, filtered by `amplitudes`; zero mean, unit variance."""
    noise = torch.randn(len(amplitudes), len(amplitudes), generator=generator)
    spectrum = torch.fft.rfft2(noise) * amplitudes
    spectrum[0, 0] = 0
    field = torch.fft.irfft2(spectrum, s=noise.shape)
    return Grain(field / field.std(), period_mm)
