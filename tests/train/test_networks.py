"""The networks are those of their sources: sizes, shapes, and weights that load."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra train is not installed")

from gliosight.errors import DamagedInputError  # noqa: E402
from gliosight.train import tasks  # noqa: E402
from gliosight.train.networks.depthwise import DepthwiseConv2d  # noqa: E402
from gliosight.train.networks.resnet import Detector, ResNet50  # noqa: E402
from gliosight.train.networks.resunet import ResUNet, standardise_slices  # noqa: E402
from gliosight.train.networks.unet import UNet  # noqa: E402
from gliosight.train.presets import load_recipe  # noqa: E402


def _count(network: torch.nn.Module) -> int:
    return sum(one.numel() for one in network.parameters())


def test_sizes_are_the_published_ones() -> None:
    # ResNet50 without its top has 23,508,032 parameters (torchvision; Keras counts the biases that batch
    # norm takes away, too).
    assert _count(ResNet50()) == 23_508_032
    head = 8192 * 256 + 256 + 2 * (256 * 256 + 256) + 256 * 2 + 2
    assert _count(Detector()) == 23_508_032 + head
    assert _count(UNet()) == 7_763_041  # the authors' 7.76 million
    assert 1_150_000 < _count(ResUNet()) < 1_250_000


def test_shapes() -> None:
    images = torch.rand(2, 3, 256, 256)
    for network, shape in ((Detector(), (2, 2)), (ResUNet(), (2, 1, 256, 256))):
        with torch.no_grad():
            assert network.eval()(images).shape == shape
    with torch.no_grad():
        assert UNet().eval()(images[:, :, :64, :96]).shape == (2, 1, 64, 96)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_a_depthwise_convolution_has_the_gradients_of_torchs_own(kernel: int, stride: int) -> None:
    own = DepthwiseConv2d(8, kernel, stride)
    plain = torch.nn.Conv2d(8, 8, kernel, stride, kernel // 2, groups=8, bias=False)
    plain.load_state_dict(own.state_dict())
    images = torch.randn(2, 8, 16, 16).bfloat16().float().requires_grad_()
    expected = plain(images)
    push = torch.randn_like(expected).bfloat16()
    expected.backward(push.float())
    half = images.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        answer = own(half)
    answer.backward(push)
    assert answer.dtype == half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(answer.float(), expected, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(half.grad.float(), images.grad, rtol=2e-2, atol=2e-2)
    # Beside bfloat16 in the forward pass, the weights' gradient is float32: its sums lose nothing.
    assert own.weight.grad.dtype == torch.float32
    torch.testing.assert_close(own.weight.grad, plain.weight.grad, rtol=1e-3, atol=1e-3)


def test_resunet_does_not_care_for_scale() -> None:
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(
        standardise_slices(images * 255 + 7), standardise_slices(images), rtol=1e-3, atol=1e-4
    )
    assert torch.isfinite(standardise_slices(torch.ones(1, 3, 8, 8))).all()


def test_a_frozen_trunk_stays_as_it_is() -> None:
    network = Detector(frozen=True).train()
    before = {name: value.clone() for name, value in network.trunk.state_dict().items()}
    optimizer = torch.optim.Adam([one for one in network.parameters() if one.requires_grad], 0.1)
    network(torch.rand(2, 3, 256, 256)).sum().backward()
    optimizer.step()
    for name, value in network.trunk.state_dict().items():
        assert torch.equal(value, before[name]), name  # batch norms' averages included


def test_published_weights_load_and_move_the_strides(tmp_path: Path) -> None:
    donor = ResNet50()
    donor.place_strides(first=False)
    path = tmp_path / "resnet50.pth"
    torch.save(donor.state_dict() | {"fc.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, path)
    task = tasks.make_task(load_recipe("tutorial-detector", [f"start={path}"]))
    images = torch.rand(1, 3, 256, 256)
    network = task.network.eval()
    assert isinstance(network, Detector)
    with torch.no_grad():
        torch.testing.assert_close(network.trunk(images), donor.eval()(images))
        # The strides travel with the weights.
        other = Detector().eval()
        other.load_state_dict(network.state_dict())
        torch.testing.assert_close(other(images), network(images))
    assert task.started_from == "ImageNet (resnet50.pth)"


def test_a_file_that_holds_no_weights_is_named(tmp_path: Path) -> None:
    for name, content in (("a.pth", b"no"), ("b.safetensors", b"\0" * 64), ("c.pth", b"")):
        path = tmp_path / name
        path.write_bytes(content)
        recipe = load_recipe("tutorial-detector", [f"start={path}"])
        with pytest.raises(DamagedInputError, match=name):
            tasks.make_task(recipe)


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"conv1.weight": torch.zeros(3)}, path)
    with pytest.raises(DamagedInputError, match="ResNet50"):
        tasks.make_task(load_recipe("tutorial-detector", [f"start={path}"]))


def test_without_network_it_starts_from_scratch_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    # A port nobody listens at: what a machine without network sees.
    monkeypatch.setattr(tasks, "PUBLISHED_RESNET50", "http://127.0.0.1:9/resnet50-0676ba61.pth")
    with pytest.warns(UserWarning, match="from scratch"):
        task = tasks.make_task(load_recipe("tutorial-detector"))
    assert task.started_from.startswith("scratch")
