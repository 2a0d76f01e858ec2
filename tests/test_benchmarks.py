"""The benchmark of training, small: both ways train, and the plain loop sees what the bench sees."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra train is not installed")

from scipy import ndimage  # noqa: E402

from gliosight import cli  # noqa: E402
from gliosight.analysis import Outline, Status  # noqa: E402
from gliosight.card import DecisionRule  # noqa: E402
from gliosight.data.manifest import read_manifest  # noqa: E402
from gliosight.data.studies import LabelledStudy, read_labelled  # noqa: E402
from gliosight.decide import Scale, decide_at  # noqa: E402
from gliosight.errors import UsageError  # noqa: E402
from gliosight.evaluate.predictions import (  # noqa: E402
    patient_hash,
    read_maps,
    read_predictions,
    write_maps,
)
from gliosight.evaluate.rule_fit import read_rule  # noqa: E402
from gliosight.head import find_head  # noqa: E402
from gliosight.infer.model import load_model  # noqa: E402
from gliosight.phantom import PhantomSpec, make_phantom, write_lgg  # noqa: E402
from gliosight.pipeline import Settings, analyze_study  # noqa: E402
from gliosight.study import MrSequence  # noqa: E402
from gliosight.train.augmentation import draw_plan, make_batch  # noqa: E402
from gliosight.train.packed import pack  # noqa: E402
from gliosight.train.recipe import Strength, load_recipe  # noqa: E402

SCRIPTS = Path(__file__).resolve().parent.parent / "benchmarks"

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*pin_memory.*")]


def _script(name: str, run_name: str = "script") -> dict[str, Any]:
    return runpy.run_path(str(SCRIPTS / name), run_name=run_name)


def _indexed(folder: Path, seeds: Iterable[int], **spec: Any) -> Path:
    """Manifest of phantoms in the LGG layout."""
    for seed in seeds:
        write_lgg(make_phantom(PhantomSpec(seed=seed, **spec)), folder / "lgg")
    path = folder / "m.csv"
    assert cli.run(["data", "index", str(folder / "lgg"), "-o", str(path)]) == 0
    return path


def test_a_precision_is_held_to_its_limits() -> None:
    script = _script("precision.py")

    def answers(dice: float, first: float) -> Any:
        truth, slices = np.array([True, True, False, False]), np.array([first, 0.8, 0.2, 0.1])
        return script["Answers"](
            {"one": 0.9, "two": dice, "none": float("nan")},
            {"one": 1.0, "two": 0.99, "none": 0.0},
            {"one": "found", "two": "found", "none": "not"},
            [slices.astype(np.float32)],
            [truth],
        )

    exact = answers(0.8, 0.9)
    assert script["compare"]("same", exact, exact).endswith("| 0 | yes |")
    near = script["compare"]("near", answers(0.803, 0.7), exact)
    assert "| 0.8515 (+0.0015) | 1.0000 (+0.00000) | 0.0030 (two), 0 beyond |" in near
    assert near.endswith("| yes |")
    for far in (answers(0.81, 0.9), answers(0.8, 0.15), answers(0.7, 0.9)):
        assert script["compare"]("far", far, exact).endswith("| no |")


def test_every_way_trains() -> None:
    """In a process of its own: the plain loop forks, which the threads of an engine do not survive."""
    code = "import json, runpy, sys; measure = runpy.run_path(sys.argv[1])['measure']; "
    code += "print(json.dumps(list(measure(None, 1, crop=64, batch=2).values())))"
    call = [sys.executable, "-c", code, str(SCRIPTS / "training.py")]
    done = subprocess.run(call, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 4
    assert min(found) > 0


def test_the_plain_loop_varies_a_slice_as_the_bench_does(tmp_path: Path) -> None:
    """Same plan, same slice: the two agree where nothing but interpolation differs."""
    manifest = read_manifest(_indexed(tmp_path, [1], slices=5))
    slices = pack(manifest, tmp_path / "cache")
    strength = Strength(
        noise=0, blur_chance=0, strip_chance=0,
        lose_t1_chance=0, lose_t1c_chance=0, lose_both_chance=0,
    )  # fmt: skip
    recipe = replace(load_recipe("joint"), crop=96, augmentation=strength)
    rows = np.arange(5)
    plain = _script("training.py")["PlainSlices"](manifest, slices, rows, recipe)
    for k in range(5):
        plan = draw_plan(slices, rows[k : k + 1], 96, strength, np.random.default_rng((1, k)))
        images, masks = make_batch(slices, plan, 96)
        own, own_mask = plain[k]
        assert np.corrcoef(own.numpy().ravel(), images[0].numpy().ravel())[0, 1] > 0.98
        overlap = float((own_mask * masks[0]).sum() * 2 / (own_mask.sum() + masks[0].sum() + 1e-9))
        assert overlap > 0.95 or not masks.any()


def test_reading_reads_what_was_written() -> None:
    made = _script("reading.py")
    first, others = made["measure"](5, 2)
    assert first > 0
    assert len(others) == 2
    files, seconds, megabytes = made["measure_headers"](20)
    assert files > 3 * 20
    assert seconds > 0
    assert 20 < megabytes < 2000


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of three phantoms in the LGG layout."""
    folder = tmp_path_factory.mktemp("patients")
    return _indexed(folder, (1, 2, 3), slices=7, lesion_radius_mm=16.0)


def test_a_changed_picture_keeps_its_truth(patients: Path) -> None:
    """Where the tumour was moved the truth was moved, too: FLAIR is bright there, nowhere else."""
    made = _script("robustness.py")
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
    made = _script("robustness.py")
    manifest = read_manifest(patients)
    chosen = made["chosen"](["FLAIR only"])
    assert [one.name for one in chosen] == ["unchanged", "FLAIR only"]
    assert made["chosen"](None) == made["VARIATIONS"]
    with pytest.raises(UsageError, match="no change called FLAIR"):
        made["chosen"](["without T1", "FLAIR"])
    found = made["measure"]([(load_model(), list(manifest.patients[:2]))], manifest, chosen)
    assert found.shape == (2, 2)
    assert found.min() > 0.5
    rows = made["table"](found, chosen)
    assert rows[2].startswith("| unchanged | yes | 0.")
    assert rows[3].count("to") == 1


def test_a_sequence_can_be_taken_from_a_study_with_geometry() -> None:
    made = _script("robustness.py")
    case = make_phantom(PhantomSpec(seed=1, slices=6))
    labelled = LabelledStudy(case.study(), case.truth)
    coarse, flair_only = made["chosen"](["pixels twice as wide", "FLAIR only"])[1:]
    left = made["changed"](labelled, flair_only, 0).study
    assert list(left.sequences) == [MrSequence.FLAIR]
    assert left.geometry == case.geometry
    with pytest.raises(UsageError, match="geometry"):
        made["changed"](labelled, coarse, 0)


def test_robustness_under_another_rule(
    patients: Path, folds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rule by which nothing is ever found leaves nothing of the Dice."""
    strict = tmp_path / "strict.json"
    strict.write_text(
        json.dumps(
            {"all": asdict(read_rule("joint-4")[0]) | {"uncertain_from": 1.0, "found_from": 1.0}}
        )
    )
    given = ["--data", str(patients), "--split", str(folds), "--folds", "1", "--threads", "1"]
    means = []
    for rule in ("joint-4", str(strict)):
        _call(
            "robustness.py", "joint-4", *given, "--change", "mirrored left to right", "--rule", rule
        )
        rows = capsys.readouterr().out.splitlines()[3:]
        assert [row.split(" | ")[0] for row in rows] == ["| unchanged", "| mirrored left to right"]
        means.append([float(row.split(" | ")[2]) for row in rows])
    assert min(means[0]) > 0.5
    assert means[1] == [0, 0]
    with pytest.raises(SystemExit, match=r"error: no such rule \(none\.json\)"):
        _call("robustness.py", "joint-4", *given, "--rule", str(tmp_path / "none.json"))


def _call(name: str, *words: str) -> None:
    """Run a benchmark's own command line."""
    old, sys.argv = sys.argv, [name, *words]
    try:
        _script(name, "__main__")
    finally:
        sys.argv = old


@pytest.fixture(scope="module")
def folds(patients: Path) -> Path:
    """A split of the three phantoms into three folds."""
    split = patients.with_name("folds.json")
    call = ["data", "split", str(patients), "-o", str(split), "--folds", "3", "--validation", "0"]
    assert cli.run(call) == 0
    return split


@pytest.fixture(scope="module")
def maps(patients: Path, folds: Path) -> Path:
    """What the shipped network says of them, thrice."""
    out = patients.with_name("maps.npz")
    given = ["--data", str(patients), "--split", str(folds), "--threads", "1"]
    _call("cross_validation.py", "maps", *["joint-4"] * 3, *given, "-o", str(out))
    return out


def test_a_rule_is_fitted_on_maps_that_were_kept(
    patients: Path, folds: Path, maps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From maps to rules and predictions that `gliosight evaluate` scores."""
    out = tmp_path / "rules"
    given = ["--start", "joint-4", "--data", str(patients), "-o", str(out)]
    _call("cross_validation.py", "fit", str(maps), *given)
    told = capsys.readouterr().out.splitlines()
    assert [line.split(", ")[1].split(" rule")[0] for line in told] == ["start", "cross-fitted"]
    assert min(float(line.split(": ")[1]) for line in told) > 0.5
    rules = json.loads((out / "rules.json").read_text())
    assert set(rules) == {"all", "0", "1", "2", "patients_sha256"}
    fitted, start = DecisionRule(**rules["all"]), load_model().card.decision
    # Every patient has a tumour: no fit of the study's numbers.
    assert (fitted.study_weight, fitted.prevalence) == (start.study_weight, start.prevalence)
    assert fitted.volume_low != start.volume_low
    given = ["--data", str(patients), "--split", str(folds), "-o", str(tmp_path / "scores")]
    call = ["evaluate", str(out / "predictions.npz"), *given, "--json", "--no-pictures"]
    assert cli.run(call) == 0
    (part,) = json.loads(capsys.readouterr().out)["parts"]
    assert part["patients"] == 3
    # Under the rule that was fitted on all three, nothing about them is a figure.
    every = tmp_path / "every.npz"
    rule = ["--rule", str(out / "rules.json")]
    _call("cross_validation.py", "apply", str(maps), *rule, "-o", str(every))
    assert [one.seen for one in read_predictions(every).entries] == [True] * 3
    assert not any(one.seen for one in read_predictions(out / "predictions.npz").entries)


def test_other_sequences_are_scored_under_the_rules_of_the_folds(
    patients: Path, folds: Path, maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FLAIR only gives other maps; each mask is that of the patient's own fold."""
    data = ["--data", str(patients)]
    flair = tmp_path / "flair.npz"
    call = ["maps", *["joint-4"] * 2, *data, "--split", str(folds), "--folds", "0,2"]
    _call("cross_validation.py", *call, "--threads", "1", "--without", "T1,T1C", "-o", str(flair))
    whole = {one.patient: one for one in read_maps(maps)[1]}
    notes, flair_maps = read_maps(flair)
    assert {note.name for note in notes} == {"joint-4 without T1, T1C"}
    assert [whole[one.patient].model for one in flair_maps] == [0, 2]
    for one in flair_maps:
        assert not np.array_equal(one.maps.probability, whole[one.patient].maps.probability)
    # Rules that differ in what every mask shows.
    rules = {
        fold: replace(load_model().card.decision, pixel_threshold=threshold)
        for fold, threshold in enumerate((0.3, 0.45, 0.6))
    }
    monkeypatch.setattr("gliosight.evaluate.rule_fit.cross_fit", lambda *_: rules)
    fit = ["fit", str(maps), *data, "--start", "joint-4", "-o", str(tmp_path / "rules")]
    _call("cross_validation.py", *fit, "--score", str(flair))
    predictions = read_predictions(tmp_path / "rules" / "predictions.npz")
    assert predictions.models == tuple(notes)
    assert set(predictions.by_patient) == {one.patient for one in flair_maps}
    for one in flair_maps:
        masks = [decide_at(one.maps, Scale(one.sides), rule).mask for rule in rules.values()]
        assert len({mask.sum() for mask in masks}) == 3
        mine = masks[whole[one.patient].model]
        assert np.array_equal(predictions.by_patient[one.patient].mask, mine)
    for change, words in (
        ({"patient": "nobody"}, "1 of its 1 patients are not in maps"),
        ({"rows_sha256": "0" * 64}, "has other slices in the manifest"),
    ):
        write_maps(notes, [replace(flair_maps[0], **change)], flair)
        with pytest.raises(SystemExit, match=words):
            _call("cross_validation.py", *fit, "--score", str(flair))


@pytest.mark.parametrize("given", ["--rule", "--start"])
def test_who_a_rule_was_fitted_on_is_marked_as_seen(
    patients: Path, maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    one, *others = read_manifest(patients).patients
    learnt = frozenset([patient_hash(one)])
    monkeypatch.setattr("gliosight.card.ModelCard.training_patients", learnt)
    out = tmp_path / "out.npz"
    if given == "--rule":
        _call("cross_validation.py", "apply", str(maps), "--rule", "joint-4", "-o", str(out))
    else:
        words = ["--start", "joint-4", "--numbers", "slices", "--data", str(patients)]
        _call("cross_validation.py", "fit", str(maps), *words, "-o", str(tmp_path))
        out = tmp_path / "predictions.npz"
    found = read_predictions(out).by_patient
    assert found[one].seen
    assert not any(found[patient].seen for patient in others)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"patient": "nobody"}, "nobody is not in the manifest"),
        ({"rows_sha256": "0" * 64}, "has other slices in the manifest"),
    ],
)
def test_maps_of_other_data_are_refused(
    patients: Path, maps: Path, tmp_path: Path, change: dict[str, str], told: str
) -> None:
    notes, kept = read_maps(maps)
    other = tmp_path / "other.npz"
    write_maps(notes, [replace(kept[0], **change), *kept[1:]], other)
    given = [str(other), "--data", str(patients)]
    for call in (
        ["what_is_missing.py", *given, "--rule", "joint-4"],
        ["cross_validation.py", "fit", *given, "--start", "joint-4", "-o", str(tmp_path / "out")],
    ):
        with pytest.raises(SystemExit, match=f"error: .*{told}"):
            _call(*call)


def test_what_is_typed_wrong_is_told_before_the_work(
    patients: Path, folds: Path, tmp_path: Path
) -> None:
    """None of these comes to the maps, which are not there."""
    file = tmp_path / "file"
    file.touch()
    fit = ["cross_validation.py", "fit", "none.npz", "--data", str(patients), "--start", "joint-4"]
    data = ["--data", str(patients), "--split", str(folds)]
    for call, told in (
        ([*fit, "-o", str(tmp_path / "out"), "--numbers", ""], "no numbers called ''"),
        ([*fit, "-o", str(file)], r"cannot make the folder: File exists \(file\)"),
        (["robustness.py", "joint-4", *data, "--every", "0"], "--every 0: give 1"),
        (
            [
                "cross_validation.py",
                "maps",
                "none",
                *data,
                "-o",
                str(file),
                "--without",
                "T1,FLAIR",
            ],
            "--without FLAIR: give T1 or T1C",
        ),
    ):
        with pytest.raises(SystemExit, match=f"error: .*{told}"):
            _call(*call)


def test_a_shipped_rule_draws_what_the_tool_draws(
    patients: Path, maps: Path, tmp_path: Path
) -> None:
    """Kept maps under a model's own rule give the masks that `analyze` writes.

    But for a crumb whose score lies at a threshold: probabilities are kept as 64 levels.
    """
    out = tmp_path / "predictions.npz"
    _call("cross_validation.py", "apply", str(maps), "--rule", "joint-4", "-o", str(out))
    manifest, model = read_manifest(patients), load_model(threads=1)
    found = read_predictions(out).by_patient
    assert set(found) == set(manifest.patients)
    for patient in manifest.patients:
        own = analyze_study(read_labelled(manifest, patient).study, model, Settings()).decision
        assert own.mask.any()
        mask = found[patient].mask
        assert 2 * (mask & own.mask).sum() > 0.99 * (mask.sum() + own.mask.sum())
    # Twice the same network is the same network.
    twice = tmp_path / "twice.npz"
    rule = ["--rule", "joint-4"]
    _call("cross_validation.py", "apply", str(maps), str(maps), *rule, "-o", str(twice))
    for patient, one in read_predictions(twice).by_patient.items():
        assert np.array_equal(one.mask, found[patient].mask)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["maps", "joint-4"], "1 models for 3 folds"),
        (["maps", "joint-4", "--folds", "0"], "joint-4 was trained on 1 of these 1 patients"),
        (["fit", "--start", "joint-4"], "the maps are those of one model"),
    ],
)
def test_no_figure_comes_of_seen_patients_or_of_one_model(
    patients: Path,
    folds: Path,
    maps: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    told: str,
) -> None:
    everyone = frozenset(patient_hash(one) for one in read_manifest(patients).patients)
    monkeypatch.setattr("gliosight.card.ModelCard.training_patients", everyone)
    notes, kept = read_maps(maps)
    write_maps(notes[:1], kept[:1], tmp_path / "one.npz")
    given = ["--data", str(patients), "-o", str(tmp_path / "out")]
    if words[0] == "maps":
        given += ["--split", str(folds)]
    else:
        words = [*words, str(tmp_path / "one.npz")]
    with pytest.raises(SystemExit, match=told):
        _call("cross_validation.py", *words, *given)
    if words[0] == "maps":
        given = ["--data", str(patients), "--split", str(folds)]
        with pytest.raises(SystemExit, match=told):
            _call("robustness.py", *words[1:], *given)


def test_what_is_missing_is_told_from_the_truth(
    patients: Path, maps: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Setting something right never makes it worse, and each column sets right what it says."""
    _call("what_is_missing.py", str(maps), "--data", str(patients), "--rule", "joint-4")
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows][-1] == "mean"
    figures = np.array([[float(one) for one in row[1:]] for row in rows])
    assert figures.shape == (4, 5)
    assert np.all(np.diff(figures[:3, 0]) >= 0)
    assert np.all(figures[:, [1, 2, 4]] >= figures[:, :1])

    made = _script("what_is_missing.py")
    truth = np.zeros((3, 40, 40), bool)
    truth[1, 10:30, 10:30] = True
    mask = np.zeros_like(truth)
    mask[1, 11:31, 10:30] = mask[0, :9, :9] = True
    assert np.array_equal(made["_with_right_slices"](mask, truth)[0], truth[0])
    assert made["_without_false_bodies"](mask, truth).sum() == 400
    assert np.array_equal(np.where(made["_near_border"](truth), truth, mask)[1], truth[1])


def test_trust_is_measured_on_maps_that_were_kept(patients: Path, maps: Path) -> None:
    """Every figure of docs/trust.md, of three phantoms beside cases by hand."""
    made = _script("trust.py")
    start = read_rule(str(SCRIPTS / "rule-start.json"))[0]
    cases = made["cases_of"](maps, read_manifest(patients), start)
    assert [case.decision.status for case in cases] == [Status.FOUND] * 3
    assert all(case.decision.outline.volume_low is not None for case in cases)
    assert min(case.dice for case in cases) > 0.5
    cases = [replace(case, patient=f"TCGA_CS_{k}") for k, case in enumerate(cases)]
    well = [
        replace(
            cases[0],
            patient=name,
            dice=np.nan,
            ratio=np.nan,
            label=np.zeros_like(cases[0].label),
            apart=probability,
            verdict=verdict,
            decision=replace(cases[0].decision, outline=None),
        )
        for name, probability, verdict in (
            ("ms_01", 0.95, Status.FOUND),
            ("raw_patient19", 0.5, Status.UNCERTAIN),
            ("patient01_study1", 0.01, Status.NOT_FOUND),
        )
    ]
    told = "\n".join(made["study_figures"]([*cases, *well]))
    assert "| tumour-free | 3 | 1 | 1 | 1 |" in told
    assert "| lesjak | 2 | 0 | 1 | 1 |" in told
    assert "Uncertain: raw_patient19 0.50" in told
    assert "| tumour-free | 21 |" in "\n".join(made["slice_figures"]([*cases, *well]))
    apart = [
        replace(case, ratio=ratio) for case, ratio in zip(cases, (1.0, 99.0, 1.0), strict=True)
    ]
    assert "| LGG | 3 | 66.7% | 0.0% | 33.3% |" in "\n".join(made["volume_figures"](apart))
    bad = [replace(case, dice=dice) for case, dice in zip(cases, (0.9, 0.2, 0.8), strict=True)]
    softest = [replace(case, decision=replace(case.decision, outline=Outline(soft)))
               for case, soft in zip(bad, (0.1, 0.9, 0.2), strict=True)]  # fmt: skip
    assert "1 of them among the 1 softest" in "\n".join(made["review_figures"](softest))


def test_curves_of_trust() -> None:
    made = _script("trust.py")
    p = np.repeat([0.2, 0.8], 50)
    label = np.concatenate([np.arange(50) < 10, np.arange(50) < 30]).astype(float)
    assert made["ece"](p, label, bins=2) == pytest.approx(0.1)
    assert made["aurc"](np.array([1.0, 0.5])) == pytest.approx(0.125)
    assert made["aurc"](np.array([0.5, 1.0])) == pytest.approx(0.375)


def test_a_synthetic_lesion_has_the_volume_and_contrast_that_are_asked_for() -> None:
    made = _script("missed.py")
    study = make_phantom(PhantomSpec(seed=4, lesion=False)).study()
    sides = (study.geometry.slice_spacing, *study.geometry.spacing)
    ill, lesion = made["add_lesion"](study, sides, 8.0, seed=3)
    assert lesion.sum() * np.prod(sides) / 1000 == pytest.approx(8, rel=0.02)
    head = find_head(study.flair.values)
    for name, (low, high) in made["CONTRAST"].items():
        before, after = (one.sequences[name].values.astype(float) for one in (study, ill))
        core = lesion & (ndimage.uniform_filter(lesion.astype(float), 3) > 0.99)
        assert 0.9 * low < after[core].mean() / np.median(before[head]) < 1.1 * high
        far = ~ndimage.binary_dilation(lesion, iterations=8)
        assert np.abs(after - before)[far].max() <= 0.02 * np.median(before[head])
    again = made["add_lesion"](study, sides, 8.0, seed=3)[1]
    assert (again == lesion).all()


def test_the_volume_of_which_a_half_is_missed_lies_between() -> None:
    made = _script("missed.py")
    ml = np.repeat([1.0, 2.0, 4.0, 8.0, 16.0], 10)
    missed = np.concatenate([np.arange(10) < count for count in (10, 8, 5, 2, 0)])
    half, tenth = made["volumes_missed"](ml, missed)
    assert half == pytest.approx(4, rel=0.1)
    assert 8 < tenth < 16


def test_the_table_of_speeds(tmp_path: Path) -> None:
    """The network in every precision of this machine, and a study in a warm process."""
    call = [sys.executable, str(SCRIPTS / "speed.py"), "--parts", "network,warm", "--runs", "1"]
    call += ["--seconds", "0.1", "--out", str(tmp_path / "table.md")]
    subprocess.run(call, check=True, capture_output=True)
    rows = (tmp_path / "table.md").read_text("utf-8").splitlines()
    speeds = [float(row.split("|")[2].split()[0]) for row in rows if "slices/s" in row]
    assert len(speeds) >= 1
    assert min(speeds) > 0
    assert any("warm process" in row and "times the network" in row for row in rows)
