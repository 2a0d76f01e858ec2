"""A result folder appears whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from gliosight.errors import CannotWriteError
from gliosight.files import whole_file
from gliosight.pipeline import write_analysis
from gliosight.write import result_folder
from gliosight.write.result_folder import check_out, staged

from .builders import make_analysis


def _result(*files: str, slices: tuple[str, ...] = ()) -> str:
    """A record as ours, as far as it says what belongs to the result."""
    record = {
        "schema_version": "1.0",
        "research_use_only": "Research use only.",
        "detection": {"slices": [{"name": one} for one in slices]},
        "files": dict.fromkeys(("result.json", *files), "what it is"),
    }
    return json.dumps(record)


OURS = _result("only-1", "only-2")


def _leftovers(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """A result that was written before."""
    with staged(tmp_path / "out") as folder:
        (folder / "result.json").write_text(OURS)
    return tmp_path / "out"


def _write(out: Path, error: BaseException | None = None, *files: str) -> None:
    """Replace what is at OUT, and fail midway."""
    with staged(out, overwrite=True) as folder:
        (folder / "result.json").write_text(OURS)
        for name in files:
            (folder / name).touch()
        if error is not None:
            raise error


def test_folders_on_the_way_appear_with_the_result_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(RuntimeError, match="midway"):
        _write(tmp_path / "mine" / "new" / "deep" / "out", RuntimeError("midway"))
    assert _leftovers(tmp_path) == ["mine"]
    assert _leftovers(tmp_path / "mine") == []
    with staged(tmp_path / "mine" / "deep" / "out") as folder:
        (folder / "result.json").write_text("{}")
        assert _leftovers(folder.parents[1]) == [folder.parent.name]
    assert (tmp_path / "mine" / "deep" / "out" / "result.json").read_text() == "{}"
    assert _leftovers(tmp_path / "mine" / "deep") == ["out"]


def test_a_full_disk_is_one_of_our_errors_and_keeps_the_old_result(
    result: Path, tmp_path: Path
) -> None:
    with pytest.raises(CannotWriteError, match="No space left") as caught:
        _write(result, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert caught.value.exit_code == 7
    assert (result / "result.json").read_text() == OURS
    assert _leftovers(tmp_path) == ["out"]


def test_overwrite_replaces_the_whole_folder(tmp_path: Path) -> None:
    for number in (1, 2):
        _write(tmp_path / "out", None, f"only-{number}")
    assert _leftovers(tmp_path / "out") == ["only-2", "result.json"]
    assert _leftovers(tmp_path) == ["out"]


def test_what_another_run_wrote_in_the_meantime_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def run() -> None:
        with staged(out) as folder:
            (folder / "result.json").write_text("second")
            out.mkdir()
            (out / "result.json").write_text(OURS)

    with pytest.raises(CannotWriteError, match="not empty"):
        run()
    assert (out / "result.json").read_text() == OURS
    assert _leftovers(tmp_path) == ["out"]


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
        _write(result)
    assert (result / "result.json").read_text() == OURS
    assert _leftovers(tmp_path) == ["out"]


def test_an_empty_folder_stays_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Somebody's shell may stand in it (-o .), and its owner chose who may read it.
    out = tmp_path / "out"
    out.mkdir(mode=0o750)
    before = out.stat()
    monkeypatch.chdir(out)
    with staged(Path()) as folder:
        (folder / "result.json").touch()
        (folder / "mask").mkdir()
        (folder / "mask" / "a").touch()
    assert sorted(one.name for one in Path().iterdir()) == ["mask", "result.json"]
    assert Path("mask/a").is_file()
    after = out.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert _leftovers(tmp_path) == ["out"]


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
    ("name", "told"),
    [
        ("notes.txt", "notes.txt"),
        ("mask_corrected.nii.gz", "mask_corrected.nii.gz"),
        ("mine/thesis.tex", "mine/"),
        (".git/HEAD", ".git/"),
        ("mask/s1_mask_corrected.tif", "mask/s1_mask_corrected.tif"),
        ("mask/s3_mask.tif", "mask/s3_mask.tif"),  # there is no such slice
        ("mask/mine/x", "mask/mine"),
        ("probability/s1_probability.tif", "probability/"),  # was not asked for
    ],
)
def test_what_was_put_into_a_result_is_never_removed(tmp_path: Path, name: str, told: str) -> None:
    out = tmp_path / "out"
    with staged(out) as folder:
        (folder / "result.json").write_text(_result("mask/", slices=("s1", "s2")))
        (folder / "mask").mkdir()
        (folder / "mask" / "s1_mask.tif").touch()
    check_out(out, overwrite=True)
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("years")
    with pytest.raises(CannotWriteError, match="move that elsewhere") as caught:
        check_out(out, overwrite=True)
    assert caught.value.what.endswith(f"result: {told}")
    assert caught.value.where == "out"
    assert (out / name).read_text() == "years"


def test_what_came_while_the_work_went_on_is_kept_too(result: Path, tmp_path: Path) -> None:
    def run() -> None:
        with staged(result, overwrite=True) as folder:
            (folder / "result.json").write_text("new")
            (result / "notes.txt").write_text("years")

    with pytest.raises(CannotWriteError, match=r"notes\.txt"):
        run()
    assert (result / "result.json").read_text() == OURS
    assert (result / "notes.txt").read_text() == "years"
    assert _leftovers(tmp_path) == ["out"]


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini"])
def test_what_a_file_browser_leaves_is_nobodys(result: Path, name: str) -> None:
    (result / name).touch()
    check_out(result, overwrite=True)


@pytest.mark.parametrize(
    "record", ["{", "[]", '"schema_version" "research_use_only"', OURS.replace('"files"', '"x"')]
)
def test_a_record_that_is_no_record_is_not_ours(result: Path, record: str) -> None:
    (result / "result.json").write_text(record)
    with pytest.raises(CannotWriteError, match="something else than a result"):
        check_out(result, overwrite=True)


@pytest.mark.slow
def test_a_real_result_may_be_replaced(tmp_path: Path) -> None:
    # Two slices of one safe name get numbers; whatever the writers name is known to be ours.
    names = ("a:b", "a*b", "c")
    analysis = make_analysis((3, 24, 20), geometry=None, slice_names=names)
    for overwrite in (False, True):
        write_analysis(analysis, tmp_path / "out", overwrite=overwrite, probability=True)
    assert len(list((tmp_path / "out" / "mask").iterdir())) == 3


def test_a_result_is_refused_without_overwrite(result: Path) -> None:
    with pytest.raises(CannotWriteError, match="--overwrite"):
        check_out(result, overwrite=False)


def test_a_read_only_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write anywhere, so the system's answer is replaced.
    monkeypatch.setattr(result_folder.os, "access", lambda *_: False)
    with pytest.raises(CannotWriteError, match="permission"):
        check_out(tmp_path / "out", overwrite=False)


@pytest.mark.skipif(not hasattr(os, "statvfs"), reason="asks the file system as POSIX has it")
def test_a_read_only_file_system_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_folder.os, "access", lambda *_: False)
    status = SimpleNamespace(f_flag=os.ST_RDONLY)
    monkeypatch.setattr(result_folder.os, "statvfs", lambda _: status)
    with pytest.raises(CannotWriteError, match="the file system there is read-only"):
        check_out(tmp_path / "out", overwrite=False)


def test_a_place_that_may_not_be_looked_at_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(result_folder, "recover", refuse)
    with pytest.raises(CannotWriteError, match="no permission to write there"):
        check_out(tmp_path / "out", overwrite=False)


@pytest.mark.parametrize("name", ["x" * 256, "x" * 250, "a\0b", "file/out", "file/new/out"])
def test_a_place_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "file").chmod(0o755)
    with pytest.raises(CannotWriteError, match="choose another -o"):
        check_out(tmp_path / name, overwrite=False)
    assert _leftovers(tmp_path) == ["file"]


def test_a_file_in_a_folder_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with (
        pytest.raises(CannotWriteError, match="make the folder above it") as caught,
        whole_file(tmp_path / "nowhere" / "mask.nii.gz") as partial,
    ):
        partial.write_bytes(b"x")
    assert "make room" not in str(caught.value)
