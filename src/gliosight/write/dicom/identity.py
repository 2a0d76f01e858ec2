"""What our DICOM objects take over from their source: identity, references, loss (stage: write).

In: an `Analysis` whose study was DICOM; its headers may lack anything or hold nonsense. Out: an `Origin`,
clean: every value in it may be written as it is. A value that its attribute does not allow is left empty,
never altered: an archive can fill in an empty name, but a changed one is another patient.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import HTJ2K, JPEG2000, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless
from pydicom.valuerep import DA, TM, validate_value

from gliosight.analysis import Analysis
from gliosight.dicom import quietly
from gliosight.errors import InternalError, UnsupportedInputError
from gliosight.study import DicomSource
from gliosight.write.dicom.headers import (
    UNREADABLE,
    groups,
    has_value,
    place,
    text,
    value_of,
)

# Whatever the source's character set was, what is not ASCII is written in this one.
UTF_8 = "ISO_IR 192"
# Type 2 attributes of the Patient and General Study modules (PS3.3, C.7.1.1 and C.7.2.1): always there.
REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
# Taken over where they are there and valid.
OPTIONAL = (
    "IssuerOfPatientID",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "StudyDescription",
    "LongitudinalTemporalInformationModified",
)
# Values that a text attribute may have, where DICOM lists them.
LISTED = {
    "PatientSex": ("M", "F", "O"),
    "LongitudinalTemporalInformationModified": ("UNMODIFIED", "MODIFIED", "REMOVED"),
}
# Kinds of numbers and times that pydicom parses once their form is checked.
PARSED: Mapping[str, Callable[[str], Any]] = {"DA": DA, "TM": TM, "DS": float}
UID = re.compile(r"[0-9]+(\.[0-9]+)+")

# Transfer syntaxes that lose something always, and unless the header says otherwise.
ALWAYS_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit)
MOSTLY_LOSSY = (JPEG2000, HTJ2K, JPEGLSNearLossless)


@dataclass(frozen=True)
class SourceFrame:
    """The picture a native slice was read from.

    Parameters
    ----------
    sop_class, sop_instance, series : str
        UIDs of its instance, and of the series that the instance is in.
    number : int or None
        Its frame number, from 1; ``None`` where the instance is a single frame.
    """

    sop_class: str
    sop_instance: str
    series: str
    number: int | None


@dataclass(frozen=True)
class Origin:
    """Identity and references of the source, as our objects write them.

    Parameters
    ----------
    study : str
        Its UID.
    attributes : mapping of str to object
        Patient and study attributes by keyword; those of Type 2 are all there, empty or not.
    left_empty : tuple of str
        Keywords of the attributes that had a value which could not be taken over.
    frames : tuple of SourceFrame
        One for each native slice.
    frame_of_reference : str or None
        ``None`` where the source has none, or several.
    position_reference : str
    thickness : float or None
        Slice thickness as the first frame states it, mm.
    loss : mapping of str to object
        The attributes that say the source's pixels were compressed with loss; empty if they were not.
    """

    study: str
    attributes: dict[str, Any]
    left_empty: tuple[str, ...]
    frames: tuple[SourceFrame, ...]
    frame_of_reference: str | None
    position_reference: str
    thickness: float | None
    loss: dict[str, Any]

    @property
    def instances(self) -> tuple[SourceFrame, ...]:
        """The source's instances, each once."""
        return tuple({one.sop_instance: one for one in self.frames}.values())

    @property
    def series(self) -> dict[str, list[SourceFrame]]:
        """The instances by SeriesInstanceUID: several where an anonymiser gave each slice its own."""
        series: dict[str, list[SourceFrame]] = {}
        for instance in self.instances:
            series.setdefault(instance.series, []).append(instance)
        return series

    def dataset(self) -> Dataset:
        """A data set with the patient's and the study's attributes and the source's character set."""
        out = Dataset()
        out.StudyInstanceUID = self.study
        out.SeriesInstanceUID = self.frames[0].series
        for keyword, value in self.attributes.items():
            setattr(out, keyword, value)
        if not all(str(one).isascii() for one in self.attributes.values()):
            out.SpecificCharacterSet = UTF_8
        return out


def dicom_source(analysis: Analysis) -> DicomSource:
    """The DICOM source of an analysis.

    Raises
    ------
    UnsupportedInputError
        The input was not DICOM: it has no identity that an object could be filed under.
    """
    source = analysis.study.source.get("dicom")
    if analysis.study.kind != "dicom" or not isinstance(source, DicomSource):
        raise UnsupportedInputError(
            f"DICOM results need a DICOM study, and this one was {analysis.study.kind}: it has no "
            "identity to be filed under",
            where=analysis.study.study_id,
            remedy="analyse the DICOM study itself",
        )
    return source


def origin_of(analysis: Analysis) -> Origin:
    """Take over what our objects need from the source's headers.

    Raises
    ------
    UnsupportedInputError
        No DICOM input, or headers without the UIDs that a reference is made of.
    InternalError
        The study's grid is not that of its headers.
    """
    source = dicom_source(analysis)
    with quietly():
        used = sorted({one for one, _ in source.frames})
        headers = {one: source.headers[one] for one in used}
        first = headers[source.frames[0][0]]
        _check_grid(analysis, headers.values())
        ids = {
            one: {
                keyword: _uid(header, keyword)
                for keyword in (
                    "StudyInstanceUID",
                    "SeriesInstanceUID",
                    "SOPClassUID",
                    "SOPInstanceUID",
                )
            }
            for one, header in headers.items()
        }
        studies = {one["StudyInstanceUID"] for one in ids.values()}
        if len(studies) > 1:
            raise UnsupportedInputError(
                f"the slices have {len(studies)} StudyInstanceUIDs, and an object belongs to one study",
                where=place(first),
                remedy="export the series again without changing its UIDs",
            )
        frames = tuple(
            SourceFrame(
                ids[one]["SOPClassUID"],
                ids[one]["SOPInstanceUID"],
                ids[one]["SeriesInstanceUID"],
                number if "NumberOfFrames" in headers[one] else None,
            )
            for one, number in source.frames
        )
        if len({(one.sop_instance, one.number) for one in frames}) < len(frames):
            raise UnsupportedInputError(
                "several slices have one SOPInstanceUID",
                where=place(first),
                remedy="nothing can tell them apart; export the series again from its archive",
            )
        attributes, left_empty = _attributes(first)
        reference = {text(one, "FrameOfReferenceUID") for one in headers.values()}
        known = reference.pop() if len(reference) == 1 else ""
        return Origin(
            study=studies.pop(),
            attributes=attributes,
            left_empty=left_empty,
            frames=frames,
            frame_of_reference=known if UID.fullmatch(known) and len(known) <= 64 else None,
            position_reference=_allowed("PositionReferenceIndicator", first),
            thickness=_thickness(first, source.frames[0][1]),
            loss=_loss(list(headers.values())),
        )


def _uid(header: Dataset, keyword: str) -> str:
    value = text(header, keyword)
    if not UID.fullmatch(value) or len(value) > 64:
        raise UnsupportedInputError(
            f"a header has no usable {keyword}",
            where=place(header),
            remedy="nothing can refer to that instance; export the series again from its archive",
        )
    return value


def _check_grid(analysis: Analysis, headers: Any) -> None:
    _, rows, columns = analysis.study.shape
    if len(dicom_source(analysis).frames) != analysis.study.shape[0]:
        raise InternalError("a study has other slices than its source", where="DICOM source")
    for header in headers:
        if (text(header, "Rows"), text(header, "Columns")) != (str(rows), str(columns)):
            raise InternalError("a study has another matrix than its source", where=place(header))


def _attributes(header: Dataset) -> tuple[dict[str, Any], tuple[str, ...]]:
    out: dict[str, Any] = {}
    left_empty = []
    for keyword in (*REQUIRED, *OPTIONAL):
        value = _allowed(keyword, header)
        if value or keyword in REQUIRED:
            out[keyword] = value
        if not value and has_value(header, keyword):
            left_empty.append(keyword)
    # Type 1C: who says that the identity was removed has to say how.
    method = _method(header)
    if text(header, "PatientIdentityRemoved") == "YES" and method:
        out |= {"PatientIdentityRemoved": "YES", "DeidentificationMethod": method}
    return out, tuple(left_empty)


def _method(header: Dataset) -> str:
    told = _allowed("DeidentificationMethod", header)
    if told:
        return told
    value = value_of(header, "DeidentificationMethodCodeSequence")
    try:
        meanings = [text(one, "CodeMeaning") for one in value or ()]
    except UNREADABLE:
        return ""
    return "; ".join(one for one in meanings if _plain(one))[:64].strip()


def _allowed(keyword: str, header: Dataset) -> str:
    value = text(header, keyword)
    return value if _valid(keyword, value) else ""


def _valid(keyword: str, value: str) -> bool:
    """Whether an attribute may hold a value; pydicom's rules, and what they leave out (PS3.5, 6.2)."""
    vr = dictionary_VR(keyword)
    try:
        validate_value(vr, value, config.RAISE)
        number = PARSED.get(vr, len)(value)
    except ValueError:
        return False
    if vr == "DS":  # weight, size, ratio
        return bool(0 <= number < math.inf)
    if vr == "PN" and any(group.count("^") > 4 for group in value.split("=")):
        return False
    return value in LISTED.get(keyword, (value,)) and _plain(value)


def _plain(value: str) -> bool:
    """No control characters, no backslash, nothing that is no character."""
    return not any(
        one == "\\" or ord(one) < 32 or 127 <= ord(one) < 160 or 0xD800 <= ord(one) < 0xE000
        for one in value
    )


def _thickness(header: Dataset, number: int) -> float | None:
    for holder in (groups(header, number, "PixelMeasuresSequence"), header):
        if holder is None:
            continue
        try:
            value = float(text(holder, "SliceThickness"))
        except ValueError:
            continue
        if 0 < value < 1000:
            return value
    return None


def _loss(headers: list[Dataset]) -> dict[str, Any]:
    """What a derived image has to say of its source's loss (PS3.3, C.7.6.1.1.5)."""
    lossy = next((one for one in headers if _is_lossy(one)), None)
    if lossy is None:
        return {}
    out: dict[str, Any] = {"LossyImageCompression": "01"}
    ratios, methods = (
        [one for one in _values(lossy, keyword) if one and _valid(keyword, one)]
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod")
    )
    ratios = [one for one in ratios if float(one) > 0]
    if not methods and _syntax(lossy) in (JPEGBaseline8Bit, JPEGExtended12Bit):
        methods = ["ISO_10918_1"]
    # One value for each step of compression in both, or in none: unequal lists say nothing.
    if ratios:
        out["LossyImageCompressionRatio"] = ratios
    if methods and len(methods) == (len(ratios) or 1):
        out["LossyImageCompressionMethod"] = methods
    return out


def _is_lossy(header: Dataset) -> bool:
    told = text(header, "LossyImageCompression") == "01"
    said = text(header, "LossyImageCompression") == "00"
    syntax = _syntax(header)
    return told or syntax in ALWAYS_LOSSY or (syntax in MOSTLY_LOSSY and not said)


def _syntax(header: Dataset) -> str:
    return text(getattr(header, "file_meta", None) or Dataset(), "TransferSyntaxUID")


def _values(header: Dataset, keyword: str) -> list[str]:
    value = value_of(header, keyword)
    if value is None or value == "":
        return []
    several = not isinstance(value, str) and hasattr(value, "__iter__")
    return [str(one).strip() for one in value] if several else [str(value).strip()]
