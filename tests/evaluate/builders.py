"""Small data sets with masks for the tests of evaluation: synthetic, in a temporary folder."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from gliosight.data.manifest import Manifest, SliceRow, write_manifest
from gliosight.evaluate.mask_metrics import PatientScore, SliceTable, score_patient
from gliosight.evaluate.predictions import ModelNote, Prediction, Predictions, pack, rows_digest
from gliosight.evaluate.sources import Source, source_of_predictions

SIZE = 24
NOTE = ModelNote("made", "joint", "a" * 64)


def square(slices: int, inside: Sequence[int], corner: int = 6, side: int = 6) -> np.ndarray:
    """A mask: the same square in some of the slices."""
    mask = np.zeros((slices, SIZE, SIZE), dtype=bool)
    mask[list(inside), corner : corner + side, corner : corner + side] = True
    return mask


def in_collections(manifest: Manifest) -> Manifest:
    """The same patients, in the collections free (those without tumour) and lgg."""
    rows = [
        replace(row, collection="free" if row.patient == "BB_free" else "lgg")
        for row in manifest.rows
    ]
    return Manifest(tuple(rows), manifest.folder)


def score_masks(
    truth: np.ndarray,
    mask: np.ndarray,
    *,
    scored: np.ndarray | None = None,
    spacing: tuple[float, float, float] | None = None,
    **changes: Any,
) -> tuple[PatientScore, SliceTable]:
    """Score a mask of a patient without geometry or probabilities, on all slices."""
    count = len(truth)
    row = SliceRow("P", 1, "slices", "", sequences=("T1", "FLAIR", "T1C"), institution="XX")
    rows = [replace(row, number=k) for k in range(1, count + 1)]
    prediction = replace(bare_prediction("P", mask), **changes)
    inside = np.ones(count, dtype=bool) if scored is None else scored
    score = score_patient(prediction, truth, rows, inside, spacing)
    return score, score.table


def bare_prediction(patient: str, mask: np.ndarray) -> Prediction:
    """A mask and no more."""
    return Prediction(
        patient=patient,
        rows_sha256="",
        shape=mask.shape,
        bits=pack(mask),
        slice_probability=None,
        slice_threshold=None,
        score=None,
        score_threshold=None,
        found=bool(mask.any()),
        seen=False,
    )


def write_data(folder: Path, truths: Mapping[str, np.ndarray]) -> Manifest:
    """A data set in the LGG layout: a bright square on a grey disc where the truth is."""
    rows = []
    for patient, truth in truths.items():
        home = folder / patient
        home.mkdir(parents=True)
        for k, mask in enumerate(truth):
            rows.append(_write_slice(folder, home, patient, k, mask))
    write_manifest(rows, folder / "manifest.csv")
    return Manifest(tuple(rows), folder)


def _write_slice(folder: Path, home: Path, patient: str, k: int, mask: np.ndarray) -> SliceRow:
    generator = np.random.default_rng([len(patient), k])
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + 0.5
    picture = np.where(np.hypot(x, y) < SIZE / 2 - 1, 90.0, 2.0)
    picture = picture + generator.normal(0, 3, picture.shape)
    flair = picture + 80 * mask
    channels = [picture + generator.normal(0, 3, picture.shape), flair, picture + 20]
    image, label = (home / f"{patient}_{k + 1}{end}.tif" for end in ("", "_mask"))
    stored = np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8)
    tifffile.imwrite(image, stored, photometric="rgb")
    tifffile.imwrite(label, np.where(mask, 255, 0).astype(np.uint8), photometric="minisblack")
    return SliceRow(
        patient=patient,
        number=k + 1,
        kind="slices",
        image=image.relative_to(folder).as_posix(),
        mask=label.relative_to(folder).as_posix(),
        tumour=bool(mask.any()),
        area_px=int(mask.sum()),
        sequences=("T1", "FLAIR", "T1C"),
        institution=patient[:2],
        sha256=hashlib.sha256(image.read_bytes()).hexdigest(),
        mask_sha256=hashlib.sha256(label.read_bytes()).hexdigest(),
    )


def make_prediction(
    manifest: Manifest, patient: str, mask: np.ndarray, **changes: Any
) -> Prediction:
    """A prediction of a patient of the manifest, with a probability of 0.9 or 0.1 by slice."""
    marked = mask.any(axis=(1, 2))
    values: dict[str, Any] = {
        "rows_sha256": rows_digest(manifest.by_patient[patient]),
        "slice_probability": np.where(marked, 0.9, 0.1).astype(np.float32),
        "slice_threshold": 0.5,
        "score": 0.8 if marked.any() else 0.0,
        "score_threshold": 0.5,
    }
    return replace(bare_prediction(patient, mask), **{**values, **changes})


def make_predictions(
    manifest: Manifest,
    masks: Mapping[str, np.ndarray],
    seen: Collection[str] = (),
    **changes: Any,
) -> Predictions:
    """Predictions of one model, which was trained on the patients it has seen."""
    entries = tuple(
        make_prediction(manifest, name, mask, seen=name in seen, **changes)
        for name, mask in masks.items()
    )
    return Predictions((NOTE,), entries)


def source_of(
    manifest: Manifest,
    masks: Mapping[str, np.ndarray],
    seen: Collection[str] = (),
    **changes: Any,
) -> Source:
    """Those predictions, as if read from a file."""
    return source_of_predictions(make_predictions(manifest, masks, seen, **changes), "made.npz")


def six_patients() -> dict[str, np.ndarray]:
    """Truths: five with a lesion of different size and place, and one without."""
    truths = {f"AA_{k}": square(8, range(2, 4 + k), corner=5 + k, side=4 + k) for k in range(3)}
    truths |= {f"BB_{k}": square(8, range(3, 5 + k), corner=8, side=5) for k in range(2)}
    truths["BB_free"] = square(8, ())
    return truths
