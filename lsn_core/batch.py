"""The whole data set as tensors on one device: decoded once, resized, masks widened, batches by index."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from lsn_core.files import InputError
from lsn_core.joint import Joint
from lsn_core.masks import FRAME, at_256, bones, dilate, overlap
from lsn_core.pseudo import harmonic_fill
from lsn_core.shapes import Bones, Image, Layers, Masks

T = TypeVar("T")
APART_PX = 10  # px at 256 that two bones may share and still count as apart


@dataclass(frozen=True)
class Batch:
    """Radiographs and what training compares them with. Masks are kept as bool to save memory, and used as float."""

    image: Image  # [0, 1]
    drawn: Bool[Tensor, "b 3 h w"]  # hand, lower, upper bone as they were drawn
    wide: Bool[Tensor, "b 3 h w"]  # the same, widened over the blurred edge: what a layer may cover
    nearer: Bool[Tensor, "b 1 h w"]  # where the lower bone as drawn is nearer than the upper
    fill: Image  # the image with its bones filled harmonically from the soft tissue beside them
    apart: Bool[Tensor, " b"]  # whether the bones as drawn do not overlap
    layers: Layers | None = None  # the truth, of phantoms

    def __len__(self) -> int:
        """How many radiographs."""
        return len(self.image)

    def take(self, index: Tensor | slice) -> "Batch":
        """The radiographs at `index`."""
        return mapped(self, lambda plane: plane[index])

    def to(self, device: torch.device | str) -> "Batch":
        """The same on another device."""
        return mapped(self, lambda plane: plane.to(device))

    @property
    def masks(self) -> Masks:
        """The widened masks as 0 and 1."""
        return self.wide.to(self.image.dtype)

    @property
    def share(self) -> Bones:
        """Whose bone each pixel of the widened masks is: the nearer one's, and half of each where both are drawn.

        Widened by a few px, the outlines of two bones overlap in a narrow joint. A pixel there belongs to one of them:
        given to both, a sliver of each would be carried along with the other.
        """
        both = overlap(self.drawn.to(self.image.dtype))
        lower = torch.lerp(self.nearer.to(self.image.dtype), torch.full_like(both, 0.5), both)
        contested = overlap(self.masks)
        shares = torch.cat((lower, 1 - lower), dim=1)
        return self.masks[:, 1:] * torch.lerp(torch.ones_like(shares), shares, contested)


def mapped(part: T, change: Callable[[Tensor], Tensor]) -> T:
    """A dataclass with each of its tensors changed, those of dataclasses and tuples within it too."""
    if isinstance(part, Tensor):
        return change(part)
    if isinstance(part, tuple):
        return tuple(mapped(one, change) for one in part)
    if is_dataclass(part):
        return replace(part, **{field.name: mapped(getattr(part, field.name), change) for field in fields(part)})
    return part


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
    known = [joint.layers for joint in resized if joint.layers is not None]
    truth = torch.stack(known) if len(known) == len(resized) else None
    fill = soft_fill(image, wide)
    return Batch(image, drawn.bool(), wide.bool(), lower_nearer(drawn), fill, bones_apart(drawn), truth)


def bones_apart(drawn: Masks) -> Bool[Tensor, " b"]:
    """Whether the bones, widened by 1 px at 256, share no more than `APART_PX`."""
    size = drawn.shape[-1]
    shared = overlap(dilate(drawn, at_256(1.0, size))).sum(dim=(1, 2, 3))
    return shared <= APART_PX * (size / FRAME) ** 2


def lower_nearer(drawn: Masks) -> Bool[Tensor, "b 1 h w"]:
    """Where the lower bone is nearer than the upper one, in px; nowhere where there is no lower bone."""
    from scipy.ndimage import distance_transform_edt

    def distance(mask: Tensor) -> Tensor:
        away = torch.full(mask.shape, float("inf"))
        return torch.from_numpy(distance_transform_edt(1 - mask.numpy())) if mask.any() else away

    return torch.stack([distance(masks[1]) < distance(masks[2]) for masks in drawn.cpu()])[:, None]


def soft_fill(image: Image, masks: Masks, *, chunk: int = 64) -> Image:
    """Each image with its bones filled harmonically (zero flux at the frame), `chunk` images at a time."""
    parts = zip(image.split(chunk), masks.split(chunk), strict=True)
    return torch.cat([harmonic_fill(some, bones(of) > 0) for some, of in parts])


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Several batches as one; the truth stays known only where all of them have it."""
    columns = {field.name: [getattr(batch, field.name) for batch in batches] for field in fields(Batch)}
    return Batch(**{k: None if any(part is None for part in v) else torch.cat(v) for k, v in columns.items()})
