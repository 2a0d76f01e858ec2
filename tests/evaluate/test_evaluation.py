"""Evaluation from end to end, on small data with known answers; the network where it matters."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gliosight import pipeline
from gliosight.data.index import index_roots
from gliosight.data.manifest import Manifest, SliceRow
from gliosight.data.people import Entry, People, Root, parse_roots
from gliosight.data.split import PATIENT, SLICE, Split
from gliosight.errors import DamagedInputError, NothingReadableError, UsageError
from gliosight.evaluate.baselines import Part
from gliosight.evaluate.evaluation import Evaluation, Request, evaluate, parts_of
from gliosight.evaluate.figures import Figure
from gliosight.evaluate.predictions import Predictions, patient_hash, write_predictions
from gliosight.evaluate.sources import Source, open_source, source_of_model, source_of_predictions
from gliosight.infer.model import Model
from gliosight.phantom import Phantom, write_lgg
from tests.evaluate.builders import (
    NOTE,
    make_prediction,
    make_predictions,
    six_patients,
    source_of,
    square,
    write_data,
)
from tests.read.builders import make_volume, write_nifti

TRUTHS = six_patients()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_data(tmp_path_factory.mktemp("data"), TRUTHS)


A, B = ("AA_0", "AA_1", "BB_0"), ("AA_2", "BB_1", "BB_free")
SPLITS = {
    "parts": {"train": A, "validation": (), "test": B},
    "valid": {"train": A, "validation": B[2:], "test": B[:2]},
    "folds": {"0": A, "1": B},
}


def _split(manifest: Manifest, kind: str) -> Split:
    if kind != "slices":
        return Split(PATIENT, 1, manifest.sha256, SPLITS[kind])
    keys = [f"{name}:{k}" for name in TRUTHS for k in range(1, 9)]
    test = tuple(key for key in keys if key.endswith((":3", ":7")))
    groups = {"train": tuple(k for k in keys if k not in test), "validation": (), "test": test}
    return Split(SLICE, 1, manifest.sha256, groups)


def _source(manifest: Manifest, **masks: np.ndarray) -> Source:
    return source_of(manifest, {**TRUTHS, **masks})


def _evaluate(manifest: Manifest, source: Source, **options: object) -> Evaluation:
    return evaluate(Request(manifest, [source], draws=100, **options))  # type: ignore[arg-type]


def test_progress_is_that_of_slices_and_few_patients_are_warned_of(manifest: Manifest) -> None:
    progress: list[tuple[int, int]] = []
    request = Request(manifest, [_source(manifest)], draws=100)
    evaluation = evaluate(request, lambda _, done, total: progress.append((done, total)))
    assert progress[-1] == (48, 48)
    assert progress == sorted(progress)
    (part,) = evaluation.parts
    assert (part.part, part.by, len(part.patients)) == ("all", "none", 6)
    assert any("6 patients on which the figures rest" in text for text in evaluation.warnings)


MASKS = {
    # The sixth patient has no lesion.
    "the truth itself": (
        {},
        {"dice_mean": 1, "dice_median": 1, "hd95_px_mean": 0, "lesion_sensitivity": 1, "slice_auc": 1,
         "false_alarm_share": 0, "patient_specificity": 1, "slice_accuracy": 1},
    ),
    # One of five lesions missed; one false lesion of 36 pixels in six patients.
    "one missed, one falsely marked": (
        {"AA_0": square(8, ()), "BB_free": square(8, (1,))},
        {"dice_mean": 4 / 5, "dice_median": 1, "false_alarm_share": 1, "false_alarm_px_mean": 36,
         "lesion_sensitivity": 4 / 5, "false_lesions_per_patient": 1 / 6,
         "patient_sensitivity": 4 / 5, "patient_specificity": 0},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("masks", "values"), MASKS.values(), ids=MASKS)
def test_figures_by_hand(
    masks: dict[str, np.ndarray], values: dict[str, float], manifest: Manifest
) -> None:
    figures = _evaluate(manifest, _source(manifest, **masks)).parts[0].figures
    assert {key: figures[key].value for key in values} == pytest.approx(values)
    assert (figures["dice_mean"].n, figures["false_alarm_share"].n) == (5, 1)


def test_baselines_stand_beside_every_score(manifest: Manifest) -> None:
    baselines = _evaluate(manifest, _source(manifest)).parts[0].baselines
    tumour = sum(int(mask.any(axis=(1, 2)).sum()) for mask in TRUTHS.values())
    values = {
        ("empty", "dice_mean"): 0,
        ("empty", "slice_accuracy"): 1 - tumour / 48,
        ("majority", "slice_auc"): 0.5,
        ("majority", "slice_average_precision"): tumour / 48,
    }
    read = {(name, key): baselines[name].figures[key].value for name, key in values}
    assert read == pytest.approx(values)
    # The squares are the brightest there is: here a threshold does it nearly all.
    assert (baselines["brightest"].localization["dice_mean"].value or 0) > 0.6
    assert (baselines["position"].detection["slice_auc"].value or 0) > 0.7
    assert set(baselines) == {"majority", "position", "empty", "brightest"}


@pytest.mark.slow
def test_seen_patients_are_shown_but_not_counted(manifest: Manifest) -> None:
    source = source_of(manifest, {**TRUTHS, "AA_0": square(8, ())}, {"AA_0"})
    evaluation = _evaluate(manifest, source)
    (part,) = evaluation.parts
    dice = part.localization["dice_mean"]
    assert (dice.value, dice.n) == (1, 4)  # the miss is in a seen patient
    assert [patient.patient for patient in part.patients if patient.seen] == ["AA_0"]
    assert part.groups["seen"]["seen in training"]["dice_mean"].value == 0
    assert sum(map(sum, part.confusion)) == 40
    assert any("trained on 1 of 6 patients" in text for text in evaluation.warnings)
    # Where all are seen no figure speaks.
    (part,) = _evaluate(manifest, source_of(manifest, TRUTHS, TRUTHS)).parts
    assert all(figure.value is None for figure in part.figures.values())
    assert part.groups["seen"]["seen in training"]["dice_mean"].value == 1
    assert part.report == ""


def test_a_detector_alone_has_no_localization(manifest: Manifest) -> None:
    entries = []
    for name, mask in TRUTHS.items():
        entry = make_prediction(manifest, name, mask)
        nothing = make_prediction(manifest, name, np.zeros_like(mask)).bits
        entries.append(replace(entry, bits=nothing))
    detector = Predictions((replace(NOTE, kind="cascade", draws=False),), tuple(entries))
    (part,) = _evaluate(manifest, source_of_predictions(detector, "d.npz")).parts
    assert part.localization == {}
    assert part.detection["slice_auc"].value == part.detection["patient_sensitivity"].value == 1
    assert "dice_mean" not in part.groups["institution"]["AA"]


def test_groups(manifest: Manifest) -> None:
    part = _evaluate(manifest, _source(manifest, AA_0=square(8, ()))).parts[0]
    assert part.groups["institution"]["AA"]["dice_mean"].value == pytest.approx(2 / 3)
    assert part.groups["institution"]["BB"]["dice_mean"].value == 1
    assert part.groups["institution"]["BB"]["patients"].n == 3
    assert set(part.groups["sequences"]) == {"all three"}
    volumes = part.groups["tumour_volume"]
    assert [name.split(",")[0] for name in volumes] == ["smallest", "middle", "largest"]
    assert sum(figures["patients"].n for figures in volumes.values()) == 5


@pytest.mark.slow
def test_folds_are_scored_each_by_its_own_model_and_pooled(manifest: Manifest) -> None:
    split = _split(manifest, "folds")
    # Each model knows only its own fold; on the other it marks nothing.
    sources = [
        _source(manifest, **{name: square(8, ()) for name in TRUTHS if name not in half})
        for half in split.groups.values()
    ]
    evaluation = evaluate(Request(manifest, sources, split, draws=50))
    assert evaluation.parts[0].localization["dice_mean"].value == 1
    assert [entry.model for entry in evaluation.predictions.entries] == [0, 0, 0, 1, 1, 1]
    # What was written gives the same table again.
    written = source_of_predictions(evaluation.predictions, "written.npz")
    assert _evaluate(manifest, written, split=split).parts[0].localization["dice_mean"].value == 1
    swapped = evaluate(Request(manifest, sources[::-1], split, draws=50))
    assert swapped.parts[0].localization["dice_mean"].value == 0


def test_by_slice_only_the_scored_slices_count(manifest: Manifest) -> None:
    evaluation = _evaluate(
        manifest, source_of(manifest, TRUTHS, TRUTHS), split=_split(manifest, "slices")
    )
    (part,) = evaluation.parts
    (fold,) = _parts(manifest, "slices")[0].folds
    assert [row.number for row in fold.scored["AA_0"]] == [3, 7]
    assert [row.number for row in (fold.training or {})["AA_0"]] == [1, 2, 4, 5, 6, 8]
    assert part.by == "slice"
    assert sum(patient.slices for patient in part.patients) == 12
    # Seen by name would leave nobody: a warning stands in for it.
    assert not any(patient.seen for patient in part.patients)
    assert any("patients stand on both sides" in text for text in evaluation.warnings)
    copied = part.baselines["nearest_slice"]
    assert copied.detection["slice_accuracy"].value > 0.5
    assert copied.trained_on == "the split's training part"
    assert "lesion_sensitivity" not in part.localization
    # Scored slices without tumour do not make a patient without one.
    assert "false_alarm_share" not in part.localization
    assert "patient_specificity" not in part.detection


def _parts(
    manifest: Manifest,
    kind: str = "",
    parts: tuple[str, ...] = ("test",),
    fold: str | None = None,
    sources: int = 1,
) -> tuple[Part, ...]:
    split = _split(manifest, kind) if kind else None
    return parts_of(Request(manifest, [_source(manifest)] * sources, split, parts, fold))


@pytest.mark.parametrize(
    ("options", "scored", "training"),
    [
        ({}, {"all": (*A[:2], "AA_2", "BB_0", *B[1:])}, [None]),
        ({"kind": "valid"}, {"test": ("AA_2", "BB_1")}, [set(A)]),  # not the validation part
        ({"kind": "parts", "parts": ("all",)}, {"train": A, "test": B}, [None, set(A)]),
        ({"kind": "folds", "fold": "1"}, {"test": B}, [set(A)]),
        ({"kind": "folds"}, {"test": A + B}, [set(B), set(A)]),
    ],
)
def test_which_patients_are_scored_and_trained_on(
    options: dict[str, Any],
    scored: dict[str, tuple[str, ...]],
    training: list[set[str] | None],
    manifest: Manifest,
) -> None:
    parts = _parts(manifest, **options)
    assert {part.name: part.patients for part in parts} == scored
    folds = [fold.training for part in parts for fold in part.folds]
    assert [rows if rows is None else set(rows) for rows in folds] == training
    assert not any(part.by_slice for part in parts)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fold": "0"}, "--fold without --split"),
        ({"kind": "parts", "parts": ("validation",)}, "no patient"),
        ({"kind": "parts", "fold": "0"}, "no folds"),
        ({"kind": "folds", "fold": "7"}, "no fold"),
        ({"kind": "folds", "parts": ("train",)}, "pooled"),
        ({"sources": 2}, "2 models without a split"),
        ({"kind": "parts", "sources": 2}, "2 models without a split"),
        ({"kind": "folds", "sources": 3}, "3 models for 2 folds"),
        ({"kind": "folds", "sources": 2, "fold": "0"}, "2 models and --fold"),
    ],
)
def test_requests_that_do_not_fit(options: dict[str, Any], words: str, manifest: Manifest) -> None:
    with pytest.raises(UsageError, match=words):
        _parts(manifest, **options)


def test_one_model_and_folds_need_to_know_which(manifest: Manifest, model: Model) -> None:
    source = source_of_model(model, pipeline.Settings())
    with pytest.raises(UsageError, match="--fold"):
        evaluate(Request(manifest, [source], _split(manifest, "folds")))


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Pictures, volumes of 5 ml, and two cohorts of volumes without a tumour and without masks."""
    home = tmp_path_factory.mktemp("collections")
    write_data(home / "lgg", {name: TRUTHS[name] for name in ("AA_0", "AA_1", "BB_0")})
    for name in ("B_1", "ms_1", "ms_2", "mni_1"):
        folder = home / name.partition("_")[0] / name
        write_nifti(folder / f"{name}_flair.nii.gz", make_volume(seed=len(name)), AFFINE)
    write_nifti(home / "B" / "B_1" / "B_1_seg.nii.gz", _body().astype(np.uint8), AFFINE)
    people = People({"B_1": Entry("AA_0", "", 2)})
    roots = parse_roots([str(home / name) for name in ("lgg", "B", "ms", "mni")])
    indexed = index_roots(roots, home, people=people, tumour_free=["ms", "mni"])
    return Manifest(indexed.rows, home)


AFFINE = np.diag([1.0, 1.0, 5.0, 1.0])


def _body(side: int = 10) -> np.ndarray:
    mask = np.zeros((5, 24, 20), dtype=bool)
    mask[2, :side, :side] = True
    return mask


def _of_collections(manifest: Manifest, **masks: np.ndarray) -> Source:
    truths = {name: TRUTHS[name] for name in ("AA_0", "AA_1", "BB_0")} | {"B_1": _body()}
    free = {name: np.zeros((5, 24, 20), dtype=bool) for name in ("ms_1", "ms_2", "mni_1")}
    return source_of(manifest, {**truths, **free, **masks})


def test_figures_by_collection(collections: Manifest) -> None:
    source = _of_collections(collections, ms_1=_body(20), AA_0=square(8, ()))
    part = _evaluate(collections, source).parts[0]
    groups = part.groups["collection"]
    assert list(groups) == ["B", "lgg", "mni", "ms"]
    assert groups["lgg"]["dice_mean"].value == pytest.approx(2 / 3)
    assert groups["B"]["dice_mean"].value == 1
    # 400 pixels of 5 mm³ in one of two.
    keys = ("false_verdicts", "false_alarm_ml_mean", "false_alarm_ml_largest")
    assert [groups["ms"][key].value for key in keys] == pytest.approx([1, 1, 2])
    assert [groups["mni"][key].value for key in keys] == [0, 0, 0]
    assert groups["ms"]["false_verdicts"].n == 2
    assert groups["lgg"]["false_verdicts"] == Figure(None, None, None, 0)
    assert "false_alarm_ml_mean" not in groups["lgg"]
    assert {patient.collection for patient in part.patients} == set(groups)


@pytest.mark.slow
def test_people_without_a_tumour_enter_no_dice(collections: Manifest) -> None:
    clean = _evaluate(collections, _of_collections(collections)).parts[0]
    marked = _evaluate(collections, _of_collections(collections, ms_1=_body(20))).parts[0]
    for part in (clean, marked):
        dice, of_group = (
            figures["dice_mean"] for figures in (part.figures, part.groups["collection"]["ms"])
        )
        assert (dice.value, dice.n, of_group.value) == (1, 4, None)
        assert part.detection["slice_accuracy"].n == 3 * 8 + 4 * 5
    # They enter what is said of slices and of patients.
    assert clean.detection["slice_auc"].value == 1
    assert marked.detection["slice_auc"].value < 1  # type: ignore[operator]
    values = {
        "slice_accuracy": 43 / 44,
        "patient_specificity": 2 / 3,
        "false_verdicts": 1,
        "false_alarm_ml_mean": 2 / 3,
        "false_alarm_ml_largest": 2,
    }
    assert {key: marked.figures[key].value for key in values} == pytest.approx(values)
    assert marked.detection["patient_specificity"].n == 3


def test_millilitres_are_of_those_with_geometry(manifest: Manifest, collections: Manifest) -> None:
    """One without geometry does not hide what is marked in the others."""
    rows = [replace(row, image=f"{manifest.folder}/{row.image}", mask="", mask_sha256="", tumour_free=True)
            for row in manifest.by_patient["BB_free"]]  # fmt: skip
    both = Manifest((*collections.rows, *rows), collections.folder)
    source = _of_collections(both, ms_1=_body(20), BB_free=square(8, (1,)))
    figures = _evaluate(both, source).parts[0].localization
    assert figures["false_alarm_px_mean"].n == 4
    assert figures["false_alarm_ml_mean"].n == 3
    assert figures["false_alarm_ml_largest"].value == pytest.approx(2)


@pytest.mark.slow
def test_a_person_is_seen_by_any_name(collections: Manifest) -> None:
    made = _evaluate(collections, _of_collections(collections)).predictions
    entries = tuple(replace(entry, seen=entry.patient == "AA_0") for entry in made.entries)
    source = source_of_predictions(Predictions((NOTE,), entries), "made.npz")
    part = _evaluate(collections, source).parts[0]
    assert {patient.patient for patient in part.patients if patient.seen} == {"AA_0", "B_1"}
    assert part.localization["dice_mean"].n == 2


def test_predictions_of_others_or_of_other_slices(manifest: Manifest) -> None:
    predictions = make_predictions(manifest, {"AA_0": TRUTHS["AA_0"]})
    source = source_of_predictions(predictions, "k.npz")
    with pytest.raises(NothingReadableError, match="no prediction of AA_2"):
        _evaluate(manifest, source, split=_split(manifest, "parts"))
    # Without a split a file is scored on what it was made for.
    assert len(_evaluate(manifest, source).parts[0].patients) == 1
    other = replace(predictions.entries[0], rows_sha256="0" * 64)
    with pytest.raises(DamagedInputError, match="other slices"):
        _evaluate(manifest, source_of_predictions(Predictions((NOTE,), (other,)), "k.npz"))


@pytest.mark.slow
def test_patients_without_masks_are_left_out_and_said(manifest: Manifest) -> None:
    def blind(row: SliceRow) -> SliceRow:
        return replace(row, mask="") if row.patient == "BB_free" else row

    partly = Manifest(tuple(blind(row) for row in manifest.rows), manifest.folder)
    evaluation = _evaluate(partly, _source(manifest))
    assert len(evaluation.parts[0].patients) == 5
    assert evaluation.warnings[0] == "1 patient has a slice without a mask and cannot be scored."
    # Baselines are trained on the other scored patients where nobody else has masks.
    rows = [replace(row, mask="") if row.patient in A else row for row in manifest.rows]
    tested = Manifest(tuple(rows), manifest.folder)
    split = replace(_split(manifest, "parts"), manifest_sha256=tested.sha256)
    (part,) = _evaluate(tested, _source(manifest), split=split).parts
    assert part.baselines["position"].trained_on.startswith("the other scored patients")
    none = Manifest(tuple(replace(row, mask="") for row in manifest.rows), manifest.folder)
    with pytest.raises(NothingReadableError, match="no patient of the manifest has a mask"):
        _evaluate(none, _source(manifest))


@pytest.mark.slow
def test_excluded_rows_are_counted_aloud(manifest: Manifest) -> None:
    rows = list(manifest.rows)
    rows[2] = replace(rows[2], excluded="no mask", mask="", tumour=False, area_px=0)
    holed = Manifest(tuple(rows), manifest.folder)
    masks = {rows[2].patient: np.delete(TRUTHS[rows[2].patient], 2, axis=0)}
    evaluation = _evaluate(holed, _source(holed, **masks))
    assert evaluation.warnings[0].startswith("1 row of 1 patient is excluded in the manifest")


def test_another_split_by_slice_than_the_model_s_is_said(manifest: Manifest, model: Model) -> None:
    keys = tuple(f"{row.patient}:{row.number}" for row in manifest.used)
    splits = [
        Split(SLICE, seed, manifest.sha256, {"train": keys[4:], "validation": (), "test": keys[:4]})
        for seed in (1, 2)
    ]
    about = {"run": {"split": {"by": "slice", "sha256": splits[0].sha256}}}
    # The model is asked for its card alone.
    trained = replace(model, card=replace(model.card, about=about))
    source = replace(_source(manifest), model=trained)
    for split, words in zip(splits, (False, True), strict=True):
        evaluation = evaluate(Request(manifest, [source], split, draws=10))
        assert any("trained with another split" in text for text in evaluation.warnings) is words


def test_a_file_that_has_changed_since_is_refused(tmp_path: Path) -> None:
    manifest = write_data(tmp_path, {"AA_0": square(3, (1,))})
    first, second = (tmp_path / manifest.rows[k].mask for k in (0, 1))
    first.write_bytes(second.read_bytes())
    with pytest.raises(DamagedInputError, match="not the one that was indexed"):
        _evaluate(manifest, source_of(manifest, {"AA_0": square(3, ())}))


@pytest.mark.slow
def test_what_is_scored_is_what_a_user_gets(
    small_phantom: Phantom, model: Model, tmp_path: Path
) -> None:
    folder = write_lgg(small_phantom, tmp_path)
    study = pipeline.read(pipeline.Request(path=folder))
    analysis = pipeline.analyze_study(study, model, pipeline.Settings())
    manifest = Manifest(index_roots([Root(folder.parent)], folder.parent).rows, folder.parent)
    evaluation = evaluate(
        Request(manifest, [source_of_model(model, pipeline.Settings())], draws=20)
    )
    (entry,) = evaluation.predictions.entries
    assert (entry.mask == analysis.mask).all()
    assert entry.slice_probability is not None
    assert np.array_equal(entry.slice_probability, analysis.decision.slice_probabilities)
    assert entry.score == analysis.decision.probability
    dice = evaluation.parts[0].localization["dice_mean"].value
    overlap = (analysis.mask & small_phantom.truth).sum()
    assert dice == pytest.approx(2 * overlap / (analysis.mask.sum() + small_phantom.truth.sum()))
    assert evaluation.models[0].name == "joint-4"
    assert not entry.seen


def test_a_model_by_any_of_its_names(tmp_path: Path, manifest: Manifest) -> None:
    settings = pipeline.Settings()
    shipped = open_source("joint-4", settings)
    assert shipped.notes[0].kind == "joint"
    # Those of its card are seen.
    assert shipped.model is not None
    assert shipped.seen == shipped.model.card.training_patients
    assert patient_hash("TCGA_HT_7692_19960724") in shipped.seen
    assert patient_hash("TCGA_XX_0000_20000101") not in shipped.seen
    write_predictions(make_predictions(manifest, TRUTHS), tmp_path / "p.npz")
    assert open_source(str(tmp_path / "p.npz"), settings).notes == (NOTE,)
    assert open_source(str(tmp_path), settings).notes[0].kind == "masks"


@pytest.mark.slow
def test_evaluation_loads_no_torch() -> None:
    modules = ("baselines", "compare", "page", "predictions", "record", "rule_fit", "sources")
    code = "".join(f"import gliosight.evaluate.{name};" for name in modules)
    code += "import sys; sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
