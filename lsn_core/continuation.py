"""Continuation: what a bone looks like beyond the frame, so that it can be moved away from the frame's edge.

No radiograph shows it. The shaft goes on in its own direction with the mean of its last rows, and its grain is that of
the rows inside, mirrored: the edge row alone, repeated, would be a strip of stripes.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lsn_core.masks import at_256
from lsn_core.shapes import Layers, Masks

GRAIN_PX = 6.0  # at 256: what varies along the shaft within so many px is grain, and mirrored
SHAFT_PX = 24.0  # at 256: rows beside the edge whose middles tell the shaft's direction
NARROWEST = 4  # px of a row that has a middle


def continued(layers: Layers, masks: Masks, margin: int) -> Float[Tensor, "b 3 y w"]:
    """Layers with `margin` more rows above and below (b, 3, h + 2 margin, w), into which the bones go on.

    A bone whose mask does not reach the frame's edge ends there, and the soft tissue, which does not move, gets black
    rows. Raises `ValueError` where the margin is not less than the frame's height.
    """
    if not 0 <= margin < layers.shape[-2]:
        raise ValueError(f"margin {margin} is not between 0 and the frame's {layers.shape[-2]} rows")
    padded = torch.nn.functional.pad(layers, (0, 0, margin, margin))
    for item, where, out in zip(layers.cpu().numpy(), masks.cpu().numpy() > 0, padded, strict=True):
        for bone in (1, 2):
            above = _beyond(item[bone], where[bone], margin)
            below = _beyond(item[bone][::-1], where[bone][::-1], margin)
            out[bone, :margin] = torch.from_numpy(above).to(out).flip(0)
            out[bone, out.shape[-2] - margin :] = torch.from_numpy(below).to(out)
    return padded


def _beyond(layer: np.ndarray, mask: np.ndarray, margin: int) -> np.ndarray:
    """The `margin` rows above a layer (h, w), the nearest one first."""
    from scipy.ndimage import gaussian_filter1d

    if margin == 0 or not mask[0].any():
        return np.zeros((margin, layer.shape[1]), np.float32)
    sigma = at_256(GRAIN_PX, layer.shape[1])
    slant = _slant(mask[: max(NARROWEST, round(at_256(SHAFT_PX, layer.shape[1])))])
    depths = np.arange(min(len(layer), margin + 1 + round(4 * sigma)))
    upright = _along(layer[depths], depths * slant)
    slow = gaussian_filter1d(upright, sigma, axis=0, mode="reflect")
    rows = slow[0] + upright[1 : margin + 1] - slow[1 : margin + 1]
    return _along(rows, depths[1 : margin + 1] * slant).clip(0, 1)


def _slant(mask: np.ndarray) -> float:
    """How many px to the right the middle of a shaft goes with each row away from the edge."""
    rows = np.flatnonzero(mask.sum(axis=1) >= NARROWEST)
    if len(rows) < NARROWEST:
        return 0.0
    middles = mask[rows] @ np.arange(mask.shape[1]) / mask[rows].sum(axis=1)
    return float(np.polyfit(rows, middles, 1)[0])


def _along(rows: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Each row read so many px further to the right, linearly between pixels; its ends go on."""
    x = np.arange(rows.shape[1])
    return np.stack([np.interp(x + offset, x, row) for row, offset in zip(rows, offsets, strict=True)]).astype(
        np.float32
    )
