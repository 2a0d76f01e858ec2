"""From files to instances: headers of many files, each read once (read stage, DICOM).

In: paths, or a DICOMDIR that names them. Out: `Discovered`, the instances that could be read and why the
others could not. One bad file costs no other. A DICOMDIR's references are followed inside its own folder
only, and whatever they say they are read like any other file.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gliosight.errors import DamagedInputError, GliosightError
from gliosight.read.detect import relative
from gliosight.read.dicom.acquisition import acquisition_of, stored_values
from gliosight.read.dicom.bounded import AGAIN, SMALL
from gliosight.read.dicom.elements import numbers, stored
from gliosight.read.dicom.grouping import patient_of
from gliosight.read.dicom.headers import Pool
from gliosight.read.dicom.instances import (
    Instance,
    NeverAnalysedError,
    is_dicomdir,
    is_mr_image,
    open_pixels,
    read_instance,
)
from gliosight.read.dicom.split import SAME_POSITION
from gliosight.read.limits import Budget, cannot_read

__all__ = ["Discovered", "discover", "is_dicomdir", "read_dicomdir", "summed_up", "without_copies"]

# What would make a component of a reference more than a name.
_NO_NAMES = ("", ".", "..")
_NOT_IN_NAMES = frozenset("\\:\0")
# What an instance is called of which there was a copy under other UIDs.
EXPORTED_TWICE = "exported twice"
# More images of one place and acquisition are a dynamic series, not copies.
MOST_EXPORTS = 3
# Cheap to compare: what scanners change from one picture of a place to the next.
_PICTURE = (
    "NumberOfFrames",
    "InConcatenationNumber",
    "Rows",
    "EchoTime",
    "InversionTime",
    "AcquisitionNumber",
    "AcquisitionTime",
    "AcquisitionDateTime",
    "TemporalPositionIdentifier",
    "TriggerTime",
)


@dataclass(frozen=True)
class Discovered:
    """What many files hold.

    Parameters
    ----------
    instances : tuple of Instance
        In the order of the files; of several copies of one, the first.
    problems : tuple of GliosightError
        One for each file that could not be read; broken objects that would never be analysed count only
        where there is nothing else.
    unread : tuple of Path
        The file of each problem.
    """

    instances: tuple[Instance, ...]
    problems: tuple[GliosightError, ...]
    unread: tuple[Path, ...] = ()


def discover(
    files: Iterable[Path],
    root: Path,
    budget: Budget,
    tell: Callable[[int, int], None] | None = None,
) -> Discovered:
    """Read the headers of files.

    Parameters
    ----------
    files : iterable of Path
    root : Path
        What messages name files relative to.
    budget : Budget
    tell : callable, optional
        Told how many files are done, and of how many, after each.

    Raises
    ------
    LimitExceededError
        More files than allowed. What is wrong with one file is among the problems.
    """
    paths = list(files)
    budget.check_members(len(paths), relative(root, root))
    instances: list[Instance] = []
    unread: list[tuple[Path, GliosightError]] = []
    never_analysed: list[tuple[Path, NeverAnalysedError]] = []
    pool = Pool()
    for done, path in enumerate(paths, 1):
        try:
            instance = read_instance(path, relative(path, root), budget, pool)
        except NeverAnalysedError as error:
            never_analysed.append((path, error))
        except GliosightError as error:
            unread.append((path, error))
        else:
            if not is_dicomdir(instance):
                instances.append(instance)
        if tell is not None:
            tell(done, len(paths))
    images = [one for one in instances if is_mr_image(one)]
    series = {stored(one.header, "SeriesInstanceUID") for one in images} - {""}
    unread += [
        (path, error.as_image)
        for path, error in never_analysed
        if error.as_image is not None and error.series in series
    ]
    if not instances and not unread:
        unread += never_analysed
    return Discovered(
        without_copies(instances, budget),
        tuple(error for _, error in unread),
        tuple(path for path, _ in unread),
    )


def summed_up(
    problems: Iterable[tuple[Path, GliosightError]],
) -> list[tuple[Path, GliosightError]]:
    """One problem for what is wrong with many files of a folder, named by the first of them."""
    alike: dict[tuple[Path, type, str], list[tuple[Path, GliosightError]]] = {}
    for path, error in problems:
        alike.setdefault((path.parent, type(error), error.what), []).append((path, error))
    return [_with_count(*together[0], len(together) - 1) for together in alike.values()]


def _with_count(path: Path, error: GliosightError, others: int) -> tuple[Path, GliosightError]:
    if not others:
        return path, error
    files = "1 other file" if others == 1 else f"{others:,} other files"
    what = f"{error.what}, as in {files} of its folder"
    return path, type(error)(what, where=error.where, remedy=error.remedy)


def without_copies(instances: Iterable[Instance], budget: Budget) -> tuple[Instance, ...]:
    """The first of several copies of one instance, by its UIDs or by what it is.

    Who exports a study twice may get new UIDs: then a copy is what has the same patient, place, acquisition
    and bytes of pixels. Pixels are read only where the rest agrees. Of two exports the larger series stays.
    """
    seen: dict[tuple[str, ...], set[str]] = {}
    unique: list[Instance] = []
    for one in instances:
        who = _identity(one)
        if who is not None:
            # A copy without the patient's id is a copy all the same, another patient's image is not.
            patient, known = patient_of(one), seen.setdefault(who, set())
            if known and (patient in known or not patient or "" in known):
                continue
            known.add(patient)
        unique.append(one)
    alike: dict[tuple[object, ...], list[Instance]] = {}
    for one in unique:
        if (picture := _picture(one)) is not None:
            alike.setdefault(picture, []).append(one)
    sizes = Counter(map(_series_uids, unique))
    rank = {uids: (-count, index) for index, (uids, count) in enumerate(sizes.items())}
    order = {id(one): index for index, one in enumerate(unique)}
    changed: dict[int, Instance | None] = {}
    for several in _perhaps_twice(alike.values()):
        pictures: dict[bytes, Instance] = {}
        for one in sorted(several, key=lambda one: (rank[_series_uids(one)], order[id(one)])):
            try:
                pixels = _pixel_digest(one, budget)
            except GliosightError:
                continue  # whoever reads it says what is wrong
            first = pictures.setdefault(pixels, one)
            if first is not one:
                changed[id(one)] = None
                changed[id(first)] = replace(first, oddities=(*first.oddities, EXPORTED_TWICE))
    out = (changed.get(id(one), one) for one in unique)
    return tuple(one for one in out if one is not None)


def _perhaps_twice(alike: Iterable[list[Instance]]) -> list[list[Instance]]:
    """Images of one place that may be copies of each other, by their acquisitions."""
    out = []
    for several in (there for same in alike for there in _at_one_place(same)):
        if len(several) < 2:
            continue
        acquired: dict[object, list[Instance]] = {}
        for one in several:
            acquisition = replace(acquisition_of(stored_values(one.header)), description="")
            acquired.setdefault(acquisition, []).append(one)
        out += [same for same in acquired.values() if 1 < len(same) <= MOST_EXPORTS]
    return out


def _at_one_place(instances: list[Instance]) -> list[list[Instance]]:
    """Images whose positions differ by less than those of one stack do: some exports round them."""
    parts = [[(numbers(stored(one.header, "ImagePositionPatient")), one) for one in instances]]
    for axis in range(3 if len(parts[0][0][0]) == 3 else 0):
        finer: list[list[tuple[tuple[float, ...], Instance]]] = []
        for part in parts:
            part.sort(key=lambda pair: pair[0][axis])
            for index, pair in enumerate(part):
                if index == 0 or pair[0][axis] - part[index - 1][0][axis] > SAME_POSITION:
                    finer.append([])
                finer[-1].append(pair)
        parts = finer
    return [[one for _, one in part] for part in parts]


def _series_uids(one: Instance) -> tuple[str, str]:
    return stored(one.header, "StudyInstanceUID"), stored(one.header, "SeriesInstanceUID")


def _picture(one: Instance) -> tuple[object, ...] | None:
    """What copies of one picture have in common by their headers; ``None`` where it has no place."""
    several = "PerFrameFunctionalGroupsSequence" in one.header
    if one.pixels is None or not (several or stored(one.header, "ImagePositionPatient")):
        return None
    length = str(one.pixels.length)
    place = stored(one.header, "ImagePositionPatient")
    values = (stored(one.header, keyword) for keyword in _PICTURE)
    # 86 and 86.0 are one echo time; positions are compared in `_at_one_place`.
    known = (numbers(value) or value for value in values)
    return (patient_of(one), length, "" if len(numbers(place)) == 3 else place, *known)


def _pixel_digest(one: Instance, budget: Budget) -> bytes:
    """SHA-256 of the pixels as they are stored."""
    digest = hashlib.sha256()
    if (pixels := one.pixels) is None:
        return b""
    with open_pixels(one, budget) as file:
        file.seek(pixels.start)
        left = one.size - pixels.start if pixels.length is None else pixels.length
        while left > 0 and (piece := file.read(min(left, SMALL))):
            digest.update(piece)
            left -= len(piece)
    return digest.digest()


def read_dicomdir(path: Path, root: Path, budget: Budget) -> list[Path]:
    """The files that a DICOMDIR references, in its order.

    A file that is missing is among them: `discover` says so. Names are looked up as they are written,
    then whatever their case, since ISO 9660 discs and those who copy them disagree on it.

    Parameters
    ----------
    path : Path
        The DICOMDIR.
    root : Path
        What messages name files relative to.
    budget : Budget

    Raises
    ------
    DamagedInputError
        No DICOMDIR, or one that leads outside its own folder.
    LimitExceededError
        More files than allowed.

    References
    ----------
    DICOM PS3.3, F.3.2.2 (Directory Information), PS3.10, section 8.
    """
    where = relative(path, root)
    directory = read_instance(path, where, budget)
    if not is_dicomdir(directory):
        raise DamagedInputError("not a DICOMDIR, whatever its name", where=where, remedy=AGAIN)
    records = directory.header.get("DirectoryRecordSequence") or ()
    found: dict[Path, None] = {}
    folder = _Folder(path.parent, where)
    for record in records:
        if reference := record.get("ReferencedFileID"):
            found[folder.find(_names(reference, where))] = None
            budget.check_members(len(found), where)
    return list(found)


def _identity(one: Instance) -> tuple[str, ...] | None:
    """What two copies of one instance have in common.

    The UID alone is not enough: some de-identify a series by giving all of it the same.
    """
    if not (name := one.header.get("SOPInstanceUID")):
        return None
    others = (
        "SeriesInstanceUID",
        "InstanceNumber",
        "InConcatenationNumber",
        "ImagePositionPatient",
    )
    return (str(name), *(str(one.header.get(keyword)) for keyword in others))


def _names(reference: Any, where: str) -> list[str]:
    """The components of a referenced file ID, each no more than a name."""
    parts = [reference] if isinstance(reference, str) else list(reference)
    # Some write the whole path into one component.
    names = [name for part in parts for name in str(part).strip().split("/")]
    if any(name in _NO_NAMES or _NOT_IN_NAMES & set(name) for name in names):
        raise DamagedInputError(
            "the DICOMDIR references a file outside its own folder",
            where=where,
            remedy="give the folder instead",
        )
    return names


class _Folder:
    """The DICOMDIR's folder, in which names are looked up whatever their case."""

    def __init__(self, path: Path, where: str) -> None:
        self._path = path
        self._inside = path.resolve()
        self._where = where
        self._listed: dict[Path, dict[str, str]] = {}

    def find(self, names: list[str]) -> Path:
        """The file of that name, which need not exist; raises where links lead outside."""
        place = self._path
        for name in names:
            exact = place / name
            place = (
                exact if exact.exists() else place / self._listing(place).get(_plain(name), name)
            )
        try:
            leads = place.resolve()
        except (OSError, RuntimeError) as error:  # a link that leads to itself
            raise cannot_read(error, self._where) from error
        if not leads.is_relative_to(self._inside):
            raise DamagedInputError(
                "the DICOMDIR references a file outside its own folder",
                where=self._where,
                remedy="give the folder instead",
            )
        return place

    def _listing(self, folder: Path) -> dict[str, str]:
        if folder not in self._listed:
            try:
                # Not beyond the folder: a component before may have been a link.
                inside = folder.resolve().is_relative_to(self._inside)
                names = os.listdir(folder) if inside else []  # noqa: PTH208 - names only, unsorted
            except (OSError, RuntimeError):
                names = []
            self._listed[folder] = {_plain(name): name for name in sorted(names)}
        return self._listed[folder]


def _plain(name: str) -> str:
    """A name without what file systems of discs add to it: case, version, a final dot."""
    return name.split(";")[0].rstrip(".").casefold()
