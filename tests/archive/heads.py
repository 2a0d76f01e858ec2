"""A drawn head with given lesions, analysed without a network; and one phantom scanned twice."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.analysis import Analysis, Decision, Outline, Provenance, Status
from gliosight.maps import Maps
from gliosight.measure import measure
from gliosight.phantom import Phantom, PhantomSpec, make_phantom, rescan
from gliosight.phantom.dicom import turned
from gliosight.study import Geometry, MrSequence, Study, Volume

SHAPE, SIDE_MM = (40, 60, 50), 2.0
OUTLINE = Outline(0.2, 0.8, 1.3)
Ball = tuple[tuple[float, float, float], float]


def geometry(slices: int = SHAPE[0], first_mm: float = 0.0) -> Geometry:
    """Axial, 2 mm in every direction; columns run to the patient's left."""
    origins = np.zeros((slices, 3))
    origins[:] = 50.0, 60.0, 0.0
    origins[:, 2] = first_mm + SIDE_MM * np.arange(slices)
    down, across = np.array([0.0, -1.0, 0.0]), np.array([-1.0, 0.0, 0.0])
    return Geometry(origins, down, across, (SIDE_MM, SIDE_MM))


def ball(
    centre: tuple[float, float, float], radius: float, slices: int = SHAPE[0]
) -> NDArray[np.bool_]:
    """Voxels of a ball; centre and radius in voxels of the whole head."""
    at = np.indices((slices, *SHAPE[1:])) - np.reshape(centre, (3, 1, 1, 1))
    return np.asarray((at**2).sum(axis=0) <= radius**2)


def analysis_of(
    balls: Iterable[Ball] = (),
    *,
    slices: int = SHAPE[0],
    status: Status | None = None,
    outline: Outline | None = OUTLINE,
    study_id: str = "made",
    **study: Any,
) -> Analysis:
    """The analysis of a head with these lesions; ``slices`` cuts it off above."""
    full = np.indices(SHAPE) - np.reshape([20.0, 30.0, 25.0], (3, 1, 1, 1))
    head = ((full / np.reshape([18.0, 27.0, 21.0], (3, 1, 1, 1))) ** 2).sum(axis=0) <= 1
    mask = np.zeros(SHAPE, bool)
    for centre, radius in balls:
        mask |= ball(centre, radius)
    values = (200 * head + 300 * mask).astype(np.float32)[:slices]
    mask = mask[:slices]
    made = Study(
        study_id,
        {MrSequence.FLAIR: Volume(values, geometry(slices))},
        tuple(f"s{k}" for k in range(slices)),
        "arrays",
        **study,
    )
    labels, findings = measure(made, mask, mask.astype(np.float32), origin=study_id)
    status = status or (Status.FOUND if mask.any() else Status.NOT_FOUND)
    decision = Decision(
        mask=mask,
        slice_probabilities=mask.any(axis=(1, 2)).astype(np.float32),
        probability=None if status is Status.NOT_ASSESSED else 0.97 if mask.any() else 0.02,
        prevalence=0.5,
        uncertain_from=0.1,
        found_from=0.9,
        slice_threshold=0.5,
        status=status,
        reason="The images have no contrast.",
        outline=outline if mask.any() else None,
    )
    maps = Maps(mask.astype(np.float32), decision.slice_probabilities)
    made_by = Provenance("0.1.0", "drawn", "0f" * 32, "none", "float32", ("FLAIR",))
    return Analysis(made, maps, decision, labels, findings, (), made_by)


def motion(
    degrees: tuple[float, float, float], mm: tuple[float, float, float]
) -> NDArray[np.float64]:
    """A rigid motion (4, 4) of the head."""
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = turned(*degrees), mm
    return out


@cache
def thin_head(seed: int = 4, growth: float = 0.0, side: str = "right") -> Phantom:
    """A phantom in thin slices without noise, to be scanned."""
    return make_phantom(
        PhantomSpec(
            seed=seed,
            lesion_side=side,  # type: ignore[arg-type]
            lesion_growth=growth,
            slices=75,
            slice_spacing_mm=2.0,
            pixel_mm=2.0,
            matrix=112,
            noise=0.0,
            bias=0.0,
            sequences=(MrSequence.FLAIR,),
        )
    )


@cache
def scanned(
    seed: int = 4, growth: float = 0.0, *, again: bool = False
) -> tuple[Phantom, NDArray[np.float64]]:
    """A scan of that head, and where it lies: as it was, or ``again`` moved and in thinner slices."""
    if not again:
        return rescan(thin_head(seed, growth), 100 + seed, moved=np.eye(4)), np.eye(4)
    moved = motion((5.0, -4.0, 7.0), (6.0, -5.0, 4.0))
    return rescan(
        thin_head(seed, growth), 200 + seed, moved=moved, slices=42, slice_spacing_mm=3.5
    ), moved
