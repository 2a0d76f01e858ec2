"""Archives: what is unpacked, what never is, and what they may cost."""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gliosight.errors import (
    CannotWriteError,
    DamagedInputError,
    GliosightError,
    LimitExceededError,
    NothingReadableError,
    UnsupportedInputError,
)
from gliosight.read.limits import DEFAULT_LIMITS, Budget, Limits
from gliosight.read.zipped import unzipped

MIB = 2**20


def budget(**limits: float) -> Budget:
    return Budget(Limits(**limits) if limits else DEFAULT_LIMITS)  # type: ignore[arg-type]


def zip_of(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], packed: bool = True) -> Path:
    method = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data, compress_type=method)
    return path


def raw_name(path: Path, written: bytes, name: bytes) -> Path:
    """Another name of the same length, which zipfile would not write."""
    assert len(written) == len(name)
    data = path.read_bytes()
    assert data.count(written) == 2
    path.write_bytes(data.replace(written, name))
    return path


def info(name: str, mode: int, system: int = 3) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.create_system = system
    made.external_attr = mode << 16
    return made


def files_of(path: Path, limits: Budget | None = None) -> tuple[dict[str, bytes], tuple[str, ...]]:
    with unzipped(path, limits or budget()) as got:
        found = {
            one.relative_to(got.folder).as_posix(): one.read_bytes()
            for one in got.folder.rglob("*")
            if one.is_file()
        }
        assert not any(one.is_symlink() for one in got.folder.rglob("*"))
        return found, got.skipped


def test_names_and_bytes_are_kept(tmp_path: Path) -> None:
    members = {
        "study/series 1/FLAIR_1.tif": b"a" * 5000,
        "study/série\u2028\n2.dcm": os.urandom(3000),
        "empty.dcm": b"",
        "flair.nii.gz": b"\x1f\x8b\x08" + b"\0" * 50,
    }
    path = zip_of(tmp_path / "a.zip", ("study/", b""), *members.items())
    assert files_of(path) == (members, ())


@pytest.mark.parametrize(
    ("members", "unpacked"),
    [
        pytest.param(["./x//y.dcm"], ["x/y.dcm"], id="dots and double slashes"),
        pytest.param(["x\\y z\\a.dcm", "x\\y z\\"], ["x/y z/a.dcm"], id="backslashes"),
        pytest.param(["A.dcm", "a.dcm", "X/a", "x/a"], ["A.dcm", "a.dcm", "X/a", "x/a"], id="case"),
        pytest.param(["e\u0301", "\xe9"], ["e\u0301", "\xe9"], id="two codes of an accent"),
        pytest.param(
            ["NUL", "COM1.dcm", "a. ", "b."], ["NUL", "COM1.dcm", "a. ", "b."], id="devices"
        ),
    ],
)
def test_names_that_are_read(members: list[str], unpacked: list[str], tmp_path: Path) -> None:
    given = [(name, b"" if name.endswith("\\") else name.encode()) for name in members]
    found, skipped = files_of(zip_of(tmp_path / "a.zip", *given))
    assert sorted(found) == sorted(unpacked)
    assert skipped == ()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_read_once(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", ("x/a", b"1"), ("x/a", b"1"), ("b", b"1"))
    assert files_of(path) == ({"x/a": b"1", "b": b"1"}, ("1 member that is there twice",))


def test_folders_are_made_once_and_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of members far down cost as many calls as there are folders."""
    made: list[Path] = []
    mkdir = Path.mkdir

    def count(self: Path, *more: int, **options: bool) -> None:
        made.append(self)
        mkdir(self, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", count)
    deep = "/".join(f"d{level}" for level in range(60))
    path = zip_of(tmp_path / "a.zip", *((f"{deep}/{k}", b"1") for k in range(100)))
    files_of(path)
    assert len(made) < 70
    made.clear()
    chains = ["/".join(f"{k}-{level}" for level in range(60)) + "/a" for k in range(100)]
    path = zip_of(tmp_path / "b.zip", *((name, b"1") for name in chains))
    with pytest.raises(LimitExceededError, match="--max-members"):
        files_of(path, budget(members=200))
    assert len(made) < 210


@pytest.mark.parametrize(
    ("members", "error", "words"),
    [
        pytest.param([], NothingReadableError, "the archive is empty", id="empty"),
        pytest.param([("a/", b""), ("b\\", b"")], NothingReadableError, "empty", id="folders"),
        pytest.param(
            [("x/in.zip", b"PK\3\4" + b"\0" * 9)], UnsupportedInputError, "x/in.zip", id="archive"
        ),
        pytest.param(
            [("../a", b"1")], NothingReadableError, "1 member that leads outside", id="outside"
        ),
        pytest.param(
            [("/a", b"1"), ("in.zip", b"PK\3\4" + b"\0" * 9)],
            NothingReadableError,
            "1 member that leads outside the archive, 1 archive in the archive",
            id="several reasons",
        ),
    ],
)
def test_nothing_to_unpack_is_told(
    members: list[tuple[str, bytes]], error: type[GliosightError], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=re.escape(words)) as caught:
        files_of(zip_of(tmp_path / "a.zip", *members))
    assert type(caught.value) is error
    assert caught.value.where == "a.zip"


def test_a_password_is_told(tmp_path: Path) -> None:
    path = encrypted(zip_of(tmp_path / "a.zip", ("a", b"1"), ("b", b"2"), packed=False), b"a", b"b")
    with pytest.raises(UnsupportedInputError, match="protected by a password"):
        files_of(path)


def test_folder_is_ours_and_goes(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", ("x/a", b"1"))
    with unzipped(path, budget()) as got:
        folder = got.folder
        assert folder.name == "a"  # studies are called after their folders
        assert stat.S_IMODE(folder.parents[1].stat().st_mode) == 0o700
    assert not folder.exists()

    def fail() -> None:
        with unzipped(path, budget()) as got:
            nonlocal folder
            folder = got.folder
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not folder.exists()
    assert [one.name for one in tmp_path.iterdir()] == ["a.zip"]


def test_nothing_is_left_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    path = zip_of(tmp_path / "a.zip", ("a", b"1"), ("b", b"x" * 3 * MIB))
    with pytest.raises(LimitExceededError), unzipped(path, budget(decoded_bytes=MIB)):
        pass
    assert not list(place.iterdir())


OUTSIDE = "1 member that leads outside the archive"


@pytest.mark.parametrize(
    ("member", "skipped"),
    [
        pytest.param(("../evil", b"1"), OUTSIDE, id="parent"),
        pytest.param(("a/../../evil", b"1"), OUTSIDE, id="parent inside"),
        pytest.param(("/etc/evil", b"1"), OUTSIDE, id="absolute"),
        pytest.param(("C:evil", b"1"), OUTSIDE, id="drive"),
        pytest.param(("x/C:/evil", b"1"), OUTSIDE, id="drive inside"),
        pytest.param(("..\\evil", b"1"), OUTSIDE, id="backslash"),
        pytest.param(("a\\..\\..\\evil", b"1"), OUTSIDE, id="backslash inside"),
        pytest.param(("\\\\server\\evil", b"1"), OUTSIDE, id="share"),
        pytest.param((info("l", stat.S_IFLNK | 0o777), b"/etc"), "1 link or device", id="link"),
        pytest.param((info("d", stat.S_IFCHR | 0o666), b""), "1 link or device", id="device"),
        pytest.param((info("f", stat.S_IFIFO | 0o666), b""), "1 link or device", id="fifo"),
        pytest.param(("in.zip", b"PK\3\4" + b"\0" * 9), "1 archive in the archive", id="zip"),
        pytest.param(
            ("a.dcm", b"7z\xbc\xaf\x27\x1c" + b"0" * 9), "1 archive in the archive", id="7z"
        ),
        pytest.param(
            ("t", b"\0" * 257 + b"ustar" + b"\0" * 250), "1 archive in the archive", id="tar"
        ),
    ],
)
def test_never_unpacked(
    tmp_path: Path, member: tuple[str | zipfile.ZipInfo, bytes], skipped: str
) -> None:
    path = zip_of(tmp_path / "a.zip", member, ("ok", b"2"))
    before = set(tmp_path.rglob("*"))
    assert files_of(path) == ({"ok": b"2"}, (skipped,))
    assert set(tmp_path.rglob("*")) == before


def test_nul_in_a_name(tmp_path: Path) -> None:
    path = raw_name(zip_of(tmp_path / "a.zip", ("abXcd", b"1"), ("ok", b"2")), b"abXcd", b"ab\0cd")
    assert files_of(path) == ({"ok": b"2"}, (OUTSIDE,))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_methods_are_left_out(tmp_path: Path, method: int) -> None:
    """The standard library would unpack a whole chunk of them at once, however large it becomes."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"\0" * MIB, compress_type=method)
        archive.writestr("b", b"2")
    assert files_of(path) == ({"b": b"2"}, ("1 member packed in an unusual way",))


def encrypted(path: Path, *names: bytes) -> Path:
    """Set the flag of members that are encrypted."""
    data = bytearray(path.read_bytes())
    for name in names:
        for magic, flag, at in ((b"PK\3\4", 6, 30), (b"PK\1\2", 8, 46)):
            place = data.index(magic)
            while data[place + at : place + at + 1] != name:
                place = data.index(magic, place + 1)
            data[place + flag] |= 1
    path.write_bytes(data)
    return path


def test_encrypted_members_are_left_out(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", ("a", b"1"), ("b", b"2"), ("c", b"3"), packed=False)
    assert files_of(encrypted(path, b"a", b"b")) == ({"c": b"3"}, ("2 encrypted members",))


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([("a", b"1"), ("a", b"2")], id="same name"),
        pytest.param([("x/a", b"1"), ("x\\a", b"2")], id="slash and backslash"),
        pytest.param([("x/a", b"1"), ("./x//a", b"2")], id="same place"),
        pytest.param([("a", b"1"), ("a/b", b"2")], id="file and folder"),
        pytest.param([("a/b", b"1"), ("a", b"2")], id="folder and file"),
        pytest.param([("n" * 300, b"1")], id="long name"),
        pytest.param([("é" * 200, b"1")], id="long in bytes"),
        pytest.param([("n/" * 100 + "a", b"1")], id="deep"),
        pytest.param([("/".join(["n" * 200] * 8), b"1")], id="long path"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_contradicting_names(tmp_path: Path, members: list[tuple[str, bytes]]) -> None:
    with pytest.raises(DamagedInputError) as caught:
        files_of(zip_of(tmp_path / "a.zip", *members))
    assert caught.value.where == "a.zip"


def test_too_many_members(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", *((f"{k}", b"") for k in range(6)))
    with pytest.raises(LimitExceededError, match="--max-members"):
        files_of(path, budget(members=5))


def test_directory_of_millions(tmp_path: Path) -> None:
    """A directory's claim is refused before it becomes objects."""
    path = tmp_path / "a.zip"
    entry = b"PK\1\2" + b"\0" * 42
    count = 60_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 5, 5, len(entry) * count, 0, 0)
    path.write_bytes(entry * count + end)
    with pytest.raises(LimitExceededError):
        files_of(path, budget(members=1000))


def test_too_many_bytes(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", *((f"{k}", os.urandom(MIB)) for k in range(4)))
    assert len(files_of(path, budget(decoded_bytes=4 * MIB))[0]) == 4
    with pytest.raises(LimitExceededError, match="--max-decoded"):
        files_of(path, budget(decoded_bytes=4 * MIB - 1))


def test_bomb(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", ("a", b"\0" * 70 * MIB))
    tracemalloc.start()
    with pytest.raises(LimitExceededError, match="--max-ratio"):
        files_of(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20 * MIB


def test_bomb_of_many_members_that_share_bytes(tmp_path: Path) -> None:
    """Each entry of the directory leads to the same packed bytes."""
    path = zip_of(tmp_path / "a.zip", ("aaa", b"\0" * 30 * MIB))
    data = path.read_bytes()
    start = data.rindex(b"PK\1\2")
    end = data.rindex(b"PK\5\6")
    entry, count = data[start:end], 200
    directory = b"".join(entry.replace(b"aaa", b"%03d" % k) for k in range(count))
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), start, 0)
    path.write_bytes(data[:start] + directory + tail)
    with pytest.raises(GliosightError) as caught:
        files_of(path)
    assert caught.value.exit_code in (4, 6)


def lie(offset: int, value: int, size: str = "<L") -> Callable[[bytes], bytes]:
    """Another number in the (only) member's directory entry and local header."""

    def change(data: bytes) -> bytes:
        out = bytearray(data)
        place = data.rindex(b"PK\1\2")
        struct.pack_into(size, out, place + offset, value)
        return bytes(out)

    return change


def zip64(field: int) -> Callable[[bytes], bytes]:
    """Sizes in an extra field, as for members over 4 GiB; they lie."""

    def change(data: bytes) -> bytes:
        place, end = data.rindex(b"PK\1\2"), data.rindex(b"PK\5\6")
        entry = bytearray(data[place:end])
        extra = struct.pack("<HHQQ", 1, 16, field, field)
        struct.pack_into("<LL", entry, 20, 0xFFFFFFFF, 0xFFFFFFFF)
        struct.pack_into("<H", entry, 30, len(extra))
        tail = bytearray(data[end:])
        struct.pack_into("<L", tail, 12, len(entry) + len(extra))
        return data[:place] + bytes(entry) + extra + bytes(tail)

    return change


@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(lambda data: data[:-30], id="end cut"),
        pytest.param(lambda data: data[: len(data) // 2], id="half"),
        pytest.param(lambda data: data[:10], id="head"),
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda _: b"PK\3\4", id="magic"),
        pytest.param(lambda _: b"hello" * 100, id="text"),
        pytest.param(lambda data: data[:45] + b"\xff" * 20 + data[65:], id="corrupt deflate"),
        pytest.param(lie(16, 123), id="wrong CRC"),
        pytest.param(lie(24, 10), id="size too small"),
        pytest.param(lie(24, 10**6), id="size too large"),
        pytest.param(lie(20, 5), id="packed size too small"),
        pytest.param(lie(42, 10**6), id="place beyond the file"),
        pytest.param(lie(42, 7), id="place elsewhere"),
        pytest.param(lie(28, 2, "<H"), id="name cut"),
        pytest.param(zip64(2**62), id="zip64 far too large"),
        pytest.param(zip64(2**64 - 1), id="zip64 negative"),
        pytest.param(zip64(3), id="zip64 too small"),
    ],
)
def test_damaged(tmp_path: Path, break_it: Callable[[bytes], bytes]) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dcm", os.urandom(2000) + b"\0" * 2000)
    path = tmp_path / "a.zip"
    path.write_bytes(break_it(made.getvalue()))
    with pytest.raises(DamagedInputError) as caught:
        files_of(path)
    assert caught.value.where == "a.zip"


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(CannotWriteError):
        files_of(zip_of(tmp_path / "a.zip", ("a", b"1")))


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "missing"):
        with pytest.raises(NothingReadableError):
            files_of(path)
