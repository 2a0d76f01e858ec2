"""The LGG tutorial, start to end, and beside it what it hides. Explained in docs/tutorial/README.md.

    python docs/tutorial/tutorial.py DATA -o OUT [--set-detector epochs=1] [--set-localizer epochs=1]

DATA is the data set's folder, with or without ``data_mask.csv``, or that file itself. Every step is a
command of gliosight, printed before it runs; a step whose output is there already is left alone, so the
script can be stopped and started again. Needs the extras ``train`` and ``evaluate``.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from sklearn.metrics import classification_report, confusion_matrix

from gliosight import cli

SPLITS = ("slice", "patient")


def main() -> None:
    """Run all steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--set-detector", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--set-localizer", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    out: Path = given.out
    out.mkdir(parents=True, exist_ok=True)
    manifest = out / "manifest.csv"

    heading("1. The data")
    step(manifest, "data", "index", given.data, "-o", manifest)
    step(out / "describe", "data", "describe", manifest, "-o", out / "describe")
    step(
        out / "figure.png", "data", "show", manifest, "-n", 4, "--seed", 1, "-o", out / "figure.png"
    )

    heading("2. The split: by slice as in the article, and by patient")
    for by in SPLITS:
        split = out / f"{by}.json"
        step(split, "data", "split", manifest, "--by", by, "--seed", 1, "-o", split)

    for by in SPLITS:
        heading(f"3. The detector, split by {by}")
        train("tutorial-detector", by, out, manifest, given.set_detector, given.threads)
        heading(f"4. The localizer, split by {by}")
        train("tutorial-localizer", by, out, manifest, given.set_localizer, given.threads)
        heading(f"5. Joined, split by {by}")
        runs = [run_of(preset, by, out) for preset in ("tutorial-detector", "tutorial-localizer")]
        model = out / f"cascade-{by}"
        step(model, "export", *runs, "-o", model, "--name", "model")
        scores = out / f"scores-{by}"
        step(scores, "evaluate", model, "--data", manifest, "--split", out / f"{by}.json",
             "--threads", given.threads, "-o", scores)  # fmt: skip
        print_joined(scores / "per_slice.csv")

    heading("6. What the split by slice is worth")
    models = [out / f"cascade-{by}" for by in SPLITS]
    splits = [part for by in SPLITS for part in ("--split", out / f"{by}.json")]
    step(out / "leak", "evaluate", "--leak-audit", *models, "--data", manifest, *splits,
         "--threads", given.threads, "-o", out / "leak")  # fmt: skip


def heading(text: str) -> None:
    """Say where we are."""
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def step(made: Path, *words: object) -> None:
    """Run one command of gliosight, unless what it makes is there; stop where it fails."""
    call = [str(word) for word in words]
    print(f"$ gliosight {shlex.join(call)}", flush=True)
    if made.exists():
        print("  (done before)")
        return
    if code := cli.run(call):
        sys.exit(code)


def run_of(preset: str, by: str, out: Path) -> Path:
    """Where a run lies."""
    return out / f"{preset}-{by}"


def train(
    preset: str, by: str, out: Path, manifest: Path, changes: Iterable[str], threads: int
) -> None:
    """Train one network, or go on with it."""
    run = run_of(preset, by, out)
    options = [part for change in changes for part in ("--set", change)]
    step(run / "model.json", "train", preset, "--data", manifest, "--split", out / f"{by}.json",
         "-o", run, "--threads", threads, "--resume", *options)  # fmt: skip


def print_joined(table: Path) -> None:
    """The article's last table: a slice has tumour when the two networks together mark a pixel.

    And the overlap it does not give: of the slices with tumour alone, a missed one counting 0.
    """
    with table.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    truth, found, both = (
        np.array([int(row[name]) for row in rows])
        for name in ("truth_px", "predicted_px", "both_px")
    )
    print(classification_report(
        truth > 0, found > 0, labels=[False, True], target_names=["no tumour", "tumour"],
        zero_division=0,
    ))  # fmt: skip
    print("confusion matrix (rows: truth)")
    print(confusion_matrix(truth > 0, found > 0, labels=[False, True]))
    with_tumour = truth > 0
    dice = 2 * both[with_tumour] / (truth[with_tumour] + found[with_tumour])
    if len(dice):
        print(f"Dice over the {len(dice)} slices with tumour: mean {dice.mean():.3f}, "
              f"median {np.median(dice):.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
