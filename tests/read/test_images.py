"""Studies of image objects (nibabel, SimpleITK), and arrays whose affine may be nibabel's."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from itertools import permutations
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
        self.values, self.components = values, components
        lps = LPS @ affine
        self.spacing = np.linalg.norm(lps[:3, :3], axis=0)
        self.direction = tuple((lps[:3, :3] / self.spacing).ravel())
        self.origin = tuple(lps[:3, 3])

    def GetSize(self) -> tuple[int, ...]:  # noqa: N802
        return self.values.shape[::-1]

    def GetNumberOfComponentsPerPixel(self) -> int:  # noqa: N802
        return self.components

    def GetDirection(self) -> tuple[float, ...]:  # noqa: N802
        return self.direction

    def GetSpacing(self) -> tuple[float, ...]:  # noqa: N802
        return tuple(self.spacing)

    def GetOrigin(self) -> tuple[float, ...]:  # noqa: N802
        return self.origin


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    library = ModuleType("standin")
    library.GetArrayFromImage = lambda image: image.values.copy()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "standin", library)
    monkeypatch.setattr(StandIn, "__module__", "standin.inside")
    return StandIn


def simple_itk() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SWIG's, of its own types
        return pytest.importorskip("SimpleITK")


def as_simple_itk(values: NDArray[Any], affine: NDArray[np.float64]) -> Any:
    image, made = simple_itk().GetImageFromArray(values), StandIn(values, affine)
    image.SetDirection(made.direction)
    image.SetSpacing(made.GetSpacing())
    image.SetOrigin(made.origin)
    return image


def as_nibabel(kind: Any) -> Callable[[NDArray[Any], NDArray[np.float64]], Any]:
    return lambda values, affine: kind(values.transpose(), affine)


MAKERS: dict[str, Callable[..., Any]] = {
    "NIfTI-1": as_nibabel(nib.Nifti1Image),
    "NIfTI-2": as_nibabel(nib.Nifti2Image),
    "MGH": as_nibabel(nib.MGHImage),
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
    before, after = (one.source["nifti"]["header"] for one in (file, image))
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


def test_an_image_moved_since_it_was_loaded(tmp_path: Path) -> None:
    image = nib.load(write_nifti(tmp_path / "flair.nii", make_volume()))
    image.affine[:3, 3] = 7, 8, 9
    study = read_study(image)
    assert study.geometry is not None
    np.testing.assert_allclose(study.geometry.origins[0], [7, 8, 9])


def test_an_image_without_an_affine_has_no_geometry() -> None:
    study = read_study(nib.Nifti1Image(make_volume().transpose(), None))
    assert codes_of(study)[0] == "NO_GEOMETRY"


def test_a_sheared_image_is_straightened_and_written_as_it_is(tmp_path: Path) -> None:
    image = nib.Nifti1Image(make_phantom(PhantomSpec(slices=5)).sequences[MrSequence.FLAIR].T, None)
    image.set_sform(sheared(0.01), 1)
    analysis = analyze(image)
    assert "AFFINE_STRAIGHTENED" in {one.code for one in analysis.flags}
    assert analysis.volume_ml is not None
    write_analysis(analysis, tmp_path / "out")
    mask = nib.load(tmp_path / "out" / "mask.nii.gz")
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-5)


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


HUGE = SimpleNamespace(shape=(30_000, 30_000, 300), dtype=np.dtype("f4"), ndim=3)
MASK = nib.Nifti1Image((make_volume() > 90).astype(np.int16).transpose(), np.eye(4))
LABELS = nib.Nifti1Image(make_volume().transpose(), np.eye(4))
LABELS.header.set_intent("label")
FLAIR = nib.Nifti1Image(make_volume().transpose(), np.eye(4))
FOUR = nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.eye(4))


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        (FOUR, UnsupportedInputError, r"one volume is read.*slicer"),
        (
            nib.Nifti1Image(np.zeros((4, 4, 4), np.complex64), np.eye(4)),
            UnsupportedInputError,
            "complex",
        ),
        (nib.AnalyzeImage(make_volume().T, np.eye(4)), UnsupportedInputError, "which side is left"),
        (StandIn(make_volume(), np.eye(4), components=3), UnsupportedInputError, "several numbers"),
        (nib.Nifti1Image(Broken(), np.eye(4)), DamagedInputError, r"Expected 4800.*a\\x1bb"),
        (nib.Nifti1Image(HUGE, np.eye(4)), LimitExceededError, "larger limits"),
        (MASK, DamagedInputError, "mask"),
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


def test_limits_hold_for_images() -> None:
    assert read_study(FLAIR, limits=Limits(decoded_bytes=9600)).shape == (5, 24, 20)
    with pytest.raises(LimitExceededError):
        read_study(FLAIR, limits=Limits(decoded_bytes=9599))


@pytest.mark.parametrize(
    "affine",
    [np.eye(3), "here", [[1, 2], [3]], np.eye(4).T.tolist()[:3], np.eye(4) * 1j, [None] * 4,
     np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [5, 6, 7, 1.0]])],
)  # fmt: skip
def test_what_is_no_affine(affine: Any) -> None:
    with pytest.raises(UsageError, match="affine"):
        read_study(make_volume(), affine=affine)
    with pytest.raises(UsageError, match="arrays only"):
        read_study(FLAIR, affine=np.eye(4))


@pytest.fixture(scope="module")
def heads() -> dict[str, tuple[NDArray[Any], NDArray[np.float64]]]:
    """FLAIR as nibabel gives it, (i, j, k), with its affine."""
    specs = {
        "thick slices": PhantomSpec(
            seed=4, matrix=128, pixel_mm=1.8, slices=28, slice_spacing_mm=5
        ),
        "small matrix": PhantomSpec(seed=5, matrix=72, pixel_mm=3, slices=24, slice_spacing_mm=6),
        "isotropic": PhantomSpec(seed=6, matrix=96, pixel_mm=2.2, slices=64, slice_spacing_mm=2.2),
    }
    out = {}
    for name, spec in specs.items():
        phantom = make_phantom(spec)
        assert phantom.geometry.affine is not None
        out[name] = phantom.sequences[MrSequence.FLAIR].T, phantom.geometry.affine[:, [2, 1, 0, 3]]
    return out


HEADS = ("thick slices", "small matrix", "isotropic")
DOUBT = {"thick slices": "refused", "small matrix": "refused", "isotropic": "flagged"}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("mistake", ["transposed", "affine alone", "moveaxis"])
def test_an_affine_of_nibabel_is_not_taken_for_ours(
    heads: dict[str, tuple[NDArray[Any], NDArray[np.float64]]], head: str, mistake: str
) -> None:
    """The data transposed and the affine as it was, or the other way round."""
    values, affine = heads[head]
    if mistake == "affine alone":
        affine = affine[:, [2, 1, 0, 3]]
    else:
        values = values.T if mistake == "transposed" else np.moveaxis(values, -1, 0)
    if DOUBT[head] == "refused":
        with pytest.raises(UsageError, match=r"those of nibabel.*\[2, 1, 0, 3\]"):
            read_study({"FLAIR": values}, affine=affine)
    else:
        assert "AFFINE_DOUBTED" in codes_of(read_study(values, affine=affine))


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("head", HEADS)
def test_no_right_affine_is_doubted(
    heads: dict[str, tuple[NDArray[Any], NDArray[np.float64]]], head: str, order: tuple[int, ...]
) -> None:
    """Axial, sagittal and coronal slices, rows and columns either way round, flipped or not."""
    values, affine = heads[head]
    for flips in ((False, False, False), (True, False, True), (False, True, False)):
        turn = np.eye(4)[:, [*order, 3]]
        for axis, flip in enumerate(flips):
            if flip:
                turn[:, 3] += turn[:, axis] * (values.shape[order[axis]] - 1)
                turn[:, axis] = -turn[:, axis]
        flipped = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
        study = read_study(values.transpose(order)[flipped], affine=affine @ turn)
        assert codes_of(study) == ["T1_MISSING", "T1C_MISSING"]


@pytest.mark.parametrize("affine", [None, np.eye(4), np.zeros((4, 4))])
@pytest.mark.parametrize("head", HEADS)
def test_axes_in_another_order_are_seen_without_an_affine(
    heads: dict[str, tuple[NDArray[Any], NDArray[np.float64]]], head: str, affine: Any
) -> None:
    values = heads[head][0]
    assert "AXES_DOUBTED" not in codes_of(read_study(values.T, affine=affine))
    for wrong in (values, np.moveaxis(values, 1, 0)):
        if DOUBT[head] == "refused":
            with pytest.raises(UsageError, match=r"nibabel's.*transpose\(2, 1, 0\)"):
                read_study(wrong, affine=affine)
        else:
            assert "AXES_DOUBTED" in codes_of(read_study(wrong, affine=affine))
    assert "AXES_DOUBTED" in codes_of(read_study(values.T.transpose(0, 2, 1), affine=affine))


def test_images_with_an_identity_are_as_files(
    heads: dict[str, tuple[NDArray[Any], NDArray[np.float64]]], stand_in: type[StandIn]
) -> None:
    values, _ = heads["thick slices"]
    for image in (nib.Nifti1Image(values, np.eye(4)), stand_in(values.T, LPS)):
        study = read_study(image)
        assert study.geometry is None
        assert codes_of(study) == ["NO_GEOMETRY", "T1_MISSING", "T1C_MISSING"]
    whole = read_study(make_volume((104, 112, 108)), affine=np.eye(4))
    assert codes_of(whole)[0] == "SIDE_UNKNOWN"
    assert whole.geometry is not None
    with pytest.raises(UnsupportedInputError):
        read_study(nib.Nifti1Image(values.T, np.eye(4)))


@pytest.mark.parametrize("shape", [(1, 128, 128), (12, 64, 64), (20, 30, 30)])
def test_noise_and_single_slices_are_not_doubted(shape: tuple[int, int, int]) -> None:
    values = np.random.default_rng(0).integers(0, 900, shape)
    for affine in (np.diag([5.0, 1, 1, 1]), np.diag([1.0, 1, 1, 1]), np.diag([3.0, 0.9, 1, 1])):
        assert "AFFINE_DOUBTED" not in codes_of(read_study(values, affine=affine))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_what_is_masked_is_air(dtype: str) -> None:
    values = make_volume(dtype=dtype) + 9
    hidden = np.zeros(values.shape, dtype=bool)
    hidden[:, :4] = True
    values[:, :4] = 250
    if values.dtype.kind == "f":
        values[:, 2] = np.nan
    for source in (
        np.ma.masked_array(values, hidden),
        nib.Nifti1Image(np.ma.masked_array(values, hidden).T, np.eye(4)),
    ):
        study = read_study({"FLAIR": source})
        assert codes_of(study)[0] == "MASKED_AS_AIR"
        assert not study.flair.values[hidden].any()
        np.testing.assert_array_equal(study.flair.values[~hidden], values[~hidden])
    plain = read_study(np.ma.masked_array(make_volume()))
    assert codes_of(plain) == ["T1_MISSING", "T1C_MISSING"]


def test_a_mask_over_everything_is_refused() -> None:
    with pytest.raises(DamagedInputError, match="masked"):
        read_study(np.ma.masked_all((3, 8, 8)))
