"""A training run as a folder: config, log, checkpoint, weights, preview, metrics; interrupted and resumed at will."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from tqdm import tqdm

from lsn_core.batch import Batch, concatenate, stack
from lsn_core.checkpoint import load_checkpoint, read_header, save_checkpoint
from lsn_core.config import Config, read_config
from lsn_core.data import JointDataset, open_dataset
from lsn_core.detector import COMPUTED_RADIOGRAPHY
from lsn_core.files import InputError, atomic, write_json, write_text, writing
from lsn_core.networks import Recipe, save_generator
from lsn_core.phantom import phantoms
from lsn_core.results import commit, write_metrics
from lsn_core.scene import Sources, sources
from lsn_core.training import Players, precision, set_up, stage_steps, train
from lsn_core.validation import validate

FIRST_LEARNT, FIRST_WATCHED, WATCHED = 0, 20_000, 24  # seeds of the phantoms that are learnt from and watched
CHECKPOINT, LOG = "checkpoint.safetensors", "log.jsonl"


def held_out(dataset: JointDataset, share: float) -> tuple[JointDataset, JointDataset]:
    """Split training data by joint into what is learnt from and what is watched; always the same split.

    With a single joint, or a share of 0, the same images serve both.
    """
    joints = sorted({row.joint for row in dataset.rows})
    order = torch.randperm(len(joints), generator=torch.Generator().manual_seed(0)).tolist()
    watched = {joints[i] for i in order[: min(max(1, round(share * len(joints))), len(joints) - 1)]}
    if share == 0 or len(joints) == 1:
        return dataset, dataset
    return dataset.subset(set(joints) - watched), dataset.subset(watched)


def decode(dataset: JointDataset, config: Config, title: str) -> Batch:
    """The data set as one batch, with a progress bar."""
    joints, parts = [], []
    for joint in tqdm(dataset, desc=title, unit="image"):
        joints.append(joint)
        if len(joints) == 64:
            parts.append(stack(joints, size=config.size, dilate_px=config.dilate_px))
            joints = []
    parts += [stack(joints, size=config.size, dilate_px=config.dilate_px)] if joints else []
    return concatenate(parts)


def train_run(folder: Path, data: str, config: Config, *, profile: str, resume: bool = False) -> bool:
    """Train into `folder` from the "train" split of `data`; return whether the training is complete.

    Ctrl-C or SIGTERM finishes the step, saves and returns False; `resume` goes on from there with the run's own
    config. Raises `InputError` where the folder already holds a run, or holds none to resume.
    """
    config, before = _prepare(Path(folder), config, resume)
    fabric = Fabric(accelerator="auto", devices=1, precision=precision(config))
    training, watched = held_out(open_dataset(data, split="train"), config.validation)
    origin = {"data": training.fingerprint(), "profile": profile, "seed": config.seed, "config": asdict(config)}
    learn = sources(decode(training, config, "training images"), drawn_phantoms(config, config.phantoms, FIRST_LEARNT))
    watch = sources(decode(watched, config, "held-out images"), drawn_phantoms(config, WATCHED, FIRST_WATCHED))
    write_json(folder / "config.json", {"data": str(data), "profile": profile, "config": asdict(config)})
    torch.manual_seed(config.seed)
    players = set_up(fabric, config)
    if before:
        load_checkpoint(folder / CHECKPOINT, players.modules(), players.optimizers())
    return _Trainer(folder, fabric, players, config, origin, before).go(
        learn.to(fabric.device), watch.to(fabric.device)
    )


def drawn_phantoms(config: Config, count: int, seed: int) -> Batch | None:
    """Phantoms as a computed-radiography plate shows them, with their layers; None without any."""
    if not config.phantoms or not count:
        return None
    film = COMPUTED_RADIOGRAPHY
    made = tqdm(phantoms(count, seed=seed, size=config.size), desc="phantoms", unit="joint", total=count)
    parts = [
        stack([film.expose(joint, seed=seed + i)], size=config.size, dilate_px=config.dilate_px)
        for i, joint in enumerate(made)
    ]
    return concatenate(parts)


def _prepare(folder: Path, config: Config, resume: bool) -> tuple[Config, dict[str, Any] | None]:
    """The config to train with, and the header of the checkpoint to go on from, if any."""
    checkpoint = folder / CHECKPOINT
    if resume and not checkpoint.is_file():
        raise InputError(f"{folder}: no {CHECKPOINT} to resume from; train without --resume")
    if not resume and checkpoint.is_file():
        raise InputError(f"{folder}: already holds a run; continue it with --resume, or name another folder")
    if not resume:
        return config, None
    for stale in folder.glob(".*.part.*"):  # of a session that was killed while saving
        stale.unlink()
    header = read_header(checkpoint)
    try:
        return read_config(header["config"]), header
    except (TypeError, KeyError) as error:
        raise InputError(f"{checkpoint}: written by another version ({error}); train again in another folder") from None


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list instead of dying of them; a second one interrupts at once."""
    caught: list[int] = []

    def note(number: int, _frame: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Trainer:
    """The bookkeeping around one run's loop: log, progress, checkpoints, validation and the final files."""

    def __init__(
        self,
        folder: Path,
        fabric: Fabric,
        players: Players,
        config: Config,
        origin: dict[str, Any],
        before: dict[str, Any] | None,
    ) -> None:
        """`before` is the header of the checkpoint that the run goes on from."""
        self.folder, self.fabric, self.players, self.config, self.origin = folder, fabric, players, config, origin
        self.step = before["step"] if before else 0
        self.spent = before["minutes"] if before else 0.0
        self.began = self.saved = time.monotonic()
        self.lines = _log_until(folder / LOG, self.step) if before else []

    def go(self, learn: Sources, watch: Sources) -> bool:
        """Train, and write what a complete or an interrupted run leaves."""
        write_text(self.folder / LOG, "".join(self.lines))
        with writing(self.folder / LOG), _stop_signals() as caught, (self.folder / LOG).open("a") as log:
            self._loop(learn, watch, log, caught)
        self.save()
        if not caught:
            self.finish(watch)
        return not caught

    def _loop(self, learn: Sources, watch: Sources, log: Any, caught: list[int]) -> None:
        """Run the steps; after each, log it, validate and save when due, and stop when asked to."""
        bar = tqdm(
            total=sum(stage_steps(learn, self.config, self.fabric.world_size)),
            initial=self.step,
            desc=self.folder.name,
            unit="step",
        )

        def on_step(step: int, values: dict[str, float]) -> bool:
            self.step = step
            if step % self.config.validate_every == 0:
                scores = validate(self.players.networks.generator, watch, self.config)
                values = values | {f"held_out_{name}": score for name, score in scores.items()}
            log.write(json.dumps({"step": step, "minutes": round(self.minutes(), 4), **values}) + "\n")
            log.flush()
            bar.update()
            bar.set_postfix({k: f"{v:.3g}" for k, v in values.items() if k in ("supervision", "softness", "anchor")})
            if time.monotonic() - self.saved > 60 * self.config.checkpoint_every:
                self.save()
            return bool(caught)

        with bar:
            train(self.fabric, self.players, learn, self.config, start=self.step, on_step=on_step)

    def minutes(self) -> float:
        """Minutes of training so far, over all sessions of the run."""
        return self.spent + (time.monotonic() - self.began) / 60

    def save(self) -> None:
        """Write the checkpoint."""
        header = {"step": self.step, "minutes": self.minutes(), "config": asdict(self.config)}
        path = self.folder / CHECKPOINT
        save_checkpoint(path, self.players.modules(), self.players.optimizers(), header)
        self.saved = time.monotonic()

    def finish(self, watch: Sources) -> None:
        """Write the weights, a preview of held-out joints and the metrics of the training."""
        from lsn_core.figures import layers_figure

        generator = self.players.networks.generator
        scores = validate(generator, watch, self.config)
        c = self.config
        known = {"commit": commit() or "unknown", **{k: json.dumps(v) for k, v in self.origin.items()}}
        save_generator(
            self.folder / "generator.safetensors",
            getattr(generator, "module", generator),
            Recipe(c.networks, c.head, c.size, c.dilate_px),
            known,
        )
        some = watch.radiographs.take(slice(0, 4))
        with torch.no_grad(), atomic(self.folder / "preview.png") as part:
            layers_figure(some.image, generator.eval()(some.image, some.masks)).savefig(part, dpi=100)
        metrics = {"steps": self.step, "minutes": self.minutes(), "held_out": scores}
        write_metrics(self.folder / "metrics.json", metrics, kind="training", **self.origin)


def _log_until(path: Path, step: int) -> list[str]:
    """The lines of a log up to a step: what came after the checkpoint will be done again."""
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    return [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
