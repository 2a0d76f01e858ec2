"""The training slices, held once as bytes (training bench).

In: a `Manifest`. Out: a `PackedSlices`, memory mapped, from which whole batches are cut without Python
work per slice. Every slice is brought into the network frame (see `gliosight.prepare`) at 256 x 256
pixels; a picture of 8 bits and that size stays as it is, byte for byte.

Row ``k`` is the manifest's used row ``k``: slices of one patient stand together, as they do there.
"""

from __future__ import annotations

import json
import os
import shutil
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
from gliosight.errors import CannotWriteError, UnsupportedInputError, printable
from gliosight.head import find_head, head_box
from gliosight.normalisation import measure_intensity, unit_range
from gliosight.prepare import CHANNELS, Frame, frame_of
from gliosight.study import MrSequence
from gliosight.train.brain import (
    BORDER,
    distance_to,
    find_brain,
    find_ventricles,
    signed_distance,
)

SIZE = 256
# How far the closing reaches that makes the head one body before its depth is measured (pixels).
CLOSING = 9
FRAME = InputRecipe(normalisation="unit", neighbours=1, matrix=SIZE)
FORMAT = 5
# A pixel of a packed slice, about (mm).
PIXEL_MM = 0.94
# What the cache holds: arrays by slice, and measurements by patient.
ARRAYS = ("images", "masks", "depth", "brain", "ventricle")
MEASURED = ("intensity", "brain_intensity", "centre", "brain_centre")


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

    A cache made from the same manifest, its patients in the same order, is used again.

    Raises
    ------
    UnsupportedInputError
        A volume that is not axial, a study without contrast.
    CannotWriteError
    GliosightError
        Errors of reading the files; files are compared with the manifest's digests.
    """
    if not is_packed(cache, manifest):
        part = cache.with_name(f"{cache.name}.part-{os.getpid()}")
        try:
            _write(manifest, part, progress)
            shutil.rmtree(cache, ignore_errors=True)
            part.rename(cache)
        except OSError as error:
            if isinstance(error, CannotWriteError):
                raise
            # Another run may have been quicker; then its cache is ours as well.
            if not is_packed(cache, manifest):
                raise CannotWriteError(
                    f"cannot keep the packed slices: {error.strerror or error}",
                    where=cache.name,
                    remedy="free some space, or choose another --cache",
                ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
    table = json.loads((cache / "pack.json").read_text("utf-8"))
    arrays: dict[str, Any] = {
        name: np.load(cache / f"{name}.npy", mmap_mode="r") for name in ARRAYS
    }
    measured: dict[str, Any] = {
        name: np.asarray(table[name], dtype=np.float32) for name in MEASURED
    }
    return PackedSlices(
        **arrays,
        **measured,
        patients=tuple(table["patients"]),
        collections=tuple(table["collections"]),
        persons=tuple(table["persons"]),
        first=np.asarray(table["first"], dtype=np.int64),
        reach=np.asarray(table["reach"], dtype=np.int64),
    )


def is_packed(cache: Path, manifest: Manifest) -> bool:
    """Whether `pack` has nothing to do."""
    try:
        table = json.loads((cache / "pack.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    # The manifest's digest is the same in whatever order the patients stand; the rows here are not.
    return bool(
        table["format"] == FORMAT
        and table["manifest_sha256"] == manifest.sha256
        and tuple(table["patients"]) == manifest.patients
    )


def _write(manifest: Manifest, folder: Path, progress: Progress | None) -> None:
    folder.mkdir(parents=True)
    count = len(manifest.used)
    arrays = {
        name: np.lib.format.open_memmap(
            folder / f"{name}.npy",
            mode="w+",
            dtype=np.uint8,
            shape=(count, 3, SIZE, SIZE) if name == "images" else (count, SIZE, SIZE),
        )
        for name in ARRAYS
    }
    measured: dict[str, list[Any]] = {name: [] for name in (*MEASURED, "reach")}
    first = [0]
    for number, patient in enumerate(manifest.patients, start=1):
        packed = _pack_patient(read_labelled(manifest, patient, check=True), patient)
        rows = slice(first[-1], first[-1] + len(packed["masks"]))
        first.append(rows.stop)
        for name, array in arrays.items():
            array[rows] = packed[name]
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
    (folder / "pack.json").write_text(json.dumps(table), encoding="utf-8")


def _pack_patient(case: LabelledStudy, patient: str) -> dict[str, Any]:
    """The patient's part of each of `ARRAYS` and `MEASURED`, and of ``reach``."""
    frame = frame_of(case.study, FRAME)
    if frame.order[0] != 0:
        raise UnsupportedInputError(
            "its slices are not axial",
            where=printable(patient),
            remedy="leave the patient out: training takes axial slices",
        )
    native = slice(None, None, -1 if frame.flipped[0] else 1)  # slices in the input's order
    images = _images(case, frame)[native]
    truth = frame.turn(case.truth)
    planes = [frame.sample(plane.astype(np.float32)) >= 0.5 for plane in truth]
    masks = np.stack(planes).astype(np.uint8)[native]
    flair = images[:, CHANNELS.index(MrSequence.FLAIR)]
    head = find_head(flair)
    depth = _depth(head)
    distance = signed_distance(find_brain(flair, depth, masks > 0))
    brain = distance > BORDER
    geometry = case.study.geometry
    reach = 1
    if geometry is not None and geometry.slice_spacing is not None:
        reach = max(1, round(FRAME.neighbour_mm / geometry.slice_spacing))
        reach = -reach if frame.flipped[0] else reach
    step = FRAME.neighbour_mm / PIXEL_MM / abs(reach)
    intensity = _intensity(images, head)
    if intensity is None:
        raise _no_contrast("a sequence", patient)
    return {
        "images": images,
        "masks": masks,
        "depth": depth,
        "brain": distance,
        "ventricle": distance_to(find_ventricles(flair, distance, masks > 0), step),
        "intensity": intensity,
        # Where only the head has any contrast, as in a tiny picture, its brightness has to do.
        "brain_intensity": _intensity(np.where(brain[:, None], images, 0), brain) or intensity,
        "centre": _centre(head),
        "brain_centre": _centre(brain),
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
    measured = [measure_intensity(images[:, channel], body) for channel in range(len(CHANNELS))]
    if any(item is None for item in measured):
        return None
    return [(item.low, item.high, item.mean, item.std) for item in measured if item is not None]


def _centre(body: NDArray[np.bool_]) -> list[float]:
    return [float(sum(ends)) / 2 for ends in head_box(body)]


def _depth(head: NDArray[np.bool_]) -> NDArray[np.uint8]:
    reach = np.ones((2 * CLOSING + 1, 2 * CLOSING + 1), dtype=bool)
    depth = np.zeros(head.shape, dtype=np.uint8)
    for k, plane in enumerate(head):
        padded = np.pad(plane, CLOSING)
        closed = ndimage.binary_fill_holes(ndimage.binary_closing(padded, reach))
        inner = closed[CLOSING:-CLOSING, CLOSING:-CLOSING]
        depth[k] = np.minimum(ndimage.distance_transform_edt(np.pad(inner, 1))[1:-1, 1:-1], 255)
    return depth
