"""Studies a scanner might have exported, small enough to be damaged many times, and ways to damage them."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from gliosight.phantom import Phantom, PhantomSpec, make_phantom
from gliosight.study import MrSequence
from tests.support.dicom_phantom import DicomSpec, write_dicom

FLAIR_ONLY = (MrSequence.FLAIR,)
HEAD = make_phantom(
    PhantomSpec(seed=2, slices=4, matrix=48, pixel_mm=3, slice_spacing_mm=6, sequences=FLAIR_ONLY)
)
WHOLE = make_phantom(PhantomSpec(seed=2, slices=4, matrix=48, pixel_mm=3, slice_spacing_mm=6))
OTHER = make_phantom(PhantomSpec(seed=3, slices=5, matrix=48, pixel_mm=3, sequences=FLAIR_ONLY))
EXECUTABLE = b"MZ\x90\0" + bytes(range(1, 125))


def study(folder: Path, head: Phantom = HEAD, **settings: Any) -> Path:
    """A study without traps, unless they are asked for."""
    settings.setdefault("traps", frozenset())
    return write_dicom(head, folder, DicomSpec(**settings))


def files(folder: Path) -> list[Path]:
    """The images of a study, in the order of their names."""
    return sorted(one for one in folder.rglob("*") if one.is_file() and one.name != "DICOMDIR")


def header(path: Path) -> Dataset:
    return pydicom.dcmread(path, stop_before_pixels=True)


def keep(folder: Path, wanted: Callable[[Dataset], bool]) -> Path:
    """Delete all files but some; there must be some."""
    for path in files(folder):
        if not wanted(header(path)):
            path.unlink()
    assert files(folder)
    return folder


def edit(paths: Iterable[Path], **elements: Any) -> None:
    """Set elements, or delete them with ``None``, whatever the standard says of their values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in paths:
            made = pydicom.dcmread(path)
            for keyword, value in elements.items():
                if value is None:
                    delattr(made, keyword)
                else:
                    setattr(made, keyword, value)
            made.save_as(path, enforce_file_format=False)


def edited(folder: Path, **elements: Any) -> Path:
    """A study with elements set, or deleted, in each file."""
    path = study(folder)
    edit(files(path), **elements)
    return path


def _bomb(tag: bytes, **elements: Any) -> Callable[[Path], Path]:
    """A single deflated file whose data set ends with an element of 128 MiB of zeros."""

    def build(folder: Path) -> Path:
        path = study(folder, syntax="deflated")
        for one in files(path)[1:]:
            one.unlink()
        (one,) = files(path)
        edit([one], **elements)
        raw = one.read_bytes()
        start = 132 + 12 + int.from_bytes(raw[140:144], "little")
        plain = zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw[start:])
        plain = plain[: plain.rindex(b"\xe0\x7f\x10\x00OW")]
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        packed = packer.compress(plain + tag + b"\0\0" + (128 << 20).to_bytes(4, "little"))
        packed += b"".join(packer.compress(bytes(1 << 20)) for _ in range(128))
        one.write_bytes(raw[:start] + packed + packer.flush())
        return path

    return build


bomb_of_pixels = _bomb(b"\xe0\x7f\x10\0OW", Rows=8192, Columns=8192)
bomb_of_a_header = _bomb(b"\x09\x7f\x10\0UN")


def claims(**elements: Any) -> Callable[[Path], Path]:
    """A study whose headers all say so."""
    return lambda folder: edited(folder, **elements)


def beyond(folder: Path) -> Path:
    """An element that is longer than its file."""
    path = study(folder, syntax="implicit-le")
    one = files(path)[1]
    raw = one.read_bytes()
    at = raw.index(b"\x10\x00\x10\x00", 300)  # PatientName
    one.write_bytes(raw[: at + 4] + b"\xff\xff\xff\x7f" + raw[at + 8 :])
    return path


def preamble(folder: Path) -> Path:
    """Files that begin as an executable does."""
    path = study(folder)
    for one in files(path):
        one.write_bytes(EXECUTABLE + one.read_bytes()[128:])
    return path


def wide(folder: Path) -> Path:
    """Slices further apart than a head allows."""
    path = study(folder)
    for number, one in enumerate(files(path)):
        edit([one], ImagePositionPatient=[-70, -70, 90 * number])
    return path
