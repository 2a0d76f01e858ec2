"""The decision rule from out-of-fold maps, and the cross-validated predictions under it.

    python benchmarks/cross_validation.py maps RUN0 RUN1 ... --data manifest.csv --split S -o maps.npz
    python benchmarks/cross_validation.py apply maps.npz --rule RULE -o predictions.npz
    python benchmarks/cross_validation.py fit maps.npz --data manifest.csv --start RULE -o rules

``maps`` runs each fold's network on the patients of its fold, which it was not trained on, and keeps
what it says (no image); ``--without T1,T1C`` takes these sequences from the studies before. ``apply`` draws
the masks that a decision rule makes of such maps; of several networks' maps it takes the mean of the logits,
of the patients they share. ``fit`` fits the rule of each fold on the other folds' maps, all its numbers or
those named, writes the masks that this gives to ``predictions.npz``, the rules and the one fitted on all to
``rules.json``, and prints what the fitting is worth. With ``--score OTHER.npz`` the masks are those of the
maps in OTHER, each under the rule of its patient's fold: of other networks, or of other sequences. RULE is a
model or its card, whose rule it is, or a file of rules. Patients that it was fitted on are marked as seen.
``gliosight evaluate`` scores either's predictions; docs/results.md quotes them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from gliosight.card import DecisionRule
from gliosight.data.manifest import Manifest, read_manifest, write_whole
from gliosight.data.split import read_split
from gliosight.data.studies import read_labelled
from gliosight.decide import Scale, decide_at, logit, weighing_scale
from gliosight.errors import CannotWriteError, GliosightError, UsageError, printable
from gliosight.evaluate.predictions import (
    KeptMaps,
    ModelNote,
    Prediction,
    Predictions,
    patient_hash,
    prediction_of,
    read_maps,
    rows_digest,
    truth_of,
    write_maps,
    write_predictions,
)
from gliosight.evaluate.rule_fit import (
    NUMBERS,
    Observed,
    check_numbers,
    cross_fit,
    dice_of,
    fit_rule,
    fit_volume,
    observe,
    read_rule,
    volume_error,
)
from gliosight.evaluate.sources import refuse_seen, source_of_model
from gliosight.infer.model import load_model
from gliosight.maps import Maps, sigmoid
from gliosight.pipeline import Settings
from gliosight.prepare import prepare
from gliosight.study import MrSequence


def keep_maps(
    models: list[str],
    manifest: Manifest,
    patients: Sequence[Sequence[str]],
    threads: int | None,
    without: Collection[MrSequence] = (),
) -> tuple[list[ModelNote], list[KeptMaps]]:
    """What each model says of its own patients, without some of their sequences."""
    notes: list[ModelNote] = []
    kept: list[KeptMaps] = []
    missing = f" without {', '.join(name.value for name in without)}" if without else ""
    for index, (name, mine) in enumerate(zip(models, patients, strict=True)):
        model = load_model(name, threads=threads)
        refuse_seen(model, mine)
        # A run's card is called "model" in every run.
        notes += [
            replace(note, name=Path(name).name + missing)
            for note in source_of_model(model, Settings()).notes
        ]
        for patient in mine:
            study = read_labelled(manifest, patient).study
            images = {name: one for name, one in study.sequences.items() if name not in without}
            study = replace(study, sequences=images)
            maps = model.predict(prepare(study, model.card.input))
            sides = weighing_scale(study.geometry, study.shape, model.card.input).sides
            digest = rows_digest(manifest.by_patient[patient])
            kept.append(KeptMaps(patient, digest, index, sides, maps))
            print(
                f"\r{len(kept)} of {sum(len(one) for one in patients)} patients",
                end="",
                file=sys.stderr,
            )
    print(file=sys.stderr)
    return notes, kept


def observed_of(
    kept: tuple[KeptMaps, ...], manifest: Manifest, rule: DecisionRule
) -> list[Observed]:
    """The maps beside the truth."""
    return [observe(one, truth_of(one, manifest), rule) for one in kept]


def predict(one: KeptMaps, rule: DecisionRule, fitted_on: Collection[str]) -> Prediction:
    """What the whole tool would have said with this rule; ``fitted_on``: hashes of patients."""
    decision = decide_at(one.maps, Scale(one.sides), rule)
    seen = patient_hash(one.patient) in fitted_on
    return prediction_of(one.patient, one.rows_sha256, decision, seen=seen, model=one.model)


def apply(maps: list[Path], name: str, out: Path) -> None:
    """Write what the rule of a model makes of kept maps, or of the mean of several.

    Raises
    ------
    UsageError
        They have no patient in common.
    """
    notes, first = read_maps(maps[0])
    voices = [{one.patient: one for one in read_maps(path)[1]} for path in maps]
    common = set.intersection(*(set(one) for one in voices))
    if not common:
        raise UsageError(
            "these maps have no patient in common", remedy="give maps of the same fold"
        )
    rule, fitted_on = read_rule(name)
    entries = tuple(
        predict(mean_of([voice[one.patient] for voice in voices]), rule, fitted_on)
        for one in first
        if one.patient in common
    )
    write_predictions(Predictions(notes, entries), out)


def mean_of(voices: list[KeptMaps]) -> KeptMaps:
    """One patient's maps by several networks: the mean of their logits, pixel by pixel."""
    if len(voices) == 1:
        return voices[0]
    pixels, slices = (
        sigmoid(np.mean([logit(getattr(one.maps, name)) for one in voices], axis=0))
        for name in ("probability", "slice_head")
    )
    maps = Maps(pixels.astype(np.float32), slices.astype(np.float32))
    return replace(voices[0], maps=maps)


def fit(
    maps: Path,
    manifest: Manifest,
    start: str,
    out: Path,
    numbers: Sequence[str] = NUMBERS,
    score: Path | None = None,
) -> dict[str, float]:
    """Fit, write, and say what each rule gives on patients it was not fitted on.

    The predictions that are written are those of ``maps``, or of the maps in ``score``. What is returned is
    the mean Dice of ``maps``.

    Raises
    ------
    GliosightError
        Among others: ``score`` has a patient that ``maps`` does not have, so that its fold is not known.
    """
    check_numbers(numbers)
    begun, fitted_on = read_rule(start)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWriteError(
            f"cannot make the folder: {error.strerror}", where=out.name, remedy="choose another -o"
        ) from error
    notes, kept = read_maps(maps)
    scored_notes, scored = read_maps(score) if score else (notes, kept)
    fold_of = {one.patient: one.model for one in kept}
    if unknown := sum(one.patient not in fold_of for one in scored):
        raise UsageError(
            f"{unknown} of its {len(scored)} patients are not in {printable(maps.name)}",
            where=printable(score.name if score else maps.name),
            remedy="give maps of the same folds",
        )
    if score:
        observed_of(scored, manifest, begun)  # made from the manifest's slices, or refused
    observed = observed_of(kept, manifest, begun)
    rules = cross_fit(observed, begun, numbers)
    final = fit_rule(observed, begun, numbers)
    if "study" in numbers:
        errors = [
            (one.model, volume_error(one, truth_of(one, manifest), rules[one.model]))
            for one in kept
        ]
        told_apart = {
            model: [error for fold, error in errors if error is not None and fold != model]
            for model in (*rules, None)
        }
        rules = {model: fit_volume(told_apart[model], rule) for model, rule in rules.items()}
        final = fit_volume(told_apart[None], final)
    entries = tuple(predict(one, rules[fold_of[one.patient]], fitted_on) for one in scored)
    write_predictions(Predictions(scored_notes, entries), out / "predictions.npz")
    told: dict[str, Any] = {"all": asdict(final)}
    told |= {str(k): asdict(one) for k, one in rules.items()}
    told["patients_sha256"] = sorted(fitted_on | {patient_hash(one.patient) for one in kept})
    write_whole(out / "rules.json", (json.dumps(told, indent=1) + "\n").encode())
    return {
        "start": float(np.mean([dice_of(one, begun) for one in observed if one.volume])),
        "cross-fitted": float(
            np.mean([dice_of(one, rules[one.model]) for one in observed if one.volume])
        ),
    }


def _sequences(names: str | None) -> tuple[MrSequence, ...]:
    """The sequences to leave out, from ``T1,T1C``."""
    asked = [] if names is None else names.split(",")
    optional = [one for one in MrSequence if one is not MrSequence.FLAIR]
    if unknown := [one for one in asked if one not in {known.name for known in optional}]:
        raise UsageError(
            f"--without {printable(unknown[0])}",
            remedy=f"give {' or '.join(one.name for one in optional)}",
        )
    return tuple(MrSequence[one] for one in asked)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    maps = commands.add_parser("maps")
    maps.add_argument("models", nargs="+")
    maps.add_argument("--split", type=Path, required=True)
    maps.add_argument("--folds", help="names of the models' folds, by comma; without, all of them")
    maps.add_argument("--without", help="sequences taken from the studies, by comma: T1,T1C")
    maps.add_argument("--threads", type=int)
    applying = commands.add_parser("apply")
    applying.add_argument("maps", type=Path, nargs="+")
    applying.add_argument("--rule", required=True)
    applying.add_argument("-o", "--out", type=Path, required=True)
    fitting = commands.add_parser("fit")
    fitting.add_argument("maps", type=Path)
    fitting.add_argument("--start", required=True, help="the rule to start from")
    fitting.add_argument(
        "--numbers",
        default=",".join(NUMBERS),
        help="which of the rule's numbers are fitted, by comma; without, all: %(default)s",
    )
    fitting.add_argument("--score", type=Path, help="the maps whose masks are written, if others")
    for one in (maps, fitting):
        one.add_argument("--data", type=Path, required=True)
        one.add_argument("-o", "--out", type=Path, required=True)
    asked = parser.parse_args()
    try:
        run(asked)
    except GliosightError as error:
        sys.exit(f"error: {error.line()}")


def run(asked: Any) -> None:
    """Do what was asked.

    Raises
    ------
    GliosightError
    """
    if asked.command == "apply":
        apply(asked.maps, asked.rule, asked.out)
        return
    manifest = read_manifest(asked.data)
    if asked.command == "fit":
        numbers = asked.numbers.split(",")
        told = fit(asked.maps, manifest, asked.start, asked.out, numbers, asked.score)
        for name, value in told.items():
            print(f"mean Dice by patient, {name} rule: {value:.4f}")
        return
    without = _sequences(asked.without)
    split = read_split(asked.split)
    folds = asked.folds.split(",") if asked.folds else ()
    patients = split.test_patients(manifest, len(asked.models), folds)
    notes, kept = keep_maps(asked.models, manifest, patients, asked.threads, without)
    write_maps(notes, kept, asked.out)
    print(f"{len(kept)} patients, {asked.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
