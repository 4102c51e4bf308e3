"""The downstream experiment as data: arms that are compared, each a course of phases, and the runs that are wanted."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from lsn_core.cohort import TRAIN, Cohort
from lsn_core.files import InputError, read_yaml
from lsn_core.pool import Examples, cut_and_shifted, radiographs, synthetic, with_labels_of_others
from lsn_core.predictors import NETWORKS
from lsn_core.sampling import Plan
from lsn_core.tasks import TASKS

PACKAGE = Path(__file__).parent
PLANS = (PACKAGE / "downstream.yaml", PACKAGE.parent / "data" / "downstream.yaml")  # in a wheel, and in a checkout
DEGREES = 5.0  # by which each bone of a synthetic joint is turned at most: as unlike as visits are
SECTIONS = {"size", "batch", "copies", "seeds", "networks", "arms", "runs"}


@dataclass(frozen=True)
class Phase:
    """One part of a course."""

    show: tuple[str, ...]  # keys of MATERIALS, which take turns
    updates: int
    rate: float  # the largest; it rises and falls again within the phase
    jitter: float  # strength of the classical augmentation, 0 to 1


@dataclass(frozen=True)
class Course:
    """One run: a task learnt by one network in one arm, from a share of the joints, with a seed."""

    task: str
    network: str
    arm: str
    share: float
    seed: int
    phases: tuple[Phase, ...]
    batch: int
    copies: int

    @property
    def name(self) -> str:
        """Its folder's name: task, network, arm, percent of the joints, seed."""
        return f"{self.task}-{self.network}-{self.arm}-{100 * self.share:g}-{self.seed}"

    @property
    def updates(self) -> int:
        """Of all phases together."""
        return sum(phase.updates for phase in self.phases)

    def at(self, step: int) -> tuple[Phase, int]:
        """The phase of a step, and the step's number within it."""
        for phase in self.phases:
            if step < phase.updates:
                return phase, step
            step -= phase.updates
        raise ValueError(f"the course has no step {step + self.updates}; its last is {self.updates - 1}")

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self) | {"phases": [asdict(phase) | {"show": list(phase.show)} for phase in self.phases]}


@dataclass(frozen=True)
class Experiment:
    """All courses, in the order in which they are run, and what each arm is in a few words."""

    size: int
    courses: tuple[Course, ...]
    tells: dict[str, str]

    def part(self, **wanted: Sequence[Any]) -> "Experiment":
        """The courses whose task, network, arm, share or seed is among those wanted; all values where none is named."""
        for key, some in wanted.items():
            known = list(dict.fromkeys(getattr(course, key) for course in self.courses))
            for value in some:
                if value not in known:
                    raise InputError(f"--{key} {value}: not in the plan; choose from {', '.join(map(str, known))}")
        kept = [c for c in self.courses if all(not some or getattr(c, key) in some for key, some in wanted.items())]
        if not kept:
            asked = ", ".join(f"{key} {', '.join(map(str, some))}" for key, some in wanted.items() if some)
            raise InputError(f"the plan has no run with {asked} together; leave one of these out")
        return replace(self, courses=tuple(kept))

    def shortened(self, updates: int, *, size: int, batch: int) -> "Experiment":
        """The same courses in so many updates, of fewer and smaller images: to see them run, not to compare them."""
        courses = tuple(replace(course, phases=_scaled(course, updates), batch=batch) for course in self.courses)
        return replace(self, size=size, courses=courses)


def _scaled(course: Course, updates: int) -> tuple[Phase, ...]:
    """A course's phases with so many updates in all."""
    share = updates / course.updates
    return tuple(replace(phase, updates=max(1, round(share * phase.updates))) for phase in course.phases)


def read_experiment(path: Path | None) -> Experiment:
    """The experiment in a file, or the project's own without one. Raises `InputError` for a file of another form."""
    path = path or next((plan for plan in PLANS if plan.is_file()), PLANS[-1])
    content = read_yaml(path)
    if not isinstance(content, dict) or set(content) != SECTIONS:
        raise InputError(f"{path}: not a downstream plan; it has the sections {', '.join(sorted(SECTIONS))}")
    try:
        _refuse_numbers(content)
        courses = list(_courses(content))
        tells = {name: arm["tells"] for name, arm in content["arms"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: not a downstream plan ({type(error).__name__}: {error}); correct it") from error
    names = [course.name for course in courses]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"{path}: run {twice} is there twice; list it once")
    return Experiment(content["size"], tuple(courses), tells)


def _courses(content: Mapping[str, Any]) -> Iterator[Course]:
    """The courses of a plan, seed by seed."""
    common = {"batch": content["batch"], "copies": content["copies"]}
    for seed in content["seeds"]:
        for run in content["runs"]:
            for share in run["shares"]:
                if not 0 < share <= 1:
                    raise ValueError(f"share {share} is not above 0 and at most 1")
                for task in run["tasks"]:
                    for arm in run["arms"]:
                        _refuse_unknown(task=(task, TASKS), network=(run["network"], NETWORKS))
                        _refuse_unknown(arm=(arm, content["arms"]))
                        pace = content["networks"][run["network"]][task]
                        phases = _phases(content["arms"][arm]["phases"], **pace)
                        yield Course(task, run["network"], arm, share, seed, phases, **common)


def _phases(given: Sequence[Mapping[str, Any]], *, updates: int, rate: float) -> tuple[Phase, ...]:
    """Phases of an arm, their shares of a network's updates and rate made numbers."""
    found = []
    for one in given:
        unknown = set(one) - {field.name for field in fields(Phase)}
        _refuse_unknown(**{f"setting {key}": (key, Phase.__annotations__) for key in unknown})
        _refuse_unknown(**{f"show {name}": (name, MATERIALS) for name in one["show"]})
        steps, fastest = max(1, round(one["updates"] * updates)), one["rate"] * rate
        found.append(Phase(tuple(one["show"]), steps, fastest, one.get("jitter", 1.0)))
    return tuple(found)


def _refuse_numbers(content: Mapping[str, Any]) -> None:
    """Raise `ValueError` for counts that are none, and for arms whose phases are not all of the updates."""
    counts = {name: content[name] for name in ("size", "batch", "copies")}
    paces = {f"{name}: {task}": pace for name, tasks in content["networks"].items() for task, pace in tasks.items()}
    counts |= {f"{name}: updates": pace["updates"] for name, pace in paces.items()}
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}, and must be a whole number from 1")
    if not content["seeds"] or not all(isinstance(seed, int) and seed >= 0 for seed in content["seeds"]):
        raise ValueError(f"seeds are {content['seeds']!r}, and must be a list of whole numbers from 0")
    for name, arm in content["arms"].items():
        whole = sum(phase["updates"] for phase in arm["phases"])
        if abs(whole - 1) > 1e-6:
            raise ValueError(f"the phases of arm {name} have {whole:g} of the updates, and must have 1 together")


def _refuse_unknown(**given: tuple[str, Mapping[str, Any]]) -> None:
    """Raise `ValueError` for a name that is not among those known."""
    for what, (name, known) in given.items():
        if name not in known:
            raise ValueError(f"{what} {name!r} is none of {', '.join(known)}")


@dataclass(frozen=True)
class Shelf:
    """What the phases of one run draw from."""

    cohort: Cohort
    other: Cohort | None
    course: Course

    @property
    def annotated(self) -> torch.Tensor:
        """Indices of the radiographs that the run may know of."""
        return self.cohort.annotated(self.course.share, seed=self.course.seed)

    def plan(self, radiographs: int) -> Plan:
        """As many synthetic images for each of so many radiographs as make the number that all joints would give."""
        wanted = self.course.copies * len(self.cohort.of(TRAIN))
        return Plan(copies=max(1, round(wanted / radiographs)), degrees=DEGREES, seed=self.course.seed)

    def radiographs(self) -> Examples:
        """The annotated radiographs."""
        return radiographs(self.cohort, self.annotated)

    def synthetic(self) -> Examples:
        """Synthetic joints made of them."""
        return synthetic(self.cohort, self.annotated, self.plan(len(self.annotated)))

    def shuffled(self) -> Examples:
        """The same with the labels of others."""
        return with_labels_of_others(self.synthetic(), torch.Generator().manual_seed(self.course.seed))

    def cut(self) -> Examples:
        """The same made without layers."""
        return cut_and_shifted(self.cohort, self.annotated, self.plan(len(self.annotated)))

    def elsewhere(self) -> Examples:
        """Synthetic joints made of all of another cohort's. Raises `InputError` where there is none."""
        if self.other is None:
            raise InputError(f"{self.course.name}: its arm learns from another cohort; name one with --other")
        index = self.other.of(TRAIN)
        return synthetic(self.other, index, self.plan(len(index)))


MATERIALS: dict[str, Callable[[Shelf], Examples]] = {
    "radiographs": Shelf.radiographs,
    "synthetic": Shelf.synthetic,
    "shuffled": Shelf.shuffled,
    "cut": Shelf.cut,
    "elsewhere": Shelf.elsewhere,
}
