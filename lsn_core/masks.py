"""Masks: which pixels belong to the hand and to each bone, and how to widen a bone's mask over its blurred edge."""

import numpy as np
import torch
import torch.nn.functional as F

from lsn_core.shapes import Image, Masks

FRAME = 256  # px; distances in masks and shifts are stated for a frame of this size and scale with it
SHORT = 4.0  # px at 256 by which drawn masks stop short of the frame's edge
AIR = 0.05  # display value below which a pixel may be air


def at_256(distance: float, size: int) -> float:
    """A distance stated in px of a 256 px frame, in px of a frame of `size`."""
    return distance * size / FRAME


def bones(masks: Masks) -> Image:
    """Union of the two bones."""
    return masks[:, 1:].amax(dim=1, keepdim=True)


def overlap(masks: Masks) -> Image:
    """Where the two bones are projected over each other."""
    return masks[:, 1:2] * masks[:, 2:3]


def grow(mask: Image, radius: float) -> Image:
    """Widen each mask by a disk of `radius` px; nothing grows in from beyond the frame."""
    reach = int(radius)
    if reach < 1:
        return mask
    along = torch.arange(-reach, reach + 1, dtype=mask.dtype, device=mask.device)
    disk = (along[:, None] ** 2 + along[None, :] ** 2 <= radius**2).to(mask.dtype)
    return (F.conv2d(mask, disk[None, None], padding=reach) > 0.5).to(mask.dtype)


def dilate(masks: Masks, radius: float) -> Masks:
    """Widen both bones by `radius` px, and the hand with them.

    A bone's edge is blurred over about 6 px of a 256 px frame and its mask runs along the half level, so the outer
    half of the edge lies outside the mask: undilated, it stays in the soft tissue as a bright halo.
    """
    lower, upper = grow(masks[:, 1:2], radius), grow(masks[:, 2:3], radius)
    return torch.cat((torch.maximum(masks[:, :1], torch.maximum(lower, upper)), lower, upper), dim=1)


def to_edge(masks: Masks) -> Masks:
    """Masks whose bones reach the upper or lower edge of the frame where they were drawn a few px short of it.

    People draw so where the bone goes on; a bone that ends within the frame is more than 4 px (at 256) from its edge.
    """
    gap = max(1, round(at_256(SHORT, masks.shape[-1])))
    return _to_top(_to_top(masks, gap).flip(-2), gap).flip(-2)


def _to_top(masks: Masks, gap: int) -> Masks:
    """Masks whose bones go on to the first row where they begin within `gap` rows of it."""
    reached = masks.clone()
    for bone in (bone for item in reached for bone in item[1:]):  # views: writing to one changes the masks
        rows = bone[: gap + 1].amax(dim=1).nonzero()
        if len(rows):
            bone[: int(rows[0])] = bone[int(rows[0])]
    reached[:, 0] = reached.amax(dim=1)
    return reached


def hand_mask(image: np.ndarray) -> np.ndarray:
    """Everything but the air, (h, w) bool, from a display image (h, w) in [0, 1].

    Air is the largest dark region that touches the frame, if there is one; dark islands inside the hand stay hand.
    """
    from scipy import ndimage

    regions, _ = ndimage.label(image < AIR)
    touching = np.unique(np.concatenate((regions[0], regions[-1], regions[:, 0], regions[:, -1])))
    sizes = np.bincount(regions.ravel())
    sizes[np.setdiff1d(np.arange(len(sizes)), touching[touching > 0])] = 0
    if sizes.max() == 0:
        return np.ones(image.shape, dtype=bool)
    return regions != sizes.argmax()
