"""A result folder back to the analysis it was written from (stage: write).

In: a folder that `analyze` wrote, and the study it was made from, whose pixels are not needed. Out: an
`Analysis` with the mask, findings, decision and provenance of the files, so that it can be written in
another form without running the network again. A folder that does not fit the study, or that somebody has
changed, is an error: nothing is guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import tifffile
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from gliosight.analysis import Analysis, Decision, Finding, Provenance, Status
from gliosight.errors import DamagedInputError, NothingReadableError, UnsupportedInputError
from gliosight.maps import Maps
from gliosight.study import Flag, Study
from gliosight.write.result import SCHEMA_VERSION
from gliosight.write.staging import LARGEST_RECORD, RESULT_FILE, safe_names


def read_record(folder: Path) -> dict[str, Any]:
    """What ``result.json`` of a result folder says.

    Raises
    ------
    NothingReadableError
        No result there.
    DamagedInputError
        It is none of ours, or not what was written.
    UnsupportedInputError
        It was written by a version with another schema.
    """
    path = folder / RESULT_FILE
    try:
        if path.stat().st_size > LARGEST_RECORD:
            raise _damaged("far larger than any result", RESULT_FILE)
        record = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise NothingReadableError(
            f"no result of gliosight there: {error.strerror}",
            where=folder.name or str(folder),
            remedy="give the folder that gliosight analyze wrote",
        ) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(f"not JSON: {error}", RESULT_FILE) from error
    if not isinstance(record, dict) or "schema_version" not in record:
        raise _damaged("no result of gliosight", RESULT_FILE)
    if record["schema_version"] != SCHEMA_VERSION:
        raise UnsupportedInputError(
            f"a result of schema {record['schema_version']}, this version reads {SCHEMA_VERSION}",
            where=RESULT_FILE,
            remedy="analyse the study again",
        )
    try:
        known = isinstance(record["study_id"], str) and isinstance(record["source"]["kind"], str)
        if record["source"]["kind"] == "dicom":
            known = known and isinstance(record["source"]["series"]["FLAIR"]["frames_digest"], str)
    except (KeyError, TypeError):
        known = False
    if not known:
        raise _damaged("not what gliosight writes", RESULT_FILE)
    return record


def read_analysis(folder: Path, study: Study) -> Analysis:
    """The analysis of a study, from its result folder.

    Parameters
    ----------
    folder : Path
    study : Study
        The study that was analysed; the values of its sequences are not looked at.

    Raises
    ------
    DamagedInputError
        The files do not fit the study or each other.
    NothingReadableError, UnsupportedInputError
        See `read_record`.
    """
    record = read_record(folder)
    try:
        return _analysis(folder, record, study)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DamagedInputError):
            raise
        raise _damaged(f"not what gliosight writes ({error})", RESULT_FILE) from error


def _analysis(folder: Path, record: Mapping[str, Any], study: Study) -> Analysis:
    status = Status(record["status"])
    if record["study_id"] != study.study_id:
        raise _damaged("the result is of another study", RESULT_FILE)
    mask = _volume(folder, study, "mask") > 0
    if int(mask.sum()) != (record["volume_px"] or 0):
        raise _damaged("the mask is not the one that the result describes", "mask")
    told = record["detection"]
    probabilities = np.array(
        [one["probability"] or 0.0 for one in told["slices"]], dtype=np.float32
    )
    if len(probabilities) != study.shape[0]:
        raise _damaged("another number of slices than the study has", RESULT_FILE)
    try:
        probability = _volume(folder, study, "probability").astype(np.float32)
    except NothingReadableError:
        # Written only where it was asked for; nothing that is exported without it needs it.
        probability = mask.astype(np.float32)
    origin = record["provenance"]
    return Analysis(
        study=study,
        maps=Maps(probability, probabilities),
        decision=Decision(
            mask=mask,
            slice_probabilities=probabilities,
            score=told["score"],
            score_threshold=told["score_threshold"],
            slice_threshold=told["threshold"],
            status=status,
            reason=record["reason"],
            rules=tuple(told["rules"]),
        ),
        findings=tuple(_finding(one) for one in record["findings"]),
        flags=tuple(Flag(**one) for one in record["flags"]),
        provenance=Provenance(
            version=origin["version"],
            model=origin["model"]["name"],
            model_sha256=origin["model"]["sha256"],
            engine=origin["engine"],
            precision=origin["precision"],
            channels=tuple(origin["channels"]),
            settings=origin["settings"],
            timings_ms=origin["timings_ms"],
            environment=origin["environment"],
        ),
    )


def _finding(told: Mapping[str, Any]) -> Finding:
    if np.shape(told["bounding_box_voxel"]) != (2, 3) or np.shape(told["centroid_voxel"]) != (3,):
        raise ValueError("a finding without a place")
    return Finding(**{one.name: _frozen(told[one.name]) for one in fields(Finding)})


def _frozen(value: Any) -> Any:
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value


def _volume(folder: Path, study: Study, name: str) -> NDArray[Any]:
    """Mask or probability on the study's grid, from NIfTI or from slices."""
    whole = folder / f"{name}.nii.gz"
    try:
        if whole.is_file():
            image = nibabel.load(whole)
            if image.shape != study.shape[::-1]:
                raise _damaged(f"its grid is not the study's {study.shape}", whole.name)
            return np.asarray(image.dataobj).transpose(2, 1, 0)
        names = [f"{one}_{name}.tif" for one in safe_names(study.slice_names)]
        if not (folder / name).is_dir():
            raise NothingReadableError(
                f"the result holds no {name}", where=folder.name, remedy="analyse the study again"
            )
        planes = [tifffile.imread(folder / name / one) for one in names]
    except (OSError, ValueError, EOFError, ImageFileError) as error:
        if isinstance(error, DamagedInputError | NothingReadableError):
            raise
        raise _damaged(f"it cannot be read: {error}", name) from error
    if any(one.shape != study.shape[1:] for one in planes):
        raise _damaged("its slices do not fit the study", name)
    return np.stack(planes)


def _damaged(what: str, where: str) -> DamagedInputError:
    return DamagedInputError(what, where=where, remedy="analyse the study again")
