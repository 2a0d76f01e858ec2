"""A data set in figures, on a page, and as a picture."""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from gliosight.data.describe import Column, Group, Look, Spread, look, summarize
from gliosight.data.manifest import Manifest
from gliosight.errors import CannotWriteError, UnsupportedInputError, UsageError
from tests.data.builders import (
    make_manifest,
    make_masks,
    make_row,
    make_slices,
    manifest_of,
    write_patient,
    write_set,
)
from tests.read.builders import write_nifti

CS, DU = "TCGA_CS_0001_20000101", "TCGA_DU_0002_20000102"
FREE = "TCGA_DU_0003_20000103"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = write_set(tmp_path_factory.mktemp("set"))
    write_patient(root, FREE, seed=3, copies="T1 T1C", count=4, marked=())
    (root / DU / f"{DU}_6_mask.tif").unlink()
    return manifest_of(root)


def test_a_summary_counts_what_is_used(manifest: Manifest) -> None:
    summary = summarize(manifest)
    assert summary.whole == Group(3, 15, 4, 2 * int((make_masks() > 0).sum()))
    patients = {name: group.patients for name, group in summary.institutions.items()}
    assert patients == {"CS": 1, "DU": 2}
    assert summary.excluded == {"no mask": 1}
    assert summary.missing == summary.copied == {"T1": [FREE], "FLAIR": [], "T1C": [FREE]}
    assert summary.tumour_free == [FREE]
    assert summary.slices_per_patient == Spread(4, 4.5, 5, 5.5, 6, 5)
    assert (summary.collections, summary.persons) == ({}, 3)


def test_collections_and_persons_are_counted(manifest: Manifest) -> None:
    changes = {CS: {"collection": "lgg"}, DU: {"collection": "lgg", "person": "TCGA_CS_0001"}}
    rows = [replace(row, **changes.get(row.patient, {})) for row in manifest.rows]
    summary = summarize(Manifest(tuple(rows), manifest.folder))
    patients = {name: group.patients for name, group in summary.collections.items()}
    assert (patients, summary.persons) == ({"lgg": 2, "none": 1}, 2)
    empty = summarize(Manifest((make_row("p", 1, excluded="no mask"),), Path()))
    assert (empty.whole.slices, empty.whole.tumour_part) == (0, 0.0)
    assert empty.area == Spread(0, 0, 0, 0, 0, 0)


def test_a_look_at_the_files(manifest: Manifest) -> None:
    steps: list[tuple[int, int]] = []
    result = look(manifest, lambda _, done, total: steps.append((done, total)))
    columns = {column.name: column for column in result.columns}
    assert columns["patient"] == Column("patient", 16, 3)
    assert columns["excluded"] == Column("excluded", 1, 2)
    assert result == Look(
        rows=16,
        columns=result.columns,
        mask_values={"0": 11, "0 255": 4},
        mask_least=0,
        mask_most=255,
        pictures={"32 x 32 x 3 uint8": 3},
        unreadable=0,
    )
    assert steps[-1] == (15, 15)
    gone = look(Manifest(make_manifest({"a": 3}).rows, Path("/nowhere")))
    assert (gone.unreadable, gone.mask_least) == (5, None)


def test_a_look_at_volumes(tmp_path: Path) -> None:
    seg = np.zeros((5, 24, 20), np.uint8)
    seg[2, 3:6, 3:6] = 4
    write_nifti(tmp_path / "B1_flair.nii.gz", make_slices(0, 5, (24, 20))[..., 0])
    write_nifti(tmp_path / "B1_seg.nii.gz", seg)
    result = look(manifest_of(tmp_path))
    assert result.mask_values == {"0 4": 1}
    assert result.pictures == {"5 x 24 x 20 uint8": 1}


class _Page(HTMLParser):
    """What a page would load, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def drawing() -> Any:
    return pytest.importorskip("gliosight.data.drawing", exc_type=ImportError)


def _render(drawing: Any, manifest: Manifest, name: str = "m.csv") -> str:
    page: bytes = drawing.render_page(manifest, name, summarize(manifest), look(manifest))
    return page.decode()


@pytest.mark.slow
def test_the_page_is_whole_and_loads_nothing(drawing: Any, manifest: Manifest) -> None:
    page = _render(drawing, manifest)
    assert page == _render(drawing, manifest)
    parsed = _Page(page)
    assert "script" not in parsed.tags
    assert all(source.startswith("data:") for source in parsed.sources)
    prefix = "data:image/svg+xml;base64,"
    plots = [source for source in parsed.sources if source.startswith(prefix)]
    assert len(plots) == 4
    for plot in plots:
        svg = b64decode(plot.removeprefix(prefix)).decode()
        assert "<svg" in svg
        # No picture is hidden in a plot.
        assert "<image" not in svg
    assert "Research use only" in parsed.text
    assert re.search(r"Slices\s*15", parsed.text)
    assert "no mask" in parsed.text
    assert "By collection" not in page
    rows = tuple(replace(row, collection="brats") for row in manifest.rows)
    grouped = _render(drawing, Manifest(rows, manifest.folder))
    row = r"By collection</h2>.*?<th scope=\"row\">brats</th><td class=\"n\">3</td>"
    assert re.search(row, grouped, re.DOTALL)
    assert "By institution</h2>" in grouped


@pytest.mark.slow
def test_hostile_names_are_text_on_the_page(drawing: Any, manifest: Manifest) -> None:
    evil = "<script>alert(1)</script>\udcff$x$"
    rows = [replace(row, patient=evil, institution=evil) for row in manifest.by_patient[CS]]
    parsed = _Page(_render(drawing, Manifest(tuple(rows), manifest.folder), f"{evil}.csv"))
    assert "script" not in parsed.tags
    assert "alert(1)" in parsed.text


def test_random_tumour_slices_by_seed(drawing: Any) -> None:
    rows = make_manifest({f"p{k}": k + 1 for k in range(30)})
    chosen = drawing.choose_rows(rows, 5, 1)
    assert len({row.key for row in chosen}) == 5
    assert all(row.tumour for row in chosen)
    assert chosen == drawing.choose_rows(rows, 5, 1)
    assert chosen != drawing.choose_rows(rows, 5, 2)
    assert len(drawing.choose_rows(rows, 99, 1)) == 30
    with pytest.raises(UnsupportedInputError, match="tumour"):
        drawing.choose_rows(make_manifest({"p": 0}), 5, 1)


def test_a_patient_and_slices_are_chosen_by_name(drawing: Any) -> None:
    manifest = make_manifest({"p1": 3, "p2": 1, "healthy": 0})
    chosen = drawing.choose_rows(manifest, 2, 1, patient="p1")
    assert [row.patient for row in chosen] == ["p1"]  # it has one slice with tumour
    numbers = [row.number for row in manifest.by_patient["healthy"]][:2]
    chosen = drawing.choose_rows(manifest, 5, 1, patient="healthy", numbers=numbers[::-1] * 2)
    assert [row.number for row in chosen] == numbers[::-1]
    assert not any(row.tumour for row in chosen)
    for error, options, words in (
        (UsageError, {"patient": "p11"}, "p1"),
        (UsageError, {"patient": "p1", "numbers": [77]}, "no usable slice 77.*numbered"),
        (UnsupportedInputError, {"patient": "healthy"}, "--slice"),
    ):
        with pytest.raises(error, match=words):
            drawing.choose_rows(manifest, 5, 1, **options)


def test_a_picture_is_shown_as_it_is(drawing: Any, manifest: Manifest) -> None:
    row = next(row for row in manifest.used if row.tumour)
    image = tifffile.imread(manifest.path(row.image))
    picture, mask, _ = drawing.read_shown(manifest, row, flair=False)
    assert np.array_equal(picture, image)
    assert int(mask.sum()) == row.area_px
    grey, _, _ = drawing.read_shown(manifest, row, flair=True)
    assert np.array_equal(grey, np.repeat(image[..., 1:2], 3, axis=-1))


def test_a_volume_is_shown_upright(drawing: Any, tmp_path: Path) -> None:
    # i to the patient's left, j to the back: as pictures run. The mask is front right.
    flair = make_slices(0, 5, (24, 20))[..., 0]
    seg = np.zeros((5, 24, 20), np.uint8)
    seg[2, :4, :3] = 1
    write_nifti(tmp_path / "B1_flair.nii.gz", flair, np.diag([-1.0, -1.0, 5.0, 1.0]))
    write_nifti(tmp_path / "B1_seg.nii.gz", seg, np.diag([-1.0, -1.0, 5.0, 1.0]))
    upright = manifest_of(tmp_path)
    picture, mask, _ = drawing.read_shown(upright, upright.rows[2], flair=False)
    assert mask[:4, :3].all()
    # The same brain stored the other way round looks the same.
    other = tmp_path / "turned"
    for name, values in (("flair", flair), ("seg", seg)):
        write_nifti(
            other / f"B1_{name}.nii.gz", values[:, ::-1, ::-1], np.diag([1.0, 1.0, 5.0, 1.0])
        )
    turned = manifest_of(other)
    again = drawing.read_shown(turned, turned.rows[2], flair=False)
    assert np.array_equal(again[0], picture)
    assert np.array_equal(again[1], mask)


@pytest.mark.slow
def test_the_figure_shows_slice_mask_and_red(
    drawing: Any, manifest: Manifest, tmp_path: Path
) -> None:
    rows = drawing.choose_rows(manifest, 2, 1)
    figure = drawing.draw_figure(manifest, rows, flair=True)
    drawing.write_figure(figure, tmp_path / "f.png")
    drawn = np.asarray(Image.open(tmp_path / "f.png").convert("RGB")).astype(int)
    red = (drawn[..., 0] > 240) & (drawn[..., 1] < 15) & (drawn[..., 2] < 15)
    third = drawn.shape[1] // 3
    assert red[:, 2 * third :].sum() > 100
    # Nothing is red on the grey slice and on the mask.
    assert not red[:, : 2 * third].any()
    # A line round the mask has fewer red pixels; a see-through mask tints what is below.
    reds = {"filled": int(red.sum())}
    for mark in ("outline", "see-through"):
        figure = drawing.draw_figure(manifest, rows, flair=True, mark=mark)
        drawing.write_figure(figure, tmp_path / f"{mark}.png")
        drawn = np.asarray(Image.open(tmp_path / f"{mark}.png").convert("RGB")).astype(int)
        red = (drawn[..., 0] > 240) & (drawn[..., 1] < 15) & (drawn[..., 2] < 15)
        tinted = (drawn[..., 0] - drawn[..., 1] > 60)[:, 2 * third :]
        reds[mark] = int(red.sum())
        assert tinted.sum() > 100, mark
        assert not (drawn[..., 0] - drawn[..., 1] > 60)[:, : 2 * third].any()
    assert reds["see-through"] == 0
    assert 0 < reds["outline"] < reds["filled"]
    (tmp_path / "g.png").mkdir()
    with pytest.raises(CannotWriteError):
        drawing.write_figure(figure, tmp_path / "g.png")


def test_kinds_of_figure(drawing: Any) -> None:
    drawing.check_suffix(Path("a.PNG"))
    for name in ("a", "a.exe"):
        with pytest.raises(UsageError, match=r"\.png"):
            drawing.check_suffix(Path(name))
