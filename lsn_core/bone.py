"""The shape of a finger's bones at the metacarpophalangeal joint, as path lengths of X-rays through them.

Each bone is two half solids, towards the back of the hand (dorsal) and towards its palm (volar), because their outlines
differ: both are seen in one projection. Each half has elliptical sections, a cortical shell and a trabecular core.
Lengths are mm; u runs across the finger, and depth from the joint surface into the shaft.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lsn_core.grain import Grain

CORTICAL, TRABECULAR = 0.24, 0.052  # absorbance per mm in excess of the soft tissue around
GRAIN = 0.34  # relative variation of trabecular density along a path


FACES = 0.45  # cortex at the front and back of a shaft relative to its sides


def arc(u: Tensor, radius: float) -> Tensor:
    """How far a circular joint surface of `radius` falls back from its top at u."""
    return radius - (radius**2 - u.clamp(-0.98 * radius, 0.98 * radius) ** 2).sqrt()


def rounding(depth: Tensor, height: float) -> Tensor:
    """Share of its full size, 0 to 1, that an elliptical dome of `height` has reached at a depth below its top."""
    return (1 - (1 - (depth / height).clamp(0, 1)) ** 2).clamp_min(0).sqrt()


def ramp(depth: Tensor, start: float, length: float) -> Tensor:
    """A smooth step from 0 to 1 that begins at `start` and takes `length`."""
    x = ((depth - start) / length).clamp(0, 1)
    return x * x * (3 - 2 * x)


@dataclass(frozen=True)
class Bump:
    """Where one side of an outline stands out, or falls back: a Gaussian along the bone, in mm."""

    side: float  # -1 left, 1 right
    depth: float
    height: float
    width: float


def bulge(bumps: tuple[Bump, ...], side: float, depth: Tensor) -> Tensor:
    """What the bumps of one side add to the half width at each depth (n,)."""
    bulges = [b.height * torch.exp(-(((depth - b.depth) / b.width) ** 2)) for b in bumps if b.side == side]
    return sum(bulges, torch.zeros_like(depth))


def outlines(widths: Callable[[float, Tensor], tuple[Tensor, ...]], u: Tensor, depth: Tensor) -> Iterator[Tensor]:
    """Half widths at each point's own side and depth, (h, w) each, looked up in tables of `widths(side, depths)`.

    Outlines depend on depth alone; computed for every pixel they would take most of a joint's time.
    """
    deepest = 24.0
    depths = torch.linspace(-8.0, deepest, 2049, dtype=depth.dtype)
    position = ((depth + 8) * (2048 / (deepest + 8))).clamp(0, 2047.99)
    below = position.long()
    start, share = below + 2049 * (u > 0), position - below
    for left, right in zip(widths(-1.0, depths), widths(1.0, depths), strict=True):
        table = torch.cat((left, right))
        yield torch.lerp(table[start], table[start + 1], share)


@dataclass(frozen=True)
class Cortex:
    """How thick the compact bone is, and how dense what it encloses."""

    plate: float  # mm, under the joint surface
    joint: float  # mm, at the sides near the joint
    shaft: float  # mm, at the sides of the shaft
    density: float  # of the trabecular bone near the joint, 1 is ordinary
    hollow: float  # share of the trabecular bone that is left deep in the shaft
    condensed: float  # how much denser it is right under the joint surface

    def side(self, depth: Tensor) -> Tensor:
        """Thickness at the sides, growing into the shaft."""
        return self.joint + (self.shaft - self.joint) * ramp(depth, 2.0, 8.0)

    def filling(self, depth: Tensor) -> Tensor:
        """Relative trabecular density: condensed under the joint surface, sparse in the shaft."""
        plain = 1 - (1 - self.hollow) * ramp(depth, 1.0, 7.0)
        return self.density * (plain + self.condensed * torch.exp(-depth.clamp_min(0) / 1.5))


@dataclass(frozen=True)
class Head:
    """A metacarpal head: a dome that narrows to the neck, its back narrower than the condyles towards the palm."""

    half: float  # mm, largest half width
    height: float  # mm, of the dome
    back: tuple[float, float]  # width of the dorsal half at the neck relative to the volar one, left and right
    neck: float  # share of the width that is lost below the dome
    lean: float  # condylar asymmetry: this share wider on the right, narrower on the left
    bumps: tuple[Bump, ...]  # tubercles, and the unevenness of the outline
    ridges: tuple[Bump, ...]  # unevenness of the dorsal half's outline
    flatness: float  # thickness relative to width
    section: float = 0.5  # exponent of the volar half's sections: 0.5 an ellipse, more thins the condyles' sides

    def surface(self, u: Tensor) -> Tensor:
        """Depth of the dome's outline at u, 0 at its top."""
        reach = self.half * (1 + self.lean * u.sign())
        return self.height * (1 - (1 - (u / reach).clamp(-0.999, 0.999) ** 2).sqrt())

    def contour(self) -> tuple[np.ndarray, np.ndarray]:
        """The dome's outline as it is drawn, bumps and all: u, and the depth at it, from left to right."""
        depth = 0.7 * self.height * torch.linspace(0, 1, 1001, dtype=torch.float64) ** 2  # finest at the top
        left, right = (torch.stack(self.widths(side, depth)).amax(dim=0) for side in (-1.0, 1.0))
        return torch.cat((-left.flip(0), right)).numpy(), torch.cat((depth.flip(0), depth)).numpy()

    def under(self, u: Tensor, depth: Tensor) -> Tensor:
        """Distance of each point below the joint surface, roughly: along the bone."""
        return depth - self.surface(u * 0.8)

    def widths(self, side: float, depth: Tensor) -> tuple[Tensor, Tensor]:
        """Half widths (dorsal, volar) of one side at each depth."""
        volar = self.half * rounding(depth, self.height) * (1 - self.neck * ramp(depth, 0.8 * self.height, 6.0))
        volar = volar * (1 + self.lean * side)
        facing = 0.17 * self.height  # no deeper lies what faces the phalanx: there the dome is even
        volar = volar + bulge(self.bumps, side, depth) * ramp(depth, facing, 1.5)
        narrowing = (1 - self.back[int(side > 0)]) * ramp(depth, 0.2 * self.height, 0.7 * self.height)
        return volar * (1 - narrowing) + bulge(self.ridges, side, depth) * ramp(depth, facing, 2.0), volar

    def thickness(self, u: Tensor, depth: Tensor, inset: Tensor | float, plate: float) -> Tensor:
        """Path length (h, w) through the surface that lies `inset` inside the sides and `plate` under the joint."""
        behind = self.flatness * self.half * rounding(depth - plate, self.height)
        dorsal, volar = outlines(self.widths, u, depth - plate)
        return chord(u, dorsal - 1.4 * inset, behind) + chord(u, volar - 0.6 * inset, behind, section=self.section)


@dataclass(frozen=True)
class Base:
    """A proximal phalanx base: a cup whose dorsal and volar rims reach over the metacarpal head.

    Depth is counted from the bottom of the cup, the subchondral line that joint space width is judged from; the rims
    have negative depth.
    """

    half: float  # mm, largest half width
    shaft: float  # mm, half width of the shaft
    cup: float  # mm, radius of the cup across the finger
    rims: tuple[float, float]  # mm, how far the dorsal and the volar rim reach beyond the bottom of the cup
    lean: float  # asymmetry: this share wider on the right, narrower on the left
    corner: float  # share of the width that is missing at the level of the rims
    bumps: tuple[Bump, ...]  # tubercles, and the unevenness of the outline
    flatness: float  # thickness relative to width

    def surface(self, u: Tensor) -> Tensor:
        """How far the cup's bottom line falls towards the wrist at u, 0 on the axis."""
        return arc(u, self.cup)

    def under(self, u: Tensor, depth: Tensor) -> Tensor:
        """Distance of each point above the cup's bottom line, along the bone."""
        return depth + self.surface(u)

    def widths(self, side: float, depth: Tensor) -> tuple[Tensor]:
        """Half width of one side at each depth, the same for both halves."""
        reach = max(self.rims)
        below = (1 - ((-reach - depth) / 1.2).clamp(0, 1) ** 2).sqrt()
        corner = 1 - self.corner * (1 - ((depth + reach) / (reach + 2.4)).clamp(0, 1)) ** 3
        taper = torch.exp(-(((depth - 2.5).clamp_min(0) / 6.0) ** 1.5))
        width = (self.shaft + (self.half - self.shaft) * taper) * corner * below * (1 + self.lean * side)
        return (width + bulge(self.bumps, side, depth) * below,)

    def thickness(self, u: Tensor, depth: Tensor, inset: Tensor | float, plate: float) -> Tensor:
        """Path length (h, w) through the surface that lies `inset` inside the sides and `plate` under the cup."""
        (width,) = outlines(self.widths, u, depth)
        width = width - inset
        behind = self.flatness * (width + (1 - FACES) * inset)
        inside = self.under(u, depth) - plate
        return sum(chord(u, width, behind * self.covered(u, inside, rim)) for rim in self.rims)

    def covered(self, u: Tensor, inside: Tensor, rim: float) -> Tensor:
        """Share of a half's thickness that is bone: all above the cup, ever less of the rim below it."""
        reach = max(rim, 1e-3) * (1 - (u / (0.85 * self.half)) ** 2).clamp_min(0.02)
        return 1 - (-inside / reach).clamp(0, 1) ** 0.6


def chord(u: Tensor, width: Tensor, behind: Tensor, *, section: float = 0.5) -> Tensor:
    """Path length at u through half a section of half width `width` and thickness `behind`; 0 outside.

    The section is half an ellipse, or pointed at its sides where `section` is more than 0.5.
    """
    return behind.clamp_min(0) * (1 - (u / width.clamp_min(1e-3)) ** 2).clamp_min(0) ** section * (width > 0)


def network_lines(field: Tensor) -> Tensor:
    """A normal field as bright lines where it changes sign, as trabecular plates seen edge on; mean 0, variance 1."""
    return (torch.exp(-4 * field**2) - 1 / 3) / (17**-0.5 - 1 / 9) ** 0.5


@dataclass(frozen=True)
class Erosion:
    """A bite out of a bone's margin, as rheumatoid arthritis leaves it."""

    u: float  # mm, centre
    depth: float
    radius: float

    def left(self, u: Tensor, depth: Tensor) -> Tensor:
        """Share of the bone along the ray that is left: a third in the middle of a bite, all beyond it."""
        distance = torch.hypot(u - self.u, depth - self.depth)
        return 0.35 + 0.65 * ramp(distance, 0.3 * self.radius, 0.9 * self.radius)


@dataclass(frozen=True)
class Bone:
    """A shape, what it is made of, and what disease has taken from it."""

    shape: Head | Base
    cortex: Cortex
    strands: Grain  # along the shaft
    mesh: Grain  # the network near the joint
    erosions: tuple[Erosion, ...] = ()

    def absorbance(self, u: Tensor, depth: Tensor) -> Tensor:
        """Excess absorbance of the bone at points (h, w) in mm, 0 outside it."""
        absorbed, rows = torch.zeros_like(depth), (depth > -4).any(dim=1).nonzero()
        if len(rows):  # elsewhere there is none of it
            near = slice(int(rows[0]), int(rows[-1]) + 1)
            absorbed[near] = self._absorbance(u[near], depth[near])
        return absorbed

    def _absorbance(self, u: Tensor, depth: Tensor) -> Tensor:
        """Cortical shell and trabecular core, less what erosions have taken."""
        outer = self.shape.thickness(u, depth, 0.0, 0.0)
        inner = self.shape.thickness(u, depth, self.cortex.side(depth), self.cortex.plate).minimum(outer)
        under = self.shape.under(u, depth)
        grain = self.grain(u, under)
        core = TRABECULAR * inner * self.cortex.filling(under) * grain
        whole = CORTICAL * (outer - inner) * (0.5 + 0.5 * grain) + core
        for erosion in self.erosions:
            whole = whole * erosion.left(u, depth)
        return whole

    def grain(self, u: Tensor, depth: Tensor) -> Tensor:
        """Relative density: strands along the shaft that fan out towards the joint, where a network meets them."""
        fan = 1 + 0.035 * (depth - 4).clamp(-6, 10)
        strands, network = self.strands.at(u * fan, depth), self.mesh.at(u, depth)
        share = ramp(depth, 1.0, 8.0)
        net = (network_lines(network) + network_lines(self.mesh.at(u + 11.3, depth + 7.9))) / math.sqrt(2)
        mixed = strands * (0.4 + 0.6 * share).sqrt() + net * (0.6 - 0.5 * share).sqrt()
        return (1 + GRAIN * mixed).clamp_min(0.05)


@dataclass(frozen=True)
class Ossicle:
    """A small or partly visible bone beside the joint, sesamoid or neighbour: an ellipsoid with a thin shell."""

    centre: tuple[float, float]  # mm, u and v in the finger's frame
    half: tuple[float, float]  # mm, half axes across and along
    shell: float  # mm
    density: float

    def absorbance(self, u: Tensor, v: Tensor, fine: Grain) -> Tensor:
        """Excess absorbance at points (h, w) in mm, 0 outside."""
        outer, inner = self._thickness(u, v, 0.0), self._thickness(u, v, self.shell)
        grain = (1 + GRAIN * fine.at(u, v)).clamp_min(0.05)
        return CORTICAL * (outer - inner) + TRABECULAR * self.density * inner * grain

    def _thickness(self, u: Tensor, v: Tensor, inset: float) -> Tensor:
        """Path length through the ellipsoid that lies `inset` inside."""
        x, y = (u - self.centre[0]) / (self.half[0] - inset), (v - self.centre[1]) / (self.half[1] - inset)
        return 1.6 * (min(self.half) - inset) * (1 - x**2 - y**2).clamp_min(0).sqrt()
