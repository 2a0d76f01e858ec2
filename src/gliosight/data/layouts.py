"""Which files of a folder are which slice of which patient (data).

In: a folder, or a table of slices. Out: a frozen `Layout` of cases, from names alone; no pixel is looked
at here, that is `index`'s part. Four ways of keeping slices are known, and may stand side by side:

- the LGG set's: ``<patient>_<number>.tif`` with ``<patient>_<number>_mask.tif`` beside it;
- NIfTI cases: one FLAIR, T1, T1C and one segmentation to a case, by their names (BraTS and alike);
- pairs of folders: ``images/`` and ``masks/``, a picture and its mask having the same stem;
- a table, ``data_mask.csv``, see `table`.

Whose slice a picture is, `patients` says.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from gliosight.data.cases import NO_MASK, Case, Layout, PictureCase, VolumeCase
from gliosight.data.patients import Picture, group_pictures
from gliosight.data.table import NAME as TABLE
from gliosight.data.table import TableLine, read_table
from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    NothingReadableError,
    UnsupportedInputError,
)
from gliosight.read.detect import Kind
from gliosight.read.folders import FileGroup, flair_groups, mode_of, refuse_result
from gliosight.read.limits import cannot_read
from gliosight.read.naming import (
    is_mask,
    is_part_of,
    natural_key,
    nifti_series,
    promises_image,
    sequence_of,
    stem,
)
from gliosight.read.nifti import assign
from gliosight.read.recognise import Found, folder_name
from gliosight.study import Sequence

IMAGE_FOLDERS = frozenset({"image", "images", "img", "imgs"})
MASK_FOLDERS = frozenset({"mask", "masks", "label", "labels", "gt"})
# What a mask's name has more than its picture's, at either end.
_WORD = "(?:masks?|segs?|dseg|segmentation|labels?|gt|groundtruth)"
_WORD_BEHIND = re.compile(rf"^(.+)[_\-. ]{_WORD}$", re.IGNORECASE)
_WORD_BEFORE = re.compile(rf"^{_WORD}[_\-. ](.+)$", re.IGNORECASE)
# Of several masks of a volume, the one that is meant; a mask of the brain never is.
_SEGMENTATION = re.compile(r"(?:^|[_\-. ])d?seg(?:mentation)?$", re.IGNORECASE)
_OTHER_MASK = re.compile(r"brain|head|skull", re.IGNORECASE)


def find_cases(root: Path) -> Layout:
    """Find all slices at a path.

    Parameters
    ----------
    root : Path
        A folder, or a table of slices. Of a folder with a ``data_mask.csv`` in it, those pictures count
        that the table names.

    Raises
    ------
    NothingReadableError
        No such path, no permission, an empty folder, nothing recognised.
    DamagedInputError
        Two different files for one slice; a table that cannot be read as one.
    UnsupportedInputError
        NIfTI files only, and none of them is FLAIR.
    """
    root = root.absolute()
    mode = mode_of(root)
    if mode is not None and stat.S_ISREG(mode):
        return _of_table(root)
    try:
        with os.scandir(root) as entries:
            names = {one.name for one in entries}
    except OSError as error:
        raise cannot_read(error, folder_name(root)) from error
    if TABLE not in names:
        return _of_folder(root)
    found = _of_folder(root)
    lines = read_table(root / TABLE)
    there = [one for one in lines if one.there]
    if not there:
        note = f"none of the pictures that {TABLE} names is there; it is not used."
        return Layout(root, found.cases, (*found.notes, note))
    layout = _of_lines(there, root / TABLE)
    notes = list(layout.notes)
    if missing := len(lines) - len(there):
        notes.append(f"Pictures that {TABLE} names and that are not there: {missing:,}.")
    if unlisted := len(_pictures_of(found) - _pictures_of(layout)):
        notes.append(f"Pictures that {TABLE} does not name, left out: {unlisted:,}.")
    return Layout(root, layout.cases, tuple(notes), layout.labels)


def _pictures_of(layout: Layout) -> set[Path]:
    cases = [one for one in layout.cases if isinstance(one, PictureCase)]
    return {one.image for case in cases for one in case.slices}


def _of_table(path: Path) -> Layout:
    """What a table names that was given by itself: a picture that is not there is excluded."""
    lines = read_table(path)
    if not any(one.there for one in lines):
        raise NothingReadableError(
            f"no picture that the table names is there, of {len(lines):,}",
            where=path.name,
            remedy="put the table into the folder of the data set",
        )
    return _of_lines(lines, path)


def _of_lines(told: list[TableLine], path: Path) -> Layout:
    root = path.parent
    lines = {line.image: line for line in told}
    cases, notes = group_pictures(
        [
            Picture(
                one.image,
                () if one.mask is None else (one.mask,),
                root,
                "" if one.there else "no such file",
            )
            for one in lines.values()
        ],
        root,
    )
    notes.insert(0, f"The slices are those that {path.name} names.")
    said = [(case.patient, lines[one.image].patient_id) for case in cases for one in case.slices]
    wrong = sum(name not in ("", patient) for patient, name in said)
    if wrong:
        notes.append(
            f"patient_id contradicts the path in {wrong:,} of {len(said):,} rows of {path.name}; "
            "the path is used."
        )
    labels = {one.image: one.tumour for one in lines.values() if one.tumour is not None}
    return Layout(root, tuple(cases), tuple(notes), labels)


def _of_folder(root: Path) -> Layout:
    pictures: list[Picture] = []
    volumes: list[VolumeCase] = []
    orphans = without_flair = 0
    for folder, files, pair in _walk(root):
        named = [folder / name for name in files if promises_image(name)]
        found, alone = _beside([one for one in named if not _is_nifti(one)], root)
        if pair is not None:
            more, more_alone = _pair(*pair)
            found, alone = found + more, alone + more_alone
        pictures += [one for one in found if not _is_nifti(one.image)]
        volumes += [_single(one) for one in found if _is_nifti(one.image)]
        orphans += alone
        nifti = [one for one in named if _is_nifti(one)]
        cases = _volumes(folder, nifti, root) if nifti else []
        volumes += cases
        without_flair += bool(nifti) and not cases
    if not pictures and not volumes:
        raise _nothing(root, without_flair)
    picture_cases, notes = group_pictures(pictures, root)
    if orphans:
        notes.append(f"Masks without a picture, left out: {orphans:,}.")
    if without_flair:
        notes.append(f"Folders of NIfTI files without FLAIR, left out: {without_flair:,}.")
    cases_found: list[Case] = [*picture_cases, *volumes]
    counts = Counter(one.patient for one in cases_found)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise DamagedInputError(
            f"{counts[twice[0]]} studies are named {twice[0]}",
            where=folder_name(root),
            remedy="give each its own name, or index them apart",
        )
    return Layout(
        root, tuple(sorted(cases_found, key=lambda one: natural_key(one.patient))), tuple(notes)
    )


def _nothing(root: Path, without_flair: int) -> GliosightError:
    if without_flair:
        return UnsupportedInputError(
            "no FLAIR among the NIfTI files",
            where=folder_name(root),
            remedy="name the files by their sequence, such as <case>_flair.nii.gz",
        )
    empty = not any(root.iterdir())
    return NothingReadableError(
        "the folder is empty" if empty else "no picture and no NIfTI file there",
        where=folder_name(root),
        remedy="give the folder of a data set, or its table; see docs/data.md for the layouts",
    )


# --- folders -------------------------------------------------------------------------------------


def _walk(root: Path) -> Iterator[tuple[Path, list[str], tuple[Path, Path] | None]]:
    """Each folder once, with its files and its pair of image and mask folders, if it has one."""
    visited: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
        except OSError:  # gone since its own folder was listed
            continue
        if (status.st_dev, status.st_ino) in visited or _is_result(folder):
            continue
        visited.add((status.st_dev, status.st_ino))
        files, folders = _listed(folder, root)
        images = [one for one in folders if one.lower() in IMAGE_FOLDERS]
        masks = [one for one in folders if one.lower() in MASK_FOLDERS]
        pair = None
        if len(images) == len(masks) == 1:
            pair = folder / images[0], folder / masks[0]
            folders = [one for one in folders if one not in (images[0], masks[0])]
        yield folder, files, pair
        waiting += [folder / name for name in reversed(folders)]


def _listed(folder: Path, root: Path) -> tuple[list[str], list[str]]:
    """Names of the regular files and of the folders, without hidden ones, in natural order."""
    files: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                try:
                    kinds = entry.is_dir(), entry.is_file()
                except OSError:  # a link that leads to itself
                    continue
                if kinds[0]:
                    folders.append(entry.name)
                elif kinds[1]:
                    files.append(entry.name)
    except OSError as error:
        where = folder_name(root) if folder == root else folder.relative_to(root).as_posix()
        raise cannot_read(error, where) from error
    return sorted(files, key=natural_key), sorted(folders, key=natural_key)


def _is_result(folder: Path) -> bool:
    try:
        refuse_result(folder)
    except NothingReadableError:
        return True
    return folder.name.endswith("-gliosight")


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


# --- pictures and their masks --------------------------------------------------------------------


def _beside(paths: list[Path], top: Path) -> tuple[list[Picture], int]:
    """Pictures of one folder with the masks beside them, and how many masks have no picture."""
    masks: dict[str, list[Path]] = defaultdict(list)
    for one in paths:
        if is_mask(one.name):
            masks[_without_word(stem(one.name))].append(one)
    found = [
        Picture(one, tuple(masks.pop(stem(one.name), ())), top)
        for one in paths
        if not is_mask(one.name)
    ]
    return found, sum(map(len, masks.values()))


def _pair(images: Path, masks: Path) -> tuple[list[Picture], int]:
    """Pictures below one folder with the masks at the same place below the other."""
    by_place: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    every: set[Path] = set()
    for one in _below(masks):
        every.add(one)
        for name in {stem(one.name), _without_word(stem(one.name))}:
            by_place[one.relative_to(masks).parent, name].append(one)
    found: list[Picture] = []
    for one in _below(images):
        fitting = by_place.get((one.relative_to(images).parent, stem(one.name)), [])
        every.difference_update(fitting)
        found.append(Picture(one, tuple(fitting), images))
    return found, len(every)


def _below(folder: Path) -> Iterator[Path]:
    for one, files, _ in _walk(folder):
        yield from (one / name for name in files if promises_image(name))


def _without_word(name: str) -> str:
    for pattern in (_WORD_BEHIND, _WORD_BEFORE):
        if match := pattern.match(name):
            return match[1]
    return name


# --- volumes -------------------------------------------------------------------------------------


def _single(one: Picture) -> VolumeCase:
    """A volume of a pair of folders: FLAIR alone."""
    mask = one.masks[0] if len(one.masks) == 1 else None
    reason = "" if mask else f"{len(one.masks)} masks" if one.masks else NO_MASK
    return VolumeCase(stem(one.image.name), one.image, mask=mask, excluded=reason)


def _volumes(folder: Path, paths: list[Path], root: Path) -> list[VolumeCase]:
    """The cases of one folder: one for each FLAIR; none where there is no FLAIR."""
    found = [
        Found(one, Kind.NIFTI, one.relative_to(root).as_posix())
        for one in paths
        if not is_mask(one.name)
    ]
    masks = [one for one in paths if is_mask(one.name) and not _OTHER_MASK.search(one.name)]
    groups = flair_groups(found)
    if not groups and len(found) == 1 and sequence_of(found[0].path.name) is None:
        groups = [FileGroup(nifti_series(found[0].path.name), tuple(found))]
    cases: list[VolumeCase] = []
    for series, group, _ in groups:
        patient = series or folder.name
        fitting = masks
        if len(groups) > 1:
            fitting = [one for one in masks if is_part_of(series, _without_word(stem(one.name)))]
        if len(fitting) > 1:
            fitting = [one for one in fitting if _SEGMENTATION.search(stem(one.name))] or fitting
        mask = fitting[0] if len(fitting) == 1 else None
        reason = "" if mask else f"{len(fitting)} masks" if fitting else NO_MASK
        try:
            files, _, _ = assign(group, folder.name)
        except UnsupportedInputError as error:
            cases.append(VolumeCase(patient, group[0].path, excluded=error.what))
            continue
        others = [files[one].path if one in files else None for one in (Sequence.T1, Sequence.T1C)]
        flair = files[Sequence.FLAIR].path
        cases.append(VolumeCase(patient, flair, others[0], others[1], mask, reason))
    return cases
