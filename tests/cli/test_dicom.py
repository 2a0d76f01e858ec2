"""inspect, analyze and export on DICOM, as a user types them."""

from __future__ import annotations

import csv
import functools
import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest

from gliosight import pipeline
from gliosight.cli import run
from gliosight.phantom import Phantom, PhantomSpec, make_phantom, write_nifti
from gliosight.read import Request, read
from gliosight.read.dicom import study as read_study
from gliosight.write.dicom import segmentation
from tests.support.dicom_phantom import DicomSpec, write_dicom
from tests.write.dicom.test_dciodvfy import dciodvfy_errors


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
    build = segmentation._build

    def mirrored(analysis: Any, origin: Any, pixels: Any, *given: Any, **options: Any) -> Any:
        return build(analysis, origin, pixels[:, :, ::-1].copy(), *given, **options)

    monkeypatch.setattr(segmentation, "_build", mirrored)


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
        else:
            assert first.ContentSequence[-1].to_json() == again.ContentSequence[-1].to_json()


@pytest.fixture
def corrected(result: Path, tmp_path: Path) -> Path:
    """The mask with a slice less, saved by another program."""
    image = nibabel.load(result / "mask.nii.gz")
    values = np.asanyarray(image.dataobj).copy()
    values[..., np.flatnonzero(values.any(axis=(0, 1)))[-1]] = 0
    values[2:6, 3:9, 4] = 7
    (tmp_path / "mine").mkdir()
    path = tmp_path / "mine" / "corrected.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), image.affine), path)
    return path


def test_a_corrected_mask_becomes_seg_and_sr(
    result: Path, study: Path, corrected: Path, tmp_path: Path, dciodvfy: str
) -> None:
    written = {}
    for form in ("seg", "sr"):
        out = tmp_path / f"{form}.dcm"
        call = ["export", str(result), "--to", form, "--source", str(study)]
        assert run([*call, "--mask", str(corrected), "-o", str(out)]) == 0
        assert dciodvfy_errors(dciodvfy, out) == []
        written[form] = pydicom.dcmread(out)
    seg, report = written["seg"], written["sr"]
    assert seg.SOPInstanceUID != pydicom.dcmread(result / "segmentation.dcm").SOPInstanceUID
    mask = np.asarray(nibabel.load(corrected).dataobj) > 0
    assert int(seg.pixel_array.sum()) == int(mask.sum())
    assert [one.SegmentAlgorithmType for one in seg.SegmentSequence] == ["SEMIAUTOMATIC"] * 2
    text = report.to_json()
    assert seg.SOPInstanceUID in text
    assert "MASK_CORRECTED" in text
    assert "Certainty of Finding" not in text
    # The head was looked at anew: what is left of the lesion is on the patient's right.
    (region,) = seg.SegmentSequence[0].AnatomicRegionSequence
    assert region.AnatomicRegionModifierSequence[0].CodeMeaning == "Right"


def test_a_corrected_mask_may_be_empty_or_the_same(
    result: Path, study: Path, tmp_path: Path
) -> None:
    image = nibabel.load(result / "mask.nii.gz")
    empty = nibabel.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine)
    nibabel.save(empty, tmp_path / "empty.nii.gz")
    call = ["export", str(result), "--to", "sr", "--source", str(study)]
    assert run([*call, "--mask", str(tmp_path / "empty.nii.gz"), "-o", str(tmp_path / "a")]) == 0
    text = pydicom.dcmread(tmp_path / "a.dcm").to_json()
    assert "Absent" in text
    assert "MASK_CORRECTED" in text
    same = str(result / "mask.nii.gz")
    assert run([*call, "--mask", same, "-o", str(tmp_path / "b")]) == 0
    first, again = (pydicom.dcmread(one) for one in (result / "report.dcm", tmp_path / "b.dcm"))
    assert first.SOPInstanceUID == again.SOPInstanceUID
    assert "MASK_CORRECTED" not in again.to_json()


def test_a_corrected_mask_on_another_grid_is_refused(
    result: Path,
    study: Path,
    corrected: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Mirrored by another program, it fits voxel by voxel; only its affine says so."""
    image = nibabel.load(corrected)
    mirrored = image.as_reoriented([[0, -1], [1, 1], [2, 1]])
    nibabel.save(mirrored, corrected)
    call = ["export", str(result), "--to", "seg", "--source", str(study), "-o", str(tmp_path / "x")]
    assert run([*call, "--mask", str(corrected)]) == 4
    assert "affine" in capsys.readouterr().err
    assert run([*call, "--mask", str(tmp_path / "nowhere.nii.gz")]) == 3
    assert "no such file or folder (nowhere.nii.gz)" in capsys.readouterr().err
    assert not (tmp_path / "x.dcm").exists()


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
    (tmp_path / "there.dcm").write_text("mine")
    there = ["--source", str(study), "-o", str(tmp_path / "there")]
    assert error(str(result), "--to", "seg", *there)[0] == 7
    assert (tmp_path / "there.dcm").read_text() == "mine"
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


def test_inspect_says_how_the_pixels_are_stored(
    head: Phantom, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dicom(head, tmp_path, DicomSpec(vendor="ge", layout="enhanced", syntax="rle"))
    assert run(["inspect", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["stored"] for one in told["studies"][0]["series"]} >= {"RLE Lossless"}


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


RECORDS: dict[str, str] = {
    "bare": '{"schema_version": "1.2"}',
    "no series": '{"schema_version": "1.2", "study_id": "x", "source": {"kind": "dicom", "series": {}}}',
    "deep": "[" * 100_000,
    "null": "null",
    "empty": "",
    "a version that is none": '{"schema_version": 1e308}',
    "a number beyond all": '{"schema_version": ' + "9" * 5000 + "}",
    "not UTF-8": "\udcff",
}
# Where, and what stands there instead; what nothing stands for is taken out.
VALUES: list[tuple[str, object]] = [
    ("study_id", ...),
    ("status", "no tumour found"),
    ("status", "healthy"),
    ("detection", []),
    ("detection/score", 0.01),
    ("detection/score", float("nan")),
    ("detection/score", "0.9"),
    ("detection/score_threshold", 1e308),
    ("findings", []),
    ("findings/0/tracking_uid", "2.25.7"),
    ("findings/0/side", "both"),
    ("findings/0/mean_probability", 75),
    ("findings/0/mean_probability", float("nan")),
    ("flags", [{"code": "X"}]),
    ("source/series/FLAIR", ...),
    ("source/series/FLAIR/frames_digest", 5),
    ("provenance", None),
    ("provenance/model/sha256", "../../etc/passwd"),
    ("provenance/channels", [["FLAIR"]]),
    ("provenance/settings", "fast"),
    ("provenance/version", None),
]
# What is measured anew, or not looked at.
WITHOUT_EFFECT: list[tuple[str, object]] = [
    ("detection/slices/3/area_px", 1),
    ("findings/0/centroid_mm/0", 0.5),
    ("findings/0/bounding_box_voxel/1/1", 999_999_999),
    ("findings/0/volume_ml", 123.0),
    ("findings/0/volume_ml", ...),
    ("findings/0/largest_slice", 10**9),
    ("volume_px", 12),
    ("files", {"../mask.nii.gz": "x"}),
    ("something", "else"),
]


def _changed(record: dict[str, object], path: str, value: object) -> str:
    *above, last = [int(one) if one.isdigit() else one for one in path.split("/")]
    holder: Any = record
    for one in above:
        holder = holder[one]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value
    return json.dumps(record)


def _rewritten(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """The mask with other voxels."""

    def tamper(path: Path) -> None:
        image = nibabel.load(path)
        values = np.asanyarray(image.dataobj)
        nibabel.save(nibabel.Nifti1Image(change(values), image.affine), path)

    return tamper


def _bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(change(path.read_bytes())) and None


def _replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def tamper(path: Path) -> None:
        path.unlink()
        make(path)

    return tamper


MASKS: dict[str, Callable[[Path], None]] = {
    "mirrored": _rewritten(lambda values: values[::-1]),
    "slices swapped": _rewritten(lambda values: values[..., ::-1]),
    "moved": _rewritten(lambda values: np.roll(values, 3, axis=0)),
    "inverted": _rewritten(lambda values: 1 - values),
    "empty": _rewritten(np.zeros_like),
    "of another shape": _rewritten(lambda values: values[1:]),
    "not a number": _rewritten(lambda values: np.where(values, np.nan, 0.0)),
    "of two dimensions": _rewritten(lambda values: values[..., 0]),
    "of five dimensions": _rewritten(lambda values: np.stack([values] * 2, -1)[..., None, :]),
    "complex": _rewritten(lambda values: values.astype(np.complex64)),
    "cut": _bytes(lambda raw: raw[: len(raw) // 2]),
    "zeros": _bytes(lambda raw: b"\0" * len(raw)),
    "no gzip": _bytes(gzip.decompress),
    "damaged inside": _bytes(lambda raw: raw[:40] + bytes(64) + raw[104:]),
    "of bytes": _bytes(lambda _: b"\0"),
    "gone": lambda path: path.unlink(),
    "a folder": _replaced(Path.mkdir),
    "a pipe": _replaced(os.mkfifo),
    "a link to nothing": _replaced(lambda path: path.symlink_to("nowhere")),
    "a link to itself": _replaced(lambda path: path.symlink_to(path.name)),
    "a link to zeros": _replaced(lambda path: path.symlink_to("/dev/zero")),
    "a link to something else": _replaced(lambda path: path.symlink_to("report.html")),
}


@pytest.fixture
def tampered(result: Path, tmp_path: Path) -> Path:
    """A copy of the result that may be changed."""
    return shutil.copytree(result, tmp_path / "tampered")


@pytest.fixture(scope="module")
def without_reading(study: Path) -> Iterator[None]:
    """The headers of the source are read once, not again for each case."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "find", functools.cache(pipeline.find))
        patch.setattr(read_study, "without_pixels", functools.cache(read_study.without_pixels))
        patch.setattr(read_study.DicomStudy, "__hash__", object.__hash__, raising=False)
        yield


def _is_damaged(
    folder: Path,
    study: Path,
    forms: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = folder.parent / "exported"
    out.mkdir()
    for form in forms:
        call = ["export", str(folder), "--to", form, "--source", str(study), "-o", str(out / "x")]
        assert run(call) == 4, form
        (line,) = capsys.readouterr().err.splitlines()
        assert "(result.json)" in line or "(mask" in line
        assert line.isprintable()
    assert not list(out.iterdir())


@pytest.mark.parametrize("name", RECORDS)
def test_a_result_that_somebody_broke_is_damaged(
    name: str, study: Path, tampered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tampered / "result.json").write_text(RECORDS[name], "utf-8", "surrogateescape")
    _is_damaged(tampered, study, ("seg", "sr"), capsys)


@pytest.mark.usefixtures("without_reading")
@pytest.mark.parametrize(("path", "value"), VALUES, ids=str)
def test_a_result_that_somebody_changed_is_damaged(
    path: str, value: object, study: Path, tampered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tampered / "result.json"
    record.write_text(_changed(json.loads(record.read_text("utf-8")), path, value))
    _is_damaged(tampered, study, ("sr",), capsys)


@pytest.mark.usefixtures("without_reading")
@pytest.mark.parametrize(("path", "value"), WITHOUT_EFFECT, ids=str)
def test_measures_of_a_result_are_taken_anew(
    path: str, value: object, result: Path, study: Path, tampered: Path, tmp_path: Path
) -> None:
    record = tampered / "result.json"
    record.write_text(_changed(json.loads(record.read_text("utf-8")), path, value))
    out = tmp_path / "again.dcm"
    call = ["export", str(tampered), "--to", "sr", "--source", str(study), "-o", str(out)]
    assert run(call) == 0
    first, again = (pydicom.dcmread(one) for one in (result / "report.dcm", out))
    assert first.ContentSequence[-1].to_json() == again.ContentSequence[-1].to_json()


@pytest.mark.usefixtures("without_reading")
@pytest.mark.parametrize("name", MASKS)
def test_a_mask_that_somebody_changed_is_damaged(
    name: str, study: Path, tampered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    MASKS[name](tampered / "mask.nii.gz")
    out = tampered.parent / "x"
    call = ["export", str(tampered), "--to", "seg", "--source", str(study), "-o", str(out)]
    assert run(call) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert "mask" in line
    assert {one.name for one in tampered.parent.iterdir()} == {"tampered"}


def test_a_record_that_would_be_read_for_ever_is_damaged(
    tampered: Path, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        _replaced(make)(tampered / "result.json")
        assert run(["export", str(tampered), "--to", "seg", "--source", str(study)]) == 4
        assert "no regular file" in capsys.readouterr().err


# What -o says, and the file that is written and printed.
NAMES = [
    ("seg", "lesion", "lesion.dcm"),
    ("sr", "v1.2", "v1.2.dcm"),
    ("seg", "lesion.DCM", "lesion.DCM"),
    ("seg", "lesion.ima", "lesion.ima"),
]


@pytest.mark.parametrize(("form", "name", "written"), NAMES)
def test_an_export_has_a_suffix(
    form: str,
    name: str,
    written: str,
    result: Path,
    study: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call = ["export", str(result), "--to", form, "--source", str(study), "-o", str(tmp_path / name)]
    assert run(call) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / written)
    before = (tmp_path / written).read_bytes()
    assert run(call) == 7
    assert (tmp_path / written).read_bytes() == before


def test_an_override_that_fits_no_study_is_said(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_dicom(make_phantom(PhantomSpec(seed=9, slices=3)), tmp_path)
    call = ["analyze", str(study), str(other), "--flair", "777", "-o", str(tmp_path / "o")]
    assert run(call) == 2
    assert "777" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_an_export_is_named_by_its_study(
    result: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["export", str(result), "--to", "sr", "--source", str(study)]) == 0
    study_id = json.loads((result / "result.json").read_text("utf-8"))["study_id"]
    assert [one.name for one in tmp_path.iterdir()] == [f"{study_id}-report.dcm"]


def test_the_export_of_a_source_that_is_not_there(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["export", str(result), "--to", "seg", "--source", str(tmp_path / "nowhere")]
    assert run([*call, "-o", str(tmp_path / "x")]) == 3
    assert "no such" in capsys.readouterr().err
