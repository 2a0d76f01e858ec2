"""``gliosight follow-up``: what it reads, in which order, and what it refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
import pytest

pytest.importorskip("SimpleITK", reason="the extra followup is not installed")

from gliosight import pipeline
from gliosight.cli import run
from gliosight.infer.model import Model
from gliosight.phantom import PhantomSpec, make_phantom, write_nifti
from gliosight.phantom.dicom import write_dicom
from gliosight.study import MrSequence
from tests.archive.heads import scanned
from tests.read.builders import write_nifti as bare_nifti


class Done(NamedTuple):
    """What a call left."""

    code: int
    out: str
    err: str


Call = Callable[..., Done]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command in this process."""

    def call(*arguments: object) -> Done:
        capsys.readouterr()
        code = run(["follow-up", *map(str, arguments)])
        return Done(code, *capsys.readouterr())

    return call


@pytest.fixture
def stub(stub_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Analysing without the network."""
    monkeypatch.setattr(pipeline, "load_model", lambda *_, **__: stub_model)


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A phantom and its next scan, lesion doubled, as NIfTI in folders with dates; the later one first."""
    folder = tmp_path_factory.mktemp("person")
    after = write_nifti(scanned(growth=1.0, again=True)[0], folder / "2024-06-01")
    before = write_nifti(scanned()[0], folder / "2024-03-01")
    return after.parent, before.parent


@pytest.mark.slow
@pytest.mark.usefixtures("stub")
def test_two_studies_in_any_order(studies: tuple[Path, Path], tmp_path: Path, call: Call) -> None:
    done = call(*studies, "-o", tmp_path / "out")
    assert done.code == 0
    assert "Volume grown: +" in done.out
    assert "2 studies over 92 days, ordered by the dates in the names" in done.out
    assert "right" in done.out
    assert "Research use only" in done.out
    record = json.loads((tmp_path / "out" / "follow-up.json").read_text("utf-8"))
    assert [visit["days"] for visit in record["visits"]] == [0, 92]
    assert record["visits"][0]["source"].startswith("2024-03-01")
    lesion = record["lesions"][0]  # the stand-in for the network marks specks, too
    assert lesion["side"] == "right"
    assert lesion["changes"][0]["kind"] == "grown"
    # again, as one folder
    done = call(studies[0].parent, "-o", tmp_path / "out", "--json")
    assert done.code == 7
    assert "not empty" in done.out
    done = call(studies[0].parent, "-o", tmp_path / "out", "--json", "--overwrite")
    value = json.loads(done.out)
    assert value.pop("out") == str(tmp_path / "out")
    assert value["total"] == record["total"]
    done = call(studies[0].parent, "-o", tmp_path / "out", "-q", "--overwrite")
    assert done == (0, "", "")


@pytest.mark.slow
@pytest.mark.usefixtures("stub")
def test_result_folders_need_their_images(
    studies: tuple[Path, Path], tmp_path: Path, call: Call
) -> None:
    folders = []
    for study in studies:
        out = tmp_path / f"{study.name}-gliosight"
        assert run(["analyze", str(study), "-o", str(out), "-q"]) == 0
        folders.append(out)
    done = call(*folders, "-o", tmp_path / "out")
    assert done.code == 5
    assert "holds no images" in done.err
    assert "--source" in done.err
    done = call(*folders, "--source", studies[0].parent, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert "Volume grown: +" in done.out
    assert "92 days" in done.out
    # a mask that somebody corrected has no interval
    import nibabel as nib

    path = folders[0] / "mask.nii.gz"
    image = nib.load(path)
    values = np.asarray(image.dataobj).copy()
    values[values.nonzero()[0][0]] = 0
    nib.save(nib.Nifti1Image(values, image.affine, image.header), path)
    call(*folders, "--source", studies[0].parent, "-o", tmp_path / "out2")
    record = json.loads((tmp_path / "out2" / "follow-up.json").read_text("utf-8"))
    change = record["total"]["changes"][0]
    assert change["kind"] == "cannot tell"
    assert "interval" in change["reason"]
    assert change["ml"] > 0
    # and a result beside a study
    done = call(folders[1], studies[0], "--source", studies[1], "-o", tmp_path / "out3")
    assert done.code == 0, done.err


@pytest.mark.slow
@pytest.mark.usefixtures("stub")
def test_dicom_goes_by_its_dates_which_are_written_nowhere(tmp_path: Path, call: Call) -> None:
    folders = []
    for name, again, date in (("a", True, "20190607"), ("b", False, "20190507")):
        folder = write_dicom(scanned(again=again)[0], tmp_path / name)
        for path in folder.rglob("*.IMA"):
            header: Any = pydicom.dcmread(path)
            header.AcquisitionDate = header.SeriesDate = header.StudyDate = date
            header.save_as(path)
        folders.append(folder)
    done = call(*folders, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert "over 31 days, ordered by the acquisition dates of the DICOM headers" in done.out
    for path in (tmp_path / "out").iterdir():
        text = path.read_bytes()
        for identity in (b"20190507", b"2019-05-07", b"PHANTOM^SYNTHETIC", b"PHANTOM-0"):
            assert identity not in text, path.name
    assert "20190507" not in done.out


def test_what_is_refused(tmp_path: Path, call: Call) -> None:
    spec = PhantomSpec(slices=3, matrix=32, pixel_mm=3.0, slice_spacing_mm=7.0)
    study = write_nifti(make_phantom(spec), tmp_path / "nifti")
    values = make_phantom(spec).sequences[MrSequence.FLAIR]
    bare = bare_nifti(tmp_path / "flair.nii.gz", values, codes=(0, 0))
    out = ("-o", tmp_path / "out")
    for arguments, code, words in (
        ((), 2, "no STUDY given"),
        ((study,), 2, "1 study, and a follow-up needs two"),
        ((study, bare), 5, "no geometry"),
        ((study, tmp_path / "missing"), 3, "no such file"),
    ):
        done = call(*arguments, *out)
        assert done.code == code, done
        (line,) = done.err.splitlines()
        assert line.startswith("error: ")
        assert words in line
    assert not (tmp_path / "out").exists()


def test_without_simpleitk_the_line_that_installs_it_is_told(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("gliosight.archive.follow_up")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "SimpleITK", None)

    class Missing:
        """As where the package is not installed."""

        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "SimpleITK":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.delitem(sys.modules, "SimpleITK")
    monkeypatch.setattr(sys, "meta_path", [Missing, *sys.meta_path])
    done = call("a", "b")
    assert done.code == 8
    assert "needs the package SimpleITK" in done.err
    assert "followup" in done.err
