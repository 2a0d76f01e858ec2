"""Mask and probability in the input's own geometry and kind (stage: write).

A NIfTI study gets ``mask.nii.gz`` with the header's own grid, a DICOM study one in the scanner's
coordinates; slices, and DICOM slices that no affine describes, get ``mask/<slice>_mask.tif``, 0 and 255, one
for each slice, in the input's size. An empty mask is written like any other.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import tifffile
from numpy.typing import NDArray

from gliosight.analysis import RESEARCH_USE, Analysis
from gliosight.errors import UnsupportedInputError
from gliosight.files import safe_names, whole_file
from gliosight.study import Study


def write_mask(analysis: Analysis, folder: Path) -> dict[str, str]:
    """Write the mask into a result folder; return the written paths and what they are."""
    mask = analysis.mask
    if _as_nifti(analysis.study):
        _write_nifti(analysis.study, mask.astype(np.uint8), folder / "mask.nii.gz")
        return {"mask.nii.gz": "mask on FLAIR's grid, 1 inside"}
    _write_slices(analysis.study, mask.astype(np.uint8) * 255, folder / "mask", "mask")
    return {"mask/": "mask of each slice, 255 inside"}


def write_probability(analysis: Analysis, folder: Path) -> dict[str, str]:
    """Write the probability map into a result folder, float32 in [0, 1]."""
    values = analysis.maps.probability
    if _as_nifti(analysis.study):
        _write_nifti(analysis.study, values, folder / "probability.nii.gz")
        return {"probability.nii.gz": "tumour probability per pixel, 0 to 1"}
    _write_slices(analysis.study, values, folder / "probability", "probability")
    return {"probability/": "tumour probability per pixel of each slice, 0 to 1"}


def copy_mask(folder: Path, out: Path) -> Path:
    """Give the mask of a result folder as a NIfTI file of its own.

    Raises
    ------
    UnsupportedInputError
        The mask lies there as slices: no affine describes their grid.
    CannotWriteError
    """
    whole = folder / "mask.nii.gz"
    if not whole.is_file():
        raise UnsupportedInputError(
            "the slices have no grid that NIfTI could hold",
            where=folder.name or str(folder),
            remedy="take the masks of the slices in its folder mask",
        )
    with whole_file(out) as partial:
        shutil.copyfile(whole, partial)
    return out


def _as_nifti(study: Study) -> bool:
    if study.kind == "nifti":
        return True
    return (
        study.kind in ("arrays", "dicom")
        and study.geometry is not None
        and study.geometry.affine is not None
    )


def _write_nifti(study: Study, values: NDArray[Any], path: Path) -> None:
    turned = np.ascontiguousarray(values.transpose(2, 1, 0))
    source = study.source.get("nifti")
    if source is not None:
        header = source["header"].copy()
        turned = turned.reshape(source["shape"])
        affine = source["affine"]
    else:
        header = nibabel.Nifti1Header()
        geometry = study.geometry
        if geometry is None or geometry.affine is None:
            raise ValueError("arrays without an affine have no NIfTI form")
        affine = geometry.affine[:, [2, 1, 0, 3]]  # from (slice, row, column) to NIfTI's (i, j, k)
        if study.kind == "dicom":
            header.set_sform(affine, code="scanner")
            header.set_qform(affine, code="scanner")  # loses the shear of a tilt, which sform keeps
    header.set_data_dtype(values.dtype)
    header.set_slope_inter(1, 0)
    header["cal_max"], header["cal_min"] = 1, 0
    # A name or a comment of the source has no place in a result.
    header["descrip"] = b"gliosight, research use only"
    for name in ("intent_name", "aux_file", "data_type", "db_name"):
        if name in header.keys():  # noqa: SIM118 - NIfTI-2 has no data_type and no db_name
            header[name] = b""
    for name in ("intent_code", "intent_p1", "intent_p2", "intent_p3"):
        header[name] = 0
    header.extensions.clear()
    two = isinstance(header, nibabel.Nifti2Header)
    kind = nibabel.Nifti2Image if two else nibabel.Nifti1Image
    nibabel.save(kind(turned, affine, header), path)


def _write_slices(study: Study, values: NDArray[Any], folder: Path, suffix: str) -> None:
    folder.mkdir()
    for name, plane in zip(safe_names(study.slice_names), values, strict=True):
        tifffile.imwrite(
            folder / f"{name}_{suffix}.tif",
            plane,
            photometric="minisblack",
            compression="zlib",
            description=RESEARCH_USE,
            metadata=None,
        )
