"""Load a model, check it, and run it over a study (stage: infer).

In: the name of a shipped model or the path of a card, then a `NetworkInput`. Out: `Maps`. A model is data:
ONNX files and their card; nothing in it is ever executed as Python.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gliosight.analysis import Progress
from gliosight.card import ModelCard, NetworkFile, read_card
from gliosight.errors import ModelError
from gliosight.infer.engine import (
    DEFAULT_ENGINE,
    LONGEST_RUN,
    MOST_MEMORY,
    Engine,
    reason_of,
    refuse_memory,
    start_engine,
)
from gliosight.maps import FAR_BELOW, Maps, NetworkInput, sigmoid

SHIPPED = Path(__file__).resolve().parent.parent / "models"
DEFAULT_MODEL = "joint-4"
# The card in the folder of a finished training.
RUN_CARD = "model.json"
# A network file larger than this is not one of ours: refuse before reading it (bytes).
LARGEST_NETWORK = 1024**3
BATCH = 4
# A network that is tried out on two small slices answers within this time (seconds).
LONGEST_TRIAL = 15.0
HALF = np.float32(0.5)
# What a network has to answer with, by its role.
ANSWERS = {
    "joint": {"mask_logits", "slice_logits"},
    "detector": {"slice_logits"},
    "localizer": {"mask_logits"},
}

# A logit beyond this is no answer: halves of it would no longer add up, and 30 is as sure as can be.
LARGEST_LOGIT = 1e6

Floats = NDArray[np.float32]


class Model(Protocol):
    """Anything that turns a network input into maps."""

    @property
    def card(self) -> ModelCard:
        """What the model says of itself."""
        ...

    @property
    def engine(self) -> Engine:
        """What runs its networks."""
        ...

    def predict(self, given: NetworkInput, progress: Progress | None = None) -> Maps:
        """Predict a study; ``progress`` is called with the slices done, and those in all."""
        ...


@dataclass(frozen=True)
class JointModel:
    """One network for mask and slice label."""

    card: ModelCard
    engine: Engine

    def predict(self, given: NetworkInput, progress: Progress | None = None) -> Maps:
        """See `Model.predict`."""
        return _predict(self.card, given, self._answer, progress)

    def _answer(self, batch: Floats) -> tuple[Floats, Floats]:
        answer = ask(self.card, "joint", self.engine, batch)
        return answer["mask_logits"][:, 0], answer["slice_logits"]


@dataclass(frozen=True)
class CascadeModel:
    """A detector decides, a localizer draws where it does not say no: the tutorial's way.

    Either may be missing. A detector alone draws nothing; with a localizer alone a slice is as likely
    to show tumour as its likeliest pixel.
    """

    card: ModelCard
    detector: Engine | None
    localizer: Engine | None

    @property
    def engine(self) -> Engine:
        """See `Model.engine`."""
        engine = self.localizer or self.detector
        assert engine is not None  # noqa: S101 - a card has at least one network
        return engine

    def predict(self, given: NetworkInput, progress: Progress | None = None) -> Maps:
        """See `Model.predict`."""
        return _predict(self.card, given, self._answer, progress)

    def _answer(self, batch: Floats) -> tuple[Floats, Floats]:
        masks = np.full((len(batch), *batch.shape[2:]), FAR_BELOW, dtype=np.float32)
        drawn = np.ones(len(batch), dtype=bool)
        slices = None
        if self.detector is not None:
            slices = ask(self.card, "detector", self.detector, batch)["slice_logits"]
            drawn = sigmoid(-slices) <= self.card.gate
        if self.localizer is not None and drawn.any():
            chosen = np.ascontiguousarray(batch[drawn])
            answer = ask(self.card, "localizer", self.localizer, chosen)
            masks[drawn] = answer["mask_logits"][:, 0]
        return masks, masks.max(axis=(1, 2)) if slices is None else slices


def _predict(
    card: ModelCard,
    given: NetworkInput,
    answer: Callable[[Floats], tuple[Floats, Floats]],
    progress: Progress | None,
) -> Maps:
    """Predict all slices, with the mirror image where the card says so, and come back."""
    masks = np.empty((len(given), *given.images.shape[2:]), dtype=np.float32)
    slices = np.empty(len(given), dtype=np.float32)
    done = 0
    for batch in given.batches(BATCH):
        mask_logits, slice_logits = answer(np.ascontiguousarray(batch))
        if card.flip:
            other_mask, other_slice = answer(np.ascontiguousarray(batch[..., ::-1]))
            mask_logits = (mask_logits + other_mask[..., ::-1]) * HALF
            slice_logits = (slice_logits + other_slice) * HALF
        masks[done : done + len(batch)] = mask_logits
        slices[done : done + len(batch)] = slice_logits
        done += len(batch)
        if progress is not None:
            progress("infer", done, len(given))
    return given.plan.restore(masks, slices)


def ask(
    card: ModelCard, role: str, engine: Engine, batch: Floats, seconds: float = LONGEST_RUN
) -> Mapping[str, Floats]:
    """A network's answer, checked.

    Raises
    ------
    ModelError
        The engine fails, or an answer has another shape or type, or holds numbers that are no logits.
    """
    where = card.networks[role].file
    try:
        answer = engine.run(batch, seconds)
    except Exception as error:
        refuse_memory(error)
        raise ModelError(
            f"the {role} network fails on images of the shape {batch.shape}: {reason_of(error)}",
            where=where,
            remedy="export the model again, or try another --engine",
        ) from error
    count, _, rows, columns = batch.shape
    shapes = {"mask_logits": (count, 1, rows, columns), "slice_logits": (count,)}
    for name in sorted(ANSWERS[role]):
        values = answer[name]
        if values.shape != shapes[name] or values.dtype != np.float32:
            raise ModelError(
                f"{name} of the {role} network are {values.dtype} of the shape {values.shape}, "
                f"not float32 of {shapes[name]}",
                where=where,
                remedy="export the model again",
            )
        if not (np.abs(values) <= LARGEST_LOGIT).all():  # NaN neither
            raise ModelError(
                f"{name} of the {role} network are NaN, infinite or beyond {LARGEST_LOGIT:g}",
                where=where,
                remedy="export the model again, or try another --engine",
            )
    return answer


def shipped_models() -> dict[str, Path]:
    """Names of the shipped models and where their cards are."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.json"))}


def find_card(name: str) -> Path:
    """Where the card of a model is, from its name or the path of its card or of a finished run.

    Raises
    ------
    ModelError
        There is no such model.
    """
    shipped = shipped_models()
    if name in shipped:
        return shipped[name]
    path = Path(name)
    try:
        path = path / RUN_CARD if path.is_dir() else path
        there = path.suffix == ".json" and path.is_file()
    except OSError as error:  # a name that is too long, a folder that is closed to us
        raise ModelError(
            f"no model {str(name)[:200]!r}: {_reason(error)}", remedy="check the card's path"
        ) from error
    if not there:
        known = ", ".join(shipped) or "none"
        raise ModelError(
            f"no model {name!r}",
            remedy=f"name a shipped one ({known}) or the path of a model's .json card",
        )
    return path


def load_model(
    name: str = DEFAULT_MODEL, *, engine: str = DEFAULT_ENGINE, threads: int | None = None
) -> JointModel | CascadeModel:
    """Load a shipped model by name, or any model by the path of its card.

    Raises
    ------
    ModelError
        No such model; a card that is not one; a network that is missing, whose hash differs or which
        does not answer as its card says; an engine that is not there.
    """
    path = find_card(name)
    card = read_card(path)
    shipped = path in shipped_models().values()
    engines = {
        role: start_engine(
            engine,
            _checked(path.parent, one),
            threads,
            memory=None if shipped else MOST_MEMORY,
        )
        for role, one in card.networks.items()
    }
    check_answers(card, engines)
    if not shipped:  # the tests try those out
        try_out(card, engines)
    if card.kind == "joint":
        return JointModel(card, engines["joint"])
    return CascadeModel(card, engines.get("detector"), engines.get("localizer"))


def _checked(folder: Path, given: NetworkFile) -> bytes:
    """A network's file, after its hash was held against the card's."""
    network = folder / given.file
    try:
        status = network.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_NETWORK:
            raise ModelError(
                "the model's network is not a file of at most 1 GiB",
                where=network.name,
                remedy="export the model again",
            )
        content = network.read_bytes()
    except OSError as error:
        raise ModelError(
            "the model's network cannot be read", where=network.name, remedy=_reason(error)
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != given.sha256:
        raise ModelError(
            f"the network is not the one of its card: sha256 {found[:12]}…, not {given.sha256[:12]}…",
            where=network.name,
            remedy="install gliosight again, or export the model again",
        )
    return content


def check_answers(card: ModelCard, engines: Mapping[str, Engine]) -> None:
    """A network in the wrong place would fail in the middle of a study: look before."""
    for role, engine in engines.items():
        lacking = ANSWERS[role] - set(engine.answers)
        if lacking:
            raise ModelError(
                f"the {role} network does not answer with {' and '.join(sorted(lacking))}",
                where=card.networks[role].file,
                remedy="export the model again",
            )


def try_out(card: ModelCard, engines: Mapping[str, Engine]) -> None:
    """Run each network on two small black slices, so that a broken one fails before a study is read."""
    recipe = card.input
    rows = recipe.matrix or recipe.multiple * -(-32 // recipe.multiple)
    columns = recipe.matrix or rows + recipe.multiple
    black = np.zeros((2, 3 * recipe.neighbours, rows, columns), dtype=np.float32)
    for role, engine in engines.items():
        ask(card, role, engine, black, LONGEST_TRIAL)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
