"""Which patients are trained on and which are scored: the split file (data).

A split is either *parts* (train, validation, test) or *folds*; with folds, fold ``k`` is the test part of run
``k``, and a share of the other patients its validation part. docs/data.md has the rule by which patients are
dealt out. A person is never on two sides, except with a split by slice.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gliosight.data.manifest import Manifest, SliceRow, write_whole
from gliosight.data.table import read_bytes
from gliosight.errors import DamagedInputError, UsageError, printable

PATIENT, SLICE, INSTITUTION = "patient", "slice", "institution"
TRAIN, VALIDATION, TEST = PARTS = ("train", "validation", "test")
# The tutorial's shares: 15 % test, of the rest 15 % validation.
DEFAULT_SHARES = {TRAIN: 0.7225, VALIDATION: 0.1275, TEST: 0.15}
FORMAT = 1
# Groups named in a message before it breaks off.
NAMED = 3

Groups = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Split:
    """Which patients, or slices, belong to which group.

    Parameters
    ----------
    by : str
        ``"patient"``, ``"slice"`` or ``"institution"`` (a fold each).
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
        content = self.content
        # Digests of older splits were taken with this name.
        content["manifest"] = content.pop("manifest_sha256")
        text = json.dumps(content, sort_keys=True, default=list)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def has_folds(self) -> bool:
        """Whether the groups are folds, not parts."""
        return set(self.groups) != set(PARTS)

    @property
    def content(self) -> dict[str, Any]:
        """The split as its file holds it."""
        return {
            "by": self.by,
            "seed": self.seed,
            "manifest_sha256": self.manifest_sha256,
            "validation": self.validation,
            **({"whole": self.whole} if self.whole else {}),
            "groups": self.groups,
        }

    def key_of(self, row: SliceRow) -> str:
        """How the split names a slice, or its patient."""
        return row.key if self.by == SLICE else row.patient

    def rows(self, manifest: Manifest, fold: str | None = None) -> dict[str, tuple[SliceRow, ...]]:
        """The used slices of each part; ``fold`` is the test part, needed with folds, wrong without.

        Raises `UsageError` (no such fold, or none where one is needed) or `DamagedInputError` (the split was
        made from another manifest, or does not cover this one).
        """
        if self.manifest_sha256 != manifest.sha256:
            remedy = "give the manifest it was made from, or split anew: gliosight data split"
            raise DamagedInputError("the split was made from another manifest", remedy=remedy)
        parts = self._parts(manifest, fold)
        part_of = {key: part for part, keys in parts.items() for key in keys}
        rows: dict[str, list[SliceRow]] = {part: [] for part in PARTS}
        for row in manifest.used:
            if self.key_of(row) not in part_of:
                what = f"the split does not name {self.key_of(row)}"
                raise DamagedInputError(what, remedy="make it anew: gliosight data split")
            rows[part_of[self.key_of(row)]].append(row)
        return {part: tuple(part_rows) for part, part_rows in rows.items()}

    def _parts(self, manifest: Manifest, fold: str | None) -> Mapping[str, tuple[str, ...]]:
        if not self.has_folds:
            if fold is not None:
                raise UsageError("this split has no folds", remedy="leave out --fold")
            return self.groups
        if fold is None or fold not in self.groups:
            what = "which fold?" if fold is None else f"no fold {fold!r}"
            raise UsageError(what, remedy=f"give --fold, one of {', '.join(self.groups)}")
        tested = set(self.groups[fold])
        others = [patient for patient in manifest.patients if patient not in tested]
        shares = {TRAIN: 1 - self.validation, VALIDATION: self.validation}
        seed = [self.seed, *fold.encode()]
        return {TEST: self.groups[fold], **_deal(manifest, others, shares, seed, self.whole)}

    def rows_by_group(self, manifest: Manifest) -> dict[str, tuple[SliceRow, ...]]:
        """The used slices of each part or fold; those that the split does not name are left out."""
        groups = {name: set(keys) for name, keys in self.groups.items()}
        return {
            name: tuple(row for row in manifest.used if self.key_of(row) in keys)
            for name, keys in groups.items()
        }

    def patients(self, manifest: Manifest, fold: str | None = None) -> Groups:
        """The patients of each part; by slice, a patient may stand in several."""
        rows = self.rows(manifest, fold)
        return {part: tuple(dict.fromkeys(row.patient for row in rows[part])) for part in PARTS}

    def test_patients(
        self, manifest: Manifest, models: int, folds: Sequence[str] = ()
    ) -> tuple[tuple[str, ...], ...]:
        """For each of several models the patients it is tested on: a fold for each, or all for one.

        ``folds`` are the models' in their order; without, all folds as they stand. Raises `UsageError` where
        there are not as many models as folds, and what `rows` raises.
        """
        chosen: Sequence[str | None] = folds or (list(self.groups) if self.has_folds else [None])
        if len(chosen) != models:
            remedy = "give one model for each fold, or name the models' folds with --folds"
            raise UsageError(f"{models} models for {len(chosen)} folds", remedy=remedy)
        return tuple(self.patients(manifest, fold)[TEST] for fold in chosen)


def split_parts(
    manifest: Manifest,
    *,
    by: str = PATIENT,
    seed: int = 1,
    shares: Mapping[str, float] | None = None,
    whole: Sequence[str] = (),
) -> Split:
    """Split into train, validation and test.

    Raises `UsageError`: shares that do not add up to one, too few patients for them, or a whole collection
    that is not there.
    """
    _check_whole(manifest, whole)
    shares = shares or DEFAULT_SHARES
    ordered = {part: shares.get(part, -1.0) for part in PARTS}
    if min(ordered.values()) < 0 or not abs(sum(shares.values()) - 1) <= 1e-6:  # NaN neither
        what = f"shares {', '.join(f'{share:g}' for share in shares.values())}"
        remedy = "give three shares for train, validation and test that add up to 1"
        raise UsageError(what, remedy=remedy)
    if by == SLICE:
        keys = np.asarray(sorted(row.key for row in manifest.used))
        np.random.default_rng(seed).shuffle(keys)
        ends = np.round(np.cumsum(list(ordered.values())) * len(keys)).astype(int)
        dealt = zip(PARTS, np.split(keys, ends[:-1]), strict=True)
        groups = {part: tuple(sorted(map(str, names))) for part, names in dealt}
    else:
        groups = _deal(manifest, manifest.patients, ordered, [seed], whole)
    _refuse_empty(groups, [part for part in PARTS if shares[part] > 0])
    return Split(by, seed, manifest.sha256, groups, whole=tuple(whole))


def split_folds(
    manifest: Manifest,
    folds: int,
    *,
    seed: int = 1,
    validation: float = 0.0,
    whole: Sequence[str] = (),
) -> Split:
    """Split into folds by patient.

    Raises `UsageError`: too few patients for so many folds, or a whole collection that is not there.
    """
    _check_whole(manifest, whole)
    if folds < 2:
        raise UsageError(f"{folds} folds", remedy="choose 2 or more")
    shares = {str(fold): 1 / folds for fold in range(folds)}
    groups = _deal(manifest, manifest.patients, shares, [seed], whole)
    _refuse_empty(groups, list(shares))
    split = Split(PATIENT, seed, manifest.sha256, groups, validation, tuple(whole))
    return _with_folds(split, manifest)


def split_institutions(manifest: Manifest, *, seed: int = 1, validation: float = 0.0) -> Split:
    """Split into a fold for each institution: trained on the others, scored on one they never saw.

    Raises `UsageError`: one institution only, or too few patients outside one.
    """
    # A person of whom one study's name says the institution, and another's none, is of that institution.
    institutions: dict[str, str] = {}
    for patient, rows in manifest.by_patient.items():
        person = manifest.person_of(patient)
        institutions[person] = institutions.get(person) or rows[0].institution
    groups: dict[str, tuple[str, ...]] = {}
    for patient in manifest.patients:
        name = institutions[manifest.person_of(patient)] or "unknown"
        groups[name] = (*groups.get(name, ()), patient)
    if len(groups) < 2:
        what = "the patients are of one institution, or their names say none"
        raise UsageError(what, remedy="split --by patient instead")
    split = Split(INSTITUTION, seed, manifest.sha256, dict(sorted(groups.items())), validation)
    return _with_folds(split, manifest)


def write_split(split: Split, path: Path) -> None:
    """Write a split; raises `CannotWriteError`."""
    value = {"gliosight_split": FORMAT, **split.content}
    write_whole(path, (json.dumps(value, indent=1, default=dict) + "\n").encode("ascii"))


def read_split(path: Path, *, strict: bool = True) -> Split:
    """Read a split; without ``strict`` a patient may stand in two groups, which `audit` reports.

    Raises `NothingReadableError` or `DamagedInputError`.
    """
    remedy = "make one with: gliosight data split MANIFEST -o split.json"
    content = read_bytes(path, "split", remedy)
    try:
        return _split_of(json.loads(content), strict=strict)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        what = "it is not a split"
        if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError):
            what = "it is not JSON"
        elif isinstance(error, ValueError):  # the others are Python's own words
            what = f"{what}: {error}"
        remedy = "make it anew with: gliosight data split"
        raise DamagedInputError(what, where=path.name, remedy=remedy) from error


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
    seed, digest = int(value["seed"]), str(value["manifest_sha256"])
    whole = tuple(map(str, value.get("whole", ())))
    return Split(value["by"], seed, digest, groups, validation, whole)


def _deal(
    manifest: Manifest,
    patients: Sequence[str],
    shares: Mapping[str, float],
    seed: Sequence[int],
    whole: Sequence[str],
) -> Groups:
    """Deal patients out by the rule of docs/data.md; ``shares`` add up to 1."""
    generator = np.random.default_rng(seed)
    persons: dict[str, list[str]] = {}
    for patient in sorted(patients):
        persons.setdefault(manifest.person_of(patient), []).append(patient)

    def order(person: str) -> tuple[str, str, int, str]:
        rows = [row for patient in persons[person] for row in manifest.by_patient[patient]]
        area = sum(row.area_px for row in rows)
        return rows[0].collection, rows[0].institution, area, person

    names = [name for name, share in shares.items() if share > 0]
    share = np.asarray([shares[name] for name in names])
    dealt: dict[str, list[str]] = {name: [] for name in shares}

    def give(together: list[str], before: Mapping[str, int]) -> None:
        """Deal patients that stay together to the group furthest below its share since ``before``."""
        counts = np.asarray([len(dealt[name]) - before[name] for name in names])
        short = share * (counts.sum() + len(together)) - counts
        tie = generator.permutation(len(names))
        chosen = max(range(len(names)), key=lambda k: (round(float(short[k]), 9), tie[k]))
        dealt[names[chosen]] += together

    cohorts = _cohorts(manifest, persons, whole)
    for cohort in cohorts:
        give([patient for person in cohort for patient in persons[person]], dict.fromkeys(names, 0))
    before = {name: len(dealt[name]) for name in names}
    others = sorted(persons.keys() - {person for cohort in cohorts for person in cohort}, key=order)
    reach = math.ceil(1 / share.min() - 1e-9)
    for start in range(0, len(others), reach):
        neighbours = others[start : start + reach]
        for index in generator.permutation(len(neighbours)):
            give(persons[neighbours[index]], before)
    return {name: tuple(sorted(group)) for name, group in dealt.items()}


def _cohorts(
    manifest: Manifest, persons: Mapping[str, Sequence[str]], whole: Sequence[str]
) -> list[list[str]]:
    """The persons of each whole collection, the largest first; those that share a person are one."""
    cohorts: list[set[str]] = []
    for collection in sorted(set(whole)):
        cohort = {
            person
            for person, patients in persons.items()
            if any(manifest.by_patient[name][0].collection == collection for name in patients)
        }
        for other in [other for other in cohorts if other & cohort]:
            cohorts.remove(other)
            cohort |= other
        if cohort:
            cohorts.append(cohort)
    cohorts.sort(key=lambda cohort: (-len(cohort), min(cohort)))
    return [sorted(cohort) for cohort in cohorts]


def _with_folds(split: Split, manifest: Manifest) -> Split:
    """The split, if every run by it has patients to train on and, where wanted, to select by."""
    if not 0 <= split.validation < 1:
        share = f"a validation share of {split.validation:g}"
        raise UsageError(share, remedy="choose 0 to below 1")
    needed = [TRAIN, VALIDATION] if split.validation else [TRAIN]
    for fold in split.groups:
        _refuse_empty(split.patients(manifest, fold), needed)
    return split


def _refuse_empty(groups: Mapping[str, tuple[str, ...]], needed: Sequence[str]) -> None:
    if empty := [name for name in needed if not groups[name]]:
        more = f" and {len(empty) - NAMED} more" if len(empty) > NAMED else ""
        raise UsageError(
            f"too few patients, none is left for {', '.join(empty[:NAMED])}{more}",
            remedy="choose fewer groups or other shares: --folds 2 --validation 0 for two patients; "
            "with one patient only --by slice works",
        )


def _check_whole(manifest: Manifest, whole: Sequence[str]) -> None:
    for name in whole:
        if name not in manifest.collections:
            remedy = "name collections: gliosight data index NAME=PATH"
            if manifest.collections:
                remedy = f"choose of {', '.join(manifest.collections)}"
            raise UsageError(f"no collection {printable(name)!r}", remedy=remedy)
