"""Layers in closed form, without learning: what a trained generator must do better than."""

import torch
from torch import nn

from lsn_core.harmonic import harmonic_fill
from lsn_core.masks import at_256, bones, dilate
from lsn_core.networks import Recipe
from lsn_core.pseudo import bone_layers, halves
from lsn_core.shapes import Image, Layers, Masks


class Harmonic(nn.Module):
    """The closed form, used as a `Separator` is: masks as drawn, frames of any size, no weights.

    Soft tissue is continued harmonically under the bones; what a pixel absorbs beyond it is bone, half of each where
    both are.
    """

    def __init__(self, *, size: int = 256, dilate_px: float = 4.0) -> None:
        """The frame in px that it is measured at, and by how much masks are widened, in px of a 256 px frame."""
        super().__init__()
        self.recipe = Recipe("none", "harmonic", size, dilate_px)

    def forward(self, image: Image, masks: Masks) -> Layers:
        """Layers in [0, 1] that compose to `image` exactly in the hand; soft tissue is never brighter than the image.

        Raises `ValueError` where the widened bones cover a whole frame.
        """
        wide = dilate(masks, at_256(self.recipe.dilate_px, masks.shape[-1]))
        fill = harmonic_fill(image, bones(wide) > 0)
        soft = torch.minimum(fill, image) * wide[:, :1]
        return torch.cat((soft, bone_layers(image, halves(wide), soft)), dim=1)
