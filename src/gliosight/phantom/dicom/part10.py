"""A data set as the bytes of a file (PS3.10), fast for many that are nearly the same (phantom layer).

In: data sets of one series. Out: bytes. The slices of a series share most of their elements; these
are encoded once, which makes a study of hundreds of files several times faster to write. Each
element is still encoded by pydicom.
"""

from __future__ import annotations

import zlib
from typing import Any

from pydicom import uid
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info

PREAMBLE = b"\0" * 128 + b"DICM"
_IMPLEMENTATION = "GLIOSIGHT"
# Longer values, pixels above all, belong to one file only and are not kept.
_KEPT_BYTES = 4096


def put_meta(header: Any, syntax: str, implementation: str) -> None:
    """Give a data set its file meta group."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = header.SOPClassUID
    meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = implementation
    meta.ImplementationVersionName = _IMPLEMENTATION
    header.file_meta = meta


class SeriesWriter:
    """Encodes the data sets of one series in one transfer syntax."""

    def __init__(self, syntax: str) -> None:
        self.implicit = syntax == uid.ImplicitVRLittleEndian
        self.little = syntax != uid.ExplicitVRBigEndian
        self.deflated = syntax == uid.DeflatedExplicitVRLittleEndian
        # By identity: an element that several data sets share is one object. It is kept, or another
        # one could get its identity; and its value, since setting a keyword changes it in place.
        self._known: dict[int, tuple[Any, Any, bytes]] = {}

    def data_set(self, header: Any) -> bytes:
        """Encode the elements of a data set, without its meta group."""
        out = b"".join(self._element(header.get_item(tag)) for tag in sorted(header.keys()))
        if not self.deflated:
            return out
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        packed = packer.compress(out) + packer.flush()
        return packed + b"\0" * (len(packed) % 2)

    def file(self, header: Any) -> bytes:
        """Encode a whole file: preamble, meta group, data set."""
        meta = DicomBytesIO()
        write_file_meta_info(meta, header.file_meta, enforce_standard=True)
        return PREAMBLE + bytes(meta.getvalue()) + self.data_set(header)

    def _element(self, element: Any) -> bytes:
        known = self._known.get(id(element))
        if known is not None and known[1] is element.value:
            return known[2]
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = self.little, self.implicit
        # All text here is Latin-1 at most, whatever the character set claims in the end.
        write_data_element(buffer, element, ["latin_1"])
        data = bytes(buffer.getvalue())
        if len(data) <= _KEPT_BYTES:
            self._known[id(element)] = (element, element.value, data)
        return data
