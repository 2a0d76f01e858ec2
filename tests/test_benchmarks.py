"""The benchmark of training, small: both ways train, and the plain loop sees what the bench sees."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra train is not installed")

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "training.py"

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*pin_memory.*")]


def test_every_way_trains() -> None:
    found = runpy.run_path(str(SCRIPT))["measure"](None, 1, crop=64, batch=2)
    assert len(found) == 4
    assert min(found.values()) > 0


def test_the_plain_loop_varies_a_slice_as_the_bench_does(tmp_path: Path) -> None:
    """Same plan, same slice: the two agree where nothing but interpolation differs."""
    from dataclasses import replace

    from gliosight import cli
    from gliosight.data.manifest import read_manifest
    from gliosight.phantom import PhantomSpec, make_phantom, write_lgg
    from gliosight.train.augmentation import draw_plan, make_batch
    from gliosight.train.packed import pack
    from gliosight.train.presets import load_recipe
    from gliosight.train.recipe import Strength

    write_lgg(make_phantom(PhantomSpec(seed=1, slices=5)), tmp_path / "lgg")
    path = tmp_path / "m.csv"
    assert cli.run(["data", "index", str(tmp_path / "lgg"), "-o", str(path)]) == 0
    manifest = read_manifest(path)
    slices = pack(manifest, tmp_path / "cache")
    strength = Strength(
        noise=0, blur_chance=0, strip_chance=0,
        lose_t1_chance=0, lose_t1c_chance=0, lose_both_chance=0,
    )  # fmt: skip
    recipe = replace(load_recipe("joint"), crop=96, augmentation=strength)
    rows = np.arange(5)
    plain = runpy.run_path(str(SCRIPT))["PlainSlices"](manifest, slices, rows, recipe)
    for k in range(5):
        plan = draw_plan(slices, rows[k : k + 1], 96, strength, np.random.default_rng((1, k)))
        images, masks = make_batch(slices, plan, 96)
        own, own_mask = plain[k]
        assert np.corrcoef(own.numpy().ravel(), images[0].numpy().ravel())[0, 1] > 0.98
        overlap = float((own_mask * masks[0]).sum() * 2 / (own_mask.sum() + masks[0].sum() + 1e-9))
        assert overlap > 0.95 or not masks.any()


def test_reading_reads_what_was_written() -> None:
    script = SCRIPT.with_name("reading.py")
    made = runpy.run_path(str(script))
    first, others = made["measure"](5, 2)
    assert first > 0
    assert len(others) == 2
    files, seconds, megabytes = made["measure_headers"](20)
    assert files > 3 * 20
    assert 0 < seconds < 60
    assert 20 < megabytes < 2000


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of three phantoms in the LGG layout."""
    from gliosight import cli
    from gliosight.phantom import PhantomSpec, make_phantom, write_lgg

    folder = tmp_path_factory.mktemp("patients")
    for seed in (1, 2, 3):
        spec = PhantomSpec(seed=seed, slices=7, lesion_radius_mm=16.0)
        write_lgg(make_phantom(spec), folder / "lgg")
    path = folder / "m.csv"
    assert cli.run(["data", "index", str(folder / "lgg"), "-o", str(path)]) == 0
    return path


def test_a_changed_picture_keeps_its_truth(patients: Path) -> None:
    """Where the tumour was moved the truth was moved, too: FLAIR is bright there, nowhere else."""
    from gliosight.data.manifest import read_manifest
    from gliosight.data.studies import read_labelled

    made = runpy.run_path(str(SCRIPT.with_name("robustness.py")))
    manifest = read_manifest(patients)
    labelled = read_labelled(manifest, manifest.patients[0])
    names = set()
    for number, one in enumerate(made["VARIATIONS"]):
        new = made["changed"](labelled, one, number)
        flair = new.study.flair.values
        assert new.truth.any(), one.name
        inside = float(np.median(flair[new.truth]))
        brain = float(np.median(flair[~new.truth & (flair > np.percentile(flair, 60))]))
        assert inside > brain, one.name
        if one.name != "unchanged":
            same_shape = new.truth.shape == labelled.truth.shape
            same = same_shape and all(
                name in new.study.sequences
                and np.array_equal(new.study.sequences[name].values, volume.values)
                for name, volume in labelled.study.sequences.items()
            )
            assert not same, one.name
        names.add(one.name)
    assert len(names) == len(made["VARIATIONS"])


def test_robustness_is_measured_and_told(patients: Path) -> None:
    from gliosight.data.manifest import read_manifest
    from gliosight.infer.model import load_model

    made = runpy.run_path(str(SCRIPT.with_name("robustness.py")))
    manifest = read_manifest(patients)
    chosen = tuple(one for one in made["VARIATIONS"] if one.name in ("unchanged", "FLAIR only"))
    found = made["measure"]([(load_model(), list(manifest.patients[:2]))], manifest, chosen)
    assert found.shape == (2, 2)
    assert found.min() > 0.5
    rows = made["table"](found, chosen)
    assert rows[2].startswith("| unchanged | yes | 0.")
    assert rows[3].count("to") == 1


def test_a_rule_is_fitted_on_maps_that_were_kept(
    patients: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From folds to maps, rules and predictions that `gliosight evaluate` scores."""
    import json

    from gliosight import cli
    from gliosight.card import DecisionRule
    from gliosight.data.manifest import read_manifest

    made = runpy.run_path(str(SCRIPT.with_name("cross_validation.py")))
    manifest = read_manifest(patients)
    split = tmp_path / "folds.json"
    call = ["data", "split", str(patients), "-o", str(split), "--folds", "3", "--validation", "0"]
    assert cli.run(call) == 0
    groups = json.loads(split.read_text())["groups"]
    names = [[one] if isinstance(one, str) else list(one) for one in groups.values()]
    notes, kept = made["keep_maps"](["joint-3"] * 3, manifest, names, 1)
    maps = tmp_path / "maps.npz"
    made["write_maps"](notes, kept, maps)
    dice = made["fit"](maps, manifest, "joint-3", tmp_path / "rules")
    assert min(dice.values()) > 0.5
    rules = json.loads((tmp_path / "rules" / "rules.json").read_text())
    assert set(rules) == {"all", "0", "1", "2"}
    assert DecisionRule(**rules["all"]).study_threshold == 0.5
    capsys.readouterr()
    call = [
        str(tmp_path / "rules" / "predictions.npz"),
        "--data",
        str(patients),
        "--split",
        str(split),
    ]
    assert (
        cli.run(["evaluate", *call, "-o", str(tmp_path / "scores"), "--json", "--no-pictures"]) == 0
    )
    (part,) = json.loads(capsys.readouterr().out)["parts"]
    assert part["patients"] == 3
