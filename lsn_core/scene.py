"""What one step of training shows: drawn as numbers first, then made of them on the device, and again if need be.

Nothing is stored: of a few hundred radiographs every step sees other overlaps, movements and mirror images.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lsn_core.batch import Batch, concatenate, mapped
from lsn_core.config import Config
from lsn_core.masks import at_256
from lsn_core.pseudo import Overlaps, draw_overlap, pseudo_overlap
from lsn_core.radiograph import Shift, bones_alone
from lsn_core.shapes import Bones, Image, Layers, Masks, Whole
from lsn_core.stage import Stage


@dataclass(frozen=True)
class Sources:
    """Where scenes come from. Either may be missing."""

    radiographs: Batch | None
    phantoms: Batch | None
    apart: Int[Tensor, " n"]  # which radiographs have bones that do not overlap

    def to(self, device: torch.device | str) -> "Sources":
        """The same with its images on another device; indices are drawn on the CPU and stay there."""
        moved = {name: part and part.to(device) for name, part in vars(self).items() if name != "apart"}
        return Sources(**moved, apart=self.apart)

    def shown(self, stage: Stage) -> Tensor:
        """Indices of the radiographs that a stage shows; of the phantoms where it shows nothing else."""
        if stage.phantoms == 1:
            return torch.arange(len(self.phantoms))
        return self.apart if stage.joints == "apart" else torch.arange(len(self.radiographs))


def sources(radiographs: Batch | None, phantoms: Batch | None) -> Sources:
    """Both as sources, and which radiographs have bones apart."""
    none = torch.zeros(0, dtype=torch.long)
    return Sources(radiographs, phantoms, none if radiographs is None else radiographs.apart.nonzero()[:, 0].cpu())


@dataclass(frozen=True)
class Draw:
    """The numbers of a step, one of each for every item; radiographs first, then phantoms."""

    joint: Int[Tensor, " b"]  # which radiograph, or which phantom
    phantom: Bool[Tensor, " b"]
    pushed: Bool[Tensor, " b"]  # bones pushed over each other
    mirrored: Bool[Tensor, " b"]
    overlaps: Overlaps
    shifts: tuple[tuple[Shift, Shift], ...]  # f_s of the lower and of the upper bone, for L1

    def part(self, rank: int, world: int) -> "Draw":
        """What one of `world` processes shows of it."""
        return mapped(self, lambda column: column[rank::world])

    def record(self) -> list[dict[str, Any]]:
        """Plain numbers of each item, for a log."""
        moved = [Overlaps(*pair).numbers() for pair in self.shifts]
        return [
            {
                "source": "phantom" if phantom else "radiograph",
                "index": joint,
                "pushed": bool(self.pushed[i]),
                "mirrored": bool(self.mirrored[i]),
                "overlap": overlaps,
                "shifts": [shifts[i] for shifts in moved],
            }
            for i, (joint, phantom, overlaps) in enumerate(
                zip(self.joint.tolist(), self.phantom.tolist(), self.overlaps.numbers(), strict=True)
            )
        ]


@dataclass(frozen=True)
class Scene:
    """Images to be separated, and what is known of them; `alone` and `layers` hold 0 where it is not."""

    image: Image
    masks: Masks  # widened
    fill: Image  # soft tissue under the bones, guessed harmonically
    alone: Bones  # B_i of pseudo-images and phantoms
    alone_known: Whole  # 0 or 1
    layers: Layers  # of phantoms
    layers_known: Whole  # 0 or 1
    original: Image  # the image before its bones were pushed
    original_masks: Masks


def per_epoch(having: Sources, stage: Stage, batch: int) -> int:
    """Steps of an epoch: what does not fill a batch waits for another epoch."""
    return max(1, len(having.shown(stage)) // (batch - phantoms_of(stage, batch) or batch))


def phantoms_of(stage: Stage, batch: int) -> int:
    """How many phantoms a batch holds."""
    return round(stage.phantoms * batch)


def draw(having: Sources, stage: Stage, config: Config, batch: int, step: int, seed: int) -> Draw:
    """Draw the `step`-th batch of a stage; the numbers depend on the seed and the step alone."""
    made = phantoms_of(stage, batch)
    random = torch.Generator().manual_seed(seed * 1_000_003 + step)
    shown = having.shown(stage)
    real = shown[in_turn(len(shown), batch - made, step, seed)] if made < batch else shown[:0]
    synthetic = in_turn(len(having.phantoms), made, step, seed + 1) if made else shown[:0]
    phantom = torch.arange(len(real) + len(synthetic)) >= len(real)
    count = len(phantom)
    apart = ~phantom & torch.isin(torch.cat((real, synthetic)), having.apart)
    return Draw(
        joint=torch.cat((real, synthetic)),
        phantom=phantom,
        pushed=apart & (torch.rand(count, generator=random) >= stage.untouched),
        mirrored=torch.rand(count, generator=random) < config.mirror,
        overlaps=draw_overlap(count, size=config.size, generator=random),
        shifts=tuple(
            (draw_shift(count, config, random), draw_shift(count, config, random)) for _ in range(stage.shifts)
        ),
    )


def in_turn(count: int, size: int, step: int, seed: int) -> Tensor:
    """Indices of a step's items: each epoch is a permutation of all `count` of them, drawn from its number."""
    size = min(size, count)
    epoch, position = divmod(step, count // size)
    random = torch.Generator().manual_seed(seed * 1_000_003 - 1 - epoch)
    return torch.randperm(count, generator=random)[position * size : (position + 1) * size]


def draw_shift(count: int, config: Config, random: torch.Generator) -> Shift:
    """One random movement f_s for each of `count` items (Eq. 5-6)."""
    reach = (at_256(config.shift_x, config.size), at_256(config.shift_y, config.size), config.shift_degrees)
    return Shift(*[most * (2 * torch.rand(count, generator=random) - 1) for most in reach])


def show(having: Sources, drawn: Draw) -> Scene:
    """Make what the numbers say, on the sources' device."""
    taken = [having.radiographs.take(drawn.joint[~drawn.phantom])] if not drawn.phantom.all() else []
    taken += [having.phantoms.take(drawn.joint[drawn.phantom])] if drawn.phantom.any() else []
    batch = concatenate([replace(part, layers=_truth(part)) for part in taken])
    drawn = mapped(drawn, lambda column: column.to(batch.image.device))
    scene = _scene(batch, drawn)
    return mapped(scene, lambda plane: torch.where(_column(drawn.mirrored), plane.flip(-1), plane))


def _truth(batch: Batch) -> Layers:
    """The layers of a batch, 0 where they are not known."""
    return torch.zeros_like(batch.wide, dtype=batch.image.dtype) if batch.layers is None else batch.layers


def _column(flags: Tensor) -> Tensor:
    """(b,) as (b, 1, 1, 1)."""
    return flags[:, None, None, None]


def _scene(batch: Batch, drawn: Draw) -> Scene:
    """Radiographs as they are or pushed, and phantoms."""
    masks, pushed, phantom = batch.masks, _column(drawn.pushed), _column(drawn.phantom)
    pseudo = pseudo_overlap(batch.image, masks, batch.fill, drawn.overlaps, share=batch.share)
    return Scene(
        image=torch.where(pushed, pseudo.image, batch.image),
        masks=torch.where(pushed, pseudo.masks, masks),
        fill=batch.fill,
        alone=torch.where(pushed, pseudo.bones, bones_alone(batch.layers)) * (pushed | phantom),
        alone_known=(pushed | phantom).to(masks.dtype),
        layers=batch.layers * phantom,
        layers_known=phantom.to(masks.dtype),
        original=batch.image,
        original_masks=masks,
    )
