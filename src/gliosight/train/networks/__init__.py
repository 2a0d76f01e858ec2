"""The networks, one module each, and the weights they start from (training bench; torch)."""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gliosight.errors import DamagedInputError, ModelError, NothingReadableError
from gliosight.extras import install_line
from gliosight.train.networks.joint import JointNetwork
from gliosight.train.networks.resnet import Detector
from gliosight.train.networks.resunet import ResUNet
from gliosight.train.networks.unet import UNet
from gliosight.train.recipe import Recipe

# torchvision's ResNet50, ImageNet, version 1.
PUBLISHED_RESNET50 = "https://download.pytorch.org/models/resnet50-0676ba61.pth"


def build_network(recipe: Recipe) -> nn.Module:
    """The recipe's network, randomly initialised."""
    if recipe.network == "joint":
        return JointNetwork(dropout=recipe.dropout)
    if recipe.network == "resnet50":
        return Detector(recipe.dropout, frozen=recipe.freeze)
    return ResUNet() if recipe.network == "resunet" else UNet()


def start_network(recipe: Recipe) -> tuple[nn.Module, str]:
    """Build the network of a recipe with the weights it starts from.

    Returns
    -------
    network : nn.Module
    started_from : str
        Which weights these are, in words, for the record.

    Raises
    ------
    NothingReadableError, DamagedInputError
        A file of weights that is not there, or does not hold those of the network.
    ModelError
        ImageNet weights that cannot be had.
    """
    torch.manual_seed(recipe.seed)
    network = build_network(recipe)
    if recipe.start != "scratch":
        if isinstance(network, JointNetwork):
            try:
                network.encoder.load_imagenet()
            except ModuleNotFoundError as error:
                raise _missing_imagenet(
                    network.encoder.title,
                    f"the package {error.name} is not installed",
                    install_line("train"),
                ) from error
            return network, f"ImageNet ({network.encoder.title})"
        if isinstance(network, Detector):
            return network, _start_detector(network, recipe.start)
    return network, "scratch"


def _start_detector(network: Detector, start: str) -> str:
    if start != "imagenet":
        path = Path(start)
        if not path.is_file():
            raise NothingReadableError(
                f"start is {start!r}, and there is no such file",
                remedy="give the path of torchvision's ResNet50 weights, imagenet or scratch",
            )
        try:
            if path.suffix == ".safetensors":
                network.load_imagenet(load_file(path))
            else:  # torch's format; code in the file is never run
                network.load_imagenet(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:
            raise DamagedInputError(
                f"it does not hold the weights of a ResNet50: {_first_line(error)}",
                where=path.name,
                remedy="give torchvision's ResNet50 weights as .pth or .safetensors",
            ) from error
        return f"ImageNet ({path.name})"
    try:
        weights = torch.hub.load_state_dict_from_url(
            PUBLISHED_RESNET50, map_location="cpu", progress=False, check_hash=True
        )
    except (OSError, RuntimeError, HTTPException) as error:
        raise _missing_imagenet(
            "ResNet50",
            f"{PUBLISHED_RESNET50} cannot be fetched, {_first_line(error)}",
            "fetch that file where there is a network, and give it: --set start=FILE",
        ) from error
    network.load_imagenet(weights)
    return "ImageNet (torchvision's ResNet50, version 1)"


def _missing_imagenet(title: str, reason: str, remedy: str) -> ModelError:
    """Training does not quietly begin from something else: that would be hours of another experiment."""
    return ModelError(
        f"no ImageNet weights of {title}: {reason}",
        remedy=f"{remedy}; or train without them: --set start=scratch",
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Save weights as safetensors; raises `OSError`, where the disk is full as well."""
    # Tensors that share memory are refused, and so are those that are not contiguous.
    copies = {name: value.cpu().contiguous().clone() for name, value in weights.items()}
    try:
        save_file(copies, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def load_weights(network: nn.Module, path: Path) -> None:
    """Load the weights of an earlier run, from safetensors.

    Raises
    ------
    DamagedInputError
    """
    try:  # the network's own tensors take what is stored as float16
        network.load_state_dict(load_file(path))
    except Exception as error:
        raise DamagedInputError(
            "these weights are not of this network",
            where=path.name,
            remedy="give the weights.safetensors of a run with the same preset",
        ) from error
