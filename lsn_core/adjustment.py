"""Adjustment: how true synthetic joints are, at each joint space width, to phantoms drawn again at that width."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from lsn_core.defects import border_gap, ghost
from lsn_core.detector import PERFECT, Detector
from lsn_core.joint import Joint
from lsn_core.jsw import measure
from lsn_core.masks import at_256, dilate
from lsn_core.metrics import halo, masked_mean, psnr
from lsn_core.motion import REACH
from lsn_core.movement import Movement, find_hinge
from lsn_core.networks import Separator
from lsn_core.phantom import Phantom
from lsn_core.shapes import Image, Layers, Masks
from lsn_core.synthesis import Source
from lsn_core.truth import joint_band

WIDTHS_MM = tuple(np.arange(-1.0, 3.01, 0.5).tolist())
ROWS_PX = 8.0  # at 256: of the strips whose gap is measured


def stored(joint: Joint, layers: Layers, dilate_px: float) -> Source:
    """A joint's stored layers, which cover its masks widened by so many px at 256."""
    masks = joint.masks[None]
    wide = dilate(masks, at_256(dilate_px, masks.shape[-1]))
    return Source.of(layers, wide, masks, find_hinge(masks, spacing_mm=joint.spacing_mm))


def width_errors(
    sources: dict[str, Source],
    phantom: Phantom,
    reader: Separator,
    *,
    detector: Detector = PERFECT,
    widths_mm: Iterable[float] = WIDTHS_MM,
) -> Iterator[dict[str, Any]]:
    """A row for each source, by its method's name, and each width: PSNR and defects beside those of the true image.

    True images are drawn at that width and taken by `detector`, with a noise of their own.

    "frame_db", "band_db": PSNR against the phantom drawn at that width, in the hand and within 20 px (at 256) of both
    bones. "bias_mm": the width that `reader`'s layers show in the synthetic image, less what they show in the true one.
    """
    own = phantom.render()
    for number, width in enumerate(widths_mm, start=1):
        true = detector.expose(phantom.render(width), seed=1000 * phantom.seed + number)
        seen = _read(reader, true.image, true)
        for name, source in sources.items():
            image = torch.from_numpy(source.picture(Movement(width - own.jsw_mm)))[None]
            scores = _scores(image[None], true) | _defects(image[None], own, true)
            scores["bias_mm"] = _read(reader, image, true) - seen
            yield {"method": name, "width_mm": width, "name": own.name, "joint": own.joint} | scores


def mean_curves(rows: Iterable[dict[str, Any]], score: str) -> dict[str, list[float]]:
    """Of each method the mean of a score over joints, at each width of `width_errors`, from the narrowest on."""
    values: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        values.setdefault(row["method"], {}).setdefault(row["width_mm"], []).append(row[score])
    return {method: [float(np.nanmean(found[w])) for w in sorted(found)] for method, found in values.items()}


def _scores(image: Image, true: Joint) -> dict[str, float]:
    """PSNR in dB against the true image."""
    masks, errors = true.masks[None], (image - true.image[None]) ** 2
    regions = {"frame_db": masks[:, :1], "band_db": joint_band(masks, px=REACH)}
    return {name: psnr(masked_mean(errors, where)).item() for name, where in regions.items()}


def _defects(image: Image, own: Joint, true: Joint) -> dict[str, float]:
    """Each defect of the synthetic image less that of the true one."""
    found, known = (defects(shown, own.masks[None], true.masks[None]) for shown in (image, true.image[None]))
    return {name: found[name] - known[name] for name in found}


def defects(image: Image, before: Masks, after: Masks) -> dict[str, float]:
    """The defects of one image (1, 1, h, w) whose bones were moved from `before` to `after`."""
    strips = border_gap(image, after, round(at_256(ROWS_PX, image.shape[-1])))
    left = {"ghost": ghost(image, before, after), "halo": halo(image, after)}
    return {name: value.item() for name, value in (strips | left).items()}


def moved_defects(source: Source, joint: Joint, delta_mm: float) -> dict[str, float]:
    """Defects of a joint whose space was changed, of which no truth is known, less those of the radiograph itself.

    The ghost has nothing to be compared with: a radiograph has none where nothing moved.
    """
    movement = Movement(delta_mm)
    masks = joint.masks[None]
    after = torch.from_numpy(source.masks(movement))[None].to(masks.dtype)
    found = defects(torch.from_numpy(source.picture(movement))[None, None], masks, after)
    known = defects(joint.image[None], masks, masks)
    return {name: value - (0.0 if name == "ghost" else known[name]) for name, value in found.items()}


@torch.no_grad()
def _read(reader: Separator, image: torch.Tensor, true: Joint) -> float:
    """The joint space width in mm that an image (1, h, w) shows, with the masks of the true one; NaN for none."""
    layers = reader(image[None], true.masks[None])[0]
    space = measure(layers.numpy(), true.masks.numpy() > 0, spacing_mm=true.spacing_mm)
    return space.jsw_mm if space else float("nan")
