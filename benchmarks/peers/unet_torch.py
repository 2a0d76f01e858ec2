"""Slices per second of the published U-Net in eager PyTorch, float32, channels last, for speed.py.

    python benchmarks/peers/unet_torch.py [--seconds 10]

Prints a line of JSON: the best of several batch sizes, each timed as the best of its calls.
"""

from __future__ import annotations

import argparse
import json
import time

import torch

from gliosight.train.networks.unet import UNet

SIDE, BATCHES = 256, (1, 4, 8)


def main() -> None:
    """Time the network on noise: what a slice shows does not change its time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    seconds = parser.parse_args().seconds
    torch.set_num_threads(2)
    network = UNet().eval().to(memory_format=torch.channels_last)
    speeds = {}
    for batch in BATCHES:
        images = torch.randn(batch, 3, SIDE, SIDE).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            network(images)
            end, best = time.perf_counter() + seconds / len(BATCHES), float("inf")
            while time.perf_counter() < end:
                start = time.perf_counter()
                network(images)
                best = min(best, time.perf_counter() - start)
        speeds[batch] = batch / best
    print(json.dumps({"library": f"torch {torch.__version__}", "slices/s": max(speeds.values())}))


if __name__ == "__main__":
    main()
