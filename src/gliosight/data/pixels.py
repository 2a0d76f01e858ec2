"""The pixels of one file, and its digest (data). Apart, since evaluation reads the masks of others with it.

The read stage decodes; here a picture is one slice, and a mask holds few values and has a sharp edge. What
cannot be read raises one of the `GliosightError`; ``where`` names the file in it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.errors import DamagedInputError, UnsupportedInputError
from gliosight.read.detect import HEAD_BYTES, SLICES, Kind, recognise
from gliosight.read.intensities import make_finite
from gliosight.read.limits import Budget, open_regular, read_file
from gliosight.read.nifti_file import Image, read_nifti_file
from gliosight.read.pictures import decode_picture
from gliosight.read.tiff import decode_tiff

# More values than this, and it is an image: the labels of a segmentation are few.
MOST_LABELS = 16


@dataclass(frozen=True)
class Pixels:
    """One picture.

    Parameters
    ----------
    values : array
        Of a picture (rows, columns, channels), one (FLAIR) or three (T1, FLAIR, T1C); of a mask
        (rows, columns).
    lossy : bool
        It was compressed with loss.
    sha256 : str
        Of the file's bytes.
    """

    values: NDArray[Any]
    lossy: bool
    sha256: str


def read_picture(path: Path, where: str, budget: Budget) -> Pixels:
    """Read one picture of one slice; its values are finite."""
    data = read_file(path, where, budget)
    kind = recognise(data[:HEAD_BYTES], len(data))
    if kind not in SLICES:
        what = "its content is not a TIFF, PNG or JPEG" if data else "the file is empty"
        raise DamagedInputError(what, where=where, remedy="copy or export the file again")
    if kind is Kind.TIFF:
        picture = decode_tiff(data, where, budget)
    else:
        picture = decode_picture(data, kind, where, budget)
    if len(picture.pages) != 1:
        raise UnsupportedInputError(
            f"a stack of {len(picture.pages)} pages",
            where=where,
            remedy="keep each slice in a file of its own",
        )
    values, _ = make_finite(picture.pages[0], "the picture", where)
    return Pixels(values, "LOSSY_SOURCE" in picture.notes, hashlib.sha256(data).hexdigest())


def read_mask(path: Path, where: str, budget: Budget) -> Pixels:
    """Read the mask of one slice; its values are (rows, columns), as in the file.

    Refused is what was compressed with loss, since it has no sharp edge, and what holds more than
    `MOST_LABELS` values, since it is an image.
    """
    picture = read_picture(path, where, budget)
    if picture.lossy:
        raise UnsupportedInputError(
            "compressed with loss, it has no sharp edge",
            where=where,
            remedy="save the mask as PNG or TIFF",
        )
    values = picture.values.max(axis=-1)
    _check_labels(values, where)
    return replace(picture, values=values)


def read_volume(path: Path, where: str, budget: Budget) -> Image:
    """Read a NIfTI volume; ``values`` are (slices, rows, columns), finite."""
    image = read_nifti_file(path, where, budget, None)
    values, _ = make_finite(image.values, "the volume", where)
    return replace(image, values=values)


def read_labels(path: Path, where: str, budget: Budget) -> Image:
    """Read a segmentation in NIfTI, as `read_volume`; refused with more than `MOST_LABELS` values."""
    image = read_volume(path, where, budget)
    _check_labels(image.values, where)
    return image


def file_sha256(path: Path) -> str:
    """Digest of a file's bytes."""
    digest = hashlib.sha256()
    with open_regular(path, path.name) as (handle, _):
        while piece := handle.read(1024 * 1024):
            digest.update(piece)
    return digest.hexdigest()


def values_of(mask: NDArray[Any]) -> tuple[float, ...]:
    """The different values of a mask, growing."""
    if mask.dtype == np.uint8:  # counting is faster than sorting, and most masks are bytes
        return tuple(np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist())
    return tuple(np.unique(mask).tolist())


def size_text(shape: tuple[int, ...]) -> str:
    """The sides of an array as messages name them."""
    return " x ".join(map(str, shape))


def _check_labels(values: NDArray[Any], where: str) -> None:
    count = len(values_of(values))
    if count > MOST_LABELS:
        raise DamagedInputError(
            f"it holds {count} values and is an image",
            where=where,
            remedy="give the mask, with 0 where there is no tumour",
        )
