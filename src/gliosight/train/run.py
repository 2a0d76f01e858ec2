"""A run's folder and its record (training bench).

::

    RUN/
      run.json             recipe, versions, data and split, patients, machine, outcome
      last.ckpt            where --resume goes on
      best.ckpt            lowest validation loss, where there is a validation part
      log/                 for TensorBoard
      weights.safetensors  at the end
      model.json, .onnx    at the end: the run as a model that analyze and evaluate take
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gliosight import __version__
from gliosight.card import read_card
from gliosight.data.manifest import Manifest
from gliosight.data.split import Split
from gliosight.errors import DamagedInputError, NothingReadableError, UsageError
from gliosight.train.recipe import Recipe, recipe_of

RECORD, WEIGHTS = "run.json", "weights.safetensors"
PACKAGES = ("torch", "lightning", "numpy", "onnx")
# What a resumed run must share with its beginning, and what the command calls it.
SAME = {
    "recipe": "recipe",
    "data": "manifest (--data)",
    "split": "split (--split, --fold)",
    "initial": "start (--init)",
}
# Fields of a recipe that a message names before it breaks off.
NAMED = 4


def hash_patients(patients: Iterable[str]) -> list[str]:
    """SHA-256 of each name, sorted: the training patients, without their names."""
    return sorted(hashlib.sha256(one.encode()).hexdigest() for one in patients)


def make_record(
    *,
    preset: str,
    recipe: Recipe,
    manifest: Manifest,
    split: Split | None,
    fold: str | None,
    patients: Mapping[str, Iterable[str]],
    slices: Mapping[str, int],
    initial: Path | None,
    machine: Mapping[str, Any],
) -> dict[str, Any]:
    """What a run says of itself before it begins."""
    return {
        "preset": preset,
        "recipe": asdict(recipe),
        "data": {"manifest_sha256": manifest.sha256},
        "split": None if split is None else {"sha256": split.sha256, "by": split.by, "fold": fold},
        "slices": dict(slices),
        "patients_sha256": {part: hash_patients(names) for part, names in patients.items()}
        | ({"initial": sorted(seen_by_weights(initial) or ())} if initial else {}),
        "initial": None
        if initial is None
        else {"name": initial.name, "sha256": hashlib.sha256(initial.read_bytes()).hexdigest()},
        "machine": {
            **machine,
            "processor": processor(),
            "python": platform.python_version(),
            "system": platform.system(),
        },
        "versions": {"gliosight": __version__} | {name: version(name) for name in PACKAGES},
    }


def seen_by_weights(weights: Path) -> frozenset[str] | None:
    """Hashes of the patients that starting weights were trained on, by the run or card beside them.

    ``None`` where nothing beside them says it.

    Raises
    ------
    DamagedInputError, ModelError
        The run's record or the card is damaged.
    """
    if weights.name == WEIGHTS and (weights.parent / RECORD).is_file():
        parts = read_record(weights.parent)["patients_sha256"]
        return frozenset(str(one) for names in parts.values() for one in names)
    card = weights.with_suffix(".json")
    return (read_card(card).training_patients or None) if card.is_file() else None


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` write beside the name, so that a file of a run appears whole or not at all.

    What a killed run left beside a name is written over by the next; a run has one writer.

    Raises
    ------
    OSError
        Nothing was written; a file of this name stays as it was.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_record(run: Path, record: Mapping[str, Any]) -> None:
    """Write ``run.json``.

    Raises
    ------
    OSError
    """
    text = json.dumps(record, indent=2) + "\n"
    write_file(run / RECORD, lambda part: part.write_text(text, encoding="utf-8"))


def read_record(run: Path) -> dict[str, Any]:
    """Read ``run.json``.

    Raises
    ------
    NothingReadableError, DamagedInputError
    """
    try:
        record = json.loads((run / RECORD).read_text("utf-8"))
        recipe_of(record["recipe"])
    except OSError as error:
        raise NothingReadableError(
            "no run here", where=run.name, remedy="give the -o of: gliosight train"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedInputError("run.json is damaged", where=run.name) from error
    out: dict[str, Any] = record
    return out


def check_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to resume a run as another one.

    Raises
    ------
    UsageError
        Names what differs.
    """
    for key, words in SAME.items():
        began, asked = before.get(key), json.loads(json.dumps(now[key]))
        if began == asked:
            continue
        differ = _differences(before["recipe"], asked) if key == "recipe" else ""
        raise UsageError(
            f"this run began with another {words}{differ}",
            remedy="give --resume without --set, or choose another -o"
            if key == "recipe"
            else "resume it with what it began with, or choose another -o",
        )


def recipe_begun(run: Path, preset: str) -> Recipe | None:
    """The recipe that a run of this preset began with, settings included; ``None`` if no run has begun.

    Raises
    ------
    DamagedInputError
    """
    if not (run / RECORD).is_file():
        return None
    record = read_record(run)
    return recipe_of(record["recipe"]) if record.get("preset") == preset else None


def _differences(began: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Which fields of two recipes are not the same, in words."""
    one, other = _flat(began), _flat(asked)
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    told = [f"{name} {one.get(name)}, not {other.get(name)}" for name in names[:NAMED]]
    return f": {'; '.join(told)}{' and more' if len(names) > NAMED else ''}"


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= (
            _flat(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
        )
    return flat


def processor() -> str:
    """The processor's instruction sets that matter for speed, where the system tells."""
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    words = set(next((line for line in flags.splitlines() if line.startswith("flags")), "").split())
    return " ".join([platform.machine(), *(one for one in known if one in words)])
