"""What the README and the pages tell people to type exists; the README's blocks are run as they stand.

The marked blocks (``sh``, ``python``) are run in their order in a copy of the clone, by a new
environment, on synthetic studies that have the names which the README uses.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from gliosight.cli import cli
from gliosight.phantom import PhantomSpec, make_phantom, write_lgg, write_nifti
from tests.support.shell import (
    REPOSITORY,
    blocks_of_the_readme,
    lines_of_the_readme,
    new_user,
    shell,
)

PROJECT_FILE = tomllib.loads(REPOSITORY.joinpath("pyproject.toml").read_text("utf-8"))
PAGES = [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("docs/**/*.md"))]
NOTEBOOK = REPOSITORY / "docs/tutorial/tutorial.ipynb"
POSIX = pytest.mark.skipif(os.name != "posix", reason="the blocks marked sh are for a POSIX shell")
# What a fresh environment would run for too long: `make test` installs the extras (PyTorch has gigabytes),
# and is what runs this test.
NOT_HERE = ('pip install ".[train,evaluate]"', "make test")
# A network in as little time as possible: what is tested is the line, not the training.
QUICKLY = "".join(
    f" --set {change}"
    for change in ("epochs=1", "batch=4", "sampling.per_epoch=8", "precision=float32")
)


def _calls(page: Path) -> Iterator[list[str]]:
    """The words of each call of gliosight in the code of a page."""
    text = page.read_text("utf-8")
    line = r"^(?: {4}|)(gliosight .*)$"
    if page.suffix == ".ipynb":
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
        text = text.replace("\\\n", " ")
        line = r"^ *%(gliosight .*)$"
    code = re.findall(line, text, re.MULTILINE)
    code += re.findall(r"`(gliosight [^`]+)`", text)
    for line in code:
        # A block is marked or indented; prose and the help's own lines are not calls.
        for call in re.split(r"&&|\|", line.partition(" #")[0]):
            words = call.replace("[", " ").replace("]", " ").replace("'", '"').split()
            if words and words[0] == "gliosight":
                yield words[1:]


def _unknown(words: list[str]) -> str | None:
    """What gliosight does not know of a call's command and options."""
    command: click.Command = cli
    context = click.Context(cli, info_name="gliosight")
    # A word in capitals stands for any command.
    while isinstance(command, click.Group) and words and re.match(r"[a-z]", words[0]):
        inner = command.get_command(context, words[0])
        if inner is None:
            return words[0]
        command, words = inner, words[1:]
    known = {"--help", "-h", "--debug", "--version"}
    known |= {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    options = [re.match(r"--?[a-z][a-z0-9-]*", word) for word in words]
    return next((one[0] for one in options if one and one[0] not in known), None)


@pytest.mark.parametrize(
    "page", [*PAGES, NOTEBOOK], ids=lambda page: str(page.relative_to(REPOSITORY))
)
def test_commands_and_options_exist(page: Path) -> None:
    for words in _calls(page):
        assert _unknown(words) is None, words


def test_a_command_or_an_option_that_is_not_there_is_seen() -> None:
    assert _unknown(["no-such", "x"]) == "no-such"
    assert _unknown(["data", "indx"]) == "indx"
    assert _unknown(["analyze", "x", "--no-such"]) == "--no-such"
    assert _unknown(["analyze", "x", "-o", "y", "--overwrite"]) is None
    assert sum(1 for _ in _calls(REPOSITORY / "README.md")) > 12
    assert sum(1 for _ in _calls(NOTEBOOK)) > 12


def test_extras_and_make_targets_exist() -> None:
    for names in re.findall(r"\.\[([a-z,]+)\]", "".join(page.read_text("utf-8") for page in PAGES)):
        assert set(names.split(",")) <= set(PROJECT_FILE["project"]["optional-dependencies"]), names
    targets = re.findall(r"^([a-z-]+):", REPOSITORY.joinpath("Makefile").read_text("utf-8"), re.M)
    made = [line.split()[1] for line in lines_of_the_readme() if line.startswith("make ")]
    assert len(made) == 2
    assert set(made) <= set(targets)


def test_the_lines_for_windows_are_those_for_linux() -> None:
    """Nothing runs them here: they may differ in the environment's own two lines alone."""
    (windows,) = blocks_of_the_readme("bat", "Install")
    assert windows.splitlines() == [
        r"py -m venv .venv",
        r".venv\Scripts\activate",
        blocks_of_the_readme("sh", "Install")[0].splitlines()[2],
    ]


def test_each_page_says_for_whom_it_is_and_is_in_the_index() -> None:
    listed = REPOSITORY.joinpath("docs/README.md").read_text("utf-8")
    pages = [*REPOSITORY.glob("docs/*.md"), REPOSITORY / "docs/tutorial/README.md"]
    for page in pages:
        title, empty, first = page.read_text("utf-8").splitlines()[:3]
        assert title.startswith("# "), page
        assert (empty, first[:4]) == ("", "For "), page
        if page.name != "README.md" or page.parent.name == "tutorial":
            assert f"]({page.relative_to(REPOSITORY / 'docs').as_posix()})" in listed, page


# In a fresh environment.


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the repository, and studies with the names that the README uses."""
    folder = tmp_path_factory.mktemp("clone") / "gliosight"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*-gliosight", "runs", "benchmarks")
    shutil.copytree(REPOSITORY, folder, ignore=ignored)
    for name, seed in (("patient01", 2), ("patient02", 3)):
        made = write_lgg(make_phantom(PhantomSpec(seed=seed, slices=5)), folder / "made")
        made.rename(folder / name)
    nifti = write_nifti(make_phantom(PhantomSpec(seed=2, slices=5)), folder / "made")
    for name in ("flair", "t1"):
        shutil.copy(next(nifti.glob(f"*_{name}.nii.gz")), folder / f"{name}.nii.gz")
    return folder


@POSIX
@pytest.mark.slow
@pytest.mark.usefixtures("package_index")
def test_the_readme_from_clone_to_result(clone: Path) -> None:
    home = clone.parent / "home"
    home.mkdir()
    environment = new_user(home)
    sections = ("Install", "A first result", "Your own studies", "In a program", "Work on the code")
    lines = [line for section in sections for line in lines_of_the_readme(section)]
    script = [
        line
        for line in lines
        if line.partition("  ")[0] not in NOT_HERE and not line.startswith(("pipx ", "uv "))
    ]
    assert len(script) > 10
    shell("\n".join(script), clone, environment)
    for path in (
        "demo-gliosight/report.html",
        "results/studies.csv",
        "patient01-gliosight/report.html",
        "result/result.json",
        "several/studies.csv",
    ):
        assert (clone / path).is_file(), path
    activated = new_user(home, clone / ".venv/bin")
    (example,) = blocks_of_the_readme("python")
    shell(f"python - <<'EOF'\n{example}assert 'tumour' in analysis.status\nEOF", clone, activated)
    # The error about an extra that is not there ends with a line that brings it.
    asks = subprocess.run(
        ["gliosight", "data", "download", "-o", "lgg"],
        cwd=clone,
        env=activated,
        capture_output=True,
        text=True,
        check=False,
    )
    assert asks.returncode == 8, asks
    line = asks.stderr.strip().partition("kagglehub: ")[2]
    assert line.startswith("python -m pip install "), asks
    shell(f"{line}\npython -c 'import kagglehub'", home, activated)


@POSIX
@pytest.mark.slow
@pytest.mark.usefixtures("package_index")
@pytest.mark.parametrize("tool", ["pipx", "uv"])
def test_the_readme_with_another_installer(tool: str, clone: Path, tmp_path: Path) -> None:
    environment = new_user(tmp_path, tmp_path / "tool/bin", tmp_path / ".local/bin")
    shell(f"python3 -m venv tool && tool/bin/pip install -q {tool}", tmp_path, environment)
    (line,) = [line for line in lines_of_the_readme("Install") if line.startswith(f"{tool} ")]
    shell(line, clone, environment)
    assert "joint-4" in shell("gliosight models", tmp_path, environment)


@POSIX
@pytest.mark.slow
def test_the_readme_from_data_to_scores(clone: Path) -> None:
    """In this environment, which has the extras."""
    pytest.importorskip("torch", reason="the extra train is not installed")
    pytest.importorskip("sklearn", reason="the extra evaluate is not installed")
    for seed in range(1, 7):
        write_lgg(make_phantom(PhantomSpec(seed=seed, slices=5)), clone / "FOLDER")
    for line in lines_of_the_readme("Train, compare, doubt"):
        call = line.partition("  ")[0] if "#" in line else line
        if call.startswith("gliosight train "):
            call += QUICKLY
        if " audit " in call:  # 4: phantoms of five slices have tumour on the last
            call += " || test $? -eq 4"
        shell(call, clone, _with_gliosight(clone.parent))
    assert (clone / "scores/evaluation.json").is_file()


@POSIX
@pytest.mark.slow
def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    page = REPOSITORY.joinpath("docs/cli.md").read_text("utf-8")
    (line,) = re.findall(r"\| bash.*?\| `(.*?)` \|", page)
    for words, wanted in (
        ("ana", "analyze"),
        ("data ind", "index"),
        ("analyze --prev", "--prevalence"),
    ):
        parts = ["gliosight", *words.split()]
        script = f"{line}\nCOMP_WORDS=({shlex.join(parts)})\nCOMP_CWORD={len(parts) - 1}\n"
        script += '_gliosight_completion gliosight\necho "${COMPREPLY[@]}"'
        assert shell(script, tmp_path, _with_gliosight(tmp_path)).split() == [wanted]


def _with_gliosight(folder: Path) -> dict[str, str]:
    """An environment whose ``gliosight`` is the code under test."""
    command = folder / "bin/gliosight"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gliosight "$@"\n', "utf-8")
    command.chmod(0o755)
    source = {"PYTHONPATH": str(REPOSITORY / "src")}
    return {**new_user(folder, command.parent), **source}
