"""What a training learns from and what it is watched by: radiographs of a data set, and phantoms drawn on the spot."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from tqdm import tqdm

from lsn_core.batch import Batch, concatenate, stack
from lsn_core.check import on_one_bone
from lsn_core.config import Config
from lsn_core.data import JointDataset, open_dataset
from lsn_core.detector import COMPUTED_RADIOGRAPHY
from lsn_core.files import InputError
from lsn_core.joint import Joint
from lsn_core.phantom import phantoms
from lsn_core.scene import Sources, sources

FIRST_LEARNT, FIRST_WATCHED, WATCHED = 0, 20_000, 24  # seeds of the phantoms that are learnt from and watched
SHOWN = 4  # joints in a preview
PART = 64  # images that are decoded before they become one batch


@dataclass(frozen=True)
class Material:
    """The images of one training, on the CPU."""

    learn: Sources
    watch: Sources
    names: tuple[str, ...]  # of the radiographs in `learn`, in their order
    left_out: tuple[str, ...]  # radiographs whose two masks are drawn on one bone
    fingerprint: str | None  # of the data set's radiographs in `learn`; None without a data set

    def preview(self, config: Config) -> Batch:
        """A few watched joints: the data's own, or phantoms, which may be shown whatever the data's licence."""
        if config.preview == "held-out":
            return self.watch.radiographs.take(slice(0, SHOWN))
        return drawn_phantoms(config, SHOWN, FIRST_WATCHED, quiet=True)


def gather(data: str | None, config: Config, *, world: int = 1, quiet: bool = False) -> Material:
    """Decode the "train" split of `data`, and draw phantoms, as the stages of `config` ask, for `world` processes.

    `quiet` shows no progress. Raises `InputError` where the data cannot be used or a stage has too little to show.
    """
    if data is None:
        _refuse_no_data(config)
    parts = held_out(open_dataset(data, split="train"), config.validation) if data else None  # before drawing for long
    learn = drawn_phantoms(config, config.phantoms, FIRST_LEARNT, quiet=quiet) if config.phantoms else None
    watch = drawn_phantoms(config, WATCHED, FIRST_WATCHED, quiet=quiet) if config.phantoms else None
    if parts is None:
        material = Material(sources(None, learn), sources(None, watch), (), (), None)
    else:
        training, watched = parts
        radiographs, names, doubted = decode(training, config, title="training images", quiet=quiet)
        others, _, doubted_too = decode(watched, config, title="held-out images", quiet=quiet)
        left_out = tuple(dict.fromkeys(doubted + doubted_too))
        learn, watch = sources(radiographs, learn), sources(others, watch)
        material = Material(learn, watch, names, left_out, training.fingerprint())
    _refuse_too_little(material.learn, config, world)
    return material


def held_out(dataset: JointDataset, share: float) -> tuple[JointDataset, JointDataset]:
    """Split training data by joint into what is learnt from and what is watched; always the same split.

    With a single joint, or a share of 0, the same images serve both.
    """
    joints = sorted({row.joint for row in dataset.rows})
    order = torch.randperm(len(joints), generator=torch.Generator().manual_seed(0)).tolist()
    watched = {joints[i] for i in order[: min(max(1, round(share * len(joints))), len(joints) - 1)]}
    if share == 0 or len(joints) == 1:
        return dataset, dataset
    return dataset.subset(set(joints) - watched), dataset.subset(watched)


def decode(
    dataset: JointDataset, config: Config, *, title: str, quiet: bool = False
) -> tuple[Batch | None, tuple[str, ...], tuple[str, ...]]:
    """The data set as one batch (None if nothing is left), its names, and those left out: both masks on one bone."""
    taken, left_out = [], []

    def usable() -> Iterator[Joint]:
        for joint in tqdm(dataset, desc=title, unit="image", **_silence(quiet)):
            _, lower, upper = joint.masks.bool().numpy()
            doubted = on_one_bone(lower, upper)
            (left_out if doubted else taken).append(joint.name)
            if not doubted:
                yield joint

    return _stacked(usable(), config), tuple(taken), tuple(left_out)


def drawn_phantoms(config: Config, count: int, seed: int, *, quiet: bool = False) -> Batch:
    """Phantoms as a computed-radiography plate shows them, with their layers."""
    made = phantoms(count, seed=seed, size=config.size)
    made = tqdm(made, desc="phantoms", unit="joint", total=count, **_silence(quiet))
    return _stacked((COMPUTED_RADIOGRAPHY.expose(joint, seed=seed + i) for i, joint in enumerate(made)), config)


def _silence(quiet: bool) -> dict[str, bool]:
    """What tqdm is told; where progress may be shown, TQDM_DISABLE of the environment still forbids it."""
    return {"disable": True} if quiet else {}


def _stacked(joints: Iterator[Joint], config: Config) -> Batch | None:
    """Joints as one batch, a part at a time; None without any."""
    parts = iter(lambda: list(islice(joints, PART)), [])
    batches = [stack(part, size=config.size, dilate_px=config.dilate_px) for part in parts]
    return concatenate(batches) if batches else None


def _refuse_no_data(config: Config) -> None:
    """Raise `InputError` where a stage, or the previews, show radiographs."""
    for stage in config.stages:
        if stage.phantoms < 1:
            raise InputError(f"stage {stage.name!r} shows radiographs; name a data set with --data")
    if config.preview == "held-out":
        raise InputError("preview is 'held-out', which are radiographs; name a data set with --data")


def _refuse_too_little(learn: Sources, config: Config, world: int) -> None:
    """Raise `InputError` where a stage has nothing to show in one of `world` processes."""
    for stage in config.stages:
        if stage.phantoms < 1 and learn.radiographs is None:
            raise InputError(f"stage {stage.name!r}: no radiograph is left to learn from; redraw the masks")
        count = len(learn.shown(stage))
        if count < world:
            apart = " whose bones do not overlap" if stage.joints == "apart" else ""
            raise InputError(
                f"stage {stage.name!r}: {count} to learn from{apart}; give one or more to each of {world} processes"
            )
