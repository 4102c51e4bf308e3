"""Laplace's equation in a hole: what surrounds a bone, continued smoothly under it, by multigrid.

The five-point equations are those of a net of resistors: each pixel of the hole is joined to its neighbours in the hole
and leaks to the known pixels beside it. Nets of 2 x 2, 4 x 4, ... pixels carry the long waves, and conjugate gradients
take out what they miss at narrow places.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lsn_core.shapes import Hole, Image

FRAMES = ("neumann", "zero")
COARSEST = 8  # px; a net of at most this side is solved directly
CHUNK = 16  # images at a time: the nets of more would not stay in a processor's cache
LIMIT = 50  # corrections; a joint takes four
LOW, HIGH = 0.4, 1.9  # smoothing damps this part of the spectrum (of all, 0 to 2); the coarser nets take the rest
STEPS = tuple(2 / (HIGH + LOW + sign * (HIGH - LOW) * math.sqrt(0.5)) for sign in (1, -1))  # Chebyshev's, of degree 2
TINY = 1e-30  # makes 0 / 0 a 0, where an item has no hole or is solved


@torch.no_grad()
def harmonic_fill(image: Image, hole: Hole, *, frame: str = "neumann", tolerance: float = 1e-4) -> Image:
    """Replace each image inside its hole by the harmonic function that meets it at the hole's edge.

    `frame="neumann"` lets no flux through the frame, which is right for bones that leave it; "zero" pulls the fill to
    black there (what the paper's authors do). It stops when a correction is nowhere above `tolerance`; the error is
    then a fraction of that. No gradient flows through it. The image must be known somewhere: raises `ValueError`
    where a hole covers a whole frame, and for another `frame`.
    """
    if frame not in FRAMES:
        raise ValueError(f"frame {frame!r} is unknown; choose one of {', '.join(FRAMES)}")
    if hole.flatten(1).all(dim=1).any():
        raise ValueError("a hole covers the whole frame: nothing is left to continue into it")
    parts = zip(image.split(CHUNK), hole.split(CHUNK), strict=True)
    return torch.cat([_filled(*part, frame, tolerance) for part in parts])


def _filled(image: Image, hole: Hole, frame: str, tolerance: float) -> Image:
    """A few images, filled together."""
    height, width = image.shape[-2:]
    depth = math.ceil(math.log2(max(height, width, COARSEST) / COARSEST))
    margin = (0, -width % 2**depth, 0, -height % 2**depth)  # to the right and below: halves evenly, joined to nothing
    edge = _neighbours(image.masked_fill(hole, 0)) * hole
    nets = _nets(*(F.pad(part, margin) for part in _pixels(hole.to(image.dtype), frame)), depth)
    return torch.where(hole, _solve(nets, F.pad(edge, margin), tolerance)[..., :height, :width], image)


@dataclass(frozen=True)
class _Net:
    """One net; b h w of conductances in a row, so that neighbours are slices: those across a line's end conduct 0."""

    right: Tensor  # (b h w - 1,) from each cell to the next
    below: Tensor  # (b h w - w,) from each cell to the one below
    total: Image  # from each cell to its neighbours and to known ones; 0 outside the hole
    inverse: Image  # 1 / total, 0 outside the hole
    inside: Image  # 1 in the hole, 0 outside


@dataclass(frozen=True)
class _Nets:
    """A net for each fineness, the finest first, and the inverse of the coarsest one's equations, (b, n, n)."""

    levels: list[_Net]
    inverse: Tensor


def _pixels(inside: Image, frame: str) -> tuple[Image, Image, Image]:
    """Conductances to the pixel on the right, to the one below, and to the known ones around.

    Beyond the frame there is nothing, or with "zero" a known 0.
    """
    right, below = F.pad(inside, (0, 1)), F.pad(inside, (0, 0, 0, 1))
    degree = 4 if frame == "zero" else _neighbours(torch.ones_like(inside[:1]))
    return right[..., 1:] * inside, below[..., 1:, :] * inside, (degree - _neighbours(inside)) * inside


def _nets(right: Image, below: Image, leak: Image, depth: int) -> _Nets:
    """The net of these conductances and `depth` coarser ones.

    Two pairs of cells join neighbouring blocks over twice the distance: together they conduct like one pair.
    """
    levels = [_net(right, below, leak)]
    for _ in range(depth):
        right, below = right[..., 1::2], below[..., 1::2, :]
        right, below = (right[..., ::2, :] + right[..., 1::2, :]) / 2, (below[..., ::2] + below[..., 1::2]) / 2
        leak = _blocks(leak)
        levels.append(_net(right, below, leak))
    return _Nets(levels, _inverted(right, below, leak))


def _net(right: Image, below: Image, leak: Image) -> _Net:
    """The net of conductances given as images."""
    total = leak + right + below
    total[..., 1:] += right[..., :-1]
    total[..., 1:, :] += below[..., :-1, :]
    inside = (total > 0).to(total.dtype)
    inverse = inside / (total + 1 - inside)
    return _Net(right.reshape(-1)[:-1], below.reshape(-1)[: -right.shape[-1]], total, inverse, inside)


def _inverted(right: Image, below: Image, leak: Image) -> Tensor:
    """Inverse of a small net's equations, (b, n, n); cells outside the hole stay as they are."""
    items, (height, width) = len(leak), leak.shape[-2:]
    cells = height * width
    units = torch.eye(cells, dtype=leak.dtype, device=leak.device).view(cells, 1, height, width).repeat(items, 1, 1, 1)
    net = _net(*(part.repeat_interleave(cells, dim=0) for part in (right, below, leak)))
    matrix = units * (1 - net.inside) - _residual(net, torch.zeros_like(units), units)
    return torch.cholesky_inverse(torch.linalg.cholesky(matrix.view(items, cells, cells)))


def _neighbours(image: Image) -> Image:
    """Sum of the up to four neighbours of each pixel."""
    total = torch.zeros_like(image)
    total[..., :-1] += image[..., 1:]
    total[..., 1:] += image[..., :-1]
    total[..., :-1, :] += image[..., 1:, :]
    total[..., 1:, :] += image[..., :-1, :]
    return total


def _blocks(image: Image) -> Tensor:
    """Sum over each 2 x 2 block, (b, 1, h / 2, w / 2)."""
    rows = image[..., ::2, :] + image[..., 1::2, :]
    return rows[..., ::2] + rows[..., 1::2]


def _residual(net: _Net, given: Image, x: Image) -> Image:
    """What is given less what flows out of each cell at potentials x."""
    residual = torch.addcmul(given, net.total, x, value=-1)
    flat, x, width = residual.view(-1), x.view(-1), x.shape[-1]
    flat[:-1].addcmul_(net.right, x[1:])
    flat[1:].addcmul_(net.right, x[:-1])
    flat[:-width].addcmul_(net.below, x[width:])
    flat[width:].addcmul_(net.below, x[:-width])
    return residual


def _correction(nets: _Nets, given: Image, level: int) -> Image:
    """Nearly the potentials that `given` drives on a net: smoothed, corrected on the coarser nets, smoothed again."""
    if level == len(nets.levels) - 1:
        return (nets.inverse @ given.view(len(given), -1, 1)).view_as(given)
    net = nets.levels[level]
    x = (given * net.inverse).mul_(STEPS[0])
    x.addcmul_(net.inverse, _residual(net, given, x), value=STEPS[1])
    coarse = _correction(nets, _blocks(_residual(net, given, x)), level + 1)
    x.addcmul_(net.inside, coarse.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2))
    for step in STEPS:
        x.addcmul_(net.inverse, _residual(net, given, x), value=step)
    return x


def _start(nets: _Nets, given: Image, level: int) -> Image:
    """The solution of the coarser net, corrected once on it and on each net before it, interpolated to `level`."""
    if level == len(nets.levels) - 1:
        return _correction(nets, given, level)
    coarse = nets.levels[level + 1]
    given = _blocks(given)
    x = _start(nets, given, level + 1)
    if level < len(nets.levels) - 2:
        x += _correction(nets, _residual(coarse, given, x), level + 1)
    return _doubled(x) / _doubled(coarse.inside).clamp_min_(0.1) * nets.levels[level].inside


def _doubled(image: Image) -> Tensor:
    """Interpolated to twice the size, (b, 1, 2 h, 2 w)."""
    return F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)


def _solve(nets: _Nets, given: Image, tolerance: float) -> Image:
    """Conjugate gradients, preconditioned by `_correction`, until a correction is nowhere above the tolerance."""
    finest = nets.levels[0]
    x = _start(nets, given, 0)
    residual = _residual(finest, given, x)
    direction, power, nothing = torch.zeros_like(x), x.new_ones(len(x), 1, 1, 1), torch.zeros_like(x)
    unsolved = torch.ones_like(power)  # an item rests once it is solved, whatever the others of its batch need
    for _ in range(LIMIT):
        correction = _correction(nets, residual, 0)
        previous, power = power, _dot(residual, correction)
        direction = torch.addcmul(correction, direction, power / previous.clamp_min(TINY))
        change = _residual(finest, nothing, direction)  # of the residual, for a whole step
        step = unsolved * power / _dot(-direction, change).clamp_min(TINY)
        x.addcmul_(step, direction)
        residual.addcmul_(step, change)
        unsolved *= (correction * finest.inside).abs().amax(dim=(1, 2, 3), keepdim=True) > tolerance
        if not unsolved.any():
            break
    return x


def _dot(a: Image, b: Image) -> Tensor:
    """Inner product of each pair of images, (b, 1, 1, 1)."""
    return torch.einsum("bchw,bchw->b", a, b)[:, None, None, None]
