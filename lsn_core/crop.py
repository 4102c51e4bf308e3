"""A joint cut out of a radiograph of the whole hand: where it is, which way the finger points, how wide to cut."""

from dataclasses import dataclass

import numpy as np

FIELD = {  # sides of a crop in widths of the bones at the joint: medians of 1,502 radiographs of BLS-GAN, 21 mm wide
    "thumb": 1.53,
    "index": 1.41,
    "middle": 1.43,
    "ring": 1.60,
    "small": 1.67,
}
BLUNT = 10  # px from a bone's tip within which its width is not yet looked for


@dataclass(frozen=True)
class Place:
    """Where a crop lies in a hand: x to the right and y down, px."""

    centre: np.ndarray  # (2,), the middle of the joint's gap
    up: np.ndarray  # (2,), unit vector along the finger
    side: float


def find_joint(lower: np.ndarray, upper: np.ndarray, finger: str) -> Place:
    """Where to cut: the finger points from bone to bone, the gap is in the middle, the side follows the bones' widths.

    `lower` and `upper` are the masks, bool (h, w), of a metacarpal and a proximal phalanx; of a mask in pieces the
    largest counts. Raises `ValueError` where most of one mask lies in the other.
    """
    if (lower & upper).sum() > min(lower.sum(), upper.sum()) / 2:
        raise ValueError("both masks lie on the same bone")
    below, above = _points(lower), _points(upper)
    between = above.mean(axis=0) - below.mean(axis=0)
    up = between / np.linalg.norm(between)
    across = np.array([-up[1], up[0]])
    head, head_width, head_middle = _tip(below @ up, below @ across)
    base, base_width, base_middle = _tip(-(above @ up), above @ across)
    centre = (head - base) / 2 * up + (head_middle + base_middle) / 2 * across
    return Place(centre, up, FIELD[finger] * (head_width + base_width) / 2)


def _points(mask: np.ndarray) -> np.ndarray:
    """Pixels (n, 2) of the largest piece of a mask, as x and y."""
    from scipy import ndimage

    y, x = np.nonzero(mask)
    left, top = x.min(), y.min()
    pieces, _ = ndimage.label(mask[top : y.max() + 1, left : x.max() + 1])
    largest = np.bincount(pieces.ravel())[1:].argmax() + 1
    y, x = np.nonzero(pieces == largest)
    return np.stack((x + left, y + top), axis=1).astype(float)


def _tip(along: np.ndarray, across: np.ndarray) -> tuple[float, float, float]:
    """Where a bone ends in the direction of `along`, how wide it is there, and the middle of that width.

    The width is the largest one that is no farther from the end than it is wide: so a shaft, and a bone's other end,
    do not count.
    """
    end = along.max()
    depth = np.floor(end - along).astype(int)
    low, high = np.full(depth.max() + 1, np.inf), np.full(depth.max() + 1, -np.inf)
    np.minimum.at(low, depth, across)
    np.maximum.at(high, depth, across)
    widest = np.maximum.accumulate(high - low + 1)
    beyond = np.flatnonzero(np.arange(len(widest)) > np.maximum(widest, BLUNT))
    width = widest[beyond[0] - 1] if len(beyond) else widest[-1]
    near = across[end - along <= width]
    return end, width, (near.min() + near.max()) / 2


def cut(image: np.ndarray, place: Place) -> np.ndarray:
    """The square around a joint, float32, `place.side` px wide, bilinear; what lies outside the image is 0."""
    from scipy import ndimage

    size = round(place.side)
    offset = np.arange(size) - (size - 1) / 2
    across = np.array([-place.up[1], place.up[0]])
    x, y = (c + a * offset[None] - u * offset[:, None] for c, a, u in zip(place.centre, across, place.up, strict=True))
    return ndimage.map_coordinates(image.astype(np.float32), (y, x), order=1)
