"""The builder of the tests' DICOM studies: sound where it is meant to be, and true to its own truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gliosight.phantom import Phantom
from gliosight.study import MrSequence
from tests.support.dicom_phantom import (
    TRAPS,
    DicomSpec,
    geometry_of,
    truth_of,
    turned,
    volume_of,
    write_dicom,
)

from .exported import (
    CENTROID_MM,
    by_series,
    complaints,
    header_centroid,
    sorted_by_position,
    true_centroid,
)

ALL, NONE = frozenset(TRAPS), frozenset[str]()


@pytest.mark.parametrize(
    "changes",
    [
        {"vendor": "siemens"},
        {"vendor": "ge", "layout": "enhanced", "concatenation": 2},
        {"vendor": "philips", "layout": "enhanced", "concatenation": 2},
        {"vendor": "canon"},
        {"repeats": {"times", "echoes"}, "layout": "enhanced", "contrast_tags": False},
        {"identity": "anonymous", "tilt_degrees": 10, "uneven": 0.2, "missing": (1,)},
        {"bits": 16, "signed": True, "syntax": "explicit-be", "identity": "unicode"},
        {"syntax": "j2k-lossy", "layout": "enhanced"},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_dciodvfy_accepts_what_is_odd_but_sound(
    dciodvfy: str, tiny: Phantom, tmp_path: Path, changes: dict[str, Any]
) -> None:
    traps = ALL if "vendor" in changes else NONE
    spec = DicomSpec(**changes, traps=traps, rotation=turned(13, -7, 29))
    assert complaints(dciodvfy, write_dicom(tiny, tmp_path, spec)) == set()


def test_dciodvfy_complains_of_what_is_broken(dciodvfy: str, tiny: Phantom, tmp_path: Path) -> None:
    spec = DicomSpec(no_frame_of_reference=True, traps=NONE)
    assert complaints(dciodvfy, write_dicom(tiny, tmp_path, spec))


@pytest.mark.parametrize(
    ("order", "flips"),
    [((0, 1, 2), (False,) * 3), ((1, 2, 0), (False, False, True)), ((2, 1, 0), (True,) * 3)],
)
def test_files_say_where_the_lesion_is(
    tiny: Phantom, tmp_path: Path, order: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> None:
    spec = DicomSpec(
        order=order,
        flips=flips,
        rotation=turned(25, -40, 170),
        shift=(120, -200, 7),
        numbering="shuffled",
        traps=NONE,
    )
    flair = sorted_by_position(by_series(write_dicom(tiny, tmp_path, spec))[1])
    truth = truth_of(tiny, spec)
    centroid = true_centroid(tiny, spec.rotation, spec.shift)
    assert np.abs(header_centroid(flair, truth) - centroid).max() < CENTROID_MM
    pixels = np.stack([ds.pixel_array for ds in flair])
    assert np.array_equal(pixels, volume_of(tiny, spec, MrSequence.FLAIR))
    middle = geometry_of(tiny, spec).to_world(np.argwhere(truth)).mean(axis=0)
    assert np.allclose(middle * (-1, -1, 1), centroid, atol=1e-9)


def test_tilt_gaps_and_missing_slices(tiny: Phantom, tmp_path: Path) -> None:
    spec = DicomSpec(tilt_degrees=15, uneven=0.3, missing=(1, 3), traps=NONE)
    flair = sorted_by_position(by_series(write_dicom(tiny, tmp_path, spec))[1])
    assert [ds.InstanceNumber for ds in flair] == [1, 2, 3]
    steps = np.diff(np.array([ds.ImagePositionPatient for ds in flair], dtype=float), axis=0)
    assert np.allclose(steps[:, 1] / steps[:, 2], np.tan(np.radians(15)))
    assert steps[:, 2].sum() == pytest.approx(4 * 7.0)
    truth = truth_of(tiny, spec)
    assert np.array_equal(truth, tiny.truth[[0, 2, 4]])
    world = geometry_of(tiny, spec).to_world(np.argwhere(truth)).mean(axis=0) * (-1, -1, 1)
    assert np.abs(header_centroid(flair, truth) - world).max() < CENTROID_MM
