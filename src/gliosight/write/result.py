"""The answer for machines: ``result.json``, written and read again, and ``findings.csv`` (stage: write).

The JSON follows ``result.schema.json`` beside this file; docs/result.md explains it field by field. Numbers
that are not known are ``null``, never 0 and never left out.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import math
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from gliosight.analysis import (
    MASK_MEANING,
    RESEARCH_USE,
    Analysis,
    Decision,
    Finding,
    Outline,
    Provenance,
    Side,
    Status,
)
from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    NothingReadableError,
    UnsupportedInputError,
    printable,
)
from gliosight.flags import DOUBTS, flag
from gliosight.maps import Maps
from gliosight.study import Flag, Study
from gliosight.write.result_folder import LARGEST_RECORD, RESULT_FILE

SCHEMA_VERSION = "2.0"
# Digits kept of a number: more than any input holds, fewer than two machines agree on.
DIGITS = 6
# What is said of a mask does not hold for one that was changed since.
OF_THE_MASK = {*DOUBTS, "PROBABILITY_WITHOUT_MASK", "MASK_WITHOUT_PROBABILITY"} - {"UNUSUAL_INPUT"}
ANALYSE_AGAIN = "analyse the study again"
# A table program takes a cell that begins so for a formula.
FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def result_of(analysis: Analysis, files: Mapping[str, str]) -> dict[str, Any]:
    """The analysis as a JSON value; ``files`` are paths relative to the result folder, and what they are."""
    decision, study = analysis.decision, analysis.study
    # The mask of a study that was not assessed is empty, but measures nothing.
    assessed = analysis.status is not Status.NOT_ASSESSED
    pixel = None if study.geometry is None else study.geometry.pixel_area
    slices = [
        {
            "index": k,
            "name": study.slice_names[k],
            "probability": float(decision.slice_probabilities[k]) if assessed else None,
            "area_px": int(area) if assessed else None,
            "area_mm2": float(area * pixel) if assessed and pixel is not None else None,
        }
        for k, area in enumerate(analysis.areas_px)
    ]
    made_by = vars(analysis.provenance)
    low_ml, high_ml = analysis.volume_interval_ml or (None, None)
    low_px, high_px = analysis.volume_interval_px or (None, None)
    check = analysis.input_check
    result = {
        "schema_version": SCHEMA_VERSION,
        "research_use_only": RESEARCH_USE,
        "study_id": study.study_id,
        "status": decision.status.value,
        "reason": decision.reason,
        "detection": {
            "probability": decision.probability,
            "prevalence": decision.prevalence,
            "uncertain_from": decision.uncertain_from,
            "found_from": decision.found_from,
            "slice_threshold": decision.slice_threshold,
            "caveat": decision.caveat,
            "rules": list(decision.rules),
            "slices": slices,
        },
        "findings": [asdict(finding) for finding in analysis.findings],
        "volume_ml": analysis.volume_ml if assessed else None,
        "volume_low_ml": low_ml,
        "volume_high_ml": high_ml,
        "volume_px": analysis.volume_px if assessed else None,
        "volume_low_px": low_px,
        "volume_high_px": high_px,
        "input_check": {"level": check.level, "distance": check.distance},
        "review": {
            "doubt": decision.doubt,
            "softness": None if decision.outline is None else decision.outline.softness,
        },
        "mask_meaning": MASK_MEANING,
        "flags": [asdict(raised) for raised in analysis.flags],
        "source": {
            "kind": study.kind,
            "path": study.source.path,
            "series": {name.value: asdict(taken) for name, taken in study.source.series.items()},
        },
        "provenance": {
            "version": made_by["version"],
            "model": {"name": made_by["model"], "sha256": made_by["model_sha256"]},
            **{key: made_by[key] for key in ("engine", "precision", "channels", "settings")},
            **{key: made_by[key] for key in ("timings_ms", "environment")},
        },
        "files": dict(files),
    }
    return dict(rounded(result))


def write_result(result: Mapping[str, Any], path: Path) -> None:
    """Write ``result.json``; a number that is not finite is a bug and raises ``ValueError``."""
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    # A file name that is not UTF-8 holds lone surrogates, which are written as \\udcNN.
    path.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def read_result(folder: Path) -> dict[str, Any]:
    """What ``result.json`` of a result folder says, as far as DICOM objects are made of it.

    Raises
    ------
    NothingReadableError
        There is no result.
    DamagedInputError
        gliosight did not write it, or it was changed since.
    UnsupportedInputError
        A version with another schema wrote it.
    """
    path = folder / RESULT_FILE
    with _written_by_us():
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_RECORD:
                raise _damaged("no regular file, or far larger than any result")
            result: dict[str, Any] = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise NothingReadableError(
                f"no result of gliosight there: {error.strerror}",
                where=folder.name or str(folder),
                remedy="give the folder that gliosight analyze wrote",
            ) from error
        version = str(result["schema_version"])
        if re.fullmatch(r"[0-9]+\.[0-9]+", version) and version != SCHEMA_VERSION:
            raise UnsupportedInputError(
                f"a result of schema {version}, this version reads {SCHEMA_VERSION}",
                where=RESULT_FILE,
                remedy=ANALYSE_AGAIN,
            )
        made_by, source = result["provenance"], result["source"]
        texts = [result["study_id"], source["kind"], *made_by["channels"]]
        texts += [made_by[key] for key in ("version", "engine", "precision")]
        texts += [made_by["model"][key] for key in ("name", "sha256")]
        if source["kind"] == "dicom":
            texts.append(source["series"]["FLAIR"]["frames_digest"])
        if not all(isinstance(text, str) for text in texts):
            raise _damaged("not what gliosight writes")
        return result


def restore(
    result: Mapping[str, Any],
    study: Study,
    mask: NDArray[np.bool_],
    labels: NDArray[np.unsignedinteger[Any]],
    findings: tuple[Finding, ...],
    *,
    corrected: bool,
) -> Analysis:
    """The analysis that a result was written from, without its probability maps.

    Parameters
    ----------
    result : mapping
        What `read_result` gave.
    study : Study
        The study that was analysed.
    mask, labels, findings
        The result's mask, or one that was corrected since, measured by the study's geometry.
    corrected : bool
        Whether the mask may be another than the result's. Then its findings have no probability (NaN),
        and the analysis has the flag MASK_CORRECTED.

    Raises
    ------
    DamagedInputError
        The mask is not the one that the result describes, or the result contradicts itself.
    """
    with _written_by_us():
        detection, made_by = result["detection"], result["provenance"]
        status, probability = Status(result["status"]), detection["probability"]
        flags = tuple(Flag(**record) for record in result["flags"])
        records = {record["tracking_uid"]: record for record in result["findings"]}
        outline, caveat = None, str(detection["caveat"])
        # These UIDs are made from the mask's voxels.
        if [finding.tracking_uid for finding in findings] == list(records):
            findings = tuple(
                _recorded(finding, records[finding.tracking_uid]) for finding in findings
            )
            _check_status(status, detection, flags, marked=bool(findings))
            if findings and status not in (Status.FOUND, Status.UNCERTAIN):
                raise _damaged("the findings contradict the status")
            outline = _outline(result)
        elif corrected:
            status = Status.FOUND if findings else Status.NOT_FOUND
            probability, caveat = None, ""  # a person has decided
            message = "The mask was changed after the analysis; its probabilities are not known."
            flags = tuple(raised for raised in flags if raised.code not in OF_THE_MASK)
            flags = (*flags, flag("MASK_CORRECTED", message))
        else:
            raise _damaged("the mask is not the one that the result describes", "mask")
        unknown = np.full(study.shape[0], np.nan, np.float32)
        decision = Decision(
            mask=mask,
            slice_probabilities=unknown,
            probability=probability,
            prevalence=detection["prevalence"],
            uncertain_from=float(detection["uncertain_from"]),
            found_from=float(detection["found_from"]),
            slice_threshold=float(detection["slice_threshold"]),
            status=status,
            reason=result["reason"],
            rules=tuple(detection["rules"]),
            outline=outline,
            caveat=caveat,
        )
        provenance = Provenance(
            version=made_by["version"],
            model=made_by["model"]["name"],
            model_sha256=made_by["model"]["sha256"],
            engine=made_by["engine"],
            precision=made_by["precision"],
            channels=tuple(made_by["channels"]),
            settings=dict(made_by["settings"]),
        )
        maps = Maps(np.broadcast_to(np.float32(np.nan), study.shape), unknown)
        return Analysis(study, maps, decision, labels, findings, flags, provenance)


def _check_status(
    status: Status, detection: Mapping[str, Any], flags: tuple[Flag, ...], *, marked: bool
) -> None:
    """Refuse a status that does not follow from the probability and its bounds."""
    probability, prevalence = detection["probability"], detection["prevalence"]
    low, high = detection["uncertain_from"], detection["found_from"]
    if (probability is None) is not (status is Status.NOT_ASSESSED):
        raise _damaged("the probability contradicts the status")
    if not 0 <= low <= high <= 1 or not (prevalence is None or 0 < prevalence < 1):
        raise _damaged("not what gliosight writes")
    if probability is None:
        return
    # All are rounded; equal within the last digit they decide nothing.
    exact = 10.0**-DIGITS
    fits = {
        Status.NOT_FOUND: 0 <= probability < low + exact,
        Status.UNCERTAIN: low - exact <= probability < high + exact,
        Status.FOUND: high - exact <= probability <= 1,
    }
    by_share = not marked or (prevalence is not None and probability < prevalence + exact)
    doubted = status is Status.UNCERTAIN and (
        by_share or any(raised.code in DOUBTS for raised in flags)
    )
    if not fits[status] and not (doubted and 0 <= probability <= 1):
        raise _damaged("the probability contradicts the status")


def _outline(result: Mapping[str, Any]) -> Outline | None:
    """How sure the outline was, as far as the result says."""
    softness = result["review"]["softness"]
    unit = "px" if result["volume_ml"] is None else "ml"
    low, volume, high = (result[f"volume_{part}{unit}"] for part in ("low_", "", "high_"))
    if softness is None:
        return None
    if low is None or high is None or not volume:
        return Outline(float(softness))
    if not 0 <= low <= volume <= high < math.inf:
        raise _damaged("the volume lies outside its interval")
    return Outline(float(softness), low / volume, high / volume)


def _recorded(finding: Finding, record: Mapping[str, Any]) -> Finding:
    """A finding with the side and the probabilities that its record has: they need the pixels."""
    values = {key: record[key] for key in ("probability", "mean_probability", "peak_probability")}
    mean, peak = values["mean_probability"], values["peak_probability"]
    if record["side"] not in get_args(Side) or not (
        0 <= mean <= peak <= 1 and 0 <= values["probability"] <= 1
    ):
        raise _damaged("not what gliosight writes")
    return replace(finding, side=record["side"], **values)


@contextlib.contextmanager
def _written_by_us() -> Iterator[None]:
    """Whatever the values of a result raise means that gliosight did not write it."""
    try:
        yield
    except (GliosightError, MemoryError):
        raise
    except Exception as error:  # JSON of any shape can be there
        raise _damaged("not what gliosight writes") from error


def _damaged(what: str, where: str = RESULT_FILE) -> DamagedInputError:
    return DamagedInputError(what, where=where, remedy=ANALYSE_AGAIN)


def load_schema() -> dict[str, Any]:
    """The JSON Schema of ``result.json``."""
    text = resources.files("gliosight.write").joinpath("result.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def answer_schema() -> dict[str, Any]:
    """The JSON Schema of what ``analyze`` and ``demo`` print with ``--json``."""
    study = load_schema()
    dialect = study.pop("$schema")
    del study["$id"]
    study["title"] = "one study: what result.json says, and where it is"
    study["required"] = ["out", *study["required"]]
    text_or_null = {"type": ["string", "null"]}
    study["properties"] |= {
        "out": {"type": "string", "description": "The result folder."},
        "truth": _object(
            "Of demo: the synthetic lesion.",
            volume_ml={"type": "number", "description": "Its true volume, ml."},
            dice={
                "type": ["number", "null"],
                "description": "Overlap of the mask with it; null where both are empty.",
            },
        ),
    }
    kinds = GliosightError.__subclasses__()
    error: dict[str, dict[str, Any]] = {
        "kind": {"enum": [kind.kind for kind in kinds], "description": "The class of the error."},
        "exit_code": {
            "enum": [kind.exit_code for kind in kinds],
            "description": "The exit code of this kind.",
        },
        "what": {"type": "string", "description": "What is wrong."},
        "where": {**text_or_null, "description": "File, series or option; relative to the input."},
        "remedy": {**text_or_null, "description": "What to do."},
    }
    failed = {"type": "string", "description": "The study, or the folder of its result."}
    several = _object(
        "Several studies.",
        studies={
            "type": "array",
            "items": {"$ref": "#/$defs/study"},
            "description": "Those that were analysed.",
        },
        errors={
            "type": "array",
            "items": _object("What failed.", study=failed, **error),
            "description": "Those that failed, and DICOM objects that were not written.",
        },
    )
    failure = _object("No answer.", error=_object("What is wrong.", **error))
    return {
        "$schema": dialect,
        "$id": f"urn:gliosight:answer:{SCHEMA_VERSION}",
        "title": "what gliosight analyze and demo print with --json",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in ("study", "several", "failure")],
        "$defs": {"study": study, "several": several, "failure": failure},
    }


def _object(description: str, **properties: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an object with just these fields."""
    return {
        "type": "object",
        "description": description,
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


# Columns of findings.csv for the fields of `Finding` that have several values.
_SPREAD = {
    "centroid_voxel": ("centroid_slice", "centroid_row", "centroid_column"),
    "centroid_mm": ("centroid_x_mm", "centroid_y_mm", "centroid_z_mm"),
    "bounding_box_voxel": (
        *("box_slice_from", "box_row_from", "box_column_from"),
        *("box_slice_to", "box_row_to", "box_column_to"),
    ),
    "slices": ("first_slice", "last_slice"),
}


def write_findings(analysis: Analysis, path: Path) -> None:
    """Write ``findings.csv``: one row per finding, tuples spread over columns, unknown values empty."""
    columns = {field.name: _SPREAD.get(field.name, (field.name,)) for field in fields(Finding)}
    rows = []
    for finding in analysis.findings:
        row: dict[str, Any] = {"study_id": analysis.study.study_id}
        for name, value in asdict(finding).items():
            row.update(zip(columns[name], np.ravel(value).tolist(), strict=value is not None))
        rows.append(row)
    write_table(rows, ["study_id", *itertools.chain(*columns.values())], path)


def write_table(rows: list[dict[str, Any]], header: list[str], path: Path) -> None:
    """Write a CSV table that a table program and a terminal can show without obeying anything in it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        for row in rows:
            writer.writerow({key: _cell(row.get(key)) for key in header})


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        # Control codes, and characters that turn the text round, are made visible.
        text = printable(value)
        return "'" + text if text.startswith(FORMULA) else text
    return rounded(value)


def rounded(value: Any) -> Any:
    """A JSON value whose numbers have `DIGITS` digits behind the point, and no negative zero."""
    if isinstance(value, float):
        return round(value, DIGITS) + 0.0
    if isinstance(value, Mapping):
        return {str(key): rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return value
