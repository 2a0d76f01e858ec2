"""Inputs that claim or become more than a limit allows: refused before memory is spent."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from pathlib import Path

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


def png_claiming(width: int, height: int, body: bytes = b"\0" * 100) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(body)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in parts)


@pytest.mark.parametrize(
    ("width", "height", "told"),
    [
        (9000, 9000, "the limit is 200 times: raise it with --max-ratio"),
        (20_000, 20_000, "the limit is 200 times: raise it with --max-ratio"),
        (100_000, 100_000, "need 37.3 GiB decoded, the limit is 2.0 GiB"),
        (2**31 - 1, 2**31 - 1, "the limit is 2.0 GiB"),
    ],
)
def test_png_that_claims_to_be_huge(tmp_path: Path, width: int, height: int, told: str) -> None:
    (tmp_path / "a.png").write_bytes(png_claiming(width, height))
    with little_memory(8 * MIB):
        refused(tmp_path / "a.png", LimitExceededError, "a.png", *told.split(": "))


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


def test_jpeg_that_claims_to_be_huge(tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.fromarray(SLICE).save(out, "JPEG")
    data = bytearray(out.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65000, 65000)
    (tmp_path / "a.jpg").write_bytes(data)
    with little_memory(8 * MIB):
        refused(tmp_path / "a.jpg", LimitExceededError, "a.jpg", "15.7 GiB", "--max-decoded")


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"bigtiff": True}], ids=str)
def test_tiff_that_claims_to_be_huge(tmp_path: Path, options: dict[str, object]) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, SLICE, **options)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tif.pages[0].tags[name].overwrite(60_000)
    with little_memory(8 * MIB):
        refused(path, LimitExceededError, "a.tif", "--max-")


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
@pytest.mark.parametrize(
    "dim",
    [
        [3, 2000, 2000, 2000, 1, 1, 1, 1],
        [3, 32767, 32767, 32767, 1, 1, 1, 1],
    ],
)
def test_nifti_that_claims_to_be_huge(tmp_path: Path, name: str, dim: list[int]) -> None:
    plain = write_nifti(tmp_path / "x.nii", make_volume(), dim=dim).read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(plain) if name.endswith("gz") else plain)
    with little_memory(8 * MIB):
        refused(tmp_path / name, LimitExceededError, name, "the limit is 2.0 GiB", "--max-decoded")


# Under 2 GiB, but more than a hundred thousand times the bytes that are there.
LARGE = [3, 700, 700, 700, 1, 1, 1, 1]


def test_packed_nifti_that_expands_like_a_bomb(tmp_path: Path) -> None:
    plain = write_nifti(tmp_path / "x.nii", make_volume(), dim=LARGE).read_bytes()
    (tmp_path / "flair.nii.gz").write_bytes(gzip.compress(plain))
    with little_memory(8 * MIB):
        refused(tmp_path / "flair.nii.gz", LimitExceededError, "flair.nii.gz", "--max-ratio")


def test_what_is_not_packed_is_truncated_and_no_bomb(tmp_path: Path) -> None:
    write_nifti(tmp_path / "flair.nii", make_volume(), dim=LARGE)
    tifffile.imwrite(tmp_path / "a.tif", SLICE)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as tif:
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tif.pages[0].tags[name].overwrite(20_000)
    with little_memory(8 * MIB):
        refused(tmp_path / "flair.nii", DamagedInputError, "flair.nii", "truncated: 2,752 of")
        refused(tmp_path / "a.tif", DamagedInputError, "a.tif", "truncated")


def test_nifti2_whose_size_overflows(tmp_path: Path) -> None:
    import nibabel as nib

    nib.save(nib.Nifti2Image(make_volume().transpose(), np.eye(4)), tmp_path / "flair.nii")
    raw = bytearray((tmp_path / "flair.nii").read_bytes())
    raw[16:80] = struct.pack("<8q", 3, 2**33, 2**33, 2**33, 1, 1, 1, 1)
    (tmp_path / "flair.nii").write_bytes(raw)
    with little_memory(8 * MIB):
        refused(tmp_path / "flair.nii", LimitExceededError, "flair.nii")


def test_gzip_bomb_before_the_pixels(tmp_path: Path) -> None:
    """The header says that the pixels begin behind half a gigabyte of zeros."""
    offset = float(2**29)
    head = write_nifti(tmp_path / "x.nii", make_volume(), vox_offset=offset).read_bytes()[:352]
    engine = zlib.compressobj(9, wbits=31)
    parts = [engine.compress(head), *(engine.compress(b"\0" * MIB) for _ in range(40))]
    (tmp_path / "flair.nii.gz").write_bytes(b"".join(parts) + engine.flush())
    with little_memory(8 * MIB):
        refused(tmp_path / "flair.nii.gz", LimitExceededError, "flair.nii.gz", "--max-ratio")


def test_gzip_bomb_behind_the_pixels(tmp_path: Path) -> None:
    """What follows the pixels is not unpacked."""
    whole = write_nifti(tmp_path / "x.nii", make_volume()).read_bytes()
    engine = zlib.compressobj(9, wbits=31)
    parts = [engine.compress(whole), *(engine.compress(b"\0" * MIB) for _ in range(100))]
    (tmp_path / "flair.nii.gz").write_bytes(b"".join(parts) + engine.flush())
    with little_memory(12 * MIB):
        assert read_path(tmp_path / "flair.nii.gz").shape == (5, 24, 20)


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
        write_nifti(tmp_path / f"{name}.nii", make_volume(seed=seed))
    size = 4 * make_volume().size  # a pixel counts four bytes at least
    assert read_path(tmp_path, limits=Limits(decoded_bytes=3 * size)).shape == (5, 24, 20)
    limits = Limits(decoded_bytes=3 * size - 1)
    refused(tmp_path, LimitExceededError, "t1ce.nii", "--max-decoded", limits=limits)


def test_limit_counts_all_slices(tmp_path: Path) -> None:
    write_lgg(tmp_path / "P")
    limits = Limits(decoded_bytes=4 * 5 * 24 * 20 * 3 - 1)
    refused(tmp_path / "P", LimitExceededError, "P_5.tif", "--max-decoded", limits=limits)


def test_file_larger_than_all_pixels_may_be(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, SLICE)
    with path.open("r+b") as handle:
        handle.truncate(3 * 1024**3)  # sparse
    with little_memory(8 * MIB):
        refused(path, LimitExceededError, "a.tif", "3.0 GiB", "--max-decoded")


def test_members(tmp_path: Path) -> None:
    write_lgg(tmp_path / "P")
    limits = Limits(members=9)
    refused(tmp_path / "P", LimitExceededError, "P", "9", "--max-members", limits=limits)
    # Below the path given, one folder of thousands must not cost the others.
    assert [candidate.source for candidate in find(tmp_path, limits)] == ["P"]
    refused(tmp_path, LimitExceededError, "P", "9", "--max-members", limits=limits)


def test_pages(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", make_volume(), photometric="minisblack")
    limits = Limits(members=4)
    refused(tmp_path / "a.tif", LimitExceededError, "a.tif", "--max-members", limits=limits)


def test_many_nested_folders(tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(30):
        folder = folder / "d"
    folder.mkdir(parents=True)
    with pytest.raises(LimitExceededError):
        find(tmp_path, Limits(members=20))


def test_blank_images_are_no_bombs(tmp_path: Path) -> None:
    """They pack a thousandfold, and are met in every study."""
    values = np.zeros((100, 512, 512), np.int16)
    assert read_path(write_nifti(tmp_path / "flair.nii.gz", values)).shape == values.shape
    Image.fromarray(np.zeros((512, 512, 3), np.uint8)).save(tmp_path / "a.png", optimize=True)
    assert read_path(tmp_path / "a.png").shape == (1, 512, 512)
