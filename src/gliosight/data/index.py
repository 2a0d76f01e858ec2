"""From the files of a data set to the rows of its manifest (data).

In: a `Layout`. Out: a frozen `Indexed`, one row for each slice. Every file is opened and decoded here
once, so that nothing damaged is met later in training: a slice that cannot be used stays in the manifest,
with the reason in its column ``excluded``.

What rules a slice out: a picture or mask that is missing, damaged or of a kind that is not read; a mask of
another size than its picture, or that is an image; a size or depth that differs from that of the
patient's other slices (the most frequent one counts). What rules a patient out: FLAIR without contrast,
with two values only, or named as another sequence. Which sequences are really there is decided for the
patient as a whole, by the rule of `gliosight.read.copies`. T1 and T1C on another grid than FLAIR count where
the read stage resamples them onto it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.data.cases import NO_MASK, Layout, PictureCase, PictureSlice, VolumeCase
from gliosight.data.manifest import NIFTI, SEQUENCES, SLICES, SliceRow
from gliosight.data.patients import institution_of
from gliosight.data.pixels import (
    Pixels,
    file_sha256,
    read_labels,
    read_mask,
    read_picture,
    read_volume,
)
from gliosight.errors import DamagedInputError, GliosightError, printable
from gliosight.read.copies import keep_real
from gliosight.read.intensities import few_values, is_constant, is_labels
from gliosight.read.limits import DEFAULT_LIMITS, Budget
from gliosight.read.naming import sequence_of
from gliosight.read.nifti_file import Image
from gliosight.read.regrid import onto_grid
from gliosight.read.slices import CHANNELS
from gliosight.study import Sequence

# Told how many files (pictures, or patients of volumes) are done and how many there are.
Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Indexed:
    """Rows of all slices, in the manifest's order, and what the user should know."""

    rows: tuple[SliceRow, ...]
    notes: tuple[str, ...]


def files_of(layout: Layout) -> int:
    """How many files `index` counts: pictures, and patients of volumes."""
    return sum(len(one.slices) if isinstance(one, PictureCase) else 1 for one in layout.cases)


def index(
    layout: Layout,
    folder: Path,
    tell: Tell | None = None,
    *,
    tumour_free: Container[str] = frozenset(),
) -> Indexed:
    """Open every file and make the rows.

    Parameters
    ----------
    layout : Layout
    folder : Path
        Where the manifest will lie; the rows' paths are relative to it.
    tell : callable, optional
    tumour_free : container of str
        Patients that are known to have no tumour: they need no mask.

    Raises
    ------
    DamagedInputError
        A mask of one of them marks pixels.
    """
    names = _Names(layout.root, folder)
    total = files_of(layout)
    rows: list[SliceRow] = []
    notes = list(layout.notes)
    contradicted = done = 0
    for case in layout.cases:
        if isinstance(case, VolumeCase):
            made, odd = _volume_rows(case, names, tumour_free=case.patient in tumour_free)
            notes += odd
            done += 1
            if tell is not None:
                tell(done, total)
        else:
            started = done
            step = None if tell is None else lambda k, n=started: tell(n + k, total)
            made = _picture_rows(case, names, step, tumour_free=case.patient in tumour_free)
            done += len(case.slices)
            contradicted += _contradictions(case, made, layout.labels)
        _refuse_tumour(made)
        rows += made
    if contradicted:
        notes.append(
            f"Rows whose label in the table contradicts the mask, which counts: {contradicted:,}."
        )
    return Indexed(tuple(rows), tuple(notes))


def _refuse_tumour(rows: list[SliceRow]) -> None:
    for row in rows:
        if row.tumour_free and row.tumour:
            raise DamagedInputError(
                f"the mask of {printable(row.key)}, which has no tumour by --tumour-free, marks "
                f"{row.area_px:,} pixels",
                where=printable(row.mask),
                remedy="take this mask away, or leave the collection out of --tumour-free",
            )


def _contradictions(case: PictureCase, rows: list[SliceRow], labels: Mapping[Path, bool]) -> int:
    return sum(
        labels.get(one.image, row.tumour) != row.tumour
        for one, row in zip(case.slices, rows, strict=True)
        if not row.excluded
    )


class _Names:
    """Paths as the manifest writes them, and as an error names them."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        folder = folder.absolute()
        if root.is_relative_to(folder):
            self._way = root.relative_to(folder)
        else:
            # Links resolved: `..` leads up from where a link leads to, not from the link.
            try:
                self._way = Path(os.path.relpath(root.resolve(), folder.resolve()))
            except ValueError:  # on another drive there is no relative path
                self._way = root.resolve()

    def written(self, path: Path | None) -> str:
        """As seen from the manifest's folder; empty for none."""
        return "" if path is None else (self._way / path.relative_to(self._root)).as_posix()

    def where(self, path: Path) -> str:
        """As seen from the data set's folder."""
        return path.relative_to(self._root).as_posix()


def _row(
    patient: str,
    number: int,
    kind: str,
    image: str,
    mask: str,
    excluded: str,
    *,
    tumour_free: bool,
) -> SliceRow:
    """A row of which no pixel is known yet."""
    return SliceRow(
        patient=patient,
        number=number,
        kind=kind,
        image=image,
        t1="",
        t1c="",
        mask=mask,
        tumour=False,
        area_px=0,
        sequences=(),
        copies=(),
        institution=institution_of(patient),
        sha256="",
        mask_sha256="",
        excluded="" if tumour_free and excluded == NO_MASK else excluded,
        tumour_free=tumour_free,
    )


# --- pictures ------------------------------------------------------------------------------------


def _picture_rows(
    case: PictureCase, names: _Names, step: Callable[[int], None] | None, *, tumour_free: bool
) -> list[SliceRow]:
    budget = Budget(DEFAULT_LIMITS)
    read: list[tuple[SliceRow, Pixels | None]] = []
    for count, one in enumerate(case.slices, start=1):
        read.append(_read_slice(case.patient, one, names, budget, tumour_free=tumour_free))
        if step is not None:
            step(count)
    shapes = Counter(_shape_of(picture) for _, picture in read if picture is not None)
    if not shapes:
        return [row for row, _ in read]
    usual = shapes.most_common(1)[0][0]
    rows: list[SliceRow] = []
    good: list[Pixels] = []
    for row, picture in read:
        if picture is None:
            rows.append(row)
        elif _shape_of(picture) != usual:
            reason = f"{_shape_of(picture)}, most of the patient's slices are {usual}"
            rows.append(_ruled_out(row, reason))
        else:
            rows.append(row)
            good.append(picture)
    channels = max(one.values.shape[-1] for one in good)
    stack = np.stack(
        [np.broadcast_to(one.values, (*one.values.shape[:2], channels)) for one in good]
    )
    arrays = {Sequence.FLAIR: stack[..., 0]}
    if channels == len(CHANNELS):
        arrays = {name: stack[..., place] for place, name in enumerate(CHANNELS)}
    elif said := _other_sequence(case):
        return [_ruled_out(row, f"no FLAIR, the name says {said}") for row in rows]
    return _finish(rows, arrays, lossy=any(one.lossy for one in good))


def _read_slice(
    patient: str, one: PictureSlice, names: _Names, budget: Budget, *, tumour_free: bool
) -> tuple[SliceRow, Pixels | None]:
    """A row, and the picture if the slice is sound so far."""
    row = _row(
        patient,
        one.number,
        SLICES,
        names.written(one.image),
        names.written(one.mask),
        one.excluded,
        tumour_free=tumour_free,
    )
    try:
        picture = read_picture(one.image, names.where(one.image), budget)
    except GliosightError as error:
        return _ruled_out(row, f"picture: {error.what}"), None
    row = replace(row, sha256=picture.sha256)
    if one.mask is None:
        return (
            (row, picture) if tumour_free and not row.excluded else (_ruled_out(row, NO_MASK), None)
        )
    try:
        mask = read_mask(one.mask, names.where(one.mask), budget)
    except GliosightError as error:
        return _ruled_out(row, f"mask: {error.what}"), None
    row = replace(row, mask_sha256=mask.sha256)
    size = picture.values.shape[:2]
    if mask.values.shape != size:
        reason = f"mask is {_size(mask.values.shape)}, its picture {_size(size)}"
        return _ruled_out(row, reason), None
    if row.excluded:
        return row, None
    area = int(np.count_nonzero(mask.values))
    return replace(row, tumour=area > 0, area_px=area), picture


def _other_sequence(case: PictureCase) -> str:
    """What grey pictures say they are, if it is not FLAIR; the read stage refuses such slices."""
    for one in case.slices:
        said = sequence_of(one.image.name)
        if said is not None and said is not Sequence.FLAIR:
            return said.value if isinstance(said, Sequence) else said
    return ""


def _shape_of(picture: Pixels) -> str:
    return f"{_size(picture.values.shape[:2])} {picture.values.dtype}"


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


# --- volumes -------------------------------------------------------------------------------------


def _volume_rows(
    case: VolumeCase, names: _Names, *, tumour_free: bool
) -> tuple[list[SliceRow], list[str]]:
    """Rows of one patient, and what the user should know."""
    budget = Budget(DEFAULT_LIMITS)
    row = _row(
        case.patient,
        0,
        NIFTI,
        names.written(case.flair),
        names.written(case.mask),
        case.excluded,
        tumour_free=tumour_free,
    )
    try:
        flair = read_volume(case.flair, names.where(case.flair), budget)
        row = replace(row, sha256=file_sha256(case.flair))
    except GliosightError as error:
        return [_ruled_out(row, f"FLAIR: {error.what}")], []
    arrays: dict[Sequence, NDArray[Any]] = {Sequence.FLAIR: flair.values}
    notes: list[str] = []
    for name, path in ((Sequence.T1, case.t1), (Sequence.T1C, case.t1c)):
        if path is None:
            continue
        try:
            other = read_volume(path, names.where(path), budget)
            # As the read stage does for a user's study, so that both see the same sequences.
            placed = onto_grid(flair, other, name.value, names.where(path), budget)
        except GliosightError as error:
            row = _ruled_out(row, f"{name.value}: {error.what}")
            continue
        if placed.values is None:
            notes += [f"{case.patient}: {one.message}" for one in placed.flags]
            continue
        arrays[name] = placed.values
        written, digest = names.written(path), file_sha256(path)
        if name is Sequence.T1:
            row = replace(row, t1=written, t1_sha256=digest)
        else:
            row = replace(row, t1c=written, t1c_sha256=digest)
        # Before it was resampled: interpolation makes many values of a mask's few.
        if is_labels(other.values):
            row = _ruled_out(row, f"{name.value} has {few_values(other.values)} only: a mask")
    row, areas = _areas(row, case, flair, names, budget)
    rows = [
        replace(row, number=number, tumour=area > 0, area_px=area)
        for number, area in enumerate(areas)
    ]
    return _finish(rows, arrays, lossy=False), notes


def _areas(
    row: SliceRow, case: VolumeCase, flair: Image, names: _Names, budget: Budget
) -> tuple[SliceRow, list[int]]:
    """The row with its mask's digest, and the mask's area on each slice, pixels."""
    none = [0] * len(flair.values)
    if case.mask is None:
        return row if row.tumour_free else _ruled_out(row, NO_MASK), none
    try:
        mask = read_labels(case.mask, names.where(case.mask), budget)
        row = replace(row, mask_sha256=file_sha256(case.mask))
    except GliosightError as error:
        return _ruled_out(row, f"mask: {error.what}"), none
    if mask.values.shape != flair.values.shape:
        wrong = f"mask is {_size(mask.values.shape)}, FLAIR {_size(flair.values.shape)}"
        return _ruled_out(row, wrong), none
    if not _same_grid(flair, mask, names.where(case.mask)):
        return _ruled_out(row, "mask lies elsewhere than FLAIR"), none
    return row, none if row.excluded else np.count_nonzero(mask.values, axis=(1, 2)).tolist()


def _same_grid(flair: Image, other: Image, where: str) -> bool:
    """Whether a mask lies on FLAIR's voxels, by the read stage's own rule; it is never resampled."""
    if flair.header.shape != other.header.shape:
        return False
    # The name is for flags alone, which are not asked for here.
    placed = onto_grid(flair, other, Sequence.T1.value, where, Budget(DEFAULT_LIMITS))
    return placed.values is other.values


# --- the patient as a whole ----------------------------------------------------------------------


def _finish(
    rows: list[SliceRow], arrays: Mapping[Sequence, NDArray[Any]], *, lossy: bool
) -> list[SliceRow]:
    """Say which sequences are there, or why the patient cannot be used."""
    flair = arrays[Sequence.FLAIR]
    if is_constant(flair):
        return [_ruled_out(row, "FLAIR has no contrast") for row in rows]
    if is_labels(flair):
        return [_ruled_out(row, f"FLAIR has {few_values(flair)} only: a mask") for row in rows]
    kept, flags = keep_real(arrays, lossy=lossy)
    missing = {one.code.removesuffix("_MISSING") for one in flags if one.code.endswith("_MISSING")}
    there, copied = {one.value for one in kept}, {one.value for one in arrays} & missing
    return [
        replace(
            row,
            sequences=tuple(one for one in SEQUENCES if one in there),
            copies=tuple(one for one in SEQUENCES if one in copied),
        )
        for row in rows
    ]


def _ruled_out(row: SliceRow, reason: str) -> SliceRow:
    """The row with a reason, unless it has one already; no truth is claimed for it."""
    return replace(row, tumour=False, area_px=0, excluded=row.excluded or printable(reason))
