"""What is missing when an extra is not installed, and the line that installs it (layer: extras).

gliosight is on no package index, so that line names the clone or the wheel that it was installed from, or
else the packages themselves.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from gliosight.errors import ModelError


@contextlib.contextmanager
def needs_extra(name: str, what: str = "this command") -> Iterator[None]:
    """Turn a package that ``what`` lacks into the line that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModelError(
            f"{what} needs the package {error.name}", remedy=install_line(name)
        ) from error


def install_line(extra: str) -> str:
    """The command that installs an extra into the Python that runs now.

    It can be pasted into bash, zsh, PowerShell and cmd: double quotes are the ones that all of them know.
    """
    python = _python()
    if importlib.util.find_spec("pip") is not None:
        pip = f"{python} -m pip install"
    else:  # an environment that uv made
        pip = f"uv pip install --python {python}"
    return f"{pip} {_what_to_install(extra)}"


def _python() -> str:
    """``python`` where that is the one that runs now, as in an activated environment, else its path."""
    running = Path(sys.executable)
    by_name = shutil.which("python")
    if by_name is not None and Path(by_name).parent == running.parent:
        return "python"
    return f'"{running}"' if " " in str(running) else str(running)


def _what_to_install(extra: str) -> str:
    # Too slow to be imported by every run, which mostly has all it needs.
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    repository = Path(__file__).resolve().parents[2]
    try:
        installed = distribution("gliosight")
    except PackageNotFoundError:  # run from a clone, by PYTHONPATH
        return f'"{repository}[{extra}]"'
    # PEP 610: what pip and uv installed, unless it came from an index.
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    address = urlsplit(origin.get("url", ""))
    path = Path(url2pathname(address.path))
    if address.scheme == "file" and path.exists():
        editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
        return f'{editable}"{path}[{extra}]"'
    # The clone or the wheel is gone.
    ours = re.compile(rf"""([^;]+);\s*extra == ["']{extra}["']""")
    found = (ours.fullmatch(text) for text in installed.requires or ())
    return " ".join(f'"{match[1].strip()}"' for match in found if match)
