"""``gliosight bids``: BIDS names, sidecars and tables; what is kept; and that BIDS's own validator agrees."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from gliosight.analysis import RESEARCH_USE
from gliosight.archive.bids.derivatives import WORK, _files_of
from gliosight.archive.bids.sessions import entities_of
from gliosight.cli import run
from gliosight.cli.bids import _repeated
from gliosight.phantom import PhantomSpec, make_phantom, write_nifti
from gliosight.study import MrSequence

SUFFIXES = {"flair": "FLAIR", "t1": "T1w", "t1ce": "ce-GADOLINIUM_T1w"}
ALL = tuple(MrSequence)


def write_session(
    root: Path, session: str, side: str = "left", sequences: tuple[MrSequence, ...] = ALL
) -> Path:
    """A phantom under BIDS names; its ``anat``."""
    spec = PhantomSpec(slices=3, lesion_side=side, sequences=sequences)  # type: ignore[arg-type]
    made = write_nifti(make_phantom(spec), root.parent / "phantoms" / session)
    anat = root / session / "anat"
    anat.mkdir(parents=True)
    for name, suffix in SUFFIXES.items():
        for path in made.glob(f"*_{name}.nii.gz"):
            shutil.copy(path, anat / f"{session.replace('/', '_')}_{suffix}.nii.gz")
    return anat


def bids(*words: object) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "gliosight", "bids", *map(str, words)]
    return subprocess.run(call, capture_output=True, text=True, check=False)


def files(folder: Path) -> set[str]:
    """All files below a folder but those in hidden folders."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if path.parts[0] != WORK}


def made(out: Path) -> dict[str, int]:
    """When each result and each derivative was written."""
    paths = [*(out / WORK).glob("*/result.json"), *out.glob("sub-*/**/anat/*"), *out.glob("*.html")]
    return {str(path): path.stat().st_mtime_ns for path in paths}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sessions of one participant, one of another, and one without FLAIR."""
    root = tmp_path_factory.mktemp("bids") / "data"
    write_session(root, "sub-001/ses-1")
    write_session(root, "sub-001/ses-2", "right", (MrSequence.FLAIR,))
    write_session(root, "sub-002")
    anat = write_session(root, "sub-10")
    (anat / "sub-10_FLAIR.nii.gz").unlink()
    (root / "dataset_description.json").write_text(
        json.dumps({"Name": "phantoms", "BIDSVersion": "1.11.1", "DatasetDOI": "doi:10.0/x"})
    )
    return root


@pytest.fixture(scope="module")
def out(root: Path) -> Path:
    """The derivatives of all of them, and the pages and tables of the group."""
    out = root / "derivatives" / "gliosight"
    done = bids(root, out, "participant", "--probability", "--n-procs", "1")
    assert done.returncode == 10, done.stderr
    assert "3 of 4 sessions analysed" in done.stdout
    assert RESEARCH_USE in done.stdout
    # The session without FLAIR is explained, with its place.
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert re.match(r"error: no FLAIR.*\(sub-10/anat\)", line), line
    done = bids(root, out, "group")
    assert done.returncode == 0, done.stderr
    assert "index.html" in done.stdout
    return out


@pytest.mark.slow
def test_names_are_those_of_the_specification(out: Path) -> None:
    stems = ["sub-001/ses-1/anat/sub-001_ses-1", "sub-001/ses-2/anat/sub-001_ses-2"]
    images = {
        f"{stem}_space-orig_label-tumor_{suffix}"
        for stem in (*stems, "sub-002/anat/sub-002")
        for suffix in ("mask.nii.gz", "mask.json", "probseg.nii.gz", "probseg.json")
    }
    names = ["sub-001_ses-1", "sub-001_ses-2", "sub-002"]
    reports = {f"{name}.html" for name in names}
    records = {f"logs/{name}.json" for name in (*names, "sub-10")}
    about = {"dataset_description.json", "README.md", ".bidsignore", "index.html"}
    tables = {"group_sessions.tsv", "group_sessions.json", "participants.tsv", "participants.json"}
    assert files(out) == images | reports | records | about | tables


@pytest.mark.slow
def test_the_sidecar_says_where_the_mask_comes_from(out: Path) -> None:
    stem = out / "sub-001" / "ses-2" / "anat" / "sub-001_ses-2_space-orig_label-tumor"
    flair = "bids:raw:sub-001/ses-2/anat/sub-001_ses-2_FLAIR.nii.gz"
    for suffix in ("mask", "probseg"):
        sidecar = json.loads(stem.with_name(f"{stem.name}_{suffix}.json").read_text())
        assert sidecar["Sources"] == [flair]
        assert sidecar["SpatialReference"] == flair
        assert sidecar["ResearchUseOnly"] == RESEARCH_USE
        assert sidecar.get("Type") == ("Lesion" if suffix == "mask" else None)
        low, high = sidecar["VolumeInterval90Ml"]
        assert low <= sidecar["VolumeMl"] <= high
        assert {"Verdict", "Probability", "Model", "ModelSHA256"} <= sidecar.keys()
    other = out / "sub-001" / "ses-1" / "anat" / "sub-001_ses-1_space-orig_label-tumor_mask.json"
    assert len(json.loads(other.read_text())["Sources"]) == 3
    described = json.loads((out / "dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"
    assert described["GeneratedBy"][0]["Name"] == "gliosight"
    assert RESEARCH_USE in described["GeneratedBy"][0]["Description"]
    assert described["SourceDatasets"] == [{"URL": "../..", "DOI": "doi:10.0/x"}]
    assert described["DatasetLinks"] == {"raw": "../.."}


@pytest.mark.slow
@pytest.mark.parametrize(("session", "sign"), [("sub-001/ses-1", -1), ("sub-001/ses-2", 1)])
def test_the_mask_is_that_of_analyze_on_its_side(
    root: Path, out: Path, session: str, sign: int, tmp_path: Path
) -> None:
    assert run(["analyze", str(root / session), "-o", str(tmp_path / "r"), "-q"]) == 0
    name = f"{session.replace('/', '_')}_space-orig_label-tumor_mask.nii.gz"
    ours = nibabel.load(out / session / "anat" / name)
    theirs = nibabel.load(tmp_path / "r" / "mask.nii.gz")
    assert np.array_equal(ours.affine, theirs.affine)
    mask = np.asarray(ours.dataobj)
    assert mask.any()
    assert np.array_equal(mask, np.asarray(theirs.dataobj))
    centre = nibabel.affines.apply_affine(ours.affine, np.argwhere(mask).mean(axis=0))
    assert np.sign(centre[0]) == sign  # RAS+: the patient's left is below zero


@pytest.mark.slow
def test_links_of_reports_and_page_lead_somewhere(out: Path) -> None:
    for path in out.glob("*.html"):
        text = path.read_text("utf-8")
        links = re.findall(r'href="\./([^"#]+)"', text)
        assert links
        assert [link for link in links if not (out / link).is_file()] == []
        assert RESEARCH_USE in text
    page = (out / "index.html").read_text("utf-8")
    assert page.count("data:image/jpeg") == 3
    assert "no FLAIR" in page


@pytest.mark.slow
def test_tables_of_the_group(out: Path) -> None:
    rows = {row["name"]: row for row in table(out / "group_sessions.tsv")}
    assert list(rows) == ["sub-001_ses-1", "sub-001_ses-2", "sub-002", "sub-10"]
    row = rows["sub-001_ses-2"]
    assert (row["participant_id"], row["session_id"]) == ("sub-001", "ses-2")
    mask = out / "sub-001/ses-2/anat/sub-001_ses-2_space-orig_label-tumor_mask"
    sidecar = json.loads(mask.with_suffix(".json").read_text())
    assert float(row["volume_ml"]) == sidecar["VolumeMl"]
    assert row["status"] == sidecar["Verdict"]
    failed = rows["sub-10"]
    assert (failed["status"], failed["volume_ml"], failed["findings"]) == ("error", "n/a", "n/a")
    assert failed["session_id"] == "n/a"
    assert "no FLAIR" in failed["error"]
    people = {row["participant_id"]: row for row in table(out / "participants.tsv")}
    assert people["sub-10"]["error"] == "1"
    assert sum(int(people["sub-001"][name]) for name in list(people["sub-001"])[1:]) == 2
    for name in ("group_sessions", "participants"):
        explained = json.loads((out / f"{name}.json").read_text())
        assert RESEARCH_USE in explained.pop("Description")
        assert list(explained) == list(table(out / f"{name}.tsv")[0])


@pytest.mark.slow
def test_a_second_run_analyses_and_writes_nothing(root: Path, out: Path) -> None:
    before = made(out)
    assert len(before) == 3 + 12 + 4
    assert bids(root, out, "participant", "--probability", "-q").returncode == 10
    assert made(out) == before
    done = bids(root, out, "participant", "--probability", "--dry-run")
    assert [line.split("  ")[1] for line in done.stdout.splitlines()[:3]] == ["done"] * 3
    assert "0 of 4 sessions to do" in done.stdout
    # A derivative that was removed comes back without an analysis.
    mask = next(out.glob("sub-002/anat/*_mask.nii.gz"))
    mask.unlink()
    done = bids(root, out, "participant", "--probability", "--participant-label", "002")
    assert (done.returncode, mask.is_file()) == (0, True)
    results = [name for name in before if name.endswith("result.json")]
    assert {name: made(out)[name] for name in results} == {name: before[name] for name in results}
    done = bids(root, out, "participant", "--participant-label", "002")  # no --probability
    assert (done.returncode, "other settings" in done.stderr) == (7, True)


@pytest.mark.slow
def test_the_validator_of_bids_agrees(out: Path, tmp_path: Path) -> None:
    beside = Path(sys.executable).with_name("bids-validator-deno")
    validator = shutil.which(beside) or shutil.which("bids-validator-deno")
    if validator is None:
        if os.environ.get("CI"):
            pytest.fail("bids-validator-deno is missing: install the extra test")
        pytest.skip("bids-validator-deno is not installed")

    def issues(folder: Path) -> list[tuple[str, str, str]]:
        call = [validator, str(folder), "--format", "json"]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        found = json.loads(done.stdout)["issues"]["issues"]
        return [(one["severity"], one["code"], one.get("location", "")) for one in found]

    # Who the authors are, gliosight does not know.
    assert issues(out) == [("warning", "TOO_FEW_AUTHORS", "/dataset_description.json")]
    # It does look: a wrong order of entities, and a sidecar without its space.
    wrong = shutil.copytree(out, tmp_path / "wrong", ignore=shutil.ignore_patterns(WORK))
    anat = wrong / "sub-002" / "anat"
    (anat / "sub-002_space-orig_label-tumor_mask.json").write_text('{"Type": "Lesion"}')
    probability = anat / "sub-002_space-orig_label-tumor_probseg.nii.gz"
    probability.rename(anat / "sub-002_label-tumor_space-orig_probseg.nii.gz")
    codes = {code for severity, code, _ in issues(wrong) if severity == "error"}
    assert len(codes) >= 2, codes


def listing(capsys: pytest.CaptureFixture[str], *words: object) -> list[dict[str, str]]:
    """What a dry run lists."""
    assert run(["bids", *map(str, words), "participant", "--dry-run", "--json"]) == 0
    rows: list[dict[str, str]] = json.loads(capsys.readouterr().out)["sessions"]
    return rows


def touch(root: Path, *names: str) -> None:
    """Files that are images by name and first bytes: enough where nothing is analysed."""
    image = nibabel.Nifti1Image(np.arange(64, dtype=np.uint8).reshape(4, 4, 4), np.eye(4))
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(image, root / name)


def test_a_dry_run_lists_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "data", tmp_path / "out"
    touch(root, "sub-2/anat/sub-2_FLAIR.nii", "sub-2/anat/sub-2_T1w.nii.gz")
    touch(root, "sub-10/ses-a/anat/sub-10_ses-a_T1w.nii.gz")
    (root / "sub-10" / "ses-b" / "func").mkdir(parents=True)
    first, without, empty = listing(capsys, root, out)
    assert first == {
        "session": "sub-2", "state": "to do", "FLAIR": "sub-2_FLAIR.nii", "T1": "sub-2_T1w.nii.gz"
    }  # fmt: skip
    assert (without["session"], without["state"]) == ("sub-10_ses-a", "cannot be analysed")
    assert "no FLAIR" in without["error"]
    assert "no folder anat (sub-10/ses-b/anat)" in empty["error"]
    assert run(["bids", str(root), str(out), "participant", "--dry-run"]) == 0
    assert "1 of 3 sessions to do" in capsys.readouterr().out
    assert not out.exists()


def test_labels_with_and_without_their_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "data", tmp_path / "out"
    for name in ("sub-01/ses-1", "sub-01/ses-2", "sub-02/ses-2", "sub-03"):
        touch(root, f"{name}/anat/{name.replace('/', '_')}_FLAIR.nii.gz")

    def chosen(*words: str) -> list[str]:
        assert run(["bids", *words, str(root), str(out), "participant", "--dry-run", "--json"]) == 0
        return [row["session"] for row in json.loads(capsys.readouterr().out)["sessions"]]

    assert chosen() == ["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-2", "sub-03"]
    labels = ("--participant-label", "01", "sub-03")
    assert chosen(*labels) == ["sub-01_ses-1", "sub-01_ses-2", "sub-03"]
    assert chosen("--participant_label=02") == ["sub-02_ses-2"]
    assert chosen("--session-label", "ses-2") == ["sub-01_ses-2", "sub-02_ses-2"]
    both = ("--session-label", "1", "2", "--participant-label", "02", "01")
    assert chosen(*both) == ["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-2"]
    for words, told in (
        (("--participant-label", "04"), "no participant sub-04 (--participant-label): choose from"),
        (("--session-label", "1", "9"), "no session ses-9 (--session-label): choose from ses-1"),
        (("--session-label", "1", "--participant-label", "03"), "there are no sessions"),
        (("--participant-label", "../01"), "no participant sub-../01"),
    ):
        assert run(["bids", str(root), str(out), "participant", "--dry-run", *words]) == 2
        assert told in capsys.readouterr().err
    assert list(_repeated(["a", "b", "group", "--session-label", "1", "2", "-q"])) == [
        "a", "b", "group", "--session-label", "1", "--session-label", "2", "-q"
    ]  # fmt: skip


def test_several_runs_and_acquisitions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The reader's choice, as ``analyze`` makes it: one study a session."""
    root = tmp_path / "data"
    touch(root, *(f"sub-1/anat/sub-1_run-{number}_FLAIR.nii.gz" for number in (1, 2)))
    touch(root, "sub-2/anat/sub-2_FLAIR.nii.gz", "sub-2/anat/sub-2_space-T1w_FLAIR.nii.gz")
    touch(root, *(f"sub-3/anat/sub-3_acq-{name}_FLAIR.nii.gz" for name in ("2d", "long")))
    runs, original, unclear = listing(capsys, root, tmp_path / "out")
    assert (runs["session"], runs["FLAIR"]) == ("sub-1", "sub-1_run-2_FLAIR.nii.gz")
    assert original["FLAIR"] == "sub-2_FLAIR.nii.gz"
    assert "2 files say FLAIR" in unclear["error"]
    assert "(sub-3/anat): choose one with --bids-filter-file FILE" in unclear["error"]


def test_a_filter_chooses_among_equally_good_flairs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out, file = tmp_path / "data", tmp_path / "out", tmp_path / "filter.json"
    touch(root, *(f"sub-1/anat/sub-1_acq-{name}_FLAIR.nii.gz" for name in ("fast", "long")))
    touch(root, "sub-1/anat/sub-1_T1w.nii.gz")
    touch(root, *(f"sub-1/anat/sub-1_ce-gd_run-{number}_T1w.nii.gz" for number in (1, 2)))
    touch(root, "sub-2/anat/sub-2_acq-fast_FLAIR.nii.gz")
    file.write_text('{"flair": {"acquisition": "long"}, "t1ce": {"run": [1, null]}}')
    words = ["bids", str(root), str(out), "participant", "--dry-run"]
    option = ["--bids-filter-file", str(file)]
    assert "choose one with --bids-filter-file" in listing(capsys, root, out)[0]["error"]
    assert run([*words, *option, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["filter"] == {"FLAIR": {"acquisition": ["long"]}, "T1C": {"run": ["1", None]}}
    chosen, without = answer["sessions"]
    assert chosen == {
        "session": "sub-1", "state": "to do", "FLAIR": "sub-1_acq-long_FLAIR.nii.gz",
        "T1": "sub-1_T1w.nii.gz", "T1C": "sub-1_ce-gd_run-1_T1w.nii.gz",
        "left_out": ["sub-1_acq-fast_FLAIR.nii.gz", "sub-1_ce-gd_run-2_T1w.nii.gz"],
    }  # fmt: skip
    assert "--bids-filter-file leaves out every FLAIR: sub-2_acq-fast" in without["error"]
    assert run([*words, *option]) == 0
    text = capsys.readouterr().out
    assert "FLAIR: acquisition long\nT1C: run 1 or absent\n" in text
    assert "left out: sub-1_acq-fast_FLAIR.nii.gz, sub-1_ce-gd_run-2_T1w.nii.gz\n" in text


def test_a_damaged_file_that_a_filter_leaves_out_costs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out, file = tmp_path / "data", tmp_path / "out", tmp_path / "filter.json"
    touch(root, *(f"sub-1/anat/sub-1_run-{number}_FLAIR.nii.gz" for number in (1, 2)))
    (root / "sub-1" / "anat" / "sub-1_run-2_FLAIR.nii.gz").write_bytes(b"cut off")
    assert "is cut off" in listing(capsys, root, out)[0]["error"]
    file.write_text('{"flair": {"run": 1}}')
    (row,) = listing(capsys, root, out, "--bids-filter-file", file)
    assert (row["state"], row["FLAIR"]) == ("to do", "sub-1_run-1_FLAIR.nii.gz")


def test_subject_and_session_of_a_filter_choose_sessions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out, file = tmp_path / "data", tmp_path / "out", tmp_path / "filter.json"
    for name in ("sub-01/ses-1", "sub-01/ses-02", "sub-02/ses-1", "sub-03"):
        touch(root, f"{name}/anat/{name.replace('/', '_')}_FLAIR.nii.gz")

    def chosen(query: object) -> list[str]:
        file.write_text(json.dumps({"flair": query}))
        rows = listing(capsys, root, out, "--bids-filter-file", file)
        return [row["session"] for row in rows]

    assert chosen({"session": "1"}) == ["sub-01_ses-1", "sub-02_ses-1"]
    assert chosen({"session": "*", "subject": "01"}) == ["sub-01_ses-1", "sub-01_ses-02"]
    assert chosen({"session": [None, "02"]}) == ["sub-01_ses-02", "sub-03"]
    file.write_text('{"flair": {"session": "3"}}')
    option = ["--bids-filter-file", str(file)]
    assert run(["bids", str(root), str(out), "participant", *option]) == 2
    assert "session of flair choose none of 4 sessions" in capsys.readouterr().err


@pytest.mark.slow
def test_a_result_with_a_filter_says_what_was_left_out(tmp_path: Path) -> None:
    """Another filter makes another result of the session."""
    root, out, file = tmp_path / "data", tmp_path / "out", tmp_path / "filter.json"
    anat = write_session(root, "sub-1", sequences=(MrSequence.FLAIR,))
    other_anat = write_session(root, "sub-2", "right", sequences=(MrSequence.FLAIR,))
    (anat / "sub-1_FLAIR.nii.gz").rename(anat / "sub-1_acq-long_FLAIR.nii.gz")
    (other_anat / "sub-2_FLAIR.nii.gz").rename(anat / "sub-1_acq-fast_FLAIR.nii.gz")
    shutil.rmtree(root / "sub-2")
    for name, other in (("long", "fast"), ("fast", "long")):
        file.write_text(json.dumps({"flair": {"acquisition": name}}))
        done = bids(root, out, "participant", "--bids-filter-file", file)
        assert done.returncode == 0, done.stderr
        (sidecar,) = (out / "sub-1" / "anat").glob("*_mask.json")
        assert sidecar.name == f"sub-1_acq-{name}_space-orig_label-tumor_mask.json"
        source = f"bids:raw:sub-1/anat/sub-1_acq-{name}_FLAIR.nii.gz"
        assert json.loads(sidecar.read_text())["Sources"] == [source]
        (result,) = (out / WORK).glob("*/result.json")
        messages = [flag["message"] for flag in json.loads(result.read_text())["flags"]]
        left_out = f"sub-1_acq-{other}_FLAIR.nii.gz"
        assert f"Files that --bids-filter-file leaves out were not read: {left_out}." in messages
    assert bids(root, out, "group", "--bids-filter-file", file).returncode == 0
    assert [row["status"] for row in table(out / "group_sessions.tsv")] == ["tumour found"]


def test_names_within_a_session_stay_within_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of somebody else in ``anat`` does not take the name of another participant's results."""
    root = tmp_path / "data"
    touch(root, "sub-1/anat/sub-1_FLAIR.nii.gz", "sub-1/anat/sub-2_FLAIR.nii.gz")
    touch(root, "sub-2/anat/sub-2_FLAIR.nii.gz")
    names = [row["session"] for row in listing(capsys, root, tmp_path / "out")]
    assert names == ["sub-1", "sub-1-2", "sub-2"]


@pytest.mark.parametrize(
    ("image", "entities"),
    [
        ("sub-1_ses-1_FLAIR.nii.gz", "sub-1_ses-1"),
        ("sub-1_ses-1_acq-3D_run-2_FLAIR.nii", "sub-1_ses-1_acq-3D_run-2"),
        ("sub-1_ses-1_space-T1w_desc-x_FLAIR.nii.gz", "sub-1_ses-1"),  # not of a raw image
        ("sub-1_ses-10_FLAIR.nii.gz", "sub-1_ses-1"),  # of another session
        ("flair.nii.gz", "sub-1_ses-1"),
    ],
)
def test_entities_of_a_derivative(image: str, entities: str) -> None:
    assert entities_of(image, "sub-1_ses-1") == entities


def test_a_record_names_files_of_the_derivatives_only() -> None:
    names = ["sub-1/anat/x.json", "sub-1/../../x", "../x", "/x", "index.html", "", "sub-1.html"]
    assert _files_of({"files": names}) == ["sub-1/anat/x.json", "sub-1.html"]


@pytest.mark.slow
def test_what_replaces_an_earlier_derivative(tmp_path: Path) -> None:
    """The name has the run that was taken; what was taken before is removed."""
    root, out = tmp_path / "data", tmp_path / "out"
    anat = write_session(root, "sub-1", sequences=(MrSequence.FLAIR,))
    flair = anat / "sub-1_FLAIR.nii.gz"
    first = flair.rename(anat / "sub-1_run-1_FLAIR.nii.gz")
    assert bids(root, out, "participant").returncode == 0
    names = {path.name for path in (out / "sub-1" / "anat").iterdir()}
    stem = "sub-1_run-{}_space-orig_label-tumor_mask"
    assert names == {stem.format(1) + ".nii.gz", stem.format(1) + ".json"}
    shutil.copy(first, anat / "sub-1_run-2_FLAIR.nii.gz")
    assert bids(root, out, "participant").returncode == 0
    names = {path.name for path in (out / "sub-1" / "anat").iterdir()}
    assert names == {stem.format(2) + ".nii.gz", stem.format(2) + ".json"}
    # Also where only the name has changed.
    (anat / "sub-1_run-2_FLAIR.nii.gz").rename(anat / "sub-1_run-3_FLAIR.nii.gz")
    assert bids(root, out, "participant").returncode == 0
    names = {path.name for path in (out / "sub-1" / "anat").iterdir()}
    assert names == {stem.format(3) + ".nii.gz", stem.format(3) + ".json"}
    for path in anat.glob("*_FLAIR.nii.gz"):
        path.write_bytes(path.read_bytes()[:400])
    assert bids(root, out, "participant").returncode == 11
    assert list((out / "sub-1" / "anat").iterdir()) == []
    assert not (out / "sub-1.html").exists()
    done = bids(root, out, "group")
    assert (done.returncode, "0 of 1 sessions have results" in done.stdout) == (0, True)


@pytest.mark.slow
def test_a_participant_a_task_and_then_the_group(tmp_path: Path) -> None:
    """As on a cluster: tasks at the same time, each with its own work folder."""
    root, out = tmp_path / "data", tmp_path / "out"
    for name in ("sub-1", "sub-2", "sub-3"):
        write_session(root, name, sequences=(MrSequence.FLAIR,))
    call = [sys.executable, "-m", "gliosight", "bids", str(root), str(out), "participant", "-q"]
    tasks = [
        subprocess.Popen([*call, "-w", str(tmp_path / label), "--participant-label", label])
        for label in ("1", "2")
    ]
    assert [task.wait() for task in tasks] == [0, 0]
    assert not (out / WORK).exists()
    done = bids(root, out, "group", "--json")
    assert done.returncode == 0, done.stderr
    sessions = json.loads(done.stdout)["sessions"]
    assert [one["exit_code"] for one in sessions] == [0, 0, 3]
    assert "not analysed yet (sub-3" in sessions[2]["error"]
    assert bids(root, out, "group", "--participant-label", "1").returncode == 0
    assert [row["name"] for row in table(out / "group_sessions.tsv")] == ["sub-1"]


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, other = tmp_path / "data", tmp_path / "fmriprep"
    touch(root, "sub-1/anat/sub-1_FLAIR.nii.gz")
    other.mkdir()
    foreign = other / "dataset_description.json"
    foreign.write_text('{"Name": "x", "GeneratedBy": [{"Name": "fMRIPrep"}]}')
    single = tmp_path / "single"
    single.mkdir()
    (single / "result.json").write_text("{}")
    for words, code, told in (
        ((root, root, "participant"), 7, "OUT is BIDS_DIR itself"),
        ((root, single, "participant"), 7, "single is the result folder of a single study"),
        ((root, other, "participant"), 7, "that gliosight did not write"),
        ((root, tmp_path / "out", "group"), 3, "no session was analysed"),
        ((other, tmp_path / "out", "participant"), 3, "no folders sub-*"),
        ((tmp_path / "nowhere", tmp_path / "out", "participant"), 3, "no such file or folder"),
        ((root, tmp_path / "out", "cohort"), 2, "participant"),
    ):
        assert run(["bids", *map(str, words)]) == code
        assert told in capsys.readouterr().err
    assert json.loads(foreign.read_text())["Name"] == "x"
    assert {path.name for path in root.iterdir()} == {"sub-1"}
