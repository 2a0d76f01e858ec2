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

from gliosight.train.devices import (  # noqa: E402
    choose_precision,
    share_batch_norms,
    sum_across,
)
from gliosight.train.losses import (  # noqa: E402
    dice_loss,
    dice_sums,
    focal_tversky_loss,
    joint_mean_loss,
    tversky_sums,
)
from gliosight.train.networks import start_network  # noqa: E402
from gliosight.train.recipe import Recipe  # noqa: E402

RECIPES = {
    "joint": Recipe(start="scratch", dropout=0.0),
    "resunet": Recipe(network="resunet", loss="focal-tversky", start="scratch"),
}
# Of the largest slope of each parameter. A bias before a batch norm has none but rounding.
TOLERANCE, NOTHING = 1e-8, 1e-10


def _network(kind: str) -> torch.nn.Module:
    return start_network(RECIPES[kind])[0].double().train()


def _loss(network: torch.nn.Module, kind: str, share: slice) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3 * RECIPES[kind].neighbours, 64, 64, generator=generator).double()
    masks = (torch.rand(4, 1, 64, 64, generator=generator) > 0.9).double()
    masks[0] = 0  # the processes' shares differ
    output, masks = network(images[share]), masks[share]
    # As `batch_loss`, which would take the logits to float32.
    if kind == "joint":
        overlap = dice_loss(sum_across(dice_sums(output[0], masks)))
        return joint_mean_loss(*output, masks, 0.3) + overlap
    return focal_tversky_loss(sum_across(tversky_sums(output, masks)))


def _share(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    for kind in RECIPES:
        network = _network(kind)
        share_batch_norms(network)
        shared = DistributedDataParallel(network)  # kept: its reducer works in the backward pass
        _loss(shared, kind, slice(rank, None, 2)).backward()
        if rank == 0:
            slopes = {name: weight.grad for name, weight in network.named_parameters()}
            torch.save((slopes, network.state_dict()), Path(folder) / f"{kind}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slopes and averages of two processes."""
    folder = tmp_path_factory.mktemp("shared")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_share, args=(port, str(folder)), nprocs=2)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", RECIPES)
def test_slopes_and_averages_are_those_of_the_whole_batch(kind: str, shared: Path) -> None:
    slopes, state = torch.load(shared / f"{kind}.pt", weights_only=True)
    network = _network(kind)
    _loss(network, kind, slice(None)).backward()
    compared = 0
    for name, weight in network.named_parameters():
        assert weight.grad is not None
        largest = float(weight.grad.abs().max())
        if largest > NOTHING:
            compared += 1
            difference = float((weight.grad - slopes[name]).abs().max())
            assert difference < TOLERANCE * largest, name
        else:
            assert float(slopes[name].abs().max()) < NOTHING, name
    assert compared > 20
    for name, value in network.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_the_precision_is_the_faster_one_and_timing_changes_nothing() -> None:
    network, _ = start_network(RECIPES["joint"])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    precision, speeds = choose_precision(network, torch.rand(2, 9, 32, 32))
    faster = speeds["bfloat16"] > 1.1 * speeds["float32"]
    assert precision == ("bfloat16" if faster else "float32")
    assert all(weight.grad is None for weight in network.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
