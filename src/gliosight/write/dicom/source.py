"""What our DICOM objects take from their source: identity, images, positions, loss, and UIDs (stage: write).

Headers may lack anything or hold nonsense. A value that its attribute does not allow is left empty, never
altered: an archive can fill in an empty name, but a changed one is another patient.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import HTJ2K, JPEG2000, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless
from pydicom.valuerep import DA, TM, validate_value

from gliosight.analysis import Analysis
from gliosight.dicom import (
    UNREADABLE,
    group_of,
    instance_words,
    quietly,
    text_of,
    value_of,
    values_of,
)
from gliosight.errors import InternalError, UnsupportedInputError
from gliosight.study import DicomSource, Study
from gliosight.write.result import rounded

# Whatever the source's character set was, what is not ASCII is written in this one.
UTF_8 = "ISO_IR 192"
# Type 2 attributes of the Patient and General Study modules (PS3.3, C.7.1.1 and C.7.2.1): always there.
REQUIRED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
)
# Copied where they are there and valid.
OPTIONAL = (
    *("IssuerOfPatientID", "PatientAge", "PatientSize", "PatientWeight"),
    *("StudyDescription", "LongitudinalTemporalInformationModified"),
)
# Values that a text attribute may have, where DICOM lists them.
LISTED = {
    "PatientSex": ("M", "F", "O"),
    "LongitudinalTemporalInformationModified": ("UNMODIFIED", "MODIFIED", "REMOVED"),
}
# pydicom's own rule refuses components with leading zeros, which sources have.
UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)+")

# Transfer syntaxes that lose something always, and unless the header says otherwise.
ALWAYS_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit)
MOSTLY_LOSSY = (JPEG2000, HTJ2K, JPEGLSNearLossless)

# Cosines this near to those of perpendicular unit vectors are exact: headers keep six digits of them.
EXACT_COSINE = 1e-4
LPS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class SourceFrame:
    """The image that a native slice was read from: its UIDs, and its number among several frames."""

    sop_class: str
    sop_instance: str
    series: str
    number: int | None  # from 1; None where the instance is a single frame


@dataclass(frozen=True)
class Origin:
    """Identity, references and positions of the source, as our objects write them."""

    study: str  # its UID
    # Patient and study attributes by keyword; those of Type 2 are all there, empty or not.
    attributes: dict[str, str]
    left_empty: tuple[str, ...]  # keywords of the attributes whose value is not allowed
    frames: tuple[SourceFrame, ...]  # one for each native slice
    frame_of_reference: str | None  # None where the source has none, or several
    position_reference: str
    thickness: float | None  # of a slice, as the first frame states it, mm
    # What says that the source's pixels were compressed with loss; empty if they were not.
    loss: dict[str, Any]
    # (slices, 3, 3): where the slices lie by their own headers, see `corners_of`; NaN where unknown.
    corners: NDArray[np.float64]
    # How far the slices lie from there where the headers are not exact, else 0, mm: a reader straightens
    # cosines that are no unit vectors, and takes one direction and pixel size for a stack.
    imprecise_mm: float

    @property
    def series(self) -> dict[str, list[SourceFrame]]:
        """The instances by SeriesInstanceUID: several where an anonymiser gave each slice its own."""
        series: dict[str, list[SourceFrame]] = {}
        for instance in self.instances:
            series.setdefault(instance.series, []).append(instance)
        return series

    @property
    def instances(self) -> tuple[SourceFrame, ...]:
        """The source's instances, each once."""
        return tuple({frame.sop_instance: frame for frame in self.frames}.values())

    def dataset(self) -> Dataset:
        """A data set with the patient's and the study's attributes and their character set."""
        out = Dataset()
        out.StudyInstanceUID = self.study
        out.SeriesInstanceUID = self.frames[0].series
        for keyword, value in self.attributes.items():
            setattr(out, keyword, value)
        if not all(value.isascii() for value in self.attributes.values()):
            out.SpecificCharacterSet = UTF_8
        return out


def dicom_source(study: Study) -> DicomSource:
    """The DICOM source of a study.

    Raises
    ------
    UnsupportedInputError
        The input was not DICOM: it has no identity that an object could be filed under.
    """
    if study.source.dicom is None:
        raise UnsupportedInputError(
            f"DICOM results need a DICOM study, and this one was {study.kind}: it has no "
            "identity to be filed under",
            where=study.study_id,
            remedy="analyse the DICOM study itself",
        )
    return study.source.dicom


@quietly()
def origin_of(analysis: Analysis) -> Origin:
    """Collect what our objects need from the source's headers.

    Raises
    ------
    UnsupportedInputError
        No DICOM input, or headers without the UIDs that a reference is made of.
    InternalError
        The study's grid is not that of its headers.
    """
    study = analysis.study
    source = dicom_source(study)
    headers = {index: source.headers[index] for index in sorted({k for k, _ in source.frames})}
    first = headers[source.frames[0][0]]
    for header in headers.values():
        matrix = tuple(text_of(header, keyword) for keyword in ("Rows", "Columns"))
        if matrix != tuple(str(size) for size in study.shape[1:]):
            where = instance_words(header)
            raise InternalError("a study has another matrix than its source", where=where)
    studies = {_uid(header, "StudyInstanceUID") for header in headers.values()}
    if len(studies) > 1:
        raise UnsupportedInputError(
            f"the slices have {len(studies)} StudyInstanceUIDs, and an object belongs to one study",
            where=instance_words(first),
            remedy="export the series again without changing its UIDs",
        )
    frames = tuple(
        SourceFrame(
            _uid(headers[k], "SOPClassUID"),
            _uid(headers[k], "SOPInstanceUID"),
            _uid(headers[k], "SeriesInstanceUID"),
            number if "NumberOfFrames" in headers[k] else None,
        )
        for k, number in source.frames
    )
    if len({(frame.sop_instance, frame.number) for frame in frames}) < len(frames):
        raise UnsupportedInputError(
            "several slices have one SOPInstanceUID",
            where=instance_words(first),
            remedy="nothing can tell them apart; export the series again from its archive",
        )
    attributes, left_empty = _identity(first)
    references = {text_of(header, "FrameOfReferenceUID") for header in headers.values()}
    reference = references.pop() if len(references) == 1 else ""
    planes = _planes(source)
    directions = planes[:, 3:9].reshape(-1, 2, 3)
    corners = corners_of(planes[:, :3], directions, planes[:, 9:], study.shape[1:])
    imprecise_mm = 0.0
    if study.geometry is not None and not _are_exact(planes):
        imprecise_mm = float(np.nanmax(np.abs(study_corners(study) - corners)))
    return Origin(
        study=studies.pop(),
        attributes=attributes,
        left_empty=left_empty,
        frames=frames,
        frame_of_reference=reference if UID.fullmatch(reference) else None,
        position_reference=_allowed("PositionReferenceIndicator", first),
        thickness=_thickness(first, source.frames[0][1]),
        loss=_loss(headers.values()),
        corners=corners,
        imprecise_mm=imprecise_mm,
    )


def corners_of(
    position: ArrayLike, directions: ArrayLike, spacing: ArrayLike, matrix: tuple[int, ...]
) -> NDArray[np.float64]:
    """Where frames lie, by their attributes (PS3.3, C.7.6.2.1.1).

    Parameters
    ----------
    position : (..., 3) array
        ImagePositionPatient.
    directions : (..., 2, 3) array
        ImageOrientationPatient: along a row, down a column.
    spacing : (..., 2) array
        PixelSpacing: between rows, between columns.
    matrix : (rows, columns)

    Returns
    -------
    (..., 3, 3) array
        LPS mm of the first pixel, the last of the first row, the last of the first column.
    """
    first = np.asarray(position, dtype=np.float64)[..., None, :]
    lengths = np.asarray(spacing, dtype=np.float64)[..., ::-1] * (matrix[1] - 1, matrix[0] - 1)
    far = first + np.asarray(directions, dtype=np.float64) * lengths[..., None]
    return np.concatenate([first, far], axis=-2)


def study_corners(study: Study) -> NDArray[np.float64]:
    """(slices, 3, 3) corners of the study's slices by its geometry, see `corners_of`."""
    if study.geometry is None:
        raise InternalError("a DICOM object of slices without geometry")
    slices, rows, columns = study.shape
    voxels = np.zeros((slices, 3, 3))
    voxels[:, :, 0] = np.arange(slices)[:, None]
    voxels[:, 1, 2] = columns - 1
    voxels[:, 2, 1] = rows - 1
    return np.asarray(study.geometry.to_world(voxels) * LPS)


def _planes(source: DicomSource) -> NDArray[np.float64]:
    """(slices, 11) position, directions and spacing by the slices' own headers; NaN where they are not."""
    planes = np.full((len(source.frames), 11), np.nan)
    for k, (index, frame) in enumerate(source.frames):
        header = source.headers[index]
        numbers: list[float] = []
        with contextlib.suppress(*UNREADABLE):
            for group, keyword in (
                ("PlanePositionSequence", "ImagePositionPatient"),
                ("PlaneOrientationSequence", "ImageOrientationPatient"),
                ("PixelMeasuresSequence", "PixelSpacing"),
            ):
                value = value_of(group_of(header, frame, group) or Dataset(), keyword)
                numbers += map(float, value_of(header, keyword) if value is None else value)
            planes[k] = numbers
    return planes


def _are_exact(planes: NDArray[np.float64]) -> bool:
    """Whether one direction and pixel size, and cosines of unit vectors, describe all slices."""
    planes = planes[~np.isnan(planes).any(axis=1)]
    directions = planes[:, 3:9].reshape(-1, 2, 3)
    products = directions @ directions.transpose(0, 2, 1)
    return len(planes) == 0 or bool(
        np.abs(products - np.eye(2)).max() < EXACT_COSINE
        and np.abs(directions - directions[0]).max() < EXACT_COSINE
        and np.allclose(planes[:, 9:], planes[0, 9:], rtol=EXACT_COSINE)
    )


def _uid(header: Dataset, keyword: str) -> str:
    value = text_of(header, keyword)
    if not UID.fullmatch(value):
        raise UnsupportedInputError(
            f"a header has no usable {keyword}",
            where=instance_words(header),
            remedy="nothing can refer to that instance; export the series again from its archive",
        )
    return value


def _identity(header: Dataset) -> tuple[dict[str, str], tuple[str, ...]]:
    """The attributes to copy, and the keywords of those whose value is not allowed."""
    values = {keyword: _allowed(keyword, header) for keyword in (*REQUIRED, *OPTIONAL)}
    left_empty = tuple(
        keyword for keyword, value in values.items() if not value and _has_value(header, keyword)
    )
    out = {keyword: value for keyword, value in values.items() if value or keyword in REQUIRED}
    # Type 1C: who says that the identity was removed has to say how.
    method = _deidentification(header)
    if text_of(header, "PatientIdentityRemoved") == "YES" and method:
        out |= {"PatientIdentityRemoved": "YES", "DeidentificationMethod": method}
    return out, left_empty


def _has_value(header: Dataset, keyword: str) -> bool:
    """Whether an attribute has a value, readable or not; 0 is a value, padding is not."""
    element = header.get_item(keyword)
    if element is None or element.value is None:
        return False
    if isinstance(element.value, bytes):  # not parsed yet, or in vain
        return bool(element.value.strip(b" \0"))
    return not element.is_empty and bool(str(element.value).strip(" \0"))


def _deidentification(header: Dataset) -> str:
    method = _allowed("DeidentificationMethod", header)
    with contextlib.suppress(*UNREADABLE):
        if not method:
            codes = value_of(header, "DeidentificationMethodCodeSequence") or ()
            meanings = [text_of(code, "CodeMeaning") for code in codes]
            method = "; ".join(meaning for meaning in meanings if _is_plain(meaning))[:64].strip()
    return method


def _allowed(keyword: str, header: Dataset) -> str:
    value = text_of(header, keyword)
    return value if _is_valid(keyword, value) else ""


def _is_valid(keyword: str, value: str) -> bool:
    """Whether an attribute may hold a value: pydicom's rules, and what they leave out (PS3.5, 6.2)."""
    vr = dictionary_VR(keyword)
    try:
        validate_value(vr, value, config.RAISE)
        if vr in ("DA", "TM"):
            (DA if vr == "DA" else TM)(value)
        if vr == "DS" and not 0 <= float(value) < math.inf:  # weight, size, ratio
            return False
    except ValueError:
        return False
    if vr == "PN" and any(group.count("^") > 4 for group in value.split("=")):
        return False
    return value in LISTED.get(keyword, (value,)) and _is_plain(value)


def _is_plain(value: str) -> bool:
    """No control character, backslash or lone surrogate."""
    return not re.search(r"[\\\x00-\x1f\x7f-\x9f\ud800-\udfff]", value)


def _thickness(header: Dataset, frame: int) -> float | None:
    for holder in (group_of(header, frame, "PixelMeasuresSequence"), header):
        if holder is not None:
            with contextlib.suppress(ValueError):
                value = float(text_of(holder, "SliceThickness"))
                if 0 < value < 1000:
                    return value
    return None


def _loss(headers: Iterable[Dataset]) -> dict[str, Any]:
    """What a derived image has to say of its source's loss (PS3.3, C.7.6.1.1.5)."""
    for header in headers:
        stated = text_of(header, "LossyImageCompression")
        meta = getattr(header, "file_meta", None) or Dataset()
        syntax = text_of(meta, "TransferSyntaxUID")
        always = syntax in ALWAYS_LOSSY
        if stated == "01" or always or (syntax in MOSTLY_LOSSY and stated != "00"):
            break
    else:
        return {}
    out: dict[str, Any] = {"LossyImageCompression": "01"}
    ratios, methods = (
        [value for value in values_of(header, keyword) if value and _is_valid(keyword, value)]
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod")
    )
    ratios = [ratio for ratio in ratios if float(ratio) > 0]
    if not methods and always:
        methods = ["ISO_10918_1"]
    # One value for each step of compression in both, or in none: unequal lists say nothing.
    if ratios:
        out["LossyImageCompressionRatio"] = ratios
    if methods and len(methods) == (len(ratios) or 1):
        out["LossyImageCompressionMethod"] = methods
    return out


@dataclass(frozen=True)
class Uids:
    """The UIDs of one of our objects."""

    instance: str
    series: str
    dimensions: str  # Dimension Organization UID
    group: str  # tracking UID of a report's study-level measurement group


def uids_of(analysis: Analysis, kind: str) -> Uids:
    """The UIDs of the object of a kind, such as ``segmentation``, that belongs to an analysis.

    Under ``2.25.`` (PS3.5, B.2) from a UUIDv5 of the source's SOP instances and frames, the mask, the model,
    the version, the settings and the kind. Two runs agree, so a result that is sent twice is stored once;
    another threshold, model or version gives others. Engine and precision count, since they change the last
    digits; threads do not. Numbers are rounded as in ``result.json``, so that a result read from there gives
    the same UIDs.
    """
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
