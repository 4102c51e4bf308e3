"""Files for users: phantoms in the layout of one's own radiographs, and the layers of separated images."""

import csv
import io
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from lsn_core.detector import PERFECT, Detector
from lsn_core.files import InputError, read_bytes, write_text
from lsn_core.images import decode_header, decode_image, decode_mask, fit_mask, stem, write_image, write_mask
from lsn_core.inventory import mask_beside
from lsn_core.joint import Joint
from lsn_core.manifest import COLUMNS, MANIFEST
from lsn_core.masks import hand_mask
from lsn_core.networks import Separator, load_generator
from lsn_core.phantom import Phantom, drawn, visits
from lsn_core.radiograph import LAYERS

NO_IMAGE = re.compile(r"_(mask|layer)_\w+$")  # how the stem of a mask or a phantom's layer ends


def write_phantoms(
    out: Path,
    *,
    count: int,
    size: int,
    seed: int,
    diseased: float = 0.5,
    times: int = 1,
    detector: Detector = PERFECT,
    force: bool = False,
) -> Path:
    """Draw `count` phantoms into a folder, each at that many visits, every fifth for the "test" split.

    The manifest comes last, and its path is returned. Beside the columns that `open_dataset` reads, it holds the true
    JSW and the files of the true layers, which no detector changes. Raises `InputError` where the folder holds a data
    set already, unless `force` is given.
    """
    if (out / MANIFEST).exists() and not force:
        raise InputError(f"{out / MANIFEST}: exists already; choose another folder, or replace the data with --force")
    joints = enumerate(drawn(count, seed=seed, size=size, diseased=diseased))
    with abandoned_on_error(ThreadPoolExecutor(os.cpu_count())) as pool:  # most of the time goes into PNG files
        written = pool.map(lambda item: _write_visits(out, *item, times, detector), joints)
        rows = [row for rows in tqdm(written, desc="phantoms", unit="joint", total=count) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=[*COLUMNS, "jsw_mm", *(f"layer_{name}" for name in LAYERS)])
    writer.writeheader()
    writer.writerows(rows)
    return write_text(out / MANIFEST, text.getvalue())


@contextmanager
def abandoned_on_error(pool: ThreadPoolExecutor) -> Iterator[ThreadPoolExecutor]:
    """A pool that, on an error or Ctrl-C, does not first finish all that waits in it."""
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _write_visits(out: Path, k: int, phantom: Phantom, times: int, detector: Detector) -> list[dict[str, str]]:
    """Draw and write the k-th phantom at so many visits; return their lines of the manifest."""
    split = "test" if k % 5 == 4 - k // 5 % 5 else "train"  # one in five, another finger each time
    shown = (detector.expose(joint, seed=1000 * phantom.seed + i) for i, joint in enumerate(visits(phantom, times)))
    return [_write_phantom(out, joint, visit, split) for visit, joint in enumerate(shown)]


def _write_phantom(out: Path, joint: Joint, visit: int, split: str) -> dict[str, str]:
    """Write one phantom's image, masks and layers; return its line of the manifest."""
    names = {part: f"{joint.name}_mask_{part}.png" for part in ("lower", "upper")}
    write_image(out / f"{joint.name}.png", joint.image[0].numpy())
    for part, mask in zip(("lower", "upper"), joint.masks[1:], strict=True):
        write_mask(out / names[part], mask.numpy() > 0)
    for name, layer in zip(LAYERS, joint.layers, strict=True):
        write_image(out / f"{joint.name}_layer_{name}.png", layer.numpy())
    layers = {f"layer_{name}": f"{joint.name}_layer_{name}.png" for name in LAYERS}
    known = {key: getattr(joint, key) for key in ("joint", "subject", "finger", "side")}
    known |= {"visit": str(visit), "split": split}
    truth = {"spacing_mm": f"{joint.spacing_mm:.6f}", "jsw_mm": f"{joint.jsw_mm:.4f}"}
    return {"image": f"{joint.name}.png", **names, **known, **truth, **layers}


def separate_files(
    images: list[Path], out: Path, *, weights: str, lower: Path | None = None, upper: Path | None = None
) -> Iterator[str]:
    """Write the three layers of each image as 16-bit PNG, at the image's own size; yield a line about each.

    Every input is read before anything is written. Raises `InputError` for an image or mask that cannot be used.
    """
    if (lower or upper) and (len(images) > 1 or not (lower and upper)):
        raise InputError("--lower and --upper: both belong to one image; give both with one image, or neither")
    images = _radiographs(images)
    stems = [stem(image) for image in images]
    twice = {name for name in stems if stems.count(name) > 1}
    if twice:
        raise InputError(f"{', '.join(sorted(twice))}: two images have this name, and so would their layers; run apart")
    separator = load_generator(weights)
    inputs = [_read(image, lower or beside(image, "lower"), upper or beside(image, "upper")) for image in images]
    for path, (image, masks) in zip(images, inputs, strict=True):
        yield _write_layers(separator, image, masks, out, stem(path))


def beside(image: Path, part: str) -> Path:
    """The mask of a bone that lies beside an image, STEM_mask_lower.* or STEM_mask_upper.*."""
    found = mask_beside(image, part)
    if found is None:
        missing = image.with_name(f"{stem(image)}_mask_{part}.png")
        raise InputError(f"{missing}: no mask of the {part} bone; draw one there, or name it with --{part}")
    return found


def _radiographs(images: list[Path]) -> list[Path]:
    """The images without the masks and layers that a pattern such as *.png brought along.

    Raises `InputError` for folders, and where nothing else was given.
    """
    for path in images:
        if path.is_dir():
            raise InputError(f"{path}: is a folder; give the images in it, as in {path / '*.png'}")
    found = [path for path in images if not NO_IMAGE.search(stem(path))]
    if not found:
        rest = f" and {len(images) - 1} more" if len(images) > 1 else ""
        told = "no radiograph but a mask or a layer; masks are found by themselves, so give the radiographs"
        raise InputError(f"{images[0]}{rest}: {told}")
    return found


def _read(path: Path, lower: Path, upper: Path) -> tuple[np.ndarray, np.ndarray]:
    """An image (h, w) and its masks (3, h, w)."""
    encoded = read_bytes(path), str(path)
    image, header = decode_image(*encoded), decode_header(*encoded)
    if image.shape[0] != image.shape[1]:
        raise InputError(f"{path}: the image is {image.shape[1]} x {image.shape[0]} px; crop joints to squares")
    masks = [fit_mask(decode_mask(read_bytes(m), str(m)), image, header, str(m)) for m in (lower, upper)]
    return image, np.stack((hand_mask(image) | masks[0] | masks[1], *masks)).astype(np.float32)


@torch.no_grad()
def _write_layers(separator: Separator, image: np.ndarray, masks: np.ndarray, out: Path, stem: str) -> str:
    """Separate one image and write its layers; say how well they recompose to it."""
    layers = separator(torch.from_numpy(image)[None, None], torch.from_numpy(masks)[None])[0].numpy()
    for name, layer in zip(LAYERS, layers, strict=True):
        write_image(out / f"{stem}_{name}.png", layer)
    error = np.abs(1 - (1 - layers).prod(axis=0) - image)[masks[0] > 0].max()
    return f"{stem}: three layers in {out}; recomposed, no pixel of the hand is off by more than {error:.1e}"
