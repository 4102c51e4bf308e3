"""Networks of the downstream tasks: small ones for CPUs, and the ResNets of the paper; all from scratch."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

Numbers = Float[Tensor, "b regions outputs"]

WIDTHS = (16, 32, 64, 128)  # of the compact trunk


class Predictor(nn.Module):
    """Images of one or two visits to numbers of each region, blind to how bright and contrasty they were exposed."""

    def __init__(self, trunk: nn.Module, width: int, outputs: int) -> None:
        """`trunk` makes `width` maps of the images; numbers are linear in their means, and all 0 at first."""
        super().__init__()
        self.trunk, self.head = trunk, nn.Linear(width, outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, image: Float[Tensor, "b visits h w"], regions: Float[Tensor, "b regions h w"]) -> Numbers:
        """Each image by itself to mean 0 and SD 1, then the maps' means in each region; float32 in any precision."""
        spread, mean = torch.std_mean(image, dim=(2, 3), keepdim=True)
        maps = self.trunk((image - mean) / (spread + 1e-3)).float()
        weights = F.interpolate(regions, maps.shape[-2:], mode="area")
        weights = weights / weights.sum(dim=(2, 3), keepdim=True).clamp_min(1e-3)
        with torch.autocast(maps.device.type, enabled=False):
            return self.head(torch.einsum("bcyx,bryx->brc", maps, weights))


def compact(channels: int, outputs: int) -> Predictor:
    """0.3 M parameters: one residual block a width, each at half the resolution of the one before."""
    stem = nn.Sequential(
        nn.Conv2d(channels, WIDTHS[0], 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU()
    )
    blocks = [_narrowing(before, after) for before, after in pairwise(WIDTHS)]
    return Predictor(nn.Sequential(stem, *blocks), WIDTHS[-1], outputs)


def _narrowing(before: int, after: int) -> BasicBlock:
    """A residual block at half the resolution."""
    aside = nn.Sequential(nn.Conv2d(before, after, 1, stride=2, bias=False), nn.BatchNorm2d(after))
    return BasicBlock(before, after, stride=2, downsample=aside)


def resnet(channels: int, outputs: int) -> Predictor:
    """The paper's size: ResNet-50 for one image (24 M parameters), ResNet-34 for a pair, of 3-4-6-3 blocks both."""
    whole = ResNet(Bottleneck if channels == 1 else BasicBlock, [3, 4, 6, 3])
    first = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    parts = (whole.bn1, whole.relu, whole.maxpool, whole.layer1, whole.layer2, whole.layer3, whole.layer4)
    return Predictor(nn.Sequential(first, *parts), whole.fc.in_features, outputs)


NETWORKS = {"compact": compact, "resnet": resnet}
