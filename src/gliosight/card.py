"""What a model says of itself: the card that travels with its weights (domain layer).

A card is a JSON file beside the ONNX file. The stages take what concerns them: ``prepare`` the
`InputRecipe`, ``infer`` the network's file and hash, ``decide`` the `DecisionRule`. Nothing about a model
is written anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

KINDS = ("joint",)

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
    """

    pixel_mm: float = 0.9375
    field_of_view_mm: float = 240.0
    neighbour_mm: float = 5.0
    predict_every_mm: float = 2.5
    multiple: int = 32
    margin_pixels: int = 6


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
        Logistic combination of the slice head's logit and the pixel evidence's logit.
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


@dataclass(frozen=True)
class ModelCard:
    """A model's card.

    Parameters
    ----------
    name : str
    kind : {"joint"}
        One network for both tasks.
    network : str
        File name of the ONNX file beside the card.
    sha256 : str
        Of that file.
    flip : bool
        Whether the prediction is the mean over the input and its left-right mirror image.
    input : InputRecipe
    decision : DecisionRule
    about : mapping
        Training data, figures, licence: for people.
    """

    name: str
    kind: str
    network: str
    sha256: str
    flip: bool
    input: InputRecipe
    decision: DecisionRule
    about: Mapping[str, Any] = field(default_factory=dict)


def parse_card(raw: object) -> ModelCard:
    """Turn a card's JSON value into a `ModelCard`.

    Raises
    ------
    ValueError
        A field is missing, unknown or of the wrong type; the message names it.
    """
    if not isinstance(raw, dict):
        raise ValueError("a card is a JSON object")
    missing = {"name", "kind", "network", "sha256", "input", "decision"} - raw.keys()
    if missing:
        raise ValueError(f"the card lacks {', '.join(sorted(missing))}")
    if raw["kind"] not in KINDS:
        raise ValueError(f"kind {raw['kind']!r} is not one of {', '.join(KINDS)}")
    for key in ("name", "network", "sha256"):
        if not isinstance(raw[key], str):
            raise ValueError(f"{key} is not a text")
    return ModelCard(
        name=raw["name"],
        kind=raw["kind"],
        network=raw["network"],
        sha256=raw["sha256"],
        flip=bool(raw.get("flip", False)),
        input=_numbers(InputRecipe, raw["input"], "input"),
        decision=_numbers(DecisionRule, raw["decision"], "decision"),
        about=dict(raw.get("about", {})),
    )


def _numbers(kind: type[_T], raw: object, where: str) -> _T:
    if not isinstance(raw, dict):
        raise ValueError(f"{where} is not an object")
    known = {one.name for one in fields(kind)}
    for key, value in raw.items():
        if key not in known:
            raise ValueError(f"{where}.{key} is not known")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{where}.{key} is not a number")
    try:
        return kind(**raw)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error
