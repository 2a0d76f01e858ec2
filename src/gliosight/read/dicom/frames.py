"""From an instance to its frames: where each picture lies and how it was made (read stage, DICOM).

In: an `Instance`. Out: a `Frame` for each of its pictures; one frame without place for objects that are no MR
images. A classic MR image (PS3.3 section A.4) is one frame. Enhanced MR (A.36) and Legacy Converted Enhanced
MR (A.70) keep what differs between frames in functional groups (C.7.6.16): a value is looked for in the
frame's own group, then in the shared one, then at the top level, where vendors leave classic copies. What is
absent or absurd is ``None``, never an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import uid

from gliosight.read.dicom.acquisition import (
    KEYWORDS,
    Acquisition,
    acquisition_of,
    stored_values,
)
from gliosight.read.dicom.elements import first_item, integer, items, number, numbers, stored
from gliosight.read.dicom.instances import Instance
from gliosight.read.limits import DEFAULT_LIMITS

ENHANCED = frozenset({uid.EnhancedMRImageStorage, uid.LegacyConvertedEnhancedMRImageStorage})
MR_IMAGES = ENHANCED | {uid.MRImageStorage}
# Frames that are believed of one instance: a header may claim any number.
# What the smallest frame and its description take in a file; deflated it may be less, but not much.
LEAST_FRAME_BYTES = 16
MOST_FRAMES = DEFAULT_LIMITS.members
# How far two directions may be from perpendicular unit vectors to be taken as such.
ORTHONORMAL_WITHIN = 0.01

_PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
# Functional groups and what they hold of what is read here (PS3.3 sections C.7.6.16.2 and C.8.13.5).
_GROUPS: Mapping[str, tuple[str, ...]] = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "FrameContentSequence": (
        "StackID",
        "TemporalPositionIndex",
        "FrameAcquisitionNumber",
        "FrameAcquisitionDateTime",
    ),
    "MRImageFrameTypeSequence": ("FrameType", "ComplexImageComponent"),
    "MRTimingAndRelatedParametersSequence": (
        "RepetitionTime",
        "FlipAngle",
        "EchoTrainLength",
        "RFEchoTrainLength",
    ),
    "MREchoSequence": ("EffectiveEchoTime",),
    "MRModifierSequence": ("InversionRecovery", "InversionTimes", "Spoiling"),
    "MRDiffusionSequence": ("DiffusionBValue",),
    "CardiacSynchronizationSequence": ("NominalCardiacTriggerDelayTime",),
    "ContrastBolusUsageSequence": (
        "ContrastBolusAgentAdministered",
        "ContrastBolusAgentPhase",
    ),
    # Legacy Converted objects keep here what has no group of its own: any classic attribute.
    "UnassignedSharedConvertedAttributesSequence": KEYWORDS,
    "UnassignedPerFrameConvertedAttributesSequence": KEYWORDS,
}
_INDEX = {keyword: index for index, keyword in enumerate((*KEYWORDS, *_PLACE))}
_FIRST_OF_PLACE = len(KEYWORDS)


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture.

    Parameters
    ----------
    instance : Instance
    number : int
        In its instance, from 1.
    position : (3,) array or None
        ImagePositionPatient: centre of the first pixel, LPS, mm.
    orientation : (6,) array or None
        ImageOrientationPatient: the direction in which the column index grows, then the one in which the
        row index grows; perpendicular unit vectors within 1 %, LPS.
    spacing : tuple of float or None
        Between rows and between columns, mm.
    thickness : float or None
        Nominal, mm.
    acquisition : Acquisition
    """

    instance: Instance
    number: int
    position: NDArray[np.float64] | None
    orientation: NDArray[np.float64] | None
    spacing: tuple[float, float] | None
    thickness: float | None
    acquisition: Acquisition

    @property
    def place(self) -> str:
        """How messages name it."""
        many = frame_count(self.instance) > 1
        return f"{self.instance.where}, frame {self.number}" if many else self.instance.where


def frame_count(instance: Instance) -> int:
    """How many frames the header claims; 1 where it says nothing sensible."""
    found = integer(stored(instance.header, "NumberOfFrames"))
    return found if found is not None and found > 0 else 1


def frames_of(instance: Instance) -> tuple[Frame, ...]:
    """The frames of an instance.

    Returns
    -------
    tuple of Frame
        At least one. What is no MR image has one frame without place, however many it holds. Of an enhanced
        object whose groups are fewer than the frames it claims, those that are described.
    """
    header = instance.header
    kind = stored(header, "SOPClassUID")
    top = [*stored_values(header), *(stored(header, one) for one in _PLACE)]
    if kind not in MR_IMAGES:
        return (_frame(instance, 1, top, whole=kind == ""),)
    # A claim costs the file nothing: no more frames are believed than it has bytes for.
    count = max(1, min(frame_count(instance), MOST_FRAMES, instance.size // LEAST_FRAME_BYTES))
    shared = first_item(header, "SharedFunctionalGroupsSequence")
    per_frame = items(header, "PerFrameFunctionalGroupsSequence")
    if shared is None and not per_frame:
        # A classic image with several frames has one place at most, and it is not theirs.
        return tuple(_frame(instance, one, top, whole=count == 1) for one in range(1, count + 1))
    if shared is not None:
        _overlay(top, shared)
    frames = []
    for index, groups in enumerate(islice(per_frame or [None] * count, count)):
        values = top.copy()
        if groups is not None:
            _overlay(values, groups)
        frames.append(_frame(instance, index + 1, values, whole=bool(per_frame) or count == 1))
    return tuple(frames)


def _overlay(values: list[str], groups: Any) -> None:
    """Put the values of one item of functional groups over those found so far."""
    for name, keywords in _GROUPS.items():
        group = first_item(groups, name)
        if group is None:
            continue
        for keyword in keywords:
            if text := stored(group, keyword):
                values[_INDEX[keyword]] = text
        if name == "MRDiffusionSequence":
            direction = first_item(group, "DiffusionGradientDirectionSequence")
            if direction is not None:
                values[_INDEX["DiffusionGradientOrientation"]] = stored(
                    direction, "DiffusionGradientOrientation"
                )


def _frame(instance: Instance, count: int, values: list[str], *, whole: bool) -> Frame:
    acquisition = acquisition_of(tuple(values[:_FIRST_OF_PLACE]))
    position, orientation, spacing, thickness = values[_FIRST_OF_PLACE:]
    if not whole:
        position = orientation = ""
    return Frame(
        instance=instance,
        number=count,
        position=_position(position),
        orientation=_orientation(orientation),
        spacing=_spacing(spacing),
        thickness=number(thickness, 1e-3, 1e3),
        acquisition=acquisition,
    )


def _position(text: str) -> NDArray[np.float64] | None:
    found = numbers(text)
    return np.array(found) if len(found) == 3 and max(map(abs, found)) < 1e5 else None


@lru_cache(maxsize=2048)
def _orientation(text: str) -> NDArray[np.float64] | None:
    found = np.array(numbers(text))
    if found.shape != (6,):
        return None
    across, down = found[:3], found[3:]
    off = (across @ across - 1, down @ down - 1, across @ down)
    if max(map(abs, off)) > ORTHONORMAL_WITHIN:
        return None
    found.setflags(write=False)
    return found


def _spacing(text: str) -> tuple[float, float] | None:
    found = numbers(text)
    return (found[0], found[1]) if len(found) == 2 and min(found) > 0 else None
