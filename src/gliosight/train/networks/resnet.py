"""The tutorial's detector, in one module: ResNet50 with its head (training bench; torch).

In: ``(batch, 3, 256, 256)`` float in [0, 1]; channels as in the picture (T1, FLAIR, T1C).
Out: two logits per slice, ``(batch, 2)``: no tumour, tumour.

The trunk is He 2015 (https://arxiv.org/abs/1512.03385) as Keras builds it: the stride of a stage is in its
first 1x1 convolution. Published PyTorch weights were trained with the stride in the 3x3 convolution, so it
moves there when such weights are loaded. Parameters have the names of the published weights. One departure:
Keras gives convolutions a bias, which the batch norm behind them cancels; it is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# Blocks and width of each stage; a block's output is four times as wide.
STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
EXPANSION = 4
STEM_WIDTH = 64
# The one size the head is made for: a dense layer follows the flattened map.
SIZE = 256
POOL = 4
DENSE_WIDTH = 256


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions, each with batch norm, and the input added at the end."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        wide = width * EXPANSION
        self.conv1 = nn.Conv2d(width_in, width, 1, stride=stride, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, wide, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(wide)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or width_in != wide:
            self.downsample = nn.Sequential(
                nn.Conv2d(width_in, wide, 1, stride=stride, bias=False), nn.BatchNorm2d(wide)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(b, in, r, c) to (b, 4 * width, r / stride, c / stride)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return functional.relu(y + self.downsample(x))


class ResNet50(nn.Module):
    """The trunk: ``(batch, 3, rows, columns)`` to ``(batch, 2048, rows / 32, columns / 32)``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM_WIDTH, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        width_in = STEM_WIDTH
        for number, (blocks, width) in enumerate(STAGES, start=1):
            stage = []
            for k in range(blocks):
                stride = 2 if k == 0 and number > 1 else 1
                stage.append(Bottleneck(width_in, width, stride))
                width_in = width * EXPANSION
            self.add_module(f"layer{number}", nn.Sequential(*stage))

    def place_strides(self, *, first: bool) -> None:
        """Put each stage's stride into the 1x1 (``first``) or the 3x3 convolution of its first block."""
        for number in range(2, len(STAGES) + 1):
            block = self.get_submodule(f"layer{number}.0")
            assert isinstance(block, Bottleneck)  # noqa: S101 - as built above
            block.conv1.stride = (2, 2) if first else (1, 1)
            block.conv2.stride = (1, 1) if first else (2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """The last feature map."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        for number in range(1, len(STAGES) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x


class Detector(nn.Module):
    """ResNet50, average pooling 4x4, flatten, three times dense 256 with dropout, dense 2.

    Parameters
    ----------
    dropout : float
        After each dense layer.
    frozen : bool
        The trunk is not trained, nor do its batch norms' averages move. The article meant this; its loop
        set ``trainable`` on the wrong object, so that everything was trained.
    """

    stride_first: Tensor

    def __init__(self, dropout: float = 0.3, *, frozen: bool = False) -> None:
        super().__init__()
        self.frozen = frozen
        self.trunk = ResNet50()
        # Travels with the weights: they are useless with the strides elsewhere.
        self.register_buffer("stride_first", torch.tensor(data=True))
        layers: list[nn.Module] = []
        width = STAGES[-1][1] * EXPANSION * (SIZE // 32 // POOL) ** 2
        for _ in range(3):
            layers += [nn.Linear(width, DENSE_WIDTH), nn.ReLU(), nn.Dropout(dropout)]
            width = DENSE_WIDTH
        self.head = nn.Sequential(*layers, nn.Linear(width, 2))
        for layer in self.head:
            if isinstance(layer, nn.Linear):  # as Keras initialises it
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        if frozen:
            self.trunk.requires_grad_(requires_grad=False)

    @property
    def encoder(self) -> nn.Module:
        """The pre-trained part."""
        return self.trunk

    def train(self, mode: bool = True) -> Detector:
        """Switch to training, except a frozen trunk."""
        super().train(mode)
        if self.frozen:
            self.trunk.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Two logits per slice."""
        features = functional.avg_pool2d(self.trunk(images), POOL)
        logits: Tensor = self.head(features.flatten(1))
        return logits

    def load_imagenet(self, weights: Mapping[str, Tensor]) -> None:
        """Load the trunk from published weights, without their classifier.

        Raises
        ------
        RuntimeError
            They are not those of a ResNet50.
        """
        self.trunk.load_state_dict(
            {name: value for name, value in weights.items() if not name.startswith("fc.")}
        )
        self.stride_first.fill_(value=False)
        self.trunk.place_strides(first=False)

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Follow the strides of weights that are loaded; called by `torch.nn.Module.load_state_dict`."""
        if (first := state.get(f"{prefix}stride_first")) is not None:
            self.trunk.place_strides(first=bool(first))
        super()._load_from_state_dict(state, prefix, *rest)
