"""The split: nobody on two sides, shares met, the seed alone decides."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gliosight.data.manifest import Manifest
from gliosight.data.people import institution_of
from gliosight.data.split import (
    DEFAULT_SHARES,
    TEST,
    TRAIN,
    VALIDATION,
    Split,
    read_split,
    split_folds,
    split_institutions,
    split_parts,
    write_split,
)
from gliosight.errors import DamagedInputError, UsageError
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
@given(manifests(), SEEDS, st.randoms(use_true_random=False))
def test_parts(manifest: Manifest, seed: int, random: Random) -> None:
    split = split_parts(manifest, seed=seed)
    assert sorted(sum(split.groups.values(), ())) == sorted(manifest.patients)
    assert sum(map(len, split.rows(manifest).values())) == len(manifest.used)
    for part, share in DEFAULT_SHARES.items():
        assert abs(len(split.groups[part]) - share * len(manifest.patients)) < 1
    # The order of the manifest and its folder are irrelevant.
    groups = list(manifest.by_patient.values())
    random.shuffle(groups)
    shuffled = Manifest(tuple(row for rows in groups for row in rows), Path("elsewhere"))
    for by in ("patient", "slice"):
        assert split_parts(shuffled, seed=seed, by=by) == split_parts(manifest, seed=seed, by=by)


@pytest.mark.slow
@few
@given(manifests(least=12), SEEDS, st.integers(2, 5))
def test_folds(manifest: Manifest, seed: int, folds: int) -> None:
    split = split_folds(manifest, folds, seed=seed, validation=0.25)
    sizes = [len(names) for names in split.groups.values()]
    assert max(sizes) - min(sizes) <= 1
    tested = split.test_patients(manifest, folds)
    assert sorted(sum(tested, ())) == sorted(manifest.patients)
    for fold, names in zip(split.groups, tested, strict=True):
        patients = split.patients(manifest, fold)
        assert patients[TEST] == names
        assert sorted(sum(patients.values(), ())) == sorted(manifest.patients)
        others = len(manifest.patients) - len(names)
        assert abs(len(patients[VALIDATION]) - 0.25 * others) < 1


def test_each_model_is_asked_about_its_own_fold() -> None:
    manifest = make_manifest({f"p{k}": 5 for k in range(10)})
    split, parts = split_folds(manifest, 4), split_parts(manifest)
    tested = split.test_patients(manifest, 4)
    assert split.test_patients(manifest, 2, ["3", "1"]) == (tested[3], tested[1])
    assert parts.test_patients(manifest, 1) == (parts.patients(manifest)["test"],)
    for asked, models, folds, words in (
        (split, 3, (), "3 models for 4 folds"),
        (split, 1, ["7"], "no fold"),
        (parts, 1, ["0"], "no folds"),
    ):
        with pytest.raises(UsageError, match=words):
            asked.test_patients(manifest, models, folds)
    with pytest.raises(UsageError, match="which fold"):
        split.rows(manifest)


def test_the_seed_decides() -> None:
    manifest = make_manifest({f"p{k}": 5 for k in range(10)})
    assert len({split_parts(manifest, seed=seed).groups["test"] for seed in range(9)}) > 1


def test_groups_are_alike_in_institution_and_volume() -> None:
    rng = np.random.default_rng(0)
    codes = ["CS"] * 20 + ["DU"] * 40 + ["HT"] * 40
    volumes = {
        f"TCGA_{code}_{k:04d}_20000101": int(rng.lognormal(8, 1)) for k, code in enumerate(codes)
    }
    overall = np.mean(np.log(list(volumes.values())))
    for names in split_folds(make_manifest(volumes), 5).groups.values():
        assert Counter(map(institution_of, names)) == {"CS": 4, "DU": 8, "HT": 8}
        assert abs(np.mean([np.log(volumes[name]) for name in names]) - overall) < 0.25


WHOLE = ("isbi", "mni", "ms")


def _collections(seed: int = 0) -> Manifest:
    """Forty LGG patients, ten of them also in brats by another name, ten others there, three cohorts."""
    rng = np.random.default_rng(seed)
    people = [f"TCGA_{'CS' if k % 4 else 'DU'}_{k:04d}" for k in range(40)]
    rows = [make_row(f"{person}_20000101", 1, collection="lgg") for person in people]
    rows += [
        make_row(f"BraTS_{k:02d}", 1, collection="brats", person=people[k] if k < 10 else "")
        for k in range(20)
    ]
    rows = [replace(row, area_px=int(rng.integers(1, 5000)), tumour=True) for row in rows]
    for name, size in zip(WHOLE, (5, 3, 6), strict=True):
        rows += [make_row(f"{name}_{k}", 1, collection=name, tumour_free=True) for k in range(size)]
    return Manifest(tuple(rows), Path())


def _sides(groups: Mapping[str, tuple[str, ...]], of: Callable[[str], str]) -> dict[str, set[str]]:
    sides: dict[str, set[str]] = {}
    for name, patients in groups.items():
        for patient in patients:
            sides.setdefault(of(patient), set()).add(name)
    return sides


@pytest.mark.slow
@few
@given(st.integers(0, 5), SEEDS)
def test_no_person_and_no_whole_collection_is_on_two_sides(data_seed: int, seed: int) -> None:
    manifest = _collections(data_seed)
    folds = split_folds(manifest, 5, seed=seed, validation=0.2, whole=WHOLE)
    runs = [folds.patients(manifest, fold) for fold in folds.groups]
    for groups in (folds.groups, split_parts(manifest, seed=seed, whole=WHOLE).groups, *runs):
        assert sorted(sum(groups.values(), ())) == sorted(manifest.patients)
        assert all(len(sides) == 1 for sides in _sides(groups, manifest.person_of).values())
        cohorts = _sides(groups, lambda patient: manifest.by_patient[patient][0].collection)
        assert all(len(cohorts[name]) == 1 for name in WHOLE)
    # Spread over the folds, and the others as evenly as without them.
    cohorts = _sides(folds.groups, lambda patient: manifest.by_patient[patient][0].collection)
    assert len({min(cohorts[name]) for name in WHOLE}) == 3
    for prefixes, apart in ((("TCGA", "BraTS"), 2), (("BraTS",), 3)):
        counts = [sum(name.startswith(prefixes) for name in g) for g in folds.groups.values()]
        assert max(counts) - min(counts) <= apart


def test_more_whole_collections_than_folds() -> None:
    rows = [
        make_row(f"{name}{k}", 1, area=9, collection=name)
        for name, size in {"a": 6, "b": 5, "c": 4, "d": 3, "e": 6}.items()
        for k in range(size)
    ]
    split = split_folds(Manifest(tuple(rows), Path()), 2, whole="abcd")
    counts = [Counter(name[0] for name in names) for names in split.groups.values()]
    assert [count.pop("e") for count in counts] == [3, 3]
    assert sorted(sorted(count.values()) for count in counts) == [[3, 6], [4, 5]]


def test_whole_collections_that_share_a_person_are_one() -> None:
    rows = [
        make_row(f"{name}{k}", 1, area=9, collection=name, person="anna" if k == 0 else "")
        for name in "abcd"
        for k in range(name == "d", 3)
    ]
    manifest = Manifest(tuple(rows), Path())
    split = split_folds(manifest, 3, whole=("a", "b"))
    sides = _sides(split.groups, lambda patient: patient[0])
    assert sides["a"] == sides["b"] == _sides(split.groups, manifest.person_of)["anna"]


def test_a_person_of_two_institutions_is_in_one_fold() -> None:
    rows = [make_row(f"TCGA_{code}_{k:04d}_2000", 1) for code in ("CS", "DU") for k in range(3)]
    rows += [
        make_row("A1", 1, person="TCGA_CS_0001"),
        make_row("A2", 1),
        make_row("Z1", 1, person="TCGA_DU_0002"),
    ]
    groups = split_institutions(Manifest(tuple(rows), Path())).groups
    assert "A1" in groups["CS"]
    assert "Z1" in groups["DU"]
    assert groups["unknown"] == ("A2",)


def test_a_whole_collection_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"no collection 'mri'.*choose of brats, isbi"):
        split_folds(_collections(), 3, whole=("mri",))
    with pytest.raises(UsageError, match="NAME=PATH"):
        split_parts(make_manifest({"p": 5}), whole=("mri",))


def test_a_split_of_a_manifest_without_collections_stays_what_it_was() -> None:
    volumes = {
        f"TCGA_{code}_{k:04d}_20000101": k * k % 17 for k, code in enumerate(["CS", "DU", "HT"] * 4)
    }
    manifest = make_manifest(volumes)
    folds = split_folds(manifest, 3, validation=0.25)
    assert folds.sha256 == "0788d0dff04b7b4ebd395832c6ffaaf18a928acf510e67efa97d0a5aa600f3d8"
    assert folds.patients(manifest, "1")[VALIDATION] == (
        "TCGA_CS_0000_20000101",
        "TCGA_HT_0011_20000101",
    )
    parts = split_parts(manifest)
    assert parts.sha256 == "c7afc11b7eb0d3f5659bb4d23535ed642c4e6c4c2d77fef4b6fe32a0906ed2ac"


def test_by_slice_parts_a_patient() -> None:
    manifest = make_manifest({f"p{k}": 5 for k in range(6)}, slices=20)
    split = split_parts(manifest, by="slice")
    assert [len(split.groups[part]) for part in (TRAIN, VALIDATION, TEST)] == [87, 15, 18]
    patients = split.patients(manifest)
    assert set(patients[TRAIN]) & set(patients[TEST])


def test_leave_one_institution_out() -> None:
    manifest = make_manifest(
        {f"TCGA_{code}_{k:04d}_2000": 1 for code in ("CS", "DU") for k in range(4)}
    )
    split = split_institutions(manifest, validation=0.25)
    assert list(split.groups) == ["CS", "DU"]
    parts = split.patients(manifest, "CS")
    assert set(map(institution_of, parts[TEST])) == {"CS"}
    assert set(map(institution_of, (*parts[TRAIN], *parts[VALIDATION]))) == {"DU"}
    with pytest.raises(UsageError, match="one institution"):
        split_institutions(make_manifest({"a": 1, "b": 2}))


def test_excluded_slices_are_in_no_group() -> None:
    manifest = make_manifest({f"p{k}": 5 for k in range(10)})
    rows = [replace(row, excluded="no mask") if row.number == 3 else row for row in manifest.rows]
    flawed = Manifest((*rows, make_row("z", 1, excluded="no mask")), manifest.folder)
    split = split_parts(flawed)
    used = [row for rows in split.rows(flawed).values() for row in rows]
    assert len(used) == 30
    assert all(row.patient != "z" for row in used)
    assert {name: len(rows) for name, rows in split.rows_by_group(flawed).items()} == {
        name: 3 * len(names) for name, names in split.groups.items()
    }


@pytest.mark.parametrize(
    ("patients", "split", "options"),
    [
        (1, split_parts, {}),
        (1, split_folds, {"folds": 2}),
        (9, split_folds, {"folds": 1}),
        (9, split_folds, {"folds": 2, "validation": 1.0}),
        (4, split_folds, {"folds": 2, "validation": 0.01}),
        (9, split_parts, {"shares": {"train": 0.5, "test": 0.5}}),
        (9, split_parts, {"shares": {"train": 0.5, "validation": 0.2, "test": 0.2}}),
        (9, split_parts, {"shares": {"train": 1.5, "validation": -0.7, "test": 0.2}}),
    ],
)
def test_what_cannot_be_split_is_refused(
    patients: int, split: Callable[..., Split], options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        split(make_manifest({f"p{k}": 3 for k in range(patients)}), **options)


def test_a_split_is_read_as_it_was_written(tmp_path: Path) -> None:
    manifest = make_manifest({f"p{k}": 5 for k in range(10)})
    whole = split_folds(_collections(), 3, validation=0.2, whole=WHOLE)
    for split in (split_parts(manifest), split_folds(manifest, 3, validation=0.2), whole):
        write_split(split, tmp_path / "split.json")
        assert read_split(tmp_path / "split.json") == split
        content = json.loads((tmp_path / "split.json").read_text("utf-8"))
        assert ("whole" in content) == bool(split.whole)
    assert replace(whole, whole=()).sha256 != whole.sha256


def test_a_split_of_another_manifest_or_of_a_part_of_it_is_refused() -> None:
    manifest = make_manifest({f"p{k}": 5 for k in range(10)})
    split = split_parts(manifest)
    with pytest.raises(DamagedInputError, match="another manifest"):
        split.rows(make_manifest({f"p{k}": 6 for k in range(10)}))
    with pytest.raises(DamagedInputError, match="does not name"):
        replace(split, groups={**split.groups, TRAIN: ()}).rows(manifest)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gliosight_split": 2}, "format"),
        ({"by": "moon"}, "by"),
        ({"groups": {}}, "groups"),
        ({"groups": None}, "not a split"),
        ({"groups": {"train": ["a"], "test": ["a"]}}, "two groups"),
        ({"validation": 2}, "validation"),
        ({"seed": "x"}, "not a split"),
        ({"whole": 3}, "not a split"),
    ],
)
def test_a_damaged_split_says_what_is_wrong(
    change: dict[str, object], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "split.json"
    write_split(split_parts(make_manifest({f"p{k}": 5 for k in range(10)})), path)
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **change}), "utf-8")
    with pytest.raises(DamagedInputError, match=words):
        read_split(path)
