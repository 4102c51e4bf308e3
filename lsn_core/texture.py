"""Texture in numbers: how strong the grain of a region is, how its power falls with frequency, and which way it runs.

Square windows that lie wholly in the region are freed of their plane; the spectrum is taken under a Hann window.
"""

from functools import cache

import numpy as np

STRIDE = 8  # px between windows
LOW, HIGH = (0.37, 1.5), (0.5, 2.4)  # cycles per mm of the two fitted slopes
FINE = 3.0  # cycles per mm above which there is noise, not bone
WEDGE = 30.0  # degrees on either side of a direction that belong to it
MIN_RINGS = 3  # of the spectrum that a slope is fitted through


def texture_statistics(image: np.ndarray, region: np.ndarray, side: int, spacing_mm: float) -> dict[str, float]:
    """Texture of an image (h, w) in windows of `side` px inside `region`, one number each; NaN without a window.

    "texture": SD, the median window's; "fine": share of the power above 3 cycles per mm; "slope_low" and "slope_high":
    log-log slopes of the radial power spectrum over 0.37-1.5 and 0.5-2.4 cycles per mm, mean of windows; "grain":
    power of waves across the finger over that of waves along it, 0.5-2.4 cycles per mm. All but the first need a
    spacing and are NaN where it is NaN. Less their plane, windows lack some of the longest waves: a slope is up to 0.25
    flatter than the field's.
    """
    patches = _flattened(_windows(image, region, side))
    numbers = dict.fromkeys(("texture", "fine", "slope_low", "slope_high", "grain"), np.nan)
    if len(patches):
        numbers["texture"] = float(np.median(patches.std(axis=(1, 2))))
    if len(patches) and not np.isnan(spacing_mm) and np.abs(patches).max() > 1e-9:
        power = _power(patches)
        numbers |= {"slope_low": _slope(power, spacing_mm, LOW), "slope_high": _slope(power, spacing_mm, HIGH)}
        numbers |= _shares(power.mean(axis=0), spacing_mm)
    return numbers


def _windows(image: np.ndarray, region: np.ndarray, side: int) -> np.ndarray:
    """All windows of a grid that lie wholly in the region, (n, side, side)."""
    summed = np.pad(region.astype(np.int32).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    inside = summed[side:, side:] - summed[:-side, side:] - summed[side:, :-side] + summed[:-side, :-side]
    rows, columns = STRIDE * np.array(np.nonzero(inside[::STRIDE, ::STRIDE] == side**2))[:, :, None, None]
    along = np.arange(side)
    return image[rows + along[:, None], columns + along]


def _flattened(patches: np.ndarray) -> np.ndarray:
    """Windows less the plane that fits each best."""
    side = patches.shape[-1]
    ramp = np.linspace(-1, 1, side)
    ramp = ramp / np.sqrt(side * np.sum(ramp**2))  # of unit length over the window
    flat = patches - patches.mean(axis=(1, 2), keepdims=True)
    down, right = np.einsum("nij,i->n", flat, ramp), np.einsum("nij,j->n", flat, ramp)
    return flat - down[:, None, None] * ramp[:, None] - right[:, None, None] * ramp


def _power(patches: np.ndarray) -> np.ndarray:
    """Power spectra (n, side, side) under a Hann window."""
    hann = np.hanning(patches.shape[-1] + 2)[1:-1]
    return np.abs(np.fft.fft2(patches * hann[:, None] * hann)) ** 2


@cache
def _frequencies(side: int, spacing_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Distance from zero in cycles per mm, and direction in degrees from across the finger, of every coefficient."""
    along = np.fft.fftfreq(side, spacing_mm)
    return np.hypot(along[:, None], along), np.degrees(np.arctan2(np.abs(along[:, None]), np.abs(along)))


def _slope(power: np.ndarray, spacing_mm: float, band: tuple[float, float]) -> float:
    """Log-log slope of the power's ring means over a band, mean over windows.

    NaN where the band holds under three rings, or reaches beyond what the pixels resolve.
    """
    side = power.shape[-1]
    ring = np.rint(_frequencies(side, spacing_mm)[0] * side * spacing_mm).astype(int).ravel()
    first, last = (edge * side * spacing_mm for edge in band)
    rings = np.arange(np.ceil(first - 1e-6), np.floor(last + 1e-6) + 1).astype(int)
    if len(rings) < MIN_RINGS or rings[-1] > side // 2:
        return np.nan
    member = (ring == rings[:, None]) / np.bincount(ring)[rings][:, None]
    means = power.reshape(len(power), -1) @ member.T
    return float(np.polyfit(np.log(rings), np.log(means.clip(1e-20)).T, 1)[0].mean())


def _shares(power: np.ndarray, spacing_mm: float) -> dict[str, float]:
    """Of a mean spectrum: the share of fine detail, and how much more power lies across the finger than along it."""
    radius, angle = _frequencies(power.shape[-1], spacing_mm)
    band = (radius >= HIGH[0]) & (radius <= HIGH[1])
    across, along = power[band & (angle < WEDGE)], power[band & (angle > 90 - WEDGE)]
    fine = power[radius > FINE].sum() / power.sum()
    return {"fine": float(fine), "grain": float(across.mean() / along.mean()) if len(across) else np.nan}
