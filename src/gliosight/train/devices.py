"""Number format and batches shared by processes (training bench; torch).

Each process takes its part of a batch's slices. Sums of losses and batch norms go over all parts, with
gradients, so two processes give what one gives, except for rounding and dropout. torch's own synchronised
batch norm needs a GPU; this one does not.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import FunctionCtx

# bfloat16 costs some precision: it is chosen if it is this much faster.
WORTH_IT = 1.1
TIMED_STEPS = 2
LARGEST_BATCH = 8


def choose_precision(network: nn.Module, images: Tensor) -> tuple[str, dict[str, float]]:
    """Time the network forwards and backwards in both number formats.

    bfloat16 halves the time on some CPUs and quadruples it on others that claim to have it.

    Parameters
    ----------
    images : (n, channels, rows, columns) float tensor

    Returns
    -------
    precision : {"float32", "bfloat16"}
    speeds : dict of str to float
        Slices per second in each.
    """
    images = images[:LARGEST_BATCH]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    speeds = {}
    for name in ("float32", "bfloat16"):
        for step in range(1 + TIMED_STEPS):
            if step == 1:  # the first one also chooses kernels
                start = time.perf_counter()
            with torch.autocast(images.device.type, torch.bfloat16, enabled=name == "bfloat16"):
                output = network(images)
            outputs = output if isinstance(output, tuple) else (output,)
            total = torch.stack([logits.float().mean() for logits in outputs]).sum()
            total.backward()  # type: ignore[no-untyped-call]
            if images.is_cuda:
                torch.cuda.synchronize()
        speeds[name] = TIMED_STEPS * len(images) / (time.perf_counter() - start)
    network.zero_grad(set_to_none=True)
    network.load_state_dict(state)
    faster = speeds["bfloat16"] > WORTH_IT * speeds["float32"]
    return ("bfloat16" if faster else "float32"), speeds


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(_: FunctionCtx, part: Tensor) -> Tensor:
        whole = part.clone()
        distributed.all_reduce(whole)
        return whole

    @staticmethod
    def backward(_: FunctionCtx, *gradients: Tensor) -> Tensor:
        # Every process has the same loss and holds the gradient of its own copy of it.
        whole = gradients[0].clone()
        distributed.all_reduce(whole)
        return whole


def process_count() -> int:
    """How many processes share each batch."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def sum_across(part: Tensor) -> Tensor:
    """The sum over all processes, with its gradient."""
    if process_count() == 1:
        return part
    whole: Tensor = _Sum.apply(part)  # type: ignore[no-untyped-call]
    return whole


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the batch of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        """As `torch.nn.BatchNorm2d` with running averages."""
        if not self.training or process_count() == 1:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None  # noqa: S101, PT018
        values = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        count = values.numel() / values.shape[1] * process_count()
        sums = sum_across(torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))]))
        mean = sums[0] / count
        variance = (sums[1] / count - mean.square()).clamp(min=0)
        with torch.no_grad():
            momentum = self.momentum or 0.0
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / (count - 1), momentum)
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
