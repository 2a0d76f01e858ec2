"""Stacks of slices: their order, where they lie, and the gaps between them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .builders_series import AXIAL, CORONAL, FLAIR, SAGITTAL, codes, one_series, stack


@pytest.mark.parametrize(
    ("orientation", "row", "column", "normal"),
    [
        # LPS: columns grow to the left, rows to the back, slices up. RAS: the same, signs turned.
        (AXIAL, (0, -1, 0), (-1, 0, 0), (0, 0, 1)),
        (SAGITTAL, (0, 0, -1), (0, -1, 0), (1, 0, 0)),
        (CORONAL, (0, 0, -1), (-1, 0, 0), (0, -1, 0)),
    ],
)
def test_geometry_is_ras_with_rows_down_the_second_triple(
    orientation: tuple[float, ...],
    row: tuple[int, ...],
    column: tuple[int, ...],
    normal: tuple[int, ...],
) -> None:
    geometry = one_series(stack(5, orientation=orientation, **FLAIR)).geometry
    assert geometry is not None
    np.testing.assert_allclose(geometry.row_direction, row, atol=1e-9)
    np.testing.assert_allclose(geometry.column_direction, column, atol=1e-9)
    # Across is the first triple, down the second: the normal of LPS is theirs, turned like them.
    lps = np.cross(orientation[:3], orientation[3:])
    np.testing.assert_allclose(geometry.normal, lps * (-1, -1, 1), atol=1e-9)
    np.testing.assert_allclose(np.abs(geometry.normal), np.abs(normal), atol=1e-9)
    assert geometry.spacing == (0.9, 0.8)
    assert geometry.slice_spacing == pytest.approx(6)


@pytest.mark.parametrize("seed", range(5))
def test_every_pixel_of_an_oblique_stack_lies_where_the_standard_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    orientation = tuple(float(f"{one:.8f}") for one in (*turn[0], *turn[1]))
    found = one_series(stack(4, orientation=orientation, **FLAIR))
    assert found.geometry is not None
    for index, frame in enumerate(found.frames):
        assert frame.position is not None
        row, column = rng.integers(0, 64, 2)
        # PS3.3 equation C.7.6.2.1-1.
        lps = (
            frame.position
            + column * 0.8 * np.array(orientation[:3])
            + row * 0.9 * np.array(orientation[3:])
        )
        world = found.geometry.to_world(np.array([index, row, column]))
        np.testing.assert_allclose(world, lps * (-1, -1, 1), atol=1e-4)


def test_numbers_and_names_never_decide_the_order() -> None:
    instances = stack(8, **FLAIR)
    for index, one in enumerate(instances):
        one.header.InstanceNumber = 100 - index
    found = one_series(instances)
    heights = [one.position[2] for one in found.frames if one.position is not None]
    assert heights == sorted(heights)
    assert found.frames[0].instance is instances[0]


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ([0, 1, 2, 3, 4, 5], []),
        ([0, 1, 2, 4, 5, 6], ["MISSING_SLICES"]),
        ([0, 1, 2, 6, 7, 8], ["MISSING_SLICES"]),
        ([0, 1, 2, 3.4, 4.4, 5.4], ["UNEVEN_SPACING"]),
        ([0, 1, 3, 4, 5.3, 6.3, 7.3], ["MISSING_SLICES", "UNEVEN_SPACING"]),
        ([0, 1.004, 2, 3, 4], []),  # rounding
        ([0], ["SINGLE_SLICE"]),
    ],
)
def test_gaps(at: list[float], expected: list[str]) -> None:
    found = one_series(stack(at=at, **FLAIR))
    assert codes(found) == expected
    assert found.usable
    assert found.geometry is not None
    assert found.geometry.slice_spacing == pytest.approx(6.0 if len(at) > 1 else 5.0)


def test_missing_slices_are_counted() -> None:
    found = one_series(stack(at=[0, 1, 2, 6, 7, 8], **FLAIR))
    assert found.flags[0].message.startswith("3 slices are missing (between slices 2 and 3)")


def test_tilt_is_kept_and_flagged() -> None:
    found = one_series(stack(8, shift=(0.0, 6.0 * np.tan(np.deg2rad(12)), 0.0), **FLAIR))
    assert codes(found) == ["GANTRY_TILT"]
    assert "12.0 degrees" in found.flags[0].message
    assert found.geometry is not None
    assert found.geometry.slice_spacing == pytest.approx(6.0)


@pytest.mark.parametrize(
    "values",
    [
        {"ImageOrientationPatient": None},
        {"ImagePositionPatient": None},
        {"PixelSpacing": None},
        {"PixelSpacing": [0.01, 0.01]},
        {"PixelSpacing": [25, 25]},
        {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
    ],
    ids=str,
)
def test_no_geometry(values: dict[str, Any]) -> None:
    found = one_series(stack(5, **{**FLAIR, **values}))
    assert found.geometry is None
    assert codes(found) == ["NO_GEOMETRY"]
    assert found.usable
    numbers = [one.instance.header.InstanceNumber for one in found.frames]
    assert numbers == [1, 2, 3, 4, 5]


def test_slices_further_apart_than_a_head_allows() -> None:
    assert codes(one_series(stack(3, step=30, **FLAIR))) == ["NO_GEOMETRY"]
