"""What is known of each study: a row of ``studies.csv`` and of ``index.html`` (layer: archive)."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gliosight.errors import CannotWriteError, GliosightError, within
from gliosight.flags import warnings_of
from gliosight.pipeline import Outcome
from gliosight.study import Flag

FAILED = "error"
# Exit codes of runs over several studies.
SOME_FAILED, ALL_FAILED = 10, 11
_OF_ONE_STUDY = re.compile(r"\bwith (--(?:flair|volume)\b)")


@dataclass(frozen=True)
class Entry:
    """A study, and what became of it.

    Parameters
    ----------
    study_id : str
        As in ``result.json``; of a study that could not be read, the name of its folder or file.
    source : str
        Where it lies, below what was given.
    status : str
        A `gliosight.analysis.Status` as text, or ``error``.
    folder : str or None
        The result folder, or in BIDS derivatives the report, relative to the folder of all results; ``None``
        where there is none.
    probability : float or None
        Calibrated probability of tumour of the study, in [0, 1].
    review : int
        Rank in which to look at the studies, 1 for the first.
    findings : int
    volume_ml, volume_low_ml, volume_high_ml : float or None
        What is marked, and its 90 % interval; ``None`` without geometry.
    volume_px, volume_low_px, volume_high_px : int or None
        The same in pixels or voxels; known without geometry, too.
    warnings : tuple of str
        Codes of the flags that are warnings.
    worst_warning : str
        Message of the first of them; empty without warnings.
    doubt : float
        How urgently a person should look at it, see `gliosight.analysis.Decision.doubt`; infinite where it
        failed.
    seconds : float or None
        Time that its analysis took.
    exit_code : int
        0, or that of its error.
    error : str
        Its error in one line; empty where it was analysed.
    thumbnail : bytes or None
        JPEG of the slice to look at first, with the outline.
    """

    study_id: str
    source: str
    status: str
    folder: str | None = None
    probability: float | None = None
    review: int = 0
    doubt: float = math.inf
    findings: int = 0
    volume_ml: float | None = None
    volume_low_ml: float | None = None
    volume_high_ml: float | None = None
    volume_px: int | None = None
    volume_low_px: int | None = None
    volume_high_px: int | None = None
    warnings: tuple[str, ...] = ()
    worst_warning: str = ""
    seconds: float | None = None
    exit_code: int = 0
    error: str = ""
    thumbnail: bytes | None = None


def entry_of(outcome: Outcome, out: Path) -> Entry:
    """What the table of a folder of results says of an outcome; its rank is still to be found."""
    result = outcome.result
    errors = outcome.errors if result else [_with_study(error, outcome) for error in outcome.errors]
    # A command for many studies lacks the options of one.
    error = _OF_ONE_STUDY.sub(r"with gliosight analyze \1", " ".join(one.line() for one in errors))
    if result is None:
        code = outcome.errors[0].exit_code
        return Entry(outcome.title, outcome.source, FAILED, exit_code=code, error=error)
    warnings = warnings_of(Flag(**record) for record in result["flags"])
    volumes = {
        name: result[name]
        for name in ("volume_ml", "volume_low_ml", "volume_high_ml", "volume_px", "volume_low_px",
                     "volume_high_px")
    }  # fmt: skip
    return Entry(
        study_id=result["study_id"],
        source=outcome.source,
        status=result["status"],
        # From the table, so that it still leads there when both have been moved together.
        folder=os.path.relpath(result["out"], out),
        probability=result["detection"]["probability"],
        findings=len(result["findings"]),
        **volumes,
        warnings=tuple(warning.code for warning in warnings),
        worst_warning=warnings[0].message if warnings else "",
        doubt=result["review"]["doubt"],
        seconds=sum(result["provenance"]["timings_ms"].values()) / 1000,
        exit_code=outcome.errors[0].exit_code if outcome.errors else 0,
        error=error,
        thumbnail=outcome.thumbnail,
    )


def _with_study(error: GliosightError, outcome: Outcome) -> GliosightError:
    """An error with the study in its place: a DICOM error's is a series, which every study has."""
    study = outcome.source or outcome.title
    where = error.where or study
    parts = {*where.split(", "), *re.split(r", |/", where)}
    # The place of what cannot be written is its result folder.
    if isinstance(error, CannotWriteError) or {study, outcome.title} & parts:
        return error
    # A file below it, or one that is named after it.
    named = re.search(rf"(^|/){re.escape(study)}[\W_]", where)
    return error if named else within(error, f"{study}, {where}")


def ranked(entries: Iterable[Entry]) -> list[Entry]:
    """The same with their ranks: what failed comes first, then by doubt; equals keep their order."""
    entries = list(entries)
    order = sorted(range(len(entries)), key=lambda k: -entries[k].doubt)
    ranks = {k: rank for rank, k in enumerate(order, 1)}
    return [replace(entry, review=ranks[k]) for k, entry in enumerate(entries)]


def rows_of(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """The entries as ``--json`` prints them."""
    hidden = ("thumbnail", "doubt")
    return [
        {name: value for name, value in asdict(entry).items() if name not in hidden}
        for entry in entries
    ]


def exit_code(entries: Collection[Entry]) -> int:
    """0 where all studies are done, else `SOME_FAILED` or `ALL_FAILED`.

    Where all are done but a DICOM object of one was withheld, it is the code of that error.
    """
    failures = sum(entry.status == FAILED for entry in entries)
    if failures:
        return ALL_FAILED if failures == len(entries) else SOME_FAILED
    return max((entry.exit_code for entry in entries), default=0)
