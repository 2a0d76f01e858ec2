"""The page: whole, closed to the outside, readable by those who do not see it; plots and pictures."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from gliosight.data.manifest import Manifest
from gliosight.evaluate.evaluation import Evaluation, Request, evaluate
from gliosight.evaluate.figures import Figure
from gliosight.evaluate.page import choose, plots_of, render_page, worst_cases
from gliosight.evaluate.scoring import published_on
from tests.evaluate.builders import (
    NOTE,
    in_collections,
    six_patients,
    source_of,
    square,
    write_data,
)

TRUTHS = six_patients()
MASKS = {**TRUTHS, "AA_0": square(8, (2, 3), corner=6, side=3), "BB_free": square(8, (1,))}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_data(tmp_path_factory.mktemp("data"), TRUTHS)


@pytest.fixture(scope="module")
def evaluation(manifest: Manifest) -> Evaluation:
    source = source_of(manifest, MASKS)
    return evaluate(Request(manifest, [source], draws=60))


@pytest.fixture(scope="module")
def page(evaluation: Evaluation, manifest: Manifest) -> str:
    part = evaluation.parts[0]
    cases = worst_cases(part, manifest, evaluation.predictions)
    return render_page(evaluation, {part.part: cases})


@pytest.mark.slow
@pytest.mark.usefixtures("no_plots")
def test_collections_have_a_table(manifest: Manifest) -> None:
    grouped = in_collections(manifest)
    source = source_of(grouped, MASKS)
    text = render_page(evaluate(Request(grouped, [source], draws=20)))
    table = text.split("By collection")[1].split("</table>")[0]
    words = " ".join(re.sub("<[^>]+>", " ", table).split())
    assert words.startswith("Group Patients Dice, mean Dice, median Slice AUC")
    assert "Without tumour, called tumour free 1 — — —" in words
    assert words.endswith("—")  # of lgg, nobody is without tumour
    assert "1 of 1" in words


class _Reader(HTMLParser):
    """Tags with their attributes, in order, and which are left open."""

    VOID = frozenset({"meta", "link", "img", "br", "source", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self.open += [] if tag in self.VOID else [tag]

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert tag in self.VOID or self.open.pop() == tag


def test_the_page_is_well_formed_and_closed_to_the_outside(page: str) -> None:
    reader = _Reader(page)
    assert reader.open == []
    for tag, attributes in reader.tags:
        for name in ("src", "href", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
        assert "style" not in attributes  # the policy forbids it
        assert not any(name.startswith("on") for name in attributes)
    policy = next(a["content"] for _, a in reader.tags if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "<script" not in page


def test_those_who_do_not_see_it_are_told(page: str) -> None:
    reader = _Reader(page)
    pictures = [attributes for tag, attributes in reader.tags if tag == "img"]
    assert len(pictures) >= 10
    assert all(picture.get("alt") for picture in pictures)
    headings = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch(r"h[1-6]", tag)]
    assert headings.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(headings))
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    labels = [a["aria-labelledby"] for _, a in reader.tags if a.get("aria-labelledby")]
    assert set(labels) <= set(ids)


def test_it_says_what_it_is_and_what_it_shows(page: str) -> None:
    assert page.count("Research use only") >= 3
    for words in (
        *("data:image/jpeg;base64,/9j/", "slices of the data set", "its licence applies"),
        *("Evaluation of <bdi>made</bdi>", "always empty", "brightest FLAIR body"),
        *("slice position only", "majority class"),
    ):
        assert words in page


@pytest.mark.usefixtures("no_plots")
def test_without_pictures_no_slice_is_shown(evaluation: Evaluation) -> None:
    page = render_page(evaluation)
    assert "image/jpeg" not in page
    assert "Worst cases" not in page


@pytest.mark.usefixtures("no_plots")
def test_where_all_are_seen_the_page_says_so_first(manifest: Manifest) -> None:
    source = source_of(manifest, TRUTHS, seen=TRUTHS)
    page = render_page(evaluate(Request(manifest, [source], draws=20)))
    assert "No figure speaks for this model here" in page
    assert "seen in training" in page
    assert "Confusion matrix" not in page  # nothing to fill it with
    assert _Reader(page).open == []


@pytest.mark.usefixtures("no_plots")
def test_hostile_names_are_escaped(evaluation: Evaluation) -> None:
    part = evaluation.parts[0]
    hostile = replace(part.patients[0], patient="<script>alert(1)</script>\x1b[31m")
    changed = replace(
        evaluation,
        parts=(replace(part, patients=(hostile, *part.patients[1:])),),
        models=(replace(NOTE, name="<b>&"),),
        warnings=("<i>",),
    )
    page = render_page(changed)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page
    assert "<b>&<" not in page
    assert "<i>" not in page


@pytest.mark.usefixtures("no_plots")
def test_a_leak_stands_on_top(evaluation: Evaluation) -> None:
    figure = Figure(0.9, 0.8, 0.95, 10)
    row = {"by_slice": figure, "by_patient": figure, "difference": Figure(0.123, None, None, 10)}
    page = render_page(replace(evaluation, leak={"dice_mean": row}))
    assert page.index("What the leak is worth") < page.index("Figures, and what they are worth")
    assert "0.123" in page
    assert page.count("What a split by slice is worth") == 1
    assert _Reader(page).open == []


def test_plots_are_drawn_twice_and_told_in_words(evaluation: Evaluation, page: str) -> None:
    plots = plots_of(evaluation.parts[0])
    dice = ["Dice of each patient", "Dice by volume", "Volume, predicted and true"]
    ranking = ["ROC by slice", "Precision and recall by slice", "Reliability by slice"]
    assert [plot.title for plot in plots] == [*dice, *ranking, "Sensitivity by area"]
    for plot in plots:
        for svg in (plot.light, plot.dark):
            assert svg.startswith("<svg")
            assert "<text" in svg  # text, not outlines of letters
            assert "DejaVu" not in svg
            # The page drew the same.
            assert b64encode(svg.encode()).decode() in page
        assert plot.light != plot.dark
        assert len(plot.words) > 30


@pytest.mark.slow
def test_a_model_that_only_draws_has_no_curves(manifest: Manifest) -> None:
    unknown = dict.fromkeys(("slice_probability", "slice_threshold", "score"))
    source = source_of(manifest, MASKS, **unknown)
    part = evaluate(Request(manifest, [source], draws=20)).parts[0]
    titles = [plot.title for plot in plots_of(part)]
    assert "ROC by slice" not in titles
    assert "Dice of each patient" in titles


def test_the_worst_come_first_and_false_alarms_count(
    evaluation: Evaluation, manifest: Manifest
) -> None:
    cases = worst_cases(evaluation.parts[0], manifest, evaluation.predictions)
    # Marked without a lesion, then the half-found one, then the rest by name.
    assert [case.score.patient for case in cases[:3]] == ["BB_free", "AA_0", "AA_1"]
    free = cases[0].slices
    assert [shown.number for shown in free] == [2]
    assert free[0].truth == ""
    assert free[0].prediction.startswith("M")
    assert free[0].words == "Dice 0.00; true 0 px, predicted 36 px"
    assert free[0].jpeg.startswith(b"\xff\xd8")


def test_slices_that_tell_most() -> None:
    truth = square(8, (2, 3, 4))
    truth[3, 0:3, 0:3] = True  # the largest
    prediction = square(8, (2, 3))
    prediction[6, 10:20, 10:20] = True  # falsely marked
    assert choose(truth, prediction) == [3, 4, 6]
    nothing = np.zeros((2, 4, 4), dtype=bool)
    assert choose(nothing, nothing) == []


def test_published_figures_stand_beside_their_own_set_only() -> None:
    assert published_on(["TCGA_CS_4944_20010208"])
    assert not published_on(["TCGA_CS_4944_20010208", "BraTS2021_00006"])
    assert not published_on([])
