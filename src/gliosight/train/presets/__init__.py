"""Presets: recipes as YAML files, validated field by field (training bench).

In: a preset's name and ``NAME=VALUE`` changes. Out: a `Recipe`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from gliosight.errors import UsageError
from gliosight.train.augmentation import Strength
from gliosight.train.fitting import Recipe

HERE = Path(__file__).resolve().parent


def preset_names() -> list[str]:
    """Names of the presets."""
    return sorted(path.stem for path in HERE.glob("*.yaml"))


def load_recipe(name: str, changes: Iterable[str] = ()) -> Recipe:
    """Read a preset and apply changes such as ``epochs=3`` or ``strength.noise=0``.

    Raises
    ------
    UsageError
        Unknown preset or field, or a value of the wrong type; the message names it.
    """
    if name not in preset_names():
        raise UsageError(f"no preset {name!r}", remedy=f"choose one of {', '.join(preset_names())}")
    values: dict[str, Any] = yaml.safe_load((HERE / f"{name}.yaml").read_text("utf-8"))
    strength: dict[str, Any] = {}
    for change in changes:
        key, found, text = change.partition("=")
        if not found:
            raise UsageError(f"--set {change!r}", remedy="write NAME=VALUE")
        value = yaml.safe_load(text)
        if key.startswith("strength."):
            strength[key.removeprefix("strength.")] = value
        else:
            values[key] = value
    checked = _check(Strength, strength, "strength.")
    recipe = _check(Recipe, values, "")
    return Recipe(**recipe, strength=Strength(**checked))


def _check(
    kind: type[Recipe] | type[Strength], values: dict[str, Any], prefix: str
) -> dict[str, Any]:
    types = {one.name: type(getattr(kind(), one.name)) for one in fields(kind)}
    out = {}
    for key, value in values.items():
        if key not in types or key == "strength":
            known = ", ".join(prefix + one for one in types if one != "strength")
            raise UsageError(f"no field {prefix + key!r}", remedy=f"choose one of {known}")
        wanted = types[key]
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (type(value) is wanted or (wanted is float and whole)):
            raise UsageError(f"{prefix}{key} is {value!r}", remedy=f"give a {wanted.__name__}")
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value < 0:
            raise UsageError(f"{prefix}{key} is {value!r}", remedy="give a number of at least 0")
        out[key] = wanted(value)
    return out
