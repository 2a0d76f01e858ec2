"""What is known of each study: a row of ``studies.csv`` and of ``index.html`` (layer: archive)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from gliosight.flags import warnings_of
from gliosight.pipeline import Outcome
from gliosight.study import Flag

FAILED = "error"


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
    error = " ".join(error.line() for error in outcome.errors)
    result = outcome.result
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


def ranked(entries: Iterable[Entry]) -> list[Entry]:
    """The same with their ranks: what failed comes first, then by doubt; equals keep their order."""
    entries = list(entries)
    order = sorted(range(len(entries)), key=lambda k: -entries[k].doubt)
    ranks = {k: rank for rank, k in enumerate(order, 1)}
    return [replace(entry, review=ranks[k]) for k, entry in enumerate(entries)]
