"""One NIfTI file: its header, its pixels as (slice, row, column), and their geometry (read stage).

nibabel unpacks the header. Whether it can be true is checked here before a pixel is read, and memory grows
only with the bytes that are there. Rules: nifti1.h and nifti2.h
(https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h).

Terms: a *form* places the voxels in the world, the *sform* by a matrix, the *qform* by a rotation; its
*code* names the world (1 scanner, 2 another image, 3 Talairach, 4 MNI).
"""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    LimitExceededError,
    UnsupportedInputError,
    UsageError,
    within,
)
from gliosight.flags import flag
from gliosight.read import grid
from gliosight.read.checks import as_float32, from_doubles
from gliosight.read.detect import HEAD_BYTES, NIFTI1_SIZE, NIFTI2_SIZE, pixels_beside
from gliosight.read.gzipped import MAGIC as GZIP
from gliosight.read.gzipped import DamagedGzipError, GzipStream
from gliosight.read.limits import Budget, cannot_read, open_regular
from gliosight.study import Flag, Geometry

LABEL_INTENT = 1002
# Spatial units of xyzt_units other than millimetres: name and length in mm. 0 counts as millimetres.
UNITS = {1: ("metres", 1000.0), 3: ("micrometres", 0.001)}
NOT_READ = {1: "single bits", 128: "RGB colours", 1536: "128-bit numbers", 2304: "RGBA colours"}
FORM_FIELDS = {
    "sform": ("srow_x", "srow_y", "srow_z"),
    "qform": ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
}
PLACE_FIELDS = ("pixdim", "xyzt_units", "qform_code", "sform_code", *sum(FORM_FIELDS.values(), ()))
# nibabel logs what it repairs.
_SILENT = logging.Logger("silent", level=logging.CRITICAL + 1)


@dataclass(frozen=True)
class Form:
    """One placement whose code is over 0; ``affine`` leads from ``(i, j, k, 1)`` to RAS+ mm."""

    name: Literal["sform", "qform"]
    code: int
    affine: NDArray[np.float64]


@dataclass(frozen=True)
class Header:
    """What is needed to read the pixels and place them."""

    fields: Any  # nibabel's, of a single volume, with the file's forms and nothing else: for the writers
    shape: tuple[int, int, int]  # (i, j, k), the order of the file
    volumes: int  # length of the fourth dimension
    numbers: np.dtype[Any]  # with the file's byte order
    offset: int  # where the pixels begin in the file that holds them
    scaling: tuple[float, float] | None  # slope and intercept, where the numbers are not the values
    forms: tuple[Form, ...]  # those with a code, the sform first
    paired: bool  # the pixels are in an .img file of their own
    flags: tuple[Flag, ...]


@dataclass(frozen=True)
class Image:
    """One sequence as its file holds it."""

    where: str  # what errors call it
    values: NDArray[Any]  # (slices, rows, columns), the file's integers or float32
    header: Header
    used: Form | None  # the form that the geometry comes from
    geometry: Geometry | None
    flags: tuple[Flag, ...]


def read_nifti_file(path: Path, where: str, budget: Budget, volume_index: int | None) -> Image:
    """Read one NIfTI file; of several volumes the one with this index, from 0.

    Raises
    ------
    NothingReadableError, LimitExceededError
    DamagedInputError
        Truncated, corrupt, a header that contradicts itself or the standard, a label image.
    UnsupportedInputError
        Numbers other than real ones; one dimension, or five and more; several volumes and no index.
    UsageError
        No such volume.
    """
    with _errors_named(where), open_regular(path, where) as (handle, size):
        header = _header(handle)
        index, last = volume_index or 0, header.volumes - 1
        if volume_index is None and last > 0:
            what = f"a 4-D NIfTI of {header.volumes} volumes, one is read"
            remedy = f"choose one with --volume N, N from 0 to {last}"
            raise UnsupportedInputError(what, remedy=remedy)
        if not 0 <= index <= last:
            remedy = f"--volume goes from 0 to {last} here"
            raise UsageError(f"there is no volume {volume_index}", remedy=remedy)
        if not header.paired:
            values = _values(handle, size, index, header, where, budget)
    if header.paired:
        beside = pixels_beside(path)
        where_beside = str(Path(where).with_name(beside.name))
        with _errors_named(where_beside), open_regular(beside, where_beside) as (handle, size):
            values = _values(handle, size, index, header, where_beside, budget)
    used, geometry, flags = place(header, where)
    if header.volumes > 1:
        message = f"Volume {index} of {header.volumes} (counted from 0) was chosen with --volume."
        flags = (flag("VOLUME_CHOSEN", message), *flags)
    return Image(where, values, header, used, geometry, flags)


def read_nifti_header(path: Path, where: str) -> Header:
    """Read only what stands before the pixels; raises as `read_nifti_file`."""
    with _errors_named(where), open_regular(path, where) as (handle, _):
        return _header(handle)


@contextmanager
def _errors_named(where: str) -> Iterator[None]:
    """Say of every error in which file it is."""
    try:
        yield
    except GliosightError as error:
        if error.where:
            raise
        raise within(error, where) from error
    except DamagedGzipError as error:
        raise within(_damaged(str(error)), where) from error
    except MemoryError as error:
        what, remedy = "not enough memory for its pixels", "give a smaller volume"
        raise LimitExceededError(what, where=where, remedy=remedy) from error
    except OSError as error:
        raise cannot_read(error, where) from error


def _damaged(what: str) -> DamagedInputError:
    return DamagedInputError(f"damaged NIfTI, {what}", remedy="copy or export the file again")


def label_image(where: str | None = None) -> DamagedInputError:
    """The error for an image whose intent code is that of labels."""
    what = "the header says that this is a label image, a mask"
    return DamagedInputError(what, where=where, remedy="give the MR image, not its mask")


def _header(handle: BinaryIO) -> Header:
    head = handle.read(HEAD_BYTES)
    if head.startswith(GZIP):
        handle.seek(0)
        head = bytes(GzipStream(handle).read(HEAD_BYTES))
    for kind, size in ((nib.Nifti1Header, NIFTI1_SIZE), (nib.Nifti2Header, NIFTI2_SIZE)):
        for order in "<>":
            if len(head) >= size and head.startswith(struct.pack(f"{order}i", size)):
                return _checked(kind(head[:size], endianness=order, check=False))
    raise _damaged("the header is cut off or its size is wrong")


def _checked(fields: Any) -> Header:
    """The header, if it can be true."""
    shape, volumes = _shape(fields)
    numbers = _numbers(fields)
    if int(fields["intent_code"]) == LABEL_INTENT:
        raise label_image()
    try:
        scaling = fields.get_slope_inter()
    except HeaderDataError as error:
        slope = float(fields["scl_slope"])
        raise _damaged(f"its scaling has a slope of {slope:g} and no intercept") from error
    forms, flags = forms_of(fields)
    paired = bytes(fields["magic"])[:3] in (b"ni1", b"ni2")
    offset = float(fields["vox_offset"])
    if not offset.is_integer() or offset < 0:
        raise _damaged(f"its pixels begin at byte {offset:g}")
    # Four bytes behind the header say whether extensions follow.
    first = 0 if paired else int(fields["sizeof_hdr"]) + 4
    if 0 < offset < first:
        raise _damaged(f"its pixels begin at byte {offset:g}, inside the header")
    return Header(
        fields=for_writers(fields, shape),
        shape=shape,
        volumes=volumes,
        numbers=numbers,
        offset=int(offset) or first,
        scaling=None if scaling in ((None, None), (1, 0)) else scaling,
        forms=forms,
        paired=paired,
        flags=flags,
    )


def _shape(fields: Any) -> tuple[tuple[int, int, int], int]:
    """The sides of a volume and the number of volumes."""
    count, *sides = (int(length) for length in fields["dim"])
    if not 1 <= count <= 7:
        raise _damaged(f"it claims {count} dimensions")
    # FSL and others leave a 0 behind the three axes of space; nifti1_io.c reads it as 1, too.
    sides = [*sides[: min(count, 3)], *(length or 1 for length in sides[3:count])]
    if min(sides) < 1:
        raise _damaged(f"it claims the shape {tuple(sides)}")
    if count == 1:
        what = "a NIfTI of one dimension is not an image"
        raise UnsupportedInputError(what, remedy="give a FLAIR volume")
    i, j, k, volumes, *more = [*sides, 1, 1, 1][: max(count, 4)]
    if math.prod(more) > 1:
        what = f"a NIfTI of the shape {tuple(sides)} holds several numbers a voxel"
        remedy = "give a volume with one number a voxel; --volume N picks among four dimensions"
        raise UnsupportedInputError(what, remedy=remedy)
    return (i, j, k), volumes


def _numbers(fields: Any) -> np.dtype[Any]:
    code, bits = int(fields["datatype"]), int(fields["bitpix"])
    try:
        numbers: np.dtype[Any] = fields.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise _damaged(f"datatype {code} does not exist") from error
    if code in NOT_READ or numbers.kind == "c":
        what = f"a NIfTI of {NOT_READ.get(code, 'complex numbers')} is not read"
        remedy = "give the magnitude image, with one number a voxel"
        raise UnsupportedInputError(what, remedy=remedy)
    if numbers.kind not in "iuf":
        raise _damaged(f"datatype {code} does not exist")
    if bits not in (0, 8 * numbers.itemsize):  # many writers leave 0 there
        raise _damaged(f"datatype {code} and bitpix {bits} contradict each other")
    return numbers


def _values(
    handle: BinaryIO, size: int, index: int, header: Header, where: str, budget: Budget
) -> NDArray[Any]:
    """The values of one volume as (slice, row, column); nothing is allocated for bytes that are not there."""
    voxels = math.prod(header.shape)
    wanted = voxels * header.numbers.itemsize
    begin = header.offset + index * wanted
    handle.seek(0)
    packed = handle.read(len(GZIP)) == GZIP
    budget.take(wanted, where, packed=size if packed else None, pixels=voxels)
    data: bytes | bytearray = b""
    if packed:
        # What lies before the volume is unpacked, too.
        budget.check_ratio(begin + wanted, where, packed=size)
        handle.seek(0)
        stream = GzipStream(handle)
        size = stream.skip(begin)
        data = stream.read(wanted) if size == begin else b""
        size += len(data)
        if len(data) == wanted:
            stream.skip(1 << 16)  # to the checksum, if it is not far behind
    elif size >= begin + wanted:
        handle.seek(begin)
        data = handle.read(wanted)
    if len(data) < wanted:
        raise _damaged(f"it is truncated: {size:,} of {begin + wanted:,} bytes are there")
    # The file's order is (i, j, k) with i fastest: its bytes, read as (k, j, i), are in our order.
    stored = np.frombuffer(data, dtype=header.numbers).reshape(header.shape[::-1])
    if header.scaling is not None:
        return from_doubles(stored, *header.scaling)
    if header.numbers.kind in "iu":
        return stored.astype(header.numbers.newbyteorder("="), copy=False)
    return as_float32(stored) if stored.itemsize <= 4 else from_doubles(stored)


def for_writers(fields: Any, shape: tuple[int, int, int]) -> Any:
    """A header of one volume for a mask of the same grid: the forms, and no free text, which may hold a name.

    A form that is not finite loses its code: no tool could open the mask.
    """
    kind = nib.Nifti2Header if isinstance(fields, nib.Nifti2Header) else nib.Nifti1Header
    header = kind(endianness=fields.endianness)
    for name in PLACE_FIELDS:
        header[name] = fields[name]
    header["dim"] = [3, *shape, 1, 1, 1, 1]
    for form in forms_of(fields)[0]:
        if not np.isfinite(form.affine).all():
            for name in (f"{form.name}_code", *FORM_FIELDS[form.name]):
                header[name] = 0
    distances = header["pixdim"][1:]
    distances[~np.isfinite(distances)] = 1
    # As every reader of the source does: distances of 0 become 1, codes that do not exist 0.
    header.check_fix(logger=_SILENT, error_level=100)
    return header


@np.errstate(all="ignore")  # any bits may stand in a header, signalling NaN among them
def forms_of(fields: Any) -> tuple[tuple[Form, ...], tuple[Flag, ...]]:
    """The forms of a nibabel NIfTI header, in millimetres; a broken qform is all NaN."""
    unit, length = UNITS.get(int(fields["xyzt_units"]) & 0x07, ("millimetres", 1.0))
    sound = fields.copy()
    # pixdim[0] is -1 for a left-handed grid; anything else, 0 above all, means +1.
    sound["pixdim"] = np.abs(fields["pixdim"])
    sound["pixdim"][0] = -1 if fields["pixdim"][0] < 0 else 1
    try:
        qform = sound.get_qform()
    except ValueError:  # no rotation
        qform = np.full((4, 4), np.nan)
    both = (
        Form("sform", int(fields["sform_code"]), fields.get_sform().astype(np.float64)),
        Form("qform", int(fields["qform_code"]), qform.astype(np.float64)),
    )
    forms = tuple(form for form in both if form.code > 0)
    thickness = float(sound["pixdim"][3])
    for form in forms:
        affine = form.affine
        if (fields["dim"][0] < 3 or fields["dim"][3] == 1) and not affine[:3, 2].any():
            # A single slice may lack the step to the next one.
            normal = np.cross(affine[:3, 0], affine[:3, 1])
            step = normal / np.linalg.norm(normal) * thickness
            affine[:3, 2] = step if np.isfinite(step).all() else 0
        affine[:3] = affine[:3] * length + 0.0  # no -0.0
    if length == 1 or not forms:
        return forms, ()
    message = f"The header gives lengths in {unit}; they were turned into millimetres."
    return forms, (flag("UNITS_CONVERTED", message),)


def place(header: Header, name: str) -> tuple[Form | None, Geometry | None, tuple[Flag, ...]]:
    """The form to believe, the geometry it gives, and what was odd about it.

    The sform goes before the qform, unless it is unusable or sheared: a qform cannot be. Where the qform
    is unusable as well, a small shear is straightened. What programs write by default goes last.
    """
    shape = header.shape[::-1]
    flags = list(header.flags)
    reasons: list[str] = []
    forms = sorted(header.forms, key=lambda form: grid.is_default(form.affine))
    if forms != list(header.forms):
        reasons.append("sform: it is the identity, which programs write where none was given")
    attempts = [(form, False) for form in forms]
    attempts += [(form, True) for form in header.forms if form.name == "sform"]
    for form, straighten in attempts:
        try:
            geometry = grid.geometry_of(form.affine[:, [2, 1, 0, 3]], shape, straighten=straighten)
        except grid.UnusableAffineError as error:
            reasons.append(f"{form.name}: {error}")
            if form.name == "sform" and type(error) is grid.UnusableAffineError:
                break  # what it says is odd, and no reason to believe the qform
            continue
        if straighten:
            message = f"The affine of {name} is sheared ({reasons[0]}); it was straightened."
            flags.append(flag("AFFINE_STRAIGHTENED", message))
        elif form.name == "qform" and reasons:
            message = f"The sform of {name} is not used ({reasons[0]}); the qform is."
            flags.append(flag("QFORM_USED", message))
        if form.name == "sform":
            geometry, disagreement = _compare_forms(header, geometry, name)
            flags += disagreement
        return form, geometry, (*flags, *grid.oddities(geometry, name))
    reason = reasons[0] if reasons else "the header places it nowhere (sform and qform codes are 0)"
    message = f"{name} has no usable geometry ({reason}); sizes are in pixels only."
    flags.append(flag("NO_GEOMETRY", message))
    return None, None, tuple(flags)


def _compare_forms(header: Header, geometry: Geometry, name: str) -> tuple[Geometry, list[Flag]]:
    """The sform's geometry, without sides where the qform contradicts them, and the flag for it."""
    if len(header.forms) < 2 or not all(np.isfinite(form.affine).all() for form in header.forms):
        return geometry, []
    sform, qform = (form.affine for form in header.forms)
    if not grid.is_default(qform) and grid.sides_differ(sform, qform):
        geometry = replace(geometry, believed="all but sides")
        what = "disagree on which side is left; the sform is used, and no side is given"
    else:
        away = grid.grid_distance(sform, qform, tuple(side - 1 for side in header.shape))
        if away <= 0.1 * min(*geometry.spacing, geometry.slice_spacing or np.inf):
            return geometry, []
        what = f"differ by up to {away:.1f} mm; the sform is used"
    return geometry, [flag("FORMS_DISAGREE", f"sform and qform of {name} {what}.")]
