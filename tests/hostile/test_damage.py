"""Files that are truncated, corrupt or mislabelled, and files that contradict each other."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from gliosight.errors import DamagedInputError, UnsupportedInputError

from ..read.builders import codes_of, make_volume, read_path, write_lgg, write_nifti
from .asserting import refused

SLICE = make_volume()[2]
COLOUR = np.moveaxis(make_volume((3, 24, 20)), 0, -1)


def nifti_bytes(tmp_path: Path) -> bytes:
    return write_nifti(tmp_path / "made" / "flair.nii", make_volume()).read_bytes()


def picture(kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(COLOUR).save(out, kind, **options)
    return out.getvalue()


def tiff(**options: object) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, COLOUR, photometric="rgb", **options)
    return out.getvalue()


def pages() -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, make_volume(), photometric="minisblack")
    return out.getvalue()


KINDS = {
    "a.png": picture("PNG"),
    "a.jpg": picture("JPEG"),
    "plain.tif": tiff(),
    "deflate.tif": tiff(compression="zlib"),
    "lzw.tif": picture("TIFF", compression="tiff_lzw"),
    "pages.tif": pages(),
    "big.tif": tiff(bigtiff=True),
}


@pytest.mark.parametrize("part", [0.0, 0.003, 0.1, 0.5, 0.9, 0.98])
@pytest.mark.parametrize("name", [*KINDS, "flair.nii", "flair.nii.gz"])
def test_truncated(tmp_path: Path, name: str, part: float) -> None:
    whole = KINDS.get(name) or nifti_bytes(tmp_path)
    if name.endswith(".gz"):
        whole = gzip.compress(whole)
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / name).write_bytes(whole[: int(len(whole) * part)])
    refused(folder / name, DamagedInputError, name)
    refused(folder, DamagedInputError, name)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".tif", ".png", ".jpeg"])
@pytest.mark.parametrize(
    "content", [b"<html>404</html>", b"", b"\0" * 4000, b"\x1f\x8b" + b"\0" * 99]
)
def test_mislabelled(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"flair{suffix}").write_bytes(content)
    refused(tmp_path / f"flair{suffix}", DamagedInputError, f"flair{suffix}")
    refused(tmp_path, DamagedInputError, f"flair{suffix}")


def test_content_decides(tmp_path: Path) -> None:
    """A JPEG called PNG is a JPEG."""
    (tmp_path / "a.png").write_bytes(KINDS["a.jpg"])
    assert "LOSSY_SOURCE" in codes_of(read_path(tmp_path / "a.png"))


def test_wrong_checksum_in_gzip(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(nifti_bytes(tmp_path)))
    packed[-6] ^= 1
    (tmp_path / "flair.nii.gz").write_bytes(packed)
    refused(tmp_path / "flair.nii.gz", DamagedInputError, "flair.nii.gz", "corrupt")


def test_wrong_checksum_in_png(tmp_path: Path) -> None:
    data = bytearray(KINDS["a.png"])
    data[len(data) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    refused(tmp_path / "a.png", DamagedInputError, "a.png", "checksum")


def test_tiff_whose_pages_run_in_a_circle(tmp_path: Path) -> None:
    data = bytearray(tiff())
    entries = int.from_bytes(data[8:10], "little") if data[4] == 8 else 0
    assert entries
    link = 10 + entries * 12
    data[link : link + 4] = (8).to_bytes(4, "little")
    (tmp_path / "a.tif").write_bytes(data)
    refused(tmp_path / "a.tif", DamagedInputError, "a.tif", "circle")


def test_slices_of_different_size(tmp_path: Path) -> None:
    write_lgg(tmp_path / "P")
    tifffile.imwrite(tmp_path / "P" / "P_4.tif", COLOUR[:-1], photometric="rgb")
    refused(tmp_path / "P", DamagedInputError, "P_1.tif", "P_4.tif", "24 x 20", "23 x 20")


def test_slices_of_different_depth(tmp_path: Path) -> None:
    write_lgg(tmp_path / "P")
    tifffile.imwrite(tmp_path / "P" / "P_4.tif", COLOUR.astype(np.uint16), photometric="rgb")
    refused(tmp_path / "P", DamagedInputError, "P_1.tif", "P_4.tif", "uint8", "uint16")


@pytest.mark.parametrize("other", ["P_03.tif", "P_3.png", "P-3.tiff"])
def test_two_files_for_one_slice(tmp_path: Path, other: str) -> None:
    write_lgg(tmp_path / "P")
    Image.fromarray(COLOUR).save(tmp_path / "P" / other)
    refused(tmp_path / "P", DamagedInputError, "P_3.tif", other, "slice number 3")


def test_a_broken_slice_among_good_ones(tmp_path: Path) -> None:
    write_lgg(tmp_path / "P")
    path = tmp_path / "P" / "P_2.tif"
    path.write_bytes(path.read_bytes()[:900])
    refused(tmp_path / "P", DamagedInputError, "P_2.tif", "truncated")


@pytest.mark.parametrize("high", [1, 255])
@pytest.mark.parametrize("suffix", ["tif", "png", "nii.gz"])
def test_mask_as_image(tmp_path: Path, suffix: str, high: int) -> None:
    mask = (make_volume() > 100).astype(np.uint8) * np.uint8(high)
    path = tmp_path / f"flair.{suffix}"
    if suffix == "nii.gz":
        write_nifti(path, mask)
    else:
        Image.fromarray(mask[2]).save(path)
    refused(path, DamagedInputError, "mask", path.name)


def test_mask_by_its_name(tmp_path: Path) -> None:
    write_lgg(tmp_path / "P")
    Image.fromarray(np.zeros((24, 20), np.uint8)).save(tmp_path / "P" / "P_9_mask.tif")
    refused(tmp_path / "P" / "P_9_mask.tif", DamagedInputError, "mask")  # empty: one value only
    refused(tmp_path / "P" / "P_2_mask.tif", DamagedInputError, "mask")
    path = write_nifti(tmp_path / "p_seg.nii.gz", make_volume() // 50)
    refused(path, DamagedInputError, "p_seg.nii.gz", "mask")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_many_voxels_that_are_not_finite(tmp_path: Path, value: float) -> None:
    values = make_volume(dtype="float32")
    values[:, 9:15, 8:10] = value
    path = write_nifti(tmp_path / "flair.nii", values)
    refused(path, DamagedInputError, "flair.nii", "2.5%", "NaN or infinite")
    tifffile.imwrite(tmp_path / "a.tif", values[0])
    refused(tmp_path / "a.tif", DamagedInputError, "a.tif", "NaN or infinite")


def test_doubles_too_large_for_float32_count_as_infinite(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "flair.nii", np.full((5, 24, 20), 1e300))
    refused(path, DamagedInputError, "flair.nii", "infinite")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"dim": [3, 20, 0, 5, 1, 1, 1, 1]}, "shape"),
        ({"dim": [3, 20, -24, 5, 1, 1, 1, 1]}, "shape"),
        ({"dim": [9, 20, 24, 5, 1, 1, 1, 1]}, "9 dimensions"),
        ({"dim": [0, 20, 24, 5, 1, 1, 1, 1]}, "0 dimensions"),
        ({"dim": [3, 20, 24, 6, 1, 1, 1, 1]}, "truncated"),
        ({"datatype": 7}, "datatype 7"),
        ({"vox_offset": 1e9}, "truncated"),
        ({"vox_offset": -8}, "begin at byte"),
        ({"vox_offset": np.nan}, "begin at byte"),
        ({"vox_offset": 100}, "inside the header"),
        ({"scl_slope": 2.0, "scl_inter": np.nan}, "intercept"),
        ({"sizeof_hdr": 349}, "size is wrong"),
    ],
)
def test_nifti_headers_that_cannot_be_true(
    tmp_path: Path, fields: dict[str, object], told: str
) -> None:
    path = write_nifti(tmp_path / "flair.nii", make_volume(), **fields)
    refused(path, DamagedInputError, "flair.nii", told)


@pytest.mark.parametrize(
    ("code", "told"),
    [(32, "complex"), (1792, "complex"), (128, "RGB"), (2304, "RGBA"), (1536, "128"), (1, "bits")],
)
def test_numbers_that_are_not_read(tmp_path: Path, code: int, told: str) -> None:
    path = write_nifti(tmp_path / "flair.nii", make_volume(), datatype=code)
    refused(path, UnsupportedInputError, "flair.nii", told)


def test_more_than_four_dimensions(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "flair.nii", make_volume(), dim=[5, 10, 24, 5, 1, 2, 1, 1])
    refused(path, UnsupportedInputError, "flair.nii", "several numbers a voxel")


def test_several_volumes_name_the_option(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "flair.nii", np.stack([make_volume()] * 2))
    refused(path, UnsupportedInputError, "2 volumes", "--volume N")


def test_no_flair_lists_what_is_there(tmp_path: Path) -> None:
    for seed, name in enumerate(("p_t1.nii.gz", "p_t1ce.nii.gz", "p_t2.nii.gz")):
        write_nifti(tmp_path / "s" / name, make_volume(seed=seed))
    told = ("no FLAIR", "p_t1.nii.gz (T1)", "p_t1ce.nii.gz (T1C)", "p_t2.nii.gz (T2)", "--flair")
    refused(tmp_path / "s", UnsupportedInputError, *told)
    refused(tmp_path / "s" / "p_t1.nii.gz", UnsupportedInputError, "no FLAIR", "T1", "--flair")


def test_pair_without_its_pixels(tmp_path: Path) -> None:
    import nibabel as nib

    nib.save(nib.Nifti1Pair(make_volume().transpose(), np.eye(4)), tmp_path / "flair.hdr")
    (tmp_path / "flair.img").unlink()
    from gliosight.errors import NothingReadableError

    refused(tmp_path / "flair.hdr", NothingReadableError, "flair.img", "no such file")
