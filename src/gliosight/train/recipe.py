"""How a network is fitted, as one frozen value (training bench).

A preset file holds a `Recipe`; ``--set NAME=VALUE`` changes single fields, nested ones with a dot. The
fields of all presets are the same, so that any two runs can be held against each other field by field;
docs/training.md explains each one, and a test keeps that page complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

from gliosight.errors import UsageError

_T = TypeVar("_T")

NETWORKS = ("joint", "resnet50", "resunet", "unet")
CHOICES: dict[str, tuple[str, ...]] = {
    "network": NETWORKS,
    "loss": ("joint", "cross-entropy", "focal-tversky", "dice"),
    "input": ("tissue", "picture"),
    "precision": ("auto", "float32", "bfloat16"),
    "sampling.slices": ("all", "tumour"),
    "sampling.order": ("once", "weighted", "by-area"),
    "sampling.within": ("slices", "persons"),
    "optimizer.kind": ("adamw", "adam"),
    "optimizer.schedule": ("one-cycle", "constant"),
}
# Fields for which 0 has no meaning.
POSITIVE = ("epochs", "batch", "optimizer.lr", "optimizer.epsilon")
# Which loss a network's answer fits.
LOSSES = {
    "joint": ("joint",),
    "resnet50": ("cross-entropy",),
    "resunet": ("focal-tversky", "dice"),
    "unet": ("focal-tversky", "dice"),
}


@dataclass(frozen=True)
class Sampling:
    """Which slices an epoch is made of."""

    slices: str = "all"  # all, or tumour: only those with a tumour
    order: str = "weighted"  # once: each one once, shuffled; weighted; by-area of the tumour
    per_epoch: int = 2400  # 0: as many as there are
    free_weight: float = 0.45  # how often a tumour-free slice is drawn, against 1
    # Share of the draws by collection, or by several joined with +; empty: as many as their slices get.
    collections: Mapping[str, float] = field(default_factory=dict)
    within: str = "slices"  # of a collection: slices, as order says; persons, as many for each


@dataclass(frozen=True)
class Optimizer:
    """Who changes the weights, and how fast."""

    kind: str = "adamw"
    lr: float = 1.5e-3
    encoder_lr: float = 4e-4  # 0: as lr
    weight_decay: float = 0.02
    epsilon: float = 1e-8
    schedule: str = "one-cycle"
    warm_up: float = 0.15  # of the steps, one-cycle alone
    clip: float = 5.0  # largest norm of the gradient; 0: any


@dataclass(frozen=True)
class Strength:
    """How far each change may go. Ranges are symmetric unless said otherwise."""

    rotation_degrees: float = 20.0
    log_scale: float = 0.22
    log_aspect: float = 0.06
    shear: float = 0.08
    shift_pixels: float = 22.0
    log_gain: float = 0.25
    offset: float = 0.3
    log_gamma: float = 0.35
    bias: float = 0.35
    noise: float = 0.2
    flip_chance: float = 0.5
    upside_down_chance: float = 0.0
    blur_chance: float = 0.2
    lose_t1_chance: float = 0.12
    lose_t1c_chance: float = 0.15
    lose_both_chance: float = 0.2
    strip_chance: float = 0.2
    turn_order_chance: float = 0.3
    graft_chance: float = 0.0
    disease_chance: float = 0.0


# Nothing varied: a picture as it is.
STILL = Strength(**{one.name: 0.0 for one in fields(Strength)})


@dataclass(frozen=True)
class Recipe:
    """How a network is fitted; a preset file holds one of these."""

    network: str = "joint"
    loss: str = "joint"
    input: str = "tissue"
    start: str = "imagenet"  # imagenet, scratch, or a file of published weights (resnet50)
    freeze: bool = False  # resnet50: the trunk stays as it started
    epochs: int = 10
    batch: int = 16
    crop: int = 192  # 0: the whole picture
    patience: int = 0  # epochs without a better validation loss before it stops; 0: no validation
    precision: str = "auto"
    averaging: float = 0.998  # decay of the weights' moving average; 0: none
    slice_weight: float = 0.3  # joint: of the slice label's loss
    alpha: float = 0.7  # focal Tversky: weight of false negatives
    gamma: float = 0.75  # focal Tversky: exponent
    dropout: float = 0.2
    seed: int = 1
    sampling: Sampling = field(default_factory=Sampling)
    optimizer: Optimizer = field(default_factory=Optimizer)
    augmentation: Strength = field(default_factory=Strength)

    def __post_init__(self) -> None:
        if self.loss not in LOSSES[self.network]:
            raise UsageError(
                f"the loss {self.loss} does not fit the network {self.network}",
                remedy=f"set loss to {' or '.join(LOSSES[self.network])}",
            )
        if self.crop % 32:
            raise UsageError(f"crop is {self.crop}", remedy="give a multiple of 32")
        if self.input == "picture" and self.crop:
            raise UsageError(
                "input is picture, and crop is set", remedy="set crop=0: pictures are taken whole"
            )
        sampling = self.sampling
        if sampling.order == "once" and (sampling.collections or sampling.within != "slices"):
            raise UsageError(
                "sampling.order is once, and shares of collections or persons are set",
                remedy="set sampling.order to weighted or by-area, which draw",
            )
        if self.network == "joint" and self.input != "tissue":
            raise UsageError("the joint network takes input tissue", remedy="set input=tissue")

    @property
    def neighbours(self) -> int:
        """Slices the network sees at once: the joint network those below and above, too."""
        return 3 if self.network == "joint" else 1


def recipe_of(values: Mapping[str, Any]) -> Recipe:
    """Turn plain values, as YAML or JSON holds them, into a `Recipe`.

    Raises
    ------
    UsageError
        An unknown field, or a value of the wrong kind; the message names it.
    """
    return _build(Recipe, values, "")


def known_fields(kind: type[Any] = Recipe, prefix: str = "") -> dict[str, type[Any]]:
    """Every field by its dotted name, with its type."""
    hints = get_type_hints(kind)
    out: dict[str, type[Any]] = {}
    for one in fields(kind):
        if is_dataclass(hints[one.name]):
            out |= known_fields(hints[one.name], f"{prefix}{one.name}.")
        else:
            out[prefix + one.name] = hints[one.name]
    return out


def _build(kind: type[_T], values: Mapping[str, Any], prefix: str) -> _T:
    hints: dict[str, type[Any]] = get_type_hints(kind)
    out: dict[str, Any] = {}
    for key, value in values.items():
        name = prefix + str(key)
        if key not in hints:
            known = ", ".join(known_fields(kind, prefix))
            raise UsageError(f"no field {name!r}", remedy=f"choose one of {known}")
        wanted = hints[key]
        if is_dataclass(wanted):
            if not isinstance(value, Mapping):
                raise UsageError(f"{name} is {value!r}", remedy=f"set one of its fields: {name}.…")
            out[key] = _build(wanted, value, f"{name}.")
        elif get_origin(wanted) is Mapping:
            out[key] = _shares(name, value)
        else:
            out[key] = _checked(name, value, wanted)
    return kind(**out)


def _shares(name: str, value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{name} is {value!r}", remedy="give shares by name: {lgg: 1, brats: 0.5}")
    shares = {str(key): _checked(f"{name}.{key}", share, float) for key, share in value.items()}
    if shares and not any(shares.values()):
        raise UsageError(f"the shares of {name} are 0", remedy="give one of them a share above 0")
    return shares


def _checked(name: str, value: Any, wanted: type[Any]) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (type(value) is wanted or (wanted is float and whole)):
        kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
        said = "empty" if value is None else repr(value)
        raise UsageError(f"{name} is {said}", remedy=f"give {kinds[wanted]}")
    if wanted in (int, float):
        least = "above 0" if name in POSITIVE else "of at least 0"
        if not 0 <= value < float("inf") or (value == 0 and name in POSITIVE):
            raise UsageError(f"{name} is {value!r}", remedy=f"give a number {least}")
    if name in CHOICES and value not in CHOICES[name]:
        raise UsageError(f"{name} is {value!r}", remedy=f"choose one of {', '.join(CHOICES[name])}")
    if name == "start" and value not in ("imagenet", "scratch") and not Path(value).is_file():
        raise UsageError(
            f"start is {value!r}", remedy="choose imagenet, scratch, or a file of weights"
        )
    return wanted(value)
