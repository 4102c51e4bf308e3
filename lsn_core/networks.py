"""The generator G, the segmentation network N_S and the discriminator N_D: backbones, and two heads for G.

A backbone maps (b, c, h, w) to logits of the same size; activation happens in the heads and in the losses.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lsn_core.files import InputError, atomic
from lsn_core.masks import at_256, bones, dilate
from lsn_core.radiograph import absorbance, display
from lsn_core.shapes import Image, Layers, Logits, Masks
from lsn_core.transunet import TransUNet

Head = Callable[[Logits, Image, Masks], Layers]
PACKAGE = Path(__file__).parent
WEIGHTS = (PACKAGE / "weights", PACKAGE.parent / "data" / "weights")  # in a wheel, and in a checkout


def sigmoid_head(logits: Logits, image: Image, masks: Masks) -> Layers:
    """The paper's head: each layer is a free sigmoid inside its mask (Eq. 1)."""
    return torch.sigmoid(logits) * masks


def partition_head(logits: Logits, image: Image, masks: Masks) -> Layers:
    """Divide each pixel's absorbance among the layers whose mask covers it, so that Eq. 4 holds exactly in the hand."""
    share = torch.softmax(logits - 1e4 * (1 - masks), dim=1) * masks
    return display(absorbance(image) * share)


HEADS: dict[str, Head] = {"sigmoid": sigmoid_head, "partition": partition_head}


def unet(inputs: int, outputs: int, *, encoder: str, widths: tuple[int, ...]) -> nn.Module:
    """A U-Net of segmentation-models-pytorch with fresh weights, one decoder width for each halving of the frame.

    Frames are padded by repeating their edge, and maps enlarged bilinearly: bones leave the frame, and zeros beyond it
    or blocky maps show as stripes in the layers. Normalisation is by groups of channels in each image, so that nothing
    differs between training and use, and no critic's statistics absorb the generator's images.
    """
    import segmentation_models_pytorch as smp

    net = smp.Unet(
        encoder,
        encoder_weights=None,
        encoder_depth=len(widths),
        decoder_channels=widths,
        decoder_interpolation="bilinear",
        in_channels=inputs,
        classes=outputs,
    )
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.padding != (0, 0):
            module.padding_mode = "replicate"
    return _normalise_by_group(net)


def _normalise_by_group(net: nn.Module) -> nn.Module:
    """Put a group norm in the place of each batch norm, with the activation that timm hangs on it."""
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                norm = nn.GroupNorm(math.gcd(8, child.num_features), child.num_features)
                setattr(parent, name, nn.Sequential(norm, child.act) if hasattr(child, "act") else norm)
    return net


class Refined(nn.Module):
    """A U-Net with its input beside its last map.

    Its encoder starts at half the frame's sides, which loses the trabeculae: without this their texture is shared out
    among the layers instead of going to the bone.
    """

    def __init__(self, net: nn.Module, inputs: int, maps: int, outputs: int) -> None:
        """`net` gives `maps` channels from `inputs`."""
        super().__init__()
        self.net = net
        self.finest = nn.Sequential(
            nn.Conv2d(maps + inputs, 16, 3, padding=1, padding_mode="replicate"),
            nn.SiLU(),
            nn.Conv2d(16, outputs, 3, padding=1, padding_mode="replicate"),
        )

    def forward(self, x: Tensor) -> Logits:
        """(b, inputs, h, w) to (b, outputs, h, w)."""
        return self.finest(torch.cat((self.net(x), x), dim=1))


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
    """Networks for a laptop's CPU, any `size` that 32 divides: 1.6 M parameters, and two critics of 0.5 M."""
    backbone = Refined(unet(4, 16, encoder="tu-resnet10t", widths=(64, 32, 24, 16)), 4, 16, 3)
    segmenter, discriminator = (unet(1, n, encoder="tu-lcnet_050", widths=(48, 32, 24, 16, 8)) for n in (3, 1))
    return Networks(Generator(backbone, HEADS[head]), segmenter, discriminator)


def paper_networks(head: str, size: int) -> Networks:
    """The paper's sizes: TransUNet (67 M parameters) for frames of `size`, and two U-Nets on ResNet-18 (15 M each)."""
    segmenter, discriminator = (unet(1, n, encoder="resnet18", widths=(256, 128, 128, 64, 64)) for n in (3, 1))
    return Networks(Generator(TransUNet(size=size), HEADS[head]), segmenter, discriminator)


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
    share = guess[:, 1:] + 1e-6 * masks[:, 1:]  # where the copy has no bone at all, both take the same
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
    `InputError` where there is no such file or it is not a generator of this package. Nothing is downloaded.
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


def weights_path(weights: str | Path) -> Path:
    """Where a generator's weights are: a shipped name, a run's folder or a file."""
    shipped = {path.stem: path for folder in WEIGHTS for path in folder.glob("*.safetensors")}
    if str(weights) in shipped:
        return shipped[str(weights)]
    path = Path(weights) / "generator.safetensors" if Path(weights).is_dir() else Path(weights)
    if not path.is_file():
        names = ", ".join(sorted(shipped)) or "none here"
        raise InputError(f"{path}: no such weights; give a trained run's folder, a file, or a shipped name ({names})")
    return path
