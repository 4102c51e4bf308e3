"""Training: Algorithm 1, its three steps and the loop around them.

The caller owns the device, the seed and the files: `Fabric` says where to run, and steps are reported, not printed.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from lsn_core import losses
from lsn_core.config import Config
from lsn_core.networks import NETWORKS, Networks
from lsn_core.radiograph import Shift, compose, move_bones
from lsn_core.scene import Draw, Scene, Sources, draw, per_epoch, show
from lsn_core.shapes import Image, Layers, Logits, Masks
from lsn_core.stage import Stage, Weights

Report = Callable[[int, dict[str, float]], bool | None]  # hears of each step; True stops the training


class NotFiniteError(FloatingPointError):
    """A term of the loss is not finite. `record` holds all that the step drew, to make it again."""

    def __init__(self, told: str, record: dict[str, Any]) -> None:
        """`told` names the step and the terms."""
        super().__init__(told)
        self.record = record


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


@dataclass(frozen=True)
class Moment:
    """Where in a training a step is."""

    index: int  # of the stage, from 0
    stage: Stage
    step: int  # of the stage, from 0
    epoch: int  # of the stage, from 0
    closes: bool  # the step ends an epoch

    @property
    def playing(self) -> bool:
        """N_D plays (Algorithm 1: after m epochs)."""
        return self.epoch >= self.stage.switch

    @property
    def weights(self) -> Weights:
        """Of Eq. 11, in this epoch."""
        return self.stage.after if self.playing else self.stage.before

    def rate(self, network: str) -> float:
        """Learning rate of a network in this step."""
        rise = min(1.0, (self.step + 1) / max(1, self.stage.warmup))
        return rise * getattr(self.stage, f"lr_{network}") * 0.5 ** (self.epoch // self.stage.halve_every)


def set_up(fabric: Fabric, config: Config) -> Players:
    """Fresh networks from torch's global random state, and one AdamW each (authors' betas); steps set the rates."""
    networks = NETWORKS[config.networks](config.head, config.size)
    pairs = {}
    for name, module in vars(networks).items():
        module.to(memory_format=torch.channels_last)
        pairs[name] = fabric.setup(module, AdamW(module.parameters(), betas=(0.5, 0.999), fused=True))
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


class Autocast(MixedPrecision):
    """bf16 where it is as good, but networks get their images in float32: in bf16, white absorbs without end."""

    def convert_input(self, data: Any) -> Any:
        """What a network is given, as it is."""
        return data


def make_fabric(config: Config, **where: Any) -> Fabric:
    """`Fabric` with a training's precision, on the devices of `where`; a login node's `srun` is no reason to warn."""
    chosen = precision(config)
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    how = {"plugins": Autocast(chosen, kind)} if chosen == "bf16-mixed" else {"precision": chosen}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The `srun` command")
        return Fabric(**where, **how)


def stage_steps(having: Sources, config: Config, world: int) -> list[int]:
    """Steps of each stage, with `world` processes."""
    return [stage.epochs * per_epoch(having, stage, config.batch * world) for stage in config.stages]


def locate(having: Sources, config: Config, step: int, *, world: int = 1) -> Moment:
    """Where a step, counted over all stages, is. Raises `IndexError` after the last."""
    for index, (stage, steps) in enumerate(zip(config.stages, stage_steps(having, config, world), strict=True)):
        if step < steps:
            epoch, position = divmod(step, steps // stage.epochs)
            return Moment(index, stage, step, epoch, closes=position + 1 == steps // stage.epochs)
        step -= steps
    raise IndexError(step)


def move(layers: Layers, masks: Masks, lower: Shift, upper: Shift) -> tuple[Image, Masks]:
    """Move the bones and their masks alike and recompose, inside the hand: R' and M' of Eq. 8."""
    hand = masks[:, :1]
    composed = compose(move_bones(layers, lower, upper, masks=masks)) * hand
    moved = (move_bones(masks, lower, upper, masks=masks) > 0.5).to(masks.dtype)
    return composed, torch.cat((hand, moved[:, 1:] * hand), dim=1)


def ask(fabric: Fabric, critic: nn.Module, image: Image) -> Logits:
    """What a frozen critic answers, in evaluation mode, so that no statistics of its own change.

    Its gradients flow to the image alone, so the wrapper that would gather its own over processes is left aside.
    """
    with fabric.autocast():
        return freeze(bare(critic))(image).float()


def generator_terms(
    fabric: Fabric, nets: Networks, scene: Scene, layers: Layers, shifts: Sequence[tuple[Shift, Shift]], moment: Moment
) -> Iterator[tuple[str, Tensor]]:
    """The terms of Eq. 11, each with its name."""
    weights, masks, soft = moment.weights, scene.masks, layers[:, :1]
    overlap = {"in_overlap": weights.overlap}
    yield "reconstruction", losses.reconstruction(compose(layers), scene.image, masks, **overlap)
    if weights.supervision:
        moved = [move(layers, masks, *pair) for pair in shifts]
        told = [losses.supervision(ask(fabric, nets.segmenter, image), where) for image, where in moved]
        yield "supervision", torch.stack(told).mean()
    if weights.bones:
        yield "bones", losses.bone_reconstruction(layers, scene.alone, masks * scene.alone_known, **overlap)
    if weights.anchor:
        yield "anchor", losses.harmonic_anchor(soft, scene.fill, masks * (1 - scene.layers_known))
    if weights.truth:
        yield "truth", losses.layer_error(layers, scene.layers, masks * scene.layers_known)


def generator_step(
    fabric: Fabric,
    players: Players,
    scene: Scene,
    shifts: Sequence[tuple[Shift, Shift]],
    moment: Moment,
    soft_tissue: str,
) -> tuple[Layers, dict[str, Tensor]]:
    """Improve G against frozen critics (Eq. 11); return the layers it made before, and the terms.

    `softness_at_chance` stands beside L2: what it would be if N_D knew the share of bone in each image and no more.
    """
    nets = players.networks
    layers = thaw(nets.generator)(scene.image, scene.masks)
    terms = dict(generator_terms(fabric, nets, scene, layers, shifts, moment))
    told = {}
    if moment.weights.softness:
        loss = losses.SOFT_TISSUE[soft_tissue]
        terms["softness"] = loss(ask(fabric, nets.discriminator, layers[:, :1]), scene.masks)
        told["softness_at_chance"] = loss(
            torch.logit(losses.bone_share(scene.masks)).expand_as(scene.image), scene.masks
        )
    update(fabric, players.generator, losses.generator_loss(terms, moment.weights))
    return layers.detach(), terms | told


def segmenter_step(fabric: Fabric, players: Players, scene: Scene, *, originals: bool) -> Tensor:
    """Teach N_S the tissues of images that no network made (Eq. 12); with `originals` as much of unpushed ones."""
    segmenter = thaw(players.networks.segmenter)
    images, masks = scene.image, scene.masks
    if originals:
        images, masks = torch.cat((images, scene.original)), torch.cat((masks, scene.original_masks))
    loss = losses.supervision(segmenter(images), masks)
    update(fabric, players.segmenter, loss)
    return loss


def discriminator_step(fabric: Fabric, players: Players, scene: Scene, layers: Layers) -> Tensor:
    """Teach N_D to find bone in the soft-tissue layers that G just made (Eq. 12)."""
    discriminator = thaw(players.networks.discriminator)
    loss = losses.discrimination(discriminator(layers[:, :1]), scene.masks)
    update(fabric, players.discriminator, loss)
    return loss


def bare(network: nn.Module) -> nn.Module:
    """A network without what Fabric wraps around it."""
    return getattr(network, "module", network)


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


def train_step(fabric: Fabric, players: Players, having: Sources, config: Config, step: int) -> dict[str, float]:
    """One round of Algorithm 1: G, then N_S, then N_D on the layers that G made before its update.

    Raises `NotFiniteError` naming the terms that are not finite.
    """
    moment, drawn = plan(having, config, step, world=fabric.world_size)
    mine = drawn.part(fabric.global_rank, fabric.world_size)
    prepare(players, moment)
    scene = show(having, mine)
    layers, terms = generator_step(fabric, players, scene, mine.shifts, moment, config.soft_tissue)
    terms["segmenter"] = segmenter_step(fabric, players, scene, originals=moment.stage.originals)
    if moment.playing:
        terms["discriminator"] = discriminator_step(fabric, players, scene, layers)
    values = told(fabric, terms)
    broken = [name for name, value in values.items() if not math.isfinite(value)]
    if broken:
        record = {"step": step, "stage": moment.stage.name, "terms": values, "items": drawn.record()}
        raise NotFiniteError(f"step {step}: {', '.join(broken)} is not finite", record)
    return values


def prepare(players: Players, moment: Moment) -> None:
    """Set the rates, and begin each stage with fresh optimisers.

    Slopes are of another size there: divided by the size of those before, the first steps would throw G far off.
    """
    for name, optimizer in players.optimizers().items():
        for group in optimizer.param_groups:
            group["lr"] = moment.rate(name)
        if moment.step == 0:
            optimizer.state.clear()


def plan(having: Sources, config: Config, step: int, *, world: int = 1) -> tuple[Moment, Draw]:
    """Where a step is and what it draws, for all of `world` processes; from the config's seed and the step alone."""
    moment = locate(having, config, step, world=world)
    seed = 100 * config.seed + 10 * moment.index  # each stage draws its own numbers
    return moment, draw(having, moment.stage, config, config.batch * world, moment.step, seed)


def told(fabric: Fabric, terms: dict[str, Tensor]) -> dict[str, float]:
    """Terms as numbers, means over all processes, brought from the device at once."""
    values = torch.stack([term.detach().float() for term in terms.values()])
    if fabric.world_size > 1:
        values = fabric.all_reduce(values, reduce_op="mean")
    return dict(zip(terms, values.tolist(), strict=True))


def train(
    fabric: Fabric,
    players: Players,
    having: Sources,
    config: Config,
    *,
    start: int = 0,
    on_step: Report | None = None,
) -> int:
    """Run all stages from step `start` on; return the next step.

    `on_step(step, values)` hears of each step, and stops after it with True.
    """
    total = sum(stage_steps(having, config, fabric.world_size))
    for step in range(start, total):
        values = train_step(fabric, players, having, config, step)
        if on_step and on_step(step + 1, values):
            return step + 1
    return max(start, total)
