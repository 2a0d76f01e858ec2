"""HTML pages from templates: what the report, the evaluation and the data set's page share (stage: write).

In: a package's folder of templates and a file's name. Out: its text, and the one Jinja2 environment all
pages are rendered with: everything is escaped, and a name that is missing is an error.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from jinja2 import BaseLoader, Environment, StrictUndefined


@cache
def template_text(package: str, name: str) -> str:
    """The text of ``gliosight/<package>/templates/<name>``."""
    home = resources.files("gliosight") / package / "templates" / name
    return home.read_text(encoding="utf-8").strip()


@cache
def environment() -> Environment:
    """The environment of all pages."""
    return Environment(
        loader=BaseLoader(),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
