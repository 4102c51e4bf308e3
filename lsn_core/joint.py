"""One joint: a radiograph, its masks and what is known about it."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

FINGERS = ("thumb", "index", "middle", "ring", "small")


@dataclass(frozen=True)
class Joint:
    """A metacarpophalangeal joint. Truth that only phantoms have (layers, JSW) is None on a radiograph."""

    image: Float[Tensor, "1 h w"]  # [0, 1], 1 white
    masks: Float[Tensor, "3 h w"]  # hand, lower bone (metacarpal head), upper bone (proximal phalanx base); 0 or 1
    name: str  # unique in its dataset
    joint: str  # the same for all visits of one joint
    subject: str | None = None  # the same for all joints of one person; None: unknown
    finger: str | None = None  # one of FINGERS
    side: str | None = None  # "L" or "R"
    spacing_mm: float | None = None  # mm per pixel of this image; None: lengths in px only
    spacing_from: str | None = None  # where a DICOM header measures it: "patient", "detector" (magnified); None: stated
    layers: Float[Tensor, "3 h w"] | None = None  # soft, lower, upper in [0, 1]
    jsw_mm: float | None = None  # negative: projected overlap
    outlined: bool = False  # whether a network drew the masks
