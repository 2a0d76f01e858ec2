"""Mask and probability in the input's own geometry and kind (stage: write).

A NIfTI study gets ``mask.nii.gz`` with the header's own grid, a DICOM study one in the scanner's
coordinates; slices, and DICOM slices that no affine describes, get ``mask/<slice>_mask.tif``, 0 and 255, one
for each slice, in the input's size. A study needs one of nibabel and tifffile, and each takes time to import.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.analysis import RESEARCH_USE, Analysis
from gliosight.errors import DamagedInputError, GliosightError
from gliosight.files import safe_names
from gliosight.study import Study

# NIfTI-1 counts the voxels of an axis in 16 bits; NIfTI-2 in 64.
MOST_OF_NIFTI1 = 32_767
# Columns of an affine of (slice, row, column) in the order of NIfTI's (i, j, k).
XYZ = [2, 1, 0, 3]


def write_mask(analysis: Analysis, folder: Path) -> dict[str, str]:
    """Write the mask into a result folder; return the written paths and what they are."""
    values = analysis.mask.astype(np.uint8)
    if _write_nifti(analysis.study, values, folder / "mask.nii.gz"):
        return {"mask.nii.gz": "mask on FLAIR's grid, 1 inside"}
    _write_slices(analysis.study, values * 255, folder / "mask")
    return {"mask/": "mask of each slice, 255 inside"}


def write_probability(analysis: Analysis, folder: Path) -> dict[str, str]:
    """Write the probability map into a result folder, float32 in [0, 1]."""
    values, what = analysis.maps.probability, "tumour probability per pixel"
    if _write_nifti(analysis.study, values, folder / "probability.nii.gz"):
        return {"probability.nii.gz": f"{what}, 0 to 1"}
    _write_slices(analysis.study, values, folder / "probability")
    return {"probability/": f"{what} of each slice, 0 to 1"}


def mask_in(folder: Path) -> Path:
    """Where the mask lies in a result folder: a NIfTI file, or a folder of slices."""
    whole = folder / "mask.nii.gz"
    return whole if os.path.lexists(whole) else folder / "mask"


def read_mask(path: Path, study: Study) -> NDArray[np.bool_]:
    """Read a mask that was written for a study, or changed since by another program.

    Parameters
    ----------
    path : Path
        A NIfTI file, or a folder with ``<slice>_mask.tif`` for each slice. What is above 0 is inside.
    study : Study

    Returns
    -------
    (slices, rows, columns) bool array

    Raises
    ------
    DamagedInputError
        It is missing or cannot be read, or its grid is not the study's.
    """
    try:
        if not path.is_dir():
            return _read_nifti(path, study)
        names = [f"{name}_mask.tif" for name in safe_names(study.slice_names)]
        return np.stack([_read_slice(path / name, study.shape[1:]) for name in names])
    except (GliosightError, MemoryError):
        raise
    except Exception as error:  # whatever nibabel and tifffile raise for a broken file
        raise _damaged(f"the mask cannot be read: {type(error).__name__}", path) from error


def _read_nifti(path: Path, study: Study) -> NDArray[np.bool_]:
    import nibabel

    _check_regular(path)
    image = nibabel.load(path)
    if image.get_data_dtype().kind not in "biuf":
        raise _damaged(f"the mask's voxels are of type {image.get_data_dtype()}", path)
    # Before anything of its size is allocated.
    if image.shape != study.shape[::-1]:
        raise _damaged(f"the mask's grid is {image.shape}, the study's {study.shape[::-1]}", path)
    # Saved by another program it may be mirrored, and only the affine says so.
    affine = None if study.geometry is None else study.geometry.affine
    if affine is None or not np.allclose(image.affine, affine[:, XYZ], rtol=0, atol=1e-3):
        raise _damaged("the mask's affine is not the study's", path)
    return np.asarray(image.dataobj).transpose(2, 1, 0) > 0


def _read_slice(path: Path, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    import tifffile

    _check_regular(path)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        if page.shape != shape:  # before anything of its size is allocated
            raise _damaged(f"the mask's slice is {page.shape}, the study's {shape}", path)
        return np.asarray(page.asarray()) > 0


def _check_regular(path: Path) -> None:
    if not path.is_file():  # opening a FIFO would wait for ever
        raise _damaged("there is no such mask", path)


def _damaged(what: str, path: Path) -> DamagedInputError:
    remedy = "give a mask on the grid of the one that gliosight wrote"
    return DamagedInputError(what, where=path.name, remedy=remedy)


def _write_nifti(study: Study, values: NDArray[Any], path: Path) -> bool:
    """Write values on the study's grid; ``False`` where NIfTI cannot hold that."""
    header = _nifti_header(study)
    if header is None:
        return False
    import nibabel

    header.set_data_dtype(values.dtype)
    header["cal_max"] = 1
    header["descrip"] = b"gliosight, research use only"
    two = isinstance(header, nibabel.Nifti2Header)
    kind = nibabel.Nifti2Image if two else nibabel.Nifti1Image
    # Without an affine of its own the image keeps the header's forms as they are, broken ones, too.
    nibabel.save(kind(np.ascontiguousarray(values.transpose(2, 1, 0)), None, header), path)
    return True


def _nifti_header(study: Study) -> Any | None:
    """The header of a NIfTI file on the study's grid; ``None`` where NIfTI cannot hold that."""
    if study.source.nifti_header is not None:
        return study.source.nifti_header.copy()
    affine = None if study.geometry is None else study.geometry.affine
    if affine is None or study.kind not in ("arrays", "dicom"):
        return None
    import nibabel

    large = max(study.shape) > MOST_OF_NIFTI1
    header = nibabel.Nifti2Header() if large else nibabel.Nifti1Header()
    header.set_data_shape(study.shape[::-1])
    scanner = study.kind == "dicom"
    header.set_qform(affine[:, XYZ], code="scanner" if scanner else 0)  # loses a tilt
    header.set_sform(affine[:, XYZ], code="scanner" if scanner else "aligned")
    return header


def _write_slices(study: Study, values: NDArray[Any], folder: Path) -> None:
    import tifffile

    folder.mkdir()
    about = {"description": RESEARCH_USE, "metadata": None}
    for name, plane in zip(safe_names(study.slice_names), values, strict=True):
        path = folder / f"{name}_{folder.name}.tif"
        tifffile.imwrite(path, plane, photometric="minisblack", compression="zlib", **about)
