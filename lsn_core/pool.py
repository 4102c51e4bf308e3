"""What a downstream network is shown: radiographs of a cohort, or synthetic ones made of their stored layers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from lsn_core.batch import mapped
from lsn_core.cohort import TEST, TRAIN, Cohort
from lsn_core.masks import at_256, grow
from lsn_core.movement import Hinge, Movement, shifts, source_matrix
from lsn_core.pseudo import harmonic_fill
from lsn_core.sampling import Plan
from lsn_core.synthesis import Plane, Source

Painter = Callable[[Movement], Plane]

EDGES_MM = tuple(np.arange(-0.5, 3.01, 0.25).tolist())  # of histograms of widths
CUT_PX = 4.0  # at 256: by which outlines are widened where bones are cut out, over their blurred edge


@dataclass(frozen=True)
class Examples:
    """Images with their labels, on any device."""

    image: UInt8[Tensor, "n 1 h w"]
    bones: Bool[Tensor, "n 2 h w"]  # lower, upper
    jsw_mm: Float[Tensor, " n"]
    group: Int[Tensor, " n"]  # the same for all images that show one joint, of which pairs are made
    motion: Float[Tensor, "n 2 2 3"] | None = None  # of synthetic ones: how each bone's pixels moved from its source's

    def __len__(self) -> int:
        """How many images."""
        return len(self.image)

    def to(self, device: torch.device | str) -> "Examples":
        """The same on another device."""
        return mapped(self, lambda plane: plane.to(device))

    def pairs(self) -> Int[Tensor, "pairs 2"]:
        """All ordered pairs of two images of one group."""
        order = torch.argsort(self.group, stable=True)
        _, counts = torch.unique_consecutive(self.group[order], return_counts=True)
        found = []
        for some in order.split(counts.tolist()):
            both = torch.cartesian_prod(some, some)
            found.append(both[both[:, 0] != both[:, 1]])
        return torch.cat(found)


def radiographs(cohort: Cohort, index: Tensor) -> Examples:
    """Radiographs of a cohort; those of one joint are a group."""
    _, group = np.unique(cohort.joints[index.numpy()], return_inverse=True)
    return Examples(cohort.image[index], cohort.bones[index], cohort.jsw_mm[index], torch.from_numpy(group))


def with_labels_of_others(examples: Examples, random: torch.Generator) -> Examples:
    """The same images, each with the width of another one, drawn at random: what is left is exposure to images."""
    shuffled = torch.randperm(len(examples), generator=random)
    return Examples(examples.image, examples.bones, examples.jsw_mm[shuffled], examples.group, examples.motion)


def synthetic(cohort: Cohort, index: Tensor, plan: Plan) -> Examples:
    """All copies of the radiographs at `index`, by their stored layers; copies of one radiograph are a group."""
    return _pool(cohort, index, plan, lambda _, source: source.picture)


def cut_and_shifted(cohort: Cohort, index: Tensor, plan: Plan) -> Examples:
    """The same without layers: bones cut out along their outlines and pasted over harmonically filled tissue."""
    return _pool(cohort, index, plan, lambda k, source: Cutting.of(cohort, k, source.hinge).picture)


def _pool(cohort: Cohort, index: Tensor, plan: Plan, painter: Callable[[int, Source], Painter]) -> Examples:
    """The copies that the painter of each radiograph makes of it."""
    count, size = len(index) * plan.copies, cohort.size
    image, bones = torch.empty(count, 1, size, size, dtype=torch.uint8), torch.empty(count, 2, size, size).bool()
    widths, motion = torch.empty(count), torch.empty(count, 2, 2, 3)
    row = 0
    for k in index.tolist():
        source, own_mm = cohort.source(k), float(cohort.jsw_mm[k])
        paint = painter(k, source)
        for movement in plan.movements(cohort.rows[k].name, own_mm, reach_mm=source.reach_mm):
            image[row, 0] = torch.from_numpy(np.rint(255 * paint(movement)).astype(np.uint8))
            bones[row] = torch.from_numpy(source.masks(movement)[1:])
            widths[row], motion[row] = own_mm + movement.delta_mm, motion_of(movement, source.hinge)
            row += 1
    return Examples(image, bones, widths, torch.arange(len(index)).repeat_interleave(plan.copies), motion)


def motion_of(movement: Movement, hinge: Hinge) -> Float[Tensor, "2 2 3"]:
    """Where a movement takes the pixel (x, y, 1) of the lower and the upper bone, in px."""
    import cv2

    back = (source_matrix(by, hinge.middle) for by in shifts(movement, hinge))
    return torch.from_numpy(np.stack([cv2.invertAffineTransform(matrix) for matrix in back])).float()


@dataclass(frozen=True)
class Cutting:
    """A radiograph cut along its outlines, as one would without layers: its bones carry the soft tissue over them."""

    image: Plane
    fill: Plane  # the radiograph with its bones filled from the tissue beside them
    bones: Float[np.ndarray, "2 h w"]
    hinge: Hinge

    @classmethod
    def of(cls, cohort: Cohort, index: int, hinge: Hinge) -> "Cutting":
        """Cut one radiograph of a cohort."""
        image = cohort.image[[index]].float() / 255
        drawn, radius = cohort.bones[[index]].float(), at_256(CUT_PX, cohort.size)
        wide = torch.cat([grow(drawn[:, [bone]], radius) for bone in (0, 1)], dim=1)
        fill = harmonic_fill(image, wide.amax(dim=1, keepdim=True) > 0)
        return cls(image[0, 0].numpy(), fill[0, 0].numpy(), wide[0].numpy(), hinge)

    def picture(self, movement: Movement) -> Plane:
        """The radiograph (h, w) after a movement: each bone pasted in its new place, the upper one over the lower."""
        import cv2

        seen, size = self.fill.copy(), self.fill.shape[::-1]
        for mask, by in zip(self.bones, shifts(movement, self.hinge), strict=True):
            matrix = source_matrix(by, self.hinge.middle)
            flags = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}
            piece, where = (cv2.warpAffine(plane, matrix, size, **flags) for plane in (self.image, mask))
            seen = np.where(where > 0.5, piece, seen)
        return seen.clip(0, 1)


def coverage(cohort: Cohort, plan: Plan, *, edges: Sequence[float] = EDGES_MM) -> dict[str, Any]:
    """How the widths of training and test radiographs, and of synthetic joints made of the former, are distributed.

    Shares of each histogram over `edges` in mm, what lies beyond counted in the outer bins; "overlap" is that of the
    synthetic with the test histogram, 1 where they are alike.
    """
    train, test = (cohort.jsw_mm[cohort.of(split)].numpy() for split in (TRAIN, TEST))
    made = [_widths(cohort, k, plan) for k in cohort.of(TRAIN).tolist()]
    widths = {"train": train, "test": test, "synthetic": np.concatenate(made)}
    shares = {name: np.histogram(some.clip(edges[0], edges[-1]), edges)[0] / len(some) for name, some in widths.items()}
    overlap = float(np.minimum(shares["synthetic"], shares["test"]).sum())
    return {"edges": list(edges), **{name: share.tolist() for name, share in shares.items()}, "overlap": overlap}


def _widths(cohort: Cohort, index: int, plan: Plan) -> np.ndarray:
    """The widths of all copies of a radiograph."""
    own_mm, reach_mm = float(cohort.jsw_mm[index]), cohort.source(index).reach_mm
    movements = plan.movements(cohort.rows[index].name, own_mm, reach_mm=reach_mm)
    return np.array([own_mm + movement.delta_mm for movement in movements])
