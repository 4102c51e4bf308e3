"""Intake: radiographs as users bring them become joints; masks that nobody drew are drawn, and what is none is told.

One bad file never stops the others: it is refused with a sentence, and the rest goes on.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from lsn_core.data import open_dataset
from lsn_core.dicom import Header
from lsn_core.files import InputError, read_bytes
from lsn_core.images import decode_header, decode_image, decode_mask, fit_mask, stem
from lsn_core.inventory import images_below, mask_beside
from lsn_core.joint import Joint
from lsn_core.layouts import UnlistedError, listing
from lsn_core.masks import hand_mask
from lsn_core.radiograph import LAYERS
from lsn_core.segmentation import Outliner, find_masks, reason

NO_IMAGE = re.compile(r"_(mask|layer)_|_(soft|lower|upper)$")  # in the stems of masks and layers
LEAST_SPAN = 0.05  # white less black of an image; radiographs of joints have more than 0.6
SPLITS = ("train", "test", "validation")  # that a manifest may name


@dataclass(frozen=True)
class Refused:
    """A radiograph that cannot be used, and why, in one sentence with a remedy."""

    name: str
    why: str


@dataclass(frozen=True)
class Candidate:
    """A radiograph that may turn out to be usable when it is read."""

    name: str
    read: Callable[[], Joint]
    split: str = "train"

    def take(self) -> "Joint | Refused":
        """Read it."""
        try:
            return self.read()
        except InputError as error:
            return Refused(self.name, str(error))


def candidates(
    data: Path, outliner: Callable[[], Outliner], *, split: str, spacing_mm: float | None, out: Path | None = None
) -> Iterator[Candidate]:
    """The radiographs of a data set, or of a folder that nothing lists; `spacing_mm` is that of images without one.

    What was written to `out` below the folder is none of them. Raises `InputError` where there is neither.
    """
    try:
        listing(data)
    except UnlistedError:
        if not data.is_dir():
            raise
        yield from _unlisted(data, outliner, spacing_mm, out)
        return
    dataset = open_dataset(data, split=split)
    for index, row in enumerate(dataset.rows):
        split = next((name for name in SPLITS if name in row.splits), SPLITS[0])
        yield Candidate(row.name, lambda index=index: _measured(dataset[index], spacing_mm), split)


def _unlisted(
    root: Path, outliner: Callable[[], Outliner], spacing_mm: float | None, out: Path | None
) -> Iterator[Candidate]:
    """The radiographs below a folder, called by their paths in it; those of one folder below it are of one joint."""
    found = {path: (path.relative_to(root).parent / stem(path)).as_posix() for path in radiographs([root], out=out)}
    others = twins(found)
    for path, name in found.items():
        read = alone(path, others.get(path), reader(path, outliner, spacing_mm=spacing_mm))
        joint = name if "/" not in name else Path(name).parent.as_posix()
        yield Candidate(name, lambda read=read, name=name, joint=joint: replace(read(), name=name, joint=joint))


def radiographs(paths: list[Path], *, out: Path | None = None) -> list[Path]:
    """The images among files and below folders, without masks, layers, and what an earlier run wrote to `out` there.

    Raises `InputError` where none is left, and where `out` is one of the folders.
    """
    if out and any(path.is_dir() and path.resolve() == out.resolve() for path in paths):
        raise InputError(f"{out}: holds the radiographs; name another folder, so that they are not mixed up")
    files = [file for path in paths for file in (_below(path, out) if path.is_dir() else [path])]
    found = [file for file in files if not NO_IMAGE.search(stem(file))]
    if not found:
        told = "no radiograph there; give images, or a folder of them: masks and layers are none"
        raise InputError(f"{', '.join(map(str, paths[:3]))}: {told}")
    return found


def _below(folder: Path, out: Path | None) -> list[Path]:
    """The images below a folder, but for those below `out`."""
    found = images_below(folder)
    return [path for path in found if not path.resolve().is_relative_to(out.resolve())] if out else found


def twins(names: Mapping[Path, str]) -> dict[Path, Path]:
    """Of each image that shares its name with others, one of those."""
    groups: dict[str, list[Path]] = {}
    for path, name in names.items():
        groups.setdefault(name, []).append(path)
    return {path: group[k - 1] for group in groups.values() if len(group) > 1 for k, path in enumerate(group)}


def alone(path: Path, twin: Path | None, read: Callable[[], Joint]) -> Callable[[], Joint]:
    """What reads an image that has no twin; else what says that their outputs would be mixed."""

    def refuse() -> Joint:
        raise InputError(f"{path}: has the name of {twin}, and so would what is made of them; rename one")

    return read if twin is None else refuse


def reader(
    path: Path,
    outliner: Callable[[], Outliner],
    *,
    spacing_mm: float | None,
    drawn: tuple[Path | None, Path | None] = (None, None),
) -> Callable[[], Joint]:
    """What reads one image: with masks `drawn` of the lower and upper bone, those beside it, or the outliner's."""
    return lambda: _measured(read_joint(path, outliner, drawn=drawn), spacing_mm)


def read_joint(path: Path, outliner: Callable[[], Outliner], *, drawn: tuple[Path | None, Path | None]) -> Joint:
    """One image and its masks. Raises `InputError` for an image or mask that cannot be used, and for no joint."""
    files = {part: mask or mask_beside(path, part) for mask, part in zip(drawn, LAYERS[1:], strict=True)}
    lacking = [part for part, file in files.items() if file is None]
    if len(lacking) == 1:
        raise InputError(f"{path}: has a mask of one bone only; draw {lacking[0]} too, or move the other away")
    image, header = read_square(path)
    if lacking:
        return as_joint(path, image, header, draw_masks(image, outliner(), str(path)), outlined=True)
    files = files.values()
    lower, upper = (fit_mask(decode_mask(read_bytes(file), str(file)), image, header, str(file)) for file in files)
    return as_joint(path, image, header, np.stack((hand_mask(image) | lower | upper, lower, upper)), outlined=False)


def read_undrawn(path: Path, outliner: Outliner) -> Joint:
    """One image with the masks that the outliner draws. Raises `InputError` for an image that it is not sure of."""
    image, header = read_square(path)
    return as_joint(path, image, header, draw_masks(image, outliner, str(path)), outlined=True)


def read_square(path: Path) -> tuple[np.ndarray, Header]:
    """A square image (h, w) and what its file says of it. Raises `InputError`."""
    encoded = read_bytes(path), str(path)
    image, header = decode_image(*encoded), decode_header(*encoded)
    if image.shape[0] != image.shape[1]:
        raise InputError(f"{path}: the image is {image.shape[1]} x {image.shape[0]} px; crop joints to squares")
    return image, header


def as_joint(path: Path, image: np.ndarray, header: Header, masks: np.ndarray, *, outlined: bool) -> Joint:
    """A joint called after its file; `outlined` says whether a network drew its masks."""
    planes = torch.from_numpy(image)[None], torch.from_numpy(masks.astype(np.float32))
    known = {"side": header.side, "spacing_mm": header.spacing_mm, "spacing_from": header.spacing_from}
    return Joint(*planes, name=stem(path), joint=stem(path), **known, outlined=outlined)


def draw_masks(image: np.ndarray, outliner: Outliner, name: str) -> np.ndarray:
    """Masks (3, h, w) of an image (h, w) that the outliner is sure of. Raises `InputError` for any other."""
    if np.ptp(image) < LEAST_SPAN:
        told = f"its greys span {np.ptp(image):.1%} of their range; export the radiograph with its full window"
        raise InputError(f"{name}: {told}")
    found = find_masks(outliner, torch.from_numpy(image)[None, None])
    why = reason(found, 0)
    if why:
        raise InputError(f"{name}: {why}")
    hand, lower, upper = found.masks[0].numpy()
    return np.stack((hand | hand_mask(image), lower, upper))


def _measured(joint: Joint, spacing_mm: float | None) -> Joint:
    """A joint with a pixel spacing where its file has none. Raises `InputError` where the two contradict each other."""
    if joint.spacing_mm and spacing_mm and abs(joint.spacing_mm / spacing_mm - 1) > 0.01:
        both = f"its file says {joint.spacing_mm:.4g} mm a pixel and --spacing-mm {spacing_mm:.4g}"
        raise InputError(f"{joint.name}: {both}; leave the option out")
    return replace(joint, spacing_mm=joint.spacing_mm or spacing_mm)
