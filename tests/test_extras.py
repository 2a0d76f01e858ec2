"""A missing extra is answered with a line that works, wherever gliosight was installed from."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from gliosight.errors import ModelError
from gliosight.extras import install_line, needs_extra

REPOSITORY = Path(__file__).resolve().parent.parent
EXTRAS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"][
    "optional-dependencies"
]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What an installer leaves of gliosight in site-packages; the first on the path counts."""
    record = tmp_path / "site-packages" / "gliosight-0.1.0.dist-info"
    record.mkdir(parents=True)
    lines = ["Metadata-Version: 2.4", "Name: gliosight", "Version: 0.1.0", "Requires-Dist: numpy"]
    lines += [
        f"Requires-Dist: {package}; extra == '{extra}'"
        for extra in EXTRAS
        for package in EXTRAS[extra]
    ]
    (record / "METADATA").write_text("\n".join(lines) + "\n", "utf-8")
    monkeypatch.syspath_prepend(str(record.parent))
    # As in an environment that is not activated.
    monkeypatch.setenv("PATH", str(tmp_path))
    return record


def _installed_from(record: Path, url: str, **more: object) -> None:
    (record / "direct_url.json").write_text(json.dumps({"url": url, **more}), "utf-8")


def test_from_a_clone(installed: Path, tmp_path: Path) -> None:
    clone = tmp_path / "a clone"
    clone.mkdir()
    _installed_from(installed, clone.as_uri(), dir_info={})
    start = f"{sys.executable} -m pip install "
    assert install_line("train") == f'{start}"{clone}[train]"'
    _installed_from(installed, clone.as_uri(), dir_info={"editable": True})
    assert install_line("train") == f'{start}-e "{clone}[train]"'


def test_from_a_wheel(installed: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "gliosight-0.1.0-py3-none-any.whl"
    wheel.touch()
    _installed_from(installed, wheel.as_uri(), archive_info={})
    assert install_line("evaluate").endswith(f' "{wheel}[evaluate]"')


@pytest.mark.parametrize("url", ["", "file:///gone/gliosight", "https://example.org/g.whl"])
@pytest.mark.parametrize(
    "extra", ["openvino", "onnxruntime", "train", "evaluate", "download", "followup", "scale"]
)
def test_the_packages_themselves_where_the_source_is_gone(
    installed: Path, url: str, extra: str
) -> None:
    if url:
        _installed_from(installed, url)
    words = shlex.split(install_line(extra))
    assert words[words.index("install") + 1 :] == EXTRAS[extra]


def test_in_an_activated_environment(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert install_line("train").startswith("python -m pip install ")


def test_a_python_in_a_folder_with_a_space(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/home/a user/bin/python")
    assert shlex.split(install_line("train"))[0] == sys.executable


def test_where_there_is_no_pip(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert install_line("train").startswith(f"uv pip install --python {sys.executable} ")


def test_an_error_says_package_and_line() -> None:
    with pytest.raises(ModelError) as raised, needs_extra("train"):
        import no_such_package  # noqa: F401
    assert "no_such_package" in raised.value.line()
    assert raised.value.line().endswith(install_line("train"))


def test_nothing_says_that_an_index_has_it() -> None:
    """Whoever tries ``pip install gliosight`` finds nothing, or another's package."""
    pages = [REPOSITORY / "README.md", *REPOSITORY.glob("docs/**/*.md")]
    for path in (*pages, *REPOSITORY.glob("src/**/*.py"), *REPOSITORY.glob("docs/**/*.py")):
        for line in path.read_text("utf-8").splitlines():
            asked = re.search(r"(?:pipx?|tool) install (.*)", line)
            words = re.split(r"[\s\"'`\[]+", asked[1]) if asked else []
            assert "gliosight" not in words, (path, line)
