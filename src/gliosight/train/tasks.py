"""A network, its loss, and what is said of it on slices it does not learn from (training bench; torch).

One `Task` for each network of a recipe. A task knows nothing of optimisers, steps or files.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gliosight.errors import DamagedInputError
from gliosight.train.losses import (
    dice_loss,
    dice_sums,
    focal_tversky_loss,
    joint_mean_loss,
    label_loss,
    tversky_sums,
)
from gliosight.train.networks.joint import JointNetwork
from gliosight.train.networks.resnet import Detector
from gliosight.train.networks.resunet import ResUNet
from gliosight.train.networks.unet import UNet
from gliosight.train.recipe import Recipe

# Adds up sums over the processes that share a batch.
Across = Callable[[Tensor], Tensor]
# torchvision's ResNet50, ImageNet, version 1.
PUBLISHED_RESNET50 = "https://download.pytorch.org/models/resnet50-0676ba61.pth"


def alone(sums: Tensor) -> Tensor:
    """``across`` of a single process: the sums are whole already."""
    return sums


@dataclass(frozen=True)
class Task:
    """What is learnt.

    Parameters
    ----------
    network : nn.Module
    recipe : Recipe
    started_from : str
        In words, for the record: whose weights the network began with.
    """

    network: nn.Module
    recipe: Recipe
    started_from: str

    @property
    def encoder(self) -> nn.Module | None:
        """The part that may have learnt already, and has a rate of its own."""
        if isinstance(self.network, JointNetwork):
            return self.network.encoder
        return self.network.trunk if isinstance(self.network, Detector) else None

    def parts(self, answer: object, masks: Tensor) -> tuple[Tensor, Tensor]:
        """What is averaged over slices, and the sums of the overlap, empty where the loss has none.

        Logits are taken to float32 first.
        """
        recipe = self.recipe
        if isinstance(answer, tuple):
            mask_logits, slice_logits = (one.float() for one in answer)
            mean = joint_mean_loss(mask_logits, slice_logits, masks, recipe.slice_weight)
            return mean, dice_sums(mask_logits, masks)
        assert isinstance(answer, Tensor)  # noqa: S101 - networks answer with one or two tensors
        logits = answer.float()
        if recipe.loss == "cross-entropy":
            return label_loss(logits, masks), logits.new_zeros(0)
        sums = dice_sums if recipe.loss == "dice" else tversky_sums
        return logits.new_zeros(()), sums(logits, masks)

    def overlap(self, sums: Tensor) -> Tensor:
        """The overlap's part of the loss, of sums over whatever belongs together."""
        if not len(sums):
            return sums.new_zeros(())
        if self.recipe.loss == "focal-tversky":
            return focal_tversky_loss(sums, self.recipe.alpha, self.recipe.gamma)
        return dice_loss(sums)

    def loss(self, answer: object, masks: Tensor, across: Across = alone) -> Tensor:
        """The loss of one batch, of which ``across`` adds up what other processes have."""
        mean, sums = self.parts(answer, masks)
        return mean + self.overlap(across(sums) if len(sums) else sums)


def build_network(recipe: Recipe) -> nn.Module:
    """The recipe's network, without any weights it could start from."""
    if recipe.network == "joint":
        return JointNetwork(dropout=recipe.dropout)
    if recipe.network == "resnet50":
        return Detector(recipe.dropout, frozen=recipe.freeze)
    return ResUNet() if recipe.network == "resunet" else UNet()


def make_task(recipe: Recipe) -> Task:
    """Build the network of a recipe, with the weights it starts from.

    Raises
    ------
    DamagedInputError
        A file of weights that is not what ``start`` says it is.
    """
    torch.manual_seed(recipe.seed)
    network = build_network(recipe)
    started_from = "scratch"
    if recipe.start != "scratch":
        if isinstance(network, JointNetwork):
            network.encoder.load_imagenet()
            started_from = "ImageNet (EfficientNet-lite0)"
        elif isinstance(network, Detector):
            started_from = _start_detector(network, recipe.start)
    return Task(network, recipe, started_from)


def _start_detector(network: Detector, start: str) -> str:
    """Load published weights where they are at hand; say what was loaded."""
    if start != "imagenet":
        path = Path(start)
        try:
            network.load_imagenet(_read_published(path))
        except ValueError as error:
            if isinstance(error, DamagedInputError):
                raise
            raise DamagedInputError(
                str(error), where=path.name, remedy="give torchvision's ResNet50 weights"
            ) from error
        return f"ImageNet ({path.name})"
    try:
        weights = torch.hub.load_state_dict_from_url(
            PUBLISHED_RESNET50, map_location="cpu", progress=False, check_hash=True
        )
    except (OSError, RuntimeError) as error:
        warnings.warn(
            f"the ImageNet weights cannot be fetched ({_first_line(error)}): ResNet50 starts from "
            "scratch. Give a local file: --set start=FILE",
            stacklevel=1,
        )
        return "scratch, since the ImageNet weights were not at hand"
    network.load_imagenet(weights)
    return "ImageNet (torchvision's ResNet50, version 1)"


def _read_published(path: Path) -> Mapping[str, Tensor]:
    """Published weights from a file: safetensors, or a state dict of torch, never any code in it."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        weights = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(weights, dict):
            raise ValueError("no state dict")  # noqa: TRY301 - one way out for all of them
        return dict(weights)
    except Exception as error:
        raise DamagedInputError(
            f"no weights in it: {_first_line(error)}",
            where=path.name,
            remedy="give torchvision's ResNet50 weights as .pth or .safetensors",
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
