"""A study of nibabel's or SimpleITK's images (read stage; apart from `arrays`, since it needs `nifti`).

The rules for NIfTI files hold: the image says where its voxels lie, T1 and T1C on another grid are
resampled. SimpleITK is not imported here: whoever has such an image has it loaded.
"""

from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from gliosight.errors import (
    DamagedInputError,
    LimitExceededError,
    UnsupportedInputError,
    printable,
)
from gliosight.read.arrays import numbers_of
from gliosight.read.limits import RAISE_IN_PYTHON, Budget, Limits
from gliosight.read.naming import stem
from gliosight.read.nifti import join
from gliosight.read.nifti_file import (
    LABEL_INTENT,
    Header,
    Image,
    for_writers,
    forms_of,
    label_image,
    place,
)
from gliosight.study import Flag, MrSequence, Study

# ITK's world grows to the patient's left and back, ours to the right and front.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def from_images(images: Mapping[MrSequence, Any], *, limits: Limits | None = None) -> Study:
    """Make a study of image objects; FLAIR is among them.

    Parameters
    ----------
    images : mapping of MrSequence to image
        nibabel's ``SpatialImage`` or SimpleITK's ``Image``.
    limits : Limits, optional

    Raises
    ------
    UnsupportedInputError
        More than one volume; complex, RGB and the like; Analyze 7.5.
    DamagedInputError
        Pixels that cannot be read, too many that are not finite, a mask.
    LimitExceededError
    """
    budget = Budget(limits or Limits(), RAISE_IN_PYTHON)
    ready: dict[MrSequence, Image] = {}
    flags: list[Flag] = []
    for sequence, image in images.items():
        name = sequence.value
        read = _from_nibabel if hasattr(image, "dataobj") else _from_itk
        values, fields = read(image, name, budget)
        i, j, k = (int(length) for length in fields["dim"][1:4])
        values, odd = numbers_of(values.reshape(i, j, k).transpose(2, 1, 0), name)
        flags += odd
        forms, units = forms_of(fields)
        header = Header(
            fields, (i, j, k), 1, values.dtype, 0, None, forms, paired=False, flags=units
        )
        ready[sequence] = Image(name, values, header, *place(header, name))
    flair = images[MrSequence.FLAIR]
    path = flair.get_filename() if hasattr(flair, "get_filename") else None
    return join(
        ready,
        stem(Path(path).name) if isinstance(path, str) else "image",
        budget,
        kind="nifti" if isinstance(flair, nib.Nifti1Pair) else "arrays",
        flags=flags,
    )


def _from_nibabel(image: Any, name: str, budget: Budget) -> tuple[NDArray[Any], Any]:
    """Values by (i, j, k), and a NIfTI header with their shape that places them."""
    if isinstance(image, nib.AnalyzeImage) and not isinstance(image, nib.Nifti1Pair):
        raise UnsupportedInputError(
            "an Analyze 7.5 image does not say which side is left",
            where=name,
            remedy="make a nibabel.Nifti1Image of it, with an affine that you know to be right",
        )
    shape = _single(image.shape, name, "choose one with image.slicer[..., N]")
    dtype = np.dtype(getattr(image.dataobj, "dtype", np.float64))
    budget.take(math.prod(shape) * max(4, dtype.itemsize), name, packed=None)
    try:
        values = np.asanyarray(image.dataobj)
    except MemoryError as error:
        raise LimitExceededError(
            "not enough memory for its pixels", where=name, remedy="give a smaller volume"
        ) from error
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError) as error:
        raise DamagedInputError(
            f"its pixels cannot be read, {printable(str(error))}",
            where=name,
            remedy="copy or export the file again, and load it anew",
        ) from error
    affine = None if image.affine is None else np.asarray(image.affine, dtype=np.float64)
    if not isinstance(image.header, nib.Nifti1Header):
        return values, _header(shape, affine)
    if int(image.header["intent_code"]) == LABEL_INTENT:
        raise label_image(name)
    fields = for_writers(image.header, shape)
    if affine is not None and not np.allclose(affine, fields.get_best_affine(), atol=1e-4):
        fields = _header(shape, affine)  # moved since it was loaded
    return values, fields


def _from_itk(image: Any, name: str, budget: Budget) -> tuple[NDArray[Any], Any]:
    """As `_from_nibabel`."""
    size = tuple(int(length) for length in image.GetSize())
    if int(image.GetNumberOfComponentsPerPixel()) != 1:
        what, remedy = "an image with several numbers a voxel", "give one with one number a voxel"
        raise UnsupportedInputError(what, where=name, remedy=remedy)
    shape = _single(size, name, "choose one with image[:, :, :, N]")
    library = sys.modules[type(image).__module__.partition(".")[0]]
    values = np.asarray(library.GetArrayFromImage(image)).transpose()  # to (i, j, k)
    budget.take(max(values.nbytes, 4 * values.size), name, packed=None)
    if len(size) < 3:
        return values, _header(shape, None)
    direction = np.reshape(np.asarray(image.GetDirection()), (len(size), len(size)))
    affine = np.eye(4)
    affine[:3, :3] = direction[:3, :3] * np.asarray(image.GetSpacing())[:3]
    affine[:3, 3] = np.asarray(image.GetOrigin())[:3]
    return values, _header(shape, LPS_TO_RAS @ affine)


def _single(shape: tuple[int, ...], name: str, remedy: str) -> tuple[int, int, int]:
    """The three sides of one volume."""
    i, j, k, *more = (*shape, 1, 1, 1)
    what = f"an image of the shape {shape}"
    if len(shape) < 2 or 0 in shape:
        raise UnsupportedInputError(what, where=name, remedy="give a volume")
    if math.prod(more) > 1:
        raise UnsupportedInputError(f"{what}, one volume is read", where=name, remedy=remedy)
    return i, j, k


def _header(shape: tuple[int, int, int], affine: NDArray[np.float64] | None) -> Any:
    """A NIfTI header with this affine; without an affine neither sform nor qform is set."""
    # NIfTI-1 counts the voxels of an axis in 16 bits.
    fields = (nib.Nifti2Header if max(shape) > 32_767 else nib.Nifti1Header)()
    fields["dim"] = [3, *shape, 1, 1, 1, 1]
    fields.set_xyzt_units("mm")
    if affine is not None:
        fields.set_sform(affine, "scanner")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        fields["pixdim"][1:4] = np.where(np.isfinite(lengths) & (lengths > 0), lengths, 1)
    return fields
