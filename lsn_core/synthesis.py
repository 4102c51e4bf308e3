"""Synthesis: one separated joint at any joint space width (Eq. 13), with labels that follow from the movement.

`recompose` is the reference, differentiable and on any device. A `Source` makes thousands of images a second of the
same layers on a CPU, and agrees with it. Both continue the bones beyond the frame before they move them.
"""

from dataclasses import dataclass

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

    def image(self, movement: Movement) -> Plane:
        """The radiograph (h, w) after a movement, in [0, 1] (Eq. 13)."""
        import cv2

        lower, upper = self._moved(self.light[1:], movement)
        seen = cv2.multiply(lower, upper, dst=lower)
        seen = cv2.multiply(seen, self.light[0, self.margin : len(self.light[0]) - self.margin], dst=seen)
        return cv2.subtract(1.0, seen, dst=seen)

    def masks(self, movement: Movement) -> Bool[np.ndarray, "3 h w"]:
        """Hand, lower and upper bone after a movement; the hand grows where a bone leaves it."""
        lower, upper = (moved > 0.5 for moved in self._moved(self.outlines, movement))
        return np.stack((self.hand | lower | upper, lower, upper))

    def _moved(self, planes: Float[np.ndarray, "2 y x"], movement: Movement) -> list[Plane]:
        """A plane of each bone moved as the bone is, as large as the frame."""
        import cv2

        height, width = self.hand.shape
        down = np.array([[0, 0, 0], [0, 0, self.margin]])  # the frame's rows are so many px down in a continued plane
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return [
            cv2.warpAffine(
                plane,
                source_matrix(by, self.hinge.middle) + down,
                (width, height),
                flags=flags,
                borderMode=cv2.BORDER_REPLICATE,
            )
            for plane, by in zip(planes, shifts(movement, self.hinge), strict=True)
        ]
