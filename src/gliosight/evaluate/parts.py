"""Which slices are scored, and what the baselines may learn from (evaluate).

In: manifest and split. Out: `Part`, made of one `Fold` or, where folds are pooled, of several. A fold
says which rows are scored and which are its training part; where no part is given (no split, or the training
part itself is scored) baselines leave out the patient they are scored on.
"""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from itertools import groupby

from gliosight.data.manifest import Manifest, SliceRow
from gliosight.data.split import PARTS, SLICE, TEST, TRAIN, Split
from gliosight.errors import UsageError

ALL = "all"
CHOICES = (*PARTS, ALL)
NO_SPLIT = "none"

Rows = tuple[SliceRow, ...]


@dataclass(frozen=True)
class Fold:
    """What is scored of one run.

    Parameters
    ----------
    name : str
        Of the fold; empty without folds.
    scored : mapping of str to tuple of SliceRow
        By patient.
    learnt : mapping of str to tuple of SliceRow, or None
        The training part, by patient; ``None`` where a baseline leaves one patient out.
    """

    name: str
    scored: dict[str, Rows]
    learnt: dict[str, Rows] | None


@dataclass(frozen=True)
class Part:
    """What is scored together.

    Parameters
    ----------
    name : str
        ``train``, ``validation``, ``test``, or ``all`` without a split.
    by : str
        What the split is by; ``none`` without one.
    folds : tuple of Fold
    """

    name: str
    by: str
    folds: tuple[Fold, ...]

    @property
    def patients(self) -> tuple[str, ...]:
        """Those with a scored slice."""
        return tuple(name for fold in self.folds for name in fold.scored)


def parts_of(
    manifest: Manifest,
    split: Split | None,
    names: Ordered[str],
    *,
    fold: str | None = None,
    pooled: bool = False,
) -> tuple[Part, ...]:
    """The parts to score.

    Parameters
    ----------
    names : sequence of str
        Of `CHOICES`; without a split there is only ``all``.
    fold : str, optional
        Which one of a split with folds.
    pooled : bool
        Score the test part of every fold, as one.

    Raises
    ------
    UsageError
        Parts or folds that are not there; nothing in a part.
    """
    if split is None:
        if fold is not None:
            raise UsageError("--fold without --split", remedy="give the split the fold is of")
        everything = _by_patient(manifest.used)
        return (_checked(Part(ALL, NO_SPLIT, (Fold("", everything, None),))),)
    if pooled:
        if tuple(names) != (TEST,):
            raise UsageError(
                "several folds are pooled over their test parts only",
                remedy="leave out --part, or choose one fold with --fold",
            )
        folds = tuple(_fold(manifest, split, TEST, name) for name in split.groups)
        return (_checked(Part(TEST, split.by, folds)),)
    chosen = PARTS if ALL in names else tuple(dict.fromkeys(names))
    parts = [Part(name, split.by, (_fold(manifest, split, name, fold),)) for name in chosen]
    # Asked for all, a part that the split leaves empty is no error.
    kept = [one for one in parts if one.patients] if ALL in names else parts
    return tuple(_checked(one) for one in kept)


def _fold(manifest: Manifest, split: Split, part: str, fold: str | None) -> Fold:
    rows = split.rows(manifest, fold)
    learnt = None if part == TRAIN else _by_patient(rows[TRAIN])
    return Fold(fold or "", _by_patient(rows[part]), learnt or None)


def _checked(part: Part) -> Part:
    if not part.patients:
        raise UsageError(
            f"the part {part.name} holds no patient", remedy="choose another --part or split anew"
        )
    return part


def _by_patient(rows: Ordered[SliceRow]) -> dict[str, Rows]:
    return {name: tuple(group) for name, group in groupby(rows, lambda row: row.patient)}


def is_by_slice(part: Part) -> bool:
    """Whether patients of this part stand in the training part, too."""
    return part.by == SLICE
