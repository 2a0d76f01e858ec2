"""How a network is trained, as one frozen value: presets, ``--set`` and their checks (training bench).

Every preset has the same fields, so any two runs compare field by field; docs/training.md explains each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from gliosight.errors import DamagedInputError, NothingReadableError, UsageError

PRESETS = Path(__file__).with_name("presets")
SHARES = "sampling.collections"
# The part of a preset with the fields of its quick form.
QUICK = "quick"
# Fields for which 0 has no meaning.
POSITIVE = ("epochs", "batch", "optimizer.lr", "optimizer.epsilon")
# Losses that fit a network's output.
LOSSES = {
    "joint": ("joint",),
    "resnet50": ("cross-entropy",),
    "resunet": ("focal-tversky", "dice"),
    "unet": ("focal-tversky", "dice"),
}


@dataclass(frozen=True)
class Sampling:
    """Which slices an epoch is made of."""

    slices: Literal["all", "tumour"] = "all"
    order: Literal["once", "weighted", "by-area"] = "weighted"
    per_epoch: int = 2400  # 0: as many as there are
    free_weight: float = 0.45  # how often a tumour-free slice is drawn, against 1
    # Share of the draws by collection, or by several joined with +; empty: as many as their slices get.
    collections: Mapping[str, float] = field(default_factory=dict)
    within: Literal["slices", "persons"] = "slices"  # persons: as many draws for each
    patients: int = 0  # of each part at most so many, for a first try; 0: all


@dataclass(frozen=True)
class Optimizer:
    """Optimiser, learning rates and their schedule."""

    kind: Literal["adamw", "adam"] = "adamw"
    lr: float = 1.5e-3
    encoder_lr: float = 4e-4  # 0: as lr
    weight_decay: float = 0.02
    epsilon: float = 1e-8
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    warm_up: float = 0.15  # part of the steps, one-cycle only
    clip: float = 5.0  # largest norm of the gradient; 0: any


@dataclass(frozen=True)
class Strength:
    """How far each augmentation may go. Ranges are symmetric unless stated otherwise."""

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


# No augmentation.
STILL = Strength(**{item.name: 0.0 for item in fields(Strength)})


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; a preset file holds one of these."""

    network: Literal["joint", "resnet50", "resunet", "unet"] = "joint"
    loss: Literal["joint", "cross-entropy", "focal-tversky", "dice"] = "joint"
    input: Literal["tissue", "picture"] = "tissue"
    start: str = "imagenet"  # imagenet, scratch, or a file of published weights (resnet50)
    freeze: bool = False  # resnet50: the trunk is not trained
    epochs: int = 10
    batch: int = 16
    crop: int = 192  # 0: the whole picture
    patience: int = 0  # epochs without a better validation loss before it stops; 0: no validation
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
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
        if self.network != "resnet50" and self.start not in ("imagenet", "scratch"):
            raise UsageError(
                f"start is {self.start!r}, and files of published weights are for resnet50",
                remedy="choose imagenet or scratch, or give an earlier run: --init RUN",
            )
        if self.network == "joint" and self.input == "picture":
            raise UsageError("the joint network takes input tissue", remedy="set input=tissue")

    @property
    def neighbours(self) -> int:
        """Slices the network sees at once: the joint network also those below and above."""
        return 3 if self.network == "joint" else 1


GROUPS: dict[str, Any] = {"sampling": Sampling, "optimizer": Optimizer, "augmentation": Strength}


def known_fields() -> dict[str, Any]:
    """Every field by its dotted name, with its type."""
    known = {name: hint for name, hint in get_type_hints(Recipe).items() if name not in GROUPS}
    for group, kind in GROUPS.items():
        known |= {f"{group}.{name}": hint for name, hint in get_type_hints(kind).items()}
    return known


def value_of(recipe: Recipe, name: str) -> Any:
    """The value of a field by its dotted name."""
    return attrgetter(name)(recipe)


def preset_names() -> list[str]:
    """Names of the presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_recipe(preset: str, changes: Iterable[str] = (), *, quick: bool = False) -> Recipe:
    """Read a preset, or a YAML file of one's own, and apply changes such as ``optimizer.lr=3e-4``.

    ``quick``: its fields under ``quick`` hold, too: fewer patients and epochs, for a first try.

    Raises
    ------
    UsageError
        Unknown preset or field, or a value of the wrong kind; the message names it.
    NothingReadableError, DamagedInputError
        A file that cannot be read, or is not a YAML mapping.
    """
    whole = _read(preset)
    shorter = whole.pop(QUICK, None)
    values = _flat(whole)
    if quick:
        if not isinstance(shorter, Mapping):
            raise UsageError(
                f"{preset} has no quick form",
                remedy=f"write its fields under {QUICK}, such as {QUICK}: {{epochs: 2}}",
            )
        values |= _flat(shorter)
    for change in changes:
        name, equals, text = change.partition("=")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            equals = ""
        if not equals:
            raise UsageError(f"--set {change!r}", remedy="write NAME=VALUE")
        if isinstance(value, str):  # YAML 1.1 takes 3e-4 for a word: it wants a dot in a number
            with suppress(ValueError):
                value = float(value)
        if isinstance(value, Mapping):
            values = {key: values[key] for key in values if not key.startswith(f"{name}.")}
        values |= _flat({name: value})
    return recipe_of(values)


def _read(preset: str) -> dict[str, Any]:
    path = PRESETS / f"{preset}.yaml" if preset in preset_names() else Path(preset)
    if path.suffix not in (".yaml", ".yml"):
        raise UsageError(
            f"no preset {preset!r}",
            remedy=f"choose one of {', '.join(preset_names())}, or give a YAML file",
        )
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise NothingReadableError(
            f"cannot read the preset: {error.strerror}", where=path.name, remedy="check its path"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise DamagedInputError(f"not YAML: {reason}", where=path.name) from error
    if not isinstance(values, dict):
        raise DamagedInputError("it has no fields", where=path.name, remedy="see docs/training.md")
    return values


def recipe_of(values: Mapping[str, Any]) -> Recipe:
    """Turn plain values, as YAML or JSON holds them, nested or with dotted names, into a `Recipe`.

    Raises
    ------
    UsageError
        An unknown field, or a value of the wrong kind; the message names it.
    """
    known = known_fields()
    checked: dict[str, dict[str, Any]] = {group: {} for group in ("", *GROUPS)}
    shares: dict[str, float] = {}
    for name, value in _flat(values).items():
        group, _, field_name = name.rpartition(".")
        if name.startswith(f"{SHARES}."):
            shares[name.removeprefix(f"{SHARES}.")] = _checked(name, value, float)
        elif name in known:
            checked[group][field_name] = _checked(name, value, known[name])
        else:
            siblings = [field for field in known if field.startswith(f"{name.split('.')[0]}.")]
            choices = ", ".join(siblings or known)
            if name in GROUPS:
                raise UsageError(f"{name} is {value!r}", remedy=f"set one of its fields: {choices}")
            raise UsageError(f"no field {name!r}", remedy=f"choose one of {choices}")
    if shares:
        if not any(shares.values()):
            what = f"the shares of {SHARES} are 0"
            raise UsageError(what, remedy="give one of them a share above 0")
        checked["sampling"]["collections"] = shares
    groups = {group: kind(**checked[group]) for group, kind in GROUPS.items()}
    return Recipe(**checked[""], **groups)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def _checked(name: str, value: Any, hint: Any) -> Any:
    shown = "empty" if value is None else repr(value)
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    kind: Any = str if choices else hint
    if kind is float and type(value) is int:
        value = float(value)
    remedy = ""
    if type(value) is not kind:
        kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
        remedy = f"give {kinds.get(kind, 'shares by name: {lgg: 1, brats: 0.5}')}"
    elif choices and value not in choices:
        remedy = f"choose one of {', '.join(choices)}"
    elif kind in (int, float) and (not 0 <= value < math.inf or (name in POSITIVE and not value)):
        remedy = f"give a number {'above 0' if name in POSITIVE else 'of at least 0'}"
    if remedy:
        raise UsageError(f"{name} is {shown}", remedy=remedy)
    return value
