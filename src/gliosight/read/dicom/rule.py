"""What a line of the tables of rules is (read stage, DICOM, below `unusable`, `sequences` and `rules`).

In: nothing. Out: `Rule` and `ContrastRule`, which the tables are made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gliosight.read.dicom.acquisition import Acquisition
from gliosight.study import Sequence

Confidence = Literal["certain", "likely", "guess"]


@dataclass(frozen=True)
class Rule:
    """One line of the table.

    Parameters
    ----------
    name : str
        Stable; stands in ``inspect`` and in docs.
    kind : str
    sequence : Sequence or None
    usable : bool
    test : callable
        What has to hold of the acquisition.
    confidence : {"certain", "likely", "guess"}
    why : str
        ``{values}`` stands for timing and pulses, ``{image_type}`` for ImageType, ``{said}`` for the
        sequence in the description; other names are fields of `Acquisition`.
    """

    name: str
    kind: str
    sequence: Sequence | None
    usable: bool
    test: Callable[[Acquisition], bool]
    confidence: Confidence
    why: str


@dataclass(frozen=True)
class ContrastRule:
    """One line of the table that tells T1 after contrast medium from T1.

    Parameters
    ----------
    name : str
    fields, said : bool or None
        What the fields for contrast medium (PS3.3 section C.7.6.4) and the description must say.
    contrast : bool or None
    confidence : {"certain", "likely", "guess"}
    why : str
    """

    name: str
    fields: bool | None
    said: bool | None
    contrast: bool | None
    confidence: Confidence
    why: str
