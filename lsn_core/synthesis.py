"""Synthesis: one separated joint at any joint space width (Eq. 13), with labels that follow from the movement.

`recompose` is the reference, differentiable and on any device. A `Source` makes thousands of images a second of the
same layers on a CPU, and agrees with it. Both continue the bones beyond the frame before they move them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float

from lsn_core.continuation import continued
from lsn_core.masks import at_256
from lsn_core.movement import Hinge, Movement, shifts, source_matrix
from lsn_core.radiograph import compose, shift
from lsn_core.shapes import Image, Layers, Masks

MARGIN_PX = 32.0  # at 256: how far bones are continued, 2.6 mm in a field of 21 mm

Plane = Float[np.ndarray, "h w"]


def recompose(layers: Layers, masks: Masks, movement: Movement, hinge: Hinge) -> Image:
    """Radiographs of layers whose bones have moved (Eq. 13); `masks` are those that the layers cover."""
    margin = margin_of(layers.shape[-1])
    wide = continued(layers, masks, margin)
    centre = (hinge.middle[0], hinge.middle[1] + margin)
    moved = [shift(wide[:, [i]], by, centre=centre) for i, by in zip((1, 2), shifts(movement, hinge), strict=True)]
    return compose(torch.cat((wide[:, :1], *moved), dim=1)[..., margin:-margin, :])


def margin_of(size: int) -> int:
    """Rows by which bones are continued in a frame of `size` px."""
    return round(at_256(MARGIN_PX, size))


@dataclass(frozen=True)
class Source:
    """The stored layers of one joint, ready to be moved: what they let through, and the masks as they were drawn."""

    light: Float[np.ndarray, "3 y x"]  # 1 - layer, of soft tissue and both bones continued by `margin` rows
    outlines: Float[np.ndarray, "2 y x"]  # masks as drawn of the lower and the upper bone, continued alike
    hand: Bool[np.ndarray, "h w"]
    hinge: Hinge
    margin: int

    @classmethod
    def of(cls, layers: Layers, wide: Masks, drawn: Masks, hinge: Hinge) -> "Source":
        """From layers (1, 3, h, w), the masks that they cover, and those as drawn."""
        margin = margin_of(layers.shape[-1])
        light = 1 - continued(layers, wide, margin)[0].cpu().numpy()
        outlines = continued(drawn, drawn, margin)[0, 1:].cpu().numpy()
        return cls(light, outlines, drawn[0, 0].cpu().numpy() > 0, hinge, margin)

    @property
    def reach_mm(self) -> float:
        """How far a bone may be moved away from the frame's edge."""
        return self.margin * self.hinge.spacing_mm

    def image(self, movement: Movement, *, out: Plane | None = None) -> Plane:
        """The radiograph (h, w) after a movement, in [0, 1] (Eq. 13).

        Written into `out` where it is given: fresh memory for each of thousands of images takes longer than the images.
        """
        import cv2

        seen = np.empty(self.hand.shape, np.float32) if out is None else out
        np.copyto(seen, self.light[0, self.margin : len(self.light[0]) - self.margin])
        for rows, moved in self._moved(self.light[1:], movement):
            cv2.multiply(seen[rows], moved, dst=seen[rows])
        return cv2.subtract(1.0, seen, dst=seen)

    def masks(self, movement: Movement) -> Bool[np.ndarray, "3 h w"]:
        """Hand, lower and upper bone after a movement; the hand grows where a bone leaves it."""
        bones = np.zeros((2, *self.hand.shape), bool)
        for bone, (rows, moved) in zip(bones, self._moved(self.outlines, movement), strict=True):
            bone[rows] = moved > 0.5
        return np.stack((self.hand | bones.any(axis=0), *bones))

    def _moved(
        self, planes: Float[np.ndarray, "2 y x"], movement: Movement
    ) -> Iterator[tuple[slice, Float[np.ndarray, "r w"]]]:
        """A plane of each bone moved as it is, and the rows of the frame that it is for: the bone is in no others."""
        import cv2

        down = np.array([[0, 0, 0], [0, 0, self.margin]])  # the frame's rows are so many px down in a continued plane
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        for plane, span, by in zip(planes, self._spans, shifts(movement, self.hinge), strict=True):
            matrix = source_matrix(by, self.hinge.middle) + down
            rows = self._reached(span, matrix)
            matrix[:, 2] += rows.start * matrix[:, 1]
            size = (plane.shape[1], rows.stop - rows.start)
            yield rows, cv2.warpAffine(plane, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)

    @cached_property
    def _spans(self) -> tuple[tuple[int, int], ...]:
        """First and last row of the continued planes in which each bone is."""
        found = [np.flatnonzero((light < 1).any(axis=1)) for light in self.light[1:]]
        return tuple((int(rows[0]), int(rows[-1])) if len(rows) else (0, 0) for rows in found)

    def _reached(self, span: tuple[int, int], matrix: np.ndarray) -> slice:
        """The frame's rows into which a bone of those rows comes; what touches a plane's edge goes on without end."""
        height, width = self.hand.shape
        corners = np.array([(x, y) for x in (-width, 2 * width) for y in (span[0] - 1, span[1] + 1)])
        rows = np.linalg.solve(matrix[:, :2], (corners - matrix[:, 2]).T)[1]
        first = 0 if span[0] == 0 else int(np.clip(np.floor(rows.min()), 0, height - 1))
        last = (
            height if span[1] == self.light.shape[1] - 1 else int(np.clip(np.ceil(rows.max()) + 1, first + 1, height))
        )
        return slice(first, last)
