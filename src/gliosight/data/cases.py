"""Which files of a data set are which slice of which patient, by names and paths (data).

Four layouts may stand side by side: that of the LGG set, with each mask beside its picture; NIfTI cases
(BraTS and alike); pairs of folders, ``images/`` and ``masks/``; and a table, ``data_mask.csv``. docs/data.md
describes them, and how a patient is named.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace
from filecmp import cmp
from itertools import chain
from pathlib import Path, PurePosixPath

from gliosight.data.table import csv_lines
from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    NothingReadableError,
    UnsupportedInputError,
    printable,
)
from gliosight.read.detect import InputFile, Kind, folder_name
from gliosight.read.folders import FileGroup, flair_groups, is_result, mode_of
from gliosight.read.limits import cannot_read, open_regular
from gliosight.read.naming import (
    is_mask,
    is_part_of,
    natural_key,
    nifti_series,
    promises_image,
    sequence_of,
    slice_number,
    stem,
)
from gliosight.read.nifti import assign
from gliosight.study import MrSequence

TABLE = "data_mask.csv"
IMAGE_FOLDERS = frozenset({"image", "images", "img", "imgs"})
MASK_FOLDERS = frozenset({"mask", "masks", "label", "labels", "gt"})
# Why a picture or volume without a mask is excluded, unless its patient has no tumour.
NO_MASK = "no mask"
# What a mask's name has more than its picture's, at either end.
_WORD = "(?:masks?|segs?|dseg|segmentation|labels?|gt|groundtruth)"
_WITH_WORD = re.compile(rf"^(?:(.+)[_\-. ]{_WORD}|{_WORD}[_\-. ](.+))$", re.IGNORECASE)
# Of several masks of a volume, the one that is meant; a mask of the brain never is.
_SEGMENTATION = re.compile(r"(?:^|[_\-. ])d?seg(?:mentation)?$", re.IGNORECASE)
_OTHER_MASK = re.compile(r"brain|head|skull", re.IGNORECASE)


@dataclass(frozen=True)
class Files:
    """The files of one slice, or of a patient whose sequences are volumes.

    Parameters
    ----------
    image : Path
        The picture, or the FLAIR volume.
    excluded : str
        Why the paths alone rule it out.
    label, patient_id
        The table's, which `index` compares with the mask, and `find_cases` with the path.
    """

    image: Path
    mask: Path | None
    excluded: str = ""
    number: int = 0
    t1: Path | None = None
    t1c: Path | None = None
    label: bool | None = None
    patient_id: str = ""


@dataclass(frozen=True)
class Case:
    """A patient with the files of each slice in the order of their numbers, or those of the volumes."""

    patient: str
    is_volume: bool
    files: tuple[Files, ...]


@dataclass(frozen=True)
class Layout:
    """A data set: its folder, its patients in natural order, and notes for the user, a sentence each."""

    root: Path
    cases: tuple[Case, ...]
    notes: tuple[str, ...] = ()


def find_cases(root: Path) -> Layout:
    """Find all slices in a folder, or those that a table names.

    Of a folder with a ``data_mask.csv`` in it, those pictures count that the table names. Raises
    `NothingReadableError` (nothing recognised), `DamagedInputError` (two files are one slice, a bad table) or
    `UnsupportedInputError` (NIfTI files without FLAIR).
    """
    root = root.absolute()
    mode = mode_of(root)
    if mode is not None and not stat.S_ISDIR(mode):
        files = _read_table(root)
        if all(picture.excluded for picture in files):
            what = f"no picture that the table names is there, of {len(files):,}"
            remedy = "put the table into the folder of the data set"
            raise NothingReadableError(what, where=root.name, remedy=remedy)
        return _of_table(files, root)
    folder = _of_folder(root)
    if mode_of(root / TABLE) is None:
        return folder
    files = _read_table(root / TABLE)
    existing = [picture for picture in files if not picture.excluded]
    if not existing:
        note = f"None of the pictures that {TABLE} names is there; the table is not used."
        return replace(folder, notes=(*folder.notes, note))
    layout = _of_table(existing, root / TABLE)
    notes = list(layout.notes)
    if missing := len(files) - len(existing):
        notes.append(f"Pictures that {TABLE} names and that are not there: {missing:,}.")
    in_folder, in_table = (
        {picture.image for case in cases if not case.is_volume for picture in case.files}
        for cases in (folder.cases, layout.cases)
    )
    if unlisted := len(in_folder - in_table):
        notes.append(f"Pictures that {TABLE} does not name, left out: {unlisted:,}.")
    return replace(layout, notes=tuple(notes))


def _of_folder(root: Path) -> Layout:
    pictures: list[Files] = []
    cases: list[Case] = []
    gathering = {root}
    orphans = without_flair = 0
    for folder, paths, pair in _walk(root):
        nifti = [path for path in paths if _is_nifti(path)]
        images = [path for path in paths if not _is_nifti(path) and not is_mask(path.name)]
        masks = [path for path in paths if not _is_nifti(path) and is_mask(path.name)]
        matched, alone = _with_masks(folder, images, folder, masks)
        if pair is not None:
            gathering.add(pair[0])
            below = [[path for _, paths, _ in _walk(side) for path in paths] for side in pair]
            in_pair, alone_in_pair = _with_masks(pair[0], below[0], pair[1], below[1])
            matched, alone = matched + in_pair, alone + alone_in_pair
        orphans += alone
        pictures += [files for files in matched if not _is_nifti(files.image)]
        # A volume of a pair of folders: FLAIR alone.
        cases += [_volume(stem(f.image.name), f) for f in matched if _is_nifti(f.image)]
        if nifti:
            volumes = _volumes(folder, nifti, root)
            cases += volumes
            without_flair += not volumes
    if not pictures and not cases:
        raise _nothing(root, without_flair)
    picture_cases, notes = _by_patient(pictures, root, gathering)
    if orphans:
        notes.append(f"Masks without a picture, left out: {orphans:,}.")
    if without_flair:
        notes.append(f"Folders of NIfTI files without FLAIR, left out: {without_flair:,}.")
    cases += picture_cases
    patient, count = Counter(case.patient for case in cases).most_common(1)[0]
    if count > 1:
        what = f"{count} studies are named {patient}"
        remedy = "give each its own name, or index them apart"
        raise DamagedInputError(what, where=folder_name(root), remedy=remedy)
    ordered = sorted(cases, key=lambda case: natural_key(case.patient))
    return Layout(root, tuple(ordered), tuple(notes))


def _nothing(root: Path, without_flair: int) -> GliosightError:
    where = folder_name(root)
    if without_flair:
        remedy = "name the files by their sequence, such as <case>_flair.nii.gz"
        return UnsupportedInputError("no FLAIR among the NIfTI files", where=where, remedy=remedy)
    what = "no picture and no NIfTI file there" if any(root.iterdir()) else "the folder is empty"
    remedy = "give the folder of a data set, or its table; see docs/data.md for the layouts"
    return NothingReadableError(what, where=where, remedy=remedy)


def _walk(root: Path) -> Iterator[tuple[Path, list[Path], tuple[Path, Path] | None]]:
    """Each folder once, with its images and its pair of image and mask folders, if it has one.

    Links are followed; hidden files and folders are skipped; names are in natural order.
    """

    def fail(error: OSError) -> None:
        folder = Path(error.filename)
        where = folder_name(root) if folder == root else folder.relative_to(root).as_posix()
        raise cannot_read(error, where) from error

    if is_result(root):
        return
    visited: set[tuple[int, int]] = set()
    for folder_path, subfolders, files in os.walk(root, followlinks=True, onerror=fail):
        folder = Path(folder_path)
        status = folder.stat()
        if (status.st_dev, status.st_ino) in visited:
            subfolders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        entered = [name for name in subfolders if name[0] != "." and not is_result(folder / name)]
        subfolders[:] = sorted(entered, key=natural_key)
        images = [name for name in subfolders if name.lower() in IMAGE_FOLDERS]
        masks = [name for name in subfolders if name.lower() in MASK_FOLDERS]
        pair = None
        if len(images) == len(masks) == 1:
            pair = folder / images[0], folder / masks[0]
            subfolders[:] = [name for name in subfolders if name not in (*images, *masks)]
        promising = [name for name in files if name[0] != "." and promises_image(name)]
        paths = [folder / name for name in sorted(promising, key=natural_key)]
        yield folder, [path for path in paths if path.is_file()], pair


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _with_masks(
    image_root: Path, images: list[Path], mask_root: Path, masks: list[Path]
) -> tuple[list[Files], int]:
    """Pictures with the masks of their name at the same place, and how many masks have no picture."""
    by_name: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in masks:
        for name in {stem(path.name), _without_word(stem(path.name))}:
            by_name[path.parent.relative_to(mask_root), name].append(path)
    alone = set(masks)
    files: list[Files] = []
    for path in images:
        matching = by_name.get((path.parent.relative_to(image_root), stem(path.name)), [])
        alone.difference_update(matching)
        files.append(Files(path, *_the_mask(matching)))
    return files, len(alone)


def _the_mask(masks: list[Path]) -> tuple[Path | None, str]:
    """The mask if there is exactly one, and why the picture is excluded if there are several."""
    if len(masks) > 1:
        return None, f"{len(masks)} masks"
    return (masks[0] if masks else None), ""


def _without_word(name: str) -> str:
    match = _WITH_WORD.match(name)
    return match[1] or match[2] if match else name


def _by_patient(
    pictures: Iterable[Files], root: Path, gathering: AbstractSet[Path]
) -> tuple[list[Case], list[str]]:
    """Patients of all pictures, and notes; the names of the folders ``gathering`` are not a patient's."""
    by_folder: dict[Path, list[Files]] = defaultdict(list)
    for picture in pictures:
        by_folder[picture.image.parent].append(picture)
    by_patient: dict[str, list[Files]] = defaultdict(list)
    for folder, inside in by_folder.items():
        for patient, picture in _named(folder, inside, gathers=folder in gathering):
            by_patient[patient].append(picture)
    cases: list[Case] = []
    copies = 0
    for patient in sorted(by_patient, key=natural_key):
        slices = _without_copies(by_patient[patient], root)
        copies += len(by_patient[patient]) - len(slices)
        cases.append(Case(patient, is_volume=False, files=tuple(slices)))
    note = f"Pictures there twice, byte for byte, counted once: {copies:,}."
    return cases, [note] if copies else []


def _named(folder: Path, pictures: list[Files], *, gathers: bool) -> Iterator[tuple[str, Files]]:
    """The pictures of one folder, each with its patient and its number."""
    parsed = [slice_number(picture.image.name) for picture in pictures]
    if not gathers and all(number is None for _, number in parsed):
        ordered = sorted(pictures, key=lambda picture: natural_key(picture.image.name))
        for index, picture in enumerate(ordered, start=1):
            yield folder.name, replace(picture, number=index)
        return
    names = {name for name, _ in parsed if name}
    is_patients = folder.name in names and not gathers
    by_name = gathers or is_patients or len(names) > 1
    for (name, number), picture in zip(parsed, pictures, strict=True):
        patient = name if by_name and name else folder.name
        odd = (
            f"lies in the folder of {folder.name}" if is_patients and patient != folder.name else ""
        )
        yield patient, replace(picture, number=number or 0, excluded=picture.excluded or odd)


def _without_copies(slices: list[Files], root: Path) -> list[Files]:
    """Slices in the order of their numbers; a copy of a slice is dropped."""
    by_number: dict[int, Files] = {}
    for picture in sorted(slices, key=lambda picture: picture.number):
        first = by_number.setdefault(picture.number, picture)
        if not (_same(first.image, picture.image) and _same(first.mask, picture.mask)):
            what = f"two files are slice {picture.number} of one patient"
            names = [path.relative_to(root).as_posix() for path in (first.image, picture.image)]
            raise DamagedInputError(what, where=" and ".join(names), remedy="keep only one of them")
    return list(by_number.values())


def _same(path: Path | None, other: Path | None) -> bool:
    if path is None or other is None or path == other:
        return path == other
    try:
        return cmp(path, other, shallow=False)
    except OSError:
        return False


def _volumes(folder: Path, paths: list[Path], root: Path) -> list[Case]:
    """The cases of one folder: one for each FLAIR; none where there is no FLAIR."""
    images = [
        InputFile(path, Kind.NIFTI, path.relative_to(root).as_posix())
        for path in paths
        if not is_mask(path.name)
    ]
    masks = [path for path in paths if is_mask(path.name) and not _OTHER_MASK.search(path.name)]
    groups = flair_groups(images)
    if not groups and len(images) == 1 and sequence_of(images[0].path.name) is None:
        groups = [FileGroup(nifti_series(images[0].path.name), tuple(images))]
    cases: list[Case] = []
    for series, members, *_ in groups:
        matching = masks
        if len(groups) > 1:
            matching = [p for p in masks if is_part_of(series, _without_word(stem(p.name)))]
        if len(matching) > 1:
            matching = [p for p in matching if _SEGMENTATION.search(stem(p.name))] or matching
        try:
            by_sequence, _, _ = assign(members, folder.name)
            volumes = {sequence: file.path for sequence, file in by_sequence.items()}
            t1, t1c = volumes.get(MrSequence.T1), volumes.get(MrSequence.T1C)
            files = Files(volumes[MrSequence.FLAIR], *_the_mask(matching), t1=t1, t1c=t1c)
        except UnsupportedInputError as error:
            files = Files(members[0].path, None, error.what)
        cases.append(_volume(series or folder.name, files))
    return cases


def _volume(patient: str, files: Files) -> Case:
    excluded = files.excluded or ("" if files.mask else NO_MASK)
    return Case(patient, is_volume=True, files=(replace(files, excluded=excluded),))


def _of_table(files: list[Files], path: Path) -> Layout:
    """The slices that a table names; its paths say whose they are."""
    root = path.parent
    by_image = {picture.image: picture for picture in files}
    cases, notes = _by_patient(by_image.values(), root, {root})
    notes.insert(0, f"The slices are those that {path.name} names.")
    pairs = [(picture.patient_id, case.patient) for case in cases for picture in case.files]
    if wrong := sum(patient_id not in ("", patient) for patient_id, patient in pairs):
        notes.append(
            f"patient_id contradicts the path in {wrong:,} of {len(pairs):,} rows of {path.name}; "
            "the path is used."
        )
    return Layout(root, tuple(cases), tuple(notes))


def _read_table(path: Path) -> list[Files]:
    """The slices that a table names, those that are not there, too."""
    with open_regular(path, path.name) as (handle, _):
        content = handle.read()
    remedy = "give a table with patient_id, image_path, mask_path and mask, or a folder"
    finder = _Finder(path.parent)
    with csv_lines(content, path.name, remedy) as (header, lines):
        for name in ("image_path", "mask_path"):
            if name not in header:
                raise ValueError(f"a table of slices needs the column {name}")
        # A line may have fewer cells than the header, or more.
        files = [_line(dict(zip(header, cells, strict=False)), finder) for _, cells in lines]
        if not files:
            raise ValueError("a table without lines")
    return files


def _line(cells: Mapping[str, str], finder: _Finder) -> Files:
    """The files of one line; raises `ValueError` where it is damaged."""
    image_path, mask_path, label, patient_id = (
        cells.get(name, "").strip() for name in ("image_path", "mask_path", "mask", "patient_id")
    )
    if not image_path:
        raise ValueError("a line without image_path")
    image, mask = finder.find(image_path), finder.find(mask_path)
    excluded = "" if image else "no such file"
    image = image or finder.would_be(image_path)
    return Files(image, mask, excluded, label=_label(label), patient_id=patient_id)


def _label(text: str) -> bool | None:
    if not text:
        return None
    with suppress(ValueError):
        if float(text) in (0, 1):
            return float(text) == 1
    raise ValueError(f"mask is {printable(text)!r}, neither 0 nor 1")


class _Finder:
    """Finds the files that a table's paths mean below its folder.

    The paths may begin with folders of another computer: the longest end that leads to a file counts.
    """

    def __init__(self, folder: Path) -> None:
        self._folders = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
        # How the last file was found: below which folder, and without how many parts of its path.
        self._last = folder, 0

    def find(self, text: str) -> Path | None:
        """The file a path means, if there is one."""
        parts = _parts(text)
        ways = ((folder, cut) for cut in range(len(parts)) for folder in self._folders)
        for folder, cut in chain([self._last], ways):
            path = folder.joinpath(*parts[cut:])
            # os.path: a name that is too long is not an error there.
            if parts[cut:] and os.path.isfile(path):  # noqa: PTH113
                self._last = folder, cut
                return path
        return None

    def would_be(self, text: str) -> Path:
        """Where a file that is not there would lie, found as the last one was."""
        folder, cut = self._last
        parts = _parts(text)
        return folder.joinpath(*(parts[cut:] or parts[-1:] or ("unnamed",)))


def _parts(text: str) -> list[str]:
    """The names of a path of any system, without what leads to its root or upwards."""
    parts = PurePosixPath(text.strip().replace("\\", "/")).parts
    return [part for part in parts if part not in ("/", "//", ".", "..") and part[-1:] != ":"]
