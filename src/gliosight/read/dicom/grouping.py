"""Which instances are one study and which are one series (read stage, DICOM).

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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gliosight.read.dicom.acquisition import frame_count, frames_of
from gliosight.read.dicom.elements import number, numbers, stored
from gliosight.read.dicom.instances import Instance, is_mr_image
from gliosight.read.dicom.split import MM_APART, by_key, why_no_stack

# As long as there are this many images to a SeriesNumber, it counts series and not images.
IMAGES_TO_A_NUMBER = 2
# So many images or pieces are one series also where little but their place says so.
LEAST_UNSURE = 3
# More slices are no stack of one head, and it is not looked whether they are.
MOST_SLICES = 1000

# Images of one series have the same values of these, and times that agree in two digits.
_PROTOCOL = ("SOPClassUID", "Modality", "Rows", "Columns", "ScanningSequence", "ContrastBolusAgent")
_TIMES = ("RepetitionTime", "EchoTime", "InversionTime")
# Two series of one visit do not contradict each other in these.
_VISIT = ("StudyDate", "StudyTime", "StudyID", "AccessionNumber")
# What tells series apart, unless it changes with the slice; and the pieces of several stacks, in which
# SeriesNumber is that of the series.
FOLDER = "folder"
_SERIES_APART = (
    "SeriesTime",
    "SeriesDescription",
    "ProtocolName",
    "StudyID",
    "AccessionNumber",
    "SeriesNumber",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    FOLDER,
)
_PIECES_APART = ("SeriesDescription", FOLDER, "SeriesNumber", "SeriesTime")
_POSITION, _ORIENTATION = "ImagePositionPatient", "ImageOrientationPatient"


class StudyKey(NamedTuple):
    """What the instances of a study have in common."""

    uid: str  # StudyInstanceUID, the first in their order where several are joined; "" for those without
    # PatientID, or PatientName where none has an id, if the UID alone would mix patients.
    patient: str = ""
    date: str = ""  # StudyDate, where there is no UID
    joined: int = 1  # how many StudyInstanceUIDs are taken for one


class SeriesKey(NamedTuple):
    """What the stacks of a series have in common, and nothing else of its study has."""

    uid: str  # SeriesInstanceUID, the first in their order where several are joined; "" for those without
    number: str = ""  # SeriesNumber, where the UID alone would mix series
    joined: int = 1  # how many groups that name another study or series are taken for one
    # Why it cannot be analysed although it looks like one series; "": nothing speaks against it yet.
    refusal: str = ""


@dataclass(frozen=True)
class _Group:
    """Instances of one series, and the studies that they name."""

    studies: frozenset[StudyKey]
    key: SeriesKey
    instances: tuple[Instance, ...]

    def value(self, keyword: str) -> str:
        """Of the first instance; ``FOLDER`` stands for its folder, where nothing else says whose it is."""
        if keyword != FOLDER:
            return stored(self.instances[0].header, keyword)
        patient = self.identity("PatientID") or self.identity("PatientName")
        return "" if patient and self.identity("StudyDate") else str(self.folder)

    def identity(self, keyword: str) -> str:
        """Of the first instance, by what tells people and visits apart."""
        return _identity(self.instances[0], keyword)

    def identities(self, keyword: str) -> set[str]:
        """Of a series whose UIDs are sound the first image speaks for all."""
        images = self.instances if self.key.joined > 1 else self.instances[:1]
        return {_identity(image, keyword) for image in images}

    @property
    def number(self) -> str:
        """SeriesNumber; ``""`` where it changes with the slice."""
        return self.key.number if self.key.joined > 1 else self.value("SeriesNumber")

    @property
    def folder(self) -> Path:
        return self.instances[0].path.parent


Groups = list[_Group]


def group_instances(
    instances: Iterable[Instance],
) -> dict[StudyKey, dict[SeriesKey, list[Instance]]]:
    """Sort instances into studies and series, whatever their order."""
    groups = [
        _Group(frozenset({study}), series, tuple(images))
        for study, together in _by_study(instances).items()
        for series, images in _by_series(together).items()
    ]
    if len(groups) > 1:
        groups = _joined_pieces(_joined_slices(groups))
    studies: dict[StudyKey, dict[SeriesKey, list[Instance]]] = {}
    for visit in _visits(groups):
        keys = frozenset().union(*(group.studies for group in visit))
        study = min(keys)._replace(joined=len(keys))
        for group in visit:
            studies.setdefault(study, {}).setdefault(group.key, []).extend(group.instances)
    return studies


def _by_study(instances: Iterable[Instance]) -> dict[StudyKey, list[Instance]]:
    def key_of(image: Instance) -> StudyKey:
        uid = stored(image.header, "StudyInstanceUID")
        return StudyKey(uid, date="" if uid else stored(image.header, "StudyDate"))

    studies: dict[StudyKey, list[Instance]] = {}
    for key, together in by_key(instances, key_of).items():
        keyword = _patient_keyword(together)
        # Files without any id may well be the one patient's; with several patients, nobody knows.
        several = len({_identity(image, keyword) for image in together} - {""}) > 1
        for image in together:
            whose = _identity(image, keyword) if several else ""
            studies.setdefault(key._replace(patient=whose), []).append(image)
    return studies


def _by_series(instances: Iterable[Instance]) -> dict[SeriesKey, list[Instance]]:
    series: dict[SeriesKey, list[Instance]] = {}
    by_uid = by_key(instances, lambda image: stored(image.header, "SeriesInstanceUID"))
    for uid, together in by_uid.items():
        by_number = by_key(together, lambda image: stored(image.header, "SeriesNumber"))
        if uid and not 1 < len(by_number) <= len(together) / IMAGES_TO_A_NUMBER:
            by_number = {"": together}
        series |= {SeriesKey(uid, number): images for number, images in by_number.items()}
    return series


def _patient_keyword(instances: Iterable[Instance]) -> str:
    """What tells patients apart: names only where nobody has an id, since they are spelt in many ways."""
    return "PatientID" if any(map(patient_of, instances)) else "PatientName"


def patient_of(instance: Instance) -> str:
    """PatientID where it tells patients apart, else ``""``."""
    return _identity(instance, "PatientID")


def _identity(instance: Instance, keyword: str) -> str:
    # Not `stored`: a name is no list of letters. Some pad it with empty components.
    return str(instance.header.get(keyword) or "").casefold().strip().rstrip("^ ")


def _protocol(instance: Instance) -> tuple[str, ...]:
    times = (number(stored(instance.header, keyword)) for keyword in _TIMES)
    return (
        *(stored(instance.header, keyword) for keyword in _PROTOCOL),
        *("" if time is None else f"{time:.2g}" for time in times),
    )


def _has_one_place(instances: Sequence[Instance]) -> bool:
    """Whether these are classic MR images of a single place."""
    first = [stored(instances[0].header, keyword) for keyword in (_POSITION, _ORIENTATION)]
    if len(instances) > 1 and not first[0]:
        return False
    return all(
        [stored(image.header, keyword) for keyword in (_POSITION, _ORIENTATION)] == first
        and is_mr_image(image)
        and "PerFrameFunctionalGroupsSequence" not in image.header
        and frame_count(image) == 1
        for image in instances
    )


# UIDs that change with the slice.


def _joined_slices(groups: Groups) -> Groups:
    """Join groups of one place each to the series that they are."""
    by_place = by_key(groups, lambda group: _has_one_place(group.instances))
    joined, single = by_place.get(False, []), by_place.get(True, [])
    for slices in by_key(single, lambda group: min(map(_protocol, group.instances))).values():
        parts = [slices]
        for keyword in _SERIES_APART:
            parts = [new for part in parts for new in _told_apart(part, keyword)]
        for part in parts:
            for visit, refusal in _of_one_visit(part):
                joined += _joined(visit, refusal)
    return joined


def _told_apart(slices: Groups, keyword: str) -> list[Groups]:
    """Parts by a value, unless it changes with the slice, maybe alike in several series."""
    parts = list(by_key(slices, methodcaller("value", keyword)).values())
    least = IMAGES_TO_A_NUMBER * len(parts)
    places = {
        (group.value(keyword), group.value(_ORIENTATION), group.value(_POSITION) or str(group.key))
        for group in slices
    }
    # Stacks in several planes whose slices are numbered alike; localizers have few slices in each plane.
    within: Counter[str] = Counter()
    for (text, _), count in Counter(place[:2] for place in places).items():
        within[text] = max(within[text], count)
    most = max(Counter(plane for plane, _ in {place[1:] for place in places}).values())
    in_planes = within.total() < least and most >= max(LEAST_UNSURE, len(parts))
    return [slices] if len(places) < least or in_planes else parts


def _of_one_visit(slices: Groups) -> list[tuple[Groups, str]]:
    """Parts of one patient and visit, each with the reason why it is not taken for a series, if any.

    Whose images they are is never guessed: a patient or a date for each slice of one stack is refused.
    """
    parts = [(slices, "")]
    whose = _patient_keyword(group.instances[0] for group in slices)
    for keyword, plural in {whose: "patients", "StudyDate": "dates", "StudyTime": "times"}.items():
        new: list[tuple[Groups, str]] = []
        for part, refusal in parts:
            by_value = by_key(part, methodcaller("identity", keyword))
            # Whether about every slice or piece has a value of its own.
            sure = _in_one_world(part) and any(len(group.instances) > 1 for group in part)
            enough = len(part) >= (2 if sure else LEAST_UNSURE)
            each = enough and len(by_value) > len(part) / IMAGES_TO_A_NUMBER
            if each and not _why_no_stack(part):
                new.append((part, refusal or f"they name {len(by_value)} {plural}"))
            else:
                new += [(together, refusal) for together in by_value.values()]
        parts = new
    return parts


def _in_one_world(groups: Groups) -> bool:
    worlds = {world for group in groups for world in group.identities("FrameOfReferenceUID")}
    return len(worlds) == 1 and "" not in worlds


def _joined(pieces: Groups, refusal: str) -> Groups:
    """One series, if there are several pieces, or number or frame of reference agree and one thing more."""
    numbers: Counter[str] = Counter()
    for piece in pieces:
        numbers[piece.number] += sum(map(frame_count, piece.instances))
    studies = {piece.studies for piece in pieces}
    named = not pieces[0].value(FOLDER)
    firm = (len(numbers) == 1) + _in_one_world(pieces)
    sure = firm and firm + (len(studies) == 1) + named > 1
    count = sum(piece.key.joined for piece in pieces)
    if len(pieces) < 2 or count < (2 if sure else LEAST_UNSURE):
        return pieces
    counts_series = len(numbers) == 1 or numbers.total() >= IMAGES_TO_A_NUMBER * len(numbers)
    usual = min(numbers, key=lambda text: (-numbers[text], len(text), text))
    uid = min(piece.key for piece in pieces).uid
    key = SeriesKey(uid, usual if counts_series else "", count, refusal)
    images = tuple(image for piece in pieces for image in piece.instances)
    return [_Group(frozenset().union(*studies), key, images)]


# Stacks in pieces.


def _joined_pieces(groups: Groups) -> Groups:
    """Join pieces of one protocol and visit that together are one stack, whatever they name."""
    may_be = by_key(groups, lambda g: not g.key.refusal and is_mr_image(g.instances[0]))
    joined, pieces = may_be.get(False, []), may_be.get(True, [])
    for alike in by_key(pieces, lambda group: _protocol(group.instances[0])).values():
        for visit, refusal in _of_one_visit(alike):
            joined += _of_one_stack(visit, refusal, _PIECES_APART)
    return joined


def _of_one_stack(pieces: Groups, refusal: str, apart: Sequence[str]) -> Groups:
    """One series, where the pieces are one stack; else those of each description, folder, number, time."""
    if len(pieces) < 2:
        return pieces
    why = _why_no_stack(pieces)
    if not why:
        return _joined(pieces, refusal)
    if not apart:
        # Parts of one scan with a gap between them: `series` refuses them together.
        cut = why.endswith(MM_APART) and pieces[0].number and _in_one_world(pieces)
        return _joined(pieces, refusal) if cut else pieces
    keyword = apart[0]
    by_value = by_key(pieces, lambda g: g.number if keyword == "SeriesNumber" else g.value(keyword))
    return [new for part in by_value.values() for new in _of_one_stack(part, refusal, apart[1:])]


def _why_no_stack(pieces: Groups) -> str:
    images = [
        image
        for piece in pieces
        for image in piece.instances[: 1 if _has_one_place(piece.instances) else None]
    ]
    if sum(map(frame_count, images)) > MOST_SLICES:
        return "they are too many for one head"
    return why_no_stack([frame for image in images for frame in frames_of(image)])


# A study for each series.


def _visits(groups: Groups) -> list[Groups]:
    """Groups by study: that of their UIDs, or of several UIDs that are one study."""
    first: dict[StudyKey, StudyKey] = {}

    def study_of(key: StudyKey) -> StudyKey:
        while first.setdefault(key, key) != key:
            key = first[key]
        return key

    for group in groups:  # a joined series may name several studies, and they may share others
        least, *others = sorted(map(study_of, group.studies))
        first.update(dict.fromkeys(others, least))
    visits = list(by_key(groups, lambda group: study_of(min(group.studies))).values())
    if len(visits) < 2:
        return visits
    folders = Counter(group.folder for group in groups)

    def identity(visit: Groups) -> tuple[str, ...]:
        patient = _common(visit, "PatientID") or _common(visit, "PatientName")
        date, *others = (_common(visit, keyword) for keyword in _VISIT)
        folder = visit[0].folder
        if folders[folder] == 1 and (patient or any(others)):
            folder = folder.parent  # a folder for each series
        # Where nobody has an identity or a date, the folder stands for it.
        return patient, date, *others, "" if patient and date else str(folder)

    return [
        visit
        for who, alike in by_key(visits, identity).items()
        for visit in _one_visit(alike, *who[:5])
    ]


def _one_visit(
    visits: list[Groups], patient: str, date: str, time: str, study_id: str, accession: str
) -> list[Groups]:
    """Studies of one series each that are one study, and the rest; all have these values in common."""
    images = [visit for visit in visits if _shows_mr(visit)]
    counts = {id(visit): sum(len(group.instances) for group in visit) for visit in images}
    images.sort(key=lambda v: (-len(v), -counts[id(v)], min(group.key for group in v)))
    sure = bool(patient and date and (time or accession))
    # Where UIDs and numbers were lost with the slice, T1 and T1C may have the same name within one visit.
    names = Counter(
        (group.number, group.value("SeriesDescription"), *_protocol(group.instances[0]))
        for visit in images
        for group in visit
        if len(group.instances) > 1 and not (sure and group.key.joined > 1 and not group.key.number)
    )
    known = bool(patient or time or study_id or accession)
    whole = sum(len(visit) > 1 for visit in images)
    if not images or whole > known or max(names.values(), default=1) > 1:
        return visits  # several visits, or it cannot be told which series is whose
    study = list(images[0])
    spoilt = any(len(group.studies) > 1 for group in study)
    named = [group.identities("FrameOfReferenceUID") for group in study]
    worlds = {world for several in named if len(several) == 1 for world in several} - {""}
    box = _box(study)
    apart = []
    for visit in images[1:]:
        mine = visit[0].identities("FrameOfReferenceUID")
        # A frame of reference for each slice or series is ignored; then positions decide.
        loose = sure or spoilt or len(mine) > 1
        if (len(mine) == 1 and mine <= worlds) or (loose and _overlap(box, _box(visit))):
            study += visit
        else:
            apart.append(visit)
    rest = [visit for visit in visits if not _shows_mr(visit)]
    if len({key for group in study for key in group.studies}) > 1 and not apart:
        # Reports, screenshots and the like go with them.
        return [[*study, *(group for visit in rest for group in visit)]]
    return [study, *apart, *rest]


def _shows_mr(visit: Groups) -> bool:
    return any(is_mr_image(group.instances[0]) for group in visit)


def _common(visit: Groups, keyword: str) -> str:
    """The one value that images have; ``""`` where they have several or none, or a time of 000000."""
    values = {value for group in visit for value in group.identities(keyword)}
    value = values.pop() if len(values) == 1 else ""
    return value if value.strip("0.") else ""


def _overlap(box: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return bool((np.maximum(box[0], other[0]) <= np.minimum(box[1], other[1])).all())


def _box(visit: Groups) -> NDArray[np.float64]:
    """Lowest and highest coordinates of the corners of all slices, mm; NaN where they have no place."""
    corners = []
    for header in (image.header for group in visit for image in group.instances):
        position, turn, spacing = (
            np.array(numbers(stored(header, keyword)))
            for keyword in (_POSITION, _ORIENTATION, "PixelSpacing")
        )
        if (position.size, turn.size, spacing.size) != (3, 6, 2):
            continue
        down = turn[3:] * spacing[0] * (number(stored(header, "Rows")) or 0)
        across = turn[:3] * spacing[1] * (number(stored(header, "Columns")) or 0)
        corners += [position, position + down, position + across, position + down + across]
    return np.array(
        [np.min(corners, axis=0), np.max(corners, axis=0)] if corners else [[np.nan] * 3] * 2
    )
