"""Files that are truncated, corrupt or mislabelled, and files that contradict each other.

`REFUSED` is the table of situations; `test_table` runs some of its rows through the command.
"""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    LimitExceededError,
    NothingReadableError,
    UnsupportedInputError,
)

from ..read.builders import codes_of, make_volume, read_path, write_lgg, write_nifti
from .asserting import refused

VOLUME = make_volume()
MASK = (VOLUME > 100).astype(np.uint8)
COLOUR = np.moveaxis(make_volume((3, 24, 20)), 0, -1)
# Writes an input into a folder, and gives the path to read.
Build = Callable[[Path], Path]


def picture(kind: str, values: Any = COLOUR, mode: str | None = None, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(values).convert(mode).save(out, kind, **options)
    return out.getvalue()


def tiff(values: Any = COLOUR, **options: object) -> bytes:
    out = io.BytesIO()
    if values is COLOUR:
        options["photometric"] = "rgb"
    tifffile.imwrite(out, values, **options)
    return out.getvalue()


def changed(data: bytes, at: int, new: bytes | None = None) -> bytes:
    """Other bytes at ``at``; one bit flipped without."""
    at %= len(data)
    new = bytes([data[at] ^ 1]) if new is None else new
    return data[:at] + new + data[at + len(new) :]


def holding(name: str, data: bytes) -> Build:
    def build(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return build


def again(name: str, values: Any = COLOUR) -> Build:
    kind = "PNG" if name.endswith("png") else "TIFF"
    return holding(name, picture(kind, values))


def nifti(values: Any = VOLUME, name: str = "flair.nii", **fields: Any) -> Build:
    return lambda folder: write_nifti(folder / name, values, **fields)


def cut(build: Build, end: int) -> Build:
    def cut_off(folder: Path) -> Path:
        path = build(folder)
        path.write_bytes(path.read_bytes()[:end])
        return path

    return cut_off


def cut_in(name: str, end: int) -> Build:
    return cut(lambda folder: folder / name, end)


def lgg(*more: Build) -> Build:
    """A patient of five slices, with other files written into its folder."""

    def build(folder: Path) -> Path:
        write_lgg(folder / "P")
        for write in more:
            write(folder / "P")
        return folder / "P"

    return build


def lacking(value: float) -> Any:
    """A volume with 2.5 % of this value, in the head."""
    values = make_volume(dtype="float32")
    values[:, 9:15, 8:10] = value
    return values


def modalities(folder: Path) -> Path:
    for seed, name in enumerate(("p_t1.nii.gz", "p_t1ce.nii.gz", "p_t2.nii.gz")):
        write_nifti(folder / name, make_volume(seed=seed))
    return folder


def lone_header(folder: Path) -> Path:
    nib.save(nib.Nifti1Pair(VOLUME.T, np.eye(4)), folder / "flair.hdr")
    (folder / "flair.img").unlink()
    return folder / "flair.hdr"


def leading_outside(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "x.zip", "w") as file:
        file.writestr("../../evil.txt", "x")
    return folder / "x.zip"


PLAIN, PNG = tiff(), picture("PNG")
PACKED = gzip.compress(nib.Nifti1Image(VOLUME.T, np.eye(4)).to_bytes())
CIRCLE = changed(PLAIN, 10 + PLAIN[8] * 12, (8).to_bytes(4, "little"))  # the link to the next page
DEEP = tiff(COLOUR.astype(np.uint16), photometric="rgb")
DAMAGED: dict[str, tuple[Any, ...]] = {
    "truncated": (cut(nifti(), -200), "flair.nii", "truncated"),
    "mislabelled": (holding("x.png", b"<html>not found</html>"), "x.png"),
    "wrong checksum in gzip": (holding("a.nii.gz", changed(PACKED, -6)), "a.nii.gz", "corrupt"),
    "wrong checksum in PNG": (holding("a.png", changed(PNG, len(PNG) // 2)), "a.png", "checksum"),
    "pages in a circle": (holding("a.tif", CIRCLE), "a.tif", "circle"),
    "different sizes": (
        lgg(again("P_4.tif", COLOUR[1:])),
        "P_1.tif and P_4.tif",
        "24 x 20 and 23 x 20",
    ),
    "different depths": (lgg(holding("P_4.tif", DEEP)), "P_1.tif", "P_4.tif", "uint8", "uint16"),
    "P_03.tif beside P_3.tif": (lgg(again("P_03.tif")), "P_3.tif", "P_03.tif", "slice number 3"),
    "P_3.png beside P_3.tif": (lgg(again("P_3.png")), "P_3.tif", "P_3.png", "slice number 3"),
    "P-3.tiff beside P_3.tif": (lgg(again("P-3.tiff")), "P_3.tif", "P-3.tiff", "slice number 3"),
    "a broken slice among good ones": (lgg(cut_in("P_2.tif", 900)), "P_2.tif", "truncated"),
    "a NIfTI of 0 and 1": (nifti(MASK, "flair.nii.gz"), "mask", "flair.nii.gz"),
    "a NIfTI of 0 and 255": (nifti(MASK * 255, "flair.nii.gz"), "mask", "flair.nii.gz"),
    "a PNG of 0 and 1": (again("flair.png", MASK[2]), "mask", "flair.png"),
    "a PNG of 0 and 255": (again("flair.png", MASK[2] * 255), "mask", "flair.png"),
    "a TIFF of 0 and 1": (again("flair.tif", MASK[2]), "mask", "flair.tif"),
    "a TIFF of 0 and 255": (again("flair.tif", MASK[2] * 255), "mask", "flair.tif"),
    "an empty mask by its name": (again("P_9_mask.tif", np.zeros_like(MASK[2])), "mask"),
    "a mask by its name": (again("P_2_mask.tif", MASK[2] * 255), "mask"),
    "labels by their name": (nifti(VOLUME // 50, "p_seg.nii.gz"), "p_seg.nii.gz", "mask"),
    "NaN in a NIfTI": (nifti(lacking(np.nan)), "flair.nii", "2.5%", "NaN or infinite"),
    "infinity in a NIfTI": (nifti(lacking(np.inf)), "flair.nii", "2.5%", "NaN or infinite"),
    "NaN in a TIFF": (holding("a.tif", tiff(lacking(np.nan)[0])), "a.tif", "NaN or infinite"),
    "infinity in a TIFF": (holding("a.tif", tiff(lacking(np.inf)[0])), "a.tif", "NaN or infinite"),
    "doubles too large for float32": (nifti(np.full((5, 24, 20), 1e300)), "flair.nii", "infinite"),
    "label intent": (nifti(intent_code=1002), "label image"),
    "a length of 0": (nifti(dim=[3, 20, 0, 5, 1, 1, 1, 1]), "shape"),
    "a negative length": (nifti(dim=[3, 20, -24, 5, 1, 1, 1, 1]), "shape"),
    "nine dimensions": (nifti(dim=[9, 20, 24, 5, 1, 1, 1, 1]), "9 dimensions"),
    "no dimensions": (nifti(dim=[0, 20, 24, 5, 1, 1, 1, 1]), "0 dimensions"),
    "a slice too many": (nifti(dim=[3, 20, 24, 6, 1, 1, 1, 1]), "truncated"),
    "an unknown datatype": (nifti(datatype=7), "datatype 7"),
    "bitpix too small": (nifti(bitpix=16), "datatype 2 and bitpix 16 contradict"),
    "bitpix too large": (nifti(bitpix=32), "datatype 2 and bitpix 32 contradict"),
    "pixels behind the end": (nifti(vox_offset=1e9), "truncated"),
    "pixels before the start": (nifti(vox_offset=-8), "begin at byte"),
    "pixels nowhere": (nifti(vox_offset=np.nan), "begin at byte"),
    "pixels in the header": (nifti(vox_offset=100), "inside the header"),
    "a slope without intercept": (nifti(scl_slope=2.0, scl_inter=np.nan), "intercept"),
    "a header of 349 bytes": (nifti(sizeof_hdr=349), "size is wrong"),
}
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "no FLAIR": (
        modalities,
        *("no FLAIR", "p_t1.nii.gz (T1)", "p_t1ce.nii.gz (T1C)", "p_t2.nii.gz (T2)", "--flair"),
    ),
    "a T1 alone": (lambda folder: modalities(folder) / "p_t1.nii.gz", "no FLAIR", "T1", "--flair"),
    "1-D": (nifti(dim=[1, 2400, 1, 1, 1, 1, 1, 1]), "one dimension"),
    "4-D": (nifti(np.stack([VOLUME] * 2)), "2 volumes", "--volume N"),
    "5-D": (nifti(dim=[5, 10, 24, 5, 1, 2, 1, 1]), "several numbers a voxel"),
    "CMYK": (holding("a.jpg", picture("JPEG", mode="CMYK")), "a.jpg", "CMYK"),
    "complex numbers": (nifti(datatype=32), "flair.nii", "complex"),
    "complex doubles": (nifti(datatype=1792), "flair.nii", "complex"),
    "RGB": (nifti(datatype=128), "flair.nii", "RGB"),
    "RGBA": (nifti(datatype=2304), "flair.nii", "RGBA"),
    "128-bit numbers": (nifti(datatype=1536), "flair.nii", "128"),
    "single bits": (nifti(datatype=1), "flair.nii", "bits"),
}
NOTHING: dict[str, tuple[Any, ...]] = {
    "an empty folder": (lambda folder: folder, "the folder is empty"),
    "nothing recognised": (lambda folder: holding("a.txt", b"hello")(folder).parent, "1 .txt"),
    "a pair without its pixels": (lone_header, "flair.img", "no such file"),
    "a zip that leads outside": (leading_outside, "x.zip"),
}
HUGE = nifti(dim=[3, 30_000, 30_000, 3000, 1, 1, 1, 1])
REFUSED: dict[str, tuple[type[GliosightError], Build, list[str]]] = {
    name: (error, build, words)
    for error, rows in (
        (DamagedInputError, DAMAGED),
        (UnsupportedInputError, UNSUPPORTED),
        (NothingReadableError, NOTHING),
        (LimitExceededError, {"a header that claims too much": (HUGE, "--max-decoded")}),
    )
    for name, (build, *words) in rows.items()
}


@pytest.mark.parametrize("situation", REFUSED)
def test_refused(tmp_path: Path, situation: str) -> None:
    error, build, words = REFUSED[situation]
    refused(build(tmp_path), error, *words)


KINDS = {
    "a.png": PNG,
    "a.jpg": picture("JPEG"),
    "plain.tif": PLAIN,
    "deflate.tif": tiff(compression="zlib"),
    "lzw.tif": picture("TIFF", compression="tiff_lzw"),
    "pages.tif": tiff(VOLUME, photometric="minisblack"),
    "big.tif": tiff(bigtiff=True),
    "flair.nii": gzip.decompress(PACKED),
    "flair.nii.gz": PACKED,
}


@pytest.mark.parametrize("name", KINDS)
def test_truncated(tmp_path: Path, name: str) -> None:
    for part in (0.0, 0.003, 0.1, 0.5, 0.9, 0.98):
        (tmp_path / name).write_bytes(KINDS[name][: int(len(KINDS[name]) * part)])
        for path in (tmp_path / name, tmp_path):
            refused(path, DamagedInputError, name)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".tif", ".png", ".jpeg"])
def test_mislabelled(tmp_path: Path, suffix: str) -> None:
    for content in (b"<html>404</html>", b"", b"\0" * 4000, b"\x1f\x8b" + b"\0" * 99):
        (tmp_path / f"flair{suffix}").write_bytes(content)
        for path in (tmp_path / f"flair{suffix}", tmp_path):
            refused(path, DamagedInputError, f"flair{suffix}")


def test_content_decides(tmp_path: Path) -> None:
    """A JPEG called PNG is a JPEG."""
    (tmp_path / "a.png").write_bytes(KINDS["a.jpg"])
    assert "LOSSY_SOURCE" in codes_of(read_path(tmp_path / "a.png"))
