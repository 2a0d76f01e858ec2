"""From what a Python caller gives to a `Study` (stage: read).

Apart from `gliosight.read.read`, which takes paths alone: arrays and images of nibabel and SimpleITK, too.
"""

from __future__ import annotations

import functools
import os
import pkgutil
import threading
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

import gliosight.read
from gliosight.errors import UsageError
from gliosight.read import Limits, Request, from_arrays, read
from gliosight.study import MrSequence, Study

# One sequence: a path, an array, or an image of nibabel or SimpleITK.
SequenceInput = Any
_IMPORTING = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_IMPORTING.acquire,
        after_in_parent=_IMPORTING.release,
        after_in_child=_IMPORTING.release,
    )


def read_study(
    source: str | Path | ArrayLike | Mapping[str, SequenceInput],
    *,
    affine: ArrayLike | None = None,
    limits: Limits | None = None,
) -> Study:
    """Read one study.

    Parameters
    ----------
    source : path, image, array, or mapping of these
        A file or a folder, see docs/input.md; or an image of nibabel or SimpleITK; or a ``(slices,
        rows, columns)`` array. One is FLAIR, several come by sequence: ``{"FLAIR": ..., "T1": ...,
        "T1C": ...}``. Images say where they lie; T1 and T1C on another grid are resampled, as those of
        NIfTI files are. Arrays are all on one grid.
    affine : (4, 4) array, optional
        For arrays: from ``(slice, row, column, 1)`` to RAS+ millimetres. Without it there are no
        millimetres, sides or volumes in ml. An affine of nibabel is for its own order of axes: give the
        image itself.
    limits : Limits, optional

    Raises
    ------
    GliosightError
        See `gliosight.errors`.
    """
    with _IMPORTING:
        _load_readers()
    if not isinstance(limits, Limits | None):
        raise UsageError(f"limits are {limits!r}", remedy="give Limits(...), or None")
    limits = limits or Limits()
    sources = _by_sequence(source)
    kinds = sorted({_kind(name, value) for name, value in sources.items()})
    if len(kinds) > 1:
        what = f"the sequences are given as {' and '.join(kinds)}"
        raise UsageError(what, remedy="give all as one kind")
    if affine is not None and kinds != ["arrays"]:
        raise UsageError(f"an affine is given with {kinds[0]}", remedy="give it with arrays only")
    if kinds == ["images"]:
        from gliosight.read.nifti import from_images

        return from_images(sources, limits=limits)
    three: list[Any] = [sources.get(name) for name in MrSequence]
    flair, t1, t1c = three
    if kinds == ["arrays"]:
        return from_arrays(flair, t1, t1c, affine=affine, limits=limits)
    flair, t1, t1c = (path and Path(path) for path in three)
    if isinstance(source, Mapping):
        return read(Request(None, flair, t1, t1c, limits=limits))
    return read(Request(flair, limits=limits))


@functools.cache
def _load_readers() -> None:
    """Import what reading imports when it is needed, and codecs of names in DICOM and zip.

    A child that is forked while another thread imports a module could never import it.
    """
    readers = pkgutil.walk_packages(gliosight.read.__path__, "gliosight.read.")
    others = ("encodings.ascii", "encodings.cp437", "numpy.ma")  # the last for numpy.median
    for name in (*(reader.name for reader in readers), *others):
        import_module(name)


def _by_sequence(source: Any) -> dict[MrSequence, Any]:
    if not isinstance(source, Mapping):
        return {MrSequence.FLAIR: source}
    names: dict[str, Any] = {}
    for key, value in source.items():
        name = key.value if isinstance(key, MrSequence) else str(key).upper()
        if value is not None and name in names:
            raise UsageError(f"{name} is given twice", remedy="give each sequence once")
        names |= {} if value is None else {name: value}
    if not {"FLAIR"} <= names.keys() <= {sequence.value for sequence in MrSequence}:
        what = f"a study of {', '.join(sorted(names)) or 'nothing'}"
        raise UsageError(what, remedy="name the sequences FLAIR, and T1 and T1C where there are")
    return {MrSequence(name): value for name, value in names.items()}


def _kind(name: MrSequence, source: Any) -> str:
    if isinstance(source, (str, os.PathLike)):
        if not os.fspath(source):
            raise UsageError(f"the path of {name.value} is empty", remedy="give a file or a folder")
        return "paths"
    nibabel = hasattr(source, "dataobj") and hasattr(source, "affine")
    if nibabel or hasattr(source, "GetDirection"):  # or SimpleITK
        return "images"
    if hasattr(source, "__array__"):
        return "arrays"
    remedy = "give a path, a numpy array, or an image of nibabel or SimpleITK"
    raise UsageError(f"{name.value} is of type {type(source).__name__}", remedy=remedy)
