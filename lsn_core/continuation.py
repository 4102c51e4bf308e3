"""Continuation: what a bone looks like beyond the frame, so that it can be moved away from the frame's edge.

No radiograph shows it. Both sides of the shaft go on straight, between them the mean of its last rows, and its grain is
that of the rows inside, mirrored: the edge row alone, repeated, would be a strip of stripes.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lsn_core.masks import at_256
from lsn_core.shapes import Layers, Masks

GRAIN_PX = 6.0  # at 256: what varies along the shaft within so many px is grain, and mirrored
SHAFT_PX = 24.0  # at 256: rows beside the edge whose ends tell where its sides go
NARROWEST = 4  # px of a row that has two ends, and rows that make a line


def continued(layers: Layers, masks: Masks, margin: int) -> Float[Tensor, "b 3 y w"]:
    """Layers with `margin` more rows above and below (b, 3, h + 2 margin, w), into which the bones go on.

    A bone whose mask does not reach the frame's edge ends there, and the soft tissue, which does not move, gets black
    rows. Raises `ValueError` where the margin is not less than the frame's height.
    """
    if not 0 <= margin < layers.shape[-2]:
        raise ValueError(f"margin {margin} is not between 0 and the frame's {layers.shape[-2]} rows")
    above, below = torch.zeros_like(layers[..., :margin, :]), torch.zeros_like(layers[..., :margin, :])
    for k, (item, where) in enumerate(zip(layers.detach().cpu().numpy(), masks.cpu().numpy() > 0, strict=True)):
        for bone in (1, 2):
            above[k, bone] = torch.from_numpy(_beyond(item[bone], where[bone], margin)).flip(0)
            below[k, bone] = torch.from_numpy(_beyond(item[bone][::-1], where[bone][::-1], margin))
    return torch.cat((above, layers, below), dim=-2)


def _beyond(layer: np.ndarray, mask: np.ndarray, margin: int) -> np.ndarray:
    """The `margin` rows above a layer (h, w), the nearest one first."""
    from scipy.ndimage import gaussian_filter1d

    if margin == 0 or not mask[0].any():
        return np.zeros((margin, layer.shape[1]), np.float32)
    sigma = at_256(GRAIN_PX, layer.shape[1])
    depths = np.arange(min(len(layer), margin + 1 + round(4 * sigma)))
    sides = _sides(mask[: max(NARROWEST, round(at_256(SHAFT_PX, layer.shape[1])))], margin)
    upright = _stretched(layer[depths], sides(depths[:1]), sides(depths))
    slow = gaussian_filter1d(upright, sigma, axis=0, mode="reflect")
    rows = slow[0] + upright[1 : margin + 1] - slow[1 : margin + 1]
    beyond = sides(-depths[1 : margin + 1])
    narrowing = np.diff(sides(depths[:1])) / np.diff(beyond)  # a shaft absorbs as much across, however wide it is
    return 1 - (1 - _stretched(rows, beyond, sides(depths[:1])).clip(0, 1)) ** narrowing.astype(np.float32)


def _sides(mask: np.ndarray, margin: int) -> Callable[[np.ndarray], np.ndarray]:
    """A shaft's left and right side (n, 2) px at depths (n,) below the edge, straight lines through its outline.

    Upright lines where the outline is too short to tell, or would close within the margin.
    """
    rows = np.flatnonzero(mask.sum(axis=1) >= NARROWEST)
    ends = np.array([np.flatnonzero(mask[row])[[0, -1]] for row in rows]).reshape(-1, 2)
    slopes, starts = np.polyfit(rows, ends, 1) if len(rows) >= NARROWEST else np.zeros((2, 2))
    if starts[1] - starts[0] < NARROWEST - 1:
        return lambda depths: np.tile((0.0, mask.shape[1] - 1.0), (len(depths), 1))
    if margin * np.ptp(slopes) > 0.5 * np.ptp(starts):
        slopes = np.full(2, slopes.mean())
    return lambda depths: starts + depths[:, None] * slopes


def _stretched(rows: np.ndarray, shown: np.ndarray, read: np.ndarray) -> np.ndarray:
    """Each row with what lies between the sides `read` put between the sides `shown`, linearly; its ends go on."""
    x = np.arange(rows.shape[1])
    shown = np.broadcast_to(shown, (len(rows), 2))
    read = np.broadcast_to(read, (len(rows), 2))
    share = (x - shown[:, :1]) / np.diff(shown)
    places = read[:, :1] + share * np.diff(read)
    return np.stack([np.interp(place, x, row) for place, row in zip(places, rows, strict=True)]).astype(np.float32)
