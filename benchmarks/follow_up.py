"""Follow-up on phantoms with known growth: python benchmarks/follow_up.py [--runs 50] [--brats FOLDER].

Each run scans one head twice: the second time it is shifted, turned and cut into slices of another thickness,
and its lesion has grown by 0, 5, 10, 25 or 100 %. Both studies are analysed with the shipped model and
compared. Printed is a row for each growth: whether the true change lies in the stated interval, what the
lesion was called, and how far the registration was off. docs/follow-up.md has the table.

With ``--brats`` (a folder for each person, skull-stripped FLAIR, T1 and T1C) it measures how much of the
error of a volume two studies of one person share: each person is analysed as given, and twice more moved,
with other shading, gain and noise.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gliosight.archive.follow_up.compare import Measure, compare, noise_of
from gliosight.archive.follow_up.register import resample
from gliosight.head import find_head
from gliosight.infer.model import Model
from gliosight.phantom import Phantom, PhantomSpec, make_phantom, rescan
from gliosight.phantom.anatomy import Grid, smooth_noise
from gliosight.phantom.dicom import turned
from gliosight.pipeline import Settings, analyze_study, read_study
from gliosight.study import Study, Volume

GROWTHS = (0.0, 0.05, 0.1, 0.25, 1.0)
# Slices and their spacing, mm, of the second study; the first one has 28 of 5 mm.
STACKS = ((28, 5.0), (35, 4.0), (40, 3.5), (46, 3.0), (60, 2.4))
# The first head: the noise was looked at on those before.
FIRST = 11
# Of the head that is scanned: thin slices without noise.
THIN = {
    "slices": 125,
    "slice_spacing_mm": 1.2,
    "pixel_mm": 1.0,
    "matrix": 224,
    "noise": 0,
    "bias": 0,
}
RADII_MM, SHIFT_MM, TURN_DEGREES = (9.0, 24.0), 8.0, 8.0


@dataclass(frozen=True)
class Run:
    """What a follow-up of known truth gave; volumes in ml, changes in percent."""

    head: int
    growth: float
    slice_spacing_mm: float
    true_before: float
    true_change: float
    before: float
    change: float | None
    low: float | None
    high: float | None
    true_ml: float
    ml_low: float | None
    ml_high: float | None
    kind: str
    lesions: int
    error_mm: float
    true_error_mm: float
    similarity: float
    seconds: float

    @property
    def covered(self) -> bool:
        """Whether the true change lies in both intervals, in percent and in ml."""
        if self.low is None or self.high is None or self.ml_low is None or self.ml_high is None:
            return False
        return (
            self.low <= self.true_change <= self.high
            and self.ml_low <= self.true_ml <= self.ml_high
        )


def runs(count: int, model: Model, first: int = FIRST) -> Iterator[Run]:
    """So many runs: each head with every growth, then the next head."""
    settings = Settings(threads=1)
    for number in range(count):
        head, k = first + number // len(GROWTHS), number % len(GROWTHS)
        if k == 0:
            draw = np.random.default_rng(head)
            spec = PhantomSpec(
                seed=head,
                lesion_radius_mm=float(draw.uniform(*RADII_MM)),
                lesion_side=("left", "right")[head % 2],
                **THIN,
            )
            small = make_phantom(spec)
        growth = GROWTHS[k]
        large = make_phantom(replace(spec, lesion_growth=growth)) if growth else small
        start = time.perf_counter()
        moved = np.eye(4)
        moved[:3, :3] = turned(*draw.uniform(-TURN_DEGREES, TURN_DEGREES, 3))
        moved[:3, 3] = draw.uniform(-SHIFT_MM, SHIFT_MM, 3)
        slices, spacing = STACKS[(head + k) % len(STACKS)]
        scans = (
            rescan(small, 1000 + 10 * head + k, moved=np.eye(4)),
            rescan(
                large, 2000 + 10 * head + k, moved=moved, slices=slices, slice_spacing_mm=spacing
            ),
        )
        yield run(head, growth, (small, large), scans, moved, model, settings, start)


def run(
    head: int,
    growth: float,
    truth: tuple[Phantom, Phantom],
    scans: tuple[Phantom, Phantom],
    moved: NDArray[np.float64],
    model: Model,
    settings: Settings,
    start: float,
) -> Run:
    """Analyse and compare both scans."""
    analyses = [analyze_study(scan.study(), model, settings) for scan in scans]
    followed = compare(analyses, ["before", "after"], [None, None], "as given")
    change, measures = followed.total.changes[0], followed.total.measures
    registration = followed.visits[1].registration
    before, after = (phantom.volume_ml for phantom in truth)
    inside = np.argwhere(find_head(analyses[0].study.flair.values))[::500]
    points = scans[0].geometry.to_world(inside)
    off = (
        points @ (registration.placement - moved)[:3, :3].T
        + (registration.placement - moved)[:3, 3]
    )
    return Run(
        head=head,
        growth=growth,
        slice_spacing_mm=scans[1].spec.slice_spacing_mm,
        true_before=before,
        true_change=100 * (after / before - 1),
        before=measures[0].volume_ml or 0.0,
        change=change.percent,
        low=change.percent_low,
        high=change.percent_high,
        true_ml=after - before,
        ml_low=change.ml_low,
        ml_high=change.ml_high,
        kind=change.kind,
        lesions=len(followed.lesions),
        error_mm=registration.error_mm,
        true_error_mm=float(np.sqrt((off**2).sum(axis=1).mean())),
        similarity=registration.similarity,
        seconds=time.perf_counter() - start,
    )


def repeats(folder: Path, model: Model) -> Iterator[tuple[str, float, float, bool]]:
    """Of each person and pair of visits: the logarithm of the ratio of both volumes, its variance if nothing
    were shared, and whether no change lies in the interval that follow-up states.
    """
    for person in sorted({path.parent for path in folder.rglob("*_flair.nii.gz")}):
        files = {"FLAIR": "flair", "T1": "t1", "T1C": "t1ce"}
        found = {name: next(person.glob(f"*_{end}.nii.gz"), None) for name, end in files.items()}
        study = read_study({name: path for name, path in found.items() if path is not None})
        draw = np.random.default_rng(zlib.crc32(person.name.encode()))
        visits = [study, visited_again(study, draw), visited_again(study, draw)]
        analyses = [analyze_study(visit, model, Settings(threads=1)) for visit in visits]
        measures = [
            Measure((1,), analysis.volume_ml, *analysis.volume_interval_ml, None)
            for analysis in analyses
            if analysis.volume_interval_ml is not None
        ]
        for a, b in combinations(measures, 2):
            variances = [
                (math.log(one.volume_high_ml / one.volume_low_ml) / 2 / 1.645) ** 2
                for one in (a, b)
            ]
            ratio = math.log(b.volume_ml / a.volume_ml)
            yield person.name, ratio, sum(variances), abs(ratio) <= noise_of(a, b, 0.0)


def visited_again(study: Study, draw: np.random.Generator) -> Study:
    """The same brain in another place, with other shading, gain and noise."""
    geometry = study.geometry
    assert geometry is not None  # noqa: S101 - BraTS has one
    moved = np.eye(4)
    moved[:3, :3] = turned(0, 0, draw.uniform(-6, 6))
    moved[:3, 3] = draw.uniform(-4, 4, 3) * (1, 1, 0.6)
    sides = (geometry.slice_spacing or 1.0, *geometry.spacing)
    grid = Grid(
        *(side * (np.arange(n) - n / 2) for side, n in zip(sides, study.shape, strict=True))
    )
    sequences = {}
    for name, volume in study.sequences.items():
        values, _ = resample(
            volume.values.astype(np.float32), geometry, (geometry, study.shape), moved
        )
        brain = values > 0
        sigma = 0.03 * float(np.median(values[brain]))
        values *= np.exp(0.06 * smooth_noise(draw, grid, 160.0)) * draw.uniform(0.8, 1.2)
        real, imaginary = draw.normal(0, sigma, (2, *study.shape))
        values = np.where(brain, np.hypot(values + real, imaginary), 0).astype(np.float32)
        sequences[name] = Volume(values, geometry)
    return replace(study, sequences=sequences)


def print_repeats(folder: Path, model: Model) -> None:
    """How much both visits share, and how often an unchanged lesion lies in its interval."""
    done = []
    for one in repeats(folder, model):
        done.append(one)
        print(
            f"{one[0]}: ratio of volumes {math.exp(one[1]):.3f}, {'in' if one[3] else 'NOT in'} it"
        )
    sizes = [abs(ratio) for _, ratio, _, _ in done]
    shared = 1 - float(np.mean([ratio**2 / variance for _, ratio, variance, _ in done]))
    print(
        f"\n{len({one[0] for one in done})} people, {len(done)} pairs of visits: volumes differ by "
        f"{100 * math.expm1(float(np.median(sizes))):.1f} % (median), {100 * math.expm1(max(sizes)):.1f} % "
        f"(largest); shared error {shared:.3f}; no change in the interval: {sum(one[3] for one in done)}"
    )


def table(done: list[Run]) -> str:
    """The rows of docs/follow-up.md."""
    lines = [
        "| growth | runs | true change in % | measured, in % | true change in the interval | called |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for growth in sorted({one.growth for one in done}):
        some = [one for one in done if one.growth == growth]
        measured = [one.change for one in some if one.change is not None]
        called = ", ".join(
            f"{kind} {n}" for kind, n in Counter(one.kind for one in some).most_common()
        )
        lines.append(
            f"| {100 * growth:.0f} % | {len(some)} | {_span([one.true_change for one in some])} "
            f"| {_span(measured)} | {sum(one.covered for one in some)} | {called} |"
        )
    unchanged = [one for one in done if one.growth == 0]
    stable = sum(one.kind == "stable" for one in unchanged)
    errors = [one.true_error_mm for one in done]
    lines += [
        "",
        f"True change in the interval: {sum(one.covered for one in done)} of {len(done)}. "
        f"Unchanged lesions called stable: {stable} of {len(unchanged)}. "
        f"Registration off by {np.median(errors):.2f} mm (median), {max(errors):.2f} mm (largest); "
        f"stated error {np.median([one.error_mm for one in done]):.2f} mm (median). "
        f"Least agreement of the images {min(one.similarity for one in done):.2f}. "
        f"{np.median([one.seconds for one in done]):.0f} s a run (median), phantoms included.",
    ]
    return "\n".join(lines)


def _span(values: list[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f}" if values else "none"


def main() -> None:
    """Run all, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--out", type=Path, help="JSON file for the runs.")
    parser.add_argument(
        "--brats", type=Path, help="Measure repeated visits of these people instead."
    )
    arguments = parser.parse_args()
    done = []
    model = Settings(threads=1).load()
    if arguments.brats:
        print_repeats(arguments.brats, model)
        return
    for one in runs(arguments.runs, model):
        done.append(one)
        inside = "in" if one.covered else "NOT in"
        print(
            f"{len(done)} of {arguments.runs}: head {one.head}, {one.true_before:.1f} ml, true "
            f"{one.true_change:+.1f} %, measured {one.change or 0.0:+.1f} %, {inside} the interval, "
            f"{one.kind}",
            flush=True,
        )
    print(f"\n{platform.machine()}, {model.engine.name} {model.engine.precision}\n\n{table(done)}")
    if arguments.out:
        text = json.dumps([asdict(one) for one in done], indent=1)
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
