"""Transfer syntaxes that are read (read stage, DICOM); apart because headers need them, pixels or not.

A syntax is how a file writes its elements and encodes its pixels (PS3.5, section 10; PS3.6, table A-1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydicom import config, uid

from gliosight.errors import UnsupportedInputError


class Syntax(NamedTuple):
    """One transfer syntax.

    Parameters
    ----------
    uid : str
    name : str
        In messages and tables.
    lossy : bool
        Whether it may have changed the pixels; see `is_lossy`.
    decoder : {"numpy", "pydicom", "gdcm", "openjpeg"}
        numpy: the pixels are not compressed frame by frame.
    """

    uid: str
    name: str
    lossy: bool
    decoder: Literal["numpy", "pydicom", "gdcm", "openjpeg"]

    @property
    def native(self) -> bool:
        """Whether the pixels are not encapsulated."""
        return self.decoder == "numpy"


SYNTAXES: Mapping[str, Syntax] = {
    syntax.uid: syntax
    for syntax in (
        Syntax(uid.ImplicitVRLittleEndian, "Implicit VR Little Endian", False, "numpy"),
        Syntax(uid.ExplicitVRLittleEndian, "Explicit VR Little Endian", False, "numpy"),
        Syntax(
            uid.DeflatedExplicitVRLittleEndian, "Deflated Explicit VR Little Endian", False, "numpy"
        ),
        Syntax(uid.ExplicitVRBigEndian, "Explicit VR Big Endian", False, "numpy"),
        Syntax(uid.RLELossless, "RLE Lossless", False, "pydicom"),
        Syntax(uid.JPEGBaseline8Bit, "JPEG Baseline", True, "gdcm"),
        Syntax(uid.JPEGExtended12Bit, "JPEG Extended", True, "gdcm"),
        Syntax(uid.JPEGLossless, "JPEG Lossless", False, "gdcm"),
        Syntax(uid.JPEGLosslessSV1, "JPEG Lossless SV1", False, "gdcm"),
        Syntax(uid.JPEGLSLossless, "JPEG-LS Lossless", False, "gdcm"),
        Syntax(uid.JPEGLSNearLossless, "JPEG-LS Near-lossless", True, "gdcm"),
        Syntax(uid.JPEG2000Lossless, "JPEG 2000 Lossless", False, "openjpeg"),
        Syntax(uid.JPEG2000, "JPEG 2000", True, "openjpeg"),
        Syntax(uid.HTJ2KLossless, "HTJ2K Lossless", False, "openjpeg"),
        Syntax(uid.HTJ2KLosslessRPCL, "HTJ2K Lossless RPCL", False, "openjpeg"),
        Syntax(uid.HTJ2K, "HTJ2K", True, "openjpeg"),
    )
}

# Those that may also be used without loss; then the header says so.
_EITHER_WAY = frozenset({uid.JPEG2000, uid.HTJ2K, uid.JPEGLSNearLossless})


def name_of(syntax: str) -> str:
    """The name of any transfer syntax; of an unknown one its UID, shortened."""
    if syntax in SYNTAXES:
        return SYNTAXES[syntax].name
    # Any text may stand there; pydicom would warn of it.
    return str(uid.UID(syntax, validation_mode=config.IGNORE).name)[:64]


def refusal(syntax: str, where: str) -> UnsupportedInputError | None:
    """The error for a syntax whose pixels are not read, by name; ``None`` for one that is read."""
    if syntax in SYNTAXES:
        return None
    name = name_of(syntax)
    video = any(word in name.upper() for word in ("MPEG", "HEVC", "SMPTE"))
    return UnsupportedInputError(
        f"{'video' if video else 'pixels'} in the transfer syntax {name}",
        where=where,
        remedy="export the series uncompressed (Explicit VR Little Endian)",
    )


def is_lossy(syntax: str, header: Any) -> bool:
    """Whether the pixels lost something, by the syntax or by Lossy Image Compression (0028,2110)."""
    stated = str(header.get("LossyImageCompression", "") or "").strip()
    if stated == "01":
        return True
    known = SYNTAXES.get(syntax)
    return known is not None and known.lossy and not (syntax in _EITHER_WAY and stated == "00")
