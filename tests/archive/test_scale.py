"""docs/scale.md: its scripts are run, but for Slurm and Nextflow themselves; its benchmark, small."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from gliosight.phantom import PhantomSpec, make_phantom, write_lgg, write_nifti
from gliosight.study import MrSequence
from tests.conftest import REPOSITORY
from tests.test_readme import _unknown

PAGE = (REPOSITORY / "docs" / "scale.md").read_text("utf-8")
# By language, and by the name that the first comment of a block gives it.
BLOCKS = re.findall(r"^```(bash|python|nextflow)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SCRIPTS = {
    re.findall(r"^(?:#|//) (\S+)$", text, re.MULTILINE)[0]: (language, text)
    for language, text in BLOCKS
}
SLURM = ("submit-parts.sh", "part.sh", "submit-bids.sh", "participants.sh")
SHELL = (*SLURM, "bids.nf")
POSIX = pytest.mark.skipif(os.name != "posix", reason="the scripts are for bash")
# In place of Slurm, which no test can count on: the tasks of a job one after the other, here and now.
SBATCH = r"""#!/bin/bash
last=0
for word in "$@"; do
  case $word in
    --array=0-*) last=${word#--array=0-} ;;
    --wrap=*) bash -c "${word#--wrap=}" ;;
    --parsable) echo 1 ;;
    *.sh)
      for ((SLURM_ARRAY_TASK_ID = 0; SLURM_ARRAY_TASK_ID <= last; SLURM_ARRAY_TASK_ID++)); do
        export SLURM_ARRAY_TASK_ID SLURM_CPUS_PER_TASK=1
        bash "$word" >&2
      done ;;
  esac
done
true
"""


def script(name: str) -> str:
    """The text of a script; what Nextflow gives to the shell is made of its first string."""
    language, text = SCRIPTS[name]
    if language == "nextflow":
        text = re.sub(r"\$\{[^}]*\}", "x", "\n".join(re.findall(r'"""(.*?)"""', text, re.DOTALL)))
        text = text.replace("\\$", "$").replace("\\\\", "\\")
    return text


def run(name: str, folder: Path, changes: Mapping[str, object]) -> str:
    """Run a script in a folder; the values that the page exports are replaced."""
    for other, (_, text) in SCRIPTS.items():
        changed = text
        for variable, value in changes.items():
            changed = re.sub(rf"\b{variable}=\S+", f"{variable}='{value}'", changed)
        (folder / other).write_text(changed)
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    (tools / "sbatch").write_text(SBATCH)
    (tools / "gliosight").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gliosight "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", name], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_page_has_all_scripts() -> None:
    assert SCRIPTS.keys() == {*SHELL, "one_table.py"}


@POSIX
@pytest.mark.parametrize("name", SHELL)
def test_scripts_are_shell(name: str) -> None:
    done = subprocess.run(
        ["bash", "-n"], input=script(name), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_the_scripts_call_exists() -> None:
    calls = [
        call.replace("\\\n", " ").replace('"', " ").split()[1:]
        for name in SHELL
        for call in re.findall(r"(?<!/)gliosight (?:\\\n|[^\n'|])*", script(name))
    ]
    assert sorted(words[0] for words in calls) == ["batch", "bids", "bids", "bids", "bids"]
    assert [_unknown(words) for words in calls] == [None] * 5
    assert _unknown([*calls[0], "--no-such"]) == "--no-such"


@POSIX
@pytest.mark.slow
def test_an_archive_in_parts_and_one_table_of_all(tmp_path: Path) -> None:
    archive, results = tmp_path / "my archive", tmp_path / "results"
    for seed, name in enumerate(("a", "b b", "c")):
        for write in (write_lgg, write_nifti):
            folder = archive / name / write.__name__
            write(make_phantom(PhantomSpec(slices=3, seed=seed + 1)), folder)
    broken = archive / "c" / "broken" / "x_flair.nii"
    broken.parent.mkdir()
    broken.write_bytes(b"no image")
    changes = {"ARCHIVE": archive, "RESULTS": results, "FOLDERS": 2}
    first = run("submit-parts.sh", tmp_path, changes)
    assert (first.count("4 of 4 studies"), first.count("2 of 3 studies")) == (1, 1)
    made = {path: path.stat().st_mtime_ns for path in results.glob("*/*/result.json")}
    assert len(made) == 6
    shutil.rmtree(next(iter(made)).parent)  # one was lost
    run("submit-parts.sh", tmp_path, changes)
    again = {path: path.stat().st_mtime_ns for path in results.glob("*/*/result.json")}
    assert len(again.items() & made.items()) == 5
    assert again.keys() == made.keys()
    call = [sys.executable, str(tmp_path / "one_table.py"), str(results)]
    subprocess.run(call, check=True)
    with (results / "studies.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    assert {results / row["out"] / "result.json" for row in rows if row["out"]} == again.keys()
    assert [row["status"] for row in rows if not row["out"]] == ["error"]


@POSIX
@pytest.mark.slow
def test_a_bids_data_set_in_tasks(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "data" / "derivatives" / "gliosight"
    spec = PhantomSpec(slices=3, sequences=(MrSequence.FLAIR,))
    (flair,) = write_nifti(make_phantom(spec), tmp_path / "made").glob("*_flair.nii.gz")
    for name in ("sub-1", "sub-2", "sub-3"):
        (data / name / "anat").mkdir(parents=True)
        if name != "sub-2":
            shutil.copy(flair, data / name / "anat" / f"{name}_FLAIR.nii.gz")
    changes = {"DATA": data, "OUT": out, "WORK": tmp_path / "work", "PARTICIPANTS": 2}
    run("submit-bids.sh", tmp_path, changes)
    with (out / "group_sessions.tsv").open(encoding="utf-8", newline="") as file:
        rows = {row["name"]: row["status"] for row in csv.DictReader(file, delimiter="\t")}
    assert list(rows) == ["sub-1", "sub-2", "sub-3"]
    assert rows["sub-2"] == "error"
    assert "error" not in (rows["sub-1"], rows["sub-3"])
    assert {path.name for path in (tmp_path / "work").iterdir()} >= {"sub-1", "sub-3"}


@pytest.mark.slow
def test_the_benchmark_small() -> None:
    call = [sys.executable, str(REPOSITORY / "benchmarks" / "scale.py")]
    call += ["--studies", "3", "6", "--dicom", "2", "--broken", "4", "--phantoms", "0"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| NIfTI studies of 3 files, all done | 3 | 6 |" in done.stdout
    for name in ("find the studies", "read the ledger", "size of index.html", "its memory"):
        assert len(re.findall(rf"^\| {name} \|.*\d.*\|$", done.stdout, re.MULTILINE)) == 2
    assert re.search(r"^\| processor time of a study \| \d+\.\d\d ms \|$", done.stdout, re.M)
