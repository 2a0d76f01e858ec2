"""What headers say: classic, enhanced, legacy converted, nonsense, and times across midnight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from gliosight.read.dicom import acquisition
from gliosight.read.dicom.acquisition import (
    DAY,
    MOST_FRAMES,
    across_midnight,
    earliest,
    frames_of,
    is_dated,
)
from gliosight.read.dicom.elements import integer, numbers, stored
from gliosight.read.dicom.instances import Instance

from .builders_series import (
    AXIAL,
    ENHANCED_FLAIR,
    FLAIR,
    T1_SE,
    dataset,
    enhanced,
    enhanced_frame,
    group,
    instance,
    series_in,
    stack,
)


def with_raw(image: Instance, keyword: str, value: Any) -> Instance:
    """The same instance with a value that pydicom would not let in."""
    if keyword not in image.header:
        setattr(image.header, keyword, None)
    element = image.header[keyword]
    element._value = value
    return image


def test_a_classic_image_is_one_frame() -> None:
    (frame,) = frames_of(instance(**FLAIR, AcquisitionDate="20240102", AcquisitionTime="101500.5"))
    acquisition = frame.acquisition
    np.testing.assert_array_equal(frame.position, (-100, -110, 0))
    np.testing.assert_array_equal(frame.orientation, AXIAL)
    assert (frame.number, frame.spacing, frame.thickness) == (1, (0.9, 0.8), 5)
    assert (acquisition.repetition, acquisition.echo, acquisition.inversion) == (9000, 93, 2500)
    assert acquisition.scanning == ("SE", "IR")
    assert (acquisition.rows, acquisition.columns) == (64, 64)
    assert acquisition.contrast is None
    assert acquisition.acquired is not None
    assert acquisition.acquired % 86400 == pytest.approx(10 * 3600 + 15 * 60 + 0.5)


def test_an_enhanced_image_has_its_values_from_its_groups() -> None:
    shared = {
        **ENHANCED_FLAIR,
        "PixelMeasuresSequence": group(PixelSpacing=[1, 1], SliceThickness=3),
    }
    groups = [
        {
            "PlanePositionSequence": group(ImagePositionPatient=[1, 2, z]),
            "PlaneOrientationSequence": group(ImageOrientationPatient=list(AXIAL)),
            "FrameContentSequence": group(
                StackID="1", TemporalPositionIndex=2, FrameAcquisitionDateTime="20240102101500.25"
            ),
            "MRImageFrameTypeSequence": group(
                FrameType=["ORIGINAL", "PRIMARY", "FLAIR", "M"], ComplexImageComponent="MAGNITUDE"
            ),
        }
        for z in (0, 5)
    ]
    # Philips leaves classic copies at the top level, some of them empty or wrong for the frame.
    frames = frames_of(
        enhanced(
            groups,
            shared,
            ImageType=["ORIGINAL", "PRIMARY", "FLAIR", "MIXED"],
            InversionTime=0,
            ComplexImageComponent="MIXED",
            EchoPulseSequence="SPIN",
        )
    )
    assert [frame.number for frame in frames] == [1, 2]
    assert [float(frame.position[2]) for frame in frames if frame.position is not None] == [0, 5]
    acquisition = frames[1].acquisition
    assert frames[1].spacing == (1, 1)
    assert (acquisition.repetition, acquisition.echo, acquisition.inversion) == (9000, 94, 2500)
    assert acquisition.scanning == ("SE", "IR")
    assert acquisition.inversion_recovery is True
    assert (acquisition.stack, acquisition.temporal, acquisition.component) == ("1", 2, "M")
    assert acquisition.image_type == ("ORIGINAL", "PRIMARY", "FLAIR", "M")


def test_groups_of_a_frame_go_before_shared_ones_and_those_before_the_top_level() -> None:
    direction = group(DiffusionGradientOrientation=[0.0, 0.0, 1.0])
    weighting = group(DiffusionBValue=1000.0, DiffusionGradientDirectionSequence=direction)
    before = group(ContrastBolusAgentAdministered="NO")
    own = {"MREchoSequence": group(EffectiveEchoTime=20.0), "MRDiffusionSequence": weighting}
    frames = frames_of(
        enhanced(
            [enhanced_frame(0, **own), enhanced_frame(0, ContrastBolusUsageSequence=before)],
            ENHANCED_FLAIR,
            ContrastBolusAgentSequence=group(CodeValue="1"),
        )
    )
    first, second = (frame.acquisition for frame in frames)
    assert (first.echo, second.echo) == (20, 94)
    assert (first.b_value, first.gradient) == (1000, "0.0\\0.0\\1.0")
    assert (first.contrast, second.contrast) == (True, False)


def test_legacy_converted_objects_keep_timing_among_what_was_not_assigned() -> None:
    groups = [
        enhanced_frame(
            z, UnassignedPerFrameConvertedAttributesSequence=group(AcquisitionTime=f"10150{z}")
        )
        for z in (0, 5)
    ]
    shared = {"UnassignedSharedConvertedAttributesSequence": group(**FLAIR)}
    legacy = uid.LegacyConvertedEnhancedMRImageStorage
    frames = frames_of(enhanced(groups, shared, SOPClassUID=legacy))
    assert [frame.acquisition.inversion for frame in frames] == [2500, 2500]
    assert [frame.acquisition.acquired for frame in frames] == [36900, 36905]


def test_frames_that_are_not_described_are_left_out_and_counts_are_not_believed() -> None:
    assert len(frames_of(enhanced([enhanced_frame(0)], NumberOfFrames=2**31 - 1))) == 1
    assert len(frames_of(instance(NumberOfFrames=2**31 - 1))) == MOST_FRAMES
    assert len(frames_of(instance(NumberOfFrames=-3))) == 1
    image = instance(SOPClassUID=uid.CTImageStorage, Modality="CT", NumberOfFrames=2**31 - 1)
    assert len(frames_of(image)) == 1


def test_several_frames_of_a_classic_image_have_no_place() -> None:
    frames = frames_of(instance(NumberOfFrames=3))
    assert [frame.position for frame in frames] == [None] * 3
    assert frames[2].place == "a file, frame 3"


# What is read of it, keyword, a value that makes no sense.
NONSENSE: dict[str, tuple[str, str, Any]] = {
    "two positions instead of three": ("position", "ImagePositionPatient", ["1", "2"]),
    "not a number": ("position", "ImagePositionPatient", ["nan", "1", "2"]),
    "infinite": ("position", "ImagePositionPatient", ["inf", "1", "2"]),
    "another planet": ("position", "ImagePositionPatient", ["1e30", "1", "2"]),
    "words": ("position", "ImagePositionPatient", "here"),
    "empty": ("position", "ImagePositionPatient", None),
    "a sequence": ("position", "ImagePositionPatient", [Dataset()]),
    "not perpendicular": ("orientation", "ImageOrientationPatient", ["1", "0", "0", "1", "0", "0"]),
    "no unit vectors": ("orientation", "ImageOrientationPatient", ["0"] * 6),
    "one spacing": ("spacing", "PixelSpacing", ["1"]),
    "negative": ("spacing", "PixelSpacing", ["-1", "1"]),
    "what Python reads as a number": ("spacing", "PixelSpacing", ["1_0", "1"]),
    "zero": ("thickness", "SliceThickness", "0"),
    "what Philips writes for unset": ("repetition", "RepetitionTime", "7.23e+75"),
    "before time": ("echo", "EchoTime", "-1"),
    "no inversion": ("inversion", "InversionTime", "0"),
    "letters": ("flip", "FlipAngle", MultiValue(str, ["x", "y"])),
    "no hour": ("acquired", "AcquisitionTime", "9999"),
    "half a number": ("acquisition", "AcquisitionNumber", "1.5"),
    "an object": ("echo", "EchoTime", object()),
    "no month": ("acquired", "AcquisitionDate", "20249999"),
}


@pytest.mark.parametrize(("field", "keyword", "value"), NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_none(field: str, keyword: str, value: Any) -> None:
    (frame,) = frames_of(with_raw(instance(**FLAIR), keyword, value))
    holder = (
        frame if field in ("position", "orientation", "spacing", "thickness") else frame.acquisition
    )
    assert getattr(holder, field) is None


def test_values_as_text() -> None:
    header = dataset(ImageType=["A", "B "], Rows=7, ContrastBolusAgentSequence=group(CodeValue="1"))
    assert stored(header, "ImageType") == "A\\B"
    assert stored(header, "Rows") == "7"
    assert stored(header, "ContrastBolusAgentSequence") == "present"
    assert stored(header, "Columns") == ""
    assert numbers("1\\x") == ()
    assert integer("3.0") == 3
    assert integer("1e300") is None


def test_times_without_a_date_sort_within_their_day() -> None:
    (frame,) = frames_of(instance(AcquisitionTime="000010"))
    assert frame.acquisition.acquired == 10
    old = with_raw(instance(), "AcquisitionDate", "2024.01.02")  # as before DICOM 3.0
    (frame,) = frames_of(with_raw(old, "AcquisitionTime", "00:00:10"))
    assert (frame.acquisition.acquired or 0) % DAY == 10
    assert is_dated(frame.acquisition.acquired or 0)
    assert not is_dated(DAY + 3600)


def test_many_enhanced_frames_cost_no_more_each(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    real = acquisition.stored

    def counted(header: Any, keyword: str) -> str:
        looked.append(keyword)
        return real(header, keyword)

    monkeypatch.setattr(acquisition, "stored", counted)

    def looks(count: int) -> int:
        looked.clear()
        image = enhanced([enhanced_frame(z) for z in range(count)], ENHANCED_FLAIR)
        assert len(frames_of(image)) == count
        return len(looked)

    few, many = looks(100), looks(800)
    assert many <= 8 * few  # values of the whole object are looked up once


HOUR = 3600.0
DATED = 738_000 * DAY


def test_hours_after_midnight_are_the_next_day_s() -> None:
    assert across_midnight([23.8 * HOUR, 0.2 * HOUR]) == (23.8 * HOUR, 0.2 * HOUR + DAY)
    assert across_midnight([8 * HOUR, 9 * HOUR]) == (8 * HOUR, 9 * HOUR)
    # Three hours on both sides: whichever comes first in the list.
    assert across_midnight([1 * HOUR, 22 * HOUR]) == (1 * HOUR + DAY, 22 * HOUR)
    assert across_midnight([DATED + 23 * HOUR, DATED + DAY]) == (DATED + 23 * HOUR, DATED + DAY)
    assert across_midnight([]) == ()


def test_the_earliest_a_series_times() -> None:
    assert earliest([0.1 * HOUR, None, 23.9 * HOUR]) == 23.9 * HOUR
    assert earliest([5 * HOUR, DATED + 6 * HOUR]) == DATED + 6 * HOUR
    assert earliest([None]) is None


def test_a_study_across_midnight_without_dates_is_in_order() -> None:
    bare = {"AcquisitionDate": None}
    evening, night = series_in(
        [*stack(3, 1, **FLAIR, time="235000", **bare), *stack(3, 2, **T1_SE, time="001000", **bare)]
    )
    assert (night.acquired or 0) - (evening.acquired or 0) == 20 * 60
