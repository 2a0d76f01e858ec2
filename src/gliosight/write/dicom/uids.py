"""UIDs of our DICOM objects, made from their content (stage: write); apart, since every object needs them.

UIDs under ``2.25.`` (PS3.5, B.2) from a UUIDv5 of the source's SOP instances and frames, the mask, the model,
the version, the settings and the kind of object. Two runs agree, so a result that is sent twice is stored
once; another threshold, model or version gives others. Engine and precision count, since they change the last
digits; threads do not. Numbers are rounded as in ``result.json``, so that a result read from there gives the
same UIDs.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass

import numpy as np

from gliosight.analysis import Analysis
from gliosight.write.dicom.source import dicom_source
from gliosight.write.result import rounded


@dataclass(frozen=True)
class Uids:
    """The UIDs of one of our objects."""

    instance: str
    series: str
    dimensions: str  # Dimension Organization UID
    group: str  # tracking UID of a report's study-level measurement group


def uids_of(analysis: Analysis, kind: str) -> Uids:
    """The UIDs of the object of a kind, such as ``segmentation``, that belongs to an analysis."""
    source, made_by = dicom_source(analysis.study), analysis.provenance
    content = {
        "frames": [
            [str(source.headers[index].SOPInstanceUID), number] for index, number in source.frames
        ],
        "shape": list(analysis.study.shape),
        "mask": hashlib.sha256(np.packbits(analysis.mask).data).hexdigest(),
        "status": analysis.status.value,
        "model": made_by.model_sha256,
        "version": made_by.version,
        "engine": [made_by.engine, made_by.precision],
        "channels": list(made_by.channels),
        "settings": rounded({k: v for k, v in made_by.settings.items() if k != "threads"}),
    }
    text = json.dumps(content, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    parts = ("instance", "series", "dimensions", "group")
    return Uids(*(uid_from(f"{digest}/{kind}/{part}") for part in parts))


def uid_from(name: str) -> str:
    """A UID that is always the same for the same text."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"
