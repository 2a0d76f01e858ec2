"""What the JSON file beside a NIfTI says (read stage).

In: a NIfTI's path. Out: `Shown`, what it shows by its name and its sidecar, and why. dcm2niix and BIDS keep
what they know of the DICOM header in ``NAME.json``; it is judged by the rules that DICOM has
(`read.dicom.rules`), with the name as one more description. BIDS gives times in seconds, DICOM in
milliseconds. A sidecar is a stranger's: it is read once, up to `MOST_BYTES`, and one that is broken costs
nothing but a flag.
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
from gliosight.read.dicom.words import contrast_hint, named_sequence
from gliosight.read.flags import flag
from gliosight.read.limits import open_regular, size_in_words
from gliosight.read.naming import (
    COMPUTED,
    another_than,
    sequence_of,
    sequence_of_folder,
    sidecar_of,
)
from gliosight.study import Flag, MrSequence

if TYPE_CHECKING:
    from gliosight.read.dicom.acquisition import Acquisition

# Those of dcm2niix have a few kilobytes, those with every private element some hundreds.
MOST_BYTES = 1024**2
# Values beyond these are cut; no attribute that the rules ask for is as long.
MOST_VALUES, LONGEST = 64, 1024

# What dcm2niix and BIDS call otherwise than DICOM does.
_RENAMED: Mapping[str, tuple[str, ...]] = {
    "ContrastBolusAgent": ("ContrastBolusAgent", "ContrastBolusIngredient"),
    "ImageType": ("ImageType", "ImageTypeText"),
    "EchoNumbers": ("EchoNumbers", "EchoNumber"),
    "ProtocolName": ("ProtocolName", "PulseSequenceType"),
    "RepetitionTime": (
        "RepetitionTime",
        "RepetitionTimePreparation",
        "RepetitionTimeExcitation",
    ),
}
# By keyword: as many seconds as no such time has; what is more is in milliseconds already.
_SECONDS = {
    "EchoTime": 1.0,
    "EffectiveEchoTime": 1.0,
    "RepetitionTime": 60.0,
    "InversionTime": 20.0,
    "InversionTimes": 20.0,
}
# Written as one text, ``"GR_IR"`` and ``"SK\\SP\\MP"``.
_CODES = ("ScanningSequence", "SequenceVariant")
# Rules that decide where nothing is known.
_SAY_NOTHING = ("unknown", "other")
# What a name may say of an image that its header says more of.
_VAGUE = {"TIRM": ("FLAIR", "STIR", "T1"), "T2": ("T2",)}


@dataclass(frozen=True)
class Shown:
    """What a NIfTI shows, and how that is known.

    Parameters
    ----------
    kind : Sequence, str or None
        As `naming.sequence_of` says it; ``None`` where neither name nor sidecar says anything.
    basis : {"name", "folder", "sidecar", "nothing"}
    why : str
        One clause for people.
    confidence : {"certain", "likely", "guess"} or None
        Of the sidecar's rule; ``None`` where the name decided.
    rule : str
        The name of the sidecar's rule.
    contrast : bool or None
        Whether the sidecar says after contrast medium; ``None`` where it does not say.
    flags : tuple of Flag
        SIDECAR_UNREADABLE, and NAME_CONTRADICTS where the sidecar outweighs the name.
    series_number : int or None
        The sidecar's SeriesNumber.
    """

    kind: MrSequence | str | None
    basis: Literal["name", "folder", "sidecar", "nothing"]
    why: str
    confidence: Literal["certain", "likely", "guess"] | None = None
    rule: str = ""
    contrast: bool | None = None
    flags: tuple[Flag, ...] = ()
    series_number: int | None = None

    @property
    def words(self) -> str:
        """The kind for people."""
        return "unknown" if self.kind is None else kind_in_words(self.kind)


def kind_in_words(kind: MrSequence | str) -> str:
    """The name of a kind of image."""
    return kind.value if isinstance(kind, MrSequence) else kind


def what_shows(path: Path, folder: str = "") -> Shown:
    """What a NIfTI shows by its name, its folder and the sidecar beside it, opened once; never raises.

    ``folder`` is the name of the folder that says the sequence, see `naming.sequence_folder`.
    """
    by_name = _by_name(path, folder)
    named = by_name.kind
    sidecar = path.with_name(sidecar_of(path.name))
    try:
        if not sidecar.exists():
            return by_name
        fields = _load(sidecar)
    except (OSError, ValueError) as error:
        message = f"The sidecar {sidecar.name} was not used: {_reason(error)}."
        return replace(by_name, flags=(flag("SIDECAR_UNREADABLE", message),))
    own = acquisition_in(fields).named
    shown = _judge(path.name, by_name, acquisition_in(fields, named), described=own is not None)
    return replace(shown, series_number=_series_number_in(fields))


def _series_number_in(fields: Mapping[str, Any]) -> int | None:
    text = _text_of(fields, "SeriesNumber").removesuffix(".0")
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def _by_name(path: Path, folder: str) -> Shown:
    if (named := sequence_of(path.name)) is not None:
        return Shown(named, "name", "by its name")
    if folder:
        return Shown(sequence_of_folder(folder), "folder", "by its folder's name")
    return Shown(None, "nothing", "neither name, folder nor sidecar says a sequence")


def acquisition_in(fields: Mapping[str, Any], named: MrSequence | str | None = None) -> Acquisition:
    """What a sidecar says of how the image was made, for the rules that DICOM series have.

    Parameters
    ----------
    fields : mapping
        The JSON object.
    named : Sequence, str or None
        What the file's name says; it joins a description that it does not contradict.
    """
    # Only where there is a sidecar: pydicom takes a tenth of a second to import.
    from gliosight.read.dicom.acquisition import KEYWORDS, acquisition_of

    values = {keyword: _text_of(fields, keyword) for keyword in KEYWORDS}
    values["Modality"] = values["Modality"] or "MR"
    description = values["SeriesDescription"] or values["ProtocolName"]
    values["SeriesDescription"] = _with_name(description, named)
    return acquisition_of(tuple(values.values()))


def _load(sidecar: Path) -> dict[str, Any]:
    """The JSON object of a file; raises `ValueError` or `OSError` if it cannot be read."""
    try:
        with open_regular(sidecar, sidecar.name) as (handle, size):
            if size > MOST_BYTES:
                raise ValueError(
                    f"it holds {size_in_words(size)}, more than {size_in_words(MOST_BYTES)}"
                )
            data = handle.read(MOST_BYTES)
    except GliosightError as error:
        raise ValueError(error.what) from error
    try:
        fields = json.loads(data.decode(json.detect_encoding(data), "replace").lstrip("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON, or nested too deep") from error
    if not isinstance(fields, dict):
        raise ValueError("it holds no JSON object")
    return fields


def _reason(error: Exception) -> str:
    reason = str(getattr(error, "strerror", None) or error)
    return reason[:1].lower() + reason[1:]


def _judge(name: str, by_name: Shown, acquisition: Acquisition, *, described: bool) -> Shown:
    from gliosight.read.dicom.rules import identify

    identified = identify(acquisition)
    named, kind = by_name.kind, identified.sequence or identified.kind
    # Without TI and TR nothing tells T2 from FLAIR.
    open_to_flair = acquisition.inversion_recovery is None and acquisition.repetition is None
    if (
        identified.rule in _SAY_NOTHING
        or (identified.confidence == "guess" and kind == named)
        or (named is MrSequence.FLAIR and kind == "T2" and open_to_flair)
        or named in COMPUTED  # with the times of what it was made from
    ):
        return _with_contrast(name, by_name, acquisition.contrast)
    reason = identified.why
    if not described:
        reason = reason.replace("the description says", "its name says")
    why = f"by its sidecar: {reason}"
    flags: tuple[Flag, ...] = ()
    ours = isinstance(named, MrSequence) or isinstance(kind, MrSequence)
    if ours and named is not None and _differ(named, kind):
        message = (
            f"{name} is {kind_in_words(named)} {by_name.why} and {kind_in_words(kind)} by its sidecar "
            f"({reason}); the sidecar decides."
        )
        flags = (flag("NAME_CONTRADICTS", message),)
    contrast = acquisition.contrast_named if acquisition.contrast is None else acquisition.contrast
    return Shown(kind, "sidecar", why, identified.confidence, identified.rule, contrast, flags)


def _with_contrast(name: str, by_name: Shown, contrast: bool | None) -> Shown:
    """What the name says, and the sidecar of contrast medium alone."""
    if not (contrast and by_name.kind is MrSequence.T1):
        return replace(by_name, contrast=contrast)
    message = (
        f"{name} is T1 {by_name.why} and T1C by its sidecar (contrast medium); the sidecar decides."
    )
    why = f"{by_name.why}, after contrast medium by its sidecar"
    return Shown(
        MrSequence.T1C, "sidecar", why, contrast=True, flags=(flag("NAME_CONTRADICTS", message),)
    )


def _differ(named: MrSequence | str, kind: MrSequence | str) -> bool:
    words = kind_in_words(kind)
    if words in _VAGUE.get(kind_in_words(named), ()):
        return False
    return named != kind and not (
        isinstance(kind, MrSequence) and another_than(kind, named) is None
    )


def _with_name(description: str, named: MrSequence | str | None) -> str:
    if not isinstance(named, MrSequence):
        return description
    word = "FLAIR" if named is MrSequence.FLAIR else "T1"
    both = f"{description} {word}".strip()
    if named_sequence(both) != word:
        return description
    if named is MrSequence.T1C and contrast_hint(both) is None:
        both += " +C"
    return both


def _text_of(fields: Mapping[str, Any], keyword: str) -> str:
    """A value as DICOM would write it."""
    for key in _RENAMED.get(keyword, (keyword,)):
        value = fields.get(key)
        values = [
            _scalar(one) for one in (value if isinstance(value, list) else [value])[:MOST_VALUES]
        ]
        text = "\\".join(one for one in values if one)
        if not text:
            continue
        if keyword in _CODES or (
            keyword == "ImageType" and text.startswith(("ORIGINAL_", "DERIVED_"))
        ):
            return text.replace("_", "\\").replace("/", "\\")
        if keyword in _SECONDS:
            return _milliseconds(text, _SECONDS[keyword], fields)
        return text
    return ""


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "YES" if value else "NO"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    if isinstance(value, int):
        return str(value) if abs(value) < 2**53 else ""
    return printable(value.replace("\0", " ")[:LONGEST]).strip() if isinstance(value, str) else ""


def _milliseconds(text: str, most: float, fields: Mapping[str, Any]) -> str:
    """Seconds as milliseconds; what is too long for seconds is in milliseconds."""
    from gliosight.read.dicom.elements import numbers

    echo = fields.get("EchoTime")
    known = isinstance(echo, int | float) and echo >= _SECONDS["EchoTime"]
    times = numbers(text)
    if known or any(time >= most for time in times):
        return text
    return "\\".join(f"{time * 1000:.10g}" for time in times)
