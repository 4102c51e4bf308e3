"""Layers without training: three untrained networks are fitted to one radiograph, as in Double-DIP.

After Gandelsman et al. 2019 (arXiv 1812.00467), with the gradient exclusion of Zhang et al. 2018 (arXiv 1806.05376).
Of three rates tried on four phantoms on film this one reconstructs them best, 37 dB in the hand, after 250 steps, about
10 s on one core. The exclusion's weight leaves a ninth of the edges that layers share without it, at 1.6 dB of that;
the layers' truth decided neither, and which layer gets what two may hold is left to chance, as in Double-DIP.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from lsn_core.files import InputError
from lsn_core.losses import masked_mean
from lsn_core.masks import at_256, dilate, overlap
from lsn_core.networks import Recipe
from lsn_core.radiograph import compose
from lsn_core.shapes import Image, Layers, Masks, Scalar
from lsn_core.unet import UNet

STEPS, RATE = 250, 5e-3  # steps of Adam for each image, and their size
EXCLUSION, SCALES = 0.1, 3  # its weight beside the mean squared error; the frame, its half and its quarter
NOISE, FOLD, WIDTHS, FINEST = 4, 2, (16, 32, 64), 16  # channels of the noise, and each layer's U-Net
SIDES = FOLD * 2 ** (len(WIDTHS) - 1)  # what the sides of a frame are multiples of


class DeepPrior(nn.Module):
    """The fit, used as a `Separator` is: masks as drawn, frames of any size that 8 divides, no trained weights.

    Each layer is what a fresh U-Net makes of its own fixed noise, inside its widened mask. Each image is fitted by
    itself: its layers depend on it, on its masks and on `seed` alone.
    """

    def __init__(self, *, size: int = 128, dilate_px: float = 4.0, steps: int = STEPS, seed: int = 0) -> None:
        """The frame in px that it is measured at, by how much masks are widened, in px at 256, and the fit's length."""
        super().__init__()
        self.recipe, self.steps, self.seed = Recipe("none", "deep prior", size, dilate_px), steps, seed

    def forward(self, image: Image, masks: Masks) -> Layers:
        """Layers in [0, 1], each zero outside its widened mask, that compose nearly to `image`; with a progress bar.

        Raises `InputError` for a frame whose sides 8 does not divide.
        """
        height, width = image.shape[-2:]
        if height % SIDES or width % SIDES:
            raise InputError(
                f"a frame of {width} x {height} px: the deep prior needs sides that {SIDES} divides; give --size"
            )
        wide = dilate(masks, at_256(self.recipe.dilate_px, width)).float()
        pairs = tqdm(zip(image.float().split(1), wide.split(1), strict=True), "fitting", len(image), unit="image")
        return torch.cat([fit(one, of, steps=self.steps, seed=self.seed) for one, of in pairs])


@torch.enable_grad()
def fit(image: Image, masks: Masks, *, steps: int, seed: int) -> Layers:
    """Layers that after so many steps compose to one image (Eq. 4) inside its widened masks, changing apart."""
    networks, noise = (part.to(image.device) for part in _fresh(image.shape[-2:], seed))
    optimiser = torch.optim.Adam(networks.parameters(), RATE)
    for _ in range(steps):
        layers = _layers(networks, noise, masks)
        loss = masked_mean((compose(layers) - image) ** 2, masks[:, :1]) + EXCLUSION * shared_edges(layers, masks)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return _layers(networks, noise, masks).detach()


def _fresh(sides: tuple[int, int], seed: int) -> tuple[nn.ModuleList, Tensor]:
    """Three untrained networks and the noise (3, c, h, w) that they are fed; the caller's random state is untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
        networks = nn.ModuleList(UNet(NOISE, 1, fold=FOLD, widths=WIDTHS, finest=FINEST) for _ in range(3))
        return networks, torch.randn(3, NOISE, *sides)


def _layers(networks: nn.ModuleList, noise: Tensor, masks: Masks) -> Layers:
    """What each network makes of its noise, as one image's layers."""
    logits = [network(one[None]) for network, one in zip(networks, noise, strict=True)]
    return torch.sigmoid(torch.cat(logits, dim=1)) * masks


def shared_edges(layers: Layers, masks: Masks) -> Scalar:
    """Exclusion of the soft tissue and each bone inside the bone, and of the two bones inside their overlap."""
    soft, lower, upper = layers.split(1, dim=1)
    pairs = ((soft, lower, masks[:, 1:2]), (soft, upper, masks[:, 2:3]), (lower, upper, overlap(masks)))
    return sum(exclusion(*pair) for pair in pairs)


def exclusion(one: Image, other: Image, where: Image) -> Scalar:
    """How much two layers change at the same places inside a mask: mean over the frame's scale and coarser ones."""
    total = one.new_zeros(())
    for scale in range(SCALES):
        if scale:  # a coarser pixel is inside where all of its four are
            one, other, where = F.avg_pool2d(one, 2), F.avg_pool2d(other, 2), -F.max_pool2d(-where, 2)
        total = total + sum(_together(one, other, where, axis) for axis in (2, 3))
    return total / SCALES


def _together(one: Image, other: Image, where: Image, axis: int) -> Scalar:
    """Mean product of two layers' changes along an axis, first brought to the same size and bounded by tanh."""
    here = where.narrow(axis, 1, where.shape[axis] - 1) * where.narrow(axis, 0, where.shape[axis] - 1)
    first, second = (layer.diff(dim=axis) * here for layer in (one, other))
    ratio = ((second.detach().norm() + 1e-6) / (first.detach().norm() + 1e-6)).sqrt()
    return masked_mean(torch.tanh(first * ratio).abs() * torch.tanh(second / ratio).abs(), here)
