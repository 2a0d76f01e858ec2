"""What our objects take from the source: identity, loss, and UIDs made of it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from gliosight.analysis import Analysis, Status
from gliosight.study import DicomSource
from gliosight.write.dicom import write_dicom, write_segmentation
from gliosight.write.dicom.source import REQUIRED, uid_from, uids_of
from tests.write.dicom.builders import SHAPE, blobs, make_analysis, make_source

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
    headers = tuple(_as_read(header, claimed, raw) for header in made.source.headers)
    made = replace(made, source=DicomSource(headers, made.source.frames))
    _, flags, _ = write_dicom(make_analysis(made), tmp_path, probability=False)
    for path in tmp_path.iterdir():
        written = pydicom.dcmread(path)
        assert str(written.PatientName) == wanted
        assert written.get("SpecificCharacterSet") == (None if wanted.isascii() else "ISO_IR 192")
    assert [flag.code for flag in flags] == ([] if wanted else ["IDENTITY_INCOMPLETE"])
    assert capfd.readouterr() == ("", "")


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


# Attribute, the source's value, ours ("" and None: empty or absent), and whether that is flagged.
VALUES = [
    ("PatientBirthDate", "1970", "", True),
    ("PatientBirthDate", "19700231", "", True),
    ("PatientSex", "Female", "", True),
    ("PatientSex", "O", "O", False),
    ("PatientSex", "", "", False),
    ("PatientID", "x" * 65, "", True),
    ("PatientID", " padded ", "padded", False),
    ("PatientID", "ID\0\0", "ID", False),
    ("PatientID", "Ü" * 64, "Ü" * 64, False),
    ("PatientID", ["two", "ids"], "", True),
    ("StudyDate", "20240101-20240201", "", True),
    ("StudyTime", "250000", "", True),
    ("StudyTime", "10-11", "", True),
    ("StudyTime", "235960", "235960", False),
    ("StudyTime", "101112.123456", "101112.123456", False),
    ("StudyID", "longer than sixteen", "", True),
    ("AccessionNumber", "with\ttab", "", True),
    ("PatientAge", "045Y", "045Y", False),
    ("PatientAge", "old", None, True),
    ("PatientAge", "", None, False),
    ("PatientWeight", "-1", None, True),
    # 0 stands where nobody typed a number, by scanners and by anonymisers.
    ("PatientWeight", " 0 ", "0", False),
    ("PatientWeight", 0.0, "0.0", False),
    ("PatientWeight", b"0 ", None, True),
    ("PatientWeight", "7.05E+01", "7.05E+01", False),
    ("PatientWeight", "1e999", None, True),
    ("PatientSize", "1.8000000000000001", None, True),
    ("PatientName", "Roe^Jane^Ann^Dr^PhD", "Roe^Jane^Ann^Dr^PhD", False),
    ("PatientName", "^^^^", "^^^^", False),
    ("PatientName", "a=b=c=d", "", True),
    ("PatientName", b"bytes of no text", "", True),
    ("PatientName", None, "", False),
    ("StudyDescription", "x" * 65, None, True),
]


@pytest.mark.slow
@pytest.mark.parametrize(("keyword", "value", "ours", "flagged"), VALUES)
def test_a_value_is_copied_or_empty_never_altered(
    keyword: str, value: Any, ours: str | None, flagged: bool, tmp_path: Path
) -> None:
    analysis = make_analysis(make_source(**{keyword: value}))
    files, flags, _ = write_dicom(analysis, tmp_path, probability=False)
    assert len(files) == 2
    assert [flag.code for flag in flags] == (["IDENTITY_INCOMPLETE"] if flagged else [])
    for path in tmp_path.iterdir():
        written = pydicom.dcmread(path)
        if ours is None:
            assert keyword not in written
        else:
            assert ("" if written[keyword].is_empty else str(written[keyword].value)) == ours


def test_every_required_attribute_may_be_missing(tmp_path: Path) -> None:
    made = make_source(**dict.fromkeys(REQUIRED))
    _, flags, _ = write_dicom(make_analysis(made), tmp_path, probability=True)
    assert flags == ()
    for path in tmp_path.iterdir():
        written = pydicom.dcmread(path)
        assert all(written[keyword].is_empty for keyword in REQUIRED)


def test_what_was_removed_from_the_source_is_said(tmp_path: Path) -> None:
    code = Dataset()
    code.CodeMeaning = "Basic profile"
    for method, said in (
        ({"DeidentificationMethod": "by hand"}, "by hand"),
        ({"DeidentificationMethodCodeSequence": [code]}, "Basic profile"),
    ):
        made = make_source(PatientIdentityRemoved="YES", **method)
        write_segmentation(make_analysis(made), tmp_path / "seg.dcm")
        seg = pydicom.dcmread(tmp_path / "seg.dcm")
        assert (seg.PatientIdentityRemoved, seg.DeidentificationMethod) == ("YES", said)


# What the source says (flag, ratio, method), and ours.
LOSSY: dict[str, tuple[Any, Any]] = {
    "lossless": ((None, None, None), ("00", None, None)),
    "all said": (("01", "10.5", "ISO_15444_1"), ("01", 10.5, "ISO_15444_1")),
    "twice": (
        ("01", ["10", "3"], ["ISO_10918_1", "ISO_15444_1"]),
        ("01", [10, 3], ["ISO_10918_1", "ISO_15444_1"]),
    ),
    "nothing but that": (("01", None, None), ("01", None, None)),
    "lists that do not fit": (("01", ["10", "3"], "ISO_10918_1"), ("01", [10, 3], None)),
    "by its transfer syntax": ((None, None, None), ("01", None, "ISO_10918_1")),
}


@pytest.mark.parametrize("name", LOSSY)
def test_loss_is_inherited(name: str, tmp_path: Path) -> None:
    stated, wanted = LOSSY[name]
    keywords = [f"LossyImageCompression{part}" for part in ("", "Ratio", "Method")]
    made = make_source(**dict(zip(keywords, stated, strict=True)))
    if "syntax" in name:
        for header in made.source.headers:
            header.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    write_segmentation(make_analysis(made), tmp_path / "seg.dcm")
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert tuple(seg.get(keyword) for keyword in keywords) == wanted


def _settings(analysis: Analysis, **changes: object) -> Analysis:
    settings = {**analysis.provenance.settings, **changes}
    return replace(analysis, provenance=replace(analysis.provenance, settings=settings))


def test_another_thing_has_other_uids_and_the_same_has_the_same() -> None:
    analysis = make_analysis(make_source())
    made_by = analysis.provenance
    empty = make_analysis(make_source(), np.zeros(SHAPE, dtype=bool))
    ours = uids_of(analysis, "segmentation")
    for same in (
        make_analysis(make_source()),
        _settings(analysis, threads=1),
        replace(analysis, provenance=replace(made_by, timings_ms={"read": 3.0})),
    ):
        assert uids_of(same, "segmentation") == ours
    others = [
        _settings(analysis, decision={"pixel_threshold": 0.6}),
        _settings(analysis, flip=True),
        _settings(analysis, model="caf\udce9"),  # a name that is not UTF-8
        *(
            replace(analysis, provenance=replace(made_by, **change))
            for change in (
                {"model_sha256": "1f" * 32},
                {"version": "0.1.1"},
                {"engine": "openvino"},  # whose last digits differ
                {"precision": "int8"},
            )
        ),
        make_analysis(make_source(), blobs(size=4)),
        make_analysis(make_source(SOPInstanceUID="1.2.3")),
        make_analysis(make_source(enhanced=1)),
        empty,
        replace(empty, decision=replace(empty.decision, status=Status.NOT_ASSESSED)),
    ]
    made = [ours, uids_of(analysis, "probability"), uids_of(analysis, "report")]
    made += [uids_of(other, "segmentation") for other in others]
    uids = [uid for one in made for uid in (one.instance, one.series, one.dimensions, one.group)]
    assert len(set(uids)) == len(uids)
    assert all(uid.startswith("2.25.") and pydicom.uid.UID(uid).is_valid for uid in uids)
    assert len(uid_from("anything")) <= 64
