"""Procedural metacarpophalangeal joints whose layers, masks and joint space width are exactly known.

Path lengths through bone and tissue become absorbances, which add: `compose` gives back the image exactly, and the
layers are the truth. What real detectors do to such an image is in `detector`, and is off here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from lsn_core.anatomy import Anatomy, Dice, Pose, draw_anatomy, draw_pose, turned
from lsn_core.joint import FINGERS, Joint
from lsn_core.radiograph import compose, display

FIELD_MM = 21.0  # a 140 px crop of 0.15 mm pixels
WIDEST_MM, LARGEST = 8.0, 4096  # joint space that can be drawn, mm; sides of a frame, px


@dataclass(frozen=True)
class Phantom:
    """A joint drawn from a seed, at `size` px. `render` shows it at its own joint space width or at another one.

    `severity` of rheumatoid arthritis is 0 (none) to 1. Visits of one joint share its bones and their grain, and differ
    in pose and exposure.
    """

    seed: int
    finger: str = "index"
    size: int = 256
    severity: float = 0.0
    visit: int = 0

    def __post_init__(self) -> None:
        """Raise `ValueError` for what cannot be drawn."""
        if self.finger not in FINGERS:
            raise ValueError(f"finger {self.finger!r} is unknown; choose one of {', '.join(FINGERS)}")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} is negative; choose 0 or more")
        if self.size < 16:
            raise ValueError(f"size {self.size} is too small to show a joint; choose 16 px or more")
        if self.size > LARGEST:
            raise ValueError(f"size {self.size} is more than memory holds; choose {LARGEST} px or less")
        if not 0 <= self.severity <= 1:
            raise ValueError(f"severity {self.severity} is not between 0 (health) and 1")
        if self.visit < 0:
            raise ValueError(f"visit {self.visit} is negative; the first is 0")

    @property
    def spacing_mm(self) -> float:
        """Millimetres per pixel."""
        return FIELD_MM / self.size

    @cached_property
    def anatomy(self) -> Anatomy:
        """What the seed decided for good."""
        return draw_anatomy(self.seed, self.finger, self.severity)

    @cached_property
    def pose(self) -> Pose:
        """How the joint lies at this visit."""
        return draw_pose(self.seed, self.visit, self.anatomy.jsw_mm)

    def render(self, jsw_mm: float | None = None) -> Joint:
        """Draw the joint with `jsw_mm` between its surfaces (mean over the central half); None: its own.

        Raises `ValueError` for a width beyond -8 to 8 mm.
        """
        width = self.anatomy.jsw_mm if jsw_mm is None else float(jsw_mm)
        if not -WIDEST_MM <= width <= WIDEST_MM:
            raise ValueError(f"jsw_mm {width} is no joint space of a finger; give -{WIDEST_MM} to {WIDEST_MM}")
        absorbed = self._absorbances(width)
        layers = display(absorbed)
        masks = (absorbed > 0).float()
        masks[0] = masks.amax(dim=0)
        name = f"phantom_{self.finger}_{self.seed:05d}"
        return Joint(
            image=compose(layers[None])[0],
            layers=layers,
            masks=masks,
            name=f"{name}_visit{self.visit}" if self.visit else name,
            joint=name,
            subject=name,
            finger=self.finger,
            side="L" if self.seed % 2 else "R",
            spacing_mm=self.spacing_mm,
            jsw_mm=width,
        )

    def _absorbances(self, jsw_mm: float) -> Tensor:
        """Absorbance of soft tissue, lower and upper bone, (3, h, w); each bone gives half of the joint space."""
        body, pose = self.anatomy, self.pose
        u, v = self._finger_coordinates()
        away = (jsw_mm / pose.magnification - body.clearance(pose.deviation)) / 2
        lower = body.lower.absorbance(*turned(u, v - away, -pose.deviation, body.lower.shape.height))
        upper = body.flexed(pose.flexion).absorbance(u, -v - away)
        return pose.gain * torch.stack((body.tissue.absorbance(u, v), lower, upper))

    def _finger_coordinates(self) -> tuple[Tensor, Tensor]:
        """(u, v) in mm of every pixel's centre, in the phalanx's frame and at the finger's own scale."""
        along = (torch.arange(self.size, dtype=torch.float32) - (self.size - 1) / 2) * self.spacing_mm
        x, y = along[None, :] - self.pose.centre[0], along[:, None] - self.pose.centre[1]
        u, v = turned(x, y, -self.pose.tilt, 0.0)
        return u / self.pose.magnification, v / self.pose.magnification


def drawn(count: int, *, seed: int, size: int, diseased: float = 0.5) -> Iterator[Phantom]:
    """`count` joints from seeds that follow one another, the fingers taking turns; that share of them diseased."""
    for k in range(count):
        dice = Dice(2, seed + k)
        severity = dice.uniform(0, 1) if dice.chance(diseased) else 0.0
        yield Phantom(seed + k, FINGERS[k % len(FINGERS)], size, severity)


def phantoms(count: int, *, seed: int, size: int, diseased: float = 0.5) -> Iterator[Joint]:
    """The joints of `drawn`, each rendered once."""
    return (phantom.render() for phantom in drawn(count, seed=seed, size=size, diseased=diseased))


def visits(first: Phantom, count: int) -> Iterator[Joint]:
    """The same joint at `count` visits: the same bones and grain in other poses and exposures.

    A diseased joint narrows from visit to visit, by up to 0.3 mm times its severity.
    """
    dice, width = Dice(3, first.seed), first.anatomy.jsw_mm
    for visit in range(count):
        later = replace(first, visit=first.visit + visit)
        later.__dict__["anatomy"] = first.anatomy  # drawn once: it is the same
        yield later.render(width)
        width -= first.severity * dice.uniform(0, 0.3)
