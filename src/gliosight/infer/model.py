"""Load a model, check it, and run it over a study (stage: infer).

A model is data: ONNX files and their card; nothing in it is ever executed as Python.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gliosight.analysis import Progress
from gliosight.card import ModelCard, NetworkFile, read_card
from gliosight.errors import ModelError
from gliosight.infer.engine import (
    CPU,
    DEFAULT_ENGINE,
    LONGEST_RUN,
    Engine,
    failure,
    find_engine,
    start_engine,
)
from gliosight.infer.precision import AUTO, FLOAT32, INT8, choose_precision
from gliosight.maps import FAR_BELOW, Maps, NetworkInput, sigmoid

SHIPPED = Path(__file__).resolve().parent.parent / "models"
DEFAULT_MODEL = "joint-4"
# The card in the folder of a finished training.
RUN_CARD = "model.json"
BATCH = 4
# What a model from elsewhere may have: bytes of a network's file, bytes of memory, and seconds for two
# small slices.
LARGEST_NETWORK = 1024**3
MOST_MEMORY = 4 * 1024**3
LONGEST_TRIAL = 15.0
# A logit beyond this is no answer: halves of it would no longer add up, and 30 is as sure as can be.
LARGEST_LOGIT = 1e6
# What a network answers with, by its role.
ANSWERS = {
    "joint": {"mask_logits", "slice_logits"},
    "detector": {"slice_logits"},
    "localizer": {"mask_logits"},
    "gate": {"picture_logits"},
}
# The gate's answers for a picture: what it asks for, another contrast, another plane, anything else.
KINDS_OF_PICTURE = 4
_EXPORT = "export the model again"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Model:
    """A card, and the engines that run its networks, by role.

    A joint network answers both questions. In a cascade a detector decides and a localizer draws where the
    detector does not say no: the tutorial's way. Either may be missing: a detector alone draws nothing; with
    a localizer alone a slice is as likely to show tumour as its likeliest pixel. The input gate's network
    is there where the card has one.
    """

    card: ModelCard
    engines: Mapping[str, Engine]

    @property
    def engine(self) -> Engine:
        """The engine of the network that draws, or of the only one."""
        return self.engines.get("localizer") or next(iter(self.engines.values()))

    def predict(self, network_input: NetworkInput, progress: Progress | None = None) -> Maps:
        """Predict a study's maps; ``progress`` counts slices."""
        masks = np.empty((len(network_input), *network_input.images.shape[2:]), dtype=np.float32)
        slices = np.empty(len(network_input), dtype=np.float32)
        done = 0
        for batch in network_input.batches(BATCH):
            mask_logits, slice_logits = self._answer(np.ascontiguousarray(batch))
            if self.card.flip:  # the mean over the input and its mirror image
                other_mask, other_slice = self._answer(np.ascontiguousarray(batch[..., ::-1]))
                mask_logits = (mask_logits + other_mask[..., ::-1]) * np.float32(0.5)
                slice_logits = (slice_logits + other_slice) * np.float32(0.5)
            rows = slice(done, done := done + len(batch))
            masks[rows], slices[rows] = mask_logits, slice_logits
            if progress is not None:
                progress("infer", done, len(network_input))
        return network_input.plan.restore(masks, slices)

    def _answer(self, batch: Floats) -> tuple[Floats, Floats]:
        """Logits of each pixel and of each slice."""
        if "joint" in self.engines:
            answer = self.ask("joint", batch)
            return answer["mask_logits"][:, 0], answer["slice_logits"]
        masks = np.full((len(batch), *batch.shape[2:]), FAR_BELOW, dtype=np.float32)
        drawn = np.ones(len(batch), dtype=bool)
        slices = None
        if "detector" in self.engines:
            slices = self.ask("detector", batch)["slice_logits"]
            drawn = sigmoid(-slices) <= self.card.gate
        if "localizer" in self.engines and drawn.any():
            answer = self.ask("localizer", np.ascontiguousarray(batch[drawn]))
            masks[drawn] = answer["mask_logits"][:, 0]
        return masks, masks.max(axis=(1, 2)) if slices is None else slices

    def classify(self, pictures: Floats) -> Floats:
        """The gate's logits ``(b, 4)`` of pictures ``(b, side, side)``, see `gliosight.gate`."""
        return self.ask("gate", np.ascontiguousarray(pictures[:, None]))["picture_logits"]

    def ask(self, role: str, batch: Floats, seconds: float = LONGEST_RUN) -> Mapping[str, Floats]:
        """A network's answer, checked.

        Raises
        ------
        ModelError
            The engine fails, or an answer has another shape or type, or holds numbers that are no logits.
        LimitExceededError
            Memory ran out.
        """
        where = self._file(role)
        try:
            answer = self.engines[role].run(batch, seconds)
        except Exception as error:
            what = f"the {role} network fails on images of the shape {batch.shape}"
            raise failure(error, what, where=where, remedy=_EXPORT) from error
        count, _, rows, columns = batch.shape
        shapes = {
            "mask_logits": (count, 1, rows, columns),
            "slice_logits": (count,),
            "picture_logits": (count, KINDS_OF_PICTURE),
        }
        for name in sorted(ANSWERS[role]):
            values, problem = answer[name], None
            shape = shapes[name]
            if values.shape != shape or values.dtype != np.float32:
                problem = f"{values.dtype} of the shape {values.shape}, not float32 of {shape}"
            elif not (np.abs(values) <= LARGEST_LOGIT).all():  # NaN neither
                problem = f"NaN, infinite or beyond {LARGEST_LOGIT:g}"
            if problem is not None:
                what = f"{name} of the {role} network are {problem}"
                raise ModelError(what, where=where, remedy=f"{_EXPORT}, or try another --engine")
        return answer

    def check(self) -> None:
        """Refuse a network that does not answer with what its role needs; raises `ModelError`."""
        for role, engine in self.engines.items():
            if lacking := ANSWERS[role] - set(engine.answers):
                what = f"the {role} network does not answer with {' and '.join(sorted(lacking))}"
                raise ModelError(what, where=self._file(role), remedy=_EXPORT)

    def try_out(self) -> None:
        """Run each network on two small black slices: a broken one fails before a study is read."""
        recipe = self.card.input
        rows = recipe.matrix or recipe.multiple * -(-32 // recipe.multiple)
        columns = recipe.matrix or rows + recipe.multiple
        black = np.zeros((2, 3 * recipe.neighbours, rows, columns), dtype=np.float32)
        for role in self.engines:
            if role == "gate" and self.card.input_check is not None:
                side = self.card.input_check.side
                black = np.zeros((2, 1, side, side), dtype=np.float32)
            self.ask(role, black, LONGEST_TRIAL)

    def _file(self, role: str) -> str:
        """The file of a role's network, for messages."""
        return _files(self.card, self.engines[role].precision)[role].file


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
        if path.suffix == ".json" and path.is_file():
            return path
    except OSError as error:  # a name that is too long, a folder that is closed to us
        what = f"no model {name[:200]!r}: {error.strerror}"
        raise ModelError(what, remedy="check the card's path") from error
    remedy = f"name a shipped one ({', '.join(shipped)}) or the path of a model's .json card"
    raise ModelError(f"no model {name!r}", remedy=remedy)


@dataclass(frozen=True)
class Choice:
    """A model that was found, and what it is run with; its networks are not loaded yet."""

    card: ModelCard
    folder: Path
    shipped: bool
    engine: str
    precision: str
    device: str


def choose_model(
    name: str, *, engine: str = DEFAULT_ENGINE, precision: str = AUTO, device: str = CPU
) -> Choice:
    """Find a model, read its card and choose engine and precision; raises as `load_model`."""
    path = find_card(name)
    card = read_card(path)
    engine = find_engine(engine)
    shipped = path in shipped_models().values()
    precision = choose_precision(precision, engine, card, device)
    return Choice(card, path.parent, shipped, engine, precision, device)


def load_model(
    name: str = DEFAULT_MODEL,
    *,
    engine: str = DEFAULT_ENGINE,
    precision: str = AUTO,
    threads: int | None = None,
    device: str = CPU,
) -> Model:
    """Load a shipped model by name, or any model by the path of its card.

    Raises
    ------
    ModelError
        No such model; a card that is not one; a network that is missing, whose hash differs or which
        does not answer as its card says; an engine or a precision that is not there.
    """
    choice = choose_model(name, engine=engine, precision=precision, device=device)
    memory = None if choice.shipped else MOST_MEMORY
    engines = {}
    for role, file in _files(choice.card, choice.precision).items():
        # The gate's distance has limits that were set in float32.
        own = FLOAT32 if role == "gate" else choice.precision
        content = _content(choice.folder, file)
        # The gate's network is too small to be worth another device.
        on = CPU if role == "gate" else device
        engines[role] = start_engine(
            choice.engine, content, threads, precision=own, memory=memory, device=on
        )
    model = Model(choice.card, engines)
    model.check()
    if not choice.shipped:  # the tests try those out
        model.try_out()
    return model


def _files(card: ModelCard, precision: str) -> dict[str, NetworkFile]:
    """The files of a model's networks, by role."""
    gate = {} if card.input_check is None else {"gate": card.input_check.network}
    files = {
        role: file.int8 if precision == INT8 and file.int8 is not None else file
        for role, file in card.networks.items()
    }
    return {**files, **gate}


def _content(folder: Path, file: NetworkFile) -> bytes:
    """The content of a file beside the card, if it has the hash that the card says."""
    network = folder / file.file
    try:
        status = network.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_NETWORK:
            what = "the model's network is not a file of at most 1 GiB"
            raise ModelError(what, where=network.name, remedy=_EXPORT)
        content = network.read_bytes()
    except OSError as error:
        what = f"the model's network cannot be read: {error.strerror}"
        raise ModelError(what, where=network.name, remedy=_EXPORT) from error
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != file.sha256:
        raise ModelError(
            f"the network is not the one of its card: sha256 {sha256[:12]}…, not {file.sha256[:12]}…",
            where=network.name,
            remedy="install gliosight again, or export the model again",
        )
    return content
