"""The joint network, in one module: encoder, decoder for the mask, head for the slice (training; torch).

In: ``(batch, 9, rows, columns)`` float, normalised: channel ``3 * k + c`` is sequence ``c`` of
(T1, FLAIR, T1C) at neighbour ``k`` of (below, this slice, above). Sides are multiples of 32.
Out: mask logits ``(batch, 1, rows, columns)`` and slice logits ``(batch,)``.

The decoder is a U-Net's (Ronneberger 2015, https://arxiv.org/abs/1505.04597) with plain
3x3 convolutions. It stops at half the resolution and draws the last step as four sub-pixels (Shi 2016,
https://arxiv.org/abs/1609.05158): a full-resolution stage costs 38 % more time for a border half a
pixel finer than the experts agree on. The slice head looks at the coarsest features, pooled by mean and
by maximum: the mean knows where in the head the slice lies, the maximum finds a small lesion.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from gliosight.train.networks.encoder import Encoder

DECODER_WIDTHS = (128, 64, 48, 32)


class _Convolution(nn.Sequential):
    def __init__(self, width_in: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(width_in, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width, momentum=0.03),
            nn.ReLU(inplace=True),
        )


class _DecoderBlock(nn.Module):
    def __init__(self, width_below: int, width_skip: int, width: int) -> None:
        super().__init__()
        self.first = _Convolution(width_below + width_skip, width)
        self.second = _Convolution(width, width)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        x = functional.interpolate(below, scale_factor=2.0, mode="nearest")
        out: Tensor = self.second(self.first(torch.cat([x, skip], dim=1)))
        return out


class JointNetwork(nn.Module):
    """Mask and slice label from one encoder; dropout is before the slice head's last layer."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.encoder = Encoder(channels=9)
        *skips, deepest = Encoder.feature_widths
        below = deepest
        self.decoder = nn.ModuleList()
        for width_skip, width in zip(reversed(skips), DECODER_WIDTHS, strict=True):
            self.decoder.append(_DecoderBlock(below, width_skip, width))
            below = width
        self.mask_head = nn.Conv2d(below, 4, 3, padding=1)
        self.subpixels = nn.PixelShuffle(2)
        self.slice_head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * deepest, 1))
        # A pixel is tumour once in a hundred: start there, or the first hundred steps go into it.
        nn.init.constant_(self.mask_head.get_parameter("bias"), -4.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mask logits ``(batch, 1, rows, columns)`` and slice logits ``(batch,)``."""
        features = self.encoder(x)
        deepest = features[-1]
        pooled = torch.cat([deepest.mean(dim=(2, 3)), deepest.amax(dim=(2, 3))], dim=1)
        y = deepest
        for block, skip in zip(self.decoder, reversed(features[:-1]), strict=True):
            y = block(y, skip)
        return self.subpixels(self.mask_head(y)), self.slice_head(pooled).squeeze(1)
