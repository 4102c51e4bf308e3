"""Traces: what a soft-tissue layer still tells of the bones; no truth is needed, and each number says how much.

A shadow along the contour is in `metrics.shadow_contrast`. Here are lines along it, the bones' grain, and their shade.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lsn_core.detector import blurred
from lsn_core.masks import at_256, bones, grow
from lsn_core.metrics import masked_mean
from lsn_core.probe import auc
from lsn_core.shapes import Image, Masks, PerItem

SCALES = (1.5, 5.0, 12.0, 30.0)  # px at 256: SD of the means around a pixel that bands lie between
CLEAR = 16.0  # px at 256 from the contour, on both sides, beyond which grain is compared
FAINTEST_DB = 60.0  # below which, and above which, a ratio of powers is cut
RIDGE = 1e-3  # keeps the probe's equations solvable where a layer shows nothing at all


def around(image: Image, hand: Image, scale: float) -> Image:
    """Mean around each pixel, of the hand's pixels alone; `scale` is its SD in px at 256."""
    sigma = at_256(scale, image.shape[-1])
    return blurred(image * hand, sigma) / blurred(hand, sigma).clamp_min(1e-3)


def bands(image: Image, hand: Image) -> Float[Tensor, "b 3 h w"]:
    """An image in the hand as differences of means: grain (trabeculae), then wider and wider shade."""
    means = [around(image, hand, scale) for scale in SCALES]
    return torch.cat([fine - coarse for fine, coarse in pairwise(means)], dim=1) * hand


def grain_db(soft: Image, masks: Masks) -> PerItem:
    """Power of the layer's grain under bone over that beside it, dB: a power spectrum's ratio in one band.

    The band holds waves of about 8 to 30 px at 256 (0.4 to 1.6 per mm), where trabeculae are strong and film noise is
    weak. 0 for flesh that is alike everywhere, above where trabeculae were left in it, below where it was smoothed.
    Measured 16 px (at 256) away from the contour; NaN where nothing is left. Cut at -60 and 60 dB.
    """
    hand, bone, clear = masks[:, :1], bones(masks), at_256(CLEAR, masks.shape[-1])
    power = (around(soft, hand, SCALES[0]) - around(soft, hand, SCALES[1])) ** 2 * hand
    under, beside = 1 - grow(1 - bone, clear), (1 - grow(bone, clear)) * hand
    ratio = masked_mean(power, under).clamp_min(1e-12) / masked_mean(power, beside).clamp_min(1e-12)
    return (10 * torch.log10(ratio)).clamp(-FAINTEST_DB, FAINTEST_DB)


def cross_talk(soft: Image, masks: Masks) -> PerItem:
    """How far the layer's slopes run as those of the bones' outline, 0 to 1: the size of the gradients' correlation.

    In the hand; the outline is blurred as much as a bone's edge is (3 px at 256). NaN without an outline or a slope.
    """
    hand, outline = masks[:, :1], blurred(bones(masks), at_256(3.0, masks.shape[-1]))
    seen, edge = _gradient(soft, hand), _gradient(outline, hand)
    product, squares = (seen * edge).sum(dim=(1, 2, 3)), [(one**2).sum(dim=(1, 2, 3)) for one in (seen, edge)]
    return product.abs() / (squares[0] * squares[1]).sqrt()


def _gradient(image: Image, hand: Image) -> Float[Tensor, "b 2 y x"]:
    """Slope to the right and down at the corners between pixels, where all four of them are in the hand."""
    right, down = image[..., :, 1:] - image[..., :, :-1], image[..., 1:, :] - image[..., :-1, :]
    inside = hand[..., :-1, :-1] * hand[..., 1:, :-1] * hand[..., :-1, 1:] * hand[..., 1:, 1:]
    return torch.cat((right[..., :-1, :] + right[..., 1:, :], down[..., :-1] + down[..., 1:]), dim=1) / 2 * inside


def shade_auc(soft: Image, masks: Masks, joints: Sequence[str]) -> PerItem:
    """How well a fresh probe that knows no places finds bone in the layer's shade: AUC over each hand's pixels.

    At each pixel it sees the `bands` and their products, and weighs them by least squares; it learns on the joints of
    one half and is asked about those of the other. Seeing no place, it has no prior: 0.5 is chance. True soft tissue
    is above it, being thicker where the finger is. NaN for images without bone or without flesh beside it, and where
    all are of one joint.
    """
    seen, bone, hand = _products(bands(soft, masks[:, :1])), bones(masks), masks[:, :1]
    half = torch.from_numpy(np.unique(np.array(joints), return_inverse=True)[1] % 2).to(soft.device)
    scores = torch.zeros_like(soft)
    if (half == half[0]).all():
        return torch.full_like(scores[:, 0, 0, 0], torch.nan)
    for k in (0, 1):
        learnt, asked = (half != k).nonzero()[:, 0], (half == k).nonzero()[:, 0]
        weights = _least_squares(*(part[learnt] for part in (seen, bone, hand)))
        scores[asked] = torch.einsum("bchw,c->bhw", seen[asked], weights)[:, None]
    return auc(scores, bone, hand)


def _products(shades: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 10 h w"]:
    """1, the bands in units of their spread, and all products of two of them."""
    some = shades / shades.std(dim=(0, 2, 3), keepdim=True).clamp_min(1e-6)
    one = torch.cat((torch.ones_like(some[:, :1]), some), dim=1)
    first, second = torch.triu_indices(4, 4)
    return one[:, first] * one[:, second]


def _least_squares(seen: Float[Tensor, "b 10 h w"], bone: Image, hand: Image) -> Float[Tensor, "10"]:
    """The weights by which what is seen comes nearest to 1 on bone and -1 beside it."""
    shown, wanted = seen * hand, (2 * bone - 1) * hand
    square = torch.einsum("bihw,bjhw->ij", shown, shown) / hand.sum()
    right = torch.einsum("bihw,bhw->i", shown, wanted[:, 0]) / hand.sum()
    return torch.linalg.solve(square + RIDGE * torch.eye(len(square)).to(square), right)
