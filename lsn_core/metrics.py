"""Image and layer metrics, one number for each image of a batch; images in [0, 1] unless said otherwise."""

import torch
from jaxtyping import Float
from torch import Tensor

from lsn_core.masks import at_256, bones, grow, overlap
from lsn_core.shapes import Image, Masks, PerItem

BAND_PX = 6.0  # width of the bands beside the bone contour, at 256 px
LEAST = 20  # px of an overlap, and of the ring beside it, that a mean is taken of
SSIM_REACH = 5  # px from the middle of a window of structural similarity to its edge


def masked_mean(values: Image, mask: Image) -> PerItem:
    """Mean over each image's masked pixels; NaN where the mask is empty."""
    return (values * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3))


def masked_mse(predicted: Image, target: Image, mask: Image) -> PerItem:
    """Mean squared error over each image's masked pixels; NaN where the mask is empty."""
    return masked_mean((predicted - target) ** 2, mask)


def mse(predicted: Image, target: Image) -> PerItem:
    """Mean squared error over each whole frame (paper, Table 1)."""
    return ((predicted - target) ** 2).mean(dim=(1, 2, 3))


def psnr(mean_squares: PerItem) -> PerItem:
    """Peak signal-to-noise ratio in dB of mean squared errors, for a peak of 1 (paper, Table 1).

    Capped at 160 dB, where the error is below what float32 resolves.
    """
    return -10 * torch.log10(mean_squares.clamp_min(1e-16))


def ssim(predicted: Image, target: Image) -> PerItem:
    """Structural similarity, 11 px Gaussian window of sigma 1.5, over all windows in the frame (paper, Table 1)."""
    return ssim_map(predicted, target).mean(dim=(1, 2, 3))


def ssim_map(predicted: Image, target: Image) -> Float[Tensor, "b 1 y x"]:
    """Structural similarity at the middle of each window in the frame: 5 px less on each side than the images."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    _, local = structural_similarity_index_measure(
        predicted, target, data_range=1.0, reduction="none", return_full_image=True
    )
    return local[..., SSIM_REACH:-SSIM_REACH, SSIM_REACH:-SSIM_REACH]


def row_frechet(predicted: Image, target: Image) -> PerItem:
    """Frechet distance between Gaussians fitted to the pixel rows of two images: the paper's "FID" column.

    It is no Inception distance and compares no data sets. Each row is one sample of w dimensions. With centred rows X
    and Y, the trace of the root of the covariances' product is the sum of the singular values of X Y' / (h - 1), which
    is exact and never complex.
    """
    x, y = predicted[:, 0].double(), target[:, 0].double()
    offset = ((x.mean(dim=1) - y.mean(dim=1)) ** 2).sum(dim=1)
    x, y = x - x.mean(dim=1, keepdim=True), y - y.mean(dim=1, keepdim=True)
    shared = torch.linalg.svdvals(x @ y.mT).sum(dim=1)
    spread = (x**2).sum(dim=(1, 2)) + (y**2).sum(dim=(1, 2))
    return (offset + (spread - 2 * shared).clamp_min(0) / (x.shape[1] - 1)).to(predicted.dtype)


def shadow_contrast(soft: Image, masks: Masks) -> PerItem:
    """How much brighter the soft-tissue layer is just inside the bones than just outside, relative to outside.

    Means over bands of 6 px (at 256) on both sides of the contour of the bones' union, inside the hand; 0 for no
    shadow, negative for a dark one. NaN where a band is empty.
    """
    bone, hand, width = bones(masks), masks[:, :1], at_256(BAND_PX, masks.shape[-1])
    inner = bone * grow(1 - bone, width)
    outer = (1 - bone) * grow(bone, width) * hand
    return masked_mean(soft, inner) / masked_mean(soft, outer) - 1


def clipped_share(image: Image, mask: Image) -> PerItem:
    """Share of masked pixels at full white, whose absorbance is unknown."""
    return masked_mean((image >= 1).to(image.dtype), mask)


def halo(image: Image, masks: Masks) -> PerItem:
    """How much brighter the tissue is in the first 3 px (at 256) outside the bones than 9 to 12 px outside, relatively.

    It measures how much of the bones' blurred edges their masks leave to the soft tissue. NaN where a band is empty.
    """
    bone, hand, unit = bones(masks), masks[:, :1], at_256(3.0, masks.shape[-1])
    near = grow(bone, unit) - bone
    far = grow(bone, 4 * unit) - grow(bone, 3 * unit)
    return masked_mean(image, near * hand) / masked_mean(image, far * hand) - 1


def ring_errors(image: Image, masks: Masks, fill: Image) -> tuple[dict[str, Tensor], Tensor]:
    """What overlaps show less what two rules predict from the bones beside them, and which images (b,) have enough.

    Rings 3 to 5 px (at 256) beside an overlap show each bone alone, I_1 and I_2, and the fill k. "added" is
    I_1 + I_2 - k, "Eq. 10" is 1 - (1 - I_1)(1 - I_2) / (1 - k); one error for each image that has `LEAST` px of each.
    """
    size, both = image.shape[-1], overlap(masks)
    ring = grow(both, at_256(5, size)) - grow(both, at_256(2, size))
    alone = [ring * masks[:, i : i + 1] * (1 - masks[:, 3 - i : 4 - i]) for i in (1, 2)]
    enough = torch.stack([part.sum(dim=(1, 2, 3)) >= LEAST for part in (both, *alone)]).all(dim=0)
    seen, first, second = (masked_mean(image, part)[enough] for part in (both, *alone))
    k = masked_mean(fill, both)[enough]
    return {"added": seen - (first + second - k), "Eq. 10": seen - (1 - (1 - first) * (1 - second) / (1 - k))}, enough
