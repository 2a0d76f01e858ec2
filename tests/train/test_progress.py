"""What a run says while something takes long."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the extra train is not installed")

from gliosight.train.progress import Lines, say


def test_lines_come_at_once_and_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines("packing", "patients")
    for done in range(1, 132):
        lines("pack", done, 131)
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("packing: 1 of 131 patients, ")
    assert told[-1] == "packing: 131 of 131 patients, 0 min left"
    assert 20 <= len(told) <= 24
    for done in (1, 2):
        lines("pack", done, 2)
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("name", ["LOCAL_RANK", "NODE_RANK"])
def test_one_process_speaks(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say("one")
    monkeypatch.setenv(name, "1")
    say("two")
    assert capsys.readouterr().out == "one\n"
