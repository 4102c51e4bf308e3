"""The settings of one training: every key a profile or `--set key=value` may name."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from lsn_core.files import InputError
from lsn_core.losses import SOFT_TISSUE
from lsn_core.networks import HEADS, NETWORKS
from lsn_core.parameters import convert
from lsn_core.stage import PAPER, PRESETS, Stage, Weights


@dataclass(frozen=True)
class Config:
    """One training. Defaults are the paper's; distances are px of a 256 px frame."""

    networks: str = "paper"  # key of NETWORKS
    head: str = "sigmoid"  # key of HEADS
    soft_tissue: str = "paper"  # key of SOFT_TISSUE: how L2 is measured
    start: str = ""  # weights that the generator starts from: a run's folder, a file or a shipped name; else fresh ones
    size: int = 256  # px of the frame
    dilate_px: float = 1.0  # how far masks are widened
    batch: int = 12  # of each process
    stages: tuple[Stage, ...] = PAPER  # in files: a preset's name, or the fields of each stage below its name
    phantoms: int = 0  # how many are drawn for stages that show some
    mirror: float = 0.0  # share of the images that is shown mirrored, left to right
    shift_x: float = 20.0  # largest random movement of each bone, px right or left
    shift_y: float = 30.0  # px up or down
    shift_degrees: float = 10.0
    validation: float = 0.1  # share of the training joints that is held out
    validate_every: int = 100  # steps
    checkpoint_every: float = 2.0  # minutes
    keep: int = 2  # checkpoints
    preview: str = "phantoms"  # or "held-out": the joints shown in previews
    precision: str = "auto"  # "auto", "32-true" or "bf16-mixed"
    seed: int = 0


CHOICES = {
    "networks": tuple(NETWORKS),
    "head": tuple(HEADS),
    "soft_tissue": tuple(SOFT_TISSUE),
    "precision": ("auto", "32-true", "bf16-mixed"),
    "preview": ("phantoms", "held-out"),
    "joints": ("apart", "all"),
}
AT_LEAST = {"size": 32, "batch": 1, "validate_every": 1, "keep": 1, "epochs": 1, "halve_every": 1, "shifts": 1}
AT_MOST = {"mirror": 1, "validation": 0.9, "untouched": 1, "phantoms": 1_000_000}
SHARES = {"phantoms", "untouched"}  # of a stage


def make_config(*sources: tuple[str, Mapping[str, Any]]) -> Config:
    """Build a config from (where it was written, {key: value}) sources; later ones win, text takes a key's type.

    A setting of one stage is named STAGE.KEY, a weight STAGE.after.TERM. Raises `InputError` for an unknown key, a
    value of another type, or one outside its choices or range.
    """
    config = Config()
    for origin, given in sources:
        for key, value in given.items():
            config = _set(origin, config, key, value)
    for stage in config.stages:
        if stage.phantoms and not config.phantoms:
            raise InputError(
                f"{sources[-1][0]}: stage {stage.name!r} shows phantoms; say with phantoms=N how many to draw"
            )
    return config


def _set(origin: str, config: Config, key: str, value: Any) -> Config:
    """The config with one key set."""
    name, _, rest = key.partition(".")
    if rest:
        stages = {stage.name: stage for stage in config.stages}
        if name not in stages:
            raise InputError(f"{origin}: {key!r}: there is no stage {name!r}; there are {', '.join(stages)}")
        stages[name] = _set_field(origin, stages[name], rest, value)
        return replace(config, stages=tuple(stages.values()))
    if key == "stages":
        return replace(config, stages=_stages(origin, value))
    return _set_field(origin, config, key, value)


def _stages(origin: str, given: Any) -> tuple[Stage, ...]:
    """Stages by a preset's name, or from the fields of each."""
    if isinstance(given, str) and given in PRESETS:
        return PRESETS[given]
    if not isinstance(given, Mapping) or not all(isinstance(part, Mapping) for part in given.values()) or not given:
        raise InputError(
            f"{origin}: stages is {given!r}; name one of {', '.join(PRESETS)}, or list each stage's settings"
        )
    stages = []
    for name, values in given.items():
        stage = Stage(str(name), epochs=1)
        for key, value in values.items():
            stage = _set_field(f"{origin}, stage {name}", stage, key, value)
        stages.append(stage)
    return tuple(stages)


def _set_field(origin: str, part: Any, key: str, value: Any) -> Any:
    """A config, a stage or its weights with one field set, by a dotted key or from a mapping."""
    name, _, rest = key.partition(".")
    kinds = {field.name: field.type for field in fields(part) if field.name != "name"}
    if name not in kinds:
        raise InputError(f"{origin}: {key!r} is no training setting; known are {', '.join(kinds)}")
    if kinds[name] is Weights:
        weights = getattr(part, name) if rest else Weights()
        for term, weight in {rest: value}.items() if rest else _mapping(origin, name, value).items():
            weights = _set_field(origin, weights, term, weight)
        return replace(part, **{name: weights})
    return replace(part, **{name: _fit(origin, part, name, value, kinds[name])})


def _mapping(origin: str, name: str, value: Any) -> Mapping[str, Any]:
    """`value`, which must hold a weight for each of its terms."""
    if not isinstance(value, Mapping):
        raise InputError(f"{origin}: {name} is {value!r}; write term: weight pairs")
    return value


def _fit(origin: str, part: Any, key: str, value: Any, kind: Any) -> Any:
    """One value as its field's type, within its range."""
    try:
        fitted = convert(value, getattr(kind, "__name__", kind))
    except (ValueError, TypeError):
        raise InputError(f"{origin}: {key} is {value!r}, which is not {kind.__name__}; correct it") from None
    if key in CHOICES and fitted not in CHOICES[key]:
        raise InputError(f"{origin}: {key} is {fitted!r}; choose one of {', '.join(CHOICES[key])}")
    if isinstance(fitted, str):
        return fitted
    most = 1 if isinstance(part, Stage) and key in SHARES else AT_MOST.get(key)
    if fitted < AT_LEAST.get(key, 0) or (most is not None and fitted > most):
        limits = f"at least {AT_LEAST.get(key, 0)}" + ("" if most is None else f" and at most {most}")
        raise InputError(f"{origin}: {key} is {fitted}; give {limits}")
    if key == "size" and fitted % 32:
        raise InputError(f"{origin}: size is {fitted}; give a multiple of 32, which the networks halve five times")
    return fitted


def read_config(values: Mapping[str, Any]) -> Config:
    """The config whose `dataclasses.asdict` this is; raises `TypeError` where it is another version's."""
    stages = [
        Stage(**{**stage, "before": Weights(**stage["before"]), "after": Weights(**stage["after"])})
        for stage in values["stages"]
    ]
    return Config(**{**values, "stages": tuple(stages)})
