"""What one SeriesInstanceUID holds, split by what tells its slices apart, or not split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from gliosight.errors import DamagedInputError, UnsupportedInputError
from gliosight.read.dicom import split
from gliosight.read.dicom.acquisition import Frame
from gliosight.study import MrSequence

from .builders_series import (
    AXIAL,
    CORONAL,
    ENHANCED_FLAIR,
    FLAIR,
    MPRAGE,
    SAGITTAL,
    T1_SE,
    enhanced,
    enhanced_frame,
    group,
    one_series,
    series_in,
    stack,
)


def test_acquisition_numbers_that_count_slices_do_not_split() -> None:
    instances = stack(8, **T1_SE)
    for index, one in enumerate(instances):
        one.header.AcquisitionNumber = 31744 + index
    assert one_series(instances).shape[0] == 8


def test_unexplained_repetition_is_damage_and_names_both() -> None:
    again = stack(1, at=[2], start=50, **FLAIR)
    found = one_series([*stack(6, **FLAIR), *again])
    assert isinstance(found.error, DamagedInputError)
    assert "series 1, instance 3" in found.error.line()
    assert "series 1, instance 50" in found.error.line()
    assert not found.usable
    assert found.identified.sequence is MrSequence.FLAIR


REPEATED: list[tuple[str, list[dict[str, Any]], list[str]]] = [
    (
        "echoes",
        [{"EchoNumbers": 1, "EchoTime": 20}, {"EchoNumbers": 2, "EchoTime": 90}],
        ["echo 1", "echo 2"],
    ),
    ("echo times alone", [{"EchoTime": 20}, {"EchoTime": 90}], ["echo 1", "echo 2"]),
    (
        "times",
        [{"TemporalPositionIdentifier": one} for one in (1, 2, 3)],
        ["time 1 of 3", "time 2 of 3", "time 3 of 3"],
    ),
    (
        "b values",
        [{"DiffusionBValue": 0.0}, {"DiffusionBValue": 1000.0}],
        ["b value 0", "b value 1000"],
    ),
    (
        "inversion times",
        [{"InversionTime": 700}, {"InversionTime": 2500}],
        ["inversion time 700 ms", "inversion time 2500 ms"],
    ),
    (
        "acquisitions",
        [{"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}],
        ["acquisition 1", "acquisition 2"],
    ),
    (
        "times of the clock alone",
        [{"AcquisitionTime": "101500"}, {"AcquisitionTime": "101700"}],
        ["time 1 of 2", "time 2 of 2"],
    ),
    (
        "magnitude and phase",
        [
            {"ImageType": ["ORIGINAL", "PRIMARY", "M"]},
            {"ImageType": ["ORIGINAL", "PRIMARY", "P"]},
        ],
        ["magnitude", "phase"],
    ),
    (
        "image types",
        [{"ImageType": ["ORIGINAL", "PRIMARY", "A"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "B"]}],
        ["image type 1", "image type 2"],
    ),
]


@pytest.mark.parametrize(
    ("varied", "parts"), [one[1:] for one in REPEATED], ids=[one[0] for one in REPEATED]
)
def test_repeated_positions_are_split_by_the_tag_that_explains(
    varied: list[dict[str, Any]], parts: list[str]
) -> None:
    instances = [
        one
        for index, values in enumerate(varied)
        for one in stack(5, start=1 + 10 * index, **{**FLAIR, **values})
    ]
    found = series_in(instances)
    assert sorted(one.part for one in found) == sorted(parts)
    assert all(one.shape[0] == 5 and one.error is None for one in found)
    assert len({one.uid for one in found}) == 1


def test_diffusion_is_split_by_weighting_and_direction() -> None:
    instances = stack(4, **FLAIR, DiffusionBValue=0.0)
    for index, direction in enumerate(([1, 0, 0], [0, 1, 0], [0, 0, 1]), 1):
        instances += stack(
            4,
            start=1 + 10 * index,
            **FLAIR,
            DiffusionBValue=1000.0,
            DiffusionGradientOrientation=[float(one) for one in direction],
        )
    found = series_in(instances)
    assert [one.shape[0] for one in found] == [4] * 4
    assert sum("direction" in one.part for one in found) == 3


def test_times_of_the_clock_split_turns_of_single_slices() -> None:
    instances = stack(5, **T1_SE) + stack(5, start=11, **T1_SE)
    for index, one in enumerate(instances):  # each slice at a time of its own
        one.header.AcquisitionTime = f"1015{index:02d}"
    assert [one.part for one in series_in(instances)] == ["time 1 of 2", "time 2 of 2"]


def test_many_times_of_a_t1_are_a_dynamic_series() -> None:
    values = {**MPRAGE, "InversionTime": None, "ScanningSequence": "GR", "RepetitionTime": 5}
    instances = [
        one
        for time in range(6)
        for one in stack(3, start=1 + 10 * time, **values, TemporalPositionIdentifier=time + 1)
    ]
    found = series_in(instances)
    assert len(found) == 6
    assert {one.identified.kind for one in found} == {"dynamic series"}


def test_echoes_without_repetition_stay_together() -> None:
    instances = stack(3, **FLAIR, EchoNumbers=1) + stack(at=[3, 4], start=4, **FLAIR, EchoNumbers=2)
    assert one_series(instances).shape[0] == 5


def test_a_three_plane_localizer_is_split_and_known() -> None:
    values = {**MPRAGE, "InversionTime": None, "ScanningSequence": "GR", "RepetitionTime": 8.6}
    instances = [
        one
        for index, plane in enumerate((AXIAL, SAGITTAL, CORONAL))
        for one in stack(3, start=1 + 10 * index, orientation=plane, **values, Rows=64 + index)
    ]
    found = series_in(instances)
    assert sorted(one.part for one in found) == ["orientation 1", "orientation 2", "orientation 3"]
    assert {one.identified.kind for one in found} == {"localizer"}
    assert all(one.error is None for one in found)


def test_directions_within_a_degree_are_one() -> None:
    instances = stack(6, **FLAIR)
    instances[2].header.ImageOrientationPatient = [1, 0, 0, 0, 0.99999, 0.003]
    assert one_series(instances).shape[0] == 6


def test_turned_views_are_no_stack() -> None:
    instances = []
    for index in range(40):
        angle = np.deg2rad(4 * index)
        plane = [float(np.cos(angle)), float(np.sin(angle)), 0.0, 0.0, 0.0, -1.0]
        instances += stack(1, start=index + 1, orientation=tuple(plane), **FLAIR)
    found = one_series(instances)
    assert isinstance(found.error, UnsupportedInputError)


def test_two_sizes_in_one_stack_are_damage_and_name_both() -> None:
    instances = stack(6, **FLAIR)
    instances[4].header.Rows = 32
    found = one_series(instances)
    assert isinstance(found.error, DamagedInputError)
    assert "series 1, instance 5" in found.error.line()
    assert "64 x 64 and 32 x 64" in found.error.line()
    assert found.shape == (5, 64, 64)


def test_pixel_spacings_are_split() -> None:
    instances = stack(4, **FLAIR) + stack(4, start=11, **FLAIR, PixelSpacing=[0.5, 0.5])
    assert len(series_in(instances)) == 2


def test_enhanced_is_one_series_and_philips_stacks_are_split() -> None:
    frames = [
        enhanced_frame(z, FrameContentSequence=group(TemporalPositionIndex=time))
        for time in (1, 2)
        for z in (10, 0, 5)
    ]
    found = series_in([enhanced(frames, ENHANCED_FLAIR)])
    assert [one.part for one in found] == ["time 1 of 2", "time 2 of 2"]
    assert [[f.number for f in one.frames] for one in found] == [[2, 3, 1], [5, 6, 4]]
    assert {one.identified.sequence for one in found} == {MrSequence.FLAIR}


def test_a_field_map_s_companion_is_none_either() -> None:
    def frame(z: float, kind: str, part: str) -> dict[str, Any]:
        image = group(FrameType=["ORIGINAL", "PRIMARY", "T1", kind], ComplexImageComponent=part)
        return enhanced_frame(z, MRImageFrameTypeSequence=image)

    frames = [frame(z, "M", "MAGNITUDE") for z in (0, 5)]
    frames += [frame(z, "FIELD_MAP", "REAL") for z in (0, 5)]
    timing = {
        "MRTimingAndRelatedParametersSequence": group(RepetitionTime=4, FlipAngle=12),
        "MREchoSequence": group(EffectiveEchoTime=1.5),
    }
    found = series_in([enhanced(frames, timing, EchoPulseSequence="GRADIENT")])
    assert [one.identified.kind for one in found] == ["field map", "field map"]


def test_hundreds_of_frames_of_forty_times(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [
        enhanced_frame(5 * z, FrameContentSequence=group(TemporalPositionIndex=time + 1))
        for time in range(40)
        for z in range(12)
    ]
    looked: list[int] = []
    real = split._places

    def counted(frames: Sequence[Frame]) -> list[int]:
        looked.append(len(frames))
        return real(frames)

    monkeypatch.setattr(split, "_places", counted)
    found = series_in([enhanced(frames, ENHANCED_FLAIR)])
    assert len(found) == 40
    # Each frame a few times, and not once for every time of all.
    assert sum(looked) <= 4 * len(frames)


def test_a_series_exported_twice_with_other_pixels_says_how_many_pairs() -> None:
    found = one_series(stack(6, **FLAIR) + stack(6, start=50, **FLAIR))
    assert isinstance(found.error, DamagedInputError)
    assert "6 pairs of images lie at one place each" in found.error.line()
    assert "exported twice" in found.error.line()
