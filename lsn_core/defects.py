"""Defects by which a synthetic radiograph gives itself away: a strip at the border, a ghost where a bone was.

Each is a relative number, and means something beside the same number of an image that is not synthetic: a phantom drawn
again at that width, or the radiograph itself. The third, a halo round the bones, is `metrics.halo`.
"""

import torch

from lsn_core.masks import FRAME, at_256, bones, dilate, grow
from lsn_core.metrics import BAND_PX, masked_mean
from lsn_core.shapes import Image, Masks, PerItem

EDGE_PX = 4.0  # at 256: how far a bone's blurred edge reaches beyond its mask
LEAST_PX = 100.0  # at 256, of a band: of fewer, edges are most


def border_gap(image: Image, masks: Masks, rows: int) -> dict[str, PerItem]:
    """How the outermost `rows` of both shafts differ from as many rows further in; `masks` are as the image shows them.

    "gap": mean brightness relative to the rows further in, less 1: -1 is a black strip. "grain": how much neighbouring
    rows differ, relative to those further in: 0 is a strip of stripes. NaN where no bone reaches the frame's edge.
    """
    strips, inner = (_rows(masks, first, rows) for first in (0, rows))
    change = torch.nn.functional.pad((image[..., 1:, :] - image[..., :-1, :]).abs(), (0, 0, 0, 1))
    return {
        "gap": masked_mean(image, strips) / masked_mean(image, inner) - 1,
        "grain": masked_mean(change, strips) / masked_mean(change, inner),
    }


def _rows(masks: Masks, first: int, count: int) -> Image:
    """The upper bone in so many rows from the top, and the lower one in those from the bottom, from row `first` on."""
    height = masks.shape[-2]
    found = torch.zeros_like(masks[:, :1])
    found[..., first : first + count, :] = masks[:, 2:3, first : first + count]
    below = slice(height - first - count, height - first)
    found[..., below, :] = torch.maximum(found[..., below, :], masks[:, 1:2, below])
    return found


def ghost(image: Image, before: Masks, after: Masks) -> PerItem:
    """How much brighter it still is just inside the contour that the bones have left than just outside, relatively.

    Bands of 6 px (at 256) on both sides of the old contour, where the moved bones, their blurred edges too, are not;
    masks as drawn before and after the movement. 0 for no ghost. NaN where the bones have not left enough.
    """
    width, size = at_256(BAND_PX, image.shape[-1]), image.shape[-1]
    old, free = bones(before), after[:, :1] * (1 - bones(dilate(after, at_256(EDGE_PX, size))))
    bands = torch.cat((old * grow(1 - old, width), (1 - old) * grow(old, width)), dim=1) * free
    enough = (bands.sum(dim=(2, 3)) >= LEAST_PX * (size / FRAME) ** 2).all(dim=1)
    contrast = masked_mean(image, bands[:, :1]) / masked_mean(image, bands[:, 1:]) - 1
    return torch.where(enough, contrast, torch.nan)
