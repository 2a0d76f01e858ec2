"""Two processes that share a batch have the loss, slopes and averages of one that has it all.

In double precision: what is left between them is rounding, and the tolerance says how little.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra train is not installed")

from torch import distributed, multiprocessing  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

from gliosight.train.losses import (  # noqa: E402
    dice_loss,
    dice_sums,
    focal_tversky_loss,
    joint_mean_loss,
    tversky_sums,
)
from gliosight.train.networks.joint import JointNetwork  # noqa: E402
from gliosight.train.networks.resunet import ResUNet  # noqa: E402
from gliosight.train.processes import share_batch_norms, sum_across  # noqa: E402

pytestmark = pytest.mark.slow

CHANNELS = {"joint": 9, "resunet": 3}
# Of the largest slope of each parameter. A bias before a batch norm has none but rounding.
TOLERANCE, NOTHING = 1e-8, 1e-10


def _network(kind: str) -> torch.nn.Module:
    torch.manual_seed(1)
    network = JointNetwork(dropout=0.0) if kind == "joint" else ResUNet()
    return network.double().train()


def _batch(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, CHANNELS[kind], 64, 64, generator=generator).double()
    masks = (torch.rand(4, 1, 64, 64, generator=generator) > 0.9).double()
    masks[0] = 0  # the processes' shares differ
    return images, masks


def _loss(answer: object, masks: torch.Tensor) -> torch.Tensor:
    if isinstance(answer, tuple):
        overlap = dice_loss(sum_across(dice_sums(answer[0], masks)))
        return joint_mean_loss(*answer, masks, 0.3) + overlap
    return focal_tversky_loss(sum_across(tversky_sums(answer, masks)))  # type: ignore[arg-type]


def _share(rank: int, kind: str, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    network = _network(kind)
    share_batch_norms(network)
    images, masks = _batch(kind)
    shared = DistributedDataParallel(network)  # kept: its reducer works in the backward pass
    _loss(shared(images[rank::2]), masks[rank::2]).backward()
    if rank == 0:
        slopes = {name: one.grad for name, one in network.named_parameters()}
        torch.save((slopes, network.state_dict()), Path(folder) / "shared.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize("kind", sorted(CHANNELS))
def test_slopes_and_averages_are_those_of_the_whole_batch(kind: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_share, args=(kind, port, str(tmp_path)), nprocs=2)
    shared, state = torch.load(tmp_path / "shared.pt", weights_only=True)
    network = _network(kind)
    images, masks = _batch(kind)
    _loss(network(images), masks).backward()
    compared = 0
    for name, one in network.named_parameters():
        assert one.grad is not None
        largest = float(one.grad.abs().max())
        if largest > NOTHING:
            compared += 1
            difference = float((one.grad - shared[name]).abs().max())
            assert difference < TOLERANCE * largest, name
        else:
            assert float(shared[name].abs().max()) < NOTHING, name
    assert compared > 20
    for name, value in network.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=1e-10, atol=1e-10)
