"""Load a model, check it, and run it over a study (stage: infer).

In: the name of a shipped model or the path of a card, then a `NetworkInput`. Out: `Maps`. A model is data:
an ONNX file and its card; nothing in it is ever executed as Python.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from gliosight.card import ModelCard, parse_card
from gliosight.errors import ModelError
from gliosight.infer.engine import DEFAULT_ENGINE, Engine, start_engine
from gliosight.maps import Maps, NetworkInput

SHIPPED = Path(__file__).resolve().parent.parent / "models"
DEFAULT_MODEL = "joint-1"
# A network file larger than this is not one of ours: refuse before reading it (bytes).
LARGEST_NETWORK = 1024**3
BATCH = 4
HALF = np.float32(0.5)

Progress = Callable[[int, int], None]


class Model(Protocol):
    """Anything that turns a network input into maps."""

    @property
    def card(self) -> ModelCard:
        """What the model says of itself."""
        ...

    @property
    def engine(self) -> Engine:
        """What runs its network."""
        ...

    def predict(self, given: NetworkInput, progress: Progress | None = None) -> Maps:
        """Predict a study; ``progress`` is told (slices done, slices in all)."""
        ...


@dataclass(frozen=True)
class JointModel:
    """One network for mask and slice label."""

    card: ModelCard
    engine: Engine

    def predict(self, given: NetworkInput, progress: Progress | None = None) -> Maps:
        """See `Model.predict`."""
        masks, slices = [], []
        done = 0
        for batch in given.batches(BATCH):
            mask_logits, slice_logits = self.engine.run(np.ascontiguousarray(batch))
            if self.card.flip:
                mirrored = np.ascontiguousarray(batch[..., ::-1])
                other_mask, other_slice = self.engine.run(mirrored)
                mask_logits = (mask_logits + other_mask[..., ::-1]) * HALF
                slice_logits = (slice_logits + other_slice) * HALF
            masks.append(mask_logits)
            slices.append(slice_logits)
            done += len(batch)
            if progress is not None:
                progress(done, len(given))
        logits = np.concatenate(masks)
        if not np.isfinite(logits).all():
            raise ModelError(
                "the network answered with values that are no numbers",
                where=self.card.name,
                remedy="try the other --engine; if it persists, report the input's kind to us",
            )
        return given.plan.restore(logits, np.concatenate(slices))


def shipped_models() -> dict[str, Path]:
    """Names of the shipped models and where their cards are."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.json"))}


def load_model(
    name: str = DEFAULT_MODEL, *, engine: str = DEFAULT_ENGINE, threads: int | None = None
) -> Model:
    """Load a shipped model by name, or any model by the path of its card.

    Raises
    ------
    ModelError
        No such model; a card that is not one; a network that is missing or whose hash differs; an
        engine that is not there.
    """
    shipped = shipped_models()
    path = shipped.get(name)
    if path is None:
        path = Path(name)
        path = path / "card.json" if path.is_dir() else path
        if path.suffix != ".json" or not path.is_file():
            known = ", ".join(shipped) or "none"
            raise ModelError(
                f"no model {name!r}",
                remedy=f"name a shipped one ({known}) or the path of a model's .json card",
            )
    try:
        card = parse_card(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, OSError) as error:
        raise ModelError(
            f"unusable model card: {error}", where=path.name, remedy="export the model again"
        ) from error
    network = path.parent / Path(card.network).name
    try:
        if network.stat().st_size > LARGEST_NETWORK:
            raise ModelError("the network's file is over 1 GiB", where=network.name)
        content = network.read_bytes()
    except OSError as error:
        raise ModelError(
            "the model's network cannot be read", where=network.name, remedy=_reason(error)
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != card.sha256:
        raise ModelError(
            f"the network is not the one of its card: sha256 {found[:12]}…, not {card.sha256[:12]}…",
            where=network.name,
            remedy="install gliosight again, or export the model again",
        )
    return JointModel(card, start_engine(engine, content, threads))


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
