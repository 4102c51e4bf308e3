"""Filling bone with soft tissue: Laplace's equation in the hole that the bones leave (k of Eq. 10)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lsn_core.shapes import Hole, Image

FRAMES = {"neumann": "replicate", "zero": "constant"}  # what the solution meets at the frame, in F.pad's words
COARSEST = 8  # px; below this the pyramid stops


def harmonic_fill(image: Image, hole: Hole, *, frame: str = "neumann", iterations: int = 200) -> Image:
    """Replace each image inside its hole by the harmonic function that meets it at the hole's edge.

    `frame="neumann"` lets no flux through the frame, which is right for bones that leave it; "zero" pulls the fill to
    black there (what the paper's authors do). Coarse-to-fine conjugate gradients, `iterations` on each level. The
    image must be known somewhere: raises `ValueError` where a hole covers a whole frame.
    """
    if hole.flatten(1).all(dim=1).any():
        raise ValueError("a hole covers the whole frame: nothing is left to continue into it")
    known = (~hole).to(image.dtype)
    guess = _guess(image * known, known, frame, iterations)
    return torch.where(hole, _solve(torch.where(hole, guess, image), hole, frame, iterations), image)


def _guess(image: Image, known: Image, frame: str, iterations: int) -> Image:
    """The solution on a grid half as fine, interpolated: it carries the long waves that iterations are slow to."""
    height, width = image.shape[-2:]
    if min(height, width) <= COARSEST:
        return (image.sum(dim=(2, 3), keepdim=True) / known.sum(dim=(2, 3), keepdim=True)).expand_as(image)
    share = F.avg_pool2d(known, 2, ceil_mode=True)
    coarse = F.avg_pool2d(image, 2, ceil_mode=True) / share.clamp_min(1e-6)
    coarse_known = (share > 0).to(image.dtype)
    start = _guess(coarse * coarse_known, coarse_known, frame, iterations)
    hole = share == 0
    solved = _solve(torch.where(hole, start, coarse), hole, frame, iterations)
    return F.interpolate(solved, size=(height, width), mode="bilinear", align_corners=False)


def _solve(image: Image, hole: Hole, frame: str, iterations: int) -> Image:
    """Conjugate gradients on the five-point Laplacian inside the hole, starting from the image's own values."""
    inside = hole.to(image.dtype)
    residual = -_laplacian(image, frame) * inside
    direction, solution = residual, image
    power = _dot(residual, residual)
    for _ in range(iterations):
        applied = _laplacian(direction, frame) * inside
        step = power / _dot(direction, applied).clamp_min(1e-30)
        solution = solution + step * direction
        residual = residual - step * applied
        previous, power = power, _dot(residual, residual)
        direction = residual + power / previous.clamp_min(1e-30) * direction
    return solution


def _laplacian(image: Image, frame: str) -> Image:
    """Four times each pixel less its four neighbours; the frame decides what lies beyond it."""
    padded = F.pad(image, (1, 1, 1, 1), mode=FRAMES[frame])
    neighbours = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
    return 4 * image - neighbours


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each pair of images, (b, 1, 1, 1)."""
    return (a * b).sum(dim=(1, 2, 3), keepdim=True)
