"""Training: the three steps of Algorithm 1 on real images (stage 2), a loop around them, and what it leaves behind.

The caller owns the device, the seed and the files: `Fabric` says where to run, and steps are reported, not printed.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from lsn_core import losses
from lsn_core.batch import Batch
from lsn_core.config import Config
from lsn_core.masks import at_256
from lsn_core.metrics import masked_mse, psnr, shadow_contrast
from lsn_core.networks import NETWORKS, Networks
from lsn_core.radiograph import Shift, compose, move_bones
from lsn_core.shapes import Image, Layers, Masks

Report = Callable[[int, dict[str, float]], bool | None]  # hears of each step; True stops the training


@dataclass(frozen=True)
class Players:
    """The networks with their optimisers, set up on a device."""

    networks: Networks
    generator: Optimizer
    segmenter: Optimizer
    discriminator: Optimizer

    def modules(self) -> dict[str, nn.Module]:
        """The networks by name."""
        return dict(vars(self.networks))

    def optimizers(self) -> dict[str, Optimizer]:
        """The optimisers by the names of their networks."""
        return {name: getattr(self, name) for name in vars(self.networks)}


def set_up(fabric: Fabric, config: Config) -> Players:
    """Fresh networks from torch's global random state, and one AdamW each (paper's rates; authors' betas)."""
    networks = NETWORKS[config.networks](config.head, config.size)
    pairs = {}
    for name, module in vars(networks).items():
        module.to(memory_format=torch.channels_last)
        rate = getattr(config, f"lr_{name}")
        pairs[name] = fabric.setup(module, AdamW(module.parameters(), lr=rate, betas=(0.5, 0.999), fused=True))
    return Players(
        Networks(**{name: module for name, (module, _) in pairs.items()}),
        **{name: optimizer for name, (_, optimizer) in pairs.items()},
    )


def precision(config: Config) -> str:
    """Fabric's precision: bf16 where the hardware multiplies it (recent GPUs, AMX, AVX-512 BF16), else float32.

    On a CPU without such instructions bf16 is emulated, ten times slower than float32.
    """
    if config.precision != "auto":
        return config.precision
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    able = torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if able or torch.cpu._is_amx_tile_supported() else "32-true"


def step_random(seed: int, step: int) -> torch.Generator:
    """The random numbers of one step, from the seed and the step alone: a resumed run draws the same."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def draw_batch(count: int, config: Config, step: int) -> Tensor:
    """Indices of the step's images: each epoch is a permutation of all `count` of them, drawn from its number."""
    size = min(config.batch, count)
    per_epoch = count // size
    epoch, position = divmod(step, per_epoch)
    order = torch.randperm(count, generator=step_random(config.seed, -1 - epoch))
    return order[position * size : (position + 1) * size]


def draw_shift(count: int, config: Config, random: torch.Generator, device: torch.device) -> Shift:
    """One random movement f_s for each of `count` items (Eq. 5-6)."""
    reach = (at_256(config.shift_x, config.size), at_256(config.shift_y, config.size), config.shift_degrees)
    drawn = [(most * (2 * torch.rand(count, generator=random) - 1)).to(device) for most in reach]
    return Shift(*drawn)


def move(layers: Layers, masks: Masks, lower: Shift, upper: Shift) -> tuple[Image, Masks]:
    """Move the bones and their masks alike and recompose, inside the hand: R' and M' of Eq. 8."""
    hand = masks[:, :1]
    composed = compose(move_bones(layers, lower, upper, masks=masks)) * hand
    moved = (move_bones(masks, lower, upper, masks=masks) > 0.5).to(masks.dtype)
    return composed, torch.cat((hand, moved[:, 1:] * hand), dim=1)


def generator_step(
    fabric: Fabric, players: Players, batch: Batch, config: Config, random: torch.Generator
) -> tuple[Layers, dict[str, Tensor]]:
    """Improve G against frozen critics (Eq. 11 without its stage-1 term); return its layers and the terms.

    The critics are in evaluation mode, so that their normalisation statistics come from their own steps alone.
    """
    nets = players.networks
    freeze(nets.segmenter), freeze(nets.discriminator)
    masks = batch.masks
    layers = nets.generator(batch.image, masks)
    shifts = [draw_shift(len(batch), config, random, batch.image.device) for _ in range(2)]
    moved, moved_masks = move(layers, masks, *shifts)
    terms = {
        "reconstruction": losses.reconstruction(compose(layers), batch.image, masks),
        "supervision": losses.supervision(nets.segmenter(moved), moved_masks),
        "softness": losses.SOFT_TISSUE[config.soft_tissue](nets.discriminator(layers[:, :1]), masks),
        "anchor": losses.harmonic_anchor(layers[:, :1], batch.fill, masks),
    }
    update(fabric, players.generator, sum(getattr(config, name) * term for name, term in terms.items()))
    return layers.detach(), terms


def segmenter_step(fabric: Fabric, players: Players, batch: Batch) -> Tensor:
    """Teach N_S the tissues of unaltered images (Eq. 12)."""
    segmenter = thaw(players.networks.segmenter)
    loss = losses.supervision(segmenter(batch.image), batch.masks)
    update(fabric, players.segmenter, loss)
    return loss


def discriminator_step(fabric: Fabric, players: Players, batch: Batch, layers: Layers) -> Tensor:
    """Teach N_D to find bone in the soft-tissue layers that G just made (Eq. 12)."""
    discriminator = thaw(players.networks.discriminator)
    loss = losses.discrimination(discriminator(layers[:, :1]), batch.masks)
    update(fabric, players.discriminator, loss)
    return loss


def freeze(network: nn.Module) -> nn.Module:
    """Neither weights nor statistics change."""
    return network.eval().requires_grad_(False)


def thaw(network: nn.Module) -> nn.Module:
    """Weights and statistics learn again."""
    return network.train().requires_grad_(True)


def update(fabric: Fabric, optimizer: Optimizer, loss: Tensor) -> None:
    """One step down the loss."""
    optimizer.zero_grad(set_to_none=True)
    fabric.backward(loss)
    optimizer.step()


def train_step(fabric: Fabric, players: Players, data: Batch, config: Config, step: int) -> dict[str, float]:
    """One round of Algorithm 1: G, then N_S, then N_D on the layers that G made before its update.

    Raises `FloatingPointError` naming the term that is not finite.
    """
    batch = data.take(draw_batch(len(data), config, step))
    layers, terms = generator_step(fabric, players, batch, config, step_random(config.seed, step))
    terms["segmenter"] = segmenter_step(fabric, players, batch)
    terms["discriminator"] = discriminator_step(fabric, players, batch, layers)
    values = {name: float(term.detach()) for name, term in terms.items()}
    broken = [name for name, value in values.items() if not torch.isfinite(torch.tensor(value))]
    if broken:
        raise FloatingPointError(f"step {step}: {', '.join(broken)} is not finite")
    return values


def train(
    fabric: Fabric,
    players: Players,
    data: Batch,
    config: Config,
    *,
    start: int = 0,
    spent: float = 0.0,
    on_step: Report | None = None,
) -> int:
    """Run steps from `start` until the steps or the minutes are used up; return the next step.

    `spent` is minutes used before `start`. `on_step(step, values)` hears of each step, and stops after it with True.
    """
    thaw(players.networks.generator)
    began, step = time.monotonic(), start
    while step < config.steps and not (config.minutes and spent + (time.monotonic() - began) / 60 >= config.minutes):
        values = train_step(fabric, players, data, config, step)
        step += 1
        if on_step and on_step(step, values):
            break
    return step


@torch.no_grad()
def validate(generator: nn.Module, data: Batch, *, chunk: int = 32) -> dict[str, float]:
    """PSNR in the hand and absolute shadow contrast, means over held-out images; without one that no image has."""
    trained = generator.training
    generator.eval()
    batches = [data.take(slice(i, i + chunk)) for i in range(0, len(data), chunk)]
    rows = [_score(generator(batch.image, batch.masks), batch) for batch in batches]
    generator.train(trained)
    means = {name: float(torch.cat([row[name] for row in rows]).nanmean()) for name in rows[0]}
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}


def _score(layers: Layers, batch: Batch) -> dict[str, Tensor]:
    """The validation numbers of each image of a batch."""
    errors = masked_mse(compose(layers), batch.image, batch.masks[:, :1])
    return {"psnr_db": psnr(errors), "shadow": shadow_contrast(layers[:, :1], batch.masks).abs()}
