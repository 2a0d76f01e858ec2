"""What is wrong, or odd, in a data set and its split (data).

`audit` opens every file again, since what was indexed may have changed, and reports problems, each of a check
of `CHECKS`. docs/data.md says for each check what causes it and what to do.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
    read_row,
    read_row_mask,
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
# Fewer tumour pixels than this on a slice are more likely a drawing error.
TINY_PX = 20
# A tumour on the first or last slice that has this part of the patient's largest area is cut off.
CUT_OFF_FROM = 0.1
# Pixels of a side of the small pictures, and their correlation from which two are nearly one picture. In the
# LGG set the most alike slices of two patients reach 0.976.
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


def audit(
    manifest: Manifest, split: Split | None = None, progress: Progress | None = None
) -> Audit:
    """Check a data set, and that a split of it (read with ``strict=False``) does not leak."""
    problems: list[Problem] = []
    sound: list[SliceRow] = []
    signatures: list[NDArray[np.float32]] = []
    done = 0
    for rows in manifest.by_patient.values():
        problems += [*_in_rows(rows), *_in_areas(rows)]
        readable, planes = _check_files(manifest, rows, problems)
        if planes:
            sound += readable
            signatures += [*signatures_of(planes)]
        done += len(rows)
        if progress is not None:
            progress("audit", done, len(manifest.used))
    twins = _twins(manifest, sound, signatures)
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


def _in_rows(rows: tuple[SliceRow, ...]) -> Iterator[Problem]:
    patient = rows[0].patient
    missing = sum(second.number - first.number - 1 for first, second in pairwise(rows))
    if missing:
        words = "slice number is" if missing == 1 else "slice numbers are"
        yield Problem("missing-slices", patient, f"{missing:,} {words} missing, or excluded")
    for row in rows:
        for path in (row.image, row.mask):
            if path and not names_patient(path, patient):
                yield Problem("id", row.key, f"the path names another patient: {path}")


def names_patient(path: str, patient: str) -> bool:
    """Whether a path's folders or its file's name hold the patient's name, and no longer one."""
    *folders, name = PurePosixPath(path).parts
    # P1 is not in P10_3.png, but img is in img003.png.
    end = r"(?![A-Za-z0-9])" if patient[-1:].isdigit() else r"(?![A-Za-z])"
    inside = re.search(rf"(?<![A-Za-z0-9]){re.escape(patient)}{end}", name)
    return patient in folders or inside is not None


def _in_areas(rows: tuple[SliceRow, ...]) -> Iterator[Problem]:
    """What is odd in the tumour along the stack."""
    patient = rows[0].patient
    marked = [k for k, row in enumerate(rows) if row.tumour]
    if not marked:
        slices = f"{len(rows)} slice{'s' if len(rows) > 1 else ''}"
        if not rows[0].tumour_free:
            yield Problem("no-tumour", patient, f"no tumour pixel in {slices}")
        return
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


def _images_of(
    manifest: Manifest, row: SliceRow, budget: Budget
) -> tuple[NDArray[Any], NDArray[Any], dict[str, str]]:
    """FLAIR and mask, (slices, rows, columns), and the digests of those files that were read whole."""
    images = {row.image: read_row(manifest, row, budget)}
    flair = np.asarray(images[row.image].values)
    if row.kind != NIFTI:
        colour = flair.shape[-1] == len(CHANNELS)
        flair = flair[None, ..., CHANNELS.index(MrSequence.FLAIR) if colour else 0]
    mask = np.zeros(flair.shape, dtype=np.uint8)
    if row.mask:
        images[row.mask] = read_row_mask(manifest, row, budget)
        mask = np.asarray(images[row.mask].values)
        mask = mask if row.kind == NIFTI else mask[None]
    known = {path: image.sha256 for path, image in images.items() if isinstance(image, Pixels)}
    return flair, mask, known


def _check_files(
    manifest: Manifest, rows: tuple[SliceRow, ...], problems: list[Problem]
) -> tuple[list[SliceRow], list[NDArray[Any]]]:
    """Check the files of one patient; the rows that can be read, and their FLAIR."""
    is_volume = rows[0].kind == NIFTI
    readable: list[SliceRow] = []
    planes: list[NDArray[Any]] = []
    # A volume is one file for all rows, a picture a stack of one slice.
    for group in [rows] if is_volume else [(row,) for row in rows]:
        row, budget = group[0], Budget(DEFAULT_LIMITS)
        subject = row.patient if is_volume else row.key
        try:
            flair, mask, known = _images_of(manifest, row, budget)
            for path, digest in row.digests.items():
                if (known.get(path) or file_sha256(manifest.path(path))) != digest:
                    text = f"changed since it was indexed: {path}"
                    problems.append(Problem("changed", subject, text))
        except GliosightError as error:
            text = f"{error.what}: {error.where or row.image}"
            problems.append(Problem("unreadable", row.key, text))
            continue
        if is_volume and (mask.shape != flair.shape or len(flair) != len(rows)):
            shapes = f"{size_text(mask.shape)}, FLAIR {size_text(flair.shape)}, rows {len(rows)}"
            problems.append(Problem("size", subject, f"mask is {shapes}"))
            continue
        if mask.shape != flair.shape:
            shapes = f"{size_text(mask.shape[1:])}, its picture {size_text(flair.shape[1:])}"
            problems.append(Problem("size", subject, f"mask is {shapes}"))
        problems += _in_mask(group, mask, subject)
        readable += group
        planes += list(flair)
    sizes = [size_text(plane.shape) for plane in planes]
    usual = max(sizes, key=sizes.count, default="")
    problems += [
        Problem("size", row.key, f"slice is {size}, most of the patient's {usual}")
        for row, size in zip(readable, sizes, strict=True)
        if size != usual
    ]
    return readable, planes


def _in_mask(rows: tuple[SliceRow, ...], mask: NDArray[Any], subject: str) -> Iterator[Problem]:
    """What is odd in the mask of a volume, or of one picture."""
    values = values_of(mask)
    sound = set(values) <= {0, 1} or set(values) <= {0, 255}
    if rows[0].kind == NIFTI:  # labels
        sound = all(value == int(value) and value >= 0 for value in values)
    if not sound:
        listed = ", ".join(f"{value:g}" for value in values)
        yield Problem("mask-values", subject, f"mask holds {listed}")
    for row, plane in zip(rows, mask, strict=True):
        area = int(np.count_nonzero(plane))
        if area != row.area_px or row.tumour != (area > 0):
            indexed = f"{row.area_px} pixels, tumour {'yes' if row.tumour else 'no'}"
            text = f"mask has {area} tumour pixels, the manifest {indexed}"
            yield Problem("label", row.key, text)


def _twins(
    manifest: Manifest, rows: list[SliceRow], signatures: list[NDArray[np.float32]]
) -> list[tuple[Problem, SliceRow, SliceRow]]:
    """Pictures there twice, byte for byte or nearly: a problem and two slices for each pair of patients."""
    if not rows:
        return []
    by_digest: dict[str, list[SliceRow]] = defaultdict(list)
    for row, signature in zip(rows, signatures, strict=True):
        # The slices of a volume are one file; pictures that show nothing do not count.
        is_first = row is manifest.by_patient[row.patient][0]
        if is_first if row.kind == NIFTI else signature.any():
            by_digest[row.sha256].append(row)
    persons = [manifest.person_of(row.patient) for row in rows]
    pairs = [
        (1.0, "duplicate", *pair) for same in by_digest.values() for pair in combinations(same, 2)
    ]
    pairs += [
        (alike, "near-duplicate", rows[i], rows[j])
        for i, j, alike in near_pairs(np.stack(signatures), persons)
        if rows[i].sha256 != rows[j].sha256
    ]
    by_patients: dict[tuple[str, str, str], list[tuple[float, str, SliceRow, SliceRow]]] = {}
    for pair in pairs:
        key = pair[1], pair[2].patient, pair[3].patient
        by_patients.setdefault(key, []).append(pair)
    twins: list[tuple[Problem, SliceRow, SliceRow]] = []
    for group in by_patients.values():
        alike, check, first, second = max(group, key=lambda pair: pair[0])
        how = f"byte for byte in {second.patient}, such as {second.key}"
        if check == "near-duplicate":
            how = f"nearly in {second.patient}, most of all {second.key} ({alike:.3f})"
        many = f"{len(group):,} pictures of this patient are"
        text = f"{'this picture is' if len(group) == 1 else many} {how}"
        twins.append((Problem(check, first.key, text), first, second))
    return twins


def signatures_of(planes: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """One patient's slices as small pictures without mean and of length one; blank ones all 0.

    The product of two signatures is the correlation of the small pictures: brightness, contrast, noise,
    depth and compression hardly change it.
    """
    pictures = (Image.fromarray(plane.astype(np.float32)) for plane in planes)
    resized = (picture.resize((SIDE, SIDE), Image.Resampling.BOX) for picture in pictures)
    small = np.stack([np.asarray(picture, dtype=np.float32).ravel() for picture in resized])
    span = float(max(map(np.max, planes))) - float(min(map(np.min, planes)))
    centred = small - small.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    blank = length <= BLANK_BELOW * span * SIDE
    signatures: NDArray[np.float32] = np.where(blank, 0, centred / np.where(blank, 1, length))
    return signatures.astype(np.float32)


def near_pairs(
    signatures: NDArray[np.float32], owners: Sequence[str]
) -> Iterator[tuple[int, int, float]]:
    """Pairs of slices of different owners that are nearly one picture: first, second, correlation."""
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
    """What the split leaves out, and who or what is on several of its sides."""
    groups: dict[str, set[str]] = defaultdict(set)
    for name, keys in split.groups.items():
        for key in keys:
            groups[key].add(name)
    sides = {row.key: groups.get(split.key_of(row), set()) for row in manifest.used}
    if split.manifest_sha256 != manifest.sha256:
        yield Problem("split", "split", "the split was made from another manifest")
    if left_out := [key for key, names in sides.items() if not names]:
        text = f"the split does not name {len(left_out):,} slices, such as {left_out[0]}"
        yield Problem("split", "split", text)
    used = set(sides) if split.by == SLICE else set(manifest.patients)
    if unknown := sorted(groups.keys() - used):
        text = f"the split names {len(unknown):,} that are not used, such as {unknown[0]}"
        yield Problem("split", "split", text)
    yield from _on_several_sides(manifest, split, sides)
    for first, second in twins:
        names = sides[first.key] | sides[second.key]
        if first.patient != second.patient and len(names) > 1:
            text = f"one picture with {second.key}, in {', '.join(sorted(names))}"
            yield Problem("split", first.key, text)


def _on_several_sides(
    manifest: Manifest, split: Split, sides: dict[str, set[str]]
) -> Iterator[Problem]:
    """Persons, and collections that are to stay whole."""
    persons: dict[str, set[str]] = defaultdict(set)
    studies: dict[str, set[str]] = defaultdict(set)
    collections: dict[str, set[str]] = defaultdict(set)
    for row in manifest.used:
        person = manifest.person_of(row.patient)
        persons[person] |= sides[row.key]
        studies[person].add(row.patient)
        if row.collection in split.whole:
            collections[row.collection] |= sides[row.key]
    checked = [(" and ".join(sorted(studies[person])), "", persons[person]) for person in persons]
    checked += [(name, "is to stay whole, and ", collections[name]) for name in collections]
    for subject, words, names in checked:
        if len(names) > 1:
            yield Problem("split", subject, f"{words}stands in {', '.join(sorted(names))}")
