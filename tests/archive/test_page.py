"""The page of a cohort as a browser, a screen reader and an attacker would read it."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise

import numpy as np
import pytest

from gliosight.analysis import LIMITS, MASK_MEANING, RESEARCH_USE
from gliosight.archive.entries import Entry
from gliosight.archive.page import (
    COLUMNS,
    group_failures,
    probability_chart,
    render_page,
    sort_keys,
    time_words,
    volume_chart,
    write_page,
)
from tests.support.html import HOSTILE, Page

JPEG = b"\xff\xd8\xff\xe0 not really a picture"
FOUND = Entry(
    "sub-01",
    "a/sub-01",
    "tumour found",
    folder="sub-01",
    probability=0.998,
    review=3,
    findings=2,
    volume_ml=23.44,
    volume_low_ml=18.1,
    volume_high_ml=29.02,
    volume_px=5860,
    warnings=("SCATTERED", "HEAD_CUT_OFF"),
    worst_warning="Many foci are marked.",
    seconds=2.04,
    thumbnail=JPEG,
)
UNCERTAIN = Entry(
    "sub-02",
    "a/sub-02",
    "uncertain",
    folder="sub 02",
    probability=0.5,
    review=2,
    findings=1,
    volume_px=1234,
    volume_low_px=900,
    volume_high_px=1500,
    seconds=75.0,
)
NOT_FOUND = Entry(
    "sub-03", "b/sub-03", "no tumour found", "sub-03", 0.001, 4, volume_ml=0.0, volume_px=0
)
NOT_ASSESSED = Entry("sub-04", "b/sub-04", "not assessed", "sub-04", review=5, volume_px=0)
FAILED = Entry(
    "sub-05",
    "b/sub-05",
    "error",
    review=1,
    exit_code=4,
    error="the file ends after 100 bytes (b/sub-05/FLAIR.nii): copy it again",
)
ENTRIES = (FOUND, UNCERTAIN, NOT_FOUND, NOT_ASSESSED, FAILED)


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render_page(ENTRIES, title="LGG", unfinished=7))


def cells(page: Page, name: str) -> list[str]:
    """Words of one column, from the first row to the last."""
    return [
        " ".join(one["text"].split())
        for one in page.elements
        if one["tag"] in ("td", "th") and one.get("class") == name and "data-column" not in one
    ]


def test_a_row_a_study_in_the_order_of_review(page):
    assert cells(page, "rank") == ["1", "2", "3", "4", "5"]
    assert cells(page, "study") == ["sub-05", "sub-02", "sub-01", "sub-03", "sub-04"]
    assert cells(page, "source")[2] == "a/sub-01"
    assert cells(page, "answer") == [
        "Failed",
        "Uncertain",
        "Tumour found",
        "No tumour found",
        "Not assessed",
    ]
    assert cells(page, "time") == ["—", "1 min 15 s", "2.0 s", "—", "—"]
    assert cells(page, "warnings")[1] == "SCATTERED HEAD_CUT_OFF Many foci are marked."
    (codes,) = page.all("span", class_="codes")
    assert codes["title"] == "Many foci are marked."


def test_numbers_have_the_words_of_the_report_and_unknown_is_a_dash(page):
    assert cells(page, "probability") == ["0.50", "> 0.99", "< 0.01", "—"]
    assert cells(page, "volume") == [
        "1,234 voxels 900 to 1,500 voxels",
        "23.4 ml 18.1 to 29.0 ml",
        "0.0 ml",
        "—",  # a zero would claim that nothing is there
    ]
    assert cells(page, "findings") == ["1", "2", "0", "—"]


def test_counts_unfinished_time_and_what_it_is_for(page):
    assert page.one("h1")["text"] == "LGG"
    counts = {
        one["data-verdict"]: one["text"].split()[-1]
        for one in page.all("button")
        if "data-verdict" in one
    }
    assert counts == dict.fromkeys(
        ("found", "uncertain", "not-found", "not-assessed", "failed"), "1"
    )
    assert "5 studies, 1 min 17 s of analysis, median 39 s" in page.text
    assert "7 studies not finished" in page.text
    assert page.text.count(RESEARCH_USE) == 2
    assert MASK_MEANING in page.one("caption")["text"]
    assert LIMITS in page.text
    assert "not finished" not in Page(render_page(ENTRIES, title="LGG")).text


def test_links_lead_to_the_reports(page):
    links = [one["href"] for one in page.all("a") if one["href"].startswith("./")]
    assert links.count("./sub-01/report.html") == 2  # by name and by picture
    assert links.count("./sub%2002/report.html") == 1
    assert not [link for link in links if "sub-05" in link]


def test_a_failure_stands_with_its_reason_and_exit_code(page):
    (failure,) = cells(page, "failure")
    assert failure == f"{FAILED.error} Exit code 4"
    (row,) = [one for one in page.all("tr") if one.get("class") == "failed"]
    (link,) = [one for one in page.all("a") if one["href"] == f"#{row['id']}"]
    assert link["text"] == "b/sub-05"
    assert "1 study failed" in page.text


def test_a_study_of_which_an_output_was_withheld_says_so():
    entry = replace(FOUND, error="the SEG differs when read back: report it", exit_code=70)
    page = Page(render_page([entry], title="LGG"))
    assert cells(page, "answer") == ["Tumour found"]
    assert cells(page, "warnings")[0].endswith("the SEG differs when read back: report it")


def test_failures_that_differ_in_number_and_place_only_are_one_group():
    errors = [
        FAILED,
        replace(FAILED, error="the file ends after 20 bytes (c/FLAIR.nii): copy it again"),
        replace(FAILED, error="no FLAIR among T1, T1C (b): add it", exit_code=5),
        replace(FAILED, error="no FLAIR among T1, T2 (b): add it", exit_code=5),
    ]
    groups = group_failures([FOUND, *errors])
    assert [(group["code"], group["reason"], len(group["studies"])) for group in groups] == [
        (4, "the file ends after … bytes: copy it again", 2),
        (5, "no FLAIR among T1, T1C: add it", 1),
        (5, "no FLAIR among T1, T2: add it", 1),
    ]
    assert groups[0]["studies"] == [(2, "b/sub-05"), (3, "b/sub-05")]


def test_pictures_stand_once_and_are_seen_without_javascript(page):
    (picture,) = page.all("img")
    assert b64decode(picture["src"].removeprefix("data:image/jpeg;base64,")) == JPEG
    assert "alt" in picture
    (holder,) = page.all("noscript")
    assert page.elements.index(picture) == page.elements.index(holder) + 1


def test_without_javascript_nothing_can_be_pressed(page):
    assert all("disabled" in one for one in page.all("button") if one.get("id") is None)
    titles = [one["data-column"] for one in page.all("th") if "data-column" in one]
    assert titles == [name for name, _, _ in COLUMNS]
    (sorted_by,) = [one for one in page.all("th") if "aria-sort" in one]
    assert (sorted_by["data-column"], sorted_by["aria-sort"]) == ("rank", "ascending")


def test_sort_keys_stand_in_the_order_of_the_rows(page):
    ordered = sorted(ENTRIES, key=lambda entry: entry.review)
    assert page.data == sort_keys(ordered)
    assert page.data["rank"] == [1, 2, 3, 4, 5]
    # Voxels and millilitres are not compared, and a study without an answer has no volume.
    assert page.data["volume"] == [None, None, 23.44, 0.0, None]
    assert page.data["findings"] == [None, 1, 2, 0, None]
    assert page.data["warnings"] == [0, 0, 2, 0, 0]
    assert page.data["study"] == [4, 1, 0, 2, 3]
    ids = ["s10", "S2", "s2b", "s2", "", "\ud800", f"s{'9' * 5000}", "s010"]
    places = sort_keys([replace(FOUND, study_id=name) for name in ids])["study"]
    ordered = [name for _, name in sorted(zip(places, ids, strict=True))]
    assert [name[:4] for name in ordered] == [
        "",
        "S2",
        "s2",
        "s2b",
        "s010",
        "s10",
        "s999",
        "\ud800",
    ]


def test_distributions_count_every_study_in_its_bin():
    chart = probability_chart(
        [*ENTRIES, replace(FOUND, probability=1.0), replace(FOUND, probability=0.95)]
    )
    filled = {text: parts for text, parts in chart.bins if parts}
    assert list(filled) == [
        "0.00 to 0.05: 1 study (1 no tumour found)",
        "0.50 to 0.55: 1 study (1 uncertain)",
        "0.95 to 1.00: 3 studies (3 tumour found)",
    ]
    assert len(chart.bins) == 20
    assert (chart.highest, chart.remark) == (3, "of 5 studies")
    assert list(filled.values()) == [
        [("not-found", 0.0, 33.3)],
        [("uncertain", 0.0, 33.3)],
        [("found", 0.0, 100.0)],
    ]
    volumes = [0.4, 1.0, 23.0, 200.0, 4000.0]
    marked = [replace(FOUND, volume_ml=volume) for volume in volumes]
    marked[2] = replace(marked[2], status="uncertain")
    chart = volume_chart([*marked, *ENTRIES])
    assert [text for text, parts in chart.bins if parts] == [
        "0 to 1 ml: 1 study (1 tumour found)",
        "1 to 2 ml: 1 study (1 tumour found)",
        "20 to 50 ml: 2 studies (1 tumour found, 1 uncertain)",
        "200 ml or more: 2 studies (2 tumour found)",
    ]
    assert chart.remark == "of 6 studies, median 23.2 ml"
    stacked = dict(chart.bins)["20 to 50 ml: 2 studies (1 tumour found, 1 uncertain)"]
    assert stacked == [("found", 0.0, 50.0), ("uncertain", 50.0, 100.0)]


def test_a_chart_says_in_words_what_it_shows(page):
    charts = [one for one in page.all("svg") if one.get("role") == "img"]
    assert [one["aria-label"].split(".")[0] for one in charts] == [
        "Probability of tumour",
        "Volume, ml",
    ]
    assert "0.50 to 0.55: 1 study (1 uncertain)" in charts[0]["aria-label"]


@pytest.mark.parametrize("entries", [(), (FAILED,), (NOT_ASSESSED,), (UNCERTAIN,)])
def test_a_cohort_may_lack_anything(entries):
    page = Page(render_page(entries, title=""))
    assert len([one for one in page.all("tr") if "id" in one]) == len(entries)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.0, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599.7, "1 h 0 min"),
     (90061, "25 h 1 min")],
)  # fmt: skip
def test_times_have_as_many_digits_as_mean_something(seconds, expected):
    assert time_words(seconds) == expected


def test_ids_controls_and_headings_are_sound(page):
    ids = [one["id"] for one in page.elements if "id" in one]
    assert len(ids) == len(set(ids))
    html = render_page(ENTRIES, title="LGG")
    assert set(re.findall(r'at\("([\w-]+)"\)', html)) <= set(ids)
    for one in page.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set(one.get(name, "").split()) <= set(ids)
        if one.get("href", "").startswith("#"):
            assert one["href"][1:] in ids
    assert all(one["text"].strip() for one in page.all("button"))
    names = [one.get("aria-label") for one in page.all("select") + page.all("input", type="search")]
    assert all(names)
    assert page.one("p", id="shown")["role"] == "status"
    assert page.one("html")["lang"] == "en"
    levels = [int(one["tag"][1]) for one in page.elements if re.fullmatch(r"h\d", one["tag"])]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_nothing_is_loaded_and_the_policy_allows_this_pages_own_code_only(page):
    for one in page.elements:
        assert one["tag"] not in {"iframe", "object", "embed", "base", "form"}
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            assert one.get(name, "").startswith(("data:", "#", "./")) or not one.get(name)
        assert not any(name.startswith("on") for name in one)
        assert "style" not in one  # the policy would drop it
    html = render_page(ENTRIES, title="LGG")
    assert "://" not in html
    style = page.one("style")["text"]
    assert "url(" not in style
    assert "@import" not in style
    policy = page.one("meta", http_equiv="Content-Security-Policy")["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    rules = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        texts = [one["text"] for one in page.all(tag) if one.get("type") != "application/json"]
        hashes = [b64encode(sha256(text.encode()).digest()).decode() for text in texts]
        assert rules[rule].split() == [f"'sha256-{one}'" for one in hashes]


def test_hostile_names_stay_text(tmp_path):
    evil = HOSTILE + "\u202egnp.\udcff\x00\x1b[31m</noscript>"
    entries = [
        replace(
            FOUND,
            study_id=evil,
            source="=cmd|' /C calc'!A0\n\u200f",
            folder="javascript:alert(1)/\udcff\"'><",
            warnings=(evil, "\ud800"),
            worst_warning=evil,
        ),
        replace(FAILED, study_id="\ud800", source=evil, error=evil),
    ]
    path = tmp_path / "index.html"
    write_page(entries, path, title=evil)
    html = path.read_text("utf-8")
    assert not set("\u202e\u200f\x00\x1b\u2028") & set(html)
    assert "<img src=x" not in html
    page = Page(html)
    assert len(page.all("script")) == 3
    assert len(page.all("img")) == 1
    assert page.one("h1")["text"].startswith("</script><img src=x onerror")
    assert cells(page, "source")[1] == r"=cmd|' /C calc'!A0\n\u200f"
    assert cells(page, "study")[0] == r"\ud800"
    links = {one["href"] for one in page.all("a") if not one["href"].startswith("#")}
    assert links == {"./javascript%3Aalert%281%29/%FF%22%27%3E%3C/report.html"}


def test_the_same_studies_give_the_same_page_whatever_was_there_before(tmp_path):
    first, again = tmp_path / "first.html", tmp_path / "again.html"
    again.write_text("something older")
    write_page(ENTRIES, first, title="LGG")
    write_page(ENTRIES[::-1], again, title="LGG")
    assert first.read_bytes() == again.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.html", "first.html"]


def test_a_thousand_studies_with_pictures_stay_below_6_mb():
    random = np.random.default_rng(0)
    message = "What is marked is mirror-symmetric, as white matter disease often is, not a tumour."
    entries = [
        replace(
            FOUND,
            study_id=f"sub-{k:04d}",
            source=f"site-{k % 7}/sub-{k:04d}/ses-baseline",
            folder=f"sub-{k:04d}",
            review=k,
            probability=float(random.random()),
            worst_warning=message,
            thumbnail=random.bytes(3000),
        )
        for k in range(1, 1001)
    ]
    assert len(render_page(entries, title="LGG").encode()) < 6_000_000
