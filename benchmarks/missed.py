"""How large a lesion has to be to be found: synthetic lesions in the brains of people without tumour.

    python benchmarks/missed.py --data manifest.csv -o missed.csv

Each tumour-free person of the manifest gets one lesion at a time, of 0.5 to 32 ml: a ball with an uneven
border, bright on FLAIR and dark on T1. Its contrasts lie between the 10 % and 90 % quantile of those of the
gliomas here (FLAIR 1.23 to 1.91 of the head's median, T1 0.72 to 1.09). A lesion is missed when the verdict
is *no tumour found*. The volumes at which a half, and a tenth, is missed come from a logistic regression on
the logarithm of the volume; their intervals are a bootstrap's over people. The shipped network was trained on
these brains, without the lesions.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from gliosight.analysis import Status
from gliosight.data.manifest import read_manifest
from gliosight.data.studies import read_labelled
from gliosight.decide import decide, weighing_scale
from gliosight.errors import GliosightError
from gliosight.head import find_head
from gliosight.infer.model import Model, load_model
from gliosight.prepare import prepare
from gliosight.study import MrSequence, Study, Volume

VOLUMES_ML = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
# Contrast to the head's median: from, to.
CONTRAST = {
    MrSequence.FLAIR: (1.23, 1.91),
    MrSequence.T1: (0.72, 1.09),
    MrSequence.T1C: (0.70, 1.11),
}
# Of its middle: depth below the head's surface (mm), and part of the head's height.
DEPTH_MM, HEIGHT = 25.0, (0.35, 0.85)
# Roughness of the border, as a part of the radius; its width, and that of the texture (mm).
ROUGH, BORDER_MM, TEXTURE_MM, TEXTURE = 0.35, 1.5, 4.0, 0.15
DRAWS = 1000


def add_lesion(
    study: Study, sides: tuple[float, float, float], volume_ml: float, seed: int
) -> tuple[Study, NDArray[np.bool_]]:
    """The study with a lesion, and the lesion: (slices, rows, columns)."""
    generator = np.random.default_rng(seed)
    flair = study.flair.values.astype(np.float32)
    head = find_head(flair)
    sampling = np.array(sides)
    place = _place(flair, head, sampling, generator)
    grid = np.indices(flair.shape, dtype=np.float32).transpose(1, 2, 3, 0)
    away = np.linalg.norm((grid - place) * sampling, axis=-1)
    noise = [_smooth(flair.shape, width / sampling, generator) for width in (8.0, TEXTURE_MM)]
    radius = (volume_ml * 1000 * 3 / (4 * np.pi)) ** (1 / 3)
    uneven = away / radius + ROUGH * noise[0]
    # The border that gives just this volume.
    wanted = round(volume_ml * 1000 / float(np.prod(sampling)))
    level = np.partition(uneven[head], wanted)[wanted]
    lesion = (uneven < level) & head
    soft = ndimage.gaussian_filter(lesion.astype(np.float32), BORDER_MM / sampling)
    sequences = {}
    for name, volume in study.sequences.items():
        values = volume.values.astype(np.float32)
        bright = generator.uniform(*CONTRAST[name]) * np.median(values[head])
        painted = values + soft * (bright * (1 + TEXTURE * noise[1]) - values)
        sequences[name] = Volume(painted.astype(np.float32), volume.geometry)
    return replace(study, sequences=sequences), lesion


def _place(
    flair: NDArray[np.float32],
    head: NDArray[np.bool_],
    sides: NDArray[np.float64],
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """A voxel deep in the head that is as bright as brain."""
    depth = np.stack([ndimage.distance_transform_edt(plane, sampling=sides[1:]) for plane in head])
    slices = np.flatnonzero(head.any(axis=(1, 2)))
    low, high = (round(slices[0] + part * (slices[-1] - slices[0])) for part in HEIGHT)
    middle = np.median(flair[head])
    brain = (depth > DEPTH_MM) & (abs(flair / middle - 1) < 0.25)
    brain[:low] = brain[high + 1 :] = False
    places = np.argwhere(brain)
    return np.asarray(places[generator.integers(len(places))])


def _smooth(
    shape: tuple[int, ...], widths: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.float32]:
    """Smooth noise of a mean of 0 and a standard deviation of 1."""
    values = ndimage.gaussian_filter(generator.standard_normal(shape).astype(np.float32), widths)
    return np.asarray((values - values.mean()) / values.std(), dtype=np.float32)


def status_of(study: Study, model: Model) -> Status:
    """The verdict of the whole rule."""
    card = model.card
    maps = model.predict(prepare(study, card.input))
    head = find_head(study.flair.values)
    return decide(maps, study.geometry, card.decision, card.input, head=head).status


def volumes_missed(ml: NDArray[np.float64], missed: NDArray[np.bool_]) -> tuple[float, float]:
    """Volumes (ml) at which a half and a tenth is missed."""
    design = np.column_stack([np.ones(len(ml)), np.log(ml)])
    sign = np.where(missed, 1.0, -1.0)

    def loss(weights: NDArray[np.float64]) -> float:
        ridge = 1e-3 * float(weights @ weights)
        return float(np.logaddexp(0, -sign * (design @ weights)).sum()) + ridge

    intercept, slope = optimize.minimize(loss, np.array([0.0, -1.0]), method="L-BFGS-B").x
    half, tenth = ((logit - intercept) / slope for logit in (0.0, np.log(1 / 9)))
    return float(np.exp(half)), float(np.exp(tenth))


def main() -> None:
    """Insert, analyse, count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--places", type=int, default=1, help="lesions of a size, of each person")
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    rows: list[tuple[str, float, int, str]] = []
    try:
        manifest, model = read_manifest(asked.data), load_model(threads=asked.threads)
        for patient in sorted(manifest.by_patient):
            labelled = read_labelled(manifest, patient)
            if labelled.truth.any():
                continue
            study = labelled.study
            sides = weighing_scale(study.geometry, study.shape, model.card.input).sides
            for index, ml in enumerate(VOLUMES_ML):
                for place in range(asked.places):
                    ill, _ = add_lesion(study, sides, ml, seed=100 * place + index)
                    rows.append((patient, ml, place, status_of(ill, model).value))
                    print(f"\r{len(rows)} lesions", end="", file=sys.stderr)
    except GliosightError as error:
        sys.exit(f"error: {error.line()}")
    with asked.out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "ml", "place", "status"])
        writer.writerows(rows)
    report(rows)


def report(rows: list[tuple[str, float, int, str]]) -> None:
    """Print the counts by volume, and the volumes of a half and of a tenth."""
    ml = np.array([row[1] for row in rows])
    missed = np.array([row[3] == Status.NOT_FOUND.value for row in rows])
    doubted = np.array([row[3] == Status.UNCERTAIN.value for row in rows])
    print("ml     lesions  missed  uncertain")
    for volume in VOLUMES_ML:
        at = ml == volume
        print(f"{volume:<6g} {at.sum():7d} {missed[at].sum():7d} {doubted[at].sum():10d}")
    people = np.array([row[0] for row in rows])
    names = np.unique(people)
    generator = np.random.default_rng(1)
    drawn = []
    for _ in range(DRAWS):
        chosen = generator.choice(names, len(names))
        at = np.concatenate([np.flatnonzero(people == name) for name in chosen])
        drawn.append(volumes_missed(ml[at], missed[at]))
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    for k, name in enumerate(("a half", "a tenth")):
        value = volumes_missed(ml, missed)[k]
        print(f"{name} is missed at {value:.1f} ml ({low[k]:.1f} to {high[k]:.1f})")


if __name__ == "__main__":
    main()
