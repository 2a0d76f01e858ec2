"""What a model says of itself: the card that travels with its weights (domain layer).

A card is a JSON file beside the ONNX file. The stages take what concerns them: ``prepare`` the
`InputRecipe`, ``infer`` the network's file and hash, ``decide`` the `DecisionRule`. Nothing about a model
is written anywhere else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from gliosight.errors import ModelError

KINDS = ("joint", "cascade")
# What a network does: both tasks, or one of them.
ROLES = {"joint": ("joint",), "cascade": ("detector", "localizer")}
NORMALISATIONS = ("tissue", "unit")

_T = TypeVar("_T", "InputRecipe", "DecisionRule")


@dataclass(frozen=True)
class InputRecipe:
    """What a model asks of its input; part of the model card.

    Parameters
    ----------
    pixel_mm : float
        Side of a pixel in the network frame.
    field_of_view_mm : float
        What the longer side of a picture is taken to show where there is no geometry: a guess used for
        sampling alone, never for a measure.
    neighbour_mm : float
        Distance of the two neighbours; without geometry the adjacent slices are taken.
    predict_every_mm : float
        Slices are predicted at least this often, if there are so many.
    multiple : int
        Sides of the network's input are multiples of this.
    margin_pixels : int
        Air kept around the head's box.
    normalisation : {"tissue", "unit"}
        ``tissue``: clipped, minus the mean of the head's tissue, over its standard deviation. ``unit``:
        scaled to [0, 1]; bytes are divided by 255.
    neighbours : int
        Slices the network sees at once: 3 (below, this, above) or 1.
    matrix : int
        Side of the network's picture in pixels, for networks that take one size alone; 0: as large as
        the head needs.
    """

    pixel_mm: float = 0.9375
    field_of_view_mm: float = 240.0
    neighbour_mm: float = 5.0
    predict_every_mm: float = 2.5
    multiple: int = 32
    margin_pixels: int = 6
    normalisation: str = "tissue"
    neighbours: int = 3
    matrix: int = 0

    def __post_init__(self) -> None:
        if self.normalisation not in NORMALISATIONS or self.neighbours not in (1, 3):
            raise ValueError(f"input {self.normalisation!r} with {self.neighbours!r} neighbours")
        if self.pixel_mm <= 0 or self.matrix < 0 or self.multiple < 1:
            raise ValueError("input sizes are not positive")


@dataclass(frozen=True)
class DecisionRule:
    """The numbers of the rule that `gliosight.decide` applies; see docs/decision.md.

    Parameters
    ----------
    pixel_threshold : float
        A pixel belongs to the mask from this probability on.
    evidence_mm2 : float
        A slice's pixel evidence is the mean probability of its strongest pixels of this area.
    slice_intercept, slice_head_weight, slice_pixel_weight : float
        A slice by itself: logistic combination of the slice head's logit and the pixel evidence's logit.
    slice_threshold : float
        A slice is called tumour from this probability on.
    lesion_intercept, lesion_area_weight, lesion_extent_weight, lesion_slice_weight,
    lesion_pixel_weight : float
        Logistic score of a lesion from the logarithm of its largest area (cm²), the logarithm of its
        extent over the slices (cm), the logit of its best slice probability and the logit of its mean
        pixel probability.
    study_threshold : float
        A study is called tumour when its best lesion scores this much.
    keep_threshold : float
        Further lesions of such a study stay in the mask from this score on.
    context_intercept, context_own_weight, context_beside_weight : float
        A slice's probability: logistic combination of its logit by itself and the logit of the pixel
        evidence to either side. Without them a slice is judged by itself.
    context_mm : float
        How far to either side.
    """

    pixel_threshold: float
    evidence_mm2: float
    slice_intercept: float
    slice_head_weight: float
    slice_pixel_weight: float
    slice_threshold: float
    lesion_intercept: float
    lesion_area_weight: float
    lesion_extent_weight: float
    lesion_slice_weight: float
    lesion_pixel_weight: float
    study_threshold: float
    keep_threshold: float
    context_intercept: float = 0.0
    context_own_weight: float = 1.0
    context_beside_weight: float = 0.0
    context_mm: float = 7.5


@dataclass(frozen=True)
class NetworkFile:
    """The name of an ONNX file beside the card, and its digest."""

    file: str
    sha256: str


@dataclass(frozen=True)
class ModelCard:
    """A model's card.

    Parameters
    ----------
    name : str
    kind : {"joint", "cascade"}
        One network for both tasks; or a detector that decides and a localizer that draws.
    networks : mapping of str to NetworkFile
        By role: ``joint``, or ``detector`` and ``localizer``, one of which may be missing.
    gate : float
        A cascade's localizer draws nothing where the detector says *no tumour* with more than this.
    flip : bool
        Whether the prediction is the mean over the input and its left-right mirror image.
    input : InputRecipe
    decision : DecisionRule
    about : mapping
        Training data, figures, licence: for people.
    """

    name: str
    kind: str
    networks: Mapping[str, NetworkFile]
    flip: bool
    input: InputRecipe
    decision: DecisionRule
    about: Mapping[str, Any] = field(default_factory=dict)
    gate: float = 1.0

    @property
    def sha256(self) -> str:
        """What tells this model's weights from others': its file's digest, or that of its files'."""
        digests = [one.sha256 for one in self.networks.values()]
        if len(digests) == 1:
            return digests[0]
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    @property
    def training_patients(self) -> frozenset[str]:
        """SHA-256 of the names of the patients it was trained on, as far as the card says."""
        training = self.about.get("training")
        lists = [
            self.about.get("patients_sha256"),
            training.get("patients_sha256") if isinstance(training, dict) else None,
        ]
        return frozenset(str(one) for found in lists if found for one in found)

    @property
    def training_splits(self) -> tuple[Mapping[str, Any], ...]:
        """``sha256`` and ``by`` of the split of each training run behind it, as far as the card says."""
        runs = [self.about, *(self.about.get(role) for role in self.networks)]
        found = [
            one["run"] for one in runs if isinstance(one, dict) and isinstance(one.get("run"), dict)
        ]
        return tuple(one["split"] for one in found if isinstance(one.get("split"), dict))

    @property
    def draws(self) -> bool:
        """Whether the model outlines anything: a detector alone does not."""
        return set(self.networks) != {"detector"}


def read_card(path: Path) -> ModelCard:
    """Read a card's file.

    Raises
    ------
    ModelError
        It cannot be read, or is no card.
    """
    try:
        return parse_card(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError, OSError) as error:
        raise ModelError(
            f"unusable model card: {error}", where=path.name, remedy="export the model again"
        ) from error


def parse_card(raw: object) -> ModelCard:
    """Turn a card's JSON value into a `ModelCard`.

    Raises
    ------
    ValueError
        A field is missing, unknown or of the wrong type; the message names it.
    """
    if not isinstance(raw, dict):
        raise ValueError("a card is a JSON object")
    missing = {"name", "kind", "input", "decision"} - raw.keys()
    if missing:
        raise ValueError(f"the card lacks {', '.join(sorted(missing))}")
    if raw["kind"] not in KINDS:
        raise ValueError(f"kind {raw['kind']!r} is not one of {', '.join(KINDS)}")
    if not isinstance(raw["name"], str):
        raise ValueError("name is not a text")
    if not isinstance(raw.get("about", {}), dict):
        raise ValueError("about is not an object")
    gate = raw.get("gate", 1.0)
    if isinstance(gate, bool) or not isinstance(gate, (int, float)) or not 0 <= gate <= 1:
        raise ValueError("gate is not a number from 0 to 1")
    return ModelCard(
        name=raw["name"],
        kind=raw["kind"],
        networks=_networks(raw),
        flip=bool(raw.get("flip", False)),
        input=_part(InputRecipe, raw["input"], "input"),
        decision=_part(DecisionRule, raw["decision"], "decision"),
        about=dict(raw.get("about", {})),
        gate=float(gate),
    )


def _networks(raw: Mapping[str, Any]) -> dict[str, NetworkFile]:
    """A joint card names its one file at the top; a cascade has one for each role."""
    roles = ROLES[raw["kind"]]
    given = {"joint": raw} if raw["kind"] == "joint" else raw.get("networks")
    if not isinstance(given, dict) or not given or set(given) - set(roles):
        raise ValueError(f"networks are not {' and '.join(roles)}")
    out = {}
    for role in roles:
        if role not in given:
            continue
        one = given[role]
        texts = [one.get(key) if isinstance(one, dict) else None for key in ("network", "sha256")]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"the card lacks network or sha256 of its {role} network")
        out[role] = NetworkFile(str(texts[0]), str(texts[1]))
    return out


def _part(kind: type[_T], raw: object, where: str) -> _T:
    if not isinstance(raw, dict):
        raise ValueError(f"{where} is not an object")
    known = {one.name for one in fields(kind)}
    for key, value in raw.items():
        if key not in known:
            raise ValueError(f"{where}.{key} is not known")
        wanted = str if key == "normalisation" else (int, float)
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise ValueError(f"{where}.{key} is not a {'word' if wanted is str else 'number'}")
    try:
        return kind(**raw)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error
