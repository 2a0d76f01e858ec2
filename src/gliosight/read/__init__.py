"""From a path to a `Study` (the first stage).

`candidates` finds the studies that lie at a path; each candidate reads itself with the module of its format
(`nifti`, `slices`, the folder `dicom`; `arrays` for Python callers), within `limits`. docs/input.md and
docs/dicom.md describe what is read, docs/flags.md the flags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gliosight.errors import UsageError
from gliosight.read.arrays import from_arrays
from gliosight.read.candidates import Candidate, Options, find, find_one, join, named_files
from gliosight.read.limits import DEFAULT_LIMITS, Limits
from gliosight.read.zipped import Opened, opened
from gliosight.study import MrSequence, Study

__all__ = [
    "Candidate",
    "Limits",
    "Opened",
    "Options",
    "Request",
    "find",
    "from_arrays",
    "join",
    "named_files",
    "opened",
    "read",
]


@dataclass(frozen=True)
class Request:
    """The one study to read."""

    # A file, a folder or a zip with one study, or ``folder/name`` for the study of that name among a folder's
    # files; None where `flair` says it all.
    path: Path | None
    # NIfTI files, whatever their names say. Beside a path only `t1` and `t1c`, if it is a NIfTI file:
    # the FLAIR.
    flair: Path | None = None
    t1: Path | None = None
    t1c: Path | None = None
    limits: Limits = DEFAULT_LIMITS  # for this and the others see `Options`
    volume_index: int | None = None
    series: Mapping[MrSequence, str] = field(default_factory=dict)


def read(request: Request) -> Study:
    """Read one study; raises a `GliosightError` that says why it cannot be read, see docs/input.md."""
    options = Options(request.limits, request.volume_index, request.series)
    if request.flair or request.t1 or request.t1c:
        if request.path is not None and request.flair is not None:
            raise UsageError("both a study and --flair are given", remedy="give only one of them")
        flair = request.flair or request.path
        if flair is None:
            raise UsageError("T1 or T1C is given without FLAIR", remedy="give --flair FILE as well")
        as_flair = request.flair is not None
        return named_files(flair, request.t1, request.t1c, as_flair=as_flair).read(options)
    if request.path is None:
        raise UsageError("nothing to read", remedy="give a study, or a FLAIR file with --flair")
    with opened(request.path, request.limits) as inside:
        candidate = find_one(inside, request.limits)
        study = candidate.read(options)
    flags = (*inside.flags, *study.flags)
    return replace(study, flags=flags, source=replace(study.source, path=candidate.source))
