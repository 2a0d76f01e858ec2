"""The input gate: a table of inputs, one of each kind; every rule; what the network's answers mean."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gliosight.analysis import Status
from gliosight.card import InputCheckRule
from gliosight.errors import ModelError
from gliosight.gate import CODES, broken_rule, check_input, distance_of, pictures
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
    check = check_input(study, given, model.card.input_check, model.classify)
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
    assert _level(_study(_plane(thick, axis)), model) == ("refused", "NOT_AXIAL")


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


# --- the rules, without the network ---------------------------------------------------------


def _rule(study: Study, model: Model) -> str | None:
    check = broken_rule(study, prepare(study, model.card.input))
    return None if check is None else f"{check.code}: {check.reason}"


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


def test_a_single_coronal_slice_cannot_be_turned(thick: Phantom, model: Model) -> None:
    geometry = thick.geometry
    values = np.moveaxis(thick.sequences[MrSequence.FLAIR], 1, 0)[128:129]
    turned = Geometry(
        geometry.origins[:1],
        np.array([0.0, 0, 1]),
        geometry.column_direction,
        (4.5, geometry.spacing[1]),
    )
    assert (_rule(_study(values, turned), model) or "").startswith("NOT_AXIAL")


def test_sizes_need_geometry(model: Model) -> None:
    assert _rule(_study(_body(180, 260).flair.values), model) is None


# --- pieces ---------------------------------------------------------------------------------------------


def test_pictures_are_slices_spread_over_the_head(thick: Phantom, model: Model) -> None:
    given = prepare(thick.study(), model.card.input)
    small = pictures(given, 112, 5)
    assert small.shape == (5, 112, 112)
    assert small.min() == 0
    assert small.max() == 1
    # The longer side fills the picture, the other one lies in its middle.
    rows, columns = given.images.shape[2:]
    assert rows > columns
    border = (112 - round(112 * columns / rows)) // 2
    assert border > 0
    assert not small[:, :, :border].any()
    assert not small[:, :, -border:].any()
    assert (small.mean(axis=(1, 2)) > 0.25 * small.mean(axis=(1, 2)).max()).all()
    assert len(pictures(given, 112, 100)) > 25


RULE = InputCheckRule("gate.onnx", "0" * 64, 112, -4.0, 2.0, 0.0, 1.1)


@pytest.mark.parametrize(
    ("logits", "distance", "code"),
    [
        ([[4, -40, -40, 0]] * 6, 0.0, "NOT_A_HEAD"),
        ([[0, 0, -40, -40]] * 6, 1.0, "NOT_FLAIR"),
        ([[0, -40, 4, -40]] * 3 + [[8, -40, 4, -40]] * 3, 1.0, "NOT_AXIAL"),  # mean over the slices
        ([[0, -40, 2, -40]], 1.0, "NOT_AXIAL"),  # of one slice more is allowed
        ([[0, -40, 2, -40]] * 4, 1.0, "NOT_AXIAL"),  # of four, too
        ([[-99, 0, 1, 0]] * 6, 2.5, "NOT_AXIAL"),  # clipped
        ([[9, 0, 0, 1]] * 6, 0.0, "NOT_A_HEAD"),  # never below typical
        ([[0, -0.7, -0.7, -40]] * 6, 1.0, "NOT_FLAIR"),  # two kinds together are foreign
    ],
)
def test_distance(logits: list[list[float]], distance: float, code: str) -> None:
    found = distance_of(np.array(logits, np.float32), RULE)
    assert found == (pytest.approx(distance, abs=0.01), code)
    assert code in CODES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"side": 4}, "side is not a number from 32"),
        ({"side": "112"}, "side is not a whole number"),
        ({"refused_from": 0.5}, "refused_from is not a number from 1"),
        ({"typical": 3.0}, "not above typical"),
        ({"typical": None}, "typical"),
        ({"file": "../gate.onnx"}, "not the name of a file"),
        ({"colour": 1}, "input_check.colour is not known"),
    ],
)
def test_a_card_whose_gate_does_not_fit(
    copied: Path, change: dict[str, object], message: str
) -> None:
    raw = json.loads(copied.read_text("utf-8"))
    gate = raw["input_check"] | change
    raw["input_check"] = {key: value for key, value in gate.items() if value is not None}
    copied.write_text(json.dumps(raw), "utf-8")
    with pytest.raises(ModelError, match=message):
        load_model(str(copied))


def test_the_page_names_the_limit_of_the_shipped_card(model: Model) -> None:
    page = Path(__file__).resolve().parent.parent.joinpath("docs/trust.md").read_text("utf-8")
    assert model.card.input_check is not None
    assert f"from {model.card.input_check.refused_from:.2f} on it is refused" in page


def test_another_network_than_the_card_says(copied: Path) -> None:
    network = copied.with_name("joint-4-gate.onnx")
    network.write_bytes(network.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match="not the one of its card"):
        load_model(str(copied))


def test_a_gate_that_answers_with_something_else(copied: Path) -> None:
    raw = json.loads(copied.read_text("utf-8"))
    raw["input_check"] |= {"file": raw["network"], "sha256": raw["sha256"]}
    copied.write_text(json.dumps(raw), "utf-8")
    with pytest.raises(ModelError, match="gate network does not answer with picture_logits"):
        load_model(str(copied))


def test_a_model_without_a_gate_has_the_rules_alone(copied: Path, thick: Phantom) -> None:
    raw = json.loads(copied.read_text("utf-8"))
    del raw["input_check"]
    copied.write_text(json.dumps(raw), "utf-8")
    model = load_model(str(copied))
    assert model.card.input_check is None
    assert _level(_study(thick.sequences[MrSequence.T1]), model) == ("usual", None)


def test_a_refused_study_is_not_assessed(thick: Phantom, tmp_path: Path) -> None:
    analysis = analyze(_study(thick.sequences[MrSequence.T1]), settings=Settings())
    assert analysis.status is Status.NOT_ASSESSED
    assert not analysis.mask.any()
    assert analysis.decision.probability is None
    assert analysis.input_check.level == "refused"
    assert analysis.input_check.reason == analysis.decision.reason
    assert "contrast is not that of a FLAIR" in analysis.decision.reason
    assert [flag.code for flag in analysis.flags if flag.code.startswith("NOT_")] == ["NOT_FLAIR"]
    result = write_analysis(analysis, tmp_path / "out")
    assert result["status"] == "not assessed"
    assert not list((tmp_path / "out").glob("*.dcm"))
