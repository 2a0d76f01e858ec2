"""What all HTML pages share: their templates, and what keeps hostile text in them text (stage: write).

Templates escape what they print, and a missing name is an error.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

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


def fill(template: Template, /, **values: Any) -> str:
    """A page: a template with its values.

    Not `Template.render`, after which the template's macros and the values refer to each other: a study's
    images would stay in memory until Python looks for such circles, and a process that analyses many grows.
    """
    context = template.new_context(values)
    try:
        return "".join(template.root_render_func(context))
    except Exception:  # noqa: BLE001 - raised again
        template.environment.handle_exception()  # with the line in the template
    finally:
        context.vars.clear()


def made_visible(value: Any) -> Any:
    """A template's ``finalize``: control codes and lone surrogates become visible escapes."""
    plain = isinstance(value, str) and not isinstance(value, Markup)
    return printable(value) if plain and not value.isprintable() else value


def embed_json(value: Any) -> str:
    """JSON that may stand in a ``<script>`` element: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    # U+2028 and U+2029 are already escaped, being no ASCII.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def content_policy(*, styles: tuple[str, ...], scripts: tuple[str, ...]) -> str:
    """A content security policy: these styles and scripts by their hashes, pictures as data, nothing else."""

    def hashes(texts: tuple[str, ...]) -> str:
        digests = (b64encode(sha256(text.encode()).digest()).decode("ascii") for text in texts)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (
        f"default-src 'none'; img-src data:; style-src {hashes(styles)}; "
        f"script-src {hashes(scripts)}; base-uri 'none'; form-action 'none'"
    )
