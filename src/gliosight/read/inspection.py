"""What is there, and what an analysis would take, without one (read stage).

In: a source of `find_studies`. Out: an `Inspection`: every series or file with what it shows and why, the
choice, and what reading would complain of. Headers alone are read; with ``pixels`` also the pixels, which
tell masks, copies and constant images from pictures.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from gliosight.errors import GliosightError, UnsupportedInputError
from gliosight.read import Request, Source, read
from gliosight.read.detect import SLICES, Kind
from gliosight.read.folders import (
    flair_groups,
    list_folder,
    series_files,
    slice_groups,
    with_ignored,
)
from gliosight.read.intensities import few_values, is_constant, is_labels
from gliosight.read.limits import Budget, Limits
from gliosight.read.naming import is_mask, sequence_of
from gliosight.read.nifti_file import place, read_nifti_header
from gliosight.read.recognise import Found, folder_name, named_file, relative
from gliosight.study import Flag, Geometry, Sequence

if TYPE_CHECKING:
    from gliosight.read.dicom.series import Series
    from gliosight.read.dicom.study import DicomStudy

# A normal or a row this far from an axis (cosine) makes a stack oblique.
STRAIGHT = 0.985
# Decimals of a spacing in mm: positions are written with no more sense than that.
DIGITS = 4
_PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class SeenSeries:
    """One series, or one file.

    Parameters
    ----------
    name : str
        What people call it: ``series 5``, ``series 5, echo 2``, or a file's name.
    uid : str or None
        SeriesInstanceUID; ``None`` for files.
    description : str
        The header's own words, which prove nothing.
    shows : str
        What it is, such as ``FLAIR``, ``T2``, ``localizer``.
    confidence : {"certain", "likely", "guess"} or None
    rule, why : str
        The rule that decided, and the values it went by.
    shape : tuple of int or None
        Slices, rows, columns.
    spacing_mm : tuple of float or None
        Between slices, rows and columns.
    plane : str or None
    stored : str
        Transfer syntax, or the file's kind.
    taken_as : str or None
        The sequence an analysis would take it for.
    problem : str
        Why it cannot be analysed; empty if it can.
    flags : tuple of Flag
    """

    name: str
    shows: str
    stored: str
    uid: str | None = None
    description: str = ""
    confidence: str | None = None
    rule: str = ""
    why: str = ""
    shape: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    plane: str | None = None
    taken_as: str | None = None
    problem: str = ""
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """One study as it would be read.

    Parameters
    ----------
    study : str
        Its id, or the way to it.
    kind : {"dicom", "nifti", "slices", "unknown"}
    folder : str
        DICOM: the deepest folder that holds all its files, below the path that was given.
    series : tuple of SeenSeries
    reasons : dict of str to str
        Why a series was taken, by sequence.
    error : GliosightError or None
        What an analysis would end with.
    flags : tuple of Flag
    """

    study: str
    kind: str
    folder: str = ""
    series: tuple[SeenSeries, ...] = ()
    reasons: dict[str, str] = field(default_factory=dict)
    error: GliosightError | None = None
    flags: tuple[Flag, ...] = ()


def inspect(
    source: Source, title: str, limits: Limits, *, root: Path | None = None, pixels: bool = False
) -> Inspection:
    """Look at one source.

    Parameters
    ----------
    source : Path or DicomStudy
    title : str
        What to call it.
    limits : Limits
    root : Path, optional
        What its folder is told relative to.
    pixels : bool
        Read the pixels, too.
    """
    if not isinstance(source, Path):
        return replace(_dicom(source, limits, pixels=pixels), folder=_folder(source, root))
    seen = _files(source, title, limits)
    if not pixels or seen.error is not None:
        return seen
    try:
        study = read(Request(source, limits=limits))
    except GliosightError as error:
        return replace(seen, error=error)
    return replace(seen, flags=tuple(dict.fromkeys((*seen.flags, *study.flags))))


def grouped(series: Iterable[SeenSeries]) -> list[SeenSeries]:
    """One row for the parts of a series that differ in nothing but what tells them apart.

    A dynamic series has dozens of them. What is taken stands for itself.
    """
    return [_together(list(alike)) for _, alike in groupby(series, key=_likeness)]


def _likeness(one: SeenSeries) -> tuple[object, ...]:
    apart = one.name if one.taken_as or one.uid is None else ""
    return (
        one.uid or one.name.partition(",")[0],
        one.shows,
        one.shape,
        one.why,
        one.problem,
        apart,
    )


def _together(alike: list[SeenSeries]) -> SeenSeries:
    if len(alike) == 1:
        return alike[0]
    name, _, part = alike[0].name.partition(", ")
    last = alike[-1].name.partition(", ")[2]
    planes = {one.plane for one in alike}
    return replace(
        alike[0],
        name=f"{name}, {len(alike)} parts: {part}, ..., {last}",
        plane=alike[0].plane if len(planes) == 1 else "several planes",
    )


def _folder(study: DicomStudy, root: Path | None) -> str:
    whole = Path(os.path.commonpath(study.folders))
    return "" if root is None or whole == root else relative(whole, root)


def plane_of(geometry: Geometry | None) -> str | None:
    """Axial, sagittal or coronal by the normal; oblique where it is more than 10° off an axis."""
    if geometry is None:
        return None
    normal = np.abs(geometry.normal)
    plane = _PLANES[int(normal.argmax())]
    return plane if normal.max() >= STRAIGHT else f"oblique {plane}"


@dataclass(frozen=True)
class _Taken:
    """What an analysis would take of a DICOM study.

    Parameters
    ----------
    names : dict of str to str
        The sequence each stack is taken for, by the digest of its frames.
    """

    names: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    error: GliosightError | None = None
    flags: tuple[Flag, ...] = ()


def _dicom(study: DicomStudy, limits: Limits, *, pixels: bool) -> Inspection:
    from gliosight.read.dicom.study import frames_digest

    taken = _taken_by_headers(study)
    if pixels and taken.error is None:
        # Pixels may overrule headers: a stored mask is passed over, a T1C that does not enhance left out.
        taken = _taken_by_pixels(study, limits)
    rows = [
        _series(one, taken.names.get(frames_digest(one)), limits, pixels=pixels)
        for one in sorted(study.series, key=lambda one: (one.number is None, one.number or 0))
    ]
    return Inspection(
        study.study_id,
        "dicom",
        series=tuple(rows),
        reasons=taken.reasons,
        error=taken.error,
        flags=taken.flags,
    )


def _taken_by_headers(study: DicomStudy) -> _Taken:
    from gliosight.read.dicom.choose import choose
    from gliosight.read.dicom.study import frames_digest

    try:
        choice = choose(study.series)
    except GliosightError as error:
        return _Taken(error=study.problem or error, flags=study.flags)
    return _Taken(
        {frames_digest(one): name.value for name, one in choice.chosen.items()},
        {name.value: why for name, why in choice.reasons.items()},
        study.problem,
        (*study.flags, *choice.flags),
    )


def _taken_by_pixels(study: DicomStudy, limits: Limits) -> _Taken:
    try:
        read_study = read(Request(study, limits=limits))
    except GliosightError as error:
        return _Taken(error=error, flags=study.flags)
    source = read_study.source
    return _Taken(
        {digest: name for name, digest in source["frames"].items()},
        dict(source["chosen"]),
        flags=read_study.flags,
    )


def _series(series: Series, taken_as: str | None, limits: Limits, *, pixels: bool) -> SeenSeries:
    from gliosight.read.dicom.pixels import read_pixels
    from gliosight.read.dicom.syntaxes import name_of

    number = "series without number" if series.number is None else f"series {series.number}"
    problem = ""
    if series.error is not None:
        problem = series.error.what
    elif not series.usable:
        problem = "never analysed"
    elif pixels:
        try:
            values = read_pixels(series.frames, Budget(limits))
        except GliosightError as error:
            problem = error.what
        else:
            if is_labels(values):
                problem = f"its pixels hold {few_values(values)} only: a mask"
            elif is_constant(values):
                problem = "its pixels are all the same"
    geometry = series.geometry
    return SeenSeries(
        name=f"{number}, {series.part}" if series.part else number,
        uid=series.uid,
        description=series.description,
        shows=series.identified.kind,
        confidence=series.identified.confidence,
        rule=series.identified.rule,
        why=series.identified.why,
        shape=series.shape,
        spacing_mm=_spacing(geometry),
        plane=plane_of(geometry),
        stored=name_of(series.frames[0].instance.syntax),
        taken_as=taken_as,
        problem=problem,
        flags=series.flags,
    )


def _spacing(geometry: Geometry | None) -> tuple[float, float, float] | None:
    if geometry is None or geometry.slice_spacing is None:
        return None
    slices, rows, columns = (
        round(one, DIGITS) for one in (geometry.slice_spacing, *geometry.spacing)
    )
    return slices, rows, columns


def _files(path: Path, title: str, limits: Limits) -> Inspection:
    """A study of NIfTI files or of slices."""
    try:
        files = _files_of(path, Budget(limits))
    except GliosightError as error:
        return Inspection(title, "unknown", error=error)
    if not files:
        try:
            read(Request(path, limits=limits))
        except GliosightError as error:
            return Inspection(title, "unknown", error=error)
    bad = next((one.error for one in files if one.error is not None), None)
    if files and files[0].kind is not Kind.NIFTI:
        return Inspection(title, "slices", series=(_slices(files),), error=bad)
    rows = tuple(_nifti(one) for one in files)
    marked, reasons, problem, flags = _assigned(files, rows, folder_name(path), bad)
    if isinstance(problem, UnsupportedInputError) and path.is_dir():
        problem = with_ignored(problem, list_folder(path, path, Budget(limits)))
    return Inspection(title, "nifti", "", marked, reasons, problem, flags)


def _files_of(path: Path, budget: Budget) -> list[Found]:
    if path.is_dir():
        contents = list_folder(path, path, budget)
        groups = (
            flair_groups(contents.readable)
            if contents.of(Kind.NIFTI)
            else slice_groups(contents.readable)
        )
        return list(next(iter(groups.values()))) if len(groups) == 1 else list(contents.readable)
    if path.is_file():
        file = named_file(path, path.name)
        return [file] if file.kind is Kind.NIFTI or file.kind in SLICES else []
    found = series_files(path, path.parent, budget)
    return [] if found is None else list(found[1])


def _assigned(
    files: Iterable[Found],
    rows: tuple[SeenSeries, ...],
    where: str,
    bad: GliosightError | None,
) -> tuple[tuple[SeenSeries, ...], dict[str, str], GliosightError | None, tuple[Flag, ...]]:
    from gliosight.read.nifti import assign

    files = list(files)
    try:
        taken, flags, _ = assign(files, where)
    except GliosightError as error:
        return rows, {}, bad or error, ()
    names = {one.path: name.value for name, one in taken.items()}
    marked = tuple(
        replace(row, taken_as=names.get(one.path)) for row, one in zip(rows, files, strict=True)
    )
    reasons = {name.value: f"{one.path.name} says so by its name" for name, one in taken.items()}
    if any(one.code == "SEQUENCE_ASSUMED" for one in flags):
        reasons = {Sequence.FLAIR.value: "the only file, whose name says no sequence"}
    return marked, reasons, bad, flags


def _nifti(one: Found) -> SeenSeries:
    said = sequence_of(one.path.name)
    shows = "mask, by its name" if is_mask(one.path.name) else str(getattr(said, "value", said))
    row = SeenSeries(
        name=one.path.name,
        shows="unknown" if said is None and shows == "None" else shows,
        stored="NIfTI",
        why="by its name" if said is not None else "",
    )
    if one.error is not None:
        return replace(row, problem=one.error.what)
    try:
        header = read_nifti_header(one.path, one.where)
        _, geometry, flags = place(header, one.path.name)
    except GliosightError as error:
        return replace(row, problem=error.what)
    return replace(
        row,
        shape=header.shape[::-1],
        spacing_mm=_spacing(geometry),
        plane=plane_of(geometry),
        flags=flags,
    )


def _slices(files: list[Found]) -> SeenSeries:
    first = files[0]
    name = relative(first.path, first.path.parent)
    if len(files) > 1:
        name = f"{first.path.name} to {files[-1].path.name}"
    shape = None
    try:
        with Image.open(first.path) as picture:
            pages = getattr(picture, "n_frames", 1) if len(files) == 1 else len(files)
            shape = (pages, picture.height, picture.width)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        pass  # Pillow does not know every TIFF that is read; the size is not worth an error
    return SeenSeries(
        name=name,
        shows="slices",
        stored=first.kind.value,
        why="one channel is FLAIR; three are T1, FLAIR, T1C",
        shape=shape,
        taken_as=Sequence.FLAIR.value,
    )
