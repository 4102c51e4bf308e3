"""Masks for free: a network that draws the two bones and the hand in a raw radiograph, and refuses what is no joint.

Beside the outlines it says what it was given: an upright joint, one that is turned or inverted, or something else. What
it is not sure of is refused with a remedy, because masks of a chest film would look like masks of a joint.
"""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lsn_core.files import InputError, atomic
from lsn_core.networks import PACKAGE, intact
from lsn_core.shapes import Image, PerItem
from lsn_core.unet import Block, UNet

SIZE = 128  # px of the frames that the network sees
KINDS = ("upright", "left", "down", "right", "inverted", "other")  # where the fingertip points, or what else it is
REMEDIES = {
    "left": "the fingertip points left; turn the image by 90 degrees clockwise",
    "down": "the joint is upside down; turn the image by 180 degrees",
    "right": "the fingertip points right; turn the image by 90 degrees counter-clockwise",
    "inverted": "its greys are inverted; bone must be white",
    "other": "it shows no joint that this network knows; crop one metacarpophalangeal joint, fingertip up",
}
SURE = 0.8  # probability of an upright joint below which an image is refused
AGREED = 0.85  # Dice between what is found in an image and in its mirror image, below which its masks are refused
LEAST = 0.03  # of the frame that each bone covers
FOLDERS = (PACKAGE / "weights", PACKAGE.parent / "data" / "weights")  # in a wheel, and in a checkout
SHIPPED = "outlines"


class Onlooker(nn.Module):
    """What an image shows as a whole: the logit of each of `KINDS`."""

    def __init__(self) -> None:
        """Each 4 x 4 px become the channels of one, three halvings follow, and a mean and a maximum of what is left."""
        super().__init__()
        widths = (16, 48, 64, 96, 128)
        pairs = pairwise(widths)
        self.maps = nn.Sequential(
            nn.PixelUnshuffle(4), *(nn.Sequential(Block(a, b), nn.MaxPool2d(2)) for a, b in pairs)
        )
        self.leave = nn.Linear(2 * widths[-1], len(KINDS))

    def forward(self, x: Image) -> Float[Tensor, "b k"]:
        """(b, 1, h, w) to (b, kinds)."""
        maps = self.maps(x)
        return self.leave(torch.cat((maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))), dim=1))


class Outliner(nn.Module):
    """Outlines and kind of radiographs of any grey-level window; 1.0 M parameters."""

    def __init__(self) -> None:
        """Fresh weights from torch's global random state."""
        super().__init__()
        self.outlines = UNet(1, 3, fold=2, widths=(16, 32, 64, 128, 160), finest=24)
        self.onlooker = Onlooker()

    def forward(self, image: Image) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b k"]]:
        """Logits of hand, lower and upper bone, and of each of `KINDS`, of images at `SIZE`."""
        seen = standardised(image)
        return self.outlines(seen).float(), self.onlooker(seen).float()


def standardised(image: Image) -> Image:
    """Each image with mean 0 and SD 1, whatever its window and exposure were."""
    spread, mean = torch.std_mean(image, dim=(1, 2, 3), keepdim=True)
    return (image - mean) / (spread + 0.01)


@dataclass(frozen=True)
class Found:
    """What the network found in each image."""

    masks: Bool[Tensor, "b 3 h w"]  # hand, lower and upper bone, each bone in one piece without holes
    kinds: Float[Tensor, "b k"]  # probability of each of `KINDS`
    agreement: PerItem  # Dice of the worse bone against what is found in the mirror image, 0 to 1


@torch.no_grad()
def find_masks(outliner: Outliner, image: Image) -> Found:
    """Draw the bones and the hand in images (b, 1, h, w) of any size, as they are; `reason` tells whom to believe."""
    small = F.interpolate(image, (SIZE, SIZE), mode="bilinear", antialias=True)
    logits, kinds = outliner(small)
    mirrored = outliner(small.flip(-1))[0].flip(-1)
    agreement = dice(logits[:, 1:] > 0, mirrored[:, 1:] > 0).amin(dim=1)
    both = F.interpolate((logits + mirrored) / 2, image.shape[-2:], mode="bilinear") > 0
    bones = torch.from_numpy(np.stack([[whole(bone) for bone in item[1:].numpy()] for item in both.cpu()]))
    hand = both[:, :1].cpu() | bones.any(dim=1, keepdim=True)
    return Found(torch.cat((hand, bones), dim=1), kinds.softmax(dim=1), agreement)


def dice(a: Bool[Tensor, "b c h w"], b: Bool[Tensor, "b c h w"]) -> Float[Tensor, "b c"]:
    """Twice the shared area over the sum of both; 1 where both are empty."""
    shared, total = (a & b).sum(dim=(2, 3)), a.sum(dim=(2, 3)) + b.sum(dim=(2, 3))
    return torch.where(total > 0, 2 * shared / total.clamp_min(1), 1.0)


def whole(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The largest piece of a mask, its holes filled."""
    from scipy import ndimage

    pieces, count = ndimage.label(mask)
    if count > 1:
        mask = pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()
    return ndimage.binary_fill_holes(mask)


def reason(found: Found, item: int) -> str | None:
    """Why an image is refused, with a remedy; None where it shows an upright joint whose bones were found."""
    kind = KINDS[int(found.kinds[item].argmax())]
    sure, (_, lower, upper) = float(found.kinds[item, 0]), found.masks[item].numpy()
    if kind != "upright":
        return REMEDIES[kind]
    if sure < SURE or float(found.agreement[item]) < AGREED or min(lower.mean(), upper.mean()) < LEAST:
        doubt = f"joint {sure:.0%} sure, outlines repeated to {float(found.agreement[item]):.0%}"
        return f"the bones are not found with certainty ({doubt}); crop the joint alone, or draw its masks"
    if np.nonzero(lower)[0].mean() <= np.nonzero(upper)[0].mean():
        return REMEDIES["down"]
    return None


def load_outliner(weights: str | Path) -> Outliner:
    """Load a trained outliner: the shipped one by its name ("outlines"), or a file.

    Raises `InputError` where there is no such file, the shipped one is not what its card describes, or it is none.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = outliner_path(weights)
    outliner = Outliner()
    try:
        outliner.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    except (SafetensorError, OSError, RuntimeError) as error:
        told = str(error).splitlines()[0]
        raise InputError(
            f"{path}: not an outliner of this version ({told}); train one with 'lsn train-masks'"
        ) from error
    return outliner.eval().requires_grad_(False)


def outliner_path(weights: str | Path) -> Path:
    """Where an outliner's weights are. Raises `InputError` where there is no such file."""
    shipped = [folder / SHIPPED / f"{SHIPPED}.safetensors" for folder in FOLDERS]
    found = [path for path in shipped if path.is_file()]
    if str(weights) == SHIPPED and found:
        return intact(found[0])
    if not Path(weights).is_file():
        raise InputError(f"{weights}: no such weights; give a file, or the shipped {SHIPPED!r}")
    return Path(weights)


def save_outliner(path: Path, outliner: Outliner, provenance: dict[str, str]) -> Path:
    """Write the weights, at half precision, and where they come from; atomic, no pickle."""
    from safetensors.torch import save

    state = {name: value.half().contiguous().cpu() for name, value in outliner.state_dict().items()}
    with atomic(path) as part:
        part.write_bytes(save(state, {"provenance": json.dumps(provenance)}))
    return Path(path)
