"""Bytes flipped, cut and doubled in small valid files: a study or one of our errors, nothing else."""

from __future__ import annotations

import gzip
import io
import random
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from gliosight.errors import GliosightError, InternalError
from gliosight.read import Limits, Request, read

from ..read.builders import make_volume, write_nifti
from ..read.test_tiff import written

ROUNDS = 60
LIMITS = Limits(decoded_bytes=64 * 1024**2, members=200)


def picture(kind: str, mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    colour = np.moveaxis(make_volume((3, 13, 11)), 0, -1)
    # The fixed palette of the web has six greys: too few for an image.
    Image.fromarray(colour).convert(mode, palette=Image.Palette.ADAPTIVE).save(out, kind, **options)
    return out.getvalue()


def tiff(**options: object) -> bytes:
    return written(make_volume((3, 13, 11)), **options)


def seeds(folder: Path) -> dict[str, bytes]:
    """One small valid file of each kind."""
    volume = make_volume((3, 13, 11), dtype="int16")
    plain = write_nifti(folder / "x.nii", volume).read_bytes()
    nib.save(nib.Nifti2Image(volume.transpose().astype("f4"), np.eye(4)), folder / "y.nii")
    exif = Image.Exif()
    exif[274] = 6
    return {
        "flair.nii": plain,
        "two.nii": (folder / "y.nii").read_bytes(),
        "flair.nii.gz": gzip.compress(plain),
        "rgb.png": picture("PNG", exif=exif),
        "palette.png": picture("PNG", "P"),
        "a.jpg": picture("JPEG", exif=exif),
        "plain.tif": tiff(photometric="minisblack"),
        "deflate.tif": tiff(photometric="minisblack", compression="zlib", predictor=True),
        "big.tif": tiff(photometric="minisblack", bigtiff=True, byteorder=">"),
        "tiled.tif": tiff(photometric="minisblack", tile=(16, 16), compression="packbits"),
        "lzw.tif": picture("TIFF", compression="tiff_lzw"),
        "jpeg.tif": picture("TIFF", compression="jpeg"),
        "imagej.tif": tiff(imagej=True, metadata={"axes": "ZYX"}),
    }


def mutate(data: bytes, chance: random.Random) -> bytes:
    out = bytearray(data)
    # Headers stand in front (NIfTI, PNG) or behind (TIFF by Pillow): half of the blows go there.
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at = chance.randrange(len(out))
        if chance.random() < 0.5:
            at = chance.choice((at % min(400, len(out)), len(out) - 1 - at % min(200, len(out))))
        out[at] = chance.choice((chance.randrange(256), out[at] ^ 1 << chance.randrange(8), 0, 255))
    if chance.random() < 0.2:
        out = out[: chance.randrange(len(out))]
    if chance.random() < 0.1:
        at = chance.randrange(len(out) + 1)
        out[at:at] = out[: chance.randrange(64)]
    return bytes(out)


@pytest.mark.parametrize("number", range(13))
def test_mutations(tmp_path: Path, number: int, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    name, data = list(seeds(tmp_path).items())[number]
    path = folder / name
    path.write_bytes(data)
    assert is_read(path)
    chance = random.Random(number)  # noqa: S311
    for turn in range(ROUNDS):
        path.write_bytes(mutate(data, chance))
        is_read(path)
        if turn % 4 == 0:
            is_read(folder)
    assert capfd.readouterr() == ("", "")


def is_read(path: Path) -> bool:
    """Whether a path is read; an error must be one of ours, in one line, with a remedy."""
    refusal = None
    try:
        study = read(Request(path, limits=LIMITS))
    except GliosightError as error:
        refusal = error
    if refusal is None:
        assert np.isfinite(study.flair.values).all()
        return True
    assert not isinstance(refusal, InternalError)
    assert refusal.line().isprintable()
    assert refusal.remedy
    return False
