"""What is marked, held against what tumours look like: one table of bodies, and each limit by itself."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gliosight.bodies import label_bodies
from gliosight.plausibility import assumed_geometry, find_doubts, mirror_shares
from gliosight.study import Geometry

SHAPE, SIDES = (24, 200, 200), (5.0, 1.0, 1.0)
GEOMETRY = assumed_geometry(SHAPE[0], SIDES)
Z, Y, X = np.indices(SHAPE)
HEAD = ((Z - 11.5) * 5 / 65) ** 2 + ((Y - 100) / 90) ** 2 + ((X - 100) / 75) ** 2 < 1
Bools = NDArray[np.bool_]


def ball(z: float, y: float, x: float, radius: float) -> Bools:
    """A ball; ``z`` is a slice, the radius is in mm."""
    return np.asarray(((Z - z) * 5) ** 2 + (Y - y) ** 2 + (X - x) ** 2 < radius**2)


def both(y: float, x: float, radius: float) -> Bools:
    """Two balls, one on each side of the middle."""
    return ball(12, y, 100 - x, radius) | ball(12, y, 100 + x, radius)


BODIES = {
    "a tumour": (ball(12, 80, 60, 22), ""),
    "a tumour that crosses the midline": (ball(12, 80, 88, 30), ""),
    "a tumour with satellites": (
        ball(12, 80, 60, 22) | ball(7, 120, 60, 5) | ball(14, 130, 60, 5) | ball(17, 90, 60, 5),
        "",
    ),
    "a tumour at the surface of a brain": (ball(12, 100, 40, 22) & HEAD, ""),
    "caps of both ventricles": (both(80, 25, 12), "SYMMETRIC"),
    "a band across the midline": (
        (abs(Y - 100) < 8) & (abs(X - 100) < 30) & (abs(Z - 12) < 3),
        "SYMMETRIC",
    ),
    "caps and a spot": (both(80, 25, 12) | ball(8, 130, 70, 8), "SYMMETRIC"),
    "spots on one side": (
        np.logical_or.reduce([ball(12, 50 + 20 * k, 60 - 5 * (k % 2), 6) for k in range(5)]),
        "SCATTERED",
    ),
    "half a head": (HEAD & (X < 80), "LESION_TOO_LARGE"),
    "a sheet": ((abs(X - 60) < 2) & (abs(Y - 100) < 50) & (abs(Z - 12) < 4), "LESION_THIN"),
    "a rim of scalp": (
        HEAD & ~(((Y - 100) / 84) ** 2 + ((X - 100) / 69) ** 2 < 1) & (X < 90) & (abs(Z - 11) < 4),
        "LESION_AT_SURFACE",
    ),
}


def codes(marked: Bools, head: Bools = HEAD, geometry: Geometry = GEOMETRY) -> set[str]:
    """Codes of the flags of what is marked, all of it kept."""
    flags = find_doubts(label_bodies(marked)[0], marked, head=head, geometry=geometry, axis=0)
    assert all(flag.severity == "warning" for flag in flags)
    return {flag.code for flag in flags}


@pytest.mark.parametrize(("marked", "code"), BODIES.values(), ids=BODIES)
def test_each_kind_has_its_flag_and_tumours_have_none(marked: Bools, code: str) -> None:
    found = codes(marked)
    assert (code in found) if code else not found


def test_a_volume_that_is_stored_otherwise_gets_the_same_flags() -> None:
    """Sagittal slices: left and right lie along the slice axis."""
    sagittal = Geometry(
        np.stack([100.0 - np.arange(200), np.zeros(200), np.full(200, 115.0)], axis=1),
        np.array([0.0, 0.0, -1.0]),
        np.array([0.0, -1.0, 0.0]),
        (5.0, 1.0),
    )

    def stored(values: Bools) -> Bools:
        return np.ascontiguousarray(values[::-1].transpose(2, 0, 1))

    for name, (marked, _) in BODIES.items():
        flags = find_doubts(
            label_bodies(stored(marked))[0],
            stored(marked),
            head=stored(HEAD),
            geometry=sagittal,
            axis=1,
        )
        # The surface is measured in the native slices.
        assert {flag.code for flag in flags} - {"LESION_AT_SURFACE"} == codes(marked) - {
            "LESION_AT_SURFACE"
        }, name


def test_the_mirror_is_the_heads_own_wherever_it_lies() -> None:
    tilt = np.radians(8)
    turned = Geometry(
        GEOMETRY.origins + np.array([140.0, -30, 12]),
        np.array([np.sin(tilt), -np.cos(tilt), 0.0]),
        np.array([-np.cos(tilt), -np.sin(tilt), 0.0]),
        (1.0, 1.0),
    )
    shares = [
        mirror_shares(label_bodies(both(80, 25, 12))[0], HEAD, one) for one in (GEOMETRY, turned)
    ]
    for share, apart in shares:
        assert share > 0.95
        assert apart > 0.95
    moved = np.roll(HEAD, 40, axis=2)
    assert mirror_shares(label_bodies(both(80, 25, 12))[0], moved, GEOMETRY)[0] < 0.2


def test_what_crosses_the_midline_has_no_image_in_another_body() -> None:
    share, apart = mirror_shares(label_bodies(ball(12, 80, 92, 30))[0], HEAD, GEOMETRY)
    assert 0.4 < share < 0.8
    assert apart == 0


def test_candidates_count_that_the_mask_leaves_out() -> None:
    """The mask keeps one body as a rule; the one that mirrors it is a candidate that was dropped."""
    one, other = ball(12, 80, 75, 12), ball(12, 80, 125, 12)
    flags = find_doubts(label_bodies(one | other)[0], one, head=HEAD, geometry=GEOMETRY, axis=0)
    assert [flag.code for flag in flags] == ["SYMMETRIC"]


def test_a_slice_alone_is_judged_by_its_shape() -> None:
    single = assumed_geometry(1, SIDES)
    head = HEAD[12:13]
    assert codes(ball(12, 80, 60, 22)[12:13], head, single) == set()
    sheet = BODIES["a sheet"][0][12:13]
    assert codes(sheet, head, single) == {"LESION_THIN"}


def test_a_head_that_the_picture_cuts_off_has_no_surface_there() -> None:
    cut = np.s_[:, :, 60:]
    marked, head = ball(12, 80, 62, 12)[cut], HEAD[cut]
    assert "LESION_AT_SURFACE" not in codes(marked, head)


def test_without_a_head_nothing_is_mirrored() -> None:
    assert mirror_shares(
        label_bodies(ball(12, 80, 60, 12))[0], np.zeros(SHAPE, bool), GEOMETRY
    ) == (0.0, 0.0)
