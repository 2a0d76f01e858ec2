"""What one series holds: split by what tells its slices apart or left alone, in order, and where it lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from gliosight.errors import DamagedInputError, UnsupportedInputError
from gliosight.read.dicom import split
from gliosight.read.dicom.acquisition import Frame
from gliosight.read.dicom.instances import Instance
from gliosight.study import MrSequence

from .builders_series import (
    AXIAL,
    CORONAL,
    ENHANCED_FLAIR,
    FLAIR,
    MPRAGE,
    SAGITTAL,
    T1_SE,
    codes,
    enhanced,
    enhanced_frame,
    group,
    one_series,
    series_in,
    stack,
)

Values = dict[str, Any]
GRADIENT = {**MPRAGE, "InversionTime": None, "ScanningSequence": "GR", "RepetitionTime": 5}
PRIMARY = ["ORIGINAL", "PRIMARY"]

# What differs between stacks of one place, and what they are called then.
REPEATED: dict[str, tuple[list[Values], list[str]]] = {
    "echoes": (
        [{"EchoNumbers": 1, "EchoTime": 20}, {"EchoNumbers": 2, "EchoTime": 90}],
        ["echo 1", "echo 2"],
    ),
    "echo times alone": ([{"EchoTime": 20}, {"EchoTime": 90}], ["echo 1", "echo 2"]),
    "times": (
        [{"TemporalPositionIdentifier": k} for k in (1, 2, 3)],
        ["time 1 of 3", "time 2 of 3", "time 3 of 3"],
    ),
    "b values": (
        [{"DiffusionBValue": 0.0}, {"DiffusionBValue": 1000.0}],
        ["b value 0", "b value 1000"],
    ),
    "inversion times": (
        [{"InversionTime": 700}, {"InversionTime": 2500}],
        ["inversion time 700 ms", "inversion time 2500 ms"],
    ),
    "contrast medium": (
        [{"ContrastBolusAgent": "none"}, {"ContrastBolusAgent": "Gd"}],
        ["before contrast medium", "after contrast medium"],
    ),
    "flip angles": ([{"FlipAngle": 5}, {"FlipAngle": 15}], ["flip angle 5", "flip angle 15"]),
    "acquisitions": (
        [{"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}],
        ["acquisition 1", "acquisition 2"],
    ),
    "times of the clock alone": (
        [{"AcquisitionTime": "101500"}, {"AcquisitionTime": "101700"}],
        ["time 1 of 2", "time 2 of 2"],
    ),
    "magnitude and phase": (
        [{"ImageType": [*PRIMARY, "M"]}, {"ImageType": [*PRIMARY, "P"]}],
        ["magnitude", "phase"],
    ),
    "image types": (
        [{"ImageType": [*PRIMARY, "A"]}, {"ImageType": [*PRIMARY, "B"]}],
        ["image type 1", "image type 2"],
    ),
    "pixel spacings": ([{}, {"PixelSpacing": [0.5, 0.5]}], ["pixel spacing 1", "pixel spacing 2"]),
}


@pytest.mark.parametrize(("varied", "parts"), REPEATED.values(), ids=REPEATED)
def test_repeated_positions_are_split_by_the_tag_that_explains(
    varied: list[Values], parts: list[str]
) -> None:
    instances = [
        image
        for index, values in enumerate(varied)
        for image in stack(5, start=1 + 10 * index, **{**FLAIR, **values})
    ]
    series = series_in(instances)
    assert sorted(part.part for part in series) == sorted(parts)
    assert all(part.shape[0] == 5 and part.error is None for part in series)
    assert len({part.uid for part in series}) == 1


def test_diffusion_is_split_by_weighting_and_direction() -> None:
    instances = stack(4, **FLAIR, DiffusionBValue=0.0)
    for index, direction in enumerate(np.eye(3), 1):
        weighted = {"DiffusionBValue": 1000.0, "DiffusionGradientOrientation": list(direction)}
        instances += stack(4, start=1 + 10 * index, **FLAIR, **weighted)
    series = series_in(instances)
    assert [part.shape[0] for part in series] == [4] * 4
    assert sum("direction" in part.part for part in series) == 3


def test_times_of_the_clock_split_turns_of_single_slices() -> None:
    instances = stack(5, **T1_SE) + stack(5, start=11, **T1_SE)
    for index, image in enumerate(instances):  # each slice at a time of its own
        image.header.AcquisitionTime = f"1015{index:02d}"
    assert [part.part for part in series_in(instances)] == ["time 1 of 2", "time 2 of 2"]


def test_many_times_of_a_t1_are_a_dynamic_series() -> None:
    series = series_in(
        [
            image
            for time in range(6)
            for image in stack(
                3, start=1 + 10 * time, **GRADIENT, TemporalPositionIdentifier=time + 1
            )
        ]
    )
    assert [part.identified.kind for part in series] == ["dynamic series"] * 6


def test_a_three_plane_localizer_is_split_and_known() -> None:
    series = series_in(
        [
            image
            for index, plane in enumerate((AXIAL, SAGITTAL, CORONAL))
            for image in stack(
                3, start=1 + 10 * index, orientation=plane, **GRADIENT, Rows=64 + index
            )
        ]
    )
    assert sorted(part.part for part in series) == [f"orientation {k}" for k in (1, 2, 3)]
    assert {part.identified.kind for part in series} == {"localizer"}
    assert all(part.error is None for part in series)


def test_turned_views_are_no_stack() -> None:
    instances = []
    for index, angle in enumerate(np.deg2rad(np.arange(0, 160, 4))):
        plane = (float(np.cos(angle)), float(np.sin(angle)), 0.0, 0.0, 0.0, -1.0)
        instances += stack(1, start=index + 1, orientation=plane, **FLAIR)
    assert isinstance(one_series(instances).error, UnsupportedInputError)


def test_two_sizes_in_one_stack_are_damage_and_name_both() -> None:
    instances = stack(6, **FLAIR)
    instances[4].header.Rows = 32
    series = one_series(instances)
    assert isinstance(series.error, DamagedInputError)
    assert "series 1, instance 5" in series.error.line()
    assert "64 x 64 and 32 x 64" in series.error.line()
    assert series.shape == (5, 64, 64)


def test_unexplained_repetition_is_damage_and_names_both() -> None:
    series = one_series([*stack(6, **FLAIR), *stack(1, at=[2], start=50, **FLAIR)])
    assert isinstance(series.error, DamagedInputError)
    assert "series 1, instance 3 and series 1, instance 50" in series.error.line()
    assert (series.usable, series.identified.sequence) == (False, MrSequence.FLAIR)
    twice = one_series(stack(6, **FLAIR) + stack(6, start=50, **FLAIR))
    assert isinstance(twice.error, DamagedInputError)
    assert "6 pairs of images have the same position" in twice.error.line()
    assert "exported twice" in twice.error.line()


def test_enhanced_frames_are_split_by_their_groups() -> None:
    frames = [
        enhanced_frame(z, FrameContentSequence=group(TemporalPositionIndex=time))
        for time in (1, 2)
        for z in (10, 0, 5)
    ]
    series = series_in([enhanced(frames, ENHANCED_FLAIR)])
    assert [part.part for part in series] == ["time 1 of 2", "time 2 of 2"]
    assert [[f.number for f in part.frames] for part in series] == [[2, 3, 1], [5, 6, 4]]
    assert {part.identified.sequence for part in series} == {MrSequence.FLAIR}


def test_a_field_map_s_companion_is_none_either() -> None:
    def frame(z: float, kind: str, component: str) -> Values:
        image = group(FrameType=[*PRIMARY, "T1", kind], ComplexImageComponent=component)
        return enhanced_frame(z, MRImageFrameTypeSequence=image)

    frames = [frame(z, "M", "MAGNITUDE") for z in (0, 5)]
    frames += [frame(z, "FIELD_MAP", "REAL") for z in (0, 5)]
    timing = {
        "MRTimingAndRelatedParametersSequence": group(RepetitionTime=4, FlipAngle=12),
        "MREchoSequence": group(EffectiveEchoTime=1.5),
    }
    series = series_in([enhanced(frames, timing, EchoPulseSequence="GRADIENT")])
    assert [part.identified.kind for part in series] == ["field map", "field map"]


def test_hundreds_of_frames_of_forty_times(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [
        enhanced_frame(5 * z, FrameContentSequence=group(TemporalPositionIndex=time + 1))
        for time in range(40)
        for z in range(12)
    ]
    looked: list[int] = []
    real = split.ranks_of

    def counted(frames: Sequence[Frame]) -> list[int]:
        looked.append(len(frames))
        return real(frames)

    monkeypatch.setattr(split, "ranks_of", counted)
    assert len(series_in([enhanced(frames, ENHANCED_FLAIR)])) == 40
    # Each frame a few times, and not once for every time of all.
    assert sum(looked) <= 4 * len(frames)


# What exports throw into one series.

ONE: Values = {"SeriesInstanceUID": "1.2.9", "SeriesNumber": 3}
GIVEN = {"ContrastBolusAgent": "Gadovist"}


def moved(mm: float) -> tuple[float, float, float]:
    return (-100.0, -110.0, -40.0 + mm)


@pytest.mark.parametrize(
    ("first", "second"), [(0, 0), (1, 2), (3, 3), (0.5, 0.5), (0, 1), (120, 240)]
)
def test_three_sequences_in_one_series_are_three(first: float, second: float) -> None:
    t1 = {**T1_SE, **ONE}
    series = series_in(
        [
            *stack(20, **FLAIR, **ONE),
            *stack(20, **t1, start=40, origin=moved(first), time="103000"),
            *stack(20, **t1, **GIVEN, start=80, origin=moved(second), time="110000"),
        ]
    )
    assert sorted(str(part.identified.kind) for part in series) == [
        *("FLAIR", "T1", "T1 after contrast")
    ]
    assert [len(part.frames) for part in series] == [20, 20, 20]
    assert len({part.place for part in series}) == 3
    assert not [note for part in series for note in part.flags]


def test_another_matrix_is_another_stack() -> None:
    small: Values = {**T1_SE, "Rows": 32, "Columns": 32}
    series = series_in([*stack(20, **FLAIR, **ONE), *stack(20, **small, **ONE, start=40)])
    assert sorted(part.identified.kind for part in series if part.usable) == ["FLAIR", "T1"]


def test_a_scan_repeated_after_a_move_is_two_stacks() -> None:
    for shift in (0.5, 3.0):
        second = {**T1_SE, **ONE, "start": 40, "origin": moved(shift)}
        both = [*stack(20, **T1_SE, **ONE, time="100000"), *stack(20, **second, time="103000")]
        series = series_in(both)
        assert [len(part.frames) for part in series] == [20, 20]
        assert series[0].acquired != series[1].acquired
    for index, image in enumerate(both):  # slices with times of their own
        image.header.AcquisitionTime = f"10{5 if index < 20 else 25:02d}{2 * (index % 20):02d}"
    assert [len(part.frames) for part in series_in(both)] == [20, 20]


FIRST: Values = {**T1_SE, **ONE, "time": "100000"}
SECOND: Values = {**T1_SE, **ONE, "time": "100300", "start": 40}
LEFT_ALONE: dict[str, list[Instance]] = {
    "odd and even slices of their own times": [
        *stack(at=range(0, 20, 2), **FIRST, SliceThickness=5),
        *stack(at=range(1, 20, 2), **SECOND),
    ],
    "two slabs, the upper one later": [
        *stack(at=range(10), **FIRST),
        *stack(at=range(10, 20), **SECOND),
    ],
    "TR that varies a little from slice to slice": [
        image
        for k in range(12)
        for image in stack(at=[k], **{**FLAIR, **ONE, "RepetitionTime": 9000 + 40 * k}, start=k)
    ],
    "slices missing": [*stack(at=[0, 1, 2, 5, 6, 9], **FIRST), *stack(at=[3, 7, 8], **SECOND)],
    "acquisition numbers that count slices": [
        image
        for k in range(8)
        for image in stack(at=[k], start=k, **T1_SE, AcquisitionNumber=31744 + k)
    ],
    "echoes without repetition": [
        *stack(3, **FLAIR, EchoNumbers=1),
        *stack(at=[3, 4], start=4, **FLAIR, EchoNumbers=2),
    ],
    "directions within a degree": [
        *stack(3, **FLAIR),
        *stack(at=[3, 4], start=4, orientation=(1, 0, 0, 0, 0.99999, 0.003), **FLAIR),
    ],
}


@pytest.mark.parametrize("instances", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_one_stack_stays_one(instances: list[Instance]) -> None:
    (series,) = series_in(instances)
    assert len(series.frames) == len(instances)
    assert series.part == ""


# Order, place and gaps.


@pytest.mark.parametrize("seed", range(5))
def test_every_pixel_of_an_oblique_stack_lies_where_the_standard_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    orientation = tuple(float(f"{cosine:.8f}") for cosine in (*turn[0], *turn[1]))
    series = one_series(stack(4, orientation=orientation, **FLAIR))
    assert series.geometry is not None
    assert series.geometry.slice_spacing == pytest.approx(6)
    for index, frame in enumerate(series.frames):
        assert frame.position is not None
        row, column = rng.integers(0, 64, 2)
        # PS3.3 equation C.7.6.2.1-1, in LPS.
        across, down = (
            column * 0.8 * np.array(orientation[:3]),
            row * 0.9 * np.array(orientation[3:]),
        )
        world = series.geometry.to_world(np.array([index, row, column]))
        np.testing.assert_allclose(world, (frame.position + across + down) * (-1, -1, 1), atol=1e-4)


def test_numbers_and_names_never_decide_the_order() -> None:
    instances = stack(8, **FLAIR)
    for index, image in enumerate(instances):
        image.header.InstanceNumber = 100 - index
    series = one_series(instances)
    heights = [frame.position[2] for frame in series.frames if frame.position is not None]
    assert heights == sorted(heights)
    assert series.frames[0].instance is instances[0]


@pytest.mark.parametrize(
    ("at", "expected", "words"),
    [
        ([0, 1, 2, 3, 4, 5], [], ""),
        ([0, 1, 2, 4, 5, 6], ["MISSING_SLICES"], "1 slice is missing"),
        ([0, 2, 3], ["MISSING_SLICES"], "1 slice is missing"),  # of two gaps neither is usual
        ([0, 1, 2, 6, 7, 8], ["MISSING_SLICES"], "3 slices are missing (between slices 3 and 4)"),
        ([0, 1, 2, 3.4, 4.4, 5.4], ["UNEVEN_SPACING"], "6.00 to 8.40 mm"),
        ([0, 1, 3, 4, 5.3, 6.3, 7.3], ["MISSING_SLICES", "UNEVEN_SPACING"], "lower bounds"),
        ([0, 1.004, 2, 3, 4], [], ""),  # rounding
        ([0], ["SINGLE_SLICE"], "its thickness, 5 mm, counts as the distance to the next"),
    ],
)
def test_gaps(at: list[float], expected: list[str], words: str) -> None:
    series = one_series(stack(at=at, **FLAIR))
    assert codes(series) == expected
    assert words in str(series.flags)
    assert series.usable
    assert series.geometry is not None
    usual = 6.0 * np.median(np.diff(at)) if len(at) > 1 else 5.0
    assert series.geometry.slice_spacing == pytest.approx(usual)


def test_tilt_is_kept_and_flagged() -> None:
    series = one_series(stack(8, shift=(0.0, 6.0 * np.tan(np.deg2rad(12)), 0.0), **FLAIR))
    assert codes(series) == ["GANTRY_TILT"]
    assert "12.0 degrees" in series.flags[0].message
    assert series.geometry is not None
    assert series.geometry.slice_spacing == pytest.approx(6.0)


@pytest.mark.parametrize(
    "values",
    [
        {"ImageOrientationPatient": None},
        {"ImagePositionPatient": None},
        {"PixelSpacing": None},
        {"PixelSpacing": [0.01, 0.01]},
        {"PixelSpacing": [25, 25]},
        {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
        {"step": 30},
    ],
    ids=str,
)
def test_no_geometry(values: Values) -> None:
    series = one_series(stack(5, **{**FLAIR, **values}))
    assert series.geometry is None
    assert codes(series) == ["NO_GEOMETRY"]
    assert series.usable
    assert [frame.instance.header.InstanceNumber for frame in series.frames] == [1, 2, 3, 4, 5]


def test_directions_that_contradict_the_positions_give_no_geometry() -> None:
    """Slices turned by less than a degree are one stack; far apart in their plane they change places."""
    instances = stack(7, step=1.0, **FLAIR)
    tilt = np.deg2rad(0.9)
    for index, image in enumerate(instances):
        x, y, z = image.header.ImagePositionPatient
        image.header.ImagePositionPatient = [x, y + 150 * (index % 2), z]
        if index in (0, 5):
            image.header.ImageOrientationPatient = [1, 0, 0, 0, np.cos(tilt), np.sin(tilt)]
    for series in series_in(instances):
        assert series.geometry is None or len(series.frames) < 7
    assert "NO_GEOMETRY" in {code for series in series_in(instances) for code in codes(series)}
