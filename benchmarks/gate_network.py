"""The input gate's network, and how it is trained; see `gate.py`.

A small picture of one FLAIR slice goes in, four logits come out: an axial FLAIR of a head, another
contrast, another plane, anything else. In training pictures are changed at random: turned, scaled, coarse,
shaded, noisy, with bright and dark spots. So the network learns the contrast and the shape of a head, not one
scanner's pictures of it.
"""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from gliosight.train.export import store_half

WIDTHS = (1, 12, 24, 48, 96)
# The rate rises and falls once in a cycle.
CYCLES, STEPS, BATCH = 2, 4000, 64
RATE, DECAY, SMOOTHING = 3e-3, 0.03, 0.02
# What is brighter than this is tissue; its mean becomes the other number, so that a bright scalp does not
# leave the brain dark.
TISSUE_FROM, TISSUE_MEAN = 0.1, 0.4


class GateNetwork(nn.Module):
    """Four stages, each of which halves the size; then mean and maximum over the plane."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            *(Stage(inside, outside) for inside, outside in pairwise(WIDTHS))
        )
        self.answer = nn.Linear(2 * WIDTHS[-1], 4)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits ``(b, 4)`` of pictures ``(b, 1, side, side)``."""
        tissue = (pictures > TISSUE_FROM).float()
        mean = (pictures * tissue).sum((2, 3), keepdim=True) / (
            tissue.sum((2, 3), keepdim=True) + 1
        )
        maps = self.stages((pictures * TISSUE_MEAN / mean.clamp(min=TISSUE_FROM)).clamp(0, 1))
        pooled = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)
        logits: Tensor = self.answer(functional.dropout(pooled, 0.2, self.training))
        return logits


class Mirrored(nn.Module):
    """The mean of a network's logits of a picture and of its mirror image: the one that is shipped."""

    def __init__(self, network: GateNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        """See `GateNetwork.forward`."""
        logits: Tensor = (self.network(pictures) + self.network(pictures.flip(3))) / 2
        return logits


class Stage(nn.Module):
    """A strided convolution, then another one beside a shortcut."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(inside, outside, 3, 2, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()
        )
        self.more = nn.Sequential(
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """``(b, inside, rows, columns)`` to ``(b, outside, rows / 2, columns / 2)``."""
        maps = self.down(maps)
        return torch.relu(maps + self.more(maps))


class Change:
    """Random changes of a batch of pictures ``(b, 1, side, side)`` from 0 to 1."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, pictures: Tensor) -> Tensor:
        """All of them, in the order in which a scanner would cause them."""
        return self.noisy(self.bright(self.shaded(self.coarse(self.moved(pictures)))))

    def between(self, low: float, high: float, like: Tensor) -> Tensor:
        """One number for each picture, ``(b, 1, 1, 1)``."""
        drawn = torch.rand((len(like), 1, 1, 1), generator=self.generator)
        return drawn * (high - low) + low

    def chosen(self, part: float, like: Tensor) -> Tensor:
        """1 for this part of the pictures, 0 for the others."""
        return (self.between(0, 1, like) < part).float()

    def moved(self, pictures: Tensor) -> Tensor:
        """Turned, stretched, scaled, shifted, mirrored; seldom upside down."""
        angle = self.between(-0.3, 0.3, pictures)
        scale = self.between(-0.12, 0.22, pictures)
        wide = torch.exp(scale + self.between(-0.18, 0.18, pictures))
        high = torch.exp(scale + self.between(-0.18, 0.18, pictures))
        wide = wide * (1 - 2 * self.chosen(0.5, pictures))
        high = high * (1 - 2 * self.chosen(0.1, pictures))
        x, y = (self.between(-0.12, 0.12, pictures) for _ in range(2))
        rows = [torch.cos(angle) * wide, -torch.sin(angle) * high, x]
        rows += [torch.sin(angle) * wide, torch.cos(angle) * high, y]
        affine = torch.cat(rows, dim=1).reshape(-1, 2, 3)
        grid = functional.affine_grid(affine, list(pictures.shape), align_corners=False)
        return functional.grid_sample(pictures, grid, align_corners=False)

    def coarse(self, pictures: Tensor) -> Tensor:
        """Some of them sampled less finely."""
        side = pictures.shape[-1]
        parts = []
        for part in pictures.split(8):
            fine, drawn = torch.rand(2, generator=self.generator).tolist()
            size = side if fine < 0.6 else round(side * (0.4 + 0.55 * drawn))
            low = functional.interpolate(part, (size, size), mode="bilinear", antialias=True)
            parts.append(functional.interpolate(low, (side, side), mode="bilinear"))
        return torch.cat(parts)

    def shaded(self, pictures: Tensor) -> Tensor:
        """A coil's shading, and a bright or dark spot as of a lesion."""
        axis = torch.linspace(-1, 1, pictures.shape[-1])
        y, x = axis[:, None], axis[None]
        shading = self.between(-0.4, 0.4, pictures) * y + self.between(-0.4, 0.4, pictures) * x
        shading = shading + self.between(-0.4, 0.5, pictures) * (x**2 + y**2)
        pictures = pictures * torch.exp(self.chosen(0.5, pictures) * shading)
        apart = (x - self.between(-0.4, 0.4, pictures)) ** 2
        apart = apart + (y - self.between(-0.5, 0.5, pictures)) ** 2
        spot = torch.exp(-apart / self.between(0.05, 0.25, pictures) ** 2)
        height = self.chosen(0.3, pictures) * self.between(-0.3, 0.6, pictures)
        return (pictures + height * spot * (pictures > 0.1)).clamp(min=0)

    def bright(self, pictures: Tensor) -> Tensor:
        """Another brightest value, another gamma."""
        top = pictures.amax(dim=(2, 3), keepdim=True).clamp(min=0.05)
        return (pictures / top) ** torch.exp(self.between(-0.4, 0.4, pictures))

    def noisy(self, pictures: Tensor) -> Tensor:
        """Rician noise."""
        sigma = self.chosen(0.5, pictures) * self.between(0, 0.06, pictures)
        real, imaginary = (
            sigma * torch.randn(pictures.shape, generator=self.generator) for _ in range(2)
        )
        gain = torch.exp(self.between(-0.15, 0.1, pictures))
        return (gain * torch.hypot(pictures + real, imaginary)).clamp(0, 1)


def train(
    pictures: NDArray[np.uint8],
    labels: NDArray[np.int64],
    weights: NDArray[np.float64],
    *,
    steps: int = STEPS,
    seed: int = 0,
) -> GateNetwork:
    """Train a network on pictures ``(n, side, side)``, drawn by their ``weights``."""
    torch.manual_seed(seed)
    rng, change = np.random.default_rng(seed), Change(seed)
    network = GateNetwork().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    ends, mean, start = np.cumsum(weights / weights.sum()), 0.0, time.time()
    network.train()
    for step in range(CYCLES * steps):
        if step % steps == 0:
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, RATE, total_steps=steps, pct_start=0.15
            )
        chosen = np.searchsorted(ends, rng.random(BATCH)).clip(max=len(ends) - 1)
        batch = change(torch.from_numpy(pictures[chosen]).float()[:, None] / 255)
        batch = batch.contiguous(memory_format=torch.channels_last)
        loss = functional.cross_entropy(
            network(batch), torch.from_numpy(labels[chosen]), label_smoothing=SMOOTHING
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        mean += (loss.item() - mean) * max(0.02, 1 / (step + 1))
        if step % 200 == 0:
            print(f"  step {step}, loss {mean:.3f}, {time.time() - start:.0f} s", flush=True)
    return network.eval()


def logits_of(network: GateNetwork, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A network's logits of pictures and their mirror images, ``(n, 4)``."""
    mirrored = Mirrored(network).eval()
    with torch.inference_mode():
        parts = [
            mirrored(torch.from_numpy(part).float()[:, None] / 255).numpy()
            for part in np.array_split(pictures, max(1, len(pictures) // 256))
        ]
    return np.concatenate(parts)


def export(network: GateNetwork, side: int) -> bytes:
    """The network and its mirrored self as the content of an ONNX file, weights in float16."""
    program = torch.onnx.export(
        Mirrored(network).eval(),
        (torch.rand(2, 1, side, side),),
        dynamo=True,
        opset_version=18,
        input_names=["images"],
        output_names=["picture_logits"],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch wrote no ONNX program")
    model = program.model_proto
    store_half(model)
    content: bytes = model.SerializeToString()
    return content
