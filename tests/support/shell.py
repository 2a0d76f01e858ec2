"""A new user's shell, and what the README tells that user to type."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
README = REPOSITORY.joinpath("README.md").read_text("utf-8")


def blocks_of_the_readme(language: str, section: str = "") -> list[str]:
    """The README's blocks in one language, in one section or in all."""
    text = README.split(f"\n## {section}\n")[1].split("\n## ")[0] if section else README
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def lines_of_the_readme(section: str = "") -> list[str]:
    """The lines of shell in a section."""
    return [line for block in blocks_of_the_readme("sh", section) for line in block.splitlines()]


def new_user(home: Path, *first: Path) -> dict[str, str]:
    """The environment of a new user: only what lets pip find its index is taken over."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PIP_", "UV_", "SSL_", "REQUESTS_"))
        or name.lower() in ("http_proxy", "https_proxy", "no_proxy")
    }
    # Packages that were fetched once are not fetched again.
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    python = Path(sys.base_prefix) / "bin"
    path = os.pathsep.join(str(folder) for folder in (*first, python, "/usr/bin", "/bin"))
    places = {"XDG_CACHE_HOME": cache, "HOME": str(home), "PATH": path, "TERM": "dumb"}
    return {**kept, **places}


def shell(script: str, folder: Path, environment: Mapping[str, str]) -> str:
    """What a script of bash prints; it ends at the first line that fails."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout
