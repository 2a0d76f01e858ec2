"""Sentences that a reader who is no statistician understands, and which warning comes first."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from gliosight.analysis import Status
from gliosight.flags import DOUBTS, REFUSALS, SEVERITIES, WORST_FIRST, flag, warnings_of
from gliosight.study import Flag
from gliosight.write.words import (
    interval_sentence,
    interval_words,
    probability_sentence,
    study_probability,
    verdict_bounds,
    worst_warning,
)

from .builders import OUTLINE, make_analysis

SMALL = (6, 24, 20)
DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize(
    ("probability", "prevalence", "others", "about"),
    [
        (0.97, 0.855, "86 of 100", "about 97"),
        (0.9999, 0.5, "50 of 100", "more than 99"),
        (0.9, 0.99, "99 of 100", "about 90"),
        (0.9, 0.999, "999 of 1,000", "about 90"),
        (0.9, 0.999999, "999,999 of 1,000,000", "about 90"),
        (0.9, 0.000001, "1 of 1,000,000", "about 90"),
        (0.012, 0.1, "10 of 100", "about 1"),
        (0.002, 0.004, "4 of 1,000", "fewer than 1"),
    ],
)
def test_a_probability_is_told_as_a_count_of_studies(
    probability: float, prevalence: float, others: str, about: str
) -> None:
    sentence = probability_sentence(probability, prevalence)
    verb = "has" if about.endswith(" 1") else "have"
    assert sentence == (
        f"Of 100 studies with this result, {about} {verb} a tumour. "
        f"This holds for collections where {others} studies have one."
    )


def test_what_is_no_probability_is_not_told_as_one() -> None:
    assert "never calibrated" in probability_sentence(0.9, None)
    assert "Of 100" not in probability_sentence(0.9, None)
    assert "not assessed" in probability_sentence(None, None)


def test_bounds_are_named_and_digits_show_the_side() -> None:
    assert verdict_bounds(0.1, 0.9) == "tumour found from 0.90, uncertain from 0.10"
    assert verdict_bounds(0.5, 0.5) == "tumour found from 0.50"
    assert study_probability(0.8996, 0.1, 0.9) == "0.8996"
    assert study_probability(0.0996, 0.1, 0.9) == "0.0996"
    assert study_probability(0.5, 0.1, 0.9) == "0.50"


def test_an_interval_is_given_in_the_unit_that_there_is() -> None:
    analysis = make_analysis(SMALL)
    low, high = (analysis.volume_ml * part for part in (0.7, 1.4))
    assert interval_words(analysis) == f"{low:.1f} to {high:.1f} ml"
    bare = make_analysis(SMALL, geometry=None)
    voxels = bare.volume_px
    assert interval_words(bare) == f"{0.7 * voxels:,.0f} to {1.4 * voxels:,.0f} voxels"
    unknown = replace(OUTLINE, volume_low=None, volume_high=None)
    assert interval_words(make_analysis(SMALL, outline=unknown)) == ""
    assert interval_words(make_analysis(SMALL, lesion=False)) == ""


def test_an_interval_of_a_candidate_says_if() -> None:
    sure = interval_sentence("8.2 to 14.1 ml", Status.FOUND.value)
    assert sure == "In 9 of 10 such studies the true volume lies between 8.2 and 14.1 ml."
    assert interval_sentence("8 to 9 ml", Status.UNCERTAIN.value).startswith("If this is a tumour")
    assert interval_sentence("", Status.FOUND.value) == ""


def test_the_worst_warning_comes_first() -> None:
    codes = [
        "T1_LEFT_OUT",
        "NO_GEOMETRY",
        "T1_MISSING",
        "SYMMETRIC",
        "GRID_ASSUMED",
        "HEAD_CUT_OFF",
    ]
    warnings = warnings_of([flag(code, f"{code}.") for code in codes])
    ranked = ["SYMMETRIC", "HEAD_CUT_OFF", "NO_GEOMETRY", "T1_LEFT_OUT", "GRID_ASSUMED"]
    assert [one.code for one in warnings] == ranked
    assert worst_warning(warnings) == "5 warnings; the worst: SYMMETRIC."
    assert worst_warning(warnings[3:4]) == "1 warning: T1_LEFT_OUT."
    assert worst_warning([]) == "no warnings"
    # One that is not listed, of a later version or another model, is shown all the same.
    later = Flag("FROM_LATER", "warning", "Later.")
    assert warnings_of([later, warnings[0]]) == [warnings[0], later]


def test_the_order_names_warnings_once() -> None:
    assert len(set(WORST_FIRST)) == len(WORST_FIRST)
    known = {code for code, severity in SEVERITIES.items() if severity == "warning"}
    assert set(WORST_FIRST) <= known
    assert WORST_FIRST[: len(REFUSALS) + len(DOUBTS)] == (*REFUSALS, *DOUBTS)
    text = (DOCS / "result.md").read_text("utf-8").split("### The worst warning")[1].split("###")[0]
    named = [code for code in re.findall(r"[A-Z][A-Z0-9_]+_?[A-Z]+", text) if code != "SR"]
    assert named == list(WORST_FIRST)
