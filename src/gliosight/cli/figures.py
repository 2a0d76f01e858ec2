"""Figures of two models side by side, as a table for the terminal (layer: cli)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from gliosight.evaluate.scores import Figure


def side_by_side(
    figures: Mapping[str, Mapping[str, Figure]],
    sides: Mapping[str, str],
    difference: str,
    interval_title: str = "95 % interval",
) -> Table:
    """One row for each figure: both values, their difference, and its interval.

    Parameters
    ----------
    figures : mapping
        By figure, then by side; ``"difference"`` is one of them.
    sides : mapping of str to str
        What the column of each side is called.
    difference, interval_title : str
        What the columns of differences and of their intervals are called.
    """
    from rich.table import Table

    from gliosight.evaluate.words import SECTIONS, interval, number

    words = {name.key: name.short for _, names in SECTIONS for name in names}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", no_wrap=True)
    for title in (*sides.values(), difference, interval_title):
        table.add_column(title, justify="right", no_wrap=True)
    for key, found in figures.items():
        table.add_row(
            f"  {words[key]}",
            *(number(found[side].value) for side in sides),
            number(found["difference"].value),
            interval(found["difference"]),
        )
    return table
