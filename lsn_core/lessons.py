"""Lessons for the outliner: radiographs as users bring them, and what else they might bring by mistake.

Crops are turned, scaled, shifted, windowed and noisy at random; some point elsewhere or are inverted. What is no joint
is made of noise, of shapes, and of joints cut into pieces, enlarged or lost at the frame's edge: nothing is collected.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lsn_core.detector import blurred
from lsn_core.segmentation import KINDS
from lsn_core.shapes import Image, Masks, PerItem

TURN, SCALE, ASIDE = 20.0, (0.75, 1.4), 0.1  # degrees, zoom, share of the frame: how crops differ from those drawn
SHARES = {"upright": 0.6, "turned": 0.19, "inverted": 0.06, "other": 0.15}  # of each batch


@dataclass(frozen=True)
class Examples:
    """Radiographs at the network's size with their masks as drawn."""

    image: Image
    masks: Bool[Tensor, "b 3 h w"]

    def __len__(self) -> int:
        """How many."""
        return len(self.image)


@dataclass(frozen=True)
class Lesson:
    """One batch: images, what they are, and the masks of those that are upright."""

    image: Image
    masks: Masks
    kind: Int[Tensor, " b"]  # index into `KINDS`

    @property
    def upright(self) -> Bool[Tensor, " b"]:
        """Which images teach outlines."""
        return self.kind == 0


def draw_lesson(examples: Examples, batch: int, random: torch.Generator) -> Lesson:
    """A batch from random examples; upright joints come first."""
    index = torch.randint(len(examples), (batch,), generator=random)
    image, masks = jittered(examples.image[index], examples.masks[index].float(), random)
    upright, turned, inverted = (round(batch * SHARES[name]) for name in ("upright", "turned", "inverted"))
    kind = torch.zeros(batch, dtype=torch.long)
    for item in range(upright, upright + turned):
        kind[item] = 1 + item % 3
        image[item] = image[item].rot90(int(kind[item]), (1, 2))  # KINDS are in rot90's order: left, down, right
    start = upright + turned
    kind[start : start + inverted] = KINDS.index("inverted")
    image[start : start + inverted] = 1 - image[start : start + inverted]
    for item in range(start + inverted, batch):
        kind[item] = KINDS.index("other")
        image[item] = impostor(image[item], random)
    return Lesson(windowed(image, random), masks, kind)


def uniform(count: int, low: float, high: float, random: torch.Generator) -> PerItem:
    """So many numbers between two."""
    return low + (high - low) * torch.rand(count, generator=random)


def jittered(image: Image, masks: Masks, random: torch.Generator) -> tuple[Image, Masks]:
    """Crops as another hand would have cropped them, half of them mirrored; beyond the frame its edge goes on."""
    count = len(image)
    angle, zoom = torch.deg2rad(uniform(count, -TURN, TURN, random)), uniform(count, *SCALE, random)
    mirror = 1 - 2 * torch.randint(2, (count,), generator=random)
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    aside = [2 * uniform(count, -ASIDE, ASIDE, random) for _ in range(2)]
    theta = torch.stack((torch.stack((mirror * cos, -sin, aside[0])), torch.stack((mirror * sin, cos, aside[1]))))
    grid = F.affine_grid(theta.permute(2, 0, 1), list(image.shape), align_corners=False)
    planes = F.grid_sample(torch.cat((image, masks), dim=1), grid, padding_mode="border", align_corners=False)
    return planes[:, :1], (planes[:, 1:] > 0.5).float()


def windowed(image: Image, random: torch.Generator) -> Image:
    """Other grey-level windows, blur and noise."""
    count = len(image)
    gamma, low, high, noise = (
        uniform(count, *span, random)[:, None, None, None]
        for span in ((0.6, 1.6), (-0.15, 0.15), (0.7, 1.2), (0.0, 0.04))
    )
    soft = blurred(image, 0.8) if torch.rand((), generator=random) < 0.3 else image
    shown = low + (high - low) * soft.clamp(0, 1) ** gamma + noise * torch.randn(image.shape, generator=random)
    return shown.clamp(0, 1)


def impostor(joint: Float[Tensor, "1 h w"], random: torch.Generator) -> Float[Tensor, "1 h w"]:
    """Something that is no upright joint of two bones, some of it made of a joint."""
    makers = (noise, shapes, shuffled, enlarged, lost, doubled)
    return makers[int(torch.randint(len(makers), (), generator=random))](joint, random)


def noise(joint: Float[Tensor, "1 h w"], random: torch.Generator) -> Float[Tensor, "1 h w"]:
    """Grain of any coarseness and contrast."""
    sigma = float(uniform(1, 0.3, 12.0, random))
    field = blurred(torch.randn((1, *joint.shape), generator=random), sigma)[0]
    return (0.5 + float(uniform(1, 0.05, 0.3, random)) * field / field.std()).clamp(0, 1)


def shapes(joint: Float[Tensor, "1 h w"], random: torch.Generator) -> Float[Tensor, "1 h w"]:
    """Ellipses and bars of any brightness one over the other, blurred: what most pictures are made of."""
    height, width = joint.shape[-2:]
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    image = uniform(1, 0, 1, random) + 0.3 * (uniform(1, -1, 1, random) * x + uniform(1, -1, 1, random) * y)
    for _ in range(int(torch.randint(3, 14, (), generator=random))):
        cx, cy, angle, level = uniform(4, -1, 1, random).tolist()
        a, b = uniform(2, 0.03, 0.9, random).tolist()
        u = (x - cx) * torch.cos(torch.tensor(3 * angle)) + (y - cy) * torch.sin(torch.tensor(3 * angle))
        v = (y - cy) * torch.cos(torch.tensor(3 * angle)) - (x - cx) * torch.sin(torch.tensor(3 * angle))
        inside = (u / a) ** 2 + (v / b) ** 2 < 1 if level > 0 else (u.abs() < a) & (v.abs() < b)
        image = torch.where(inside, image + 0.6 * level, image)
    grain = 0.05 * blurred(torch.randn((1, 1, height, width), generator=random), 1.0)[0, 0]
    return blurred((image + grain)[None, None], float(uniform(1, 0.5, 4.0, random)))[0].clamp(0, 1)


def shuffled(joint: Float[Tensor, "1 h w"], random: torch.Generator) -> Float[Tensor, "1 h w"]:
    """A joint's tiles in another order."""
    parts = int(torch.randint(2, 5, (), generator=random))
    side = joint.shape[-1] // parts
    tiles = [joint[:, r * side : (r + 1) * side, c * side : (c + 1) * side] for r in range(parts) for c in range(parts)]
    order = torch.randperm(len(tiles), generator=random).roll(1).tolist()
    rows = [torch.cat([tiles[i] for i in order[r * parts : (r + 1) * parts]], dim=2) for r in range(parts)]
    return F.interpolate(torch.cat(rows, dim=1)[None], joint.shape[-2:], mode="bilinear")[0]


def enlarged(joint: Float[Tensor, "1 h w"], random: torch.Generator) -> Float[Tensor, "1 h w"]:
    """A small piece of a joint, or a joint so small that it is lost among others of its kind."""
    height, width = joint.shape[-2:]
    if torch.rand((), generator=random) < 0.5:
        side = int(torch.randint(height // 6, height // 4, (), generator=random))
        top, left = torch.randint(height - side, (2,), generator=random).tolist()
        return F.interpolate(joint[None, :, top : top + side, left : left + side], (height, width), mode="bilinear")[0]
    many = int(torch.randint(3, 6, (), generator=random))
    return F.interpolate(joint.repeat(1, many, many)[None], (height, width), mode="bilinear", antialias=True)[0]


def lost(joint: Float[Tensor, "1 h w"], random: torch.Generator) -> Float[Tensor, "1 h w"]:
    """A crop beside the joint: one shaft alone, the other bone out of the frame."""
    rows = int(joint.shape[-2] * float(uniform(1, 0.48, 0.6, random)))
    half = joint[:, -rows:] if torch.rand((), generator=random) < 0.5 else joint[:, :rows]
    far = half[:, -1:] if torch.rand((), generator=random) < 0.5 else half[:, :1]
    piece = torch.cat((half, far.expand(-1, rows // 2, -1)), dim=1)
    return F.interpolate(piece[None], joint.shape[-2:], mode="bilinear", antialias=True)[0]


def doubled(joint: Float[Tensor, "1 h w"], random: torch.Generator) -> Float[Tensor, "1 h w"]:
    """One half of a joint and its reflection: two heads, or two bases."""
    half = joint.shape[-2] // 2
    if torch.rand((), generator=random) < 0.5:
        return torch.cat((joint[:, :half], joint[:, :half].flip(1)), dim=1)
    return torch.cat((joint[:, -half:].flip(1), joint[:, -half:]), dim=1)
