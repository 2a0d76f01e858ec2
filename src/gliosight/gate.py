"""Whether a study is an axial FLAIR of a head at all (stage: gate).

In: a `Study`, its `NetworkInput`, and what the model knows of its training slices. Out: an `InputCheck`.
First come plain rules on pixels and sizes, which no true study breaks; then the distance of the network's
own features from those of true FLAIR slices, see `gliosight.familiar`. docs/trust.md has the
figures.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gliosight.analysis import InputCheck
from gliosight.familiar import Familiar
from gliosight.flags import flag
from gliosight.head import find_head
from gliosight.maps import NetworkInput, turned
from gliosight.study import Flag, Study

# Slices that are shown to the network, spread over those that are at least this full of tissue; of a short
# study fewer, so that the gate costs little.
SLICES, FEW_SLICES = 5, 3
SHORT = 40
LEAST_FULL = 0.3
# Slices in which the rules look for the head: at least so many, where there are.
LEAST_RULED = 8
# Parts of a picture's outline that lie in the head: a head that is cut off on two sides has less.
MOST_OUTLINE = 0.8
# A drawing, a text or a mask has fewer different values than this in all slices together.
LEAST_VALUES = 8
# No head is wider than this times its length, in an axial slice; a trunk is.
WIDEST = 1.3
# Nor is it longer or wider than this, mm; a trunk is.
LONGEST_MM = 290.0

Describe = Callable[[NDArray[np.float32]], NDArray[np.float32]]
# What is unusual, by the code of its flag.
REASONS = {
    "NOT_A_HEAD": "This does not look like a head in an axial MR image",
    "NOT_FLAIR": "This does not look like a FLAIR image of a head: CSF is not dark beside grey and "
    "white matter",
    "NOT_AXIAL": "This looks like a head in coronal or sagittal slices, and no geometry tells how to "
    "turn them",
    "UNUSUAL_INPUT": "The images differ from the FLAIR images that the model was trained on: the result "
    "is less certain than usual",
}


def check_input(
    study: Study,
    network_input: NetworkInput,
    familiar: Familiar | None = None,
    describe: Describe | None = None,
) -> InputCheck:
    """Check a study before the network is asked.

    Parameters
    ----------
    study : Study
    network_input : NetworkInput
        What `prepare` made of it, with something to predict from.
    familiar : Familiar, optional
        What the model knows of true slices; without it the rules decide alone.
    describe : callable, optional
        The network's features ``(n, features)`` of images ``(n, channels, rows, columns)``.
    """
    if broken := broken_rule(study, network_input):
        return refused("NOT_A_HEAD", broken)
    if familiar is None or describe is None:
        return InputCheck()
    images = probe(network_input, SLICES if len(network_input) >= SHORT else FEW_SLICES)
    distance, code = familiar.distance(describe(images))
    if distance >= familiar.refused_from:
        return refused(code, distance=distance)
    if distance >= 1:
        return InputCheck(distance, "unusual", REASONS["UNUSUAL_INPUT"] + ".", "UNUSUAL_INPUT")
    return InputCheck(distance)


def refused(code: str, detail: str | None = None, *, distance: float | None = None) -> InputCheck:
    """The check of a study that is not assessed."""
    reason = REASONS[code] + (f": {detail}." if detail else ".")
    return InputCheck(distance, "refused", reason, code)


def flags_of(check: InputCheck) -> tuple[Flag, ...]:
    """The flag of what is odd, if anything is."""
    return () if check.code is None else (flag(check.code, check.reason or ""),)


def broken_rule(study: Study, network_input: NetworkInput) -> str | None:
    """Which rule a study breaks, in words, if any."""
    plan = network_input.plan
    flair = turned(study.flair.values, plan.order, plan.flipped)
    values = flair[:: max(1, len(flair) // LEAST_RULED)]
    sample = values[:, :: max(1, values.shape[1] // 256), :: max(1, values.shape[2] // 256)]
    if len(np.unique(sample)) < LEAST_VALUES:
        return "it has few different values, as a drawing or a text has"
    head = find_head(values)
    fullest = head[int(head.sum(axis=(1, 2)).argmax())]
    edges = (fullest[0], fullest[-1], fullest[1:-1, 0], fullest[1:-1, -1])
    if float(np.concatenate(edges).mean()) > MOST_OUTLINE:
        return "it fills the picture, without air round a head"
    if study.geometry is None or study.geometry.believed == "sizes":
        return None
    sizes = (study.geometry.slice_spacing or 0.0, *study.geometry.spacing)
    length, width = (
        sizes[plan.order[axis]] * np.ptp(np.flatnonzero(fullest.any(axis=2 - axis)))
        for axis in (1, 2)
    )
    if not (length and width):
        return "it is a single slice in another plane"
    if max(length, width) > LONGEST_MM:
        return f"it is {max(length, width):.0f} mm long"
    if width > WIDEST * length:
        return f"it is {width:.0f} mm wide and {length:.0f} mm long"
    return None


def probe(network_input: NetworkInput, slices: int) -> NDArray[np.float32]:
    """FLAIR alone of a few slices, as the network gets a slice without neighbours and other sequences.

    Returns
    -------
    (up to slices, channels, rows, columns) float32 array
    """
    neighbours = network_input.below.shape[1]
    own = network_input.below[:, neighbours // 2]
    fullness = np.array([plane.mean() - plane.min() for plane in network_input.images[own, 1]])
    full = own[fullness >= LEAST_FULL * fullness.max()]
    chosen = (
        np.linspace(0, len(full) - 1, slices + 2)[1:-1]
        if len(full) > slices
        else np.arange(len(full))
    )
    flair = network_input.images[full[np.unique(np.round(chosen).astype(int))], 1]
    return np.repeat(flair[:, None], 3 * neighbours, axis=1)
