"""Single radiographs of users: their masks, their layers, and the same joint at another joint space width, as files."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from html import escape
from pathlib import Path

import numpy as np
import torch

from lsn_core.explorer import explorer_html
from lsn_core.files import InputError, write_text
from lsn_core.images import stem, write_image, write_mask
from lsn_core.intake import Candidate, Refused, alone, radiographs, read_undrawn, reader, twins
from lsn_core.inventory import mask_beside
from lsn_core.joint import Joint
from lsn_core.jsw import svdh_like
from lsn_core.movement import MOST_DEGREES, MOST_MM, Movement
from lsn_core.networks import Separator, load_generator
from lsn_core.production import Maker
from lsn_core.radiograph import LAYERS
from lsn_core.sampling import Plan
from lsn_core.segmentation import Outliner, load_outliner, outliner_path

Drawn = tuple[Path | None, Path | None]  # masks of the lower and the upper bone
NOBODY: Drawn = (None, None)
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title></head>
<body style="background: #111; color: #eee; font-family: sans-serif">{figure}</body></html>
"""


def outliner_of(weights: str) -> Callable[[], Outliner]:
    """What loads an outliner when one is needed, once. Raises `InputError` at once where there is no such file."""
    outliner_path(weights)
    return cache(lambda: load_outliner(weights))


def separate_files(
    paths: list[Path], out: Path, *, weights: str, outlines: str, drawn: Drawn = NOBODY
) -> Iterator[str | Refused]:
    """Write the layers of each image of files and folders as 16-bit PNG; yield a line about each, or why it is none.

    Masks are `drawn`, lie beside an image, or are found by the outliner, and then written beside the layers. Raises
    `InputError` before anything is written where what is asked for makes no sense.
    """
    if any(drawn) and (len(paths) > 1 or not all(drawn)):
        raise InputError("--lower and --upper: both belong to one image; give both with one image, or neither")
    images = radiographs(paths, out=out)
    others = twins({path: stem(path) for path in images})
    separator, outliner = load_generator(weights), outliner_of(outlines)
    for path in images:
        read = alone(path, others.get(path), reader(path, outliner, spacing_mm=None, drawn=drawn))
        found = Candidate(stem(path), read).take()
        yield found if isinstance(found, Refused) else _write_layers(separator, found, out)


@torch.no_grad()
def _write_layers(separator: Separator, joint: Joint, out: Path) -> str:
    """Separate one image and write its layers, and masks that a network drew; say how well they recompose."""
    image, masks = joint.image, joint.masks
    layers = separator(image[None], masks[None])[0].numpy()
    for name, layer in zip(LAYERS, layers, strict=True):
        write_image(out / f"{joint.name}_{name}.png", layer)
    if joint.outlined:
        write_masks(out, joint)
    error = np.abs(1 - (1 - layers).prod(axis=0) - image[0].numpy())[masks[0].numpy() > 0].max()
    by = " by outlines that the network drew" if joint.outlined else ""
    return f"{joint.name}: three layers in {out}{by}; recomposed, no pixel of the hand is off by more than {error:.1e}"


def write_masks(out: Path, joint: Joint) -> None:
    """Write the masks of both bones into a folder."""
    for part, mask in zip(LAYERS[1:], joint.masks[1:], strict=True):
        write_mask(out / f"{joint.name}_mask_{part}.png", mask.numpy() > 0)


def draw_files(paths: list[Path], *, outlines: str, force: bool = False) -> Iterator[str | Refused]:
    """Draw the masks of each image that has none and write them beside it; yield a line about each, or why it is none.

    With `force` those that are there are drawn again.
    """
    outliner = load_outliner(outlines)
    for path in radiographs(paths):
        if not force and any(mask_beside(path, part) for part in LAYERS[1:]):
            yield f"{path}: has a mask beside it already, which was left as it is; --force draws it again"
            continue
        found = Candidate(stem(path), lambda path=path: read_undrawn(path, outliner)).take()
        if isinstance(found, Joint):
            write_masks(path.parent, found)
        yield found if isinstance(found, Refused) else f"{path}: two masks beside it; look at them before you use them"


def adjust_file(
    path: Path, out: Path, jsw_mm: float, movement: Movement, *, weights: str, outlines: str, spacing_mm: float | None
) -> str:
    """Write one image with its joint space `jsw_mm` wide, 16-bit; say how wide it was. Raises `InputError`.

    `movement` says which bone makes the change, and what the bones do beside it.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give one image, or make a data set of all with 'lsn synthesize'")
    if out.resolve() == path.resolve():
        raise InputError(f"{out}: is the image itself; name another file")
    if out.suffix.lower() != ".png":
        raise InputError(f"{out}: name a file that ends in .png")
    for value, most in ((movement.slide_mm, MOST_MM), (movement.degrees, MOST_DEGREES)):
        if not all(abs(one) <= most for one in value):
            raise InputError(f"a bone may slide by {MOST_MM:g} mm and turn by {MOST_DEGREES:g} degrees; give less")
    joint = reader(path, outliner_of(outlines), spacing_mm=spacing_mm)()
    ready = Maker.of(weights, Plan(), size=None).prepared(joint)
    delta = jsw_mm - ready.own_mm
    most = ready.source.reach_mm / max(movement.share, 1 - movement.share)
    if not abs(delta) <= most:
        span = f"{ready.own_mm - most:.2f} to {ready.own_mm + most:.2f}"
        raise InputError(
            f"{path}: {jsw_mm:g} mm is out of reach of a joint space of {ready.own_mm:.2f}; give {span} mm"
        )
    by = Movement(delta, movement.share, movement.slide_mm, movement.degrees)
    write_image(out, ready.source.picture(by))
    classes = f"SvdH-like class {svdh_like(ready.own_mm)} -> {svdh_like(jsw_mm)}"
    return f"{out}: joint space {ready.own_mm:.2f} mm as measured, now {jsw_mm:.2f} ({delta:+.2f}), {classes}"


def explore_file(path: Path, out: Path, *, weights: str, outlines: str, spacing_mm: float | None) -> str:
    """Write a page in which the bones of one image can be moved, without a network or a kernel. Raises `InputError`."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{out}: name a file that ends in .html")
    joint = reader(path, outliner_of(outlines), spacing_mm=spacing_mm)()
    ready = Maker.of(weights, Plan(), size=None).prepared(joint)
    moved = replace(ready.joint, layers=ready.layers[0], jsw_mm=ready.own_mm)
    figure = explorer_html(moved, label=f"The finger joint of {path.name}, whose bones can be moved", bits=16)
    write_text(out, PAGE.format(title=escape(path.name), figure=figure))
    return f"{out}: joint space {ready.own_mm:.2f} mm as measured; open it in a browser"
