"""One batch shared by several processes as if there were one (training bench; torch).

Each process takes its share of the batch's slices. What a loss or a batch norm needs of the whole batch
is summed over all of them, with gradients, so that a run on two processes gives what it gives on one, but
for rounding and for dropout, which each draws for itself. torch's own synchronised batch norm needs a
GPU; this one does not.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import FunctionCtx


def process_count() -> int:
    """How many processes share each batch."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def process_rank() -> int:
    """Which of them this one is, from 0."""
    return distributed.get_rank() if process_count() > 1 else 0


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(_: FunctionCtx, mine: Tensor) -> Tensor:
        whole = mine.clone()
        distributed.all_reduce(whole)
        return whole

    @staticmethod
    def backward(_: FunctionCtx, *slopes: Tensor) -> Tensor:
        # Every process has the same loss; each holds the slope of its own copy of it.
        whole = slopes[0].clone()
        distributed.all_reduce(whole)
        return whole


def sum_across(mine: Tensor) -> Tensor:
    """The sum over all processes, with its gradient."""
    if process_count() == 1:
        return mine
    whole: Tensor = _Sum.apply(mine)  # type: ignore[no-untyped-call]
    return whole


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the batch of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        """As `torch.nn.BatchNorm2d`."""
        if not self.training or process_count() == 1:
            return super().forward(x)
        values = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        count = values.numel() / values.shape[1] * process_count()
        sums = sum_across(torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))]))
        mean = sums[0] / count
        variance = (sums[1] / count - mean.square()).clamp(min=0)
        if self.running_mean is not None and self.running_var is not None:
            keep = 0.0 if self.momentum is None else self.momentum
            with torch.no_grad():
                self.running_mean.lerp_(mean.detach(), keep)
                self.running_var.lerp_(variance.detach() * count / (count - 1), keep)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        shift = self.bias - mean * scale
        return (values * scale[:, None, None] + shift[:, None, None]).to(x.dtype)


def share_batch_norms(network: nn.Module) -> None:
    """Turn every batch norm of a network into a `SharedBatchNorm`, in place; names stay."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm
