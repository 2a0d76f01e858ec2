"""From a path that was typed to the studies below it (layer: cli, for analyze and inspect)."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path

from gliosight import pipeline
from gliosight.cli.output import progress_display
from gliosight.errors import GliosightError
from gliosight.files import remove_abandoned_temporaries
from gliosight.read import Limits
from gliosight.read.sources import Opened


def find_below(
    path: Path, limits: Limits, unpacked: contextlib.ExitStack, *, shown: bool
) -> tuple[Opened, list[pipeline.Source]]:
    """Open a path and find its studies, with progress shown; zips stay unpacked as long as ``unpacked``.

    Raises
    ------
    GliosightError
    """
    remove_abandoned_temporaries()
    inside = unpacked.enter_context(pipeline.opened(path, limits))
    with progress_display("reading headers", shown=shown, what="files") as tell:
        told = None if tell is None else partial(tell, "read")
        try:
            return inside, pipeline.find_studies(inside.path, limits, told)
        except GliosightError as error:
            raise inside.explained(error) from error
