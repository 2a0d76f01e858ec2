"""Which slices are scored, and which train the baselines (evaluate); apart because both need it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from gliosight.data.manifest import Manifest, SliceRow
from gliosight.data.split import PARTS, SLICE, TEST, TRAIN, Split
from gliosight.errors import UsageError

ALL = "all"
NO_SPLIT = "none"

Rows = tuple[SliceRow, ...]


@dataclass(frozen=True)
class Fold:
    """What is scored of one run, and what baselines are trained on there, both by patient.

    ``name`` is empty without folds. ``training`` is ``None`` without a split and for the training part
    itself: a baseline then leaves out the patient it is scored on.
    """

    name: str
    scored: dict[str, Rows]
    training: dict[str, Rows] | None


@dataclass(frozen=True)
class Part:
    """What is scored together; several folds where they are pooled.

    ``name`` is ``train``, ``validation``, ``test``, or ``all`` without a split; ``by`` is what the split is
    by, ``none`` without one.
    """

    name: str
    by: str
    folds: tuple[Fold, ...]

    @property
    def patients(self) -> tuple[str, ...]:
        """Those with a scored slice."""
        return tuple(name for fold in self.folds for name in fold.scored)

    @property
    def by_slice(self) -> bool:
        """Whether patients of this part are in the training part, too."""
        return self.by == SLICE


def parts_of(
    manifest: Manifest,
    split: Split | None,
    names: Sequence[str],
    *,
    fold: str | None = None,
    pooled: bool = False,
) -> tuple[Part, ...]:
    """The parts to score.

    Parameters
    ----------
    names : sequence of str
        Parts of the split, or ``all``, which is the only one without a split.
    fold : str, optional
        Which one of a split with folds.
    pooled : bool
        Score the test parts of all folds as one.

    Raises
    ------
    UsageError
        Parts or folds that are not there; nothing in a part.
    """
    if split is None:
        if fold is not None:
            raise UsageError("--fold without --split", remedy="give the split the fold is of")
        parts = [Part(ALL, NO_SPLIT, (Fold("", _by_patient(manifest.used), None),))]
    elif pooled:
        if tuple(names) != (TEST,):
            raise UsageError(
                "several folds are pooled over their test parts only",
                remedy="leave out --part, or choose one fold with --fold",
            )
        folds = tuple(_fold(manifest, split, TEST, name) for name in split.groups)
        parts = [Part(TEST, split.by, folds)]
    else:
        chosen = PARTS if ALL in names else tuple(dict.fromkeys(names))
        parts = [Part(name, split.by, (_fold(manifest, split, name, fold),)) for name in chosen]
        if ALL in names:  # then the split may leave a part empty
            parts = [part for part in parts if part.patients]
    for part in parts:
        if not part.patients:
            raise UsageError(
                f"the part {part.name} holds no patient",
                remedy="choose another --part or split anew",
            )
    return tuple(parts)


def _fold(manifest: Manifest, split: Split, part: str, fold: str | None) -> Fold:
    rows = split.rows(manifest, fold)
    training = None if part == TRAIN else _by_patient(rows[TRAIN])
    return Fold(fold or "", _by_patient(rows[part]), training or None)


def _by_patient(rows: Sequence[SliceRow]) -> dict[str, Rows]:
    return {name: tuple(group) for name, group in groupby(rows, lambda row: row.patient)}
