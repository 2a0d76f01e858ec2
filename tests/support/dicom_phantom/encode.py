"""Pixels in every transfer syntax that is read.

The encoders are those of the packages the reader depends on where they are right, else imagecodecs'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import gdcm
import imagecodecs
import numpy as np
import openjpeg
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.pixels import get_encoder

Picture = NDArray[np.generic]
Encoder = Callable[[Picture, int], bytes]

# Strength of lossy syntaxes, as a scanner's "visually lossless" setting: the lesion's outline stays.
JPEG_QUALITY = 95
NEAR = 2
J2K_RATIO = 6.0
# The same for a picture too narrow for openjpeg.encode.
J2K_DB = 55
OPENJPEG_SIDE = 32
HTJ2K_STEP = 1e-4


@dataclass(frozen=True)
class Syntax:
    uid: str
    encoder: Encoder | None = None  # of one frame; None: not encapsulated
    lossy: str | None = None  # LossyImageCompressionMethod (PS3.3 C.7.6.1.1.5.1)
    bits: tuple[int, ...] = (8, 12, 16)  # values of BitsStored it can hold


def encode(picture: Picture, bits: int, syntax: Syntax) -> bytes:
    """Encode one frame: uint8 for 8 bits, else uint16 or int16."""
    if syntax.encoder is None:
        big = syntax.uid == uid.ExplicitVRBigEndian
        return picture.astype(picture.dtype.newbyteorder(">" if big else "<")).tobytes()
    data = syntax.encoder(np.ascontiguousarray(picture), bits)
    # Fragments have an even length (PS3.5 A.4).
    return data + b"\0" * (len(data) % 2)


def _gdcm(kind: str, setting: Callable[[], Any] | None = None) -> Encoder:
    """Make an encoder of gdcm's syntax ``kind``; ``setting`` makes the codec where it needs one."""

    def encoder(picture: Picture, bits: int) -> bytes:
        writer = gdcm.ImageWriter()  # it owns the image, so it has to outlive it
        image = writer.GetImage()
        image.SetNumberOfDimensions(2)
        image.SetDimensions((picture.shape[1], picture.shape[0], 1))
        image.SetPixelFormat(
            gdcm.PixelFormat(
                1, picture.dtype.itemsize * 8, bits, bits - 1, int(picture.dtype.kind == "i")
            )
        )
        grey = gdcm.PhotometricInterpretation.MONOCHROME2
        image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
        plain = gdcm.TransferSyntax.ImplicitVRLittleEndian
        image.SetTransferSyntax(gdcm.TransferSyntax(plain))
        element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
        element.SetByteStringValue(picture.astype(picture.dtype.newbyteorder("<")).tobytes())
        image.SetDataElement(element)
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, kind)))
        codec = setting() if setting else None
        if codec is not None:
            change.SetUserCodec(codec)
        change.SetInput(image)
        if not change.Change():
            raise RuntimeError(f"gdcm cannot write {kind} with {bits} bits")
        fragments = change.GetOutput().GetDataElement().GetSequenceOfFragments()
        parts = (
            fragments.GetFragment(k).GetByteValue().GetBuffer()
            for k in range(fragments.GetNumberOfFragments())
        )
        # gdcm hands bytes over as text, the undecodable ones escaped.
        return b"".join(one.encode("utf-8", "surrogateescape") for one in parts)

    return encoder


def _rle(picture: Picture, bits: int) -> bytes:
    if picture.nbytes % 2 == 0:
        return _gdcm("RLELossless")(picture, bits)
    # gdcm 3.2.6 pads such a frame and then ends the process over its length.
    return bytes(
        get_encoder(uid.RLELossless).encode(
            picture,
            rows=picture.shape[0],
            columns=picture.shape[1],
            samples_per_pixel=1,
            bits_allocated=8,
            bits_stored=bits,
            pixel_representation=0,
            photometric_interpretation="MONOCHROME2",
            number_of_frames=1,
            encoding_plugin="pydicom",
        )
    )


def _jpeg_baseline(picture: Picture, bits: int) -> bytes:
    del bits
    out = BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


def _near() -> Any:
    codec = gdcm.JPEGLSCodec()
    codec.SetLossless(False)
    codec.SetLossyError(NEAR)
    return codec


def _j2k(**settings: Any) -> Encoder:
    def encoder(picture: Picture, bits: int) -> bytes:
        narrow = min(picture.shape[:2])
        if narrow < OPENJPEG_SIDE:
            # openjpeg.encode halves the picture five times, and cannot be asked for fewer.
            data = imagecodecs.jpeg2k_encode(
                picture,
                level=J2K_DB if settings else None,
                codecformat="J2K",
                reversible=not settings,
                resolutions=max(narrow.bit_length() - 1, 1),
                bitspersample=bits,
            )
            return bytes(data)
        return bytes(openjpeg.encode(picture, bits_stored=bits, **settings))

    return encoder


def _jpeg_extended(picture: Picture, bits: int) -> bytes:
    # gdcm 3.2.6 writes a precision of 16 into this stream, which no JPEG process with loss has.
    return bytes(imagecodecs.jpeg_encode(picture, level=JPEG_QUALITY, bitspersample=bits))


def _htj2k(**settings: Any) -> Encoder:
    def encoder(picture: Picture, bits: int) -> bytes:
        del bits  # the stream says 8 or 16, as the array's type does
        return bytes(imagecodecs.htj2k_encode(picture, **settings))

    return encoder


_JPEG, _JPEG_LS, _J2K, _HTJ2K = "ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_15444_15"

SYNTAXES: Mapping[str, Syntax] = {
    "implicit-le": Syntax(uid.ImplicitVRLittleEndian),
    "explicit-le": Syntax(uid.ExplicitVRLittleEndian),
    "deflated": Syntax(uid.DeflatedExplicitVRLittleEndian),
    "explicit-be": Syntax(uid.ExplicitVRBigEndian),
    "rle": Syntax(uid.RLELossless, _rle),
    "jpeg-baseline": Syntax(uid.JPEGBaseline8Bit, _jpeg_baseline, _JPEG, bits=(8,)),
    "jpeg-extended": Syntax(uid.JPEGExtended12Bit, _jpeg_extended, _JPEG, bits=(12,)),
    "jpeg-lossless": Syntax(uid.JPEGLossless, _gdcm("JPEGLosslessProcess14"), bits=(12, 16)),
    "jpeg-lossless-sv1": Syntax(
        uid.JPEGLosslessSV1, _gdcm("JPEGLosslessProcess14_1"), bits=(12, 16)
    ),
    "jpeg-ls": Syntax(uid.JPEGLSLossless, _gdcm("JPEGLSLossless")),
    "jpeg-ls-near": Syntax(uid.JPEGLSNearLossless, _gdcm("JPEGLSNearLossless", _near), _JPEG_LS),
    "j2k": Syntax(uid.JPEG2000Lossless, _j2k()),
    "j2k-lossy": Syntax(uid.JPEG2000, _j2k(compression_ratios=[J2K_RATIO]), _J2K),
    "htj2k": Syntax(uid.HTJ2KLossless, _htj2k()),
    # This one promises its order of progression, and markers that tell where parts begin.
    "htj2k-rpcl": Syntax(uid.HTJ2KLosslessRPCL, _htj2k(tlm=True)),
    "htj2k-lossy": Syntax(uid.HTJ2K, _htj2k(level=HTJ2K_STEP, reversible=False), _HTJ2K),
}
