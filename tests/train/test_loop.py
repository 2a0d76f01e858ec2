"""A run that is cut off, killed, filled up or gone wrong goes on to the same weights."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra train is not installed")

from safetensors.torch import load_file  # noqa: E402

from gliosight.data.split import Split, write_split  # noqa: E402
from gliosight.errors import DamagedInputError, UsageError  # noqa: E402
from gliosight.train import display, loop  # noqa: E402
from gliosight.train.augmentation import Batches  # noqa: E402
from gliosight.train.history import Epoch, Validation, read_history  # noqa: E402
from gliosight.train.loop import Training, fit, moving_average  # noqa: E402
from gliosight.train.losses import batch_loss  # noqa: E402
from gliosight.train.networks import build_network, start_network  # noqa: E402
from gliosight.train.packed import PackedSlices  # noqa: E402
from gliosight.train.recipe import Recipe, Sampling  # noqa: E402
from gliosight.train.record import Machine  # noqa: E402
from gliosight.train.sampling import sampler_of  # noqa: E402

TINY = Recipe(
    epochs=3,
    batch=2,
    crop=64,
    start="scratch",
    precision="float32",
    patience=5,
    sampling=Sampling(per_epoch=4),
)
EVERY_STEP = Machine(checkpoint_every=1)
PARTS = {"train": np.arange(12), "validation": np.arange(12, 18)}

pytestmark = pytest.mark.slow


def _assert_same(one: Path, two: Path) -> None:
    first, second = load_file(one), load_file(two)
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=0, atol=1e-6)
    assert _measured(one.parent) == _measured(two.parent)


def _measured(run: Path) -> list[Epoch]:
    """All but the time, to four digits: the same run on the same machine."""
    return [
        Epoch(row.epoch, row.step, 0.0, *(None if v is None else round(v, 4) for v in values))
        for row in read_history(run)
        for values in [list(asdict(row).values())[3:]]
    ]


def _at_step(number: int, change: Callable[[Any], Any]) -> Callable[..., Any]:
    """The loss of a batch, changed at one step."""
    count = 0

    def changed(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        loss = batch_loss(*arguments)
        return change(loss) if count == number else loss

    return changed


def _cut_off(_: Any) -> None:
    raise OSError("cut off")


@pytest.fixture(scope="module")
def whole(slices: PackedSlices, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of the uninterrupted run."""
    run = tmp_path_factory.mktemp("whole")
    outcome = fit(slices, PARTS, TINY, run, machine=EVERY_STEP)
    assert outcome.steps == 6
    assert outcome.validation_loss is not None
    assert list((run / "log").glob("events.out.tfevents.*"))
    return run / "weights.safetensors"


@pytest.mark.parametrize(
    ("step", "change", "error", "words"),
    [
        pytest.param(2, _cut_off, OSError, "cut off", id="within an epoch"),
        pytest.param(5, _cut_off, OSError, "cut off", id="after a validation"),
        pytest.param(2, lambda loss: loss * float("nan"), FloatingPointError,
                     "loss became nan at step 2", id="not a number"),
    ],
)  # fmt: skip
def test_a_run_that_is_cut_off_goes_on_to_the_same_weights(
    step: int,
    change: Callable[[Any], Any],
    error: type[Exception],
    words: str,
    slices: PackedSlices,
    tmp_path: Path,
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "batch_loss", _at_step(step, change))
    with pytest.raises(error, match=words):
        fit(slices, PARTS, TINY, tmp_path, machine=EVERY_STEP)
    assert not (tmp_path / "weights.safetensors").exists()
    monkeypatch.undo()
    fit(slices, PARTS, TINY, tmp_path, resume=True, machine=EVERY_STEP)
    _assert_same(whole, tmp_path / "weights.safetensors")


@pytest.mark.parametrize(
    ("losses", "steps", "best"),
    [([3.0, 1.0, 2.0, 2.5, 9.0], 8, 1), ([3.0, float("nan")], 4, 0)],
)
def test_it_stops_early_and_keeps_the_best(
    losses: list[float],
    steps: int,
    best: int,
    slices: PackedSlices,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two epochs of patience; none where the loss is not a number. No validation is made twice."""
    left = iter(losses)
    weights: list[dict[str, torch.Tensor]] = []

    def scripted(self: Training) -> Validation:
        weights.append({k: v.clone() for k, v in self.final.state_dict().items()})
        return Validation(next(left))

    monkeypatch.setattr(Training, "validate", scripted)
    recipe = replace(TINY, epochs=9, patience=2)
    if steps > 4:  # cut off after the second validation
        monkeypatch.setattr(loop, "batch_loss", _at_step(5, _cut_off))
        with pytest.raises(OSError, match="cut off"):
            fit(slices, PARTS, recipe, tmp_path)
        monkeypatch.setattr(loop, "batch_loss", batch_loss)
    outcome = fit(slices, PARTS, recipe, tmp_path, resume=True)
    assert (outcome.steps, outcome.validation_loss) == (steps, losses[best])
    found = load_file(tmp_path / "weights.safetensors")
    for name, value in weights[best].items():
        assert torch.equal(found[name], value), name


def test_without_any_validation_loss_there_are_no_weights(
    slices: PackedSlices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Training, "validate", lambda _: Validation(float("nan")))
    with pytest.raises(FloatingPointError, match="validation loss became nan at step 2"):
        fit(slices, PARTS, TINY, tmp_path)
    assert not (tmp_path / "weights.safetensors").exists()


def test_the_validation_loss_is_that_of_the_part_as_a_whole(
    slices: PackedSlices, tmp_path: Path
) -> None:
    recipe = replace(TINY, epochs=1)
    outcome = fit(slices, PARTS, recipe, tmp_path)
    trained = build_network(recipe)
    trained.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    images, masks = Batches(slices, recipe).make(PARTS["validation"])
    with torch.no_grad():
        whole = batch_loss(recipe, trained.eval()(images), masks)
    assert outcome.validation_loss == pytest.approx(float(whole), rel=1e-4)


def test_images_are_made_in_float32_whatever_the_network_is_trained_in(
    slices: PackedSlices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sick = replace(TINY.augmentation, disease_chance=1.0)
    recipe = replace(TINY, precision="bfloat16", patience=0, epochs=1, augmentation=sick)
    step, seen = Training.train_step, []

    def watched(self: Training, model: torch.nn.Module) -> float:
        self.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        return step(self, model)

    monkeypatch.setattr(Training, "train_step", watched)
    outcome = fit(slices, PARTS, recipe, tmp_path)
    assert outcome.precision == "bfloat16"
    rows, generator = sampler_of(slices, PARTS["train"], recipe).draw(0)
    generator.integers(2**62)  # the seed of torch
    images, _ = Batches(slices, recipe).make(rows, generator)
    torch.testing.assert_close(seen[0], images, rtol=0, atol=0)


def test_the_average_forgets_its_beginning() -> None:
    update = moving_average(0.998)
    value = torch.tensor(100.0)
    for count in range(1, 400):
        value = update(value, torch.tensor(0.0), count)
    assert float(value) < 1e-3  # a fixed decay of 0.998 would leave 45


def test_what_cannot_work_is_an_error_before_the_first_step(
    slices: PackedSlices, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="nothing to validate on"):
        fit(slices, {"train": PARTS["train"]}, TINY, tmp_path)
    (tmp_path / "w.safetensors").write_bytes(b"no weights")
    with pytest.raises(DamagedInputError, match="not of this network"):
        fit(slices, PARTS, TINY, tmp_path / "run", initial=tmp_path / "w.safetensors")
    uneven = replace(TINY, batch=3)
    with pytest.raises(UsageError, match="shared evenly"):
        fit(slices, PARTS, uneven, tmp_path / "run", machine=Machine(devices=2))
    for checkpoint in ({"state_dict": {}, "pytorch-lightning_version": "2.6"}, {"format": 1}):
        torch.save(checkpoint, tmp_path / "last.ckpt")
        with pytest.raises(DamagedInputError, match="another version"):
            fit(slices, PARTS, TINY, tmp_path, resume=True)


# How a file is written.


class InterruptAt:
    """Raises KeyboardInterrupt at the n-th line of Python that is run, except for those that pickle.

    Python's own copyreg discards whatever is raised at two of its lines, once in a process.
    """

    def __init__(self, line: int) -> None:
        self.left = line

    def __call__(self, frame: FrameType, *_: Any) -> Any:
        name = frame.f_code.co_filename
        self.left -= "torch" not in name and "copyreg" not in name
        if self.left == 0:
            raise KeyboardInterrupt
        return self

    def __enter__(self) -> None:
        sys.settrace(self)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)


# One that comes between opening a file and being inside its "with" leaves the closing to Python.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_line_is_heard_and_leaves_a_whole_file(tmp_path: Path) -> None:
    """Every third line is tried. Where the working folder was about to be removed it may stay: the next
    run with that target removes it, as `gliosight.files` says.
    """
    before, contents = sys.gettrace(), set()
    try:
        for line in range(1, 10_000, 3):
            path = tmp_path / str(line) / "last.ckpt"
            path.parent.mkdir()
            loop.write_checkpoint(path, {"steps": 1, "weights": torch.ones(3)})
            interrupt, heard = InterruptAt(line), False
            try:
                with interrupt:
                    loop.write_checkpoint(path, {"steps": 2, "weights": torch.ones(3)})
            except KeyboardInterrupt:
                heard = True
            if interrupt.left > 0:
                break
            assert heard, line
            contents.add(loop.read_checkpoint(path)["steps"])
            left = {entry.name for entry in path.parent.iterdir()}
            assert left <= {path.name, f".{path.name}.partial-gliosight"}
    finally:
        sys.settrace(before)
    assert line > 30
    assert contents == {1, 2}


# What is printed.


@pytest.mark.parametrize("other", ["LOCAL_RANK", "NODE_RANK"])
def test_one_process_prints_now_and_then(
    other: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for total in (131, 2):
        with display.packing_progress(total) as show:
            for done in range(1, total + 1):
                show("pack", done, total)
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith(f"packing: 1 of {total} patients, ")
        assert lines[-1] == f"packing: {total} of {total} patients, 0 min left"
        assert 2 <= len(lines) <= 24
    monkeypatch.setenv(other, "1")
    display.say("silent")
    assert not capsys.readouterr().out


def test_a_terminal_shows_a_bar(
    slices: PackedSlices,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with display.packing_progress(2) as show:
        show("pack", 1, 2)
    fit(slices, PARTS, replace(TINY, epochs=1, patience=0), tmp_path)
    shown = capsys.readouterr()
    assert "packing" not in shown.out
    assert "step 2/2" in shown.out
    assert "training" in shown.err


# From here on as a user has it: the command in a process of its own.


@pytest.fixture(scope="module")
def command(
    manifest_path: Path, split: Split, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    folder = tmp_path_factory.mktemp("command")
    write_split(split, folder / "split.json")
    call = [sys.executable, "-m", "gliosight", "train", "joint", "--data", str(manifest_path)]
    call += ["--split", str(folder / "split.json"), "--cache", str(folder / "cache")]
    for change in ("batch=2", "crop=32", "start=scratch", "precision=float32", "epochs=8",
                   "sampling.per_epoch=8", "patience=30"):  # fmt: skip
        call += ["--set", change]
    return [*call, "--threads", "1"]


# The command without the export at its end, which takes most of the time; test_export.py has it.
NO_EXPORT = """
from gliosight.train import run
run.export_run = lambda *_: None
from gliosight.__main__ import main
main()
"""


def _without_export(call: list[str]) -> list[str]:
    return [sys.executable, "-c", NO_EXPORT, *call[call.index("train") :]]


def _run(call: list[str], out: Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*call, "-o", str(out)], capture_output=True, text=True, check=False, **options
    )  # type: ignore[call-overload,no-any-return]


def _wait_for_checkpoint(out: Path, process: subprocess.Popen[str]) -> None:
    while not (out / "last.ckpt").exists():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.05)


@pytest.fixture(scope="module")
def finished(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of the uninterrupted command."""
    out = tmp_path_factory.mktemp("finished") / "run"
    done = _run([*command, "--cache", str(out.parent / "cache")], out)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        "network: joint, starts from scratch",
        "data: 6 slices of 1 patient to train on",
        "packing 3 patients, once for all runs",
    ]
    for words in (
        "training: 32 steps of 2 slices, 8 epochs of 4 steps",
        "validating on 6 slices",
        "epoch    loss  accuracy",
        "packing: 1 of 3 patients",
        "slices/s",
        "export:",
    ):
        assert any(words in line for line in lines), words
    record = json.loads((out / "run.json").read_text())
    assert record["split"]["by"] == "patient"
    assert record["outcome"]["steps"] == 32
    assert [row.epoch for row in read_history(out)] == list(range(1, 9))
    assert "finished: 8 epochs" in (out / "run.html").read_text("utf-8")
    return out / "weights.safetensors"


def test_a_finished_run_that_is_resumed_is_a_success(command: list[str], finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.parent.iterdir()}
    again = _run([*command, "--resume"], finished.parent)
    assert again.returncode == 0, again.stderr
    assert "the run is finished: there is nothing left to do" in again.stdout
    assert f"model: {finished.parent / 'model.json'}" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in finished.parent.iterdir()} == before
    other = _run([*command, "--resume", "--set", "seed=2"], finished.parent)
    assert (other.returncode, "another recipe: seed 1, not 2" in other.stderr) == (2, True)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_or_interrupted_it_goes_on_to_the_same_weights(
    how: signal.Signals, command: list[str], finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cut"
    with subprocess.Popen(
        [*command, "-o", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_as_from_a_terminal,
    ) as process:
        _wait_for_checkpoint(out, process)
        process.send_signal(how)
        printed, errors = process.communicate(timeout=120)
    ending = 130 if how is signal.SIGINT else -signal.SIGKILL
    assert process.returncode == ending, (printed, errors)
    assert not (out / "weights.safetensors").exists()
    if how is signal.SIGINT:
        assert "--resume" in printed
        assert "Traceback" not in errors
        refused = _run(command, out)
        assert refused.returncode == 2
        assert "--resume" in refused.stderr
        other = _run([*command, "--resume", "--set", "seed=2"], out)
        assert (other.returncode, "another recipe: seed 1, not 2" in other.stderr) == (2, True)
    # Only what the run cannot know is given again: it keeps its settings.
    plain = [*command[: command.index("--set")], "--threads", "1"]
    resumed = _run(_without_export([*plain, "--resume"]), out)
    assert resumed.returncode == 0, resumed.stderr
    _assert_same(finished, out / "weights.safetensors")


def _as_from_a_terminal() -> None:
    """Whoever runs the tests may have set signals to be ignored (nohup, a job in the background)."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _small_files() -> None:
    """No file may grow beyond 20 MB: what a full disk does to a checkpoint of 60 MB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, 20_000_000))


def test_a_full_disk_is_one_line_and_the_run_goes_on(
    command: list[str], finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "full"
    failed = _run(command, out, preexec_fn=_small_files)
    assert failed.returncode == 7, failed.stderr
    assert "free some space and go on with --resume" in failed.stderr
    assert "Traceback" not in failed.stderr
    resumed = _run(_without_export([*command, "--resume"]), out)
    assert resumed.returncode == 0, resumed.stderr
    _assert_same(finished, out / "weights.safetensors")


def test_two_processes_give_what_one_gives(command: list[str], tmp_path: Path) -> None:
    """Gloo, two processes, each with half of every batch.

    How nearly the slopes agree is shown in test_devices.py; here, that the command brings it all
    together. Dropout is off, since each process draws its own. A large epsilon makes Adam's step follow the
    slope's size: with its own one the first steps have the slope's sign alone, and rounding decides it.
    """
    call = [*command]
    for change in ("dropout=0", "epochs=1", "batch=4", "crop=64", "optimizer.epsilon=1",
                   "optimizer.lr=0.1", "optimizer.encoder_lr=0.1"):  # fmt: skip
        call += ["--set", change]
    one, two = tmp_path / "one", tmp_path / "two"
    env = {**os.environ, "MASTER_ADDR": "127.0.0.1"}
    done = _run(_without_export(call), one)
    assert done.returncode == 0, done.stderr
    done = _run([*call, "--devices", "2"], two, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("training:") == done.stdout.count("model:") == 1
    first, second = (load_file(out / "weights.safetensors") for out in (one, two))
    network, _ = start_network(replace(TINY, dropout=0.0))
    start = {name: value.detach() for name, value in network.named_parameters()}
    moved = max(float((first[name] - start[name]).abs().max()) for name in start)
    apart = max(float((first[name] - second[name]).abs().max()) for name in start)
    assert moved > 1e-3
    # Float32: a batch norm over few values turns rounding into percents of a step.
    assert apart < 0.1 * moved
