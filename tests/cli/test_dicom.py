"""inspect, analyze and export on DICOM, as a user types them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from gliosight.cli import run
from gliosight.phantom import Phantom, PhantomSpec, make_phantom, write_nifti
from gliosight.phantom.dicom import DicomSpec, write_dicom
from gliosight.read import Request, read
from gliosight.write.dicom import segmentation


@pytest.fixture(scope="module")
def head() -> Phantom:
    return make_phantom(PhantomSpec(seed=5, slices=11, lesion_side="right"))


@pytest.fixture(scope="module")
def study(head: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dicom(head, tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def result(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("result") / "out"
    assert run(["analyze", str(study), "-o", str(out), "-q", "--probability"]) == 0
    return out


def test_everything_is_there(result: Path) -> None:
    names = {one.name for one in result.iterdir()}
    assert {
        "segmentation.dcm",
        "report.dcm",
        "probability.dcm",
        "mask.nii.gz",
        "report.html",
    } <= names
    told = json.loads((result / "result.json").read_text("utf-8"))
    assert told["source"]["kind"] == "dicom"
    assert set(told["source"]["series"]) == {"FLAIR", "T1", "T1C"}
    assert told["status"] == "tumour found"
    assert told["findings"][0]["side"] == "right"
    for name in told["files"]:
        assert (result / name).exists()


def test_no_identity_but_in_dicom_objects(result: Path, study: Path) -> None:
    headers = [
        pydicom.dcmread(one, stop_before_pixels=True) for one in study.rglob("*") if one.is_file()
    ]
    secrets = {str(headers[0].PatientName), str(headers[0].PatientID)} - {""}
    uids = {
        str(one[keyword].value)
        for one in headers
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID")
    }
    for name in ("result.json", "report.html", "findings.csv"):
        text = (result / name).read_text("utf-8")
        assert not [one for one in secrets | uids if one in text]
    assert str(pydicom.dcmread(result / "segmentation.dcm").PatientName) in secrets


def test_the_report_shows_what_was_taken_and_why(result: Path) -> None:
    text = (result / "report.html").read_text("utf-8")
    assert "Series taken" in text
    assert "segmentation.dcm" in text


def test_inspect_in_words_and_as_json(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(study)]) == 0
    words = capsys.readouterr().out
    assert "localizer" in words
    assert "ready for gliosight analyze" in words
    assert "PHANTOM^" not in words
    assert run(["inspect", str(study), "--json", "--pixels"]) == 0
    told = json.loads(capsys.readouterr().out)
    taken = [one["taken_as"] for one in told["studies"][0]["series"]]
    assert {"FLAIR", "T1", "T1C"} <= set(taken)


def test_inspect_takes_several_paths(
    study: Path, head: Phantom, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_nifti(head, tmp_path)
    assert run(["inspect", str(study), str(other), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["kind"] for one in told["studies"]] == ["dicom", "nifti"]
    spacings = [row["spacing_mm"] for one in told["studies"] for row in one["series"]]
    assert all(side == round(side, 4) for one in spacings if one for side in one)


def test_inspect_says_which_path_leads_nowhere(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", str(study), str(tmp_path / "nowhere")]) == 3
    said = capsys.readouterr()
    assert "1 study, 1 ready" in said.out
    assert "no such file or folder" in said.err
    assert run(["inspect", str(study), str(tmp_path / "nowhere"), "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert (len(told["studies"]), [one["exit_code"] for one in told["errors"]]) == (1, [3])


def test_a_study_below_two_paths_is_one(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = read(Request(study))
    seen = whole.source["dicom"].headers[0].SeriesNumber
    for path in sorted(one for one in study.rglob("*") if one.is_file()):
        flair = pydicom.dcmread(path).SeriesNumber == seen
        part = tmp_path / ("one" if flair else "two")
        part.mkdir(exist_ok=True)
        shutil.copy(path, part / f"{len(list(part.iterdir()))}.dcm")
    both = [str(tmp_path / "one"), str(tmp_path / "two")]
    assert run(["inspect", *both, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["studies"]
    assert told["reasons"].keys() == {"FLAIR", "T1", "T1C"}
    assert run(["analyze", *both, both[0], "-o", str(tmp_path / "out"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["study_id"] == whole.study_id
    assert {"FLAIR", "T1", "T1C"} == set(result["source"]["series"])


def test_inspect_of_nothing_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(tmp_path)]) == 3
    assert "empty" in capsys.readouterr().err
    assert run(["inspect", str(tmp_path / "nowhere")]) == 3
    assert "no such" in capsys.readouterr().err


@pytest.fixture
def failing_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SEG of any study is mirrored, as by a bug of ours."""
    labels = segmentation.finding_labels
    monkeypatch.setattr(segmentation, "finding_labels", lambda one: labels(one)[:, :, ::-1].copy())


@pytest.mark.usefixtures("failing_check")
def test_a_segmentation_that_fails_its_check_costs_nothing_else(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["analyze", str(study), "-o", str(tmp_path / "out")]
    assert run([*call, "--debug"]) == 70
    said = capsys.readouterr()
    assert "tumour found" in said.out
    assert "SEG_NOT_WRITTEN" in said.out
    assert "Traceback" in said.err
    assert "check_segmentation" in said.err
    line = said.err.splitlines()[-1]
    assert line.startswith("error: a DICOM object read back differs in its mask")
    assert "(out/segmentation.dcm)" in line
    assert "please report" in line
    names = {one.name for one in (tmp_path / "out").iterdir()}
    assert names >= {"report.dcm", "mask.nii.gz", "report.html", "findings.csv", "overview.png"}
    assert not names & {"segmentation.dcm", "probability.dcm"}
    assert run([*call, "--overwrite", "--json"]) == 70
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert "SEG_NOT_WRITTEN" in {one["code"] for one in told["flags"]}
    assert "segmentation.dcm" not in told["files"]
    assert said.err.splitlines() == [line]


@pytest.mark.usefixtures("failing_check")
def test_of_several_studies_the_row_tells_it(
    study: Path, head: Phantom, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["analyze", str(study), str(write_nifti(head, tmp_path)), "-o", str(tmp_path / "out")]
    assert run([*call, "--json"]) == 70
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert len(told["studies"]) == 2
    assert [one["exit_code"] for one in told["errors"]] == [70]
    with (tmp_path / "out" / "studies.csv").open(encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert first["status"] == second["status"] == "tumour found"
    assert "SEG_NOT_WRITTEN" in first["warnings"]
    assert "its mask" in first["error"]
    assert second["error"] == ""


@pytest.mark.parametrize(
    "keyword", ["SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientWeight"]
)
def test_headers_as_anonymisers_leave_them_are_no_bug(
    keyword: str, study: Path, tmp_path: Path
) -> None:
    """A study is analysed whose UIDs change with the slice, or whose weight is 0."""
    for number, path in enumerate(sorted(one for one in study.rglob("*") if one.is_file())):
        dataset = pydicom.dcmread(path)
        value = "0" if keyword == "PatientWeight" else f"{dataset.get(keyword, '1.2')}.{number}"
        setattr(dataset, keyword, value[-64:].lstrip(".0") or value)
        dataset.save_as(tmp_path / f"{number}.dcm")
    assert run(["analyze", str(tmp_path), "-o", str(tmp_path / "out"), "-q"]) != 70


def test_export_gives_the_same_objects_again(result: Path, study: Path, tmp_path: Path) -> None:
    for form, name in (("seg", "segmentation.dcm"), ("sr", "report.dcm")):
        out = tmp_path / name
        call = ["export", str(result), "--to", form, "--source", str(study), "-o", str(out)]
        assert run(call) == 0
        first, again = pydicom.dcmread(result / name), pydicom.dcmread(out)
        assert first.SOPInstanceUID == again.SOPInstanceUID
        assert first.SeriesInstanceUID == again.SeriesInstanceUID
        if form == "seg":
            assert np.array_equal(first.pixel_array, again.pixel_array)
    assert run(["export", str(result), "--to", "nifti", "-o", str(tmp_path / "m.nii.gz")]) == 0
    assert (tmp_path / "m.nii.gz").read_bytes() == (result / "mask.nii.gz").read_bytes()


def test_export_says_what_is_wrong(
    result: Path, study: Path, head: Phantom, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(*call: str) -> tuple[int, str]:
        return run(["export", *call]), capsys.readouterr().err

    assert error(str(result), "--to", "seg")[0] == 2
    code, said = error(str(result), "--to", "seg", "--source", str(tmp_path / "nowhere"))
    assert (code, "no such" in said or "not among" in said) == (5, True) or code == 3
    other = write_dicom(make_phantom(PhantomSpec(seed=9, slices=3)), tmp_path)
    code, said = error(str(result), "--to", "sr", "--source", str(other), "-o", str(tmp_path / "x"))
    assert code == 5
    assert "not among" in said
    assert not (tmp_path / "x").exists()
    (tmp_path / "there").write_text("mine")
    assert error(str(result), "--to", "nifti", "-o", str(tmp_path / "there"))[0] == 7
    assert (tmp_path / "there").read_text() == "mine"
    assert error(str(tmp_path), "--to", "seg", "--source", str(study))[0] == 3
    assert error(str(result))[0] == 2
    nifti = write_nifti(head, tmp_path / "n")
    assert run(["analyze", str(nifti), "-o", str(tmp_path / "n-out"), "-q"]) == 0
    code, said = error(str(tmp_path / "n-out"), "--to", "seg", "--source", str(nifti))
    assert code == 5
    assert "identity" in said


def test_several_studies_and_a_zip(
    head: Phantom, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    both = tmp_path / "both"
    shutil.copytree(study, both / "one")
    write_dicom(make_phantom(PhantomSpec(seed=9, slices=3, lesion=False)), both)
    archive = shutil.make_archive(str(tmp_path / "both"), "zip", both)
    out = tmp_path / "results"
    assert run(["analyze", archive, "-o", str(out), "-q"]) == 0
    with (out / "studies.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert all(len(one["study_id"]) == 12 for one in rows)
    assert all((out / one["out"] / "report.html").is_file() for one in rows)


def test_naming_a_series(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["analyze", str(study), "--flair", "777", "-o", str(tmp_path / "o")]) == 2
    assert "777" in capsys.readouterr().err
    assert (
        run(["analyze", str(study), "--flair", "3", "--t1", "x.nii", "-o", str(tmp_path / "o")])
        == 2
    )
    # A letter in a UID makes it no file.
    assert run(["analyze", str(study), "--flair", "1.2.84O.1", "-o", str(tmp_path / "o")]) == 2
    assert "names no series of this study; there are series" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_series_named_for_what_is_no_dicom(
    head: Phantom, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_nifti(head, tmp_path)
    assert run(["analyze", str(folder), "--flair", "3", "-o", str(tmp_path / "o")]) == 2
    assert "DICOM" in capsys.readouterr().err


def test_phantom_writes_dicom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["phantom", "-o", str(tmp_path), "--format", "dicom", "--slices", "3"]) == 0
    assert run(["inspect", str(tmp_path)]) == 0
    assert "ready" in capsys.readouterr().out


def test_a_phantoms_faults_are_chosen_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["phantom", "-o", str(tmp_path), "--slices", "3"]
    made = [
        *call,
        "--dicom",
        "--set",
        "vendor=ge",
        "--set",
        "layout=enhanced",
        "--set",
        "syntax=rle",
    ]
    assert run(made) == 0
    assert run(["inspect", str(tmp_path), "--json"]) == 0
    out = capsys.readouterr().out
    told = json.loads(out[out.index("{") :])
    assert {one["stored"] for one in told["studies"][0]["series"]} >= {"RLE Lossless"}
    assert run([*call, "--set", "vendor=ge"]) == 2
    assert run([*call, "--dicom", "--set", "vendor=nobody"]) == 2
    assert "nobody" in capsys.readouterr().err


def test_an_export_refers_to_the_part_of_a_series_that_was_analysed(
    head: Phantom, tmp_path: Path
) -> None:
    """Two times under one UID: the objects must name the images that were looked at."""
    folder = write_dicom(head, tmp_path, DicomSpec(repeats=frozenset({"times"}), traps=frozenset()))
    assert run(["analyze", str(folder), "-o", str(tmp_path / "out"), "-q"]) == 0
    call = ["export", str(tmp_path / "out"), "--to", "seg", "--source", str(folder)]
    assert run([*call, "-o", str(tmp_path / "again.dcm")]) == 0
    first, again = (
        pydicom.dcmread(one)
        for one in (tmp_path / "out" / "segmentation.dcm", tmp_path / "again.dcm")
    )
    assert first.SOPInstanceUID == again.SOPInstanceUID
    names = [
        {
            one.ReferencedSOPInstanceUID
            for one in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        }
        for seg in (first, again)
    ]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    "text",
    [
        '{"schema_version": "1.1"}',
        '{"schema_version": "1.1", "study_id": "x", "source": {"kind": "dicom", "series": {}}}',
        "[" * 100_000,
        "null",
    ],
    ids=["bare", "no series", "deep", "null"],
)
def test_a_result_that_somebody_broke_is_damaged(
    text: str, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "result.json").write_text(text)
    for form in ("seg", "nifti"):
        call = ["export", str(tmp_path), "--to", form, "--source", str(study)]
        assert run([*call, "-o", str(tmp_path / "x")]) == 4
        assert "result.json" in capsys.readouterr().err


def test_an_override_that_fits_no_study_is_said(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_dicom(make_phantom(PhantomSpec(seed=9, slices=3)), tmp_path)
    call = ["analyze", str(study), str(other), "--flair", "777", "-o", str(tmp_path / "o")]
    assert run(call) == 2
    assert "777" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_the_export_of_a_source_that_is_not_there(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["export", str(result), "--to", "seg", "--source", str(tmp_path / "nowhere")]
    assert run([*call, "-o", str(tmp_path / "x")]) == 3
    assert "no such" in capsys.readouterr().err
