"""Pseudo-images (Eq. 10): joints without overlap whose bones are pushed over each other, so that every layer is known.

A bone is what absorbs beyond the soft tissue that the harmonic fill puts under it. The bones move, the soft tissue
stays, and absorbances add: the vacated places show soft tissue, and a moved bone's contour has no seam.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lsn_core.harmonic import harmonic_fill
from lsn_core.masks import at_256, bones, dilate, overlap
from lsn_core.phantom import Phantom
from lsn_core.radiograph import SATURATION, Shift, bones_alone, centroid, compose, per_item
from lsn_core.shapes import Bones, Image, Layers, Masks, PerItem

TRAVEL = (2.0, 8.0)  # px at 256 by which each bone moves towards the other, as the paper's authors draw them
GROWTH = 3.0  # scale gained for each frame of travel: 1.02 to 1.09, so that shafts still reach nearly to the frame
MOTION = ("dx", "dy", "degrees")


@dataclass(frozen=True)
class Overlaps:
    """How the bones of each image move: numbers for the whole batch, or (b,) tensors with one for each item."""

    lower: Shift
    upper: Shift
    scale: float | Tensor = 1.0  # of both bones, each about its own mask's centroid

    def numbers(self) -> list[dict[str, float]]:
        """One flat dict of plain numbers an item, for a log."""
        given = {f"{bone}_{name}": getattr(getattr(self, bone), name) for bone in ("lower", "upper") for name in MOTION}
        given["scale"] = self.scale
        columns = torch.broadcast_tensors(*(torch.as_tensor(value).cpu().reshape(-1) for value in given.values()))
        return [dict(zip(given, row, strict=True)) for row in torch.stack(columns, dim=1).tolist()]

    @classmethod
    def replay(cls, numbers: Sequence[dict[str, float]]) -> "Overlaps":
        """The same overlaps, to the last bit, from what `numbers` gave."""

        def column(name: str) -> Tensor:
            return torch.tensor([row[name] for row in numbers], dtype=torch.float32)

        lower, upper = (Shift(**{name: column(f"{bone}_{name}") for name in MOTION}) for bone in ("lower", "upper"))
        return cls(lower, upper, column("scale"))


@dataclass(frozen=True)
class Pseudo:
    """Images with overlap, and their truth."""

    image: Image  # [0, 1]
    masks: Masks  # hand, lower, upper bone where they are now; 0 or 1
    bones: Bones  # B_i: the image with the lower, or the upper, bone alone in the soft tissue
    layers: Layers  # soft tissue and the two bones; they compose to the image


def draw_overlap(n: int, *, size: int, generator: torch.Generator) -> Overlaps:
    """Draw how the bones of `n` images of `size` px move: straight towards each other, and grow with the larger move.

    Nothing but `generator` is advanced; the numbers lie on its device.
    """
    low, high = (at_256(bound, size) for bound in TRAVEL)
    down, up = low + (high - low) * torch.rand((2, n), generator=generator, device=generator.device)
    still = torch.zeros_like(up)
    return Overlaps(Shift(still, -up, still), Shift(still, down, still), 1 + GROWTH * torch.maximum(down, up) / size)


def halves(masks: Masks) -> Bones:
    """Whose bone a pixel's absorbance is: all of it one bone's, half of each where both are drawn."""
    return masks[:, 1:] * (1 - 0.5 * overlap(masks))


def bone_layers(image: Image, share: Bones, fill: Image) -> Bones:
    """What each bone absorbs beyond the soft tissue `fill`, as a layer; `share` of a pixel's excess is its own.

    Below 0 where the image is darker than the fill, so that nothing of the image is lost.
    """
    return 1 - ((1 - image) / (1 - fill).clamp_min(SATURATION)) ** share


def pseudo_overlap(
    image: Image, masks: Masks, fill: Image, overlaps: Overlaps, *, share: Bones | None = None
) -> Pseudo:
    """Push the bones of each radiograph over each other (Eq. 10).

    `masks` are those that `fill`, the image with its bones filled in, was made for. In the overlap the bones with soft
    tissue B_1 and B_2 give 1 - (1 - B_1)(1 - B_2) / (1 - k), where k is the fill; elsewhere there is the one bone, or
    the fill. A shaft that is moved away from the frame is continued to it. `share` says whose bone a pixel is before
    they move, `halves` of the masks by default. On the image's device.

        fill = harmonic_fill(image, bones(masks) > 0)
        overlaps = draw_overlap(len(image), size=image.shape[-1], generator=torch.Generator().manual_seed(0))
        pseudo = pseudo_overlap(image, masks, fill, overlaps)
    """
    whole = bone_layers(image, halves(masks) if share is None else share, fill)
    moved, where = _move(whole, masks[:, 1:], overlaps)
    layers = torch.cat((fill, moved), dim=1)
    hand = torch.maximum(masks[:, :1], where.amax(dim=1, keepdim=True))
    alone = bones_alone(layers).clamp(0, 1)
    return Pseudo(compose(layers).clamp(0, 1), torch.cat((hand, where), dim=1), alone, layers)


def _move(layers: Bones, masks: Bones, overlaps: Overlaps) -> tuple[Bones, Bones]:
    """Both bones' layers and masks, moved and grown about their masks' centroids."""
    planes = torch.stack((layers, masks), dim=2).flatten(0, 1)  # one bone after the other: (2 b, layer and mask, h, w)
    sampled = F.grid_sample(planes, _sources(planes, overlaps), padding_mode="border", align_corners=False)
    moved, where = sampled.unflatten(0, (-1, 2)).unbind(dim=2)
    where = (where >= 0.5).to(where.dtype)
    return moved * where, where


def _sources(planes: Tensor, overlaps: Overlaps) -> Tensor:
    """Where each pixel of `planes` (2 b, 2, h, w) comes from, in grid_sample's units (-1 to 1 between outer edges)."""
    height, width = planes.shape[-2:]
    cx, cy = centroid(planes[:, 1:])
    dx, dy, degrees = (_both(getattr(overlaps.lower, m), getattr(overlaps.upper, m), planes) for m in MOTION)
    scale, angle = _both(overlaps.scale, overlaps.scale, planes), torch.deg2rad(degrees)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    x = torch.arange(width, dtype=planes.dtype, device=planes.device) - (cx + dx)[:, None]
    y = torch.arange(height, dtype=planes.dtype, device=planes.device) - (cy + dy)[:, None]
    grid = planes.new_empty(len(planes), height, width, 2)
    for axis, centre, along, down, length in ((0, cx, cos, -sin, width), (1, cy, sin, cos, height)):
        across = ((2 * along)[:, None] * x + (2 * centre + 1)[:, None]) / length - 1
        torch.add(across[:, None, :], ((2 * down)[:, None] * y / length)[:, :, None], out=grid[..., axis])
    return grid


def _both(lower: float | Tensor, upper: float | Tensor, planes: Tensor) -> PerItem:
    """A number of the lower and of the upper bone of each item, in the order of `planes`."""
    return torch.stack([per_item(value, planes[::2]) for value in (lower, upper)], dim=1).flatten()


def phantom_error(phantom: Phantom, *, wide_mm: float, narrow_mm: float, dilate_px: float = 2.0) -> dict[str, float]:
    """How far a pseudo-overlap of a phantom is from the phantom truly rendered so.

    Its bones are pushed from `wide_mm` of joint space to `narrow_mm`. Pseudo-image less truth in display values over
    the px where the bones overlap in both: their number, mean (bias) and root mean square; NaN without any. `dilate_px`
    widens the masks for the fill, in px of a 256 px frame.
    """
    wide, truth = phantom.render(wide_mm), phantom.render(narrow_mm)
    image, masks = wide.image[None], dilate(wide.masks[None], at_256(dilate_px, phantom.size))
    travel, tilt = (wide_mm - narrow_mm) / 2 / phantom.spacing_mm, math.radians(phantom.pose.tilt)
    dx, dy = travel * math.sin(tilt), travel * math.cos(tilt)
    fill = harmonic_fill(image, bones(masks) > 0)
    pseudo = pseudo_overlap(image, masks, fill, Overlaps(Shift(-dx, -dy), Shift(dx, dy)))
    both = (overlap(truth.masks[None]) * overlap(pseudo.masks)) > 0
    error = (pseudo.image - truth.image[None])[both]
    return {"pixels": len(error), "bias": float(error.mean()), "rmse": float(error.square().mean().sqrt())}
