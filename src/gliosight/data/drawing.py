"""What `data describe` and `data show` draw (data; extra: evaluate).

The page has its style and plots inside, no script, and no patient's image. The figure shows patients' images.
"""

from __future__ import annotations

import io
import warnings
from base64 import b64encode
from collections.abc import Collection
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gliosight import __version__
from gliosight.analysis import RESEARCH_USE
from gliosight.data.describe import NO_INSTITUTION, Look, Summary
from gliosight.data.manifest import Manifest, SliceRow, write_whole
from gliosight.data.studies import read_row, read_row_mask
from gliosight.errors import UnsupportedInputError, UsageError, printable
from gliosight.read.limits import DEFAULT_LIMITS, Budget
from gliosight.read.nifti_file import Image
from gliosight.read.slices import CHANNELS
from gliosight.study import MrSequence
from gliosight.write.pages import fill, page_template, template_text
from gliosight.write.pictures import find_window, plan_display, trace

PAGE = "describe.html"
# Rows of the manifest on the page.
FIRST_ROWS = 5

INK, QUIET, LINE, QUIET_BAR, TUMOUR = "#16202a", "#566270", "#dde2e7", "#a9b6c2", "#a03d0c"
# Colours of institutions, apart also for those who tell red and green badly (Okabe and Ito, 2008).
HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f")
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

# The figure: inches and dots of a panel, of which three stand in a row.
SUFFIXES = (".png", ".jpg", ".pdf", ".svg")
RED = (255, 0, 0)
INCHES, DPI, PANELS = 2.6, 130, 3
# How the mask is marked on the third panel, and its title.
Mark = Literal["filled", "see-through", "outline"]
MARKS: dict[Mark, str] = {
    "filled": "mask in red",
    "see-through": "mask in red, see-through",
    "outline": "outline of the mask in red",
}
SEE_THROUGH = 0.35


def render_page(manifest: Manifest, name: str, summary: Summary, look: Look) -> bytes:
    """The page, UTF-8, of a manifest with at least one usable slice; ``name`` is its file's.

    Names of patients and files are hostile text: the template escapes them.
    """
    style = template_text("data", "describe.css")
    text = fill(
        page_template("data", "describe.html.j2"),
        style=style,
        style_digest=b64encode(sha256(style.encode()).digest()).decode("ascii"),
        name=printable(name),
        version=__version__,
        digest=manifest.sha256,
        research_use=RESEARCH_USE,
        summary=summary,
        look=look,
        head=manifest.rows[:FIRST_ROWS],
        missing={name: patients for name, patients in summary.missing.items() if patients},
        plots=draw_plots(manifest),
    )
    return text.encode("utf-8", "backslashreplace")


def draw_plots(manifest: Manifest) -> list[tuple[str, str, str]]:
    """Title, explanation and source (an SVG as data URL) of each plot, from the manifest's numbers alone."""
    # No date: the same data set gives the same page.
    options = {"transparent": True, "metadata": {"Date": None, "Creator": None}}
    plots: list[tuple[str, str, str]] = []
    with mpl.rc_context(_STYLE):
        for draw in (_slices, _areas, _volumes, _positions):
            title, text, figure = draw(manifest)
            svg = b64encode(_saved(figure, "svg", **options)).decode()
            plots.append((title, text, f"data:image/svg+xml;base64,{svg}"))
    return plots


def _slices(manifest: Manifest) -> tuple[str, str, Figure]:
    counts = sorted(
        (len(rows), sum(row.tumour for row in rows)) for rows in manifest.by_patient.values()
    )
    every, tumour = np.asarray(counts).T
    figure, axes = _axes("patients, ordered by their slices", "slices")
    axes.bar(np.arange(len(counts)), every, width=0.9, color=QUIET_BAR, label="all")
    axes.bar(np.arange(len(counts)), tumour, width=0.9, color=TUMOUR, label="with tumour")
    _legend(axes)
    text = "A bar for each patient; the dark part are the slices with tumour."
    return "Slices of each patient", text, figure


def _areas(manifest: Manifest) -> tuple[str, str, Figure]:
    areas = [row.area_px for row in manifest.used if row.tumour]
    figure, axes = _axes("tumour area of a slice, pixels", "slices")
    if areas:
        axes.hist(areas, bins=BINS, color=TUMOUR, rwidth=0.92)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    text = "Slices that show tumour, by its area. Small ones are the hard ones."
    return "Tumour area", text, figure


def _volumes(manifest: Manifest) -> tuple[str, str, Figure]:
    volumes = sorted(
        (sum(row.area_px for row in rows), rows[0].institution or NO_INSTITUTION)
        for rows in manifest.by_patient.values()
    )
    figure, axes = _axes("patients, ordered by volume", "tumour pixels, all slices")
    for k, name in enumerate(sorted({institution for _, institution in volumes})):
        ranks = [rank for rank, (_, institution) in enumerate(volumes) if institution == name]
        heights = [volumes[rank][0] for rank in ranks]
        axes.bar(ranks, heights, width=0.9, color=HUES[k % len(HUES)], label=printable(name))
    _legend(axes)
    text = "A bar for each patient, coloured by institution."
    return "Tumour volume of each patient", text, figure


def _positions(manifest: Manifest) -> tuple[str, str, Figure]:
    counts = np.zeros((2, BINS))
    for rows in manifest.by_patient.values():
        for k, row in enumerate(rows):
            position = min(int(BINS * (k + 0.5) / len(rows)), BINS - 1)
            counts[:, position] += (1, row.tumour)
    figure, axes = _axes("place in the stack: first slice to last", "slices with tumour")
    part = 100 * counts[1] / np.maximum(counts[0], 1)
    axes.bar((np.arange(BINS) + 0.5) / BINS, part, width=0.92 / BINS, color=TUMOUR)
    axes.set(xlim=(0, 1), ylim=(0, 100))
    axes.yaxis.set_major_formatter("{x:.0f} %")
    axes.xaxis.set_major_formatter("{x:.1f}")
    text = "Part of the slices that show tumour, by their place. What a guess by place alone knows."
    return "Where in the stack", text, figure


def _legend(axes: Axes) -> None:
    """Above the axes, since few patients leave no room within; patients have no ticks."""
    axes.set_xticks([])
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=6)


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot(xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    return figure, axes


def _saved(figure: Figure, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script the font lacks
        figure.savefig(out, format=kind, **options)
    return out.getvalue()


def check_suffix(path: Path) -> None:
    """Refuse a kind of picture that is not written; raises `UsageError`."""
    if path.suffix.lower() not in SUFFIXES:
        what = f"a figure cannot be written as {path.suffix or 'a file without suffix'}"
        remedy = f"choose one of {', '.join(SUFFIXES)}"
        raise UsageError(what, where=path.name, remedy=remedy)


def choose_rows(
    manifest: Manifest,
    count: int,
    seed: int,
    *,
    patient: str | None = None,
    numbers: Collection[int] = (),
) -> list[SliceRow]:
    """Choose the slices of a figure.

    Without ``numbers`` random ones with tumour, of the patient where one is given; all of them where there
    are no more. With ``numbers`` these slices of the patient, with or without tumour.

    Raises
    ------
    UsageError
        No such patient or slice.
    UnsupportedInputError
        There is no slice with tumour.
    """
    used: Collection[SliceRow] = manifest.used
    if patient is not None:
        used = manifest.by_patient.get(patient, ())
        if not used:
            near = get_close_matches(patient, manifest.patients, n=3, cutoff=0.5)
            names = ", ".join(map(printable, near or manifest.patients[:3]))
            what = f"the manifest has no usable slice of a patient {printable(patient)!r}"
            raise UsageError(what, remedy=f"give its name as in the manifest, such as {names}")
    if numbers:
        by_number = {row.number: row for row in used}
        for number in numbers:
            if number not in by_number:
                numbered = f"{min(by_number)} to {max(by_number)}"
                what = f"the patient has no usable slice {number}"
                raise UsageError(what, remedy=f"its slices are numbered {numbered}")
        return [by_number[number] for number in dict.fromkeys(numbers)]
    rows = sorted((row for row in used if row.tumour), key=lambda row: row.key)
    if patient is not None and not rows:
        what = f"no slice of {printable(patient)} shows tumour"
        raise UnsupportedInputError(what, remedy="name slices: --slice")
    if not rows:
        what = "no slice of the manifest shows tumour"
        raise UnsupportedInputError(what, remedy="check its masks: gliosight data audit")
    count = min(count, len(rows))
    chosen = np.random.default_rng(seed).choice(len(rows), size=count, replace=False)
    return [rows[k] for k in chosen]


def read_shown(
    manifest: Manifest, row: SliceRow, *, flair: bool
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], float]:
    """Read one slice as the figure shows it: (rows, columns, 3) bytes, mask, and height by width of a pixel.

    A picture of three channels is shown as colours, as the tutorial does, or its FLAIR in grey; a volume as
    FLAIR in grey, turned to radiological display where it has a geometry. Raises `GliosightError`.
    """
    budget = Budget(DEFAULT_LIMITS)
    image = read_row(manifest, row, budget)
    mask = np.asarray(read_row_mask(manifest, row, budget).values) != 0
    if isinstance(image, Image):
        display = plan_display(image.geometry, image.values.shape)
        grey = display.turn(find_window(image.values).apply(image.values[row.number]))
        aspect = display.pixel[0] / display.pixel[1]
        return np.repeat(grey[..., None], 3, axis=-1), display.turn(mask[row.number]), aspect
    values = image.values
    if flair and values.shape[-1] == len(CHANNELS):
        channel = CHANNELS.index(MrSequence.FLAIR)
        values = values[..., channel : channel + 1]
    if values.dtype != np.uint8:
        low, high = float(values.min()), float(values.max())
        values = (values.astype(np.float64) - low) * (255 / (high - low) if high > low else 0)
    return np.broadcast_to(values, (*values.shape[:2], 3)).astype(np.uint8), mask, 1.0


def draw_figure(
    manifest: Manifest, rows: list[SliceRow], *, flair: bool, mark: Mark = "filled"
) -> Figure:
    """Three pictures to a row: slice, mask, slice with the mask in red, as the tutorial draws it.

    ``mark``: the red hides what it covers (``filled``), lets it shine through, or is a line around it.
    """
    shown = [read_shown(manifest, row, flair=flair) for row in rows]
    figure = Figure(figsize=(PANELS * INCHES, len(rows) * (INCHES + 0.25)), layout="constrained")
    axes = figure.subplots(len(rows), PANELS, squeeze=False)
    for panels, row, (picture, mask, aspect) in zip(axes, rows, shown, strict=True):
        marked = picture.copy()
        if mark != "outline":
            part = 1.0 if mark == "filled" else SEE_THROUGH
            marked[mask] = np.rint(part * np.asarray(RED) + (1 - part) * picture[mask])
        pictures = {
            f"{printable(row.patient)}, slice {row.number}": picture,
            f"mask, {int(mask.sum()):,} pixels": np.where(mask, 255, 0).astype(np.uint8),
            MARKS[mark]: marked,
        }
        for panel, (title, values) in zip(panels, pictures.items(), strict=True):
            panel.imshow(values, cmap="gray", vmin=0, vmax=255, aspect=aspect)
            panel.set_title(title, fontsize=8, parse_math=False)
            panel.set_axis_off()
        if mark == "outline":
            for loop in trace(mask):
                # Loops run along corners; the centres of a panel's pixels are at whole numbers.
                x, y = np.vstack([loop, loop[:1]]).T - 0.5
                panels[-1].plot(x, y, color=np.asarray(RED) / 255, linewidth=1.2)
    return figure


def write_figure(figure: Figure, path: Path) -> None:
    """Write the figure in the format that the suffix says; raises `CannotWriteError`."""
    write_whole(path, _saved(figure, path.suffix.lower().lstrip("."), dpi=DPI))
