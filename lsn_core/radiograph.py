"""Imaging physics: how three layers make one radiograph, and how moving the bones changes it.

X-rays are attenuated exponentially (Beer-Lambert), so absorbances add and transmissions multiply. A layer of
absorbance a is displayed as L = 1 - exp(-a).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lsn_core.shapes import Bones, Image, Layers, Masks, PerItem

LAYERS = ("soft", "lower", "upper")
SATURATION = 2.0**-17  # half a step of a 16-bit image: a white pixel has this transmission, not zero
BORDERS = {"extend": "border", "zero": "zeros"}  # what lies beyond the frame, in grid_sample's words


def compose(layers: Layers) -> Image:
    """Stack layers into a radiograph: transmissions multiply, f_r (Eq. 4)."""
    return 1 - (1 - layers).prod(dim=1, keepdim=True)


def bones_alone(layers: Layers) -> Bones:
    """Each bone alone in the soft tissue, lower bone first: what a radiograph without the other would show."""
    return 1 - (1 - layers[:, 1:]) * (1 - layers[:, :1])


def absorbance(image: Tensor) -> Tensor:
    """Beer-Lambert absorbance -ln(1 - image) of display values in [0, 1], any shape; finite (11.8) at 1."""
    return -torch.log1p(-image.clamp(0, 1 - SATURATION))


def display(absorbed: Tensor) -> Tensor:
    """The display value 1 - exp(-a) of an absorbance, any shape: the inverse of `absorbance`."""
    return -torch.expm1(-absorbed)


@dataclass(frozen=True)
class Shift:
    """A rigid motion in the frame: px to the right, px down, and degrees counter-clockwise as seen.

    Each is one number for the batch or a (b,) tensor with one number for each item.
    """

    dx: float | Tensor = 0.0
    dy: float | Tensor = 0.0
    degrees: float | Tensor = 0.0


def per_item(value: float | Tensor, like: Tensor) -> Tensor:
    """Spread a number, or check a (b,) tensor, over the batch of `like`, on its device and in its precision."""
    return torch.as_tensor(value, dtype=like.dtype, device=like.device).expand(like.shape[0])


def centroid(mask: Image) -> tuple[PerItem, PerItem]:
    """Centre of mass (x, y) in px of each mask; the frame's centre where a mask is empty."""
    height, width = mask.shape[-2:]
    x = torch.arange(width, dtype=mask.dtype, device=mask.device)
    y = torch.arange(height, dtype=mask.dtype, device=mask.device)
    mass = mask.sum(dim=(1, 2, 3))
    cx = (mask.sum(dim=(1, 2)) * x).sum(dim=1) / mass.clamp_min(1e-6)
    cy = (mask.sum(dim=(1, 3)) * y).sum(dim=1) / mass.clamp_min(1e-6)
    return torch.where(mass > 0, cx, (width - 1) / 2), torch.where(mass > 0, cy, (height - 1) / 2)


def shift(
    layer: Tensor,
    by: Shift,
    *,
    centre: tuple[float | Tensor, float | Tensor] | None = None,
    border: str = "extend",
) -> Tensor:
    """Move each image (b, c, h, w) by `by`: f_s of Eq. 5-6, sub-pixel, bilinear, differentiable.

    `centre` (x, y) in px is what it turns about, the frame's centre by default. `border="extend"` continues the
    layer's edge beyond the frame, so that a shaft moved away from it leaves no dark strip; "zero" leaves the strip.
    """
    height, width = layer.shape[-2:]
    cx, cy = centre if centre is not None else ((width - 1) / 2, (height - 1) / 2)
    grid = _source_grid(layer, by, per_item(cx, layer), per_item(cy, layer))
    return F.grid_sample(layer, grid, mode="bilinear", padding_mode=BORDERS[border], align_corners=False)


def _source_grid(layer: Tensor, by: Shift, cx: PerItem, cy: PerItem) -> Tensor:
    """Where each output pixel comes from, (b, h, w, 2) in grid_sample's units (-1 to 1 between the outer edges)."""
    height, width = layer.shape[-2:]
    angle = torch.deg2rad(per_item(by.degrees, layer))
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    x = torch.arange(width, dtype=layer.dtype, device=layer.device) - (cx + per_item(by.dx, layer))[:, None]
    y = torch.arange(height, dtype=layer.dtype, device=layer.device) - (cy + per_item(by.dy, layer))[:, None]
    x, y = x[:, None, :], y[:, :, None]
    source_x = cos * x - sin * y + cx[:, None, None]
    source_y = sin * x + cos * y + cy[:, None, None]
    return torch.stack(((2 * source_x + 1) / width - 1, (2 * source_y + 1) / height - 1), dim=-1)


def joint_axis(masks: Masks) -> tuple[PerItem, PerItem]:
    """Unit vector (x, y) from the lower bone's centroid to the upper's; straight up where they coincide."""
    lower_x, lower_y = centroid(masks[:, 1:2])
    upper_x, upper_y = centroid(masks[:, 2:3])
    x, y = upper_x - lower_x, upper_y - lower_y
    length = torch.hypot(x, y)
    apart = length > 1
    return torch.where(apart, x / length, 0.0), torch.where(apart, y / length, -1.0)


def move_bones(layers: Layers, lower: Shift, upper: Shift, *, masks: Masks) -> Layers:
    """Move each bone about its own mask's centroid and leave the soft tissue where it is (Eq. 5-6 on both bones)."""
    moved = [
        shift(layers[:, i : i + 1], by, centre=centroid(masks[:, i : i + 1])) for i, by in ((1, lower), (2, upper))
    ]
    return torch.cat((layers[:, :1], *moved), dim=1)


def adjust_jsw(layers: Layers, masks: Masks, delta_mm: float | Tensor, *, spacing_mm: float | Tensor) -> Image:
    """Re-synthesise the joint with its space wider by `delta_mm` (negative: narrower), Eq. 13.

    Both bones move by half of it along the joint's axis, apart if positive. `spacing_mm` is mm per pixel; each of the
    two is one number or a (b,) tensor.
    """
    half = per_item(delta_mm, layers) / per_item(spacing_mm, layers) / 2
    x, y = joint_axis(masks)
    return compose(move_bones(layers, Shift(-half * x, -half * y), Shift(half * x, half * y), masks=masks))
