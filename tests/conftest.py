"""What several tests share: phantoms, the shipped model, and real data where it is at hand."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy
from scipy import ndimage

from gliosight import phantom as phantoms
from gliosight.card import read_card
from gliosight.infer.model import DEFAULT_MODEL, Model, find_card
from gliosight.phantom import Phantom, PhantomSpec, anatomy, scanner
from gliosight.pipeline import Settings
from gliosight.study import Geometry, MrSequence, Study, Volume

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = REPOSITORY.parent / "shared" / "data"
# Heads that this code has painted before, for all processes of a run and for later runs.
_PAINTERS = "".join(Path(str(code.__file__)).read_text("utf-8") for code in (anatomy, scanner))
_PAINTERS += np.__version__ + scipy.__version__
HEADS = REPOSITORY / ".pytest_cache" / "heads" / hashlib.sha256(_PAINTERS.encode()).hexdigest()[:16]


def make_phantom(spec: PhantomSpec | None = None) -> Phantom:
    """As `gliosight.phantom.make_phantom`, which takes up to seconds: each head is painted once."""
    spec = spec or PhantomSpec()
    path = HEADS / f"{hashlib.sha256(repr(spec).encode()).hexdigest()[:24]}.npz"
    with (
        contextlib.suppress(OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile),
        np.load(path) as arrays,
    ):
        sequences = {name: arrays[name.value] for name in spec.sequences}
        return Phantom(spec, sequences, arrays["truth"], scanner._geometry(spec))
    made = scanner.make_phantom(spec)
    arrays = {name.value: values for name, values in made.sequences.items()}
    with contextlib.suppress(OSError):
        HEADS.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.stem}-{os.getpid()}.npz")
        np.savez(part, truth=made.truth, **arrays)
        part.replace(path)
    return made


# Before any test imports it; the painter's own tests take it from `scanner`.
phantoms.make_phantom = make_phantom


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    """The demo's study: thick axial slices, a lesion on the patient's left."""
    return make_phantom()


@pytest.fixture(scope="session")
def small_phantom() -> Phantom:
    """Few slices round a lesion on the patient's right, for tests that need no whole head."""
    return make_phantom(PhantomSpec(seed=2, slices=9, lesion_side="right"))


@pytest.fixture(scope="session")
def model() -> Model:
    """The shipped model."""
    return Settings().load()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The card of a copy of the shipped model."""
    card = find_card(DEFAULT_MODEL)
    for path in (card, *card.parent.glob(f"{DEFAULT_MODEL}*.onnx")):
        shutil.copy(path, tmp_path)
    return tmp_path / card.name


class StubEngine:
    """Calls tumour what is bright in FLAIR, as the phantom's lesion is, and thicker than its scalp."""

    name, precision, answers = "stub", "float32", ("mask_logits", "slice_logits")

    def run(self, batch: np.ndarray, *_: object) -> Mapping[str, np.ndarray]:
        across = ndimage.generate_binary_structure(2, 1)[None, None]
        thick = ndimage.binary_opening(batch[:, 4:5] > 2, across, iterations=5)
        masks = np.where(thick, 9, -9).astype(np.float32)
        return {"mask_logits": masks, "slice_logits": masks.max(axis=(1, 2, 3))}


@pytest.fixture(scope="session")
def stub_model() -> Model:
    """The shipped model's card and a stand-in for its network, where what is tested is not the network."""
    card = replace(read_card(find_card(DEFAULT_MODEL)), input_check=None)
    return Model(card, {"joint": StubEngine()})


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data; the test is skipped where it is not at hand."""
    if not DATA.is_dir():
        pytest.skip("the real data set is not at hand")
    return DATA


@pytest.fixture(scope="session")
def dciodvfy() -> str:
    """The field's own checker of DICOM objects; never skipped in CI."""
    found = shutil.which("dciodvfy")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("dciodvfy is missing: install the package dicom3tools")
        pytest.skip("dciodvfy (package dicom3tools) is not installed")
    return found


@pytest.fixture(scope="session")
def package_index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What pip installs from; the test is skipped where it does not answer."""
    call = [sys.executable, "-m", "pip", "download", "--no-deps", "--retries", "0", "hatchling"]
    folder = tmp_path_factory.mktemp("index")
    if subprocess.run(call, cwd=folder, capture_output=True, check=False).returncode:
        pytest.skip("no package index can be reached")


@pytest.fixture(scope="session")
def lgg_patient(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One real patient in the LGG layout, unpacked."""
    patient = "TCGA_HT_7692_19960724"
    target = tmp_path_factory.mktemp("lgg")
    subprocess.run(
        [sys.executable, str(data / "unpack.py"), str(target), patient],
        check=True,
        capture_output=True,
    )
    return target / patient


def make_geometry(
    slices: int = 4,
    spacing: tuple[float, float, float] = (5.0, 1.0, 0.8),
    axes: np.ndarray | None = None,
    origin: tuple[float, float, float] = (10.0, -20.0, 30.0),
) -> Geometry:
    """An axial stack as in the LGG layout (up, back, to the left), or along other ``axes``."""
    up, back, left = np.array([[0, 0, 1.0], [0, -1.0, 0], [-1.0, 0, 0]]) if axes is None else axes
    origins = np.asarray(origin) + np.arange(slices)[:, None] * spacing[0] * np.asarray(up)
    return Geometry(origins, back, left, spacing[1:])


def make_study(values: np.ndarray, geometry: Geometry | None = None) -> Study:
    """A study of FLAIR alone."""
    names = tuple(f"s{k}" for k in range(len(values)))
    return Study("made", {MrSequence.FLAIR: Volume(values, geometry)}, names, "arrays")
