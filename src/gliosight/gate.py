"""Whether a study is an axial FLAIR of a head at all (stage: gate).

In: a `Study`, its `NetworkInput`, and the model. Out: an `InputCheck`. First come plain rules on pixels and
sizes, which no true study breaks. Then a small network looks at small pictures of the FLAIR slices; it was
trained by ``benchmarks/gate.py`` to tell axial FLAIR slices of heads from other contrasts, other planes and
anything else. docs/trust.md has the figures.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gliosight.analysis import InputCheck
from gliosight.card import InputCheckRule
from gliosight.flags import flag
from gliosight.maps import NetworkInput, turned
from gliosight.study import Flag, Study

# Slices that are shown to the network, spread over those that are at least this full of tissue.
SLICES = 16
LEAST_FULL = 0.3
# From so many slices on a study is a stack; of fewer the mean varies more, and more is allowed.
STACK = 5
# One slice cannot outweigh all others: its log odds are clipped here.
CLIPPED = 6.0
# Parts of a picture's outline that lie in the head: a head that is cut off on two sides has less.
MOST_OUTLINE = 0.8
# A drawing, a text or a mask has fewer different values than this in all slices together.
LEAST_VALUES = 8
# Slices, rows and columns in which they are counted: at least so many, where there are.
SAMPLED = (8, 256, 256)
# No head is wider than this times its length, in an axial slice; a trunk is.
WIDEST = 1.3
# Nor is it longer or wider than this, mm; a trunk is.
LONGEST_MM = 290.0

Classify = Callable[[NDArray[np.float32]], NDArray[np.float32]]
# What the network's answers after the first one stand for, by the code of the flag.
CODES = ("NOT_FLAIR", "NOT_AXIAL", "NOT_A_HEAD")
# What is unusual, by the code of its flag.
REASONS = {
    "NOT_A_HEAD": "This does not look like a head in an axial MR image",
    "NOT_FLAIR": "This looks like a head, but its contrast is not that of a FLAIR image: perhaps it is T1, "
    "T2, diffusion, CT or a negative",
    "NOT_AXIAL": "This looks like a head in coronal or sagittal slices, which cannot be turned",
    "UNUSUAL_INPUT": "The images differ from the FLAIR images that the model was trained on: the result "
    "is less certain than usual",
}


def check_input(
    study: Study,
    network_input: NetworkInput,
    rule: InputCheckRule | None = None,
    classify: Classify | None = None,
) -> InputCheck:
    """Check a study before the network is asked.

    Parameters
    ----------
    study : Study
    network_input : NetworkInput
        What `prepare` made of it, with something to predict from.
    rule : InputCheckRule, optional
        What the network's answers mean; without it the rules on pixels and sizes decide alone.
    classify : callable, optional
        The network's logits ``(n, 4)`` of pictures ``(n, side, side)``: an axial FLAIR of a head, then
        what `CODES` stand for.
    """
    if broken := broken_rule(study, network_input):
        return broken
    if rule is None or classify is None:
        return InputCheck()
    distance, code = distance_of(classify(pictures(network_input, rule.side)), rule)
    if distance >= rule.refused_from:
        return refused(code, distance=distance)
    if distance >= 1:
        return InputCheck(distance, "unusual", REASONS["UNUSUAL_INPUT"] + ".", "UNUSUAL_INPUT")
    return InputCheck(distance)


def distance_of(logits: NDArray[np.float32], rule: InputCheckRule) -> tuple[float, str]:
    """How far a study is from true ones, and the code of what it looks like instead.

    Parameters
    ----------
    logits : (slices, 4) array

    Returns
    -------
    distance : float
        0 typical or better, 1 at the limit of unusual.
    code : str
        One of `CODES`.
    """
    unusual = rule.unusual_stack if len(logits) >= STACK else rule.unusual_single
    distance = (float(foreign_odds(logits).mean()) - rule.typical) / (unusual - rule.typical)
    return max(0.0, distance), CODES[int(logits[:, 1:].mean(axis=0).argmax())]


def foreign_odds(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """Log odds that each slice is foreign, from the network's logits ``(slices, 4)``."""
    odds = np.logaddexp.reduce(logits[:, 1:], axis=1) - logits[:, 0]
    clipped: NDArray[np.floating] = np.clip(odds, -CLIPPED, CLIPPED)
    return clipped


def refused(code: str, detail: str | None = None, *, distance: float | None = None) -> InputCheck:
    """The check of a study that is not assessed."""
    reason = REASONS[code] + (f": {detail}." if detail else ".")
    return InputCheck(distance, "refused", reason, code)


def flags_of(check: InputCheck) -> tuple[Flag, ...]:
    """The flag of what is odd, if anything is."""
    return () if check.code is None else (flag(check.code, check.reason or ""),)


def broken_rule(study: Study, network_input: NetworkInput) -> InputCheck | None:
    """The check of a study that breaks one of the rules on pixels and sizes."""
    plan = network_input.plan
    steps = (max(1, size // most) for size, most in zip(study.shape, SAMPLED, strict=True))
    if (
        len(np.unique(study.flair.values[tuple(slice(None, None, step) for step in steps)]))
        < LEAST_VALUES
    ):
        return refused("NOT_A_HEAD", "it has few different values, as a drawing or a text has")
    head = turned(network_input.head, plan.order, plan.flipped)
    fullest = head[int(head.sum(axis=(1, 2)).argmax())]
    edges = (fullest[0], fullest[-1], fullest[1:-1, 0], fullest[1:-1, -1])
    if float(np.concatenate(edges).mean()) > MOST_OUTLINE:
        return refused("NOT_A_HEAD", "it fills the picture, without air around a head")
    if study.geometry is None or study.geometry.believed == "sizes":
        return None
    sizes = (study.geometry.slice_spacing or 0.0, *study.geometry.spacing)
    length, width = (
        sizes[plan.order[axis]] * np.ptp(np.flatnonzero(fullest.any(axis=2 - axis)))
        for axis in (1, 2)
    )
    if not (length and width):
        return refused("NOT_AXIAL", "it is a single slice")
    if max(length, width) > LONGEST_MM:
        return refused("NOT_A_HEAD", f"it is {max(length, width):.0f} mm long")
    if width > WIDEST * length:
        return refused("NOT_A_HEAD", f"it is {width:.0f} mm wide and {length:.0f} mm long")
    return None


def pictures(network_input: NetworkInput, side: int, slices: int = SLICES) -> NDArray[np.float32]:
    """Small pictures of FLAIR slices, spread over those that show enough of a head.

    Returns
    -------
    (up to slices, side, side) float32 array
        Air 0, the brightest tissue 1; the longer side of the head's box fills the picture.
    """
    own = network_input.below[:, network_input.below.shape[1] // 2]
    fullness = np.array([plane.mean() - plane.min() for plane in network_input.images[own, 1]])
    full = own[fullness >= LEAST_FULL * fullness.max()]
    places = (
        np.linspace(0, len(full) - 1, slices + 2)[1:-1] if len(full) > slices else range(len(full))
    )
    flair = network_input.images[full[np.unique(np.round(places).astype(int))], 1]
    low, high = float(flair.min()), float(np.percentile(flair, 99.5))
    unit = np.clip((flair - low) / max(high - low, 1e-6), 0, 1)
    scale = side / max(unit.shape[1:])
    rows, columns = (max(1, round(scale * size)) for size in unit.shape[1:])
    small = np.zeros((len(unit), side, side), np.float32)
    top, left = (side - rows) // 2, (side - columns) // 2
    for picture, plane in zip(small, unit, strict=True):
        image = Image.fromarray(plane).resize((columns, rows), Image.Resampling.BILINEAR)
        picture[top : top + rows, left : left + columns] = np.asarray(image)
    return small
