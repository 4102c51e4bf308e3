"""The ablation as data: variants of one training, each with each seed a run in a folder of its own."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lsn_core.checkpoint import checkpoints
from lsn_core.config import Config, make_config
from lsn_core.data import open_dataset
from lsn_core.evaluation import Bench, bench_parts, load, measure, set_up, write_evaluation
from lsn_core.files import InputError, read_json, read_yaml
from lsn_core.keeper import CHECKPOINTS, LAST
from lsn_core.material import Material, gather
from lsn_core.run import train_run
from lsn_core.signals import Tell

PACKAGE = Path(__file__).parent
PLANS = (PACKAGE / "ablation.yaml", PACKAGE.parent / "data" / "ablation.yaml")  # in a wheel, and in a checkout
SECTIONS = {"seeds", "train", "parts", "variants", "contrasts"}
TRAINED, MEASURED = "metrics.json", "metrics_test.json"  # in a run's folder once it is
ROLES = ("N_S", "N_D", "f_s", "T_1")  # the columns of the paper's Table 2


@dataclass(frozen=True)
class Variant:
    """One row of an ablation."""

    name: str
    tells: str  # what it is, in a few words
    config: Config
    table_2: tuple[bool, ...] | None = None  # which of the `ROLES` play, of the rows of the paper's Table 2

    def folder(self, runs: Path, seed: int) -> Path:
        """Where its run with a seed is."""
        return Path(runs) / f"{self.name}_{seed}"


@dataclass(frozen=True)
class Contrast:
    """A question to an ablation: the mean of some variants less that of others."""

    tells: str
    weights: dict[str, float]  # of each variant; they sum to 0


@dataclass(frozen=True)
class Plan:
    """The variants, the seeds that each is trained with, and what is asked of them."""

    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    contrasts: dict[str, Contrast]

    def part(self, names: Sequence[str], seeds: Sequence[int]) -> "Plan":
        """The named variants and seeds; all where none is named. Raises `InputError` for one that there is not."""
        known = {variant.name: variant for variant in self.variants}
        for name in names:
            if name not in known:
                raise InputError(f"--variant {name}: the plan has no such variant; choose from {', '.join(known)}")
        return replace(self, variants=tuple(known[name] for name in names or known), seeds=tuple(seeds) or self.seeds)


def read_plan(path: Path | None, *, settings: Mapping[str, Any] | None = None) -> Plan:
    """The plan in a file, or the project's own without one, with `settings` that change all of its variants.

    A setting of one stage, STAGE.KEY, changes the variants that have that stage. Raises `InputError` for a file of
    another form, and for settings that no variant knows.
    """
    path = path or next((plan for plan in PLANS if plan.is_file()), PLANS[-1])
    content = read_yaml(path)
    if not isinstance(content, dict) or not {"train", "variants"} <= set(content) <= SECTIONS:
        raise InputError(f"{path}: not a plan of an ablation; it has the sections {', '.join(sorted(SECTIONS))}")
    variants = [
        _variant(path, name, content["train"], given, settings or {}) for name, given in content["variants"].items()
    ]
    contrasts = {name: _contrast(path, name, given, variants) for name, given in content.get("contrasts", {}).items()}
    return Plan(tuple(variants), tuple(content.get("seeds", (0,))), contrasts)


def _contrast(path: Path, name: str, given: Mapping[str, Any], variants: Sequence[Variant]) -> Contrast:
    """One contrast of a plan. Raises `InputError` for a variant that there is not."""
    unknown = {*given["plus"], *given["minus"]} - {variant.name for variant in variants}
    if unknown:
        raise InputError(f"{path}: contrast {name!r} names {sorted(unknown)[0]!r}, which is no variant; correct it")
    plus, minus = ({v: sign / len(given[side]) for v in given[side]} for side, sign in (("plus", 1), ("minus", -1)))
    return Contrast(given["tells"], plus | minus)


def _variant(path: Path, name: str, shared: Mapping, given: Mapping, settings: Mapping[str, Any]) -> Variant:
    """One variant of a plan: what all do, what it does, and what the caller changes. Raises `InputError`."""
    for key in ("tells", "train"):
        if key not in given:
            raise InputError(f"{path}: variant {name!r} lacks {key!r}; write it")
    sources = ((f"{path}, train", shared), (f"{path}, {name}", given["train"]))
    stages = {stage.name for stage in make_config(*sources).stages}
    fitting = {key: value for key, value in settings.items() if "." not in key or key.split(".")[0] in stages}
    config = make_config(*sources, ("--set", fitting))
    roles = given.get("table_2")
    return Variant(name, given["tells"], config, tuple(roles) if roles else None)


def refuse_others(runs: Path, plan: Plan) -> None:
    """Raise `InputError` where a folder of the plan holds a run with other settings than the plan's."""
    for seed in plan.seeds:
        for variant in plan.variants:
            folder = variant.folder(runs, seed)
            known = folder / "config.json"
            if known.exists() and read_json(known)["config"] != plain(replace(variant.config, seed=seed)):
                told = "was trained with other settings than the plan now has"
                raise InputError(f"{folder}: {told}; name another folder for the runs, or delete this one")


def plain(config: Config) -> dict[str, Any]:
    """A config as it stands in a run's config.json."""
    return json.loads(json.dumps(asdict(config)))


def missing(runs: Path, plan: Plan, file: str) -> Iterator[tuple[Variant, int, Path]]:
    """The runs that lack a file, seed by seed: variant, seed and folder."""
    for seed in plan.seeds:
        for variant in plan.variants:
            folder = variant.folder(runs, seed)
            if not (folder / file).exists():
                yield variant, seed, folder


def train_plan(runs: Path, data: str, plan: Plan, *, tell: Tell) -> bool:
    """Train what is not trained yet, seed by seed; return whether all of it is.

    A run that was stopped goes on. Ctrl-C saves, and returns False. `tell` hears of each run. Images are decoded once
    for all variants that widen outlines alike. Raises `InputError` where a run that is there has other settings, and
    where the data has no test split.
    """
    refuse_others(runs, plan)
    open_dataset(data, split="test")  # raises now, not after all is trained
    materials: dict[Any, Material] = {}
    for variant, seed, folder in missing(runs, plan, TRAINED):
        config = replace(variant.config, seed=seed)
        kind = (config.size, config.dilate_px, config.phantoms, config.validation)
        if kind not in materials:
            materials[kind] = gather(data, config)
        tell(f"{folder.name}: training")
        resume = bool(checkpoints(folder / CHECKPOINTS))
        known = {"profile": "ablation", "material": materials[kind], "resume": resume}
        if not train_run(folder, data, config, **known, tell=tell):
            return False
    return True


def measure_plan(runs: Path, data: str, plan: Plan, *, held_out: int, tell: Tell) -> None:
    """Measure what is trained and not measured yet, on the test split and on so many held-out phantoms.

    It is the generator after the last step that is measured: which one is the best would be chosen by numbers of the
    kind that is to be compared. Each run gets its `metrics_test.json`, and each image's numbers beside it.
    """
    tested = open_dataset(data, split="test")
    known = {"data": tested.fingerprint(), "split": "test"}
    benches: dict[Any, Bench] = {}
    for _, seed, folder in missing(runs, plan, MEASURED):
        model = load(str(folder / LAST))
        kind = (model.recipe.size, model.recipe.dilate_px)
        if kind not in benches:
            benches[kind] = set_up(tested, held_out, size=kind[0], dilate_px=kind[1])
        tell(f"{folder.name}: measuring")
        results, rows = measure(bench_parts(model, benches[kind]))
        write_evaluation(folder / MEASURED, model, benches[kind], results, rows, run=folder.name, seed=seed, **known)
