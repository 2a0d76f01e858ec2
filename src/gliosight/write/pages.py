"""The Jinja2 templates of all HTML pages; apart because several kinds of pages share them.

All is escaped, and a missing name is an error (stage: write).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from gliosight.errors import printable

if TYPE_CHECKING:
    from jinja2 import Template


@cache
def template_text(package: str, name: str) -> str:
    """The text of ``gliosight/<package>/templates/<name>``."""
    home = resources.files("gliosight") / package / "templates" / name
    return home.read_text(encoding="utf-8").strip()


@cache
def page_template(
    package: str, name: str, finalize: Callable[[Any], Any] | None = None
) -> Template:
    """The template ``gliosight/<package>/templates/<name>``, compiled once for all studies.

    ``finalize`` is given each value before it is printed.
    """
    from jinja2 import Environment, StrictUndefined  # only where a page is made

    pages = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    pages.filters["printable"] = printable
    return pages.from_string(template_text(package, name))
