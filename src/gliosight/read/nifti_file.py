"""One NIfTI file: its pixels in our order, and where they lie (read stage).

In: a path that `detect` recognised as NIfTI. Out: an `Image`. Pixels are read by the sizes the
header claims, but memory grows only with the bytes that are there. The file's order is (i, j, k)
with i fastest, so that its bytes, read as (k, j, i), are our (slice, row, column) without moving
one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gliosight.errors import GliosightError, LimitExceededError, UnsupportedInputError
from gliosight.read.affines import UnusableAffineError, check_extent, geometry_of, grid_distance
from gliosight.read.detect import HEAD_BYTES
from gliosight.read.flags import flag
from gliosight.read.gzipped import MAGIC as GZIP
from gliosight.read.gzipped import DamagedGzipError, GzipStream
from gliosight.read.intensities import as_float32
from gliosight.read.limits import Budget, cannot_read, open_regular
from gliosight.read.nifti_header import Form, Header, choose_volume, damaged, understand
from gliosight.study import Flag, Geometry

# sform and qform agree when no corner of the volume differs by more than this part of a voxel.
FORMS_AGREE_WITHIN = 0.1


@dataclass(frozen=True)
class Image:
    """One sequence as its file holds it.

    Parameters
    ----------
    values : (slices, rows, columns) array
        The file's integers, or float32.
    header : Header
    used : Form or None
        The form the geometry comes from.
    geometry : Geometry or None
    flags : tuple of Flag
    """

    values: NDArray[Any]
    header: Header
    used: Form | None
    geometry: Geometry | None
    flags: tuple[Flag, ...]


def read_nifti_file(path: Path, where: str, budget: Budget, volume_index: int | None) -> Image:
    """Read one NIfTI file.

    Raises
    ------
    NothingReadableError, DamagedInputError, UnsupportedInputError, LimitExceededError, UsageError
    """
    try:
        with open_regular(path, where) as (handle, size):
            head, packed = _head(handle)
            header = understand(head, where)
            index = choose_volume(header, volume_index, where)
            skip = header.offset + index * header.volume_bytes
            if not header.paired:
                data = _pixels(handle, size, skip, header, where, budget, packed=packed)
        if header.paired:
            if packed:
                raise UnsupportedInputError(
                    "a compressed .hdr/.img pair is not read",
                    where=where,
                    remedy="convert it to one .nii.gz file",
                )
            other = path.with_suffix(".IMG" if path.suffix.isupper() else ".img")
            beside = str(Path(where).with_name(other.name))
            with open_regular(other, beside) as (handle, size):
                data = _pixels(handle, size, skip, header, beside, budget, packed=False)
    except DamagedGzipError as error:
        raise damaged(str(error), where) from error
    except MemoryError as error:
        raise LimitExceededError(
            "not enough memory for its pixels", where=where, remedy="give a smaller volume"
        ) from error
    except OSError as error:
        if isinstance(error, GliosightError):
            raise
        raise cannot_read(error, where) from error
    values = _values(data, header)
    used, geometry, flags = place(header, where)
    if header.volumes > 1:
        message = f"Volume {index} of {header.volumes} (counted from 0) was chosen with --volume."
        flags = (flag("VOLUME_CHOSEN", message), *flags)
    return Image(values, header, used, geometry, flags)


def read_nifti_header(path: Path, where: str) -> Header:
    """Read only what stands before the pixels.

    Raises
    ------
    NothingReadableError, DamagedInputError, UnsupportedInputError
    """
    try:
        with open_regular(path, where) as (handle, _):
            return understand(_head(handle)[0], where)
    except DamagedGzipError as error:
        raise damaged(str(error), where) from error
    except OSError as error:
        if isinstance(error, GliosightError):
            raise
        raise cannot_read(error, where) from error


def place(header: Header, name: str) -> tuple[Form | None, Geometry | None, tuple[Flag, ...]]:
    """The form to believe, the geometry it gives, and what was odd about it.

    The sform wins over the qform. Only where the sform says nothing at all (NaN, singular) does the
    qform step in.
    """
    slices = header.shape[2]
    flags = list(header.flags)
    reason = "the header places it nowhere (sform and qform codes are 0)"
    for form in header.forms:
        try:
            geometry = geometry_of(_ours(form, header), slices)
            check_extent(geometry, (header.shape[1], header.shape[0]))
        except UnusableAffineError as error:
            reason = f"{form.name}: {error}"
            if error.empty:
                continue
            break
        if form.name == "qform" and len(header.forms) == 2:
            flags.append(flag("QFORM_USED", f"The sform of {name} is unusable; the qform is used."))
        flags += _disagreement(header, geometry, name)
        if slices == 1 and geometry.slice_thickness is not None:
            message = f"There is one slice; it counts as {geometry.slice_thickness:g} mm thick."
            flags.append(flag("SINGLE_SLICE", message))
        return form, geometry, tuple(flags)
    message = f"{name} has no usable geometry ({reason}); sizes are in pixels only."
    flags.append(flag("NO_GEOMETRY", message))
    return None, None, tuple(flags)


@np.errstate(all="ignore")  # any bits may stand in a header
def _ours(form: Form, header: Header) -> NDArray[np.float64]:
    """The form's affine for (slice, row, column); a lone slice may lack a slice axis."""
    affine = form.affine[:, [2, 1, 0, 3]].copy()
    if header.shape[2] == 1 and np.isfinite(affine).all() and not affine[:3, 0].any():
        normal = np.cross(affine[:3, 2], affine[:3, 1])
        length = float(np.linalg.norm(normal))
        thickness = abs(float(header.fields["pixdim"][3]))
        if length > 0 and np.isfinite(thickness):
            affine[:3, 0] = normal / length * thickness
    return affine


def _disagreement(header: Header, geometry: Geometry, name: str) -> list[Flag]:
    if len(header.forms) < 2:
        return []
    sform, qform = header.forms
    if not (np.isfinite(qform.affine).all() and np.isfinite(sform.affine).all()):
        return []
    last = tuple(side - 1 for side in header.shape)
    away = grid_distance(sform.affine, qform.affine, last)
    smallest = min(*geometry.spacing, geometry.slice_spacing or np.inf)
    if away <= FORMS_AGREE_WITHIN * smallest:
        return []
    message = f"sform and qform of {name} differ by up to {away:.1f} mm; the sform is used."
    return [flag("FORMS_DISAGREE", message)]


def _head(handle: BinaryIO) -> tuple[bytes, bool]:
    """The first bytes, unpacked, and whether they were gzip; the file stands at its start again."""
    head = handle.read(HEAD_BYTES)
    handle.seek(0)
    packed = head.startswith(GZIP)
    if packed:
        head = bytes(GzipStream(handle).read(HEAD_BYTES))
        handle.seek(0)
    return head, packed


def _pixels(
    handle: BinaryIO,
    size: int,
    skip: int,
    header: Header,
    where: str,
    budget: Budget,
    *,
    packed: bool,
) -> bytes | bytearray:
    wanted = header.volume_bytes
    budget.take(
        wanted, where, packed=size if packed else None, pixels=wanted // header.numbers.itemsize
    )
    if packed:
        # Whatever lies before the volume must be unpacked, too.
        budget.check_ratio(skip + wanted, where, packed=size)
        stream = GzipStream(handle)
        have = stream.skip(skip)
        data = stream.read(wanted) if have == skip else bytearray()
        if len(data) < wanted:
            raise _too_short(have + len(data), skip + wanted, where)
        stream.finish()
        return data
    if size < skip + wanted:
        raise _too_short(size, skip + wanted, where)
    handle.seek(skip)
    content = handle.read(wanted)
    if len(content) < wanted:
        raise _too_short(skip + len(content), skip + wanted, where)
    return content


def _too_short(have: int, need: int, where: str) -> GliosightError:
    return damaged(f"it is truncated: {have:,} of {need:,} bytes are there", where)


def _values(data: bytes | bytearray, header: Header) -> NDArray[Any]:
    """The numbers as (slice, row, column), scaled where the header says so."""
    stored = np.frombuffer(data, dtype=header.numbers).reshape(header.shape[::-1])
    if header.scaling is None:
        if header.numbers.kind in "iu":
            return stored.astype(header.numbers.newbyteorder("="), copy=False)
        return stored if stored.dtype == np.float32 else as_float32(stored)
    slope, intercept = header.scaling
    out = np.empty(stored.shape, dtype=np.float32)
    for index, one in enumerate(
        stored
    ):  # slice by slice: doubles for all would need eight times it
        with np.errstate(over="ignore", invalid="ignore"):
            out[index] = one * np.float64(slope) + np.float64(intercept)
    return out
