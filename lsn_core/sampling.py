"""Sampling: which joint space widths and movements a synthetic data set shows.

Whatever the plan, each source is spread over the whole of it by itself, one copy to each part: any number of sources
together has the plan's histogram, and none of them is known by its width.
"""

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lsn_core.files import InputError, read_bytes
from lsn_core.jsw import SVDH_MM
from lsn_core.movement import MOST_DEGREES, MOST_MM, MOVING, Movement

PLANS = ("uniform", "matched", "around")
LOW_MM, HIGH_MM = 0.0, SVDH_MM[0] + SVDH_MM[-1]  # in between, each of the five SvdH-like classes is as wide


@dataclass(frozen=True)
class Plan:
    """How movements are drawn.

    "uniform": widths between `low_mm` and `high_mm`; "matched": widths distributed as those `like`; "around": within
    `spread_mm` of each joint's own.
    """

    name: str = "uniform"
    copies: int = 8
    low_mm: float = LOW_MM
    high_mm: float = HIGH_MM
    like: tuple[float, ...] = ()  # mm
    spread_mm: float = 0.5
    slide_mm: float = 0.2  # largest movement of each bone across the joint's axis, either way
    degrees: float = 2.0  # largest turn of each bone, either way
    moving: str = "both"  # key of MOVING: which bones make the change
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `InputError` for a plan that cannot be carried out."""
        if self.name not in PLANS or self.moving not in MOVING:
            raise InputError(f"plan {self.name!r}, moving {self.moving!r}: choose of {PLANS} and {tuple(MOVING)}")
        if self.copies < 1:
            raise InputError(f"copies {self.copies}: give 1 or more")
        amounts = {"spread": self.spread_mm, "slide": self.slide_mm, "degrees": self.degrees}
        for name, value in amounts.items():
            most = MOST_DEGREES if name == "degrees" else MOST_MM
            if not 0 <= value <= most:
                raise InputError(f"{name} {value:g}: give 0 to {most:g}")
        if not -2 <= self.low_mm < self.high_mm <= 5:
            raise InputError(f"widths from {self.low_mm} to {self.high_mm} mm: give two between -2 and 5, lower first")
        if (self.name == "matched") != bool(self.like):
            raise InputError("plan 'matched' needs the widths to match, as --like FILE; other plans take none")

    def movements(self, source: str, own_mm: float, *, reach_mm: float) -> list[Movement]:
        """One movement for each copy of the source of that name, whose joint space is `own_mm` wide.

        No bone moves further along the axis than `reach_mm`, what is known of it beyond the frame.
        """
        random = np.random.default_rng((self.seed, *source.encode()))
        place = (np.arange(self.copies) + random.random(self.copies)) / self.copies
        most = reach_mm / max(MOVING[self.moving], 1 - MOVING[self.moving])
        change = np.clip(self._widths(place, own_mm) - own_mm, -most, most)
        slides = random.uniform(-self.slide_mm, self.slide_mm, (self.copies, 2))
        turns = random.uniform(-self.degrees, self.degrees, (self.copies, 2))
        return [
            Movement(float(mm), MOVING[self.moving], tuple(slide), tuple(turn))
            for mm, slide, turn in zip(change, slides.tolist(), turns.tolist(), strict=True)
        ]

    def _widths(self, place: np.ndarray, own_mm: float) -> np.ndarray:
        """Widths in mm at places from 0 to 1 of the plan's distribution."""
        if self.name == "matched":
            return np.quantile(self.like, place)
        if self.name == "around":
            return own_mm + (2 * place - 1) * self.spread_mm
        return self.low_mm + place * (self.high_mm - self.low_mm)


def read_widths(path: Path) -> tuple[float, ...]:
    """The joint space widths in mm of a .csv with a column jsw_mm, such as a labels.csv. Raises `InputError`."""
    reader = csv.DictReader(io.StringIO(read_bytes(path).decode("utf-8-sig", errors="replace"), newline=""))
    if "jsw_mm" not in (reader.fieldnames or ()):
        raise InputError(f"{path}: no column jsw_mm; name the column of the widths so")
    widths = []
    for row in reader:
        try:
            widths.append(float(row["jsw_mm"]))
        except (TypeError, ValueError):
            raise InputError(f"{path} line {reader.line_num}: jsw_mm {row['jsw_mm']!r} is no number") from None
    if len(widths) < 2 or not all(map(math.isfinite, widths)):
        raise InputError(f"{path}: holds {len(widths)} widths; give two or more finite ones to match")
    return tuple(widths)
