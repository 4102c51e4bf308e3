"""The generator G, the segmentation network N_S and the discriminator N_D: backbones, and two heads for G.

A backbone maps (b, c, h, w) to logits of the same size; activation happens in the heads and in the losses.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lsn_core.critic import Critic
from lsn_core.files import InputError, atomic, read_bytes
from lsn_core.masks import at_256, bones, dilate
from lsn_core.radiograph import absorbance, display
from lsn_core.shapes import Bones, Image, Layers, Logits, Masks
from lsn_core.transunet import TransUNet
from lsn_core.unet import UNet

Head = Callable[[Logits, Image, Masks], Layers]
PACKAGE = Path(__file__).parent
WEIGHTS = (PACKAGE / "weights", PACKAGE.parent / "data" / "weights")  # in a wheel, and in a checkout
GENERATOR = "generator.safetensors"  # in a run's folder: the best one
HASHES = "SHA256SUMS"  # beside the shipped weights, as sha256sum writes it


def sigmoid_head(logits: Logits, image: Image, masks: Masks) -> Layers:
    """The paper's head: each layer is a free sigmoid inside its mask (Eq. 1)."""
    return torch.sigmoid(logits) * masks


def partition_head(logits: Logits, image: Image, masks: Masks) -> Layers:
    """Divide each pixel's absorbance among the layers whose mask covers it, so that Eq. 4 holds exactly in the hand."""
    share = torch.softmax(logits - 1e4 * (1 - masks), dim=1) * masks
    return display(absorbance(image) * share)


HEADS: dict[str, Head] = {"sigmoid": sigmoid_head, "partition": partition_head}


class Absorbing(nn.Module):
    """A backbone that also sees the logarithm of the absorbance.

    The logarithm of a layer's share is a difference of such logarithms, which a convolution can form.
    """

    def __init__(self, backbone: nn.Module) -> None:
        """`backbone` takes the generator's channels and one more."""
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Logits:
        """(b, 4, h, w) to (b, 3, h, w)."""
        return self.backbone(torch.cat((x, torch.log(absorbance(x[:, :1]) + 0.02)), dim=1))


class Generator(nn.Module):
    """G: a radiograph and its masks to its three layers (Eq. 1)."""

    def __init__(self, backbone: nn.Module, head: Head) -> None:
        """`backbone` maps 4 channels to 3 logits; `head` turns them into layers."""
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, image: Image, masks: Masks) -> Layers:
        """Soft tissue, lower and upper bone in [0, 1], each zero outside its mask; float32 in any precision."""
        inputs = torch.cat((image * masks[:, :1], masks[:, 1:], masks[:, :1]), dim=1)
        return self.head(self.backbone(inputs).float(), image, masks)


@dataclass(frozen=True)
class Networks:
    """The three players of Algorithm 1."""

    generator: nn.Module  # G: a `Generator`, or what a training wraps around one
    segmenter: nn.Module  # N_S (Eq. 2): image to logits of soft tissue, lower and upper bone
    discriminator: nn.Module  # N_D (Eq. 3): soft-tissue layer to the logit of bone


def compact_networks(head: str, size: int) -> Networks:
    """Networks for a laptop's CPU, any `size` that 32 divides: 0.8 M parameters, and two critics of 0.3 M."""
    backbone = Absorbing(UNet(5, 3, fold=2, widths=(16, 32, 64, 128, 160), finest=24))
    segmenter, discriminator = (UNet(1, n, fold=4, widths=(24, 48, 64, 96), finest=24) for n in (3, 1))
    return Networks(Generator(backbone, HEADS[head]), segmenter, discriminator)


def paper_networks(head: str, size: int) -> Networks:
    """The paper's networks: TransUNet (67 M parameters) for frames of `size`, and two U-Nets (15 M each)."""
    return Networks(Generator(TransUNet(size=size), HEADS[head]), Critic(3), Critic(1))


NETWORKS = {"compact": compact_networks, "paper": paper_networks}


@dataclass(frozen=True)
class Recipe:
    """What a generator's weights need to be used again."""

    networks: str  # key of NETWORKS
    head: str  # key of HEADS
    size: int  # px of the frame that it was trained on
    dilate_px: float  # by which masks are widened before it sees them, in px of a 256 px frame


class Separator(nn.Module):
    """A trained generator as its users call it: masks as drawn, frames of any size."""

    def __init__(self, generator: Generator, recipe: Recipe) -> None:
        """The generator and how it was trained."""
        super().__init__()
        self.generator, self.recipe = generator, recipe

    def forward(self, image: Image, masks: Masks) -> Layers:
        """Layers of `image`, found at the trained size; an image of another size gets them by `enlarge`."""
        wide = self.widen(masks)
        if image.shape[-1] == image.shape[-2] == self.recipe.size:
            return self.generator(image, wide)
        layers = self.generator(self._scaled(image), (self._scaled(wide) >= 0.5).to(wide.dtype))
        return enlarge(layers, image, wide)

    def widen(self, masks: Masks) -> Masks:
        """The masks that the layers may cover: bones widened over their blurred edges."""
        return dilate(masks, at_256(self.recipe.dilate_px, masks.shape[-1]))

    def _scaled(self, planes: Tensor) -> Tensor:
        """Planes (b, c, h, w) at the trained size."""
        return F.interpolate(planes, (self.recipe.size,) * 2, mode="bilinear", antialias=True)


def enlarge(layers: Float[Tensor, "b 3 y x"], image: Image, masks: Masks) -> Layers:
    """Layers of a smaller copy of `image` at the image's own size, composing to it exactly in the hand.

    Under the bones the soft tissue is interpolated, because it is smooth there; the rest of each pixel's absorbance,
    and with it all finer detail, goes to the bones, divided as in the smaller copy. Beside them all is soft tissue.
    """
    absorbed = absorbance(image) * masks[:, :1]
    guess = F.interpolate(absorbance(layers), image.shape[-2:], mode="bilinear") * masks
    soft = torch.where(bones(masks) > 0, torch.minimum(guess[:, :1], absorbed), absorbed)
    return around_soft(soft, absorbed, guess[:, 1:], masks)


def around_soft(soft: Image, absorbed: Image, bones_as: Bones, masks: Masks) -> Layers:
    """Layers that absorb `absorbed` in all, `soft` of it in the soft tissue, the rest in the bones divided `bones_as`.

    All in absorbance; where that has no bone at all, the bones whose mask is there take the same.
    """
    share = bones_as + 1e-6 * masks[:, 1:]
    bone = (absorbed - soft) * share / share.sum(dim=1, keepdim=True).clamp_min(1e-9)
    return display(torch.cat((soft, bone), dim=1))


def save_generator(path: Path, generator: nn.Module, recipe: Recipe, provenance: dict[str, str]) -> Path:
    """Write a generator's weights, at half precision, with its recipe and where it comes from; atomic, no pickle."""
    from safetensors.torch import save

    state = {k: v.half() if v.is_floating_point() else v for k, v in generator.state_dict().items()}
    header = {"recipe": json.dumps(recipe.__dict__), "provenance": json.dumps(provenance)}
    with atomic(path) as part:
        part.write_bytes(save({k: v.contiguous().cpu() for k, v in state.items()}, header))
    return Path(path)


def load_generator(weights: str | Path) -> Separator:
    """Load a trained generator, ready to use: a shipped one by its name ("compact"), a run's folder, or a file.

    Returns a module that maps `(image, masks)`, (b, 1, h, w) in [0, 1] and (b, 3, h, w) as drawn, to layers. Raises
    `InputError` where there is no such file, a shipped one is not what its model card describes, or it is not a
    generator of this package. Nothing is downloaded.
    """
    from safetensors import SafetensorError, safe_open

    path = weights_path(weights)
    try:
        with safe_open(path, framework="pt") as file:
            recipe = Recipe(**json.loads((file.metadata() or {})["recipe"]))
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        generator = NETWORKS[recipe.networks](recipe.head, recipe.size).generator
        generator.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not a generator of this version ({reason}); train one with 'lsn train'") from error
    return Separator(generator, recipe).eval().requires_grad_(False)


def start_from(generator: nn.Module, weights: str | Path, *, networks: str, head: str) -> None:
    """Give a fresh generator the weights of a trained one, in place; their frames may differ in size.

    Raises `InputError` where the trained one is not of these `networks` and this `head`, or not of this size where its
    weights depend on it.
    """
    trained = load_generator(weights)
    found = trained.recipe
    if (found.networks, found.head) != (networks, head):
        made = f"{found.networks} networks with the {found.head} head"
        raise InputError(f"{weights}: these weights are of {made}; train those, with --set networks=... and head=...")
    try:
        generator.load_state_dict(trained.generator.state_dict())
    except RuntimeError:
        asks = f"these weights are for frames of {found.size} px"
        raise InputError(f"{weights}: {asks}; train with --set size={found.size}") from None


def weights_path(weights: str | Path) -> Path:
    """Where a generator's weights are: a shipped name, a run's folder or a file."""
    shipped = {path.stem: path for folder in WEIGHTS for path in folder.glob("*.safetensors")}
    if str(weights) in shipped:
        return intact(shipped[str(weights)])
    path = Path(weights) / GENERATOR if Path(weights).is_dir() else Path(weights)
    if not path.is_file():
        names = ", ".join(sorted(shipped)) or "none here"
        raise InputError(f"{path}: no such weights; give a trained run's folder, a file, or a shipped name ({names})")
    return path


def intact(path: Path) -> Path:
    """A shipped file of weights, if it is the one that its model card describes; else `InputError`."""
    known = read_bytes(path.with_name(HASHES)).decode().splitlines()
    if f"{hashlib.sha256(read_bytes(path)).hexdigest()}  {path.name}" not in known:
        raise InputError(f"{path}: not the file whose SHA-256 stands in {HASHES}; install the package again")
    return path
