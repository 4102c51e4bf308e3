"""The three downstream tasks: what a network is asked, how it learns it, and what its numbers mean.

A radiograph's joint space width, its SvdH-like class, and how each bone moved between two radiographs of a joint.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lsn_core.jsw import SVDH_MM
from lsn_core.masks import at_256
from lsn_core.pool import Examples
from lsn_core.predictors import Numbers, Predictor
from lsn_core.registration import Motions, Transforms, between, unlikeness
from lsn_core.shapes import Bones, Image, PerItem, Scalar

CENTRE_MM, SPREAD_MM = 1.2, 0.5  # a width is predicted as so many SPREAD_MM from CENTRE_MM
SMOOTHING = 0.1  # of class labels: a joint at a class's end is half of the next one
SCALE, DEGREES, STEP_PX = 0.1, 15.0, 16.0  # how far a transform's scale and turn reach, and px at 256 a unit moves
TURN, ASIDE_PX, CURVE = 8.0, 6.0, 0.25  # jitter: degrees, px at 256, logarithm of gamma

Affine = Float[Tensor, "b 2 3"]  # where each place of an image comes from, as `affine_grid` takes it
Loss = Callable[[Predictor, Examples, Tensor, float, torch.Generator], Scalar]


def prepared(image: Tensor) -> Image:
    """8-bit images as the networks' floats, in [0, 1]."""
    return image.float() / 255


def draw_jitter(mirror: PerItem, strength: float, random: torch.Generator) -> Affine:
    """A turn and a step of each image, mirrored where `mirror` is -1; never a scale, which would change widths.

    A `strength` from 0 (none) to 1. `random` is on the CPU, so that each device draws the same.
    """
    count, reach = len(mirror), 2 * strength * ASIDE_PX / 256
    angle = torch.deg2rad(strength * _between(count, -TURN, TURN, random))
    x, y = (_between(count, -reach, reach, random) for _ in range(2))
    rows = (mirror * angle.cos(), -angle.sin(), x, mirror * angle.sin(), angle.cos(), y)
    return torch.stack(rows, dim=1).view(count, 2, 3)


def draw_mirror(count: int, strength: float, random: torch.Generator) -> PerItem:
    """-1 where an image is to be mirrored, half of all at full strength, else 1."""
    return 1.0 - 2.0 * (torch.rand(count, generator=random) < 0.5 * strength).float()


def through(planes: Float[Tensor, "b c h w"], jitter: Affine) -> Float[Tensor, "b c h w"]:
    """Planes as a jitter shows them; beyond the frame its edge goes on."""
    grid = F.affine_grid(jitter.to(planes.device), list(planes.shape), align_corners=False)
    return F.grid_sample(planes, grid, padding_mode="border", align_corners=False)


def motion_through(motion: Motions, jitter: Affine, size: int) -> Motions:
    """How pixels moved from their source, when the moved image is then jittered."""
    jitter, centre = jitter.to(motion.device), (size - 1) / 2
    back = jitter[:, None, :, :2].inverse()
    start = motion[..., 2] - centre - jitter[:, None, :, 2] * size / 2
    return torch.cat((back @ motion[..., :2], back @ start[..., None] + centre), dim=-1)


def exposed(image: Image, strength: float, random: torch.Generator) -> Image:
    """Images through another display curve each."""
    curve = torch.exp(strength * _between(len(image), -CURVE, CURVE, random))
    return image.clamp(0, 1) ** curve[:, None, None, None].to(image.device)


def _between(count: int, low: float, high: float, random: torch.Generator) -> PerItem:
    """So many numbers between two."""
    return low + (high - low) * torch.rand(count, generator=random)


def jittered(image: Image, strength: float, random: torch.Generator) -> Image:
    """Images turned, moved, mirrored and exposed otherwise, each in its own way."""
    jitter = draw_jitter(draw_mirror(len(image), strength, random), strength, random)
    return exposed(through(image, jitter), strength, random)


def numbers_of(network: Predictor, image: Image) -> Float[Tensor, "b outputs"]:
    """A network's numbers of whole images."""
    return network(image, torch.ones_like(image))[:, 0]


def width_of(numbers: Float[Tensor, "b 1"]) -> PerItem:
    """Joint space widths in mm of a network's numbers."""
    return CENTRE_MM + SPREAD_MM * numbers[:, 0]


def width_loss(
    network: Predictor, examples: Examples, index: Tensor, strength: float, random: torch.Generator
) -> Scalar:
    """Mean squared error of the width, in units of SPREAD_MM."""
    found = width_of(numbers_of(network, jittered(prepared(examples.image[index]), strength, random)))
    return F.mse_loss(found, examples.jsw_mm[index]) / SPREAD_MM**2


def classes(widths: PerItem) -> Int[Tensor, " n"]:
    """The SvdH-like class of each width in mm, as `svdh_like` tells it of one."""
    return (widths[:, None] < torch.tensor(SVDH_MM, device=widths.device)).sum(dim=1)


def class_loss(
    network: Predictor, examples: Examples, index: Tensor, strength: float, random: torch.Generator
) -> Scalar:
    """Cross-entropy of the class with smoothed labels."""
    found = numbers_of(network, jittered(prepared(examples.image[index]), strength, random))
    return F.cross_entropy(found, classes(examples.jsw_mm[index]), label_smoothing=SMOOTHING)


def transforms_of(numbers: Numbers, size: int) -> Transforms:
    """Transforms of both bones of a network's four numbers of each; scale and turn are bounded."""
    scale, degrees, dx, dy = numbers.unbind(dim=2)
    step = at_256(STEP_PX, size)
    return torch.stack((1 + SCALE * scale.tanh(), DEGREES * degrees.tanh(), step * dx, step * dy), dim=2)


def unit_errors(found: Transforms, true: Transforms, size: int) -> PerItem:
    """Mean squared difference of transforms, each number in its own unit."""
    step = at_256(STEP_PX, size)
    units = torch.tensor([SCALE, DEGREES, step, step], device=found.device)
    return (((found - true) / units) ** 2).mean(dim=(1, 2))


def pair_loss(
    network: Predictor, examples: Examples, pairs: Tensor, strength: float, random: torch.Generator
) -> Scalar:
    """How unlike each bone is to the fixed image; of synthetic pairs, half of it and half the transforms' root error.

    `pairs` (b, 2) are the places of the moving and the fixed image among the examples, which are jittered apart.
    """
    both = [examples.image[pairs[:, k]] for k in (0, 1)]
    size, mirror = both[0].shape[-1], draw_mirror(len(pairs), strength, random)
    jitters = [draw_jitter(mirror, strength, random) for _ in both]
    moving, fixed = (
        exposed(through(prepared(image), by), strength, random) for image, by in zip(both, jitters, strict=True)
    )
    bones = through(examples.bones[pairs[:, 1]].float(), jitters[1])
    found = transforms_of(network(torch.cat((moving, fixed), dim=1), bones), size)
    unlike = unlikeness(moving, fixed, bones, found).mean()
    if examples.motion is None:
        return unlike
    motions = (motion_through(examples.motion[pairs[:, k]], jitters[k], size) for k in (0, 1))
    return 0.5 * unlike + 0.5 * unit_errors(found, between(*motions, size), size).mean().sqrt()


def register(network: Predictor) -> Callable[[Image, Image, Bones], Transforms]:
    """A trained network as what measures progression."""

    def found(moving: Image, fixed: Image, bones: Bones) -> Transforms:
        return transforms_of(network(torch.cat((moving, fixed), dim=1), bones), moving.shape[-1])

    return found


@dataclass(frozen=True)
class Task:
    """How a task is learnt."""

    channels: int  # images that are shown at once
    outputs: int  # numbers of each region: of the whole image, or of each bone
    loss: Loss
    in_pairs: bool = False  # whether a batch is rows of `Examples.pairs`, or places of images


TASKS = {
    "jsn": Task(2, 4, pair_loss, in_pairs=True),
    "jsw": Task(1, 1, width_loss),
    "svdh": Task(1, len(SVDH_MM) + 1, class_loss),
}
