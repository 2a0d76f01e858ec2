"""A manifest's patient as a study with its truth (data).

In: a `Manifest` and a patient. Out: a `LabelledStudy`: what the product reads from the very files the
manifest names, and the true mask on the same grid. Training and evaluation both start here, so that they
see the same pixels as a user's study does.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gliosight.data.manifest import NIFTI, Manifest, SliceRow
from gliosight.errors import DamagedInputError, UnsupportedInputError, printable
from gliosight.read import Limits, Request, read
from gliosight.read.detect import Kind, sniff
from gliosight.read.limits import Budget, read_file
from gliosight.read.nifti_file import read_nifti_file
from gliosight.read.pictures import decode_picture
from gliosight.read.recognise import Found
from gliosight.read.slices import read_slices
from gliosight.read.tiff import decode_tiff
from gliosight.study import Study

REMEDY = "make the manifest anew with: gliosight data index"


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


def read_labelled(
    manifest: Manifest, patient: str, *, limits: Limits | None = None, check: bool = False
) -> LabelledStudy:
    """Read a patient's used slices and their masks.

    Parameters
    ----------
    check : bool
        Hold every file against the digest it had when it was indexed.

    Raises
    ------
    DamagedInputError
        A file that has changed since, a mask of another size, or slices that do not fit together.
    UnsupportedInputError
        A row without a mask, of a patient that is not known to have no tumour.
    """
    rows = manifest.by_patient[patient]
    if lacking := [row for row in rows if not row.has_truth]:
        raise UnsupportedInputError(
            "a slice has no mask",
            where=printable(lacking[0].image),
            remedy="leave the patient out, or give its masks and index anew",
        )
    limits = limits or Limits()
    budget = Budget(limits)
    if check:
        _check_digests(manifest, rows)
    if rows[0].kind == NIFTI:
        study, truth = _read_volumes(manifest, rows, limits, budget)
    else:
        study, truth = _read_pictures(manifest, patient, rows, budget)
    if study.shape != truth.shape:
        raise DamagedInputError(
            f"images are {_size(study.shape)}, masks {_size(truth.shape)}",
            where=printable(patient),
            remedy=REMEDY,
        )
    return LabelledStudy(study, truth)


def _read_volumes(
    manifest: Manifest, rows: tuple[SliceRow, ...], limits: Limits, budget: Budget
) -> tuple[Study, NDArray[np.bool_]]:
    first = rows[0]
    t1, t1c = (manifest.path(one) if one else None for one in (first.t1, first.t1c))
    study = read(Request(None, flair=manifest.path(first.image), t1=t1, t1c=t1c, limits=limits))
    mask = np.zeros(study.shape, dtype=bool)
    if first.mask:
        mask = read_nifti_file(manifest.path(first.mask), first.mask, budget, None).values != 0
    if len(rows) != study.shape[0]:
        raise DamagedInputError(
            f"the manifest has {len(rows)} slices of it, the volume {study.shape[0]}",
            where=printable(first.image),
            remedy=REMEDY,
        )
    return study, mask


def _read_pictures(
    manifest: Manifest, patient: str, rows: tuple[SliceRow, ...], budget: Budget
) -> tuple[Study, NDArray[np.bool_]]:
    # One by one in the manifest's order: numbers in names may repeat or be missing there.
    found = [_found(manifest, row.image) for row in rows]
    study = read_slices(found, patient, budget, labelled=True)
    masks = []
    for row in rows:
        if not row.mask:
            masks.append(np.zeros(study.shape[1:], dtype=bool))
            continue
        one = _found(manifest, row.mask)
        data = read_file(one.path, one.where, budget)
        picture = (
            decode_tiff(data, one.where, budget)
            if one.kind is Kind.TIFF
            else decode_picture(data, one.kind, one.where, budget)
        )
        masks.append((picture.pages[0] != 0).any(axis=-1))
    shapes = {mask.shape for mask in masks}
    if len(shapes) != 1:
        raise DamagedInputError("its masks differ in size", where=printable(patient), remedy=REMEDY)
    return study, np.stack(masks)


def _found(manifest: Manifest, relative: str) -> Found:
    path = manifest.path(relative)
    return Found(path, sniff(path, relative), relative)


def _check_digests(manifest: Manifest, rows: tuple[SliceRow, ...]) -> None:
    wanted = {row.image: row.sha256 for row in rows} | {row.mask: row.mask_sha256 for row in rows}
    wanted |= {row.t1: row.t1_sha256 for row in rows} | {row.t1c: row.t1c_sha256 for row in rows}
    for relative, digest in wanted.items():
        if relative and digest and _digest(manifest.path(relative)) != digest:
            raise DamagedInputError(
                "the file is not the one that was indexed", where=printable(relative), remedy=REMEDY
            )


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(one) for one in shape)
