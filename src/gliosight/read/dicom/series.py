"""The series of a study: each one stack of parallel slices, with what it shows (read stage, DICOM).

`grouping` says which instances are a series, `split` which of its frames are a stack; here each stack gets
its geometry in gliosight's RAS+, what it shows, and what was odd about it. A series that cannot be analysed
is there too, with the reason. Nothing is resampled and nothing is filled in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gliosight.errors import GliosightError, UnsupportedInputError, printable
from gliosight.flags import flag
from gliosight.read.checks import lone_slice
from gliosight.read.dicom.acquisition import (
    Frame,
    across_midnight,
    earliest,
    frame_count,
    frames_of,
)
from gliosight.read.dicom.elements import damaged, integer, stored
from gliosight.read.dicom.files import EXPORTED_TWICE
from gliosight.read.dicom.grouping import SeriesKey, StudyKey, group_instances
from gliosight.read.dicom.instances import MR_IMAGES, Instance, is_lossy, is_mr_image, refusal
from gliosight.read.dicom.order import gaps_of, geometry_of, in_order, is_placed, order_of
from gliosight.read.dicom.pixels import unreadable_value
from gliosight.read.dicom.rules import Identified, identify
from gliosight.read.dicom.split import Part, by_key, image_kind, split, why_no_stack
from gliosight.study import Flag, Geometry

# Characters of a description that are kept.
DESCRIPTION = 64
GREY = ("MONOCHROME1", "MONOCHROME2", "")  # absent: taken as grey


@dataclass(frozen=True, eq=False)
class Series:
    """One stack of parallel slices."""

    whole: SeriesKey  # what its stacks have in common, and nothing else has
    part: str  # "", or what tells it from the other stacks of its series: "echo 2", "time 3 of 60"
    number: int | None
    description: str  # printable and shortened; never in errors and flags: it may hold a name
    frames: tuple[Frame, ...]  # along the normal, one for each position
    geometry: Geometry | None  # RAS+ mm; None where the headers have none that makes sense
    frame_of_reference: str | None  # None also where its images name several
    # When its first frame was acquired, see `Acquisition.acquired`; within a study without dates, a time
    # after midnight is more than a day.
    acquired: float | None
    shape: tuple[int, int, int]  # (slices, rows, columns); zeros for what has no pixels
    identified: Identified
    error: GliosightError | None  # why it cannot be analysed although it is an image
    flags: tuple[Flag, ...]
    unplaced: bool = False  # its images have one position, which is the error; see `as_named`

    @property
    def usable(self) -> bool:
        """Whether it may be analysed."""
        return self.identified.usable and self.error is None

    @property
    def uid(self) -> str:
        """SeriesInstanceUID; ``""`` if it has no value."""
        return self.whole.uid

    @property
    def uids(self) -> frozenset[str]:
        """All SeriesInstanceUIDs that its images name: several only where they were joined."""
        if self.whole.joined == 1:
            return frozenset({self.uid})
        return frozenset(_values(self.frames, "SeriesInstanceUID"))

    @property
    def place(self) -> str:
        """How messages name it."""
        # Never by its UID: that is identity, and this stands in results.
        name = "a series without number" if self.number is None else f"series {self.number}"
        return f"{name}, {self.part}" if self.part else name

    def beside(self, other: Series) -> str:
        """How messages name it after another, which may have the same number."""
        if self.place != other.place:
            return self.place
        count = f"{self.shape[0]} slice{'s' if self.shape[0] > 1 else ''}"
        return f"another {self.place.removeprefix('a ')} ({count})"


def series_of(instances: Iterable[Instance]) -> dict[StudyKey, tuple[Series, ...]]:
    """Sort instances, without copies as `discover` gives them, into studies and series.

    Returns
    -------
    dict of StudyKey to tuple of Series
        Series in order of their numbers, stacks of one series in the order of their directions, echoes,
        times.
    """
    studies = {}
    for study, groups in group_instances(instances).items():
        stacks = [stack for key, group in groups.items() for stack in _stacks(key, group)]
        stacks.sort(key=lambda stack: (stack.number is None, stack.number or 0, stack.uid))
        named = {(stack.whole, stack.frame_of_reference) for stack in stacks}
        worlds = [world for _, world in named if world is not None]
        if study.joined > 1 and len(set(worlds)) == len(worlds):
            # Each series of the joined studies has a frame of reference of its own: that was replaced, too.
            stacks = [replace(stack, frame_of_reference=None) for stack in stacks]
        studies[study] = _in_one_day(stacks)
    return studies


def _in_one_day(stacks: Sequence[Series]) -> tuple[Series, ...]:
    """Series whose times can be compared also across midnight.

    A time that all of them have is no time: who removes dates writes 000000.
    """
    known = [stack.acquired for stack in stacks if stack.acquired is not None]
    if len(set(known)) == 1 and len({stack.whole for stack in stacks}) > 1:
        return tuple(replace(stack, acquired=None) for stack in stacks)
    moved: dict[float | None, float] = dict(zip(known, across_midnight(known), strict=True))
    return tuple(replace(stack, acquired=moved.get(stack.acquired)) for stack in stacks)


def _stacks(key: SeriesKey, instances: Sequence[Instance]) -> list[Series]:
    """The stacks of one series."""
    frames = [frame for image in sorted(instances, key=_numbers) for frame in frames_of(image)]
    parts = split(frames)
    kinds = [image_kind(part.frames[0].acquisition) for part in parts]
    fields = any("field" in kind or kind.startswith("b0") for kind in kinds)
    turns = {word for part in parts for word in part.words if word.startswith("orientation")}
    of_series = {
        "orientations": max(1, len(turns)),
        "companions": frozenset({"field map"} if fields else ()),
    }
    error, missing = _whole_error(instances), _missing_parts(instances)
    return [_stack(key, part, of_series, error, missing) for part in parts]


def _stack(
    key: SeriesKey,
    part: Part,
    of_series: Mapping[str, Any],
    whole_error: GliosightError | None,
    missing: list[Flag],
) -> Series:
    """One stack; only images have geometry, flags and errors of their own."""
    frames = in_order(part.frames)
    middle = frames[len(frames) // 2]
    header, acquisition = middle.instance.header, middle.acquisition
    times = max(part.times, acquisition.temporal_count or 1)
    described = replace(acquisition, slices=len(frames), temporal_count=times, **of_series)
    worlds = _values(frames, "FrameOfReferenceUID")
    geometry, error, flags = None, part.error, list(missing)
    if is_mr_image(middle.instance):
        error = error or whole_error or _pixel_error(frames)
        if key.joined > 1:
            joined = _joined(key, part)
            if isinstance(joined, Flag):
                flags.append(joined)
            else:
                error = joined
        if part.error is None:
            geometry, problem = geometry_of(frames)
            flags += [problem] if problem else []
            flags += gaps_of(geometry) if geometry else lone_slice(len(frames), None)
        if len(worlds) > 1 and geometry is not None:  # PS3.3 section C.7.4.1
            message = (
                f"The slices name {len(worlds - {''})} frames of reference"
                f"{', some of them none' if '' in worlds else ''}; they are taken to lie in one."
            )
            flags.append(flag("FRAMES_DISAGREE", message))
        flags += _oddities(frames)
        error = error or _order_error(frames)
    return Series(
        whole=key,
        part=printable(", ".join(part.words)),
        # A number that changes with the slice does not name a series.
        number=integer(key.number if key.joined > 1 else stored(header, "SeriesNumber")),
        description=printable(stored(header, "SeriesDescription"))[:DESCRIPTION],
        frames=frames,
        geometry=geometry,
        frame_of_reference=(worlds.pop() or None) if len(worlds) == 1 else None,
        acquired=earliest(frame.acquisition.acquired for frame in frames),
        shape=(len(frames), acquisition.rows or 0, acquisition.columns or 0),
        identified=identify(described),
        error=error,
        flags=tuple(flags),
        unplaced=part.unplaced,
    )


def as_named(series: Series) -> Series:
    """A series as it is if the user names it: without geometry where its images all have one position."""
    if not series.unplaced:
        return series
    _, problem = geometry_of(series.frames)
    error = _order_error(series.frames) or _pixel_error(series.frames)
    flags = (problem, *series.flags) if problem else series.flags
    return replace(series, error=error, flags=flags, unplaced=False)


def _values(frames: Iterable[Frame], keyword: str) -> set[str]:
    return {stored(frame.instance.header, keyword) for frame in frames}


def _order_error(frames: Sequence[Frame]) -> GliosightError | None:
    if is_placed(frames) or len(frames) == 1 or order_of(frames) is not None:
        return None
    return UnsupportedInputError(
        f"its {len(frames)} images have no positions, and nothing else tells their order",
        where=frames[0].instance.where,
        remedy="export the series again with its positions",
    )


def _joined(key: SeriesKey, part: Part) -> Flag | GliosightError:
    """What is said of a stack whose images name several series or studies."""
    keywords = ("SeriesInstanceUID", "StudyInstanceUID", "SeriesNumber")
    counts = {keyword: len(_values(part.frames, keyword)) for keyword in keywords}
    nouns = zip(("series", "studies", "numbers"), counts.items(), strict=True)
    named = " and ".join(f"{count} {noun} ({key})" for noun, (key, count) in nouns if count > 1)
    images = f"{len(part.frames)} images name {named or 'several series'}"
    why = key.refusal or (
        "some have the same position" if part.times > 1 else why_no_stack(part.frames)
    )
    if why:
        return UnsupportedInputError(
            f"{images} and cannot safely be joined: {why}",
            where=part.frames[0].instance.where,
            remedy="export the series again, with the UIDs that its archive has",
        )
    message = (
        f"The {images}; they are taken for one series, since patient, day, protocol and positions "
        "agree."
    )
    return flag("SERIES_JOINED", message)


def _numbers(instance: Instance) -> tuple[int, int, str]:
    """The order of instances where no position tells it."""
    number, part = (
        integer(stored(instance.header, keyword))
        for keyword in ("InstanceNumber", "InConcatenationNumber")
    )
    return number or 0, part or 0, instance.where


def _whole_error(instances: Sequence[Instance]) -> GliosightError | None:
    """A needed value that is no number, other frames claimed than described (PS3.3 section C.7.6.16)."""
    for image in instances:
        if (error := unreadable_value(image)) is not None:
            return error
        groups = image.header.get("PerFrameFunctionalGroupsSequence")
        if not groups or stored(image.header, "SOPClassUID") not in MR_IMAGES:
            continue
        if (claimed := frame_count(image)) != len(groups):
            return damaged(f"claims {claimed} frames and describes {len(groups)}", image.where)
    return None


def _missing_parts(instances: Sequence[Instance]) -> list[Flag]:
    """Concatenations of which not all parts are here (PS3.3 section C.7.6.16.2.2.4)."""
    parts = by_key(instances, lambda image: stored(image.header, "ConcatenationUID"))
    parts.pop("", None)
    for images in parts.values():
        here = {integer(stored(image.header, "InConcatenationNumber")) or 0 for image in images}
        stated = integer(stored(images[-1].header, "InConcatenationTotalNumber"))
        if len(here) < (total := stated or max(here)):
            message = f"Of an image stored in {total} files only {len(here)} are here; slices are missing."
            return [flag("MISSING_SLICES", message)]
    return []


def _pixel_error(frames: Sequence[Frame]) -> GliosightError | None:
    """What keeps the pixels from being read, as far as headers tell."""
    for instance in _instances(frames):
        if (error := refusal(instance.syntax, instance.where)) is not None:
            return error
        if instance.pixels is None:
            return damaged("has no pixels", instance.where)
    for frame in frames:
        acquisition = frame.acquisition
        if (acquisition.samples or 1) != 1 or acquisition.photometric not in GREY:
            return UnsupportedInputError(
                f"colour images ({acquisition.photometric[:16] or 'several samples a pixel'})",
                where=frame.place,
                remedy="give a series of grey images",
            )
        if not (acquisition.rows and acquisition.columns):
            return damaged("has no rows or columns", frame.place)
    return None


def _instances(frames: Sequence[Frame]) -> list[Instance]:
    return list(dict.fromkeys(frame.instance for frame in frames))


def _oddities(frames: Sequence[Frame]) -> list[Flag]:
    """Flags for how the files were stored."""
    flags = []
    instances = _instances(frames)
    if any(is_lossy(image.syntax, image.header) for image in instances):
        message = "The pixels were compressed with loss; fine detail may be gone."
        flags.append(flag("LOSSY_SOURCE", message))
    counts = Counter(phrase for image in instances for phrase in image.oddities)
    if copies := counts.pop(EXPORTED_TWICE, 0):
        message = (
            f"{copies} images are there twice, with the same pixels under other UIDs; the study seems to be "
            "exported twice, and each image is read once."
        )
        flags.append(flag("EXPORTED_TWICE", message))
    if counts:
        phrases = ", ".join(f"{phrase} ({count})" for phrase, count in sorted(counts.items())[:6])
        message = f"Files that depart from the standard were read nevertheless: {phrases}."
        flags.append(flag("NONSTANDARD_FILE", message))
    return flags
