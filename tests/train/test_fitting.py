"""A run that is cut off, killed, filled up or gone wrong goes on to the same weights."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra train is not installed")

from gliosight.data.split import Split, write_split  # noqa: E402
from gliosight.errors import DamagedInputError, UsageError  # noqa: E402
from gliosight.train.fitting import (  # noqa: E402
    VALIDATION_LOSS,
    Fit,
    Machine,
    fit,
    moving_average,
)
from gliosight.train.inputs import input_of  # noqa: E402
from gliosight.train.packed import PackedSlices  # noqa: E402
from gliosight.train.recipe import Recipe, Sampling  # noqa: E402
from gliosight.train.sampling import sampler_of  # noqa: E402
from gliosight.train.tasks import Task, make_task  # noqa: E402

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


def _weights(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def _assert_same(one: Path, two: Path) -> None:
    first, second = _weights(one), _weights(two)
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def whole(slices: PackedSlices, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of the uninterrupted run."""
    run = tmp_path_factory.mktemp("whole")
    fitted = fit(slices, PARTS, TINY, run, machine=EVERY_STEP)
    assert fitted.steps == 6
    assert fitted.best_loss is not None
    return fitted.weights


def test_the_average_forgets_its_beginning() -> None:
    update = moving_average(0.998)
    value = torch.tensor(100.0)
    for count in range(1, 400):
        value = update(value, torch.tensor(0.0), count)
    assert float(value) < 1e-3  # a fixed decay of 0.998 would leave 45


def test_pictures_are_made_in_float32_whatever_the_network_is_trained_in(
    slices: PackedSlices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sick = replace(TINY.augmentation, disease_chance=1.0)
    recipe = replace(TINY, precision="bfloat16", patience=0, epochs=1, augmentation=sick)
    step, seen = Fit.training_step, []

    def watched(self: Fit, *arguments: object) -> object:
        self.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        return step(self, *arguments)

    monkeypatch.setattr(Fit, "training_step", watched)
    fit(slices, PARTS, recipe, tmp_path, machine=EVERY_STEP)
    module = Fit(
        make_task(recipe), slices, sampler_of(slices, PARTS["train"], recipe), np.arange(0)
    )
    rows, generator = module.sampler.draw(0)
    generator.integers(2**62)  # the seed of torch
    images, _ = module.input.varied(rows, generator)
    assert seen[0].dtype == torch.float32
    torch.testing.assert_close(seen[0], images, rtol=0, atol=0)


@pytest.mark.parametrize("at", range(1, 6))
def test_a_run_that_is_cut_off_goes_on_to_the_same_weights(
    at: int, slices: PackedSlices, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off in the middle of an epoch, and just after a validation."""
    step = Fit.training_step

    def interrupted(self: Fit, *arguments: object) -> object:
        if self.global_step == at:
            raise OSError("cut off")
        return step(self, *arguments)

    monkeypatch.setattr(Fit, "training_step", interrupted)
    with pytest.raises(OSError, match="cut off"):
        fit(slices, PARTS, TINY, tmp_path, machine=EVERY_STEP)
    assert not (tmp_path / "weights.safetensors").exists()
    monkeypatch.undo()
    fitted = fit(slices, PARTS, TINY, tmp_path, resume=True, machine=EVERY_STEP)
    _assert_same(whole, fitted.weights)


def test_a_run_cut_off_after_a_validation_knows_its_outcome(
    slices: PackedSlices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best loss, and how patient the run still is: neither validation is made again."""
    step = Fit.training_step

    def interrupted(self: Fit, *arguments: object) -> object:
        if self.global_step == 4:
            raise OSError("cut off")
        return step(self, *arguments)

    monkeypatch.setattr(Fit, "training_step", interrupted)
    with pytest.raises(OSError, match="cut off"):
        fit(slices, PARTS, TINY, tmp_path, machine=Machine(checkpoint_every=3))
    last, best = (
        torch.load(tmp_path / name, map_location="cpu", weights_only=False)
        for name in ("last.ckpt", "best.ckpt")
    )
    assert last["global_step"] == 4
    kept = next(state for name, state in last["callbacks"].items() if "KeepBest" in name)
    patience = next(state for name, state in last["callbacks"].items() if "EarlyStopping" in name)
    assert kept["best"] == best[VALIDATION_LOSS] == float(patience["best_score"])


def test_a_loss_that_is_no_number_stops_the_run_which_then_goes_on(
    slices: PackedSlices, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = Task.loss
    count = 0

    def broken(self: Task, *arguments: object) -> torch.Tensor:
        nonlocal count
        count += 1
        return loss(self, *arguments) * (float("nan") if count == 2 else 1)  # type: ignore[arg-type]

    monkeypatch.setattr(Task, "loss", broken)
    with pytest.raises(FloatingPointError, match="loss became nan at step 2"):
        fit(slices, PARTS, TINY, tmp_path, machine=EVERY_STEP)
    monkeypatch.undo()
    fitted = fit(slices, PARTS, TINY, tmp_path, resume=True, machine=EVERY_STEP)
    _assert_same(whole, fitted.weights)


def test_it_stops_early_and_keeps_the_best(
    slices: PackedSlices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The validation loss falls, then rises: two epochs of patience, the weights of the second."""
    losses = iter([3.0, 1.0, 2.0, 2.5, 9.0])
    kept: list[dict[str, torch.Tensor]] = []

    def told(self: Fit) -> None:
        kept.append({k: v.clone() for k, v in self.final.state_dict().items()})
        self.log("validation_loss", torch.tensor(next(losses)))

    monkeypatch.setattr(Fit, "on_validation_epoch_end", told)
    recipe = replace(TINY, epochs=9, patience=2)
    fitted = fit(slices, PARTS, recipe, tmp_path, machine=Machine(checkpoint_every=2))
    assert (fitted.steps, fitted.best_loss) == (8, 1.0)
    found = _weights(fitted.weights)
    for name, value in kept[1].items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("network", ["joint", "unet"])
def test_the_validation_loss_is_that_of_the_part_as_a_whole(
    network: str, slices: PackedSlices, tmp_path: Path
) -> None:
    recipe = replace(
        TINY, network=network, loss={"joint": "joint", "unet": "dice"}[network], epochs=1
    )
    fitted = fit(slices, PARTS, recipe, tmp_path)
    task = make_task(recipe)
    task.network.load_state_dict(_weights(fitted.weights))
    images, masks = input_of(slices, recipe).plain(PARTS["validation"])
    with torch.no_grad():
        whole = task.loss(task.network.eval()(images), masks)
    assert fitted.best_loss == pytest.approx(float(whole), rel=1e-4)


def test_what_cannot_be_is_said_before_the_first_step(slices: PackedSlices, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to validate on"):
        fit(slices, {"train": PARTS["train"]}, TINY, tmp_path)
    (tmp_path / "w.safetensors").write_bytes(b"no weights")
    with pytest.raises(DamagedInputError, match="not of this network"):
        fit(slices, PARTS, TINY, tmp_path / "run", initial=tmp_path / "w.safetensors")
    uneven = replace(TINY, batch=3)
    with pytest.raises(UsageError, match="shared evenly"):
        fit(slices, PARTS, uneven, tmp_path / "run", machine=Machine(devices=2))


# From here on as a user has it: the command in a process of its own.


@pytest.fixture(scope="module")
def command(
    manifest_path: Path, split: Split, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    folder = tmp_path_factory.mktemp("command")
    write_split(split, folder / "split.json")
    call = [sys.executable, "-m", "gliosight", "train", "joint", "--data", str(manifest_path)]
    call += ["--split", str(folder / "split.json"), "--cache", str(folder / "cache")]
    for change in ("batch=2", "crop=32", "start=scratch", "precision=float32", "epochs=30",
                   "sampling.per_epoch=8", "patience=30"):  # fmt: skip
        call += ["--set", change]
    return [*call, "--threads", "1"]


def _run(call: list[str], out: Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*call, "-o", str(out)], capture_output=True, text=True, check=False, **options
    )  # type: ignore[call-overload,no-any-return]


def _wait_for_checkpoint(out: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if (out / "last.ckpt").exists():
            return
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.05)
    raise AssertionError("no checkpoint within a minute")


@pytest.fixture(scope="module")
def finished(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of the uninterrupted command."""
    out = tmp_path_factory.mktemp("finished") / "run"
    done = _run([*command, "--cache", str(out.parent / "cache")], out)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "data: 6 slices of 1 patients to train on"
    assert lines[1] == "packing 3 patients, once for all runs"
    for words in (
        "packing: 1 of 3 patients",
        "training: 120 steps of 2 slices",
        "slices/s",
        "export:",
    ):
        assert any(words in line for line in lines), words
    record = json.loads((out / "run.json").read_text())
    assert record["split"]["by"] == "patient"
    assert record["outcome"]["steps"] == 120
    return out / "weights.safetensors"


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
        said, told = process.communicate(timeout=120)
    ending = 130 if how is signal.SIGINT else -signal.SIGKILL
    assert process.returncode == ending, (said, told)
    if how is signal.SIGINT:
        assert "--resume" in said
        assert "Traceback" not in told
    assert not (out / "weights.safetensors").exists()
    refused = _run(command, out)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    other = _run([*command, "--resume", "--set", "seed=2"], out)
    assert (other.returncode, "another recipe: seed 1, not 2" in other.stderr) == (2, True)
    # Only what the run cannot know is said again: the settings are its own.
    plain = [*command[: command.index("--set")], "--threads", "1"]
    resumed = _run([*plain, "--resume"], out)
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
    resumed = _run([*command, "--resume"], out)
    assert resumed.returncode == 0, resumed.stderr
    _assert_same(finished, out / "weights.safetensors")


def test_two_processes_give_what_one_gives(command: list[str], tmp_path: Path) -> None:
    """Gloo, two processes, each with half of every batch.

    How nearly the slopes agree is shown in test_processes.py; here, that the command brings it all
    together. Dropout is off, since each process draws its own. A large epsilon makes Adam's step follow the
    slope's size: with its own one the first steps have the slope's sign alone, and rounding decides it.
    """
    call = [*command]
    for change in ("dropout=0", "epochs=1", "batch=4", "crop=64", "optimizer.epsilon=1",
                   "optimizer.lr=0.1", "optimizer.encoder_lr=0.1"):  # fmt: skip
        call += ["--set", change]
    one, two = tmp_path / "one", tmp_path / "two"
    env = {**os.environ, "MASTER_ADDR": "127.0.0.1"}
    done = _run(call, one)
    assert done.returncode == 0, done.stderr
    done = _run([*call, "--devices", "2"], two, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    first, second = _weights(one / "weights.safetensors"), _weights(two / "weights.safetensors")
    start = make_task(replace(TINY, dropout=0.0)).network.state_dict()
    names = dict(make_task(TINY).network.named_parameters())
    moved = max(float((first[name] - start[name]).abs().max()) for name in names)
    apart = max(float((first[name] - second[name]).abs().max()) for name in names)
    assert moved > 1e-3
    # Float32: a batch norm over few values turns rounding into percents of a step.
    assert apart < 0.1 * moved
