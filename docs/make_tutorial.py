"""Runs the tutorial's notebook, from the first cell to the last.

    python docs/make_tutorial.py                       # on phantoms: `make tutorial-notebook`
    python docs/make_tutorial.py --data DATA -o OUT    # on a data set, hours: `make tutorial DATA=DATA`
    python docs/make_tutorial.py --data DATA -o OUT --mode quick

With ``-o`` everything is made in OUT, also the notebook with its outputs, ``OUT/tutorial.ipynb``. A run
that was stopped goes on when it is started again. Without ``-o`` the outputs go into
``docs/tutorial/tutorial.ipynb``; they are of phantoms alone, so that no patient's slice gets there.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import re
import sys
import tempfile
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

NOTEBOOK = Path(__file__).resolve().parent / "tutorial" / "tutorial.ipynb"
# Where the notebook's metadata say of which sources the outputs are.
DIGEST = "sources_sha256"
COLOURS = 64  # of a kept figure: grey pictures and a few colours beside


def main() -> None:
    """Run the notebook and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the data set; without, phantoms")
    parser.add_argument("-o", "--out", type=Path, help="folder of all that is made")
    parser.add_argument("--mode", choices=["tiny", "quick", "full"], help="full with --data")
    parser.add_argument(
        "--start", default="imagenet", help="of the detector: imagenet, FILE or scratch"
    )
    given = parser.parse_args()
    if given.data is not None and given.out is None:
        parser.error("--data without -o: outputs of a data set are not kept in the repository")
    mode = given.mode or ("quick" if given.data is None else "full")
    data = "" if given.data is None else str(given.data.resolve())
    start = given.start
    if start not in ("imagenet", "scratch"):
        start = str(Path(start).resolve())
    os.environ |= {
        "GLIOSIGHT_TUTORIAL": mode,
        "GLIOSIGHT_TUTORIAL_DATA": data,
        "GLIOSIGHT_TUTORIAL_START": start,
    }
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        run(notebook, given.out)
        return
    with tempfile.TemporaryDirectory() as folder:
        run(notebook, Path(folder))
    tidy(notebook)
    nbformat.write(notebook, NOTEBOOK)


def run(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run all cells in a folder and write the notebook there; where a cell fails, up to that cell."""
    out = folder / NOTEBOOK.name
    resources = {"metadata": {"path": str(folder)}}
    client = Shown(notebook, timeout=None, kernel_name="python3", resources=resources)
    try:
        client.execute()
    except CellExecutionError as error:
        sys.exit(f"the notebook stopped, see {out}\n{error}")
    finally:
        nbformat.write(notebook, out)
    print(f"notebook: {out}")


class Shown(NotebookClient):
    """Prints headings and what the cells print, as they come: a run may take hours."""

    last = ""

    async def async_execute_cell(self, cell: Any, *rest: Any, **options: Any) -> Any:
        """Run a cell, after its heading."""
        if cell.cell_type == "markdown":
            for heading in re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE):
                print(f"\n{heading}", flush=True)
        return await super().async_execute_cell(cell, *rest, **options)

    def process_message(self, message: Any, cell: Any, cell_index: int) -> Any:
        """Take a message of the kernel; of a text that grows, the last line is new."""
        content, kind = message["content"], message["header"]["msg_type"]
        text = content["text"] if kind == "stream" else ""
        if kind == "update_display_data":
            text = content["data"].get("text/plain", "").rpartition("\n")[2]
        if text.strip() and text != self.last:
            print(text.rstrip(), flush=True)
            self.last = text
        return super().process_message(message, cell, cell_index)


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Take out what differs from machine to machine, make figures small, and note the sources' digest."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            if png := output.get("data", {}).get("image/png"):
                output["data"]["image/png"] = fewer_colours(png)
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["gliosight"] = {DIGEST: digest(notebook)}


def fewer_colours(png: str) -> str:
    """The same PNG (base64) with a palette."""
    picture = Image.open(io.BytesIO(b64decode(png))).convert("RGB")
    small = io.BytesIO()
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return b64encode(small.getvalue()).decode("ascii")


def digest(notebook: nbformat.NotebookNode) -> str:
    """Of all code: kept outputs are of exactly these cells."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()


if __name__ == "__main__":
    main()
