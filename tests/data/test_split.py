"""The split: nobody on two sides, shares met, the seed alone decides."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gliosight.data.manifest import Manifest
from gliosight.data.patients import institution_of, person_of
from gliosight.data.split import (
    DEFAULT_SHARES,
    PARTS,
    TEST,
    TRAIN,
    VALIDATION,
    Split,
    read_split,
    rows_by_group,
    split_folds,
    split_institutions,
    split_parts,
    write_split,
)
from gliosight.errors import (
    CannotWriteError,
    DamagedInputError,
    GliosightError,
    NothingReadableError,
    UsageError,
)
from tests.data.builders import make_manifest, make_row

SEEDS = st.integers(0, 2**32 - 1)
# No deadline: a busy machine is no failure.
few = settings(deadline=None, max_examples=40)


@st.composite
def manifests(draw: st.DrawFn, least: int = 8) -> Manifest:
    """Up to forty patients of five institutions, one person or study each, tumours of any size."""
    count = draw(st.integers(least, 40))
    codes = draw(
        st.lists(st.sampled_from(["CS", "DU", "EZ", "FG", "HT"]), min_size=count, max_size=count)
    )
    areas = draw(st.lists(st.integers(0, 5000), min_size=count, max_size=count))
    volumes = {
        f"TCGA_{code}_{k:04d}_20000101": area
        for k, (code, area) in enumerate(zip(codes, areas, strict=True))
    }
    return make_manifest(volumes, slices=3)


@few
@given(manifests(), SEEDS)
def test_parts_share_no_patient_and_cover_all(manifest: Manifest, seed: int) -> None:
    split = split_parts(manifest, seed=seed)
    dealt = [one for part in split.groups.values() for one in part]
    assert sorted(dealt) == sorted(manifest.patients)
    assert len(dealt) == len(set(dealt))
    rows = split.rows(manifest)
    assert sum(map(len, rows.values())) == len(manifest.used)


@few
@given(manifests(), SEEDS)
def test_shares_are_met_within_one_patient(manifest: Manifest, seed: int) -> None:
    split = split_parts(manifest, seed=seed)
    count = len(manifest.patients)
    for part, share in DEFAULT_SHARES.items():
        assert abs(len(split.groups[part]) - share * count) < 1


@few
@given(manifests(), SEEDS, st.integers(2, 5))
def test_folds_are_equal_within_one_patient(manifest: Manifest, seed: int, folds: int) -> None:
    split = split_folds(manifest, folds, seed=seed)
    sizes = [len(one) for one in split.groups.values()]
    assert max(sizes) - min(sizes) <= 1
    tested = [one for fold in split.groups for one in split.patients(manifest, fold)[TEST]]
    assert sorted(tested) == sorted(manifest.patients)


@few
@given(manifests(least=12), SEEDS)
def test_a_fold_has_three_parts_without_a_patient_in_common(manifest: Manifest, seed: int) -> None:
    split = split_folds(manifest, 3, seed=seed, validation=0.25)
    for fold in split.groups:
        patients = split.patients(manifest, fold)
        counts = Counter(one for part in PARTS for one in patients[part])
        assert set(counts) == set(manifest.patients)
        assert max(counts.values()) == 1
        others = len(manifest.patients) - len(patients[TEST])
        assert abs(len(patients[VALIDATION]) - 0.25 * others) < 1


@few
@given(manifests(), SEEDS)
def test_each_model_is_asked_about_its_own_fold(manifest: Manifest, seed: int) -> None:
    split = split_folds(manifest, 4, seed=seed)
    asked = split.test_patients(manifest, 4)
    assert sorted(one for mine in asked for one in mine) == sorted(manifest.patients)
    assert split.test_patients(manifest, 2, ["3", "1"]) == (asked[3], asked[1])
    with pytest.raises(UsageError, match="3 models for 4 folds"):
        split.test_patients(manifest, 3)
    with pytest.raises(UsageError, match="no fold"):
        split.test_patients(manifest, 1, ["7"])
    parts = split_parts(manifest, seed=seed)
    assert parts.test_patients(manifest, 1) == (parts.patients(manifest)["test"],)
    with pytest.raises(UsageError, match="no folds"):
        parts.test_patients(manifest, 1, ["0"])


@few
@given(manifests(), SEEDS, st.randoms(use_true_random=False))
def test_the_order_of_the_manifest_is_irrelevant(
    manifest: Manifest, seed: int, random: Random
) -> None:
    groups = list(manifest.by_patient.values())
    random.shuffle(groups)
    shuffled = Manifest(tuple(row for rows in groups for row in rows), manifest.folder)
    assert split_parts(shuffled, seed=seed) == split_parts(manifest, seed=seed)
    assert split_parts(shuffled, seed=seed, by="slice") == split_parts(
        manifest, seed=seed, by="slice"
    )


@few
@given(manifests(), SEEDS)
def test_the_same_seed_gives_the_same_split(manifest: Manifest, seed: int) -> None:
    again = Manifest(tuple(replace(row) for row in manifest.rows), Path("elsewhere"))
    assert split_parts(manifest, seed=seed) == split_parts(again, seed=seed)


def test_another_seed_gives_another_split() -> None:
    manifest = make_manifest({f"TCGA_CS_{k:04d}_20000101": k * k for k in range(40)})
    groups = [split_parts(manifest, seed=seed).groups for seed in range(5)]
    assert all(one != groups[0] for one in groups[1:])
    tested = {one for group in groups for one in group[TEST]}
    assert len(tested) > len(groups[0][TEST])


def test_groups_are_alike_in_institution_and_volume() -> None:
    rng = np.random.default_rng(0)
    codes = ["CS"] * 20 + ["DU"] * 40 + ["HT"] * 40
    volumes = {
        f"TCGA_{code}_{k:04d}_20000101": int(rng.lognormal(8, 1)) for k, code in enumerate(codes)
    }
    split = split_folds(make_manifest(volumes), 5)
    overall = np.mean(np.log(list(volumes.values())))
    for names in split.groups.values():
        assert Counter(map(institution_of, names)) == {"CS": 4, "DU": 8, "HT": 8}
        assert abs(np.mean([np.log(volumes[one]) for one in names]) - overall) < 0.25


def test_a_person_with_two_studies_stays_on_one_side() -> None:
    volumes = {f"TCGA_CS_{k:04d}_{year}0101": k for k in range(20) for year in (2000, 2001)}
    manifest = make_manifest(volumes)
    for seed in range(5):
        side = {
            (person_of(one), part)
            for part, names in split_parts(manifest, seed=seed).groups.items()
            for one in names
        }
        assert len(side) == 20


def test_by_slice_parts_a_patient() -> None:
    manifest = make_manifest({f"p{k}": 5 for k in range(6)}, slices=20)
    split = split_parts(manifest, by="slice")
    assert {part: len(keys) for part, keys in split.groups.items()} == {
        TRAIN: 87,
        VALIDATION: 15,
        TEST: 18,
    }
    patients = split.patients(manifest)
    assert set(patients[TRAIN]) & set(patients[TEST])


def test_leave_one_institution_out() -> None:
    manifest = make_manifest(
        {f"TCGA_{code}_{k:04d}_2000": 1 for code in ("CS", "DU") for k in range(4)}
    )
    split = split_institutions(manifest, validation=0.25)
    assert list(split.groups) == ["CS", "DU"]
    parts = split.patients(manifest, "CS")
    assert {institution_of(one) for one in parts[TEST]} == {"CS"}
    assert {institution_of(one) for one in (*parts[TRAIN], *parts[VALIDATION])} == {"DU"}
    with pytest.raises(UsageError, match="one institution"):
        split_institutions(make_manifest({"a": 1, "b": 2}))


def test_excluded_slices_are_in_no_group() -> None:
    manifest = make_manifest({f"p{k}": 5 for k in range(10)})
    rows = [replace(row, excluded="no mask") if row.number == 3 else row for row in manifest.rows]
    marred = Manifest((*rows, make_row("z", 1, excluded="no mask")), manifest.folder)
    split = split_parts(marred)
    told = [row for rows in split.rows(marred).values() for row in rows]
    assert len(told) == 30
    assert all(row.patient != "z" for row in told)
    assert {name: len(rows) for name, rows in rows_by_group(split, marred).items()} == {
        name: 3 * len(names) for name, names in split.groups.items()
    }


@pytest.mark.parametrize(
    "split",
    [
        # one patient cannot be on three sides
        lambda manifest: split_parts(manifest),
        lambda manifest: split_folds(manifest, 2),
        lambda manifest: split_folds(manifest, 1),
        lambda manifest: split_folds(manifest, 2, validation=1.0),
        lambda manifest: split_parts(manifest, shares={"train": 0.5, "test": 0.5}),
        lambda manifest: split_parts(
            manifest, shares={"train": 0.5, "validation": 0.2, "test": 0.2}
        ),
        lambda manifest: split_parts(
            manifest, shares={"train": 1.5, "validation": -0.7, "test": 0.2}
        ),
    ],
)
def test_what_cannot_be_split_is_refused(split: Callable[[Manifest], Split]) -> None:
    with pytest.raises(UsageError):
        split(make_manifest({"only": 3}))


def test_a_fold_without_validation_is_refused() -> None:
    with pytest.raises(UsageError, match="validation"):
        split_folds(make_manifest({f"p{k}": 1 for k in range(4)}), 2, validation=0.01)


def test_a_split_is_read_as_it_was_written(tmp_path: Path) -> None:
    manifest = make_manifest({f"p{k}": 5 for k in range(10)})
    for split in (split_parts(manifest), split_folds(manifest, 3, validation=0.2)):
        write_split(split, tmp_path / "split.json")
        assert read_split(tmp_path / "split.json") == split


def test_a_split_of_another_manifest_is_refused() -> None:
    manifest = make_manifest({f"p{k}": 5 for k in range(10)})
    other = make_manifest({f"p{k}": 6 for k in range(10)})
    with pytest.raises(DamagedInputError, match="another manifest"):
        split_parts(manifest).rows(other)


def test_a_fold_must_be_named_where_there_are_folds() -> None:
    manifest = make_manifest({f"p{k}": 5 for k in range(10)})
    folds, parts = split_folds(manifest, 2), split_parts(manifest)
    for split, fold in ((folds, None), (folds, "7"), (parts, "0")):
        with pytest.raises(UsageError):
            split.rows(manifest, fold)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"gliosight_split": 2}, DamagedInputError, "format"),
        ({"by": "moon"}, DamagedInputError, "by"),
        ({"groups": {}}, DamagedInputError, "groups"),
        ({"groups": None}, DamagedInputError, "not a split"),
        ({"groups": {"train": ["a"], "test": ["a"]}}, DamagedInputError, "two groups"),
        ({"validation": 2}, DamagedInputError, "validation"),
        ({"seed": "x"}, DamagedInputError, "not a split"),
    ],
)
def test_a_damaged_split_says_what_is_wrong(
    change: dict[str, object], kind: type[GliosightError], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "split.json"
    write_split(split_parts(make_manifest({f"p{k}": 5 for k in range(10)})), path)
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **change}), "utf-8")
    with pytest.raises(kind, match=words):
        read_split(path)


def test_no_split_at_all(tmp_path: Path) -> None:
    with pytest.raises(NothingReadableError):
        read_split(tmp_path / "none.json")
    for content in (b"[1", b"\xff\xfe", b"[" * 200_000, b"[]"):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(DamagedInputError):
            read_split(tmp_path / "bad.json")
    with pytest.raises(CannotWriteError):
        write_split(split_parts(make_manifest({f"p{k}": 5 for k in range(10)})), tmp_path)
    assert not list(tmp_path.parent.glob(".*.partial"))
