"""A cohort: radiographs of known joint space width, split by joint, and the stored layers of those to learn from.

Everything that the downstream experiments need is prepared once, into one file; each of their many runs begins at once.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lsn_core.check import on_one_bone
from lsn_core.data import open_dataset
from lsn_core.detector import COMPUTED_RADIOGRAPHY
from lsn_core.files import InputError, atomic
from lsn_core.intake import Refused
from lsn_core.joint import Joint
from lsn_core.movement import Hinge
from lsn_core.phantom import drawn, visits
from lsn_core.production import Maker, Told
from lsn_core.sampling import Plan
from lsn_core.synthesis import Source

FORMAT = "lsn-cohort-1"
FIRST, TEST_SHARE = 100_000, 0.25  # seed of the first phantom, which no network has learnt from; joints to test on
TRAIN, TEST = "train", "test"


@dataclass(frozen=True)
class Row:
    """What is known of one radiograph in words."""

    name: str
    joint: str
    finger: str
    split: str


@dataclass(frozen=True)
class Cohort:
    """n radiographs, those to learn from first, and the stored layers of these m; light is 1 - layer."""

    rows: tuple[Row, ...]
    image: UInt8[Tensor, "n 1 h w"]
    bones: Bool[Tensor, "n 2 h w"]  # lower, upper
    jsw_mm: Float[Tensor, " n"]  # the truth of phantoms; else as measured
    measured_mm: Float[Tensor, " n"]  # by `jsw_mm` in the separated layers at full size
    spacing_mm: Float[Tensor, " n"]
    light: UInt8[Tensor, "m 3 y x"]
    outlines: UInt8[Tensor, "m 2 y x"]
    hand: Bool[Tensor, "m h w"]
    hinge: Float[Tensor, "m 5"]  # middle x, y; axis x, y; spacing

    @property
    def size(self) -> int:
        """Sides of the radiographs in px."""
        return self.image.shape[-1]

    @property
    def joints(self) -> np.ndarray:
        """The joint of each radiograph."""
        return np.array([row.joint for row in self.rows])

    def of(self, split: str) -> Tensor:
        """Indices of the radiographs of "train" or "test"."""
        return torch.tensor([k for k, row in enumerate(self.rows) if row.split == split])

    def annotated(self, share: float, *, seed: int) -> Tensor:
        """Indices of the radiographs of a share of the training joints, at least one; larger shares hold smaller ones.

        Raises `ValueError` for a share that is not above 0 and at most 1.
        """
        if not 0 < share <= 1:
            raise ValueError(f"share {share} of the joints: give more than 0, and 1 at most")
        names = sorted({row.joint for row in self.rows if row.split == TRAIN})
        order = np.random.default_rng(seed).permutation(len(names))
        kept = {names[k] for k in order[: max(1, round(share * len(names)))]}
        return torch.tensor([k for k, row in enumerate(self.rows) if row.joint in kept])

    def told(self) -> str:
        """How many radiographs of how many joints are in each split."""
        parts = []
        for split in (TRAIN, TEST):
            some = [row.joint for row in self.rows if row.split == split]
            parts.append(f"{len(some)} radiographs of {len(set(some))} joints to {split} on")
        return ", ".join(parts)

    def source(self, index: int) -> Source:
        """The stored layers of a radiograph to learn from."""
        light, outlines = (part[index].float().numpy() / 255 for part in (self.light, self.outlines))
        x, y, along_x, along_y, spacing_mm = self.hinge[index].tolist()
        margin = (light.shape[1] - self.size) // 2
        return Source(light, outlines, self.hand[index].numpy(), Hinge((x, y), (along_x, along_y), spacing_mm), margin)


def of_dataset(path: str | Path) -> Iterator[tuple[Joint, str]]:
    """The joints of a data set's two splits, without those both of whose masks are on one bone."""
    for split in (TRAIN, TEST):
        for joint in open_dataset(path, split=split):
            if not on_one_bone(*joint.masks[1:].bool().numpy()):
                yield joint, split


def of_phantoms(count: int, *, times: int, size: int) -> Iterator[tuple[Joint, str]]:
    """Phantoms as film at so many visits each, half of them diseased; the last quarter is to test on."""
    for number, phantom in enumerate(drawn(count, seed=FIRST, size=size)):
        split = TEST if number >= round((1 - TEST_SHARE) * count) else TRAIN
        for visit, joint in enumerate(visits(phantom, times)):
            yield COMPUTED_RADIOGRAPHY.expose(joint, seed=times * phantom.seed + visit), split


def gather_cohort(some: Iterable[tuple[Joint, str]], *, weights: str, size: int, told: Told) -> Cohort:
    """Measure and separate joints, at `size` px; those to learn from come first. `told` hears of what cannot be used.

    A width that is not known is measured at full size. Raises `InputError` where a split has nothing left.
    """
    measuring, making = (Maker.of(weights, Plan(), size=pixels) for pixels in (None, size))
    parts: dict[str, list[dict[str, Any]]] = {TRAIN: [], TEST: []}
    for joint, split in some:
        try:
            measured_mm = measuring.prepared(joint).own_mm
            known = joint if joint.jsw_mm is not None else replace(joint, jsw_mm=measured_mm)
            parts[split].append(_entry(known, measured_mm, split, making))
        except InputError as error:
            told(Refused(joint.name, str(error)))
    for split, entries in parts.items():
        if not entries:
            raise InputError(f"no radiograph of the {split} split can be used; see above why")
    return _stacked(parts[TRAIN] + parts[TEST])


def _entry(joint: Joint, measured_mm: float, split: str, making: Maker) -> dict[str, Any]:
    """One radiograph as the tensors of a cohort; layers only where it is to learn from."""
    ready = making.prepared(joint)
    entry = {
        "row": Row(joint.name, joint.joint, joint.finger or "unknown", split),
        "image": (ready.joint.image * 255).round().to(torch.uint8),
        "bones": ready.joint.masks[1:].bool(),
        **{"jsw_mm": joint.jsw_mm, "measured_mm": measured_mm, "spacing_mm": ready.joint.spacing_mm},
    }
    return entry | (_stored(ready.source) if split == TRAIN else {})


def _stored(source: Source) -> dict[str, Any]:
    """The stored layers of a joint in 8 bits."""
    eighth = {name: torch.from_numpy(getattr(source, name) * 255).round() for name in ("light", "outlines")}
    hinge = torch.tensor([*source.hinge.middle, *source.hinge.axis, source.hinge.spacing_mm])
    hand = torch.from_numpy(source.hand)
    return {name: plane.to(torch.uint8) for name, plane in eighth.items()} | {"hand": hand, "hinge": hinge}


def _stacked(entries: Sequence[dict[str, Any]]) -> Cohort:
    """Entries as one cohort."""
    names = [field.name for field in fields(Cohort) if field.name != "rows"]
    columns = {name: [entry[name] for entry in entries if name in entry] for name in names}
    tensors = {k: torch.stack(v) if isinstance(v[0], Tensor) else torch.tensor(v) for k, v in columns.items()}
    return Cohort(tuple(entry["row"] for entry in entries), **tensors)


def write_cohort(path: Path, cohort: Cohort, **known: Any) -> Path:
    """Write a cohort and what is known of its origin to one .safetensors file."""
    tensors = {f.name: getattr(cohort, f.name) for f in fields(Cohort) if f.name != "rows"}
    rows = [list(vars(row).values()) for row in cohort.rows]
    with atomic(path) as part:
        part.write_bytes(save(tensors, {"format": FORMAT, "rows": json.dumps(rows), "origin": json.dumps(known)}))
    return Path(path)


def read_cohort(path: Path) -> tuple[Cohort, dict[str, Any]]:
    """A cohort and its origin. Raises `InputError` for another file."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors, header = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a cohort ({error}); write one with 'lsn downstream prepare'") from error
    if header.get("format") != FORMAT:
        raise InputError(f"{path}: not a cohort of this version; write it again with 'lsn downstream prepare'")
    return Cohort(tuple(Row(*row) for row in json.loads(header["rows"])), **tensors), json.loads(header["origin"])
