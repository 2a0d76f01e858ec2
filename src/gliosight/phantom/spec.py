"""What is asked of a synthetic study: numbers only, checked at construction (phantom layer)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from gliosight.study import Sequence

# The channel order of the LGG layout, used wherever sequences stand in an array.
CHANNELS = (Sequence.T1, Sequence.FLAIR, Sequence.T1C)
# How far a stack may reach along the body (mm): below, the model has no anatomy.
LONGEST_STACK_MM = 220.0
LARGEST_MATRIX = 1024
MOST_SLICES = 512


@dataclass(frozen=True)
class PhantomSpec:
    """A synthetic study.

    Parameters
    ----------
    seed : int
        Decides the head, the lesion's place and shape, the scanner's field and the noise. The same
        seed with and without a lesion is the same head under the same noise.
    lesion : bool
    lesion_side : {"left", "right"}
        The patient's side.
    lesion_radius_mm : float
        Radius of the sphere whose volume the lesion has before skull, midline, ventricles and sulci
        cut into it; 4 to 35.
    slices : int
    slice_spacing_mm : float
        Between slices; they stand for all of it. 0.5 to 10.
    pixel_mm : float
        0.4 to 3.
    matrix : int
        Rows and columns.
    noise : float
        Standard deviation of the noise in each receiver channel, as a part of white matter's
        brightness.
    bias : float
        Standard deviation of the logarithm of the smooth shading.
    skull : bool
        ``False``: everything but the brain is exactly 0, as after skull-stripping.
    sequences : tuple of Sequence
        With FLAIR.

    Raises
    ------
    ValueError
        Naming the field, the value found and the value needed.
    """

    seed: int = 1
    lesion: bool = True
    lesion_side: Literal["left", "right"] = "left"
    lesion_radius_mm: float = 17.0
    slices: int = 28
    slice_spacing_mm: float = 5.0
    pixel_mm: float = 0.9375
    matrix: int = 256
    noise: float = 0.03
    bias: float = 0.06
    skull: bool = True
    sequences: tuple[Sequence, ...] = CHANNELS

    def __post_init__(self) -> None:
        for name, low, high in (
            ("seed", 0, 2**32 - 1),
            ("lesion_radius_mm", 4, 35),
            ("slices", 1, MOST_SLICES),
            ("slice_spacing_mm", 0.5, 10),
            ("pixel_mm", 0.4, 3),
            ("matrix", 32, LARGEST_MATRIX),
            ("noise", 0, 0.5),
            ("bias", 0, 0.5),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not (math.isfinite(value) and low <= value <= high):
                raise ValueError(f"{name} is {value}, needed: {low} to {high}")
        # ValueError throughout: a caller catches one kind, whatever is wrong with a field.
        for name in ("seed", "slices", "matrix"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"{name} is {getattr(self, name)}, not a whole number")
        if self.lesion_side not in ("left", "right"):
            raise ValueError(f"lesion_side is {self.lesion_side!r}, needed: 'left' or 'right'")
        chosen = tuple(Sequence(one) for one in self.sequences)
        if Sequence.FLAIR not in chosen or len(set(chosen)) != len(chosen):
            raise ValueError(
                f"sequences are {[one.value for one in chosen]}, needed: FLAIR, and none twice"
            )
        object.__setattr__(self, "sequences", chosen)
        if self.slices * self.slice_spacing_mm > LONGEST_STACK_MM:
            raise ValueError(
                f"{self.slices} slices of {self.slice_spacing_mm} mm are longer than "
                f"{LONGEST_STACK_MM:.0f} mm, the head and neck there are"
            )

    @property
    def study_id(self) -> str:
        """Short name of the study, with what is known about it."""
        return f"phantom-{self.seed:04d}-{self.lesion_side if self.lesion else 'clear'}"
