"""What a candidate holds and what an analysis would take of it, for ``gliosight inspect`` (read stage).

Headers alone are read; with ``pixels`` also the pixels, which tell masks, copies and constant images from
pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from gliosight.errors import GliosightError, UnsupportedInputError
from gliosight.read.candidates import (
    Candidate,
    DicomCandidate,
    NiftiCandidate,
    Options,
    SlicesCandidate,
)
from gliosight.read.checks import few_values, is_constant, is_labels
from gliosight.read.detect import InputFile
from gliosight.read.folders import left_out_flag
from gliosight.read.limits import Budget, Limits
from gliosight.read.naming import is_mask
from gliosight.study import Flag, Geometry, MrSequence

if TYPE_CHECKING:
    from gliosight.read.dicom.decoder import DecoderProcess
    from gliosight.read.dicom.series import Series

# A normal or a row this far from an axis (cosine) makes a stack oblique.
STRAIGHT = 0.985
# Decimals of a spacing in mm: positions are not written more exactly.
DIGITS = 4
# Modes of Pillow with one channel; a palette may hold colours.
_GREY = frozenset({"1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
_DEPTH_TAGS = (258, 339)  # BitsPerSample and SampleFormat


@dataclass(frozen=True)
class SeenSeries:
    """One series, or one file."""

    name: str  # what people call it: "series 5, echo 2", or a file's name
    shows: str  # "FLAIR", "localizer"
    stored: str  # its transfer syntax, or the file's kind
    uid: str | None = None  # SeriesInstanceUID; None for files
    description: str = ""  # the header's own words, which prove nothing
    confidence: str | None = None  # "certain", "likely" or "guess"
    rule: str = ""  # the rule that decided
    why: str = ""  # the values it went by
    shape: tuple[int, int, int] | None = None  # slices, rows, columns
    spacing_mm: tuple[float, float, float] | None = None
    plane: str | None = None
    taken_as: str | None = None  # the sequence an analysis would take it for
    problem: str = ""  # why it cannot be analysed; empty if it can
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """One study as it would be read."""

    study: str  # its id, or the way to it
    kind: str  # that of the candidate
    folder: str = (
        ""  # DICOM: the deepest folder that holds all its files, below the path that was given
    )
    series: tuple[SeenSeries, ...] = ()
    reasons: dict[str, str] = field(default_factory=dict)  # why a series was taken, by sequence
    error: GliosightError | None = None  # what an analysis would end with
    flags: tuple[Flag, ...] = ()
    masks: tuple[str, ...] = ()  # files that are not read: masks by their names


def describe(candidate: Candidate, limits: Limits, *, pixels: bool) -> Inspection:
    """What a candidate holds, see `Candidate.describe`."""
    if isinstance(candidate, DicomCandidate):
        from gliosight.read.dicom.decoder import one_decoder

        with one_decoder() as decoder:
            seen = _of_dicom(candidate, limits, decoder if pixels else None)
        return replace(seen, masks=candidate.masks)
    seen = Inspection(candidate.title, candidate.kind, error=candidate.error, masks=candidate.masks)
    if isinstance(candidate, NiftiCandidate):
        seen = _of_nifti(candidate, seen)
    elif isinstance(candidate, SlicesCandidate):
        seen = _of_slices(candidate, seen)
    if pixels and seen.error is None:
        try:
            study = candidate.read(Options(limits))
        except GliosightError as error:
            return replace(seen, error=error)
        seen = replace(seen, flags=tuple(dict.fromkeys((*seen.flags, *study.flags))))
    if isinstance(candidate, SlicesCandidate) and seen.error is None:
        seen = replace(seen, flags=tuple(dict.fromkeys((*seen.flags, *candidate.assumed))))
    return seen


def _of_nifti(candidate: NiftiCandidate, seen: Inspection) -> Inspection:
    try:
        taken, flags, _ = candidate.assign()
    except GliosightError as error:
        rows = tuple(_nifti(file, None) for file in candidate.files)
        return replace(seen, series=rows, error=candidate.error or error)
    names = {file.path: name.value for name, file in taken.items()}
    return replace(
        seen,
        series=tuple(_nifti(file, names.get(file.path)) for file in candidate.files),
        reasons={name.value: f"{file.path.name}, {file.shown.why}" for name, file in taken.items()},
        flags=(*candidate.flags, *flags),
    )


def _nifti(file: InputFile, taken_as: str | None) -> SeenSeries:
    shown = file.shown
    row = SeenSeries(
        name=file.path.name,
        shows="mask, by its name" if is_mask(file.path.name) else shown.words,
        stored="NIfTI",
        confidence=shown.confidence,
        rule=shown.rule,
        # Of the only file, which is taken for FLAIR, the reasons say it.
        why="" if shown.basis == "nothing" and taken_as else shown.why,
        taken_as=taken_as,
    )
    from gliosight.read.nifti_file import place, read_nifti_header

    try:
        if file.error is not None:
            raise file.error
        header = read_nifti_header(file.path, file.where)
        _, geometry, flags = place(header, file.path.name)
    except GliosightError as error:
        return replace(row, problem=error.what)
    placed = replace(row, spacing_mm=_spacing(geometry), plane=plane_of(geometry), flags=flags)
    return replace(placed, shape=header.shape[::-1])


def _of_slices(candidate: SlicesCandidate, seen: Inspection) -> Inspection:
    """Clashes in names and headers are found without reading pixels."""
    from gliosight.read.slices import unlike_flair, unlike_names

    rows: list[SeenSeries] = []
    error, flags = candidate.error, list(candidate.flags)
    flair = candidate.files[MrSequence.FLAIR]
    for name, files in candidate.files.items():  # FLAIR first
        row, reason = _slices(files, name), unlike_names(files, flair)
        clash = None if reason else _clash(files, flair=name is MrSequence.FLAIR)
        error = error or clash
        if isinstance(clash, UnsupportedInputError):
            row = replace(row, taken_as=None, problem=clash.what)
        flair_shape = rows[0].shape if rows else None
        if not reason and row.shape and flair_shape:
            reason = unlike_flair(row.shape, flair_shape)
        if reason:
            row = replace(row, taken_as=None, problem=reason)
            flags.append(left_out_flag(name, reason))
        rows.append(row)
    return replace(seen, series=tuple(rows), error=error, flags=tuple(flags))


def _slices(files: Sequence[InputFile], sequence: MrSequence) -> SeenSeries:
    first, last = files[0], files[-1]
    header, several = _header(first), len(files) > 1
    channels = "one channel is FLAIR; three are T1, FLAIR, T1C"
    return SeenSeries(
        name=f"{first.path.name} to {last.path.name}" if several else first.path.name,
        shows="slices" if sequence is MrSequence.FLAIR else sequence.value,
        stored=first.kind.value,
        why="by its folder" if first.sequence_folder else channels,
        shape=(len(files) if several else header.pages, *header.size) if header else None,
        taken_as=sequence.value,
    )


def _clash(files: Sequence[InputFile], *, flair: bool) -> GliosightError | None:
    """Why pictures are not slices of one sequence, by their names and headers alone."""
    from gliosight.read.slices import differ, in_order, refuse_other_sequence

    try:
        ordered, _ = in_order(files)
        headers = [(file.where, _header(file)) for file in ordered]
        if flair:
            # Whether three channels are equal, only the pixels say.
            colour = any(header is None or header.colour for _, header in headers)
            refuse_other_sequence(ordered, colour=colour)
    except GliosightError as error:
        return error
    known = [(where, header) for where, header in headers if header is not None]
    for where, header in known:
        first_where, first = known[0]
        if header.size != first.size:
            sizes = [f"{rows} x {columns}" for rows, columns in (first.size, header.size)]
            return differ("size", first_where, where, *sizes)
        if first.depth and header.depth and header.depth != first.depth:
            return differ("depth", first_where, where, first.depth, header.depth)
    return None


class _Header(NamedTuple):
    """What the header of a picture says."""

    pages: int
    size: tuple[int, int]
    colour: bool
    depth: str  # empty where it is not said plainly


def _header(file: InputFile) -> _Header | None:
    """``None`` where Pillow does not know the kind of picture."""
    try:
        with Image.open(file.path) as picture:
            depth = "uint16" if picture.mode.startswith("I;16") else "uint8"
            if isinstance(picture, TiffImageFile):
                bits, kind = (picture.tag_v2.get(tag, (1,)) for tag in _DEPTH_TAGS)
                plain = set(kind) == {1} and max(bits) <= 16
                depth = f"uint{8 if max(bits) <= 8 else 16}" if plain else ""
            elif picture.mode in ("I", "F"):
                depth = ""
            size = picture.height, picture.width
            return _Header(getattr(picture, "n_frames", 1), size, picture.mode not in _GREY, depth)
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError):
        return None


def _of_dicom(
    candidate: DicomCandidate, limits: Limits, decoder: DecoderProcess | None
) -> Inspection:
    from gliosight.read.dicom.choose import choose
    from gliosight.read.dicom.study import frames_digest

    study = candidate.study
    flags, error = (*candidate.flags, *study.flags), study.problem
    reasons: dict[str, str] = {}
    taken: dict[str, str] = {}  # sequences by the digest of the frames taken for them
    all_flags = flags
    try:
        choice = choose(study.series)
    except GliosightError as refused:
        error = error or refused
    else:
        joined = [
            replace(note, message=f"{name.value}: {note.message}")
            for name, series in choice.chosen.items()
            for note in series.flags
            if note.code == "SERIES_JOINED"
        ]
        reasons = {name.value: why for name, why in choice.reasons.items()}
        all_flags = (*flags, *joined, *choice.flags)
        taken = {frames_digest(series): name.value for name, series in choice.chosen.items()}
    if decoder is not None and error is None:
        # Pixels may overrule headers: a stored mask is skipped, a T1C that does not enhance left out.
        try:
            read = candidate.read(Options(limits))
        except GliosightError as refused:
            error, taken, reasons, all_flags = refused, {}, {}, flags
        else:
            used, all_flags = read.source.series, read.flags
            reasons = {name.value: series.why for name, series in used.items()}
            taken = {series.frames_digest: name.value for name, series in used.items()}
    rows = tuple(
        _series(series, taken.get(frames_digest(series)), limits, decoder)
        for series in sorted(study.series, key=lambda each: (each.number is None, each.number or 0))
    )
    return Inspection(
        candidate.title, "dicom", candidate.source, rows, reasons, error=error, flags=all_flags
    )


def _series(
    series: Series, taken_as: str | None, limits: Limits, decoder: DecoderProcess | None
) -> SeenSeries:
    from gliosight.read.dicom.instances import name_of
    from gliosight.read.dicom.pixels import read_pixels

    number = "series without number" if series.number is None else f"series {series.number}"
    problem = ""
    if series.error is not None:
        problem = series.error.what
    elif not series.usable:
        problem = "never analysed"
    elif decoder is not None:
        try:
            values = read_pixels(series.frames, Budget(limits), decoder)
        except GliosightError as error:
            problem = error.what
        else:
            if is_labels(values):
                problem = f"its pixels hold {few_values(values)} only: a mask"
            elif is_constant(values):
                problem = "its pixels are all the same"
    identified = series.identified
    return SeenSeries(
        name=f"{number}, {series.part}" if series.part else number,
        uid=series.uid,
        description=series.description,
        shows=identified.kind,
        confidence=identified.confidence,
        rule=identified.rule,
        why=identified.why,
        shape=series.shape,
        spacing_mm=_spacing(series.geometry),
        plane=plane_of(series.geometry),
        stored=name_of(series.frames[0].instance.syntax),
        taken_as=taken_as,
        problem=problem,
        flags=series.flags,
    )


def _spacing(geometry: Geometry | None) -> tuple[float, float, float] | None:
    if geometry is None or geometry.slice_spacing is None:
        return None
    slices, (rows, columns) = geometry.slice_spacing, geometry.spacing
    return round(slices, DIGITS), round(rows, DIGITS), round(columns, DIGITS)


def plane_of(geometry: Geometry | None) -> str | None:
    """Axial, sagittal or coronal by the normal; oblique where it is more than 10° off an axis."""
    if geometry is None:
        return None
    normal = np.abs(geometry.normal)
    plane = ("sagittal", "coronal", "axial")[int(normal.argmax())]
    return plane if normal.max() >= STRAIGHT else f"oblique {plane}"


def grouped(series: Iterable[SeenSeries]) -> list[SeenSeries]:
    """One row for the parts of a series that differ in nothing but what tells them apart.

    A dynamic series has dozens of them. What is taken stands for itself.
    """

    def likeness(row: SeenSeries) -> tuple[object, ...]:
        own_name = row.name if row.taken_as or row.uid is None else ""
        uid = row.uid or row.name.partition(",")[0]
        return uid, row.shows, row.shape, row.why, row.problem, own_name

    rows = []
    for _, alike in groupby(series, key=likeness):
        first, *others = alike
        if others:
            name, _, part = first.name.partition(", ")
            last = others[-1].name.partition(", ")[2]
            planes = {row.plane for row in (first, *others)}
            between = ", ..., " if len(others) > 1 else " and "
            name = f"{name}, {1 + len(others)} parts: {part}{between}{last}"
            plane = first.plane if len(planes) == 1 else "several planes"
            first = replace(first, name=name, plane=plane)
        rows.append(first)
    return rows
