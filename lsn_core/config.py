"""The settings of one training: every key a profile or `--set key=value` may name."""

from dataclasses import dataclass, fields
from typing import Any

from lsn_core.files import InputError
from lsn_core.losses import SOFT_TISSUE
from lsn_core.networks import HEADS, NETWORKS
from lsn_core.parameters import convert


@dataclass(frozen=True)
class Config:
    """One training. Defaults are the paper's stage 2; distances are px of a 256 px frame."""

    networks: str = "paper"  # key of NETWORKS
    head: str = "sigmoid"  # key of HEADS
    soft_tissue: str = "paper"  # key of SOFT_TISSUE: how L2 is measured
    size: int = 256  # px of the frame
    dilate_px: float = 1.0  # how far masks are widened
    steps: int = 9300  # optimiser steps of each network; 100 epochs of 93 batches
    minutes: float = 0.0  # stop after so much wall-clock time, however many steps were made; 0 for no limit
    batch: int = 12
    lr_generator: float = 1e-4
    lr_segmenter: float = 1e-4
    lr_discriminator: float = 5e-4
    reconstruction: float = 0.6  # weight of L0 (Eq. 7)
    supervision: float = 0.3  # weight of L1 (Eq. 8)
    softness: float = 0.1  # weight of L2 (Eq. 9)
    anchor: float = 0.0  # weight of the harmonic anchor; not in the paper
    shift_x: float = 20.0  # largest random movement of each bone, px right or left
    shift_y: float = 30.0  # px up or down
    shift_degrees: float = 10.0
    validation: float = 0.1  # share of the training joints that is held out
    validate_every: int = 100  # steps
    checkpoint_every: float = 2.0  # minutes
    precision: str = "auto"  # "auto", "32-true" or "bf16-mixed"
    seed: int = 0


CHOICES = {
    "networks": tuple(NETWORKS),
    "head": tuple(HEADS),
    "soft_tissue": tuple(SOFT_TISSUE),
    "precision": ("auto", "32-true", "bf16-mixed"),
}
AT_LEAST = {"size": 32, "steps": 1, "batch": 1, "validate_every": 1}


def make_config(*sources: tuple[str, dict[str, Any]]) -> Config:
    """Build a config from (where it was written, {key: value}) sources; later ones win, text takes a key's type.

    Raises `InputError` for an unknown key, a value of another type, or one outside its choices or range.
    """
    kinds = {field.name: field.type for field in fields(Config)}
    values: dict[str, Any] = {}
    for origin, given in sources:
        for key, value in given.items():
            if key not in kinds:
                raise InputError(f"{origin}: {key!r} is no training setting; known are {', '.join(kinds)}")
            values[key] = _fit(origin, key, value, kinds[key])
    return Config(**values)


def _fit(origin: str, key: str, value: Any, kind: Any) -> Any:
    """One value as its field's type, within its range."""
    try:
        fitted = convert(value, getattr(kind, "__name__", kind))
    except (ValueError, TypeError):
        raise InputError(f"{origin}: {key} is {value!r}, which is not {kind.__name__}; correct it") from None
    if key in CHOICES and fitted not in CHOICES[key]:
        raise InputError(f"{origin}: {key} is {fitted!r}; choose one of {', '.join(CHOICES[key])}")
    if not isinstance(fitted, str) and fitted < AT_LEAST.get(key, 0):
        raise InputError(f"{origin}: {key} is {fitted}; give at least {AT_LEAST.get(key, 0)}")
    if key == "size" and fitted % 32:
        raise InputError(f"{origin}: size is {fitted}; give a multiple of 32, which the networks halve five times")
    return fitted
