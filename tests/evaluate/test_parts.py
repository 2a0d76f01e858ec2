"""Which slices are scored: parts, folds, and calls that make no sense."""

from __future__ import annotations

import pytest

from gliosight.data.manifest import Manifest
from gliosight.data.split import PATIENT, SLICE, Split
from gliosight.errors import GliosightError, UsageError
from gliosight.evaluate.baselines import Part
from gliosight.evaluate.evaluation import Request, parts_of
from tests.evaluate.builders import source_of, square, write_data

PATIENTS = ("A", "B", "C", "D")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    truths = {name: square(3, (1,)) for name in PATIENTS}
    return write_data(tmp_path_factory.mktemp("data"), truths)


def _parts(
    manifest: Manifest,
    split: Split | None,
    names: tuple[str, ...] = ("test",),
    fold: str | None = None,
) -> tuple[Part, ...]:
    masks = {name: square(3, (1,)) for name in PATIENTS}
    return parts_of(Request(manifest, [source_of(manifest, masks)], split, names, fold))


def _split(manifest: Manifest, **groups: tuple[str, ...]) -> Split:
    empty: dict[str, tuple[str, ...]] = {"train": (), "validation": (), "test": ()}
    return Split(PATIENT, 1, manifest.sha256, {**empty, **groups})


def _folds(manifest: Manifest) -> Split:
    return Split(PATIENT, 1, manifest.sha256, {"0": ("A", "B"), "1": ("C", "D")})


def test_without_a_split_all_patients_are_scored(manifest: Manifest) -> None:
    (part,) = _parts(manifest, None, ("test",))
    assert (part.name, part.by, part.patients) == ("all", "none", PATIENTS)
    assert part.folds[0].training is None


def test_a_part_of_a_split(manifest: Manifest) -> None:
    split = _split(manifest, train=("A", "B"), validation=("C",), test=("D",))
    (part,) = _parts(manifest, split, ("test",))
    assert part.patients == ("D",)
    assert part.folds[0].training is not None
    assert set(part.folds[0].training) == {"A", "B"}  # not the validation part
    assert not part.by_slice


def test_all_parts_each_for_itself(manifest: Manifest) -> None:
    split = _split(manifest, train=("A", "B", "C"), test=("D",))
    parts = _parts(manifest, split, ("all",))
    assert [(one.name, one.patients) for one in parts] == [
        ("train", ("A", "B", "C")),
        ("test", ("D",)),
    ]
    assert parts[0].folds[0].training is None


def test_one_fold_and_all_folds_pooled(manifest: Manifest) -> None:
    (one,) = _parts(manifest, _folds(manifest), ("test",), fold="1")
    assert one.patients == ("C", "D")
    (pooled,) = _parts(manifest, _folds(manifest), ("test",))
    assert pooled.patients == PATIENTS
    assert [set(fold.training or ()) for fold in pooled.folds] == [{"C", "D"}, {"A", "B"}]


def test_by_slice_a_patient_stands_on_both_sides(manifest: Manifest) -> None:
    keys = [f"{name}:{k}" for name in PATIENTS for k in (1, 2, 3)]
    groups = {"train": tuple(keys[:8]), "validation": (), "test": tuple(keys[8:])}
    (part,) = _parts(manifest, Split(SLICE, 1, manifest.sha256, groups), ("test",))
    assert part.by_slice
    assert part.patients == ("C", "D")
    assert [row.number for row in part.folds[0].scored["C"]] == [3]
    assert part.folds[0].training is not None
    assert [row.number for row in part.folds[0].training["C"]] == [1, 2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fold": "0"}, "--fold without --split"),
        ({"split": "parts", "names": ("validation",)}, "no patient"),
        ({"split": "parts", "fold": "0"}, "no folds"),
        ({"split": "folds", "fold": "7"}, "no fold"),
        ({"split": "folds", "names": ("train",)}, "pooled"),
    ],
)
def test_calls_that_make_no_sense(
    options: dict[str, object], words: str, manifest: Manifest
) -> None:
    kinds = {
        None: None,
        "parts": _split(manifest, train=("A", "B", "C"), test=("D",)),
        "folds": _folds(manifest),
    }
    given = dict(options)
    split = kinds[given.pop("split", None)]  # type: ignore[index]
    names = given.pop("names", ("test",))
    with pytest.raises(UsageError, match=words):
        _parts(manifest, split, names, **given)  # type: ignore[arg-type]


def test_a_split_of_other_data_is_refused(manifest: Manifest) -> None:
    split = Split(PATIENT, 1, "0" * 64, {"train": ("A",), "validation": (), "test": ("B",)})
    with pytest.raises(GliosightError, match="another manifest"):
        _parts(manifest, split)
