"""UIDs of our DICOM objects, made from what went into them (stage: write).

In: an `Analysis`. Out: UIDs under ``2.25.`` (PS3.5, B.2) from a UUIDv5 of the source's SOP instances and
frames, the mask, the model, the version, the settings and the kind of object. Two runs of the same thing
agree, so a result that is sent twice is stored once; another threshold, model or version gives others.

Threads are no part of it: they change the time, not the answer. Engine and precision are: they change the
last digits. Numbers are rounded as in ``result.json``, so that a result read back from there gives the same
UIDs.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gliosight.analysis import Analysis
from gliosight.write.result import DIGITS

# Settings that change nothing in the answer.
WITHOUT_EFFECT = ("threads",)


@dataclass(frozen=True)
class Uids:
    """The UIDs of one of our objects.

    Parameters
    ----------
    instance, series, dimensions, group : str
        SOP Instance UID, Series Instance UID, Dimension Organization UID, and the tracking UID of a
        report's study-level measurement group.
    """

    instance: str
    series: str
    dimensions: str
    group: str


def uids_of(analysis: Analysis, kind: str) -> Uids:
    """The UIDs of the object of a kind, such as ``segmentation``, that belongs to an analysis."""
    origin = _digest(analysis)
    parts = ("instance", "series", "dimensions", "group")
    return Uids(*(uid_from(f"{origin}/{kind}/{part}") for part in parts))


def device_uid(analysis: Analysis) -> str:
    """The UID of the observer: this version with this model, on whatever machine it ran."""
    made_by = analysis.provenance
    return uid_from(f"gliosight/{made_by.version}/{made_by.model_sha256}")


def uid_from(name: str) -> str:
    """A UID that is always the same for the same text."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"


def _digest(analysis: Analysis) -> str:
    source = analysis.study.source["dicom"]
    made_by = analysis.provenance
    frames = [[str(source.headers[one].SOPInstanceUID), number] for one, number in source.frames]
    settings = {key: value for key, value in made_by.settings.items() if key not in WITHOUT_EFFECT}
    mask = hashlib.sha256(np.packbits(analysis.mask).tobytes()).hexdigest()
    what = {
        "frames": frames,
        "shape": list(analysis.study.shape),
        "mask": mask,
        "status": analysis.status.value,
        "model": made_by.model_sha256,
        "version": made_by.version,
        "engine": [made_by.engine, made_by.precision],
        "channels": list(made_by.channels),
        "settings": _rounded(settings),
    }
    text = json.dumps(what, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS) + 0.0
    if isinstance(value, Mapping):
        return {str(key): _rounded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(one) for one in value]
    return value
