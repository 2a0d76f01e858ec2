"""Docs cannot go stale: commands, exit codes and links."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from gliosight.cli import COMMANDS
from gliosight.errors import GliosightError

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]


def test_every_command_is_in_the_docs() -> None:
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    for command in COMMANDS.keys() - {"models"}:
        assert f"gliosight {command}" in text or f"make {command}" in text, command


def test_every_exit_code_is_in_the_readme() -> None:
    readme = REPOSITORY.joinpath("README.md").read_text("utf-8").split("## Exit codes")[1]
    for kind in GliosightError.__subclasses__():
        assert re.search(rf"\b{kind.exit_code} ", readme), kind


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


def test_readme_and_pages_say_what_it_is_for() -> None:
    assert "Research use only" in PAGES[0].read_text("utf-8")
    assert "Research use only" in REPOSITORY.joinpath("docs/model-card.md").read_text("utf-8")


def test_architecture_names_modules_that_exist() -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text("utf-8")
    package = REPOSITORY / "src" / "gliosight"
    files = {path.name for path in package.rglob("*.*")}
    named = re.findall(r"`([\w./]+(?:\.py|\.json|/))`", text)
    assert len(named) > 40
    for name in named:
        # In a list, a module of the room that was named before stands by its name alone.
        places = (package / name, REPOSITORY / name)
        assert any(place.exists() for place in places) or name in files, name


def test_the_picture_of_the_layers_is_current() -> None:
    made = runpy.run_path(str(REPOSITORY / "docs" / "make_architecture.py"))
    imports = made["imports"]({name for row in made["layers"]() for name in row})
    drawn = re.findall(r"<title>(\w+) imports (\w+)</title>", made["PICTURE"].read_text("utf-8"))
    assert set(drawn) == imports, "renew it: python docs/make_architecture.py"
