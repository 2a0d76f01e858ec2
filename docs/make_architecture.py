"""Draw docs/images/architecture.svg from the import graph: python docs/make_architecture.py.

Rows are the layers of `lint-imports` (pyproject.toml). A line goes from a module down to one that it
imports; a line that a longer way down already implies is left out.
"""

from __future__ import annotations

import tomllib
from html import escape
from itertools import pairwise, permutations
from pathlib import Path

import grimp
import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
PICTURE = REPOSITORY / "docs" / "images" / "architecture.svg"
WIDTH, ROW, TOP, BOX, HEIGHT = 880, 74, 18, 104, 34  # pixels
Point = tuple[float, float]
STAGES = ["read", "prepare", "gate", "infer", "decide", "measure", "write"]
STYLE = """
text { font: 14px system-ui, sans-serif; text-anchor: middle; dominant-baseline: central; fill: #16202a }
rect { fill: #f3f6f8; stroke: #566270 } .stage { fill: #d9eef2; stroke: #0b6477 }
.paper { fill: #ffffff; stroke: none } .import { fill: none; stroke: #9fadba; stroke-width: 1.3 }
.flow { fill: none; stroke: #0b6477; stroke-width: 2; marker-end: url(#tip) }
"""


def layers() -> list[list[str]]:
    """Modules of each layer, highest first; the stages in the order in which a study passes them."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    (contract,) = (c for c in settings["tool"]["importlinter"]["contracts"] if "layers" in c)
    return [layer.split(" | ") for layer in contract["layers"] if layer != "__main__"]


def imports(names: set[str]) -> set[tuple[str, str]]:
    """Which module of the package imports which, without what a longer way implies."""
    graph = grimp.build_graph("gliosight")
    for name in names:
        if graph.find_children(f"gliosight.{name}"):
            graph.squash_module(f"gliosight.{name}")
    below = {
        name: {
            module.removeprefix("gliosight.")
            for module in graph.find_modules_directly_imported_by(f"gliosight.{name}")
        }
        & names - {name}
        for name in names
    }

    def reached(name: str) -> set[str]:
        return below[name].union(*(reached(other) for other in below[name]))

    return {
        (name, other)
        for name in names
        for other in below[name]
        if not any(other in reached(between) for between in below[name])
    }


def curve(start: Point, end: Point) -> tuple[Point, Point, Point, Point]:
    """The Bézier curve from under one box to the top of another."""
    bend = (end[1] - start[1]) / 2
    return (
        (start[0], start[1] + HEIGHT / 2),
        (start[0], start[1] + bend),
        (end[0], end[1] - bend),
        (end[0], end[1] - HEIGHT / 2),
    )


def hidden(lines: set[tuple[str, str]], centre: dict[str, Point]) -> float:
    """How much of the lines lies behind foreign boxes, and, weighted far less, how long they are."""
    share = np.linspace(0, 1, 60)[:, None]
    weights = np.hstack(
        [(1 - share) ** 3, 3 * share * (1 - share) ** 2, 3 * share**2 * (1 - share), share**3]
    )
    total = 0.0
    for name, other in lines:
        points = weights @ np.array(curve(centre[name], centre[other]))
        boxes = np.array([at for box, at in centre.items() if box not in (name, other)])
        away = np.abs(points[:, None] - boxes[None])
        total += ((away[..., 0] < BOX / 2 + 4) & (away[..., 1] < HEIGHT / 2 + 4)).sum()
        total += 0.002 * abs(centre[name][0] - centre[other][0])
    return total


def arrange(rows: list[list[str]], lines: set[tuple[str, str]]) -> dict[str, Point]:
    """Where the middle of each box lies: in the columns of the stages, so that few lines lie behind boxes."""
    columns = [WIDTH * (2 * k + 1) / (2 * len(STAGES)) for k in range(len(STAGES))]
    level = {name: TOP + HEIGHT / 2 + ROW * k for k, row in enumerate(rows) for name in row}
    centre = {
        name: (
            columns[(k + 1) * len(STAGES) // (len(row) + 1) if row != STAGES else k],
            level[name],
        )
        for row in rows
        for k, name in enumerate(row)
    }
    movable = [row for row in rows if row != STAGES]
    for _ in range(4):
        for row in movable:
            tried = [
                centre | {name: (x, level[name]) for name, x in zip(row, places, strict=True)}
                for places in permutations(columns, len(row))
            ]
            centre = min(tried, key=lambda places: hidden(lines, places))
    return centre


def draw() -> str:
    """The picture, as SVG."""
    rows = layers()
    connected = imports({name for row in rows for name in row})
    centre = arrange(rows, connected)
    half = HEIGHT / 2
    lines = []
    for name, other in sorted(connected):
        first, *others = (f"{x:.0f} {y:.0f}" for x, y in curve(centre[name], centre[other]))
        title = f"<title>{name} imports {other}</title>"
        lines.append(f'<path class="import" d="M{first} C{" ".join(others)}">{title}</path>')
    for name, other in pairwise(STAGES):
        (x, y), (to_x, _) = centre[name], centre[other]
        lines.append(
            f'<path class="flow" d="M{x + BOX / 2:.0f} {y:.0f} H{to_x - BOX / 2 - 7:.0f}"/>'
        )
    for name, (x, y) in centre.items():
        kind = ' class="stage"' if name in STAGES else ""
        lines.append(
            f'<rect{kind} x="{x - BOX / 2:.0f}" y="{y - half:.0f}" width="{BOX}" height="{HEIGHT}" rx="6"/>'
            f'<text x="{x:.0f}" y="{y:.0f}">{escape(name)}</text>'
        )
    height = 2 * TOP + ROW * (len(rows) - 1) + HEIGHT
    body = "\n".join(lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">\n'
        "<title>Modules of gliosight in their layers; lines are imports, arrows the way of a study</title>\n"
        f"<style>{STYLE}</style>\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#0b6477"/></marker></defs>\n'
        f'<rect class="paper" width="{WIDTH}" height="{height}"/>\n{body}\n</svg>\n'
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
