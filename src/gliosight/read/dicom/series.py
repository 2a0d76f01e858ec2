"""From instances to series: grouped, split into stacks, ordered, placed in the patient (read stage, DICOM).

In: the instances of a folder tree. Out: for each study its `Series`, each one a stack of parallel slices, one
for each position, ordered by ImagePositionPatient along the normal (PS3.3 section C.7.6.2.1.1) and never by
number or name; with its geometry in gliosight's RAS+, what it shows, and what was odd about it. A series
that cannot be analysed is there too, with the reason. Nothing is resampled and nothing is filled in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gliosight.errors import DamagedInputError, GliosightError, UnsupportedInputError, printable
from gliosight.read.dicom.acquisition import (
    Frame,
    across_midnight,
    earliest,
    frame_count,
    frames_of,
)
from gliosight.read.dicom.elements import integer, stored
from gliosight.read.dicom.files import EXPORTED_TWICE
from gliosight.read.dicom.grouping import SeriesKey, StudyKey, group_instances
from gliosight.read.dicom.instances import MR_IMAGES, Instance, is_lossy, is_mr_image, refusal
from gliosight.read.dicom.pixels import unreadable_value
from gliosight.read.dicom.rules import Identified, identify
from gliosight.read.dicom.splitting import Part, image_kind, order_of, split
from gliosight.read.dicom.stacks import gaps_of, geometry_of, in_order, why_no_stack
from gliosight.read.flags import flag
from gliosight.study import Flag, Geometry

# Characters of a description that are kept.
DESCRIPTION = 64
GREY = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True, eq=False)
class Series:
    """One stack of parallel slices.

    Parameters
    ----------
    whole : SeriesKey
        What its stacks have in common, and nothing else has.
    part : str
        ``""``, or what tells it from the other stacks of the same series: ``"echo 2"``, ``"time 3 of 60"``.
    number : int or None
        SeriesNumber.
    description : str
        SeriesDescription, printable and shortened. Never in errors and flags: it may hold a name.
    frames : tuple of Frame
        Along the normal; one for each position.
    geometry : Geometry or None
        RAS+ mm; ``None`` where the headers have none that makes sense.
    frame_of_reference : str or None
        ``None`` also where its images name several.
    acquired : float or None
        When its first frame was acquired, see `Acquisition.acquired`; within a study without dates, a time
        after midnight is more than a day.
    shape : tuple of int
        (slices, rows, columns); zeros for what has no pixels.
    identified : Identified
    error : GliosightError or None
        Why it cannot be analysed although it is an image.
    flags : tuple of Flag
    unplaced : bool
        Its images have one position, which is the error; see `without_positions`.
    """

    whole: SeriesKey
    part: str
    number: int | None
    description: str
    frames: tuple[Frame, ...]
    geometry: Geometry | None
    frame_of_reference: str | None
    acquired: float | None
    shape: tuple[int, int, int]
    identified: Identified
    error: GliosightError | None
    flags: tuple[Flag, ...]
    unplaced: bool = False

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
        return frozenset(stored(one.instance.header, "SeriesInstanceUID") for one in self.frames)

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
    """Sort instances into studies and series.

    Parameters
    ----------
    instances : iterable of Instance
        Without copies, as `discover` gives them.

    Returns
    -------
    dict of StudyKey to tuple of Series
        Series in order of their numbers, stacks of one series in the order of their directions, echoes,
        times.
    """
    out = {}
    for study, groups in group_instances(instances).items():
        stacks = [stack for key, group in groups.items() for stack in _series(key, group)]
        stacks.sort(key=lambda stack: (stack.number is None, stack.number or 0, stack.uid))
        out[study] = _in_one_day(_in_one_world(stacks) if study.joined > 1 else stacks)
    return out


def _in_one_world(stacks: list[Series]) -> list[Series]:
    """Series of joined studies; where each has a frame of reference of its own, that was replaced, too."""
    named = {(stack.whole, stack.frame_of_reference) for stack in stacks}
    worlds = [world for _, world in named if world is not None]
    if len(set(worlds)) < len(worlds):
        return stacks
    return [replace(stack, frame_of_reference=None) for stack in stacks]


def _in_one_day(series: Sequence[Series]) -> tuple[Series, ...]:
    """Series whose times can be compared also across midnight.

    A time that all of them have is no time: who removes dates writes 000000.
    """
    known = [one.acquired for one in series if one.acquired is not None]
    if len(set(known)) == 1 and len({one.whole for one in series}) > 1:
        return tuple(replace(one, acquired=None) for one in series)
    moved = dict(zip(known, across_midnight(known), strict=True))
    return tuple(
        one if one.acquired is None else replace(one, acquired=moved[one.acquired])
        for one in series
    )


def _series(key: SeriesKey, instances: Sequence[Instance]) -> list[Series]:
    """The stacks of one series."""
    frames = [frame for one in sorted(instances, key=_numbers) for frame in frames_of(one)]
    parts = split(frames)
    kinds = frozenset(image_kind(one.frames[0].acquisition) for one in parts)
    fields = any("field" in one or one.startswith("b0") for one in kinds)
    companions = frozenset({"field map"}) if fields else frozenset()
    directions = len(
        {word for one in parts for word in one.words if word.startswith("orientation")}
    )
    whole = _whole_error(instances)
    missing = _missing_parts(instances)
    return [_stack(key, part, max(1, directions), companions, whole, missing) for part in parts]


def _stack(
    key: SeriesKey,
    part: Part,
    directions: int,
    companions: frozenset[str],
    whole: GliosightError | None,
    missing: tuple[Flag, ...],
) -> Series:
    frames, geometry, notes = in_order(part.frames), None, list(missing)
    first = frames[len(frames) // 2]
    header, acquisition = first.instance.header, first.acquisition
    image = is_mr_image(first.instance)
    identified = identify(
        replace(
            acquisition,
            orientations=directions,
            slices=len(frames),
            companions=companions,
            temporal_count=max(part.times, acquisition.temporal_count or 1),
        )
    )
    error = part.error or (whole if image else None) or (_pixel_error(frames) if image else None)
    joined = _joined(key, part) if key.joined > 1 and image else None
    if isinstance(joined, Flag):
        notes.append(joined)
    else:
        error = joined or error
    if image and part.error is None:
        geometry, problem = geometry_of(frames)
        notes += [problem] if problem else gaps_of(geometry) if geometry else []
    worlds = {stored(one.instance.header, "FrameOfReferenceUID") for one in frames}
    if image:
        notes += [*_several_worlds(worlds, geometry), *_oddities(frames)]
    rows, columns = (acquisition.rows or 0, acquisition.columns or 0)
    return Series(
        whole=key,
        part=printable(", ".join(part.words)),
        # A number that changes with the slice does not name a series.
        number=integer(key.number if key.joined > 1 else stored(header, "SeriesNumber")),
        description=printable(stored(header, "SeriesDescription"))[:DESCRIPTION],
        frames=frames,
        geometry=geometry,
        frame_of_reference=(worlds.pop() or None) if len(worlds) == 1 else None,
        acquired=earliest(one.acquisition.acquired for one in frames),
        shape=(len(frames), rows, columns),
        identified=identified,
        error=error or _order_error(frames, image=image),
        flags=tuple(notes),
        unplaced=part.unplaced,
    )


def without_positions(series: Series) -> Series:
    """A series whose images all have one position, as a stack without geometry; for who names it."""
    _, problem = geometry_of(series.frames)
    error = _order_error(series.frames, image=True) or _pixel_error(series.frames)
    flags = (problem, *series.flags) if problem else series.flags
    return replace(series, error=error, flags=flags, unplaced=False)


def _order_error(frames: Sequence[Frame], *, image: bool) -> GliosightError | None:
    placed = all(one.position is not None and one.orientation is not None for one in frames)
    if not image or placed or len(frames) == 1 or order_of(frames) is not None:
        return None
    return UnsupportedInputError(
        f"its {len(frames)} images have no positions, and nothing else tells their order",
        where=frames[0].instance.where,
        remedy="export the series again with its positions",
    )


def _joined(key: SeriesKey, part: Part) -> Flag | GliosightError:
    """What is said of a stack whose images name several series or studies."""
    counts = [
        (len({stored(one.instance.header, keyword) for one in part.frames}), f"{word} ({keyword})")
        for keyword, word in (
            ("SeriesInstanceUID", "series"),
            ("StudyInstanceUID", "studies"),
            ("SeriesNumber", "numbers"),
        )
    ]
    named = " and ".join(f"{count} {what}" for count, what in counts if count > 1)
    why = key.refusal or ("some lie at one place" if part.times > 1 else why_no_stack(part.frames))
    if why:
        return UnsupportedInputError(
            f"{len(part.frames)} images name {named or 'several series'} and cannot safely be joined: "
            f"{why}",
            where=part.frames[0].instance.where,
            remedy="export the series again, with the UIDs that its archive has",
        )
    message = (
        f"The {len(part.frames)} images name {named or 'several series'}; they are taken for one series, "
        "since patient, day, protocol and positions agree."
    )
    return flag("SERIES_JOINED", message)


def _several_worlds(worlds: set[str], geometry: Geometry | None) -> list[Flag]:
    """A flag where the slices of one stack do not share a frame of reference (PS3.3 section C.7.4.1)."""
    if len(worlds) < 2 or geometry is None:
        return []
    message = (
        f"The slices name {len(worlds - {''})} frames of reference"
        f"{', some of them none' if '' in worlds else ''}; they are taken to lie in one."
    )
    return [flag("FRAMES_DISAGREE", message)]


def _numbers(instance: Instance) -> tuple[int, int, str]:
    """The order of instances where no position tells it."""
    number, part = (
        integer(stored(instance.header, name))
        for name in ("InstanceNumber", "InConcatenationNumber")
    )
    return number or 0, part or 0, instance.where


def _whole_error(instances: Sequence[Instance]) -> GliosightError | None:
    """A needed value that is no number, other frames claimed than described (PS3.3 section C.7.6.16)."""
    for one in instances:
        if (error := unreadable_value(one)) is not None:
            return error
        groups = one.header.get("PerFrameFunctionalGroupsSequence")
        if not groups or stored(one.header, "SOPClassUID") not in MR_IMAGES:
            continue
        if (claimed := frame_count(one)) != len(groups):
            return DamagedInputError(
                f"claims {claimed} frames and describes {len(groups)}",
                where=one.where,
                remedy="fetch the file again from where it came",
            )
    return None


def _missing_parts(instances: Sequence[Instance]) -> tuple[Flag, ...]:
    """Concatenations of which not all parts are here (PS3.3 section C.7.6.16.2.2.4)."""
    parts: dict[str, set[int]] = {}
    totals: dict[str, int] = {}
    for one in instances:
        if uid := stored(one.header, "ConcatenationUID"):
            parts.setdefault(uid, set()).add(
                integer(stored(one.header, "InConcatenationNumber")) or 0
            )
            totals[uid] = integer(stored(one.header, "InConcatenationTotalNumber")) or 0
    for uid, here in parts.items():
        total = totals[uid] or max(here)
        if len(here) < total:
            message = f"Of an image stored in {total} files only {len(here)} are here; slices are missing."
            return (flag("MISSING_SLICES", message),)
    return ()


def _pixel_error(frames: Sequence[Frame]) -> GliosightError | None:
    """What keeps the pixels from being read, as far as headers tell."""
    for instance in {id(one.instance): one.instance for one in frames}.values():
        if (error := refusal(instance.syntax, instance.where)) is not None:
            return error
        if instance.pixel_offset is None:
            return DamagedInputError(
                "has no pixels",
                where=instance.where,
                remedy="fetch the file again from where it came",
            )
    for one in frames:
        acquisition = one.acquisition
        if (acquisition.samples or 1) != 1 or acquisition.photometric not in (*GREY, ""):
            return UnsupportedInputError(
                f"colour images ({acquisition.photometric[:16] or 'several samples a pixel'})",
                where=one.place,
                remedy="give a series of grey images",
            )
        if not (acquisition.rows and acquisition.columns):
            return DamagedInputError(
                "has no rows or columns",
                where=one.place,
                remedy="fetch the file again from where it came",
            )
    return None


def _oddities(frames: Sequence[Frame]) -> list[Flag]:
    """Flags for how the files were stored."""
    instances = list({id(one.instance): one.instance for one in frames}.values())
    out = []
    lossy = sum(is_lossy(one.syntax, one.header) for one in instances)
    if lossy:
        message = "The pixels were compressed with loss; fine detail may be gone."
        out.append(flag("LOSSY_SOURCE", message))
    counts = Counter(phrase for one in instances for phrase in one.oddities)
    if copies := counts.pop(EXPORTED_TWICE, 0):
        message = (
            f"{copies} images are there twice, with the same pixels under other UIDs; the study seems to be "
            "exported twice, and each image is read once."
        )
        out.append(flag("EXPORTED_TWICE", message))
    if counts:
        phrases = ", ".join(f"{phrase} ({count})" for phrase, count in sorted(counts.items())[:6])
        message = f"Files that depart from the standard were read nevertheless: {phrases}."
        out.append(flag("NONSTANDARD_FILE", message))
    return out
