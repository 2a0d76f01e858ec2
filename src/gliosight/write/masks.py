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

# NIfTI-1 counts the voxels of an axis in 16 bits; NIfTI-2 in 64.
MOST_OF_NIFTI1 = 32_767


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
    if "nifti" in study.source:
        return True
    return (
        study.kind in ("arrays", "dicom")
        and study.geometry is not None
        and study.geometry.affine is not None
    )


def _write_nifti(study: Study, values: NDArray[Any], path: Path) -> None:
    turned = np.ascontiguousarray(values.transpose(2, 1, 0))
    source = study.source.get("nifti")
    header = _new_header(study, turned.shape) if source is None else source["header"].copy()
    header.set_data_dtype(values.dtype)
    header["cal_max"] = 1
    header["descrip"] = b"gliosight, research use only"
    two = isinstance(header, nibabel.Nifti2Header)
    kind = nibabel.Nifti2Image if two else nibabel.Nifti1Image
    # Without an affine of its own the image keeps the header's forms as they are, broken ones, too.
    nibabel.save(kind(turned, None, header), path)


def _new_header(study: Study, shape: tuple[int, ...]) -> Any:
    """The header of a grid that came from no NIfTI file."""
    geometry = study.geometry
    if geometry is None or geometry.affine is None:
        raise ValueError("a study without an affine has no NIfTI form")
    affine = geometry.affine[:, [2, 1, 0, 3]]  # from (slice, row, column) to NIfTI's (i, j, k)
    two = max(shape) > MOST_OF_NIFTI1
    header = nibabel.Nifti2Header() if two else nibabel.Nifti1Header()
    header.set_data_shape(shape)
    scanner = study.kind == "dicom"
    header.set_qform(
        affine, code="scanner" if scanner else 0
    )  # loses a tilt, which the sform keeps
    header.set_sform(affine, code="scanner" if scanner else "aligned")
    return header


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
