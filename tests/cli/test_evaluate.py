"""``gliosight evaluate`` and ``compare-models`` as a user calls them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import tifffile

from gliosight.cli import run
from gliosight.data.manifest import Manifest, read_manifest, write_manifest
from gliosight.data.split import PATIENT, SLICE, Split, write_split
from gliosight.evaluate.predictions import write_predictions
from gliosight.evaluate.record import load_schema
from gliosight.extras import install_line
from tests.evaluate.builders import make_predictions, six_patients, square, write_data

from .conftest import Call, Done

TRUTHS = six_patients()
HALVES = (("AA_0", "AA_1", "BB_0"), ("AA_2", "BB_1", "BB_free"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with its splits, two files of predictions, and a folder of masks."""
    folder = tmp_path_factory.mktemp("home")
    manifest = write_data(folder, TRUTHS)
    poor = {**TRUTHS, "AA_0": square(8, ()), "BB_free": square(8, (1,))}
    write_predictions(make_predictions(manifest, TRUTHS), folder / "good.npz")
    write_predictions(make_predictions(manifest, poor), folder / "poor.npz")
    _write_splits(manifest, folder)
    for name, mask in poor.items():
        (folder / "masks" / name).mkdir(parents=True)
        for k, plane in enumerate(mask):
            values = np.where(plane, 255, 0).astype(np.uint8)
            tifffile.imwrite(folder / "masks" / name / f"{name}_{k + 1}_mask.tif", values)
    return folder


def _write_splits(manifest: Manifest, folder: Path) -> None:
    groups = {"train": HALVES[0], "validation": (), "test": HALVES[1]}
    write_split(Split(PATIENT, 1, manifest.sha256, groups), folder / "split.json")
    folds = dict(zip("01", HALVES, strict=True))
    write_split(Split(PATIENT, 1, manifest.sha256, folds), folder / "folds.json")
    keys = [f"{name}:{k}" for name in TRUTHS for k in range(1, 9)]
    test = tuple(key for key in keys if key.endswith((":3", ":7")))
    rest = tuple(key for key in keys if key not in test)
    by_slice = {"train": rest, "validation": (), "test": test}
    write_split(Split(SLICE, 1, manifest.sha256, by_slice), folder / "by_slice.json")


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing them takes longer than all the rest of a call."""
    monkeypatch.setattr("gliosight.evaluate.page.plots_of", lambda _: [])


def _record(out: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    jsonschema.validate(record, load_schema())
    return record


@pytest.fixture
def score(here: Path, tmp_path: Path, call: Call) -> Any:
    """Evaluate with a manifest; the last argument is the name of OUT."""

    def score(*arguments: object, data: str = "manifest.csv") -> Done:
        *arguments, name = arguments
        return call("evaluate", *arguments, "--data", data, "-o", tmp_path / str(name))

    return score


@pytest.mark.slow
def test_collections_have_a_table(here: Path, score: Any) -> None:
    manifest = read_manifest(here / "manifest.csv")
    names = {"BB_free": "free"}
    rows = [replace(row, collection=names.get(row.patient, "lgg")) for row in manifest.rows]
    write_manifest(rows, here / "grouped.csv")
    lines = score("poor.npz", "--no-pictures", "out", data="grouped.csv").out.splitlines()
    start = next(k for k, line in enumerate(lines) if "by collection" in line)
    table = [" ".join(line.split()) for line in lines[start : start + 3]]
    assert table == [
        "by collection patients Dice slice AUC called tumour",
        "free 1 — — 1 of 1",
        "lgg 5 0.800 0.929 —",
    ]


@pytest.mark.slow
def test_a_table_with_intervals_and_baselines(tmp_path: Path, score: Any) -> None:
    text = score("poor.npz", "out").out
    lines = text.splitlines()
    assert lines[0] == "all: 6 patients, 48 slices"
    dice = next(line for line in lines if "Dice, mean" in line).split()
    assert dice[2] == "0.800"
    assert "to" in dice  # the interval
    assert "0.000" in dice  # always empty
    assert all(len(line) <= 80 for line in lines if line.startswith("  ") and "!" not in line)
    for words in ("! all: 6 patients", "Research use only", "page: "):
        assert words in text
    start = next(k for k, line in enumerate(lines) if "of lesions and patients" in line)
    counted = {line[:48].strip(): line[48:].split() for line in lines[start + 1 : start + 7]}
    assert counted["patients with tumour: verdict tumour found"][:4] == ["4", "of", "5", "0.800"]
    free = counted["patients without tumour: verdict tumour found"]
    assert free == ["1", "of", "1", "1.000", "0.025", "to", "1.000"]  # the exact interval
    assert counted["patients with tumour: verdict uncertain"] == ["0", "of", "5", "0.000"]
    start = lines.index("baselines, which hardly look at the picture")
    explained = [line.split()[0] for line in lines[start + 1 : start + 5]]
    assert explained == ["majority", "position", "empty", "bright"]
    files = ["evaluation.html", "evaluation.json", "per_patient.csv", "per_slice.csv"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == files
    page = (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8")
    assert "Worst cases" in page
    assert "image/jpeg" in page
    assert score("poor.npz", "-q", "--no-pictures", "bare").out == ""
    page = (tmp_path / "bare" / "evaluation.html").read_text(encoding="utf-8")
    assert "image/jpeg" not in page


@pytest.mark.slow
def test_one_patient_is_one(here: Path, score: Any) -> None:
    manifest = read_manifest(here / "manifest.csv")
    rows = [row for row in manifest.rows if row.patient == "AA_1"]
    write_manifest(rows, here / "one.csv")
    text = score("good.npz", "--no-pictures", "out", data="one.csv").out
    assert text.startswith("all: 1 patient, 8 slices")
    assert "1 patients" not in text


@pytest.mark.slow
def test_a_folder_of_masks_and_predictions_say_the_same(tmp_path: Path, score: Any) -> None:
    for model in ("masks", "poor.npz"):
        assert score(model, "-q", model).code == 0
    masks, file = (_record(tmp_path / name)["parts"][0] for name in ("masks", "poor.npz"))
    assert masks["localization"] == file["localization"]
    assert "slice_auc" not in masks["detection"]  # masks know no probability
    assert "slice_auc" in file["detection"]


@pytest.mark.slow
def test_json_is_what_the_file_says(tmp_path: Path, score: Any) -> None:
    done = score("good.npz", "--json", "out")
    assert (done.value, done.err) == (_record(tmp_path / "out"), "")


@pytest.mark.slow
def test_parts_folds_and_what_is_saved(tmp_path: Path, score: Any) -> None:
    bare = ("-q", "--no-pictures")
    assert score("good.npz", *bare, "--split", "split.json", "test").code == 0
    assert [part["part"] for part in _record(tmp_path / "test")["parts"]] == ["test"]
    assert score("good.npz", *bare, "--split", "split.json", "--part", "all", "all").code == 0
    assert [part["part"] for part in _record(tmp_path / "all")["parts"]] == ["train", "test"]
    folds = ("--split", "folds.json")
    assert score("good.npz", *bare, *folds, "--fold", "1", "one").code == 0
    assert _record(tmp_path / "one")["parts"][0]["patients"] == 3
    saved = tmp_path / "saved.npz"
    both = ("good.npz", "poor.npz", "--save-predictions", saved)
    assert score(*both, *bare, *folds, "pooled").code == 0
    record = _record(tmp_path / "pooled")
    assert record["split"]["fold"] == "all, pooled"
    # AA_0 is of the first fold, so the second model's miss does not count.
    assert record["parts"][0]["localization"]["dice_mean"]["value"] == 1
    assert score(saved, *bare, *folds, "again").code == 0
    for name in ("evaluation.json", "per_patient.csv", "per_slice.csv"):
        again, pooled = ((tmp_path / out / name).read_bytes() for out in ("again", "pooled"))
        assert again == pooled


@pytest.mark.slow
def test_the_leak_audit(tmp_path: Path, score: Any) -> None:
    # In any order, with their models.
    splits = ("--split", "split.json", "--split", "by_slice.json")
    text = score("--leak-audit", "poor.npz", "good.npz", *splits, "out").out
    record = _record(tmp_path / "out")
    assert [part["part"] for part in record["parts"]] == ["by_slice", "by_patient"]
    assert record["leak"]["dice_mean"]["by_slice"]["value"] == 1
    lines = [line for line in text.splitlines() if "!" not in line]
    assert max(map(len, lines[:-2])) <= 80  # all baselines, unshortened
    assert "majority position empty bright copied" in text
    assert "what the leak is worth" in text
    assert "patients stand on both sides" in text


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("", 2, "no MODEL"),
        ("good.npz --split split.json --split folds.json", 2, "--leak-audit"),
        ("good.npz --part test", 2, "--split"),
        ("good.npz --leak-audit --split split.json", 2, "two of each"),
        ("good.npz --save-predictions saved.zip", 2, ".npz"),
        ("good.npz poor.npz", 2, "folds"),
        ("nonesuch", 8, "joint-4"),
        ("none.npz", 3, "no such file"),
        ("manifest.csv", 8, "manifest.csv"),
        ("AA_0", 3, "no mask of AA_1"),
        ("good.npz --split manifest.csv", 4, "JSON"),
        ("good.npz --no-such", 2, "--help"),
    ],
)
def test_wrong_calls_say_what_to_do(
    line: str, code: int, words: str, tmp_path: Path, score: Any
) -> None:
    done = score(*line.split(), "out")
    assert (done.code, words in done.error) == (code, True)
    assert list(tmp_path.iterdir()) == []


def test_data_that_are_not_there(score: Any) -> None:
    done = score("good.npz", "out", data="none.csv")
    assert (done.code, "gliosight data index" in done.error) == (3, True)


@pytest.mark.slow
def test_an_output_in_the_way_is_refused_before_any_work(tmp_path: Path, score: Any) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.txt").touch()
    for more in ([], ["--overwrite"]):
        done = score("good.npz", *more, "mine")
        assert (done.code, "-o" in done.error) == (7, True)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["mine.txt"]
    saved = tmp_path / "saved.npz"
    saved.write_bytes(b"mine")
    done = score("good.npz", "--save-predictions", saved, "scores")
    assert (done.code, "saved.npz" in done.error) == (7, True)
    assert (saved.read_bytes(), (tmp_path / "scores").exists()) == (b"mine", False)
    assert score("good.npz", "--save-predictions", saved, "--overwrite", "-q", "scores").code == 0
    assert saved.read_bytes() != b"mine"


@pytest.mark.parametrize("command", ["evaluate", "compare-models"])
def test_a_missing_package_is_named_with_its_extra(
    command: str, here: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("baselines", "compare", "evaluation", "mask_metrics"):
        monkeypatch.delitem(sys.modules, f"gliosight.evaluate.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "surface_distance", None)
    out = ("-o", "never") if command == "evaluate" else ()
    done = call(command, "good.npz", "poor.npz", "--data", "manifest.csv", *out)
    assert (done.code, "surface_distance" in done.error) == (8, True)
    assert install_line("evaluate") in done.error
    assert not (here / "never").exists()


@pytest.mark.slow
def test_compare_models(tmp_path: Path, score: Any, call: Call) -> None:
    for name in ("good", "poor"):
        assert score(f"{name}.npz", "-q", "--no-pictures", name).code == 0
    folders = [tmp_path / "good", tmp_path / "poor"]
    text = call("compare-models", *folders).out
    assert text.splitlines()[0] == "6 patients, 48 slices"
    assert "A better in 1, worse in 0, equal in 4; Wilcoxon p 1" in text
    assert "Research use only" in text
    from_folders = call("compare-models", *folders, "--json").value
    files = ["good.npz", "poor.npz", "--data", "manifest.csv", "--json"]
    assert from_folders["figures"] == call("compare-models", *files).value["figures"]
    assert from_folders["figures"]["dice_mean"]["difference"]["value"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("good.npz poor.npz", 2, "--data"),
        ("masks masks", 3, "no evaluation"),
        ("good.npz", 2, "--help"),
        ("none.npz good.npz --data manifest.csv", 3, "no such file"),
        ("good.npz none.npz --data manifest.csv", 3, "no such file"),
    ],
)
def test_wrong_comparisons(
    line: str, code: int, words: str, here: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides are opened before one is scored: scoring takes a minute, a wrong name none."""
    scored: list[object] = []
    monkeypatch.setattr("gliosight.evaluate.evaluation.evaluate", scored.append)
    done = call("compare-models", *line.split())
    assert (done.code, words in done.error, scored) == (code, True, [])


@pytest.mark.data
@pytest.mark.slow
def test_two_brats_cases(data: Path, tmp_path: Path) -> None:
    """NIfTI with geometry: millimetres, millilitres, 3-D surfaces. By other names nobody is seen."""
    manifest = tmp_path / "brats.csv"
    for number, case in enumerate(sorted((data / "brats").iterdir())):
        for path in case.iterdir():
            new = tmp_path / "set" / f"p{number}" / path.name.replace(case.name, f"p{number}")
            new.parent.mkdir(parents=True, exist_ok=True)
            new.symlink_to(path)
    assert run(["data", "index", str(tmp_path / "set"), "-o", str(manifest), "-q"]) == 0
    out, saved = tmp_path / "out", tmp_path / "saved.npz"
    call = ["evaluate", "joint-4", "--data", str(manifest), "-q", "--threads", "2"]
    assert run([*call, "-o", str(out), "--save-predictions", str(saved)]) == 0
    part = _record(out)["parts"][0]
    assert part["patients"] == 2
    assert part["patients_seen"] == 0
    assert part["localization"]["dice_mean"]["value"] > 0.7
    assert part["localization"]["hd95_mm_median"]["value"] < 20
    assert "hd95_px_median" not in part["localization"]
    assert all(row["unit"] == "mm" for row in part["per_patient"])
    for row in part["per_patient"]:  # voxels of 1 mm
        assert row["truth_ml"] == pytest.approx(row["truth_px"] / 1000)
    assert saved.stat().st_size < 100_000
    again = ["evaluate", str(saved), "--data", str(manifest), "-q", "-o", str(tmp_path / "again")]
    assert run(again) == 0
    assert _record(tmp_path / "again") == _record(out)


@pytest.mark.data
@pytest.mark.slow
def test_a_training_patient_is_seen(
    lgg_patient: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "lgg.csv"
    assert run(["data", "index", str(lgg_patient.parent), "-o", str(manifest), "-q"]) == 0
    out = tmp_path / "out"
    assert run(["evaluate", "joint-4", "--data", str(manifest), "-o", str(out)]) == 0
    record = _record(out)
    assert record["parts"][0]["patients_seen"] == 1
    assert record["parts"][0]["localization"]["dice_mean"]["value"] is None
    assert "trained on every patient here" in record["warnings"][0]
    assert "shows memory and not skill" in capsys.readouterr().out
    assert record["published"]
