"""Progression: the narrowing of a joint between visits, measured by registration, and how much of it to believe.

A registration is asked again with both images moved by whole pixels: answers that scatter are dropped, and a pair whose
answers keep scattering is a mismatch. Narrowings are in mm, positive where the space got narrower from the moving to
the fixed radiograph. NaN stands for a mismatch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lsn_core.masks import at_256
from lsn_core.radiograph import Shift, shift
from lsn_core.registration import Transforms, image_errors, narrowing_mm, places
from lsn_core.shapes import Bones, Image, PerItem

REPEATS = 9  # perturbed predictions of a pair, beside the plain one
REACH_PX = 3.0  # at 256: of a perturbation, either way
LIMIT_MM = 0.3  # standard deviation below which the answers of a pair agree
LEAST = 4  # answers that have to agree

Register = Callable[[Image, Image, Bones], Transforms]  # of the moving image, the fixed one and the fixed one's bones
Answers = Float[np.ndarray, "pairs n"]  # the plain prediction first
PerPair = Float[np.ndarray, " pairs"]


@dataclass(frozen=True)
class Pair:
    """Two radiographs of one joint: the moving one is of visit `first`, the fixed one of visit `second`."""

    joint: str
    first: int
    second: int


def all_pairs(joints: Sequence[str]) -> list[tuple[int, int]]:
    """All ordered pairs of different radiographs of one joint, as (moving, fixed) indices into `joints`; sorted."""
    of: dict[str, list[int]] = {}
    for index, joint in enumerate(joints):
        of.setdefault(joint, []).append(index)
    return sorted(pair for indices in of.values() for pair in permutations(indices, 2))


@torch.no_grad()
def repeated(
    register: Register,
    moving: Image,
    fixed: Image,
    bones: Bones,
    *,
    spacing_mm: float | Tensor,
    random: torch.Generator,
    repeats: int = REPEATS,
    reach_px: float = REACH_PX,
) -> tuple[Answers, Answers]:
    """Narrowings in mm and image errors (see `registration`) of each pair: one plain, then `repeats` perturbed.

    Perturbed, the moving image and the fixed one with its `bones` are each moved by whole pixels, up to `reach_px` at
    256 but at least 1. `random` is on the CPU, whatever the device of the images.
    """
    reach = max(1, round(at_256(reach_px, fixed.shape[-1])))
    steps = torch.zeros(repeats + 1, 2, 2, len(fixed))
    steps[1:] = torch.randint(-reach, reach + 1, (repeats, 2, 2, len(fixed)), generator=random)
    found = [_once(register, moving, fixed, bones, *step) for step in steps.to(fixed)]
    place = places(bones)
    narrowings = torch.stack([narrowing_mm(transforms, place, spacing_mm) for transforms, _ in found], dim=1)
    return narrowings.cpu().numpy(), torch.stack([errors for _, errors in found], dim=1).cpu().numpy()


def _once(
    register: Register,
    moving: Image,
    fixed: Image,
    bones: Bones,
    moved: Float[Tensor, "2 b"],
    placed: Float[Tensor, "2 b"],
) -> tuple[Transforms, PerItem]:
    """What is found after steps (x, y) of the moving and the fixed image, told of the images where they were."""
    stepped, target, masks = shift(moving, Shift(*moved)), shift(fixed, Shift(*placed)), shift(bones, Shift(*placed))
    transforms = register(stepped, target, masks.round())
    errors = image_errors(stepped, target, masks.round(), transforms)
    return unperturbed(transforms, moved, placed), errors


def unperturbed(transforms: Transforms, moved: Float[Tensor, "2 b"], placed: Float[Tensor, "2 b"]) -> Transforms:
    """Transforms of the images as they were, from those of images moved by steps (x, y) in px.

    c + M (p + a - c) + d' = q + b, hence d = d' + M a - b. With two bones that turn unlike each other, a step to the
    side would else be taken for a change of the joint space.
    """
    scale, degrees, dx, dy = transforms.unbind(dim=-1)
    (ax, ay), (bx, by) = moved[..., None], placed[..., None]
    cos, sin = scale * torch.deg2rad(degrees).cos(), scale * torch.deg2rad(degrees).sin()
    return torch.stack((scale, degrees, dx + cos * ax + sin * ay - bx, dy - sin * ax + cos * ay - by), dim=-1)


def kept(values: Float[np.ndarray, " n"], *, limit_mm: float = LIMIT_MM, least: int = LEAST) -> Bool[np.ndarray, " n"]:
    """Which answers of one pair to keep: the farthest from their mean is dropped until their SD is below the limit.

    None where fewer than `least` (2 or more) are left: a mismatch. An answer that is not finite is never kept.
    """
    mask = np.isfinite(values)
    while mask.sum() >= least and values[mask].std(ddof=1) >= limit_mm:
        away = np.where(mask, np.abs(values - values[mask].mean()), -1.0)
        mask[away.argmax()] = False
    return mask & (mask.sum() >= least)


def measured(values: Answers) -> tuple[PerPair, PerPair]:
    """The narrowing of each pair, the mean of the answers kept, and their standard deviation; NaN for a mismatch."""
    chosen = [row[kept(row)] for row in values]
    means = [row.mean() if len(row) else np.nan for row in chosen]
    spreads = [row.std(ddof=1) if len(row) else np.nan for row in chosen]
    return np.array(means, dtype=float), np.array(spreads, dtype=float)


def phase_sigma(narrowing: Mapping[tuple[int, int], float]) -> float:
    """How far the ways from one visit to another disagree, in mm: 0 where narrowings add up.

    The ways from i to j are the narrowing of (i, j) itself and, for each other visit k, that of (i, k) plus that of
    (k, j). Mean over all ordered (i, j) of their standard deviation; ways of which a part is NaN or absent are left
    out, and so is an (i, j) with fewer than two ways. NaN where nothing is left, as with fewer than three visits.
    """
    visits = sorted({visit for pair in narrowing for visit in pair})
    known = {pair: narrowing.get(pair, np.nan) for pair in permutations(visits, 2)}
    spreads = []
    for i, j in known:
        by_way_of = [known[i, k] + known[k, j] for k in visits if k not in (i, j)]
        ways = np.array([known[i, j], *by_way_of])
        ways = ways[np.isfinite(ways)]
        spreads += [ways.std(ddof=1)] if len(ways) > 1 else []
    return mean_of_known(np.array(spreads, dtype=float))


def mean_of_known(values: Float[np.ndarray, " n"]) -> float:
    """Mean of the values that are not NaN; NaN where there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def phase_sigmas(pairs: Sequence[Pair], narrowing: PerPair) -> dict[str, float]:
    """`phase_sigma` of each joint, by its name."""
    of: dict[str, dict[tuple[int, int], float]] = {}
    for pair, value in zip(pairs, narrowing, strict=True):
        of.setdefault(pair.joint, {})[pair.first, pair.second] = float(value)
    return {joint: phase_sigma(found) for joint, found in of.items()}


def error_scores(errors_mm: PerPair) -> dict[str, float]:
    """Mean, mean absolute and root mean square of errors in mm, NaN left out."""
    return {
        "bias_mm": mean_of_known(errors_mm),
        "mae_mm": mean_of_known(np.abs(errors_mm)),
        "rmse_mm": mean_of_known(errors_mm**2) ** 0.5,
    }


def rows_as_pairs(rows: Sequence[Mapping[str, str]]) -> list[Pair]:
    """The pairs of answers that name their radiographs ("name" moving, "fixed") and joint, visits numbered by name."""
    visits: dict[str, list[str]] = {}
    for row in rows:
        visits.setdefault(row["joint"], []).append(row["name"])
    number = {joint: {name: k for k, name in enumerate(sorted(set(names)))} for joint, names in visits.items()}
    return [Pair(r["joint"], number[r["joint"]][r["name"]], number[r["joint"]][r["fixed"]]) for r in rows]
