"""From paths to analysed studies in the order of time (archive).

A study is read and analysed. Of a result folder the mask and its interval are taken; its images, which the
registration needs, are looked for among the studies of ``--source``. Dates come from DICOM headers, else from
names; what is handed on are days since the first study, never a date.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np

from gliosight.analysis import Analysis
from gliosight.errors import DamagedInputError, GliosightError, UnsupportedInputError, within
from gliosight.infer.model import Model
from gliosight.measure import measure
from gliosight.pipeline import Settings, analyze_study
from gliosight.study import MrSequence, Study
from gliosight.write.masks import mask_in, read_mask
from gliosight.write.result import read_result, restore

BY_HEADERS = "the acquisition dates of the DICOM headers"
BY_NAMES = "the dates in the names"
AS_GIVEN = "the order in which they were given"

# Year, month and day, in this order: any other is read in two ways.
_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")
_DATE_KEYWORDS = (
    "AcquisitionDate",
    "AcquisitionDateTime",
    "SeriesDate",
    "ContentDate",
    "StudyDate",
)


@dataclass(frozen=True)
class Read:
    """A study that was read, where it lies, and its result where a result folder was given."""

    source: str
    study: Study
    result: Path | None = None


def read_results(
    folders: Sequence[Path], images: Sequence[tuple[str, Callable[[], Study]]]
) -> list[Read]:
    """Give each result folder the study it was made from.

    Parameters
    ----------
    folders : sequence of Path
    images : sequence of (str, callable)
        The studies below ``--source``: where each lies, and what reads it.

    Raises
    ------
    UnsupportedInputError
        The images of a result are not among them.
    """
    results = [(folder, read_result(folder)) for folder in folders]
    found: dict[str, list[Study]] = {}
    if results:
        for _, read in images:
            with contextlib.suppress(GliosightError):  # other studies may lie beside them
                study = read()
                found.setdefault(study.study_id, []).append(study)
    return [
        Read(folder.name, _study_of(folder, result, found), folder) for folder, result in results
    ]


def _study_of(
    folder: Path, result: Mapping[str, object], found: Mapping[str, list[Study]]
) -> Study:
    """The study of a result: the one of its id on whose grid its mask lies."""
    where = folder.name or str(folder)
    study_id = str(result["study_id"])
    for study in found.get(study_id, []):
        with contextlib.suppress(DamagedInputError):
            read_mask(mask_in(folder), study)
            return study
    raise UnsupportedInputError(
        "a result folder holds no images, and the registration needs them",
        where=where,
        remedy="give the study itself, or the folder with its images by --source",
    )


def check_geometry(reads: Sequence[Read]) -> None:
    """Refuse studies that cannot be laid over each other.

    Raises
    ------
    UnsupportedInputError
        A study has no geometry, or one whose directions are a program's default.
    """
    for read in reads:
        geometry = read.study.geometry
        if geometry is None or geometry.slice_spacing is None:
            what = "the study has no geometry: without millimetres it cannot be followed up"
        elif geometry.believed != "all":
            what = "nothing in the study says where left and right are: it cannot be followed up"
        elif geometry.slices < 2:
            what = "a single slice cannot be followed up"
        else:
            continue
        remedy = "give its DICOM series or a NIfTI file with geometry"
        raise UnsupportedInputError(what, where=read.source, remedy=remedy)


def in_order(reads: Sequence[Read]) -> tuple[list[Read], list[int | None], str]:
    """Studies in the order of time, their days since the first, and what the order follows.

    Dates count only where every study has one of the same kind and no two are equal.
    """
    for dates, words in (
        ([date_of_headers(read.study) for read in reads], BY_HEADERS),
        ([date_of_name(read.source) for read in reads], BY_NAMES),
    ):
        known = [one for one in dates if one is not None]
        if len(known) == len(reads) == len(set(known)):
            order = sorted(range(len(reads)), key=lambda k: known[k])
            days: list[int | None] = [(known[k] - known[order[0]]).days for k in order]
            return [reads[k] for k in order], days, words
    return list(reads), [None] * len(reads), AS_GIVEN


def date_of_headers(study: Study) -> date | None:
    """When FLAIR was acquired, by its headers; ``None`` where they do not say."""
    if study.source.dicom is None:
        return None
    header = study.source.dicom.headers[0]
    for keyword in _DATE_KEYWORDS:
        text = str(getattr(header, keyword, "") or "")
        if (found := date_of_name(text[:8])) is not None:
            return found
    return None


def date_of_name(text: str) -> date | None:
    """The last date in a text, such as 2024-03-01 or 20240301; ``None`` where there is none."""
    found = None
    for year, _, month, day in _DATE.findall(text):
        with contextlib.suppress(ValueError):  # 30 February
            found = date(int(year), int(month), int(day))
    return found


def notes_of(reads: Sequence[Read]) -> list[str]:
    """What speaks against a follow-up, a sentence each."""
    notes = []
    headers = [read.study.source.dicom.headers[0] for read in reads if read.study.source.dicom]
    people = {str(getattr(header, "PatientID", "") or "") for header in headers} - {""}
    if len(people) > 1:
        notes.append("The headers name different patients: are these studies of one person?")
    kinds = [tuple(name for name in MrSequence if name in read.study.sequences) for read in reads]
    if any(a != b for a, b in pairwise(kinds)):
        notes.append(
            "The studies have different sequences: the model outlines a lesion differently without T1 or T1C."
        )
    return notes


def analysed(read: Read, model: Model | Future[Model], settings: Settings) -> Analysis:
    """The analysis of a study, or that of its result folder."""
    if read.result is None:
        return analyze_study(read.study, model, settings)
    study, result = read.study, read_result(read.result)
    values = read_mask(mask_in(read.result), study)
    unknown = np.broadcast_to(np.float32(np.nan), study.shape)
    origin = f"{study.study_id}/{result['provenance']['model']['sha256']}"
    try:
        labels, findings = measure(study, values, unknown, origin=origin)
        return restore(result, study, values, labels, findings, corrected=True)
    except GliosightError as error:
        raise within(error, f"{read.source}/{error.where}") from error
