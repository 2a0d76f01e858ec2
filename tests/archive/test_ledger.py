"""What the ledger keeps, and whom it keeps out."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from gliosight.archive.entries import Entry
from gliosight.archive.ledger import FILE, FOLDER, Record, opened_ledger
from gliosight.errors import CannotWriteError, InUseError

# Claims a ledger, says so, and waits.
HOLDING = """
import sys, time
from pathlib import Path
from gliosight.archive.ledger import opened_ledger
with opened_ledger(Path(sys.argv[1])):
    print("open", flush=True)
    time.sleep(600)
"""


def _record(source: str = "a/b", state: str = "done") -> Record:
    entry = Entry("study", source, "tumour found", "study-gliosight", 0.98, warnings=("X", "Y"),
                  doubt=1.5, thumbnail=b"\xff\xd8")  # fmt: skip
    return Record(f"/{source}", "/", state, "r", "s", "d", "study-gliosight", entry)  # type: ignore[arg-type]


def test_records_last(tmp_path: Path) -> None:
    with opened_ledger(tmp_path / "out") as ledger:
        ledger.write(_record(state="running"))
        ledger.write(_record("other"))
        ledger.write(_record())
    with opened_ledger(tmp_path / "out") as ledger:
        assert ledger.records() == [_record(), _record("other")]


def test_what_is_written_survives_a_kill(tmp_path: Path) -> None:
    script = HOLDING.replace(
        'print("open"',
        "from tests.archive.test_ledger import _record\n    _.write(_record())\n    print('open'",
    ).replace("])):", "])) as _:")
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        process.kill()
    with opened_ledger(tmp_path) as ledger:
        assert ledger.records() == [_record()]


def test_two_processes_do_not_share_a_ledger(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(InUseError, match="another run is working"), opened_ledger(tmp_path):
            pass
        process.kill()
    with opened_ledger(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"no database at all" * 99, b""])
def test_what_is_not_a_ledger(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / FOLDER / FILE
    path.parent.mkdir()
    path.write_bytes(content)
    if not content:  # a run that was killed before it wrote anything
        with opened_ledger(tmp_path) as ledger:
            assert ledger.records() == []
        return
    with pytest.raises(CannotWriteError, match="damaged"), opened_ledger(tmp_path):
        pass
    assert path.read_bytes() == content


def test_a_ledger_of_another_version(tmp_path: Path) -> None:
    with opened_ledger(tmp_path):
        pass
    database = sqlite3.connect(tmp_path / FOLDER / FILE)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(CannotWriteError, match="this version"), opened_ledger(tmp_path):
        pass


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotWriteError, match="cannot write"), opened_ledger(tmp_path / "file"):
        pass
