"""Series: what belongs together, what is flagged, what cannot be read, and what it costs."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydicom import uid

from gliosight.errors import DamagedInputError, GliosightError, UnsupportedInputError
from gliosight.read.dicom import series as series_module
from gliosight.read.dicom.acquisition import Frame
from gliosight.read.dicom.choose import choose
from gliosight.read.dicom.elements import Pool
from gliosight.read.dicom.instances import Instance, read_instance
from gliosight.read.dicom.series import Series, series_of
from gliosight.read.limits import Budget, Limits
from gliosight.study import MrSequence

from .builders_series import (
    ENHANCED_FLAIR,
    FLAIR,
    MPRAGE,
    STUDY,
    T1_SE,
    codes,
    enhanced,
    enhanced_frame,
    group,
    instance,
    one_series,
    series_in,
    stack,
)


def test_a_plain_stack() -> None:
    found = one_series(stack(12, 3, **FLAIR, SeriesDescription="ax\x1b[31m flair"))
    assert (found.number, found.part, found.shape) == (3, "", (12, 64, 64))
    assert found.identified.sequence is MrSequence.FLAIR
    assert found.usable
    assert found.flags == ()
    assert "\x1b" not in found.description
    assert found.place == "series 3"


def test_one_uid_at_two_places_is_two_images() -> None:
    instances = stack(6, **FLAIR)
    for one in instances:
        one.header.SOPInstanceUID = "1.2.3.4"  # what a careless anonymiser writes
    assert one_series(instances).shape[0] == 6


def test_what_comes_from_headers_is_printable() -> None:
    instances = stack(3, **FLAIR, StackID="a\x1b") + stack(3, start=11, **FLAIR, StackID="b\x1b")
    odd = instance(SeriesNumber=2, SOPClassUID=uid.CTImageStorage)
    odd.header["Modality"]._value = "X\x1b"
    instances.append(odd)
    for one in series_in(instances):
        assert (one.part + one.place + one.identified.kind + one.identified.why).isprintable()


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
    assert {key.uid: len(one) for key, one in found.items()} == {STUDY: 3, "1.2.3.2": 1}


def test_each_frame_of_a_study_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    instances = [one for number in (1, 2, 3) for one in stack(155, number, 1.0, **FLAIR)]
    looked: list[Instance] = []
    real = series_module.frames_of

    def counted(one: Instance) -> tuple[Frame, ...]:
        looked.append(one)
        return real(one)

    monkeypatch.setattr(series_module, "frames_of", counted)
    assert len(series_in(instances)) == 3
    assert len(looked) == len(instances)


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
            assert choose(found).chosen[MrSequence.FLAIR].usable


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
        ("ge_T1_mprage_R22", {"T1"}, MrSequence.T1, [(130, 256, 256)]),
        ("siemens_xa30_enhanced_T1w", {"T1"}, MrSequence.T1, [(96, 128, 128)]),
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
    sequence: MrSequence | None,
    shapes: list[tuple[int, int, int]],
) -> None:
    found = read_folder(data / "dicom" / folder)
    assert {one.identified.kind for one in found} == kinds
    assert {one.identified.sequence for one in found} == {sequence}
    assert all(one.usable for one in found) == (kinds <= {"T1", "PD"})
    assert [one.shape for one in found] == shapes
    assert all(one.error is None and one.geometry is not None for one in found)
