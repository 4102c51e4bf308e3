"""Training of the outliner: phantoms first, then phantoms and radiographs; stopped and resumed at will."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import AdamW
from tqdm import tqdm, trange

from lsn_core.batch import resize
from lsn_core.check import on_one_bone
from lsn_core.checkpoint import checkpoints, keep_newest, load_checkpoint, save_checkpoint
from lsn_core.data import open_dataset
from lsn_core.detector import COMPUTED_RADIOGRAPHY
from lsn_core.files import InputError
from lsn_core.joint import Joint
from lsn_core.lessons import Examples, Lesson, draw_lesson
from lsn_core.phantom import phantoms
from lsn_core.results import provenance, write_metrics
from lsn_core.segmentation import SHIPPED, SIZE, Outliner, save_outliner
from lsn_core.shapes import Scalar

SAVE_EVERY = 200  # steps between checkpoints
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Schooling:
    """How an outliner is taught."""

    steps: int = 6000
    alone: int = 1500  # of them, at the start, with phantoms alone
    batch: int = 16
    rate: float = 2e-3  # the largest; it rises over `warmup` steps and falls to zero as a cosine
    warmup: int = 100
    phantoms: int = 1000
    share: float = 0.25  # of the lessons after `alone` that show phantoms
    seed: int = 0


def train_outliner(folder: Path, data: str | None, schooling: Schooling) -> Path:
    """Teach an outliner on the "train" split of `data`, or on phantoms alone, in a folder; return its weights' path.

    A folder with checkpoints goes on from the last one. Raises `InputError` where they were made by another schooling
    or with other data.
    """
    torch.manual_seed(schooling.seed)
    outliner = Outliner().to(memory_format=torch.channels_last)
    optimizer = AdamW(outliner.parameters(), weight_decay=1e-2, fused=True)
    drawn, radiographs, fingerprint = gather_examples(data, schooling)
    header = {"schooling": asdict(schooling), "data": fingerprint}
    start = _resume(folder, outliner, optimizer, header)
    values: dict[str, float] = {}
    with trange(start, schooling.steps, initial=start, total=schooling.steps, desc="outliner", unit="step") as bar:
        for step in bar:
            random = torch.Generator().manual_seed(1_000_003 * schooling.seed + step)
            real = radiographs is not None and step >= schooling.alone and step % 100 >= 100 * schooling.share
            lesson = draw_lesson(radiographs if real else drawn, schooling.batch, random)
            for group in optimizer.param_groups:
                group["lr"] = rate(schooling, step)
            values = teach(outliner, optimizer, lesson)
            bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()}, refresh=False)
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == schooling.steps:
                path = folder / CHECKPOINTS / f"step_{step + 1:08d}.safetensors"
                save_checkpoint(path, {"outliner": outliner}, {"outliner": optimizer}, header | {"step": step + 1})
                keep_newest(folder / CHECKPOINTS, 1)
    known = provenance(**header, examples={"phantoms": len(drawn), "radiographs": len(radiographs or ())})
    write_metrics(folder / "metrics.json", {"final": values}, kind="outliner training", **header)
    return save_outliner(
        folder / f"{SHIPPED}.safetensors", outliner, {name: str(value) for name, value in known.items()}
    )


def rate(schooling: Schooling, step: int) -> float:
    """Learning rate of a step."""
    rise = min(1.0, (step + 1) / schooling.warmup)
    return schooling.rate * rise * 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * step / schooling.steps))))


def gather_examples(data: str | None, schooling: Schooling) -> tuple[Examples, Examples | None, str | None]:
    """Phantoms as film, the radiographs whose masks are on two bones, and the data set's fingerprint."""
    made = tqdm(
        phantoms(schooling.phantoms, seed=0, size=SIZE), total=schooling.phantoms, desc="phantoms", unit="joint"
    )
    drawn = examples(COMPUTED_RADIOGRAPHY.expose(joint, seed=i) for i, joint in enumerate(made))
    if data is None:
        return drawn, None, None
    dataset = open_dataset(data, split="train")
    shown = tqdm(dataset, desc="training images", unit="image")
    usable = (joint for joint in shown if not on_one_bone(*joint.masks[1:].bool().numpy()))
    return drawn, examples(usable), dataset.fingerprint()


def examples(joints: Iterable[Joint]) -> Examples:
    """Joints at the network's size."""
    some = [resize(joint, SIZE) for joint in joints]
    return Examples(torch.stack([joint.image for joint in some]), torch.stack([joint.masks.bool() for joint in some]))


def teach(outliner: Outliner, optimizer: AdamW, lesson: Lesson) -> dict[str, float]:
    """One step; return the losses before it."""
    logits, kinds = outliner(lesson.image)
    terms = {
        "outlines": outline_loss(logits[lesson.upright], lesson.masks[lesson.upright]),
        "kind": F.cross_entropy(kinds, lesson.kind),
    }
    optimizer.zero_grad(set_to_none=True)
    sum(terms.values()).backward()
    optimizer.step()
    return {name: value.item() for name, value in terms.items()}


def outline_loss(logits: Tensor, masks: Tensor) -> Scalar:
    """Cross-entropy of each pixel and the complement of the soft Dice coefficient, (b, 3, h, w) each."""
    probability = logits.sigmoid()
    shared, total = (probability * masks).sum(dim=(2, 3)), (probability + masks).sum(dim=(2, 3))
    return F.binary_cross_entropy_with_logits(logits, masks) + (1 - (2 * shared + 1) / (total + 1)).mean()


def _resume(folder: Path, outliner: Outliner, optimizer: AdamW, header: dict[str, Any]) -> int:
    """Restore the last checkpoint of a folder in place; return the step to go on from."""
    saved = checkpoints(folder / CHECKPOINTS)
    if not saved:
        return 0
    before = load_checkpoint(saved[-1], {"outliner": outliner}, {"outliner": optimizer})
    step = before.pop("step")
    if before != header:
        raise InputError(f"{folder}: was begun with other settings or data; name another folder")
    return step
