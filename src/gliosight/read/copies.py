"""Which of the sequences are really there (read stage, for all kinds of input).

In: the arrays that came in as FLAIR, T1 and T1C. Out: those that are sequences of their own, and a
flag for each that is not. The LGG set fills a missing T1 or T1C with a copy of FLAIR; nothing but
the pixels tells. Every study ends here, so that each absent sequence has exactly one flag.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.read.flags import flag
from gliosight.read.intensities import is_constant
from gliosight.study import Flag, MrSequence

# Part of a slice's pixels that must agree for the slice to be a copy.
SAME_PIXELS = 0.999
# After lossy compression copies agree only nearly: part of the pixels, within part of the range.
SAME_PIXELS_LOSSY, LOSSY_WITHIN = 0.99, 0.03
# Part of the slices (those that show anything) that must be copies for the volume to be one.
COPY_FROM, MIXED_FROM = 0.9, 0.05

OTHERS = (MrSequence.T1, MrSequence.T1C)


def keep_real(
    arrays: Mapping[MrSequence, NDArray[Any]],
    *,
    lossy: bool = False,
    explained: Iterable[MrSequence] = (),
) -> tuple[dict[MrSequence, NDArray[Any]], tuple[Flag, ...]]:
    """Leave out copies of FLAIR, a T1C that is a copy of T1, and sequences without contrast.

    The volume decides, not the single slice: a sequence is a copy when nine in ten of its slices
    are.

    Parameters
    ----------
    arrays : mapping of MrSequence to (slices, rows, columns) array
        On one grid; with FLAIR.
    lossy : bool
        The pixels went through lossy compression, so copies agree only nearly.
    explained : iterable of MrSequence
        Absent sequences that have their flag already.
    """
    kept = {MrSequence.FLAIR: arrays[MrSequence.FLAIR]}
    flags: list[Flag] = []
    done = set(explained)
    for name in OTHERS:
        if name not in arrays:
            if name not in done:
                flags.append(flag(f"{name.value}_MISSING", f"There is no {name.value}."))
            continue
        if is_constant(arrays[name]):
            message = f"{name.value} has no contrast at all and is left out."
            flags.append(flag(f"{name.value}_LEFT_OUT", message))
            continue
        part, original = _copied(name, arrays, kept, lossy=lossy)
        if part >= COPY_FROM:
            message = f"{name.value} is missing: its pixels are a copy of {original.value}."
            flags.append(flag(f"{name.value}_MISSING", message))
            continue
        if part >= MIXED_FROM:
            message = f"{part:.0%} of the slices of {name.value} are copies of {original.value}."
            flags.append(flag(f"{name.value}_PARTLY_COPY", message))
        kept[name] = arrays[name]
    return kept, tuple(flags)


def _copied(
    name: MrSequence,
    arrays: Mapping[MrSequence, NDArray[Any]],
    kept: Mapping[MrSequence, NDArray[Any]],
    *,
    lossy: bool,
) -> tuple[float, MrSequence]:
    """The largest part of the slices that is copied from a sequence already kept, and which."""
    parts = [(_part_copied(arrays[name], kept[one], lossy=lossy), one) for one in kept]
    return max(parts, key=lambda pair: pair[0])


def _part_copied(values: NDArray[Any], original: NDArray[Any], *, lossy: bool) -> float:
    shown = [index for index, one in enumerate(original) if not is_constant(one)]
    if not shown:
        return float(np.array_equal(values, original))
    within = LOSSY_WITHIN * (float(original.max()) - float(original.min())) if lossy else 0.0
    needed = SAME_PIXELS_LOSSY if lossy else SAME_PIXELS
    copies = 0
    for index in shown:
        if lossy:
            away = np.abs(values[index].astype(np.float64) - original[index].astype(np.float64))
            same = away <= within
        else:
            same = values[index] == original[index]
        copies += int(np.count_nonzero(same) >= needed * same.size)
    return copies / len(shown)
