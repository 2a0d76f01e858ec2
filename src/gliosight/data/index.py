"""From the files of one or several data sets to the rows of a manifest (data).

Every file is opened and decoded once, so that nothing damaged is met later in training: a slice that cannot
be used stays in the manifest, with the reason in its column ``excluded``. docs/data.md lists the reasons.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.analysis import Progress
from gliosight.data.cases import NO_MASK, Case, Files, Layout, find_cases
from gliosight.data.manifest import NIFTI, SEQUENCES, SLICES, SliceRow
from gliosight.data.people import NOBODY, People, Root, institution_of
from gliosight.data.studies import (
    Pixels,
    file_sha256,
    read_labels,
    read_mask,
    read_picture,
    read_volume,
    size_text,
)
from gliosight.errors import DamagedInputError, GliosightError, UsageError, printable
from gliosight.read.checks import few_values, is_constant, is_labels, keep_real
from gliosight.read.limits import DEFAULT_LIMITS, Budget
from gliosight.read.naming import sequence_of
from gliosight.read.nifti import onto_grid
from gliosight.read.nifti_file import Image
from gliosight.read.slices import CHANNELS
from gliosight.study import MrSequence

# Writes a path as seen from the manifest's folder; empty for none.
Writer = Callable[[Path | None], str]


@dataclass(frozen=True)
class Indexed:
    """Rows of all slices, in the manifest's order, and what the user should know."""

    rows: tuple[SliceRow, ...]
    notes: tuple[str, ...]


def index_roots(
    roots: Sequence[Root],
    folder: Path,
    *,
    people: People = NOBODY,
    tumour_free: Iterable[str] = (),
    progress: Progress | None = None,
) -> Indexed:
    """Index one or several data sets into one manifest, which will lie in ``folder``.

    The collections of ``people`` go before those of the roots. Patients of the collections ``tumour_free``
    need no mask. Raises `UsageError` (such a collection is not there), `DamagedInputError` (two patients of
    one name; a mask that marks pixels in such a collection), and what `find_cases` raises.
    """
    layouts = [find_cases(root.path) for root in roots]
    patients = _patients(roots, layouts, people, tumour_free)
    total = sum(len(case.files) for layout in layouts for case in layout.cases)
    done = count(1)

    def step() -> None:
        if progress is not None:
            progress("index", next(done), total)

    rows: list[SliceRow] = []
    notes: list[str] = []
    for root, layout in zip(roots, layouts, strict=True):
        write = _writer(layout.root, folder)
        root_notes = list(layout.notes)
        contradictions = 0
        for case in layout.cases:
            if case.is_volume:
                case_rows = _volume_rows(case.files[0], patients[case.patient], write, root_notes)
                step()
            else:
                case_rows = _picture_rows(case, patients[case.patient], write, step)
                contradictions += sum(
                    not row.excluded and picture.label not in (None, row.tumour)
                    for picture, row in zip(case.files, case_rows, strict=True)
                )
            _refuse_tumour(case_rows)
            rows += case_rows
        if contradictions:
            note = "Rows whose label in the table contradicts the mask, which counts"
            root_notes.append(f"{note}: {contradictions:,}.")
        before = f"{root.collection}: " if len(roots) > 1 else ""
        notes += [before + note for note in root_notes]
    if absent := sorted(people.entries.keys() - patients.keys()):
        note = f"Patients of --people that are not there: {len(absent):,}, such as {absent[0]}."
        notes.append(note)
    return Indexed(tuple(rows), tuple(notes))


def _patients(
    roots: Sequence[Root], layouts: list[Layout], people: People, tumour_free: Iterable[str]
) -> dict[str, SliceRow]:
    """What is known of each patient without its files, as a row without a slice."""
    free, collections = set(tumour_free), set[str]()
    patients: dict[str, SliceRow] = {}
    root_of: dict[str, Root] = {}
    for root, layout in zip(roots, layouts, strict=True):
        for case in layout.cases:
            name = case.patient
            if name in root_of:
                what = f"two data sets have a patient named {printable(name)}"
                where = f"{printable(root_of[name].path.name)} and {printable(root.path.name)}"
                remedy = (
                    "give one of them without this patient, or rename it there; if both are one "
                    "person, say so with --people"
                )
                raise DamagedInputError(what, where=where, remedy=remedy)
            root_of[name] = root
            collection = people.collection(name) or root.collection
            names = {root.collection, collection} - {""}
            collections |= names
            patients[name] = SliceRow(
                name,
                0,
                NIFTI if case.is_volume else SLICES,
                "",
                institution=institution_of(name),
                collection=collection,
                person=people.person(name),
                tumour_free=bool(names & free),
            )
    if absent := sorted(free - collections):
        remedy = "name the data set: NAME=PATH"
        if collections:
            remedy = f"choose one of {', '.join(sorted(collections))}"
        what = f"no collection {printable(absent[0])!r} for --tumour-free"
        raise UsageError(what, remedy=remedy)
    return patients


def _refuse_tumour(rows: list[SliceRow]) -> None:
    for row in rows:
        if row.tumour_free and row.tumour:
            what = f"the mask of {printable(row.key)}, which has no tumour by --tumour-free, marks"
            remedy = "take this mask away, or leave the collection out of --tumour-free"
            where = printable(row.mask)
            raise DamagedInputError(f"{what} {row.area_px:,} pixels", where=where, remedy=remedy)


def _writer(root: Path, folder: Path) -> Writer:
    folder = folder.absolute()
    if root.is_relative_to(folder):
        way = root.relative_to(folder)
    else:
        # Links resolved: `..` leads up from where a link leads to, not from the link.
        try:
            way = Path(os.path.relpath(root.resolve(), folder.resolve()))
        except ValueError:  # on another drive there is no relative path
            way = root.resolve()
    return lambda path: "" if path is None else (way / path.relative_to(root)).as_posix()


def _picture_rows(
    case: Case, patient: SliceRow, write: Writer, step: Callable[[], None]
) -> list[SliceRow]:
    """Rows of one patient; ``patient`` is a row without a slice."""
    budget = Budget(DEFAULT_LIMITS)
    slices: list[tuple[SliceRow, Pixels | None]] = []
    for picture in case.files:
        slices.append(_read_slice(picture, patient, write, budget))
        step()
    kinds = [
        image and f"{size_text(image.values.shape[:2])} {image.values.dtype}" for _, image in slices
    ]
    rows, good = [row for row, _ in slices], []
    if not any(kinds):
        return rows
    usual = Counter(filter(None, kinds)).most_common(1)[0][0]
    for k, ((row, image), kind) in enumerate(zip(slices, kinds, strict=True)):
        if image and kind == usual:
            good.append(image)
        elif kind:
            rows[k] = _excluded(row, f"{kind}, most of the patient's slices are {usual}")
    channels = max(image.values.shape[-1] for image in good)
    stack = np.stack(
        [np.broadcast_to(image.values, (*image.values.shape[:2], channels)) for image in good]
    )
    if channels == len(CHANNELS):
        arrays = {name: stack[..., channel] for channel, name in enumerate(CHANNELS)}
    else:
        # The read stage refuses grey pictures whose names say another sequence.
        for sequence in (sequence_of(picture.image.name) for picture in case.files):
            if sequence not in (None, MrSequence.FLAIR):
                name = sequence.value if isinstance(sequence, MrSequence) else sequence
                return [_excluded(row, f"no FLAIR, the name says {name}") for row in rows]
        arrays = {MrSequence.FLAIR: stack[..., 0]}
    return _with_sequences(rows, arrays, lossy=any(image.lossy for image in good))


def _read_slice(
    picture: Files, patient: SliceRow, write: Writer, budget: Budget
) -> tuple[SliceRow, Pixels | None]:
    """A row, and the picture if the slice is sound so far."""
    row = replace(
        patient,
        number=picture.number,
        image=write(picture.image),
        mask=write(picture.mask),
        excluded=picture.excluded,
    )
    what, reason = "picture", ""
    try:
        image = read_picture(picture.image, picture.image.name, budget)
        row = replace(row, sha256=image.sha256)
        if picture.mask is None:
            reason = "" if row.tumour_free else NO_MASK
        else:
            what = "mask"
            mask = read_mask(picture.mask, picture.mask.name, budget)
            area = int(np.count_nonzero(mask.values))
            row = replace(row, mask_sha256=mask.sha256, tumour=area > 0, area_px=area)
            sizes = size_text(mask.values.shape), size_text(image.values.shape[:2])
            if sizes[0] != sizes[1]:
                reason = f"mask is {sizes[0]}, its picture {sizes[1]}"
    except GliosightError as error:
        reason = f"{what}: {error.what}"
    if reason or row.excluded:
        return _excluded(row, reason), None
    return row, image


def _volume_rows(
    files: Files, patient: SliceRow, write: Writer, notes: list[str]
) -> list[SliceRow]:
    """Rows of one patient, adding to ``notes``; ``patient`` is a row without a slice."""
    budget = Budget(DEFAULT_LIMITS)
    row = replace(
        patient,
        image=write(files.image),
        mask=write(files.mask),
        excluded="" if patient.tumour_free and files.excluded == NO_MASK else files.excluded,
    )
    try:
        flair = read_volume(files.image, files.image.name, budget)
        row = replace(row, sha256=file_sha256(files.image))
    except GliosightError as error:
        return [_excluded(row, f"FLAIR: {error.what}")]
    arrays: dict[MrSequence, NDArray[Any]] = {MrSequence.FLAIR: flair.values}
    for name, path in ((MrSequence.T1, files.t1), (MrSequence.T1C, files.t1c)):
        if path is None:
            continue
        try:
            other = read_volume(path, path.name, budget)
            # As the read stage does for a user's study, so that both see the same sequences.
            values, flags = onto_grid(flair, other, name.value, budget)
        except GliosightError as error:
            row = _excluded(row, f"{name.value}: {error.what}")
            continue
        if values is None:
            notes += [f"{row.patient}: {flag.message}" for flag in flags]
            continue
        arrays[name] = values
        column = name.value.lower()
        columns: dict[str, Any] = {column: write(path), f"{column}_sha256": file_sha256(path)}
        row = replace(row, **columns)
        # Before it was resampled: interpolation makes many values of a mask's few.
        if is_labels(other.values):
            row = _excluded(row, f"{name.value} has {few_values(other.values)} only: a mask")
    areas = [0] * len(flair.values)
    try:
        if files.mask is not None:
            mask = read_labels(files.mask, files.mask.name, budget)
            row = replace(row, mask_sha256=file_sha256(files.mask))
            reason = _misfit(flair, mask)
            areas = np.count_nonzero(mask.values, axis=(1, 2)).tolist()
        else:
            reason = "" if row.tumour_free else NO_MASK
    except GliosightError as error:
        reason = f"mask: {error.what}"
    if reason or row.excluded:
        row, areas = _excluded(row, reason), [0] * len(flair.values)
    rows = [
        replace(row, number=number, tumour=area > 0, area_px=area)
        for number, area in enumerate(areas)
    ]
    return _with_sequences(rows, arrays, lossy=False)


def _misfit(flair: Image, mask: Image) -> str:
    """Why a mask is not on FLAIR's voxels, by the read stage's own rule; it is never resampled."""
    sizes = size_text(mask.values.shape), size_text(flair.values.shape)
    if sizes[0] != sizes[1]:
        return f"mask is {sizes[0]}, FLAIR {sizes[1]}"
    if flair.header.shape == mask.header.shape:
        # The name of a sequence is for flags, which are not used here.
        values, _ = onto_grid(flair, mask, MrSequence.T1.value, Budget(DEFAULT_LIMITS))
        if values is mask.values:
            return ""
    return "mask lies elsewhere than FLAIR"


def _with_sequences(
    rows: list[SliceRow], arrays: Mapping[MrSequence, NDArray[Any]], *, lossy: bool
) -> list[SliceRow]:
    """The rows with the sequences that are there, or why the patient cannot be used."""
    flair = arrays[MrSequence.FLAIR]
    if is_constant(flair):
        return [_excluded(row, "FLAIR has no contrast") for row in rows]
    if is_labels(flair):
        return [_excluded(row, f"FLAIR has {few_values(flair)} only: a mask") for row in rows]
    real, flags = keep_real(arrays, lossy=lossy)
    missing = {
        flag.code.removesuffix("_MISSING") for flag in flags if flag.code.endswith("_MISSING")
    }
    sequences = tuple(name for name in SEQUENCES if MrSequence(name) in real)
    copies = tuple(name for name in SEQUENCES if MrSequence(name) in arrays and name in missing)
    return [replace(row, sequences=sequences, copies=copies) for row in rows]


def _excluded(row: SliceRow, reason: str) -> SliceRow:
    """The row with a reason, unless it has one already; no truth is claimed for it."""
    return replace(row, tumour=False, area_px=0, excluded=row.excluded or printable(reason))
