"""The tutorial's notebook: what is kept of it, and that it runs from the first cell to the last."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
NOTEBOOK = REPOSITORY / "docs/tutorial/tutorial.ipynb"
BUILDER = REPOSITORY / "docs/make_tutorial.py"
KEPT: dict[str, Any] = json.loads(NOTEBOOK.read_text("utf-8"))
CODE = [cell for cell in KEPT["cells"] if cell["cell_type"] == "code"]
OUTPUTS = [output for cell in CODE for output in cell["outputs"]]
# The article's order, and what it hides at the end.
ORDER = (
    "Install",
    "Settings",
    "The data",
    "The split",
    "The detector",
    "Training",
    "Curves",
    "Predictions",
    "Accuracy, confusion matrix, classification report",
    "The localizer",
    "Truth and prediction",
    "Joined",
    "What the article hides",
    "What the split by slice is worth",
    "How long it takes",
)
LARGEST = 1_500_000  # bytes
# Folders of a machine, and patients of the data set.
PRIVATE = r"/(work|tmp|root|home|Users|usr|opt|var)\b|TCGA"


def test_the_notebook_is_valid_and_small() -> None:
    nbformat = pytest.importorskip("nbformat", reason="the extra dev is not installed")
    nbformat.validate(nbformat.from_dict(KEPT))
    names = [cell["id"] for cell in KEPT["cells"]]
    assert len(set(names)) == len(names)
    assert KEPT["metadata"]["kernelspec"]["name"] == "python3"
    assert NOTEBOOK.stat().st_size < LARGEST


def test_the_article_s_order() -> None:
    text = "\n".join(
        "".join(cell["source"]) for cell in KEPT["cells"] if cell["cell_type"] == "markdown"
    )
    headings = "\n".join(re.findall(r"^#+ (.+)$", text, re.MULTILINE)).lower()
    places = [headings.find(title.lower()) for title in ORDER]
    assert -1 not in places
    assert places == sorted(places)
    assert "Research use only" in text
    assert text.count("**What the article hides.**") >= 5
    assert text.count("What to expect on the real set") == 4
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert target.startswith("https://") or (NOTEBOOK.parent / target).is_file(), target


def test_outputs_are_of_these_cells() -> None:
    """`make tutorial-notebook` makes them anew after a change."""
    pytest.importorskip("nbclient", reason="the extra dev is not installed")
    builder = runpy.run_path(str(BUILDER))
    notebook = builder["nbformat"].from_dict(KEPT)
    # As nbformat reads it: a source is one text.
    for cell in notebook.cells:
        cell.source = "".join(cell.source)
    assert KEPT["metadata"]["gliosight"][builder["DIGEST"]] == builder["digest"](notebook)
    counted = [cell["execution_count"] for cell in CODE]
    assert counted == list(range(1, len(CODE) + 1))
    figures = [output for output in OUTPUTS if "image/png" in output.get("data", {})]
    assert len(figures) >= 20
    assert not [output for output in OUTPUTS if output["output_type"] == "error"]


def test_nothing_of_a_patient_or_a_machine_is_kept() -> None:
    words = [
        "".join(text) if isinstance(text, list) else str(text)
        for output in OUTPUTS
        for kind, text in {"text": output.get("text", ""), **output.get("data", {})}.items()
        if not kind.startswith("image/")
    ]
    assert any("phantom-0001" in text for text in words)
    for text in words:
        assert not re.search(PRIVATE, text), text
        assert "\x1b" not in text  # colours of a terminal
    assert re.search(PRIVATE, "in /home/x")
    assert re.search(PRIVATE, "TCGA_CS_4943")
    assert "phantoms" in json.dumps(CODE[3]["outputs"])


@pytest.mark.slow
def test_the_notebook_from_the_first_cell_to_the_last(tmp_path: Path) -> None:
    for package in ("torch", "sklearn", "nbclient", "ipykernel"):
        pytest.importorskip(package, reason="the extras are not installed")
    kept = NOTEBOOK.read_bytes()
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(REPOSITORY / "src"),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    call = [sys.executable, str(BUILDER), "-o", str(tmp_path / "out"), "--mode", "tiny"]
    done = subprocess.run(call, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    out = tmp_path / "out"
    made = json.loads((out / NOTEBOOK.name).read_text("utf-8"))
    assert [cell["source"] for cell in made["cells"]] == [cell["source"] for cell in KEPT["cells"]]
    by_id = {cell["id"]: json.dumps(cell.get("outputs")) for cell in made["cells"]}
    assert "patient_id contradicts the path" in by_id["index"]
    for cell in ("accuracy", "joined-report", "patient-report"):
        assert "precision" in by_id[cell]
        assert "image/png" in by_id[cell]
    assert "what the leak is worth" in by_id["leak-audit"]
    runs = out / "tutorial-gliosight/phantoms-tiny"
    for by in ("slice", "patient"):
        scores = json.loads((runs / f"scores-{by}" / "evaluation.json").read_text("utf-8"))
        assert scores["parts"][0]["part"] == "test"
    assert json.loads((runs / "leak" / "evaluation.json").read_text("utf-8"))["leak"]
    assert NOTEBOOK.read_bytes() == kept


def test_outputs_of_a_data_set_are_not_kept() -> None:
    pytest.importorskip("nbclient", reason="the extra dev is not installed")
    call = [sys.executable, str(BUILDER), "--data", "somewhere"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--data without -o" in done.stderr
