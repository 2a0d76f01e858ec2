"""A manifest's patient as a study with its truth (data).

Training and evaluation both start from `read_labelled`, which reads the files that the manifest names as the
product reads a user's study. Apart from `pixels`, which knows no study.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliosight.data.manifest import NIFTI, REMEDY, Manifest, SliceRow
from gliosight.data.pixels import file_sha256, read_mask, read_volume, size_text
from gliosight.errors import DamagedInputError, UnsupportedInputError, printable
from gliosight.read import Limits, Request, read
from gliosight.read.detect import sniff
from gliosight.read.limits import Budget
from gliosight.read.recognise import Found
from gliosight.read.slices import read_slices
from gliosight.study import Study


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
        Compare every file with the digest it had when it was indexed.

    Raises
    ------
    DamagedInputError
        A file that has changed since, a mask of another size, or slices that do not fit together.
    UnsupportedInputError
        A row without a mask, of a patient that is not known to have no tumour.
    """
    rows = manifest.by_patient[patient]
    for row in rows:
        if not row.has_truth:
            raise UnsupportedInputError(
                "a slice has no mask",
                where=printable(row.image),
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
            f"images are {size_text(study.shape)}, masks {size_text(truth.shape)}",
            where=printable(patient),
            remedy=REMEDY,
        )
    return LabelledStudy(study, truth)


def _read_volumes(
    manifest: Manifest, rows: tuple[SliceRow, ...], limits: Limits, budget: Budget
) -> tuple[Study, NDArray[np.bool_]]:
    row = rows[0]
    t1, t1c = (manifest.path(name) if name else None for name in (row.t1, row.t1c))
    study = read(Request(None, flair=manifest.path(row.image), t1=t1, t1c=t1c, limits=limits))
    if len(rows) != study.shape[0]:
        raise DamagedInputError(
            f"the manifest has {len(rows)} slices of it, the volume {study.shape[0]}",
            where=printable(row.image),
            remedy=REMEDY,
        )
    if not row.mask:
        return study, np.zeros(study.shape, dtype=bool)
    return study, read_volume(manifest.path(row.mask), row.mask, budget).values != 0


def _read_pictures(
    manifest: Manifest, patient: str, rows: tuple[SliceRow, ...], budget: Budget
) -> tuple[Study, NDArray[np.bool_]]:
    paths = [(manifest.path(row.image), row.image) for row in rows]
    files = [Found(path, sniff(path, where), where) for path, where in paths]
    study = read_slices(files, patient, budget, labelled=True)
    empty = np.zeros(study.shape[1:], dtype=bool)
    masks = [
        read_mask(manifest.path(row.mask), row.mask, budget).values != 0 if row.mask else empty
        for row in rows
    ]
    if len({mask.shape for mask in masks}) != 1:
        raise DamagedInputError("its masks differ in size", where=printable(patient), remedy=REMEDY)
    return study, np.stack(masks)


def _check_digests(manifest: Manifest, rows: tuple[SliceRow, ...]) -> None:
    digests = {row.image: row.sha256 for row in rows} | {row.mask: row.mask_sha256 for row in rows}
    digests |= {row.t1: row.t1_sha256 for row in rows} | {row.t1c: row.t1c_sha256 for row in rows}
    for name, digest in digests.items():
        if name and digest and file_sha256(manifest.path(name)) != digest:
            raise DamagedInputError(
                "the file is not the one that was indexed", where=printable(name), remedy=REMEDY
            )
