"""Archives: what is unpacked, what never is, and what they may cost."""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
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
from gliosight.read.limits import Limits
from gliosight.read.zipped import unzipped
from tests.counting import little_memory

MIB = 2**20
INNER = b"PK\3\4" + b"\0" * 9
Member = tuple[str | zipfile.ZipInfo, bytes]


def zip_of(path: Path, *members: Member, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data, compress_type=method)
    return path


def changed(path: Path, *changes: tuple[bytes, bytes]) -> Path:
    """Bytes that zipfile would not write, in the directory and in the local headers."""
    data = path.read_bytes()
    for before, after in changes:
        assert before in data
        assert len(before) == len(after)
        data = data.replace(before, after)
    path.write_bytes(data)
    return path


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


def special(name: str, mode: int) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.create_system = 3
    made.external_attr = mode << 16
    return made


def files_of(path: Path, **limits: float) -> tuple[dict[str, bytes], tuple[str, ...]]:
    with unzipped(path, Limits(**limits)) as inside:  # type: ignore[arg-type]
        below = list(inside.path.rglob("*"))
        assert not any(file.is_symlink() for file in below)
        skipped = [note.message.partition(": ")[2].rstrip(".") for note in inside.flags]
        return {
            file.relative_to(inside.path).as_posix(): file.read_bytes()
            for file in below
            if file.is_file()
        }, tuple(skipped)


@pytest.mark.parametrize(
    ("members", "unpacked"),
    [
        (["s/series 1/F_1.tif", "s/série\u2028\n2.dcm", "s/", "empty"], None),
        (["./x//y.dcm"], ["x/y.dcm"]),
        (["x\\y z\\a.dcm", "x\\y z\\"], ["x/y z/a.dcm"]),
        (["A.dcm", "a.dcm", "X/a", "x/a"], None),
        (["e\u0301", "\xe9"], None),
        (["NUL", "COM1.dcm", "a. ", "b."], None),
    ],
    ids=["usual", "dots", "backslashes", "case", "two codes of an accent", "devices of Windows"],
)
def test_names_and_bytes_are_kept(
    members: list[str], unpacked: list[str] | None, tmp_path: Path
) -> None:
    contents = [b"" if name[-1] in "/\\" else name.encode() * 900 for name in members]
    files, skipped = files_of(zip_of(tmp_path / "a.zip", *zip(members, contents, strict=True)))
    kept = [name for name in members if name[-1] not in "/\\"]
    assert files == dict(zip(unpacked or kept, filter(None, contents), strict=True))
    assert skipped == ()


def test_folder_is_ours_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    path = zip_of(tmp_path / "a.zip", ("x/a", b"1"), ("b", b"x" * 3 * MIB))
    inside = ExitStack()
    folder = inside.enter_context(unzipped(path, Limits())).path
    assert folder.name == "a"  # studies are called after their folders
    assert stat.S_IMODE(folder.parents[1].stat().st_mode) == 0o700
    assert not inside.__exit__(RuntimeError, RuntimeError(), None)
    assert not list(place.iterdir())
    with pytest.raises(LimitExceededError):
        files_of(path, decoded_bytes=MIB)
    assert not list(place.iterdir())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(CannotWriteError):
        files_of(path)


OUTSIDE = "1 member that leads outside the archive"
LINK = "1 link or device"
ARCHIVE = "1 archive in the archive"
ABROAD = [
    *(
        [
            "../evil",
            "a/../../evil",
            "/etc/evil",
            "C:evil",
            "x/C:/evil",
            "..\\evil",
            "a\\..\\..\\evil",
        ]
    ),
    "\\\\server\\evil",
    "abXcd",  # becomes a NUL
]


@pytest.mark.parametrize(
    ("member", "skipped"),
    [
        *(((name, b"1"), OUTSIDE) for name in ABROAD),
        ((special("l", stat.S_IFLNK | 0o777), b"/etc"), LINK),
        ((special("d", stat.S_IFCHR | 0o666), b""), LINK),
        ((special("f", stat.S_IFIFO | 0o666), b""), LINK),
        (("in.zip", INNER), ARCHIVE),
        (("a.dcm", b"7z\xbc\xaf\x27\x1c" + b"0" * 9), ARCHIVE),
        (("t", b"\0" * 257 + b"ustar" + b"\0" * 250), ARCHIVE),
    ],
)
def test_never_unpacked(tmp_path: Path, member: Member, skipped: str) -> None:
    path = zip_of(tmp_path / "a.zip", member, ("ok", b"2"), ("flair.nii.gz", b"\x1f\x8b\x08"))
    if member[0] == "abXcd":
        changed(path, (b"abXcd", b"ab\0cd"))
    before = set(tmp_path.rglob("*"))
    assert files_of(path) == ({"ok": b"2", "flair.nii.gz": b"\x1f\x8b\x08"}, (skipped,))
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_other_members_that_are_left_out(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", ("x/a", b"1"), ("x/a", b"1"), ("b", b"1"))
    assert files_of(path) == ({"x/a": b"1", "b": b"1"}, ("1 member that is there twice",))
    path = zip_of(tmp_path / "a.zip", ("a", b"1"), ("b", b"2"), ("c", b"3"), method=0)
    assert files_of(encrypted(path, b"a", b"b")) == ({"c": b"3"}, ("2 encrypted members",))
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        # The standard library would unpack a whole chunk of them at once, however large it becomes.
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a", b"\0" * MIB, compress_type=method)
            archive.writestr("b", b"2")
        assert files_of(path) == ({"b": b"2"}, ("1 member packed in an unusual way",))


@pytest.mark.parametrize(
    ("members", "error", "words"),
    [
        ([], NothingReadableError, "the archive is empty"),
        ([("a/", b""), ("b\\", b"")], NothingReadableError, "empty"),
        ([("x/in.zip", INNER)], UnsupportedInputError, "x/in.zip"),
        ([("../a", b"1")], NothingReadableError, OUTSIDE),
        ([("/a", b"1"), ("in.zip", INNER)], NothingReadableError, f"{OUTSIDE}, {ARCHIVE}"),
        ([("a", b"1"), ("b", b"2")], UnsupportedInputError, "protected by a password"),
    ],
)
def test_nothing_to_unpack(
    members: list[Member], error: type[GliosightError], words: str, tmp_path: Path
) -> None:
    path = zip_of(tmp_path / "a.zip", *members, method=zipfile.ZIP_STORED)
    if "password" in words:
        encrypted(path, b"a", b"b")
    with pytest.raises(error, match=re.escape(words)) as caught:
        files_of(path)
    assert type(caught.value) is error
    assert caught.value.where == "a.zip"


@pytest.mark.parametrize(
    "names",
    [
        ("a", "a"),
        ("x/a", "x\\a"),
        ("x/a", "./x//a"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("n" * 300,),
        ("é" * 200,),
        ("n/" * 100 + "a",),
        ("/".join(["n" * 200] * 8),),
    ],
    ids=lambda names: ", ".join(name[:9] for name in names),
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_contradict_or_are_too_long(tmp_path: Path, names: tuple[str, ...]) -> None:
    members = [(name, b"%d" % number) for number, name in enumerate(names)]
    with pytest.raises(DamagedInputError, match=r"\(a\.zip\)"):
        files_of(zip_of(tmp_path / "a.zip", *members))


@pytest.mark.slow
def test_limits(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", *((f"{k}", os.urandom(MIB)) for k in range(4)))
    assert len(files_of(path, decoded_bytes=4 * MIB)[0]) == 4
    with pytest.raises(LimitExceededError, match="--max-decoded"):
        files_of(path, decoded_bytes=4 * MIB - 1)
    with pytest.raises(LimitExceededError, match="--max-members"):
        files_of(path, members=3)
    # Folders count, too: a hundred members far down have six thousand of them.
    chains = ["/".join(f"{k}-{level}" for level in range(60)) + "/a" for k in range(100)]
    deep = zip_of(tmp_path / "b.zip", *((name, b"1") for name in chains))
    with pytest.raises(LimitExceededError, match="--max-members"):
        files_of(deep, members=200)
    # A directory's claim is refused before it becomes objects.
    entry, count = b"PK\1\2" + b"\0" * 42, 60_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 5, 5, len(entry) * count, 0, 0)
    path.write_bytes(entry * count + end)
    with pytest.raises(LimitExceededError, match="--max-members"):
        files_of(path, members=1000)
    zip_of(path, ("a", b"\0" * 70 * MIB))
    with little_memory(20 * MIB), pytest.raises(LimitExceededError, match="--max-ratio"):
        files_of(path)


def test_bomb_of_many_members_that_share_bytes(tmp_path: Path) -> None:
    """Each entry of the directory leads to the same packed bytes."""
    path = zip_of(tmp_path / "a.zip", ("aaa", b"\0" * 30 * MIB))
    data = path.read_bytes()
    start, end = data.rindex(b"PK\1\2"), data.rindex(b"PK\5\6")
    directory = b"".join(data[start:end].replace(b"aaa", b"%03d" % k) for k in range(200))
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 200, 200, len(directory), start, 0)
    path.write_bytes(data[:start] + directory + tail)
    with pytest.raises((DamagedInputError, LimitExceededError)):
        files_of(path)


def lie(offset: int, value: int, size: str = "<L") -> Callable[[bytes], bytes]:
    """Another number in the (only) member's directory entry."""

    def change(data: bytes) -> bytes:
        out = bytearray(data)
        struct.pack_into(size, out, data.rindex(b"PK\1\2") + offset, value)
        return bytes(out)

    return change


def zip64(field: int) -> Callable[[bytes], bytes]:
    """Sizes in an extra field, as for members over 4 GiB; they lie."""

    def change(data: bytes) -> bytes:
        place, end = data.rindex(b"PK\1\2"), data.rindex(b"PK\5\6")
        entry, tail = bytearray(data[place:end]), bytearray(data[end:])
        extra = struct.pack("<HHQQ", 1, 16, field, field)
        struct.pack_into("<LL", entry, 20, 0xFFFFFFFF, 0xFFFFFFFF)
        struct.pack_into("<H", entry, 30, len(extra))
        struct.pack_into("<L", tail, 12, len(entry) + len(extra))
        return data[:place] + bytes(entry) + extra + bytes(tail)

    return change


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "end cut": lambda data: data[:-30],
    "half": lambda data: data[: len(data) // 2],
    "empty": lambda _: b"",
    "magic": lambda _: b"PK\3\4",
    "text": lambda _: b"hello" * 100,
    "corrupt deflate": lambda data: data[:45] + b"\xff" * 20 + data[65:],
    "wrong CRC": lie(16, 123),
    "size too small": lie(24, 10),
    "size too large": lie(24, 10**6),
    "packed size too small": lie(20, 5),
    "place beyond the file": lie(42, 10**6),
    "place elsewhere": lie(42, 7),
    "name cut": lie(28, 2, "<H"),
    "zip64 far too large": zip64(2**62),
    "zip64 negative": zip64(2**64 - 1),
    "zip64 too small": zip64(3),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged(tmp_path: Path, case: str) -> None:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dcm", os.urandom(2000) + b"\0" * 2000)
    (tmp_path / "a.zip").write_bytes(DAMAGED[case](whole.getvalue()))
    with pytest.raises(DamagedInputError) as caught:
        files_of(tmp_path / "a.zip")
    assert caught.value.where == "a.zip"


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "missing"):
        with pytest.raises(NothingReadableError):
            files_of(path)
