"""What the first process of a training keeps: its journal, its checkpoints, the best generator, the final numbers."""

import copy
import json
import math
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from lightning_fabric import Fabric
from torch import nn
from tqdm import tqdm

from lsn_core.checkpoint import checkpoint_path, keep_newest, save_checkpoint
from lsn_core.config import Config
from lsn_core.files import write_json
from lsn_core.journal import Journal
from lsn_core.material import FIRST_LEARNT, Material
from lsn_core.networks import GENERATOR, Recipe, save_generator
from lsn_core.results import commit, write_metrics
from lsn_core.training import Moment, Players, bare, locate, stage_steps
from lsn_core.validation import validate

CHECKPOINTS, BROKEN, LAST = "checkpoints", "broken.json", "last.safetensors"
EPOCH_PAUSE = 20  # s from the last checkpoint before which an epoch's end asks for none,
EPOCH_COST = 0.02  # and the share of the time that checkpoints at epochs' ends may take
WATCHED_TERMS = ("supervision", "softness", "anchor", "truth")  # beside the progress bar


class Keeper:
    """Hears of each step and keeps what must not be lost; a context manager around the training."""

    def __init__(
        self,
        folder: Path,
        fabric: Fabric,
        players: Players,
        material: Material,
        config: Config,
        origin: dict[str, Any],
        before: dict[str, Any],
    ) -> None:
        """`origin` is where the numbers come from, `before` the header of the checkpoint to go on from, or empty.

        Nothing is written before the context is entered.
        """
        self.folder, self.fabric, self.players, self.config, self.origin = folder, fabric, players, config, origin
        self.material, self.watch = material, material.watch.to(fabric.device)
        self.shown = material.preview(config).to(fabric.device)
        self.total = sum(stage_steps(material.learn, config, fabric.world_size))
        self.step, self.spent = before.get("step", 0), before.get("minutes", 0.0)
        self.last, self.best = before.get("last", {}), before.get("best", {})  # validations: step and scores
        self.selected = copy.deepcopy(self.generator)

    @property
    def generator(self) -> nn.Module:
        """The generator as it is now."""
        return bare(self.players.networks.generator)

    def modules(self) -> dict[str, nn.Module]:
        """The networks by name, with the best generator so far."""
        return self.players.modules() | {"selected": self.selected}

    def __enter__(self) -> "Keeper":
        """Itself, with the journal open and the clock running."""
        for stale in self.folder.rglob(".*.part.*"):  # of a session that was killed while it wrote
            stale.unlink(missing_ok=True)
        self.journal = Journal(self.folder, after=self.step)
        self.bar = tqdm(total=self.total, initial=self.step, desc=self.folder.name, unit="step")
        self.began = self.saved = time.monotonic()
        self.cost = 0.0  # s that the last checkpoint took
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the journal."""
        self.bar.close()
        self.journal.__exit__(kind, error, trace)

    def note(self, step: int, values: dict[str, float]) -> None:
        """Write down a step, validate and save where that is due."""
        self.step = step
        moment = locate(self.material.learn, self.config, step - 1, world=self.fabric.world_size)
        due = step % self.config.validate_every == 0 or step == self.total
        scores = self._validate() if due else {}
        place = {"stage": moment.stage.name, "epoch": moment.epoch + 1, "minutes": round(self.minutes(), 4)}
        self.journal.write(step, place | values, scores)
        self.bar.update()
        self.bar.set_postfix({name: f"{values[name]:.3g}" for name in WATCHED_TERMS if name in values})
        if self._save_is_due(moment):
            self.save()

    def _save_is_due(self, moment: Moment) -> bool:
        """After some minutes, at the end of a stage, and at that of an epoch unless the last one was just saved."""
        epoch = max(EPOCH_PAUSE, self.cost / EPOCH_COST) if moment.closes else math.inf
        pause = min(60 * self.config.checkpoint_every, epoch)
        ends_stage = moment.closes and moment.epoch + 1 == moment.stage.epochs
        return ends_stage or time.monotonic() - self.saved > pause

    def _validate(self) -> dict[str, float]:
        """Score the generator on what is watched, and keep a copy of it where it is the best so far."""
        with self.fabric.autocast():
            scores = validate(self.generator, self.watch, self.config)
        self.last = {"step": self.step, **scores}
        if not self.best or scores["criterion"] < self.best["criterion"]:
            self.best = self.last
            self.selected.load_state_dict(self.generator.state_dict())
        return scores

    def minutes(self) -> float:
        """Minutes of training so far, over all sessions of the run."""
        return self.spent + (time.monotonic() - self.began) / 60

    def save(self) -> None:
        """Write a checkpoint, let go of old ones, and draw the layers as they are now."""
        header = {
            "step": self.step,
            "minutes": self.minutes(),
            "processes": self.fabric.world_size,
            **self.origin,
            "last": self.last,
            "best": self.best,
        }
        began = time.monotonic()
        self.journal.flush()
        folder = self.folder / CHECKPOINTS
        save_checkpoint(checkpoint_path(folder, self.step), self.modules(), self.players.optimizers(), header)
        keep_newest(folder, self.config.keep)
        self.preview(checkpoint_path(folder, self.step).stem, self.generator)
        self.saved = time.monotonic()
        self.cost = self.saved - began

    def preview(self, name: str, generator: nn.Module) -> None:
        """Draw the layers of a few watched joints."""
        with self.fabric.autocast():
            self.journal.preview(name, generator, self.shown)

    def finish(self) -> None:
        """Write the best generator and the last one, the best one's layers, and the metrics of the training."""
        c = self.config
        known = {"commit": commit() or "unknown", **{k: json.dumps(v) for k, v in self.origin.items()}}
        recipe = Recipe(c.networks, c.head, c.size, c.dilate_px)
        for name, generator in ((GENERATOR, self.selected), (LAST, self.generator)):
            save_generator(self.folder / name, generator, recipe, known)
        self.preview("selected", self.selected)
        metrics = {
            "steps": self.step,
            "minutes": self.minutes(),
            "images_per_second": self.step * c.batch * self.fabric.world_size / (60 * self.minutes()),
            "final": self.last,
            "selected": self.best,
            "left_out": list(self.material.left_out),
        }
        write_metrics(self.folder / "metrics.json", metrics, kind="training", **self.origin)

    def broken(self, record: dict[str, Any]) -> Path:
        """Write down what a step drew whose loss was not finite, with the names of its joints; return where."""
        for item in record["items"]:
            real = item["source"] == "radiograph"
            item["name"] = self.material.names[item["index"]] if real else f"phantom {FIRST_LEARNT + item['index']}"
        terms = {name: value if math.isfinite(value) else str(value) for name, value in record["terms"].items()}
        return write_json(self.folder / BROKEN, record | {"terms": terms})
