"""Inputs that claim or become more than a limit allows: refused before memory is spent."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

from gliosight.errors import DamagedInputError, GliosightError, LimitExceededError
from gliosight.read import Limits, find
from tests.counting import little_memory

from ..read.builders import make_volume, read_path, write_lgg, write_nifti
from ..read.test_pictures import chunk, header, jpeg, png
from .asserting import refused

MIB = 1024**2
SLICE = make_volume()[2]
WHOLE = nib.Nifti1Image(make_volume().T, np.diag([1, 1, 5, 1])).to_bytes()


def png_claiming(side: int) -> bytes:
    return png(header(side, side), chunk(b"IDAT", zlib.compress(bytes(100))))


def jpeg_claiming(side: int) -> bytes:
    data = bytearray(jpeg(SLICE))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(data)


def tiff_claiming(side: int, **options: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, SLICE, **options)
    out.seek(0)
    with tifffile.TiffFile(out, mode="r+b") as tif:
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tif.pages.first.tags[name].overwrite(side)
        return out.getvalue()


def nifti_claiming(side: int, offset: float = 352) -> bytes:
    head = nib.Nifti1Header(WHOLE[:348])
    head["dim"], head["vox_offset"] = [3, side, side, side, 1, 1, 1, 1], offset
    return bytes(head.binaryblock + WHOLE[348:])


def nifti2_claiming(side: int) -> bytes:
    data = nib.Nifti2Image(make_volume().T, np.eye(4)).to_bytes()
    return data[:16] + struct.pack("<8q", 3, side, side, side, 1, 1, 1, 1) + data[80:]


def bursting() -> bytes:
    """A small page, as the header says, whose deflated strip holds 300 MiB."""
    out = io.BytesIO()
    tifffile.imwrite(out, SLICE)
    engine = zlib.compressobj(9)
    bomb = b"".join(engine.compress(b"\0" * MIB) for _ in range(300)) + engine.flush()
    end = len(out.getvalue())
    out.seek(0)
    with tifffile.TiffFile(out, mode="r+b") as tif:
        tags = tif.pages[0].tags
        tags["Compression"].overwrite(8)
        tags["StripOffsets"].overwrite([end])
        tags["StripByteCounts"].overwrite([len(bomb)])
        return out.getvalue().ljust(end, b"\0") + bomb


def packed_around(start: bytes, mebibytes: int) -> bytes:
    engine = zlib.compressobj(9, wbits=31)
    parts = [engine.compress(part) for part in (start, *[bytes(MIB)] * mebibytes)]
    return b"".join(parts) + engine.flush()


def of_noise() -> bytes:
    """Half a gigabyte claimed by a large enough file."""
    return gzip.compress(nifti_claiming(800)[:352] + np.random.default_rng(0).bytes(6 * MIB), 1)


TWO_GIB = "the limit is 2.0 GiB"
BOMBS: dict[str, tuple[str, Any, int, type[GliosightError], tuple[str, ...]]] = {
    f"{name}: {situation}": (name, data, most, error, words)
    for name, situation, data, most, error, *words in (
        ("a.png", "81 MP", png_claiming(9000), 8, LimitExceededError, "200 times", "--max-ratio"),
        ("a.png", "400 MP", png_claiming(20_000), 8, LimitExceededError, "200 times", "--max-ratio"),
        ("a.png", "10 GP", png_claiming(100_000), 8, LimitExceededError, "need 37.3 GiB", TWO_GIB),
        ("a.png", "the largest", png_claiming(2**31 - 1), 8, LimitExceededError, TWO_GIB),
        ("a.jpg", "4 GP", jpeg_claiming(65_000), 8, LimitExceededError, "15.7 GiB", "--max-decoded"),
        ("a.tif", "plain", tiff_claiming(60_000), 8, LimitExceededError, "--max-decoded"),
        ("b.tif", "deflated", tiff_claiming(60_000, compression="zlib"), 8, LimitExceededError, "--max-"),
        ("c.tif", "BigTIFF", tiff_claiming(60_000, bigtiff=True), 8, LimitExceededError, "--max-decoded"),
        ("d.tif", "truncated", tiff_claiming(20_000), 8, DamagedInputError, "truncated"),
        ("e.tif", "a strip that bursts", bursting, 160, LimitExceededError, "inflate"),
        ("f.nii", "large", nifti_claiming(2000), 8, LimitExceededError, TWO_GIB, "--max-decoded"),
        ("f.nii", "the largest", nifti_claiming(32_767), 8, LimitExceededError, TWO_GIB),
        ("f.nii.gz", "large", nifti_claiming(2000), 8, LimitExceededError, TWO_GIB),
        ("f.nii.gz", "the largest", nifti_claiming(32_767), 8, LimitExceededError, TWO_GIB),
        ("f.nii", "a size that overflows", nifti2_claiming(2**33), 8, LimitExceededError),
        # Under 2 GiB, but more than a hundred thousand times the bytes that are there.
        ("f.nii", "truncated", nifti_claiming(700), 8, DamagedInputError, "truncated: 2,752 of"),
        ("f.nii.gz", "packed", nifti_claiming(700), 8, LimitExceededError, "--max-ratio"),
        ("g.nii.gz", "half a gigabyte of zeros before the pixels",
         packed_around(nifti_claiming(20, 2.0**29)[:352], 40), 8, LimitExceededError, "--max-ratio"),
        ("g.nii.gz", "noise", of_noise, 40, DamagedInputError, "truncated"),
    )
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("situation", BOMBS)
def test_refused_before_memory_is_spent(tmp_path: Path, situation: str) -> None:
    """What is packed and too small is a bomb; what is not packed is truncated."""
    name, data, most, error, words = BOMBS[situation]
    data = data if isinstance(data, bytes) else data()
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name == "f.nii.gz" else data)
    with little_memory(most * MIB):
        refused(path, error, name, *words)


@pytest.mark.slow
def test_raising_a_limit_of_pictures_raises_it(tmp_path: Path) -> None:
    """Pillow's own limit of 179 million pixels stands nowhere above ours."""
    Image.new("1", (14_000, 14_000)).save(tmp_path / "a.png")
    Image.new("1", (14_000, 14_000)).save(tmp_path / "b.tif", compression="tiff_lzw")
    for name in ("a.png", "b.tif"):
        refused(tmp_path / name, LimitExceededError, name, "--max-ratio")
        limits = Limits(decoded_bytes=14_000 * 14_000 - 1, ratio=1e9)
        refused(tmp_path / name, LimitExceededError, name, "--max-decoded", limits=limits)
    (tmp_path / "c.png").write_bytes(png_claiming(14_000))
    limits = Limits(ratio=1e9)
    refused(tmp_path / "c.png", DamagedInputError, "c.png", "cannot be decoded", limits=limits)


@pytest.mark.slow
def test_what_follows_the_pixels_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "flair.nii.gz").write_bytes(packed_around(WHOLE, 100))
    with little_memory(12 * MIB):
        assert read_path(tmp_path / "flair.nii.gz").shape == (5, 24, 20)


def member(body: bytes = b"", *, name: bytes = b"", level: int = 9) -> bytes:
    """One gzip member, with a file name in its header."""
    packed = gzip.compress(body, level, mtime=0)
    flags = bytes([8 if name else 0])
    return packed[:3] + flags + packed[4:10] + (name + b"\0" if name else b"") + packed[10:]


def empty_blocks(count: int) -> bytes:
    """A member whose stream is ``count`` stored blocks without a byte."""
    head = b"\x1f\x8b\x08" + b"\0" * 6 + b"\xff"
    return head + b"\0\0\0\xff\xff" * count + b"\x01\0\0\xff\xff" + b"\0" * 8


# What a .gz can hold that unpacks to nothing, for ever. Whole files would be larger yet: the number of
# bytes read of them is what counts.
NOTHING = {
    "a million and a half empty members": member() * 1_500_000,
    "empty blocks": empty_blocks(6_000_000),
    "members with long names": member(name=b"n" * MIB) * 30,
}


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("case", NOTHING)
def test_gzip_that_holds_nothing(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch, *, before: bool
) -> None:
    content = NOTHING[case] + member(WHOLE)
    if before:  # in the middle of the pixels: the header can be read
        content = member(WHOLE[:1000]) + NOTHING[case] + member(WHOLE[1000:])
    path = tmp_path / "flair.nii.gz"
    path.write_bytes(content)
    assert len(content) > 20 * MIB
    stored = 0

    class Counted(io.FileIO):
        def read(self, size: int = -1) -> bytes | None:
            nonlocal stored
            data = super().read(size)
            stored += len(data or b"")
            return data

    monkeypatch.setattr("os.fdopen", lambda number, _: Counted(number))
    refused(path, DamagedInputError, "flair.nii.gz")
    assert stored < 3 * 3 * MIB, "each look at the file ends soon"


@pytest.mark.parametrize(
    ("size", "level"),
    [(1000, 9), (65_280, 6), (4096, 0)],  # many small ones; as bgzip cuts them; stored
)
def test_gzip_of_many_members_is_read(tmp_path: Path, size: int, level: int) -> None:
    """pigz, bgzip and ``cat a.gz b.gz`` write them, and an empty one at the end, too."""
    values = np.random.default_rng(0).integers(0, 4000, (20, 128, 128)).astype(np.int16)
    whole = write_nifti(tmp_path / "x.nii", values).read_bytes()
    parts = [member(whole[at : at + size], level=level) for at in range(0, len(whole), size)]
    parts[1:1] = [member()] * 1000
    parts.append(member(name=b"comment" * 100_000))
    (tmp_path / "flair.nii.gz").write_bytes(b"".join(parts) + b"\0" * 30)
    np.testing.assert_array_equal(read_path(tmp_path / "flair.nii.gz").flair.values, values)


def test_limit_counts_the_whole_study(tmp_path: Path) -> None:
    for seed, name in enumerate(("flair", "t1", "t1ce")):
        write_nifti(tmp_path / "N" / f"{name}.nii", make_volume(seed=seed))
    write_lgg(tmp_path / "P")
    size = 3 * 4 * make_volume().size  # a pixel counts four bytes at least
    for folder, last in (("N", "t1ce.nii"), ("P", "P_5.tif")):
        assert read_path(tmp_path / folder, limits=Limits(decoded_bytes=size)).shape == (5, 24, 20)
        limits = Limits(decoded_bytes=size - 1)
        refused(tmp_path / folder, LimitExceededError, last, "--max-decoded", limits=limits)


def test_file_larger_than_all_pixels_may_be(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, SLICE)
    with path.open("r+b") as handle:
        handle.truncate(3 * 1024**3)  # sparse
    with little_memory(8 * MIB):
        refused(path, LimitExceededError, "a.tif", "3.0 GiB", "--max-decoded")


def test_members(tmp_path: Path) -> None:
    """Files in a folder, pages in a file, folders in folders."""
    write_lgg(tmp_path / "P")
    limits = Limits(members=9)
    refused(tmp_path / "P", LimitExceededError, "P", "9", "--max-members", limits=limits)
    # Below the path given, one folder of thousands must not cost the others.
    assert [candidate.source for candidate in find(tmp_path, limits)] == ["P"]
    refused(tmp_path, LimitExceededError, "P", "9", "--max-members", limits=limits)
    pages = tmp_path / "a.tif"
    tifffile.imwrite(pages, make_volume(), photometric="minisblack")
    refused(pages, LimitExceededError, "a.tif", "--max-members", limits=Limits(members=4))
    tmp_path.joinpath(*["d"] * 30).mkdir(parents=True)
    with pytest.raises(LimitExceededError):
        find(tmp_path / "d", Limits(members=20))


@pytest.mark.slow
def test_blank_images_are_no_bombs(tmp_path: Path) -> None:
    """They pack a thousandfold, and are met in every study."""
    values = np.zeros((100, 512, 512), np.int16)
    assert read_path(write_nifti(tmp_path / "flair.nii.gz", values)).shape == values.shape
    Image.fromarray(np.zeros((512, 512, 3), np.uint8)).save(tmp_path / "a.png", optimize=True)
    assert read_path(tmp_path / "a.png").shape == (1, 512, 512)
