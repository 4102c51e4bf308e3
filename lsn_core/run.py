"""A training run as a folder: config, journal, checkpoints, weights, metrics; interrupted and resumed at will."""

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_fabric.utilities.rank_zero import rank_zero_only

from lsn_core.checkpoint import checkpoints, load_checkpoint, read_header
from lsn_core.config import Config, read_config
from lsn_core.files import InputError, write_json
from lsn_core.keeper import BROKEN, CHECKPOINTS, Keeper
from lsn_core.material import Material, gather
from lsn_core.networks import start_from
from lsn_core.scene import Sources
from lsn_core.signals import Tell, stop_signals
from lsn_core.training import NotFiniteError, Players, bare, make_fabric, set_up, stage_steps, train


def train_run(
    folder: Path,
    data: str | None,
    config: Config,
    *,
    profile: str,
    resume: bool = False,
    devices: int = 1,
    nodes: int = 1,
    material: Material | None = None,
    tell: Tell | None = None,
) -> bool:
    """Train into `folder` from the "train" split of `data`; return whether the training is complete.

    Ctrl-C or SIGTERM finishes the step, saves and returns False; `resume` goes on from there with the run's own
    config and profile. `material` is what `gather` gave for this data and config, where the caller has it already.
    `tell` hears what a user should know meanwhile. Each of `devices` on each of `nodes` shows its own batch in every
    step; all of their processes call this, and the first one writes. Raises `InputError` where the folder already holds
    a run, or none to resume, and where the training breaks down.
    """
    folder = Path(folder)
    checkpoint = _checkpoint(folder, resume)
    before = read_header(checkpoint) if checkpoint else {}
    config, profile = (_config(checkpoint, before), before["profile"]) if checkpoint else (config, profile)
    fabric = _launch(config, devices, nodes)
    tell = tell if tell and leads() else _say_nothing
    material = material or gather(data, config, world=fabric.world_size, quiet=not leads())
    _compare(folder, before, material, fabric.world_size)
    if material.left_out:
        tell(f"{len(material.left_out)} radiographs are left out, with both masks drawn on one bone")
    players = _players(fabric, config, fresh=not checkpoint)
    origin = {"data": material.fingerprint, "profile": profile, "seed": config.seed, "config": asdict(config)}
    keeper = Keeper(folder, fabric, players, material, config, origin, before) if leads() else None
    if keeper:
        write_json(folder / "config.json", origin | {"data": data})
    if checkpoint:
        load_checkpoint(checkpoint, keeper.modules() if keeper else players.modules(), players.optimizers())
    learn = material.learn.to(fabric.device)
    with stop_signals(tell) as caught, keeper or nullcontext():
        return _go(fabric, players, learn, config, start=before.get("step", 0), keeper=keeper, caught=caught)


def leads() -> bool:
    """Whether this process is the first of its training, or the only one: the one that writes and speaks."""
    return rank_zero_only.rank == 0


def _go(
    fabric: Fabric,
    players: Players,
    learn: Sources,
    config: Config,
    *,
    start: int,
    keeper: Keeper | None,
    caught: list[int],
) -> bool:
    """Train until the end, or until one of the processes caught a signal; return whether it was the end."""

    def on_step(step: int, values: dict[str, float]) -> bool:
        if keeper:
            keeper.note(step, values)
        return _any(fabric, bool(caught))

    try:
        step = train(fabric, players, learn, config, start=start, on_step=on_step)
    except NotFiniteError as error:
        if keeper:
            keeper.broken(error.record)
        remedy = (
            f"see {BROKEN} in the run, and lower the rates, as with --set {error.record['stage']}.lr_generator=1e-5"
        )
        raise InputError(f"the training broke down at {error}; {remedy}") from error
    complete = step == sum(stage_steps(learn, config, fabric.world_size))
    if keeper:
        keeper.finish() if complete else keeper.save()
    return complete


def _any(fabric: Fabric, mine: bool) -> bool:
    """Whether it is true in any process."""
    if fabric.world_size == 1:
        return mine
    return bool(fabric.all_reduce(torch.tensor(float(mine), device=fabric.device), reduce_op="sum"))


def _say_nothing(_told: str) -> None:
    """Tell nobody."""


def _checkpoint(folder: Path, resume: bool) -> Path | None:
    """The checkpoint to go on from; None for a new run. Raises `InputError` where the folder is not as it should be."""
    saved = checkpoints(folder / CHECKPOINTS)
    if resume and not saved:
        raise InputError(f"{folder}: no checkpoint to resume from; train without --resume")
    if saved and not resume:
        raise InputError(f"{folder}: already holds a run; continue it with --resume, or name another folder")
    return saved[-1] if saved else None


def _config(checkpoint: Path, before: dict[str, Any]) -> Config:
    """The config in a checkpoint's header. Raises `InputError` where another version wrote it."""
    try:
        return read_config(before["config"])
    except (TypeError, KeyError) as error:
        raise InputError(f"{checkpoint}: written by another version ({error}); train again in another folder") from None


def _launch(config: Config, devices: int, nodes: int) -> Fabric:
    """Start a process for each device; several average their gradients (DDP)."""
    strategy = "ddp" if devices * nodes > 1 else "auto"
    try:
        fabric = make_fabric(config, devices=devices, num_nodes=nodes, strategy=strategy)
        fabric.launch()
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"--devices {devices} --nodes {nodes}: {reason}; ask for what this machine has") from error
    return fabric


def _players(fabric: Fabric, config: Config, *, fresh: bool) -> Players:
    """Networks with their optimisers, from the config's seed; a `fresh` generator with the weights it starts from."""
    torch.manual_seed(config.seed)
    players = set_up(fabric, config)
    if fresh and config.start:
        start_from(bare(players.networks.generator), config.start, networks=config.networks, head=config.head)
    return players


def _compare(folder: Path, before: dict[str, Any], material: Material, world: int) -> None:
    """Raise `InputError` where a run would go on with other data, or with batches of another size."""
    then, now = before.get("data"), material.fingerprint
    if before and then != now:
        marks = f"fingerprint {str(then)[:12]}, these have {str(now)[:12]}"
        raise InputError(f"{folder}: trained on other data ({marks}); give --data as before, or name another folder")
    if before and before["processes"] != world:
        raise InputError(
            f"{folder}: trained by {before['processes']} processes, not {world}; give --devices and --nodes as before"
        )
