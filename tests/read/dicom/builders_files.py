"""Builders of DICOM files as scanners and bad programs write them, in every transfer syntax."""

from __future__ import annotations

import atexit
import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.pixels import get_encoder
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from gliosight.read.dicom.decoder import DecoderProcess
from gliosight.read.dicom.instances import Instance, read_instance
from gliosight.read.dicom.pixels import read_pixels
from gliosight.read.limits import DEFAULT_LIMITS, Budget, Limits

SHAPE = (40, 48)
NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
)
LOSSLESS = (
    uid.RLELossless,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
)
LOSSY = (uid.JPEGExtended12Bit, uid.JPEGLSNearLossless, uid.JPEG2000, uid.HTJ2K)
DECODER = DecoderProcess()  # one for all tests: each child takes a third of a second to start
atexit.register(DECODER.end)
PIXEL_HEAD = b"\xe0\x7f\x10\x00OW\0\0"  # where the pixels of an explicit file begin


class OneFrame(NamedTuple):
    """What `read_pixels` needs of a frame."""

    instance: Instance
    number: int = 1


def picture(bits: int = 12, *, signed: bool = False, seed: int = 0) -> NDArray[Any]:
    """(40, 48) smooth waves with a little noise that use all ``bits``; no symmetry."""
    rows, columns = np.indices(SHAPE)
    wave = (np.sin(rows / 6) + np.cos(columns / 7 + seed) + 2) / 4 * (2**bits - 1)
    wave += np.random.default_rng(seed).normal(0, 2**bits / 200, SHAPE)
    values = np.clip(np.round(wave), 0, 2**bits - 1).astype(np.int64)
    values[0, 0], values[0, 1] = 0, 2**bits - 1
    return values - 2 ** (bits - 1) if signed else values


def cells(values: NDArray[Any], allocated: int, bits: int) -> NDArray[Any]:
    """Samples as two's complement of ``bits`` in unsigned cells."""
    return (values & (2**bits - 1)).astype(f"u{allocated // 8}")


def make_dataset(
    values: NDArray[Any] | None = None,
    *,
    bits: int = 12,
    allocated: int = 16,
    signed: bool = False,
    **elements: object,
) -> Dataset:
    """An MR slice, or several frames of one, uncompressed; ``elements`` come last and win."""
    values = picture(bits, signed=signed) if values is None else values
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 100"
    made.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    made.SOPClassUID = uid.MRImageStorage
    made.SOPInstanceUID = "1.2.826.0.1.3680043.10.1.1"
    made.StudyDate = "20200101"
    made.Modality = "MR"
    made.Manufacturer = "ACME"
    made.PatientName = "Secret^Name"
    made.PatientID = "SECRET"
    made.RepetitionTime = 9000
    made.EchoTime = 125
    made.StudyInstanceUID = "1.2.826.0.1.3680043.10.1"
    made.SeriesInstanceUID = "1.2.826.0.1.3680043.10.1.3"
    made.SeriesNumber = 3
    made.InstanceNumber = 12
    made.ImagePositionPatient = [-90.5, -100.25, 12]
    made.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    made.SamplesPerPixel = 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.Rows, made.Columns = values.shape[-2:]
    made.PixelSpacing = [0.5, 0.5]
    made.BitsAllocated = allocated
    made.BitsStored = bits
    made.HighBit = bits - 1
    made.PixelRepresentation = int(signed)
    if values.ndim == 3:
        made.NumberOfFrames = len(values)
    made.PixelData = cells(values, allocated, bits).tobytes()
    made["PixelData"].VR = "OW"
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def write(path: Path, made: Dataset, syntax: str = uid.ExplicitVRLittleEndian) -> Path:
    """Write a data set as a file; packed pixels are in it already, native ones little endian."""
    return save(path, file_bytes(made, syntax))


def save(path: Path, data: bytes) -> Path:
    """Write bytes, whatever they are, as a file."""
    path.write_bytes(data)
    return path


def file_bytes(made: Dataset, syntax: str = uid.ExplicitVRLittleEndian) -> bytes:
    """The bytes of a file."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = made.get("SOPClassUID", uid.MRImageStorage)
    meta.MediaStorageSOPInstanceUID = made.get("SOPInstanceUID", "1.2.3")
    meta.TransferSyntaxUID = uid.UID(syntax)
    made.file_meta = meta
    if syntax == uid.ExplicitVRBigEndian and "PixelData" in made:
        width = made.BitsAllocated // 8
        made.PixelData = np.frombuffer(made.PixelData, f"<u{max(width, 2)}").byteswap().tobytes()
    out = io.BytesIO()
    dcmwrite(out, made, enforce_file_format=True)
    return out.getvalue()


def read(path: Path, limits: Limits = DEFAULT_LIMITS) -> Instance:
    """Read one file's header, named by the file."""
    return read_instance(path, path.name, Budget(limits))


def pixels(
    *paths: Path, numbers: tuple[int, ...] = (1,), limits: Limits = DEFAULT_LIMITS
) -> NDArray[Any]:
    """Read frames by their numbers, from each file in turn: (frames, rows, columns)."""
    instances = [read(path) for path in paths]
    frames = [OneFrame(one, number) for one in instances for number in numbers]
    return read_pixels(frames, Budget(limits), DECODER)  # type: ignore[arg-type]


def name_of(one: object) -> str:
    """The name of a transfer syntax, to tell tests apart by; of anything else, itself."""
    return uid.UID(one).name if isinstance(one, str) else str(one)


def raw_element(tag: int, vr: bytes, value: bytes) -> bytes:
    """One explicit element, whether its value is allowed or not."""
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    if vr.decode() in EXPLICIT_VR_LENGTH_32:
        return head + b"\0\0" + struct.pack("<L", len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def raw_sequence(
    tag: int, items: Sequence[bytes], *, defined: bool = True, vr: bytes = b"SQ"
) -> bytes:
    """One explicit sequence of raw items, with lengths or with delimiters."""
    body = b""
    for item in items:
        body += struct.pack("<HHL", 0xFFFE, 0xE000, len(item) if defined else 0xFFFFFFFF) + item
        body += b"" if defined else struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    if defined:
        return raw_element(tag, vr, body)
    head = struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, 0xFFFFFFFF)
    return head + body + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def with_element(element: bytes) -> bytes:
    """A file with raw bytes before its pixels."""
    data = file_bytes(make_dataset())
    place = data.rindex(PIXEL_HEAD)
    return data[:place] + element + data[place:]


def pack(values: NDArray[Any], syntax: str, *, bits: int, signed: bool) -> bytes:
    """One frame in an encapsulated transfer syntax."""
    width = 8 if bits <= 8 else 16
    plain = cells(values, width, bits)
    own = values.astype(f"{'i' if signed else 'u'}{width // 8}")
    if syntax == uid.RLELossless:
        return _rle(plain)
    if syntax in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit):
        return bytes(imagecodecs.jpeg8_encode(plain, level=97, bitspersample=bits))
    if syntax in (uid.JPEGLossless, uid.JPEGLosslessSV1):
        predictor = 1 if syntax == uid.JPEGLosslessSV1 else 4
        return bytes(
            imagecodecs.jpeg8_encode(plain, lossless=True, predictor=predictor, bitspersample=bits)
        )
    if syntax == uid.JPEGLSLossless:
        return bytes(imagecodecs.jpegls_encode(plain))
    if syntax == uid.JPEGLSNearLossless:
        return bytes(imagecodecs.jpegls_encode(plain, level=2))
    if syntax in (uid.JPEG2000Lossless, uid.JPEG2000):
        lossless = syntax == uid.JPEG2000Lossless
        return bytes(
            imagecodecs.jpeg2k_encode(
                own,
                level=0 if lossless else 60,
                codecformat="J2K",
                reversible=lossless,
                bitspersample=bits,
            )
        )
    if syntax == uid.HTJ2K:
        return bytes(imagecodecs.htj2k_encode(own, level=0.001, reversible=False))
    return bytes(imagecodecs.htj2k_encode(own, reversible=True))


def packed_dataset(frames: list[bytes], values: NDArray[Any], **options: Any) -> Dataset:
    """The data set of `make_dataset` with packed frames in the place of its pixels."""
    made = make_dataset(values, **options)
    made.PixelData = encapsulate(frames)
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    return made


def _rle(plain: NDArray[Any]) -> bytes:
    return bytes(
        get_encoder(uid.RLELossless).encode(
            plain,
            encoding_plugin="pydicom",
            rows=plain.shape[0],
            columns=plain.shape[1],
            samples_per_pixel=1,
            bits_allocated=8 * plain.dtype.itemsize,
            bits_stored=8 * plain.dtype.itemsize,
            pixel_representation=0,
            photometric_interpretation="MONOCHROME2",
            number_of_frames=1,
        )
    )
