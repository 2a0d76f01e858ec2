"""What belongs together, what has changed, in which order: without registration and network."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("SimpleITK", reason="the extra followup is not installed")

from gliosight.analysis import Status
from gliosight.archive.follow_up import compare as comparing
from gliosight.archive.follow_up import visits, words
from gliosight.archive.follow_up.compare import FollowUp, Measure, compare, noise_of
from gliosight.archive.follow_up.register import Registration
from gliosight.archive.follow_up.visits import Read, check_geometry, in_order, notes_of
from gliosight.errors import UnsupportedInputError
from gliosight.study import DicomSource, MrSequence, Source, Volume
from tests.archive.heads import SIDE_MM, Ball, analysis_of

# Voxels have 0.008 ml: a ball of radius 8 has about 17 ml, one of radius 3 has 1.0 ml, one of 2 has 0.3 ml.
RIGHT, LEFT = (20.0, 30.0, 15.0), (20.0, 30.0, 35.0)


@pytest.fixture(autouse=True)
def in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """All studies lie in one world; the common grid is as coarse as they are."""
    here = Registration(np.eye(4), error_mm=0.3, overlap=0.97, similarity=0.9)
    monkeypatch.setattr(comparing, "register", lambda *_: here)
    monkeypatch.setattr(comparing, "COMMON_MM", SIDE_MM)


def follow(*analyses: Any) -> FollowUp:
    sources = [f"study {k}" for k in range(len(analyses))]
    return compare(analyses, sources, [None] * len(analyses), visits.AS_GIVEN)


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        ([(RIGHT, 8.0)], [(RIGHT, 8.0)], ["stable"]),
        ([(RIGHT, 6.0)], [(RIGHT, 9.0)], ["grown"]),
        ([(RIGHT, 9.0)], [(RIGHT, 6.0)], ["shrunk"]),
        ([(RIGHT, 8.0)], [(RIGHT, 8.0), (LEFT, 5.0)], ["stable", "new"]),
        ([(RIGHT, 8.0), (LEFT, 5.0)], [(RIGHT, 8.0)], ["stable", "gone"]),
        ([], [(RIGHT, 5.0)], ["new"]),
        ([(RIGHT, 5.0)], [], ["gone"]),
        # 0.3 ml in one study alone
        ([(RIGHT, 8.0)], [(RIGHT, 8.0), (LEFT, 2.0)], ["stable", "cannot tell"]),
        # of both sides, each with its own change
        ([(RIGHT, 8.0), (LEFT, 4.0)], [(RIGHT, 8.0), (LEFT, 6.0)], ["stable", "grown"]),
        ([], [], []),
    ],
)
def test_each_lesion_is_called_by_its_change(
    before: list[Ball], after: list[Ball], kinds: list[str]
) -> None:
    followed = follow(analysis_of(before), analysis_of(after))
    assert [lesion.changes[0].kind for lesion in followed.lesions] == kinds
    assert [lesion.id for lesion in followed.lesions] == list(range(1, len(kinds) + 1))
    for lesion in followed.lesions:
        first, last = (measure.volume_ml for measure in lesion.measures)
        assert lesion.changes[0].ml == pytest.approx(last - first)
        if first:
            assert lesion.changes[0].percent == pytest.approx(100 * (last / first - 1))


def test_sides_are_those_of_the_patient() -> None:
    followed = follow(
        analysis_of([(RIGHT, 8.0), (LEFT, 5.0)]), analysis_of([(RIGHT, 8.0), (LEFT, 5.0)])
    )
    assert [lesion.side for lesion in followed.lesions] == ["right", "left"]
    columns = followed.grid.to_voxels(np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]))[:, 2]
    labels = followed.labels[1]
    assert labels is not None
    right, left = (np.argwhere(labels == number)[:, 2].mean() for number in (1, 2))
    assert (right < left) == (columns[0] < columns[1])


def test_a_lesion_that_splits_or_merges_stays_one() -> None:
    two: list[Ball] = [((20, 22, 15), 5.0), ((20, 36, 15), 5.0)]
    one: list[Ball] = [*two, ((20, 29, 15), 5.0)]
    for before, after in ((one, two), (two, one)):
        followed = follow(analysis_of(before), analysis_of(after))
        (lesion,) = followed.lesions
        assert sorted(len(measure.findings) for measure in lesion.measures) == [1, 2]
        ml = [sum(f.volume_ml or 0 for f in v.analysis.findings) for v in followed.visits]
        assert [measure.volume_ml for measure in lesion.measures] == pytest.approx(ml)


def test_the_product_of_diameters_is_that_of_the_largest_part() -> None:
    followed = follow(analysis_of([(RIGHT, 6.0)]), analysis_of([(RIGHT, 9.0)]))
    products = [measure.product_mm2 for measure in followed.lesions[0].measures]
    expected = [
        v.analysis.findings[0].longest_diameter_mm
        * v.analysis.findings[0].perpendicular_diameter_mm
        for v in followed.visits
    ]
    assert products == pytest.approx(expected)
    change = followed.lesions[0].changes[0].product_percent
    assert change == pytest.approx(100 * (expected[1] / expected[0] - 1))


def test_what_lies_outside_the_later_images_cannot_be_told() -> None:
    high: Ball = ((31.0, 30.0, 18.0), 4.0)
    before = analysis_of([(RIGHT, 6.0), high])
    followed = follow(before, analysis_of([(RIGHT, 6.0)], slices=29))
    kinds = {lesion.changes[0].kind: lesion for lesion in followed.lesions}
    assert set(kinds) == {"stable", "cannot tell"}
    assert "outside the images" in kinds["cannot tell"].changes[0].reason
    assert kinds["cannot tell"].measures[1].volume_ml is None
    # and the whole volume neither
    assert followed.total.changes[0].kind == "cannot tell"
    assert followed.total.measures[1].volume_ml is None


def test_what_reaches_the_edge_cannot_be_told() -> None:
    followed = follow(analysis_of([(RIGHT, 6.0)]), analysis_of([(RIGHT, 6.0)], slices=22))
    (change,) = followed.lesions[0].changes
    assert change.kind == "cannot tell"
    assert "edge" in change.reason


def test_after_a_failed_registration_nothing_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = Registration(np.eye(4), failure="The heads overlap by 0.30 after registration.")
    monkeypatch.setattr(comparing, "register", lambda *_: failed)
    followed = follow(analysis_of([(RIGHT, 6.0)]), analysis_of([(RIGHT, 6.0)]))
    changes = [lesion.changes[0] for lesion in (*followed.lesions, followed.total)]
    assert {change.kind for change in changes} == {"cannot tell"}
    assert all("overlap by 0.30" in change.reason for change in changes)
    assert followed.labels[1] is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": Status.NOT_ASSESSED}, "not assessed"),
        ({"outline": None}, "interval of a volume is not known"),
        (
            {"outline": replace(analysis_of([(RIGHT, 4)]).decision.outline, volume_low=0.2)},
            "so soft",
        ),
    ],
)
def test_what_is_not_known_cannot_be_told(changes: dict[str, Any], reason: str) -> None:
    balls = [] if "status" in changes else [(RIGHT, 6.0)]
    followed = follow(analysis_of([(RIGHT, 6.0)]), analysis_of(balls, **changes))
    (change,) = followed.lesions[0].changes
    assert change.kind == "cannot tell"
    assert reason in change.reason


def test_an_uncertain_verdict_leaves_new_and_gone_open() -> None:
    after = analysis_of([(RIGHT, 6.0), (LEFT, 6.0)], status=Status.UNCERTAIN)
    followed = follow(analysis_of([(RIGHT, 6.0)]), after)
    assert sorted(lesion.changes[0].kind for lesion in followed.lesions) == [
        "cannot tell",
        "stable",
    ]


def test_of_three_studies_each_step_and_the_whole_way_are_told() -> None:
    radii = (6.0, 6.0, 9.0)
    followed = follow(*(analysis_of([(RIGHT, radius)]) for radius in radii))
    changes = followed.lesions[0].changes
    assert [(one.before, one.after) for one in changes] == [(0, 1), (1, 2), (0, 2)]
    assert [one.kind for one in changes] == ["stable", "grown", "grown"]
    assert words.overall(followed.lesions[0]) is changes[-1]


def test_noise_grows_with_the_intervals_and_the_registration_error() -> None:
    def measured(volume: float, half: float) -> Measure:
        return Measure((1,), volume, volume * math.exp(-half), volume * math.exp(half), 1.0)

    sharp, soft = measured(10.0, 0.1), measured(10.0, 0.4)
    assert noise_of(sharp, sharp, 0.0) < noise_of(soft, soft, 0.0)
    assert noise_of(sharp, sharp, 0.0) < noise_of(sharp, sharp, 2.0)
    # an error in mm is worth more of a small lesion
    assert noise_of(measured(1.0, 0.1), measured(1.0, 0.1), 2.0) > noise_of(sharp, sharp, 2.0)
    # as documented
    own = math.sqrt(2 * (1 - comparing.SHARED_ERROR)) * 0.1 * 1.96 / 1.645
    assert noise_of(sharp, sharp, 0.0) == pytest.approx(own)


def read_of(source: str, **headers: str) -> Read:
    """A study that lies at ``source``; with DICOM headers where some are given."""
    dicom = DicomSource((SimpleNamespace(**headers),), ((0, 1),)) if headers else None
    return Read(source, analysis_of(source=Source(dicom=dicom)).study)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("patient/2024-03-01", date(2024, 3, 1)),
        ("scan_20240301.nii.gz", date(2024, 3, 1)),
        ("2024_03_01 and 2024_06_09", date(2024, 6, 9)),
        ("2024.03.01", date(2024, 3, 1)),
        ("01.03.2024", None),  # day or month first?
        ("2024-0301", None),
        ("20240230", None),
        ("120240301", None),
        ("patient01", None),
    ],
)
def test_dates_in_names(text: str, known: date | None) -> None:
    assert visits.date_of_name(text) == known


def test_the_order_follows_headers_before_names() -> None:
    late = read_of("a/2020-01-01", AcquisitionDate="20240601", StudyDate="19990101")
    early = read_of("b/2021-01-01", AcquisitionDate="", StudyDate="20240301")
    ordered, days, by = in_order([late, early])
    assert [read.source for read in ordered] == ["b/2021-01-01", "a/2020-01-01"]
    assert (days, by) == ([0, 92], visits.BY_HEADERS)
    ordered, days, by = in_order([read_of("x 2024-06-01"), read_of("x 2024-03-01")])
    assert [read.source for read in ordered] == ["x 2024-03-01", "x 2024-06-01"]
    assert (days, by) == ([0, 92], visits.BY_NAMES)


@pytest.mark.parametrize(
    "names", [("b", "a"), ("2024-03-01 b", "a"), ("2024-03-01 b", "2024-03-01 a")]
)
def test_without_a_date_for_each_study_the_given_order_stays(names: tuple[str, str]) -> None:
    ordered, days, by = in_order([read_of(name) for name in names])
    assert [read.source for read in ordered] == list(names)
    assert (days, by) == ([None, None], visits.AS_GIVEN)


def test_notes_name_other_people_and_other_sequences_but_nobody() -> None:
    people = [read_of("a", PatientID="MEIER"), read_of("b", PatientID="SCHULZ")]
    (note,) = notes_of(people)
    assert "different patients" in note
    assert not {"MEIER", "SCHULZ"} & set(note.split())
    more = read_of("c")
    volume = more.study.flair
    sequences = {MrSequence.FLAIR: volume, MrSequence.T1: Volume(volume.values, volume.geometry)}
    (note,) = notes_of(
        [read_of("a"), replace(more, study=replace(more.study, sequences=sequences))]
    )
    assert "different sequences" in note


def test_studies_without_geometry_are_refused() -> None:
    read = read_of("slices")
    bare = replace(read, study=read.study.without_geometry())
    with pytest.raises(UnsupportedInputError, match=r"no geometry.*\(slices\)"):
        check_geometry([read_of("a"), bare])
    geometry = read.study.geometry
    assert geometry is not None
    doubtful = Volume(read.study.flair.values, replace(geometry, believed="all but sides"))
    study = replace(read.study, sequences={MrSequence.FLAIR: doubtful})
    with pytest.raises(UnsupportedInputError, match="left and right"):
        check_geometry([replace(read, study=study)])


@pytest.mark.parametrize(
    ("ml", "percent", "shown"),
    [
        (4.84, 23.2, "+4.8 ml (+23 %)"),
        (-0.42, -8.4, "−0.42 ml (−8 %)"),
        (0.0, 0.0, "+0.0 ml (+0 %)"),
        (-0.01, -0.2, "−0.01 ml (+0 %)"),
        (5.0, None, "+5.0 ml"),
        (None, None, "—"),
    ],
)
def test_changes_in_words(ml: float | None, percent: float | None, shown: str) -> None:
    assert words.change_words(comparing.Change(0, 1, "stable", ml=ml, percent=percent)) == shown
