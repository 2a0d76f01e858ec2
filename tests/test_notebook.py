"""What a notebook shows of an analysis, and what it gives away of the study: one slice, and nothing else."""

from __future__ import annotations

import base64
import io
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gliosight import Status, analyze, pipeline, write_analysis
from gliosight.analysis import RESEARCH_USE, STAGES, Analysis
from gliosight.errors import ModelError, UsageError
from gliosight.infer.model import Model
from gliosight.notebook import ShownAnalysis
from gliosight.phantom import Phantom
from gliosight.write.report import start_slice
from tests.support.dicom_phantom import DicomSpec, write_dicom
from tests.write.builders import make_analysis


def shown(**options: Any) -> ShownAnalysis:
    return ShownAnalysis(**vars(make_analysis(**options)))


def picture_of(html: str) -> Image.Image:
    (source,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    return Image.open(io.BytesIO(base64.b64decode(source)))


def outline_of(picture: Image.Image) -> np.ndarray:
    """Where the outline's colour is; grey has its three parts alike."""
    values = np.asarray(picture.convert("RGB")).astype(int)
    return values[..., 2] - values[..., 0] > 90


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "tumour found, probability 0.97"),
        ({"status": Status.UNCERTAIN}, "uncertain, probability 0.60"),
        ({"lesion": False}, "no tumour found, probability 0.02>"),
        ({"prevalence": None}, "score 0.97"),
        ({"geometry": None}, "voxels, 1 finding>"),
        ({"status": Status.NOT_ASSESSED, "lesion": False}, "not assessed>"),
    ],
)
def test_repr_is_one_short_line(options: dict[str, Any], words: str) -> None:
    text = repr(shown(**options))
    assert text.startswith("<Analysis of phantom-0001: ")
    assert words in text
    assert len(text) < 120


def test_html_has_verdict_picture_findings_and_what_it_is_for() -> None:
    analysis = shown()
    html = analysis._repr_html_()
    for words in ("Tumour found", "Probability of tumour 0.97", "phantom-0001", RESEARCH_USE):
        assert words in html
    index = start_slice(analysis)
    assert html.count("<tr>") == 1 + len(analysis.findings)
    assert f"slice {index + 1} of 24" in html  # people count from 1
    # The lesion is on the patient's left, which is on the right of the picture.
    picture = picture_of(html)
    across = np.flatnonzero(outline_of(picture).any(axis=0))
    assert across.min() > picture.width / 2


def test_html_of_a_study_with_nothing_to_show() -> None:
    analysis = shown(status=Status.NOT_ASSESSED, lesion=False, reason="Not a head.", geometry=None)
    html = analysis._repr_html_()
    assert "Not assessed" in html
    assert "Not a head." in html
    assert "nothing is marked" in html
    assert "<table" not in html
    assert not outline_of(picture_of(html)).any()


def test_names_are_hostile_text() -> None:
    html = shown(study_id='<script>alert("1")</script>\x1b[31m')._repr_html_()
    assert "<script" not in html
    assert "\x1b" not in html


def test_an_identity_stays_inside(
    stub_model: Model,
    small_phantom: Phantom,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One slice as a picture without metadata; no name, no number, no path; no file anywhere."""
    monkeypatch.setattr(pipeline, "load_model", lambda *_, **__: stub_model)
    folder = tmp_path / "Smith_John"
    write_dicom(small_phantom, folder, DicomSpec())
    left_there = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    analysis = analyze(folder)
    html = analysis._repr_html_()
    for text in (html, repr(analysis)):
        for secret in ("PHANTOM", "SYNTHETIC", "Smith", str(tmp_path), "1.2."):
            assert secret not in re.sub('base64,[^"]+', "", text), secret
    picture = picture_of(html)
    assert max(picture.size) <= 420
    assert not picture.getexif()
    assert "comment" not in picture.info
    # Neither a request nor a script.
    assert not re.findall(r"https?:|//|<script|<link|url\(", re.sub('base64,[^"]+', "", html))
    assert sorted(tmp_path.rglob("*")) == left_there


def test_plot_draws_the_slice_with_its_outline(monkeypatch: pytest.MonkeyPatch) -> None:
    plt = pytest.importorskip("matplotlib.pyplot", reason="the extra evaluate is not installed")
    plt.switch_backend("agg")
    analysis = shown()
    axes = analysis.plot()
    index = start_slice(analysis)
    assert axes.get_title() == f"Tumour found, slice {index + 1} of 24"
    assert axes.get_xlabel() == RESEARCH_USE
    # The outline surrounds the mask, pixel borders at halves; here it is displayed as it is stored.
    rows, columns = np.nonzero(analysis.mask[index])
    (line,) = axes.lines
    x, y = np.asarray(line.get_data())
    assert (x.min(), x.max()) == (columns.min() - 0.5, columns.max() + 0.5)
    assert (y.min(), y.max()) == (rows.min() - 0.5, rows.max() + 0.5)
    assert (x[0], y[0]) == (x[-1], y[-1])
    assert {text.get_text() for text in axes.texts} == {"R", "L"}
    _, own = plt.subplots()
    assert analysis.plot(0, ax=own) is own
    assert not own.lines
    for wrong in (-1, 24, "3", True):
        with pytest.raises(UsageError, match="slice"):
            analysis.plot(wrong)
    plt.close("all")


def test_without_matplotlib_plot_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModelError, match=r"package matplotlib.*pip install .*\[evaluate\]"):
        shown().plot()


def test_progress_tells_every_stage_in_its_order(
    stub_model: Model, small_phantom: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "load_model", lambda *_, **__: stub_model)
    calls: list[tuple[str, int, int]] = []

    def tell(*call: Any) -> None:
        calls.append(call)

    analysis = analyze(small_phantom.sequences, affine=small_phantom.geometry.affine, progress=tell)
    write_analysis(analysis, tmp_path / "out", progress=tell)
    assert tuple(dict.fromkeys(stage for stage, _, _ in calls)) == STAGES
    for stage in STAGES:
        counts = [(done, total) for name, done, total in calls if name == stage]
        total = 9 if stage == "infer" else 1
        assert counts[0] == (0, total)
        assert counts[-1] == (total, total)
        assert counts == sorted(set(counts))
    # What cannot be assessed has no network asked; every other stage is told.
    calls.clear()
    flat: Analysis = analyze(np.full((4, 64, 64), 12.0), progress=tell)
    assert flat.status is Status.NOT_ASSESSED
    assert {stage for stage, _, _ in calls} == set(STAGES) - {"infer", "write"}
