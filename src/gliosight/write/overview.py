"""The contact sheet ``overview.png`` (stage: write).

FLAIR slices with the outline, radiological where the sides are known, the verdict above them and what it is
worth below. The air around the head is cut away, and of more slices than there is room for those without head
are left out; the mask is always shown whole.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gliosight.analysis import MASK_MEANING, RESEARCH_USE, Analysis, Status
from gliosight.errors import printable
from gliosight.flags import beside_reason, warnings_of
from gliosight.write.pictures import (
    Display,
    Tissue,
    choose_slices,
    find_frame,
    find_tissue,
    find_window,
    plan_display,
    position_words,
    trace,
)
from gliosight.write.report import start_slice
from gliosight.write.words import (
    count_words,
    display_note,
    interval_words,
    share_words,
    study_words,
    verdict_bounds,
    volume_words,
    worst_warning,
)

MOST_SLICES = 40
# The sheet's width, and what is left free, pixels.
WIDTH = 1600
MARGIN = 36
GAP = 8
# What is above the slices besides its lines, a line, and what is below, pixels.
HEAD, LINE, FOOT = 100, 32, 116
# Wide or tall pictures get a cell no flatter or narrower than this: weird sizes must stay visible.
ASPECT_LIMITS = (0.4, 2.5)
TALLEST_CELL = 620
# Room above a picture for its number and position: they must not cover a lesion.
CAPTION = 26
# Outlines are drawn this much larger and shrunk: Pillow does not smooth lines itself.
SMOOTHING = 2

PAPER = (14, 18, 22)
INK = (236, 241, 245)
QUIET = (160, 173, 184)
OUTLINE = (0, 213, 255)
AMBER = (242, 195, 107)
LAVENDER = (180, 194, 242)
STATUS_COLOUR = {
    Status.FOUND: (255, 173, 122),
    Status.NOT_FOUND: INK,
    Status.UNCERTAIN: LAVENDER,
    Status.NOT_ASSESSED: (184, 196, 207),
}


def write_overview(analysis: Analysis, path: Path, *, tissue: Tissue | None = None) -> None:
    """Write ``overview.png`` into a folder that exists; ``tissue`` is FLAIR's, if it is known already."""
    # A low level: higher ones take up to twice as long, and the file is not smaller.
    draw_overview(analysis, tissue=tissue).save(path, "PNG", compress_level=3)


def draw_overview(analysis: Analysis, *, tissue: Tissue | None = None) -> Image.Image:
    """The contact sheet as a picture; see `write_overview`."""
    flair = analysis.study.flair.values
    tissue = tissue or find_tissue(flair)
    slices, *box = find_frame(tissue, analysis.mask)
    visible = range(len(flair))[slices if len(flair) > MOST_SLICES else slice(None)]
    always = [finding.largest_slice for finding in analysis.findings] or [start_slice(analysis)]
    chosen = choose_slices(
        len(visible), MOST_SLICES, [k - visible[0] for k in always if k in visible]
    )
    indices = [visible[k] for k in chosen]
    window = find_window(flair, tissue)
    positions = position_words(analysis.study.geometry)
    shape = (len(flair), *flair[0][box[0], box[1]].shape)
    display = plan_display(analysis.study.geometry, shape)
    aspect = min(max(display.aspect, ASPECT_LIMITS[0]), ASPECT_LIMITS[1])
    # A sheet about as high as three quarters of its width.
    columns = max(1, min(len(indices), round(math.sqrt(len(indices) / aspect / 0.75))))
    width = (WIDTH - 2 * MARGIN - (columns - 1) * GAP) // columns
    height = round(width / aspect)
    if height > TALLEST_CELL:
        width, height = max(1, round(TALLEST_CELL * aspect)), TALLEST_CELL
    rows = math.ceil(len(indices) / columns)
    lines = [
        line
        for text in head_lines(analysis, len(indices))
        for line in _wrapped(drawable(_plain(text)), 22)
    ]
    top = HEAD + LINE * len(lines)
    bottom = top + rows * (CAPTION + height + GAP) - GAP
    sheet = Image.new("RGB", (WIDTH, bottom + FOOT), PAPER)
    inset = (WIDTH - columns * (width + GAP) + GAP) // 2
    for k, index in enumerate(indices):
        cell = Image.new("RGB", (width, CAPTION + height), (0, 0, 0))
        grey = window.apply(flair[index][box[0], box[1]])
        picture = outlined(display, grey, analysis.mask[index][box[0], box[1]], (width, height))
        cell.paste(
            picture, ((width - picture.width) // 2, CAPTION + (height - picture.height) // 2)
        )
        _letter(cell, display, str(index + 1), positions[index] if positions else "")
        row, column = divmod(k, columns)
        sheet.paste(cell, (inset + column * (width + GAP), top + row * (CAPTION + height + GAP)))
    _write_head(sheet, analysis, lines)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, bottom + 22), RESEARCH_USE, AMBER, _font(22), stroke_width=0.3)
    counted = "Slices are counted from 1."
    pen.text((WIDTH - MARGIN, bottom + 26), counted, QUIET, _font(18), "ra")
    note = f"{MASK_MEANING} {display_note(display)}" if analysis.findings else display_note(display)
    meaning = _shorten(_plain(note), WIDTH - 2 * MARGIN, 18)
    pen.text((MARGIN, bottom + 60), meaning, QUIET, _font(18))
    return sheet


def outlined(
    display: Display, grey: NDArray[np.uint8], mask: NDArray[np.bool_], size: tuple[int, int]
) -> Image.Image:
    """One slice with its outline, whole and undistorted, as large as its cell allows."""
    width = max(1, round(min(size[0], size[1] * display.aspect)))
    height = max(1, round(min(size[1], size[0] / display.aspect)))
    loops = trace(display.turn(mask))
    large = (width * SMOOTHING, height * SMOOTHING) if loops else (width, height)
    picture = Image.fromarray(np.ascontiguousarray(display.turn(grey)))
    picture = picture.resize(large, Image.Resampling.BICUBIC).convert("RGB")
    if not loops:
        return picture
    pen = ImageDraw.Draw(picture)
    scale = (large[0] / display.columns, large[1] / display.rows)
    for colour, thickness in (((0, 0, 0), 7), (OUTLINE, 3)):
        for loop in loops:
            points = [(float(x) * scale[0], float(y) * scale[1]) for x, y in loop.tolist()]
            # Two more points close the joint where the loop begins.
            pen.line([*points, *points[:2]], fill=colour, width=thickness, joint="curve")
    return picture.resize((width, height), Image.Resampling.BOX)


def _letter(cell: Image.Image, display: Display, number: str, position: str) -> None:
    """Write the slice's number and position above it, and edge letters at its sides."""
    pen = ImageDraw.Draw(cell)
    width, height = cell.size
    font, middle = _font(17 if width >= 150 else 13), (CAPTION + height) / 2
    for at, text, anchor, colour in (
        ((6, 5), number, "la", INK),
        ((width - 6, 5), position if width >= 150 else "", "ra", QUIET),
        ((6, middle), display.left, "lm", INK),
        ((width - 6, middle), display.right, "rm", INK),
    ):
        pen.text(at, text, colour, font, anchor, stroke_width=2, stroke_fill=(0, 0, 0))


def head_lines(analysis: Analysis, shown: int) -> list[str]:
    """What stands below the verdict, ``shown`` being the number of slices on the sheet."""
    decision = analysis.decision
    slices = count_words(analysis.study.shape[0], "slice")
    facts = [slices if shown == analysis.study.shape[0] else f"{shown} of {slices} shown"]
    if analysis.findings:
        word = "candidate" if analysis.status is Status.UNCERTAIN else "finding"
        facts.insert(0, count_words(len(analysis.findings), word))
    if decision.probability is None:
        first = decision.reason
    else:
        name = "Score, not calibrated," if decision.prevalence is None else "Probability of tumour"
        bounds = verdict_bounds(decision.uncertain_from, decision.found_from)
        first = f"{name} {study_words(decision)} ({bounds})"
        if decision.prevalence is not None:
            first += f", for collections where {share_words(decision.prevalence)} have one"
        volume, remark = volume_words(analysis)
        interval = interval_words(analysis)
        remark = f", 90 % interval {interval}" if interval else f" ({remark})"
        facts.insert(0, f"volume {volume}{remark}")
    warnings = warnings_of(beside_reason(analysis.flags, decision.reason))
    # A study that was not assessed has its reason, and nothing to say beside it.
    worst = worst_warning(warnings) if warnings or decision.probability is not None else ""
    lines = [first, ", ".join(facts), worst, decision.caveat]
    return [line[0].upper() + line[1:] for line in lines if line]


def _write_head(sheet: Image.Image, analysis: Analysis, lines: list[str]) -> None:
    pen = ImageDraw.Draw(sheet)
    status, font = analysis.status.value.capitalize(), _font(44)
    pen.text((MARGIN, 30), status, STATUS_COLOUR[analysis.status], font, stroke_width=0.5)
    room = WIDTH - 2 * MARGIN
    left = pen.textlength(status, font=font) + 60
    name = _shorten(drawable(analysis.study.study_id), room - left, 24)
    pen.text((WIDTH - MARGIN, 40), name, INK, _font(24), "ra")
    for k, line in enumerate(lines):
        pen.text((MARGIN, 88 + LINE * k), line, QUIET if k else INK, _font(22))


def drawable(text: str) -> str:
    """Text the font can draw; all else becomes visible escapes, so that no two names look alike."""
    return printable(text).encode("ascii", "backslashreplace").decode()


def _plain(text: str) -> str:
    """Our own words, without the typography that the font lacks."""
    return text.translate({ord("—"): "-", ord("–"): "-", ord("’"): "'", ord("²"): "2"})


def _wrapped(text: str, size: int) -> list[str]:
    """A sentence in as many lines as it needs, at most three."""
    font, room = _font(size), WIDTH - 2 * MARGIN
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if len(lines) == 3 or not lines[-1] or font.getlength(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return [_shorten(line, room, size) for line in lines]


def _shorten(text: str, room: float, size: int) -> str:
    """Text that fits, its middle left out if need be: the ends of a name tell more."""
    font = _font(size)
    if len(text) > 600:
        text = text[:300] + text[-300:]
    if font.getlength(text) <= room:
        return text
    keep = len(text) // 2
    while keep > 1 and font.getlength(f"{text[:keep]}…{text[-keep:]}") > room:
        keep -= 1
    return f"{text[:keep]}…{text[-keep:]}"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
