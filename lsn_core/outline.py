"""The outlines of two bones in numbers: widths, gap, overlap and tilt, from masks at 256 px."""

import numpy as np

NEAR_MM = 8.0  # how far from the joint its widest place may lie
FRAME_ROWS = 6  # px; the width at the frame is a mean over so many rows
CENTRAL = 0.5  # share of the contact's width over which the gap is averaged
MIN_GAP_COLUMNS = 8  # px; a narrower contact has no gap


def outline_statistics(lower: np.ndarray, upper: np.ndarray, spacing_mm: float) -> dict[str, float]:
    """Sizes and places of the bones' masks, (256, 256) bool, `spacing_mm` a px; NaN mm where it is NaN.

    NaN too for a width at a frame that the bone does not reach, and for a gap between bones that do not face.
    """
    gap, row = _gap(lower, upper)
    (lower_x, _), (upper_x, _) = _centre(lower), _centre(upper)
    tilts = _tilt(lower), _tilt(upper)
    return {
        "head_width_mm": _widest(lower[::-1], spacing_mm),
        "metacarpal_frame_width_mm": _at_frame(lower[::-1]) * spacing_mm,
        "base_width_mm": _widest(upper, spacing_mm),
        "phalanx_frame_width_mm": _at_frame(upper) * spacing_mm,
        "joint_row_px": row,
        "gap_mm": gap * spacing_mm,
        "overlap_px": float((lower & upper).sum()),
        "contact": float((lower & upper).any()),
        "offset_mm": (upper_x - lower_x) * spacing_mm,
        "head_column_px": lower_x,
        "metacarpal_tilt_deg": tilts[0],
        "phalanx_tilt_deg": tilts[1],
        "angle_deg": tilts[1] - tilts[0],
    }


def _widest(mask: np.ndarray, spacing_mm: float) -> float:
    """Largest width in mm of a bone whose joint is its last row, over the 8 mm nearest to that row."""
    widths = mask.sum(axis=1)[: np.flatnonzero(mask.any(axis=1))[-1] + 1]
    if np.isnan(spacing_mm):
        return np.nan
    return float(widths[-max(1, round(NEAR_MM / spacing_mm)) :].max() * spacing_mm)


def _at_frame(mask: np.ndarray) -> float:
    """Mean width in px over the first rows of a mask that reaches into them all; NaN of one that does not."""
    widths = mask[1 : 1 + FRAME_ROWS].sum(axis=1)  # the first row of a drawn mask is often left out
    return float(widths.mean()) if widths.all() else np.nan


def _gap(lower: np.ndarray, upper: np.ndarray) -> tuple[float, float]:
    """Mean gap between the masks, negative where they overlap, and the row of its middle, px.

    Down the columns of the central half of the bones' common width, from the upper mask's last to the lower's first.
    """
    columns = np.flatnonzero(lower.any(axis=0) & upper.any(axis=0))
    if len(columns) < MIN_GAP_COLUMNS:
        return np.nan, np.nan
    centre, half = (columns[0] + columns[-1]) / 2, (columns[-1] - columns[0]) * CENTRAL / 2
    columns = columns[np.abs(columns - centre) <= half]
    top = lower[:, columns].argmax(axis=0)
    bottom = len(upper) - 1 - upper[::-1, columns].argmax(axis=0)
    return float((top - bottom - 1).mean()), float((top + bottom).mean() / 2)


def _centre(mask: np.ndarray) -> tuple[float, float]:
    """Centre of mass (x, y) in px."""
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())


def _tilt(mask: np.ndarray) -> float:
    """Degrees by which the line through the rows' middles leans, counter-clockwise as seen; 0 upright."""
    counts = mask.sum(axis=1)
    rows = np.flatnonzero(counts)
    middles = (mask[rows] * np.arange(mask.shape[1])).sum(axis=1) / counts[rows]
    slope = np.polyfit(rows, middles, 1)[0] if len(rows) > 1 else np.nan
    return float(np.degrees(np.arctan(slope)))
