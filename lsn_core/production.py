"""Production of synthetic data sets: each radiograph separated once and shown at many joint space widths.

Images are streamed: a stopped production goes on where it was, and what is done of it is whole. Each image can be made
again from its row of labels.csv.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from lsn_core.batch import resize
from lsn_core.data import open_dataset
from lsn_core.export import abandoned_on_error
from lsn_core.files import InputError, read_bytes, read_json, write_json, write_text, writing
from lsn_core.images import write_image, write_mask
from lsn_core.intake import Candidate, Refused
from lsn_core.joint import Joint
from lsn_core.jsw import contact_mm, measure
from lsn_core.labels import BONES, FIELDS, LABELS, as_csv, label, movement_of, read_labels
from lsn_core.manifest import COLUMNS, MANIFEST
from lsn_core.movement import find_hinge
from lsn_core.networks import Separator, load_generator, weights_path
from lsn_core.pack import SUFFIX, pack
from lsn_core.sampling import Plan
from lsn_core.segmentation import outliner_path
from lsn_core.shapes import Layers
from lsn_core.synthesis import Source, settled

BONES_MM = (8.0, 20.0)  # how wide the bones of an adult's joint are: 10 to 18 mm in the public data
RECIPE = "recipe.json"  # of a production: what must be the same when it goes on

Told = Callable[[Refused], None]


@dataclass(frozen=True)
class Maker:
    """What is the same for all images of a production."""

    separate: Separator
    weights: str  # SHA-256
    plan: Plan
    size: int | None  # px of the images; None: each source's own
    masks: str = ""  # SHA-256 of the network that draws masks where nobody has

    @classmethod
    def of(cls, weights: str, plan: Plan, *, size: int | None, outlines: str = "outlines") -> "Maker":
        """With a generator and an outliner by their names or files. Raises `InputError`."""
        return cls(
            load_generator(weights), file_hash(weights_path(weights)), plan, size, file_hash(outliner_path(outlines))
        )

    def prepared(self, joint: Joint) -> "Prepared":
        """A joint at the production's size, separated. Raises `InputError` where its widths are not known in mm."""
        if not joint.spacing_mm:
            raise InputError(f"{joint.name}: has no pixel spacing, so no widths in mm; state it with --spacing-mm")
        width = contact_mm(joint.masks.numpy() > 0, joint.spacing_mm)
        if width and not BONES_MM[0] <= width <= BONES_MM[1]:
            told = f"at {joint.spacing_mm:.4g} mm a pixel its bones are {width:.3g} mm wide, which no adult's are"
            raise InputError(f"{joint.name}: {told}; correct the spacing")
        joint = resize(joint, self.size or joint.image.shape[-1])
        masks = joint.masks[None]
        wide = self.separate.widen(masks)
        with torch.no_grad():
            layers = settled(self.separate(joint.image[None], masks), wide)
        space = measure(layers[0].numpy(), masks[0].numpy() > 0, spacing_mm=joint.spacing_mm)
        if space is None:
            raise InputError(f"{joint.name}: no joint space was found in its layers; redraw its masks")
        hinge = find_hinge(masks, spacing_mm=joint.spacing_mm)
        return Prepared(joint, layers, Source.of(layers, wide, masks, hinge), space.jsw_mm)

    def rows(self, ready: "Prepared", split: str) -> list[dict[str, str]]:
        """The labels of all copies of a joint."""
        movements = self.plan.movements(ready.joint.name, ready.own_mm, reach_mm=ready.source.reach_mm)
        known = {"split": split, "seed": str(self.plan.seed), "weights": self.weights}
        known["outlines"] = self.masks if ready.joint.outlined else ""
        return [label(ready.joint, ready.source.hinge, ready.own_mm, by, k) | known for k, by in enumerate(movements)]


@dataclass(frozen=True)
class Prepared:
    """A joint, its stored layers, and its own joint space width."""

    joint: Joint
    layers: Layers
    source: Source
    own_mm: float


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


def produce(out: Path, some: Iterable[Candidate], maker: Maker, *, told: Told) -> Iterator[int]:
    """Write the copies of each usable radiograph below `out`; yield how many images each one gave.

    `told` hears of those that are refused. The same call goes on after it was stopped. Raises `InputError` where `out`
    was begun with another recipe, and where nothing could be used.
    """
    _begin(out, maker)
    rows = _whole(read_labels(out / LABELS), maker.plan.copies)
    write_text(out / LABELS, as_csv(rows, FIELDS, header=True))
    done = {row["source"] for row in rows}
    with abandoned_on_error(ThreadPoolExecutor(os.cpu_count())) as pool:  # most of the time goes into PNG files
        for candidate in some:
            made = [] if candidate.name in done else _copies(out, candidate, maker, pool, told)
            with writing(out / LABELS), (out / LABELS).open("a", encoding="utf-8") as file:
                file.write(as_csv(made, FIELDS, header=False))
            rows += made
            yield len(made)
    if not rows:
        _discard(out)
        raise InputError(f"{out}: none of the radiographs could be used, so nothing was written there")
    write_text(out / MANIFEST, as_csv(rows, (*COLUMNS, "jsw_mm"), header=True))


def workplace(out: Path) -> Path:
    """The folder that a production is written to: `out`, or one beside the packed file that it will become.

    Raises `InputError` where that file or the table beside it is there already.
    """
    if out.suffix != SUFFIX:
        return out
    folder, table = out.with_suffix(".part"), out.with_suffix(".csv")
    for path in (out,) if (folder / RECIPE).exists() else (out, table):
        if path.exists():
            raise InputError(f"{path}: exists already; name another file")
    return folder


def _begin(out: Path, maker: Maker) -> None:
    """Write down the recipe. Raises `InputError` where another one is there, or a folder that holds something else."""
    recipe = {"plan": asdict(maker.plan), "weights": maker.weights, "size": maker.size, "outlines": maker.masks}
    recipe["plan"]["like"] = list(maker.plan.like)
    if (out / RECIPE).exists():
        if read_json(out / RECIPE) != recipe:
            raise InputError(f"{out}: was begun with another plan or other weights; name another folder")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: holds other files; name a new folder")
    else:
        write_json(out / RECIPE, recipe)


def _discard(out: Path) -> None:
    """Remove a production that made nothing."""
    for name in (LABELS, RECIPE):
        (out / name).unlink()
    with suppress(OSError):  # it holds something else, or is where the user is
        out.rmdir()


def _whole(rows: list[dict[str, str]], copies: int) -> list[dict[str, str]]:
    """The rows of the sources all of whose copies are listed."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["source"]] = counts.get(row["source"], 0) + 1
    return [row for row in rows if counts[row["source"]] == copies]


def _copies(
    out: Path, candidate: Candidate, maker: Maker, pool: ThreadPoolExecutor, told: Told
) -> list[dict[str, str]]:
    """Write all copies of a radiograph and return their labels; none where it is refused."""
    joint = candidate.take()
    try:
        if isinstance(joint, Refused):
            raise InputError(joint.why)
        ready = maker.prepared(replace(joint, name=candidate.name))
    except InputError as error:
        told(Refused(candidate.name, str(error)))
        return []
    rows = maker.rows(ready, candidate.split)
    list(pool.map(lambda row: write_copy(out, ready.source, row), rows))
    return rows


def write_copy(out: Path, source: Source, row: dict[str, str]) -> None:
    """Make one image from its label and write it, 16-bit, with its masks."""
    movement = movement_of(row)
    write_image(out / row["image"], source.picture(movement))
    for name, mask in zip(BONES, source.masks(movement)[1:], strict=True):
        write_mask(out / row[name], mask)


def packed(folder: Path, out: Path) -> Path:
    """Put a finished production into one file, with its labels beside it as a .csv, and remove the folder."""
    shutil.copy(folder / LABELS, out.with_suffix(".csv"))
    pack(open_dataset(folder, split="all"), out)
    shutil.rmtree(folder)
    return out
