"""Identity: what our objects take over from any source, and what they leave empty."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from gliosight.study import DicomSource
from gliosight.write.dicom import write_dicom, write_segmentation
from gliosight.write.dicom.source import has_value
from tests.write.dicom.builders import make_analysis, make_source


def _read(path: Path) -> Dataset:
    return pydicom.dcmread(path)


# Names as they stand in a file, with the character set the file claims.
NAMES = {
    "Latin-1": ("ISO_IR 100", "Müller^Jörg".encode("latin1"), "Müller^Jörg"),
    "Japanese, three forms": (
        ["", "ISO 2022 IR 87"],
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    "UTF-8": ("ISO_IR 192", "Μαρία^Παπαδοπούλου".encode(), "Μαρία^Παπαδοπούλου"),
    "none claimed, Latin-1 used": (None, "Müller^".encode("latin1"), "Müller^"),
    "one that is none": ("ISO_IR 999", b"Plain^Jane", "Plain^Jane"),
    "ASCII": ("ISO_IR 100", b"Plain^Jane", "Plain^Jane"),
    "UTF-8 claimed, Latin-1 used: what can be read": ("ISO_IR 192", b"M\xfcller^", "M\ufffdller^"),
    "controls": ("ISO_IR 100", b"Evil\x07^Name", ""),
    "too long": ("ISO_IR 100", b"x" * 200, ""),
    "six components": ("ISO_IR 100", b"a^b^c^d^e^f", ""),
    "several names": ("ISO_IR 100", b"One^A\\Two^B", ""),
}


@pytest.mark.filterwarnings("ignore")  # reading what was made wrong on purpose
@pytest.mark.parametrize("name", NAMES)
def test_names_in_any_character_set(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    claimed, raw, wanted = NAMES[name]
    made = make_source()
    headers = tuple(_as_read(one, claimed, raw) for one in made.source.headers)
    made = replace(made, source=DicomSource(headers, made.source.frames))
    _, flags, _ = write_dicom(make_analysis(made), tmp_path, probability=False)
    for path in tmp_path.iterdir():
        written = _read(path)
        assert str(written.PatientName) == wanted
        assert written.get("SpecificCharacterSet") == (None if wanted.isascii() else "ISO_IR 192")
    assert [one.code for one in flags] == ([] if wanted else ["IDENTITY_INCOMPLETE"])
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def _as_read(header: Dataset, claimed: Any, name: bytes) -> Dataset:
    """The header as a reader has it: from a file, its values not yet looked at."""
    header.SpecificCharacterSet = "ISO_IR 100"
    marker = "@" * (len(name) + len(name) % 2)
    header.PatientName = marker
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    buffer = io.BytesIO()
    if claimed is None:
        del header.SpecificCharacterSet
    else:
        header.SpecificCharacterSet = claimed
    header.save_as(buffer, enforce_file_format=True)
    raw = buffer.getvalue()
    assert raw.count(marker.encode()) == 1
    return pydicom.dcmread(io.BytesIO(raw.replace(marker.encode(), name.ljust(len(marker)))))


# Attribute, the source's value, ours.
VALUES = [
    ("PatientBirthDate", "1970", ""),
    ("PatientBirthDate", "19700231", ""),
    ("PatientBirthDate", "1970.02.03", ""),
    ("PatientSex", "Female", ""),
    ("PatientSex", "O", "O"),
    ("PatientID", "x" * 65, ""),
    ("PatientID", " padded ", "padded"),
    ("StudyDate", "yesterday", ""),
    ("StudyTime", "250000", ""),
    ("StudyTime", "1011", "1011"),
    ("StudyTime", "101112.123456", "101112.123456"),
    ("StudyID", "longer than sixteen", ""),
    ("AccessionNumber", "with\ttab", ""),
    ("PatientAge", "045Y", "045Y"),
    ("PatientAge", "old", None),
    ("PatientWeight", "70.5", "70.5"),
    ("PatientWeight", "-1", None),
    # 0 stands where nobody typed a number, by scanners and by anonymisers.
    ("PatientWeight", "0", "0"),
    ("PatientWeight", " 0 ", "0"),
    ("PatientWeight", "0.0", "0.0"),
    ("PatientWeight", "-0", "-0"),
    ("PatientWeight", 0.0, "0.0"),
    ("PatientWeight", 0, "0"),
    ("PatientWeight", b"0 ", None),
    ("PatientWeight", "7.05E+01", "7.05E+01"),
    ("PatientWeight", ["70", "71"], None),
    ("PatientWeight", "1e999", None),
    ("PatientWeight", "70 kg", None),
    ("PatientSize", "0", "0"),
    ("PatientSize", "", None),
    ("PatientSize", "1.8000000000000001", None),
    ("PatientAge", "000Y", "000Y"),
    ("PatientAge", "45Y", None),
    ("PatientAge", "", None),
    ("PatientSex", "FEMALE", ""),
    ("PatientSex", "", ""),
    ("PatientName", "Roe^Jane^Ann^Dr^PhD", "Roe^Jane^Ann^Dr^PhD"),
    ("PatientName", "^^^^", "^^^^"),
    ("PatientName", "a=b=c=d", ""),
    ("PatientID", "0", "0"),
    ("PatientID", "ID\0\0", "ID"),
    ("PatientID", "Ü" * 64, "Ü" * 64),
    ("StudyID", "0", "0"),
    ("AccessionNumber", "A1  \0", "A1"),
    ("AccessionNumber", "a" * 17, ""),
    ("StudyDate", "20240101-20240201", ""),
    ("StudyDate", "00000000", ""),
    ("StudyTime", "10-11", ""),
    ("StudyTime", "101112.1234567", ""),
    ("StudyTime", "235960", "235960"),
    ("StudyDescription", "x" * 65, None),
    ("PatientName", b"bytes of no text", ""),
    ("PatientName", None, ""),
    ("PatientID", ["two", "ids"], ""),
]


@pytest.mark.parametrize(("keyword", "value", "ours"), VALUES)
def test_a_value_is_copied_or_empty_never_altered(
    keyword: str, value: Any, ours: str | None, tmp_path: Path
) -> None:
    made = make_source(**{keyword: value})
    files, flags, _ = write_dicom(make_analysis(made), tmp_path, probability=False)
    assert len(files) == 2
    left_empty = not ours and has_value(made.source.headers[0], keyword)
    assert [one.code for one in flags] == (["IDENTITY_INCOMPLETE"] if left_empty else [])
    for path in tmp_path.iterdir():
        written = _read(path)
        if ours is None:
            assert keyword not in written
        else:
            assert ("" if written[keyword].is_empty else str(written[keyword].value)) == ours


def test_every_required_attribute_may_be_missing(tmp_path: Path) -> None:
    names = (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "ReferringPhysicianName",
        "StudyID",
        "AccessionNumber",
    )
    made = make_source(**dict.fromkeys(names))
    _, flags, _ = write_dicom(make_analysis(made), tmp_path, probability=True)
    assert flags == ()
    for path in tmp_path.iterdir():
        written = _read(path)
        for keyword in names:
            assert written[keyword].is_empty, keyword


def test_what_was_removed_from_the_source_is_said(tmp_path: Path) -> None:
    made = make_source(PatientIdentityRemoved="YES", DeidentificationMethod="by hand")
    write_segmentation(make_analysis(made), tmp_path / "seg.dcm")
    seg = _read(tmp_path / "seg.dcm")
    assert (seg.PatientIdentityRemoved, seg.DeidentificationMethod) == ("YES", "by hand")


LOSSY = {
    "lossless": ({}, "00", None, None),
    "all said": (
        {
            "LossyImageCompression": "01",
            "LossyImageCompressionRatio": "10.5",
            "LossyImageCompressionMethod": "ISO_15444_1",
        },
        "01",
        [10.5],
        ["ISO_15444_1"],
    ),
    "twice": (
        {
            "LossyImageCompression": "01",
            "LossyImageCompressionRatio": ["10", "3"],
            "LossyImageCompressionMethod": ["ISO_10918_1", "ISO_15444_1"],
        },
        "01",
        [10, 3],
        ["ISO_10918_1", "ISO_15444_1"],
    ),
    "nothing but that": ({"LossyImageCompression": "01"}, "01", None, None),
    "lists that do not fit": (
        {
            "LossyImageCompression": "01",
            "LossyImageCompressionRatio": ["10", "3"],
            "LossyImageCompressionMethod": "ISO_10918_1",
        },
        "01",
        [10, 3],
        None,
    ),
    "by its transfer syntax": ({}, "01", None, ["ISO_10918_1"]),
}


@pytest.mark.parametrize("name", LOSSY)
def test_loss_is_inherited(name: str, tmp_path: Path) -> None:
    changes, lossy, ratio, method = LOSSY[name]
    made = make_source(**changes)
    if "syntax" in name:
        for header in made.source.headers:
            header.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    write_segmentation(make_analysis(made), tmp_path / "seg.dcm")
    seg = _read(tmp_path / "seg.dcm")
    assert seg.LossyImageCompression == lossy
    assert _list(seg, "LossyImageCompressionRatio") == ratio
    assert _list(seg, "LossyImageCompressionMethod") == method


def _list(dataset: Dataset, keyword: str) -> list[Any] | None:
    value = dataset.get(keyword)
    if value is None:
        return None
    return list(value) if isinstance(value, pydicom.multival.MultiValue) else [value]


def test_slices_of_several_studies_have_no_object(tmp_path: Path) -> None:
    """Joined while reading; an object belongs to one, and another would be a false reference."""
    made = make_source()
    for index, header in enumerate(made.source.headers):
        header.StudyInstanceUID = f"1.2.3.{index}"
    files, flags, errors = write_dicom(make_analysis(made), tmp_path, probability=True)
    assert (files, errors) == ({}, ())
    assert [one.code for one in flags] == ["SEG_NOT_WRITTEN", "SR_NOT_WRITTEN"]
    assert "StudyInstanceUIDs" in flags[0].message
    assert not list(tmp_path.iterdir())
