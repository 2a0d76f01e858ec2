"""A depthwise convolution that trains as fast in bfloat16 as the rest of a network (training bench; torch).

On CPUs with bfloat16 the backward pass of a strided or 5 x 5 depthwise convolution takes four to twenty
times as long in bfloat16 as in float32: two thirds of a training step of the joint network (2 cores,
AMX, torch 2.13, 2026-11-29). Here the forward pass has the input's format and the backward pass is float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class DepthwiseConv2d(nn.Conv2d):
    """Each channel convolved alone, without bias; otherwise `torch.nn.Conv2d`, parameters included."""

    def __init__(self, width: int, kernel: int, stride: int) -> None:
        super().__init__(width, width, kernel, stride, kernel // 2, groups=width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, r, c) to (b, width, r / stride, c / stride)."""
        if x.dtype != torch.bfloat16 or x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        out: Tensor = _Float32Backward.apply(x, self.weight, self.stride[0])  # type: ignore[no-untyped-call]
        return out


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
