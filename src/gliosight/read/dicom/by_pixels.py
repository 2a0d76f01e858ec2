"""What pixels say of the series that headers chose (read stage, DICOM, between `choose` and `study`).

In: the series of one study. Out: a `Choice` that stands up to the pixels, and the values of its series:
stored masks are skipped, and two T1 that only their order told apart have to enhance.
"""

from __future__ import annotations

import collections.abc as abc
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from gliosight.errors import UnsupportedInputError, within
from gliosight.read.dicom.choose import Choice, choose
from gliosight.read.dicom.contrast import ENHANCES_FROM, enhancement
from gliosight.read.dicom.decoder import DecoderProcess
from gliosight.read.dicom.pixels import read_pixels
from gliosight.read.dicom.series import Series
from gliosight.read.flags import flag
from gliosight.read.intensities import few_values, is_labels, make_finite, refuse_mask
from gliosight.read.limits import Budget
from gliosight.study import Flag, Sequence


def choose_images(
    series: abc.Sequence[Series],
    budget: Budget,
    wanted: Mapping[Sequence, str],
    decoder: DecoderProcess,
) -> tuple[Choice, dict[Sequence, NDArray[Any]], list[Flag]]:
    """Choose, and read; a stored mask with the header of an image is skipped.

    Workstations store masks under a copy of the image's header: only the pixels tell. T1 or T1C of a kind
    of pixels that is not read is not among the values, with its flag; damage is an error as in FLAIR.
    """
    left = list(series)
    noted: list[Flag] = []
    done: dict[int, tuple[NDArray[Any] | None, tuple[Flag, ...]]] = {}
    while True:
        choice = choose(left, wanted)
        for name, one in choice.chosen.items():
            if id(one) in done:
                continue
            try:
                done[id(one)] = _values(one, name, budget, decoder)
            except UnsupportedInputError as error:
                if name is Sequence.FLAIR:
                    raise
                what = within(error, error.where or "").what
                message = f"{name.value} ({one.place}) is left out: {what}."
                done[id(one)] = None, (flag(f"{name.value}_LEFT_OUT", message),)
        mask = next(
            (name for name, one in choice.chosen.items() if _is_mask(done[id(one)][0])), None
        )
        if mask is None:
            break
        stored = choice.chosen[mask]
        others = [one for one in left if one is not stored]
        again = any(one.usable and one.identified.sequence is mask for one in others)
        values, _ = done.pop(id(stored))
        if values is None:
            raise ValueError("a series without values is no mask")
        if mask in wanted or (mask is Sequence.FLAIR and not again):
            refuse_mask(values, mask.value, stored.frames[0].instance.where)
        message = (
            f"{_capital(stored.place)} looks like {mask.value} by its header, but its pixels hold "
            f"{few_values(values)} only: a stored mask, not analysed."
        )
        noted.append(flag("MASK_PASSED_OVER", message))
        left = others
    noted += [one for taken in choice.chosen.values() for one in done[id(taken)][1]]
    read = {name: done[id(one)][0] for name, one in choice.chosen.items()}
    return choice, {name: one for name, one in read.items() if one is not None}, noted


def _is_mask(values: NDArray[Any] | None) -> bool:
    return values is not None and is_labels(values)


def confirm_order(
    choice: Choice, arrays: dict[Sequence, NDArray[Any]], left_out: list[Sequence]
) -> tuple[Choice, list[Flag]]:
    """Let the pixels confirm a T1C that only came after a T1; leave it out where they do not.

    Where no date makes the order sure, they may also turn it round.
    """
    if not choice.by_order or Sequence.T1 not in arrays or Sequence.T1C not in arrays:
        return choice, []
    enhanced = enhancement(arrays[Sequence.T1], arrays[Sequence.T1C])
    if enhanced > ENHANCES_FROM:
        message = (
            "No header says which T1 is after contrast; the later one is taken for it, and its pixels "
            "enhance against the earlier one."
        )
        return choice, [flag("T1C_BY_ORDER", message)]
    if enhanced < -ENHANCES_FROM and not choice.dated:
        arrays[Sequence.T1], arrays[Sequence.T1C] = arrays[Sequence.T1C], arrays[Sequence.T1]
        choice = _turned_round(choice)
        message = (
            "No header says which T1 is after contrast, nor surely which came first; "
            f"{choice.chosen[Sequence.T1C].place} is taken for it, since its pixels enhance against "
            f"{choice.chosen[Sequence.T1].beside(choice.chosen[Sequence.T1C])}."
        )
        return choice, [flag("T1C_BY_ORDER", message)]
    del arrays[Sequence.T1C]
    left_out.append(Sequence.T1C)
    how = (
        "darkens against the earlier one"
        if enhanced < -ENHANCES_FROM
        else "does not clearly enhance"
    )
    message = (
        f"T1C is left out: no header says which T1 is after contrast, and the later one {how}. "
        "Name it with --t1c if you know it."
    )
    return choice, [flag("T1C_LEFT_OUT", message)]


def _turned_round(choice: Choice) -> Choice:
    chosen, reasons = dict(choice.chosen), dict(choice.reasons)
    chosen[Sequence.T1], chosen[Sequence.T1C] = chosen[Sequence.T1C], chosen[Sequence.T1]
    for name, words in ((Sequence.T1, "before"), (Sequence.T1C, "after")):
        one = chosen[name]
        reasons[name] = (
            f"{one.place} is {one.identified.kind} ({one.identified.confidence}), by its pixels {words} "
            f"contrast medium: {one.identified.why}."
        )
    return replace(choice, chosen=chosen, reasons=reasons)


def _values(
    series: Series, name: Sequence, budget: Budget, decoder: DecoderProcess
) -> tuple[NDArray[Any], tuple[Flag, ...]]:
    if series.error is not None:
        raise series.error
    where = series.frames[0].instance.where
    return make_finite(read_pixels(series.frames, budget, decoder), name.value, where)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
