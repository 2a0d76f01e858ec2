"""What the JSON file beside a NIfTI says, and what hostile ones cost."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gliosight.errors import UnsupportedInputError
from gliosight.phantom import PhantomSpec, make_phantom
from gliosight.read import Limits, Request, find, read, sidecar
from gliosight.read.candidates import DicomCandidate
from gliosight.read.detect import InputFile, Kind
from gliosight.read.dicom.rules import identify
from gliosight.read.dicom.study import DicomStudy
from gliosight.read.naming import sidecar_of
from gliosight.read.sidecar import MOST_BYTES, Shown, acquisition_in, what_shows
from gliosight.study import MrSequence
from tests.support.dicom_phantom import DicomSpec, write_dicom

from .builders import codes_of, make_volume, read_path, write_nifti

FLAIR, T1, T1C = MrSequence.FLAIR, MrSequence.T1, MrSequence.T1C

# As dcm2niix writes them: times in seconds, codes in one text.
SIEMENS_FLAIR = {
    "Modality": "MR",
    "MagneticFieldStrength": 3,
    "Manufacturer": "Siemens",
    "SeriesDescription": "t2_tirm_tra_dark-fluid",
    "ProtocolName": "t2_tirm_tra_dark-fluid",
    "ScanningSequence": "SE_IR",
    "SequenceVariant": "SK_SP_MP",
    "SequenceName": "_tir2d1_16",
    "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"],
    "EchoTime": 0.081,
    "RepetitionTime": 9,
    "InversionTime": 2.5,
    "FlipAngle": 150,
}
MPRAGE = {
    "Modality": "MR",
    "ScanningSequence": "GR\\IR",
    "SequenceVariant": "SK_SP_MP",
    "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
    "EchoTime": 0.00298,
    "RepetitionTime": 2.3,
    "InversionTime": 0.9,
    "FlipAngle": 9,
}
T2 = {"ScanningSequence": "SE", "EchoTime": 0.1, "RepetitionTime": 4.5, "FlipAngle": 150}
# Milliseconds, as dumps of DICOM headers have them.
MILLISECONDS = {
    "EchoTime": 81,
    "RepetitionTime": 9000,
    "InversionTime": 2500,
    "ScanningSequence": "SE\\IR",
}
LONG = {"EchoTime": 0.12, "RepetitionTime": 9}
ADC = {**SIEMENS_FLAIR, "ImageType": ["DERIVED", "SECONDARY", "ADC"]}
REFORMAT = {**SIEMENS_FLAIR, "ImageType": ["DERIVED", "SECONDARY", "MPR"]}
STIR = {**SIEMENS_FLAIR, "InversionTime": 0.15, "SeriesDescription": ""}
SHORT = {"InversionTime": 0.86, "EchoTime": 0.02, "RepetitionTime": 2.1}
T1_FLAIR = {**SIEMENS_FLAIR, **SHORT, "SeriesDescription": "", "ProtocolName": ""}
CONTRADICTS = ["NAME_CONTRADICTS"]


@pytest.mark.parametrize(
    ("name", "fields", "kind", "codes"),
    [
        # The name says nothing, the header does.
        ("scan", SIEMENS_FLAIR, FLAIR, []),
        ("scan", MPRAGE, T1, []),
        ("scan", T2, "T2", []),
        ("scan", {"EchoTime": 0.09, "RepetitionTime": 9, "InversionTime": 2.4}, FLAIR, []),
        ("scan", MILLISECONDS, FLAIR, []),
        ("scan", {"EchoTime": "0.081", "RepetitionTime": "9", "InversionTime": "2.5"}, FLAIR, []),
        # A short TE does not make seconds of milliseconds.
        ("scan", {**MPRAGE, "EchoTime": 3, "RepetitionTime": 8, "InversionTime": 450}, T1, []),
        # Words alone.
        ("scan", {"SeriesDescription": "t2_spc_da-fl_sag"}, FLAIR, []),
        ("scan", {"ProtocolName": "AX T2 TSE"}, "T2", []),
        ("scan", {"SeriesNumber": 4}, None, []),
        # Contrast medium, by the field, by the words, by the name.
        ("scan", {**MPRAGE, "ContrastBolusIngredient": "GADOLINIUM"}, T1C, []),
        ("scan", {**MPRAGE, "ContrastBolusAgent": "none"}, T1, []),
        ("scan", {**MPRAGE, "SeriesDescription": "t1_mpr_sag_km"}, T1C, []),
        ("p_t1ce", MPRAGE, T1C, []),
        ("p_t1", MPRAGE, T1, []),
        ("p_t1", {**MPRAGE, "ContrastBolusAgent": "Gadovist"}, T1C, CONTRADICTS),
        # By the field alone: too little is known of the sequence for the rules, and the name says T1.
        ("t1", {"Modality": ["MR"], "ContrastBolusAgent": ["", "Dotarem 5 ml"]}, T1C, CONTRADICTS),
        ("t1", {"ContrastBolusAgent": ["Gadovist"] * 2, "EchoTime": [0.009]}, T1C, CONTRADICTS),
        ("t1", {"ContrastBolusAgent": "Gadovist", "SeriesDescription": None}, T1C, CONTRADICTS),
        ("t1", {"ContrastBolusAgent": ["NONE"], "EchoTime": [0.009]}, T1, []),
        # The name stands in for the description that anonymised sidecars lack.
        ("sub-1_FLAIR", {**LONG, "FlipAngle": 90}, FLAIR, []),
        ("sub-1_FLAIR", {**LONG, "SeriesDescription": "AX T2 BRAIN"}, FLAIR, []),
        ("sub-1_FLAIR", {"SeriesDescription": "AX T2 BRAIN"}, FLAIR, []),
        ("sub-1_FLAIR", {"MagneticFieldStrength": 3}, FLAIR, []),
        ("sub-1_FLAIR", {"EchoTime": 0.1}, FLAIR, []),  # nothing that tells it from T2
        # The header outweighs the name.
        ("p_flair", T2, "T2", CONTRADICTS),
        ("p_flair", MPRAGE, T1, CONTRADICTS),
        ("p_flair", {"SeriesDescription": "t1_se_tra"}, T1, CONTRADICTS),
        ("p_flair", {"Modality": "CT"}, "CT", CONTRADICTS),
        ("p_flair", ADC, "derived map", CONTRADICTS),
        ("p_t2", SIEMENS_FLAIR, FLAIR, CONTRADICTS),
        ("p_t1", SIEMENS_FLAIR, FLAIR, CONTRADICTS),
        # What the name leaves open, the header settles.
        ("t2_tirm_tra", SIEMENS_FLAIR, FLAIR, []),
        ("t2_tirm_cor", STIR, "STIR", []),
        ("ax_t1_flair", T1_FLAIR, T1, []),
        # What was computed has the times of what it was made from.
        ("t1_sub", MPRAGE, "subtraction", []),
        ("t1_map", MPRAGE, "map", []),
        ("FLAIR_mip", SIEMENS_FLAIR, "projection", []),
        ("flair_deformation", SIEMENS_FLAIR, "deformation", []),
        ("sub-1_part-phase_FLAIR", SIEMENS_FLAIR, "phase", []),
        # Derived, but with FLAIR's own times.
        ("p_flair", REFORMAT, FLAIR, []),
    ],
)
def test_what_a_sidecar_says(
    tmp_path: Path,
    name: str,
    fields: dict[str, Any],
    kind: MrSequence | str | None,
    codes: list[str],
) -> None:
    (tmp_path / f"{name}.json").write_text(json.dumps(fields))
    shown = what_shows(tmp_path / f"{name}.nii.gz")
    assert shown.kind == kind
    assert [note.code for note in shown.flags] == codes


def test_the_rules_are_those_of_dicom(tmp_path: Path) -> None:
    """Every series of a study is told alike by its header and by a sidecar with the same values."""
    head = make_phantom(PhantomSpec(seed=2, slices=3, matrix=32, pixel_mm=3.0))
    (candidate,) = find(write_dicom(head, tmp_path, DicomSpec()), Limits())
    assert isinstance(candidate, DicomCandidate)
    study = candidate.study
    assert isinstance(study, DicomStudy)
    kinds = set()
    for series in study.series:
        header = series.frames[0].instance.header
        fields: dict[str, Any] = {}
        for element in header:
            value = element.value
            plain = isinstance(value, str | int | float)
            fields[element.keyword] = value if plain else [str(part) for part in value or ()]
        for time in ("EchoTime", "RepetitionTime", "InversionTime"):
            if time in header:
                fields[time] = float(header[time].value) / 1000
        told = identify(acquisition_in(fields))
        assert (told.kind, told.rule) == (series.identified.kind, series.identified.rule)
        kinds.add(told.kind)
    assert {"FLAIR", "T1", "T1 after contrast"} <= kinds


HOSTILE = {
    "no JSON": b"{'a': 1",
    "empty": b"",
    "binary": bytes(range(256)),
    "deep": b"[" * 200_000,
    "deep objects": b'{"EchoTime":' * 100_000,
    "a list": b"[1, 2]",
    "a number of a million digits": b'{"EchoTime": ' + b"9" * 1_000_000 + b"}",
    "too large": b'{"a": "' + b"x" * MOST_BYTES + b'"}',
}
ODD = {
    "not numbers": '{"EchoTime": NaN, "RepetitionTime": Infinity, "InversionTime": 1e999, "FlipAngle": "x"}',
    "wrong types": '{"EchoTime": {}, "ImageType": 7, "ProtocolName": [null, {"a": 1}], "Modality": null}',
    "whole numbers beyond floats": '{"EchoTime": 1%s, "SeriesNumber": -1}' % ("0" * 400),
    "many values": json.dumps({"ImageType": ["ORIGINAL"] * 50_000, "EchoTime": [0.1] * 20_000}),
    "control characters": json.dumps(
        {"SeriesDescription": "\u001b[2J\u202e\n", "Modality": "MR\u0000"}
    ),
}


@pytest.mark.parametrize("case", [*HOSTILE, "FIFO"])
def test_hostile_sidecars_cost_a_flag(tmp_path: Path, case: str) -> None:
    write_nifti(tmp_path / "p_flair.nii", make_volume())
    if case == "FIFO":  # never opened
        os.mkfifo(tmp_path / "p_flair.json")
    else:
        (tmp_path / "p_flair.json").write_bytes(HOSTILE[case])
    assert codes_of(read_path(tmp_path)) == ["SIDECAR_UNREADABLE", "T1_MISSING", "T1C_MISSING"]


@pytest.mark.parametrize("case", ODD)
def test_odd_values_say_nothing(tmp_path: Path, case: str) -> None:
    (tmp_path / "p_flair.json").write_text(ODD[case])
    shown = what_shows(tmp_path / "p_flair.nii")
    assert (shown.kind, shown.flags) == (FLAIR, ())
    assert shown.why.isprintable()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    text = json.dumps({**T2, "InstitutionName": "Zürich"}, ensure_ascii=False)
    (tmp_path / "scan.json").write_bytes(text.encode(encoding))
    assert what_shows(tmp_path / "scan.nii").kind == "T2"


def write_pair(path: Path, fields: dict[str, Any], **options: Any) -> None:
    write_nifti(path, make_volume(**options))
    path.with_name(sidecar_of(path.name)).write_text(json.dumps(fields))


def test_a_folder_by_its_sidecars(tmp_path: Path) -> None:
    """dcm2niix -f %f_%s: the names say nothing but the number of the series."""
    after = {**MPRAGE, "ContrastBolusIngredient": "GADOLINIUM"}
    fields = {"anon_5": SIEMENS_FLAIR, "anon_3": MPRAGE, "anon_9": after, "anon_4": T2}
    for seed, name in enumerate(fields):
        write_pair(tmp_path / f"{name}.nii.gz", fields[name], seed=seed)
    study = read_path(tmp_path)
    assert study.flags == ()
    assert set(study.sequences) == set(MrSequence)
    assert (study.flair.values == make_volume(seed=0)).all()
    (candidate,) = find(tmp_path, Limits())
    seen = candidate.describe(Limits())
    (row,) = [row for row in seen.series if row.taken_as == "FLAIR"]
    assert (row.confidence, row.rule) == ("certain", "flair")
    values = "inversion recovery, spin echo, TI 2500 ms, TE 81 ms, TR 9000 ms, flip angle 150"
    assert row.why == f"by its sidecar: {values}"
    assert seen.reasons["FLAIR"] == f"anon_5.nii.gz, {row.why}"


def test_a_sidecar_refuses_as_a_name_does(tmp_path: Path) -> None:
    write_pair(tmp_path / "scan.nii.gz", T2)
    for path in (tmp_path, tmp_path / "scan.nii.gz"):
        with pytest.raises(UnsupportedInputError, match=r"no FLAIR.*T2"):
            read_path(path)
    study = read(Request(None, flair=tmp_path / "scan.nii.gz"))
    (note,) = [note for note in study.flags if note.code == "NAME_CONTRADICTS"]
    assert "given as FLAIR (scan.nii.gz) is T2 by its sidecar" in note.message


def test_the_folder_speaks_where_the_name_does_not(tmp_path: Path) -> None:
    missing = ["T1_MISSING", "T1C_MISSING"]
    for name in ("4_FLAIR/NIFTI/scan.nii", "T1w/flair.nii"):
        path = write_nifti(tmp_path / "P1" / name, make_volume())
        assert codes_of(read_path(path)) == missing
    study = read(Request(None, flair=write_nifti(tmp_path / "T2w" / "scan.nii", make_volume())))
    assert "is T2 by its folder" in study.flags[0].message


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ({"ContrastBolusAgent": "Gadovist"}, "before contrast medium"),
        ({}, "the first series by its number"),
    ],
)
def test_the_number_of_a_series_tells_no_patient(
    tmp_path: Path, second: dict[str, Any], why: str
) -> None:
    write_pair(tmp_path / "a_3.nii.gz", {**SIEMENS_FLAIR, "SeriesNumber": 3}, seed=1)
    later = {**SIEMENS_FLAIR, "SeriesNumber": 12, **second}
    write_pair(tmp_path / "a_12.nii.gz", later, seed=2)
    assert len(find(tmp_path, Limits())) == 1
    study = read_path(tmp_path)
    assert study.source.files == ("a_3.nii.gz",)
    (note,) = [note for note in study.flags if note.code == "FLAIR_CHOSEN"]
    assert f"a_3.nii.gz is taken for FLAIR, {why}; there is also a_12.nii.gz" in note.message


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("AX_FLAIR_+C", {}),
        ("sub-1_ce-gad_FLAIR", {}),
        ("flair", {"ContrastBolusAgent": "Gadovist"}),
    ],
)
def test_the_only_flair_after_contrast_is_flagged(
    tmp_path: Path, name: str, fields: dict[str, Any], *, beside: bool
) -> None:
    write_pair(tmp_path / f"{name}.nii", fields)
    if beside:
        write_pair(tmp_path / "T1_pre.nii", {}, seed=1)
    for path in (tmp_path, tmp_path / f"{name}.nii"):
        notes = [note for note in read_path(path).flags if note.code == "FLAIR_CHOSEN"]
        assert len(notes) == 1
        assert "after contrast medium" in notes[0].message
    before = "sub-1_FLAIR" if name.startswith("sub-1") else "flair_pre"
    write_pair(tmp_path / f"{before}.nii", {})
    (note,) = (note for note in read_path(tmp_path).flags if note.code == "FLAIR_CHOSEN")
    assert "before contrast medium" in note.message


@pytest.mark.parametrize(
    ("name", "fields", "code"),
    [
        ("scan", SIEMENS_FLAIR, "T1_MISSING"),
        ("words", {"SeriesDescription": "AX FLAIR"}, "SEQUENCE_ASSUMED"),
        ("flair", {"SeriesDescription": "AX FLAIR"}, "T1_MISSING"),
    ],
)
def test_a_single_file_with_a_sidecar(
    name: str, fields: dict[str, Any], code: str, tmp_path: Path
) -> None:
    write_pair(tmp_path / f"{name}.nii", fields)
    assert codes_of(read_path(tmp_path / f"{name}.nii"))[0] == code


def test_a_sidecar_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only that of a NIfTI which is looked at."""
    names = ("p_flair", "p_t1", "p_t2")
    for name in names:
        write_pair(tmp_path / f"{name}.nii", {"SeriesNumber": 3}, seed=len(name))
    for name in ("p_seg", "other"):
        (tmp_path / f"{name}.json").write_text("{}")
    (tmp_path / "p_seg.nii").touch()
    opened: Counter[str] = Counter()
    really_open = os.open

    def count(path: Any, *more: Any, **options: Any) -> int:
        opened[Path(path).name] += 1
        return really_open(path, *more, **options)

    monkeypatch.setattr(os, "open", count)
    study = read_path(tmp_path)
    assert set(study.sequences) == {FLAIR, T1}
    assert [opened[f"{name}.json"] for name in (*names, "p_seg")] == [1, 1, 1, 0]


def test_files_do_not_wait_for_each_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else a child that is forked while another thread reads a sidecar would wait for it forever."""
    both = threading.Barrier(2, timeout=30)
    real = sidecar.what_shows

    def slow(path: Path, folder: str = "") -> Shown:
        both.wait()
        return real(path, folder)

    monkeypatch.setattr(sidecar, "what_shows", slow)
    files = [InputFile(tmp_path / name, Kind.NIFTI, name) for name in ("a_flair.nii", "b_t1.nii")]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda file: file.shown.kind, files))
    assert found == [MrSequence.FLAIR, MrSequence.T1]
    assert files[0].shown is files[0].shown
