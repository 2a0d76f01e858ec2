"""A NIfTI header, understood: shape, numbers, scaling and the forms that place it (read stage).

In: the first bytes of a NIfTI-1 or NIfTI-2 file. Out: a `Header`, or an error. nibabel knows the
fields; whether what they say can be true is checked here, before a byte of pixels is read. Fields
and rules: nifti1.h (https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h), nifti2.h.

Words: a *form* is a way the header places the voxels in the world, the *sform* by a matrix, the
*qform* by a rotation; its *code* names the world (1 scanner, 2 another image, 3 Talairach, 4 MNI).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from gliosight.errors import DamagedInputError, UnsupportedInputError, UsageError
from gliosight.read.detect import NIFTI1_SIZE, NIFTI2_SIZE
from gliosight.read.flags import flag
from gliosight.study import Flag

NUMBERS = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
NOT_READ = {
    1: "single bits",
    32: "complex numbers",
    128: "RGB colours",
    1536: "128-bit numbers",
    1792: "complex numbers",
    2048: "complex numbers",
    2304: "RGBA colours",
}
LABEL_INTENT = 1002
# Spatial unit codes of xyzt_units, in millimetres; 0 (unknown) means millimetres by custom.
MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
SPATIAL_UNIT = 0x07
UNIT_NAMES = {1: "metres", 3: "micrometres"}
# Free text that writers of masks must not carry along: it may hold a name.
TEXT_FIELDS = ("descrip", "aux_file", "db_name", "intent_name")


@dataclass(frozen=True)
class Form:
    """One placement whose code is over 0; ``affine`` leads from ``(i, j, k, 1)`` to RAS+ mm."""

    name: Literal["sform", "qform"]
    code: int
    affine: NDArray[np.float64]


@dataclass(frozen=True)
class Header:
    """What is needed to read the pixels and place them.

    Parameters
    ----------
    fields : nibabel header
        As in the file, free text blanked, for the writers.
    shape : tuple of int
        ``(i, j, k)``, the order of the file.
    volumes : int
        Length of the fourth dimension.
    numbers : numpy dtype
        With the file's byte order.
    offset : int
        Where the pixels begin in the file that holds them.
    scaling : tuple of float or None
        Slope and intercept, or ``None`` where the stored numbers are the values.
    forms : tuple of Form
        Those with a code, the sform first.
    paired : bool
        The pixels are in an ``.img`` file of their own.
    flags : tuple of Flag
    """

    fields: Any
    shape: tuple[int, int, int]
    volumes: int
    numbers: np.dtype[Any]
    offset: int
    scaling: tuple[float, float] | None
    forms: tuple[Form, ...]
    paired: bool
    flags: tuple[Flag, ...]

    @property
    def to_millimetres(self) -> NDArray[np.float64]:
        """(4, 4) from the file's spatial unit to millimetres."""
        unit = int(self.fields["xyzt_units"]) & SPATIAL_UNIT
        return np.diag([MILLIMETRES.get(unit, 1.0)] * 3 + [1.0])

    @property
    def volume_bytes(self) -> int:
        """Bytes of one volume, as the header claims."""
        return math.prod(self.shape) * self.numbers.itemsize


def understand(head: bytes, where: str) -> Header:
    """Understand the first 540 bytes (348 are enough for NIfTI-1) of a NIfTI file.

    Raises
    ------
    DamagedInputError
        The header contradicts itself or the standard, or says that this is a label image.
    UnsupportedInputError
        Complex, RGB and other numbers; five and more dimensions; one dimension.
    """
    fields, order, version = _fields(head, where)
    shape, volumes = _shape(fields, where)
    code = int(fields["datatype"])
    if code in NOT_READ:
        raise UnsupportedInputError(
            f"a NIfTI of {NOT_READ[code]} is not read",
            where=where,
            remedy="give the magnitude image, with one number a voxel",
        )
    if code not in NUMBERS:
        raise damaged(f"datatype {code} does not exist", where)
    if int(fields["intent_code"]) == LABEL_INTENT:
        raise DamagedInputError(
            "the header says that this is a label image, a mask",
            where=where,
            remedy="give the MR image, not its mask",
        )
    paired = bytes(head[344:347]) == b"ni1" if version == 1 else bytes(head[4:7]) == b"ni2"
    forms, flags = _forms(fields)
    size = NIFTI1_SIZE if version == 1 else NIFTI2_SIZE
    return Header(
        fields=_for_writers(fields, shape),
        shape=shape,
        volumes=volumes,
        numbers=np.dtype(order + NUMBERS[code]),
        offset=_offset(fields, size, where, paired=paired),
        scaling=_scaling(fields, where),
        forms=forms,
        paired=paired,
        flags=flags,
    )


def choose_volume(header: Header, index: int | None, where: str) -> int:
    """Index of the volume to read.

    Raises
    ------
    UnsupportedInputError
        There are several and none was chosen.
    UsageError
        There is no such volume.
    """
    if index is None:
        if header.volumes > 1:
            raise UnsupportedInputError(
                f"a 4-D NIfTI of {header.volumes} volumes, one is read",
                where=where,
                remedy=f"choose one with --volume N, N from 0 to {header.volumes - 1}",
            )
        return 0
    if not 0 <= index < header.volumes:
        raise UsageError(
            f"there is no volume {index}",
            where=where,
            remedy=f"--volume goes from 0 to {header.volumes - 1} here",
        )
    return index


def damaged(what: str, where: str) -> DamagedInputError:
    """The error for a NIfTI file that cannot be true."""
    return DamagedInputError(
        f"damaged NIfTI, {what}", where=where, remedy="copy or export the file again"
    )


def _fields(head: bytes, where: str) -> tuple[Any, str, int]:
    """Header fields, byte order and version."""
    for order in "<>":
        if len(head) < NIFTI1_SIZE:
            break
        (size,) = struct.unpack_from(order + "i", head)
        if size == NIFTI1_SIZE:
            block = head[:NIFTI1_SIZE]
            return nib.Nifti1Header(block, endianness=order, check=False), order, 1
        if size == NIFTI2_SIZE and len(head) >= NIFTI2_SIZE:
            block = head[:NIFTI2_SIZE]
            return nib.Nifti2Header(block, endianness=order, check=False), order, 2
    raise damaged("the header is cut off or its size is wrong", where)


def _shape(fields: Any, where: str) -> tuple[tuple[int, int, int], int]:
    dimensions = [int(one) for one in fields["dim"]]
    count = dimensions[0]
    if not 1 <= count <= 7:
        raise damaged(f"it claims {count} dimensions", where)
    sides = dimensions[1 : count + 1]
    if min(sides) < 1:
        raise damaged(f"it claims the shape {tuple(sides)}", where)
    if count == 1:
        raise UnsupportedInputError(
            "a NIfTI of one dimension is no image", where=where, remedy="give a FLAIR volume"
        )
    i, j, k, volumes, *more = [*sides, 1, 1, 1][: max(count, 4)]
    if math.prod(more) > 1:
        raise UnsupportedInputError(
            f"a NIfTI of the shape {tuple(sides)} holds several numbers a voxel",
            where=where,
            remedy="give a volume with one number a voxel; --volume N picks among four dimensions",
        )
    return (i, j, k), volumes


def _offset(fields: Any, size: int, where: str, *, paired: bool) -> int:
    claimed = float(fields["vox_offset"])
    if not math.isfinite(claimed) or claimed < 0 or claimed != int(claimed):
        raise damaged(f"its pixels begin at byte {claimed:g}", where)
    if paired:
        return int(claimed)
    first = size + 4  # four bytes say whether extensions follow
    if 0 < claimed < first:
        raise damaged(f"its pixels begin at byte {claimed:g}, inside the header", where)
    return int(claimed) or first


def _scaling(fields: Any, where: str) -> tuple[float, float] | None:
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    if not math.isfinite(slope) or slope == 0:
        return None  # nifti1.h: a slope of 0 means that nothing is scaled
    if not math.isfinite(intercept):
        raise damaged(f"its scaling has a slope of {slope:g} and no intercept", where)
    return None if (slope, intercept) == (1.0, 0.0) else (slope, intercept)


@np.errstate(all="ignore")  # any bits may stand in a header, signalling NaN among them
def _forms(fields: Any) -> tuple[tuple[Form, ...], tuple[Flag, ...]]:
    unit = int(fields["xyzt_units"]) & SPATIAL_UNIT
    scale = np.diag([MILLIMETRES.get(unit, 1.0)] * 3 + [1.0])
    forms: list[Form] = []
    if int(fields["sform_code"]) > 0:
        affine = np.eye(4)
        affine[:3] = [fields["srow_x"], fields["srow_y"], fields["srow_z"]]
        forms.append(Form("sform", int(fields["sform_code"]), scale @ affine))
    if int(fields["qform_code"]) > 0:
        forms.append(Form("qform", int(fields["qform_code"]), scale @ _qform(fields)))
    flags: tuple[Flag, ...] = ()
    if unit in UNIT_NAMES and forms:
        message = (
            f"The header gives lengths in {UNIT_NAMES[unit]}; they were turned into millimetres."
        )
        flags = (flag("UNITS_CONVERTED", message),)
    return tuple(forms), flags


def _qform(fields: Any) -> NDArray[np.float64]:
    """The qform's affine, all NaN where its numbers allow none (nifti1.h, method 2)."""
    b, c, d = (float(fields[f"quatern_{one}"]) for one in "bcd")
    spacing = np.array(fields["pixdim"][1:4], dtype=np.float64)
    offset = [float(fields[f"qoffset_{one}"]) for one in "xyz"]
    affine = np.full((4, 4), np.nan)
    square = 1.0 - (b * b + c * c + d * d)
    # Rounding of three float32 may leave the vector a little too long, not more.
    if not np.isfinite([square, *spacing, *offset]).all() or square < -1e-5 or (spacing < 0).any():
        return affine
    if square < 1e-7:
        b, c, d = np.array([b, c, d]) / np.sqrt(b * b + c * c + d * d)
        square = 0.0
    a = math.sqrt(square)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )
    # pixdim[0] is -1 for a left-handed grid; anything else, 0 above all, means +1.
    handed = np.array([1.0, 1.0, -1.0 if float(fields["pixdim"][0]) < 0 else 1.0])
    affine = np.eye(4)
    affine[:3, :3] = rotation * (spacing * handed)
    affine[:3, 3] = offset
    return affine


def _for_writers(fields: Any, shape: tuple[int, int, int]) -> Any:
    """A copy that a mask of the same geometry can be written with, as a single file."""
    kind = nib.Nifti2Header if fields["sizeof_hdr"] == NIFTI2_SIZE else nib.Nifti1Header
    copy = kind(fields.binaryblock, endianness=fields.endianness, check=False)
    copy["magic"] = kind.single_magic
    copy["vox_offset"] = 0
    copy["dim"] = [3, *shape, 1, 1, 1, 1]
    for name in TEXT_FIELDS:
        if name in copy.keys():  # noqa: SIM118 -- nibabel's headers know keys(), not `in`
            copy[name] = b""  # NIfTI-2 has no db_name
    return copy
