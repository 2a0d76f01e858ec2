"""The public surface: what is promised is there, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gliosight
from gliosight import MrSequence, Status, Volume, analyze, pipeline, read_study
from gliosight.errors import GliosightError, LimitExceededError, ModelError, UsageError, explained
from gliosight.infer.model import SHIPPED, Model, shipped_models
from gliosight.phantom import Phantom, PhantomSpec, make_phantom, write_lgg
from gliosight.phantom.dicom import write_dicom
from gliosight.pipeline import Limits, Settings
from tests.conftest import make_study
from tests.read.builders import make_volume, write_nifti

SOURCE = str(Path(gliosight.__file__).parents[1])


@pytest.fixture(autouse=True)
def without_network(stub_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "load_model", lambda *_, **__: stub_model)


def test_every_public_name_loads() -> None:
    for name in gliosight.__all__:
        assert getattr(gliosight, name) is not None
    assert dir(gliosight) == sorted(gliosight.__all__)
    with pytest.raises(AttributeError, match="nonesuch"):
        gliosight.nonesuch  # noqa: B018


@pytest.mark.slow
def test_analyze_takes_arrays_with_and_without_an_affine(
    small_phantom: Phantom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # with the network
    flair = small_phantom.sequences[MrSequence.FLAIR]
    bare = analyze(flair)
    assert bare.status is Status.FOUND
    assert bare.volume_ml is None
    assert bare.findings[0].side == "unknown"
    named = {one.value: values for one, values in small_phantom.sequences.items()}
    placed = analyze(named, affine=small_phantom.geometry.affine)
    assert placed.findings[0].side == "right"
    assert placed.volume_ml == pytest.approx(
        sum(one.volume_ml or 0 for one in placed.findings), rel=1e-6
    )
    assert placed.provenance.channels == ("T1", "FLAIR", "T1C")


@pytest.mark.parametrize("source", ["", {"FLAIR": ""}, {"FLAIR": "a.nii", "T1": ""}])
def test_an_empty_path_is_not_the_working_folder(
    source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is empty"):
        read_study(source)


@pytest.mark.slow
def test_a_model_that_cannot_be_used_is_said_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one from elsewhere whose network is spoilt: it is tried out first."""
    monkeypatch.undo()  # with the real loading
    for suffix in (".json", ".onnx"):
        shutil.copy(SHIPPED / f"joint-4{suffix}", tmp_path / f"joint-4{suffix}")
    shutil.copy(SHIPPED / "joint-4-gate.onnx", tmp_path)
    (tmp_path / "joint-4.onnx").write_bytes(b"")
    for model in ("nonesuch", tmp_path / "joint-4.json"):
        with pytest.raises(ModelError):
            analyze(tmp_path / "no study", settings=Settings(model=model, precision="float32"))


# A thread imports a reader, slowly, while the process is forked.
FORKED = """
import os, pkgutil, signal, sys, threading, time
from gliosight import read, read_study
begun = threading.Event()

class Slow:
    def find_spec(self, name, *_):
        if name == "gliosight.read.nifti_file":
            begun.set()
            time.sleep(0.3)

sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=read_study, args=(sys.argv[1],))
thread.start()
begun.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    read_study(sys.argv[1])
    os._exit(0)
thread.join()
readers = {module.name for module in pkgutil.walk_packages(read.__path__, "gliosight.read.")}
assert readers <= set(sys.modules)  # all were imported by the first call
sys.exit(os.waitpid(child, 0)[1] != 0)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes as POSIX has them")
def test_a_fork_while_another_thread_reads_first(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "flair.nii", make_volume())
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED, str(path)], check=True)


# What is imported later could be half imported when the process is forked.
IMPORTED = """
import sys
from gliosight import read_study
from gliosight.read import from_python
from_python._load_readers()
before = set(sys.modules)
for path in sys.argv[1:]:
    read_study(path)
print(*sorted(set(sys.modules) - before))
"""


@pytest.mark.slow
def test_reading_imports_all_that_it_needs_at_its_beginning(tmp_path: Path) -> None:
    phantom = make_phantom(PhantomSpec(slices=3))
    for write in (write_lgg, write_dicom):
        write(phantom, tmp_path / write.__name__)
    paths = [
        str(write_nifti(tmp_path / "flair.nii", make_volume())),
        *map(str, tmp_path.glob("w*")),
    ]
    call = [sys.executable, "-W", "ignore", "-c", IMPORTED, *paths]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert (len(paths), done.stdout.split()) == (3, [])


@pytest.mark.parametrize(
    ("source", "options", "told"),
    [
        ({"T2": np.zeros((3, 8, 8))}, {}, "FLAIR"),
        ("somewhere", {"affine": np.eye(4)}, "arrays only"),
        (make_study(np.zeros((3, 8, 8))), {"affine": np.eye(4)}, "arrays only"),
        ([[1, 2]], {}, "list"),
        ("somewhere", {"settings": "joint-4"}, "settings are of type str"),
        ("somewhere", {"settings": {"threads": 1}}, "settings are of type dict"),
        ("somewhere", {"settings": Settings}, "settings are of type type"),
        ("somewhere", {"progress": "bar"}, "progress is of type str"),
    ],
)
def test_analyze_says_what_it_does_not_take(source: Any, options: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        analyze(source, **options)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"threads": 0}, "0 threads: choose 1 to 1024"),
        ({"threads": 1025}, "1025 threads"),
        ({"threads": "2"}, "threads are '2': give a whole number"),
        ({"threads": 2.0}, "threads are 2.0"),
        ({"threads": True}, "threads are True"),
        ({"threads": [1]}, "threads are"),
        ({"model": None}, "the model is None: give its name"),
        ({"model": ""}, "the model is ''"),
        ({"model": b"joint-4"}, "the model is b'joint-4'"),
        ({"engine": "tensorrt"}, "no engine 'tensorrt': choose one of auto, openvino, onnxruntime"),
        (
            {"prevalence": 2.0},
            "prevalence is 2.0: give a share of studies from 0.000001 to 0.999999",
        ),
        ({"prevalence": float("nan")}, "prevalence is nan: give a share"),
        ({"prevalence": 1e-7}, "prevalence is 1e-07: give a share"),
        ({"prevalence": "0.1"}, "prevalence is '0.1': give a share"),
        ({"engine": None}, "no engine None: choose one of"),
        ({"engine": ["onnxruntime"]}, "no engine .*: choose one of"),
        ({"precision": "int4"}, "no precision 'int4': choose one of auto, float32, bfloat16, int8"),
        ({"precision": 16}, "no precision 16: choose one of"),
    ],
)
def test_settings_are_checked_when_they_are_made(change: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Settings(**change)  # type: ignore[arg-type]


def test_a_model_may_be_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    card = shipped_models()["joint-4"]
    monkeypatch.undo()
    assert Settings(model=card).load().card == Settings().load().card


def test_a_flat_image_is_not_assessed() -> None:
    analysis = analyze(np.full((4, 64, 64), 12.0))
    assert analysis.status is Status.NOT_ASSESSED
    assert analysis.decision.probability is None
    assert [one.code for one in analysis.flags if one.code == "NO_CONTRAST"]


def test_errors_have_codes_and_one_line() -> None:
    public = [kind for kind in _tree(GliosightError) if kind.__module__ == "gliosight.errors"]
    codes = {kind.__name__: kind.exit_code for kind in public}
    assert codes == {
        "UsageError": 2,
        "NothingReadableError": 3,
        "DamagedInputError": 4,
        "UnsupportedInputError": 5,
        "LimitExceededError": 6,
        "CannotWriteError": 7,
        "InUseError": 7,
        "ModelError": 8,
        "PeerError": 9,
        "InternalError": 70,
    }
    line = UsageError("a\nb\x1b[31m", where="c\u202e", remedy="d").line()
    assert line == "a\\nb\\x1b[31m (c\\u202e): d"


def _tree(kind: type[GliosightError]) -> list[type[GliosightError]]:
    return [one for sub in kind.__subclasses__() for one in (sub, *_tree(sub))]


@pytest.mark.slow
def test_a_name_that_is_no_utf8_is_a_name_all_the_same(small_phantom: Phantom) -> None:
    study = replace(small_phantom.study(), study_id="M\udcfc")  # a lone surrogate, as from Latin-1
    analysis = analyze(study)
    assert analysis.findings
    assert analysis.findings[0].tracking_uid.startswith("2.25.")


HUGE = np.broadcast_to(np.float32(1), (5000, 50000, 50000))
SMALL = np.zeros((3, 9, 9))


@pytest.mark.parametrize(
    ("source", "limits", "error", "words"),
    [
        (HUGE, None, LimitExceededError, "Limits(decoded_bytes=...)"),
        ({"FLAIR": SMALL, "T1": HUGE}, None, LimitExceededError, "(T1)"),
        (SMALL, Limits(decoded_bytes=900), LimitExceededError, "(FLAIR)"),
        (SMALL.tolist(), Limits(decoded_bytes=900), UsageError, "is of type list"),
        (SMALL, 3, UsageError, "limits are 3"),
        ("no/such/path", {"members": 3}, UsageError, "limits are"),
        ({"FLAIR": SMALL, "flair": SMALL}, None, UsageError, "FLAIR is given twice"),
    ],
)
def test_what_a_caller_gives_is_held_against_the_limits(
    source: Any, limits: Any, error: type[GliosightError], words: str
) -> None:
    with pytest.raises(error) as caught:
        read_study(source, limits=limits)
    assert words in caught.value.line()


@pytest.mark.parametrize(
    "change",
    [
        {"decoded_bytes": -5},
        {"decoded_bytes": 2.5},
        {"members": True},
        {"members": 0},
        {"ratio": float("nan")},
        {"ratio": "3"},
    ],
)
def test_limits_are_checked_when_they_are_made(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(change))):
        Limits(**change)


def test_an_affine_of_zeros_is_no_geometry() -> None:
    values = np.random.default_rng(1).normal(100, 10, (12, 40, 40))
    study = read_study(values, affine=np.zeros((4, 4)))
    assert study.geometry is None
    assert [flag.code for flag in study.flags if flag.code != "T1_MISSING"][:1] == ["NO_GEOMETRY"]


def test_little_runs_before_signals_are_answered() -> None:
    """``python -m gliosight`` imports the package before `__main__` can set its handlers."""
    code = (
        "import os; before = set(sys.modules); import gliosight; print(*set(sys.modules) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = [{SOURCE!r}]; {code}"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert set(done.stdout.split()) == {"gliosight", "__future__"}


def test_a_thread_that_cannot_start_is_a_limit() -> None:
    error = explained(RuntimeError("can't start new thread"))
    assert isinstance(error, LimitExceededError)
    assert explained(RuntimeError("anything else")) is None


@pytest.mark.slow
def test_a_head_that_no_one_has_is_analysed_without_its_spacing(small_phantom: Phantom) -> None:
    """The network would see it at a scale that it does not know, and sizes in ml would be wrong."""
    sound = small_phantom.study()
    assert sound.geometry is not None
    large = replace(
        sound.geometry,
        origins=sound.geometry.origins * 2.3,
        spacing=tuple(2.3 * side for side in sound.geometry.spacing),
    )
    volumes = {name: Volume(volume.values, large) for name, volume in sound.sequences.items()}
    analysis = analyze(replace(sound, sequences=volumes))
    assert "HEAD_TOO_LARGE" in [flag.code for flag in analysis.flags]
    assert analysis.status is Status.FOUND
    assert analysis.volume_ml is None
    assert {finding.side for finding in analysis.findings} == {"unknown"}
