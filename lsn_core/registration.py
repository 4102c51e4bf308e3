"""Registration: how each bone of a `moving` radiograph lies in a `fixed` one, and what that says of the joint space.

A transform is (scale, degrees, dx, dy) of the lower and of the upper bone: a point p of the moving image goes to
c + scale R(degrees) (p - c) + (dx, dy), in px to the right and down, c the frame's centre, degrees counter-clockwise as
seen.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lsn_core.jsw import contact_mm, phalanx_axis
from lsn_core.masks import at_256
from lsn_core.phantom import FIELD_MM
from lsn_core.radiograph import per_item
from lsn_core.shapes import Bones, Image, PerItem

BORDER_PX = 5.0  # at 256: of the frame, where a warped image is a continued edge; not compared

Transforms = Float[Tensor, "b 2 4"]  # lower bone, upper bone; scale, degrees, dx, dy
Places = Float[Tensor, "b 2 2"]  # middle of the metacarpal head, and axis to the wrist, (x, y) each
Motions = Float[Tensor, "b 2 2 3"]  # lower bone, upper bone; matrices that take a pixel (x, y, 1) to where it moves


def narrowing_mm(transforms: Transforms, place: Places, spacing_mm: float | Tensor) -> PerItem:
    """By how many mm the joint space is narrower in the fixed image; `spacing_mm` per px, one number or a (b,) tensor.

    How far the upper bone comes down along the joint's axis, seen from the lower one, at the middle of the metacarpal
    head: a finger that is bent sideways turns about it, and its space stays as wide. The difference of both dy, as the
    paper has it, is the same where both bones turn alike; else it takes 8 degrees for 0.1 mm and more.
    """
    like = {"dtype": transforms.dtype, "device": transforms.device}
    middle, axis = place.to(**like).unbind(dim=1)
    lower, upper = transforms.unbind(dim=1)
    before = _turned(middle - lower[:, 2:], -lower[:, 1]) / lower[:, :1]
    after = upper[:, :1] * _turned(before, upper[:, 1]) + upper[:, 2:]
    return ((after - middle) * axis).sum(dim=1) * per_item(spacing_mm, transforms)


def places(bones: Bones) -> Places:
    """Of each fixed image the middle of the metacarpal head, in px from the frame's centre, and the axis to the wrist.

    The head is taken for a half circle as wide as the bones face each other. Raises `ValueError` where a bone has no
    mask.
    """
    found = []
    for lower, upper in bones.cpu().numpy() > 0.5:
        if not (lower.any() and upper.any()):
            raise ValueError("a bone has no mask in the fixed image, so its joint has no place")
        masks = np.stack((lower | upper, lower, upper))
        joint, axis = phalanx_axis(masks, FIELD_MM / len(lower))
        centre = (np.array(lower.shape[::-1]) - 1) / 2
        found.append(np.stack((joint + axis * contact_mm(masks, 1.0) / 2 - centre, axis)))
    return torch.from_numpy(np.stack(found)).float()


def _turned(points: Float[Tensor, "b 2"], degrees: PerItem) -> Float[Tensor, "b 2"]:
    """Points (x, y) turned counter-clockwise as seen, y pointing down."""
    cos, sin = torch.deg2rad(degrees).cos(), torch.deg2rad(degrees).sin()
    x, y = points.unbind(dim=1)
    return torch.stack((cos * x + sin * y, cos * y - sin * x), dim=1)


def warped(image: Image, transforms: Transforms) -> Bones:
    """The moving image as the lower and as the upper bone's transform moves it; bilinear, differentiable.

    Beyond its frame the image goes on as it is at the edge. A scale is not 0.
    """
    grid = _source_grid(transforms.to(image.dtype), *image.shape[-2:])
    both = F.grid_sample(image, grid.flatten(1, 2), mode="bilinear", padding_mode="border", align_corners=False)
    return both.view(len(image), 2, *image.shape[-2:])


def _source_grid(transforms: Transforms, height: int, width: int) -> Float[Tensor, "b 2 h w 2"]:
    """Where each pixel of both warped images comes from, in grid_sample's units (-1 to 1 between the outer edges)."""
    scale, degrees, dx, dy = transforms[..., None, None].unbind(dim=2)
    like = {"dtype": transforms.dtype, "device": transforms.device}
    x = torch.arange(width, **like) - (width - 1) / 2 - dx
    y = torch.arange(height, **like)[:, None] - (height - 1) / 2 - dy
    cos, sin = torch.deg2rad(degrees).cos() / scale, torch.deg2rad(degrees).sin() / scale
    return torch.stack((2 * (cos * x - sin * y) / width, 2 * (sin * x + cos * y) / height), dim=-1)


def image_errors(moving: Image, fixed: Image, bones_of_fixed: Bones, transforms: Transforms) -> PerItem:
    """Mean squared difference to the fixed image inside each bone's mask, averaged over the two bones; float32.

    A border of 5 px (at 256) of the frame is left out; a bone without a pixel inside counts as 0.
    """
    seen, wanted, masks = _inside(warped(moving.float(), transforms.float()), fixed.float(), bones_of_fixed.float())
    return _mean((seen - wanted) ** 2, masks).mean(dim=1)


def unlikeness(moving: Image, fixed: Image, bones_of_fixed: Bones, transforms: Transforms) -> PerItem:
    """1 less the correlation with the fixed image inside each bone's mask, averaged over the bones: 0 to 2; float32.

    Two visits are never exposed alike. What `image_errors` says of them is mostly that; this is blind to it.
    """
    seen, wanted, masks = _inside(warped(moving.float(), transforms.float()), fixed.float(), bones_of_fixed.float())
    seen, wanted = (plane - _mean(plane, masks)[..., None, None] for plane in (seen, wanted.expand_as(seen)))
    spread = (_mean(seen**2, masks) * _mean(wanted**2, masks)).clamp_min(1e-12).sqrt()
    return (1 - _mean(seen * wanted, masks) / spread).mean(dim=1)


def _inside(*planes: Float[Tensor, "b _ h w"]) -> tuple[Tensor, ...]:
    """Planes without the border that is not compared."""
    height, width = planes[0].shape[-2:]
    border = round(at_256(BORDER_PX, width))
    return tuple(plane[..., border : height - border, border : width - border] for plane in planes)


def _mean(planes: Bones, masks: Bones) -> Float[Tensor, "b 2"]:
    """Mean of each plane in its mask; 0 where that is empty."""
    return (planes * masks).sum(dim=(2, 3)) / masks.sum(dim=(2, 3)).clamp_min(1e-6)


def between(first: Motions, second: Motions, size: int) -> Transforms:
    """The transforms that take one moved image to another, both moved from one source of `size` px by rigid motions.

    Scale is 1. With p' = A p + a in the first and B p + b in the second, p'' = B Aᵀ (p' - a) + b.
    """
    turn = second[..., :2] @ first[..., :2].mT
    centre = torch.full_like(first[..., 2], (size - 1) / 2)
    slid = (turn @ (centre - first[..., 2])[..., None])[..., 0] + second[..., 2] - centre
    degrees = torch.rad2deg(torch.atan2(turn[..., 0, 1], turn[..., 0, 0]))
    return torch.cat((torch.ones_like(degrees)[..., None], degrees[..., None], slid), dim=-1)
