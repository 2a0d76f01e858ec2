"""The folder of a follow-up: record, table, masks, page; whole or not at all."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("SimpleITK", reason="the extra followup is not installed")

from gliosight.analysis import RESEARCH_USE, Status
from gliosight.archive.follow_up import compare as comparing
from gliosight.archive.follow_up import output
from gliosight.archive.follow_up.compare import FollowUp, compare
from gliosight.archive.follow_up.output import check_out, load_schema, write_follow_up
from gliosight.archive.follow_up.register import Registration
from gliosight.errors import CannotWriteError
from tests.archive.heads import SIDE_MM, Ball, analysis_of

RIGHT, LEFT = (20.0, 30.0, 15.0), (20.0, 30.0, 35.0)
BALLS: list[list[Ball]] = [[(RIGHT, 6.0)], [(RIGHT, 9.0), (LEFT, 5.0)]]
HOSTILE = '<script>alert("x")</script>\n=1+1'
# Words of RANO, which a single sequence cannot give.
CATEGORIES = (
    "progression",
    "progressive",
    "partial response",
    "complete response",
    "stable disease",
)


@pytest.fixture(autouse=True)
def in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Registration(np.eye(4), error_mm=0.3, overlap=0.97, similarity=0.9)
    monkeypatch.setattr(comparing, "register", lambda *_: here)
    monkeypatch.setattr(comparing, "COMMON_MM", SIDE_MM)


def follow(balls: list[list[Ball]] = BALLS, name: str = "scan", days: bool = True) -> FollowUp:
    analyses = [analysis_of(each, study_id=name) for each in balls]
    sources = [f"{name} {k}" for k in range(len(balls))]
    known = [100 * k if days else None for k in range(len(balls))]
    return compare(analyses, sources, known, "the dates in the names", ["A note."])


class Page(HTMLParser):
    """What a browser would load or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.scripts = 0
        self.policy = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        if ("http-equiv", "Content-Security-Policy") in attrs:
            self.policy = dict(attrs)["content"] or ""
        self.loaded += [value or "" for name, value in attrs if name in ("src", "srcset", "data")]
        self.loaded += [value or "" for name, value in attrs if tag == "link" and name == "href"]


@pytest.mark.parametrize("days", [True, False])
@pytest.mark.parametrize(
    "balls", [BALLS, [[], []], [*BALLS, [(LEFT, 5.0)]], [[(RIGHT, 6.0)], []]], ids=len
)
def test_a_folder_holds_what_its_record_says(
    balls: list[list[Ball]], days: bool, tmp_path: Path
) -> None:
    followed = follow(balls, days=days)
    record = write_follow_up(followed, tmp_path / "out")
    assert record == json.loads((tmp_path / "out" / "follow-up.json").read_text("utf-8"))
    jsonschema.validate(record, load_schema())
    jsonschema.Draft202012Validator.check_schema(load_schema())
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(record["files"])
    assert record["research_use_only"] == RESEARCH_USE
    assert len(record["lesions"]) == len(followed.lesions)
    with (tmp_path / "out" / "follow-up.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    steps = len(balls) + (len(balls) > 2)
    assert len(rows) == (len(followed.lesions) + 1) * steps
    page = (tmp_path / "out" / "follow-up.html").read_text("utf-8")
    assert RESEARCH_USE in page
    assert not any(word in page.lower() for word in CATEGORIES)
    assert "A note." in page


def test_masks_have_the_lesions_numbers_on_the_common_grid(tmp_path: Path) -> None:
    followed = follow()
    write_follow_up(followed, tmp_path / "out")
    for k, labels in enumerate(followed.labels):
        image = nib.load(tmp_path / "out" / f"mask-{k + 1}.nii.gz")
        assert labels is not None
        np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), labels)
    # Lesion 1 is on the patient's right, lesion 2 on the left, by the file alone: x grows to the right.
    values = np.asarray(image.dataobj)
    right, left = (
        nib.affines.apply_affine(image.affine, np.argwhere(values == number)).mean(axis=0)
        for number in (1, 2)
    )
    middle = 50.0 - SIDE_MM * 25
    assert right[0] > middle > left[0]
    assert nib.aff2axcodes(image.affine) == ("L", "P", "S")


def test_a_table_program_and_a_browser_obey_nothing_in_a_name(tmp_path: Path) -> None:
    write_follow_up(follow(name=HOSTILE), tmp_path / "out")
    page = (tmp_path / "out" / "follow-up.html").read_text("utf-8")
    seen = Page(page)
    assert seen.scripts == 1  # ours
    assert HOSTILE.splitlines()[0] not in page
    assert all(one.startswith("data:") for one in seen.loaded)
    assert "https://" not in page
    assert seen.policy.startswith("default-src 'none'; img-src data:; ")


def test_what_changed_is_drawn_where_it_changed() -> None:
    from gliosight.archive.follow_up.page import _pictures

    pictures = _pictures(follow())
    (start,) = (one for one in pictures if one["start"])
    first, second = start["frames"]
    assert first["outline"]
    assert not first["added"]
    assert second["added"]
    assert not second["lost"]
    assert start["lesions"] == [1, 2]


def test_a_failed_registration_has_a_page_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = Registration(np.eye(4), failure="The heads overlap by 0.30 after registration.")
    monkeypatch.setattr(comparing, "register", lambda *_: failed)
    record = write_follow_up(follow(), tmp_path / "out")
    jsonschema.validate(record, load_schema())
    assert "mask-2.nii.gz" not in record["files"]
    page = (tmp_path / "out" / "follow-up.html").read_text("utf-8")
    assert "overlap by 0.30" in page
    assert "Cannot tell" in page


def test_a_study_that_was_not_assessed_has_no_volume(tmp_path: Path) -> None:
    analyses = [analysis_of([(RIGHT, 6.0)]), analysis_of(status=Status.NOT_ASSESSED)]
    record = write_follow_up(
        compare(analyses, ["a", "b"], [None, None], "as given"), tmp_path / "o"
    )
    jsonschema.validate(record, load_schema())
    assert record["total"]["measures"][1]["volume_ml"] is None
    assert record["visits"][1]["volume_ml"] is None


def test_only_a_follow_up_is_replaced_and_only_when_asked(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_follow_up(follow(), out)
    with pytest.raises(CannotWriteError, match="not empty"):
        check_out(out, overwrite=False)
    write_follow_up(replace(follow(), notes=()), out, overwrite=True)
    (out / "mine.txt").write_text("mine")
    with pytest.raises(CannotWriteError, match=r"something else: mine\.txt"):
        write_follow_up(follow(), out, overwrite=True)
    assert (out / "mine.txt").read_text() == "mine"
    other = tmp_path / "other"
    other.mkdir()
    (other / "follow-up.json").write_text("{}")
    with pytest.raises(CannotWriteError, match="not empty"):
        check_out(other, overwrite=True)


def test_nothing_is_left_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output, "write_table", full)
    with pytest.raises(CannotWriteError, match="No space left"):
        write_follow_up(follow(), tmp_path / "out")
    assert not list(tmp_path.iterdir())
