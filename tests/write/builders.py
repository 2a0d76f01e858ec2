"""Builders of whole analyses for the writers' tests: a head-like phantom with a lesion.

The phantom lives in the patient's space (RAS+, mm), so that any geometry shows the same head: the
lesion is in the patient's LEFT hemisphere, and a bright marker sits at the RIGHT, ANTERIOR side.
What a picture shows on its left or on top can be read off its pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.analysis import Analysis, Decision, Finding, Outline, Provenance, Status
from gliosight.maps import Maps
from gliosight.study import Flag, Geometry, MrSequence, Study, Volume

LEFT_LESION = np.array([-32.0, 12.0, 6.0])
RIGHT_ANTERIOR_MARKER = np.array([48.0, 52.0, 0.0])
HEAD = np.array([72.0, 92.0, 78.0])

# What `make_analysis` says of a study by its status, and of its outline.
PROBABILITIES = {
    Status.FOUND: 0.97,
    Status.UNCERTAIN: 0.6,
    Status.NOT_FOUND: 0.02,
    Status.NOT_ASSESSED: None,
}
OUTLINE = Outline(0.3, volume_low=0.7, volume_high=1.4)

R, A, S = np.eye(3)
# Row direction (down), column direction (across), and the way from slice to slice.
ORIENTATIONS: dict[str, tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = {
    "axial": (-A, -R, S),
    "axial flipped": (A, R, S),
    "axial transposed": (-R, -A, S),
    "axial from above": (-A, -R, -S),
    "sagittal": (-S, -A, -R),
    "sagittal flipped": (S, A, R),
    "coronal": (-S, -R, -A),
    "coronal transposed": (R, S, A),
}


def make_geometry(
    shape: tuple[int, int, int] = (24, 96, 80),
    orientation: str = "axial",
    *,
    tilt_degrees: float = 0.0,
    spacing: tuple[float, float] = (2.2, 2.2),
    slice_spacing: float = 6.0,
) -> Geometry:
    """A geometry whose grid is centred on the head; the tilt is about the patient's R axis."""
    angle = np.radians(tilt_degrees)
    tilt = np.array(
        [
            [1, 0, 0],
            [0, np.cos(angle), -np.sin(angle)],
            [0, np.sin(angle), np.cos(angle)],
        ]
    )
    down, across, step = (tilt @ one for one in ORIENTATIONS[orientation])
    slices, rows, columns = shape
    corner = -down * spacing[0] * (rows - 1) / 2 - across * spacing[1] * (columns - 1) / 2
    along = (np.arange(slices) - (slices - 1) / 2) * slice_spacing
    origins = corner + along[:, None] * step
    return Geometry(origins, down, across, spacing, slice_thickness=slice_spacing)


def paint(
    shape: tuple[int, int, int], geometry: Geometry, *, lesion: bool = True
) -> tuple[dict[MrSequence, NDArray[np.float32]], NDArray[np.float32]]:
    """The head as FLAIR, T1 and T1C, and the lesion's probability, on a geometry's grid."""
    world = geometry.to_world(np.moveaxis(np.indices(shape), 0, -1))
    radius = np.linalg.norm(world / HEAD, axis=-1)
    rng = np.random.default_rng(3)
    texture = np.sin(world[..., 0] / 9) * np.sin(world[..., 1] / 11) * np.sin(world[..., 2] / 8)
    brain = radius < 0.86
    scalp = (radius < 1) & (radius > 0.93)
    ventricle = np.linalg.norm((world - [0, 5, 8]) / [16, 30, 14], axis=-1) < 1
    marker = np.linalg.norm(world - RIGHT_ANTERIOR_MARKER, axis=-1) < 8
    distance = np.linalg.norm((world - LEFT_LESION) / [20, 27, 19], axis=-1)
    distance = distance + 0.13 * np.sin(world[..., 1] / 3.5) + 0.1 * np.cos(world[..., 2] / 4)
    inside = 1 / (1 + np.exp((distance - 1) * 9)) if lesion else np.zeros(shape)
    noise = rng.normal(0, 14, shape)
    painted = {}
    for sequence, (grey, white, fluid, bright) in {
        MrSequence.FLAIR: (430, 60, 110, 260),
        MrSequence.T1: (470, -110, 160, -120),
        MrSequence.T1C: (500, -110, 160, -60),
    }.items():
        values = brain * (grey + white * texture) + scalp * 620 + bright * inside * brain
        values = np.where(ventricle & brain, fluid, values) + marker * 500 + noise
        painted[sequence] = np.clip(values, 0, None).astype(np.float32)
    return painted, (0.985 * inside * brain).astype(np.float32)


def make_finding(mask: NDArray[np.bool_], geometry: Geometry | None, **changes: Any) -> Finding:
    """The whole mask as one finding, roughly measured."""
    voxels = np.argwhere(mask)
    areas = mask.sum(axis=(1, 2))
    largest = int(areas.argmax())
    low, high = voxels.min(axis=0), voxels.max(axis=0) + 1
    ml = None
    if geometry is not None and geometry.slice_spacing is not None:
        ml = float(mask.sum() * geometry.pixel_area * geometry.slice_spacing / 1000)
    values: dict[str, Any] = {
        "id": 1,
        "tracking_uid": "2.25.1",
        "side": "unknown" if geometry is None else "left",
        "centroid_voxel": tuple(float(one) for one in voxels.mean(axis=0)),
        "centroid_mm": None,
        "bounding_box_voxel": (tuple(low.tolist()), tuple(high.tolist())),
        "slices": (int(low[0]), int(high[0]) - 1),
        "volume_px": int(mask.sum()),
        "volume_ml": ml,
        "largest_slice": largest,
        "largest_area_px": int(areas[largest]),
        "largest_area_mm2": None if ml is None else float(areas[largest] * geometry.pixel_area),
        "longest_diameter_mm": None if geometry is None else 52.34,
        "perpendicular_diameter_mm": None if geometry is None else 38.71,
        "probability": 0.97,
        "mean_probability": 0.87,
        "peak_probability": 0.999,
        "touches_edge": False,
        "small": False,
    }
    return Finding(**{**values, **changes})


def make_analysis(
    shape: tuple[int, int, int] = (24, 96, 80),
    geometry: Geometry | str | None = "axial",
    *,
    lesion: bool = True,
    status: Status | None = None,
    flags: tuple[Flag, ...] = (),
    study_id: str = "phantom-0001",
    slice_names: tuple[str, ...] | None = None,
    sequences: tuple[MrSequence, ...] = tuple(MrSequence),
    values: Mapping[MrSequence, NDArray[Any]] | None = None,
    probability: NDArray[np.float32] | None = None,
    findings: tuple[Finding, ...] | None = None,
    reason: str | None = None,
    prevalence: float | None = 0.855,
    outline: Outline | None = OUTLINE,
) -> Analysis:
    """A whole analysis of the phantom; without geometry it is painted axial all the same."""
    known = make_geometry(shape, geometry) if isinstance(geometry, str) else geometry
    if values is None:
        values, drawn = paint(shape, known or make_geometry(shape), lesion=lesion)
        probability = drawn if probability is None else probability
    if probability is None:
        probability = np.zeros(shape, dtype=np.float32)
    mask = probability > 0.5
    if status is None:
        status = Status.FOUND if mask.any() else Status.NOT_FOUND
    if status not in (Status.FOUND, Status.UNCERTAIN):
        mask = np.zeros(shape, dtype=bool)
    if findings is None:
        findings = (make_finding(mask, known),) if mask.any() else ()
    per_slice = probability.max(axis=(1, 2))
    reasons = {
        Status.FOUND: "The probability of tumour is 0.97. From 0.90 on the verdict is tumour found.",
        Status.UNCERTAIN: "The probability of tumour is 0.60, between 0.10 and 0.90.",
        Status.NOT_FOUND: "The probability of tumour is 0.02. Below 0.10 the verdict is no tumour found.",
        Status.NOT_ASSESSED: "The images have no contrast: there is nothing to look at.",
    }
    study = Study(
        study_id=study_id,
        sequences={one: Volume(values[one], known) for one in sequences},
        slice_names=slice_names or tuple(f"{study_id}_{k + 1}.tif" for k in range(shape[0])),
        kind="arrays",
    )
    decision = Decision(
        mask=mask,
        slice_probabilities=per_slice.astype(np.float32),
        probability=PROBABILITIES[status],
        prevalence=None if status is Status.NOT_ASSESSED else prevalence,
        uncertain_from=0.1,
        found_from=0.9,
        slice_threshold=0.4,
        status=status,
        reason=reason or reasons[status],
        rules=("HEAD_AND_MASK_AGREE",),
        flags=(),
        outline=outline if mask.any() else None,
        caveat="This does not rule out a tumour." if status is Status.NOT_FOUND else "",
    )
    provenance = Provenance(
        version="0.1.0",
        model="joint-phantom",
        model_sha256="0f" * 32,
        engine="onnxruntime 1.27",
        precision="float32",
        channels=tuple(one.value for one in sequences),
        settings={"threshold": 0.5, "threads": 2},
        timings_ms={"read": 120.0, "prepare": 210.4, "infer": 1890.0, "write": 640.0},
        environment={"python": "3.11.9", "system": "Linux"},
    )
    maps = Maps(probability, per_slice.astype(np.float32))
    return Analysis(study, maps, decision, mask.astype(np.uint8), findings, flags, provenance)
