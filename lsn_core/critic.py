"""The paper's critics: U-Nets of double convolutions, read bottom-up."""

import torch
from torch import Tensor, nn

from lsn_core.shapes import Logits

WIDTHS = (64, 128, 256, 512, 512)  # of the maps on the way down, each half as large as the one before
DROPOUT = 0.1


def double(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions, each normalised over the batch; the map keeps its sides."""
    layers = []
    for first in (inputs, outputs):
        layers += [nn.Conv2d(first, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.Dropout(DROPOUT)]
    return nn.Sequential(*layers)


class Enlarged(nn.Module):
    """Double a map's sides, join the map of that size on the way down, and convolve twice."""

    def __init__(self, width: int, outputs: int) -> None:
        """`width` of each of the two maps."""
        super().__init__()
        self.grow, self.body = nn.ConvTranspose2d(width, width, 2, stride=2), double(2 * width, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(b, width, h, w) and (b, width, 2 h, 2 w) to (b, outputs, 2 h, 2 w)."""
        return self.body(torch.cat((skip, self.grow(x)), dim=1))


class Critic(nn.Module):
    """The U-Net of N_S and N_D as the authors' code has it: 14.8 M parameters, for any sides that 16 divides.

    Its statistics are those of what it learns from: the training asks it in evaluation mode what the generator wants
    to know.
    """

    def __init__(self, outputs: int) -> None:
        """3 outputs for N_S, 1 for N_D."""
        super().__init__()
        self.down = nn.ModuleList([double(*pair) for pair in zip((1, *WIDTHS), WIDTHS, strict=False)])
        up = zip(WIDTHS[3::-1], (*WIDTHS[2::-1], WIDTHS[0]), strict=True)
        self.up = nn.ModuleList([Enlarged(width, narrower) for width, narrower in up])
        self.logits = nn.Conv2d(WIDTHS[0], outputs, 1)

    def forward(self, x: Tensor) -> Logits:
        """(b, 1, h, w) to (b, outputs, h, w)."""
        maps = [self.down[0](x)]
        for block in self.down[1:]:
            maps.append(block(nn.functional.max_pool2d(maps[-1], 2)))
        x = maps.pop()
        for block in self.up:
            x = block(x, maps.pop())
        return self.logits(x)
