"""The tutorial's localizer, in one module: ResUNet (training bench; torch).

In: ``(batch, 3, rows, columns)`` float, any scale: every slice is standardised here, all its channels
together (minus its mean, over its standard deviation). Sides are multiples of 16.
Out: mask logits ``(batch, 1, rows, columns)``; the article's sigmoid is left to the loss.

The network is the article's, layer by layer: two 3x3 convolutions of 16, four residual blocks down
(32, 64, 128, 256) with max pooling between, four up (128, 64, 32, 16), each after doubling the size and
appending the encoder's level. A residual block is a 1x1 and a 3x3 convolution beside a 1x1 projection.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

FIRST_WIDTH = 16
DOWN_WIDTHS = (32, 64, 128, 256)
UP_WIDTHS = (128, 64, 32, 16)


def standardise_slices(images: Tensor) -> Tensor:
    """Each slice minus its mean, over its standard deviation, all channels together."""
    flat = images.flatten(1)
    mean = flat.mean(dim=1)
    spread = (flat - mean[:, None]).square().mean(dim=1).sqrt().clamp(min=1e-6)
    return (images - mean[:, None, None, None]) / spread[:, None, None, None]


def _convolution(width_in: int, width: int, kernel: int) -> nn.Conv2d:
    layer = nn.Conv2d(width_in, width, kernel, padding=kernel // 2)
    nn.init.kaiming_normal_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _batch_norm(width: int) -> nn.BatchNorm2d:
    # Keras' own numbers: its running averages keep 0.99 of what they were.
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)


class ResidualBlock(nn.Module):
    """``relu(bn(3x3(relu(bn(1x1(x))))) + bn(1x1(x)))``."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            _convolution(width_in, width, 1),
            _batch_norm(width),
            nn.ReLU(inplace=True),
            _convolution(width, width, 3),
            _batch_norm(width),
        )
        self.short = nn.Sequential(_convolution(width_in, width, 1), _batch_norm(width))

    def forward(self, x: Tensor) -> Tensor:
        """(b, in, r, c) to (b, width, r, c)."""
        return functional.relu(self.main(x) + self.short(x))


class ResUNet(nn.Module):
    """See the module's first lines."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(
            _convolution(3, FIRST_WIDTH, 3),
            nn.ReLU(inplace=True),
            _batch_norm(FIRST_WIDTH),
            _convolution(FIRST_WIDTH, FIRST_WIDTH, 3),
            nn.ReLU(inplace=True),
            _batch_norm(FIRST_WIDTH),
        )
        skips = (FIRST_WIDTH, *DOWN_WIDTHS[:-1])
        self.down = nn.ModuleList(
            ResidualBlock(below, width) for below, width in zip(skips, DOWN_WIDTHS, strict=True)
        )
        self.up = nn.ModuleList()
        below = DOWN_WIDTHS[-1]
        for skip, width in zip(reversed(skips), UP_WIDTHS, strict=True):
            self.up.append(ResidualBlock(below + skip, width))
            below = width
        self.mask_head = _convolution(below, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Mask logits."""
        x = self.first(standardise_slices(images))
        levels = []
        for block in self.down:
            levels.append(x)
            x = block(functional.max_pool2d(x, 2))
        for block, level in zip(self.up, reversed(levels), strict=True):
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([x, level], dim=1))
        logits: Tensor = self.mask_head(x)
        return logits
