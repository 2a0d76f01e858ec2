"""The page of a follow-up: one HTML file, readable offline, printed, and without JavaScript (archive).

It has the style of ``report.html``. What comes from the studies is hostile text: the template escapes it, and
a content security policy allows this page's own style and script by hash, pictures as data, and nothing else.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import ceil, log10
from typing import Any
from urllib.parse import quote

import numpy as np
from markupsafe import Markup

import gliosight
from gliosight.analysis import LIMITS, MASK_MEANING, RESEARCH_USE, probability_words
from gliosight.archive.follow_up import words
from gliosight.archive.follow_up.compare import FollowUp, Measure
from gliosight.write.pages import fill, page_template, template_text
from gliosight.write.pictures import (
    choose_slices,
    encode_grey,
    find_window,
    plan_display,
    svg_path,
    trace,
)

# Slices with pictures, of them on paper; longest side of a picture, pixels.
SLICES, PRINTED, LONGEST = 24, 4, 360
# The chart, in its own units: size, room for the axes at the left, right, top and bottom, height of a name.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM, NAME = 720, 260, 52, 64, 14, 40, 14


def render_page(follow_up: FollowUp, files: Mapping[str, str]) -> str:
    """The page as text; ``files`` are those beside it: name, and what it is."""
    shape = next(side.values.shape for side in follow_up.sampled if side is not None)
    display = plan_display(follow_up.grid, (shape[0], shape[1], shape[2]))
    style = "\n".join(
        (
            template_text("write", "report.css"),
            template_text("archive/follow_up", "follow-up.css"),
            f":root{{--aspect:{display.aspect:.5f}}}",
        )
    )
    script = template_text("archive/follow_up", "follow-up.js")
    hashes = [b64encode(sha256(text.encode()).digest()).decode() for text in (style, script)]
    change = words.overall(follow_up.total)
    context = {
        "policy": f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; "
        f"script-src 'sha256-{hashes[1]}'; base-uri 'none'; form-action 'none'",
        "style": Markup(style),  # noqa: S704 - our own files
        "script": Markup(script),  # noqa: S704 - our own file
        "words": words,
        "probability_words": probability_words,
        "research_use": RESEARCH_USE,
        "mask_meaning": MASK_MEANING,
        "limits": LIMITS,
        "version": gliosight.__version__,
        "follow_up": follow_up,
        "change": change,
        "kind": change.kind.replace(" ", "-") if follow_up.lesions else "none",
        "unknown": list(dict.fromkeys(v.unknown for v in follow_up.visits if v.unknown)),
        "display": display,
        "chart": _chart(follow_up),
        "slices": _pictures(follow_up),
        "files": [
            {"href": "./" + quote(name), "name": name, "what": what} for name, what in files.items()
        ],
    }
    return fill(page_template("archive/follow_up", "follow-up.html.j2"), **context)


@dataclass(frozen=True)
class Point:
    """A volume on the chart: its place, the ends of its interval, and what it says."""

    x: float
    y: float
    low: float
    high: float
    label: str


def _chart(follow_up: FollowUp) -> dict[str, Any] | None:
    """Lines and axes of the chart; ``None`` where nothing was measured."""
    lesions = [follow_up.total]
    if len(follow_up.lesions) > 1:
        lesions += follow_up.lesions
    tops = [m.volume_high_ml or m.volume_ml or 0.0 for one in lesions for m in one.measures]
    if not max(tops):
        return None
    step = _round_step(max(tops) / 4)
    most = step * ceil(max(tops) / step)
    days = [visit.days for visit in follow_up.visits]
    dated = None not in days
    at = [float(day or 0) for day in days] if dated else [float(k) for k in range(len(days))]
    span = at[-1] - at[0] or 1.0
    xs = [LEFT + 24 + (WIDTH - LEFT - RIGHT - 48) * (one - at[0]) / span for one in at]

    def y_of(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / most

    def point(n: int, k: int, measure: Measure) -> Point:
        volume = measure.volume_ml or 0.0
        low, high = measure.volume_low_ml, measure.volume_high_ml
        text, interval = words.volume_words(measure)
        label = f"Study {k + 1}: {text}" + (f", 90 % interval {interval}" if interval else "")
        low, high = (y_of(volume if end is None else end) for end in (low, high))
        return Point(xs[k] + 7 * n, y_of(volume), low, high, label)  # bars stand side by side

    lines: list[dict[str, Any]] = []
    for n, lesion in enumerate(lesions):
        measures = enumerate(lesion.measures)
        points = [point(n, k, measure) for k, measure in measures if measure.volume_ml is not None]
        if points:
            name = str(lesion.id) if lesion.id else "all"
            lines.append({"name": name, "total": not lesion.id, "points": points})
    lowest = -np.inf
    for line in sorted(
        lines, key=lambda one: one["points"][-1].y
    ):  # names keep clear of each other
        line["name_y"] = lowest = max(line["points"][-1].y, lowest + NAME)
    return {
        "size": (WIDTH, HEIGHT),
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "floor": HEIGHT - BOTTOM,
        "unit": "days since the first study" if dated else "study",
        "ticks": [(y_of(k * step), f"{k * step:g}") for k in range(round(most / step) + 1)],
        "visits": [
            (x, f"{day}" if dated else f"{k + 1}")
            for k, (x, day) in enumerate(zip(xs, days, strict=True))
        ],
        "lines": lines,
    }


def _round_step(value: float) -> float:
    """The next larger of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** np.floor(log10(value))
    return float(next(n * power for n in (1, 2, 5, 10) if n * power >= value * 0.999))


def _pictures(follow_up: FollowUp) -> list[dict[str, Any]]:
    """Slices of the common grid through the lesions: of each visit the picture and the outlines."""
    shown = [
        (k, side, labels > 0)
        for k, (side, labels) in enumerate(zip(follow_up.sampled, follow_up.labels, strict=True))
        if side is not None and labels is not None
    ]
    areas = np.sum([mask.sum(axis=(1, 2)) for _, _, mask in shown], axis=0)
    marked = np.flatnonzero(areas)
    if not len(marked):
        marked = np.array([len(areas) // 2])
    largest = int(areas[marked].argmax())
    chosen = marked[choose_slices(len(marked), SLICES, [largest])].tolist()
    start = int(marked[largest])
    printed = {chosen[k] for k in choose_slices(len(chosen), PRINTED, [chosen.index(start)])}
    windows = [find_window(side.values) for _, side, _ in shown]
    display = plan_display(follow_up.grid, shown[0][1].values.shape)
    heights = follow_up.grid.slice_positions
    slices = []
    for index in chosen:
        frames = []
        for n, (k, side, mask) in enumerate(shown):
            grey = windows[n].apply(side.values[index])
            grey[~side.covered[index]] = 0
            earlier = shown[n - 1][2][index] if n else np.zeros_like(mask[index])
            frames.append(
                {
                    "visit": k,
                    "jpeg": b64encode(encode_grey(display.turn(grey), LONGEST)).decode(),
                    "outline": svg_path(trace(display.turn(mask[index]))),
                    "earlier": svg_path(trace(display.turn(earlier))),
                    "added": svg_path(trace(display.turn(mask[index] & ~earlier))) if n else "",
                    "lost": svg_path(trace(display.turn(earlier & ~mask[index]))) if n else "",
                }
            )
        slices.append(
            {
                "index": index,
                "place": f"{heights[index]:.0f} mm",
                "frames": frames,
                "start": index == start,
                "printed": index in printed,
                "lesions": _lesions_on(follow_up, index),
            }
        )
    return slices


def _lesions_on(follow_up: FollowUp, index: int) -> Sequence[int]:
    present = {
        int(number)
        for labels in follow_up.labels
        if labels is not None
        for number in np.unique(labels[index])
    }
    return sorted(present - {0})
