"""Series: what belongs together, what is flagged, what cannot be read, and what it costs."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

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
    series = one_series(stack(12, 3, **FLAIR, SeriesDescription="ax\x1b[31m flair"))
    assert (series.number, series.part, series.shape) == (3, "", (12, 64, 64))
    assert series.identified.sequence is MrSequence.FLAIR
    assert series.usable
    assert series.flags == ()
    assert "\x1b" not in series.description
    assert series.place == "series 3"


def test_what_comes_from_headers_is_printable() -> None:
    instances = stack(3, **FLAIR, StackID="a\x1b") + stack(3, start=11, **FLAIR, StackID="b\x1b")
    odd = instance(SeriesNumber=2, SOPClassUID=uid.CTImageStorage)
    odd.header["Modality"]._value = "X\x1b"
    instances.append(odd)
    for series in series_in(instances):
        shows = series.identified
        assert (series.part + series.place + shows.kind + shows.why).isprintable()


def concatenated(parts: list[int], total: int) -> list[Instance]:
    return [
        enhanced(
            [enhanced_frame(20 * part + 5 * k) for k in range(4)],
            ENHANCED_FLAIR,
            ConcatenationUID="1.2.3.77",
            InConcatenationNumber=part,
            InConcatenationTotalNumber=total,
            SOPInstanceUID=f"{STUDY}.1.{part}",
        )
        for part in parts
    ]


def test_concatenations_are_joined_and_a_missing_part_is_flagged() -> None:
    whole = one_series(concatenated([1, 2], total=2))
    assert (whole.shape[0], whole.flags) == (8, ())
    broken = one_series(concatenated([1, 3], total=3))
    assert codes(broken)[0] == "MISSING_SLICES"
    assert "3 files only 2" in broken.flags[0].message


UNREADABLE: dict[str, tuple[Instance, type[Exception], str]] = {
    "mpeg": (instance(**FLAIR, syntax=uid.MPEG2MPML), UnsupportedInputError, "MPEG2"),
    "rgb": (
        instance(**FLAIR, SamplesPerPixel=3, PhotometricInterpretation="RGB"),
        UnsupportedInputError,
        "RGB",
    ),
    "palette": (
        instance(**FLAIR, PhotometricInterpretation="PALETTE COLOR"),
        UnsupportedInputError,
        "PALETTE COLOR",
    ),
    "no pixels": (instance(**FLAIR, pixels=False), DamagedInputError, "no pixels"),
    "no rows": (instance(**FLAIR, Rows=None), DamagedInputError, "no rows"),
    "fewer frames than claimed": (
        enhanced([enhanced_frame(0)], ENHANCED_FLAIR, NumberOfFrames=9),
        DamagedInputError,
        "claims 9 frames and describes 1",
    ),
}


@pytest.mark.parametrize(("image", "error", "words"), UNREADABLE.values(), ids=UNREADABLE)
def test_images_that_cannot_be_read_say_why(
    image: Instance, error: type[Exception], words: str
) -> None:
    series = one_series([image])
    assert isinstance(series.error, error)
    assert words in str(series.error)
    assert not series.usable


def test_loss_and_oddities_are_flagged() -> None:
    series = one_series(
        [instance(syntax=uid.JPEGBaseline8Bit, oddities=("no preamble", "no meta header"), **FLAIR)]
    )
    assert codes(series) == ["SINGLE_SLICE", "LOSSY_SOURCE", "NONSTANDARD_FILE"]
    assert "no preamble" in series.flags[2].message


def test_objects_without_pixels_are_listed_with_no_error_of_their_own() -> None:
    report = instance(
        Modality="SR",
        SOPClassUID=uid.BasicTextSRStorage,
        Rows=None,
        Columns=None,
        pixels=False,
        ImagePositionPatient=None,
    )
    series = one_series([report])
    assert (series.shape, series.error, series.flags) == ((1, 0, 0), None, ())
    assert series.identified.kind == "structured report"


def test_a_capture_in_a_series_of_slices_costs_it_nothing() -> None:
    capture = instance(
        **FLAIR,
        SOPClassUID=uid.SecondaryCaptureImageStorage,
        SOPInstanceUID="1.2.3.5",
        ImagePositionPatient=None,
        Rows=512,
    )
    series = series_in([*stack(5, **FLAIR), capture])
    assert sorted(part.usable for part in series) == [False, True]
    assert next(part for part in series if part.usable).geometry is not None


def test_studies_are_apart_and_missing_uids_are_not_mixed() -> None:
    other = stack(3, 2, **FLAIR, StudyInstanceUID="1.2.3.2")
    nameless = {"SeriesInstanceUID": None}
    bare = stack(3, 3, **FLAIR, **nameless) + stack(3, 4, **T1_SE, **nameless)
    studies = series_of([*stack(3, 1, **FLAIR), *other, *bare])
    assert {key.uid: len(series) for key, series in studies.items()} == {STUDY: 3, "1.2.3.2": 1}


def test_each_frame_of_a_study_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    instances = [image for k in (1, 2, 3) for image in stack(20, k, 1.0, **FLAIR)]
    looked: list[Instance] = []
    real = series_module.frames_of

    def counted(image: Instance) -> tuple[Frame, ...]:
        looked.append(image)
        return real(image)

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
    for image in instances:
        headers = [image.header, *image.header.get("PerFrameFunctionalGroupsSequence", [])]
        headers += image.header.get("SharedFunctionalGroupsSequence", [])
        for header in headers:
            for element in list(header):
                dice = rng.random()
                if dice < 0.1:
                    del header[element.tag]
                elif dice < 0.3 and element.VR != "SQ":
                    element._value = rng.choice(junk)
    for study in series_of(instances).values():
        for series in study:
            count, geometry = series.shape[0], series.geometry
            assert series.identified.why
            assert geometry is None or geometry.slices == len(series.frames) == count
        with suppress(GliosightError):
            assert choose(study).chosen[MrSequence.FLAIR].usable


def read_folder(folder: Path) -> tuple[Series, ...]:
    budget, pool = Budget(Limits()), Pool()
    instances = [
        read_instance(path, path.name, budget, pool)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    return tuple(series for study in series_of(instances).values() for series in study)


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
    series = read_folder(data / "dicom" / folder)
    assert {part.identified.kind for part in series} == kinds
    assert {part.identified.sequence for part in series} == {sequence}
    assert all(part.usable for part in series) == (kinds <= {"T1", "PD"})
    assert [part.shape for part in series] == shapes
    assert all(part.error is None and part.geometry is not None for part in series)
