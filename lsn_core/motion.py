"""Motion: what layers are worth when their bones move, which is what they are made for.

A phantom can be drawn again at the commanded joint space width, so that the synthesis itself has a truth. Radiographs
can't: there the layers must survive a cycle, moved apart, recomposed, separated again and moved back.
"""

from collections.abc import Callable

import torch

from lsn_core.masks import at_256, bones, dilate
from lsn_core.metrics import masked_mse, psnr
from lsn_core.radiograph import LAYERS, Shift, adjust_jsw, compose, move_bones
from lsn_core.shapes import Image, Layers, Masks, PerItem
from lsn_core.truth import joint_band

COMMANDED_MM = (-0.5, 0.5)  # changes of the joint space width that phantoms are drawn again for
REACH = 20.0  # px at 256 from both bones: what lies at the joint before and after such a change
TRAVEL = 5.0  # px at 256: how far each bone moves in a cycle, 0.8 mm for both together


def rendered_scores(
    layers: Layers, masks: Masks, truth: Image, delta_mm: float, *, spacing_mm: float | PerItem
) -> dict[str, PerItem]:
    """PSNR in dB of the joint adjusted by `delta_mm` (Eq. 13) against `truth`, drawn at that width.

    "frame": all of it; "band": within 20 px (at 256) of both bones of `masks`, which are those before the movement.
    """
    errors = (adjust_jsw(layers, masks, delta_mm, spacing_mm=spacing_mm) * masks[:, :1] - truth * masks[:, :1]) ** 2
    nothing = torch.zeros_like(errors)
    return {
        "frame": psnr(errors.mean(dim=(1, 2, 3))),
        "band": psnr(masked_mse(errors.sqrt(), nothing, joint_band(masks, px=REACH))),
    }


def cycle_scores(
    separate: Callable[[Image, Masks], Layers], layers: Layers, masks: Masks, *, dilate_px: float
) -> dict[str, PerItem]:
    """PSNR in dB between `layers` and what is found of them after a cycle, one number for each layer.

    The bones are moved apart by 5 px each (at 256), the joint is recomposed and separated again with the moved masks,
    and the bones are moved back. Each bone is compared in its mask as drawn, without the rows that left the frame and
    came back changed; the soft tissue under the bones at either place. Layers that are wrong in a way that depends on
    where the bones are do not survive; that they are consistent does not make them right.
    """
    travel = at_256(TRAVEL, masks.shape[-1])
    away, back = ((Shift(dy=sign * travel), Shift(dy=-sign * travel)) for sign in (1, -1))
    moved = move_bones(layers, *away, masks=dilate(masks, at_256(dilate_px, masks.shape[-1])))
    where = (move_bones(masks, *away, masks=masks) > 0.5).to(masks.dtype)
    where[:, :1] = torch.maximum(where[:, :1], bones(where))
    again = separate(compose(moved), where)
    found = move_bones(again, *back, masks=where)
    regions = torch.cat((torch.maximum(bones(masks), bones(where)), masks[:, 1:]), dim=1) * _rows(masks, travel)
    errors = {name: masked_mse(found[:, [i]], layers[:, [i]], regions[:, [i]]) for i, name in enumerate(LAYERS)}
    return {name: psnr(error) for name, error in errors.items()}


def _rows(masks: Masks, travel: float) -> Masks:
    """1 in the rows that no movement by `travel` px takes out of the frame."""
    margin = int(travel) + 1
    rows = torch.zeros_like(masks)
    rows[..., margin:-margin, :] = 1
    return rows
