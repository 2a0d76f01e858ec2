"""Whether the answers can be trusted: the figures of docs/trust.md, from out-of-fold maps.

    python benchmarks/trust.py benchmarks/predictions/joint-4-folds-maps.npz --data manifest.csv

Every number is of patients that neither network nor rule has seen: the slice's and the volume's numbers are
fitted on the other folds. For the study's probability a whole cohort is left out of the fit besides: an
institution of the LGG set, BraTS, or a collection of people without tumour.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from gliosight.analysis import Decision, Status
from gliosight.card import DecisionRule
from gliosight.data.manifest import Manifest, read_manifest
from gliosight.data.studies import read_labelled
from gliosight.decide import Doubts, Scale, decide_at
from gliosight.errors import GliosightError
from gliosight.evaluate.mask_metrics import volume_dice
from gliosight.evaluate.predictions import KeptMaps, read_maps, truth_of
from gliosight.evaluate.rule_fit import (
    cross_fit,
    fit_rule,
    fit_volume,
    observe,
    read_rule,
    volume_error,
)
from gliosight.head import find_head
from gliosight.plausibility import assumed_geometry, find_doubts

NUMBERS = ("slices", "study")
BAD, WORST = 0.7, 0.2
# Two of the collections are of one cohort.
COHORTS = {"raw": "lesjak", "patient01": "lesjak", "patient04": "lesjak", "patient12": "lesjak",
           "patient20": "lesjak"}  # fmt: skip
DRAWS = 1000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """What is decided of one patient out of fold, beside the truth by slice.

    ``dice`` is NaN without tumour; ``ratio`` is true over marked volume, NaN without either. ``apart`` is the
    study's probability with its numbers fitted without the patient's cohort, and ``verdict`` what follows.
    """

    patient: str
    label: NDArray[np.bool_]
    dice: float
    ratio: float
    decision: Decision
    apart: float
    verdict: Status

    @property
    def collection(self) -> str:
        """LGG, BraTS or tumour-free."""
        if self.patient.startswith("TCGA"):
            return "LGG"
        return "tumour-free" if np.isnan(self.dice) else cohort_of(self.patient)


def cohort_of(patient: str) -> str:
    """An institution of the LGG set, BraTS, or a collection of people without tumour."""
    name, *rest = patient.split("_")
    if name == "TCGA":
        return rest[0]
    return "BraTS" if name.startswith("BraTS") else COHORTS.get(name, name)


def cases_of(path: Path, manifest: Manifest, start: DecisionRule) -> list[Case]:
    """Decide on every patient as if it were new."""
    _, kept = read_maps(path)
    truths = {one.patient: truth_of(one, manifest) for one in kept}
    observed = {one.patient: observe(one, truths[one.patient], start) for one in kept}
    rules = cross_fit(list(observed.values()), start, NUMBERS)
    errors = [(one.model, volume_error(one, truths[one.patient], rules[one.model])) for one in kept]
    for model, rule in rules.items():
        others = [error for fold, error in errors if error is not None and fold != model]
        rules[model] = fit_volume(others, rule)
    cases = []
    for one in kept:
        truth, rule, cohort = truths[one.patient], rules[one.model], cohort_of(one.patient)
        doubts = doubts_of(one, manifest)
        decision = decide_at(one.maps, Scale(one.sides), rule, doubts=doubts)
        strangers = [
            patient
            for name, patient in observed.items()
            if patient.model != one.model and cohort_of(name) != cohort
        ]
        apart = decide_at(
            one.maps, Scale(one.sides), fit_rule(strangers, rule, ("study",)), doubts=doubts
        )
        marked, ill = decision.mask.sum(), truth.any()
        cases.append(
            Case(
                patient=one.patient,
                label=np.asarray(truth.any(axis=(1, 2))),
                dice=volume_dice(truth, decision.mask) if ill else np.nan,
                ratio=truth.sum() / marked if ill and marked else np.nan,
                decision=decision,
                apart=apart.probability or 0.0,
                verdict=apart.status,
            )
        )
        print(f"\r{len(cases)} of {len(kept)} patients", end="", file=sys.stderr)
    print(file=sys.stderr)
    return cases


def doubts_of(one: KeptMaps, manifest: Manifest) -> Doubts:
    """The rules of an implausible mask, with the patient's own head."""
    study = read_labelled(manifest, one.patient).study
    geometry = study.geometry or assumed_geometry(study.shape[0], one.sides)
    return partial(find_doubts, head=find_head(study.flair.values), geometry=geometry, axis=0)


def study_figures(cases: Sequence[Case]) -> list[str]:
    """The study's probability and its verdict, each cohort left out of the fit."""
    ill = np.array([not np.isnan(case.dice) for case in cases])
    probability = np.array([case.apart for case in cases])
    brier, base = np.mean((probability - ill) ** 2), ill.mean() * (1 - ill.mean())
    rows = [
        "## Study probability (the cohort left out of the fit)",
        f"Brier score {brier:.4f} (always {ill.mean():.3f}: {base:.3f}), "
        f"AUC {roc_auc_score(ill, probability):.4f}",
        "| | studies | tumour found | uncertain | no tumour found |",
        "| --- | --- | --- | --- | --- |",
    ]
    groups = sorted({case.collection for case in cases}) + sorted(
        {cohort_of(case.patient) for case in cases if np.isnan(case.dice)}
    )
    for group in groups:
        verdicts = [
            case.verdict for case in cases if group in (case.collection, cohort_of(case.patient))
        ]
        counts = (
            verdicts.count(status) for status in (Status.FOUND, Status.UNCERTAIN, Status.NOT_FOUND)
        )
        rows.append(f"| {group} | {len(verdicts)} | {' | '.join(map(str, counts))} |")
    fired = [
        f"{case.patient} {flag.code}"
        for case in cases
        for flag in case.decision.flags
        if flag.severity == "warning"
    ]
    rows.append(f"Implausible: {', '.join(fired) or 'none'}")
    unsure = [
        f"{case.patient} {case.apart:.2f}" for case in cases if case.verdict is Status.UNCERTAIN
    ]
    return [*rows, f"Uncertain: {', '.join(unsure) or 'none'}"]


def slice_figures(cases: Sequence[Case]) -> list[str]:
    """Calibration of the slices by collection, and what a perfect one would have by chance."""
    rows = [
        "## Slice probability",
        "| | slices | ECE | ECE of a perfect one | slope | intercept | Brier |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    generator = np.random.default_rng(1)
    for group in sorted({case.collection for case in cases}):
        mine = [case for case in cases if case.collection == group]
        p = np.concatenate([case.decision.slice_probabilities for case in mine]).astype(np.float64)
        label = np.concatenate([case.label for case in mine]).astype(np.float64)
        perfect = np.mean([ece(p, generator.uniform(size=len(p)) < p) for _ in range(200)])
        slope = intercept = "—"
        if label.any():
            clipped = np.clip(p, 1e-5, 1 - 1e-5)
            logits = np.log(clipped / (1 - clipped))[:, None]
            fit = LogisticRegression(C=1e6).fit(logits, label)
            slope, intercept = f"{fit.coef_[0, 0]:.2f}", f"{fit.intercept_[0]:.2f}"
        brier = np.mean((p - label) ** 2)
        rows.append(
            f"| {group} | {len(p)} | {ece(p, label):.4f} | {perfect:.4f} | {slope} | {intercept} | "
            f"{brier:.4f} |"
        )
    return rows


def ece(probability: Floats, label: NDArray[np.generic], bins: int = 15) -> float:
    """Expected calibration error, bins of equal mass."""
    order = np.argsort(probability, kind="stable")
    parts = np.array_split(order, bins)
    away = [abs(probability[k].mean() - label[k].mean()) * len(k) for k in parts if len(k)]
    return float(np.sum(away) / len(probability))


def volume_figures(cases: Sequence[Case]) -> list[str]:
    """How often the 90 % interval holds the true volume, and how wide it is."""
    rows = [
        "## Volume",
        "| | outlined | true volume inside | below | above | width, median |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for group in ("LGG", "BraTS"):
        outlines = [
            (case.ratio, case.decision.outline)
            for case in cases
            if case.collection == group and case.decision.outline is not None
        ]
        if not outlines:
            continue
        ratio = np.array([one for one, _ in outlines])
        low, high = (
            np.array([getattr(one, name) for _, one in outlines])
            for name in ("volume_low", "volume_high")
        )
        inside = np.mean((ratio >= low) & (ratio <= high))
        rows.append(
            f"| {group} | {len(ratio)} | {inside:.1%} | {np.mean(ratio < low):.1%} | "
            f"{np.mean(ratio > high):.1%} | {np.median(high - low):.2f} of the volume |"
        )
    return rows


def review_figures(cases: Sequence[Case]) -> list[str]:
    """Whether the softest outlines are the bad ones."""
    drawn = [case for case in cases if case.collection != "tumour-free" and case.decision.outline]
    dice = np.array([case.dice for case in drawn])
    softness = np.array([case.decision.outline.softness for case in drawn if case.decision.outline])
    bad, count = dice < BAD, round(WORST * len(dice))
    order = np.argsort(-softness, kind="stable")
    caught = int(bad[order[:count]].sum())
    generator = np.random.default_rng(1)
    chance = np.mean([aurc(generator.permutation(dice)) for _ in range(DRAWS)])
    return [
        "## Review first",
        f"{len(dice)} outlined studies, {bad.sum()} with Dice < {BAD}: {caught} of them among the "
        f"{count} softest outlines ({caught / bad.sum():.0%})",
        f"AURC of 1 - Dice: {aurc(dice[order[::-1]]):.4f} by softness, {chance:.4f} by chance, "
        f"{aurc(np.sort(dice)[::-1]):.4f} at best",
    ]


def aurc(dice: Floats) -> float:
    """Area under the risk-coverage curve; the most trusted first."""
    return float(np.mean(np.cumsum(1 - dice) / np.arange(1, len(dice) + 1)))


def main() -> None:
    """Decide out of fold, print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("maps", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--start", default=str(Path(__file__).with_name("rule-start.json")))
    asked = parser.parse_args()
    try:
        cases = cases_of(asked.maps, read_manifest(asked.data), read_rule(asked.start)[0])
    except GliosightError as error:
        sys.exit(f"error: {error.line()}")
    for figures in (study_figures, slice_figures, volume_figures, review_figures):
        print("\n".join(figures(cases)), end="\n\n")


if __name__ == "__main__":
    main()
