"""Which files of a data set are which slice of which patient (data).

Names and paths decide; `index` reads the pixels. Four layouts are known, and may stand side by side:

- that of the LGG set: ``<patient>_<number>.tif`` with ``<patient>_<number>_mask.tif`` beside it;
- NIfTI cases: one FLAIR, T1, T1C and one segmentation to a case, by their names (BraTS and alike);
- pairs of folders: ``images/`` and ``masks/``, a picture and its mask having the same stem;
- a table, ``data_mask.csv``, with the columns ``image_path`` and ``mask_path``, mostly also ``patient_id``
  and ``mask`` (0 or 1).

The patient of a picture is its name without the slice number, where a folder holds several such names or is
named so itself; else it is the folder's name. The name of a folder that only gathers pictures (the data
set's own, ``images``) is not a patient's.
"""

from __future__ import annotations

import csv
import io
import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from filecmp import cmp
from itertools import chain
from pathlib import Path, PurePosixPath

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
NEEDED = ("image_path", "mask_path")
IMAGE_FOLDERS = frozenset({"image", "images", "img", "imgs"})
MASK_FOLDERS = frozenset({"mask", "masks", "label", "labels", "gt"})
# Why a picture or volume without a mask is excluded, unless its patient has no tumour.
NO_MASK = "no mask"
# What a mask's name has more than its picture's, at either end.
_WORD = "(?:masks?|segs?|dseg|segmentation|labels?|gt|groundtruth)"
_WORD_BEHIND = re.compile(rf"^(.+)[_\-. ]{_WORD}$", re.IGNORECASE)
_WORD_BEFORE = re.compile(rf"^{_WORD}[_\-. ](.+)$", re.IGNORECASE)
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
    mask : Path, optional
    excluded : str
        Why the paths alone rule it out.
    number : int
        The picture's.
    t1, t1c : Path, optional
        Volumes of the other sequences.
    label, claim
        What a table says: whether the slice shows tumour, and whose it is. `index` compares the label with
        the mask.
    """

    image: Path
    mask: Path | None
    excluded: str = ""
    number: int = 0
    t1: Path | None = None
    t1c: Path | None = None
    label: bool | None = None
    claim: str = ""


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
    if mode is not None and not stat.S_ISDIR(mode):
        files = _read_table(root)
        if all(picture.excluded for picture in files):
            raise NothingReadableError(
                f"no picture that the table names is there, of {len(files):,}",
                where=root.name,
                remedy="put the table into the folder of the data set",
            )
        return _of_table(files, root)
    folder = _of_folder(root)
    if mode_of(root / TABLE) is None:
        return folder
    files = _read_table(root / TABLE)
    there = [picture for picture in files if not picture.excluded]
    if not there:
        note = f"None of the pictures that {TABLE} names is there; the table is not used."
        return replace(folder, notes=(*folder.notes, note))
    layout = _of_table(there, root / TABLE)
    notes = list(layout.notes)
    if missing := len(files) - len(there):
        notes.append(f"Pictures that {TABLE} names and that are not there: {missing:,}.")
    if unlisted := len(_pictures_of(folder) - _pictures_of(layout)):
        notes.append(f"Pictures that {TABLE} does not name, left out: {unlisted:,}.")
    return replace(layout, notes=tuple(notes))


def _pictures_of(layout: Layout) -> set[Path]:
    pictures = (case.files for case in layout.cases if not case.is_volume)
    return {picture.image for files in pictures for picture in files}


def _of_folder(root: Path) -> Layout:
    pictures: list[Files] = []
    cases: list[Case] = []
    gathering = {root}
    orphans = without_flair = 0
    for folder, paths, pair in _walk(root):
        nifti = [path for path in paths if _is_nifti(path)]
        matched, alone = _beside([path for path in paths if not _is_nifti(path)])
        if pair is not None:
            gathering.add(pair[0])
            more, more_alone = _pair(*pair)
            matched, alone = matched + more, alone + more_alone
        pictures += [files for files in matched if not _is_nifti(files.image)]
        # A volume of a pair of folders: FLAIR alone.
        cases += [
            _volume(stem(files.image.name), files) for files in matched if _is_nifti(files.image)
        ]
        orphans += alone
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
        raise DamagedInputError(
            f"{count} studies are named {patient}",
            where=folder_name(root),
            remedy="give each its own name, or index them apart",
        )
    ordered = sorted(cases, key=lambda case: natural_key(case.patient))
    return Layout(root, tuple(ordered), tuple(notes))


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


def _walk(root: Path) -> Iterator[tuple[Path, list[Path], tuple[Path, Path] | None]]:
    """Each folder once, with its images and its pair of image and mask folders, if it has one."""
    visited: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in visited or is_result(folder):
                continue
            visited.add((status.st_dev, status.st_ino))
            files, folders = _listed(folder)
        except OSError as error:
            where = folder_name(root) if folder == root else folder.relative_to(root).as_posix()
            raise cannot_read(error, where) from error
        images = [path for path in folders if path.name.lower() in IMAGE_FOLDERS]
        masks = [path for path in folders if path.name.lower() in MASK_FOLDERS]
        pair = None
        if len(images) == len(masks) == 1:
            pair = images[0], masks[0]
        yield folder, files, pair
        waiting += [path for path in reversed(folders) if pair is None or path not in pair]


def _listed(folder: Path) -> tuple[list[Path], list[Path]]:
    """The regular files called like images, and the folders, without hidden ones, in natural order."""
    files: list[str] = []
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.is_file() and promises_image(entry.name):
                    files.append(entry.name)
            except OSError:  # a link that leads to itself
                continue
    return (
        [folder / name for name in sorted(files, key=natural_key)],
        [folder / name for name in sorted(folders, key=natural_key)],
    )


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _beside(paths: list[Path]) -> tuple[list[Files], int]:
    """Pictures of one folder with the masks beside them, and how many masks have no picture."""
    masks: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        if is_mask(path.name):
            masks[_without_word(stem(path.name))].append(path)
    pictures = [
        Files(path, *_the_mask(masks.pop(stem(path.name), [])))
        for path in paths
        if not is_mask(path.name)
    ]
    return pictures, sum(map(len, masks.values()))


def _pair(images: Path, masks: Path) -> tuple[list[Files], int]:
    """Pictures below one folder with the masks at the same place below the other."""
    by_place: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for folder, paths, _ in _walk(masks):
        for path in paths:
            for name in {stem(path.name), _without_word(stem(path.name))}:
                by_place[folder.relative_to(masks), name].append(path)
    alone = {path for paths in by_place.values() for path in paths}
    pictures: list[Files] = []
    for folder, paths, _ in _walk(images):
        for path in paths:
            matching = by_place.get((folder.relative_to(images), stem(path.name)), [])
            alone.difference_update(matching)
            pictures.append(Files(path, *_the_mask(matching)))
    return pictures, len(alone)


def _the_mask(masks: list[Path]) -> tuple[Path | None, str]:
    """The mask if there is exactly one, and why the picture is excluded if there are several."""
    if len(masks) > 1:
        return None, f"{len(masks)} masks"
    return (masks[0] if masks else None), ""


def _without_word(name: str) -> str:
    match = _WORD_BEHIND.match(name) or _WORD_BEFORE.match(name)
    return match[1] if match else name


def _by_patient(
    pictures: Iterable[Files], root: Path, gathering: AbstractSet[Path]
) -> tuple[list[Case], list[str]]:
    """Patients of all pictures, and notes on what was dropped.

    The names of the folders ``gathering`` are not a patient's. Raises `DamagedInputError` where two different
    files are one slice of one patient.
    """
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
    places = [slice_number(picture.image.name) for picture in pictures]
    if not gathers and all(number is None for _, number in places):
        ordered = sorted(pictures, key=lambda picture: natural_key(picture.image.name))
        for number, picture in enumerate(ordered, start=1):
            yield folder.name, replace(picture, number=number)
        return
    names = {name for name, _ in places if name}
    own = folder.name in names and not gathers
    by_name = gathers or own or len(names) > 1
    for (name, place), picture in zip(places, pictures, strict=True):
        patient = name if by_name and name else folder.name
        excluded = picture.excluded
        if own and patient != folder.name:
            excluded = excluded or f"lies in the folder of {folder.name}"
        yield patient, replace(picture, number=place or 0, excluded=excluded)


def _without_copies(slices: list[Files], root: Path) -> list[Files]:
    """Slices in the order of their numbers; a copy of a slice is dropped."""
    by_number: dict[int, Files] = {}
    for picture in sorted(slices, key=lambda picture: picture.number):
        first = by_number.setdefault(picture.number, picture)
        if not (_same(first.image, picture.image) and _same(first.mask, picture.mask)):
            names = [path.relative_to(root).as_posix() for path in (first.image, picture.image)]
            raise DamagedInputError(
                f"two files are slice {picture.number} of one patient",
                where=" and ".join(names),
                remedy="keep only one of them",
            )
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
        own = masks
        if len(groups) > 1:
            own = [path for path in masks if is_part_of(series, _without_word(stem(path.name)))]
        if len(own) > 1:
            own = [path for path in own if _SEGMENTATION.search(stem(path.name))] or own
        try:
            by_sequence, _, _ = assign(members, folder.name)
            t1, t1c = (
                by_sequence[name].path if name in by_sequence else None
                for name in (MrSequence.T1, MrSequence.T1C)
            )
            files = Files(by_sequence[MrSequence.FLAIR].path, *_the_mask(own), t1=t1, t1c=t1c)
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
    claims = [(picture.claim, case.patient) for case in cases for picture in case.files]
    if wrong := sum(claim not in ("", patient) for claim, patient in claims):
        notes.append(
            f"patient_id contradicts the path in {wrong:,} of {len(claims):,} rows of {path.name}; "
            "the path is used."
        )
    return Layout(root, tuple(cases), tuple(notes))


def _read_table(path: Path) -> list[Files]:
    with open_regular(path, path.name) as (handle, _):
        content = handle.read()
    reader = csv.DictReader(io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline=""))
    try:
        return list(_lines(reader, _Finder(path.parent)))
    except (ValueError, csv.Error) as error:
        binary = isinstance(error, UnicodeDecodeError) or b"\0" in content
        raise DamagedInputError(
            "neither a folder nor a table of slices" if binary else str(error),
            where=path.name if binary else f"{path.name}, line {reader.line_num}",
            remedy="give a table with patient_id, image_path, mask_path and mask, or a folder",
        ) from error


def _lines(reader: csv.DictReader[str], finder: _Finder) -> Iterator[Files]:
    """The files of each line; raises `ValueError` where a line is damaged."""
    reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
    if missing := [name for name in NEEDED if name not in reader.fieldnames]:
        raise ValueError(f"a table of slices needs the column {missing[0]}")
    line: dict[str, str] = {}
    for line in reader:
        image_path, mask_path = (line[name] or "" for name in NEEDED)
        if not image_path.strip():
            raise ValueError("a line without image_path")
        image, mask = finder.find(image_path), finder.find(mask_path)
        yield Files(
            image or finder.would_be(image_path),
            mask,
            "" if image else "no such file",
            label=_label((line.get("mask") or "").strip()),
            claim=(line.get("patient_id") or "").strip(),
        )
    if not line:
        raise ValueError("a table without lines")


def _label(text: str) -> bool | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1
    if value not in (0, 1):
        raise ValueError(f"mask is {printable(text)!r}, neither 0 nor 1")
    return bool(value)


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
