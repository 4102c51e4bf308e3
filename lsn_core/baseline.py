"""Layers in closed form, without learning: what a trained generator must do better than."""

from collections.abc import Callable

import torch
from torch import nn

from lsn_core.dip import DeepPrior
from lsn_core.harmonic import harmonic_fill
from lsn_core.masks import at_256, bones, dilate
from lsn_core.networks import Recipe
from lsn_core.pseudo import bone_layers, halves
from lsn_core.shapes import Bones, Image, Layers, Masks


class Closed(nn.Module):
    """Layers in closed form, used as a `Separator` is: masks as drawn, frames of any size, no weights.

    Soft tissue is continued harmonically under the bones; what a pixel absorbs beyond it is bone.
    """

    def __init__(self, name: str, share: Callable[[Masks], Bones], *, size: int = 256, dilate_px: float = 4.0) -> None:
        """`share` says how much of it is each bone's, from the widened masks.

        `size` is the frame in px that it is measured at, `dilate_px` by how much masks are widened, px at 256.
        """
        super().__init__()
        self.recipe, self.share = Recipe("none", name, size, dilate_px), share

    def forward(self, image: Image, masks: Masks) -> Layers:
        """Layers in [0, 1]; soft tissue is never brighter than the image, and alone it is the image beside the bones.

        Raises `ValueError` where the widened bones cover a whole frame.
        """
        wide = dilate(masks, at_256(self.recipe.dilate_px, masks.shape[-1]))
        fill = harmonic_fill(image, bones(wide) > 0)
        soft = torch.minimum(fill, image) * wide[:, :1]
        return torch.cat((soft, bone_layers(image, self.share(wide), soft)), dim=1)


def harmonic(*, size: int = 256, dilate_px: float = 4.0) -> Closed:
    """The closed form: where both bones are, half of what they absorb is each one's. Composes to the image exactly."""
    return Closed("harmonic", halves, size=size, dilate_px=dilate_px)


def cut_out(*, size: int = 256, dilate_px: float = 4.0) -> Closed:
    """Cut and shift: each bone is cut out whole, with what lies over it, above a harmonic background.

    What one does without separating. Where both bones are each carries both, so that it is counted twice, and goes
    along when one of them is moved.
    """
    return Closed("cut out", lambda masks: masks[:, 1:], size=size, dilate_px=dilate_px)


BASELINES = {"harmonic": harmonic, "cut": cut_out, "deep-prior": DeepPrior}  # by the names that `lsn evaluate` takes
