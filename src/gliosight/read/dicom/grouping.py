"""Which instances are one study and which are one series (read stage, DICOM, below `series`).

In: the instances of a folder tree. Out: for each `StudyKey` its groups of instances, one for each series.
UIDs decide where they can (PS3.3 sections C.7.2.1, C.7.3.1). Four kinds of exports spoil them:

- one UID for several patients, or for all series of a study, or none: patient, date and number tell what is
  apart;
- UIDs that change with the slice (some scanners, anonymisers that work file by file): groups of one place
  each, of one protocol, patient and day, are joined to a series, and the studies that they name to one.
  Whether they are one stack without gaps is judged by `series`, which refuses them where they are not;
- a stack in pieces of several slices, each with a number, a series or a study of its own: pieces of one
  protocol, patient and day are joined where together they are one stack, slice beside slice;
- a StudyInstanceUID for each series: studies of one series each are joined where patient, day and frame of
  reference agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gliosight.read.dicom.acquisition import frame_count, frames_of
from gliosight.read.dicom.elements import number, numbers, stored
from gliosight.read.dicom.instances import Instance, is_mr_image
from gliosight.read.dicom.stacks import MM_APART, why_no_stack

# As long as there are this many images to a SeriesNumber, it counts series and not images.
IMAGES_TO_A_NUMBER = 2
# So many images or pieces are one series also where little but their place says so.
LEAST_UNSURE = 3
# More slices are no stack of one head, and it is not looked whether they are.
MOST_SLICES = 1000

# Images of one series have the same values of these, and times that agree in two digits.
_PROTOCOL = ("SOPClassUID", "Modality", "Rows", "Columns", "ScanningSequence", "ContrastBolusAgent")
_TIMES = ("RepetitionTime", "EchoTime", "InversionTime")
# Each tells series apart, unless it changes with the slice.
_TELLING = (
    "SeriesTime",
    "SeriesDescription",
    "ProtocolName",
    "StudyID",
    "AccessionNumber",
    "SeriesNumber",
    "StudyInstanceUID",
    "SeriesInstanceUID",
)
# Two series of one visit do not contradict each other in these.
_VISIT = ("StudyDate", "StudyTime", "StudyID", "AccessionNumber")


class StudyKey(NamedTuple):
    """What the instances of a study have in common.

    Parameters
    ----------
    uid : str
        StudyInstanceUID, the first in their order where several are joined; ``""`` for those without.
    patient : str
        PatientID, or PatientName where none has an id, if the UID alone would mix patients; else ``""``.
    date : str
        StudyDate, where there is no UID; else ``""``.
    joined : int
        How many StudyInstanceUIDs are taken for one.
    """

    uid: str
    patient: str = ""
    date: str = ""
    joined: int = 1


class SeriesKey(NamedTuple):
    """What the stacks of a series have in common, and nothing else of its study has.

    Parameters
    ----------
    uid : str
        SeriesInstanceUID, the first in their order where several are joined; ``""`` for those without.
    number : str
        SeriesNumber, where the UID alone would mix series; else ``""``.
    joined : int
        How many groups that name another study or series are taken for one.
    refusal : str
        Why it cannot be analysed although it looks like one series; ``""``: nothing speaks against it yet.
    """

    uid: str
    number: str = ""
    joined: int = 1
    refusal: str = ""


Groups = dict[SeriesKey, list[Instance]]
_Box = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class _Group:
    """Instances of one series, and the studies that they name."""

    studies: frozenset[StudyKey]
    key: SeriesKey
    instances: tuple[Instance, ...]


def group_instances(instances: Iterable[Instance]) -> dict[StudyKey, Groups]:
    """Sort instances into studies and series, whatever their order."""
    groups = [
        _Group(frozenset({study}), key, tuple(together))
        for study, series in _by_uid(instances).items()
        for key, together in series.items()
    ]
    if len(groups) > 1:
        groups = _rejoined(groups)
    studies: dict[StudyKey, Groups] = {}
    for visit in _visits(groups):
        keys = frozenset().union(*(group.studies for group in visit))
        study = min(keys)._replace(joined=len(keys))
        for group in visit:
            studies.setdefault(study, {}).setdefault(group.key, []).extend(group.instances)
    return studies


def _by_uid(instances: Iterable[Instance]) -> dict[StudyKey, Groups]:
    """Studies and series as the UIDs say it."""
    by_uid: dict[StudyKey, list[Instance]] = {}
    for one in instances:
        uid = stored(one.header, "StudyInstanceUID")
        key = StudyKey(uid, date="" if uid else stored(one.header, "StudyDate"))
        by_uid.setdefault(key, []).append(one)
    studies: dict[StudyKey, list[Instance]] = {}
    for key, together in by_uid.items():
        known = _patient_keyword(together)
        patients = {_said(one, known) for one in together} - {""}
        for one in together:
            # Files without any id may well be the one patient's; with several patients, nobody knows.
            whose = _said(one, known) if len(patients) > 1 else ""
            studies.setdefault(key._replace(patient=whose), []).append(one)
    return {key: _series(together) for key, together in studies.items()}


def _series(instances: Iterable[Instance]) -> Groups:
    by_uid: dict[str, list[Instance]] = {}
    for one in instances:
        by_uid.setdefault(stored(one.header, "SeriesInstanceUID"), []).append(one)
    groups: Groups = {}
    for uid, together in by_uid.items():
        numbers = {stored(one.header, "SeriesNumber") for one in together}
        apart = not uid or 1 < len(numbers) <= len(together) / IMAGES_TO_A_NUMBER
        for one in together:
            number = stored(one.header, "SeriesNumber") if apart else ""
            groups.setdefault(SeriesKey(uid, number), []).append(one)
    return groups


def _patient_keyword(instances: Iterable[Instance]) -> str:
    """What tells patients apart: names only where nobody has an id, since they are spelt in many ways."""
    return "PatientID" if any(map(patient_of, instances)) else "PatientName"


def _rejoined(groups: list[_Group]) -> list[_Group]:
    """Join groups of one place each, then pieces of stacks, to the series that they are."""
    alike: dict[Hashable, list[_Group]] = {}
    out: list[_Group] = []
    for group in groups:
        if _has_one_place(group.instances):
            alike.setdefault(min(map(_protocol, group.instances)), []).append(group)
        else:
            out.append(group)
    for slices in alike.values():
        parts = [slices]
        for name in _TELLING:
            parts = [new for part in parts for new in _told_apart(part, _reader(name))]
        parts = [new for part in parts for new in _told_apart(part, _folder_of_unnamed)]
        for part in parts:
            for together, refusal in _of_one_visit(part):
                out += _joined(together, refusal)
    return _whole(out)


def _whole(groups: list[_Group]) -> list[_Group]:
    """Join pieces of one protocol and visit that together are one stack, whatever they name."""
    alike: dict[Hashable, list[_Group]] = {}
    out: list[_Group] = []
    for group in groups:
        if group.key.refusal or not is_mr_image(group.instances[0]):
            out.append(group)
        else:
            alike.setdefault(_protocol(group.instances[0]), []).append(group)
    for pieces in alike.values():
        for together, refusal in _of_one_visit(pieces):
            out += _of_one_stack(together, refusal, _APART)
    return out


def _of_one_stack(
    pieces: list[_Group], refusal: str, apart: Sequence[Callable[[_Group], str]]
) -> list[_Group]:
    """One series, where the pieces are one stack; else those of each description, folder, number, time."""
    if len(pieces) < 2:
        return pieces
    why = _why_no_stack(pieces)
    if not why:
        return _joined(pieces, refusal)
    if not apart:
        # Parts of one scan with a gap between them: `series` refuses them together.
        cut = why.endswith(MM_APART) and _number(pieces[0]) and _in_one_world(pieces)
        return _joined(pieces, refusal) if cut else pieces
    parts: dict[str, list[_Group]] = {}
    for piece in pieces:
        parts.setdefault(apart[0](piece), []).append(piece)
    if len(parts) == 1:
        return _of_one_stack(pieces, refusal, apart[1:])
    return [new for part in parts.values() for new in _of_one_stack(part, refusal, apart[1:])]


def _protocol(instance: Instance) -> tuple[str, ...]:
    times = (number(stored(instance.header, name)) for name in _TIMES)
    return (
        *(stored(instance.header, name) for name in _PROTOCOL),
        *("" if time is None else f"{time:.2g}" for time in times),
    )


def _has_one_place(instances: Sequence[Instance]) -> bool:
    """Whether these are classic MR images of a single place."""
    place = ("ImagePositionPatient", "ImageOrientationPatient")
    first = [stored(instances[0].header, name) for name in place]
    if len(instances) > 1 and not first[0]:
        return False
    return all(
        [stored(instance.header, name) for name in place] == first
        and is_mr_image(instance)
        and "PerFrameFunctionalGroupsSequence" not in instance.header
        and frame_count(instance) == 1
        for instance in instances
    )


def _of_one_visit(slices: list[_Group]) -> list[tuple[list[_Group], str]]:
    """Parts of one patient and visit, each with the reason why it is not taken for a series, if any.

    Whose images they are is never guessed: a patient or a date for each slice of one stack is refused.
    """
    parts = [(slices, "")]
    whose = _patient_keyword(group.instances[0] for group in slices)
    identity = {whose: "patients", "StudyDate": "dates", "StudyTime": "times"}
    for keyword, refusal in identity.items():
        new: list[tuple[list[_Group], str]] = []
        for part, why in parts:
            by_value: dict[str, list[_Group]] = {}
            for group in part:
                by_value.setdefault(_said(group.instances[0], keyword), []).append(group)
            if _one_each(by_value, part) and not _why_no_stack(part):
                new.append((part, why or f"they name {len(by_value)} {refusal}"))
            else:
                new += [(together, why) for together in by_value.values()]
        parts = new
    return parts


def _one_each(by_value: Mapping[str, object], pieces: Sequence[_Group]) -> bool:
    """Whether about every slice or piece has a value of its own."""
    sure = _in_one_world(pieces) and any(len(piece.instances) > 1 for piece in pieces)
    least = 2 if sure else LEAST_UNSURE
    return len(pieces) >= least and len(by_value) > len(pieces) / IMAGES_TO_A_NUMBER


def _in_one_world(pieces: Iterable[_Group]) -> bool:
    worlds = {world for piece in pieces for world in _values(piece, "FrameOfReferenceUID")}
    return len(worlds) == 1 and "" not in worlds


def _told_apart(slices: list[_Group], value: Callable[[_Group], str]) -> list[list[_Group]]:
    """Parts by a value, where it tells series apart and does not change with the slice."""
    parts: dict[str, list[_Group]] = {}
    for group in slices:
        parts.setdefault(value(group), []).append(group)
    return [slices] if _counts_places(list(parts.values())) else list(parts.values())


def _counts_places(parts: list[list[_Group]]) -> bool:
    """Whether a value that makes these parts changes with the slice, maybe alike in several series."""
    stacks = [_places(part) for part in parts]
    distinct = sum(len(places) for stack in stacks for places in stack.values())
    if distinct < IMAGES_TO_A_NUMBER * len(parts):
        return True
    # Stacks in several planes whose slices are numbered alike; localizers have few slices in each plane.
    planes: dict[str, set[str]] = {}
    for stack in stacks:
        for plane, places in stack.items():
            planes.setdefault(plane, set()).update(places)
    within = sum(max(map(len, stack.values())) for stack in stacks)
    most = max(map(len, planes.values()))
    return within < IMAGES_TO_A_NUMBER * len(parts) and most >= max(LEAST_UNSURE, len(parts))


def _places(slices: Iterable[_Group]) -> dict[str, set[str]]:
    """The positions of groups of one place each, by orientation."""
    places: dict[str, set[str]] = {}
    for group in slices:
        plane, place = (
            _reader(name)(group) for name in ("ImageOrientationPatient", "ImagePositionPatient")
        )
        places.setdefault(plane, set()).add(place or str(group.key))
    return places


def _reader(keyword: str) -> Callable[[_Group], str]:
    return lambda group: stored(group.instances[0].header, keyword)


def _number(group: _Group) -> str:
    """SeriesNumber; ``""`` where it changes with the slice."""
    if group.key.joined > 1:
        return group.key.number
    return stored(group.instances[0].header, "SeriesNumber")


def _folder(group: _Group) -> str:
    return str(group.instances[0].path.parent)


def _folder_of_unnamed(group: _Group) -> str:
    """The folder, where nothing else says whose and of which visit an image is."""
    first = group.instances[0]
    patient = patient_of(first) or _said(first, "PatientName")
    return "" if patient and _said(first, "StudyDate") else _folder(group)


# What tells the pieces of several stacks apart.
_APART = (_reader("SeriesDescription"), _folder_of_unnamed, _number, _reader("SeriesTime"))


def _joined(pieces: list[_Group], refusal: str) -> list[_Group]:
    """One series, if there are several pieces, or number or frame of reference agree and one thing more."""
    images = tuple(image for piece in pieces for image in piece.instances)
    numbers: Counter[str] = Counter()
    for piece in pieces:
        numbers[_number(piece)] += sum(map(frame_count, piece.instances))
    studies = {piece.studies for piece in pieces}
    named = not _folder_of_unnamed(pieces[0])
    firm = (len(numbers) == 1) + _in_one_world(pieces)
    sure = firm and firm + (len(studies) == 1) + named > 1
    count = sum(piece.key.joined for piece in pieces)
    if len(pieces) < 2 or count < (2 if sure else LEAST_UNSURE):
        return pieces
    first = min(piece.key for piece in pieces)
    counts_series = len(numbers) == 1 or numbers.total() >= IMAGES_TO_A_NUMBER * len(numbers)
    number = min(numbers, key=lambda one: (-numbers[one], len(one), one)) if counts_series else ""
    key = SeriesKey(first.uid, number, count, refusal)
    return [_Group(frozenset().union(*studies), key, images)]


def _why_no_stack(pieces: Iterable[_Group]) -> str:
    images = [
        image
        for piece in pieces
        for image in piece.instances[: 1 if _has_one_place(piece.instances) else None]
    ]
    if sum(map(frame_count, images)) > MOST_SLICES:
        return "they are too many for one head"
    return why_no_stack([frame for image in images for frame in frames_of(image)])


def _visits(groups: list[_Group]) -> list[list[_Group]]:
    """Groups by study: that of their UIDs, or of several UIDs that are one study."""
    first: dict[StudyKey, StudyKey] = {}

    def study_of(key: StudyKey) -> StudyKey:
        while first.setdefault(key, key) != key:
            key = first[key]
        return key

    for group in groups:  # a joined series may name several studies, and they may share others
        least, *others = sorted(map(study_of, group.studies))
        first.update(dict.fromkeys(others, least))
    by_study: dict[StudyKey, list[_Group]] = {}
    for group in groups:
        by_study.setdefault(study_of(min(group.studies)), []).append(group)
    apart = list(by_study.values())
    if len(apart) < 2:
        return apart
    buckets: dict[tuple[str, ...], list[list[_Group]]] = {}
    folders = Counter(_folder(group) for visit in apart for group in visit)
    for visit in apart:
        patient = _common(visit, "PatientID") or _common(visit, "PatientName")
        who = [patient, *(_common(visit, name) for name in _VISIT)]
        folder = _folder(visit[0])
        if folders[folder] == 1 and any((who[0], *who[2:])):
            folder = str(Path(folder).parent)  # a folder for each series
        # Where nobody has an identity or a date, the folder stands for it.
        buckets.setdefault((*who, "" if all(who[:2]) else folder), []).append(visit)
    return [
        visit
        for (patient, date, time, study_id, accession, _), together in buckets.items()
        for visit in _one_visit(
            together,
            known=bool(patient),
            timed=bool(time or study_id or accession),
            sure=bool(patient and date and (time or accession)),
        )
    ]


def _one_visit(
    visits: list[list[_Group]], *, known: bool, timed: bool, sure: bool
) -> list[list[_Group]]:
    """Studies of one series each that are one study, and the rest.

    Parameters
    ----------
    known : bool
        They name the same patient.
    timed : bool
        They name the same time, StudyID or AccessionNumber.
    sure : bool
        They name the same patient and date, and the same time or AccessionNumber.
    """
    images = [visit for visit in visits if _is_image(visit)]
    images.sort(key=lambda visit: (-len(visit), -_slices(visit), min(group.key for group in visit)))
    # Where UIDs and numbers were lost with the slice, T1 and T1C may have the same name within one visit.
    names = Counter(
        _series_name(group)
        for visit in images
        for group in visit
        if len(group.instances) > 1 and not (sure and group.key.joined > 1 and not group.key.number)
    )
    whole = sum(len(visit) > 1 for visit in images)
    if not images or whole > (1 if known or timed else 0) or max(names.values(), default=1) > 1:
        return visits  # several visits, or it cannot be told which series is whose
    study = list(images[0])
    spoilt = any(len(group.studies) > 1 for group in study)
    worlds = {
        world
        for group in study
        if len(named := _values(group, "FrameOfReferenceUID")) == 1
        for world in named
    }
    box = _box(study)
    apart = []
    for visit in images[1:]:
        mine = _values(visit[0], "FrameOfReferenceUID")
        # A frame of reference for each slice or series says nothing; then place has to.
        loose = sure or spoilt or len(mine) > 1
        if (len(mine) == 1 and mine <= worlds - {""}) or (loose and _overlap(box, _box(visit))):
            study += visit
        else:
            apart.append(visit)
    rest = [visit for visit in visits if not _is_image(visit)]
    if len({key for group in study for key in group.studies}) > 1 and not apart:
        # Reports, screenshots and the like go with them.
        return [[*study, *(group for visit in rest for group in visit)]]
    return [study, *apart, *rest]


def _slices(visit: list[_Group]) -> int:
    return sum(len(group.instances) for group in visit)


def _is_image(visit: list[_Group]) -> bool:
    return any(is_mr_image(group.instances[0]) for group in visit)


def _series_name(group: _Group) -> tuple[str, ...]:
    first = group.instances[0]
    return _number(group), stored(first.header, "SeriesDescription"), *_protocol(first)


def _overlap(box: _Box | None, other: _Box | None) -> bool:
    if box is None or other is None:
        return False
    return bool((np.maximum(box[0], other[0]) <= np.minimum(box[1], other[1])).all())


def _box(visit: Iterable[_Group]) -> _Box | None:
    """The corners of all slices: lowest and highest coordinates, mm."""
    corners = []
    for instance in (instance for group in visit for instance in group.instances):
        position, turn, spacing = (
            np.array(numbers(stored(instance.header, name)))
            for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
        )
        if (position.size, turn.size, spacing.size) != (3, 6, 2):
            continue
        down = turn[3:] * spacing[0] * (number(stored(instance.header, "Rows")) or 0)
        across = turn[:3] * spacing[1] * (number(stored(instance.header, "Columns")) or 0)
        corners += [position, position + down, position + across, position + down + across]
    return (np.min(corners, axis=0), np.max(corners, axis=0)) if corners else None


def _common(visit: Iterable[_Group], keyword: str) -> str:
    """The one value that images have; ``""`` where they have several or none, or a time of 000000."""
    values = {value for group in visit for value in _values(group, keyword)}
    value = values.pop() if len(values) == 1 else ""
    return value if value.strip("0.") else ""


def _values(group: _Group, keyword: str) -> set[str]:
    """Of a series whose UIDs are sound the first image speaks for all."""
    images = group.instances if group.key.joined > 1 else group.instances[:1]
    return {_said(image, keyword) for image in images}


def patient_of(instance: Instance) -> str:
    """PatientID where it tells patients apart, else ``""``."""
    return _said(instance, "PatientID")


def _said(instance: Instance, keyword: str) -> str:
    # Not `stored`: a name is no list of letters. Some pad it with empty components.
    return str(instance.header.get(keyword) or "").casefold().strip().rstrip("^ ")
