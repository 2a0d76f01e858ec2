"""A result folder back to the analysis it was written from (stage: write).

From a folder that `analyze` wrote, and the study it was made from without its pixels, comes an `Analysis`
with the mask, findings, decision and provenance of the files, so that it can be written in another form
without running the network again. The files may have been changed by anybody: ``result.json`` has to fit its
schema, the mask has to be the one it describes, and the findings those of the mask.
"""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import tifffile
from numpy.typing import NDArray

from gliosight.analysis import Analysis, Decision, Finding, Provenance, Status
from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    NothingReadableError,
    UnsupportedInputError,
)
from gliosight.maps import Maps
from gliosight.study import Flag, Study
from gliosight.write.result import DIGITS, SCHEMA_VERSION, load_schema
from gliosight.write.staging import LARGEST_RECORD, RESULT_FILE, safe_names

# Larger numbers measure nothing.
LARGEST_NUMBER = 1e15
# Voxels of the largest mask that is read: ten times what any scanner makes.
LARGEST_MASK = 2**31
TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}


def read_record(folder: Path) -> dict[str, Any]:
    """What ``result.json`` of a result folder says.

    Raises
    ------
    NothingReadableError
        No result there.
    DamagedInputError
        gliosight did not write it, or it was changed since.
    UnsupportedInputError
        It was written by a version with another schema.
    """
    path = folder / RESULT_FILE
    try:
        if not stat.S_ISREG((status := path.stat()).st_mode):
            raise _damaged("no regular file", RESULT_FILE)
        if status.st_size > LARGEST_RECORD:
            raise _damaged("far larger than any result", RESULT_FILE)
        record = json.loads(path.read_text("utf-8"), parse_constant=_refuse_constant)
    except OSError as error:
        raise NothingReadableError(
            f"no result of gliosight there: {error.strerror}",
            where=folder.name or str(folder),
            remedy="give the folder that gliosight analyze wrote",
        ) from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, DamagedInputError):
            raise
        raise _damaged(f"not JSON: {error}", RESULT_FILE) from error
    version = record.get("schema_version") if isinstance(record, dict) else None
    if not isinstance(version, str) or not re.fullmatch(r"[0-9]{1,4}\.[0-9]{1,4}", version):
        raise _damaged("no result of gliosight", RESULT_FILE)
    if version != SCHEMA_VERSION:
        raise UnsupportedInputError(
            f"a result of schema {version}, this version reads {SCHEMA_VERSION}",
            where=RESULT_FILE,
            remedy="analyse the study again",
        )
    wrong = misfit(record, load_schema())
    if wrong is not None:
        raise _damaged(f"not what gliosight writes: {wrong}", RESULT_FILE)
    if record["source"]["kind"] == "dicom" and "FLAIR" not in record["source"]["series"]:
        raise _damaged("not what gliosight writes: source.series has no FLAIR", RESULT_FILE)
    return dict(record)


def misfit(value: Any, schema: Mapping[str, Any], path: str = "") -> str | None:
    """Where a JSON value does not fit a schema, by the keywords that ``result.schema.json`` uses.

    Parameters
    ----------
    value : object
        As `json.loads` gives it.
    schema : mapping
        JSON Schema 2020-12. Numbers have to be finite besides, and integers whole.
    path : str
        How the value is called, as in ``findings[0].side``.

    Returns
    -------
    str or None
        The first place and keyword; ``None`` if all fits.
    """
    kinds = schema.get("type", ())
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and not abs(value) < LARGEST_NUMBER:
        return f"{path} is not a number"
    sized = isinstance(value, str | list)
    checks = (
        ("type", not kinds or any(TYPES[one](value) for one in kinds)),
        ("enum", "enum" not in schema or value in schema["enum"]),
        ("const", "const" not in schema or value == schema["const"]),
        ("minimum", not number or value >= schema.get("minimum", value)),
        ("maximum", not number or value <= schema.get("maximum", value)),
        ("minLength", not sized or len(value) >= schema.get("minLength", 0)),
        ("minItems", not sized or len(value) >= schema.get("minItems", 0)),
        ("maxItems", not sized or len(value) <= schema.get("maxItems", len(value))),
        (
            "pattern",
            not isinstance(value, str) or re.search(schema.get("pattern", ""), value) is not None,
        ),
        ("anyOf", "anyOf" not in schema or _any_fits(value, schema["anyOf"])),
    )
    for keyword, fits in checks:
        if not fits:
            return f"{path or 'the whole'} ({keyword})"
    inside: list[tuple[Any, Mapping[str, Any], str]] = []
    if isinstance(value, list):
        inside = [(one, schema.get("items", {}), f"{path}[{k}]") for k, one in enumerate(value)]
    if isinstance(value, dict):
        missing = [key for key in schema.get("required", ()) if key not in value]
        if missing:
            return f"{path or 'the whole'} has no {missing[0]}"
        known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        for key, one in value.items():
            if key not in known and others is False:
                return f"{path or 'the whole'} has something else"
            inside.append((key, schema.get("propertyNames", {}), f"a name in {path}"))
            inside.append((one, known.get(key, others), f"{path}.{key}".lstrip(".")))
    for rule in schema.get("allOf", ()):
        holds = "if" not in rule or misfit(value, rule["if"]) is None
        inside.append((value, rule.get("then" if holds else "else", {}), path))
    # What the schema does not describe may be nested to any depth: it is not entered.
    wrong = (misfit(*one) for one in inside if one[1])
    return next((one for one in wrong if one is not None), None)


def _any_fits(value: Any, schemas: Sequence[Mapping[str, Any]]) -> bool:
    return any(misfit(value, one) is None for one in schemas)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


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
    if record["study_id"] != study.study_id:
        raise _damaged("the result is of another study", RESULT_FILE)
    mask = read_mask(folder, record, study)
    told = record["detection"]
    probabilities = np.array(
        [one["probability"] or 0.0 for one in told["slices"]], dtype=np.float32
    )
    # Written only where it was asked for; nothing that is exported needs it.
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
            status=Status(record["status"]),
            reason=record["reason"],
            rules=tuple(told["rules"]),
        ),
        findings=tuple(
            Finding(**{one.name: _frozen(finding[one.name]) for one in fields(Finding)})
            for finding in record["findings"]
        ),
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


def read_mask(
    folder: Path, record: Mapping[str, Any], study: Study | None = None
) -> NDArray[np.bool_]:
    """The mask of a result folder, (slices, rows, columns).

    Parameters
    ----------
    folder : Path
    record : mapping
        What `read_record` gave.
    study : Study, optional
        The study that was analysed; needed where the mask lies there as slices.

    Raises
    ------
    DamagedInputError
        The mask is missing, cannot be read, or is not the one that the record describes.
    """
    whole = folder / "mask.nii.gz"
    try:
        if study is None or whole.is_file():
            mask = _whole_mask(whole, len(record["detection"]["slices"]))
        else:
            names = [f"{one}_mask.tif" for one in safe_names(study.slice_names)]
            mask = np.stack([_plane(folder / "mask" / one, study.shape[1:]) for one in names])
    except (GliosightError, MemoryError):
        raise
    except Exception as error:  # whatever nibabel and tifffile raise for a broken file
        raise _damaged(f"it cannot be read: {type(error).__name__}", "mask") from error
    if study is not None and mask.shape != study.shape:
        raise _damaged(f"its grid is not the study's {study.shape}", "mask")
    areas = [one["area_px"] or 0 for one in record["detection"]["slices"]]
    boxes = np.array([one["bounding_box_voxel"] for one in record["findings"]]).reshape(-1, 2, 3)
    if (
        mask.sum(axis=(1, 2)).tolist() != areas
        or sum(areas) != (record["volume_px"] or 0)
        or _box(np.argwhere(mask), 1) != _box(boxes.reshape(-1, 3), 0)
    ):
        raise _damaged("the mask is not the one that the result describes", "mask")
    return mask


def _box(corners: NDArray[np.int64], beyond: int) -> list[list[int]] | None:
    """The smallest box round (n, 3) voxels, or none."""
    if len(corners) == 0:
        return None
    return [corners.min(axis=0).tolist(), (corners.max(axis=0) + beyond).tolist()]


def _whole_mask(path: Path, slices: int) -> NDArray[np.bool_]:
    image = nibabel.load(_regular(path))
    shape = (*image.shape, 1)[:3]
    size = math.prod(image.shape)
    if image.get_data_dtype().kind not in "biuf":
        raise _damaged(f"its voxels are of type {image.get_data_dtype()}", path.name)
    # Before anything of its size is allocated.
    if image.ndim < 2 or size != math.prod(shape) or shape[2] != slices or size > LARGEST_MASK:
        raise _damaged(f"its grid is {image.shape}, the result has {slices} slices", path.name)
    return np.asarray(image.dataobj).reshape(shape).transpose(2, 1, 0) > 0


def check_findings(analysis: Analysis, measured: Sequence[Finding]) -> None:
    """Compare findings of a file with those that the mask has by the study's geometry, and the verdict.

    Sides and probabilities cannot be measured without the pixels, and are believed.

    Raises
    ------
    DamagedInputError
        Anything differs.
    """
    score, threshold = analysis.decision.score, analysis.decision.score_threshold
    # Both are rounded; equal within the last digit they decide nothing.
    if score is not None and abs(score - threshold) > 10.0**-DIGITS:
        found = analysis.status is Status.FOUND
        if found != (score > threshold):
            raise _damaged("the score contradicts the status", RESULT_FILE)
    believed = ("side", "mean_probability", "peak_probability")
    for one, wanted in zip(analysis.findings, measured, strict=False):
        for field in fields(Finding):
            same = _same(getattr(one, field.name), getattr(wanted, field.name))
            if field.name not in believed and not same:
                raise _damaged(
                    f"{field.name} of finding {wanted.id} is not the mask's", RESULT_FILE
                )
    if len(analysis.findings) != len(measured):
        raise _damaged("the findings are not those of the mask", RESULT_FILE)


def _same(told: Any, found: Any) -> bool:
    if isinstance(told, tuple) and isinstance(found, tuple):
        return len(told) == len(found) and all(map(_same, told, found))
    if isinstance(told, float) or isinstance(found, float):
        numbers = told is not None and found is not None
        return numbers and math.isclose(told, found, rel_tol=1e-6, abs_tol=2 * 10.0**-DIGITS)
    return bool(told == found)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value


def _regular(path: Path) -> Path:
    """The path, if opening it cannot wait for ever."""
    if not path.is_file():
        raise _damaged("the result holds no such file", path.name)
    return path


def _plane(path: Path, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    with tifffile.TiffFile(_regular(path)) as file:
        page = file.pages[0]
        if page.shape != shape:  # before anything of its size is allocated
            raise _damaged("its slices do not fit the study", path.name)
        return np.asarray(page.asarray()) > 0


def _damaged(what: str, where: str) -> DamagedInputError:
    return DamagedInputError(what, where=where, remedy="analyse the study again")
