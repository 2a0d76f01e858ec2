"""A whole study as files, damaged as `DicomSpec` asks for."""

from __future__ import annotations

import hashlib
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.fileset import FileSet
from pydicom.filewriter import write_data_element, write_file_meta_info
from pydicom.tag import Tag

from gliosight.phantom import Phantom
from gliosight.phantom.dicom import make_meta
from gliosight.phantom.files import study_folder

from .enhanced import enhanced
from .headers import classic, screenshot
from .series import Export, Series, all_series
from .spec import DicomSpec

PREAMBLE = b"\0" * 128 + b"DICM"
# The group length's element: tag, VR, length and four bytes of value.
GROUP_LENGTH_BYTES = 12
# Longer values, pixels above all, belong to one file only and are not kept.
KEPT_BYTES = 4096
# What pixels and geometry need, and what MR Image cannot be without (Type 1).
_TYPE_1 = """
    SpecificCharacterSet ImageType SOPClassUID SOPInstanceUID Modality SeriesDescription
    ScanningSequence SequenceVariant StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID
    ImagePositionPatient ImageOrientationPatient PixelSpacing SamplesPerPixel
    PhotometricInterpretation PlanarConfiguration Rows Columns BitsAllocated BitsStored HighBit
    PixelRepresentation RescaleIntercept RescaleSlope LossyImageCompression
    LossyImageCompressionRatio LossyImageCompressionMethod ConversionType PixelData
"""
KEPT_WORDS = frozenset(_TYPE_1.split())


# The files of the studies written last: many tests ask for the same one, and encoding takes most of the time.
_recent: dict[object, dict[str, bytes]] = {}
RECENT = 16


def write_dicom(phantom: Phantom, folder: Path, spec: DicomSpec | None = None) -> Path:
    """Write ``folder/<study_id>`` and return it; by default classic Siemens files with a few traps."""
    export = Export(phantom, spec or DicomSpec())
    with study_folder(phantom, folder) as target:
        if export.spec.dicomdir:
            _write_file_set(export, target)
        else:
            arrays = *phantom.sequences.values(), phantom.truth, phantom.affine
            digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).digest()
            key = (phantom.spec, export.spec, tuple(phantom.sequences), digest)
            files = _recent.pop(key, None) or _files(export)
            _recent[key] = files
            if len(_recent) > RECENT:
                del _recent[next(iter(_recent))]
            for name, data in files.items():
                path = target / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    return folder / phantom.spec.study_id


def _instances(export: Export) -> Iterator[tuple[Series, Any]]:
    for series in all_series(export):
        if series.kind == "screenshot":
            headers = screenshot(export, series)
        elif export.spec.layout == "classic" or series.stored_later or series.kind == "mosaic":
            headers = classic(export, series)
        else:
            headers = enhanced(export, series)
        for ds in headers:
            if export.spec.stripped:
                for element in list(ds):
                    if element.keyword not in KEPT_WORDS:
                        del ds[element.tag]
            meta = make_meta(export.syntax(series).uid, export.uid("implementation"))
            meta.MediaStorageSOPClassUID = ds.SOPClassUID
            meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
            ds.file_meta = meta
            yield series, ds


def _files(export: Export) -> dict[str, bytes]:
    """The files of a study by their names."""
    spec = export.spec
    files: dict[str, bytes] = {}
    writer, before, number = SeriesWriter(""), None, 0
    for series, ds in _instances(export):
        number += 1
        if series is not before:
            writer, before, number = SeriesWriter(ds.file_meta.TransferSyntaxUID), series, 1
        if spec.wrong_charset:
            _misspell(ds, writer)
        data = _cut(writer.file(ds), spec)
        words = "".join(c if c.isalnum() or c in "-_" else "_" for c in series.description)
        for copy in range(2 if series.kind == "FLAIR" and "copies" in spec.repeats else 1):
            name = export.vendor.file_name.format(
                series=series.number,
                instance=number,
                running=len(files) + 1,
                description=words.upper() or "SERIES",
            )
            folder, _, file = name.rpartition("/")
            files[f"{folder}/copy_{file}" if copy else name] = data
    if spec.shuffled_names:
        generator = np.random.default_rng([export.phantom.spec.seed, 7])
        return {
            uuid.UUID(bytes=generator.bytes(16), version=4).hex[:16]: files[name]
            for name in sorted(files)
        }
    return files


def _cut(data: bytes, spec: DicomSpec) -> bytes:
    """Cut off the preamble with its prefix, or the meta group as well."""
    if spec.no_preamble or spec.no_meta:
        data = data[len(PREAMBLE) :]
    if spec.no_meta:
        data = data[GROUP_LENGTH_BYTES + int.from_bytes(data[8:GROUP_LENGTH_BYTES], "little") :]
    return data


def _misspell(ds: Any, writer: SeriesWriter) -> None:
    """Write the patient's name in Latin-1, whatever the character set says."""
    tag = Tag(tag_for_keyword("PatientName"))
    if tag in ds:
        value = str(ds.PatientName).encode("latin-1")
        value += b" " * (len(value) % 2)
        ds[tag] = RawDataElement(tag, "PN", len(value), value, 0, writer.implicit, writer.little)


def _write_file_set(export: Export, target: Path) -> None:
    """Names and folders as PS3.10 8 wants them, and a DICOMDIR on top."""
    files = FileSet()
    try:
        files.UID = export.uid("file-set")
        for _, ds in _instances(export):
            files.add(ds)
        files.write(target)
    finally:
        # pydicom 3.0 leaves its temporary folder to the garbage collector, with a warning.
        files._stage["t"].cleanup()


class SeriesWriter:
    """Encodes the data sets of one series (PS3.10).

    Its slices share most of their elements; these are encoded once, which writes a study of hundreds of
    files several times faster.
    """

    def __init__(self, syntax: str) -> None:
        self.implicit = syntax == uid.ImplicitVRLittleEndian
        self.little = syntax != uid.ExplicitVRBigEndian
        self.deflated = syntax == uid.DeflatedExplicitVRLittleEndian
        # By identity: an element that several data sets share is one object. It is kept, or another one
        # could get its identity; and its value, since setting a keyword changes it in place.
        self._known: dict[int, tuple[Any, Any, bytes]] = {}

    def file(self, ds: Any) -> bytes:
        meta = DicomBytesIO()
        write_file_meta_info(meta, ds.file_meta, enforce_standard=True)
        data = b"".join(self._element(ds.get_item(tag)) for tag in sorted(ds.keys()))
        if self.deflated:
            packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            data = packer.compress(data) + packer.flush()
            data += b"\0" * (len(data) % 2)
        return PREAMBLE + bytes(meta.getvalue()) + data

    def _element(self, element: Any) -> bytes:
        known = self._known.get(id(element))
        if known is not None and known[1] is element.value:
            return known[2]
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = self.little, self.implicit
        # All text here is Latin-1 at most, whatever the character set claims in the end.
        write_data_element(buffer, element, ["latin_1"])
        data = bytes(buffer.getvalue())
        if len(data) <= KEPT_BYTES:
            self._known[id(element)] = (element, element.value, data)
        return data
