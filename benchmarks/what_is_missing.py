"""What parts kept maps from the experts' outlines: each patient's Dice, and what it would be.

    python benchmarks/what_is_missing.py maps.npz --data manifest.csv --rule joint-4

The masks are those that a model's decision rule makes of the maps. For each patient, worst first, and on the
mean: Dice as it is; were every slice right that is marked without tumour or left empty with one; were there
no bodies that touch no tumour; were the pixel threshold the one that suits this patient best; were every
pixel within 2 pixels of the expert's border right. None but the first is a score: the truth was looked at.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gliosight.bodies import CONNECTED_26
from gliosight.card import DecisionRule
from gliosight.data.manifest import Manifest, read_manifest
from gliosight.decide import Scale, decide_at
from gliosight.errors import GliosightError
from gliosight.evaluate.mask_metrics import volume_dice
from gliosight.evaluate.predictions import KeptMaps, read_maps, truth_of
from gliosight.evaluate.rule_fit import read_rule

Mask = NDArray[np.bool_]
BORDER = 2
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
COLUMNS = ("as it is", "slices right", "no false bodies", "best threshold", "border right")


def what_if(kept: KeptMaps, truth: Mask, rule: DecisionRule) -> list[float]:
    """Dice of one patient, in the order of `COLUMNS`."""
    mask = decide_at(kept.maps, Scale(kept.sides), rule).mask
    return [
        volume_dice(truth, mask),
        volume_dice(truth, _with_right_slices(mask, truth)),
        volume_dice(truth, _without_false_bodies(mask, truth)),
        max(volume_dice(truth, kept.maps.probability >= one) for one in THRESHOLDS),
        volume_dice(truth, np.where(_near_border(truth), truth, mask)),
    ]


def _with_right_slices(mask: Mask, truth: Mask) -> Mask:
    wrong = mask.any(axis=(1, 2)) != truth.any(axis=(1, 2))
    return np.where(wrong[:, None, None], truth, mask)


def _without_false_bodies(mask: Mask, truth: Mask) -> Mask:
    labels, _ = ndimage.label(mask, structure=CONNECTED_26)
    true = np.unique(labels[truth & mask])
    return np.asarray(np.isin(labels, true[true > 0]))


def _near_border(truth: Mask) -> Mask:
    out = np.zeros_like(truth)
    for near, one in zip(out, truth, strict=True):
        if one.any():
            inside, outside = (ndimage.distance_transform_edt(part) for part in (one, ~one))
            near[:] = np.where(one, inside, outside) <= BORDER
    return out


def measure(
    kept: tuple[KeptMaps, ...], manifest: Manifest, rule: DecisionRule
) -> dict[str, list[float]]:
    """Each patient's figures, worst first; who has no tumour is left out."""
    found = {}
    for one in kept:
        truth = truth_of(one, manifest)
        if truth.any():
            found[one.patient] = what_if(one, truth, rule)
    return dict(sorted(found.items(), key=lambda one: one[1][0]))


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("maps", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--rule", required=True, help="the model whose rule it is, or a file of rules"
    )
    asked = parser.parse_args()
    try:
        rule, _ = read_rule(asked.rule)
        found = measure(read_maps(asked.maps)[1], read_manifest(asked.data), rule)
    except GliosightError as error:
        sys.exit(f"error: {error.line()}")
    print("| patient | " + " | ".join(COLUMNS) + " |")
    print("| --- " * (len(COLUMNS) + 1) + "|")
    found["mean"] = np.mean(list(found.values()), axis=0).tolist()
    for patient, values in found.items():
        print(f"| {patient} | " + " | ".join(f"{one:.3f}" for one in values) + " |")


if __name__ == "__main__":
    main()
