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
from gliosight.read.detect import InputFile
from gliosight.read.intensities import few_values, is_constant, is_labels
from gliosight.read.limits import Budget, Limits
from gliosight.read.naming import is_mask
from gliosight.read.nifti_file import place, read_nifti_header
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


def describe_nifti(candidate: NiftiCandidate, limits: Limits, *, pixels: bool) -> Inspection:
    """Look at the headers of NIfTI files."""
    rows = tuple(_nifti(file) for file in candidate.files)
    seen = Inspection(candidate.title, "nifti", series=rows, error=candidate.error)
    try:
        taken, flags, _ = candidate.assign()
    except GliosightError as error:
        return replace(seen, error=candidate.error or error)
    names = {file.path: name.value for name, file in taken.items()}
    seen = replace(
        seen,
        series=tuple(
            replace(row, taken_as=names.get(file.path))
            for row, file in zip(rows, candidate.files, strict=True)
        ),
        reasons={name.value: f"{file.path.name}, {file.shown.why}" for name, file in taken.items()},
        flags=(*candidate.flags, *flags),
    )
    return _with_pixels(seen, candidate, limits) if pixels else seen


def describe_slices(candidate: SlicesCandidate, limits: Limits, *, pixels: bool) -> Inspection:
    """Look at the headers of pictures: clashes there or in names are reported without reading pixels."""
    from gliosight.read.slices import left_out_flag, unlike_flair, unlike_names

    rows = {name: _slices(files, name) for name, files in candidate.files.items()}
    error = candidate.error
    flags = list(candidate.flags)
    for name, files in candidate.files.items():
        reason = unlike_names(files, candidate.files[MrSequence.FLAIR])
        clash = None if reason else _clash(files, flair=name is MrSequence.FLAIR)
        error = error or clash
        if isinstance(clash, UnsupportedInputError):
            rows[name] = replace(rows[name], taken_as=None, problem=clash.what)
        shape, flair = rows[name].shape, rows[MrSequence.FLAIR].shape
        if not reason and shape and flair:
            reason = unlike_flair(shape, flair)
        if reason:
            rows[name] = replace(rows[name], taken_as=None, problem=reason)
            flags.append(left_out_flag(name, reason))
    seen = Inspection(
        candidate.title, "slices", series=tuple(rows.values()), error=error, flags=tuple(flags)
    )
    if pixels:
        seen = _with_pixels(seen, candidate, limits)
    if seen.error is not None:
        return seen
    return replace(seen, flags=tuple(dict.fromkeys((*seen.flags, *candidate.assumed))))


def describe_dicom(candidate: DicomCandidate, limits: Limits, *, pixels: bool) -> Inspection:
    """Look at the series of a DICOM study."""
    from gliosight.read.dicom.decoder import one_decoder
    from gliosight.read.dicom.study import frames_digest

    by_number = sorted(
        candidate.study.series, key=lambda series: (series.number is None, series.number or 0)
    )
    with one_decoder() as decoder:
        seen, taken = _chosen_by_headers(candidate)
        if pixels and seen.error is None:
            # Pixels may overrule headers: a stored mask is skipped, a T1C that does not enhance left out.
            seen, taken = _chosen_by_pixels(candidate, limits)
        rows = tuple(
            _series(series, taken.get(frames_digest(series)), limits, decoder if pixels else None)
            for series in by_number
        )
    return replace(seen, series=rows)


def _chosen_by_headers(candidate: DicomCandidate) -> tuple[Inspection, dict[str, str]]:
    """The choice of series, and the sequence each is taken for, by the digest of its frames."""
    from gliosight.read.dicom.choose import choose
    from gliosight.read.dicom.study import frames_digest

    study = candidate.study
    flags = (*candidate.flags, *study.flags)
    seen = Inspection(candidate.title, "dicom", candidate.source, error=study.problem, flags=flags)
    try:
        choice = choose(study.series)
    except GliosightError as error:
        return replace(seen, error=study.problem or error), {}
    joined = [
        replace(note, message=f"{name.value}: {note.message}")
        for name, series in choice.chosen.items()
        for note in series.flags
        if note.code == "SERIES_JOINED"
    ]
    reasons = {name.value: why for name, why in choice.reasons.items()}
    taken = {frames_digest(series): name.value for name, series in choice.chosen.items()}
    return replace(seen, reasons=reasons, flags=(*flags, *joined, *choice.flags)), taken


def _chosen_by_pixels(
    candidate: DicomCandidate, limits: Limits
) -> tuple[Inspection, dict[str, str]]:
    """As `_chosen_by_headers`, of what an analysis reads."""
    seen = Inspection(candidate.title, "dicom", candidate.source)
    try:
        study = candidate.read(Options(limits))
    except GliosightError as error:
        flags = (*candidate.flags, *candidate.study.flags)
        return replace(seen, error=error, flags=flags), {}
    taken = {digest: name for name, digest in study.source["frames"].items()}
    return replace(seen, reasons=dict(study.source["chosen"]), flags=study.flags), taken


def _with_pixels(seen: Inspection, candidate: Candidate, limits: Limits) -> Inspection:
    if seen.error is not None:
        return seen
    try:
        study = candidate.read(Options(limits))
    except GliosightError as error:
        return replace(seen, error=error)
    return replace(seen, flags=tuple(dict.fromkeys((*seen.flags, *study.flags))))


def grouped(series: Iterable[SeenSeries]) -> list[SeenSeries]:
    """One row for the parts of a series that differ in nothing but what tells them apart.

    A dynamic series has dozens of them. What is taken stands for itself.
    """

    def likeness(row: SeenSeries) -> tuple[object, ...]:
        uid = row.uid or row.name.partition(",")[0]
        own_name = row.name if row.taken_as or row.uid is None else ""
        return uid, row.shows, row.shape, row.why, row.problem, own_name

    return [_together(list(alike)) for _, alike in groupby(series, key=likeness)]


def _together(alike: list[SeenSeries]) -> SeenSeries:
    first = alike[0]
    if len(alike) == 1:
        return first
    name, _, part = first.name.partition(", ")
    last = alike[-1].name.partition(", ")[2]
    same_plane = len({row.plane for row in alike}) == 1
    return replace(
        first,
        name=f"{name}, {len(alike)} parts: {part}, ..., {last}",
        plane=first.plane if same_plane else "several planes",
    )


def plane_of(geometry: Geometry | None) -> str | None:
    """Axial, sagittal or coronal by the normal; oblique where it is more than 10° off an axis."""
    if geometry is None:
        return None
    normal = np.abs(geometry.normal)
    plane = _PLANES[int(normal.argmax())]
    return plane if normal.max() >= STRAIGHT else f"oblique {plane}"


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
    rows, columns = geometry.spacing
    return round(geometry.slice_spacing, DIGITS), round(rows, DIGITS), round(columns, DIGITS)


def _nifti(file: InputFile) -> SeenSeries:
    shown = file.shown
    row = SeenSeries(
        name=file.path.name,
        shows="mask, by its name" if is_mask(file.path.name) else shown.words,
        stored="NIfTI",
        confidence=shown.confidence,
        rule=shown.rule,
        why="" if shown.basis == "nothing" else shown.why,
    )
    try:
        if file.error is not None:
            raise file.error
        header = read_nifti_header(file.path, file.where)
        _, geometry, flags = place(header, file.path.name)
    except GliosightError as error:
        return replace(row, problem=error.what)
    return replace(
        row,
        shape=header.shape[::-1],
        spacing_mm=_spacing(geometry),
        plane=plane_of(geometry),
        flags=flags,
    )


def _slices(files: Sequence[InputFile], sequence: MrSequence) -> SeenSeries:
    first, last = files[0], files[-1]
    header = _header(first)
    several = len(files) > 1
    return SeenSeries(
        name=f"{first.path.name} to {last.path.name}" if several else first.path.name,
        shows="slices" if sequence is MrSequence.FLAIR else sequence.value,
        stored=first.kind.value,
        why="one channel is FLAIR; three are T1, FLAIR, T1C"
        if not first.sequence_folder
        else "by its folder",
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
    """What the header of a picture says; ``depth`` is empty where it does not say it plainly."""

    pages: int
    size: tuple[int, int]
    colour: bool
    depth: str


def _header(file: InputFile) -> _Header | None:
    """``None`` where Pillow does not know the kind of picture."""
    try:
        with Image.open(file.path) as picture:
            colour = picture.mode not in _GREY
            pages, size = getattr(picture, "n_frames", 1), (picture.height, picture.width)
            depth = "uint16" if picture.mode.startswith("I;16") else "uint8"
            if isinstance(picture, TiffImageFile):
                bits, kind = (picture.tag_v2.get(tag, (1,)) for tag in _DEPTH_TAGS)
                plain = set(kind) == {1} and max(bits) <= 16
                depth = f"uint{8 if max(bits) <= 8 else 16}" if plain else ""
            elif picture.mode in ("I", "F"):
                depth = ""
            return _Header(pages, size, colour, depth)
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError):
        return None
