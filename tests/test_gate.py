"""The input gate: a table of inputs, one of each kind; every rule; the numbers' file."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gliosight.analysis import Status
from gliosight.errors import ModelError
from gliosight.familiar import CODES, Familiar, read_familiar
from gliosight.gate import broken_rule, check_input, probe
from gliosight.head import find_head
from gliosight.infer.model import Model, load_model
from gliosight.phantom import Phantom, PhantomSpec, make_phantom
from gliosight.pipeline import Settings, analyze, read_study, write_analysis
from gliosight.prepare import prepare
from gliosight.study import Geometry, MrSequence, Study, Volume

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
import foreign

Values = np.ndarray
# No example of the benchmark's has this seed.
SEED = 1000


def _study(values: Values, geometry: Geometry | None = None) -> Study:
    names = tuple(str(k) for k in range(len(values)))
    volume = Volume(np.ascontiguousarray(values), geometry)
    return Study("x", {MrSequence.FLAIR: volume}, names, kind="arrays")


@pytest.fixture(scope="module")
def thick() -> Phantom:
    """A head that no example of the benchmark is made of."""
    return make_phantom(PhantomSpec(seed=77, slices=34, slice_spacing_mm=4.5))


def _level(study: Study, model: Model) -> tuple[str, str | None]:
    given = prepare(study, model.card.input)
    assert given.assessable
    check = check_input(study, given, model.familiar, model.describe)
    assert (check.reason is None) == (check.level == "usual")
    return check.level, check.code


def _plane(phantom: Phantom, axis: int) -> Values:
    """Slices along another axis, up first, as large as their width."""
    flair = np.moveaxis(phantom.sequences[MrSequence.FLAIR], axis, 0)[60:190:24, ::-1]
    return flair.repeat(5, axis=1)[:, : flair.shape[2]]


TRUE: dict[str, Callable[[Values], Values]] = {
    "as it is": lambda v: v,
    "mirrored": lambda v: v[:, :, ::-1],
    "single": lambda v: v[20:21],
    "low slice": lambda v: v[9:10],
    "gain and offset": lambda v: v * 0.37 + 100,
    "bytes": lambda v: np.clip(v / np.percentile(v, 99.8) * 255, 0, 255).astype(np.uint8),
    "without a frame": lambda v: v[:, 20:230, 40:215],
}


@pytest.mark.parametrize("name", TRUE)
def test_a_flair_of_a_head_passes(name: str, thick: Phantom, model: Model) -> None:
    values = TRUE[name](thick.sequences[MrSequence.FLAIR].astype(np.float32))
    assert _level(_study(values), model)[0] != "refused"


@pytest.mark.parametrize("skull", [True, False])
def test_with_geometry_too(skull: bool, model: Model) -> None:
    phantom = make_phantom(PhantomSpec(seed=78, slices=34, slice_spacing_mm=4.5, skull=skull))
    study = replace(
        phantom.study(), sequences={MrSequence.FLAIR: phantom.study().sequences[MrSequence.FLAIR]}
    )
    assert _level(study, model)[0] != "refused"


@pytest.mark.parametrize("kind", sorted(foreign.MADE))
@pytest.mark.parametrize("slices", [1, 5])
def test_what_is_no_head_is_refused(kind: str, slices: int, model: Model) -> None:
    """A single slice tells less: it may be warned of."""
    values = foreign.MADE[kind](np.random.default_rng(SEED))
    assert _level(_study(values[:slices]), model)[0] in {"refused", *["unusual"][: slices == 1]}


@pytest.mark.parametrize("sequence", [MrSequence.T1, MrSequence.T1C])
def test_another_sequence_is_refused(sequence: MrSequence, thick: Phantom, model: Model) -> None:
    level, code = _level(_study(thick.sequences[sequence]), model)
    assert (level, code) == ("refused", "NOT_FLAIR")


@pytest.mark.parametrize("kind", sorted(foreign.REMAPS))
def test_another_contrast_is_refused(kind: str, thick: Phantom, model: Model) -> None:
    flair, t1 = (
        thick.sequences[name][4::5].astype(np.float32) for name in (MrSequence.FLAIR, MrSequence.T1)
    )
    head = find_head(flair)
    values = foreign.REMAPS[kind](np.random.default_rng(SEED), flair, t1, head)
    assert _level(_study(values), model)[0] == "refused"


@pytest.mark.parametrize("axis", [1, 2])
def test_another_plane_without_geometry_is_refused(axis: int, thick: Phantom, model: Model) -> None:
    assert _level(_study(_plane(thick, axis)), model)[0] == "refused"


def test_another_plane_with_geometry_is_turned(thick: Phantom, model: Model) -> None:
    values, geometry = thick.sequences[MrSequence.FLAIR], thick.geometry
    coronal = np.ascontiguousarray(np.moveaxis(values, 1, 0))
    origins = geometry.origins[0] + np.outer(
        np.arange(values.shape[1]), geometry.row_direction * geometry.spacing[0]
    )
    turned = Geometry(
        origins, np.array([0.0, 0, 1]), geometry.column_direction, (4.5, geometry.spacing[1])
    )
    assert _level(_study(coronal, turned), model)[0] != "refused"


def test_real_patient(lgg_patient: Path, model: Model) -> None:
    study = read_study(lgg_patient)
    assert _level(study, model) == ("usual", None)
    t1 = study.sequences[MrSequence.T1].values
    assert _level(_study(t1), model) == ("refused", "NOT_FLAIR")
    assert _level(_study(study.flair.values.max() - study.flair.values), model)[0] == "refused"


# --- the rules, without the network's features ---------------------------------------------------------


def _rule(study: Study, model: Model) -> str | None:
    return broken_rule(study, prepare(study, model.card.input))


def test_no_rule_fires_on_a_head(thick: Phantom, model: Model) -> None:
    assert _rule(thick.study(), model) is None


def test_few_values_are_a_drawing(thick: Phantom, model: Model) -> None:
    flair = thick.sequences[MrSequence.FLAIR]
    levels = np.clip(flair // 600, 0, 3)
    assert "few different values" in (_rule(_study(levels), model) or "")


def test_a_picture_without_air_is_no_head(thick: Phantom, model: Model) -> None:
    inside = thick.sequences[MrSequence.FLAIR][15:22, 90:160, 100:150]
    assert "fills the picture" in (_rule(_study(inside), model) or "")


def _body(length: int, width: int) -> Study:
    """An ellipse of the given axes (mm) in slices of 1 mm pixels."""
    y, x = np.ogrid[-200:200, -200:200]
    inside = (2 * y / length) ** 2 + (2 * x / width) ** 2 < 1
    grain = np.random.default_rng(1).integers(80, 120, (5, 400, 400))
    origins = np.array([[0.0, 0, 5 * k] for k in range(5)])
    geometry = Geometry(origins, np.array([0.0, -1, 0]), np.array([-1.0, 0, 0]), (1.0, 1.0))
    return _study(np.where(inside, grain, 0).astype(np.int16), geometry)


@pytest.mark.parametrize(
    ("length", "width", "words"),
    [(200, 160, None), (320, 300, "320 mm long"), (180, 260, "wide"), (200, 200, None)],
)
def test_sizes(length: int, width: int, words: str | None, model: Model) -> None:
    found = _rule(_body(length, width), model)
    assert found is None if words is None else words[-4:] in (found or "")


def test_sizes_need_geometry(model: Model) -> None:
    assert _rule(_study(_body(180, 260).flair.values), model) is None


# --- pieces ---------------------------------------------------------------------------------------------


def test_probe_is_flair_alone_of_a_few_slices(thick: Phantom, model: Model) -> None:
    given = prepare(thick.study(), model.card.input)
    images = probe(given, 5)
    assert images.shape == (5, 9, *given.images.shape[2:])
    assert (images == images[:, :1]).all()
    fullness = given.images[:, 1].mean(axis=(1, 2)) - given.images[:, 1].min(axis=(1, 2))
    assert (
        images[:, 0].mean(axis=(1, 2)) - images[:, 0].min(axis=(1, 2))
    ).min() > 0.25 * fullness.max()


def _familiar(**changes: object) -> Familiar:
    values: dict[str, object] = {
        "mean": np.zeros(2, np.float32),
        "scale": np.ones(2, np.float32),
        "weights": np.array([[1, 0], [0, 1], [0, 0]], np.float32),
        "intercepts": np.full(3, -1, np.float32),
        "typical": np.full(3, -1, np.float32),
        "limits": np.array([[1, 1, 1], [0, 0, 0]], np.float32),
        "refused_from": 1.25,
    }
    return Familiar(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("features", "distance", "code"),
    [
        ([[0, 0]] * 4, 0.0, CODES[0]),
        ([[0, 1]] * 4, 1.0, CODES[1]),
        ([[2, 0]] * 2 + [[0, 0]] * 2, 1.0, CODES[0]),  # the mean over the slices
        ([[0, 1]], 0.5, CODES[1]),  # of one slice more is allowed
        ([[99, 0]] * 4, 8.0, CODES[0]),  # clipped
        ([[-5, -5]] * 4, 0.0, CODES[2]),  # never below typical
    ],
)
def test_distance(features: list[list[float]], distance: float, code: str) -> None:
    found = _familiar().distance(np.array(features, np.float32))
    assert found == (pytest.approx(distance), code)


@pytest.mark.parametrize(
    "change",
    [
        {"mean": np.zeros(3, np.float32)},
        {"scale": np.zeros(2, np.float32)},
        {"weights": np.full((3, 2), np.nan, np.float32)},
        {"limits": np.full((2, 3), -2, np.float32)},
        {"refused_from": 0.5},
        {"refused_from": float("nan")},
    ],
)
def test_numbers_that_do_not_fit_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"finite|small|refused_from"):
        _familiar(**change)


def test_a_wrong_hash_of_the_numbers(copied: Path) -> None:
    numbers = copied.with_name("joint-4-gate.npz")
    numbers.write_bytes(numbers.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match="not the one of its card"):
        load_model(str(copied))


@pytest.mark.parametrize("content", [b"", b"PK", None])
def test_numbers_that_are_cut_short(copied: Path, content: bytes | None) -> None:
    numbers = copied.with_name("joint-4-gate.npz")
    content = numbers.read_bytes()[:3000] if content is None else content
    numbers.write_bytes(content)
    raw = json.loads(copied.read_text("utf-8"))
    raw["familiar"]["sha256"] = hashlib.sha256(content).hexdigest()
    copied.write_text(json.dumps(raw), "utf-8")
    with pytest.raises(ModelError, match="numbers of the input gate"):
        load_model(str(copied))


def test_a_model_without_numbers_has_the_rules_alone(copied: Path, thick: Phantom) -> None:
    raw = json.loads(copied.read_text("utf-8"))
    del raw["familiar"]
    copied.write_text(json.dumps(raw), "utf-8")
    model = load_model(str(copied))
    assert model.familiar is None
    assert _level(_study(thick.sequences[MrSequence.T1]), model) == ("usual", None)


def test_read_familiar_needs_all_of_it() -> None:
    with pytest.raises(ValueError, match="missing"):
        read_familiar(b"no zip")


def test_a_refused_study_is_not_assessed(thick: Phantom, tmp_path: Path) -> None:
    analysis = analyze(_study(thick.sequences[MrSequence.T1]), settings=Settings())
    assert analysis.status is Status.NOT_ASSESSED
    assert not analysis.mask.any()
    assert analysis.decision.probability is None
    assert analysis.input_check.level == "refused"
    assert analysis.input_check.reason == analysis.decision.reason
    assert "CSF is not dark" in analysis.decision.reason
    assert [flag.code for flag in analysis.flags if flag.code.startswith("NOT_")] == ["NOT_FLAIR"]
    result = write_analysis(analysis, tmp_path / "out")
    assert result["status"] == "not assessed"
    assert not list((tmp_path / "out").glob("*.dcm"))
