"""Which number format a network trains fastest in, measured on this machine (training bench; torch).

bfloat16 halves the time on some CPUs and quadruples it on others that claim to have it, so nothing is
assumed: a few steps are timed in each. What was chosen is kept in the run's record, and a resumed run
goes on with it.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

# bfloat16 has to be this much faster: it costs some precision.
WORTH_IT = 1.1
STEPS = 2
LARGEST_BATCH = 8


def choose_precision(network: nn.Module, images: Tensor) -> tuple[str, dict[str, float]]:
    """Time the network forwards and backwards.

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
    for name, enabled in (("float32", False), ("bfloat16", True)):
        for step in range(1 + STEPS):
            if step == 1:  # the first one also chooses kernels
                start = time.perf_counter()
            with torch.autocast(images.device.type, torch.bfloat16, enabled=enabled):
                answer = network(images)
            answers = answer if isinstance(answer, tuple) else (answer,)
            total: Tensor = torch.stack([one.float().mean() for one in answers]).sum()
            total.backward()  # type: ignore[no-untyped-call]
        speeds[name] = STEPS * len(images) / (time.perf_counter() - start)
    network.zero_grad(set_to_none=True)
    network.load_state_dict(state)
    faster = speeds["bfloat16"] > WORTH_IT * speeds["float32"]
    return ("bfloat16" if faster else "float32"), speeds
