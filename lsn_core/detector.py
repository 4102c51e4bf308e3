"""What a real detector and its display do to a clean radiograph: each violation of `compose` has its name and strength.

All are off by default. The clean layers stay the truth; only the image changes.
"""

import io
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image as Picture
from torch import Tensor

from lsn_core.joint import Joint

PIXEL_MM = 0.15  # the plate's own pixels, finer than the frame's for small frames only
VEIL_MM = 3.0  # reach of scattered radiation


@dataclass(frozen=True)
class Detector:
    """Strengths of the violations; 0 (and None) is a perfect detector."""

    blur_mm: float = 0.0  # SD of the plate's point spread; 0.1 to 0.15 for computed radiography
    noise: float = 0.0  # SD of the transmission at full exposure, relative; it falls with the square root of exposure
    scatter: float = 0.0  # scattered over primary radiation, 0.05 to 0.2 for hands
    fog: float = 0.0  # display value of the plate itself, 0.02 to 0.03: air is not quite black
    gamma: float = 1.0  # display curve: shown value = value^gamma
    jpeg: int | None = None  # quality, 1 to 95; None: no compression and no rounding to 8 bits

    def __post_init__(self) -> None:
        """Raise `ValueError` for strengths that mean nothing."""
        for name in ("blur_mm", "noise", "scatter", "fog"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not between 0 and 1")
        if not 0 < self.gamma < math.inf or (self.jpeg is not None and not 1 <= self.jpeg <= 95):
            raise ValueError(f"gamma {self.gamma} must be positive, and jpeg {self.jpeg} from 1 to 95 or None")

    def expose(self, joint: Joint, *, seed: int) -> Joint:
        """The joint as this detector shows it; `seed` draws the noise. Raises `ValueError` without a pixel spacing."""
        if joint.spacing_mm is None:
            raise ValueError(f"{joint.name} has no pixel spacing: blur and noise are given in mm")
        image = 1 - self._transmitted((1 - joint.image)[None], joint.spacing_mm, seed)[0]
        shown = (self.fog + (1 - self.fog) * image).clamp(0, 1) ** self.gamma
        return replace(joint, image=shown if self.jpeg is None else compressed(shown, self.jpeg))

    def _transmitted(self, light: Tensor, spacing_mm: float, seed: int) -> Tensor:
        """Scatter, blur and noise, in the transmission (1, 1, h, w). Noise is added at the plate's own pixels."""
        if self.scatter:
            light = (light + self.scatter * blurred(light, VEIL_MM / spacing_mm)) / (1 + self.scatter)
        if self.blur_mm:
            light = blurred(light, self.blur_mm / spacing_mm)
        if not self.noise:
            return light
        sides = [max(1, round(side * spacing_mm / PIXEL_MM)) for side in light.shape[-2:]]
        generator = torch.Generator().manual_seed(seed)
        grain = self.noise * torch.randn((1, 1, *sides), generator=generator)
        grain = F.interpolate(grain, size=light.shape[-2:], mode="bicubic", antialias=True)
        return light + light.clamp_min(0).sqrt() * grain


PERFECT = Detector()
COMPUTED_RADIOGRAPHY = Detector(blur_mm=0.1, noise=0.005, scatter=0.05, fog=0.025, jpeg=77)  # as the public data look


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (b, 1, h, w) by `sigma` px; the edge is continued."""
    sigma = max(sigma, 1e-3)  # less is no blur, and its square would vanish
    reach = max(1, round(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=image.dtype) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(image, (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None, :])


def compressed(image: Tensor, quality: int) -> Tensor:
    """The image (1, h, w) after 8-bit JPEG."""
    levels = Picture.fromarray((image[0] * 255).round().to(torch.uint8).numpy())
    buffer = io.BytesIO()
    levels.save(buffer, format="JPEG", quality=quality)
    return torch.from_numpy(np.asarray(Picture.open(buffer), dtype=np.float32) / 255)[None]
