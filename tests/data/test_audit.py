"""The audit: silent on a sound data set, and each check finds what was planted for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from gliosight.data.audit import CHECKS, Audit, audit, names_patient, near_pairs, signatures_of
from gliosight.data.index import index_roots
from gliosight.data.manifest import Manifest
from gliosight.data.people import Root
from gliosight.data.split import Split, split_folds, split_parts
from tests.data.builders import (
    SIZE,
    make_manifest,
    make_masks,
    make_slices,
    manifest_of,
    write_patient,
    write_picture,
)
from tests.read.builders import make_volume, write_nifti

CS, DU, HT = "TCGA_CS_0001_20000101", "TCGA_DU_0002_20000102", "TCGA_HT_0003_20000103"


@pytest.fixture
def sound(tmp_path: Path) -> Manifest:
    for seed, name in enumerate((CS, DU, HT)):
        write_patient(tmp_path, name, seed=seed)
    return manifest_of(tmp_path)


def _problems(result: Audit) -> dict[str, list[str]]:
    return {
        name: [problem.subject for problem in result.problems if problem.check == name]
        for name, count in result.counts.items()
        if count
    }


def test_a_sound_data_set_has_no_problem(sound: Manifest) -> None:
    steps: list[tuple[int, int]] = []
    result = audit(sound, split_folds(sound, 3), lambda _, done, total: steps.append((done, total)))
    assert result.problems == ()
    assert set(result.counts) == set(CHECKS)
    assert steps[-1] == (18, 18)


def _image(manifest: Manifest, number: int) -> Path:
    return manifest.folder / CS / f"{CS}_{number}.tif"


def _mask(manifest: Manifest, number: int) -> Path:
    return manifest.folder / CS / f"{CS}_{number}_mask.tif"


def _write_both(manifest: Manifest, number: int) -> None:
    for path in (_image(manifest, number), _mask(manifest, number)):
        write_picture(path, np.zeros((16, 16), np.uint8))


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


@pytest.mark.parametrize(
    ("spoil", "problems"),
    [
        (lambda m: _image(m, 3).unlink(), {"unreadable": [f"{CS}:3"]}),
        (lambda m: _truncate(_image(m, 3)), {"unreadable": [f"{CS}:3"]}),
        (lambda m: _truncate(_mask(m, 3)), {"unreadable": [f"{CS}:3"]}),
        (lambda m: write_picture(_image(m, 1), make_slices(9)[0]), {"changed": [f"{CS}:1"]}),
        (lambda m: write_picture(_mask(m, 3), make_masks()[2] // 255 * 7),
         {"changed": [f"{CS}:3"], "mask-values": [f"{CS}:3"]}),
        (lambda m: write_picture(_mask(m, 3), np.zeros(SIZE, np.uint8)),
         {"changed": [f"{CS}:3"], "label": [f"{CS}:3"]}),
        (lambda m: write_picture(_mask(m, 1), np.zeros((8, 8), np.uint8)),
         {"changed": [f"{CS}:1"], "size": [f"{CS}:1"]}),
        (lambda m: _write_both(m, 1), {"changed": [f"{CS}:1"] * 2, "size": [f"{CS}:1"]}),
    ],
)  # fmt: skip
def test_what_happens_to_files_is_reported(
    spoil: Callable[[Manifest], object], problems: dict[str, list[str]], sound: Manifest
) -> None:
    spoil(sound)
    assert _problems(audit(sound)) == problems


def _write_few_pixels(path: Path) -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[3, 3:8] = 255
    write_picture(path, mask)


@pytest.mark.parametrize(
    ("marked", "spoil", "problems"),
    [
        ((), None, {"no-tumour": [CS]}),
        ((2, 3, 5), None, {"gap": [CS]}),
        ((5, 6), None, {"cut-off": [CS]}),
        ((1, 2), None, {"cut-off": [CS]}),
        ((3, 4), lambda folder: _write_few_pixels(folder / f"{CS}_5_mask.tif"), {"tiny": [f"{CS}:5"]}),
        ((3, 4), lambda folder: (folder / f"{CS}_5.tif").unlink(), {"missing-slices": [CS]}),
        ((3, 4), lambda folder: (folder / f"{CS}_2_mask.tif").unlink(),
         {"missing-slices": [CS], "excluded": [f"{CS}:2"]}),
    ],
)  # fmt: skip
def test_what_was_odd_when_it_was_indexed_is_reported(
    marked: tuple[int, ...],
    spoil: Callable[[Path], object] | None,
    problems: dict[str, list[str]],
    tmp_path: Path,
) -> None:
    folder = write_patient(tmp_path, CS, marked=marked)
    if spoil is not None:
        spoil(folder)
    assert _problems(audit(manifest_of(tmp_path))) == problems


def test_a_patient_that_the_path_denies_is_reported(sound: Manifest) -> None:
    first = replace(sound.rows[0], image=f"{DU}/{DU}_1.tif")
    assert _problems(audit(Manifest((first, *sound.rows[1:]), sound.folder)))["id"] == [f"{CS}:1"]


@pytest.mark.parametrize(
    ("patient", "named", "others"),
    [
        ("P1", "x/P1/3.png x/P1_3.png masks/mask_P1_3.png", "x/P10_3.png P10/3.png x/XP1_3.png"),
        ("img", "img003.png", "imgs003.png"),
        ("a.b", "a.b_1.png", "axb_1.png"),
    ],
)
def test_what_a_path_names(patient: str, named: str, others: str) -> None:
    assert [path for path in named.split() if not names_patient(path, patient)] == []
    assert [path for path in others.split() if names_patient(path, patient)] == []


def test_a_slice_copied_to_another_patient_is_reported(sound: Manifest) -> None:
    for suffix in (".tif", "_mask.tif"):
        source = sound.folder / CS / f"{CS}_3{suffix}"
        shutil.copy(source, sound.folder / HT / f"{HT}_3{suffix}")
    copied = manifest_of(sound.folder)
    assert _problems(audit(copied)) == {"duplicate": [f"{CS}:3"]}
    # That is a leak where the two are on different sides.
    sides = {"train": (CS, DU), "validation": (), "test": (HT,)}
    result = audit(copied, Split("patient", 1, copied.sha256, sides))
    assert _problems(result) == {"duplicate": [f"{CS}:3"], "split": [f"{CS}:3"]}
    together = {"train": (CS, HT), "validation": (), "test": (DU,)}
    result = audit(copied, Split("patient", 1, copied.sha256, together))
    assert "split" not in _problems(result)


ALIKE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "brighter": lambda image: np.minimum(image * 0.8 + 20, 255),
    "noisy": lambda image: image + np.random.default_rng(0).normal(0, 5, image.shape),
    "deeper": lambda image: image.astype(np.uint16) * 64,
}


@pytest.mark.parametrize("how", ALIKE)
def test_a_slice_that_is_nearly_anothers_is_reported(how: str, sound: Manifest) -> None:
    changed = ALIKE[how](tifffile.imread(_image(sound, 3)))
    folder = sound.folder / HT
    if how == "deeper":  # one depth to a patient
        for path in folder.glob("*[0-9].tif"):
            write_picture(path, ALIKE[how](tifffile.imread(path)))
    else:
        changed = np.clip(changed, 0, 255).astype(np.uint8)
    write_picture(folder / f"{HT}_4.tif", changed)
    manifest = manifest_of(sound.folder)
    assert _problems(audit(manifest)) == {"near-duplicate": [f"{CS}:3"]}
    # Pictures of one person may be alike.
    rows = [replace(row, person="" if row.patient == DU else "anna") for row in manifest.rows]
    assert audit(Manifest(tuple(rows), manifest.folder)).problems == ()


def test_blank_slices_are_no_duplicates(sound: Manifest) -> None:
    for name in (CS, DU):
        write_picture(sound.folder / name / f"{name}_1.tif", np.zeros((*SIZE, 3), np.uint8))
    assert audit(manifest_of(sound.folder)).problems == ()


def test_near_pairs_are_those_of_different_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    planes = rng.integers(0, 255, (5, 64, 64))
    planes = planes.reshape(5, 16, 4, 16, 4).mean((2, 4)).repeat(4, 1).repeat(4, 2)
    planes[3] = planes[0] * 0.5 + 9
    planes[4] = planes[1]
    for at_once in (1024, 2):
        monkeypatch.setattr("gliosight.data.audit.AT_ONCE", at_once)
        pairs = list(near_pairs(signatures_of(planes), ["a", "b", "c", "d", "b"]))
        assert [(i, j) for i, j, _ in pairs] == [(0, 3)]
        assert pairs[0][2] == pytest.approx(1.0, abs=1e-5)


def test_a_split_that_leaks_or_is_of_other_slices_is_reported(sound: Manifest) -> None:
    sides = {"train": (CS, DU), "validation": (DU,), "test": (HT,)}
    assert _problems(audit(sound, Split("patient", 1, sound.sha256, sides))) == {"split": [DU]}
    by_slice = split_parts(sound, by="slice", shares={"train": 0.5, "validation": 0.2, "test": 0.3})
    assert set(_problems(audit(sound, by_slice))["split"]) == {CS, DU, HT}
    folds = split_folds(sound, 3)
    other = replace(folds, manifest_sha256="0", groups={**folds.groups, "0": ("somebody",)})
    assert [problem.text for problem in audit(sound, other).problems] == [
        "the split was made from another manifest",
        f"the split does not name 6 slices, such as {folds.groups['0'][0]}:1",
        "the split names 1 that are not used, such as somebody",
    ]


def test_persons_and_whole_collections_on_two_sides_are_reported(sound: Manifest) -> None:
    changes = {CS: {"collection": "a", "person": "anna"}, DU: {"collection": "b", "person": "anna"}}
    rows = [replace(row, **changes.get(row.patient, {"collection": "b"})) for row in sound.rows]
    manifest = Manifest(tuple(rows), sound.folder)
    sides = {"train": (CS,), "validation": (DU,), "test": (HT,)}
    split = Split("patient", 1, manifest.sha256, sides, whole=("b",))
    result = audit(manifest, split)
    assert _problems(result) == {"split": [f"{CS} and {DU}", "b"]}
    assert result.problems[1].text == "is to stay whole, and stands in test, validation"
    assert _problems(audit(manifest, replace(split, whole=()))) == {"split": [f"{CS} and {DU}"]}


def test_people_without_a_tumour_are_no_problem(tmp_path: Path) -> None:
    folder = write_patient(tmp_path, CS, marked=())
    (folder / f"{CS}_2_mask.tif").unlink()
    write_nifti(tmp_path / "v1" / "v1_flair.nii.gz", make_volume(seed=4))
    rows = index_roots([Root(tmp_path, "free")], tmp_path, tumour_free=["free"]).rows
    assert [row.excluded for row in rows if row.excluded] == []
    assert audit(Manifest(rows, tmp_path)).problems == ()


def _volumes(root: Path) -> Path:
    seg = np.zeros((5, 24, 20), np.uint8)
    seg[2, 4:8, 5:12] = 4
    for number in (1, 2):
        for name, values in (("flair", make_slices(number, 5, (24, 20))[..., 0]), ("seg", seg)):
            write_nifti(root / f"B{number}" / f"B{number}_{name}.nii.gz", values)
        write_nifti(root / f"B{number}" / f"B{number}_t1.nii.gz", make_volume(seed=number))
    return root


def test_volumes_are_audited_too(tmp_path: Path) -> None:
    manifest = manifest_of(_volumes(tmp_path))
    assert audit(manifest).problems == ()
    write_nifti(tmp_path / "B1" / "B1_t1.nii.gz", make_volume(seed=4))
    assert _problems(audit(manifest)) == {"changed": ["B1"]}
    (tmp_path / "B1" / "B1_seg.nii.gz").unlink()
    assert _problems(audit(manifest)) == {"unreadable": ["B1:0"]}
    shutil.copy(tmp_path / "B2" / "B2_flair.nii.gz", tmp_path / "B1" / "B1_flair.nii.gz")
    shutil.copy(tmp_path / "B2" / "B2_seg.nii.gz", tmp_path / "B1" / "B1_seg.nii.gz")
    assert _problems(audit(manifest_of(tmp_path))) == {"duplicate": ["B1:0"]}
    short = [row for row in manifest.rows if row.key != "B2:4"]
    assert _problems(audit(Manifest(tuple(short), tmp_path)))["size"] == ["B2"]


def test_a_manifest_without_files_is_all_unreadable() -> None:
    manifest = Manifest(make_manifest({"a": 40}).rows, Path("/nowhere"))
    assert _problems(audit(manifest)) == {"unreadable": ["a:1", "a:2", "a:3", "a:4"]}


def test_every_check_is_documented() -> None:
    page = Path(__file__).resolve().parents[2].joinpath("docs", "data.md").read_text("utf-8")
    for name in CHECKS:
        assert f"| `{name}` |" in page
