"""A run to a model that the product runs (training bench; torch, onnx).

In: a run's folder. Out: an ONNX file with dynamic batch and sides, its weights once more as safetensors to
start other trainings from, and its card. Two runs, a detector's and a localizer's, become one cascade.
Every export is compared with torch on random input before it is kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from gliosight.card import DecisionRule, InputRecipe, read_card
from gliosight.errors import InternalError, NothingReadableError, UsageError
from gliosight.files import whole_file, writing
from gliosight.infer.model import DEFAULT_MODEL, RUN_CARD, SHIPPED
from gliosight.train.networks import build_network, save_weights
from gliosight.train.networks.resnet import SIZE, Detector
from gliosight.train.recipe import Recipe, recipe_of
from gliosight.train.record import WEIGHTS, read_record

# The largest difference of a logit from torch's, as a part of the largest logit, that is rounding: of the
# order of the sums; and of the weights, into which batch norms have been folded, to float16.
EXACT, ROUNDED = 1e-3, 2e-2
OPSET = 18
# Weights larger than this are stored as float16, which halves the file; computation is in float32.
STORE_HALF_FROM = 512
# Of a network that does one task: its output decides alone, and every lesion it marks is kept.
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
    keep_threshold=0.0,
    uncertain_from=0.005,
    found_from=0.005,
)
# The article: no tumour where the detector says so with more than this.
TUTORIAL_GATE = 0.99
WHOLE_PICTURE = InputRecipe(normalisation="unit", neighbours=1, matrix=SIZE)
WHOLE_HEAD = InputRecipe(neighbours=1, matrix=SIZE)
OUTPUTS = {
    "joint": ("mask_logits", "slice_logits"),
    "detector": ("slice_logits",),
    "localizer": ("mask_logits",),
}


@dataclass(frozen=True)
class _Run:
    """A finished run, and how its network becomes a model's."""

    folder: Path
    recipe: Recipe
    about: dict[str, Any]  # for the card

    @property
    def role(self) -> str:
        return {"joint": "joint", "resnet50": "detector"}.get(self.recipe.network, "localizer")

    @property
    def input(self) -> InputRecipe:
        """What this recipe trained the network on."""
        if self.role == "joint":
            return InputRecipe()
        return WHOLE_HEAD if self.recipe.input == "tissue" else WHOLE_PICTURE


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
    finished = _finished(run)
    with _model_files(folder, f"{name}.json", f"{name}.safetensors", f"{name}.onnx") as paths:
        card, weights, network = paths
        file = _export_network(finished, network, weights)
        body: dict[str, Any] = {"name": name, "kind": "joint", **file}
        if finished.role != "joint":
            networks = {finished.role: file}
            body = {"name": name, "kind": "cascade", "networks": networks, "gate": 1.0}
        _write_card(card, body, finished, finished.about, about)
    return folder / card.name


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
        They are not one of each, or take different input.
    NothingReadableError
        A run is not finished, or was not exported.
    CannotWriteError
    """
    runs = {run.role: run for run in map(_finished, (detector, localizer))}
    if set(runs) != {"detector", "localizer"} or len({run.input for run in runs.values()}) > 1:
        raise UsageError(
            "these two runs make no cascade",
            remedy="give a run of tutorial-detector and one of tutorial-localizer",
        )
    patients = {
        digest for run in runs.values() for digest in run.about["training"]["patients_sha256"]
    }
    known: dict[str, Any] = {role: run.about for role, run in runs.items()}
    known["training"] = {"patients": len(patients), "patients_sha256": sorted(patients)}
    files: dict[str, dict[str, str]] = {}
    body = {"name": name, "kind": "cascade", "networks": files, "gate": TUTORIAL_GATE}
    with _model_files(folder, f"{name}.json", *(f"{name}-{role}.onnx" for role in runs)) as paths:
        card, *networks = paths
        for (role, run), path in zip(runs.items(), networks, strict=True):
            # A finished run has been exported, and compared with torch, already.
            if not (run.folder / RUN_CARD).is_file():
                raise NothingReadableError(
                    f"the run has no {RUN_CARD}",
                    where=run.folder.name,
                    remedy="export it first: gliosight export",
                )
            network = read_card(run.folder / RUN_CARD).networks[role]
            shutil.copyfile(run.folder / network.file, path)
            files[role] = {"network": path.name, "sha256": network.sha256}
        _write_card(card, body, runs["localizer"], known, about)
    return folder / card.name


def _finished(run: Path) -> _Run:
    record = read_record(run)
    if not (run / WEIGHTS).is_file():
        raise NothingReadableError(
            "the run is not finished", where=run.name, remedy="go on with: gliosight train --resume"
        )
    patients = sorted({digest for part in record["patients_sha256"].values() for digest in part})
    about = {
        "summary": f"Trained by gliosight train {record['preset']}. For research only.",
        "training": {"patients": len(patients), "patients_sha256": patients},
        "run": {key: record.get(key) for key in ("preset", "recipe", "data", "split", "outcome")},
    }
    return _Run(run, recipe_of(record["recipe"]), about)


@contextmanager
def _model_files(folder: Path, *names: str) -> Iterator[list[Path]]:
    """Paths to write a model's files to: they come to ``folder`` when all are written, the first one last."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as files:
        yield [files.enter_context(whole_file(folder / name, overwrite=True)) for name in names]


class _OneLogit(nn.Module):
    """A detector with one logit: that of tumour against no tumour."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.detector(images)
        return logits[:, 1] - logits[:, 0]


def _export_network(run: _Run, path: Path, weights: Path) -> dict[str, str]:
    state = load_file(run.folder / WEIGHTS)
    network = build_network(run.recipe)
    network.load_state_dict(state)
    exported = _OneLogit(network) if isinstance(network, Detector) else network
    exported.eval()
    channels = 3 * run.recipe.neighbours
    sides = (SIZE, SIZE) if run.input.matrix else None
    batch, rows, columns = (torch.export.Dim(dim, min=1) for dim in ("batch", "rows", "columns"))
    shape = {0: batch} if sides else {0: batch, 2: 32 * rows, 3: 32 * columns}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        exported,
        (torch.randn(2, channels, *(sides or (96, 64))),),
        dynamo=True,
        opset_version=OPSET,
        input_names=["images"],
        output_names=list(OUTPUTS[run.role]),
        dynamic_shapes=(shape,),
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch wrote no ONNX program")
    model = program.model_proto
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.rand((count, channels, *(sides or own)), generator=generator)
        for count, own in ((1, (192, 160)), (3, (64, 224)))
    ]
    _compare(exported, model, inputs, EXACT, path)
    store_half(model)
    _compare(exported, model, inputs, ROUNDED, path)
    onnx.save(model, path)
    halves = {
        key: value.half() if value.ndim > 1 and value.is_floating_point() else value
        for key, value in state.items()
    }
    save_weights(halves, weights)
    weights.chmod(path.stat().st_mode)  # the library lets nobody but the owner read it
    return {"network": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _write_card(
    path: Path,
    body: Mapping[str, Any],
    run: _Run,
    known: Mapping[str, Any],
    about: Mapping[str, Any] | None,
) -> None:
    """Write the card: of its text a person may change the summary, and add to the rest."""
    texts = {**known, **(about or {}), **{key: known[key] for key in known if key != "summary"}}
    training = (about or {}).get("training")
    texts["training"] = {**(training if isinstance(training, dict) else {}), **known["training"]}
    joint = run.role == "joint"
    # Where the shipped rule's numbers come from is in docs/decision.md.
    shipped = read_card(SHIPPED / f"{DEFAULT_MODEL}.json").decision
    rule = shipped.for_another_network() if joint else PLAIN_RULE
    decision, input_ = asdict(rule), asdict(run.input)
    card = {**body, "flip": joint, "input": input_, "decision": decision, "about": texts}
    path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def store_half(model: onnx.ModelProto) -> None:
    """Store large weights as float16, each behind a cast; engines fold the casts when they load."""
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


def _compare(
    network: nn.Module, model: onnx.ModelProto, inputs: list[Tensor], tolerance: float, path: Path
) -> None:
    """Refuse a model whose logits differ from torch's, as a part of the largest one."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    differences = []
    for images in inputs:
        with torch.no_grad():
            output = network(images)
        expected = output if isinstance(output, tuple) else (output,)
        outputs = session.run(None, {"images": images.numpy()})
        for logits, wanted in zip(outputs, expected, strict=True):
            scale = max(1.0, float(wanted.abs().max()))
            differences.append(float(np.abs(logits - wanted.numpy()).max()) / scale)
    difference = float(np.max(differences))  # which a NaN among them survives
    if not difference < tolerance:
        raise InternalError(
            f"the exported network differs from torch's by {difference:.2g}",
            where=path.name,
            remedy="the run is kept; please report its recipe to us",
        )
