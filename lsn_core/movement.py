"""Movements: how the bones of one joint move against each other, in the terms of its anatomy.

A movement is given in mm and degrees about the joint's own hinge; `shifts` makes of it what `shift` does to pixels.
"""

from dataclasses import dataclass

import numpy as np

from lsn_core.jsw import phalanx_axis
from lsn_core.radiograph import Shift, joint_axis
from lsn_core.shapes import Masks

MOVING = {"both": 0.5, "upper": 1.0, "lower": 0.0}  # share of a change of the joint space that the upper bone makes

MOST_MM, MOST_DEGREES = 5.0, 45.0  # that a bone slides across the axis and turns, either way, where users ask for it


@dataclass(frozen=True)
class Movement:
    """How far the bones of one joint move from where they are; nothing by default.

    Slides are across the joint's axis, to the right in an upright frame; degrees are counter-clockwise as seen, about
    the hinge's middle: a turn there deviates the finger without pulling the joint apart.
    """

    delta_mm: float = 0.0  # of the joint space width, positive wider
    share: float = 0.5  # of it that the upper bone moves; the lower one moves the rest, the other way
    slide_mm: tuple[float, float] = (0.0, 0.0)  # of the lower and the upper bone
    degrees: tuple[float, float] = (0.0, 0.0)  # of the lower and the upper bone


@dataclass(frozen=True)
class Hinge:
    """What the bones of a joint move about, in px of its frame."""

    middle: tuple[float, float]  # (x, y) of the middle of the joint space
    axis: tuple[float, float]  # unit vector (x, y) along which the space widens, towards the fingertip
    spacing_mm: float  # mm per pixel


def find_hinge(masks: Masks, *, spacing_mm: float) -> Hinge:
    """The hinge of one joint, from its masks (1, 3, h, w). Raises `ValueError` where a bone has no mask."""
    if not masks[:, 1:].amax(dim=(2, 3)).all():
        raise ValueError("a bone has no mask, so the joint has no hinge")
    middle, _ = phalanx_axis(masks[0].cpu().numpy() > 0, spacing_mm)
    x, y = joint_axis(masks)
    return Hinge((float(middle[0]), float(middle[1])), (x.item(), y.item()), spacing_mm)


def shifts(movement: Movement, hinge: Hinge) -> tuple[Shift, Shift]:
    """What a movement does to the lower and the upper bone; both turn about the hinge's middle (Eq. 5-6)."""
    (x, y), px = hinge.axis, 1 / hinge.spacing_mm
    along = (-(1 - movement.share) * movement.delta_mm * px, movement.share * movement.delta_mm * px)
    lower, upper = (
        Shift(d * x - slide * px * y, d * y + slide * px * x, degrees)
        for d, slide, degrees in zip(along, movement.slide_mm, movement.degrees, strict=True)
    )
    return lower, upper


def source_matrix(by: Shift, centre: tuple[float, float]) -> np.ndarray:
    """(2, 3): where the pixel (x, y, 1) of a layer moved by `by` about `centre` comes from, in px; one item only."""
    angle = np.deg2rad(by.degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    start = np.array(centre) - turn @ (centre[0] + by.dx, centre[1] + by.dy)
    return np.column_stack((turn, start))
