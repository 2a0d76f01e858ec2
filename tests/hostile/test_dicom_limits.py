"""DICOM that claims, or unpacks to, more than there is: told before anything is allocated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gliosight.errors import DamagedInputError, LimitExceededError
from gliosight.phantom import Phantom, PhantomSpec, make_phantom
from gliosight.read import find
from gliosight.read.candidates import DicomCandidate
from gliosight.read.limits import DEFAULT_LIMITS
from tests.counting import little_memory

from .asserting import Capture, analyze_refuses, refused, tree
from .builders_dicom import (
    FLAIR_ONLY,
    beyond,
    bomb_of_a_header,
    bomb_of_pixels,
    claims,
    edited,
    study,
)


@pytest.fixture(scope="module")
def large() -> Phantom:
    """Just over a MiB of pixels."""
    return make_phantom(PhantomSpec(seed=2, slices=9, matrix=256, sequences=FLAIR_ONLY))


@pytest.mark.parametrize(
    "settings", [{}, {"syntax": "rle"}, {"layout": "enhanced"}, {"syntax": "deflated"}]
)
def test_more_pixels_than_allowed(
    settings: dict[str, Any], tmp_path: Path, capsys: Capture, large: Phantom
) -> None:
    path = study(tmp_path / "given", large, **settings)
    analyze_refuses(path, 6, ("--max-decoded",), tmp_path, capsys, "--max-decoded", "1")


@pytest.mark.parametrize("name", ["", "DICOMDIR"])
def test_more_files_than_allowed(name: str, tmp_path: Path, capsys: Capture) -> None:
    path = study(tmp_path / "given", dicomdir=True) / name
    analyze_refuses(path, 6, ("--max-members",), tmp_path, capsys, "--max-members", "3")


BEFORE_ALLOCATION: dict[str, tuple[type[Exception], Callable[[Path], Path], int]] = {
    "rows": (LimitExceededError, claims(Rows=60_000, Columns=60_000), 16),
    "an element": (DamagedInputError, beyond, 16),
    "deflated pixels": (LimitExceededError, bomb_of_pixels, 160),
    "a deflated header": (LimitExceededError, bomb_of_a_header, 160),
}


@pytest.mark.slow
@pytest.mark.parametrize("row", BEFORE_ALLOCATION)
def test_nothing_is_allocated_for_a_claim(row: str, tmp_path: Path) -> None:
    error, build, most = BEFORE_ALLOCATION[row]
    path = build(tmp_path)
    with little_memory(most << 20):
        refused(path, error)  # type: ignore[arg-type]


def test_frames_that_no_file_could_hold(tmp_path: Path) -> None:
    """Thousands of such files, each of 7 kB, would take hours and all memory."""
    path = edited(tmp_path, NumberOfFrames=2**31 - 1)
    (candidate,) = find(path, DEFAULT_LIMITS)
    assert isinstance(candidate, DicomCandidate)
    assert sum(len(one.frames) for one in candidate.study.series) <= sum(tree(path).values())
