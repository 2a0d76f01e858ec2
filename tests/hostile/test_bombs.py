"""Inputs that claim or become more than a limit allows: refused before memory is spent."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from gliosight.errors import DamagedInputError, LimitExceededError
from gliosight.read import Limits, find
from tests.counting import little_memory

from ..read.builders import make_volume, read_path, write_lgg, write_nifti
from .asserting import refused

MIB = 1024**2
SLICE = make_volume()[2]


def png_claiming(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def jpeg_claiming(side: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(SLICE).save(out, "JPEG")
    data = bytearray(out.getvalue())
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


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        (
            "a.png",
            png_claiming(9000, 9000),
            ("the limit is 200 times", "--max-ratio"),
        ),
        ("a.png", png_claiming(20_000, 20_000), ("the limit is 200 times", "--max-ratio")),
        ("a.png", png_claiming(100_000, 100_000), ("need 37.3 GiB decoded, the limit is 2.0 GiB",)),
        ("a.png", png_claiming(2**31 - 1, 2**31 - 1), ("the limit is 2.0 GiB",)),
        ("a.jpg", jpeg_claiming(65_000), ("15.7 GiB", "--max-decoded")),
        ("a.tif", tiff_claiming(60_000), ("--max-decoded",)),
        ("a.tif", tiff_claiming(60_000, compression="zlib"), ("--max-",)),
        ("a.tif", tiff_claiming(60_000, bigtiff=True), ("--max-decoded",)),
    ],
)
def test_picture_that_claims_to_be_huge(
    tmp_path: Path, name: str, data: bytes, words: tuple[str, ...]
) -> None:
    (tmp_path / name).write_bytes(data)
    with little_memory(8 * MIB):
        refused(tmp_path / name, LimitExceededError, name, *words)


def test_raising_a_limit_of_pictures_raises_it(tmp_path: Path) -> None:
    """Pillow's own limit of 179 million pixels stands nowhere above ours."""
    Image.new("1", (14_000, 14_000)).save(tmp_path / "a.png")
    Image.new("1", (14_000, 14_000)).save(tmp_path / "b.tif", compression="tiff_lzw")
    for name in ("a.png", "b.tif"):
        refused(tmp_path / name, LimitExceededError, name, "--max-ratio")
        limits = Limits(decoded_bytes=14_000 * 14_000 - 1, ratio=1e9)
        refused(tmp_path / name, LimitExceededError, name, "--max-decoded", limits=limits)
    limits = Limits(ratio=1e9)
    (tmp_path / "c.png").write_bytes(png_claiming(14_000, 14_000))
    refused(tmp_path / "c.png", DamagedInputError, "c.png", "cannot be decoded", limits=limits)


def test_tiff_whose_strip_bursts(tmp_path: Path) -> None:
    """A small page, as the header says, whose deflated strip holds 300 MiB."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, SLICE)
    engine = zlib.compressobj(9)
    bomb = b"".join(engine.compress(b"\0" * MIB) for _ in range(300)) + engine.flush()
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tags = tif.pages[0].tags
        end = path.stat().st_size
        tags["Compression"].overwrite(8)
        tags["StripOffsets"].overwrite([end])
        tags["StripByteCounts"].overwrite([len(bomb)])
    with path.open("ab") as handle:
        handle.write(b"\0" * (end - path.stat().st_size) + bomb)
    with little_memory(160 * MIB):
        refused(path, LimitExceededError, "a.tif", "inflate")


@pytest.mark.parametrize("name", ["flair.nii", "flair.nii.gz"])
@pytest.mark.parametrize("side", [2000, 32_767])
def test_nifti_that_claims_to_be_huge(tmp_path: Path, name: str, side: int) -> None:
    dim = [3, side, side, side, 1, 1, 1, 1]
    plain = write_nifti(tmp_path / "x.nii", make_volume(), dim=dim).read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(plain) if name.endswith("gz") else plain)
    with little_memory(8 * MIB):
        refused(tmp_path / name, LimitExceededError, name, "the limit is 2.0 GiB", "--max-decoded")


# Under 2 GiB, but more than a hundred thousand times the bytes that are there.
LARGE = [3, 700, 700, 700, 1, 1, 1, 1]


def test_what_is_packed_is_a_bomb_and_what_is_not_is_truncated(tmp_path: Path) -> None:
    plain = write_nifti(tmp_path / "b.nii", make_volume(), dim=LARGE)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(plain.read_bytes()))
    (tmp_path / "c.tif").write_bytes(tiff_claiming(20_000))
    with little_memory(8 * MIB):
        refused(tmp_path / "a.nii.gz", LimitExceededError, "a.nii.gz", "--max-ratio")
        refused(plain, DamagedInputError, "b.nii", "truncated: 2,752 of")
        refused(tmp_path / "c.tif", DamagedInputError, "c.tif", "truncated")


def test_nifti2_whose_size_overflows(tmp_path: Path) -> None:
    import nibabel as nib

    nib.save(nib.Nifti2Image(make_volume().transpose(), np.eye(4)), tmp_path / "flair.nii")
    raw = bytearray((tmp_path / "flair.nii").read_bytes())
    raw[16:80] = struct.pack("<8q", 3, 2**33, 2**33, 2**33, 1, 1, 1, 1)
    (tmp_path / "flair.nii").write_bytes(raw)
    with little_memory(8 * MIB):
        refused(tmp_path / "flair.nii", LimitExceededError, "flair.nii")


def test_gzip_bombs_around_the_pixels(tmp_path: Path) -> None:
    """Pixels behind half a gigabyte of zeros, as the header says; what follows pixels is not unpacked."""

    def packed(start: bytes, mebibytes: int) -> Path:
        engine = zlib.compressobj(9, wbits=31)
        parts = [engine.compress(part) for part in (start, *[b"\0" * MIB] * mebibytes)]
        (tmp_path / "flair.nii.gz").write_bytes(b"".join(parts) + engine.flush())
        return tmp_path / "flair.nii.gz"

    whole = write_nifti(tmp_path / "x.nii", make_volume()).read_bytes()
    head = write_nifti(tmp_path / "x.nii", make_volume(), vox_offset=float(2**29)).read_bytes()
    before = packed(head[:352], 40)
    with little_memory(8 * MIB):
        refused(before, LimitExceededError, "flair.nii.gz", "--max-ratio")
    behind = packed(whole, 100)
    with little_memory(12 * MIB):
        assert read_path(behind).shape == (5, 24, 20)


def test_gzip_that_promises_more_than_it_holds(tmp_path: Path) -> None:
    """Half a gigabyte claimed by a large enough file of noise: memory grows with the bytes that are there."""
    dim = [3, 800, 800, 800, 1, 1, 1, 1]
    head = write_nifti(tmp_path / "x.nii", make_volume(), dim=dim).read_bytes()[:352]
    noise = np.random.default_rng(0).bytes(6 * MIB)
    (tmp_path / "flair.nii.gz").write_bytes(gzip.compress(head + noise, 1))
    with little_memory(40 * MIB):
        refused(tmp_path / "flair.nii.gz", DamagedInputError, "flair.nii.gz", "truncated")


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
    whole = write_nifti(tmp_path / "x.nii", make_volume()).read_bytes()
    parts = (whole[:1000], whole[1000:])
    content = NOTHING[case] + member(whole)
    if before:  # in the middle of the pixels: the header can be read
        content = member(parts[0]) + NOTHING[case] + member(parts[1])
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
    assert stored < 3 * 3 * MIB, "each of three looks at the file ends soon"


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


def test_blank_images_are_no_bombs(tmp_path: Path) -> None:
    """They pack a thousandfold, and are met in every study."""
    values = np.zeros((100, 512, 512), np.int16)
    assert read_path(write_nifti(tmp_path / "flair.nii.gz", values)).shape == values.shape
    Image.fromarray(np.zeros((512, 512, 3), np.uint8)).save(tmp_path / "a.png", optimize=True)
    assert read_path(tmp_path / "a.png").shape == (1, 512, 512)
