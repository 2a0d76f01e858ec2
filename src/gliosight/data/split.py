"""Who is trained on and who is scored: the split file (data).

In: a `Manifest`. Out: a frozen `Split`, kept as JSON with the manifest's digest, so that a run and its
score can be held against the very same patients. A split is either *parts* (train, validation, test) or
*folds*; with folds, fold ``k`` is the test part of run ``k``, and a share of the other patients its
validation part.

The rule: patients are ordered by institution and, within it, by tumour volume. The seed shuffles
neighbours in that order, as many as it takes for the smallest part to get one of them; then they are dealt
out along it, always to the part that is furthest below its share, and the seed breaks ties. So parts are
alike in institutions and in sizes, and each part's share is met within one patient. A patient is never on
two sides, nor is a person with several studies, where the manifest or the names say so
(`Manifest.person_of`). Splitting by slice, as the tutorial does, is there to show what it is worth, and says
so.

With several collections these come first in the order, before institutions. A collection that is to stay
*whole* is in one part or fold, so that no cohort judges itself. Whole collections are dealt first and by
themselves, the largest first; the others are dealt as if these were not there, so that each part gets its
share of every collection.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gliosight.data.manifest import Manifest, SliceRow, write_whole
from gliosight.errors import DamagedInputError, NothingReadableError, UsageError, printable

PATIENT, SLICE, INSTITUTION = "patient", "slice", "institution"
TRAIN, VALIDATION, TEST = PARTS = ("train", "validation", "test")
# The tutorial's shares: 15 % test, of the rest 15 % validation.
DEFAULT_SHARES = {TRAIN: 0.7225, VALIDATION: 0.1275, TEST: 0.15}
FORMAT = 1


@dataclass(frozen=True)
class Split:
    """Which patients, or slices, belong to which group.

    Parameters
    ----------
    by : str
        ``"patient"``, ``"slice"`` or ``"institution"`` (a fold each).
    seed : int
    manifest_sha256 : str
    groups : mapping of str to tuple of str
        Names of the patients (by slice: ``patient:number``) of each part or fold.
    validation : float
        With folds: the share of the patients outside the test fold that a run may select by.
    whole : tuple of str
        Collections that are on one side as a whole, in validation and training of a fold, too.
    """

    by: str
    seed: int
    manifest_sha256: str
    groups: Mapping[str, tuple[str, ...]]
    validation: float = 0.0
    whole: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """Digest of what the split says."""
        said = {"by": self.by, "groups": self.groups, "validation": self.validation}
        said |= {"seed": self.seed, "manifest": self.manifest_sha256}
        said |= {"whole": self.whole} if self.whole else {}
        text = json.dumps(said, sort_keys=True, default=list)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def has_folds(self) -> bool:
        """Whether the groups are folds, not parts."""
        return set(self.groups) != set(PARTS)

    def rows(self, manifest: Manifest, fold: str | None = None) -> dict[str, tuple[SliceRow, ...]]:
        """The used slices of each part.

        Parameters
        ----------
        fold : str, optional
            Which fold is the test part; needed with folds, wrong without.

        Raises
        ------
        UsageError
            A fold that is not there, or none where one is needed.
        DamagedInputError
            The split was made from another manifest, or does not cover this one.
        """
        part_of = self._part_of(manifest, fold)
        out: dict[str, list[SliceRow]] = {part: [] for part in PARTS}
        for row in manifest.used:
            key = row.key if self.by == SLICE else row.patient
            if key not in part_of:
                raise DamagedInputError(
                    f"the split says nothing of {key}", remedy="make it anew: gliosight data split"
                )
            out[part_of[key]].append(row)
        return {part: tuple(rows) for part, rows in out.items()}

    def patients(self, manifest: Manifest, fold: str | None = None) -> dict[str, tuple[str, ...]]:
        """The patients of each part; by slice, a patient may stand in several."""
        rows = self.rows(manifest, fold)
        return {part: tuple(dict.fromkeys(row.patient for row in rows[part])) for part in PARTS}

    def test_patients(
        self, manifest: Manifest, models: int, folds: Ordered[str] = ()
    ) -> tuple[tuple[str, ...], ...]:
        """For each of several models the patients it is tested on: a fold for each, or all for one.

        Parameters
        ----------
        models : int
            How many there are.
        folds : sequence of str
            The models' folds in their order; without, all folds as they stand.

        Raises
        ------
        UsageError
            Not as many models as folds, or a fold that is not there.
        DamagedInputError
            See `rows`.
        """
        chosen: Ordered[str | None] = folds or (list(self.groups) if self.has_folds else [None])
        if len(chosen) != models:
            raise UsageError(
                f"{models} models for {len(chosen)} folds",
                remedy="give one model for each fold, or name the models' folds with --folds",
            )
        return tuple(self.patients(manifest, one)[TEST] for one in chosen)

    def _part_of(self, manifest: Manifest, fold: str | None) -> dict[str, str]:
        if self.manifest_sha256 != manifest.sha256:
            raise DamagedInputError(
                "the split was made from another manifest",
                remedy="give the manifest it was made from, or split anew: gliosight data split",
            )
        if not self.has_folds:
            if fold is not None:
                raise UsageError("this split has no folds", remedy="leave out --fold")
            return {key: part for part, keys in self.groups.items() for key in keys}
        if fold is None or fold not in self.groups:
            raise UsageError(
                "which fold?" if fold is None else f"no fold {fold!r}",
                remedy=f"give --fold, one of {', '.join(self.groups)}",
            )
        part_of = dict.fromkeys(self.groups[fold], TEST)
        others = [name for name in manifest.patients if name not in part_of]
        shares = {TRAIN: 1 - self.validation, VALIDATION: self.validation}
        seed = [self.seed, *fold.encode()]
        for part, names in deal(manifest, others, shares, seed, self.whole).items():
            part_of |= dict.fromkeys(names, part)
        return part_of


def split_parts(
    manifest: Manifest,
    *,
    by: str = PATIENT,
    seed: int = 1,
    shares: Mapping[str, float] | None = None,
    whole: Ordered[str] = (),
) -> Split:
    """Train, validation and test.

    Raises
    ------
    UsageError
        Shares that do not add up to one, too few patients for them, or a whole collection that is not
        there.
    """
    _check_whole(manifest, whole)
    shares = dict(shares or DEFAULT_SHARES)
    if (
        set(shares) != set(PARTS)
        or min(shares.values()) < 0
        or abs(sum(shares.values()) - 1) > 1e-6
    ):
        raise UsageError(
            f"shares {', '.join(f'{value:g}' for value in shares.values())}",
            remedy="give three shares for train, validation and test that add up to 1",
        )
    if by == SLICE:
        keys = np.asarray(sorted(row.key for row in manifest.used))
        np.random.default_rng(seed).shuffle(keys)
        ends = np.round(np.cumsum([shares[part] for part in PARTS]) * len(keys)).astype(int)
        groups = {
            part: tuple(str(key) for key in sorted(chunk))
            for part, chunk in zip(PARTS, np.split(keys, ends[:-1]), strict=True)
        }
    else:
        groups = deal(manifest, manifest.patients, shares, [seed], whole)
    _refuse_empty(groups, {part for part in PARTS if shares[part] > 0})
    return Split(by, seed, manifest.sha256, groups, whole=tuple(whole))


def split_folds(
    manifest: Manifest,
    folds: int,
    *,
    seed: int = 1,
    validation: float = 0.0,
    whole: Ordered[str] = (),
) -> Split:
    """``folds`` folds by patient.

    Raises
    ------
    UsageError
        Too few patients for so many folds, or a whole collection that is not there.
    """
    _check_validation(validation)
    _check_whole(manifest, whole)
    if folds < 2:
        raise UsageError(f"{folds} folds", remedy="choose 2 or more")
    shares = {str(k): 1 / folds for k in range(folds)}
    groups = deal(manifest, manifest.patients, shares, [seed], whole)
    _refuse_empty(groups, set(shares))
    split = Split(PATIENT, seed, manifest.sha256, groups, validation, tuple(whole))
    return _checked(split, manifest)


def split_institutions(manifest: Manifest, *, seed: int = 1, validation: float = 0.0) -> Split:
    """A fold for each institution: what the others learnt, scored on one they never saw.

    Raises
    ------
    UsageError
        There is one institution only, or too few patients outside one.
    """
    _check_validation(validation)
    groups: dict[str, tuple[str, ...]] = {}
    # A person of whom one study's name says the institution, and another's none.
    named: dict[str, str] = {}
    for patient, rows in manifest.by_patient.items():
        person = manifest.person_of(patient)
        named[person] = named.get(person) or rows[0].institution
    for patient in manifest.patients:
        name = named[manifest.person_of(patient)] or "unknown"
        groups[name] = (*groups.get(name, ()), patient)
    if len(groups) < 2:
        raise UsageError(
            "the patients are of one institution, or their names say none",
            remedy="split --by patient instead",
        )
    ordered = dict(sorted(groups.items()))
    return _checked(Split(INSTITUTION, seed, manifest.sha256, ordered, validation), manifest)


def deal(
    manifest: Manifest,
    patients: Ordered[str],
    shares: Mapping[str, float],
    seed: Ordered[int],
    whole: Ordered[str] = (),
) -> dict[str, tuple[str, ...]]:
    """Deal patients out by the rule of the module's first lines.

    Parameters
    ----------
    manifest : Manifest
    patients : sequence of str
    shares : mapping of str to float
        By group; they add up to 1.
    seed : sequence of int
    whole : sequence of str
        Collections that stay together.

    Returns
    -------
    dict of str to tuple of str
        Patients of each group, sorted.
    """
    generator = np.random.default_rng(seed)
    persons: dict[str, list[str]] = {}
    for patient in sorted(patients):
        persons.setdefault(manifest.person_of(patient), []).append(patient)
    cohorts = _cohorts(manifest, persons, whole)
    together = {person for cohort in cohorts for person in cohort}

    def place(person: str) -> tuple[str, str, int, str]:
        rows = [row for patient in persons[person] for row in manifest.by_patient[patient]]
        first = rows[0]
        return first.collection, first.institution, sum(row.area_px for row in rows), person

    ordered = sorted(persons.keys() - together, key=place)
    names = [name for name, share in shares.items() if share > 0]
    share = np.asarray([shares[name] for name in names])
    reach = math.ceil(1 / share.min() - 1e-9)
    dealt: dict[str, list[str]] = {name: [] for name in shares}

    def give(own: list[str]) -> None:
        """Deal patients that stay together to the group furthest below its share."""
        counts = np.asarray([len(dealt[name]) - before[name] for name in names])
        short = share * (counts.sum() + len(own)) - counts
        tie = generator.permutation(len(names))
        chosen = max(range(len(names)), key=lambda k: (round(float(short[k]), 9), tie[k]))
        dealt[names[chosen]] += own

    before = dict.fromkeys(names, 0)
    for cohort in cohorts:
        give([patient for person in cohort for patient in persons[person]])
    before = {name: len(dealt[name]) for name in names}
    for start in range(0, len(ordered), reach):
        for place_in_run in generator.permutation(len(ordered[start : start + reach])):
            give(persons[ordered[start + place_in_run]])
    return {name: tuple(sorted(group)) for name, group in dealt.items()}


def _cohorts(
    manifest: Manifest, persons: Mapping[str, Ordered[str]], whole: Ordered[str]
) -> list[list[str]]:
    """The persons of each whole collection, the largest first; those that share a person are one."""
    cohorts: list[set[str]] = []
    for collection in sorted(set(whole)):
        cohort = {
            person
            for person, own in persons.items()
            if any(manifest.by_patient[patient][0].collection == collection for patient in own)
        }
        for other in [one for one in cohorts if one & cohort]:
            cohorts.remove(other)
            cohort |= other
        if cohort:
            cohorts.append(cohort)
    return [sorted(one) for one in sorted(cohorts, key=lambda one: (-len(one), min(one)))]


def rows_by_group(split: Split, manifest: Manifest) -> dict[str, tuple[SliceRow, ...]]:
    """The used slices of each part or fold, in the split's order of groups."""
    group_of = {key: name for name, keys in split.groups.items() for key in keys}
    out: dict[str, list[SliceRow]] = {name: [] for name in split.groups}
    for row in manifest.used:
        key = row.key if split.by == SLICE else row.patient
        if key in group_of:
            out[group_of[key]].append(row)
    return {name: tuple(rows) for name, rows in out.items()}


def write_split(split: Split, path: Path) -> None:
    """Write a split.

    Raises
    ------
    CannotWriteError
    """
    value = {
        "gliosight_split": FORMAT,
        "by": split.by,
        "seed": split.seed,
        "manifest_sha256": split.manifest_sha256,
        "validation": split.validation,
        **({"whole": list(split.whole)} if split.whole else {}),
        "groups": {name: list(keys) for name, keys in split.groups.items()},
    }
    write_whole(path, (json.dumps(value, indent=1) + "\n").encode("ascii"))


def read_split(path: Path, *, strict: bool = True) -> Split:
    """Read a split.

    Parameters
    ----------
    path : Path
    strict : bool
        Refuse a patient that stands in two groups; `audit` reports it instead.

    Raises
    ------
    NothingReadableError
    DamagedInputError
        It is no split, or a patient stands in two of its groups.
    """
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise NothingReadableError(
            f"cannot read the split: {getattr(error, 'strerror', None) or error}",
            where=path.name,
            remedy="make one with: gliosight data split MANIFEST -o split.json",
        ) from error
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "it is not JSON") from error
    try:
        return _split_of(value, strict=strict)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, f"it is not a split: {error}") from error


def _split_of(value: Any, *, strict: bool) -> Split:
    if value["gliosight_split"] != FORMAT:
        raise ValueError(f"format {value['gliosight_split']!r}")
    groups = {str(name): tuple(map(str, keys)) for name, keys in value["groups"].items()}
    if value["by"] not in (PATIENT, SLICE, INSTITUTION) or not groups:
        raise ValueError("by or groups")
    counts = Counter(key for group in groups.values() for key in group)
    if strict and (twice := [key for key, count in counts.items() if count > 1]):
        raise ValueError(f"{twice[0]} stands in two groups")
    validation = float(value["validation"])
    if not 0 <= validation < 1:
        raise ValueError(f"validation {validation:g}")
    return Split(
        by=value["by"],
        seed=int(value["seed"]),
        manifest_sha256=str(value["manifest_sha256"]),
        groups=groups,
        validation=validation,
        whole=tuple(map(str, value.get("whole", ()))),
    )


def _checked(split: Split, manifest: Manifest) -> Split:
    """The split, if every run by it has something to learn from and, where wanted, to select by."""
    needed = {TRAIN, VALIDATION} if split.validation else {TRAIN}
    for fold in split.groups:
        _refuse_empty(split.patients(manifest, fold), needed)
    return split


def _refuse_empty(groups: Mapping[str, tuple[str, ...]], needed: set[str]) -> None:
    if empty := sorted(name for name in needed if not groups[name]):
        raise UsageError(
            f"too few patients, none is left for {' and '.join(empty)}",
            remedy="choose fewer groups or other shares: --folds 2 --validation 0 for two patients; "
            "with one patient only --by slice works",
        )


def _check_validation(share: float) -> None:
    if not 0 <= share < 1:
        raise UsageError(f"a validation share of {share:g}", remedy="choose 0 to below 1")


def _check_whole(manifest: Manifest, whole: Ordered[str]) -> None:
    if absent := [name for name in whole if name not in manifest.collections]:
        known = ", ".join(manifest.collections)
        raise UsageError(
            f"no collection {printable(absent[0])!r}",
            remedy=f"choose of {known}"
            if known
            else "name collections: gliosight data index NAME=PATH",
        )


def _damaged(path: Path, what: str) -> DamagedInputError:
    return DamagedInputError(
        what, where=path.name, remedy="make it anew with: gliosight data split"
    )
