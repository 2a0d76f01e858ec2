"""A run's folder: its record ``run.json``, what it was begun with and its outcome (training bench).

Apart from `gliosight.train.run`, since the export of a finished run reads it, too, without Lightning.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gliosight import __version__
from gliosight.card import read_card
from gliosight.data.manifest import Manifest, SliceRow
from gliosight.data.split import Split
from gliosight.errors import DamagedInputError, NothingReadableError, UsageError
from gliosight.files import whole_file
from gliosight.train.recipe import Recipe, known_fields, recipe_of, value_of

RECORD, WEIGHTS = "run.json", "weights.safetensors"
PACKAGES = ("torch", "lightning", "numpy", "onnx")
# What a resumed run must share with its beginning, besides the recipe, and what the command calls it.
SAME = {
    "data": "manifest (--data)",
    "split": "split (--split, --fold)",
    "initial": "start (--init)",
}
# Fields of a recipe that a message names before it breaks off.
NAMED = 4


@dataclass(frozen=True)
class Machine:
    """What a run may use."""

    devices: int = 1  # processes on this machine; they share each batch
    nodes: int = 1  # machines that share each batch
    threads: int | None = None  # of torch in each process
    checkpoint_every: int = 50  # steps; each epoch ends with a checkpoint, too


def make_record(
    *,
    preset: str,
    recipe: Recipe,
    manifest: Manifest,
    split: Split | None,
    fold: str | None,
    parts: Mapping[str, tuple[SliceRow, ...]],
    initial: Path | None,
    machine: Machine,
) -> dict[str, Any]:
    """The record of a run before it begins: plain values."""
    patients = {part: hash_patients(row.patient for row in rows) for part, rows in parts.items()}
    start = None
    if initial is not None:
        patients["initial"] = sorted(patients_seen(initial) or ())
        digest = hashlib.sha256(initial.read_bytes()).hexdigest()
        start = {"name": initial.name, "sha256": digest}
    return {
        "preset": preset,
        "recipe": asdict(recipe),
        "data": {"manifest_sha256": manifest.sha256},
        "split": None if split is None else {"sha256": split.sha256, "by": split.by, "fold": fold},
        "slices": {part: len(rows) for part, rows in parts.items()},
        "patients_sha256": patients,
        "initial": start,
        "machine": {
            **asdict(machine),
            "processor": processor(),
            "python": platform.python_version(),
            "system": platform.system(),
        },
        "versions": {"gliosight": __version__} | {name: version(name) for name in PACKAGES},
    }


def hash_patients(patients: Iterable[str]) -> list[str]:
    """SHA-256 of each different name, sorted."""
    return sorted({hashlib.sha256(name.encode()).hexdigest() for name in patients})


def patients_seen(weights: Path) -> frozenset[str] | None:
    """Hashes of the patients that starting weights were trained on, by the run or card beside them.

    ``None`` where neither lists them.

    Raises
    ------
    DamagedInputError, ModelError
        The run's record or the card is damaged.
    """
    if weights.name == WEIGHTS and (weights.parent / RECORD).is_file():
        parts = read_record(weights.parent)["patients_sha256"]
        return frozenset(str(digest) for digests in parts.values() for digest in digests)
    card = weights.with_suffix(".json")
    return (read_card(card).training_patients or None) if card.is_file() else None


def write_record(run: Path, record: Mapping[str, Any]) -> None:
    """Write ``run.json``."""
    with whole_file(run / RECORD, overwrite=True) as path:
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


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
    return dict(record)


def recipe_begun(run: Path, preset: str) -> Recipe | None:
    """The recipe that a run of this preset began with; ``None`` if no run has begun.

    Raises
    ------
    DamagedInputError
    """
    record = read_record(run) if (run / RECORD).is_file() else {}
    return recipe_of(record["recipe"]) if record.get("preset") == preset else None


def check_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to resume a run with other settings or data.

    Raises
    ------
    UsageError
        Names what differs.
    """
    began, asked = recipe_of(before["recipe"]), recipe_of(now["recipe"])
    differ = [
        f"{name} {value_of(began, name)}, not {value_of(asked, name)}"
        for name in known_fields()
        if value_of(began, name) != value_of(asked, name)
    ]
    if differ:
        more = " and more" if len(differ) > NAMED else ""
        raise UsageError(
            f"this run began with another recipe: {'; '.join(differ[:NAMED])}{more}",
            remedy="give --resume without --set, or choose another -o",
        )
    for key, words in SAME.items():
        if before.get(key) != now[key]:
            raise UsageError(
                f"this run began with another {words}",
                remedy="resume it with what it began with, or choose another -o",
            )


def processor() -> str:
    """The processor's instruction sets that matter for speed, where the system lists them."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return " ".join([platform.machine(), *(name for name in known if name in flags)])
