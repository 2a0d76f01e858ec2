"""``gliosight mercure``: a processing module of the DICOM orchestrator mercure (layer: cli).

Its convention (https://mercure-imaging.org): the images lie in ``MERCURE_IN_DIR``, with ``task.json``; every
DICOM file in ``MERCURE_OUT_DIR`` is sent on; ``result.json`` there is kept with the task, and its
``__mercure_notification`` goes into the notification.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

import gliosight
from gliosight import pipeline
from gliosight.analysis import RESEARCH_USE, Status, probability_words
from gliosight.archive.entries import Entry, exit_code
from gliosight.archive.run import Plan, run_archive
from gliosight.cli.batch import studies_below
from gliosight.cli.output import print_line, print_text
from gliosight.errors import GliosightError, NothingReadableError, UsageError
from gliosight.files import whole_file, writing
from gliosight.read import Options

# What a rule in mercure may set; the names are those of the options.
SETTINGS = ("model", "engine", "precision", "device", "threads", "prevalence")
OBJECTS = ("segmentation.dcm", "report.dcm", "probability.dcm")


@click.command("mercure")
def command() -> int:
    """Run as a processing module of mercure, a DICOM orchestrator.

    Reads the images below MERCURE_IN_DIR. Writes a segmentation and a structured report of each study into
    MERCURE_OUT_DIR, and result.json with the verdicts and a notification.
    """
    source, out = _folder("MERCURE_IN_DIR"), _folder("MERCURE_OUT_DIR")
    try:
        return _analyse(source, out)
    except GliosightError as error:
        text = f"gliosight: {error.line()}. {RESEARCH_USE}"
        _write_result(out, {"error": error.as_object()}, {"text": text, "requested": True})
        raise


def _analyse(source: Path, out: Path) -> int:
    settings, probability = _settings(source / "task.json")
    settings.choose()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as unpacked:
        studies, lost = studies_below([source], Options(), unpacked, by_folder=False, shown=False)
        entries = run_archive(studies, lost, Path(name), Plan(settings, probability, workers=1))
        with writing(out):
            for entry in entries:
                if entry.folder is not None:
                    _hand_over(Path(name) / entry.folder, entry, out)
    for entry in entries:
        if entry.error:
            print_line(f"error: {entry.error}")
    notification = _notification(entries)
    _write_result(out, {"studies": _rows(entries)}, notification)
    print_text(notification["text"])
    return exit_code(entries)


def _folder(variable: str) -> Path:
    text = os.environ.get(variable)
    if not text:
        raise UsageError(
            f"{variable} is not set", remedy="mercure sets it; elsewhere use: gliosight batch"
        )
    path = Path(text)
    if not path.is_dir():
        raise NothingReadableError(
            "no such folder", where=variable, remedy="check the container's mounts"
        )
    return path


def _settings(task: Path) -> tuple[pipeline.Settings, bool]:
    """The settings of the rule in mercure, and whether the probability is wanted."""
    try:
        process = json.loads(task.read_text("utf-8")).get("process") or {}
    except FileNotFoundError:
        process = {}
    except (OSError, ValueError, AttributeError) as error:
        remedy = "check the rule in mercure"
        raise UsageError("task.json is not what mercure writes", remedy=remedy) from error
    given: Mapping[str, Any] = {}
    for one in process if isinstance(process, list) else [process]:
        if isinstance(one, Mapping) and isinstance(one.get("settings"), Mapping):
            given = {**given, **one["settings"]}
    if unknown := set(given) - {*SETTINGS, "probability"}:
        remedy = f"choose from {', '.join(SETTINGS)}, probability"
        raise UsageError(f"no setting {min(unknown)!r}", where="task.json", remedy=remedy)
    known = {name: given[name] for name in SETTINGS if given.get(name) is not None}
    try:  # the rule's form gives text
        known |= {
            name: kind(known[name])
            for name, kind in (("threads", int), ("prevalence", float))
            if name in known
        }
    except (TypeError, ValueError) as error:
        remedy = "give numbers as threads and prevalence"
        raise UsageError("a setting is not a number", where="task.json", remedy=remedy) from error
    probability = given.get("probability", False)
    if str(probability).lower() not in ("true", "false"):
        remedy = "give true or false"
        raise UsageError(f"probability is {probability!r}", where="task.json", remedy=remedy)
    return pipeline.Settings(**known), str(probability).lower() == "true"


def _hand_over(folder: Path, entry: Entry, out: Path) -> None:
    for name in OBJECTS:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / f"{entry.study_id}_{name}")


def _write_result(out: Path, content: Mapping[str, Any], notification: Mapping[str, Any]) -> None:
    value = {
        "gliosight": gliosight.__version__,
        "research_use_only": RESEARCH_USE,
        **content,
        "__mercure_notification": notification,
    }
    with whole_file(out / "result.json", overwrite=True) as path:
        path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def _rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    names = ("study_id", "status", "probability", "volume_ml", "findings", "warnings", "error")
    return [{name: getattr(entry, name) for name in names} for entry in entries]


def _notification(entries: Sequence[Entry]) -> dict[str, Any]:
    """One line for people; asked for where something was found, is uncertain or failed."""
    parts = [
        entry.status
        + (
            ""
            if entry.probability is None
            else f", probability {probability_words(entry.probability)}"
        )
        + ("" if not entry.volume_ml else f", {entry.volume_ml:.1f} ml")
        for entry in entries
    ]
    calm = {Status.NOT_FOUND.value}
    return {
        "text": f"gliosight: {'; '.join(parts) or 'no study'}. {RESEARCH_USE}",
        "requested": any(entry.status not in calm for entry in entries),
    }
