"""The compact backbone: a U-Net whose maps are never as large as the frame, read bottom-up."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsn_core.shapes import Logits


class Block(nn.Module):
    """A 3 x 3 convolution, normalised over each image's whole map, and added to its input where the widths agree.

    The frame's edge is repeated: bones leave the frame, and zeros beyond it would show as stripes in the layers. No
    statistics are kept: training and use are the same, and no critic absorbs the generator's images into its own.
    """

    def __init__(self, inputs: int, width: int) -> None:
        """`width` is the number of channels that come out."""
        super().__init__()
        self.convolution = nn.Conv2d(inputs, width, 3, padding=1, padding_mode="replicate", bias=False)
        self.norm, self.same = nn.GroupNorm(1, width), inputs == width

    def forward(self, x: Tensor) -> Tensor:
        """(b, inputs, h, w) to (b, width, h, w)."""
        found = F.relu(self.norm(self.convolution(x)))
        return x + found if self.same else found


class Deeper(nn.Module):
    """One turn of the U: what maps of half the sides tell, and those below them, added to what comes in."""

    def __init__(self, width: int, below: int, *further: int) -> None:
        """`width` channels come in and go out; `below` and `further` are the widths of the smaller maps."""
        super().__init__()
        self.down, self.up = nn.Conv2d(width, below, 2, stride=2), nn.Conv2d(below, width, 1)
        self.seen = Block(below, below)
        self.rest = nn.Sequential(Deeper(below, *further), Block(below, below)) if further else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, h, w) to the same."""
        found = self.up(self.rest(self.seen(self.down(x))))
        return x + F.interpolate(found, scale_factor=2, mode="bilinear")


class UNet(nn.Module):
    """A U-Net on the folded frame: each `fold` x `fold` px become the channels of one pixel, and are spread out again.

    All detail is kept, in channels, at a fraction of the cost of maps of the frame's own size. The folded input comes
    in once more beside the last map: else the trabeculae get lost, and their texture is shared out among the layers
    instead of going to the bone.
    """

    def __init__(self, inputs: int, outputs: int, *, fold: int, widths: Sequence[int], finest: int) -> None:
        """`widths` are the channels of the folded map and of each one half as large; `finest` those of the last."""
        super().__init__()
        folded = inputs * fold**2
        self.fold = fold
        self.enter, self.deeper = Block(folded, widths[0]), Deeper(*widths)
        self.finest, self.leave = Block(widths[0] + folded, finest), nn.Conv2d(finest, outputs * fold**2, 1)

    def forward(self, x: Tensor) -> Logits:
        """(b, inputs, h, w) to (b, outputs, h, w)."""
        folded = F.pixel_unshuffle(x, self.fold).contiguous(memory_format=torch.channels_last)
        maps = self.deeper(self.enter(folded))
        return F.pixel_shuffle(self.leave(self.finest(torch.cat((maps, folded), dim=1))), self.fold)
