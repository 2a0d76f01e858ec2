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
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, replace
from filecmp import cmp
from pathlib import Path, PurePosixPath

from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    NothingReadableError,
    UnsupportedInputError,
    printable,
)
from gliosight.read.detect import Kind
from gliosight.read.folders import FileGroup, flair_groups, mode_of, refuse_result
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
from gliosight.read.recognise import Found, folder_name
from gliosight.study import Sequence

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
class PictureSlice:
    """A picture and its mask; ``excluded`` where the paths alone rule it out."""

    image: Path
    mask: Path | None
    excluded: str = ""
    number: int = 0


@dataclass(frozen=True)
class PictureCase:
    """A patient whose slices are pictures, in the order of their numbers."""

    patient: str
    slices: tuple[PictureSlice, ...]


@dataclass(frozen=True)
class VolumeCase:
    """A patient whose sequences are NIfTI volumes; ``excluded`` where the names alone rule it out."""

    patient: str
    flair: Path
    t1: Path | None = None
    t1c: Path | None = None
    mask: Path | None = None
    excluded: str = ""


@dataclass(frozen=True)
class Layout:
    """What lies at a path.

    Parameters
    ----------
    root : Path
        The data set's folder.
    cases : tuple of PictureCase or VolumeCase
        Patients in natural order of their names.
    notes : tuple of str
        What the user should know, a sentence each.
    labels : mapping of Path to bool
        By picture, whether a table says that it shows tumour. `index` compares it with the mask.
    """

    root: Path
    cases: tuple[PictureCase | VolumeCase, ...]
    notes: tuple[str, ...] = ()
    labels: Mapping[Path, bool] = field(default_factory=dict)


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
        lines = _read_table(root)
        if all(line.picture.excluded for line in lines):
            raise NothingReadableError(
                f"no picture that the table names is there, of {len(lines):,}",
                where=root.name,
                remedy="put the table into the folder of the data set",
            )
        return _of_table(lines, root)
    folder = _of_folder(root)
    if mode_of(root / TABLE) is None:
        return folder
    lines = _read_table(root / TABLE)
    there = [line for line in lines if not line.picture.excluded]
    if not there:
        note = f"none of the pictures that {TABLE} names is there; it is not used."
        return replace(folder, notes=(*folder.notes, note))
    layout = _of_table(there, root / TABLE)
    notes = list(layout.notes)
    if missing := len(lines) - len(there):
        notes.append(f"Pictures that {TABLE} names and that are not there: {missing:,}.")
    if unlisted := len(_pictures_of(folder) - _pictures_of(layout)):
        notes.append(f"Pictures that {TABLE} does not name, left out: {unlisted:,}.")
    return replace(layout, notes=tuple(notes))


def _pictures_of(layout: Layout) -> set[Path]:
    cases = [case for case in layout.cases if isinstance(case, PictureCase)]
    return {picture.image for case in cases for picture in case.slices}


# --- folders -------------------------------------------------------------------------------------


def _of_folder(root: Path) -> Layout:
    pictures: list[PictureSlice] = []
    volumes: list[VolumeCase] = []
    gathering = {root}
    orphans = without_flair = 0
    for folder, files, pair in _walk(root):
        nifti = [path for path in files if _is_nifti(path)]
        matched, alone = _beside([path for path in files if not _is_nifti(path)])
        pictures += matched
        orphans += alone
        if pair is not None:
            gathering.add(pair[0])
            matched, alone = _pair(*pair)
            pictures += [one for one in matched if not _is_nifti(one.image)]
            volumes += [_single(one) for one in matched if _is_nifti(one.image)]
            orphans += alone
        if nifti:
            own = _volumes(folder, nifti, root)
            volumes += own
            without_flair += not own
    if not pictures and not volumes:
        raise _nothing(root, without_flair)
    picture_cases, notes = _by_patient(pictures, root, gathering)
    if orphans:
        notes.append(f"Masks without a picture, left out: {orphans:,}.")
    if without_flair:
        notes.append(f"Folders of NIfTI files without FLAIR, left out: {without_flair:,}.")
    cases: list[PictureCase | VolumeCase] = [*picture_cases, *volumes]
    patient, count = Counter(case.patient for case in cases).most_common(1)[0]
    if count > 1:
        raise DamagedInputError(
            f"{count} studies are named {patient}",
            where=folder_name(root),
            remedy="give each its own name, or index them apart",
        )
    cases.sort(key=lambda case: natural_key(case.patient))
    return Layout(root, tuple(cases), tuple(notes))


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
            if (status.st_dev, status.st_ino) in visited or _is_result(folder):
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


def _is_result(folder: Path) -> bool:
    try:
        refuse_result(folder)
    except NothingReadableError:
        return True
    return folder.name.endswith("-gliosight")


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _beside(paths: list[Path]) -> tuple[list[PictureSlice], int]:
    """Pictures of one folder with the masks beside them, and how many masks have no picture."""
    masks: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        if is_mask(path.name):
            masks[_without_word(stem(path.name))].append(path)
    pictures = [
        PictureSlice(path, *_the_mask(masks.pop(stem(path.name), [])))
        for path in paths
        if not is_mask(path.name)
    ]
    return pictures, sum(map(len, masks.values()))


def _pair(images: Path, masks: Path) -> tuple[list[PictureSlice], int]:
    """Pictures below one folder with the masks at the same place below the other."""
    by_place: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    alone: set[Path] = set()
    for path in _below(masks):
        alone.add(path)
        for name in {stem(path.name), _without_word(stem(path.name))}:
            by_place[path.relative_to(masks).parent, name].append(path)
    pictures: list[PictureSlice] = []
    for path in _below(images):
        matching = by_place.get((path.relative_to(images).parent, stem(path.name)), [])
        alone.difference_update(matching)
        pictures.append(PictureSlice(path, *_the_mask(matching)))
    return pictures, len(alone)


def _below(folder: Path) -> Iterator[Path]:
    for _, files, _ in _walk(folder):
        yield from files


def _the_mask(masks: list[Path]) -> tuple[Path | None, str]:
    """The only one of several masks, or why there is none; without any, nothing is said yet."""
    if len(masks) > 1:
        return None, f"{len(masks)} masks"
    return (masks[0] if masks else None), ""


def _without_word(name: str) -> str:
    match = _WORD_BEHIND.match(name) or _WORD_BEFORE.match(name)
    return match[1] if match else name


# --- pictures and their patients -----------------------------------------------------------------


def _by_patient(
    pictures: Iterable[PictureSlice], root: Path, gathering: AbstractSet[Path]
) -> tuple[list[PictureCase], list[str]]:
    """Patients of all pictures, and notes on what was dropped.

    Parameters
    ----------
    pictures : iterable of PictureSlice
    root : Path
    gathering : set of Path
        Folders whose own name is not a patient's.

    Raises
    ------
    DamagedInputError
        Two different files for one slice of one patient.
    """
    by_folder: dict[Path, list[PictureSlice]] = defaultdict(list)
    for picture in pictures:
        by_folder[picture.image.parent].append(picture)
    by_patient: dict[str, list[PictureSlice]] = defaultdict(list)
    for folder, inside in by_folder.items():
        for patient, picture in _named(folder, inside, gathers=folder in gathering):
            by_patient[patient].append(picture)
    cases: list[PictureCase] = []
    copies = 0
    for patient in sorted(by_patient, key=natural_key):
        slices = _without_copies(by_patient[patient], root)
        copies += len(by_patient[patient]) - len(slices)
        cases.append(PictureCase(patient, tuple(slices)))
    note = f"Pictures there twice, byte for byte, counted once: {copies:,}."
    return cases, [note] if copies else []


def _named(
    folder: Path, pictures: list[PictureSlice], *, gathers: bool
) -> Iterator[tuple[str, PictureSlice]]:
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


def _without_copies(slices: list[PictureSlice], root: Path) -> list[PictureSlice]:
    """Slices in the order of their numbers; a copy of a slice is dropped."""
    by_number: dict[int, PictureSlice] = {}
    for picture in sorted(slices, key=lambda picture: picture.number):
        first = by_number.setdefault(picture.number, picture)
        if not (_same(first.image, picture.image) and _same(first.mask, picture.mask)):
            names = [one.image.relative_to(root).as_posix() for one in (first, picture)]
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


# --- volumes -------------------------------------------------------------------------------------


def _single(picture: PictureSlice) -> VolumeCase:
    """A volume of a pair of folders: FLAIR alone."""
    excluded = picture.excluded or ("" if picture.mask else NO_MASK)
    return VolumeCase(stem(picture.image.name), picture.image, mask=picture.mask, excluded=excluded)


def _volumes(folder: Path, paths: list[Path], root: Path) -> list[VolumeCase]:
    """The cases of one folder: one for each FLAIR; none where there is no FLAIR."""
    images = [
        Found(path, Kind.NIFTI, path.relative_to(root).as_posix())
        for path in paths
        if not is_mask(path.name)
    ]
    masks = [path for path in paths if is_mask(path.name) and not _OTHER_MASK.search(path.name)]
    groups = flair_groups(images)
    if not groups and len(images) == 1 and sequence_of(images[0].path.name) is None:
        groups = [FileGroup(nifti_series(images[0].path.name), tuple(images))]
    cases: list[VolumeCase] = []
    for series, files, _ in groups:
        patient = series or folder.name
        own = masks
        if len(groups) > 1:
            own = [path for path in masks if is_part_of(series, _without_word(stem(path.name)))]
        if len(own) > 1:
            own = [path for path in own if _SEGMENTATION.search(stem(path.name))] or own
        mask, excluded = _the_mask(own)
        try:
            by_sequence, _, _ = assign(files, folder.name)
        except UnsupportedInputError as error:
            cases.append(VolumeCase(patient, files[0].path, excluded=error.what))
            continue
        t1, t1c = (
            by_sequence[name].path if name in by_sequence else None
            for name in (Sequence.T1, Sequence.T1C)
        )
        flair = by_sequence[Sequence.FLAIR].path
        reason = excluded or ("" if mask else NO_MASK)
        cases.append(VolumeCase(patient, flair, t1, t1c, mask, reason))
    return cases


# --- tables of slices ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Line:
    """A line of a table: the picture, excluded where it is not there, and what two columns say of it."""

    picture: PictureSlice
    patient_id: str
    tumour: bool | None


def _of_table(lines: list[_Line], path: Path) -> Layout:
    """The slices that a table names; its paths say whose they are."""
    by_image = {line.picture.image: line for line in lines}
    root = path.parent
    cases, notes = _by_patient([line.picture for line in by_image.values()], root, {root})
    notes.insert(0, f"The slices are those that {path.name} names.")
    claims = [
        (by_image[picture.image].patient_id, case.patient)
        for case in cases
        for picture in case.slices
    ]
    if wrong := sum(claim not in ("", patient) for claim, patient in claims):
        notes.append(
            f"patient_id contradicts the path in {wrong:,} of {len(claims):,} rows of {path.name}; "
            "the path is used."
        )
    labels = {image: line.tumour for image, line in by_image.items() if line.tumour is not None}
    return Layout(root, tuple(cases), tuple(notes), labels)


def _read_table(path: Path) -> list[_Line]:
    try:
        with open_regular(path, path.name) as (handle, _):
            text = handle.read().decode("utf-8-sig")
        if "\0" in text:
            raise ValueError  # noqa: TRY301 - as what is not UTF-8
    except ValueError as error:
        raise _damaged(path, "neither a folder nor a table of slices") from error
    except OSError as error:
        raise cannot_read(error, path.name) from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        lines = list(_lines(path, reader))
    except csv.Error as error:
        raise _damaged(path, str(error)) from error
    if not lines:
        raise _damaged(path, "a table without lines")
    return lines


def _lines(path: Path, reader: csv.DictReader[str]) -> Iterator[_Line]:
    reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
    if missing := [name for name in NEEDED if name not in reader.fieldnames]:
        raise _damaged(path, f"a table of slices needs the column {missing[0]}")
    finder = _Finder(path.absolute().parent)
    for line in reader:
        image_path, mask_path = (line[name] or "" for name in NEEDED)
        if not image_path.strip():
            raise _damaged(path, "a line without image_path", reader.line_num)
        image, mask = finder.find(image_path), finder.find(mask_path)
        picture = PictureSlice(
            image or finder.would_be(image_path), mask, "" if image else "no such file"
        )
        try:
            tumour = _label(line.get("mask") or "")
        except ValueError as error:
            raise _damaged(path, str(error), reader.line_num) from error
        yield _Line(picture, (line.get("patient_id") or "").strip(), tumour)


def _label(text: str) -> bool | None:
    if not text.strip():
        return None
    with suppress(ValueError):
        if float(text) in (0, 1):
            return bool(float(text))
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
        for folder, cut in (self._last, *ways):
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


def _damaged(path: Path, what: str, line: int = 0) -> DamagedInputError:
    return DamagedInputError(
        what,
        where=f"{path.name}, line {line}" if line else path.name,
        remedy="give a table with patient_id, image_path, mask_path and mask, or a folder",
    )
