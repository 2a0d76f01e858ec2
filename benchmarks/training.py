"""Slices per second of the training bench against a plain loop that works slice by slice.

    python benchmarks/training.py [--data manifest.csv] [--steps 20]

Both train the same joint network on the same slices, vary them by the same numbers and take the same
optimiser steps. The plain loop is what one writes first: a Dataset that reads three pictures and a mask,
normalises and varies them with numpy and scipy, and a DataLoader that stacks them. Without ``--data`` the
slices are phantoms'. Prints one line for each way, and the ratios; docs/results.md quotes them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gliosight import cli
from gliosight.data.manifest import Manifest, read_manifest
from gliosight.phantom import PhantomSpec, make_phantom, write_lgg
from gliosight.train.augmentation import Batches, Plan, draw_plan
from gliosight.train.devices import choose_precision
from gliosight.train.losses import batch_loss
from gliosight.train.networks import start_network
from gliosight.train.packed import SIZE, PackedSlices, pack
from gliosight.train.recipe import Recipe, load_recipe
from gliosight.train.record import processor
from gliosight.train.sampling import Sampler, sampler_of


class PlainSlices(Dataset[tuple[Tensor, Tensor]]):
    """One slice at a time, from its files, as one writes it first."""

    def __init__(
        self, manifest: Manifest, slices: PackedSlices, rows: NDArray[np.int64], recipe: Recipe
    ) -> None:
        self.manifest, self.slices, self.rows, self.recipe = manifest, slices, rows, recipe

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        generator = np.random.default_rng((1, index))
        row = self.rows[index : index + 1]
        plan = draw_plan(self.slices, row, self.recipe.crop, self.recipe.augmentation, generator)
        intensity = self.slices.intensity[self.slices.patient_of(row)[0]]
        used = self.manifest.used
        channels = [
            self._vary(
                tifffile.imread(self.manifest.path(used[int(one)].image))[..., c],
                plan,
                c,
                intensity[c],
            )
            for one in plan.rows[0]
            for c in range(3)
        ]
        mask = tifffile.imread(self.manifest.path(used[int(row[0])].mask)) > 0
        moved = self._move(mask.astype(np.float32), plan) > 0.5
        return torch.from_numpy(np.stack(channels)), torch.from_numpy(
            moved[None].astype(np.float32)
        )

    def _move(self, plane: NDArray[np.float32], plan: Plan) -> NDArray[np.float32]:
        crop = self.recipe.crop
        theta = plan.theta[0].numpy().astype(float)
        linear = theta[:, :2][::-1, ::-1] * (SIZE / crop)
        middle = (theta[:, 2][::-1] + 1) * SIZE / 2 - 0.5
        offset = middle - linear @ np.full(2, (crop - 1) / 2)
        return ndimage.affine_transform(plane, linear, offset, (crop, crop), order=1)

    def _vary(
        self, plane: NDArray[np.uint8], plan: Plan, channel: int, intensity: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        low, high, mean, std = intensity
        height = np.clip(plane.astype(np.float32), low, high) - low
        height = self._move(height, plan)
        gamma = float(plan.gamma[0, channel])
        height = (high - low) * (height / (high - low)) ** gamma
        crop = self.recipe.crop
        bias = ndimage.zoom(plan.bias[0, channel].numpy(), crop / 4, order=3)
        out = height * np.exp(bias) * float(plan.gain[0, channel]) / std
        out += (low - mean) / std + float(plan.offset[0, channel])
        if float(plan.noise[0]):
            out += np.random.default_rng(int(plan.seeds[0])).normal(
                0, float(plan.noise[0]), out.shape
            )
        return out.astype(np.float32)


def _steps(
    recipe: Recipe, draw: Callable[[int], tuple[Tensor, Tensor]], count: int, precision: str
) -> float:
    """Slices per second over ``count`` steps after two that do not count."""
    network = start_network(recipe)[0].to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=True)
    seen, start = 0, 0.0
    for step in range(count + 2):
        if step == 2:
            seen, start = 0, time.perf_counter()
        images, masks = draw(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            answer = network(images.contiguous(memory_format=torch.channels_last))
        loss = batch_loss(recipe, answer, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += len(images)
    return seen / (time.perf_counter() - start)


def _plain(
    manifest: Manifest,
    slices: PackedSlices,
    sampler: Sampler,
    recipe: Recipe,
    workers: int,
    steps: int,
) -> float:
    rows = np.concatenate([sampler.draw(k)[0] for k in range(steps + 2)])
    loader = DataLoader(
        PlainSlices(manifest, slices, rows, recipe), batch_size=recipe.batch, num_workers=workers
    )
    batches = iter(loader)
    return _steps(recipe, lambda _: next(batches), steps, "float32")


def measure(data: Path | None, steps: int, *, crop: int = 192, batch: int = 16) -> dict[str, float]:
    """Slices per second of each way.

    Parameters
    ----------
    data : Path or None
        A manifest of pictures of 256 x 256; phantoms if not given.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if data is None:
            for seed in range(1, 5):
                write_lgg(make_phantom(PhantomSpec(seed=seed, slices=20)), place / "lgg")
            data = place / "manifest.csv"
            if cli.run(["data", "index", str(place / "lgg"), "-o", str(data)]):
                raise SystemExit("no manifest")
        manifest = read_manifest(data)
        slices = pack(manifest, place / "cache")
        recipe = replace(load_recipe("joint"), start="scratch", crop=crop, batch=batch)
        sampler = sampler_of(slices, np.arange(len(manifest.used)), recipe)
        source = Batches(slices, recipe)

        def draw(step: int) -> tuple[Tensor, Tensor]:
            rows, generator = sampler.draw(step)
            return source.make(rows, generator)

        precision, _ = choose_precision(start_network(recipe)[0], draw(0)[0])
        return {
            "plain loop, in the process": _plain(manifest, slices, sampler, recipe, 0, steps),
            "plain loop, two workers": _plain(manifest, slices, sampler, recipe, 2, steps),
            "bench, float32": _steps(recipe, draw, steps, "float32"),
            f"bench, precision auto ({precision})": _steps(recipe, draw, steps, precision),
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="manifest of pictures")
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(2)
    print(f"{processor()}, 2 threads, {given.steps} steps of 16 slices")
    found = measure(given.data, given.steps)
    plain = max(speed for name, speed in found.items() if name.startswith("plain"))
    for name, speed in found.items():
        print(f"{name:<40} {speed:6.1f} slices/s  {speed / plain:5.2f}x")


if __name__ == "__main__":
    main()
