"""The manifest: written, read back, and refused where it is none."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gliosight.data.manifest import (
    Manifest,
    SliceRow,
    check_file,
    read_manifest,
    write_manifest,
    write_whole,
)
from gliosight.errors import CannotWriteError, DamagedInputError
from tests.data.builders import make_row

# Whatever a file's name may hold: no NUL, but bytes that are no UTF-8, line ends, formulas.
NAMES = st.text(
    st.one_of(
        st.sampled_from("=+-@'\"\t\r\n,; aé"),
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
        st.sampled_from([chr(code) for code in range(0xDC80, 0xDD00)]),
    ),
    min_size=1,
    max_size=12,
)


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(NAMES, NAMES, NAMES)
def test_whatever_a_name_holds_comes_back(
    tmp_path: Path, patient: str, image: str, reason: str
) -> None:
    rows = (
        make_row(patient, 0, area=3, image=image, mask=image, copies=("T1",), excluded=reason),
        make_row(patient, 7, kind="nifti", t1=image, t1_sha256="00", sequences=("FLAIR",)),
        make_row(patient + "2", 1, collection=image, person=reason, tumour_free=True),
    )
    write_manifest(rows, tmp_path / "m.csv")
    manifest = read_manifest(tmp_path / "m.csv")
    assert manifest.rows == rows
    assert manifest.folder == tmp_path
    assert len(manifest.sha256) == 64


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    write_manifest(
        [make_row("=cmd|' /C calc'!A0", 1, image="@x", excluded="-2+3")], tmp_path / "m.csv"
    )
    with (tmp_path / "m.csv").open(encoding="utf-8", newline="") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_columns_of_others_are_ignored_and_some_may_be_missing(tmp_path: Path) -> None:
    path, row = tmp_path / "m.csv", make_row("p", 1, area=4)
    write_manifest([row], path)
    header, line = path.read_text("utf-8").splitlines()
    # A spreadsheet adds a mark of byte order, other line ends, and the user a column.
    path.write_bytes(f"\ufeffage,{header}\r\n61,{line}\r\n".encode())
    assert read_manifest(path).rows == (row,)
    header, line = header.partition(",t1_sha256")[0], line.removesuffix(",,,,,0")
    path.write_text(f"{header}\n{line}\n", "utf-8")
    assert read_manifest(path).rows == (row,)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("patient,number", "patient,nummer", "column number"),
        ("p,1,slices", "p,one,slices", "line 2"),
        ("p,1,slices", "p,1,bricks", "bricks"),
        (",1,9,T1+FLAIR+T1C", ",maybe,9,T1+FLAIR+T1C", "maybe"),
        ("T1+FLAIR+T1C", "T1+FLAIR+T2", "T2"),
        ("p,1,slices", "p,slices", "values instead of"),
        ("p,1,slices", '"p,1,slices', "not CSV.*line 2"),
        (",,,,,0\np,2", ",,,,,yes\np,2", "tumour_free 'yes'"),
        (",,,,,0\np,2", ",,,,,1\np,2", "tumour is 1 and tumour_free is 1"),
        (",,,,,0\np,2", ",,,brats,,0\np,2", "differ in the column collection"),
        (",,,,,0\np,2", ",,,,anna,0\np,2", "differ in the column person"),
    ],
)
def test_a_damaged_manifest_says_where(old: str, new: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    write_manifest([make_row("p", 1, area=9), make_row("p", 2)], path)
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(DamagedInputError, match=words):
        read_manifest(path)


@pytest.mark.parametrize("keys", ["a1 a2 b1 a3", "a2 a1", "a1 a1"])
def test_slices_out_of_order_or_twice_are_refused(keys: str) -> None:
    rows = tuple(make_row(key[0], int(key[1])) for key in keys.split())
    with pytest.raises(DamagedInputError):
        Manifest(rows, Path())


def _digest(*rows: SliceRow) -> str:
    return Manifest(rows, Path()).sha256


def test_the_digest_is_of_what_the_slices_are() -> None:
    # The digest that splits of the LGG set were made with: without collections it stays.
    assert _digest(make_row("a", 1), make_row("a", 2, area=3)) == (
        "dc46f50861efcc4b4980f702db97fd201c4efc3ee4715928a7b6d38a9aae0e55"
    )
    row, other = make_row("a", 1), make_row("b", 1)
    assert _digest(row, other) == _digest(other, replace(row, image="elsewhere.tif", area_px=3))
    changes: list[dict[str, Any]] = [{}, {"number": 2}, {"t1": "t", "t1_sha256": "x"}]
    changes += [{"tumour_free": True}, {"collection": "y"}]
    names = ("sha256", "mask_sha256", "excluded", "collection", "person")
    changes += [{name: "x"} for name in names]
    assert len({_digest(replace(row, **change), other) for change in changes}) == 10


def test_who_a_patient_is() -> None:
    rows = (
        make_row("TCGA_CS_4944_20010208", 1, collection="lgg"),
        make_row("BraTS_01477", 1, collection="brats", person="TCGA_CS_4944"),
        make_row("p", 1, excluded="no mask", collection="bad"),
    )
    manifest = Manifest(rows, Path())
    assert set(map(manifest.person_of, manifest.patients)) == {"TCGA_CS_4944"}
    assert manifest.collections == ("brats", "lgg")
    assert Manifest(rows[2:], Path()).collections == ()


def test_used_rows_are_those_not_excluded() -> None:
    rows = (make_row("a", 1), make_row("a", 2, excluded="no mask"), make_row("b", 1, excluded="x"))
    manifest = Manifest(rows, Path("/data"))
    assert manifest.used == rows[:1]
    assert manifest.patients == ("a",)
    assert manifest.by_patient == {"a": rows[:1]}
    assert manifest.path(rows[0].image) == Path("/data/a/a_1.tif")


def test_an_output_in_the_way_is_refused(tmp_path: Path) -> None:
    check_file(tmp_path / "new" / "m.csv", overwrite=False)
    (tmp_path / "m.csv").touch()
    check_file(tmp_path / "m.csv", overwrite=True)
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    for name, overwrite, words in (
        ("m.csv", False, "--overwrite"),
        ("link", False, "--overwrite"),
        ("", True, "a folder"),
        ("pipe", True, "a device"),
        ("x\0", False, "null"),
        ("m.csv/n.csv", False, "n.csv"),
    ):
        with pytest.raises(CannotWriteError, match=words):
            check_file(tmp_path / name, overwrite=overwrite)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    write_whole(tmp_path / "a" / "m.csv", b"first")
    write_whole(tmp_path / "a" / "m.csv", b"second")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["m.csv"]
    assert (tmp_path / "a" / "m.csv").read_bytes() == b"second"
    (tmp_path / "file").touch()
    for path in (tmp_path / "a", tmp_path / "file" / "m.csv", tmp_path / ("x" * 300)):
        with pytest.raises(CannotWriteError):
            write_whole(path, b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "file"]
