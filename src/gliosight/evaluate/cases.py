"""What is scored: one patient's truth beside what a model said (evaluate).

Made by `evaluation` from the manifest's truth and a `Prediction`, read by `localization`, which turns it
into counts. Words: a *case* is one patient of the manifest; a *scored* slice is one that belongs to the
part of the split that is scored; *seen* is a patient the model was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Case:
    """One patient.

    Parameters
    ----------
    patient : str
    institution : str
        Empty where not known.
    sequences : tuple of str
        Which of T1, FLAIR, T1C are really there.
    truth, prediction : (slices, rows, columns) bool arrays
        The true mask, and the final one: after the model's decision rule.
    scored : (slices,) bool array
        Which slices belong to the scored part. All of them with a split by patient; with a split by
        slice the others were trained on and count nowhere.
    numbers : (slices,) int array
        The slices' numbers in the manifest.
    slice_probability : (slices,) float array or None
        Probability of tumour by slice; ``None`` where only masks are known. Then the slice's own mask
        decides its label, and figures that need a probability are left out.
    slice_threshold : float or None
        The model's own: a slice is called tumour from this probability on.
    score : float or None
        The study's score.
    found : bool
        The verdict on the study; where only masks are known, whether a pixel is marked.
    spacing : tuple of float or None
        Of slices, rows and columns, mm; ``None`` without geometry. Then lengths are in pixels, and since
        nothing is known of the distance between slices, surface measures stay within each slice.
    seen : bool
        The model was trained on this patient: shown, but kept out of every headline.
    collection : str
        Empty where the manifest names none.

    Raises
    ------
    ValueError
        Shapes that do not fit together.
    """

    patient: str
    institution: str
    sequences: tuple[str, ...]
    truth: NDArray[np.bool_]
    prediction: NDArray[np.bool_]
    scored: NDArray[np.bool_]
    numbers: NDArray[np.int64]
    slice_probability: NDArray[np.floating] | None
    slice_threshold: float | None
    score: float | None
    found: bool
    spacing: tuple[float, float, float] | None
    seen: bool = False
    collection: str = ""

    def __post_init__(self) -> None:
        if self.truth.shape != self.prediction.shape or self.truth.ndim != 3:
            raise ValueError(
                f"{self.patient}: truth {self.truth.shape} and prediction {self.prediction.shape}"
            )
        count = self.truth.shape[:1]
        for name in ("scored", "numbers", "slice_probability"):
            value = getattr(self, name)
            if value is not None and value.shape != count:
                raise ValueError(f"{self.patient}: {value.shape} {name} for {count} slices")
        if (self.slice_probability is None) != (self.slice_threshold is None):
            raise ValueError(f"{self.patient}: slice probabilities go with their threshold")

    @property
    def called(self) -> NDArray[np.bool_]:
        """(slices,) bool array: which slices are called tumour."""
        if self.slice_probability is None or self.slice_threshold is None:
            return np.asarray(self.prediction.any(axis=(1, 2)))
        return np.asarray(self.slice_probability >= self.slice_threshold)
