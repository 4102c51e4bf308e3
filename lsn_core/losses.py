"""The generator's loss terms, one pure function each, their weighted sum, and what the two critics learn from.

Every term is a mean over each image's own masked pixels first, and over the images that have such pixels then, so an
image without overlap neither counts nor divides by zero.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from lsn_core.masks import bones, overlap
from lsn_core.radiograph import bones_alone
from lsn_core.shapes import Bones, Image, Layers, Logits, Masks, Scalar, Whole
from lsn_core.stage import Weights

FLOOR = 1e-12  # mean squares below this are taken as this, where the root's slope would be infinite


def masked_mean(values: Logits, mask: Image) -> Scalar:
    """Mean of (b, c, h, w) values where the mask is 1, per image, then over the images with any; 0 without any."""
    mask = mask.expand_as(values)
    pixels = mask.sum(dim=(1, 2, 3))
    means = (values * mask).sum(dim=(1, 2, 3)) / pixels.clamp_min(1)
    return means.sum() / (pixels > 0).sum().clamp_min(1)


def masked_rmse(predicted: Logits, target: Logits, mask: Image) -> Scalar:
    """Root mean square error where the mask is 1, per image, then over the images with any."""
    mask = mask.expand_as(predicted)
    pixels = mask.sum(dim=(1, 2, 3))
    squares = ((predicted - target) ** 2 * mask).sum(dim=(1, 2, 3)) / pixels.clamp_min(1)
    seen = (pixels > 0).to(squares.dtype)
    return (squares.clamp_min(FLOOR).sqrt() * seen).sum() / seen.sum().clamp_min(1)


def masked_bce(logits: Logits, target: Logits, mask: Image) -> Scalar:
    """Binary cross-entropy where the mask is 1, in nats."""
    return masked_mean(F.binary_cross_entropy_with_logits(logits, target, reduction="none"), mask)


def reconstruction(composed: Image, image: Image, masks: Masks, *, in_overlap: float = 1.0) -> Scalar:
    """L0: RMSE of the recomposed image in the hand, and `in_overlap` times that in the bones' overlap (Eq. 7)."""
    return masked_rmse(composed, image, masks[:, :1]) + in_overlap * masked_rmse(composed, image, overlap(masks))


def bone_reconstruction(layers: Layers, alone: Bones, masks: Masks, *, in_overlap: float = 1.0) -> Scalar:
    """L3: RMSE of each bone alone with the soft tissue against what a pseudo-image or phantom knows of it.

    Mean over the two bones, each in its mask, and `in_overlap` times that in their overlap. Images whose masks are
    empty do not count.
    """
    made, both = bones_alone(layers), overlap(masks)
    terms = [
        masked_rmse(made[:, i : i + 1], alone[:, i : i + 1], mask) * weight
        for i in (0, 1)
        for mask, weight in ((masks[:, i + 1 : i + 2], 1.0), (both, in_overlap))
    ]
    return sum(terms) / 2


def layer_error(layers: Layers, truth: Layers, masks: Masks) -> Scalar:
    """Mean absolute error of the layers under the bones, where there is something to divide; not in the paper."""
    return masked_mean((layers - truth).abs(), bones(masks))


def tissue_target(masks: Masks) -> Masks:
    """What N_S should answer: flesh beside the bones, and each bone less their overlap, which is none of the three."""
    both = overlap(masks)
    return torch.cat((masks[:, :1] * (1 - bones(masks)), masks[:, 1:2] - both, masks[:, 2:3] - both), dim=1)


def supervision(logits: Logits, masks: Masks) -> Scalar:
    """L1: BCE of N_S against the tissues (Eq. 8).

    On a recomposed image whose bones were moved, `masks` moved with them, it teaches the generator (Eq. 8); on an
    unaltered image it is what N_S itself learns from (Eq. 12).
    """
    return masked_bce(logits, tissue_target(masks), masks[:, :1])


def discrimination(logits: Logits, masks: Masks) -> Scalar:
    """BCE of N_D, which looks for the bones in the soft-tissue layer: what N_D itself learns from (Eq. 12)."""
    return masked_bce(logits, bones(masks), masks[:, :1])


def soft_tissue_paper(logits: Logits, masks: Masks) -> Scalar:
    """L2 as in the paper, 1 - BCE of N_D (Eq. 9): no lower bound, so the generator gains without end by fooling N_D."""
    return 1 - discrimination(logits, masks)


def bone_share(masks: Masks) -> Whole:
    """Share of bone in each hand, (b, 1, 1, 1): what N_D should answer everywhere when it cannot tell."""
    hand = masks[:, :1]
    share = bones(masks).sum(dim=(1, 2, 3), keepdim=True) / hand.sum(dim=(1, 2, 3), keepdim=True).clamp_min(1)
    return share.clamp(1e-3, 1 - 1e-3)


def soft_tissue_bounded(logits: Logits, masks: Masks) -> Scalar:
    """L2, bounded: how far N_D is from answering each image's share of bone everywhere, as Kullback-Leibler divergence.

    It is 0, with zero slope, where N_D cannot tell; making it confidently wrong, which Eq. 9 rewards, costs.
    """
    share = bone_share(masks)
    entropy = -(share * share.log() + (1 - share) * (1 - share).log())
    cross = F.binary_cross_entropy_with_logits(logits, share.expand_as(logits), reduction="none")
    return masked_mean(cross - entropy, masks[:, :1])


def harmonic_anchor(soft: Image, fill: Image, masks: Masks, *, smoothing: int = 3) -> Scalar:
    """RMSE under the bones between the smoothed soft-tissue layer and the harmonic fill.

    It pins what the other terms leave open, how much of a bone pixel is soft tissue; detail finer than `smoothing` px
    stays free.
    """
    difference = F.avg_pool2d(soft - fill, smoothing, stride=1, padding=smoothing // 2, count_include_pad=False)
    return masked_rmse(difference, torch.zeros_like(difference), bones(masks))


def generator_loss(terms: Mapping[str, Scalar], weights: Weights) -> Scalar:
    """L_G: the weighted sum of the terms, by their names (Eq. 11)."""
    return sum(getattr(weights, name) * term for name, term in terms.items())


SOFT_TISSUE = {"paper": soft_tissue_paper, "bounded": soft_tissue_bounded}
