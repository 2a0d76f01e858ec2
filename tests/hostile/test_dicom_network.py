"""Awkward DICOM, the whole way through the network: masks, objects, identity and escapes.

The rows of the table that need an analysis; the others are in test_dicom_refused.py and test_dicom_read.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from gliosight.archive.ledger import FOLDER
from gliosight.cli import run
from gliosight.infer.model import Model
from gliosight.phantom import Phantom, PhantomSpec, make_phantom
from gliosight.pipeline import Settings, analyze_study
from gliosight.read import Request, read
from gliosight.study import Study
from tests.support.dicom_phantom import SYNTAXES

from .asserting import Capture, tree
from .builders_dicom import HEAD, OTHER, edit, files, header, preamble, study, wide


@pytest.fixture(scope="module")
def lesion() -> Phantom:
    return make_phantom(PhantomSpec(seed=4, slices=5))


def mask_of(found: Study, model: Model) -> np.ndarray:
    return analyze_study(found, model, Settings()).decision.mask


@pytest.fixture(scope="module")
def plain(
    lesion: Phantom, model: Model, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Study, np.ndarray]:
    """The study as it is read uncompressed, and its mask."""
    found = read(Request(study(tmp_path_factory.mktemp("plain"), lesion)))
    mask = mask_of(found, model)
    assert mask.any()
    return found, mask


LOSSY = {"jpeg-baseline", "jpeg-extended", "jpeg-ls-near", "j2k-lossy", "htj2k-lossy"}


@pytest.mark.slow
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_mask_in_every_transfer_syntax(
    syntax: str, lesion: Phantom, model: Model, plain: tuple[Study, np.ndarray], tmp_path: Path
) -> None:
    found = read(Request(study(tmp_path, lesion, syntax=syntax)))
    mask = mask_of(found, model)
    lossy = "LOSSY_SOURCE" in {one.code for one in found.flags}
    assert lossy == (syntax in LOSSY)
    if lossy:
        both = np.count_nonzero(mask & plain[1])
        assert 2 * both / (np.count_nonzero(mask) + np.count_nonzero(plain[1])) >= 0.97
        return
    for name, volume in plain[0].sequences.items():
        assert np.array_equal(found.sequences[name].values, volume.values)
    assert np.array_equal(mask, plain[1])


def analyse(path: Path, out: Path, *more: str) -> dict[str, Any]:
    assert run(["analyze", str(path), "-o", str(out), "-q", *more]) == 0
    told = json.loads((out / "result.json").read_text("utf-8"))
    told["codes"] = {one["code"] for one in told["flags"]}
    return dict(told)


OTHERS = {"result.json", "report.html", "overview.png", "findings.csv", "mask.nii.gz"}


@pytest.mark.slow
def test_stripped_headers_without_a_frame_of_reference(tmp_path: Path, capsys: Capture) -> None:
    path = study(
        tmp_path / "given", stripped=True, no_frame_of_reference=True, descriptions="usual"
    )
    out = tmp_path / "out"
    told = analyse(path, out)
    assert "SEG_NOT_WRITTEN" in told["codes"]
    assert {one.name for one in out.iterdir()} == OTHERS | {"report.dcm"}
    report = pydicom.dcmread(out / "report.dcm")
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyTime"):
        assert report[keyword].is_empty  # Type 2: there, and empty
    capsys.readouterr()
    target = tmp_path / "seg.dcm"
    call = ["export", str(out), "--to", "seg", "--source", str(path), "-o", str(target)]
    assert run(call) == 5
    (line,) = capsys.readouterr().err.splitlines()
    assert "frame of reference" in line
    assert not target.exists()


@pytest.mark.slow
def test_not_assessed_has_no_objects(tmp_path: Path) -> None:
    path = study(tmp_path / "given")
    for one in files(path):
        edit([one], PixelData=bytes(len(pydicom.dcmread(one).PixelData)))
    told = analyse(path, tmp_path / "out", "--probability")
    assert told["status"] == "not assessed"
    assert "NO_CONTRAST" in told["codes"]
    assert not list((tmp_path / "out").glob("*.dcm"))


@pytest.mark.slow
def test_without_geometry_there_are_no_millilitres(tmp_path: Path) -> None:
    told = analyse(wide(tmp_path / "given"), tmp_path / "out")
    assert "NO_GEOMETRY" in told["codes"]
    assert told["volume_ml"] is None


@pytest.mark.slow
@pytest.mark.parametrize("evil", ["../../x", "/srv/evil", "..\\..\\x", "1.2\x00.3", "<b>=cmd"])
def test_uids_that_lead_outside(
    evil: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Nothing is named by a UID, whatever stands in it."""
    path = study(tmp_path / "given")
    for number, one in enumerate(files(path)):
        edit(
            [one],
            StudyInstanceUID=evil,
            SeriesInstanceUID=evil,
            FrameOfReferenceUID=evil,
            SOPInstanceUID=f"{evil}{number}",
        )
    before = tree(tmp_path)
    work = tmp_path / "a" / "b" / "work"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    assert run(["analyze", str(path), "-q"]) == 0
    assert capsys.readouterr().err == ""
    (out,) = work.iterdir()
    assert out.name.removesuffix("-gliosight").isalnum()
    made = {one.name for one in out.iterdir()}
    assert made >= OTHERS
    assert not any(name == "x" or "evil" in name for name in made)
    inside = f"{out.relative_to(tmp_path).as_posix()}/"
    assert {name for name in tree(tmp_path) if not name.startswith(inside)} == set(before)
    for name in ("result.json", "report.html"):
        assert evil not in (out / name).read_text("utf-8")


@pytest.mark.slow
def test_an_executable_preamble_is_not_passed_on(tmp_path: Path) -> None:
    analyse(preamble(tmp_path / "given"), tmp_path / "out", "--probability")
    made = sorted((tmp_path / "out").glob("*.dcm"))
    assert [one.name for one in made] == ["probability.dcm", "report.dcm", "segmentation.dcm"]
    for one in made:
        assert one.read_bytes()[:132] == bytes(128) + b"DICM"


@pytest.mark.slow
def test_identity_is_in_no_name_log_or_text(tmp_path: Path, capfd: Any, caplog: Any) -> None:
    path = study(tmp_path / "given", identity="unicode")
    first = header(files(path)[0])
    secrets = {str(first.PatientID), str(first.StudyInstanceUID), str(first.SeriesInstanceUID)}
    for group in (first.PatientName.alphabetic, first.PatientName.ideographic):
        secrets |= {part for part in str(group).split("^") if len(part) > 1}
    assert len(secrets) > 4
    renamed = path.rename(tmp_path / "given" / "export")  # its name is no secret to its owner
    for number, one in enumerate(files(renamed)):
        one.rename(renamed / f"{number}.dcm")
    out = tmp_path / "out"
    assert run(["analyze", str(renamed), "-o", str(out)]) == 0
    assert run(["inspect", str(renamed), "--pixels"]) == 0
    (renamed / "0.dcm").write_bytes((renamed / "0.dcm").read_bytes()[:-99])
    assert run(["analyze", str(renamed), "-o", str(tmp_path / "second")]) == 4
    said = "".join(capfd.readouterr()) + caplog.text
    said += "".join(one.name for one in out.iterdir())
    # `inspect` lists SeriesInstanceUIDs for --flair.
    assert not {one for one in secrets if one in said} - {str(first.SeriesInstanceUID)}
    for name in ("result.json", "report.html", "findings.csv"):
        text = (out / name).read_text("utf-8")
        assert not {one for one in secrets if one in text or ascii(one)[1:-1] in text}
    for name in ("overview.png", "mask.nii.gz"):
        raw = (out / name).read_bytes()
        assert not {one for one in secrets if one.encode() in raw}
    # The standard demands it here.
    assert pydicom.dcmread(out / "segmentation.dcm").PatientName == first.PatientName


@pytest.mark.slow
def test_words_of_the_header_are_escaped(tmp_path: Path, capsys: Capture) -> None:
    evil = "<script>alert(1)</script> \x1b[31m=cmd|'"
    path = study(tmp_path / "given")
    edit(files(path), SeriesDescription=evil, ProtocolName=evil, SequenceName=evil, StudyID=evil)
    edit(files(path), ImageType=["ORIGINAL", "PRIMARY", "<b>\x1b[2J"], Manufacturer=evil)
    assert run(["inspect", str(path), "--pixels"]) == 0
    assert run(["analyze", str(path), "-o", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "\x1b" not in captured.out
    for name in ("report.html", "result.json", "findings.csv"):
        text = (tmp_path / "out" / name).read_text("utf-8")
        assert "\x1b" not in text
        assert "<script>alert" not in text or name == "result.json"


@pytest.mark.slow
def test_several_patients_under_one_path(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "given"
    path.mkdir()
    for number, head in enumerate((HEAD, OTHER)):
        for one in files(study(tmp_path / f"{number}", head)):
            one.rename(path / f"{number}-{one.name}")
    out = tmp_path / "out"
    assert run(["analyze", str(path), "-o", str(out), "-q"]) == 0
    assert capsys.readouterr().err == ""
    folders = sorted(one.name for one in out.iterdir() if one.is_dir() and one.name != FOLDER)
    assert len(folders) == 2
    rows = (out / "studies.csv").read_text("utf-8").splitlines()
    assert len(rows) == 3
    for name in folders:
        assert {one.name for one in (out / name).iterdir()} >= OTHERS
        assert sum(name in row for row in rows) == 1
