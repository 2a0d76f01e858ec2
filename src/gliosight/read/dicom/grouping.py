"""Which instances are one study and which are one series (read stage, DICOM, below `series`).

In: the instances of a folder tree. Out: for each `StudyKey` its groups of instances, one for each series.
UIDs decide where there are any (PS3.3 sections C.7.2.1, C.7.3.1). Some exports give one UID to several
patients, or to all series of a study; others have none: then patient, date and number tell what is apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gliosight.read.dicom.elements import stored
from gliosight.read.dicom.instances import Instance

# As long as there are this many images to a SeriesNumber, it counts series and not images.
IMAGES_TO_A_NUMBER = 2


class StudyKey(NamedTuple):
    """What the instances of a study have in common.

    Parameters
    ----------
    uid : str
        StudyInstanceUID; ``""`` for those without.
    patient : str
        PatientID, or PatientName where none has an id, if the UID alone would mix patients; else ``""``.
    date : str
        StudyDate, where there is no UID; else ``""``.
    """

    uid: str
    patient: str = ""
    date: str = ""


class SeriesKey(NamedTuple):
    """What the stacks of a series have in common, and nothing else of its study has.

    Parameters
    ----------
    uid : str
        SeriesInstanceUID; ``""`` for those without.
    number : str
        SeriesNumber, where the UID alone would mix series; else ``""``.
    """

    uid: str
    number: str = ""


Groups = dict[SeriesKey, list[Instance]]


def group_instances(instances: Iterable[Instance]) -> dict[StudyKey, Groups]:
    """Sort instances into studies and series, each in the order in which it is first met."""
    by_uid: dict[StudyKey, list[Instance]] = {}
    for one in instances:
        uid = stored(one.header, "StudyInstanceUID")
        key = StudyKey(uid, date="" if uid else stored(one.header, "StudyDate"))
        by_uid.setdefault(key, []).append(one)
    studies: dict[StudyKey, list[Instance]] = {}
    for key, together in by_uid.items():
        # Names only where nobody has an id: of one patient they are spelt in many ways.
        known = [
            name
            for name in ("PatientID", "PatientName")
            if any(_said(one, name) for one in together)
        ]
        patients = {_said(one, known[0]) for one in together} - {""} if known else set()
        for one in together:
            # Files without any id may well be the one patient's; with several patients, nobody knows.
            whose = _said(one, known[0]) if len(patients) > 1 else ""
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


def patient_of(instance: Instance) -> str:
    """PatientID, as far as it tells patients apart; ``""`` where there is none."""
    return _said(instance, "PatientID")


def _said(instance: Instance, keyword: str) -> str:
    # Not `stored`: a name is no list of letters. Some pad it with empty components.
    return str(instance.header.get(keyword) or "").casefold().strip().rstrip("^ ")
