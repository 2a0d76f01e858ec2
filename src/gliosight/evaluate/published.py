"""What others have reported on the LGG set, to be read beside our figures (evaluate).

Plain values: name, figure, what it rests on. They are shown where the scored patients are of that set.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One reported figure."""

    what: str
    figures: str
    rests_on: str


# The ten patients a port of the set's network was selected on: scored as a group of their own.
PEER_PATIENTS = (
    "CS_4944",
    "CS_6667",
    "CS_6668",
    "DU_5851",
    "DU_7014",
    "HT_7616",
    "HT_7692",
    "HT_7879",
)

ON_LGG = (
    Published(
        "U-Net of the set's authors (Buda 2019, doi:10.1016/j.compbiomed.2019.05.002)",
        "mean Dice 0.836, median 0.873",
        "110 patients, 22-fold, by patient",
    ),
    Published(
        "Its PyTorch port",
        "mean Dice 0.91, median 0.92",
        "ten patients that also selected it: eight are the group “the peer’s validation patients”",
    ),
    Published(
        "Two experts with each other", "Dice 0.84 (standard deviation 0.02)", "the same task"
    ),
    Published(
        "The tutorial's detector",
        "slice accuracy 0.981",
        "a split by slice: read it against the baseline nearest_slice, 0.944 on such a split",
    ),
)


def published_on(patients: Iterable[str]) -> tuple[Published, ...]:
    """The figures to show beside these patients; none for other data."""
    names = list(patients)
    return ON_LGG if names and all(one.startswith("TCGA_") for one in names) else ()
