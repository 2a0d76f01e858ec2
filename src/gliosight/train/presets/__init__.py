"""Presets: recipes as YAML files (training bench).

In: a preset's name, or the path of a YAML file of one's own, and ``NAME=VALUE`` changes. Out: a `Recipe`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from gliosight.errors import DamagedInputError, NothingReadableError, UsageError
from gliosight.train.recipe import Recipe, recipe_of

HERE = Path(__file__).resolve().parent


def preset_names() -> list[str]:
    """Names of the presets."""
    return sorted(path.stem for path in HERE.glob("*.yaml"))


def load_recipe(name: str, changes: Iterable[str] = ()) -> Recipe:
    """Read a preset and apply changes such as ``epochs=3`` or ``optimizer.lr=3e-4``.

    Raises
    ------
    UsageError
        Unknown preset or field, or a value of the wrong kind; the message names it.
    NothingReadableError, DamagedInputError
        A file of one's own that cannot be read, or is no YAML mapping.
    """
    values = _read(name)
    for change in changes:
        key, found, text = change.partition("=")
        if not found:
            raise UsageError(f"--set {change!r}", remedy="write NAME=VALUE")
        *outer, last = key.split(".")
        target = values
        for part in outer:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise UsageError(f"no field {key!r}", remedy="see docs/training.md")
        target[last] = _value(text, change)
    return recipe_of(values)


def _read(name: str) -> dict[str, Any]:
    path = HERE / f"{name}.yaml"
    if name not in preset_names():
        path = Path(name)
        if path.suffix not in (".yaml", ".yml"):
            raise UsageError(
                f"no preset {name!r}",
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
        raise DamagedInputError(f"no YAML: {reason}", where=path.name) from error
    if not isinstance(values, dict):
        raise DamagedInputError("no fields in it", where=path.name, remedy="see docs/training.md")
    return values


def _value(text: str, change: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {change!r}", remedy="write NAME=VALUE") from error
    # YAML 1.1 takes 3e-4 for a word: a number needs a dot there, and nobody writes one.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
