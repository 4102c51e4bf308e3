"""The whole data set as tensors on one device: decoded once, resized, masks widened, batches by index."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from lsn_core.files import InputError
from lsn_core.joint import Joint
from lsn_core.masks import at_256, bones, dilate
from lsn_core.pseudo import harmonic_fill
from lsn_core.shapes import Image, Masks


@dataclass(frozen=True)
class Batch:
    """Radiographs and what training compares them with. Masks are kept as bool to save memory, and used as float."""

    image: Image  # [0, 1]
    drawn: Bool[Tensor, "b 3 h w"]  # hand, lower, upper bone as they were drawn
    wide: Bool[Tensor, "b 3 h w"]  # the same, widened over the blurred edge: what a layer may cover
    fill: Image  # the image with its bones filled harmonically from the soft tissue beside them

    def __len__(self) -> int:
        """How many radiographs."""
        return len(self.image)

    def take(self, index: Tensor | slice) -> "Batch":
        """The radiographs at `index`."""
        return Batch(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def to(self, device: torch.device | str) -> "Batch":
        """The same on another device."""
        return Batch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    @property
    def masks(self) -> Masks:
        """The widened masks as 0 and 1."""
        return self.wide.to(self.image.dtype)


def resize(joint: Joint, size: int) -> Joint:
    """The joint at `size` x `size` px: antialiased bilinear, masks above one half; millimetres follow.

    Raises `InputError` for a frame that is not square, because stretching it would bend millimetres.
    """
    height, width = joint.image.shape[-2:]
    if height != width:
        raise InputError(f"{joint.name}: the image is {width} x {height} px; crop joints to squares")
    if (height, width) == (size, size):
        return joint
    image, masks = _scaled(joint.image, size), (_scaled(joint.masks, size) >= 0.5).to(joint.masks.dtype)
    spacing = joint.spacing_mm and joint.spacing_mm * height / size
    layers = None if joint.layers is None else _scaled(joint.layers, size)
    return replace(joint, image=image, masks=masks, spacing_mm=spacing, layers=layers)


def _scaled(planes: Tensor, size: int) -> Tensor:
    """Planes (c, h, w) at `size` px, averaged over the pixels that fall into one."""
    return F.interpolate(planes[None], size=(size, size), mode="bilinear", antialias=True, align_corners=False)[0]


def stack(joints: Iterable[Joint], *, size: int, dilate_px: float) -> Batch:
    """Joints as one batch at `size` px; `dilate_px` widens the masks, in px of a 256 px frame.

    Raises `InputError` where the widened bones leave no soft tissue to fill them from.
    """
    resized = [resize(joint, size) for joint in joints]
    image = torch.stack([joint.image for joint in resized])
    drawn = torch.stack([joint.masks for joint in resized])
    wide = dilate(drawn, at_256(dilate_px, size))
    for joint, union in zip(resized, bones(wide), strict=True):
        if union.all():
            raise InputError(f"{joint.name}: the bones cover the whole frame; crop with soft tissue beside them")
    return Batch(image, drawn.bool(), wide.bool(), soft_fill(image, wide))


def soft_fill(image: Image, masks: Masks, *, chunk: int = 64) -> Image:
    """Each image with its bones filled harmonically (zero flux at the frame), `chunk` images at a time."""
    parts = zip(image.split(chunk), masks.split(chunk), strict=True)
    return torch.cat([harmonic_fill(some, bones(of) > 0) for some, of in parts])


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Several batches as one."""
    return Batch(**{f.name: torch.cat([getattr(batch, f.name) for batch in batches]) for f in fields(Batch)})
