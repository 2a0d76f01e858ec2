"""The Dockerfile: its rules, its steps in a bare environment, and the image where there is an engine."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

from gliosight.phantom import PhantomSpec, make_phantom, write_nifti
from tests.support.shell import lines_of_the_readme, new_user, shell

REPOSITORY = Path(__file__).resolve().parent.parent


def _steps() -> list[tuple[str, str]]:
    """Each instruction of the Dockerfile and its arguments, in order."""
    text = re.sub(r"^#.*\n", "", (REPOSITORY / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [
        (line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()
    ]


def _arguments(name: str) -> list[str]:
    return [arguments for instruction, arguments in _steps() if instruction == name]


def test_the_base_is_small_and_has_its_exact_version() -> None:
    bases = {words.split()[0] for words in _arguments("FROM")}
    assert len(bases) == 1  # Python of the one is called by the environment of the other
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases.pop())


def test_the_image_runs_as_a_user_without_rights() -> None:
    (user,) = _arguments("USER")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    last = [name for name, _ in _steps()][-3:]
    assert last == ["USER", "ENTRYPOINT", "CMD"]
    assert _arguments("ENTRYPOINT") == ['["gliosight"]']


def test_the_image_fetches_nothing_but_packages_and_holds_no_secret() -> None:
    names = {name for name, _ in _steps()}
    assert names <= {"FROM", "WORKDIR", "COPY", "RUN", "LABEL", "ENV", "USER", "ENTRYPOINT", "CMD"}
    text = (REPOSITORY / "Dockerfile").read_text("utf-8").lower()
    for word in ("token", "password", "secret", "curl", "wget", "http:", "https:", "sudo"):
        assert word not in text, word
    # The last stage gets the environment of the first, and nothing of the clone.
    final = _steps()[[name for name, _ in _steps()].index("ENV") - 1 :]
    assert [words for name, words in final if name == "COPY"] == [
        "--from=build /opt/gliosight /opt/gliosight"
    ]


def test_only_what_is_copied_is_sent_to_the_engine() -> None:
    rules = (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines()
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    assert rules[0] == "*"
    sent = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {name for words in _arguments("COPY") for name in words.split()[:-1]}
    assert sent == {name for name in copied if not name.startswith(("-", "/"))}
    assert all((REPOSITORY / name).exists() for name in sent)
    assert any(fnmatch("src/gliosight/__pycache__", rule.replace("**", "*")) for rule in rules[1:])


@pytest.mark.skipif(os.name != "posix", reason="the steps are for a POSIX shell")
@pytest.mark.slow
@pytest.mark.usefixtures("package_index")
def test_its_steps_in_a_bare_environment(tmp_path: Path) -> None:
    context, home = tmp_path / "context", tmp_path / "home"
    for folder in (context, home):
        folder.mkdir()
    for words in _arguments("COPY"):
        *sources, target = words.split()
        for source in sources:
            if source.startswith(("-", "/")):  # from the first stage
                continue
            if (REPOSITORY / source).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(REPOSITORY / source, context / target, ignore=ignored)
            else:
                shutil.copy(REPOSITORY / source, context / target)
    environment = new_user(home)
    steps = "\n".join(_arguments("RUN"))
    for there, here in (
        ("/tmp/", ""),  # noqa: S108
        ("/opt/", f"{tmp_path}/"),
        ("python -m", "python3 -m"),
        ("chown 65532:65532 /out", ""),  # its owner: of the image alone
        (" --no-cache-dir", ""),  # what was fetched for another test is not fetched again
    ):
        steps = steps.replace(there, here)
    shell(steps, context, environment)
    assert (context / "demo/report.html").is_file()
    assert shell("gliosight/bin/gliosight --version", tmp_path, environment)
    (weights,) = (tmp_path / "gliosight").rglob("joint-4.onnx")
    assert weights.stat().st_size > 2**20


def _engine() -> str | None:
    """Docker or podman, where it can start a container, and not only be called."""
    for name in ("docker", "podman"):
        path = shutil.which(name)
        if path and not subprocess.run([path, "info"], capture_output=True, check=False).returncode:
            return name
    return None


@pytest.mark.slow
def test_the_image_as_the_readme_builds_and_runs_it(tmp_path: Path) -> None:
    engine = _engine()
    if engine is None:
        pytest.skip("neither docker nor podman can start a container here")
    build, _, run = lines_of_the_readme("In a container")
    write_nifti(make_phantom(PhantomSpec(seed=2, slices=5)), tmp_path / "in")
    (tmp_path / "out").mkdir()
    environment = {**os.environ, "PWD": str(tmp_path)}
    shell(shlex.join([engine, *shlex.split(build)[1:]]), REPOSITORY, environment)
    if engine == "podman":
        run = run.replace('--user "$(id -u):$(id -g)"', "--userns keep-id")
    shell(run.replace("docker", engine, 1), tmp_path, environment)
    assert list((tmp_path / "out/result").rglob("report.html"))
