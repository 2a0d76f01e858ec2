"""The plots of a data set (data; extra: evaluate).

In: a `Manifest`. Out: SVG texts, drawn from the manifest's numbers alone: no patient's image is in them.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gliosight.data.manifest import Manifest
from gliosight.data.summary import NO_INSTITUTION
from gliosight.errors import printable

INK, QUIET, LINE, QUIET_BAR, TUMOUR = "#16202a", "#566270", "#dde2e7", "#a9b6c2", "#a03d0c"
# Colours of institutions, apart also for those who tell red and green badly (Okabe and Ito, 2008).
HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f")
SIZE = (6.4, 3.4)
BINS = 20
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": QUIET,
    "axes.edgecolor": LINE,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "svg.fonttype": "path",
    "svg.hashsalt": "gliosight",
}


@dataclass(frozen=True)
class Plot:
    """One plot: a title, a sentence that says how to read it, and an SVG."""

    title: str
    text: str
    svg: str


def draw_plots(manifest: Manifest) -> list[Plot]:
    """All plots of a data set with at least one usable slice."""
    with mpl.rc_context(_STYLE):
        return [
            _slices(manifest),
            _areas(manifest),
            _volumes(manifest),
            _positions(manifest),
        ]


def _slices(manifest: Manifest) -> Plot:
    """Slices of each patient, those with tumour apart."""
    counts = sorted(
        (len(rows), sum(row.tumour for row in rows)) for rows in manifest.by_patient.values()
    )
    whole, tumour = np.asarray(counts).T
    figure, axes = _figure("patients, ordered by their slices", "slices")
    places = np.arange(len(counts))
    axes.bar(places, whole, width=0.9, color=QUIET_BAR, label="all")
    axes.bar(places, tumour, width=0.9, color=TUMOUR, label="with tumour")
    axes.set_xticks([])
    _legend(axes)
    return Plot(
        "Slices of each patient",
        "A bar for each patient; the dark part are the slices with tumour.",
        _svg(figure),
    )


def _areas(manifest: Manifest) -> Plot:
    areas = [row.area_px for row in manifest.used if row.tumour]
    figure, axes = _figure("tumour area of a slice, pixels", "slices")
    if areas:
        axes.hist(areas, bins=BINS, color=TUMOUR, rwidth=0.92)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    return Plot(
        "Tumour area",
        "Slices that show tumour, by its area. Small ones are the hard ones.",
        _svg(figure),
    )


def _volumes(manifest: Manifest) -> Plot:
    known = sorted(
        (sum(row.area_px for row in rows), rows[0].institution or NO_INSTITUTION)
        for rows in manifest.by_patient.values()
    )
    names = sorted({name for _, name in known})
    hue = {name: HUES[k % len(HUES)] for k, name in enumerate(names)}
    figure, axes = _figure("patients, ordered by volume", "tumour pixels, all slices")
    for name in names:
        places = [k for k, one in enumerate(known) if one[1] == name]
        label = printable(name)
        axes.bar(places, [known[k][0] for k in places], width=0.9, color=hue[name], label=label)
    axes.set_xticks([])
    _legend(axes)
    return Plot(
        "Tumour volume of each patient",
        "A bar for each patient, coloured by institution.",
        _svg(figure),
    )


def _positions(manifest: Manifest) -> Plot:
    """How often there is tumour, by the slice's place in its stack."""
    seen = np.zeros((2, BINS))
    for rows in manifest.by_patient.values():
        for k, row in enumerate(rows):
            place = min(int(BINS * (k + 0.5) / len(rows)), BINS - 1)
            seen[:, place] += (1, row.tumour)
    figure, axes = _figure("place in the stack: first slice to last", "slices with tumour")
    part = 100 * seen[1] / np.maximum(seen[0], 1)
    axes.bar((np.arange(BINS) + 0.5) / BINS, part, width=0.92 / BINS, color=TUMOUR)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 100)
    axes.yaxis.set_major_formatter("{x:.0f} %")
    axes.xaxis.set_major_formatter("{x:.1f}")
    return Plot(
        "Where in the stack",
        "Part of the slices that show tumour, by their place. What a guess by place alone knows.",
        _svg(figure),
    )


def _legend(axes: Axes) -> None:
    """Above the axes: few patients leave no room within."""
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=6)


def _figure(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    return figure, axes


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    # No date: the same data set gives the same page.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script the font lacks
        figure.savefig(
            out, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    return out.getvalue()
