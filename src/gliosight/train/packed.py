"""The training slices, held once as bytes (training bench).

In: the data set's folder in the LGG layout, ``<patient>/<patient>_<slice>.tif`` (rows, columns, 3)
uint8 with channels T1, FLAIR, T1C, and ``..._mask.tif`` beside each. Out: a `PackedSlices`, memory
mapped, from which whole batches are cut without Python work per slice.

Slices of one patient stand together, in the order of their numbers: inferior to superior.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from gliosight.head import find_head, head_box, measure_intensity

SIZE = 256
FLAIR_CHANNEL = 1
_SLICE = re.compile(r"^(?P<patient>.+)_(?P<number>\d+)\.tif$")
# How far the closing reaches that makes the head one body before its depth is measured (pixels).
CLOSING = 9


@dataclass(frozen=True)
class PackedSlices:
    """All slices of a set of patients.

    Parameters
    ----------
    images : (n, 3, 256, 256) uint8 array
        T1, FLAIR, T1C.
    masks : (n, 256, 256) uint8 array
        0 or 1.
    depth : (n, 256, 256) uint8 array
        Pixels from the surface of the head inwards, 0 outside: where a skull could be stripped.
    patients : tuple of str
    first : (patients + 1,) int array
        Row of each patient's first slice; the last entry is ``n``.
    intensity : (patients, 3, 4) float32 array
        Low, high, mean and standard deviation of the head's tissue, by sequence.
    centre : (patients, 2) float32 array
        Row and column of the middle of the head's box.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    depth: NDArray[np.uint8]
    patients: tuple[str, ...]
    first: NDArray[np.int64]
    intensity: NDArray[np.float32]
    centre: NDArray[np.float32]

    def patient_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Index of the patient each row belongs to."""
        return np.searchsorted(self.first, rows, side="right") - 1

    def rows_of(self, chosen: Ordered[str]) -> NDArray[np.int64]:
        """Rows of the chosen patients, in order."""
        wanted = set(chosen)
        runs = [
            np.arange(self.first[k], self.first[k + 1])
            for k, patient in enumerate(self.patients)
            if patient in wanted
        ]
        return np.concatenate(runs) if runs else np.empty(0, dtype=np.int64)


def list_patients(root: Path) -> list[str]:
    """Names of the patients' folders under ``root``, sorted."""
    return sorted(p.name for p in root.iterdir() if p.is_dir() and any(p.glob("*_mask.tif")))


def pack(root: Path, cache: Path) -> PackedSlices:
    """Read the data set once and keep it in ``cache`` as three arrays and one table.

    A cache made from the same patients is used again.
    """
    patients = list_patients(root)
    if not patients:
        raise FileNotFoundError(f"no <patient>/<patient>_<slice>_mask.tif under {root}")
    table = cache / "pack.json"
    if not (table.is_file() and json.loads(table.read_text())["patients"] == patients):
        _write(root, cache, patients)
    meta = json.loads(table.read_text())
    first = np.asarray(meta["first"])
    return PackedSlices(
        images=np.load(cache / "images.npy", mmap_mode="r"),
        masks=np.load(cache / "masks.npy", mmap_mode="r"),
        depth=np.load(cache / "depth.npy", mmap_mode="r"),
        patients=tuple(patients),
        first=first,
        intensity=np.asarray(meta["intensity"], dtype=np.float32),
        centre=np.asarray(meta["centre"], dtype=np.float32),
    )


def read_patient(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images ``(slices, 3, 256, 256)`` and masks ``(slices, 256, 256)`` of one patient."""
    numbered = sorted(
        (int(match["number"]), path)
        for path in folder.glob("*.tif")
        if (match := _SLICE.match(path.name))
    )
    images = np.stack([tifffile.imread(path) for _, path in numbered]).transpose(0, 3, 1, 2)
    masks = np.stack(
        [tifffile.imread(path.with_name(f"{path.stem}_mask.tif")) for _, path in numbered]
    )
    if images.shape[1:] != (3, SIZE, SIZE) or masks.shape[1:] != (SIZE, SIZE):
        raise ValueError(f"{folder.name}: slices are {images.shape[1:]}, not (3, {SIZE}, {SIZE})")
    return images.astype(np.uint8), (masks > 0).astype(np.uint8)


def fold_of(patients: Ordered[str], folds: int) -> dict[str, int]:
    """Deal the patients into folds, alike in institution, by nothing but their names.

    Within each institution (the code after the first underscore) the patients are ordered by the
    SHA-256 of their name and dealt round: the same names always fall the same way.
    """

    def key(patient: str) -> tuple[str, str]:
        institution = patient.split("_")[1] if "_" in patient else ""
        return institution, hashlib.sha256(patient.encode()).hexdigest()

    return {patient: k % folds for k, patient in enumerate(sorted(patients, key=key))}


def _write(root: Path, cache: Path, patients: list[str]) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    images, masks, depths, intensity, centre, first = [], [], [], [], [], [0]
    for patient in patients:
        image, mask = read_patient(root / patient)
        head = find_head(image[:, FLAIR_CHANNEL])
        rows = []
        for channel in range(3):
            found = measure_intensity(image[:, channel], head)
            if found is None:
                raise ValueError(f"{patient}: channel {channel} has no contrast")
            rows.append((found.low, found.high, found.mean, found.std))
        (top, bottom), (left, right) = head_box(head)
        images.append(image)
        masks.append(mask)
        depths.append(_depth(head))
        intensity.append(rows)
        centre.append(((top + bottom) / 2, (left + right) / 2))
        first.append(first[-1] + len(image))
    np.save(cache / "images.npy", np.concatenate(images))
    np.save(cache / "masks.npy", np.concatenate(masks))
    np.save(cache / "depth.npy", np.concatenate(depths))
    meta = {"patients": patients, "first": first, "intensity": intensity, "centre": centre}
    (cache / "pack.json").write_text(json.dumps(meta))


def _depth(head: NDArray[np.bool_]) -> NDArray[np.uint8]:
    reach = np.ones((2 * CLOSING + 1, 2 * CLOSING + 1), dtype=bool)
    out = np.zeros(head.shape, dtype=np.uint8)
    for k, one in enumerate(head):
        padded = np.pad(one, CLOSING)
        closed = ndimage.binary_fill_holes(ndimage.binary_closing(padded, reach))
        inner = closed[CLOSING:-CLOSING, CLOSING:-CLOSING]
        out[k] = np.minimum(ndimage.distance_transform_edt(np.pad(inner, 1))[1:-1, 1:-1], 255)
    return out
