"""The training slices, held once as bytes (training bench).

In: a `Manifest`. Out: a `PackedSlices`, memory mapped, from which whole batches are cut without Python
work per slice. Every slice is brought into the network frame (see `gliosight.prepare`) at 256 x 256
pixels; a picture of 8 bits and that size stays as it is, byte for byte.

Row ``k`` is the manifest's used row ``k``: slices of one patient stand together, as they do there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gliosight.analysis import Progress
from gliosight.card import InputRecipe
from gliosight.data.manifest import Manifest, SliceRow
from gliosight.data.studies import LabelledStudy, read_labelled
from gliosight.errors import CannotWriteError, InUseError, UnsupportedInputError, printable
from gliosight.files import is_empty, whole_folder
from gliosight.head import find_head, head_box
from gliosight.normalisation import measure_intensity, unit_range
from gliosight.prepare import CHANNELS, Frame, frame_of
from gliosight.study import MrSequence
from gliosight.train.brain import BORDER, distance_to, find_brain, find_ventricles, signed_distance
from gliosight.train.display import say

SIZE = 256
# How far the closing reaches that makes the head one body before its depth is measured (pixels).
CLOSING = 9
FRAME = InputRecipe(normalisation="unit", neighbours=1, matrix=SIZE)
TABLE, FORMAT = "pack.json", 5
# A pixel of a packed slice, about (mm).
PIXEL_MM = 0.94
# What the cache holds: arrays by slice; by patient measurements, and names.
ARRAYS = ("images", "masks", "depth", "brain", "ventricle")
MEASURED = ("intensity", "brain_intensity", "centre", "brain_centre")
NAMES = ("patients", "collections", "persons")
# How often a run looks whether the one that packs the same slices has ended (s).
LOOK_EVERY = 1.0


@dataclass(frozen=True)
class PackedSlices:
    """All slices, n, of a set of patients; arrays are memory mapped."""

    images: NDArray[np.uint8]  # (n, 3, 256, 256): T1, FLAIR, T1C; a missing one is FLAIR again
    masks: NDArray[np.uint8]  # (n, 256, 256): 0 or 1
    depth: NDArray[np.uint8]  # (n, 256, 256): pixels from the head's surface inwards, 0 outside
    brain: NDArray[np.uint8]  # (n, 256, 256): `gliosight.train.brain.signed_distance`
    ventricle: NDArray[np.uint8]  # (n, 256, 256): `gliosight.train.brain.distance_to` ventricles
    patients: tuple[str, ...]
    first: NDArray[np.int64]  # (patients + 1,): row of each patient's first slice, and n
    # (patients, 3, 4): low, high, mean and standard deviation, by sequence: of the head's tissue, and of
    # what is left of it when the skull is removed.
    intensity: NDArray[np.float32]
    brain_intensity: NDArray[np.float32]
    # (patients, 2): row and column of the middle of the head's box, and of the brain's.
    centre: NDArray[np.float32]
    brain_centre: NDArray[np.float32]
    # (patients,): how many rows on the neighbour above is, about 5 mm away; negative where slices are
    # stored from above downwards.
    reach: NDArray[np.int64]
    collections: tuple[str, ...]  # of each patient; empty where the manifest names none
    persons: tuple[str, ...]  # of each patient

    def patient_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Index of the patient each row belongs to."""
        return np.searchsorted(self.first, rows, side="right") - 1


def rows_of(manifest: Manifest, chosen: Iterable[SliceRow]) -> NDArray[np.int64]:
    """The packed rows of slices of the manifest, in the manifest's order."""
    keys = {row.key for row in chosen}
    rows = [k for k, row in enumerate(manifest.used) if row.key in keys]
    return np.asarray(rows, dtype=np.int64)


def pack(manifest: Manifest, cache: Path, progress: Progress | None = None) -> PackedSlices:
    """Read the data set once and keep it in ``cache``, a folder that appears whole or not at all.

    A cache made from the same manifest, its patients in the same order, is used again. Where another run
    is packing into the same folder, this one waits for it.

    Raises
    ------
    UnsupportedInputError
        A volume that is not axial, a study without contrast.
    CannotWriteError
    GliosightError
        Errors of reading the files; files are compared with the manifest's digests.
    """

    def check() -> None:
        if cache.exists() and not (
            (cache / TABLE).is_file() or (cache.is_dir() and is_empty(cache))
        ):
            raise CannotWriteError("something else lies there")

    waiting = False
    while not is_packed(cache, manifest):
        try:
            with whole_folder(cache, check, last=TABLE) as folder:
                _write(manifest, folder, progress)
        except InUseError:
            if not waiting:
                say("packing: another run packs these slices; waiting for it")
            waiting = True
            time.sleep(LOOK_EVERY)
        except CannotWriteError as error:
            reason = getattr(error.__cause__, "strerror", None) or error.what
            raise CannotWriteError(
                f"cannot keep the packed slices: {reason}",
                where=cache.name,
                remedy="free some space, or choose another --cache",
            ) from error
    table = json.loads((cache / TABLE).read_text("utf-8"))
    parts: dict[str, Any] = {name: np.load(cache / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    parts |= {name: np.asarray(table[name], dtype=np.float32) for name in MEASURED}
    parts |= {name: np.asarray(table[name], dtype=np.int64) for name in ("first", "reach")}
    parts |= {name: tuple(table[name]) for name in NAMES}
    return PackedSlices(**parts)


def is_packed(cache: Path, manifest: Manifest) -> bool:
    """Whether `pack` has nothing to do."""
    try:
        table = json.loads((cache / TABLE).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    # The manifest's digest is the same in whatever order the patients stand; the rows here are not.
    wanted = FORMAT, manifest.sha256, list(manifest.patients)
    return (table["format"], table["manifest_sha256"], table["patients"]) == wanted


def _write(manifest: Manifest, folder: Path, progress: Progress | None) -> None:
    shape = (len(manifest.used), SIZE, SIZE)
    arrays = {
        name: np.lib.format.open_memmap(
            folder / f"{name}.npy",
            mode="w+",
            dtype=np.uint8,
            shape=(shape[0], len(CHANNELS), SIZE, SIZE) if name == "images" else shape,
        )
        for name in ARRAYS
    }
    measured: dict[str, list[Any]] = {name: [] for name in (*MEASURED, "reach")}
    first = [0]
    for number, patient in enumerate(manifest.patients, start=1):
        packed = _pack_patient(read_labelled(manifest, patient, check=True), patient)
        first.append(first[-1] + len(packed["masks"]))
        for name, array in arrays.items():
            array[first[-2] : first[-1]] = packed[name]
        for name, values in measured.items():
            values.append(packed[name])
        if progress is not None:
            progress("pack", number, len(manifest.patients))
    for array in arrays.values():
        array.flush()
    table = {
        "format": FORMAT,
        "manifest_sha256": manifest.sha256,
        "patients": manifest.patients,
        "collections": [manifest.by_patient[name][0].collection for name in manifest.patients],
        "persons": [manifest.person_of(name) for name in manifest.patients],
        "first": first,
        **measured,
    }
    (folder / TABLE).write_text(json.dumps(table), encoding="utf-8")


def _pack_patient(case: LabelledStudy, patient: str) -> dict[str, Any]:
    """The patient's part of each of `ARRAYS` and `MEASURED`, and of ``reach``."""
    frame = frame_of(case.study, FRAME)
    if frame.order[0] != 0:
        raise UnsupportedInputError(
            "its slices are not axial",
            where=printable(patient),
            remedy="leave the patient out: training takes axial slices",
        )
    direction = -1 if frame.flipped[0] else 1
    images = _images(case, frame)[::direction]  # slices in the input's order
    planes = [frame.sample(plane.astype(np.float32)) >= 0.5 for plane in frame.turn(case.truth)]
    tumour = np.stack(planes)[::direction]
    flair = images[:, CHANNELS.index(MrSequence.FLAIR)]
    head = find_head(flair)
    depth = _depth(head)
    distance = signed_distance(find_brain(flair, depth, tumour))
    brain = distance > BORDER
    geometry = case.study.geometry
    reach = 1
    if geometry is not None and geometry.slice_spacing is not None:
        reach = direction * max(1, round(FRAME.neighbour_mm / geometry.slice_spacing))
    intensity = _intensity(images, head)
    if intensity is None:
        raise _no_contrast("a sequence", patient)
    ventricles = find_ventricles(flair, distance, tumour)
    return {
        "images": images,
        "masks": tumour,
        "depth": depth,
        "brain": distance,
        "ventricle": distance_to(ventricles, FRAME.neighbour_mm / PIXEL_MM / abs(reach)),
        "intensity": intensity,
        # Where only the head has any contrast, as in a tiny picture, its brightness has to do.
        "brain_intensity": _intensity(np.where(brain[:, None], images, 0), brain) or intensity,
        "centre": [float(sum(ends)) / 2 for ends in head_box(head)],
        "brain_centre": [float(sum(ends)) / 2 for ends in head_box(brain)],
        "reach": reach,
    }


def _images(case: LabelledStudy, frame: Frame) -> NDArray[np.uint8]:
    """(slices, 3, 256, 256) in the frame's slice order."""
    sequences = case.study.sequences
    images = np.empty((len(case.truth), len(CHANNELS), SIZE, SIZE), dtype=np.uint8)
    for channel, name in enumerate(CHANNELS):
        values = frame.turn(sequences[name if name in sequences else MrSequence.FLAIR].values)
        scale = unit_range(values, frame.head)
        if scale is None:
            raise _no_contrast(name.value, case.study.study_id)
        for k, plane in enumerate(values):
            images[k, channel] = np.rint(255 * frame.sample(scale.scale(plane)))
    return images


def _no_contrast(what: str, patient: str) -> UnsupportedInputError:
    return UnsupportedInputError(
        f"{what} shows no contrast", where=printable(patient), remedy="leave the patient out"
    )


def _intensity(
    images: NDArray[np.uint8], body: NDArray[np.bool_]
) -> list[tuple[float, float, float, float]] | None:
    """Low, high, mean and standard deviation by sequence; ``None`` where one has no contrast."""
    measured = []
    for channel in range(len(CHANNELS)):
        tissue = measure_intensity(images[:, channel], body)
        if tissue is None:
            return None
        measured.append((tissue.low, tissue.high, tissue.mean, tissue.std))
    return measured


def _depth(head: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pixels from the head's surface inwards, slice by slice."""
    reach = np.ones((2 * CLOSING + 1, 2 * CLOSING + 1), dtype=bool)
    depth = np.zeros(head.shape, dtype=np.uint8)
    for k, plane in enumerate(head):
        closed = ndimage.binary_closing(np.pad(plane, CLOSING), reach)
        inner = ndimage.binary_fill_holes(closed)[CLOSING:-CLOSING, CLOSING:-CLOSING]
        depth[k] = np.minimum(ndimage.distance_transform_edt(np.pad(inner, 1))[1:-1, 1:-1], 255)
    return depth
