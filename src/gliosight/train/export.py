"""A run to a model that the product runs (training bench; torch, onnx).

In: a run's folder. Out: an ONNX file with dynamic batch and sides, its weights once more as safetensors to
start other trainings from, and its card. Two runs, a detector's and a localizer's, become one cascade.
Every export is checked against torch on random input before it is kept.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gliosight.card import DecisionRule, InputRecipe, read_card
from gliosight.errors import (
    CannotWriteError,
    InternalError,
    NothingReadableError,
    UsageError,
)
from gliosight.infer.model import DEFAULT_MODEL, RUN_CARD, SHIPPED
from gliosight.train.networks.resnet import SIZE, Detector
from gliosight.train.recipe import Recipe, recipe_of
from gliosight.train.run import read_record
from gliosight.train.tasks import build_network

# The largest difference of a logit, as a part of the largest one, that is taken for rounding: of the order
# of the sums; and of the weights, into which batch norms have been folded, to float16.
EXACT, ROUNDED = 1e-3, 2e-2
OPSET = 18
# Weights larger than this are stored as float16, which halves the file; computed is in float32.
STORE_HALF_FROM = 512

# Of a network that does one task: its own answer decides, and nothing it marks is weighed away.
PLAIN_RULE = DecisionRule(
    pixel_threshold=0.5,
    evidence_mm2=25.0,
    slice_intercept=0.0,
    slice_head_weight=1.0,
    slice_pixel_weight=0.0,
    slice_threshold=0.5,
    lesion_intercept=0.0,
    lesion_area_weight=0.0,
    lesion_extent_weight=0.0,
    lesion_slice_weight=1.0,
    lesion_pixel_weight=0.0,
    study_threshold=0.005,
    keep_threshold=0.0,
)
# The article: no tumour where the detector says so with more than this.
TUTORIAL_GATE = 0.99
WHOLE_PICTURE = InputRecipe(normalisation="unit", neighbours=1, matrix=SIZE)
WHOLE_HEAD = InputRecipe(neighbours=1, matrix=SIZE)


@dataclass(frozen=True)
class Kind:
    """How a recipe's network becomes a model's."""

    role: str
    outputs: tuple[str, ...]
    input: InputRecipe
    rule: DecisionRule | None  # the shipped model's
    flip: bool


KINDS = {
    "joint": Kind("joint", ("mask_logits", "slice_logits"), InputRecipe(), None, flip=True),
    "resnet50": Kind("detector", ("slice_logits",), WHOLE_PICTURE, PLAIN_RULE, flip=False),
    "resunet": Kind("localizer", ("mask_logits",), WHOLE_PICTURE, PLAIN_RULE, flip=False),
    "unet": Kind("localizer", ("mask_logits",), WHOLE_HEAD, PLAIN_RULE, flip=False),
}


def _shipped_rule() -> DecisionRule:
    """Where each of its numbers comes from is in docs/decision.md."""
    return read_card(SHIPPED / f"{DEFAULT_MODEL}.json").decision


def _kind_of(recipe: Recipe) -> Kind:
    """The kind of a recipe's network, asked with what this recipe taught it to see."""
    kind = KINDS[recipe.network]
    if recipe.network == "joint":
        return kind
    return replace(kind, input=WHOLE_HEAD if recipe.input == "tissue" else WHOLE_PICTURE)


class _OneLogit(nn.Module):
    """A detector whose answer is one logit: that of tumour against no tumour."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.detector(images)
        return logits[:, 1] - logits[:, 0]


def export_run(
    run: Path, folder: Path, name: str, *, about: Mapping[str, Any] | None = None
) -> Path:
    """Write ``<name>.onnx``, ``<name>.safetensors`` and the card ``<name>.json``; return its path.

    Raises
    ------
    NothingReadableError
        The run is not finished.
    CannotWriteError
    InternalError
        The exported network does not give what torch gives; what was there stays.
    """
    recipe, told = _finished(run)
    kind = _kind_of(recipe)
    with _staged(folder) as staged:
        file = _export_network(recipe, run / "weights.safetensors", staged, name)
        parts: dict[str, Any] = file
        if kind.role != "joint":
            parts = {"networks": {kind.role: file}, "gate": 1.0}
        body = {"name": name, "kind": "joint" if kind.role == "joint" else "cascade", **parts}
        _write_card(staged, name, body, kind, _told(told, about or {}))
    return folder / f"{name}.json"


def export_cascade(
    detector: Path,
    localizer: Path,
    folder: Path,
    name: str,
    *,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Join a detector's run and a localizer's to one model, the tutorial's way.

    Raises
    ------
    UsageError
        They are not one of each, or want different input.
    """
    runs: dict[str, Path] = {}
    told: dict[str, Any] = {}
    kinds: dict[str, Kind] = {}
    for run in (detector, localizer):
        recipe, said = _finished(run)
        kind = _kind_of(recipe)
        kinds[kind.role], runs[kind.role], told[kind.role] = kind, run, said
    if (
        set(kinds) != {"detector", "localizer"}
        or kinds["detector"].input != kinds["localizer"].input
    ):
        raise UsageError(
            "these two runs make no cascade",
            remedy="give a run of tutorial-detector and one of tutorial-localizer",
        )
    files: dict[str, dict[str, str]] = {}
    seen = {one for said in told.values() for one in said["training"]["patients_sha256"]}
    told["training"] = {"patients": len(seen), "patients_sha256": sorted(seen)}
    body = {"name": name, "kind": "cascade", "networks": files, "gate": TUTORIAL_GATE}
    with _staged(folder) as staged:
        for role, run in runs.items():
            # A finished run has been exported, and checked against torch, already.
            if not (run / RUN_CARD).is_file():
                raise NothingReadableError(
                    f"the run has no {RUN_CARD}",
                    where=run.name,
                    remedy="export it first: gliosight export",
                )
            card = read_card(run / RUN_CARD)
            network = f"{name}-{role}.onnx"
            shutil.copyfile(run / card.networks[role].file, staged / network)
            files[role] = {"network": network, "sha256": card.networks[role].sha256}
        _write_card(staged, name, body, kinds["localizer"], _told(told, about or {}))
    return folder / f"{name}.json"


def _told(told: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """The card's text: as given by a person, but training patients and recipe from the run."""
    words = about.get("training")
    known = {key: value for key, value in told.items() if key != "summary"}
    training = {**(words if isinstance(words, dict) else {}), **told["training"]}
    return {**told, **about, **known, "training": training}


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """A place for a model's files: they come into ``folder`` when all are there, the card last."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".export-", dir=folder) as place:
            yield Path(place)
            for path in sorted(Path(place).iterdir(), key=lambda one: one.suffix == ".json"):
                path.replace(folder / path.name)
    except OSError as error:
        raise CannotWriteError(
            f"cannot write the model: {error.strerror or error}",
            where=folder.name,
            remedy="free some space or choose another -o, and export it again: gliosight export",
        ) from error


def _finished(run: Path) -> tuple[Recipe, dict[str, Any]]:
    """A run's recipe, and what its card says of it."""
    record = read_record(run)
    if not (run / "weights.safetensors").is_file():
        raise NothingReadableError(
            "the run is not finished", where=run.name, remedy="go on with: gliosight train --resume"
        )
    seen = sorted({one for part in record["patients_sha256"].values() for one in part})
    told = {
        "summary": f"Trained by gliosight train {record['preset']}. For research only.",
        "training": {"patients": len(seen), "patients_sha256": seen},
        "run": {key: record.get(key) for key in ("preset", "recipe", "data", "split", "outcome")},
    }
    return recipe_of(record["recipe"]), told


def _export_network(recipe: Recipe, weights: Path, folder: Path, name: str) -> dict[str, str]:
    kind = _kind_of(recipe)
    network = build_network(recipe)
    state = load_file(weights)
    network.load_state_dict(state)
    exported = _OneLogit(network) if isinstance(network, Detector) else network
    exported.eval()
    channels = 3 * recipe.neighbours
    sides = (SIZE, SIZE) if kind.input.matrix else (96, 64)
    batch, rows, columns = (torch.export.Dim(one, min=1) for one in ("batch", "rows", "columns"))
    shape = {0: batch} if kind.input.matrix else {0: batch, 2: 32 * rows, 3: 32 * columns}
    program = torch.onnx.export(
        exported,
        (torch.randn(2, channels, *sides),),
        dynamo=True,
        opset_version=OPSET,
        input_names=["images"],
        output_names=list(kind.outputs),
        dynamic_shapes=(shape,),
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch wrote no ONNX program")
    path = folder / f"{name}.onnx"
    own = sides if kind.input.matrix else None
    _refuse_from(EXACT, _difference(exported, program.model_proto, channels, own), path)
    stored_half = _store_half(program.model_proto)
    _refuse_from(ROUNDED, _difference(exported, stored_half, channels, own), path)
    onnx.save(stored_half, path)
    stored = folder / f"{name}.safetensors"
    halves = {
        key: value.half() if value.ndim > 1 and value.is_floating_point() else value
        for key, value in state.items()
    }
    save_file(halves, stored)
    stored.chmod(path.stat().st_mode)  # the library lets nobody but the owner read it
    return {"network": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _write_card(
    folder: Path, name: str, body: Mapping[str, Any], kind: Kind, about: Mapping[str, Any]
) -> None:
    card = {
        **body,
        "flip": kind.flip,
        "input": asdict(kind.input),
        "decision": asdict(kind.rule or _shipped_rule()),
        "about": dict(about),
    }
    text = json.dumps(card, indent=2) + "\n"
    (folder / f"{name}.json").write_text(text, encoding="utf-8")


def _store_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Keep large weights as float16, each behind a cast; engines fold the casts when they load."""
    casts = []
    for weight in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < STORE_HALF_FROM:
            continue
        name = weight.name
        half = onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.half")
        weight.CopyFrom(half)
        casts.append(onnx.helper.make_node("Cast", [half.name], [name], to=onnx.TensorProto.FLOAT))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
    # Names of functions and lines of the training code have no use in a shipped file.
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    onnx.checker.check_model(model)
    return model


def _difference(
    network: nn.Module, model: onnx.ModelProto, channels: int, sides: tuple[int, int] | None
) -> float:
    """The largest difference of a logit to torch's, as a part of the largest one."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    generator = torch.Generator().manual_seed(0)
    differences = []
    for count, own in ((1, (192, 160)), (3, (64, 224))):
        images = torch.rand((count, channels, *(sides or own)), generator=generator)
        with torch.no_grad():
            answer = network(images)
        expected = answer if isinstance(answer, tuple) else (answer,)
        for found, wanted in zip(
            session.run(None, {"images": images.numpy()}), expected, strict=True
        ):
            scale = max(1.0, float(wanted.abs().max()))
            differences.append(float(np.abs(found - wanted.numpy()).max()) / scale)
    return float(np.max(differences))  # which a NaN among them survives


def _refuse_from(tolerance: float, difference: float, path: Path) -> None:
    if not difference < tolerance:
        raise InternalError(
            f"the exported network differs from torch's by {difference:.2g}",
            where=path.name,
            remedy="the run is kept; please report its recipe to us",
        )
