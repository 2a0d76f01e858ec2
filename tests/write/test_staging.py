"""Which OUT may be written or replaced, and that a result folder appears whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from gliosight.errors import CannotWriteError, DamagedInputError
from gliosight.pipeline import write_analysis
from gliosight.write import staging
from gliosight.write.staging import check_out, staged

from .builders import make_analysis


def _result(*files: str, slices: tuple[str, ...] = ()) -> str:
    """A record as ours, as far as it says what belongs to the result."""
    record = {
        "schema_version": "1.0",
        "research_use_only": "Research use only.",
        "detection": {"slices": [{"name": name} for name in slices]},
        "files": dict.fromkeys(("result.json", *files), "what it is"),
    }
    return json.dumps(record)


OURS = _result("only-1", "only-2")


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _write(out: Path, record: str = OURS, *, overwrite: bool = False) -> None:
    with staged(out, overwrite=overwrite) as folder:
        (folder / "result.json").write_text(record)
        assert not (out / "result.json").exists() or overwrite


@pytest.fixture
def result(tmp_path: Path) -> Path:
    out = tmp_path / "out"
    _write(out)
    return out


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (RuntimeError("midway"), RuntimeError, "midway"),
        (DamagedInputError("damaged"), DamagedInputError, "damaged"),  # a ValueError, too
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), CannotWriteError, "No space left"),
    ],
)
@pytest.mark.parametrize("out", ["out", "mine/new/deep/out"])
def test_an_error_midway_leaves_what_was_there(
    out: str, error: Exception, raised: type[Exception], words: str, result: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()

    def fail() -> None:
        with staged(tmp_path / out, overwrite=True) as folder:
            (folder / "a").write_text("a")
            raise error

    with pytest.raises(raised, match=words):
        fail()
    assert (result / "result.json").read_text() == OURS
    assert (_names(tmp_path), _names(tmp_path / "mine")) == (["mine", "out"], [])


def test_overwrite_replaces_the_whole_folder(result: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        with staged(result, overwrite=True) as folder:
            (folder / "result.json").write_text(OURS)
            (folder / f"only-{number}").touch()
    assert _names(result) == ["only-2", "result.json"]
    assert _names(tmp_path) == ["out"]
    with pytest.raises(CannotWriteError, match="--overwrite"):
        check_out(result, overwrite=False)


@pytest.mark.parametrize(("overwrite", "words"), [(False, "not empty"), (True, r"notes\.txt")])
def test_what_came_while_the_work_went_on_is_kept(
    overwrite: bool, words: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    if overwrite:
        _write(out)

    def run() -> None:
        with staged(out, overwrite=overwrite) as folder:
            (folder / "result.json").write_text("second")
            out.mkdir(exist_ok=True)
            (out / "notes.txt").write_text("years")

    with pytest.raises(CannotWriteError, match=words):
        run()
    assert (out / "notes.txt").read_text() == "years"
    assert (out / "result.json").exists() == overwrite
    assert _names(tmp_path) == ["out"]


def test_the_old_result_comes_back_where_the_new_one_cannot_take_its_place(
    result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(CannotWriteError, match="Input/output error"):
        _write(result, "new", overwrite=True)
    assert (result / "result.json").read_text() == OURS
    assert _names(tmp_path) == ["out"]


def test_an_empty_folder_stays_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Somebody's shell may stand in it (-o .), and its owner chose who may read it.
    out = tmp_path / "out"
    out.mkdir(mode=0o750)
    before = out.stat()
    monkeypatch.chdir(out)
    rename = Path.rename
    order: list[str] = []
    monkeypatch.setattr(
        Path, "rename", lambda self, target: order.append(self.name) or rename(self, target)
    )
    with staged(Path()) as folder:
        for name in ("a", "result.json", "z"):
            (folder / name).touch()
        (folder / "mask").mkdir()
        (folder / "mask" / "a").touch()
    assert order == ["a", "mask", "z", "result.json"]  # what makes it a result comes last
    assert _names(Path()) == ["a", "mask", "result.json", "z"]
    assert Path("mask/a").is_file()
    after = out.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert _names(tmp_path) == ["out"]


@pytest.mark.parametrize("below", ["", "mask"])
def test_the_result_one_stands_in_is_not_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    out = tmp_path / "out"
    (out / "mask").mkdir(parents=True)
    (out / "result.json").write_text(_result("mask/"))
    monkeypatch.chdir(out / below)
    with pytest.raises(CannotWriteError, match="working folder") as caught:
        check_out(Path() if not below else Path(".."), overwrite=True)
    assert caught.value.where == "out"
    monkeypatch.chdir(tmp_path)
    check_out(Path("out"), overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["file", "link", "dead link", "something else", "another tool's"])
def test_what_is_not_ours_is_never_replaced(tmp_path: Path, kind: str, overwrite: bool) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.tex").write_text("years")
    if kind == "file":
        out.write_text("file")
    elif kind == "link":
        out.symlink_to(elsewhere)
    elif kind == "dead link":
        out.symlink_to(tmp_path / "nowhere")
    else:
        out = elsewhere
    if kind == "another tool's":
        (elsewhere / "result.json").write_text('{"accuracy": 0.9}')
    with pytest.raises(CannotWriteError, match="choose another -o"):
        check_out(out, overwrite=overwrite)
    assert (elsewhere / "thesis.tex").read_text() == "years"


@pytest.mark.parametrize(
    "record", ["{", "[]", '"schema_version" "research_use_only"', OURS.replace('"files"', '"x"')]
)
def test_a_record_that_is_no_record_is_not_ours(tmp_path: Path, record: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text(record)
    with pytest.raises(CannotWriteError, match="something else than a result"):
        check_out(tmp_path / "out", overwrite=True)


@pytest.mark.parametrize(
    ("name", "foreign"),
    [
        ("mask_corrected.nii.gz", "mask_corrected.nii.gz"),
        (".git/HEAD", ".git/"),
        ("mask/s1_mask_corrected.tif", "mask/s1_mask_corrected.tif"),
        ("mask/s3_mask.tif", "mask/s3_mask.tif"),  # there is no such slice
        ("mask/mine/x", "mask/mine"),
        ("probability/s1_probability.tif", "probability/"),  # was not asked for
        (".DS_Store", None),  # a file browser's
        ("Thumbs.db", None),
        ("desktop.ini", None),
    ],
)
def test_what_was_put_into_a_result_is_never_removed(
    tmp_path: Path, name: str, foreign: str | None
) -> None:
    out = tmp_path / "out"
    with staged(out) as folder:
        (folder / "result.json").write_text(_result("mask/", slices=("s1", "s2")))
        (folder / "mask").mkdir()
        (folder / "mask" / "s1_mask.tif").touch()
    check_out(out, overwrite=True)
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("years")
    if foreign is None:
        check_out(out, overwrite=True)
        return
    with pytest.raises(CannotWriteError, match="move that elsewhere") as caught:
        check_out(out, overwrite=True)
    assert caught.value.what.endswith(f"result: {foreign}")
    assert caught.value.where == "out"


def test_a_real_result_may_be_replaced(tmp_path: Path) -> None:
    # Two slices of one safe name get numbers; whatever the writers name is known to be ours.
    names = ("a:b", "a*b", "c")
    analysis = make_analysis((3, 24, 20), geometry=None, slice_names=names)
    for overwrite in (False, True):
        write_analysis(analysis, tmp_path / "out", overwrite=overwrite, probability=True)
    assert len(list((tmp_path / "out" / "mask").iterdir())) == 3


def test_a_read_only_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write anywhere, so the system's answer is replaced.
    monkeypatch.setattr(staging.os, "access", lambda *_: False)
    with pytest.raises(CannotWriteError, match="permission"):
        check_out(tmp_path / "out", overwrite=False)


@pytest.mark.parametrize("name", ["x" * 256, "x" * 250, "a\0b", "file/out", "file/new/out"])
def test_a_place_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "file").chmod(0o755)
    with pytest.raises(CannotWriteError, match="choose another -o"):
        check_out(tmp_path / name, overwrite=False)
    assert _names(tmp_path) == ["file"]
