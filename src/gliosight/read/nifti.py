"""A study of NIfTI files, or of images of nibabel or SimpleITK, all on FLAIR's grid (read stage).

Which file is which sequence is decided here by names and sidecars.
The study's slice is the file's k, its row j, its column i. SimpleITK is not imported: whoever has such an
image has it loaded. ``study.source.nifti_header`` is what a mask in the same geometry needs.
"""

from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

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
from gliosight.flags import flag
from gliosight.read import grid, naming
from gliosight.read.arrays import doubts_of_axes, numbers_of, slices_lie_elsewhere
from gliosight.read.checks import OTHERS, keep_real, lone_slice, make_finite, refuse_mask
from gliosight.read.detect import InputFile
from gliosight.read.limits import RAISE_IN_PYTHON, Budget, Limits
from gliosight.read.nifti_file import (
    LABEL_INTENT,
    Form,
    Header,
    Image,
    for_writers,
    forms_of,
    label_image,
    place,
    read_nifti_file,
)
from gliosight.study import SAME_WITHIN, Flag, MrSequence, Source, Study, Volume

# ITK's world grows to the patient's left and back, ours to the right and front.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Files named in a message before it breaks off.
NAMED = 6
# Why a FLAIR file goes before another, by the parts of `_merit`.
MERITS = (
    "before contrast medium",
    "the original by its name",
    "axial or three-dimensional by its name",
    "the last run",
    "the shortest name",
    "the first series by its number",
)


def read_nifti(
    files: Mapping[MrSequence, InputFile],
    study_id: str,
    budget: Budget,
    *,
    volume_index: int | None = None,
    flags: Sequence[Flag] = (),
    explained: Sequence[MrSequence] = (),
) -> Study:
    """Read a study whose files are assigned to sequences; FLAIR is among them.

    ``volume_index`` says which volume of a 4-D file, from 0. Raises as `read_nifti_file` and `join`.
    """
    images = {
        name: read_nifti_file(files[name].path, files[name].where, budget, volume_index)
        for name in MrSequence
        if name in files
    }
    study = join(images, study_id, budget, kind="nifti", flags=flags, explained=explained)
    names = tuple(file.path.name for file in files.values())
    return replace(study, source=replace(study.source, files=names))


def from_images(images: Mapping[MrSequence, Any], *, limits: Limits | None = None) -> Study:
    """Make a study of images, nibabel's ``SpatialImage`` or SimpleITK's ``Image``; FLAIR is among them.

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
        i, j, k = shape = tuple(int(length) for length in fields["dim"][1:4])
        values, odd = numbers_of(values.reshape(shape).transpose(2, 1, 0), name)
        flags += odd
        forms, units = forms_of(fields)
        header = Header(fields, (i, j, k), 1, values.dtype, 0, None, forms, False, units)
        ready[sequence] = Image(name, values, header, *place(header, name))
    flair = images[MrSequence.FLAIR]
    path = flair.get_filename() if hasattr(flair, "get_filename") else None
    study_id = naming.stem(Path(path).name) if isinstance(path, str) else "image"
    is_nifti = isinstance(flair, nib.Nifti1Pair)
    return join(ready, study_id, budget, kind="nifti" if is_nifti else "arrays", flags=flags)


def _from_nibabel(image: Any, name: str, budget: Budget) -> tuple[NDArray[Any], Any]:
    """Values by (i, j, k), and a NIfTI header with their shape that places them."""
    if isinstance(image, nib.AnalyzeImage) and not isinstance(image, nib.Nifti1Pair):
        what = "an Analyze 7.5 image does not say which side is left"
        remedy = "make a nibabel.Nifti1Image of it, with an affine that you know to be right"
        raise UnsupportedInputError(what, where=name, remedy=remedy)
    shape = _single(image.shape, name, "choose one with image.slicer[..., N]")
    dtype = np.dtype(getattr(image.dataobj, "dtype", np.float64))
    budget.take(math.prod(shape) * max(4, dtype.itemsize), name, packed=None)
    try:
        values = np.asanyarray(image.dataobj)
    except MemoryError as error:
        what, remedy = "not enough memory for its pixels", "give a smaller volume"
        raise LimitExceededError(what, where=name, remedy=remedy) from error
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError) as error:
        what = f"its pixels cannot be read, {printable(str(error))}"
        remedy = "copy or export the file again, and load it anew"
        raise DamagedInputError(what, where=name, remedy=remedy) from error
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


def join(
    images: Mapping[MrSequence, Image],
    study_id: str,
    budget: Budget,
    *,
    kind: Literal["nifti", "arrays"],
    flags: Sequence[Flag] = (),
    explained: Sequence[MrSequence] = (),
) -> Study:
    """Make a study of images on FLAIR's grid; ``explained`` sequences are left out and have their flag.

    Raises
    ------
    DamagedInputError, LimitExceededError
    UnsupportedInputError
        No geometry, and axes that are clearly in another order.
    """
    # Only FLAIR's geometry becomes the study's.
    notes = [*flags, *images[MrSequence.FLAIR].flags]
    finite: dict[MrSequence, Image] = {}
    for name in (name for name in MrSequence if name in images):
        image = images[name]
        # Before any interpolation: one NaN would spoil eight voxels.
        values, of_values = make_finite(image.values, name.value, image.where)
        refuse_mask(values, name.value, image.where)
        finite[name] = replace(image, values=values)
        notes += of_values
    flair = finite.pop(MrSequence.FLAIR)
    if flair.geometry is None or flair.geometry.believed == "sizes":
        if slices_lie_elsewhere(flair.values.shape):
            what = f"nothing says how a volume of (i, j, k) = {flair.header.shape} lies"
            raise UnsupportedInputError(
                f"{what}, and its slices do not seem to follow each other along k",
                where=flair.where,
                remedy="convert the original DICOM again, or reorder its axes so that k counts the slices",
            )
        notes += doubts_of_axes(flair.values)
    notes += lone_slice(len(flair.values), flair.geometry)
    arrays: dict[MrSequence, NDArray[Any]] = {MrSequence.FLAIR: flair.values}
    left_out = list(explained)
    for name, other in finite.items():
        on_grid, of_grid = onto_grid(flair, other, name.value, budget)
        notes += of_grid
        if on_grid is None:
            left_out.append(name)
        else:
            arrays[name] = on_grid
    real, copies = keep_real(arrays, explained=left_out)
    header = flair.header
    return Study(
        study_id=study_id,
        sequences={name: Volume(values, flair.geometry) for name, values in real.items()},
        slice_names=tuple(f"slice_{index:03d}" for index in range(header.shape[2])),
        kind=kind,
        source=Source(nifti_header=header.fields),
        flags=(*notes, *copies),
    )


def onto_grid(
    flair: Image, other: Image, sequence: str, budget: Budget
) -> tuple[NDArray[Any] | None, tuple[Flag, ...]]:
    """T1 or T1C on FLAIR's grid: its own array where the grids are one, else interpolated.

    ``None`` where it is left out: the grids differ, and they hardly overlap or no valid form of one code, not
    a program's default, places both in the same world.
    """
    shape = flair.header.shape
    if shape == other.header.shape:
        if flair.used is not None and other.used is not None and flair.geometry is not None:
            smallest = min(*flair.geometry.spacing, flair.geometry.slice_spacing or np.inf)
            last = tuple(side - 1 for side in shape)
            away = grid.grid_distance(flair.used.affine, other.used.affine, last)
            if away <= SAME_WITHIN * smallest:
                return other.values, ()
        forms = (*flair.header.forms, *other.header.forms)
        if all(grid.is_default(form.affine) for form in forms):
            what = f"Neither FLAIR nor {sequence} says where it lies"
            message = f"{what}; being of one shape, they are taken as one grid."
            return other.values, (flag("GRID_ASSUMED", message),)
    pairs = product(_usable_forms(flair.header), _usable_forms(other.header))
    own, their = next((pair for pair in pairs if pair[0].code == pair[1].code), (None, None))
    if own is None or their is None:
        what = f"{sequence} lies on another grid than FLAIR and the headers share no world"
        return None, (flag(f"{sequence}_LEFT_OUT", f"{what}; {sequence} is left out."),)
    budget.take(4 * flair.values.size, other.where, packed=None)
    to_other = np.linalg.inv(their.affine) @ own.affine
    matrix = to_other[:3, :3][::-1, ::-1]  # from (i, j, k) to (slice, row, column), on both sides
    in_plane = matrix[:, 1:] @ grid.pixels_of(flair.values.shape) + to_other[:3, 3:][::-1]
    values, covered = grid.resample(
        other.values, lambda index: in_plane + matrix[:, :1] * index, flair.values.shape
    )
    if covered < grid.LEAST_COVERED:
        message = f"{sequence} covers only {covered:.0%} of FLAIR's volume and is left out."
        return None, (flag(f"{sequence}_LEFT_OUT", message),)
    message = f"{sequence} lies on another grid than FLAIR and was resampled onto it."
    return values, (flag(f"{sequence}_RESAMPLED", message),)


def _usable_forms(header: Header) -> list[Form]:
    """Those that place the image; a sheared one can be interpolated in all the same."""
    forms = []
    i, j, k = header.shape
    for form in header.forms:
        with suppress(grid.UnusableAffineError):
            with suppress(grid.ShearedAffineError):
                grid.geometry_of(form.affine[:, [2, 1, 0, 3]], (max(k, 2), j, i))
            if not grid.is_default(form.affine):
                forms.append(form)
    return forms


def assign(
    group: Sequence[InputFile], where: str, doubtful: Sequence[InputFile] = ()
) -> tuple[dict[MrSequence, InputFile], tuple[Flag, ...], tuple[MrSequence, ...]]:
    """Decide by their names and sidecars which file of a study is which sequence.

    ``doubtful`` T1 and T1C may belong to this study or to another (see `naming.group_by_flair`); they are
    left out, flagged. The third value are the sequences that were there but could not be told apart; they
    have a flag.

    Raises
    ------
    UnsupportedInputError
        No FLAIR, or several of which none is the best by its name.
    """
    if len(group) == 1 and group[0].shown.kind is None:
        return {MrSequence.FLAIR: group[0]}, assign_single(group[0]), ()
    with_agent = _with_agent(group)
    flair, flags = _choose_flair(group, where, with_agent)
    files, explained = {MrSequence.FLAIR: flair}, list[MrSequence]()
    # "anna_flair" and "anna_t1c" belong together, so "berta_t1" is of somebody else.
    by_words = any(
        naming.read_name(file.name).identity == naming.read_name(flair.name).identity
        for file in group
        if file.shown.kind in OTHERS
    )
    kinds = {file: file.shown.kind for file in group}
    kinds |= {file: MrSequence.T1C for file in with_agent if kinds[file] is MrSequence.T1}
    for sequence in OTHERS:
        candidates = [file for file in group if kinds[file] is sequence]
        if not candidates:  # GE's T1 with nulled fluid: beside FLAIR it is nothing else
            words = f"{sequence.value} and FLAIR"
            candidates = [file for file in group if file.shown.kind == words]
        chosen, why = _choose_beside(flair, candidates, by_words=by_words)
        unsure = [file for file in doubtful if file.shown.kind is sequence]
        if chosen is not None:
            files[sequence] = chosen
            if unused := [file for file in candidates if file is not chosen] + unsure:
                what = f"{chosen.path.name} is taken for {sequence.value}"
                flags.append(flag("FILES_IGNORED", f"{what}; not used: {_names(unused)}."))
            continue
        if not candidates and unsure:
            why = "its name does not say to which of several FLAIR files it belongs"
        if why:
            what = f"{sequence.value} is left out, {why} ({_names([*candidates, *unsure])})"
            message = f"{what}; name the files with --flair and --{sequence.value.lower()}."
            flags.append(flag(f"{sequence.value}_LEFT_OUT", message))
            explained.append(sequence)
    unknown = [file for file in group if file.shown.kind is None and file is not flair]
    missing = [name for name in OTHERS if name not in files and name not in explained]
    if unknown and missing:
        options = " or ".join(f"--{name.value.lower()}" for name in missing)
        what = "Files of which neither name, folder nor sidecar says what they show are"
        remedy = f"name them with --flair and {options}"
        flags.append(flag("FILES_IGNORED", f"{what} not used: {_names(unknown)}; {remedy}."))
    return files, (*flags, *_flags_of(group, files, with_agent)), tuple(explained)


def assign_single(file: InputFile) -> tuple[Flag, ...]:
    """Judge a single file given as a study by its name and its sidecar.

    Raises
    ------
    UnsupportedInputError
        They say another sequence than FLAIR.
    """
    shown = file.shown
    if shown.kind is None:
        message = "Neither name nor folder says a sequence; the file is taken as FLAIR."
        return (*shown.flags, flag("SEQUENCE_ASSUMED", message))
    if shown.kind is MrSequence.FLAIR:
        return _flags_of([file], {MrSequence.FLAIR: file}, frozenset())
    raise UnsupportedInputError(
        f"no FLAIR, the {shown.basis} says {shown.words}",
        where=file.where,
        remedy="give the FLAIR file, or say with --flair FILE that this is it",
    )


def check_named(file: InputFile, sequence: MrSequence) -> tuple[Flag, ...]:
    """The flag for a file that was given as one sequence and is another by its name or its sidecar."""
    other = naming.another_than(sequence, file.shown.kind)
    if naming.is_mask(file.path.name):
        instead = "a mask or label map by its name"
    elif other is not None:
        instead = f"{other} by its {file.shown.basis}"
    else:
        return ()
    what = f"The file given as {sequence.value} ({file.path.name}) is {instead}"
    message = f"{what}; it is used as {sequence.value} all the same."
    return (flag("NAME_CONTRADICTS", message),)


def _with_agent(group: Sequence[InputFile]) -> frozenset[InputFile]:
    """The files called ``w`` contrast medium, if another one is called ``wo``: alone it is ignored."""
    agents = {file: naming.read_name(file.path.name).agent for file in group}
    named = (file for file, agent in agents.items() if agent and file.shown.contrast is None)
    return frozenset(named) if False in agents.values() else frozenset()


def _choose_flair(
    group: Sequence[InputFile], where: str, with_agent: frozenset[InputFile]
) -> tuple[InputFile, list[Flag]]:
    """The FLAIR of a study; of several, the best by its name."""
    flairs = [file for file in group if file.shown.kind is MrSequence.FLAIR]
    if not flairs:
        words = [
            f"{file.path.name} ({file.shown.words}{' by its sidecar' * (file.shown.basis == 'sidecar')})"
            for file in group
        ]
        remedy = "name the file that is FLAIR with --flair FILE"
        what = f"no FLAIR, there is {_listed(words)}"
        raise UnsupportedInputError(what, where=where, remedy=remedy)
    flairs.sort(key=lambda file: _merit(file, with_agent))
    flair, *others = flairs
    if not others:
        return flair, []
    merits = zip(MERITS, _merit(flair, with_agent), _merit(others[0], with_agent), strict=True)
    why = next((words for words, best, second in merits if best != second), None)
    if why is None:
        what = f"{len(flairs)} files say FLAIR ({_names(flairs)})"
        raise UnsupportedInputError(what, where=where, remedy="choose one with --flair FILE")
    message = f"{flair.path.name} is taken for FLAIR, {why}; there is also {_names(others)}."
    return flair, [flag("FLAIR_CHOSEN", message)]


def _merit(file: InputFile, with_agent: frozenset[InputFile]) -> tuple[Any, ...]:
    """`NiftiName.merit`, then the series number: a later one may be after contrast medium."""
    name, number = naming.read_name(file.name), file.shown.series_number
    contrast, *others = name.merit
    numbers = naming.series_numbers_in(name.identity) if number is None else (number,)
    after = contrast or file.shown.contrast is True or file in with_agent
    return (after, *others, numbers)


def _choose_beside(
    flair: InputFile, candidates: list[InputFile], *, by_words: bool
) -> tuple[InputFile | None, str]:
    """The T1 or T1C that goes with FLAIR, or why it is missing; by names where they tell patients apart."""
    if not candidates:
        return None, ""
    name = naming.read_name(flair.name)
    fits = {}
    for file in candidates:
        other = naming.read_name(file.name)
        if naming.are_apart(name, other) or (by_words and naming.begin_apart(name, other)):
            continue
        words, numbers = naming.shared_tokens(name, other)
        treated = bool(other.processed) != bool(name.processed), other.processed
        fits[file] = (
            *(other.identity != name.identity, -words, -numbers, not other.onto_flair),
            *(*treated, other.plane, -other.run),
        )
    if not fits:
        return None, "its name is of another patient or visit"
    best, *others = sorted(fits, key=fits.__getitem__)
    if others and fits[best] == fits[others[0]]:
        return None, "several files say so"
    return best, ""


def _flags_of(
    group: Sequence[InputFile],
    files: Mapping[MrSequence, InputFile],
    with_agent: frozenset[InputFile],
) -> tuple[Flag, ...]:
    """What is odd of the files that are taken, and of those whose name promised a sequence."""
    flags = [note for file in files.values() for note in file.shown.flags]
    others = (file for file in group if file not in files.values())
    odd = [note for file in others for note in file.shown.flags if note.code == "NAME_CONTRADICTS"]
    flair = files[MrSequence.FLAIR]
    if _merit(flair, with_agent)[0]:
        what = f"{flair.path.name} is FLAIR after contrast medium"
        message = f"{what}; the network was trained on FLAIR before it."
        flags.append(flag("FLAIR_CHOSEN", message))
    if flair.shown.confidence == "guess":
        message = f"{flair.path.name} is FLAIR {flair.shown.why}. That is a hint only; it is taken as FLAIR."
        flags.append(flag("SEQUENCE_ASSUMED", message))
    return (*flags, *odd[:NAMED])


def _names(files: Sequence[InputFile]) -> str:
    return _listed([file.where for file in files])


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:NAMED]) + (", ..." if len(words) > NAMED else "")
