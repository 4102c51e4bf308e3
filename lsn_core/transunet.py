"""The paper's backbone: a TransUNet, read bottom-up."""

import torch
from torch import Tensor, nn

from lsn_core.shapes import Logits


class Attention(nn.Module):
    """Multi-head self-attention; logits are divided by the root of the head's width."""

    def __init__(self, width: int, heads: int) -> None:
        """`width` must be a multiple of `heads`."""
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(b, n, width) to the same."""
        b, n, width = tokens.shape
        q, k, v = self.qkv(tokens).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # each (b, heads, n, d)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(b, n, width))


class TransformerBlock(nn.Module):
    """Attention and a two-layer perceptron, each added to its input and normalised after."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        """`hidden` is the perceptron's width."""
        super().__init__()
        self.attention = Attention(width, heads)
        self.perceptron = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
        )
        self.first, self.second, self.dropout = nn.LayerNorm(width), nn.LayerNorm(width), nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(b, n, width) to the same."""
        tokens = self.first(tokens + self.dropout(self.attention(tokens)))
        return self.second(tokens + self.perceptron(tokens))


class Bottleneck(nn.Module):
    """Residual block of 1 x 1, strided 3 x 3 and 1 x 1 convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Halves the map's sides."""
        super().__init__()
        self.body = nn.Sequential(
            *_conv(inputs, outputs, 1),
            nn.ReLU(),
            *_conv(outputs, outputs, 3, stride=2),
            nn.ReLU(),
            *_conv(outputs, outputs, 1),
        )
        self.skip = nn.Sequential(*_conv(inputs, outputs, 1, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        """(b, inputs, h, w) to (b, outputs, h / 2, w / 2)."""
        return torch.relu(self.body(x) + self.skip(x))


class Enlarge(nn.Module):
    """Double a map's sides, join the encoder's map of that size, and convolve twice."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """`inputs` counts both maps' channels."""
        super().__init__()
        self.body = nn.Sequential(*_conv(inputs, outputs, 3), nn.ReLU(), *_conv(outputs, outputs, 3), nn.ReLU())

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """(b, c, h, w) to (b, outputs, 2 h, 2 w)."""
        x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.body(x if skip is None else torch.cat((x, skip), dim=1))


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    """A convolution that keeps the map's sides (or divides them by `stride`), normalised over the batch."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)


class TransUNet(nn.Module):
    """The paper's backbone: convolutions to 1/16 of the frame, a transformer over those tokens, a U-Net decoder up.

    Sides must equal `size`, a multiple of 16 px, because each token has a learned position.
    """

    def __init__(
        self,
        inputs: int = 4,
        outputs: int = 3,
        *,
        size: int = 256,
        width: int = 128,
        depth: int = 8,
        heads: int = 4,
        hidden: int = 512,
        dropout: float = 0.1,
    ) -> None:
        """`width` is the first map's; the tokens are 8 times as wide."""
        super().__init__()
        w, token = width, 8 * width
        self.stem = nn.Sequential(*_conv(inputs, w, 7, stride=2), nn.ReLU())
        self.down = nn.ModuleList([Bottleneck(w, 2 * w), Bottleneck(2 * w, 4 * w), Bottleneck(4 * w, token)])
        self.embed = nn.Linear(token, token)
        self.position = nn.Parameter(0.02 * torch.randn(1, (size // 16) ** 2, token))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*[TransformerBlock(token, heads, hidden, dropout) for _ in range(depth)])
        self.project = nn.Sequential(*_conv(token, 4 * w, 3), nn.ReLU())
        self.up = nn.ModuleList(
            [Enlarge(8 * w, 2 * w), Enlarge(4 * w, w), Enlarge(2 * w, w // 2), Enlarge(w // 2, w // 8)]
        )
        self.logits = nn.Conv2d(w // 8, outputs, 1)

    def forward(self, x: Tensor) -> Logits:
        """(b, inputs, size, size) to (b, outputs, size, size)."""
        skips = [self.stem(x)]  # (b, w, h/2, w/2), then 2w at 1/4, 4w at 1/8, 8w at 1/16
        for block in self.down:
            skips.append(block(skips[-1]))
        deep = skips.pop()
        tokens = self.embed(deep.flatten(2).transpose(1, 2)) + self.position  # (b, n, 8w)
        tokens = self.blocks(self.dropout(tokens))
        x = self.project(tokens.transpose(1, 2).reshape(deep.shape))
        for block in self.up:
            x = block(x, skips.pop() if skips else None)
        return self.logits(x)
