"""What the terminal says of one study: the verdict, what it is worth, and the worst warning first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gliosight.analysis import MASK_MEANING, RESEARCH_USE, Status
from gliosight.archive.entries import entry_of, ranked
from gliosight.archive.table import HEADER, write_studies
from gliosight.cli.output import print_closing, print_summary, rich_console, table_of
from gliosight.errors import NothingReadableError
from gliosight.flags import flag
from gliosight.pipeline import Outcome
from gliosight.study import MrSequence
from gliosight.write.result import result_of
from tests.write.builders import make_analysis

from .test_analyze import rows

SMALL = (5, 24, 20)
VALUES = {name: np.ones(SMALL, np.float32) for name in MrSequence}


def lines_of(capsys: pytest.CaptureFixture[str], **options: Any) -> list[str]:
    print_summary(result_of(make_analysis(SMALL, **options), {}), "out")
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


def test_a_notebook_gets_plain_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    with rich_console() as console:
        console.print("title", style="bold")
        console.print(table_of(["", "model"], [("Dice", "0.8")], left=("",)))
    assert capsys.readouterr().out.split() == ["title", "model", "Dice", "0.8"]


def test_what_was_found_and_how_sure_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    flags = [flag(code, f"{code}.") for code in ("T1_MISSING", "SIDE_UNKNOWN", "MISSING_SLICES")]
    lines = lines_of(capsys, flags=tuple(flags))
    analysis = make_analysis(SMALL)
    low, high = analysis.volume_interval_ml or (0.0, 0.0)
    assert lines[:4] == [
        "phantom-0001  tumour found",
        "probability of tumour 0.97 (tumour found from 0.90, uncertain from 0.10)",
        "Of 100 studies with this result, about 97 have a tumour. "
        "This holds for collections where 86 of 100 studies have one.",
        f"volume {analysis.volume_ml:.1f} ml, 90 % interval {low:.1f} to {high:.1f} ml",
    ]
    assert lines[4].startswith("finding 1: left")
    assert "counted from 1" in lines[5]
    assert lines[6:10] == [
        "2 warnings, the worst first",
        "! MISSING_SLICES: MISSING_SLICES.",
        "! SIDE_UNKNOWN: SIDE_UNKNOWN.",
        "i T1_MISSING: T1_MISSING.",
    ]


def test_a_slice_is_as_sure_as_in_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    probability = np.zeros(SMALL, np.float32)
    probability[2, 5:9, 5:9] = 0.999
    sure = lines_of(capsys, probability=probability, values=VALUES)
    assert (
        "marked slices 1 of 5, highest slice probability > 0.99 (slice 3, counted from 1)" in sure
    )
    none = lines_of(capsys, probability=probability * 0, values=VALUES)
    assert "marked slices 0 of 5, highest slice probability < 0.01" in none


def test_doubt_says_why_and_a_negative_rules_nothing_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    doubts = (flag("SYMMETRIC", "It is symmetric."),)
    lines = lines_of(capsys, status=Status.UNCERTAIN, flags=doubts)
    assert lines[0].endswith("uncertain")
    assert lines[2].endswith("The warnings are not part of the probability.")
    assert lines[3] == "The probability of tumour is 0.60, between 0.10 and 0.90."
    assert any(line.startswith("candidate 1: left") for line in lines)
    assert "1 warning" in lines
    lines = lines_of(capsys, lesion=False)
    assert lines[3] == "This does not rule out a tumour."
    assert "warning" not in " ".join(lines)
    lines = lines_of(capsys, prevalence=None)
    assert lines[1].startswith("score 0.97")
    lines = lines_of(capsys, status=Status.NOT_ASSESSED)
    assert lines[1] == "The images have no contrast: there is nothing to look at."
    lines = lines_of(capsys, geometry=None)
    bare = make_analysis(SMALL, geometry=None)
    low, high = bare.volume_interval_px or (0, 0)
    assert low < bare.volume_px < high
    volume = f"volume {bare.volume_px:,} voxels (no geometry)"
    assert f"{volume}, 90 % interval {low:,} to {high:,} voxels" in lines


def test_the_reason_of_a_refusal_is_said_once_and_first(capsys: pytest.CaptureFixture[str]) -> None:
    reason = "This does not look like a head in an axial MR image."
    flags = (
        flag("SINGLE_SLICE", "There is one slice."),
        flag("T1_MISSING", "There is no T1."),
        flag("NOT_A_HEAD", reason),
    )
    lines = lines_of(capsys, status=Status.NOT_ASSESSED, reason=reason, flags=flags)
    assert lines[:4] == [
        "phantom-0001  not assessed",
        f"NOT_A_HEAD: {reason}",
        "1 warning",
        "! SINGLE_SLICE: There is one slice.",
    ]
    assert "T1_MISSING" not in " ".join(lines)
    lines = lines_of(capsys, status=Status.NOT_ASSESSED, reason=reason, flags=flags[2:])
    assert "warning" not in " ".join(lines)
    assert " ".join(lines).count(reason) == 1


@pytest.mark.parametrize("marked", [True, False])
def test_what_a_mask_outlines_is_said_where_there_is_one(
    marked: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    print_closing(marked=marked)
    printed = capsys.readouterr().out
    assert RESEARCH_USE in printed
    assert (MASK_MEANING in printed) is marked


def test_the_table_ranks_what_to_look_at_first(tmp_path: Path) -> None:
    def outcome(name: str, **options: Any) -> Outcome:
        result = result_of(make_analysis(SMALL, study_id=name, **options), {})
        return Outcome(name, name, {"out": str(tmp_path / name), **result})

    flags = (flag("NO_GEOMETRY", "No millimetres."), flag("SCATTERED", "=1: many foci."))
    outcomes = [
        outcome("found"),
        outcome("none", lesion=False),
        outcome("unsure", status=Status.UNCERTAIN, flags=flags),
        outcome("refused", status=Status.NOT_ASSESSED),
        Outcome("broken", "broken", errors=(NothingReadableError("no such file"),)),
    ]
    entries = ranked(entry_of(outcome, tmp_path) for outcome in outcomes)
    assert [entry.review for entry in entries] == [4, 5, 3, 2, 1]
    write_studies(entries, tmp_path)
    table = {row["study_id"]: row for row in rows(tmp_path)}
    assert list(table["found"]) == HEADER
    assert [
        *("study_id", "source", "status", "probability", "review", "findings"),
        *("volume_ml", "volume_low_ml", "volume_high_ml"),
        *("volume_px", "volume_low_px", "volume_high_px"),
        *("warnings", "worst_warning", "out", "error"),
    ] == HEADER
    in_order = sorted(table, key=lambda name: int(table[name]["review"]))
    assert in_order == ["broken", "refused", "unsure", "found", "none"]
    unsure = table["unsure"]
    assert (unsure["status"], unsure["probability"]) == ("uncertain", "0.6")
    assert unsure["warnings"] == "SCATTERED NO_GEOMETRY"
    assert unsure["worst_warning"] == "'=1: many foci."
    low, volume, high = (float(unsure[f"volume_{k}ml"]) for k in ("low_", "", "high_"))
    assert low < volume < high
    assert int(unsure["volume_low_px"]) < int(unsure["volume_px"]) < int(unsure["volume_high_px"])
    assert table["none"]["volume_low_ml"] == table["refused"]["probability"] == ""
