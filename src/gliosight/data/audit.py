"""What is wrong, or odd, in a data set (data).

In: a `Manifest`, and a `Split` if there is one. Out: a frozen `Audit`: problems, each of a check of
`CHECKS`. Every file is opened again: what was indexed may have changed since. docs/data.md says for each
check what causes it and what to do.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import combinations, pairwise
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.data.manifest import NIFTI, Manifest, SliceRow
from gliosight.data.neighbours import near_pairs, normalise, signature_of
from gliosight.data.pixels import (
    Pixels,
    file_sha256,
    read_labels,
    read_mask,
    read_picture,
    read_volume,
    values_of,
)
from gliosight.data.split import SLICE, Split
from gliosight.errors import GliosightError
from gliosight.read.limits import DEFAULT_LIMITS, Budget
from gliosight.read.slices import CHANNELS
from gliosight.study import Sequence

CHECKS = {
    "unreadable": "files that are missing or cannot be decoded",
    "changed": "files that are not the ones that were indexed",
    "size": "masks of another size than their picture, or slices than their patient's others",
    "label": "rows whose tumour area is not the mask's",
    "mask-values": "masks with other values than 0 and 255, or 0 and 1",
    "no-tumour": "patients without a tumour pixel",
    "tiny": "slices with a tumour of a few pixels",
    "gap": "patients whose tumour slices do not follow each other",
    "cut-off": "patients whose tumour is still large on the first or last slice",
    "missing-slices": "patients whose slice numbers have gaps",
    "id": "rows whose patient is not the one that the path names",
    "duplicate": "pictures that are there twice",
    "near-duplicate": "slices of two patients that are nearly one picture",
    "split": "persons, whole collections or pictures of one person on both sides of the split",
    "excluded": "rows that the manifest excludes",
}
# Fewer tumour pixels than this on a slice are more likely a slip of the pen.
TINY_PX = 20
# A tumour on the first or last slice that has this part of the patient's largest area is cut off.
CUT_OFF_FROM = 0.1

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Problem:
    """One thing found: the check's name, whom it concerns, and a sentence."""

    check: str
    subject: str
    text: str


@dataclass(frozen=True)
class Audit:
    """All problems, in the order of `CHECKS`."""

    problems: tuple[Problem, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Number of problems of each check, those without any included."""
        found = Counter(one.check for one in self.problems)
        return {name: found[name] for name in CHECKS}

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return {"counts": self.counts, "problems": [asdict(one) for one in self.problems]}


@dataclass
class _Seen:
    """What was seen of the files so far: for the checks that go across patients."""

    rows: list[SliceRow] = field(default_factory=list)
    signatures: list[NDArray[np.float32]] = field(default_factory=list)
    by_digest: dict[str, list[SliceRow]] = field(default_factory=lambda: defaultdict(list))


def audit(manifest: Manifest, split: Split | None = None, tell: Tell | None = None) -> Audit:
    """Check a data set, and that a split of it does not leak.

    Parameters
    ----------
    manifest : Manifest
    split : Split, optional
        As `read_split` gives it with ``strict=False``.
    tell : callable, optional
        Told how many slices are done and how many there are.
    """
    problems: list[Problem] = []
    seen = _Seen()
    done = 0
    for patient, rows in manifest.by_patient.items():
        problems += _of_rows(patient, rows)
        if rows[0].kind == NIFTI:
            problems += _of_volumes(manifest, rows, seen)
        else:
            problems += _of_pictures(manifest, rows, seen)
        done += len(rows)
        if tell is not None:
            tell(done, len(manifest.used))
    twins = [*_same_files(seen), *_near_pictures(manifest, seen)]
    problems += [one.problem for one in twins]
    if split is not None:
        problems += _of_split(manifest, split, twins)
    problems += [
        Problem("excluded", row.key, f"excluded: {row.excluded}")
        for row in manifest.rows
        if row.excluded
    ]
    order = list(CHECKS)
    return Audit(tuple(sorted(problems, key=lambda one: order.index(one.check))))


# --- rows alone ----------------------------------------------------------------------------------


def _of_rows(patient: str, rows: tuple[SliceRow, ...]) -> Iterator[Problem]:
    missing = sum(two.number - one.number - 1 for one, two in pairwise(rows))
    if missing:
        words = "slice number is" if missing == 1 else "slice numbers are"
        yield Problem("missing-slices", patient, f"{missing:,} {words} missing, or excluded")
    for row in rows:
        for path in (row.image, row.mask):
            if path and not _names(patient, path):
                yield Problem("id", row.key, f"the path names another patient: {path}")
    if any(row.tumour for row in rows):
        yield from _of_areas(patient, rows)
    elif not rows[0].tumour_free:
        yield Problem(
            "no-tumour",
            patient,
            f"no tumour pixel in {len(rows)} slice{'s' if len(rows) > 1 else ''}",
        )


def _of_areas(patient: str, rows: tuple[SliceRow, ...]) -> Iterator[Problem]:
    """The tumour along the stack; there is one."""
    marked = [k for k, row in enumerate(rows) if row.tumour]
    largest = max(row.area_px for row in rows)
    for k in marked:
        if rows[k].area_px < TINY_PX:
            yield Problem("tiny", rows[k].key, f"tumour of {rows[k].area_px} pixels")
    for one, two in pairwise(marked):
        if two > one + 1:
            between = f"{rows[one].number} and {rows[two].number}"
            yield Problem("gap", patient, f"no tumour between slices {between}")
    for row, words in ((rows[0], "first"), (rows[-1], "last")):
        if row.area_px > CUT_OFF_FROM * largest:
            text = f"{row.area_px} tumour pixels on the {words} slice, {largest} on the largest"
            yield Problem("cut-off", patient, text)


def _names(patient: str, path: str) -> bool:
    """Whether a path's folders or its file's name hold the patient's name, and no longer one."""
    *folders, name = PurePosixPath(path).parts
    # P1 is not in P10_3.png, but img is in img003.png.
    ends = r"(?![A-Za-z0-9])" if patient[-1:].isdigit() else r"(?![A-Za-z])"
    return patient in folders or bool(
        re.search(rf"(?<![A-Za-z0-9]){re.escape(patient)}{ends}", name)
    )


# --- files ---------------------------------------------------------------------------------------


def _of_pictures(manifest: Manifest, rows: tuple[SliceRow, ...], seen: _Seen) -> Iterator[Problem]:
    planes: list[NDArray[Any]] = []
    good: list[SliceRow] = []
    for row in rows:
        budget = Budget(DEFAULT_LIMITS)
        try:
            picture = read_picture(manifest.path(row.image), row.image, budget)
            mask = read_mask(manifest.path(row.mask), row.mask, budget) if row.mask else None
        except GliosightError as error:
            yield _unreadable(row, error)
            continue
        if picture.sha256 != row.sha256:
            yield _changed(row, row.image)
        if mask is not None:
            yield from _of_picture_mask(row, mask, picture.values.shape[:2])
        channels = picture.values.shape[-1]
        place = CHANNELS.index(Sequence.FLAIR) if channels == len(CHANNELS) else 0
        planes.append(picture.values[..., place])
        good.append(row)
    usual = Counter(one.shape for one in planes).most_common(1)
    for row, plane in zip(good, planes, strict=True):
        if plane.shape != usual[0][0]:
            text = f"slice is {_size(plane.shape)}, most of the patient's {_size(usual[0][0])}"
            yield Problem("size", row.key, text)
    for row, signature in _remember(seen, good, planes):
        if signature.any():
            seen.by_digest[row.sha256].append(row)


def _of_volumes(manifest: Manifest, rows: tuple[SliceRow, ...], seen: _Seen) -> Iterator[Problem]:
    row, budget = rows[0], Budget(DEFAULT_LIMITS)
    try:
        flair = read_volume(manifest.path(row.image), row.image, budget).values
        mask = np.zeros(flair.shape, dtype=np.uint8)
        if row.mask:
            mask = read_labels(manifest.path(row.mask), row.mask, budget).values
        for path, wanted in (
            (row.image, row.sha256),
            (row.mask, row.mask_sha256),
            (row.t1, row.t1_sha256),
            (row.t1c, row.t1c_sha256),
        ):
            if path and file_sha256(manifest.path(path)) != wanted:
                yield Problem("changed", row.patient, f"changed since it was indexed: {path}")
    except GliosightError as error:
        yield _unreadable(row, error)
        return
    if mask.shape != flair.shape or len(flair) != len(rows):
        text = f"mask is {_size(mask.shape)}, FLAIR {_size(flair.shape)}, rows {len(rows)}"
        yield Problem("size", row.patient, text)
        return
    values = values_of(np.asarray(mask))
    if any(one != int(one) or one < 0 for one in values):
        yield Problem("mask-values", row.patient, f"mask holds {_listed(values)}")
    for one in rows:
        yield from _of_mask(one, mask[one.number], flair.shape[1:])
    _remember(seen, list(rows), [flair[one.number] for one in rows])
    seen.by_digest[row.sha256].append(row)


def _of_mask(row: SliceRow, mask: NDArray[Any], size: tuple[int, ...]) -> Iterator[Problem]:
    if mask.shape != size:
        yield Problem("size", row.key, f"mask is {_size(mask.shape)}, its picture {_size(size)}")
    area = int(np.count_nonzero(mask))
    if area != row.area_px or row.tumour != (area > 0):
        told = f"{row.area_px} pixels, tumour {'yes' if row.tumour else 'no'}"
        yield Problem("label", row.key, f"mask has {area} tumour pixels, the manifest {told}")


def _of_picture_mask(row: SliceRow, mask: Pixels, size: tuple[int, ...]) -> Iterator[Problem]:
    if mask.sha256 != row.mask_sha256:
        yield _changed(row, row.mask)
    yield from _of_mask(row, mask.values, size)
    values = values_of(mask.values)
    if not (set(values) <= {0, 1} or set(values) <= {0, 255}):
        yield Problem("mask-values", row.key, f"mask holds {_listed(values)}")


def _changed(row: SliceRow, path: str) -> Problem:
    return Problem("changed", row.key, f"changed since it was indexed: {path}")


def _unreadable(row: SliceRow, error: GliosightError) -> Problem:
    return Problem("unreadable", row.key, f"{error.what}: {error.where or row.image}")


def _remember(
    seen: _Seen, rows: list[SliceRow], planes: list[NDArray[Any]]
) -> list[tuple[SliceRow, NDArray[np.float32]]]:
    """Keep the signatures of one patient's slices, and give them with their rows."""
    if not planes:
        return []
    span = float(max(one.max() for one in planes)) - float(min(one.min() for one in planes))
    signatures = normalise(np.stack([signature_of(one) for one in planes]), span)
    seen.rows += rows
    seen.signatures += list(signatures)
    return list(zip(rows, signatures, strict=True))


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{one:g}" for one in values)


# --- across patients -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Twins:
    """Two patients (or one, twice) that share pictures."""

    problem: Problem
    first: SliceRow
    second: SliceRow


def _same_files(seen: _Seen) -> Iterator[_Twins]:
    """Files there twice, byte for byte, by pair of patients; slices that show nothing do not count."""
    pairs: dict[tuple[str, str], list[tuple[SliceRow, SliceRow]]] = defaultdict(list)
    for rows in seen.by_digest.values():
        for one, other in combinations(rows, 2):
            pairs[one.patient, other.patient].append((one, other))
    for found in pairs.values():
        one, other = found[0]
        text = f"{_many(len(found))} byte for byte in {other.patient}, such as {other.key}"
        yield _Twins(Problem("duplicate", one.key, text), one, other)


def _near_pictures(manifest: Manifest, seen: _Seen) -> Iterator[_Twins]:
    """Slices that are nearly one picture, by pair of patients; files there twice are left out."""
    if not seen.rows:
        return
    owners = [manifest.person_of(row.patient) for row in seen.rows]
    pairs: dict[tuple[str, str], list[tuple[float, SliceRow, SliceRow]]] = defaultdict(list)
    for i, j, alike in near_pairs(np.stack(seen.signatures), owners):
        one, other = seen.rows[i], seen.rows[j]
        if one.sha256 != other.sha256:
            pairs[one.patient, other.patient].append((alike, one, other))
    for found in pairs.values():
        alike, one, other = max(found, key=lambda pair: pair[0])
        text = (
            f"{_many(len(found))} nearly in {other.patient}, most of all {other.key} ({alike:.3f})"
        )
        yield _Twins(Problem("near-duplicate", one.key, text), one, other)


def _many(pairs: int) -> str:
    return "this picture is" if pairs == 1 else f"{pairs:,} pictures of this patient are"


# --- the split -----------------------------------------------------------------------------------


def _of_split(manifest: Manifest, split: Split, twins: list[_Twins]) -> Iterator[Problem]:
    groups: dict[str, set[str]] = defaultdict(set)
    for name, keys in split.groups.items():
        for key in keys:
            groups[key].add(name)
    of_row = {
        row.key: groups.get(row.key if split.by == SLICE else row.patient, set())
        for row in manifest.used
    }
    yield from _of_cover(manifest, split, set(groups), of_row)
    yield from _of_sides(manifest, split, of_row)
    for one in twins:
        names = of_row[one.first.key] | of_row[one.second.key]
        if one.first.patient != one.second.patient and len(names) > 1:
            text = f"one picture with {one.second.key}, in {', '.join(sorted(names))}"
            yield Problem("split", one.first.key, text)


def _of_sides(manifest: Manifest, split: Split, of_row: dict[str, set[str]]) -> Iterator[Problem]:
    """Persons, and collections that are to stay whole, on several sides."""
    persons: dict[str, set[str]] = defaultdict(set)
    studies: dict[str, set[str]] = defaultdict(set)
    cohorts: dict[str, set[str]] = defaultdict(set)
    for row in manifest.used:
        person = manifest.person_of(row.patient)
        persons[person] |= of_row[row.key]
        studies[person].add(row.patient)
        if row.collection in split.whole:
            cohorts[row.collection] |= of_row[row.key]
    for person, names in persons.items():
        if len(names) > 1:
            subject = " and ".join(sorted(studies[person]))
            yield Problem("split", subject, f"stands in {', '.join(sorted(names))}")
    for collection, names in cohorts.items():
        if len(names) > 1:
            text = f"is to stay whole, and stands in {', '.join(sorted(names))}"
            yield Problem("split", collection, text)


def _of_cover(
    manifest: Manifest, split: Split, named: set[str], of_row: dict[str, set[str]]
) -> Iterator[Problem]:
    """Whether the split is of this manifest, and of all of it."""
    if split.manifest_sha256 != manifest.sha256:
        yield Problem("split", "split", "the split was made from another manifest")
    if left_out := [key for key, names in of_row.items() if not names]:
        text = f"the split says nothing of {len(left_out):,} slices, such as {left_out[0]}"
        yield Problem("split", "split", text)
    known = set(of_row) if split.by == SLICE else set(manifest.patients)
    if unknown := sorted(named - known):
        text = f"the split names {len(unknown):,} that are not used, such as {unknown[0]}"
        yield Problem("split", "split", text)
