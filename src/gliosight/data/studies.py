"""The files of a data set as arrays, and a manifest's patient as a study with its truth (data).

The read stage decodes; here a picture is one slice, and a mask holds few values and has a sharp edge.
Training and evaluation start from `read_labelled`, which reads as the product reads a user's study.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.data.manifest import NIFTI, REMEDY, Manifest, SliceRow
from gliosight.errors import DamagedInputError, UnsupportedInputError, printable
from gliosight.read import Request, read
from gliosight.read.checks import make_finite
from gliosight.read.detect import HEAD_BYTES, SLICES, InputFile, Kind, recognise, sniff
from gliosight.read.limits import DEFAULT_LIMITS, Budget, open_regular, read_file
from gliosight.read.nifti_file import Image, read_nifti_file
from gliosight.read.pictures import decode_picture
from gliosight.read.slices import read_slices
from gliosight.read.tiff import decode_tiff
from gliosight.study import Study

# More values than this, and it is an image: the labels of a segmentation are few.
MOST_LABELS = 16


@dataclass(frozen=True)
class Pixels:
    """One picture, (rows, columns, 1 or 3), or one mask, (rows, columns); ``sha256`` is of the file's bytes.

    One channel is FLAIR, three are T1, FLAIR and T1C. ``lossy`` says whether it was compressed with loss.
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
        what = f"a stack of {len(picture.pages)} pages"
        remedy = "keep each slice in a file of its own"
        raise UnsupportedInputError(what, where=where, remedy=remedy)
    values, _ = make_finite(picture.pages[0], "the picture", where)
    return Pixels(values, "LOSSY_SOURCE" in picture.notes, hashlib.sha256(data).hexdigest())


def read_mask(path: Path, where: str, budget: Budget) -> Pixels:
    """Read the mask of one slice, with its values as in the file.

    Refused is what was compressed with loss, since it has no sharp edge, and what holds more than
    `MOST_LABELS` values, since it is an image.
    """
    picture = read_picture(path, where, budget)
    if picture.lossy:
        what, remedy = "compressed with loss, it has no sharp edge", "save the mask as PNG or TIFF"
        raise UnsupportedInputError(what, where=where, remedy=remedy)
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


def read_row(manifest: Manifest, row: SliceRow, budget: Budget) -> Pixels | Image:
    """Read a row's picture, or the FLAIR volume that it is a slice of."""
    reader = read_volume if row.kind == NIFTI else read_picture
    return reader(manifest.path(row.image), row.image, budget)


def read_row_mask(manifest: Manifest, row: SliceRow, budget: Budget) -> Pixels | Image:
    """Read a row's mask, or the segmentation that it is a slice of."""
    reader = read_labels if row.kind == NIFTI else read_mask
    return reader(manifest.path(row.mask), row.mask, budget)


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
        what = f"it holds {count} values and is an image"
        remedy = "give the mask, with 0 where there is no tumour"
        raise DamagedInputError(what, where=where, remedy=remedy)


@dataclass(frozen=True)
class LabelledStudy:
    """One patient.

    Parameters
    ----------
    study : Study
        Slice ``k`` is the manifest's used row ``k`` of this patient.
    truth : (slices, rows, columns) bool array
        On the study's grid.
    """

    study: Study
    truth: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.truth.shape != self.study.shape:
            raise ValueError(f"mask {self.truth.shape} on a study of {self.study.shape}")


def read_labelled(manifest: Manifest, patient: str, *, check: bool = False) -> LabelledStudy:
    """Read a patient's used slices and their masks.

    With ``check`` every file is compared with the digest it had when it was indexed. Raises
    `DamagedInputError` (a file has changed, or the slices do not fit together) or `UnsupportedInputError` (a
    row has no mask, and its patient is not known to have no tumour).
    """
    rows = manifest.by_patient[patient]
    for row in rows:
        if not row.has_truth:
            remedy = "leave the patient out, or give its masks and index anew"
            where = printable(row.image)
            raise UnsupportedInputError("a slice has no mask", where=where, remedy=remedy)
    if check:
        digests = {path: digest for row in rows for path, digest in row.digests.items() if digest}
        for path, digest in digests.items():
            if file_sha256(manifest.path(path)) != digest:
                raise _contradiction("the file is not the one that was indexed", path)
    read_patient = _read_volumes if rows[0].kind == NIFTI else _read_pictures
    study, truth = read_patient(manifest, rows, Budget(DEFAULT_LIMITS))
    if study.shape != truth.shape:
        sizes = f"images are {size_text(study.shape)}, masks {size_text(truth.shape)}"
        raise _contradiction(sizes, patient)
    return LabelledStudy(study, truth)


def _contradiction(what: str, where: str) -> DamagedInputError:
    return DamagedInputError(what, where=printable(where), remedy=REMEDY)


def _read_volumes(
    manifest: Manifest, rows: tuple[SliceRow, ...], budget: Budget
) -> tuple[Study, NDArray[np.bool_]]:
    row = rows[0]
    t1, t1c = (manifest.path(name) if name else None for name in (row.t1, row.t1c))
    study = read(Request(None, flair=manifest.path(row.image), t1=t1, t1c=t1c))
    if len(rows) != study.shape[0]:
        counts = f"the manifest has {len(rows)} slices of it, the volume {study.shape[0]}"
        raise _contradiction(counts, row.image)
    if not row.mask:
        return study, np.zeros(study.shape, dtype=bool)
    return study, read_volume(manifest.path(row.mask), row.mask, budget).values != 0


def _read_pictures(
    manifest: Manifest, rows: tuple[SliceRow, ...], budget: Budget
) -> tuple[Study, NDArray[np.bool_]]:
    paths = [(manifest.path(row.image), row.image) for row in rows]
    files = [InputFile(path, sniff(path, where), where) for path, where in paths]
    study = read_slices(files, rows[0].patient, budget, labelled=True)
    empty = np.zeros(study.shape[1:], dtype=bool)
    masks = [
        read_row_mask(manifest, row, budget).values != 0 if row.mask else empty for row in rows
    ]
    if len({mask.shape for mask in masks}) != 1:
        raise _contradiction("its masks differ in size", rows[0].patient)
    return study, np.stack(masks)
