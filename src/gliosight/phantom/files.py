"""A phantom as slices in the LGG layout, or NIfTI; apart from ``dicom``, which alone needs pydicom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import tifffile
from numpy.typing import NDArray

from gliosight.errors import CannotWriteError
from gliosight.files import is_empty, whole_folder
from gliosight.phantom.scanner import CHANNELS, UNITS_PER_BYTE, Phantom
from gliosight.study import MrSequence

_NIFTI_NAMES = {MrSequence.FLAIR: "flair", MrSequence.T1: "t1", MrSequence.T1C: "t1ce"}


def to_bytes(values: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Stored values in the brightness of the LGG layout's bytes."""
    return np.minimum(np.rint(values / UNITS_PER_BYTE), 255).astype(np.uint8)


def write_lgg(phantom: Phantom, folder: Path) -> Path:
    """Write slices in the LGG layout.

    ``<study_id>_<n>.tif``, n from 1, inferior to superior: (rows, columns, 3) uint8 of T1, FLAIR, T1C, a
    missing sequence filled with FLAIR as that data set does; ``<study_id>_<n>_mask.tif``: 0 or 255. The
    patient's left is on the right of the picture. The layout has no geometry: it is lost.

    Returns
    -------
    Path
        The folder of the study.

    Raises
    ------
    CannotWriteError
        The study's folder holds something already, or cannot be written.
    """
    name = phantom.spec.study_id
    flair = phantom.sequences[MrSequence.FLAIR]
    channels = [to_bytes(phantom.sequences.get(channel, flair)) for channel in CHANNELS]
    slices = np.stack(channels, axis=-1)
    masks = np.where(phantom.truth, 255, 0).astype(np.uint8)
    with study_folder(phantom, folder) as target:
        for number, (picture, mask) in enumerate(zip(slices, masks, strict=True), start=1):
            tifffile.imwrite(target / f"{name}_{number}.tif", picture, photometric="rgb")
            tifffile.imwrite(target / f"{name}_{number}_mask.tif", mask, photometric="minisblack")
    return folder / name


def write_nifti(phantom: Phantom, folder: Path) -> Path:
    """Write one NIfTI file for each sequence and one for the truth; otherwise as `write_lgg`.

    ``<study_id>_flair.nii.gz``, ``_t1``, ``_t1ce`` (uint16) and ``_seg`` (uint8, 0 or 1). Arrays have the
    index order (column, row, slice), so that the first index runs to the patient's left and the second to
    posterior; sform and qform (both: scanner) lead to RAS+ millimetres.
    """
    # NIfTI counts the fastest index first; the phantom's affine starts with the slices.
    affine = phantom.affine[:, [2, 1, 0, 3]]
    arrays: dict[str, NDArray[np.generic]] = {
        _NIFTI_NAMES[name]: values for name, values in phantom.sequences.items()
    }
    arrays["seg"] = phantom.truth.astype(np.uint8)
    with study_folder(phantom, folder) as target:
        for name, values in arrays.items():
            image = nibabel.Nifti1Image(values.transpose(2, 1, 0), affine)
            image.header.set_xyzt_units("mm")
            image.set_sform(affine, code="scanner")
            image.set_qform(affine, code="scanner")
            nibabel.save(image, target / f"{phantom.spec.study_id}_{name}.nii.gz")
    return folder / phantom.spec.study_id


@contextmanager
def study_folder(phantom: Phantom, folder: Path) -> Iterator[Path]:
    """Give a folder to write into, which becomes ``folder/<study_id>``; raises `CannotWriteError`."""
    target = folder / phantom.spec.study_id

    def check() -> None:
        # Slices of a longer phantom left over from before would pass as this one's.
        if target.exists() and not is_empty(target):
            raise CannotWriteError(
                "the folder of the phantom is not empty",
                where=target.name,
                remedy="choose another one",
            )

    with whole_folder(target, check) as work:
        yield work
