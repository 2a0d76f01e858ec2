"""DICOM files: the headers of many, each read once, without copies; and those a DICOMDIR names (read stage).

A file that cannot be read does not keep others from being read. A DICOMDIR's references are followed inside
its own folder only.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from gliosight.errors import DamagedInputError, GliosightError
from gliosight.read.detect import relative
from gliosight.read.dicom.acquisition import acquisition_of, stored_values
from gliosight.read.dicom.elements import AGAIN, CHUNK, Pool, numbers, stored
from gliosight.read.dicom.grouping import patient_of
from gliosight.read.dicom.instances import (
    Instance,
    NeverAnalysedError,
    is_dicomdir,
    is_mr_image,
    open_pixels,
    read_instance,
)
from gliosight.read.dicom.order import SAME_POSITION
from gliosight.read.limits import Budget, cannot_read

# The oddity of an instance of which there was a copy under other UIDs.
EXPORTED_TWICE = "exported twice"
# More images of one position and acquisition are a dynamic series, not copies.
MOST_EXPORTS = 3
# The UID alone is not enough: some de-identify a series by giving all of it the same.
_IDENTITY = (
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "InstanceNumber",
    "InConcatenationNumber",
    "ImagePositionPatient",
)
# Cheap to compare: what scanners change from one picture of a position to the next.
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


Problem = tuple[Path, GliosightError]


def discover(
    files: Iterable[Path],
    root: Path,
    budget: Budget,
    tell: Callable[[int, int], None] | None = None,
) -> tuple[tuple[Instance, ...], list[Problem]]:
    """Read the headers of files, which messages name relative to ``root``.

    ``tell`` is called after each file with how many are done, and of how many.

    Returns
    -------
    instances : tuple of Instance
        In the order of the files; of several copies of one, the first.
    problems : list of (Path, GliosightError)
        Files that cannot be read; broken objects that would never be analysed count only where there is
        nothing else.

    Raises
    ------
    LimitExceededError
        More files than allowed.
    """
    paths = list(files)
    budget.check_members(len(paths), relative(root, root))
    instances: list[Instance] = []
    problems: list[Problem] = []
    never_analysed: list[tuple[Path, NeverAnalysedError]] = []
    pool = Pool()
    for done, path in enumerate(paths, 1):
        try:
            instance = read_instance(path, relative(path, root), budget, pool)
        except NeverAnalysedError as error:
            never_analysed.append((path, error))
        except GliosightError as error:
            problems.append((path, error))
        else:
            if not is_dicomdir(instance):
                instances.append(instance)
        if tell is not None:
            tell(done, len(paths))
    images = filter(is_mr_image, instances)
    series = {stored(image.header, "SeriesInstanceUID") for image in images} - {""}
    problems += [
        (path, error.as_image)
        for path, error in never_analysed
        if error.as_image is not None and error.series in series
    ]
    if not instances and not problems:
        problems += never_analysed
    return without_copies(instances, budget), problems


def summed_up(problems: Iterable[Problem]) -> list[Problem]:
    """One problem for what is wrong with many files of a folder, named by the first of them."""
    alike: dict[tuple[Path, type, str], list[Problem]] = defaultdict(list)
    for path, error in problems:
        alike[path.parent, type(error), error.what].append((path, error))
    out = []
    for (path, error), *others in alike.values():
        if others:
            files = f"{len(others):,} other file{'s' if len(others) > 1 else ''}"
            what = f"{error.what}, as in {files} of its folder"
            error = type(error)(what, where=error.where, remedy=error.remedy)  # noqa: PLW2901
        out.append((path, error))
    return out


def without_copies(instances: Iterable[Instance], budget: Budget) -> tuple[Instance, ...]:
    """The first of several copies of one instance, by its UIDs or by what it is.

    A study that is exported twice may get new UIDs: then a copy is what has the same patient, position,
    acquisition and bytes of pixels. Pixels are read only where the rest agrees. Of two exports the larger
    series is taken.
    """
    patients: dict[tuple[str, ...], set[str]] = defaultdict(set)
    unique: list[Instance] = []
    for instance in instances:
        header = instance.header
        if header.get("SOPInstanceUID"):
            # The patient's id may be missing in a copy; with another id it is another patient's image.
            patient = patient_of(instance)
            known = patients[tuple(str(header.get(keyword)) for keyword in _IDENTITY)]
            if known and (patient in known or not patient or "" in known):
                continue
            known.add(patient)
        unique.append(instance)
    order = {id(instance): index for index, instance in enumerate(unique)}
    # By size; of equal ones the first.
    sizes = Counter(map(_series_uids, unique)).most_common()
    rank = {uids: index for index, (uids, _) in enumerate(sizes)}
    changed: dict[int, Instance | None] = {}
    for alike in _perhaps_twice(unique):
        alike.sort(key=lambda copy: (rank[_series_uids(copy)], order[id(copy)]))
        pictures: dict[bytes, Instance] = {}
        for instance in alike:
            try:
                first = pictures.setdefault(_pixel_digest(instance, budget), instance)
            except GliosightError:
                continue  # whoever reads it says what is wrong
            if first is not instance:
                changed[id(instance)] = None
                changed[id(first)] = replace(first, oddities=(*first.oddities, EXPORTED_TWICE))
    out = (changed.get(id(instance), instance) for instance in unique)
    return tuple(instance for instance in out if instance is not None)


def _perhaps_twice(instances: Iterable[Instance]) -> Iterator[list[Instance]]:
    """Images that may be copies of each other, by patient, position and acquisition."""
    alike: dict[tuple[object, ...], list[Instance]] = defaultdict(list)
    for instance in instances:
        header, position = instance.header, stored(instance.header, "ImagePositionPatient")
        frames = "PerFrameFunctionalGroupsSequence" in header
        if instance.pixels is not None and (frames or position):
            # 86 and 86.0 are one echo time; positions are compared in `_at_one_position`.
            values = (stored(header, keyword) for keyword in _PICTURE)
            elsewhere = "" if len(numbers(position)) == 3 else position
            known = (numbers(value) or value for value in values)
            alike[patient_of(instance), instance.pixels.length, elsewhere, *known].append(instance)
    for near in (near for same in alike.values() for near in _at_one_position(same)):
        if len(near) > 1:
            acquired: dict[object, list[Instance]] = defaultdict(list)
            for instance in near:
                acquisition = acquisition_of(stored_values(instance.header))
                acquired[replace(acquisition, description="")].append(instance)
            yield from (same for same in acquired.values() if 1 < len(same) <= MOST_EXPORTS)


def _at_one_position(images: list[Instance], axis: int = 0) -> list[list[Instance]]:
    """Images whose positions differ by less than those of one stack do: some exports round them."""
    positions = {id(i): numbers(stored(i.header, "ImagePositionPatient")) for i in images}
    if axis == 3 or len(positions[id(images[0])]) != 3:
        return [images]
    parts: list[list[Instance]] = []
    last = -float("inf")
    for image in sorted(images, key=lambda image: positions[id(image)][axis]):
        if (place := positions[id(image)][axis]) - last > SAME_POSITION:
            parts.append([])
        parts[-1].append(image)
        last = place
    return [finer for part in parts for finer in _at_one_position(part, axis + 1)]


def _series_uids(instance: Instance) -> tuple[str, str]:
    header = instance.header
    return stored(header, "StudyInstanceUID"), stored(header, "SeriesInstanceUID")


def _pixel_digest(instance: Instance, budget: Budget) -> bytes:
    """SHA-256 of the pixels as they are stored."""
    digest = hashlib.sha256()
    if (pixels := instance.pixels) is None:
        return b""
    with open_pixels(instance, budget) as file:
        length = instance.size - pixels.start if pixels.length is None else pixels.length
        for start in range(pixels.start, pixels.start + length, CHUNK):
            digest.update(file.read(start, min(CHUNK, pixels.start + length - start)))
    return digest.digest()


def read_dicomdir(path: Path, root: Path, budget: Budget) -> list[Path]:
    """The files that a DICOMDIR references, in its order, also those that are missing.

    Names are looked up as they are written, then whatever their case, since ISO 9660 discs and those who copy
    them disagree on it.

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
    files: dict[Path, None] = {}
    listed: dict[Path, dict[str, str]] = {}
    for record in directory.header.get("DirectoryRecordSequence") or ():
        if reference := record.get("ReferencedFileID"):
            files[_referenced(reference, path.parent, where, listed)] = None
            budget.check_members(len(files), where)
    return list(files)


def _referenced(
    reference: Any, folder: Path, where: str, listed: dict[Path, dict[str, str]]
) -> Path:
    """The file of a referenced file ID, which need not exist; raises where it leads outside the folder.

    ``listed`` remembers what `_names_in` finds.
    """
    outside = DamagedInputError(
        "the DICOMDIR references a file outside its own folder",
        where=where,
        remedy="give the folder instead",
    )
    parts = [reference] if isinstance(reference, str) else list(reference)
    # Some write the whole path into one component.
    names = [name for part in parts for name in str(part).strip().split("/")]
    if any(name in ("", ".", "..") or set(name) & set("\\:\0") for name in names):
        raise outside
    path, inside = folder, folder.resolve()
    for name in names:
        if (path / name).exists():
            path /= name
            continue
        if path not in listed:
            listed[path] = _names_in(path, inside)
        path /= listed[path].get(_plain(name), name)
    try:
        leads = path.resolve()
    except (OSError, RuntimeError) as error:  # a link that leads to itself
        raise cannot_read(error, where) from error
    if not leads.is_relative_to(inside):
        raise outside
    return path


def _names_in(folder: Path, inside: Path) -> dict[str, str]:
    """The names in a folder by their plain form; none beyond ``inside``: a component may have been a link."""
    try:
        names = os.listdir(folder) if folder.resolve().is_relative_to(inside) else []  # noqa: PTH208
    except (OSError, RuntimeError):
        names = []
    return {_plain(name): name for name in sorted(names)}


def _plain(name: str) -> str:
    """A name without what file systems of discs add to it: case, version, a final dot."""
    return name.split(";")[0].rstrip(".").casefold()
