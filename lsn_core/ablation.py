"""The ablation as data: variants of one training, each with each seed a run in a folder of its own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lsn_core.checkpoint import checkpoints
from lsn_core.config import Config, make_config
from lsn_core.files import InputError, read_yaml
from lsn_core.keeper import CHECKPOINTS
from lsn_core.material import Material, gather
from lsn_core.run import train_run

PACKAGE = Path(__file__).parent
PLANS = (PACKAGE / "ablation.yaml", PACKAGE.parent / "data" / "ablation.yaml")  # in a wheel, and in a checkout
SECTIONS = {"seeds", "train", "parts", "variants"}
ROLES = ("N_S", "N_D", "f_s", "T_1")  # the columns of the paper's Table 2

Tell = Callable[[str], None]


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
class Plan:
    """The variants and the seeds that each is trained with."""

    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]

    def part(self, names: Sequence[str], seeds: Sequence[int]) -> "Plan":
        """The named variants and seeds; all where none is named. Raises `InputError` for one that there is not."""
        known = {variant.name: variant for variant in self.variants}
        for name in names:
            if name not in known:
                raise InputError(f"--variant {name}: the plan has no such variant; choose from {', '.join(known)}")
        return Plan(tuple(known[name] for name in names or known), tuple(seeds) or self.seeds)


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
    return Plan(tuple(variants), tuple(content.get("seeds", (0,))))


def _variant(path: Path, name: str, shared: Mapping, given: Mapping, settings: Mapping[str, Any]) -> Variant:
    """One variant of a plan: what all do, what it does, and what the caller changes."""
    sources = ((f"{path}, train", shared), (f"{path}, {name}", given["train"]))
    stages = {stage.name for stage in make_config(*sources).stages}
    fitting = {key: value for key, value in settings.items() if "." not in key or key.split(".")[0] in stages}
    config = make_config(*sources, ("--set", fitting))
    roles = given.get("table_2")
    return Variant(name, given["tells"], config, tuple(roles) if roles else None)


def train_plan(runs: Path, data: str, plan: Plan, *, tell: Tell) -> bool:
    """Train what is not trained yet, seed by seed; return whether all of it is.

    A run that was stopped goes on. Ctrl-C saves, and returns False. `tell` hears of each run. Images are decoded once
    for all variants that widen outlines alike.
    """
    materials: dict[Any, Material] = {}
    for seed, variant in ((seed, variant) for seed in plan.seeds for variant in plan.variants):
        folder, config = variant.folder(runs, seed), replace(variant.config, seed=seed)
        if (folder / "metrics.json").exists():
            continue
        kind = (config.size, config.dilate_px, config.phantoms, config.validation)
        if kind not in materials:
            materials[kind] = gather(data, config)
        tell(f"{folder.name}: training")
        resume = bool(checkpoints(folder / CHECKPOINTS))
        known = {"profile": "ablation", "material": materials[kind], "resume": resume}
        if not train_run(folder, data, config, **known, tell=tell):
            return False
    return True
