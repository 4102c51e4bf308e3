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
from lsn_core.detector import blurred
from lsn_core.masks import at_256, bones, to_edge
from lsn_core.movement import Hinge, Movement, shifts, source_matrix
from lsn_core.networks import around_soft
from lsn_core.radiograph import absorbance, compose, shift
from lsn_core.shapes import Image, Layers, Masks

MARGIN_PX = 32.0  # at 256: how far bones are continued, 2.6 mm in a field of 21 mm
GRAIN_PX = 4.0  # at 256: what varies within so many px under the bones is their grain, not the soft tissue's

KERNEL_PX = 2  # how far from a pixel the cubic kernel reads

Plane = Float[np.ndarray, "h w"]


def recompose(layers: Layers, masks: Masks, movement: Movement, hinge: Hinge) -> Image:
    """Radiographs of layers whose bones have moved (Eq. 13); `masks` are those that the layers cover."""
    margin = margin_of(layers.shape[-1])
    wide = continued(layers, to_edge(masks), margin)
    centre = (hinge.middle[0], hinge.middle[1] + margin)
    moved = [shift(wide[:, [i]], by, centre=centre) for i, by in zip((1, 2), shifts(movement, hinge), strict=True)]
    return compose(torch.cat((wide[:, :1], *moved), dim=1)[..., margin : margin + layers.shape[-2], :])


def margin_of(size: int) -> int:
    """Rows by which bones are continued in a frame of `size` px."""
    return round(at_256(MARGIN_PX, size))


def settled(layers: Layers, masks: Masks) -> Layers:
    """Layers whose soft tissue is smooth under the bones, composing to the same image; `masks` are what they cover.

    What a network leaves there of the bones' grain and outlines would stay behind when they move. It goes back to them,
    divided as they are. On phantoms as film this is worth 1 to 2 dB where soft tissue is laid bare (adjustment.json).
    """
    absorbed = absorbance(layers)
    whole, soft = absorbed.sum(dim=1, keepdim=True), absorbed[:, :1]
    smooth = torch.minimum(blurred(soft, at_256(GRAIN_PX, layers.shape[-1])), whole)
    return around_soft(torch.where(bones(masks) > 0, smooth, soft), whole, absorbed[:, 1:], masks)


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
        wide, drawn = to_edge(wide), to_edge(drawn)
        light = 1 - continued(layers, wide, margin)[0].cpu().numpy()
        outlines = continued(drawn, drawn, margin)[0, 1:].cpu().numpy()
        return cls(light, outlines, drawn[0, 0].cpu().numpy() > 0, hinge, margin)

    @property
    def reach_mm(self) -> float:
        """How far a bone may be moved away from the frame's edge."""
        return self.margin * self.hinge.spacing_mm

    def image(self, movement: Movement, *, out: Plane | None = None) -> Plane:
        """The radiograph (h, w) after a movement, in [0, 1] (Eq. 13); linear between pixels, as `shift` is.

        Written into `out` where it is given: fresh memory for each of thousands of images takes longer than the images.
        """
        import cv2

        seen = np.empty(self.hand.shape, np.float32) if out is None else out
        return self._composed(movement, cv2.INTER_LINEAR, seen)

    def picture(self, movement: Movement) -> Plane:
        """The same with the bones as sharp as they were: cubic between pixels, at some cost of speed.

        Linear interpolation takes a tenth of what is finest in a radiograph, and by that moved bones are told apart.
        """
        import cv2

        return self._composed(movement, cv2.INTER_CUBIC, np.empty(self.hand.shape, np.float32)).clip(0, 1)

    def _composed(self, movement: Movement, interpolation: int, seen: Plane) -> Plane:
        """Fill `seen` with the soft tissue and both bones after a movement."""
        import cv2

        np.copyto(seen, self.light[0, self.margin : len(self.light[0]) - self.margin])
        for rows, moved in self._moved(self.light[1:], movement, interpolation):
            cv2.multiply(seen[rows], moved, dst=seen[rows])
        return cv2.subtract(1.0, seen, dst=seen)

    def masks(self, movement: Movement) -> Bool[np.ndarray, "3 h w"]:
        """Hand, lower and upper bone after a movement; the hand grows where a bone leaves it."""
        import cv2

        found = np.zeros((3, *self.hand.shape), bool)
        moved_outlines = self._moved(self.outlines, movement, cv2.INTER_LINEAR)
        for mask, (rows, moved) in zip(found[1:], moved_outlines, strict=True):
            mask[rows] = moved > 0.5
        found[0] = self.hand | found.any(axis=0)
        return found

    def _moved(
        self, planes: Float[np.ndarray, "2 y x"], movement: Movement, interpolation: int
    ) -> Iterator[tuple[slice, Float[np.ndarray, "r w"]]]:
        """A plane of each bone moved as it is, and the rows of the frame that it is for: the bone is in no others."""
        import cv2

        down = np.array([[0, 0, 0], [0, 0, self.margin]])  # the frame's rows are so many px down in a continued plane
        flags = interpolation | cv2.WARP_INVERSE_MAP
        for plane, span, by in zip(planes, self._spans, shifts(movement, self.hinge), strict=True):
            matrix = source_matrix(by, self.hinge.middle) + down
            rows = self._reached(span, matrix)
            matrix[:, 2] += rows.start * matrix[:, 1]
            size = (plane.shape[1], rows.stop - rows.start)
            yield rows, cv2.warpAffine(plane, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)

    @cached_property
    def _spans(self) -> tuple[tuple[int, int], ...]:
        """First and last row of the continued planes in which each bone or its outline is."""
        pairs = zip(self.light[1:], self.outlines, strict=True)
        found = [np.flatnonzero(((light < 1) | (outline > 0)).any(axis=1)) for light, outline in pairs]
        return tuple((int(rows[0]), int(rows[-1])) if len(rows) else (0, 0) for rows in found)

    def _reached(self, span: tuple[int, int], matrix: np.ndarray) -> slice:
        """The frame's rows into which a bone of those rows comes; what touches a plane's edge goes on without end."""
        height, width = self.hand.shape
        above = -np.inf if span[0] == 0 else span[0] - KERNEL_PX
        below = np.inf if span[1] == self.light.shape[1] - 1 else span[1] + KERNEL_PX
        ends = matrix[1, 0] * np.array([[0], [width - 1]]) + matrix[1, 1] * np.arange(height) + matrix[1, 2]
        rows = np.flatnonzero((ends.max(axis=0) >= above) & (ends.min(axis=0) <= below))
        return slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 1)
