"""Baselines by hand: what they say, and what they were allowed to learn from."""

from __future__ import annotations

import numpy as np
import pytest

from gliosight.data.manifest import Manifest
from gliosight.data.split import PATIENT, SLICE, Split
from gliosight.data.studies import LabelledStudy, read_labelled
from gliosight.evaluate.baselines import (
    THRESHOLDS,
    BaselinePatient,
    Part,
    baseline_tables,
    choose_threshold,
    look_at,
)
from gliosight.evaluate.evaluation import Request, parts_of
from gliosight.evaluate.mask_metrics import SliceTable
from tests.conftest import make_study
from tests.evaluate.builders import score_masks, source_of, square, write_data

# Of six slices the third and fourth show tumour in three patients; in the fourth the last two do.
TRUTHS = {f"P{k}": square(6, (2, 3)) for k in range(3)} | {"P3": square(6, (4, 5), side=5)}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_data(tmp_path_factory.mktemp("data"), TRUTHS)


def _part(manifest: Manifest, split: Split | None = None, name: str = "test") -> Part:
    (part,) = parts_of(Request(manifest, [source_of(manifest, TRUTHS)], split, (name,)))
    return part


def _split(manifest: Manifest, by: str = PATIENT, **groups: tuple[str, ...]) -> Split:
    return Split(by, 1, manifest.sha256, {"train": (), "validation": (), "test": (), **groups})


def _baselines(
    manifest: Manifest, split: Split | None = None, name: str = "test"
) -> tuple[Part, dict[str, list[SliceTable]]]:
    """A part, and the tables of its baselines beside a model that is right."""
    part = _part(manifest, split, name)
    tables = {}
    for fold in part.folds:
        for patient, rows in fold.scored.items():
            scored = np.isin(np.arange(1, 7), [row.number for row in rows])
            tables[patient] = score_masks(TRUTHS[patient], TRUTHS[patient], scored=scored)[1]
    read = [(patient, read_labelled(manifest, patient)) for patient in TRUTHS]
    patients = {patient: look_at(study, manifest.by_patient[patient]) for patient, study in read}
    return part, baseline_tables(part, patients, tables)


def test_without_a_split_the_patient_is_left_out(manifest: Manifest) -> None:
    part, tables = _baselines(manifest)
    # P3 is held against three patients with tumour in 6 of 18 slices.
    majority = tables["majority"][3]
    assert majority.probability == pytest.approx(np.full(6, 6 / 18))
    assert not majority.called.any()
    # Three others with tumour in the third and fourth slice: (3 + 1) of (3 + 2).
    position = tables["position"][3]
    assert position.probability == pytest.approx([0.2, 0.2, 0.8, 0.8, 0.2, 0.2])
    assert position.called.tolist() == [False, False, True, True, False, False]
    # P0 is held against two such and P3.
    assert tables["position"][0].probability == pytest.approx([0.2, 0.2, 0.6, 0.6, 0.4, 0.4])
    assert part.trained_on == "the other scored patients (leave one patient out)"
    for empty in tables["empty"]:
        assert not empty.called.any()
        assert empty.predicted_px.sum() == 0
    assert "nearest_slice" not in tables


# Called in a slice: the third and fourth by what P0 to P2 teach, the last two by P3.
THIRD, LAST = [False, False, True, True, False, False], [False] * 4 + [True] * 2


def test_with_a_split_the_training_part_alone_is_trained_on(manifest: Manifest) -> None:
    split = _split(manifest, train=("P3",), validation=("P2",), test=("P0", "P1"))
    part, tables = _baselines(manifest, split)
    assert set(part.needed) == {"P0", "P1", "P3"}
    for table in tables["position"]:
        assert table.probability == pytest.approx([1 / 3] * 4 + [2 / 3] * 2)
    assert part.trained_on == "the split's training part"
    assert "nearest_slice" not in tables
    # The training part itself is scored leaving one out.
    split = _split(manifest, train=("P0", "P3"), test=("P1", "P2"))
    assert _baselines(manifest, split, "train")[1]["position"][0].called.tolist() == LAST


def test_folds_train_on_their_own_others(manifest: Manifest) -> None:
    split = Split(PATIENT, 1, manifest.sha256, {"0": ("P0", "P1", "P2"), "1": ("P3",)})
    part, tables = _baselines(manifest, split)
    assert part.patients == ("P0", "P1", "P2", "P3")
    assert part.trained_on == "each fold's training part"
    assert [tables["position"][k].called.tolist() for k in (0, 3)] == [LAST, THIRD]


def test_the_nearest_training_slice_is_copied_with_a_split_by_slice(manifest: Manifest) -> None:
    # Of P0, slices 1, 3 and 6 are trained on; 2 and 4 have one and two neighbours at distance 1.
    others = [f"{name}:{k}" for name in ("P1", "P2", "P3") for k in range(1, 7)]
    train = (*others, "P0:1", "P0:3", "P0:6")
    split = _split(manifest, SLICE, train=train, test=("P0:2", "P0:4", "P0:5"))
    (table,) = _baselines(manifest, split)[1]["nearest_slice"]
    # 2 lies between 1 and 3: the lower one has no tumour. 4 copies 3; 5 copies 6.
    assert table.numbers.tolist() == [2, 4, 5]
    assert table.called.tolist() == [False, True, False]
    assert table.predicted_px.tolist() == table.both_px.tolist() == [0, 36, 0]
    # A patient without a training slice gets an empty copy.
    test = tuple(f"P0:{k}" for k in range(1, 7))
    split = _split(manifest, SLICE, train=tuple(others), test=test)
    (table,) = _baselines(manifest, split)[1]["nearest_slice"]
    assert not table.called.any()


def _head(bright: float) -> tuple[np.ndarray, np.ndarray]:
    """A disc of tissue with noise, in it a bright square, round it a brighter rim as of scalp."""
    generator = np.random.default_rng(1)
    y, x = np.mgrid[:96, :96] - 47.5
    radius = np.hypot(x, y)
    plane = np.where(radius < 40, 100.0, 0.0) + np.where((radius < 40) & (radius > 36), 200.0, 0.0)
    values = np.repeat(plane[None], 6, axis=0) + generator.normal(0, 5, (6, 96, 96))
    truth = np.zeros(values.shape, dtype=bool)
    truth[2:4, 30:46, 50:66] = True
    return values + bright * truth, truth


def _look(values: np.ndarray, truth: np.ndarray) -> BaselinePatient:
    return look_at(LabelledStudy(make_study(values), truth), ())


def test_a_bright_body_is_found_and_the_rim_is_not() -> None:
    patient = _look(*_head(60))
    best = patient.bright_dice(np.ones(6, dtype=bool))
    assert best.max() > 0.85
    assert patient.bright_px[int(best.argmax())][[0, 1, 4, 5]].sum() == 0
    without_contrast = _look(np.zeros((3, 32, 32)), np.zeros((3, 32, 32), dtype=bool))
    assert without_contrast.bright_px.sum() == 0


def _covering(truth: np.ndarray, bright: np.ndarray, both: np.ndarray) -> BaselinePatient:
    numbers, nothing = np.arange(1, len(truth) + 1), np.empty(0, np.uint8)
    return BaselinePatient(numbers, truth, bright, both, nothing, (len(truth), 0, 0))


def test_counts_are_of_the_chosen_slices_alone() -> None:
    bright, both = ([row] * len(THRESHOLDS) for row in ([4, 0, 9], [4, 0, 0]))
    patient = _covering(np.array([4, 4, 0]), np.array(bright), np.array(both))
    assert patient.bright_dice(np.array([True, False, False]))[0] == 1
    assert patient.bright_dice(np.array([True, True, False]))[0] == pytest.approx(8 / 12)
    assert np.isnan(patient.bright_dice(np.array([False, False, True]))).all()


def test_the_threshold_is_the_best_on_average() -> None:
    good = np.linspace(0, 1, len(THRESHOLDS))
    assert choose_threshold([good, good * 0.5]) == len(THRESHOLDS) - 1
    assert choose_threshold([np.full(len(THRESHOLDS), np.nan), good[::-1]]) == 0
    assert choose_threshold([]) == len(THRESHOLDS) // 2


def test_the_threshold_is_not_chosen_on_the_patient_it_is_used_on(manifest: Manifest) -> None:
    part = _part(manifest)
    # All others are covered best at the last threshold; P0 alone would be at the first.
    slices, count = 6, len(THRESHOLDS)
    truth = np.array([0, 0, 36, 36, 0, 0])

    def covered_at(best: int) -> BaselinePatient:
        marked = np.zeros((count, slices), dtype=np.int64)
        marked[best] = truth
        return _covering(truth, marked, marked)

    patients = {name: covered_at(0 if name == "P0" else count - 1) for name in TRUTHS}
    right = {name: score_masks(mask, mask)[1] for name, mask in TRUTHS.items()}
    tables = baseline_tables(part, patients, right)["brightest"]
    assert [table.predicted_px.sum() for table in tables[:2]] == [0, 72]
