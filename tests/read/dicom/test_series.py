"""Series: what belongs together, in which order, where it lies."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pytest
from pydicom import uid

from gliosight.errors import DamagedInputError, GliosightError, UnsupportedInputError
from gliosight.read.dicom.choose import choose
from gliosight.read.dicom.headers import Pool
from gliosight.read.dicom.instances import Instance, read_instance
from gliosight.read.dicom.series import Series, series_of
from gliosight.read.limits import Budget, Limits
from gliosight.study import Sequence

from .builders_series import (
    AXIAL,
    CORONAL,
    ENHANCED_FLAIR,
    FLAIR,
    MPRAGE,
    SAGITTAL,
    STUDY,
    T1_SE,
    enhanced,
    enhanced_frame,
    group,
    instance,
    stack,
)


def series_in(instances: list[Instance]) -> tuple[Series, ...]:
    """The series of one study, given in a shuffled order."""
    shuffled = list(instances)
    random.Random(7).shuffle(shuffled)  # noqa: S311 - an order, no secret
    (found,) = series_of(shuffled).values()
    return found


def one_series(instances: list[Instance]) -> Series:
    (found,) = series_in(instances)
    return found


def codes(series: Series) -> list[str]:
    return [one.code for one in series.flags]


def test_a_plain_stack() -> None:
    found = one_series(stack(12, 3, **FLAIR, SeriesDescription="ax\x1b[31m flair"))
    assert (found.number, found.part, found.shape) == (3, "", (12, 64, 64))
    assert found.identified.sequence is Sequence.FLAIR
    assert found.usable
    assert found.flags == ()
    assert "\x1b" not in found.description
    assert found.place == "series 3"


@pytest.mark.parametrize(
    ("orientation", "row", "column", "normal"),
    [
        # LPS: columns grow to the left, rows to the back, slices up. RAS: the same, signs turned.
        (AXIAL, (0, -1, 0), (-1, 0, 0), (0, 0, 1)),
        (SAGITTAL, (0, 0, -1), (0, -1, 0), (1, 0, 0)),
        (CORONAL, (0, 0, -1), (-1, 0, 0), (0, -1, 0)),
    ],
)
def test_geometry_is_ras_with_rows_down_the_second_triple(
    orientation: tuple[float, ...],
    row: tuple[int, ...],
    column: tuple[int, ...],
    normal: tuple[int, ...],
) -> None:
    geometry = one_series(stack(5, orientation=orientation, **FLAIR)).geometry
    assert geometry is not None
    np.testing.assert_allclose(geometry.row_direction, row, atol=1e-9)
    np.testing.assert_allclose(geometry.column_direction, column, atol=1e-9)
    # Across is the first triple, down the second: the normal of LPS is theirs, turned like them.
    lps = np.cross(orientation[:3], orientation[3:])
    np.testing.assert_allclose(geometry.normal, lps * (-1, -1, 1), atol=1e-9)
    np.testing.assert_allclose(np.abs(geometry.normal), np.abs(normal), atol=1e-9)
    assert geometry.spacing == (0.9, 0.8)
    assert geometry.slice_spacing == pytest.approx(6)


@pytest.mark.parametrize("seed", range(5))
def test_every_pixel_of_an_oblique_stack_lies_where_the_standard_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    orientation = tuple(float(f"{one:.8f}") for one in (*turn[0], *turn[1]))
    found = one_series(stack(4, orientation=orientation, **FLAIR))
    assert found.geometry is not None
    for index, frame in enumerate(found.frames):
        assert frame.position is not None
        row, column = rng.integers(0, 64, 2)
        # PS3.3 equation C.7.6.2.1-1.
        lps = (
            frame.position
            + column * 0.8 * np.array(orientation[:3])
            + row * 0.9 * np.array(orientation[3:])
        )
        world = found.geometry.to_world(np.array([index, row, column]))
        np.testing.assert_allclose(world, lps * (-1, -1, 1), atol=1e-4)


def test_numbers_and_names_never_decide_the_order() -> None:
    instances = stack(8, **FLAIR)
    for index, one in enumerate(instances):
        one.header.InstanceNumber = 100 - index
    found = one_series(instances)
    heights = [one.position[2] for one in found.frames if one.position is not None]
    assert heights == sorted(heights)
    assert found.frames[0].instance is instances[0]


def test_acquisition_numbers_that_count_slices_do_not_split() -> None:
    instances = stack(8, **T1_SE)
    for index, one in enumerate(instances):
        one.header.AcquisitionNumber = 31744 + index
    assert one_series(instances).shape[0] == 8


def test_the_same_image_twice_counts_once() -> None:
    assert one_series([*stack(6, **FLAIR), *stack(6, **FLAIR)]).shape[0] == 6


def test_one_uid_at_two_places_is_two_images() -> None:
    instances = stack(6, **FLAIR)
    for one in instances:
        one.header.SOPInstanceUID = "1.2.3.4"  # what a careless anonymiser writes
    assert one_series(instances).shape[0] == 6


def test_unexplained_repetition_is_damage_and_names_both() -> None:
    again = stack(1, at=[2], start=50, **FLAIR)
    found = one_series([*stack(6, **FLAIR), *again])
    assert isinstance(found.error, DamagedInputError)
    assert "series 1, instance 3" in found.error.line()
    assert "series 1, instance 50" in found.error.line()
    assert not found.usable
    assert found.identified.sequence is Sequence.FLAIR


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


def test_what_comes_from_headers_is_printable() -> None:
    instances = stack(3, **FLAIR, StackID="a\x1b") + stack(3, start=11, **FLAIR, StackID="b\x1b")
    odd = instance(SeriesNumber=2, SOPClassUID=uid.CTImageStorage)
    odd.header["Modality"]._value = "X\x1b"
    instances.append(odd)
    for one in series_in(instances):
        assert (one.part + one.place + one.identified.kind + one.identified.why).isprintable()


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


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ([0, 1, 2, 3, 4, 5], []),
        ([0, 1, 2, 4, 5, 6], ["MISSING_SLICES"]),
        ([0, 1, 2, 6, 7, 8], ["MISSING_SLICES"]),
        ([0, 1, 2, 3.4, 4.4, 5.4], ["UNEVEN_SPACING"]),
        ([0, 1, 3, 4, 5.3, 6.3, 7.3], ["MISSING_SLICES", "UNEVEN_SPACING"]),
        ([0, 1.004, 2, 3, 4], []),  # rounding
        ([0], ["SINGLE_SLICE"]),
    ],
)
def test_gaps(at: list[float], expected: list[str]) -> None:
    found = one_series(stack(at=at, **FLAIR))
    assert codes(found) == expected
    assert found.usable
    assert found.geometry is not None
    assert found.geometry.slice_spacing == pytest.approx(6.0 if len(at) > 1 else 5.0)


def test_missing_slices_are_counted() -> None:
    found = one_series(stack(at=[0, 1, 2, 6, 7, 8], **FLAIR))
    assert found.flags[0].message.startswith("3 slices missing (between slices 2 and 3)")


def test_tilt_is_kept_and_flagged() -> None:
    found = one_series(stack(8, shift=(0.0, 6.0 * np.tan(np.deg2rad(12)), 0.0), **FLAIR))
    assert codes(found) == ["GANTRY_TILT"]
    assert "12.0 degrees" in found.flags[0].message
    assert found.geometry is not None
    assert found.geometry.slice_spacing == pytest.approx(6.0)


@pytest.mark.parametrize(
    "values",
    [
        {"ImageOrientationPatient": None},
        {"ImagePositionPatient": None},
        {"PixelSpacing": None},
        {"PixelSpacing": [0.01, 0.01]},
        {"PixelSpacing": [25, 25]},
        {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
    ],
    ids=str,
)
def test_no_geometry(values: dict[str, Any]) -> None:
    found = one_series(stack(5, **{**FLAIR, **values}))
    assert found.geometry is None
    assert codes(found) == ["NO_GEOMETRY"]
    assert found.usable
    numbers = [one.instance.header.InstanceNumber for one in found.frames]
    assert numbers == [1, 2, 3, 4, 5]


def test_slices_further_apart_than_a_head_allows() -> None:
    assert codes(one_series(stack(3, step=30, **FLAIR))) == ["NO_GEOMETRY"]


def test_enhanced_is_one_series_and_philips_stacks_are_split() -> None:
    frames = [
        enhanced_frame(z, FrameContentSequence=group(TemporalPositionIndex=time))
        for time in (1, 2)
        for z in (10, 0, 5)
    ]
    found = series_in([enhanced(frames, ENHANCED_FLAIR)])
    assert [one.part for one in found] == ["time 1 of 2", "time 2 of 2"]
    assert [[f.number for f in one.frames] for one in found] == [[2, 3, 1], [5, 6, 4]]
    assert {one.identified.sequence for one in found} == {Sequence.FLAIR}


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


def concatenated(parts: list[int], total: int = 2) -> list[Instance]:
    out = []
    for part in parts:
        one = enhanced(
            [enhanced_frame(20 * part + 5 * k) for k in range(4)],
            ENHANCED_FLAIR,
            ConcatenationUID="1.2.3.77",
            InConcatenationNumber=part,
            InConcatenationTotalNumber=total,
        )
        one.header.SOPInstanceUID = f"{STUDY}.1.{part}"
        out.append(one)
    return out


def test_concatenations_are_joined() -> None:
    found = one_series(concatenated([1, 2]))
    assert found.shape[0] == 8
    assert found.flags == ()


def test_a_missing_part_of_a_concatenation_is_flagged() -> None:
    found = one_series(concatenated([1, 3], total=3))
    assert codes(found)[0] == "MISSING_SLICES"
    assert "3 files only 2" in found.flags[0].message


def test_an_enhanced_object_that_describes_fewer_frames_than_it_claims() -> None:
    found = one_series([enhanced([enhanced_frame(0)], ENHANCED_FLAIR, NumberOfFrames=9)])
    assert isinstance(found.error, DamagedInputError)
    assert "claims 9 frames and describes 1" in found.error.line()


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"syntax": uid.MPEG2MPML}, UnsupportedInputError, "MPEG2"),
        (
            {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"},
            UnsupportedInputError,
            "RGB",
        ),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, UnsupportedInputError, "PALETTE COLOR"),
        ({"pixels": False}, DamagedInputError, "no pixels"),
        ({"Rows": None}, DamagedInputError, "no rows"),
    ],
    ids=["mpeg", "rgb", "palette", "no pixels", "no rows"],
)
def test_images_that_cannot_be_read_say_why(
    values: dict[str, Any], error: type[Exception], words: str
) -> None:
    instances = [instance(**{**FLAIR, **values})]
    found = one_series(instances)
    assert isinstance(found.error, error)
    assert words in str(found.error)
    assert not found.usable


def test_loss_and_oddities_are_flagged() -> None:
    found = one_series(
        [instance(syntax=uid.JPEGBaseline8Bit, oddities=("no preamble", "no meta header"), **FLAIR)]
    )
    assert codes(found) == ["SINGLE_SLICE", "LOSSY_SOURCE", "NONSTANDARD_FILE"]
    assert "no preamble" in found.flags[2].message


def test_objects_without_pixels_are_listed_with_no_error_of_their_own() -> None:
    report = instance(
        Modality="SR",
        SOPClassUID=uid.BasicTextSRStorage,
        Rows=None,
        Columns=None,
        pixels=False,
        ImagePositionPatient=None,
    )
    found = one_series([report])
    assert (found.shape, found.error, found.flags) == ((1, 0, 0), None, ())
    assert found.identified.kind == "structured report"


def test_a_capture_in_a_series_of_slices_costs_it_nothing() -> None:
    capture = instance(
        **FLAIR,
        SOPClassUID=uid.SecondaryCaptureImageStorage,
        SOPInstanceUID="1.2.3.5",
        ImagePositionPatient=None,
        Rows=512,
    )
    found = series_in([*stack(5, **FLAIR), capture])
    assert sorted(one.usable for one in found) == [False, True]
    assert next(one for one in found if one.usable).geometry is not None


def test_studies_are_apart_and_missing_uids_are_not_mixed() -> None:
    other = stack(3, 2, **FLAIR, StudyInstanceUID="1.2.3.2")
    bare = stack(3, 3, **FLAIR, SeriesInstanceUID=None) + stack(
        3, 4, **T1_SE, SeriesInstanceUID=None
    )
    found = series_of([*stack(3, 1, **FLAIR), *other, *bare])
    assert {uid: len(one) for uid, one in found.items()} == {STUDY: 3, "1.2.3.2": 1}


@pytest.mark.slow
def test_a_study_s_series_cost_little() -> None:
    instances = [one for number in (1, 2, 3) for one in stack(155, number, 1.0, **FLAIR)]
    series_of(instances[:10])
    start = process_time()
    assert len(series_in(instances)) == 3
    assert process_time() - start < 1.5  # about 0.15 s on one idle core


def test_hundreds_of_frames_of_forty_times() -> None:
    frames = [
        enhanced_frame(5 * z, FrameContentSequence=group(TemporalPositionIndex=time + 1))
        for time in range(40)
        for z in range(12)
    ]
    start = process_time()
    found = series_in([enhanced(frames, ENHANCED_FLAIR)])
    assert len(found) == 40
    assert process_time() - start < 2


@pytest.mark.parametrize("seed", range(40))
def test_no_header_makes_it_fail(seed: int) -> None:
    """Values torn out and replaced at random: an answer each time, never an exception."""
    rng = random.Random(seed)  # noqa: S311 - a test's dice
    frames = [enhanced_frame(z, FrameContentSequence=group(StackID="1")) for z in (0, 5, 10)]
    instances = [*stack(3, 1, **FLAIR), *stack(3, 2, **MPRAGE), enhanced(frames, ENHANCED_FLAIR, 3)]
    junk = (None, "", "nan", "1e400", "-1", "0", "x\\y", ["1", "2"], ["a"] * 70, 2**70, b"\xff\x00")
    for one in instances:
        headers = [one.header, *one.header.get("PerFrameFunctionalGroupsSequence", [])]
        headers += one.header.get("SharedFunctionalGroupsSequence", [])
        for header in headers:
            for element in list(header):
                dice = rng.random()
                if dice < 0.1:
                    del header[element.tag]
                elif dice < 0.3 and element.VR != "SQ":
                    element._value = rng.choice(junk)
    for found in series_of(instances).values():
        for one in found:
            assert one.identified.why
            assert one.geometry is None or one.geometry.slices == len(one.frames) == one.shape[0]
        with suppress(GliosightError):
            assert choose(found).chosen[Sequence.FLAIR].usable


def read_folder(folder: Path) -> tuple[Series, ...]:
    budget, pool = Budget(Limits()), Pool()
    instances = [
        read_instance(path, path.name, budget, pool)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    return tuple(one for group in series_of(instances).values() for one in group)


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "kinds", "sequence", "shapes"),
    [
        ("ge_T1_mprage_R22", {"T1"}, Sequence.T1, [(130, 256, 256)]),
        ("siemens_xa30_enhanced_T1w", {"T1"}, Sequence.T1, [(96, 128, 128)]),
        ("papaya_brain", {"PD"}, None, [(20, 256, 256)]),
        ("agfa_siemens", {"perfusion or EPI"}, None, [(25, 64, 64)] * 4),
        ("enh_mixed/Siemens", {"perfusion or EPI"}, None, [(6, 64, 64)] * 4),
        ("enh_mixed/Philips", {"field map"}, None, [(32, 64, 64)] * 2),
    ],
)
def test_real_series(
    data: Path,
    folder: str,
    kinds: set[str],
    sequence: Sequence | None,
    shapes: list[tuple[int, int, int]],
) -> None:
    found = read_folder(data / "dicom" / folder)
    assert {one.identified.kind for one in found} == kinds
    assert {one.identified.sequence for one in found} == {sequence}
    assert all(one.usable for one in found) == (kinds <= {"T1", "PD"})
    assert [one.shape for one in found] == shapes
    assert all(one.error is None and one.geometry is not None for one in found)
