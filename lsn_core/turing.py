"""The visual Turing test: a set of radiographs, some of them synthetic, that tells by nothing but what they show.

Both halves come from other joints, show the same fingers, and have been through the same sizes, windows and files.
The truth lies in a key apart; the set holds only its hash, so that nobody can change it later.
"""

import hashlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Picture
from tqdm import tqdm

from lsn_core.compare import Sample, measure
from lsn_core.data import open_dataset
from lsn_core.dataset import JointDataset
from lsn_core.files import InputError, atomic, write_json
from lsn_core.joint import Joint
from lsn_core.readings import FORMAT, REAL, SYNTHETIC
from lsn_core.rows import Row

SET, SET_FORMAT = "set.json", "lsn-turing-1"
ANSWERS = (REAL, SYNTHETIC)
WINDOW = (0.5, 99.5)  # percentiles of an image that are shown nearly black and nearly white
SHOWN = (0.03, 0.97)  # display values that they become
FEWER = 0.8  # px shown over px digitised, at most
TURN, ASIDE, ZOOM = 3.0, 0.02, 1.12  # degrees, share of the frame, magnification: how each picture is cropped again
STAMP = 946_684_800  # seconds since 1970 that every file says it was changed at: the first day of 2000


@dataclass(frozen=True)
class Design:
    """How many radiographs a set holds, and how they are shown."""

    real: int = 50
    synthetic: int = 50
    training: int = 10  # shown first with their answers, half of each
    size: int = 192  # px; smaller than what was digitised, so that no pixel of an older grid is left
    seed: int = 0  # of which are chosen, and in which order they come

    def __post_init__(self) -> None:
        """Raise `InputError` for a set that cannot be."""
        if min(self.real, self.synthetic) < 1 or self.training < 0 or self.size < 32:
            raise InputError("a set needs a real and a synthetic image, training 0 or more, and 32 px or more")


@dataclass(frozen=True)
class Drawn:
    """A radiograph that was drawn for a set."""

    dataset: JointDataset
    index: int
    answer: str  # of ANSWERS

    @property
    def row(self) -> Row:
        """What its data set says of it."""
        return self.dataset.rows[self.index]


def assemble(data: str, synthetic: str, out: Path, key: Path, design: Design, *, split: str = "test") -> list[Row]:
    """Write a set to the folder `out` and its key to the file `key`; return what the data sets say of its images.

    Real images are of a split of `data`, synthetic ones all of the data set `synthetic`. Raises `InputError` where
    there is something already, where the key would lie in the set, and where there are too few joints.
    """
    _refuse_places(out, key)
    halves = open_dataset(data, split=split), open_dataset(synthetic, split="all")
    shown, training = choose(halves, design)
    truth = {f"{k:03d}": one for k, one in enumerate(shown)}
    practice = {f"t{k:02d}": one for k, one in enumerate(training)}
    random = np.random.default_rng((design.seed, 1))
    for folder, some in (("images", truth), ("training", practice)):
        for name, one in some.items():
            joint = as_shown(one.dataset[one.index], design.size, random)
            write_shown(out / folder / f"{name}.png", np.round(255 * joint.image[0].numpy()).astype(np.uint8))
    salt = secrets.token_hex(16)  # else who has the data and guesses the seed could make the key again by its hash
    secret = {
        "format": FORMAT,
        "salt": salt,
        "seed": design.seed,
        "truth": {name: one.answer for name, one in truth.items()},
    }
    secret |= {"sources": {name: told(one.row) for name, one in (truth | practice).items()}}
    write_json(key, secret)
    listed = [{"name": name, "file": f"images/{name}.png"} for name in truth]
    taught = [{"name": k, "file": f"training/{k}.png", "answer": one.answer} for k, one in practice.items()]
    known = {"format": SET_FORMAT, "key_sha256": hashlib.sha256(key.read_bytes()).hexdigest(), "positive": SYNTHETIC}
    write_json(out / SET, known | {"size": design.size, "images": listed, "training": taught})
    os.utime(out / SET, (STAMP, STAMP))
    return [one.row for one in (*shown, *training)]


def _refuse_places(out: Path, key: Path) -> None:
    """Raise `InputError` for a set that would be mixed with other files, and a key that lies where a rater looks."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: holds other files; name a new folder")
    if key.exists():
        raise InputError(f"{key}: exists already; name another file")
    if key.resolve().is_relative_to(out.resolve()):
        raise InputError(f"{key}: lies in the set, where a rater finds it; name a file outside {out}")


def told(row: Row) -> dict[str, Any]:
    """What the key says of an image's origin."""
    return {"name": row.name, "joint": row.joint, "finger": row.finger}


def person(row: Row) -> str:
    """Whose joint it is; the joint itself where no person is known."""
    return row.subject or row.joint


def choose(halves: tuple[JointDataset, JointDataset], design: Design) -> tuple[list[Drawn], list[Drawn]]:
    """The set in its order, and the training examples: one image of a joint, no person in both halves.

    Fingers take turns, the same in both halves. Raises `InputError` where there are too few.
    """
    random = np.random.default_rng(design.seed)
    pools = _pools(halves, random)
    wanted = design.real + (design.training + 1) // 2, design.synthetic + design.training // 2
    taken = [_in_turn(pool, count) for pool, count in zip(pools, wanted, strict=True)]
    for name, some, count in zip(ANSWERS, taken, wanted, strict=True):
        if len(some) < count:
            told = f"{len(some)} {name} images are of fingers that both halves have and of joints of their own"
            asked = f"{count} are asked for, the training examples among them"
            raise InputError(f"{told}, and {asked}; ask for fewer, or give more data or another split")
    first = [some[:count] for some, count in zip(taken, (design.real, design.synthetic), strict=True)]
    rest = [some[count:] for some, count in zip(taken, (design.real, design.synthetic), strict=True)]
    shown, training = ([*a, *b] for a, b in (first, rest))
    return [shown[i] for i in random.permutation(len(shown))], [training[i] for i in random.permutation(len(training))]


def _pools(
    halves: tuple[JointDataset, JointDataset], random: np.random.Generator
) -> tuple[dict[str, list[Drawn]], dict[str, list[Drawn]]]:
    """Of each half a shuffled list for every finger, one image a joint; who is in both takes sides by turns."""
    listed = [_one_a_joint(dataset, answer, random) for dataset, answer in zip(halves, ANSWERS, strict=True)]
    known, others = ({person(one.row): str(one.row.finger) for one in some} for some in listed)
    both = sorted(filter(others.__contains__, known), key=known.__getitem__)  # finger by finger, else shuffled
    side = {name: k % 2 for k, name in enumerate(both)}
    fingers = sorted({str(one.row.finger) for one in listed[0]} & {str(one.row.finger) for one in listed[1]})
    first, second = (
        {f: [o for o in some if str(o.row.finger) == f and side.get(person(o.row), k) == k] for f in fingers}
        for k, some in enumerate(listed)
    )
    least = {finger: min(len(first[finger]), len(second[finger])) for finger in fingers}  # else fingers would tell
    return tuple({finger: pool[finger][: least[finger]] for finger in fingers} for pool in (first, second))


def _one_a_joint(dataset: JointDataset, answer: str, random: np.random.Generator) -> list[Drawn]:
    """One image of each joint, joints and images at random."""
    chosen: dict[str, Drawn] = {}
    for index in random.permutation(len(dataset)).tolist():
        chosen.setdefault(dataset.rows[index].joint, Drawn(dataset, index, answer))
    return list(chosen.values())


def _in_turn(pool: dict[str, list[Drawn]], count: int) -> list[Drawn]:
    """Up to `count` of a pool, one finger after the other."""
    queues = {finger: iter(some) for finger, some in pool.items()}
    return list(_turns(queues, min(count, sum(map(len, pool.values())))))


def _turns(queues: dict[str, Iterator[Drawn]], count: int) -> Iterator[Drawn]:
    """`count` of what is in the queues, which hold as many, one from each by turns."""
    for finger in cycle(queues):
        if count == 0:
            return
        one = next(queues[finger], None)
        if one is not None:
            count -= 1
            yield one


def as_shown(joint: Joint, size: int, random: np.random.Generator) -> Joint:
    """A joint as every one of a set is shown: cropped again at random, `size` px, one window, 8 bits; masks follow.

    Each picture is turned and shifted a little as a whole, then averaged down: the blocks of an older JPEG lie nowhere
    in particular, and nothing of the digitised pixels is left by which moved bones could be told. Raises `InputError`
    for an image that has too few pixels for that.
    """
    import cv2

    side = joint.image.shape[-1]
    if size > FEWER * side:
        least = f"ask for {int(FEWER * side)} px or fewer, or give larger ones"
        raise InputError(f"{joint.name}: its {side} px are too few to be shown at {size}; {least}")
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2,) * 2, random.uniform(-TURN, TURN), ZOOM)
    matrix[:, 2] += random.uniform(-ASIDE, ASIDE, 2) * side
    image, *masks = (
        cv2.resize(_warped(plane.numpy(), matrix), (size, size), interpolation=cv2.INTER_AREA)
        for plane in (*joint.image, *joint.masks)
    )
    shown = torch.from_numpy(np.round(255 * windowed(image)) / 255).float()[None]
    drawn = (torch.from_numpy(np.stack(masks)) > 0.5).to(joint.masks.dtype)
    spacing = joint.spacing_mm and joint.spacing_mm * side / size / ZOOM
    return replace(joint, image=shown, masks=drawn, spacing_mm=spacing, layers=None)


def _warped(plane: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """A plane cropped again, its edge continued."""
    import cv2

    return cv2.warpAffine(plane, matrix, plane.shape[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def windowed(image: np.ndarray) -> np.ndarray:
    """An image (h, w) whose darkest and brightest pixels are shown alike in all."""
    low, high = np.percentile(image, WINDOW)
    return (SHOWN[0] + (image - low) / max(high - low, 1e-6) * (SHOWN[1] - SHOWN[0])).clip(0, 1)


def shown_samples(
    data: str, synthetic: str, *, split: str, size: int, seed: int
) -> tuple[Sample, Sample, dict[str, str]]:
    """All synthetic and all real images as they would be shown, measured for a machine; and which data they are."""
    random, samples, known = np.random.default_rng(seed), [], {}
    for name, path, part in ((SYNTHETIC, synthetic, "all"), (REAL, data, split)):
        dataset = open_dataset(path, split=part)
        samples.append(measure(as_shown(joint, size, random) for joint in tqdm(dataset, desc=name, unit="image")))
        known[name] = dataset.fingerprint()
    return *samples, known


def write_shown(path: Path, levels: np.ndarray) -> None:
    """Write an image (h, w) as an 8-bit PNG that says nothing of when and how it was made."""
    with atomic(path) as part:
        Picture.fromarray(levels).save(part, format="PNG", compress_level=9)
        os.utime(part, (STAMP, STAMP))
