"""Commands that need an extra say which one, when it is not installed (layer: cli)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from gliosight.errors import ModelError


@contextlib.contextmanager
def needs_extra(name: str) -> Iterator[None]:
    """Turn a missing package into the line that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModelError(
            f"this command needs the package {error.name}",
            remedy=f"pip install 'gliosight[{name}]'",
        ) from error
