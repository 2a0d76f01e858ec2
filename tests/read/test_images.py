"""Studies of image objects (nibabel, SimpleITK): as files are read, and what is no study."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from gliosight import analyze, read_study
from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    LimitExceededError,
    UnsupportedInputError,
    UsageError,
)
from gliosight.phantom import Phantom, PhantomSpec, make_phantom
from gliosight.pipeline import write_analysis
from gliosight.read import Limits
from gliosight.study import MrSequence, Study

from .builders import codes_of, make_volume, read_path, write_nifti
from .test_nifti import PLACES, sheared

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


class StandIn:
    """What of SimpleITK's Image is used, so that the rule is tested where SimpleITK is not installed."""

    def __init__(
        self, values: NDArray[Any], affine: NDArray[np.float64], components: int = 1
    ) -> None:
        self.values = values
        lps = LPS @ affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        self.GetSize = lambda: values.shape[::-1]
        self.GetNumberOfComponentsPerPixel = lambda: components
        self.GetDirection = lambda: tuple((lps[:3, :3] / spacing).ravel())
        self.GetSpacing = lambda: tuple(spacing)
        self.GetOrigin = lambda: tuple(lps[:3, 3])


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    library = ModuleType("standin")
    library.GetArrayFromImage = lambda image: image.values.copy()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "standin", library)
    monkeypatch.setattr(StandIn, "__module__", "standin.inside")
    return StandIn


def as_simple_itk(values: NDArray[Any], affine: NDArray[np.float64]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SWIG's, of its own types
        library = pytest.importorskip("SimpleITK")
    image, made = library.GetImageFromArray(values), StandIn(values, affine)
    image.SetDirection(made.GetDirection())
    image.SetSpacing(made.GetSpacing())
    image.SetOrigin(made.GetOrigin())
    return image


MAKERS: dict[str, Callable[..., Any]] = {
    "NIfTI-1": lambda values, affine: nib.Nifti1Image(values.T, affine),
    "NIfTI-2": lambda values, affine: nib.Nifti2Image(values.T, affine),
    "MGH": lambda values, affine: nib.MGHImage(values.T, affine),
    "SimpleITK": as_simple_itk,
    "SimpleITK's stand-in": StandIn,
}


@pytest.mark.parametrize("place", [name for name in PLACES if name != "gantry tilt"])
@pytest.mark.parametrize("maker", MAKERS)
def test_an_image_lies_where_it_says(maker: str, place: str, stand_in: object) -> None:
    values = make_volume(dtype="int16")
    study = read_study(MAKERS[maker](values, PLACES[place]))
    assert codes_of(study) == ["T1_MISSING", "T1C_MISSING"]
    np.testing.assert_array_equal(study.flair.values, values)
    assert study.geometry is not None
    voxels = np.argwhere(values >= 0)
    wanted = nib.affines.apply_affine(PLACES[place], voxels[:, ::-1])
    np.testing.assert_allclose(study.geometry.to_world(voxels), wanted, atol=1e-3)


def same(one: Study, other: Study) -> bool:
    assert codes_of(one) == codes_of(other)
    assert one.sequences.keys() == other.sequences.keys()
    for name, volume in one.sequences.items():
        np.testing.assert_array_equal(volume.values, other.sequences[name].values)
        for field in ("origins", "row_direction", "column_direction", "spacing"):
            np.testing.assert_array_equal(
                getattr(volume.geometry, field, 0), getattr(other.geometry, field, 0)
            )
    return True


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("codes", [(1, 1), (0, 1), (2, 0), (0, 0)])
def test_a_loaded_file_is_read_like_its_path(
    tmp_path: Path, codes: tuple[int, int], kind: Any
) -> None:
    affine = PLACES["oblique, flipped"]
    made = write_nifti(tmp_path / "x.nii", make_volume(dtype="float64"), affine, codes=codes)
    path = tmp_path / "p_flair.nii"
    nib.save(kind.from_image(nib.load(made)), path)
    image, file = read_study(nib.load(path)), read_path(path)
    assert same(image, file)
    assert image.study_id == "p_flair"
    assert image.kind == "nifti"
    before, after = (study.source.nifti_header for study in (file, image))
    assert before.binaryblock == after.binaryblock


def test_sequences_on_other_grids_are_resampled_as_those_of_files_are(tmp_path: Path) -> None:
    moved = np.diag([1.0, 1, 5, 1])
    moved[:2, 3] = 0.5, -1
    write_nifti(tmp_path / "flair.nii", make_volume())
    write_nifti(tmp_path / "t1.nii", make_volume(seed=1), moved)
    write_nifti(tmp_path / "t1c.nii", make_volume(seed=2), codes=(4, 4))
    paths = {name: tmp_path / f"{name.lower()}.nii" for name in ("FLAIR", "T1", "T1C")}
    images = read_study({name: nib.load(path) for name, path in paths.items()})
    assert "T1_RESAMPLED" in codes_of(images)
    assert same(images, read_path(tmp_path))
    assert same(images, read_study({name: str(path) for name, path in paths.items()}))
    again = read_study({MrSequence[name]: nib.load(path) for name, path in paths.items()})
    assert same(images, again)


def test_an_affine_moved_since_it_was_loaded_or_absent(tmp_path: Path) -> None:
    image = nib.load(write_nifti(tmp_path / "flair.nii", make_volume()))
    image.affine[:3, 3] = 7, 8, 9
    study = read_study(image)
    assert study.geometry is not None
    np.testing.assert_allclose(study.geometry.origins[0], [7, 8, 9])
    without = read_study(nib.Nifti1Image(make_volume().transpose(), None))
    assert codes_of(without)[0] == "NO_GEOMETRY"


@pytest.mark.slow
def test_images_with_an_identity_are_as_files(stand_in: type[StandIn]) -> None:
    values = make_phantom(
        PhantomSpec(seed=4, matrix=128, pixel_mm=1.8, slices=28, slice_spacing_mm=5)
    ).sequences[MrSequence.FLAIR]
    for image in (nib.Nifti1Image(values.T, np.eye(4)), stand_in(values, LPS)):
        study = read_study(image)
        assert study.geometry is None
        assert codes_of(study) == ["NO_GEOMETRY", "T1_MISSING", "T1C_MISSING"]
    whole = read_study(make_volume((104, 112, 108)), affine=np.eye(4))
    assert codes_of(whole)[0] == "SIDE_UNKNOWN"
    assert whole.geometry is not None
    with pytest.raises(UnsupportedInputError):
        read_study(nib.Nifti1Image(values, np.eye(4)))


@pytest.mark.slow
def test_a_sheared_image_is_straightened_and_written_as_it_is(tmp_path: Path) -> None:
    image = nib.Nifti1Image(
        make_phantom(PhantomSpec(slices=5, matrix=128)).sequences[MrSequence.FLAIR].T, None
    )
    image.set_sform(sheared(0.01), 1)
    analysis = analyze(image)
    assert "AFFINE_STRAIGHTENED" in {flag.code for flag in analysis.flags}
    assert analysis.volume_ml is not None
    write_analysis(analysis, tmp_path / "out")
    mask = nib.load(tmp_path / "out" / "mask.nii.gz")
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-5)


@pytest.mark.slow
def test_the_mask_of_an_image_lies_where_the_image_does(
    tmp_path: Path, small_phantom: Phantom, stand_in: type[StandIn]
) -> None:
    geometry = small_phantom.geometry
    assert geometry.affine is not None
    affine = geometry.affine[:, [2, 1, 0, 3]]
    flair = small_phantom.sequences[MrSequence.FLAIR]
    masks = []
    for number, image in enumerate((nib.Nifti1Image(flair.T, affine), stand_in(flair, affine))):
        analysis = analyze({"flair": image})
        assert analysis.findings[0].side == "right"
        write_analysis(analysis, tmp_path / str(number))
        masks.append(nib.load(tmp_path / str(number) / "mask.nii.gz"))
        np.testing.assert_allclose(masks[-1].affine, affine, atol=1e-5)
        assert masks[-1].shape == flair.shape[::-1]
    np.testing.assert_array_equal(masks[0].dataobj, masks[1].dataobj)


class Broken:
    """A proxy whose file was cut off since it was loaded."""

    shape, dtype, ndim = (20, 24, 5), np.dtype("i2"), 3

    def __array__(self, *_: object, **__: object) -> NDArray[Any]:
        raise OSError("Expected 4800 bytes, got 12 bytes from a\x1bb")


def nifti(values: Any) -> nib.Nifti1Image:
    return nib.Nifti1Image(values, np.eye(4))


HUGE = SimpleNamespace(shape=(30_000, 30_000, 300), dtype=np.dtype("f4"), ndim=3)
FLAIR = nifti(make_volume().T)
LABELS = nifti(make_volume().T)
LABELS.header.set_intent("label")


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        (nifti(np.zeros((4, 4, 4, 2), "i2")), UnsupportedInputError, "one volume is read.*slicer"),
        (nifti(np.zeros((4, 4, 4), np.complex64)), UnsupportedInputError, "complex"),
        (nifti(np.zeros((4, 0, 4), "i2")), UnsupportedInputError, "give a volume"),
        (nib.AnalyzeImage(make_volume().T, np.eye(4)), UnsupportedInputError, "which side is left"),
        (StandIn(make_volume(), np.eye(4), components=3), UnsupportedInputError, "several numbers"),
        (nifti(Broken()), DamagedInputError, r"Expected 4800.*a\\x1bb"),
        (nifti(HUGE), LimitExceededError, "larger limits"),
        (nifti((make_volume() > 90).astype(np.int16).T), DamagedInputError, "mask"),
        (LABELS, DamagedInputError, "label image"),
        ({"FLAIR": FLAIR, "T1": make_volume()}, UsageError, "arrays and images"),
        ({"T1": FLAIR}, UsageError, "FLAIR"),
        ({}, UsageError, "FLAIR"),
        ({"FLAIR": None}, UsageError, "FLAIR"),
        ({"FLAIR": FLAIR, "T2": FLAIR}, UsageError, "T2"),
        ({3: FLAIR}, UsageError, "3"),
        (None, UsageError, "NoneType"),
        (7, UsageError, "int"),
        (b"flair.nii", UsageError, "bytes"),
        ([[1, 2], [3]], UsageError, "list"),
        ({"FLAIR": [[1, 2], [3]]}, UsageError, "list"),
        ([FLAIR], UsageError, "list"),
        (np.array(["a"]), UnsupportedInputError, "shape"),
        (np.array([[["a"]]]), UnsupportedInputError, "<U1"),
        (np.array([[[object()]]]), UnsupportedInputError, "object"),
        (np.float32(3), UnsupportedInputError, "shape"),
    ],
)
def test_what_is_no_study(
    source: Any, error: type[GliosightError], words: str, stand_in: object
) -> None:
    for call in (read_study, analyze):
        with pytest.raises(error, match=words) as caught:
            call(source)
        assert caught.value.line().isprintable()
        assert caught.value.remedy


def test_limits_hold_for_images_and_an_affine_is_for_arrays() -> None:
    assert read_study(FLAIR, limits=Limits(decoded_bytes=9600)).shape == (5, 24, 20)
    with pytest.raises(LimitExceededError):
        read_study(FLAIR, limits=Limits(decoded_bytes=9599))
    with pytest.raises(UsageError, match="arrays only"):
        read_study(FLAIR, affine=np.eye(4))
