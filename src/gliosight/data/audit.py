"""What is wrong, or odd, in a data set and its split (data).

`audit` opens every file again, since what was indexed may have changed, and reports problems, each of a check
of `CHECKS`. docs/data.md says for each check what causes it and what to do.

Nearly one picture: a slice's FLAIR is averaged down to 32 x 32 pixels, its mean is taken off and its length
set to one; that is its *signature*. Two slices of different persons are near-duplicates when the product of
their signatures, the correlation of the small pictures, is at least 0.99. Other brightness and contrast,
noise, another depth and lossy compression stay above it. In the LGG set the most alike slices of two patients
reach 0.976. A picture that was moved, turned or mirrored is not found.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gliosight.analysis import Progress
from gliosight.data.manifest import NIFTI, Manifest, SliceRow
from gliosight.data.split import SLICE, Split
from gliosight.data.studies import (
    Pixels,
    file_sha256,
    read_labels,
    read_mask,
    read_picture,
    read_volume,
    size_text,
    values_of,
)
from gliosight.errors import GliosightError
from gliosight.read.limits import DEFAULT_LIMITS, Budget
from gliosight.read.slices import CHANNELS
from gliosight.study import MrSequence

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
# Pixels of a side of the small pictures, and their correlation from which two are nearly one picture.
SIDE, NEAR = 32, 0.99
# A slice whose small picture varies less than this part of its patient's range shows nothing.
BLANK_BELOW = 0.01
# Signatures that are multiplied at once, so that memory does not grow with the square of their number.
AT_ONCE = 1024


@dataclass(frozen=True)
class Problem:
    """One finding: the check's name, the patient or slice it concerns, and a sentence."""

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
        counts = Counter(problem.check for problem in self.problems)
        return {name: counts[name] for name in CHECKS}


@dataclass(frozen=True)
class _Pictures:
    """The slices that were read so far, for the checks that go across patients."""

    rows: list[SliceRow] = field(default_factory=list)
    signatures: list[NDArray[np.float32]] = field(default_factory=list)
    by_digest: dict[str, list[SliceRow]] = field(default_factory=lambda: defaultdict(list))

    def add(self, rows: Sequence[SliceRow], planes: list[NDArray[Any]]) -> NDArray[np.float32]:
        """Keep the signatures of one patient's slices; give them."""
        span = float(max(map(np.max, planes))) - float(min(map(np.min, planes)))
        signatures = signatures_of(planes, span)
        self.rows.extend(rows)
        self.signatures.extend(signatures)
        return signatures


def audit(
    manifest: Manifest, split: Split | None = None, progress: Progress | None = None
) -> Audit:
    """Check a data set, and that a split of it does not leak.

    Parameters
    ----------
    manifest : Manifest
    split : Split, optional
        As `read_split` gives it with ``strict=False``.
    progress : callable, optional
        Called with ``(stage, done, total)``, in slices.
    """
    problems: list[Problem] = []
    pictures = _Pictures()
    done = 0
    for patient, rows in manifest.by_patient.items():
        problems += _in_rows(patient, rows)
        check_files = _in_volumes if rows[0].kind == NIFTI else _in_pictures
        problems += check_files(manifest, rows, pictures)
        done += len(rows)
        if progress is not None:
            progress("audit", done, len(manifest.used))
    twins = [*_same_files(pictures), *_near_pictures(manifest, pictures)]
    problems += [problem for problem, _, _ in twins]
    if split is not None:
        problems += _in_split(manifest, split, [(first, second) for _, first, second in twins])
    problems += [
        Problem("excluded", row.key, f"excluded: {row.excluded}")
        for row in manifest.rows
        if row.excluded
    ]
    order = list(CHECKS)
    return Audit(tuple(sorted(problems, key=lambda problem: order.index(problem.check))))


def _in_rows(patient: str, rows: tuple[SliceRow, ...]) -> Iterator[Problem]:
    missing = sum(second.number - first.number - 1 for first, second in pairwise(rows))
    if missing:
        words = "slice number is" if missing == 1 else "slice numbers are"
        yield Problem("missing-slices", patient, f"{missing:,} {words} missing, or excluded")
    for row in rows:
        for path in (row.image, row.mask):
            if path and not names_patient(path, patient):
                yield Problem("id", row.key, f"the path names another patient: {path}")
    if any(row.tumour for row in rows):
        yield from _in_areas(patient, rows)
    elif not rows[0].tumour_free:
        slices = f"{len(rows)} slice{'s' if len(rows) > 1 else ''}"
        yield Problem("no-tumour", patient, f"no tumour pixel in {slices}")


def _in_areas(patient: str, rows: tuple[SliceRow, ...]) -> Iterator[Problem]:
    """What is odd in the tumour along the stack."""
    marked = [k for k, row in enumerate(rows) if row.tumour]
    for k in marked:
        if rows[k].area_px < TINY_PX:
            yield Problem("tiny", rows[k].key, f"tumour of {rows[k].area_px} pixels")
    for k, following in pairwise(marked):
        if following > k + 1:
            between = f"{rows[k].number} and {rows[following].number}"
            yield Problem("gap", patient, f"no tumour between slices {between}")
    largest = max(row.area_px for row in rows)
    for row, words in ((rows[0], "first"), (rows[-1], "last")):
        if row.area_px > CUT_OFF_FROM * largest:
            text = f"{row.area_px} tumour pixels on the {words} slice, {largest} on the largest"
            yield Problem("cut-off", patient, text)


def names_patient(path: str, patient: str) -> bool:
    """Whether a path's folders or its file's name hold the patient's name, and no longer one."""
    *folders, name = PurePosixPath(path).parts
    # P1 is not in P10_3.png, but img is in img003.png.
    end = r"(?![A-Za-z0-9])" if patient[-1:].isdigit() else r"(?![A-Za-z])"
    inside = re.search(rf"(?<![A-Za-z0-9]){re.escape(patient)}{end}", name)
    return patient in folders or inside is not None


def _in_pictures(
    manifest: Manifest, rows: tuple[SliceRow, ...], pictures: _Pictures
) -> Iterator[Problem]:
    planes: list[NDArray[Any]] = []
    sound: list[SliceRow] = []
    for row in rows:
        budget = Budget(DEFAULT_LIMITS)
        try:
            picture = read_picture(manifest.path(row.image), row.image, budget)
            mask = read_mask(manifest.path(row.mask), row.mask, budget) if row.mask else None
        except GliosightError as error:
            yield _unreadable(row, error)
            continue
        if picture.sha256 != row.sha256:
            yield _changed(row.key, row.image)
        if mask is not None:
            yield from _in_picture_mask(row, mask, picture.values.shape[:2])
        colour = picture.values.shape[-1] == len(CHANNELS)
        planes.append(picture.values[..., CHANNELS.index(MrSequence.FLAIR) if colour else 0])
        sound.append(row)
    if not planes:
        return
    usual = Counter(plane.shape for plane in planes).most_common(1)[0][0]
    for row, plane in zip(sound, planes, strict=True):
        if plane.shape != usual:
            sizes = f"{size_text(plane.shape)}, most of the patient's {size_text(usual)}"
            yield Problem("size", row.key, f"slice is {sizes}")
    for row, signature in zip(sound, pictures.add(sound, planes), strict=True):
        if signature.any():
            pictures.by_digest[row.sha256].append(row)


def _in_volumes(
    manifest: Manifest, rows: tuple[SliceRow, ...], pictures: _Pictures
) -> Iterator[Problem]:
    row, budget = rows[0], Budget(DEFAULT_LIMITS)
    try:
        flair = read_volume(manifest.path(row.image), row.image, budget).values
        mask = np.zeros(flair.shape, dtype=np.uint8)
        if row.mask:
            mask = np.asarray(read_labels(manifest.path(row.mask), row.mask, budget).values)
        for path, digest in row.digests.items():
            if file_sha256(manifest.path(path)) != digest:
                yield _changed(row.patient, path)
    except GliosightError as error:
        yield _unreadable(row, error)
        return
    if mask.shape != flair.shape or len(flair) != len(rows):
        sizes = f"mask is {size_text(mask.shape)}, FLAIR {size_text(flair.shape)}, rows {len(rows)}"
        yield Problem("size", row.patient, sizes)
        return
    values = values_of(mask)
    if any(value != int(value) or value < 0 for value in values):
        yield _odd_values(row.patient, values)
    for each in rows:
        yield from _in_mask(each, mask[each.number], flair.shape[1:])
    pictures.add(rows, [flair[each.number] for each in rows])
    pictures.by_digest[row.sha256].append(row)


def _in_mask(row: SliceRow, mask: NDArray[Any], size: tuple[int, ...]) -> Iterator[Problem]:
    if mask.shape != size:
        sizes = f"mask is {size_text(mask.shape)}, its picture {size_text(size)}"
        yield Problem("size", row.key, sizes)
    area = int(np.count_nonzero(mask))
    if area != row.area_px or row.tumour != (area > 0):
        indexed = f"{row.area_px} pixels, tumour {'yes' if row.tumour else 'no'}"
        yield Problem("label", row.key, f"mask has {area} tumour pixels, the manifest {indexed}")


def _in_picture_mask(row: SliceRow, mask: Pixels, size: tuple[int, ...]) -> Iterator[Problem]:
    if mask.sha256 != row.mask_sha256:
        yield _changed(row.key, row.mask)
    yield from _in_mask(row, mask.values, size)
    values = values_of(mask.values)
    if not (set(values) <= {0, 1} or set(values) <= {0, 255}):
        yield _odd_values(row.key, values)


def _odd_values(subject: str, values: tuple[float, ...]) -> Problem:
    listed = ", ".join(f"{value:g}" for value in values)
    return Problem("mask-values", subject, f"mask holds {listed}")


def _changed(subject: str, path: str) -> Problem:
    return Problem("changed", subject, f"changed since it was indexed: {path}")


def _unreadable(row: SliceRow, error: GliosightError) -> Problem:
    return Problem("unreadable", row.key, f"{error.what}: {error.where or row.image}")


# A problem, and the two slices of it that are one picture or nearly so.
_Twins = tuple[Problem, SliceRow, SliceRow]


def _same_files(pictures: _Pictures) -> Iterator[_Twins]:
    """Files there twice, byte for byte, by pair of patients; slices that show nothing do not count."""
    pairs: dict[tuple[str, str], list[tuple[SliceRow, SliceRow]]] = defaultdict(list)
    for rows in pictures.by_digest.values():
        for first, second in combinations(rows, 2):
            pairs[first.patient, second.patient].append((first, second))
    for same in pairs.values():
        first, second = same[0]
        text = f"{_many(len(same))} byte for byte in {second.patient}, such as {second.key}"
        yield Problem("duplicate", first.key, text), first, second


def _near_pictures(manifest: Manifest, pictures: _Pictures) -> Iterator[_Twins]:
    """Slices that are nearly one picture, by pair of patients; files there twice are left out."""
    if not pictures.rows:
        return
    persons = [manifest.person_of(row.patient) for row in pictures.rows]
    pairs: dict[tuple[str, str], list[tuple[float, SliceRow, SliceRow]]] = defaultdict(list)
    for i, j, alike in near_pairs(np.stack(pictures.signatures), persons):
        first, second = pictures.rows[i], pictures.rows[j]
        if first.sha256 != second.sha256:
            pairs[first.patient, second.patient].append((alike, first, second))
    for near in pairs.values():
        alike, first, second = max(near, key=lambda pair: pair[0])
        most = f"most of all {second.key} ({alike:.3f})"
        text = f"{_many(len(near))} nearly in {second.patient}, {most}"
        yield Problem("near-duplicate", first.key, text), first, second


def _many(pairs: int) -> str:
    return "this picture is" if pairs == 1 else f"{pairs:,} pictures of this patient are"


def signatures_of(planes: Sequence[NDArray[Any]], span: float) -> NDArray[np.float32]:
    """The small pictures of one patient's slices, without mean and of length one; blank ones all 0.

    Parameters
    ----------
    planes : sequence of (rows, columns) array
    span : float
        The patient's range of values: its largest less its smallest.

    Returns
    -------
    (slices, 1024) array
    """
    small = np.stack(
        [
            np.asarray(
                Image.fromarray(plane.astype(np.float32)).resize(
                    (SIDE, SIDE), Image.Resampling.BOX
                ),
                dtype=np.float32,
            ).ravel()
            for plane in planes
        ]
    )
    centred = small - small.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    blank = length <= BLANK_BELOW * span * SIDE
    signatures: NDArray[np.float32] = np.where(blank, 0, centred / np.where(blank, 1, length))
    return signatures.astype(np.float32)


def near_pairs(
    signatures: NDArray[np.float32], owners: Sequence[str]
) -> Iterator[tuple[int, int, float]]:
    """Pairs of slices of different owners that are nearly one picture: first, second, correlation.

    Parameters
    ----------
    signatures : (slices, 1024) array
    owners : sequence of str
        Whose each slice is.
    """
    owner = np.unique(np.asarray(owners), return_inverse=True)[1]
    for start in range(0, len(signatures), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        # Blocks on and right of the diagonal: each pair is looked at once.
        for other in range(start, len(signatures), AT_ONCE):
            columns = slice(other, other + AT_ONCE)
            alike = signatures[rows] @ signatures[columns].T
            near = (alike >= NEAR) & (owner[rows, None] != owner[None, columns])
            for i, j in np.argwhere(near):
                first, second = start + int(i), other + int(j)
                if first < second:
                    yield first, second, min(float(alike[i, j]), 1.0)


def _in_split(
    manifest: Manifest, split: Split, twins: list[tuple[SliceRow, SliceRow]]
) -> Iterator[Problem]:
    groups: dict[str, set[str]] = defaultdict(set)
    for name, keys in split.groups.items():
        for key in keys:
            groups[key].add(name)
    sides = {row.key: groups.get(split.key_of(row), set()) for row in manifest.used}
    yield from _in_cover(manifest, split, sides)
    yield from _in_sides(manifest, split, sides)
    for first, second in twins:
        names = sides[first.key] | sides[second.key]
        if first.patient != second.patient and len(names) > 1:
            text = f"one picture with {second.key}, in {_listed(names)}"
            yield Problem("split", first.key, text)


def _in_cover(manifest: Manifest, split: Split, sides: dict[str, set[str]]) -> Iterator[Problem]:
    """Whether the split is of this manifest, and of all of it."""
    if split.manifest_sha256 != manifest.sha256:
        yield Problem("split", "split", "the split was made from another manifest")
    if left_out := [key for key, names in sides.items() if not names]:
        text = f"the split says nothing of {len(left_out):,} slices, such as {left_out[0]}"
        yield Problem("split", "split", text)
    known = set(sides) if split.by == SLICE else set(manifest.patients)
    if unknown := sorted({key for keys in split.groups.values() for key in keys} - known):
        text = f"the split names {len(unknown):,} that are not used, such as {unknown[0]}"
        yield Problem("split", "split", text)


def _in_sides(manifest: Manifest, split: Split, sides: dict[str, set[str]]) -> Iterator[Problem]:
    """Persons, and collections that are to stay whole, on several sides."""
    persons: dict[str, set[str]] = defaultdict(set)
    studies: dict[str, set[str]] = defaultdict(set)
    cohorts: dict[str, set[str]] = defaultdict(set)
    for row in manifest.used:
        person = manifest.person_of(row.patient)
        persons[person] |= sides[row.key]
        studies[person].add(row.patient)
        if row.collection in split.whole:
            cohorts[row.collection] |= sides[row.key]
    for person, names in persons.items():
        if len(names) > 1:
            subject = " and ".join(sorted(studies[person]))
            yield Problem("split", subject, f"stands in {_listed(names)}")
    for collection, names in cohorts.items():
        if len(names) > 1:
            text = f"is to stay whole, and stands in {_listed(names)}"
            yield Problem("split", collection, text)


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
