"""inspect, analyze and export on DICOM, as a user types them."""

from __future__ import annotations

import csv
import functools
import gzip
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest

from gliosight import pipeline
from gliosight.archive.entries import SOME_FAILED
from gliosight.cli import run
from gliosight.infer.model import Model
from gliosight.phantom import Phantom, PhantomSpec, make_phantom, write_nifti
from gliosight.read import Request, read
from gliosight.read.dicom import study as read_study
from gliosight.write.dicom import segmentation
from tests.support.dicom_phantom import DicomSpec, write_dicom
from tests.write.dicom.test_dciodvfy import dciodvfy_errors

from .conftest import Call


@pytest.fixture(scope="module", autouse=True)
def without_network(stub_model: Model) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.Settings, "load", lambda _: stub_model)
        yield


@pytest.fixture(scope="module")
def head() -> Phantom:
    return make_phantom(PhantomSpec(seed=5, slices=11, lesion_side="right"))


@pytest.fixture(scope="module")
def study(head: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dicom(head, tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another study."""
    small = make_phantom(PhantomSpec(seed=9, slices=3, lesion=False))
    return write_dicom(small, tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module")
def result(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("result") / "out"
    assert run(["analyze", str(study), "-o", str(out), "-q", "--probability"]) == 0
    return out


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_everything_is_there(result: Path) -> None:
    record = json.loads((result / "result.json").read_text("utf-8"))
    assert {"segmentation.dcm", "report.dcm", "probability.dcm", "mask.nii.gz"} <= set(
        record["files"]
    )
    assert all((result / name).exists() for name in record["files"])
    assert record["source"]["kind"] == "dicom"
    assert set(record["source"]["series"]) == {"FLAIR", "T1", "T1C"}
    assert record["status"] == "tumour found"
    assert record["findings"][0]["side"] == "right"
    text = (result / "report.html").read_text("utf-8")
    assert "Series taken" in text
    assert "segmentation.dcm" in text


def test_no_identity_but_in_dicom_objects(result: Path, study: Path) -> None:
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in files(study)]
    secrets = {str(headers[0].PatientName), str(headers[0].PatientID)} - {""}
    uids = {str(header[name].value) for header in headers
            for name in ("StudyInstanceUID", "SeriesInstanceUID")}  # fmt: skip
    for name in ("result.json", "report.html", "findings.csv"):
        text = (result / name).read_text("utf-8")
        assert not [secret for secret in secrets | uids if secret in text]
    assert str(pydicom.dcmread(result / "segmentation.dcm").PatientName) in secrets


def test_inspect_in_words_and_as_json(study: Path, tmp_path: Path, call: Call) -> None:
    words = call("inspect", study).out
    assert "localizer" in words
    assert "ready for gliosight analyze" in words
    assert "PHANTOM^" not in words
    assert "never analysed" in words
    assert (
        "neighbouring slices" not in words
    )  # a limit of results, which the localizer gives none of
    (seen,) = call("inspect", study, "--json", "--pixels").value["studies"]
    assert {"FLAIR", "T1", "T1C"} <= {series["taken_as"] for series in seen["series"]}
    done = call("inspect", tmp_path)
    assert (done.code, "empty" in done.err) == (3, True)


@pytest.mark.slow
def test_inspect_takes_several_paths(
    study: Path, head: Phantom, tmp_path: Path, call: Call
) -> None:
    nifti, nowhere = write_nifti(head, tmp_path), tmp_path / "nowhere"
    done = call("inspect", study, nifti, nowhere)
    assert done.code == 3
    assert "2 studies, 2 ready" in done.out
    assert "no such file or folder" in done.err
    value = call("inspect", study, nifti, nowhere, "--json").value
    assert [seen["kind"] for seen in value["studies"]] == ["dicom", "nifti"]
    assert [error["exit_code"] for error in value["errors"]] == [3]
    spacings = [series["spacing_mm"] for seen in value["studies"] for series in seen["series"]]
    assert all(side == round(side, 4) for spacing in spacings if spacing for side in spacing)


@pytest.mark.slow
def test_inspect_says_how_the_pixels_are_stored(head: Phantom, tmp_path: Path, call: Call) -> None:
    write_dicom(head, tmp_path, DicomSpec(vendor="ge", layout="enhanced", syntax="rle"))
    (seen,) = call("inspect", tmp_path, "--json").value["studies"]
    assert {series["stored"] for series in seen["series"]} >= {"RLE Lossless"}


@pytest.mark.slow
def test_a_study_below_two_paths_is_one(study: Path, tmp_path: Path, call: Call) -> None:
    whole = read(Request(study))
    flair = whole.source.dicom.headers[0].SeriesNumber
    for number, path in enumerate(files(study)):
        part = tmp_path / ("one" if pydicom.dcmread(path).SeriesNumber == flair else "two")
        part.mkdir(exist_ok=True)
        shutil.copy(path, part / f"{number}.dcm")
    both = [tmp_path / "one", tmp_path / "two"]
    (seen,) = call("inspect", *both, "--json").value["studies"]
    assert seen["reasons"].keys() == {"FLAIR", "T1", "T1C"}
    record = call("analyze", *both, both[0], "-o", tmp_path / "out", "--json").value
    assert record["study_id"] == whole.study_id
    assert {"FLAIR", "T1", "T1C"} == set(record["source"]["series"])


@pytest.fixture
def failing_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SEG of any study is mirrored, as by a bug of ours."""
    build = segmentation._build

    def mirrored(analysis: Any, origin: Any, pixels: Any, *rest: Any, **options: Any) -> Any:
        return build(analysis, origin, pixels[:, :, ::-1].copy(), *rest, **options)

    monkeypatch.setattr(segmentation, "_build", mirrored)


@pytest.mark.slow
@pytest.mark.usefixtures("failing_check")
def test_a_segmentation_that_fails_its_check_costs_nothing_else(
    study: Path, head: Phantom, tmp_path: Path, call: Call
) -> None:
    out = tmp_path / "out"
    done = call("analyze", study, "-o", out, "--debug")
    assert done.code == 70
    assert "tumour found" in done.out
    assert "SEG_NOT_WRITTEN" in done.out
    assert "Traceback" in done.err
    assert "check_segmentation" in done.err
    line = done.err.splitlines()[-1]
    assert line.startswith("error: a DICOM object read back differs in its mask")
    assert "(out/segmentation.dcm)" in line
    assert "please report" in line
    names = {path.name for path in out.iterdir()}
    assert names >= {"report.dcm", "mask.nii.gz", "report.html", "findings.csv", "overview.png"}
    assert not names & {"segmentation.dcm", "probability.dcm"}
    done = call("analyze", study, "-o", out, "--overwrite", "--json")
    assert (done.code, done.err.splitlines()) == (70, [line])
    assert "SEG_NOT_WRITTEN" in {flag["code"] for flag in done.value["flags"]}
    assert "segmentation.dcm" not in done.value["files"]
    # Of several studies the row of the table says it.
    done = call("analyze", study, write_nifti(head, tmp_path), "-o", tmp_path / "both", "--json")
    assert done.code == 70
    assert len(done.value["studies"]) == 2
    assert [error["exit_code"] for error in done.value["errors"]] == [70]
    with (tmp_path / "both" / "studies.csv").open(encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert first["status"] == second["status"] == "tumour found"
    assert "SEG_NOT_WRITTEN" in first["warnings"]
    assert "its mask" in first["error"]
    assert second["error"] == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "keyword", ["SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientWeight"]
)
def test_headers_as_anonymisers_leave_them_are_no_bug(
    keyword: str, study: Path, tmp_path: Path, call: Call
) -> None:
    """A study is analysed whose UIDs change with the slice, or whose weight is 0."""
    for number, path in enumerate(files(study)):
        dataset = pydicom.dcmread(path)
        value = "0" if keyword == "PatientWeight" else f"{dataset.get(keyword, '1.2')}.{number}"
        setattr(dataset, keyword, value[-64:].lstrip(".0") or value)
        dataset.save_as(tmp_path / f"{number}.dcm")
    assert call("analyze", tmp_path, "-o", tmp_path / "out", "-q").code != 70


@pytest.mark.slow
def test_several_studies_and_a_zip(study: Path, other: Path, tmp_path: Path, call: Call) -> None:
    both, out = tmp_path / "both", tmp_path / "results"
    shutil.copytree(study, both / "one")
    shutil.copytree(other, both / "two")
    archive = shutil.make_archive(str(tmp_path / "both"), "zip", both)
    assert call("analyze", archive, "-o", out, "-q").code == 0
    with (out / "studies.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert all(len(row["study_id"]) == 12 for row in rows)
    assert all((out / row["out"] / "report.html").is_file() for row in rows)


@pytest.mark.slow
def test_an_error_of_one_of_several_studies_names_it(
    study: Path, other: Path, tmp_path: Path, call: Call
) -> None:
    shutil.copytree(study, tmp_path / "in/one")
    shutil.copytree(other, tmp_path / "in/2")  # as its series are called
    for path in sorted((tmp_path / "in/2").rglob("*.IMA")):
        path.write_bytes(path.read_bytes()[:-1000])
    for paths in ([tmp_path / "in"], [tmp_path / "in/one", tmp_path / "in/2"]):
        done = call("analyze", *paths, "-o", tmp_path / paths[-1].name, "-q")
        assert done.code == SOME_FAILED
        for line in done.err.splitlines():
            assert re.search(r"\((in/)?2\b.*series \d", line), line


@pytest.mark.slow
def test_naming_a_series(
    study: Path, other: Path, head: Phantom, tmp_path: Path, call: Call
) -> None:
    nifti = write_nifti(head, tmp_path / "n")
    for paths, options, words in (
        ([study], ["--flair", "777"], "777"),
        ([study], ["--flair", "3", "--t1", "x.nii"], "side by side"),
        # A letter in a UID makes it no file.
        ([study], ["--flair", "1.2.84O.1"], "names no series of this study; there are series"),
        ([study, other], ["--flair", "777"], "777 names no series of the 2 studies"),
        ([nifti], ["--flair", "3"], "DICOM"),
    ):
        done = call("analyze", *paths, *options, "-o", tmp_path / "o")
        assert (done.code, words in done.err) == (2, True), options
    assert not (tmp_path / "o").exists()


def export(call: Call, result: Path, form: str, study: Path, out: Path, *options: object) -> Any:
    return call("export", result, "--to", form, "--source", study, "-o", out, *options)


@pytest.mark.slow
def test_export_gives_the_same_objects_again(
    result: Path, study: Path, tmp_path: Path, call: Call
) -> None:
    """Its SOP instance is the same, so must its values be, though JSON keeps six digits of them."""
    for form, name in (("seg", "segmentation.dcm"), ("sr", "report.dcm")):
        assert export(call, result, form, study, tmp_path / name).code == 0
        first, again = pydicom.dcmread(result / name), pydicom.dcmread(tmp_path / name)
        assert first.SOPInstanceUID == again.SOPInstanceUID
        assert first.SeriesInstanceUID == again.SeriesInstanceUID
        if form == "seg":
            assert np.array_equal(first.pixel_array, again.pixel_array)
        else:
            assert first.ContentSequence[-1].to_json() == again.ContentSequence[-1].to_json()


@pytest.mark.slow
def test_an_export_refers_to_the_part_of_a_series_that_was_analysed(
    head: Phantom, tmp_path: Path, call: Call
) -> None:
    """Two times under one UID: the objects must name the images that were looked at."""
    folder = write_dicom(head, tmp_path, DicomSpec(repeats=frozenset({"times"}), traps=frozenset()))
    out, again = tmp_path / "out", tmp_path / "again.dcm"
    assert call("analyze", folder, "-o", out, "-q").code == 0
    assert export(call, out, "seg", folder, again).code == 0
    objects = [pydicom.dcmread(path) for path in (out / "segmentation.dcm", again)]
    assert objects[0].SOPInstanceUID == objects[1].SOPInstanceUID
    names = [
        {image.ReferencedSOPInstanceUID for image in series.ReferencedInstanceSequence}
        for seg in objects
        for series in seg.ReferencedSeriesSequence[:1]
    ]
    assert names[0] == names[1]


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


@pytest.mark.slow
def test_a_corrected_mask_becomes_seg_and_sr(
    result: Path, study: Path, corrected: Path, tmp_path: Path, dciodvfy: str, call: Call
) -> None:
    written = {}
    for form in ("seg", "sr"):
        out = tmp_path / f"{form}.dcm"
        assert export(call, result, form, study, out, "--mask", corrected).code == 0
        assert dciodvfy_errors(dciodvfy, out) == []
        written[form] = pydicom.dcmread(out)
    seg, text = written["seg"], written["sr"].to_json()
    assert seg.SOPInstanceUID != pydicom.dcmread(result / "segmentation.dcm").SOPInstanceUID
    mask = np.asarray(nibabel.load(corrected).dataobj) > 0
    assert int(seg.pixel_array.sum()) == int(mask.sum())
    assert {one.SegmentAlgorithmType for one in seg.SegmentSequence} == {"SEMIAUTOMATIC"}
    assert seg.SOPInstanceUID in text
    assert "MASK_CORRECTED" in text
    assert "Certainty of Finding" not in text
    # The head was looked at anew: what is left of the lesion is on the patient's right.
    (region,) = seg.SegmentSequence[0].AnatomicRegionSequence
    assert region.AnatomicRegionModifierSequence[0].CodeMeaning == "Right"


@pytest.mark.slow
def test_a_corrected_mask_may_be_empty_or_the_same(
    result: Path, study: Path, tmp_path: Path, call: Call
) -> None:
    image = nibabel.load(result / "mask.nii.gz")
    empty, a, b = (tmp_path / name for name in ("empty.nii.gz", "a.dcm", "b.dcm"))
    nibabel.save(nibabel.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), empty)
    assert export(call, result, "sr", study, a, "--mask", empty).code == 0
    text = pydicom.dcmread(a).to_json()
    assert "Absent" in text
    assert "MASK_CORRECTED" in text
    assert export(call, result, "sr", study, b, "--mask", result / "mask.nii.gz").code == 0
    first, again = pydicom.dcmread(result / "report.dcm"), pydicom.dcmread(b)
    assert first.SOPInstanceUID == again.SOPInstanceUID
    assert "MASK_CORRECTED" not in again.to_json()


def test_a_corrected_mask_on_another_grid_is_refused(
    result: Path, study: Path, corrected: Path, tmp_path: Path, call: Call
) -> None:
    """Mirrored by another program, it fits voxel by voxel; only its affine says so."""
    image = nibabel.load(corrected)
    nibabel.save(image.as_reoriented([[0, -1], [1, 1], [2, 1]]), corrected)
    done = export(call, result, "seg", study, tmp_path / "x", "--mask", corrected)
    assert (done.code, "affine" in done.err) == (4, True)
    done = export(call, result, "seg", study, tmp_path / "x", "--mask", tmp_path / "no.nii.gz")
    assert (done.code, "no such file or folder (no.nii.gz)" in done.err) == (3, True)
    assert not (tmp_path / "x.dcm").exists()


@pytest.mark.slow
def test_export_says_what_is_wrong(
    result: Path, study: Path, other: Path, head: Phantom, tmp_path: Path, call: Call
) -> None:
    (tmp_path / "there.dcm").write_text("mine")
    nifti, nifti_result = write_nifti(head, tmp_path / "n"), tmp_path / "n-out"
    assert call("analyze", nifti, "-o", nifti_result, "-q").code == 0
    out = tmp_path / "x"
    for arguments, code, words in (
        ((result, "--to", "seg"), 2, "--source PATH"),
        ((result,), 2, "a result without --to"),
        ((result, "--to", "seg", "--source", tmp_path / "nowhere", "-o", out), 3, "no such"),
        ((result, "--to", "sr", "--source", other, "-o", out), 5, "not among"),
        ((result, "--to", "seg", "--source", study, "-o", tmp_path / "there"), 7, "there.dcm"),
        ((tmp_path, "--to", "seg", "--source", study), 3, "no result"),
        ((nifti_result, "--to", "seg", "--source", nifti), 5, "identity"),
    ):
        done = call("export", *arguments)
        assert (done.code, words in done.err) == (code, True), arguments
    assert (tmp_path / "there.dcm").read_text() == "mine"
    assert not out.exists()


RECORDS: dict[str, str] = {
    "bare": '{"schema_version": "2.0"}',
    "no series": '{"schema_version": "2.0", "study_id": "x", "source": {"kind": "dicom", "series": {}}}',
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
    ("status", "uncertain"),
    ("status", "not assessed"),
    ("detection/probability", 0.01),
    ("detection/probability", 0.5),
    ("detection/probability", 1.5),
    ("detection/probability", None),
    ("detection/probability", float("nan")),
    ("detection/probability", "0.9"),
    ("detection/prevalence", 2),
    ("detection/prevalence", ...),
    ("detection/found_from", 1e308),
    ("detection/uncertain_from", 0.95),
    ("detection/caveat", ...),
    ("review", None),
    ("review/softness", "soft"),
    ("volume_low_ml", 1e9),
    ("volume_high_ml", 0.001),
    ("findings", []),
    ("findings/0/tracking_uid", "2.25.7"),
    ("findings/0/side", "both"),
    ("findings/0/probability", 97),
    ("findings/0/probability", ...),
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
    ("review/doubt", 4),
    ("files", {"../mask.nii.gz": "x"}),
    ("something", "else"),
]


def change(record: Path, path: str, value: object) -> None:
    """Put a value into a JSON file, or take one out."""
    whole = json.loads(record.read_text("utf-8"))
    *above, last = [int(key) if key.isdigit() else key for key in path.split("/")]
    holder: Any = functools.reduce(lambda holder, key: holder[key], above, whole)
    if value is ...:
        del holder[last]
    else:
        holder[last] = value
    record.write_text(json.dumps(whole))


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


def is_damaged(call: Call, tampered: Path, form: str, study: Path, words: str) -> None:
    done = export(call, tampered, form, study, tampered.parent / "x")
    assert done.code == 4
    assert words in done.error
    assert done.error.isprintable()
    assert [path.name for path in tampered.parent.iterdir()] == ["tampered"]


@pytest.mark.parametrize("name", RECORDS)
def test_a_result_that_somebody_broke_is_damaged(
    name: str, study: Path, tampered: Path, call: Call
) -> None:
    (tampered / "result.json").write_text(RECORDS[name], "utf-8", "surrogateescape")
    for form in ("seg", "sr"):
        is_damaged(call, tampered, form, study, "(result.json)")


@pytest.mark.usefixtures("without_reading")
@pytest.mark.parametrize(("path", "value"), VALUES, ids=str)
def test_a_result_that_somebody_changed_is_damaged(
    path: str, value: object, study: Path, tampered: Path, call: Call
) -> None:
    change(tampered / "result.json", path, value)
    is_damaged(call, tampered, "sr", study, "(")


@pytest.mark.slow
@pytest.mark.usefixtures("without_reading")
@pytest.mark.parametrize(("path", "value"), WITHOUT_EFFECT, ids=str)
def test_measures_of_a_result_are_taken_anew(
    path: str, value: object, result: Path, study: Path, tampered: Path, tmp_path: Path, call: Call
) -> None:
    change(tampered / "result.json", path, value)
    assert export(call, tampered, "sr", study, tmp_path / "again.dcm").code == 0
    first, again = (
        pydicom.dcmread(path) for path in (result / "report.dcm", tmp_path / "again.dcm")
    )
    assert first.ContentSequence[-1].to_json() == again.ContentSequence[-1].to_json()


@pytest.mark.usefixtures("without_reading")
@pytest.mark.parametrize("name", MASKS)
def test_a_mask_that_somebody_changed_is_damaged(
    name: str, study: Path, tampered: Path, call: Call
) -> None:
    MASKS[name](tampered / "mask.nii.gz")
    is_damaged(call, tampered, "seg", study, "mask")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_record_that_would_be_read_for_ever_is_damaged(
    make: Callable[[Path], None], tampered: Path, study: Path, call: Call
) -> None:
    _replaced(make)(tampered / "result.json")
    is_damaged(call, tampered, "seg", study, "no regular file")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "name", "written"),
    [
        ("seg", "lesion", "lesion.dcm"),
        ("sr", "v1.2", "v1.2.dcm"),
        ("seg", "lesion.DCM", "lesion.DCM"),
        ("sr", "lesion.ima", "lesion.ima"),
        ("sr", None, "{}-report.dcm"),
    ],
)
def test_an_export_has_a_name_with_a_suffix(
    form: str,
    name: str | None,
    written: str,
    result: Path,
    study: Path,
    tmp_path: Path,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    written = written.format(json.loads((result / "result.json").read_text("utf-8"))["study_id"])
    arguments = ("export", result, "--to", form, "--source", study)
    arguments += ("-o", name) if name else ()
    assert call(*arguments).out.splitlines()[-1] == written
    before = Path(written).read_bytes()
    assert call(*arguments).code == 7
    assert Path(written).read_bytes() == before
