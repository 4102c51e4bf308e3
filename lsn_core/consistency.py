"""Consistency: whether the bone layers of two visits of one joint agree, once each bone is registered.

Between visits a bone moves rigidly, while flesh, exposure and the other bone change. Registration looks at radiographs
and outlines alone, so that it is the same for all methods and favours none.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from lsn_core.detector import blurred
from lsn_core.masks import at_256
from lsn_core.metrics import LEAST
from lsn_core.radiograph import Shift, absorbance, centroid, shift
from lsn_core.shapes import Image, Layers, Masks, PerItem

STAGES = ((6.0, 0.5, 40), (2.0, 0.1, 40))  # blur, px at 256; size of a step, px and degrees; steps
BONES = {"lower": 1, "upper": 2}


def visit_pairs(joints: Sequence[str]) -> list[tuple[int, int]]:
    """Which images are of one joint at two visits that follow one another in the list."""
    places: dict[str, list[int]] = {}
    for k, joint in enumerate(joints):
        places.setdefault(joint, []).append(k)
    return [pair for visits in places.values() for pair in pairwise(visits)]


def correlation(a: Image, b: Image, where: Image) -> PerItem:
    """Normalised correlation of each pair of images where `where` is 1; NaN for few px, or without any variation."""
    pixels = where.sum(dim=(1, 2, 3), keepdim=True)
    a, b = ((x - (x * where).sum(dim=(1, 2, 3), keepdim=True) / pixels.clamp_min(1)) * where for x in (a, b))
    product, squares = (a * b).sum(dim=(1, 2, 3)), (a**2).sum(dim=(1, 2, 3)) * (b**2).sum(dim=(1, 2, 3))
    found = product / squares.clamp_min(1e-20).sqrt()
    return torch.where((pixels[:, 0, 0, 0] >= LEAST) & (squares > 1e-16), found, torch.nan)


@torch.enable_grad()
def register(fixed: Image, moving: Image, of_fixed: Image, of_moving: Image) -> Shift:
    """The motion of a bone that brings each `moving` image nearest to the `fixed` one inside the bone of the latter.

    It turns about the centroid of the bone's mask in `moving`, begins where the two masks' centroids meet, and climbs
    the correlation of first strongly, then weakly blurred images by a fixed number of steps. No gradient is kept.
    """
    centre, target = centroid(of_moving), centroid(of_fixed)
    by = torch.stack((target[0] - centre[0], target[1] - centre[1], torch.zeros_like(centre[0])))
    by = by.detach().requires_grad_()
    for blur, rate, steps in STAGES:
        sigma = at_256(blur, fixed.shape[-1])
        still, moved = blurred(fixed, sigma), blurred(moving, sigma)
        optimiser = torch.optim.Adam([by], rate)
        for _ in range(steps):
            loss = -correlation(shift(moved, Shift(*by), centre=centre), still, of_fixed).nansum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return Shift(*by.detach())


def agreements(image: Image, masks: Masks, layers: Layers, pairs: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
    """How well each bone's absorbance agrees over the visits of each pair, `masks` as drawn: correlations (p,).

    "lower" and "upper" of the layers, "lower_image" and "upper_image" of the radiographs at the same pixels, and
    "lower_gain" and "upper_gain", by how much the layers agree better. Compared where both visits show the bone.
    """
    first, second = (torch.tensor(index, device=image.device) for index in zip(*pairs, strict=True))
    found = {}
    for name, i in BONES.items():
        of_first, of_second = masks[first, i : i + 1], masks[second, i : i + 1]
        by, centre = register(image[first], image[second], of_first, of_second), centroid(of_second)
        seen = shift(of_second, by, centre=centre, border="zero")
        where = of_first * (seen > 0.99).to(seen.dtype)
        for ending, planes in (("", layers[:, i : i + 1]), ("_image", image)):
            absorbed = absorbance(planes)
            found[name + ending] = correlation(absorbed[first], shift(absorbed[second], by, centre=centre), where)
        found[f"{name}_gain"] = found[name] - found[f"{name}_image"]
    return found
