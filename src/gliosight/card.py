"""What a model says of itself: the card that travels with its weights (domain layer).

A card is a JSON file beside the ONNX file. The stages take what concerns them: ``prepare`` the
`InputRecipe`, ``infer`` the network's file and hash, ``decide`` the `DecisionRule`. Nothing about a model
is written anywhere else.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from gliosight.errors import ModelError

KINDS = ("joint", "cascade")
# What a network does: both tasks, or one of them.
ROLES = {"joint": ("joint",), "cascade": ("detector", "localizer")}
NORMALISATIONS = ("tissue", "unit")

# A card has a few kilobytes; a larger file than this is refused (bytes).
LARGEST_CARD = 4 * 1024**2
LONGEST_NAME = 200
MOST_DIGITS = 100
# Between which bounds a card's numbers must lie: beyond them nothing could be computed, or all the memory
# would be used for it.
RANGES: Mapping[str, tuple[float, float]] = {
    "pixel_mm": (0.1, 10),
    "field_of_view_mm": (10, 1000),
    "neighbour_mm": (0.1, 100),
    "predict_every_mm": (0.1, 1000),
    "multiple": (1, 1024),
    "margin_pixels": (0, 1024),
    "neighbours": (1, 3),
    "matrix": (0, 4096),
    "pixel_threshold": (0, 1),
    "evidence_mm2": (0, 1e5),
    "slice_threshold": (0, 1),
    "slice_given_tumour": (0, 1),
    "keep_threshold": (0, 1),
    "context_mm": (0, 1000),
    "prevalence": (0, 1),
    "uncertain_from": (0, 1),
    "found_from": (0, 1),
    "missed_half_ml": (0, 1e4),
    "missed_tenth_ml": (0, 1e4),
    "gate": (0, 1),
    "side": (32, 512),
    "refused_from": (1, 1e3),
}
# Intercepts and weights.
LARGEST_WEIGHT = 1e6
_SHA256 = re.compile("[0-9a-f]{64}")

_T = TypeVar("_T", "InputRecipe", "DecisionRule", "InputCheckRule")


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
        _check_ranges(self)


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
    keep_threshold : float
        Further lesions than the best stay in the mask from this score on.
    study_intercept, study_weight : float
        The study's probability: logistic function of the logit of its best lesion's score.
    prevalence : float
        Share of studies with tumour among those that the study's numbers were fitted on; 0 where they were
        not fitted, so that the probability is a score and cannot be recomputed for another share.
    uncertain_from, found_from : float
        From which probability on the verdict is uncertain, and tumour found.
    volume_low, volume_high : float
        The 5 % and 95 % quantile of log(true volume / marked volume) as a part of the outline's softness,
        see `gliosight.decide`; both 0 where they were not fitted: then no interval is given.
    missed_half_ml, missed_tenth_ml : float
        Volume of lesions of which a half, or a tenth, was missed in tests; 0 where that was not tested.
    context_intercept, context_own_weight, context_beside_weight : float
        A slice's probability: logistic combination of its logit by itself and the logit of the pixel
        evidence to either side. Without them a slice is judged by itself.
    context_mm : float
        How far to either side.
    slice_given_tumour : int
        1: the slice's numbers were fitted on studies with tumour, and its probability is the product with the
        study's; 0: it stands alone.
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
    keep_threshold: float
    context_intercept: float = 0.0
    context_own_weight: float = 1.0
    context_beside_weight: float = 0.0
    context_mm: float = 7.5
    slice_given_tumour: int = 0
    study_intercept: float = 0.0
    study_weight: float = 1.0
    prevalence: float = 0.0
    uncertain_from: float = 0.5
    found_from: float = 0.5
    volume_low: float = 0.0
    volume_high: float = 0.0
    missed_half_ml: float = 0.0
    missed_tenth_ml: float = 0.0

    def __post_init__(self) -> None:
        _check_ranges(self)
        if not self.uncertain_from <= self.found_from:
            raise ValueError("uncertain_from is above found_from")
        if not self.volume_low <= self.volume_high:
            raise ValueError("volume_low is above volume_high")

    def for_another_network(self) -> DecisionRule:
        """The rule without what was measured on one network: calibration, interval, missed volumes."""
        return replace(
            self,
            prevalence=0.0,
            volume_low=0.0,
            volume_high=0.0,
            missed_half_ml=0.0,
            missed_tenth_ml=0.0,
        )


@dataclass(frozen=True)
class NetworkFile:
    """The name of a file beside the card, and its digest; ``int8`` is the same network, quantised."""

    file: str
    sha256: str
    int8: NetworkFile | None = None


@dataclass(frozen=True)
class InputCheckRule:
    """The input gate's network, and what its answers mean.

    Parameters
    ----------
    file, sha256 : str
        The network beside the card, and its digest.
    side : int
        Pixels along a side of its pictures.
    typical : float
        Log odds that a study is foreign: the median of true ones.
    unusual_single, unusual_stack : float
        Log odds from which up to four slices, and more, are unusual.
    refused_from : float
        The distance from which a study is refused: it is 0 at ``typical`` and 1 where it is unusual.
    """

    file: str
    sha256: str
    side: int
    typical: float
    unusual_single: float
    unusual_stack: float
    refused_from: float

    def __post_init__(self) -> None:
        _check_ranges(self)
        if not self.typical < min(self.unusual_single, self.unusual_stack):
            raise ValueError("unusual_single or unusual_stack is not above typical")

    @property
    def network(self) -> NetworkFile:
        """The network's file."""
        return NetworkFile(self.file, self.sha256)


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
    input_check : InputCheckRule, optional
        The network of the input gate, see `gliosight.gate`; without it the gate has its rules alone.
    bfloat16 : bool
        Whether its masks in bfloat16 were held against those in float32, so that it may be chosen by itself.
    """

    name: str
    kind: str
    networks: Mapping[str, NetworkFile]
    flip: bool
    input: InputRecipe
    decision: DecisionRule
    about: Mapping[str, Any] = field(default_factory=dict)
    gate: float = 1.0
    input_check: InputCheckRule | None = None
    bfloat16: bool = False

    @property
    def sha256(self) -> str:
        """What tells this model's weights from others': its file's digest, or that of its files'."""
        digests = [network.sha256 for network in self.networks.values()]
        if len(digests) == 1:
            return digests[0]
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    @property
    def training_patients(self) -> frozenset[str]:
        """SHA-256 of the names of the patients it was trained on, as far as the card says."""
        parts = (self.about, self.about.get("training"))
        lists = [part.get("patients_sha256") for part in parts if isinstance(part, Mapping)]
        names = [name for names in lists if isinstance(names, list) for name in names]
        return frozenset(name for name in names if isinstance(name, str))

    @property
    def training_splits(self) -> tuple[Mapping[str, Any], ...]:
        """``sha256`` and ``by`` of the split of each training run behind it, as far as the card says."""
        parts = [self.about, *(self.about.get(role) for role in self.networks)]
        runs = [part.get("run") for part in parts if isinstance(part, Mapping)]
        splits = [run.get("split") for run in runs if isinstance(run, dict)]
        return tuple(split for split in splits if isinstance(split, dict))

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
        raw = json.loads(
            _text_of(path),
            object_pairs_hook=_without_repeats,
            parse_int=_short_number,
            parse_constant=_no_constant,
        )
        return parse_card(raw)
    except (ValueError, RecursionError, OSError) as error:
        raise ModelError(
            f"unusable model card: {str(error)[:LONGEST_NAME]}",
            where=path.name,
            remedy="export the model again",
        ) from error


def _text_of(path: Path) -> str:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_CARD:
        raise ValueError(f"not a file of at most {LARGEST_CARD // 1024**2} MiB")
    return path.read_text(encoding="utf-8")


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
    if not isinstance(raw["name"], str) or not 0 < len(raw["name"]) <= LONGEST_NAME:
        raise ValueError(f"name is not a text of 1 to {LONGEST_NAME} characters")
    if not isinstance(raw.get("about", {}), dict):
        raise ValueError("about is not an object")
    for name in ("flip", "bfloat16"):
        if not isinstance(raw.get(name, False), bool):
            raise ValueError(f"{name} is not true or false")
    gate = raw.get("gate", 1.0)
    _check_type("gate", gate, (int, float))
    _check_range("gate", gate)
    return ModelCard(
        name=raw["name"],
        kind=raw["kind"],
        networks=_networks(raw),
        flip=raw.get("flip", False),
        input=_part(InputRecipe, raw["input"], "input"),
        decision=parse_rule(raw["decision"]),
        about=dict(raw.get("about", {})),
        gate=float(gate),
        input_check=_input_check(raw["input_check"]) if "input_check" in raw else None,
        bfloat16=raw.get("bfloat16", False),
    )


def parse_rule(raw: object) -> DecisionRule:
    """Turn a rule's JSON value into a `DecisionRule`; raises ``ValueError`` as `parse_card`."""
    return _part(DecisionRule, raw, "decision")


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
        file = _file(given[role], "network", f"{role} network")
        if "int8" in given[role]:
            int8 = _file(given[role]["int8"], "network", f"{role} network in int8")
            file = replace(file, int8=int8)
        out[role] = file
    return out


def _file(raw: object, key: str, what: str) -> NetworkFile:
    """A file beside the card: its name under ``key``, and its digest."""
    entry = raw if isinstance(raw, dict) else {}
    texts = [entry.get(name) for name in (key, "sha256")]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"the card lacks {key} or sha256 of its {what}")
    file, digest = str(texts[0]), str(texts[1]).lower()
    if file in ("", ".", "..") or set(file) & set("/\\\0"):
        raise ValueError(f"{key} {file!r} is not the name of a file beside the card")
    if not _SHA256.fullmatch(digest):
        raise ValueError(f"sha256 of its {what} is not 64 hexadecimal digits")
    return NetworkFile(file, digest)


def _input_check(raw: object) -> InputCheckRule:
    _file(raw, "file", "input_check")
    return _part(InputCheckRule, raw, "input_check")


def _part(kind: type[_T], raw: object, where: str) -> _T:
    if not isinstance(raw, dict):
        raise ValueError(f"{where} is not an object")
    types = {"str": (str,), "int": (int,), "float": (int, float)}
    known = {part.name: types[str(part.type)] for part in fields(kind)}
    for key, value in raw.items():
        if key not in known:
            raise ValueError(f"{where}.{key} is not known")
        _check_type(f"{where}.{key}", value, known[key])
    try:
        return kind(**raw)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error


def _check_type(name: str, value: object, types: tuple[type, ...]) -> None:
    # To Python a bool is a number; in a card it is a mistake.
    if isinstance(value, bool) or not isinstance(value, types):
        words = {str: "a word", int: "a whole number", float: "a number"}
        raise ValueError(f"{name} is not {words[types[-1]]}")


def _check_range(name: str, value: float) -> None:
    low, high = RANGES.get(name, (-LARGEST_WEIGHT, LARGEST_WEIGHT))
    if not low <= value <= high:  # NaN neither
        raise ValueError(f"{name} is not a number from {low:g} to {high:g}")


def _check_ranges(part: InputRecipe | DecisionRule | InputCheckRule) -> None:
    for name, value in asdict(part).items():
        if not isinstance(value, str):
            _check_range(name, value)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        raise ValueError("a field is there twice")
    return out


def _short_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number has {len(digits):,} digits")
    return int(digits)


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is not a number")
