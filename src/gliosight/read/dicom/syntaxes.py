"""Transfer syntaxes: what they are called, whether they lose anything, who decodes them (read stage).

In: a UID. Out: a `Syntax`, or an `UnsupportedInputError` that names what it is. A syntax is how a file
writes its elements and packs its pixels (DICOM PS3.5, section 10; PS3.6, table A-1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydicom import config, uid

from gliosight.errors import UnsupportedInputError


class Decoder(str, Enum):
    """Who unpacks the pixels."""

    NATIVE = "numpy"
    RLE = "pydicom"
    GDCM = "gdcm"
    OPENJPEG = "openjpeg"


@dataclass(frozen=True)
class Syntax:
    """One transfer syntax.

    Parameters
    ----------
    uid : str
    name : str
        As people say it, in messages and tables.
    lossy : bool
        Whether it may have changed the pixels; see `is_lossy`.
    decoder : Decoder
    """

    uid: str
    name: str
    lossy: bool
    decoder: Decoder

    @property
    def native(self) -> bool:
        """Whether the pixels are not packed frame by frame."""
        return self.decoder is Decoder.NATIVE


SYNTAXES: Mapping[str, Syntax] = {
    one.uid: one
    for one in (
        Syntax(uid.ImplicitVRLittleEndian, "Implicit VR Little Endian", False, Decoder.NATIVE),
        Syntax(uid.ExplicitVRLittleEndian, "Explicit VR Little Endian", False, Decoder.NATIVE),
        Syntax(
            uid.DeflatedExplicitVRLittleEndian,
            "Deflated Explicit VR Little Endian",
            False,
            Decoder.NATIVE,
        ),
        Syntax(uid.ExplicitVRBigEndian, "Explicit VR Big Endian", False, Decoder.NATIVE),
        Syntax(uid.RLELossless, "RLE Lossless", False, Decoder.RLE),
        Syntax(uid.JPEGBaseline8Bit, "JPEG Baseline", True, Decoder.GDCM),
        Syntax(uid.JPEGExtended12Bit, "JPEG Extended", True, Decoder.GDCM),
        Syntax(uid.JPEGLossless, "JPEG Lossless", False, Decoder.GDCM),
        Syntax(uid.JPEGLosslessSV1, "JPEG Lossless SV1", False, Decoder.GDCM),
        Syntax(uid.JPEGLSLossless, "JPEG-LS Lossless", False, Decoder.GDCM),
        Syntax(uid.JPEGLSNearLossless, "JPEG-LS Near-lossless", True, Decoder.GDCM),
        Syntax(uid.JPEG2000Lossless, "JPEG 2000 Lossless", False, Decoder.OPENJPEG),
        Syntax(uid.JPEG2000, "JPEG 2000", True, Decoder.OPENJPEG),
        Syntax(uid.HTJ2KLossless, "HTJ2K Lossless", False, Decoder.OPENJPEG),
        Syntax(uid.HTJ2KLosslessRPCL, "HTJ2K Lossless RPCL", False, Decoder.OPENJPEG),
        Syntax(uid.HTJ2K, "HTJ2K", True, Decoder.OPENJPEG),
    )
}

# Those that may also be used without loss; then the header says so.
_EITHER_WAY = frozenset({uid.JPEG2000, uid.HTJ2K, uid.JPEGLSNearLossless})


def name_of(syntax: str) -> str:
    """The name of any transfer syntax; the UID itself, shortened, where nobody knows it."""
    if syntax in SYNTAXES:
        return SYNTAXES[syntax].name
    # Any text may stand there; pydicom would warn of it.
    return str(uid.UID(syntax, validation_mode=config.IGNORE).name)[:64]


def refusal(syntax: str, where: str) -> UnsupportedInputError | None:
    """The error for a syntax whose pixels are not read, by name; ``None`` for one that is read."""
    if syntax in SYNTAXES:
        return None
    kind = name_of(syntax)
    video = any(word in kind.upper() for word in ("MPEG", "HEVC", "SMPTE"))
    return UnsupportedInputError(
        f"{'video' if video else 'pixels'} in the transfer syntax {kind}",
        where=where,
        remedy="export the series uncompressed (Explicit VR Little Endian)",
    )


def syntax_of(syntax: str, where: str) -> Syntax:
    """The syntax whose pixels are to be read.

    Raises
    ------
    UnsupportedInputError
        Video, and everything else that is not in the table.
    """
    if (error := refusal(syntax, where)) is not None:
        raise error
    return SYNTAXES[syntax]


def is_lossy(syntax: str, header: Any) -> bool:
    """Whether the pixels lost something, by the syntax or by Lossy Image Compression (0028,2110)."""
    said = str(header.get("LossyImageCompression", "") or "").strip()
    if said == "01":
        return True
    known = SYNTAXES.get(syntax)
    return known is not None and known.lossy and not (syntax in _EITHER_WAY and said == "00")
