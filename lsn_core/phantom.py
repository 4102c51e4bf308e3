"""Procedural metacarpophalangeal joints whose layers, masks and joint space width are exactly known.

Two bones of elliptical section, each a cortical shell around trabecular bone, lie in a wedge of soft tissue. Path
lengths become absorbances, so that the radiograph is their sum by construction. Lengths are mm, u across the finger
and v along it, towards the wrist; v = 0 is the middle of the joint
space, and depth is how far a point lies behind a joint surface.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lsn_core.joint import FINGERS, Joint
from lsn_core.radiograph import compose, display

FIELD_MM = 21.0  # a 140 px crop of 0.15 mm pixels
CORTICAL, TRABECULAR, SOFT = 0.110, 0.026, 0.022  # absorbance per mm: bone shows near 0.54, tissue near 0.30
HEAD_MM = {"thumb": 15.0, "index": 14.5, "middle": 14.0, "ring": 12.5, "small": 11.5}  # metacarpal head's width
JSW_MM, JSW_SD_MM = 1.75, 0.25  # healthy adults
WAVES = 96  # cosines that make up a texture
SHELL_MM, ROUNDING_MM = 0.45, 2.5  # cortex at the joint; depth over which a bone reaches its full thickness


@dataclass(frozen=True)
class Texture:
    """A random field of zero mean and unit variance: cosines whose wave numbers follow a band-passed power law."""

    waves: Tensor  # (k, 2) cycles per mm across and along the finger
    phases: Tensor  # (k,) radians

    def at(self, u: Tensor, v: Tensor) -> Tensor:
        """The field at points given in mm, (h, w)."""
        angle = 2 * math.pi * (u[..., None] * self.waves[:, 0] + v[..., None] * self.waves[:, 1]) + self.phases
        return angle.cos().sum(dim=-1) * math.sqrt(2 / len(self.phases))


def random_texture(generator: torch.Generator, low: float, high: float, stretch: float) -> Texture:
    """Waves of `low` to `high` cycles per mm with power falling as 1/f^3, `stretch` times longer along the finger."""
    share = torch.rand(WAVES, generator=generator)
    radius = 1 / (1 / low + share * (1 / high - 1 / low))  # density 1/f^2 along the radius: a 1/f^3 law in the plane
    angle = torch.rand(WAVES, generator=generator) * math.pi
    waves = torch.stack((radius * angle.cos(), radius * angle.sin() / stretch), dim=1)
    return Texture(waves, torch.rand(WAVES, generator=generator) * 2 * math.pi)


@dataclass(frozen=True)
class Bone:
    """One bone, described from its joint surface (depth 0) into the shaft; lengths in mm."""

    joint: float  # half width at the joint
    shaft: float  # half width of the shaft
    radius: float  # of the joint surface, which bulges towards the fingertip
    texture: Texture

    def surface(self, u: Tensor) -> Tensor:
        """How far the joint surface falls back towards the wrist at u; 0 on the axis."""
        return self.radius - (self.radius**2 - u.clamp(-0.98 * self.radius, 0.98 * self.radius) ** 2).sqrt()

    def thickness(self, u: Tensor, depth: Tensor, inset: float) -> Tensor:
        """Path length through the elliptical sections of a surface that lies `inset` inside the bone's own."""
        taper = torch.sigmoid((depth - 6.0) / 1.6)
        half = self.joint + (self.shaft - self.joint) * taper - inset * (1 + 1.2 * taper)
        across = (1 - (u / half) ** 2).clamp_min(0).sqrt()
        behind = 1 - (1 - ((depth - inset) / ROUNDING_MM).clamp(0, 1)) ** 2
        return 1.5 * half * across * behind.sqrt()

    def absorbance(self, u: Tensor, depth: Tensor) -> Tensor:
        """Cortical shell, thicker in the shaft, and a textured trabecular core."""
        outer, inner = self.thickness(u, depth, 0.0), self.thickness(u, depth, SHELL_MM)
        grain = (1 + 0.22 * self.texture.at(u, depth)).clamp_min(0)
        return CORTICAL * (outer - inner).clamp_min(0) + TRABECULAR * inner * grain


@dataclass(frozen=True)
class Tissue:
    """The soft tissue: a slab of slowly varying thickness that ends at the skin, inside the frame or beyond it."""

    thickness: float  # mm
    slope: tuple[float, float]  # relative change of thickness per mm, across and along
    skin: float  # u of the skin line in mm, positive or negative; far outside where the frame shows no air
    texture: Texture

    def absorbance(self, u: Tensor, v: Tensor) -> Tensor:
        """Absorbance of the tissue, 0 in the air beyond the skin."""
        inward = (self.skin - u) * math.copysign(1, self.skin)
        edge = (1 - (1 - (inward / 3.0).clamp(0, 1)) ** 2).sqrt()
        slab = 1 + self.slope[0] * u + self.slope[1] * v + 0.03 * self.texture.at(u, v)
        return SOFT * self.thickness * slab.clamp_min(0.2) * edge


@dataclass(frozen=True)
class Anatomy:
    """All that is drawn from the seed: two bones, the tissue, the pose and the joint's own joint space width."""

    lower: Bone
    upper: Bone
    tissue: Tissue
    centre: tuple[float, float]  # of the joint space from the frame's centre, mm right and down
    tilt: float  # of the finger, radians counter-clockwise
    jsw_mm: float

    def clearance(self) -> float:
        """Mean of the gap between the two surfaces over the central half of the contact when their axes touch."""
        half = min(self.lower.joint, self.upper.joint)
        u = torch.linspace(-half / 2, half / 2, 401)
        return float((self.lower.surface(u) - self.upper.surface(u)).mean())


def draw_anatomy(seed: int, finger: str) -> Anatomy:
    """Draw a joint. The same seed and finger give the same joint, whatever the image's size."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    half = HEAD_MM[finger] / 2 * uniform(0.93, 1.07)
    radius = half * uniform(1.15, 1.3)
    lower = Bone(half, half * uniform(0.58, 0.68), radius, random_texture(generator, 0.7, 2.4, 2.0))
    upper = Bone(
        half * uniform(0.92, 1.0),
        half * uniform(0.58, 0.68),
        radius * uniform(1.02, 1.12),
        random_texture(generator, 0.7, 2.4, 2.0),
    )
    skin = math.copysign(uniform(9.5, 12.0) if finger in ("thumb", "small") else 40.0, uniform(-1.0, 1.0))
    slope = (uniform(-0.012, 0.012), uniform(0.0, 0.012))
    tissue = Tissue(uniform(14.5, 18.0), slope, skin, random_texture(generator, 0.1, 1.5, 1.0))
    jsw = JSW_MM + JSW_SD_MM * float(torch.randn((), generator=generator))
    centre, tilt = (uniform(-0.8, 0.8), uniform(-0.8, 0.8)), math.radians(uniform(-8.0, 8.0))
    return Anatomy(lower, upper, tissue, centre, tilt, jsw)


@dataclass(frozen=True)
class Phantom:
    """A joint drawn from a seed, at `size` px. `render` shows it at its own joint space width or at another one."""

    seed: int
    finger: str = "index"
    size: int = 256

    def __post_init__(self) -> None:
        """Raise `ValueError` for what cannot be drawn."""
        if self.finger not in FINGERS:
            raise ValueError(f"finger {self.finger!r} is unknown; choose one of {', '.join(FINGERS)}")
        if self.size < 16:
            raise ValueError(f"size {self.size} is too small to show a joint; choose 16 px or more")

    @property
    def spacing_mm(self) -> float:
        """Millimetres per pixel."""
        return FIELD_MM / self.size

    @cached_property
    def anatomy(self) -> Anatomy:
        """What the seed decided."""
        return draw_anatomy(self.seed, self.finger)

    def render(self, jsw_mm: float | None = None) -> Joint:
        """Draw the joint with `jsw_mm` between its surfaces (mean over the central half); None: its own."""
        width = self.anatomy.jsw_mm if jsw_mm is None else float(jsw_mm)
        absorbed = self._absorbances(width)
        layers = display(absorbed)
        masks = (absorbed > 0).float()
        masks[0] = masks.amax(dim=0)
        return Joint(
            image=compose(layers[None])[0],
            layers=layers,
            masks=masks,
            name=f"phantom_{self.finger}_{self.seed:05d}",
            joint=f"phantom_{self.finger}_{self.seed:05d}",
            finger=self.finger,
            side="L" if self.seed % 2 else "R",
            spacing_mm=self.spacing_mm,
            jsw_mm=width,
        )

    def _absorbances(self, jsw_mm: float) -> Tensor:
        """Absorbance of soft tissue, lower and upper bone, (3, h, w); each bone gives half of the joint space."""
        body = self.anatomy
        u, v = self._finger_coordinates()
        half = (jsw_mm - body.clearance()) / 2
        lower = body.lower.absorbance(u, v - half - body.lower.surface(u))
        upper = body.upper.absorbance(u, -v - half + body.upper.surface(u))
        return torch.stack((body.tissue.absorbance(u, v), lower, upper))

    def _finger_coordinates(self) -> tuple[Tensor, Tensor]:
        """(u, v) in mm of every pixel's centre."""
        along = (torch.arange(self.size, dtype=torch.float32) - (self.size - 1) / 2) * self.spacing_mm
        x, y = along[None, :] - self.anatomy.centre[0], along[:, None] - self.anatomy.centre[1]
        cos, sin = math.cos(self.anatomy.tilt), math.sin(self.anatomy.tilt)
        return x * cos - y * sin, x * sin + y * cos


def phantoms(count: int, *, seed: int, size: int) -> Iterator[Joint]:
    """`count` joints from seeds that follow one another, the fingers taking turns."""
    return (Phantom(seed + k, FINGERS[k % len(FINGERS)], size).render() for k in range(count))
