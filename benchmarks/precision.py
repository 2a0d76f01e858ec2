"""How far answers in bfloat16 and int8 are from those in float32, through the whole pipeline.

    python benchmarks/precision.py joint-4 --data manifest.csv
    python benchmarks/precision.py run-1/model.json --data manifest.csv --split folds.json --fold 1

Each patient of the manifest, or of the fold's test part, is analysed in float32 and in each precision that
this processor has; with ``--one-pass`` also without the mirror image. ``ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI``
takes AMX and AVX512-BF16 away from OpenVINO. A precision that is not within `LIMITS` is not used on that
instruction set: see docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gliosight.data.manifest import read_manifest
from gliosight.data.split import read_split
from gliosight.data.studies import LabelledStudy, read_labelled
from gliosight.errors import ModelError
from gliosight.evaluate.mask_metrics import auc_of, volume_dice
from gliosight.infer.model import Model, load_model
from gliosight.infer.precision import FLOAT32, NEEDS
from gliosight.pipeline import Settings, analyze_study

# Of the mean Dice, the slices' AUC, and one patient's Dice.
LIMITS = (0.002, 0.001, 0.02)


@dataclass
class Answers:
    """What a model gave in one precision, by patient; ``dice`` is against the truth, NaN without a lesion."""

    dice: dict[str, float] = field(default_factory=dict)
    agreement: dict[str, float] = field(default_factory=dict)
    status: dict[str, str] = field(default_factory=dict)
    slices: list[NDArray[np.float32]] = field(default_factory=list)
    truth: list[NDArray[np.bool_]] = field(default_factory=list)


def usable(name: str, threads: int | None) -> dict[str, Model]:
    """The model in each precision that it and this processor have."""
    models = {}
    for precision in NEEDS:
        try:
            models[precision] = load_model(
                name, engine="openvino", precision=precision, threads=threads
            )
        except ModelError as error:
            print(f"{precision}: {error.line()}", file=sys.stderr)
    return models


def add(
    answers: Mapping[str, Answers], models: Mapping[str, Model], patient: str, case: LabelledStudy
) -> None:
    """Analyse one patient in each precision, float32 first."""
    masks = {}
    for name in sorted(models, key=lambda name: name != FLOAT32):
        decision = analyze_study(case.study, models[name], Settings()).decision
        mine = answers[name]
        masks[name] = decision.mask
        mine.dice[patient] = volume_dice(case.truth, decision.mask)
        mine.agreement[patient] = volume_dice(masks[FLOAT32], decision.mask)
        mine.status[patient] = decision.status.value
        mine.slices.append(decision.slice_probabilities)
        mine.truth.append(case.truth.any(axis=(1, 2)))


def compare(name: str, mine: Answers, reference: Answers) -> str:
    """One line of the table in docs/benchmarks.md."""
    patients = [patient for patient, dice in reference.dice.items() if not np.isnan(dice)]
    dice, wanted = (np.array([of.dice[name] for name in patients]) for of in (mine, reference))
    truth = np.concatenate(reference.truth)
    auc, wanted_auc = (auc_of(truth, np.concatenate(of.slices)) for of in (mine, reference))
    assert auc is not None  # noqa: S101 - there are slices of both kinds
    assert wanted_auc is not None  # noqa: S101
    off = np.abs(dice - wanted)
    worst = patients[int(off.argmax())]
    changed = [key for key in reference.status if mine.status[key] != reference.status[key]]
    differences = (dice.mean() - wanted.mean(), auc - wanted_auc, off.max())
    holds = all(abs(value) <= limit for value, limit in zip(differences, LIMITS, strict=True))
    agreement = np.nanmean(list(mine.agreement.values()))
    return (
        f"| {name} | {len(mine.status)} ({len(patients)}) | {agreement:.4f} | {dice.mean():.4f} "
        f"({differences[0]:+.4f}) | {auc:.4f} ({differences[1]:+.5f}) | {off.max():.4f} ({worst}), "
        f"{(off > LIMITS[2]).sum()} beyond | {' '.join([str(len(changed)), *changed])} "
        f"| {'yes' if holds else 'no'} |"
    )


def report(answers: Mapping[str, Answers]) -> None:
    """Print the table."""
    print("| precision | patients (with lesion) | Dice with float32's masks | mean Dice | slice AUC "
          "| most of a patient's Dice | verdicts changed | within the limits |")  # fmt: skip
    print("| --- " * 8 + "|")
    for name, mine in answers.items():
        print(compare(name, mine, answers[FLOAT32]), flush=True)


def main() -> None:
    """Compare the precisions of one model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", type=Path)
    parser.add_argument("--fold")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--one-pass", action="store_true", help="also without the mirror image")
    asked = parser.parse_args()
    manifest = read_manifest(asked.data)
    patients: Sequence[str] = list(manifest.by_patient)
    if asked.split is not None:
        (patients,) = read_split(asked.split).test_patients(manifest, 1, [asked.fold])
    models = usable(asked.model, asked.threads)
    if asked.one_pass:
        models |= {
            f"{name}, one pass": replace(model, card=replace(model.card, flip=False))
            for name, model in models.items()
        }
    answers = {name: Answers() for name in models}
    for count, patient in enumerate(patients, 1):
        add(answers, models, patient, read_labelled(manifest, patient))
        print(f"\r{count} of {len(patients)} patients", end="", file=sys.stderr)
    print(file=sys.stderr)
    report(answers)


if __name__ == "__main__":
    main()
