"""What a joint's radiograph looks like, in numbers: brightness by region, sharpness, texture, profiles, outlines."""

import numpy as np

from lsn_core.batch import resize
from lsn_core.joint import Joint
from lsn_core.masks import FRAME, hand_mask
from lsn_core.outline import outline_statistics
from lsn_core.texture import texture_statistics

AWAY_PX, ERODE_PX = 6.0, 4.0  # of the bones' blurred edges: soft tissue begins so far outside, bone so far inside
FRAME_REGIONS = ("air", "soft tissue", "bone", "bone edge", "joint space", "frame border")
BORDER_PX, GAP_PX = 8, 12.0  # width of the border; the joint space is within 12 px of both bones
MIN_PIXELS = 20  # a smaller region is absent
SOFT_WINDOW, BONE_WINDOW = 40, 48  # px
REACH_PX, STEP_PX = 14.0, 0.5  # profiles across an edge: how far to either side, and their step
SIDEWAYS = 0.8  # a contour point is on the shaft's side where its normal has this much of it across the finger
CLEAR_PX = 30  # distance of such a point from the other bone's rows, and half of it from the frame
SUBCHONDRAL_PX, SHAFT_PX = 20, 50  # depth behind the joint of the bright band, and where the shaft begins
HEAD_PX = (8, 48)  # depth of the metacarpal head's rows
MIDDLE, MARGINS = slice(14, 27), np.r_[3:8, 33:38]  # of the 41 places across a bone
CORTEX = (slice(2, 13), slice(28, 39))


def joint_statistics(joint: Joint) -> dict[str, float]:
    """Statistics of one radiograph, all in px of a 256 px frame, in mm, or relative; NaN where a region is absent.

    The frame is resized to 256 px first, and the hand is found in the image, so that all sources are treated alike.
    Lengths in mm and spectra are NaN without a spacing. Raises `InputError` for a frame that is not square.
    """
    at_256 = resize(joint, FRAME)
    image = at_256.image[0].numpy().astype(np.float64)
    lower, upper = (mask.numpy() > 0.5 for mask in at_256.masks[1:])
    spacing_mm = at_256.spacing_mm or np.nan
    hand = hand_mask(at_256.image[0].numpy()) | lower | upper
    regions = _regions(hand, lower, upper)
    grains = {
        "soft": texture_statistics(image, regions["soft"], SOFT_WINDOW, spacing_mm),
        "bone": texture_statistics(image, regions["lower"] | regions["upper"], BONE_WINDOW, spacing_mm),
    }
    return {
        **_brightness(image, regions),
        "air_share": float(1 - hand.mean()),
        "edge_px": _edge_width(image, lower, upper),
        **{f"{region}_{name}": value for region, grain in grains.items() for name, value in grain.items()},
        "blockiness": _blockiness(image),
        **_profiles(image, lower, upper),
        **outline_statistics(lower, upper, spacing_mm),
    }


def _regions(hand: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> dict[str, np.ndarray]:
    """Air, soft tissue well outside the bones, each bone well inside and alone, and the bones' overlap."""
    from scipy.ndimage import distance_transform_edt as distance

    return {
        "air": ~hand,
        "soft": hand & (distance(~(lower | upper)) >= AWAY_PX),
        "lower": distance(lower & ~upper) > ERODE_PX,
        "upper": distance(upper & ~lower) > ERODE_PX,
        "overlap": lower & upper,
    }


def frame_regions(joint: Joint) -> np.ndarray:
    """To which of `FRAME_REGIONS` each pixel of a 256 px joint belongs, (256, 256) uint8; a later one wins."""
    from scipy.ndimage import distance_transform_edt as distance

    lower, upper = (mask.numpy() > 0.5 for mask in joint.masks[1:])
    hand = hand_mask(joint.image[0].numpy()) | lower | upper
    outside = [distance(~bone) if bone.any() else np.full(bone.shape, np.inf) for bone in (lower, upper)]
    bone = lower | upper
    deep = np.maximum(distance(lower), distance(upper))
    border = np.ones(bone.shape, dtype=bool)
    border[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = False
    chosen = [~hand, hand & ~bone, bone, np.where(bone, deep <= ERODE_PX, np.minimum(*outside) <= ERODE_PX)]
    chosen += [np.maximum(*outside) <= GAP_PX, border]
    return np.max([(k * one).astype(np.uint8) for k, one in enumerate(chosen)], axis=0)


def _brightness(image: np.ndarray, regions: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean and SD of the display values of every region."""
    values = {name: image[region] for name, region in regions.items()}
    kept = {name: some if len(some) >= MIN_PIXELS else np.array([np.nan]) for name, some in values.items()}
    means = {f"{name}_mean": float(some.mean()) for name, some in kept.items()}
    return means | {f"{name}_sd": float(some.std()) for name, some in kept.items()}


def _edge_width(image: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> float:
    """Mean 10-90 % width in px of the edges at the sides of both bones."""
    widths = [width for bone, other in ((lower, upper), (upper, lower)) for width in _side_widths(image, bone, other)]
    return float(np.nanmean(widths)) if np.isfinite(widths).any() else np.nan


def _side_widths(image: np.ndarray, bone: np.ndarray, other: np.ndarray) -> list[float]:
    """10-90 % widths at a bone's left and right side, each of the median of the profiles along the normals there.

    A mask is drawn a few px beside the edge, so each profile is moved to have its steepest place in its middle.
    """
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(bone.astype(np.float32), 4.0, mode="nearest")
    rows, columns = np.nonzero(bone & ~ndimage.binary_erosion(bone, border_value=1))
    down, right = np.gradient(smooth)
    down, right = down[rows, columns], right[rows, columns]
    length = np.hypot(down, right).clip(1e-9)
    down, right = down / length, right / length
    far = np.ones(len(bone), dtype=bool)
    if other.any():
        taken = np.flatnonzero(other.any(axis=1))
        far[max(0, taken[0] - CLEAR_PX) : taken[-1] + CLEAR_PX] = False
    margin = CLEAR_PX // 2
    free = (np.minimum(rows, columns) >= margin) & (np.maximum(rows, columns) < len(bone) - margin)
    sides = [free & far[rows] & (sign * right > SIDEWAYS) for sign in (1, -1)]
    return [_width(image, rows[at], columns[at], down[at], right[at]) for at in sides if at.sum() >= MIN_PIXELS]


def _width(image: np.ndarray, rows: np.ndarray, columns: np.ndarray, down: np.ndarray, right: np.ndarray) -> float:
    """10-90 % width in px of the median profile through these points along their inward normals."""
    from scipy import ndimage

    along = np.arange(-2 * REACH_PX, 2 * REACH_PX + STEP_PX, STEP_PX)
    places = np.stack((rows[:, None] + along * down[:, None], columns[:, None] + along * right[:, None]))
    profiles = ndimage.uniform_filter1d(ndimage.map_coordinates(image, places, order=1, mode="nearest"), 5, axis=0)
    reach = int(REACH_PX / STEP_PX)
    slopes = np.gradient(ndimage.gaussian_filter1d(profiles, 1 / STEP_PX, axis=1), axis=1)[:, reach:-reach]
    steepest = slopes.argmax(axis=1)[:, None] + np.arange(2 * reach + 1)
    return ten_to_ninety(np.median(np.take_along_axis(profiles, steepest, axis=1), axis=0)) * STEP_PX


def ten_to_ninety(profile: np.ndarray) -> float:
    """Distance in samples between 10 and 90 % of the rise of a profile from its first to its last quarter.

    Walked from the half level outwards, so that what lies beyond the edge does not count; NaN for no rise.
    """
    quarter = len(profile) // 4
    low, high = np.median(profile[:quarter]), np.median(profile[-quarter:])
    if high <= low:
        return np.nan
    rise = (profile - low) / (high - low)
    middle = int(np.argmin(np.abs(rise[quarter:-quarter] - 0.5))) + quarter
    before, after = np.flatnonzero(rise[:middle] <= 0.1), middle + np.flatnonzero(rise[middle:] >= 0.9)
    if not (len(before) and len(after)):
        return np.nan
    i, k = before[-1], after[0]
    tenth = i + (0.1 - rise[i]) / (rise[i + 1] - rise[i])
    return float(k - (rise[k] - 0.9) / (rise[k] - rise[k - 1]) - tenth)


def _blockiness(image: np.ndarray) -> float:
    """Mean step between neighbours of different 8 px blocks over that between neighbours of one: 1 without JPEG."""
    steps = [np.abs(np.diff(image, axis=1)).mean(axis=0), np.abs(np.diff(image, axis=0)).mean(axis=1)]
    between = np.arange(1, FRAME) % 8 == 0
    inside = np.mean([step[~between].mean() for step in steps])
    return float(np.mean([step[between].mean() for step in steps]) / inside) if inside else np.nan


def _profiles(image: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> dict[str, float]:
    """Brightness profiles of the bones, each as a ratio; pixels where both bones lie are left out.

    "subchondral": brightest line behind the phalanx's joint surface over its shaft; "head_centre": the metacarpal
    head's middle over its margins; "cortex": the phalanx's shaft at its margins over its middle.
    """
    shown = np.where(lower & upper, np.nan, image)
    behind = _behind(shown[::-1], upper[::-1])
    band, shaft = behind[:SUBCHONDRAL_PX], behind[SHAFT_PX:]
    head = _across(shown, lower, HEAD_PX)
    base = _across(shown[::-1], upper[::-1], (SHAFT_PX, FRAME))
    return {
        "subchondral": _ratio(band[np.isfinite(band)].max(initial=-np.inf), shaft),
        "head_centre": _ratio(np.mean(head[MIDDLE]), head[MARGINS]),
        "cortex": _ratio(np.mean([base[side].max() for side in CORTEX]), base[MIDDLE]),
    }


def _ratio(one: float, others: np.ndarray) -> float:
    """A value over the mean of the finite others; NaN without any."""
    finite = others[np.isfinite(others)]
    return float(one / finite.mean()) if len(finite) and np.isfinite(one) and finite.mean() > 0 else np.nan


def _behind(image: np.ndarray, bone: np.ndarray) -> np.ndarray:
    """Mean brightness by depth below the surface of a bone that lies below it, over the central third of its columns.

    NaN at depths that the frame or the bone does not have.
    """
    columns = np.flatnonzero(bone.any(axis=0))
    third = len(columns) // 3
    columns = columns[third : len(columns) - third]
    rows = bone[:, columns].argmax(axis=0) + np.arange(len(bone))[:, None]
    inside = rows < len(bone)
    rows = rows.clip(max=len(bone) - 1)
    values = np.where(inside & bone[rows, columns], image[rows, columns], np.nan)
    return _mean_of_finite(values)


def _across(image: np.ndarray, bone: np.ndarray, depths: tuple[int, int]) -> np.ndarray:
    """Mean brightness at 41 places from a bone's left to its right contour, over rows at these depths below its top."""
    rows = np.flatnonzero(bone.any(axis=1))[depths[0] : depths[1]]
    left = bone[rows].argmax(axis=1)
    width = bone.shape[1] - 1 - bone[rows, ::-1].argmax(axis=1) - left
    columns = np.rint(left + np.linspace(0, 1, 41)[:, None] * width).astype(int)
    return _mean_of_finite(image[rows, columns])


def _mean_of_finite(values: np.ndarray) -> np.ndarray:
    """Mean along the second axis without the NaN; NaN where there is nothing else."""
    finite = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(finite, values, 0).sum(axis=1) / finite.sum(axis=1)
