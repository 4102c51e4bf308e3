"""Files for users: phantoms in the layout of one's own radiographs, and the layers of separated images."""

import csv
import glob
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from lsn_core.data import COLUMNS, MANIFEST
from lsn_core.files import InputError, write_text
from lsn_core.images import SUFFIXES, read_image, read_mask, write_image, write_mask
from lsn_core.joint import Joint
from lsn_core.masks import hand_mask
from lsn_core.networks import Separator, load_generator
from lsn_core.phantom import phantoms
from lsn_core.radiograph import LAYERS


def write_phantoms(out: Path, *, count: int, size: int, seed: int) -> Path:
    """Draw `count` phantoms into a folder, every fifth for the "test" split; the manifest comes last. Returns its path.

    Beside the columns that `open_dataset` reads, the manifest holds the true JSW and the files of the true layers.
    """
    rows = []
    for k, joint in enumerate(tqdm(phantoms(count, seed=seed, size=size), desc="phantoms", unit="joint", total=count)):
        tested = k % 5 == 4 - k // 5 % 5  # one in five, another finger each time
        rows.append(_write_phantom(out, joint, "test" if tested else "train"))
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=[*COLUMNS, "jsw_mm", *(f"layer_{name}" for name in LAYERS)])
    writer.writeheader()
    writer.writerows(rows)
    return write_text(out / MANIFEST, text.getvalue())


def _write_phantom(out: Path, joint: Joint, split: str) -> dict[str, str]:
    """Write one phantom's image, masks and layers; return its line of the manifest."""
    names = {part: f"{joint.name}_mask_{part}.png" for part in ("lower", "upper")}
    write_image(out / f"{joint.name}.png", joint.image[0].numpy())
    for part, mask in zip(("lower", "upper"), joint.masks[1:], strict=True):
        write_mask(out / names[part], mask.numpy() > 0)
    for name, layer in zip(LAYERS, joint.layers, strict=True):
        write_image(out / f"{joint.name}_layer_{name}.png", layer.numpy())
    layers = {f"layer_{name}": f"{joint.name}_layer_{name}.png" for name in LAYERS}
    known = {"joint": joint.joint, "finger": joint.finger, "side": joint.side, "split": split}
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
    stems = [image.stem for image in images]
    twice = {stem for stem in stems if stems.count(stem) > 1}
    if twice:
        raise InputError(f"{', '.join(sorted(twice))}: two images have this name, and so would their layers; run apart")
    separator = load_generator(weights)
    inputs = [_read(image, lower or beside(image, "lower"), upper or beside(image, "upper")) for image in images]
    for path, (image, masks) in zip(images, inputs, strict=True):
        yield _write_layers(separator, image, masks, out, path.stem)


def beside(image: Path, part: str) -> Path:
    """The mask of a bone that lies beside an image, STEM_mask_lower.* or STEM_mask_upper.*."""
    candidates = sorted(image.parent.glob(f"{glob.escape(image.stem)}_mask_{part}.*"))
    found = [path for path in candidates if path.suffix.lower() in SUFFIXES]
    if not found:
        missing = image.with_name(f"{image.stem}_mask_{part}.png")
        raise InputError(f"{missing}: no mask of the {part} bone; draw one there, or name it with --{part}")
    return found[0]


def _read(path: Path, lower: Path, upper: Path) -> tuple[np.ndarray, np.ndarray]:
    """An image (h, w) and its masks (3, h, w)."""
    image = read_image(path)
    if image.shape[0] != image.shape[1]:
        raise InputError(f"{path}: the image is {image.shape[1]} x {image.shape[0]} px; crop joints to squares")
    masks = []
    for mask in (lower, upper):
        masks.append(read_mask(mask))
        if masks[-1].shape != image.shape:
            sizes = f"{masks[-1].shape[1]} x {masks[-1].shape[0]} px and its image {image.shape[1]} x {image.shape[0]}"
            raise InputError(f"{mask}: the mask is {sizes}; export both at the same size")
    return image, np.stack((hand_mask(image) | masks[0] | masks[1], *masks)).astype(np.float32)


@torch.no_grad()
def _write_layers(separator: Separator, image: np.ndarray, masks: np.ndarray, out: Path, stem: str) -> str:
    """Separate one image and write its layers; say how well they recompose to it."""
    layers = separator(torch.from_numpy(image)[None, None], torch.from_numpy(masks)[None])[0].numpy()
    for name, layer in zip(LAYERS, layers, strict=True):
        write_image(out / f"{stem}_{name}.png", layer)
    error = np.abs(1 - (1 - layers).prod(axis=0) - image)[masks[0] > 0].max()
    return f"{stem}: three layers in {out}; recomposed, no pixel of the hand is off by more than {error:.1e}"
