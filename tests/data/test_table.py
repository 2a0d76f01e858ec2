"""Files that a user names: each reader refuses what is not there, and what is not such a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gliosight.data.cases import find_cases
from gliosight.data.manifest import read_manifest
from gliosight.data.people import read_people
from gliosight.data.split import read_split
from gliosight.errors import DamagedInputError, NothingReadableError

READERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "manifest": (read_manifest, "gliosight data index"),
    "people": (read_people, "patient, person, collection"),
    "split": (read_split, "gliosight data split"),
}
PNG, DEEP = b"\x89PNG\r\n\x1a\n\0\xff", b"[" * 200_000
CONTENTS = [
    *((read_manifest, content, r"t\.csv") for content in (b"", PNG, b"a;b;c\n")),
    (read_people, PNG, "UTF-8"),
    *((read_split, content, r"t\.csv") for content in (b"[1", b"\xff\xfe", DEEP, b"[]")),
    (find_cases, b"a,b\n1,2\n", "image_path"),
    (find_cases, b"patient_id,image_path,mask_path,mask\n", "without lines"),
    (find_cases, b"patient_id,image_path,mask_path,mask\np,,m.tif,0\n", "line 2"),
    (find_cases, b"patient_id,image_path,mask_path,mask\np,a.tif,m.tif,perhaps\n", "perhaps"),
    (find_cases, PNG, "not a CSV file in UTF-8.*or a folder"),
    (find_cases, b"\0\0\0", "image_path"),
]


@pytest.mark.parametrize(("read", "words"), READERS.values(), ids=READERS)
@pytest.mark.parametrize("name", ["none.csv", ".", "a\0b"], ids=["nothing", "folder", "NUL"])
def test_what_cannot_be_read_says_what_to_give(
    name: str, read: Callable[[Path], Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(NothingReadableError, match=words):
        read(tmp_path / name)


@pytest.mark.parametrize(("read", "content", "words"), CONTENTS)
def test_other_content_is_refused(
    read: Callable[[Path], Any], content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DamagedInputError, match=words):
        read(tmp_path / "t.csv")
