"""The contact sheet: whole, on the right side, and proof against names."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gliosight.analysis import Status
from gliosight.study import MrSequence
from gliosight.write.overview import (
    OUTLINE,
    draw_overview,
    drawable,
    fact_words,
    write_overview,
)

from .builders import make_analysis, make_geometry


def outline_columns(sheet, width=1.0):
    """Where on the sheet outline-coloured pixels are, as parts of its width."""
    pixels = np.asarray(sheet).astype(int)
    near = np.abs(pixels - OUTLINE).sum(axis=-1) < 60
    return np.nonzero(near)[1] / pixels.shape[1]


def test_it_is_a_picture(tmp_path):
    write_overview(make_analysis(), tmp_path / "overview.png")
    with Image.open(tmp_path / "overview.png") as sheet:
        sheet.load()
        assert sheet.format == "PNG"
        assert sheet.width == 1600
        assert 500 < sheet.height < 2600


@pytest.mark.parametrize("orientation", ["axial", "axial flipped", "coronal", "axial transposed"])
def test_the_outline_is_on_the_side_of_the_lesion(orientation):
    # One slice: its left is the sheet's left, and the lesion is the patient's left, shown right.
    whole = make_analysis(geometry=orientation)
    index = whole.findings[0].largest_slice
    geometry = whole.study.geometry
    one = type(geometry)(
        geometry.origins[index : index + 1],
        geometry.row_direction,
        geometry.column_direction,
        geometry.spacing,
        slice_thickness=6.0,
    )
    cut = {k: v.values[index : index + 1] for k, v in whole.study.sequences.items()}
    analysis = make_analysis(
        (1, *whole.study.shape[1:]),
        one,
        values=cut,
        probability=whole.maps.probability[index : index + 1],
    )
    at = outline_columns(draw_overview(analysis))
    assert len(at) > 100
    assert at.mean() > 0.52


def test_no_outline_where_nothing_was_found():
    assert len(outline_columns(draw_overview(make_analysis(lesion=False)))) == 0


@pytest.mark.parametrize(
    ("shape", "known"),
    [((1, 1, 1), True), ((1, 1, 200), False), ((2, 200, 1), True), ((70, 8, 8), False)],
)
def test_weird_sizes_work(shape, known):
    values = {MrSequence.FLAIR: np.arange(np.prod(shape), dtype=np.int16).reshape(shape)}
    analysis = make_analysis(
        shape,
        make_geometry(shape) if known else None,
        values=values,
        probability=np.full(shape, 0.9, np.float32),
        sequences=(MrSequence.FLAIR,),
    )
    assert draw_overview(analysis).width == 1600


@pytest.mark.parametrize(
    "name", ["", "x" * 5000, "脑部 研究 \U0001f9e0", "\ud800\udcff", "a\nb\x1b[2J\x00", "مرحبا"]
)
def test_names_of_any_kind_do_not_hurt(name):
    analysis = make_analysis((2, 20, 16), study_id=name, status=Status.NOT_ASSESSED)
    assert draw_overview(analysis).width == 1600


def test_what_the_font_lacks_is_an_escape():
    assert drawable("日本 ünï a–b\x1b") == r"\u65e5\u672c \xfcn\xef a\u2013b\x1b"
    assert drawable("\U0001f9e0\udce9") == r"\U0001f9e0\udce9"


def test_two_patients_never_look_alike():
    names = ["脑部", "研究", "ünï", "uni", "üni", "a–b", "a-b", "a—b", "???"]
    sheets = {
        draw_overview(make_analysis((1, 8, 8), study_id=one, status=Status.NOT_ASSESSED)).tobytes()
        for one in names
    }
    assert len(sheets) == len(names)


@pytest.mark.parametrize(
    ("slices", "lesion", "words"),
    [
        (1, False, ["1 slice"]),
        (2, False, ["2 slices"]),
        (70, False, ["40 of 70 slices shown"]),
        (24, True, ["1 finding", "24 slices"]),
    ],
)
def test_numbers_and_words_agree(slices, lesion, words):
    analysis = make_analysis((slices, 24, 20), lesion=lesion)
    facts = fact_words(analysis, min(slices, 40))
    assert facts[2:] == words
