"""The report as a browser, a screen reader and an attacker would read it."""

from __future__ import annotations

import io
import json
import re
from base64 import b64decode, b64encode
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from gliosight.analysis import LIMITS, MASK_MEANING, RESEARCH_USE, Outline, Status
from gliosight.flags import flag
from gliosight.study import Flag, MrSequence
from gliosight.write.pictures import plan_display, svg_path, trace
from gliosight.write.report import (
    LONGEST_SIDE,
    embed_json,
    interval_masks,
    render_report,
    write_report,
)
from gliosight.write.words import against, millilitres, probability_words, unknown_measures
from tests.support.html import HOSTILE, Page

from .builders import make_analysis, make_finding, make_geometry

SMALL = (3, 24, 20)


@pytest.fixture(scope="module")
def found():
    flags = (
        Flag("T1C_MISSING", "info", "T1 after contrast is missing."),
        Flag("HEAD_CUT_OFF", "warning", "The head is cut off."),
        Flag("SCATTERED", "warning", "Many foci are marked."),
    )
    analysis = make_analysis(flags=flags)
    html = render_report(analysis, files={"result.json": "for machines", "a b/ü.csv": "a table"})
    return analysis, html, Page(html)


def test_verdict_numbers_and_words_are_there(found):
    analysis, _, page = found
    assert page.one("h1")["text"].strip() == "Tumour found"
    items = [one for one in page.all("li") if one.get("class") in ("warning", "info")]
    assert [one["text"].split(".")[0].strip() for one in items] == ["Warning", "Warning", "Note"]
    assert "SCATTERED" in items[0]["text"]  # the worst first
    assert analysis.decision.reason in page.text
    assert "dashed: tumour from 0.40 on" in page.text  # the slices'
    assert millilitres(analysis.volume_ml) in page.text
    assert page.text.count(RESEARCH_USE) >= 3
    assert LIMITS in page.text
    volume = next(one for one in page.all("div") if one.get("class") == "volume")
    assert MASK_MEANING in volume["text"]
    assert MASK_MEANING in page.one("caption")["text"]


def test_ids_are_unique_and_what_refers_to_them_exists(found):
    page = found[2]
    ids = [one["id"] for one in page.elements if "id" in one]
    assert len(ids) == len(set(ids))
    for one in page.elements:
        for name in ("aria-labelledby", "aria-describedby", "for"):
            assert set(one.get(name, "").split()) <= set(ids)
        if one.get("href", "").startswith("#") and "slice=" not in one["href"]:
            assert one["href"][1:] in ids
    used = set(re.findall(r'at\("([\w-]+)"\)', found[1]))
    assert used <= set(ids)


def test_every_control_has_a_name_and_every_picture_a_text(found):
    page = found[2]
    labels = {one.get("for") for one in page.all("label")}
    for control in page.all("input"):
        wrapped = control["type"] in ("radio", "checkbox")
        assert wrapped or control.get("id") in labels
    # A word on each, and in a tooltip what it does with its key.
    for control in page.all("label"):
        assert control.get("for") == "slider" or (control["text"].strip() and control["title"])
    assert all(one["title"] and one["text"].strip() for one in page.all("button"))
    assert all("alt" in one for one in page.all("img"))
    bars = [one for one in page.all("g") if one.get("role") == "button"]
    assert len(bars) == 24
    assert all(one["aria-label"].startswith("Slice ") for one in bars)
    # One stop for the tabulator key, not one for every slice.
    assert [one["tabindex"] for one in bars].count("0") == 1
    assert page.one("html")["lang"] == "en"
    figures = page.all("figure")  # without JavaScript, key slices and bars are there
    assert len(figures) == 6
    largest = found[0].findings[0].largest_slice
    assert any(f"Slice {largest + 1} " in " ".join(one["text"].split()) for one in figures)
    levels = [int(one["tag"][1]) for one in page.elements if re.fullmatch(r"h\d", one["tag"])]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_nothing_is_loaded_from_anywhere(found):
    _, html, page = found
    for one in page.elements:
        assert one["tag"] not in {"iframe", "object", "embed", "base", "form"}
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            value = one.get(name, "")
            assert value.startswith(("data:", "#", "./")) or not value
        assert not any(name.startswith("on") for name in one)
        assert "style" not in one  # the policy would drop it
    style = "".join(one["text"] for one in page.all("style"))
    assert "url(" not in style
    assert "@import" not in style
    assert "://" not in html


def test_the_policy_allows_exactly_this_pages_own_style_and_script(found):
    page = found[2]
    policy = page.one("meta", http_equiv="Content-Security-Policy")["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    rules = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        texts = [one["text"] for one in page.all(tag) if one.get("type") != "application/json"]
        hashes = [b64encode(sha256(text.encode()).digest()).decode() for text in texts]
        assert rules[rule].split() == [f"'sha256-{one}'" for one in hashes]


def test_hostile_names_stay_text(tmp_path):
    names = (HOSTILE, "caf\udce9.tif", "\ud800")
    analysis = make_analysis(
        SMALL,
        study_id=HOSTILE + "\u202egnp.\udcff\x00\x1b[31m",
        slice_names=names,
        flags=(Flag("HOSTILE", "warning", HOSTILE),),
        reason=HOSTILE,
    )
    files = {"javascript:alert(1)": HOSTILE, "../\udcff": "x"}
    write_report(analysis, tmp_path / "report.html", files=files)
    html = (tmp_path / "report.html").read_text("utf-8")
    page = Page(html)
    assert "<img src=x" not in html
    assert "\u202e" not in html
    assert "\x1b" not in html
    assert "\x00" not in html
    assert len(page.all("script")) == 3
    assert page.data["names"][0].startswith("</script><img src=x onerror")
    assert page.data["names"][1:] == ["caf\\udce9.tif", "\\ud800"]
    links = [one["href"] for one in page.all("a") if not one["href"].startswith("#")]
    assert links == ["./javascript%3Aalert%281%29", "./../%FF"]


def test_a_sequence_that_was_not_there_is_named_with_what_stood_in():
    without = (MrSequence.FLAIR, MrSequence.T1)
    analysis = make_analysis(SMALL, sequences=without)
    assert "T1C was not there; FLAIR stood in for it." in numbers(Page(render_report(analysis)))
    # In the study, but left out by the network's input.
    made_by = replace(analysis.provenance, channels=("FLAIR", "FLAIR", "FLAIR"))
    assert "T1 was not used; FLAIR" in numbers(
        Page(render_report(replace(analysis, provenance=made_by)))
    )
    assert "stood in" not in numbers(Page(render_report(make_analysis(SMALL))))


def test_each_finding_has_its_own_outline_and_the_colour_of_its_row():
    shape = (3, 40, 40)
    probability = np.zeros(shape, np.float32)
    probability[1, 5:15, 5:15] = probability[1, 25:30, 28:33] = 0.9
    labels, _ = ndimage.label(probability > 0.5, np.ones((3, 3, 3)))
    whole = make_analysis(shape, values=make_values(shape), probability=probability)
    findings = tuple(make_finding(labels == k, whole.study.geometry, id=k) for k in (1, 2))
    page = Page(render_report(replace(whole, labels=labels.astype(np.uint8), findings=findings)))
    drawn = page.data["outlines"][1]
    assert [one["finding"] for one in drawn] == [1, 2]
    assert [one["box"] for one in drawn] == [[5, 5, 15, 15], [28, 25, 33, 30]]
    marks = [one["class"].split()[-1] for one in page.all("a") if "jump" in one.get("class", "")]
    assert marks == ["finding-0", "finding-1"]
    assert {one.get("class") for one in page.all("g")} >= set(marks)
    numbers_drawn = [one["text"] for one in page.all("text") if "font-size" in one]
    assert numbers_drawn == ["1", "2"]
    colours = dict(re.findall(r"\.(finding-\d)\{--finding:(#\w+)\}", page.all("style")[1]["text"]))
    assert [colours[mark] for mark in marks] == page.data["colours"][:2]


def test_a_copied_finding_stands_for_itself(found):
    analysis, _, page = found
    text = page.data["texts"]["1"]
    first, last = analysis.findings[0].slices
    for words in (
        "Finding 1 of 1: left",
        f"slices {first + 1} to {last + 1} of 24 (counted from 1)",
        millilitres(analysis.volume_ml),
        "52.3 × 38.7 mm",
        "Study phantom-0001; gliosight 0.1.0, model joint-phantom.",
        MASK_MEANING,
        RESEARCH_USE,
    ):
        assert words in text
    candidate = make_analysis(SMALL, None, status=Status.UNCERTAIN, study_id="a\x1b[31m")
    text = Page(render_report(candidate)).data["texts"]["1"]
    assert text.startswith("Candidate 1 of 1: side unknown; volume ")
    assert " ml" not in text
    assert " mm" not in text
    assert "\\x1b" in text


@pytest.mark.slow
def test_many_noisy_slices_are_coded_more_coarsely_and_few_are_not():
    rng = np.random.default_rng(0)
    sizes, qualities = [], []
    for count in (4, 170):
        shape = (count, 240, 240)
        noise = rng.integers(0, 1000, shape).astype(np.uint16)
        analysis = make_analysis(shape, None, values=dict.fromkeys(MrSequence, noise), lesion=False)
        pictures = Page(render_report(analysis)).data["sequences"]
        sizes.append(sum(len(one) for sequence in pictures.values() for one in sequence))
        first = Image.open(io.BytesIO(b64decode(pictures["FLAIR"][0])))
        qualities.append(sum(first.quantization[0]))
    assert qualities[1] > qualities[0]
    assert sizes[1] / 170 < 0.7 * sizes[0] / 4


@pytest.mark.parametrize(("kind", "named"), [("slices", True), ("nifti", False), ("arrays", False)])
def test_only_slices_have_a_name_in_the_input(kind, named):
    analysis = make_analysis(SMALL)
    analysis = replace(analysis, study=replace(analysis.study, kind=kind))
    names = [one for one in Page(render_report(analysis)).all("span") if one.get("class") == "name"]
    assert len(names) > 1 or not named
    assert all(("hidden" in one) is not named for one in names)


def test_embedded_json_cannot_end_its_element():
    text = embed_json({"a": HOSTILE + "\u2029"})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text)["a"] == HOSTILE + "\u2029"


def test_the_data_holds_every_slice_and_the_outline_of_the_displayed_mask(found):
    analysis, _, page = found
    data = page.data
    display = plan_display(analysis.study.geometry, analysis.study.shape)
    assert list(data["sequences"]) == ["FLAIR", "T1", "T1C"]
    assert all(len(one) == 24 for one in data["sequences"].values())
    assert [[one["path"] for one in outlines] for outlines in data["outlines"]] == [
        [svg_path(trace(display.turn(one)))] if one.any() else [] for one in analysis.mask
    ]
    assert [bool(one) for one in data["heat"]] == [
        bool(one.max() >= 0.05) for one in analysis.maps.probability
    ]
    assert data["names"] == list(analysis.study.slice_names)
    assert data["start"] == analysis.findings[0].largest_slice
    frames = [one["viewbox"] for one in page.all("svg") if one.get("preserveaspectratio") == "none"]
    assert frames.count(f"0 0 {display.columns} {display.rows}") == 6
    assert (data["geometry"]["columns"], data["geometry"]["rows"]) == (
        display.columns,
        display.rows,
    )


def numbers(page):
    """What stands in the verdict's panel: name, value and remarks of each number."""
    (panel,) = page.all("dl", class_="numbers")
    return " ".join(panel["text"].split())


def test_the_verdict_says_what_it_is_worth_before_anything_else(found):
    analysis, html, page = found
    told = numbers(page)
    sentence = (
        "Of 100 studies with this result, about 97 have a tumour. "
        "This holds for collections where 86 of 100 studies have one."
    )
    # The scale names the bounds; who cannot see it is told them.
    assert f"Probability of tumour 0.97 0.10 uncertain 0.90 {sentence} Highest slice: " in told
    (meter,) = page.all("svg", class_="meter")
    assert meter["aria-label"] == "Verdict: tumour found from 0.90, uncertain from 0.10"
    assert told.count("0.90") == 1
    low, high = analysis.volume_interval_ml
    assert f"the true volume lies between {low:.1f} and {high:.1f} ml." in told
    assert (
        f"Volume of the mask {millilitres(analysis.volume_ml)} {low:.1f} to {high:.1f} ml" in told
    )
    assert "Warnings 2 The worst: Many foci are marked." in told
    (link,) = (one for one in page.all("a") if one["text"] == "Many foci are marked.")
    (target,) = (one for one in page.elements if one.get("id") == link["href"][1:])
    assert "SCATTERED" in target["text"]
    assert html.index('class="numbers"') < html.index('class="findings"')
    # One probability a level: those of the voxels are no finding's.
    assert "0.97" in page.one("tbody")["text"]
    assert not re.search(r"0\.87|mean|peak", page.one("main")["text"])
    assert "pixel" not in numbers(page)
    assert page.text.count("Slices are counted from 1") >= 2


def test_bounds_without_room_on_the_scale_are_named_below_it(found):
    analysis, _, _ = found
    decision = replace(analysis.decision, uncertain_from=0.6)
    told = numbers(Page(render_report(replace(analysis, decision=decision))))
    assert "0.60 0.90 Of 100 studies" in told
    assert "Verdict: tumour found from 0.90, uncertain from 0.60. Highest slice: " in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prevalence": None}, ["Score of the study 0.97", "never calibrated"]),
        ({"outline": None}, ["Warnings none"]),
        (
            {"status": Status.UNCERTAIN},
            ["Volume of the candidates", "If this is a tumour: in 9 of"],
        ),
        ({"lesion": False}, ["about 2 have a tumour", "Volume of the mask 0.0 ml 0 voxels"]),
        ({"status": Status.NOT_ASSESSED}, ["Probability of tumour — The study was not assessed"]),
        ({"geometry": None}, ["voxels only"]),
        (
            {"status": Status.UNCERTAIN, "lesion": False},
            ["Volume of the mask 0.0 ml 0 voxels"],
        ),
    ],
)
def test_the_numbers_of_every_verdict(options, words):
    page = Page(render_report(make_analysis((6, 24, 20), **options)))
    for word in words:
        assert word in numbers(page), numbers(page)


def test_the_reason_of_a_refusal_is_no_warning_besides():
    reason = "This does not look like a head in an axial MR image."
    refusal, lone = flag("NOT_A_HEAD", reason), flag("SINGLE_SLICE", "There is one slice.")
    for flags, told, link in (
        ((refusal,), "Warnings none None besides the reason above.", None),
        ((lone, refusal), "Warning 1 There is one slice.", "SINGLE_SLICE"),
    ):
        refused = make_analysis(SMALL, status=Status.NOT_ASSESSED, reason=reason, flags=flags)
        page = Page(render_report(refused))
        assert told in numbers(page)
        assert reason not in numbers(page)
        # In the list of flags it stands, and the link leads to the warning that is named.
        assert page.text.count("NOT_A_HEAD") == 1
        targets = {one["id"]: one["text"] for one in page.all("li") if "id" in one}
        links = [one["href"][1:] for one in page.all("a") if one.get("href", "")[:6] == "#flag-"]
        assert len(links) == (link is not None)
        assert all(link in targets[name] for name in links)


@pytest.mark.parametrize("status", [Status.NOT_FOUND, Status.UNCERTAIN, Status.NOT_ASSESSED])
def test_without_a_mask_nothing_says_what_it_outlines(status):
    page = Page(render_report(make_analysis(SMALL, lesion=False, status=status)))
    assert MASK_MEANING not in page.text
    assert page.text.count(RESEARCH_USE) >= 3
    assert "What is marked" not in page.text


def test_doubt_is_told_calmly_and_a_negative_rules_nothing_out():
    doubts = (flag("SYMMETRIC", "It is symmetric."),)
    html = render_report(make_analysis(SMALL, status=Status.UNCERTAIN, flags=doubts))
    page = Page(html)
    assert page.one("h1")["text"].strip() == "Uncertain"
    assert "What is marked is a candidate: a person has to look at it." in page.text
    assert "The warnings are not part of the probability." in page.text
    assert page.one("h2", id="findings-title")["text"] == "Candidates"
    negative = Page(render_report(make_analysis(SMALL, lesion=False)))
    statement = next(one for one in negative.all("div") if one.get("class") == "statement")
    assert "This does not rule out a tumour." in statement["text"]
    assert "does not rule out" not in page.text
    # Neither verdict has the colours of a warning or of a tumour.
    rules = re.findall(r"\.verdict\.(?:uncertain|not-assessed)[^{]*{([^}]*)}", html)
    assert rules
    assert not [rule for rule in rules if "--warn" in rule or "--found" in rule]


def test_the_interval_is_drawn_inside_and_outside_of_the_outline(found):
    analysis, _, page = found
    display = plan_display(analysis.study.geometry, analysis.study.shape)
    inner, outer = interval_masks(analysis)
    assert inner.sum() < analysis.mask.sum() < outer.sum()
    for name, volume in (("inner", inner), ("outer", outer)):
        assert page.data[name] == [svg_path(trace(display.turn(plane))) for plane in volume]
    paths = [one["d"] for one in page.all("path") if one.get("class") == "end"]
    start = page.data["start"]
    assert {page.data["inner"][start], page.data["outer"][start]} <= set(paths)
    assert page.all("input", id="interval-on")
    assert (
        "Dashed: the mask at the lower and at the upper end" in page.one("p", id="legend")["text"]
    )
    for options in ({"lesion": False}, {"outline": Outline(0.3)}):
        without = Page(render_report(make_analysis(SMALL, **options)))
        assert not without.all("input", id="interval-on")
        assert not [one for one in without.all("path") if one.get("class") == "end" and one["d"]]


@pytest.mark.parametrize("geometry", ["axial", "coronal transposed", None])
@pytest.mark.parametrize("ends", [(0.5, 1.6), (0.9, 1.05), (1.0, 1.0)])
def test_the_masks_of_the_interval_hold_its_volumes(geometry, ends):
    """The inner one is the most probable part, the outer one reaches as far on all sides."""
    outline = Outline(0.3, *ends)
    analysis = make_analysis(SMALL, geometry=geometry, outline=outline)
    mask, probability = analysis.mask, analysis.maps.probability
    inner, outer = interval_masks(analysis)
    assert not (inner & ~mask).any()
    assert not (mask & ~outer).any()
    # Equals are taken together: not less than the end, and little more.
    low, high = (end * mask.sum() for end in ends)
    assert (
        low - 0.5 <= inner.sum() <= low + np.count_nonzero(probability == probability[inner].min())
    )
    assert high - 0.5 <= outer.sum()
    sides = (1.0, 1.0, 1.0)
    if geometry is not None:
        placed = analysis.study.geometry
        sides = (placed.slice_spacing, *placed.spacing)
    away = ndimage.distance_transform_edt(~mask, sampling=sides)
    assert away[outer].max() < away[~outer].min()
    assert np.count_nonzero(away < away[outer].max()) < max(high, mask.sum() + 0.5)


@pytest.mark.parametrize("factor", [1.4, 2.0, 3.0])
def test_a_flat_body_grows_as_far_as_it_must(factor):
    """A disk in the only slice, and one at the picture's edge, grow further than a ball would."""
    rows, columns = np.ogrid[:120, :120]
    for middle in ((60, 60), (0, 60)):
        disk = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 < 20**2
        probability = np.where(disk, 0.9, 0.1).astype(np.float32)[None]
        values = dict.fromkeys(MrSequence, np.ones((1, 120, 120), np.float32))
        outline = Outline(0.3, 0.7, factor)
        analysis = make_analysis(
            (1, 120, 120), None, values=values, probability=probability, outline=outline
        )
        _, outer = interval_masks(analysis)
        assert outer.sum() == pytest.approx(factor * disk.sum(), rel=0.05)


@pytest.mark.slow
def test_the_picture_shows_the_lesion_where_the_letters_say_left_is():
    page = Page(render_report(make_analysis(geometry="coronal transposed")))
    index = page.data["start"]
    picture = Image.open(io.BytesIO(b64decode(page.data["sequences"]["FLAIR"][index])))
    grey = np.asarray(picture).astype(float)
    half = grey.shape[1] // 2
    assert grey[:, half:].sum() > grey[:, :-half].sum() * 1.05
    letters = {
        one["class"]: one["text"] for one in page.all("span") if "letter" in one.get("class", "")
    }
    assert letters["letter right"] == "L"
    assert letters["letter left"] == "R"


@pytest.mark.slow
def test_without_geometry_there_are_pixels_and_no_sides():
    page = Page(render_report(make_analysis(geometry=None)))
    assert "No geometry in the input: voxels only" in page.text
    assert "which side is left is unknown" in page.text
    assert not [one for one in page.all("span") if "letter" in one.get("class", "")]
    assert page.data["places"] is None
    assert any("no geometry" in one["title"] for one in page.all("abbr") if one["text"] == "—")
    assert "— mm" in page.one("tbody")["text"]
    assert not re.search(r"\d mm", page.one("tbody")["text"])
    assert page.data["geometry"]["unit"] == "pixels"


def test_a_single_slice_of_unknown_thickness_has_no_millilitres():
    shape = (1, 40, 40)
    bare = replace(make_geometry(shape), slice_thickness=None)
    probability = np.zeros(shape, np.float32)
    probability[0, 10:20, 10:30] = 0.9
    analysis = make_analysis(shape, bare, values=make_values(shape), probability=probability)
    page = Page(render_report(analysis))
    assert "Slice thickness not in the input: voxels only" in page.text
    assert "Slice 1, the only one" in page.text


def make_values(shape):
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return dict.fromkeys(MrSequence, values)


def test_without_a_finding_the_slice_at_the_start_is_explained(found):
    analysis = make_analysis((9, 24, 20), lesion=False)
    probabilities = np.full(9, 0.01, np.float32)
    for likeliest, words in ((0.01, "5: it lies in the middle"), (0.06, "3: it has the highest")):
        probabilities[2] = likeliest
        decision = replace(analysis.decision, slice_probabilities=probabilities.copy())
        page = Page(render_report(replace(analysis, decision=decision)))
        assert f"The picture starts at slice {words}" in page.text
        gallery = page.one("section", aria_labelledby="gallery-title")["text"]
        assert "nothing is marked" in gallery
        assert f"Slice {words[0]} {words[6:]}" in gallery
    assert "The picture starts" not in found[2].text
    gallery = found[2].one("section", aria_labelledby="gallery-title")["text"]
    assert "Shown are the largest slice of each finding" in gallery


@pytest.mark.slow
def test_no_tumour_and_not_assessed_say_so():
    page = Page(render_report(make_analysis(lesion=False)))
    assert page.one("h1")["text"].strip() == "No tumour found"
    assert "no lesion was outlined" in page.text
    assert not page.all("table")
    assert not page.all("input", id="heat-on")
    page = Page(render_report(make_analysis(lesion=False, status=Status.NOT_ASSESSED)))
    assert page.one("h1")["text"].strip() == "Not assessed"
    assert "The images have no contrast" in page.text
    assert "ml" not in page.one("dl", class_="numbers")["text"].split()


def test_provenance_tells_all_and_files_are_relative_links(found):
    page = found[2]
    (details,) = (one["text"] for one in page.all("details") if "How this" in one["text"])
    for word in ("joint-phantom", "0f" * 32, "onnxruntime 1.27", "float32", "threads", "1,890 ms"):
        assert word in details
    links = {one["href"]: one["text"] for one in page.all("a") if one["href"].startswith("./")}
    assert links == {"./result.json": "result.json", "./a%20b/%C3%BC.csv": "a b/ü.csv"}


def test_settings_and_times_are_told_in_words():
    def rows(analysis):
        return dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", render_report(analysis)))

    analysis = make_analysis(SMALL)
    settings = {
        "flip": True,
        "threads": None,
        "input": {"field_of_view_mm": 240.0, "channels": ["T1", "FLAIR"], "plane": "axial"},
        "decision": {"pixel_threshold": 0.5, "none": []},
    }
    made_by = replace(analysis.provenance, settings=settings, timings_ms={"read": 1200.0})
    expected = {
        "flip": "yes",
        "threads": "not set",
        "input: field of view mm": "240",
        "input: channels": "T1, FLAIR",
        "input: plane": "axial",
        "decision: pixel threshold": "0.5",
        "decision: none": "—",
        "read": "1,200 ms",
        "write": "in result.json: it was still under way when this page was made",
    }
    told = rows(replace(analysis, provenance=made_by))
    assert told | expected == told
    assert rows(analysis)["write"] == "640 ms"


@pytest.mark.parametrize(
    ("orientation", "changes", "words"),
    [
        ("axial", {}, ""),
        ("sagittal", {"longest_diameter_mm": None}, "not known: diameters need axial slices"),
        ("axial", {"volume_ml": None}, "not known: volumes need the slice spacing"),
        (
            "coronal",
            {"volume_ml": None, "longest_diameter_mm": None},
            "not known: volumes need the slice spacing, diameters need axial slices",
        ),
        (None, {}, "not known: the input has no geometry, so there are no millimetres"),
    ],
)
def test_what_is_not_known_is_put_down_to_what_is_missing(orientation, changes, words):
    whole = make_analysis(geometry=orientation)
    finding = replace(whole.findings[0], **changes)
    assert unknown_measures(replace(whole, findings=(finding,))) == words


def test_all_that_is_said_stands_in_a_landmark(found):
    # Who jumps from landmark to landmark must not miss that this is for research only.
    page = found[2]
    outside = Page(re.sub(r"(?s)<(header|main|footer)\b.*?</\1>", "", found[1]))
    said = [one for one in outside.elements if one["tag"] not in {"html", "head", "body"}]
    skipped = {"script", "style", "title"}
    text = {one["text"].strip() for one in said if one["tag"] not in skipped} - {""}
    assert text == {"Skip to the findings"}
    assert RESEARCH_USE in page.one("header")["text"]


@pytest.mark.slow
def test_remarks_and_several_findings():
    analysis = make_analysis()
    small = make_finding(
        analysis.mask, analysis.study.geometry, id=2, touches_edge=True, small=True, side="midline"
    )
    page = Page(render_report(make_analysis(findings=(analysis.findings[0], small))))
    assert "2 connected lesions, largest first" in page.text
    assert "touches the edge of the volume" in page.text
    assert page.data["findings"][small.largest_slice] == [1, 2]


@pytest.mark.parametrize(
    ("shape", "known"),
    [((1, 1, 1), True), ((1, 1, 9), False), ((3, 1, 1), True), ((2, 300, 1), True)],
)
def test_weird_sizes_work(shape, known):
    geometry = make_geometry(shape) if known else None
    probability = np.full(shape, 0.9, np.float32)
    analysis = make_analysis(shape, geometry, values=make_values(shape), probability=probability)
    page = Page(render_report(analysis))
    assert len(page.data["names"]) == shape[0]


def test_large_matrices_are_shown_smaller_with_their_outline_at_full_resolution():
    shape = (2, 900, 700)
    probability = np.zeros(shape, np.float32)
    probability[1, 500, 333] = 0.9
    values = {MrSequence.FLAIR: np.random.default_rng(0).integers(0, 4000, shape).astype(np.uint16)}
    flair = (MrSequence.FLAIR,)
    analysis = make_analysis(shape, None, values=values, probability=probability, sequences=flair)
    page = Page(render_report(analysis))
    picture = Image.open(io.BytesIO(b64decode(page.data["sequences"]["FLAIR"][0])))
    assert max(picture.size) == LONGEST_SIDE
    assert page.data["outlines"][1][0]["path"].startswith("M333 500")
    assert page.data["outlines"][1][0]["box"] == [333, 500, 334, 501]
    assert [one["value"] for one in page.all("input", name="sequence")] == ["FLAIR"]


def test_numbers_are_rounded_without_lying():
    assert [probability_words(one) for one in (0.0, 0.001, 0.5, 0.9999, 1.0)] == [
        "0.00", "< 0.01", "0.50", "> 0.99", "> 0.99",
    ]  # fmt: skip
    assert against(0.496, 0.5) == ("0.496", "0.500")
    assert against(0.9, 0.5) == ("0.90", "0.50")
    assert against(0.1, 0.0042) == ("0.1000", "0.0042")
    assert [millilitres(one) for one in (0.0, 0.123, 12.34)] == ["0.0 ml", "0.12 ml", "12.3 ml"]
