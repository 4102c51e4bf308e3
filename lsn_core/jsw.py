"""Joint space width measured from layers: the gap between the two subchondral surfaces along the phalanx's axis.

The gap between masks is not joint space width: the rims of the phalanx base hang over the metacarpal head. What counts
is the bright line of the subchondral plate, and that is an edge inside the upper bone's layer.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from lsn_core.shapes import Layers, Masks, PerItem

REACH_MM = 4.5  # how far from the middle of the joint a surface is looked for
STEP_MM = 0.04  # between samples along the axis
COLUMNS = 41  # across the central half of the contact
SMOOTH_MM = 0.12  # along the axis, before the edge is taken
BAND_MM = (0.2, 0.9)  # widths of the bright line and of its surroundings
PLATE_MM = 0.7  # from the plate's brightest line to its edge, at most: the rims' edges are further
PLATE_AT_MM = (-1.5, 2.2)  # where that line is, from the metacarpal head's drawn outline, and how far around to look
OUTLINE_MM = 0.25  # how far around that outline to look for the head's surface; drawn outlines keep to it within 0.15
SLOPES = np.linspace(-0.3, 0.3, 13)  # of a surface on the axis, mm per mm
CURVATURES = np.linspace(0.0, 0.09, 10)  # of half a parabola: v = curvature * u^2, falling away towards the wrist
SVDH_MM = (1.75, 1.3125, 0.875, 0.4375)  # 100, 75, 50 and 25 % of the mean of healthy joints, after the paper


@dataclass(frozen=True)
class JointSpace:
    """One measurement; surfaces are (COLUMNS, 2) points (x, y) in px, for figures."""

    jsw_mm: float
    upper: np.ndarray
    lower: np.ndarray


def svdh_like(width_mm: float) -> int:
    """The paper's class of a joint space width, 0 (1.75 mm and more) to 4 (less than a quarter of that, and overlap).

    Like the joint space narrowing score of Sharp and van der Heijde in its numbers only: readers do not score by these
    cuts, and half of all healthy joints are narrower than 1.75 mm. Raises `ValueError` where the width is not known.
    """
    if np.isnan(width_mm):
        raise ValueError("the joint space width is not known, so it has no class")
    return sum(bool(width_mm < least) for least in SVDH_MM)


def jsw_mm(layers: Layers, masks: Masks, *, spacing_mm: float) -> PerItem:
    """Joint space width of each item in mm: mean gap over the central half of the contact, negative where it overlaps.

    NaN where a bone has no mask or nothing to see in its layer. `spacing_mm` is mm per pixel. On phantoms,
    whose width is known, true layers give it with 95 % limits of agreement of -0.15 and +0.09 mm, the shipped network's
    with -0.25 and +0.17 mm (book/results/jsw.json).
    """
    pairs = zip(layers.cpu().numpy(), masks.cpu().numpy() > 0, strict=True)
    found = [measure(layer, mask, spacing_mm=spacing_mm) for layer, mask in pairs]
    return torch.tensor([space.jsw_mm if space else torch.nan for space in found])


def measure(layers: np.ndarray, masks: np.ndarray, *, spacing_mm: float) -> JointSpace | None:
    """Measure one joint from its layers (3, h, w) and its masks (3, h, w), bool; None where `jsw_mm` gives NaN."""
    if not (masks[1].any() and masks[2].any()):
        return None
    origin, axis = phalanx_axis(masks, spacing_mm)
    across = np.linspace(-1, 1, COLUMNS) * contact_mm(masks, spacing_mm) / 4
    along = np.arange(-REACH_MM, REACH_MM, STEP_MM)
    points = frame_points(origin, axis, across, along, spacing_mm)
    plate, head = (sample(absorbed(layers[k]), points) for k in (2, 1))
    outline = first_row(sample(masks[1].astype(np.float64), points), along)
    lower = surface(edge(head) * around(along, outline, OUTLINE_MM), across, along)
    line, reach = PLATE_AT_MM
    ridge = surface(band(plate) * around(along, outline + line, reach), across, along)
    upper = surface(-edge(plate) * within(along, ridge, ridge + PLATE_MM), across, along)
    gap = float(np.mean(lower - upper))
    if np.isnan(gap):
        return None
    return JointSpace(gap, *(along_frame(origin, axis, across, v, spacing_mm) for v in (upper, lower)))


def phalanx_axis(masks: np.ndarray, spacing_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) px of the middle of the joint, and the unit vector along the phalanx's axis towards the wrist.

    The axis follows the middles of the upper mask's rows, 3 mm and more above its lower end. Joint space is defined
    about it, but the head's middle is found more steadily: the middle is taken halfway between the two.
    """
    rows = np.flatnonzero(masks[2].any(axis=1))
    shaft = rows[rows <= rows[-1] - 3.0 / spacing_mm]
    used = shaft if len(shaft) > 5 else rows
    middles = [np.flatnonzero(masks[2][row])[[0, -1]].mean() for row in used]
    slope, start = np.polyfit(used, middles, 1) if len(used) > 1 else (0.0, middles[0])
    top = np.flatnonzero(masks[1].any(axis=1))[0]
    head = np.flatnonzero(masks[1][top : top + max(1, round(3.0 / spacing_mm))].any(axis=0))[[0, -1]].mean()
    row = (top + rows[-1]) / 2
    return np.array([(start + slope * row + head) / 2, row]), np.array([slope, 1.0]) / np.hypot(slope, 1.0)


def contact_mm(masks: np.ndarray, spacing_mm: float) -> float:
    """Width over which the bones face each other: the narrower bone's largest width."""
    return spacing_mm * min(mask.sum(axis=1).max() for mask in masks[1:])


def frame_points(
    origin: np.ndarray, axis: np.ndarray, across: np.ndarray, along: np.ndarray, spacing_mm: float
) -> np.ndarray:
    """(2, len(along), len(across)) rows and columns in px of a grid in mm that is turned to the axis."""
    u, v = across[None, :] / spacing_mm, along[:, None] / spacing_mm
    return np.stack((origin[1] + v * axis[1] - u * axis[0], origin[0] + v * axis[0] + u * axis[1]))


def along_frame(
    origin: np.ndarray, axis: np.ndarray, across: np.ndarray, v: np.ndarray, spacing_mm: float
) -> np.ndarray:
    """(n, 2) points (x, y) in px of a surface given in mm."""
    u, v = across / spacing_mm, v / spacing_mm
    return np.stack((origin[0] + v * axis[0] + u * axis[1], origin[1] + v * axis[1] - u * axis[0]), axis=1)


def sample(layer: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The layer at those points, bilinear; beyond the frame its edge is continued."""
    from scipy import ndimage

    return ndimage.map_coordinates(layer, points, order=1, mode="nearest")


def absorbed(layer: np.ndarray) -> np.ndarray:
    """Absorbance of a layer: unlike brightness, it does not flatten where bone is dense."""
    return -np.log1p(-layer.astype(np.float64).clip(0, 0.99))


def band(samples: np.ndarray) -> np.ndarray:
    """How much brighter a line across the axis is than its surroundings on either side; 0 where it is darker."""
    from scipy import ndimage

    fine, coarse = (ndimage.gaussian_filter1d(samples, mm / STEP_MM, axis=0, mode="nearest") for mm in BAND_MM)
    return (fine - coarse).clip(min=0)


def within(along: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """1 where a sample of a column lies between that column's first and last place, else 0."""
    return ((along[:, None] >= first) & (along[:, None] <= last)).astype(np.float64)


def around(along: np.ndarray, middle: np.ndarray, reach: float) -> np.ndarray:
    """Near 1 within `reach` of each column's middle, then falling smoothly: a sharp end would make an edge of its own.

    A layer of the network begins with a jump where its widened mask begins, 0.33 mm outside the drawn outline; what is
    brighter there than the head itself must not count.
    """
    return np.exp(-(((along[:, None] - middle) / reach) ** 4))


def first_row(mask: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Where each column first meets the mask, in mm along the axis; the column's end where it never does."""
    inside = mask > 0.5
    return np.where(inside.any(axis=0), along[inside.argmax(axis=0)], along[-1])


def edge(samples: np.ndarray) -> np.ndarray:
    """Rise per mm along the axis (rows), smoothed."""
    from scipy import ndimage

    return ndimage.gaussian_filter1d(samples, SMOOTH_MM / STEP_MM, axis=0, order=1, mode="nearest") / STEP_MM


def surface(strength: np.ndarray, across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Where the surface lies in each column, in mm along the axis: the parabola that collects the strongest edge.

    A whole curve is fitted at once, so that the grain of single columns does not lead it astray. NaN without an edge.
    """
    step = along[1] - along[0]
    offsets = (SLOPES[:, None, None] * across + CURVATURES[:, None] * across**2).reshape(-1, len(across))
    collected = collect(strength, np.round(offsets / step).astype(int))
    curve, top = np.unravel_index(collected.argmax(), collected.shape)
    if collected[curve, top] <= 0:
        return np.full(len(across), np.nan)
    return along[0] + step * peak(collected[curve], int(top)) + offsets[curve]


def collect(strength: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """(curves, rows): for each curve, the mean over columns, each read `steps` (curves, columns) rows further down.

    Rows beyond the ends repeat the last.
    """
    reach = abs(steps).max()
    padded = np.pad(strength.T.astype(np.float32), ((0, 0), (reach, reach)), mode="edge")
    windows = sliding_window_view(padded, len(strength), axis=1)  # (columns, starts, rows)
    return windows[np.arange(steps.shape[1]), steps + reach].mean(axis=1)


def peak(values: np.ndarray, top: int) -> float:
    """Place of a maximum between samples, by the parabola through it and its neighbours."""
    if not 0 < top < len(values) - 1:
        return float(top)
    before, at, after = values[top - 1 : top + 2]
    curve = before - 2 * at + after
    return top + 0.5 * float((before - after) / curve) if curve < 0 else float(top)
