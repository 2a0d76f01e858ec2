"""The Jinja2 environment of all HTML pages; apart because three kinds of pages share it.

All is escaped, and a missing name is an error (stage: write).
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def template_text(package: str, name: str) -> str:
    """The text of ``gliosight/<package>/templates/<name>``."""
    home = resources.files("gliosight") / package / "templates" / name
    return home.read_text(encoding="utf-8").strip()


@cache
def environment() -> Environment:
    """The environment of all pages."""
    from jinja2 import Environment, StrictUndefined  # only where a page is made

    return Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
