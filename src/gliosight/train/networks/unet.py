"""The data set authors' U-Net, the published peer, in one module (training bench; torch).

In: ``(batch, 3, rows, columns)`` float, normalised by volume. Sides are multiples of 16.
Out: mask logits ``(batch, 1, rows, columns)``; the authors' sigmoid is left to the loss.

Source: Buda, Saha, Mazurowski 2019 (https://doi.org/10.1016/j.compbiomed.2019.05.002): the U-Net of
Ronneberger 2015 with 32 features at the first level, batch norm, and transposed convolutions on the way
up; 7.76 million parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

FEATURES = 32
LEVELS = 4


def _two_convolutions(width_in: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for below in (width_in, width):
        layers += [
            nn.Conv2d(below, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """See the module's first lines."""

    def __init__(self) -> None:
        super().__init__()
        widths = [FEATURES * 2**level for level in range(LEVELS)]
        self.down = nn.ModuleList(
            _two_convolutions(below, width)
            for below, width in zip([3, *widths[:-1]], widths, strict=True)
        )
        self.bottom = _two_convolutions(widths[-1], 2 * widths[-1])
        self.grow = nn.ModuleList(
            nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in reversed(widths)
        )
        self.up = nn.ModuleList(_two_convolutions(2 * width, width) for width in reversed(widths))
        self.mask_head = nn.Conv2d(FEATURES, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Mask logits."""
        x, levels = images, []
        for block in self.down:
            x = block(x)
            levels.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.bottom(x)
        for grow, block, level in zip(self.grow, self.up, reversed(levels), strict=True):
            x = block(torch.cat([grow(x), level], dim=1))
        logits: Tensor = self.mask_head(x)
        return logits
