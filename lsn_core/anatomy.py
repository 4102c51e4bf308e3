"""What a seed decides: the two bones of a joint, the tissue around them, its pose at a visit, and its disease.

Sizes, brightness and poses follow the public data's own distributions, finger by finger (see the data card).
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lsn_core.bone import Base, Bone, Bump, Cortex, Erosion, Head, Ossicle, ramp
from lsn_core.grain import Grain, band, draw_grain, power_law

SOFT = 0.022  # absorbance per mm of soft tissue
JSW_MM, JSW_SD_MM = 1.75, 0.25  # healthy adults
FINE = {"points": 384, "period_mm": 24.0}  # grids of the grain of bone and tissue, and of slow changes
SLOW = {"points": 64, "period_mm": 128.0}


@dataclass(frozen=True)
class Build:
    """What is typical of a finger: widths in mm, relative densities."""

    head: float  # width of the metacarpal head
    height: float  # of its dome
    neck: float  # share of the width lost below the dome
    back: float  # width of the neck seen through the condyles
    base: float  # width of the phalanx base
    shaft: float  # width of its shaft
    lower: float  # trabecular density of the head
    upper: float  # and of the base


BUILDS = {
    "thumb": Build(13.5, 6.9, 0.18, 0.74, 13.3, 6.5, 1.6, 0.9),
    "index": Build(14.2, 8.6, 0.00, 0.64, 15.2, 6.9, 1.45, 0.9),
    "middle": Build(14.4, 8.8, 0.02, 0.64, 14.0, 7.2, 1.45, 1.0),
    "ring": Build(11.7, 7.2, 0.12, 0.70, 13.1, 5.1, 1.1, 0.6),
    "small": Build(11.7, 8.0, 0.16, 0.68, 12.2, 4.2, 0.95, 0.4),
}


class Dice:
    """Random numbers from one generator, in the forms that a joint needs."""

    def __init__(self, *seeds: int) -> None:
        """The same seeds, which are not negative, give the same numbers in the same order."""
        mixed = np.random.SeedSequence(seeds).generate_state(1)[0]  # torch itself looks at 32 bits only
        self.generator = torch.Generator().manual_seed(int(mixed))

    def uniform(self, low: float, high: float) -> float:
        """A number between `low` and `high`."""
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def normal(self, mean: float, sd: float) -> float:
        """A normal number, cut at 2.5 standard deviations."""
        return mean + sd * max(-2.5, min(2.5, float(torch.randn((), generator=self.generator))))

    def chance(self, share: float) -> bool:
        """True in that share of draws."""
        return self.uniform(0, 1) < share

    def sign(self) -> float:
        """-1 or 1."""
        return 1.0 if self.chance(0.5) else -1.0


@dataclass(frozen=True)
class Tissue:
    """Soft tissue, and what else of the body lies in the frame beside the two bones."""

    thickness: float  # mm
    slope: tuple[float, float]  # relative change of thickness per mm, across and along
    web: float  # share of the thickness that is missing beside the finger, above the web
    skin: float  # u of the skin line at the joint in mm, signed; far outside where the frame shows no air
    lean: float  # how the skin line moves across per mm along the finger
    slow: Grain
    fine: Grain
    ossicles: tuple[Ossicle, ...]  # sesamoids, neighbouring heads

    def absorbance(self, u: Tensor, v: Tensor) -> Tensor:
        """Absorbance at points (h, w) in mm, 0 in the air beyond the skin."""
        inward = (self.skin + self.lean * v - u) * math.copysign(1, self.skin)
        edge = (1 - (1 - (inward / 6.5).clamp(0, 1)) ** 2).clamp_min(0).sqrt()
        beside = self.web * ramp(u.abs(), 4.0, 9.0) * ramp(-v, -7.0, 15.0)
        slab = 1 + self.slope[0] * u + self.slope[1] * v + 0.12 * self.slow.at(u, v) + 0.11 * self.fine.at(u, v)
        tissue = SOFT * self.thickness * (slab * (1 - beside)).clamp_min(0.15)
        return edge * (tissue + sum(bone.absorbance(u, v, self.fine) for bone in self.ossicles))


@dataclass(frozen=True)
class Pose:
    """How the joint lay at one visit, and how it was exposed."""

    centre: tuple[float, float]  # of the joint space from the frame's centre, mm right and down
    tilt: float  # of the phalanx, degrees counter-clockwise
    deviation: float  # of the metacarpal from the phalanx, degrees counter-clockwise (ab- or adduction)
    flexion: float  # degrees, towards the palm
    magnification: float  # of the finger on the detector
    gain: float  # of the display: all absorbances are multiplied by it


@dataclass(frozen=True)
class Anatomy:
    """A joint's lasting features: two bones, the tissue around them and the joint space it has in health or disease."""

    lower: Bone
    upper: Bone
    tissue: Tissue
    jsw_mm: float

    def flexed(self, degrees: float) -> Bone:
        """The upper bone as seen when bent towards the palm: its dorsal rim rises and its volar rim sinks."""
        shape = self.upper.shape
        drop = shape.flatness * shape.half * math.sin(math.radians(degrees))
        dorsal, volar = shape.rims
        rims = (max(dorsal - drop, 0.0), max(volar + drop, 0.0))
        return replace(self.upper, shape=replace(shape, rims=rims))

    def clearance(self, deviation: float) -> float:
        """Mean gap in mm over the central half of the contact when the tops of both surfaces touch, bent sideways."""
        head, base = self.lower.shape, self.upper.shape
        u, v = turned(*head.contour(), deviation, head.height)
        middle = np.linspace(-0.25, 0.25, 401) * contact(head, base)
        cup = base.surface(torch.from_numpy(middle)).numpy()
        return float(np.mean(np.interp(middle, u, v) - cup))


def contact(head: Head, base: Base) -> float:
    """Width in mm over which the two surfaces face each other."""
    return 2 * min(head.half, base.half)


def turned(u: Tensor | np.ndarray, v: Tensor | np.ndarray, degrees: float, pivot: float) -> tuple:
    """Points turned counter-clockwise as seen (v points down) about (0, pivot)."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return u * cos + (v - pivot) * sin, pivot - u * sin + (v - pivot) * cos


def draw_anatomy(seed: int, finger: str, severity: float) -> Anatomy:
    """Draw a joint: the same seed, finger and severity (0 health, 1 advanced arthritis) give the same joint."""
    dice, build = Dice(0, seed, list(BUILDS).index(finger)), BUILDS[finger]
    size, jsw = dice.normal(1, 0.06), dice.normal(JSW_MM, JSW_SD_MM)
    head, base = draw_head(dice, build, size), draw_base(dice, build, size)
    marrow = dice.normal(1, 0.2)
    lower = draw_bone(dice, head, build.lower * 1.05 * marrow, dice.uniform(0.35, 0.85), dice.uniform(0.2, 0.9))
    upper = draw_bone(
        dice, base, build.upper * marrow * dice.normal(1, 0.12), dice.uniform(0.1, 0.35), dice.uniform(0.8, 1.8)
    )
    healthy = Anatomy(lower, upper, draw_tissue(dice, finger, head), jsw)
    return diseased(healthy, dice, severity) if severity > 0 else healthy


def draw_head(dice: Dice, build: Build, size: float) -> Head:
    """A metacarpal head of a finger's build."""
    back = tuple(build.back * dice.normal(1, 0.12) for _ in range(2))
    tubercles = tuple(Bump(side, dice.uniform(6.0, 9.5), dice.uniform(-0.5, 0.9), 1.5) for side in (-1.0, 1.0))
    return Head(
        half=build.head / 2 * size * dice.normal(1, 0.04),
        height=build.height * size * dice.normal(1, 0.05),
        back=tuple(min(share, 0.92) for share in back),
        neck=build.neck + dice.normal(0, 0.04),
        lean=dice.normal(0, 0.07),
        bumps=tubercles + draw_unevenness(dice, 0.15),
        ridges=draw_unevenness(dice, 0.35),
        flatness=dice.uniform(0.75, 1.0),
        section=dice.uniform(0.55, 0.9),
    )


def draw_base(dice: Dice, build: Build, size: float) -> Base:
    """A phalanx base of a finger's build."""
    half = build.base / 2 * size * dice.normal(1, 0.04)
    tubercles = tuple(Bump(side, dice.uniform(1.0, 4.0), dice.uniform(-0.2, 0.4), 1.6) for side in (-1.0, 1.0))
    return Base(
        half=half,
        shaft=build.shaft / 2 * size * dice.normal(1, 0.06),
        cup=half * dice.uniform(1.0, 1.3),
        rims=(dice.uniform(0.2, 1.1), dice.uniform(0.6, 1.8)),
        lean=dice.normal(0, 0.04),
        corner=dice.uniform(0.25, 0.45),
        bumps=tubercles + draw_unevenness(dice, 0.12),
        flatness=dice.uniform(0.55, 0.68),
    )


def draw_unevenness(dice: Dice, height: float) -> tuple[Bump, ...]:
    """Small bumps and hollows of both sides of an outline."""
    places = [(side, depth) for side in (-1.0, 1.0) for depth in (3.0, 5.5, 8.0, 10.5)]
    return tuple(
        Bump(side, depth + dice.uniform(-1, 1), dice.normal(0, height), dice.uniform(0.7, 1.5))
        for side, depth in places
    )


def draw_bone(dice: Dice, shape: Head | Base, density: float, hollow: float, condensed: float) -> Bone:
    """Clothe a shape with cortex and grain."""
    plate, joint, shaft = (
        dice.uniform(0.3, 0.5),
        dice.uniform(0.25, 0.5),
        dice.uniform(1.0, 2.1) * (0.6 if isinstance(shape, Head) else 1.0),
    )
    grain, generator = power_law(1.2, -2.6, dice.uniform(1.6, 3.0), **FINE), dice.generator
    network = band(0.85, 0.6, **FINE)
    return Bone(
        shape,
        Cortex(plate * (1.6 if isinstance(shape, Base) else 1.0), joint, shaft, density, hollow, condensed),
        strands=draw_grain(grain, generator, period_mm=FINE["period_mm"]),
        mesh=draw_grain(network, generator, period_mm=FINE["period_mm"]),
    )


def draw_tissue(dice: Dice, finger: str, head: Head) -> Tissue:
    """The tissue around a finger; the thumb and the small finger show air on one side."""
    edge, side = finger in ("thumb", "small"), dice.sign()
    return Tissue(
        thickness=dice.normal(16.0, 1.3),
        slope=(dice.normal(0, 0.008), dice.uniform(0.0, 0.02)),
        web=dice.uniform(0.3, 0.95),
        skin=side * (head.half + dice.uniform(1.5, 4.0) if edge else 60.0),
        lean=side * dice.uniform(0.02, 0.2),
        slow=draw_grain(power_law(0.03, -4.0, 1.0, **SLOW), dice.generator, period_mm=SLOW["period_mm"]),
        fine=draw_grain(power_law(0.35, -1.5, 1.4, **FINE), dice.generator, period_mm=FINE["period_mm"]),
        ossicles=draw_ossicles(dice, finger, head, side),
    )


NEIGHBOURS = {"thumb": 0.0, "index": 0.25, "middle": 0.5, "ring": 0.7, "small": 0.2}  # how often one is in the frame


def draw_ossicles(dice: Dice, finger: str, head: Head, skin_side: float) -> tuple[Ossicle, ...]:
    """Sesamoids of the thumb, and a neighbouring metacarpal head at the edge of some frames."""
    found = []
    for side in (-1.0, 1.0) if finger == "thumb" else ():
        if dice.chance(0.25):
            continue
        centre = (side * head.half * dice.uniform(0.85, 1.2), dice.uniform(2.5, 6.5))
        found.append(Ossicle(centre, (dice.uniform(1.4, 2.4), dice.uniform(1.7, 2.8)), 0.25, 1.2))
    if dice.chance(NEIGHBOURS[finger]):
        side = -skin_side if finger == "small" else dice.sign()
        centre = (side * (10.5 + dice.uniform(2.5, 5.5)), dice.uniform(0.0, 8.0))
        found.append(Ossicle(centre, (dice.uniform(4.5, 5.5), dice.uniform(5.5, 8.0)), 0.4, 0.6))
    return tuple(found)


def diseased(joint: Anatomy, dice: Dice, severity: float) -> Anatomy:
    """The joint with rheumatoid arthritis: a narrower space, marginal erosions, thinner and less dense bone."""
    head, base = joint.lower.shape, joint.upper.shape
    lost, below, above = dice.uniform(0.0, 1.7), dice.uniform(0.5, 1.0), dice.uniform(0.5, 1.0)
    bites = ([], [])  # drawn last: their number must not change the rest, or a joint could mend as it gets worse
    for _ in range(round(severity * dice.uniform(0, 4))):
        bone, side, radius = int(dice.chance(0.4)), dice.sign(), dice.uniform(0.8, 1.2 + severity)
        margin = (head.half * 0.95, dice.uniform(3.0, 6.0)) if bone == 0 else (base.half * 0.95, dice.uniform(1.0, 3.0))
        bites[bone].append(Erosion(side * margin[0], margin[1], radius))
    lower = eaten(joint.lower, tuple(bites[0]), severity * below)
    upper = eaten(joint.upper, tuple(bites[1]), severity * above)
    return replace(joint, lower=lower, upper=upper, jsw_mm=joint.jsw_mm - severity * lost)


def eaten(bone: Bone, erosions: tuple[Erosion, ...], loss: float) -> Bone:
    """The bone with erosions and periarticular loss: up to a third of its trabeculae and a fifth of its cortex."""
    cortex = bone.cortex
    thin = replace(
        cortex,
        plate=cortex.plate * (1 - 0.2 * loss),
        joint=cortex.joint * (1 - 0.2 * loss),
        shaft=cortex.shaft * (1 - 0.15 * loss),
        density=cortex.density * (1 - 0.33 * loss),
    )
    return replace(bone, cortex=thin, erosions=erosions)


def draw_pose(seed: int, visit: int, jsw_mm: float) -> Pose:
    """The pose at a visit. Crops are centred on the metacarpal head's top, half a joint space below."""
    dice = Dice(1, seed, visit)
    return Pose(
        centre=(dice.normal(0, 0.6), dice.normal(0.2, 0.22) - jsw_mm / 2),
        tilt=dice.normal(0, 5.0),
        deviation=dice.normal(0, 6.0),
        flexion=dice.normal(2.0, 4.0),
        magnification=dice.uniform(1.02, 1.05),
        gain=math.exp(dice.normal(0, 0.1)),
    )
