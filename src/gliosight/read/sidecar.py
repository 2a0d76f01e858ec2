"""What a NIfTI shows by its name, its folder and the JSON file beside it (read stage).

dcm2niix and BIDS keep what they know of the DICOM header in ``NAME.json``; it is judged by the rules for
DICOM (`read.dicom.rules`), with the name as one more description. It is read once, up to `MOST_BYTES`; a
broken one costs a flag.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gliosight.errors import GliosightError, printable
from gliosight.flags import flag
from gliosight.read import naming
from gliosight.read.dicom.words import contrast_hint, named_sequence
from gliosight.read.limits import open_regular, size_in_words
from gliosight.study import Flag, MrSequence

if TYPE_CHECKING:
    from gliosight.read.dicom.acquisition import Acquisition

# Those of dcm2niix have a few kilobytes, those with every private element some hundreds.
MOST_BYTES = 1024**2
# Values beyond these are cut; no attribute that the rules ask for is as long.
MOST_VALUES, LONGEST = 64, 1024

_IS_NUMBER = re.compile(r"[0-9]{1,9}")
# What dcm2niix and BIDS call otherwise than DICOM does.
_RENAMED = {
    "ContrastBolusAgent": ("ContrastBolusAgent", "ContrastBolusIngredient"),
    "ImageType": ("ImageType", "ImageTypeText"),
    "EchoNumbers": ("EchoNumbers", "EchoNumber"),
    "ProtocolName": ("ProtocolName", "PulseSequenceType"),
    "RepetitionTime": tuple(f"RepetitionTime{part}" for part in ("", "Preparation", "Excitation")),
}
# BIDS gives times in seconds. By keyword: as many seconds as no such time has; more are milliseconds.
_SECONDS = {
    "EchoTime": 1.0,
    "EffectiveEchoTime": 1.0,
    "RepetitionTime": 60.0,
    "InversionTime": 20.0,
    "InversionTimes": 20.0,
}


@dataclass(frozen=True)
class Shown:
    """What a NIfTI shows, and how that is known."""

    kind: MrSequence | str | None  # as `naming.sequence_of` gives it
    basis: Literal["name", "folder", "sidecar", "nothing"]
    why: str  # one clause for people
    # Of the sidecar's rule; not where the name decided.
    confidence: Literal["certain", "likely", "guess"] | None = None
    rule: str = ""
    contrast: bool | None = None  # after contrast medium by the sidecar; None where it does not say
    flags: tuple[Flag, ...] = ()
    series_number: int | None = None  # the sidecar's

    @property
    def words(self) -> str:
        """The kind for people."""
        return _words(self.kind or "unknown")


def what_shows(path: Path, folder: str = "") -> Shown:
    """What a NIfTI shows by its name, its folder and the sidecar beside it, opened once; never raises.

    ``folder`` is the name of the folder that says the sequence, see `naming.sequence_folder`.
    """
    by_name = Shown(None, "nothing", "neither name, folder nor sidecar says a sequence")
    if (named := naming.sequence_of(path.name)) is not None:
        by_name = Shown(named, "name", "by its name")
    elif folder:
        by_name = Shown(naming.sequence_of(folder), "folder", "by its folder's name")
    sidecar = path.with_name(naming.sidecar_of(path.name))
    try:
        if not sidecar.exists():
            return by_name
        fields = _load(sidecar)
    except (GliosightError, OSError, ValueError) as error:
        reason = getattr(error, "what", None) or getattr(error, "strerror", None) or str(error)
        message = f"The sidecar {sidecar.name} was not used: {reason[:1].lower()}{reason[1:]}."
        return replace(by_name, flags=(flag("SIDECAR_UNREADABLE", message),))
    number = _text_of(fields, "SeriesNumber").removesuffix(".0")
    shown = _judge(path.name, by_name, fields)
    return replace(shown, series_number=int(number)) if _IS_NUMBER.fullmatch(number) else shown


def _load(sidecar: Path) -> dict[str, Any]:
    """The JSON object of a file; raises `GliosightError`, `ValueError` or `OSError`."""
    with open_regular(sidecar, sidecar.name) as (handle, size):
        if size > MOST_BYTES:
            sizes = map(size_in_words, (size, MOST_BYTES))
            raise ValueError(f"it holds {', more than '.join(sizes)}")
        data = handle.read(MOST_BYTES)
    try:
        fields = json.loads(data.decode(json.detect_encoding(data), "replace"))
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON, or nested too deep") from error
    if not isinstance(fields, dict):
        raise ValueError("it holds no JSON object")
    return fields


def acquisition_in(fields: Mapping[str, Any], named: MrSequence | str | None = None) -> Acquisition:
    """How the image was made by a sidecar's JSON object, for the rules for DICOM series.

    ``named``, what the file's name says, joins a description that it does not contradict.
    """
    # Only where there is a sidecar: pydicom takes a tenth of a second to import.
    from gliosight.read.dicom.acquisition import KEYWORDS, acquisition_of

    values = {keyword: _text_of(fields, keyword) for keyword in KEYWORDS}
    values["Modality"] = values["Modality"] or "MR"
    description = values["SeriesDescription"] or values["ProtocolName"]
    if isinstance(named, MrSequence):
        word = "FLAIR" if named is MrSequence.FLAIR else "T1"
        both = f"{description} {word}".strip()
        if named_sequence(both) == word:
            unsaid = named is MrSequence.T1C and contrast_hint(both) is None
            description = f"{both} +C" if unsaid else both
    values["SeriesDescription"] = description
    return acquisition_of(tuple(values.values()))


def _judge(file_name: str, by_name: Shown, fields: Mapping[str, Any]) -> Shown:
    """Weigh the sidecar against the name."""
    from gliosight.read.dicom.rules import identify

    named = by_name.kind
    acquisition = acquisition_in(fields, named)
    contrast = acquisition.contrast
    identified = identify(acquisition)
    kind = identified.sequence or identified.kind
    # Without TI and TR nothing tells T2 from FLAIR.
    open_to_flair = acquisition.inversion_recovery is None and acquisition.repetition is None
    if (
        identified.rule in ("unknown", "other")  # where nothing is known
        or (identified.confidence == "guess" and kind == named)
        or (named is MrSequence.FLAIR and kind == "T2" and open_to_flair)
        or named in naming.COMPUTED  # with the times of what it was made from
    ):
        if not (contrast and named is MrSequence.T1):
            return replace(by_name, contrast=contrast)
        why = f"{by_name.why}, after contrast medium by its sidecar"
        flags = _contradiction(file_name, by_name, MrSequence.T1C, "contrast medium")
        return Shown(MrSequence.T1C, "sidecar", why, contrast=True, flags=flags)
    reason = identified.why
    if acquisition_in(fields).named is None:
        reason = reason.replace("the description says", "its name says")
    contrast = acquisition.contrast_named if contrast is None else contrast
    flags = _contradiction(file_name, by_name, kind, reason)
    why = f"by its sidecar: {reason}"
    return Shown(kind, "sidecar", why, identified.confidence, identified.rule, contrast, flags)


def _contradiction(
    file_name: str, by_name: Shown, kind: MrSequence | str, reason: str
) -> tuple[Flag, ...]:
    """The flag where the sidecar says something else than the name, of FLAIR, T1 or T1C."""
    named, other = by_name.kind, _words(kind)
    if named is None or named == kind or (named == "TIRM" and other in ("FLAIR", "STIR", "T1")):
        return ()
    if isinstance(kind, MrSequence):
        contradicts = naming.another_than(kind, named) is not None
    else:
        contradicts = isinstance(named, MrSequence)
    message = (
        f"{file_name} is {_words(named)} {by_name.why} and {other} by its sidecar ({reason}); the sidecar "
        "decides."
    )
    return (flag("NAME_CONTRADICTS", message),) if contradicts else ()


def _words(kind: MrSequence | str) -> str:
    return kind.value if isinstance(kind, MrSequence) else kind


def _text_of(fields: Mapping[str, Any], keyword: str) -> str:
    """A value as DICOM would write it."""
    for key in _RENAMED.get(keyword, (keyword,)):
        value = fields.get(key)
        values = value[:MOST_VALUES] if isinstance(value, list) else [value]
        if text := "\\".join(filter(None, map(_scalar, values))):
            break
    # Codes are written as one text: "GR_IR", "SK\\SP\\MP", "ORIGINAL_PRIMARY".
    if keyword in ("ScanningSequence", "SequenceVariant") or (
        keyword == "ImageType" and text.startswith(("ORIGINAL_", "DERIVED_"))
    ):
        return text.replace("_", "\\").replace("/", "\\")
    if text and keyword in _SECONDS:
        return _milliseconds(text, _SECONDS[keyword], fields.get("EchoTime"))
    return text


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "YES" if value else "NO"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    if isinstance(value, int):
        return str(value) if abs(value) < 2**53 else ""
    return printable(value.replace("\0", " ")[:LONGEST]).strip() if isinstance(value, str) else ""


def _milliseconds(text: str, most: float, echo_time: Any) -> str:
    """Seconds as milliseconds; where a time is too long for seconds, they are milliseconds already."""
    from gliosight.read.dicom.elements import numbers

    known = isinstance(echo_time, int | float) and echo_time >= _SECONDS["EchoTime"]
    if known or any(time >= most for time in numbers(text)):
        return text
    return "\\".join(f"{time * 1000:.10g}" for time in numbers(text))
