"""A phantom taken apart for teaching: its parts named in the frame, a cut from back to palm, and other poses of it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lsn_core.anatomy import turned
from lsn_core.bone import Base
from lsn_core.phantom import Phantom

Place = tuple[float, float]  # x and y in px of the frame
SHAFT_MM = 9.0  # how far into the shafts a cut goes
NEIGHBOUR_MM = 12.0  # a further bone whose centre is so far from the axis is another finger's
EDGE_MM = 9.8  # from the axis: the last that is in the frame


@dataclass(frozen=True)
class Section:
    """A joint cut along its axis from the back of the hand to the palm; mm, the second coordinate down the frame."""

    bones: dict[str, Tensor]  # outlines (n, 2): towards the palm, and down the frame
    levels: dict[str, float]  # heights in the frame at which a radiograph shows a line or an outline


def posed(phantom: Phantom, **changes: Any) -> Phantom:
    """The same joint in another pose: `flexion=15.0`, or any other field of `anatomy.Pose`."""
    other = replace(phantom)
    other.__dict__.update(anatomy=phantom.anatomy, pose=replace(phantom.pose, **changes))
    return other


def section(phantom: Phantom) -> Section:
    """Cut a phantom through its phalanx's axis, at the finger's own scale; its pose should be upright and straight."""
    away, base = _away(phantom), _base(phantom)
    depth = torch.linspace(0, SHAFT_MM, 91)
    half = phantom.anatomy.lower.shape.thickness(torch.zeros_like(depth), depth, 0.0, 0.0) / 2
    dome = torch.stack((half, depth + away), dim=1)
    back, palm = (_half_base(base, rim, away) for rim in base.rims)
    bones = {
        "metacarpal head": torch.cat((dome.flip(0) * torch.tensor([-1.0, 1.0]), dome)),
        "proximal phalanx": torch.cat((back.flip(0) * torch.tensor([-1.0, 1.0]), palm)),
    }
    return Section(bones, {"cup": -away, "lowest rim": max(base.rims) - away, "top of the head": away})


def landmarks(phantom: Phantom) -> dict[str, Place]:
    """Where the parts of a phantom are in its frame at its own joint space width; what is outside has no place."""
    places = dict(_bones(phantom)) | dict(_surroundings(phantom))
    return {name: place for name, place in places.items() if min(place) >= 0 and max(place) <= phantom.size - 1}


def _away(phantom: Phantom) -> float:
    """Distance in mm of both bones' tops from the middle of the joint at its own width."""
    body, pose = phantom.anatomy, phantom.pose
    return (body.jsw_mm / pose.magnification - body.clearance(pose.deviation)) / 2


def _base(phantom: Phantom) -> Base:
    """The phalanx base as it is bent."""
    return phantom.anatomy.flexed(phantom.pose.flexion).shape


def _half_base(base: Base, rim: float, away: float) -> Tensor:
    """Outline (n, 2) of one half of a base, from the bottom of its cup around the rim and up the shaft."""
    below, above = torch.linspace(0, -rim, 31), torch.linspace(-rim, SHAFT_MM, 121)
    outer = [base.flatness * sum(base.widths(side, depth)[0] for side in (-1.0, 1.0)) / 2 for depth in (below, above)]
    inner = outer[0] * (1 - base.covered(torch.zeros_like(below), below, rim))
    return torch.stack((torch.cat((inner, outer[1])), -away - torch.cat((below, above))), dim=1)


def _turned(u: float, v: float, degrees: float, pivot: float) -> Place:
    """One point turned counter-clockwise as seen about (0, pivot)."""
    x, y = turned(np.array(u), np.array(v), degrees, pivot)
    return float(x), float(y)


def _in_frame(phantom: Phantom, u: float, v: float) -> Place:
    """Where a point of the phalanx's frame, in mm at the finger's own scale, is in px."""
    pose = phantom.pose
    x, y = (pose.magnification * along for along in _turned(u, v, pose.tilt, 0.0))
    middle = (phantom.size - 1) / 2
    return (x + pose.centre[0]) / phantom.spacing_mm + middle, (y + pose.centre[1]) / phantom.spacing_mm + middle


def _bones(phantom: Phantom) -> Iterator[tuple[str, Place]]:
    """Places of the two bones' parts."""
    lower, upper, away = phantom.anatomy.lower, phantom.anatomy.upper, _away(phantom)
    head, base = lower.shape, _base(phantom)
    (width,) = base.widths(1.0, torch.tensor([6.5]))
    plate, aside = upper.cortex.plate / 2, 0.45 * base.half
    falls, reach = float(base.surface(torch.tensor(aside))), 0.7 * max(base.rims)  # of the cup and the rim, there
    free = max(base.rims) if max(base.rims) < 1.6 * away else 0.0  # else the rim hides all of the joint space
    for name, u, depth in (
        ("shaft of the phalanx", 0.0, 8.0),
        ("cortex", float(width) - upper.cortex.side(torch.tensor(6.5)).item() / 2, 6.5),
        ("base of the phalanx", -0.6 * base.half, 3.2),
        ("subchondral plate", -aside, plate - falls),
        ("rim", aside, -falls - reach / 2),
        ("joint space", 0.0, -free / 2 - away),
    ):
        yield name, _in_frame(phantom, u, -depth - away)
    for name, u, depth in (("metacarpal head", -0.4 * head.half, 3.5), ("trabeculae", 0.3 * head.half, 2.5)):
        yield name, _in_frame(phantom, *_bent(phantom, u, depth, away))


def _bent(phantom: Phantom, u: float, depth: float, away: float) -> tuple[float, float]:
    """A point of the metacarpal's own frame in that of the phalanx."""
    u, v = _turned(u, depth, phantom.pose.deviation, phantom.anatomy.lower.shape.height)
    return u, v + away


def _surroundings(phantom: Phantom) -> Iterator[tuple[str, Place]]:
    """Places of soft tissue, skin, air and further bones."""
    tissue = phantom.anatomy.tissue
    inward = -1.0 if tissue.skin > 0 else 1.0
    yield "soft tissue", _in_frame(phantom, 0.85 * inward * EDGE_MM, -4.0)
    yield "skin", _in_frame(phantom, tissue.skin + inward * 0.3, 0.0)
    yield "air", _in_frame(phantom, tissue.skin - tissue.lean * 8.0 - inward * 1.2, -8.0)
    for bone in tissue.ossicles:
        u, v = bone.centre
        name = "neighbouring bone" if abs(u) > NEIGHBOUR_MM else "sesamoid"
        yield name, _in_frame(phantom, max(-EDGE_MM, min(EDGE_MM, u)), v)
