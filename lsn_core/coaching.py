"""Runs of the downstream experiment: each trained in a folder of its own, stopped and resumed at will, then tested."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch.optim import AdamW
from tqdm import trange

from lsn_core.answers import answers_of, write_answers
from lsn_core.checkpoint import checkpoint_path, checkpoints, keep_newest, load_checkpoint, save_checkpoint
from lsn_core.cohort import Cohort
from lsn_core.course import MATERIALS, Course, Experiment, Shelf
from lsn_core.files import InputError, atomic, held, read_json
from lsn_core.pool import Examples
from lsn_core.predictors import NETWORKS, Predictor
from lsn_core.results import write_metrics
from lsn_core.signals import Tell, stop_signals
from lsn_core.tasks import TASKS

WARMUP = 0.05  # of a phase's updates, over which its rate rises
SAVE_SECONDS = 60.0  # between checkpoints
METRICS, ANSWERS, WEIGHTS = "metrics.json", "answers.csv", "network.safetensors"  # in a run's folder once it is done
CHECKPOINTS, LOCK = "checkpoints", ".lock"


@dataclass(frozen=True)
class Place:
    """Where courses are run."""

    folder: Path
    cohort: Cohort
    other: Cohort | None
    device: torch.device
    known: dict[str, Any]  # of the cohorts' origin, for the record


def run_experiment(place: Place, experiment: Experiment, *, tell: Tell) -> bool:
    """Run the courses that are not done; return whether all of them are.

    The same call may run in several processes: each takes courses that no other is at. Ctrl-C saves and returns False.
    Raises `InputError` where a folder holds a run of other settings.
    """
    with stop_signals(tell) as caught:
        for course in experiment.courses:
            folder = place.folder / course.name
            with held(folder / LOCK) as mine:
                if (folder / METRICS).exists():
                    before = read_json(folder / METRICS)["provenance"]
                    _refuse_other(folder, before, course.plain(), place.known.get("cohort"))
                elif mine and not caught:
                    run_course(place, course, stopped=lambda: bool(caught))
    return all((place.folder / course.name / METRICS).exists() for course in experiment.courses)


def run_course(place: Place, course: Course, *, stopped: Callable[[], bool]) -> None:
    """Train and test one course in its folder, from its last checkpoint on where there is one."""
    folder, task = place.folder / course.name, TASKS[course.task]
    torch.manual_seed(course.seed)
    network = NETWORKS[course.network](task.channels, task.outputs)
    network = network.to(place.device, memory_format=torch.channels_last)
    optimizer = AdamW(network.parameters(), weight_decay=1e-2, fused=True)
    start, seconds = _resume(folder, network, optimizer, course, place.known.get("cohort"))
    coach = Coach(place, course, network, optimizer)
    done, more = coach.train(folder, start, before=seconds, stopped=stopped)
    if done < course.updates:
        return
    began = time.monotonic()
    rows, images = answers_of(course.task, place.cohort, network, place.device)
    write_answers(folder / ANSWERS, rows)
    save_predictor(folder / WEIGHTS, network, course)
    shown = course.batch * task.channels * (course.updates - start)
    speeds = {"training": shown / max(more, 1e-9), "inference": images / (time.monotonic() - began)}
    write_metrics(
        folder / METRICS, {"images_a_second": speeds, "seconds": seconds + more}, course=course.plain(), **place.known
    )
    for path in checkpoints(folder / CHECKPOINTS):
        path.unlink()


def save_predictor(path: Path, network: Predictor, course: Course) -> Path:
    """Write a trained network's weights, with the course that made them, atomically."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with atomic(path) as part:
        part.write_bytes(save(tensors, {"course": json.dumps(course.plain())}))
    return path


def load_predictor(path: Path) -> tuple[Predictor, str]:
    """A trained network, ready to be asked, and its task. Raises `InputError` for another file."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors, header = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
        course = json.loads(header["course"])
        task = TASKS[course["task"]]
        network = NETWORKS[course["network"]](task.channels, task.outputs)
        network.load_state_dict(tensors)
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: not a run's network ({error}); train one with 'lsn downstream train'") from error
    return network.eval(), course["task"]


@dataclass(frozen=True)
class Coach:
    """One course being trained."""

    place: Place
    course: Course
    network: Predictor
    optimizer: AdamW

    def train(self, folder: Path, start: int, *, before: float, stopped: Callable[[], bool]) -> tuple[int, float]:
        """Train from step `start`; return the step after the last, and the seconds that it took.

        Saves now and then, and where it is `stopped` before its end.
        """
        shelf, shown = Shelf(self.place.cohort, self.place.other, self.course), {}
        began = saved = time.monotonic()
        spent = 0.0  # on making the examples
        with trange(start, self.course.updates, initial=start, total=self.course.updates, desc=self.course.name) as bar:
            for step in bar:
                phase, number = self.course.at(step)
                name = phase.show[number % len(phase.show)]
                if name not in shown:
                    making = time.monotonic()
                    shown[name] = Shown.of(MATERIALS[name](shelf).to(self.place.device), self.course)
                    spent += time.monotonic() - making
                self._step(step, shown[name])
                now = time.monotonic()
                halt = stopped()
                if halt or now - saved > SAVE_SECONDS:
                    self._save(folder, step + 1, before + now - began - spent)
                    saved = now
                if halt:
                    return step + 1, now - began - spent
        return self.course.updates, time.monotonic() - began - spent

    def _step(self, step: int, shown: "Shown") -> None:
        """One update."""
        phase, number = self.course.at(step)
        random = torch.Generator().manual_seed(1_000_003 * self.course.seed + step)
        index = shown.draw(self.course.batch, random)
        for group in self.optimizer.param_groups:
            group["lr"] = rate(phase.rate, number / phase.updates)
        self.network.train()
        with torch.autocast(self.place.device.type, torch.bfloat16, enabled=self.place.device.type == "cuda"):
            loss = TASKS[self.course.task].loss(self.network, shown.examples, index, phase.jitter, random)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def _save(self, folder: Path, step: int, seconds: float) -> None:
        """A checkpoint of the step."""
        header = {"course": self.course.plain(), **self.place.known, "step": step, "seconds": seconds}
        path = checkpoint_path(folder / CHECKPOINTS, step)
        save_checkpoint(path, {"network": self.network}, {"network": self.optimizer}, header)
        keep_newest(folder / CHECKPOINTS, 1)


@dataclass(frozen=True)
class Shown:
    """Examples, and what batches are drawn from: their places, or pairs of these."""

    examples: Examples
    choices: torch.Tensor

    @classmethod
    def of(cls, examples: Examples, course: Course) -> "Shown":
        """Raises `InputError` where a task needs pairs and no joint has two radiographs."""
        places = torch.arange(len(examples), device=examples.image.device)
        choices = examples.pairs() if TASKS[course.task].in_pairs else places
        if not len(choices):
            raise InputError(f"{course.name}: no joint of its share has two radiographs; take a larger share")
        return cls(examples, choices)

    def draw(self, count: int, random: torch.Generator) -> torch.Tensor:
        """So many of the choices."""
        drawn = torch.randint(len(self.choices), (count,), generator=random)
        return self.choices[drawn.to(self.choices.device)]


def rate(largest: float, place: float) -> float:
    """The learning rate at a place from 0 to 1 of a phase: up in a straight line, then down as a cosine."""
    if place < WARMUP:
        return largest * (0.02 + 0.98 * place / WARMUP)
    return 0.5 * largest * (1 + math.cos(math.pi * (place - WARMUP) / (1 - WARMUP)))


def _resume(folder: Path, network: Predictor, optimizer: AdamW, course: Course, cohort: Any) -> tuple[int, float]:
    """Restore the last checkpoint in place; return the step to go on from, and the seconds that were spent before."""
    saved = checkpoints(folder / CHECKPOINTS)
    if not saved:
        return 0, 0.0
    before = load_checkpoint(saved[-1], {"network": network}, {"network": optimizer})
    _refuse_other(folder, before, course.plain(), cohort)
    return before["step"], before["seconds"]


def _refuse_other(folder: Path, before: dict[str, Any], course: dict[str, Any], cohort: Any) -> None:
    """Raise `InputError` where a folder holds a run of another course, or on another cohort."""
    if before.get("course") != course:
        raise InputError(f"{folder}: was begun with other settings than the plan now has; name another folder")
    if before.get("cohort") != cohort:
        raise InputError(f"{folder}: was begun on another cohort; give --cohort as before, or name another folder")
