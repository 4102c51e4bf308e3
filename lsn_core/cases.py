"""Cases: joints prepared to be measured, decoded and filled once for any number of generators."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from lsn_core.batch import Batch, concatenate, stack
from lsn_core.detector import COMPUTED_RADIOGRAPHY
from lsn_core.joint import Joint
from lsn_core.motion import COMMANDED_MM
from lsn_core.phantom import Phantom, drawn
from lsn_core.shapes import Image, Layers, Masks, PerItem

CHUNK = 32  # images that are separated and measured at a time
KNOWN = ("name", "joint", "finger")  # of an image, before its numbers

Rows = list[dict[str, Any]]  # of each image: which it is, and its numbers
Model = Callable[[Image, Masks], Layers]  # a `Separator`, or a baseline that is used as one


@dataclass(frozen=True)
class Cases:
    """Joints in frames of one size with outlines widened alike, and what is known of them."""

    batch: Batch
    known: Rows
    rendered: dict[float, Image] = field(default_factory=dict)  # phantoms with so many mm more between their bones
    spacing_mm: float | None = None  # of phantoms, all alike

    def __len__(self) -> int:
        """How many images."""
        return len(self.known)

    @property
    def joints(self) -> list[str]:
        """Which joint each image shows."""
        return [row["joint"] for row in self.known]

    @property
    def drawn(self) -> Masks:
        """The masks as drawn, 0 and 1."""
        return self.batch.drawn.to(self.batch.image.dtype)

    def to(self, device: torch.device | str) -> "Cases":
        """The same on another device."""
        rendered = {delta: image.to(device) for delta, image in self.rendered.items()}
        return Cases(self.batch.to(device), self.known, rendered, self.spacing_mm)


def prepare(joints: Iterable[Joint], *, size: int, dilate_px: float) -> Cases:
    """Decode joints and fill their bones, `CHUNK` at a time; millimetres are left aside. Raises `InputError`."""
    known, batches = [], []
    for some in chunks(joints):
        batches.append(stack(some, size=size, dilate_px=dilate_px))
        known += facts(some)
    return Cases(concatenate(batches), known)


def prepare_phantoms(count: int, *, seed: int, size: int, dilate_px: float) -> dict[str, Cases]:
    """Phantoms "clean", with what they look like at other widths, and as "film": blurred, noisy and compressed."""
    clean, film, rendered = [], [], {delta: [] for delta in COMMANDED_MM}
    for k, phantom in enumerate(tqdm(drawn(count, seed=seed, size=size), total=count, desc="phantoms", unit="image")):
        joint = phantom.render()
        clean.append(joint)
        film.append(COMPUTED_RADIOGRAPHY.expose(joint, seed=k))
        for delta, images in rendered.items():
            images.append(wider(phantom, delta))
    cases = {name: prepare(some, size=size, dilate_px=dilate_px) for name, some in (("clean", clean), ("film", film))}
    images = {delta: torch.stack(some) for delta, some in rendered.items()}
    return cases | {"clean": Cases(cases["clean"].batch, cases["clean"].known, images, clean[0].spacing_mm)}


def wider(phantom: Phantom, delta_mm: float) -> Tensor:
    """The image (1, h, w) of a phantom with `delta_mm` more joint space."""
    return phantom.render(phantom.anatomy.jsw_mm + delta_mm).image


@torch.no_grad()
def separate(model: Model, cases: Cases) -> Layers:
    """The layers that a model finds."""
    image, masks = cases.batch.image, cases.drawn
    parts = zip(image.split(CHUNK), masks.split(CHUNK), strict=True)
    return torch.cat([model(*part) for part in parts])


def in_chunks(measure: Callable[..., dict[str, PerItem]], *planes: Tensor) -> dict[str, PerItem]:
    """What `measure` says of planes (b, ...), `CHUNK` images at a time."""
    parts = [measure(*part) for part in zip(*(plane.split(CHUNK) for plane in planes), strict=True)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def chunks(joints: Iterable[Joint]) -> Iterator[list[Joint]]:
    """Joints in lists of `CHUNK`, the last one shorter."""
    left = iter(joints)
    while some := list(islice(left, CHUNK)):
        yield some


def facts(joints: Iterable[Joint]) -> Rows:
    """Which joints they are."""
    return [{key: getattr(joint, key) for key in KNOWN} for joint in joints]


def rows_of(known: Rows, scores: dict[str, PerItem]) -> Rows:
    """One row for each image: which it is, and its numbers."""
    columns = {name: values.tolist() for name, values in scores.items()}
    return [one | {name: values[i] for name, values in columns.items()} for i, one in enumerate(known)]
