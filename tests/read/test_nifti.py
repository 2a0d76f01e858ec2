"""NIfTI: values, geometry, grids, which file is which sequence, and what the header may claim."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from gliosight.errors import DamagedInputError, UnsupportedInputError, UsageError
from gliosight.read import Limits, Request, find, read
from gliosight.read.grid import EmptyAffineError, geometry_of
from gliosight.study import MrSequence

from .builders import codes_of, make_volume, read_path, write_nifti

FLAIR, T1, T1C = MrSequence.FLAIR, MrSequence.T1, MrSequence.T1C
WORLD_TOLERANCE_MM = 1e-4
BOTH_MISSING = ["T1_MISSING", "T1C_MISSING"]


def rotation(x: float, y: float, z: float) -> NDArray[np.float64]:
    """Rotation by degrees about x, then y, then z."""
    out = np.eye(3)
    for axis, angle in enumerate(np.radians([x, y, z])):
        one, two = [other for other in range(3) if other != axis]
        turn = np.eye(3)
        turn[one, one] = turn[two, two] = np.cos(angle)
        turn[one, two], turn[two, one] = -np.sin(angle), np.sin(angle)
        out = turn @ out
    return out


def affine_of(matrix: NDArray[Any], spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    out = np.eye(4)
    out[:3, :3] = matrix * np.array(spacing)
    out[:3, 3] = [-90.5, 33.25, 12.0]
    return out


TILT = np.array([[1, 0, 0], [0, 1, 0.3], [0, 0, 1]])

# Every way a stack of slices can lie in the patient.
PLACES = {
    "RAS": affine_of(np.eye(3), (0.7, 0.7, 5.0)),
    "LPS": affine_of(np.diag([-1, -1, 1]), (0.7, 0.9, 5.0)),
    "slices downwards": affine_of(np.diag([-1, 1, -1]), (1, 1, 3)),
    "left-handed": affine_of(np.diag([1, 1, -1]), (1, 1, 3)),
    "sagittal": affine_of(np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]), (1, 1.5, 2)),
    "coronal, flipped": affine_of(np.array([[-1, 0, 0], [0, 0, 1], [0, -1, 0]]), (0.5, 0.5, 6)),
    "oblique, anisotropic": affine_of(rotation(12, -31, 55), (0.45, 0.8, 4.4)),
    "oblique, flipped": affine_of(rotation(200, 10, -70) @ np.diag([1, -1, 1]), (0.9, 0.7, 3.3)),
    "gantry tilt": affine_of(rotation(5, 5, 5) @ TILT, (0.9, 0.9, 4.0)),
}
IDENTITIES = {"numpy's": np.eye(4), "ITK's": np.diag([-1.0, -1, 1, 1])}
# A head in 1 mm: slices, rows, columns.
WHOLE = (100, 104, 101)


def sform(affine: NDArray[Any]) -> dict[str, Any]:
    """Header fields of an sform of its own, beside the qform that was written."""
    return dict(zip(("srow_x", "srow_y", "srow_z"), affine, strict=False))


def flair_file(folder: Path, affine: NDArray[Any] | None = None, **options: Any) -> Path:
    return write_nifti(folder / "flair.nii", make_volume(), affine, **options)


def write_folder(folder: Path, *names: str) -> None:
    for seed, name in enumerate(names):
        write_nifti(folder / name, make_volume(seed=seed))


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("order", "<>")
def test_integers_stay_integers(tmp_path: Path, dtype: str, order: str) -> None:
    values = (make_volume() // 2).astype(order + dtype)
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(dtype)
    image = nib.Nifti1Image(values.transpose(), np.diag([1, 1, 5, 1]), header)
    nib.save(image, tmp_path / "a_flair.nii.gz")
    study = read_path(tmp_path / "a_flair.nii.gz")
    np.testing.assert_array_equal(study.flair.values, values)
    assert study.flair.values.dtype == np.dtype(dtype)
    assert study.flair.values.dtype.isnative


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image, nib.Nifti1Pair, nib.Nifti2Pair])
def test_kinds_of_file(tmp_path: Path, kind: Any, packed: str) -> None:
    values = make_volume(dtype="int16")
    names = ["nii"] if kind.__name__.endswith("Image") else ["img", "hdr"]
    nib.save(
        kind(values.transpose(), np.diag([2, 2, 5, 1])), tmp_path / f"flair.{names[0]}{packed}"
    )
    for path in (*(tmp_path / f"flair.{name}{packed}" for name in names), tmp_path):
        study = read_path(path)
        np.testing.assert_array_equal(study.flair.values, values)
        assert study.geometry is not None
        assert study.geometry.spacing == (2, 2)
        (candidate,) = find(path, Limits())
        seen = candidate.describe(Limits())
        assert seen.error is None
        assert [row.name for row in seen.series] == [f"flair.{names[-1]}{packed}"]


@pytest.mark.parametrize("end", ["hdr", "img", "hdr.gz", "img.gz"])
def test_analyze_is_named_whichever_file_is_given(tmp_path: Path, end: str) -> None:
    suffix = ".gz" if end.endswith("gz") else ""
    nib.save(nib.AnalyzeImage(make_volume().transpose(), np.eye(4)), tmp_path / f"a.img{suffix}")
    with pytest.raises(UnsupportedInputError, match=r"Analyze 7.5.*convert it to NIfTI") as caught:
        read_path(tmp_path / f"a.{end}")
    assert caught.value.where == f"a.{end}"


@pytest.mark.parametrize("name", ["flair.nii", "flair.nii.gz", "flair.dat", "flair"])
def test_magic_decides_not_the_suffix(tmp_path: Path, name: str) -> None:
    plain = flair_file(tmp_path / "x").read_bytes()
    for content in (plain, gzip.compress(plain)):
        (tmp_path / name).write_bytes(content)
        np.testing.assert_array_equal(read_path(tmp_path / name).flair.values, make_volume())


@pytest.mark.parametrize("unit", [1e-300, 1e-43, 1e-20, 1.0, 1e20, 1e37, 1e150])
def test_contrast_survives_any_unit(tmp_path: Path, unit: float) -> None:
    """MR has no unit; as doubles and as floats. Numbers below 1e-38 have few digits as float32."""
    values = make_volume(dtype="float64")
    files = {"f8": values * unit}
    if 1e-45 < unit < 1e38 / 300:
        files["f4"] = (values * unit).astype(np.float32)
    for name, stored in files.items():
        study = read_path(write_nifti(tmp_path / name / "flair.nii", stored))
        got = study.flair.values.astype(np.float64)
        assert study.flair.values.dtype == np.float32
        assert got.max() > 1e-9
        close = 0.02 if name == "f4" and unit < 1e-38 else 1e-5
        np.testing.assert_allclose(got / got.max(), values / values.max(), atol=close)
        assert codes_of(study) == BOTH_MISSING


def test_scaling_gives_float32(tmp_path: Path) -> None:
    values = make_volume(dtype="int16")
    for slope, intercept in ((0.5, -3.0), (1e-30, 0.0), (1e30, 0.0)):
        path = write_nifti(tmp_path / "flair.nii", values, scl_slope=slope, scl_inter=intercept)
        got = read_path(path).flair.values
        assert got.dtype == np.float32
        if intercept:
            np.testing.assert_array_equal(got, values * np.float32(slope) + intercept)
        got = (got.astype(np.float64) - got.min()) / np.ptp(got)
        np.testing.assert_allclose(got, (values - values.min()) / np.ptp(values), atol=1e-6)


def test_one_wild_voxel_changes_no_unit(tmp_path: Path) -> None:
    values = make_volume(dtype="float64")
    values[2, 2, 2] = 1e300
    study = read_path(write_nifti(tmp_path / "flair.nii", values))
    assert codes_of(study)[0] == "NOT_FINITE"
    assert study.flair.values.max() == np.delete(values.ravel(), values.argmax()).max()


def test_volumes_of_four_dimensions(tmp_path: Path) -> None:
    volumes = np.stack([make_volume(seed=seed) for seed in range(3)])
    for suffix in ("nii", "nii.gz"):
        path = write_nifti(tmp_path / f"flair.{suffix}", volumes)
        with pytest.raises(UnsupportedInputError, match=r"3 volumes.*--volume N, N from 0 to 2"):
            read_path(path)
        study = read_path(path, volume_index=2)
        np.testing.assert_array_equal(study.flair.values, volumes[2])
        assert codes_of(study)[0] == "VOLUME_CHOSEN"
        assert study.source.nifti_header.get_data_shape() == (20, 24, 5)
        with pytest.raises(UsageError, match="volume 3"):
            read_path(path, volume_index=3)
    path = write_nifti(tmp_path / "flair.nii", make_volume()[None])
    assert codes_of(read_path(path)) == BOTH_MISSING


@pytest.mark.parametrize(
    ("dim", "shape"),
    [
        ([4, 20, 24, 5, 0, 0, 0, 0], (5, 24, 20)),  # as FSL writes a single volume
        ([5, 20, 24, 5, 0, 0, 0, 0], (5, 24, 20)),
        ([3, 20, 24, 5, 0, 0, 0, 0], (5, 24, 20)),
        ([7, 20, 24, 5, 1, 0, 1, 0], (5, 24, 20)),
        ([2, 20, 120, 0, 0, 0, 0, 0], (1, 120, 20)),
    ],
)
def test_lengths_of_0_behind_the_last_axis(
    tmp_path: Path, dim: list[int], shape: tuple[int, int, int]
) -> None:
    study = read_path(flair_file(tmp_path, dim=dim))
    assert study.shape == shape
    np.testing.assert_array_equal(study.flair.values.ravel(), make_volume().ravel())


@pytest.mark.parametrize("bits", [0, 16])
def test_bitpix_of_0_is_not_filled_in(tmp_path: Path, bits: int) -> None:
    values = make_volume(dtype="int16")
    study = read_path(write_nifti(tmp_path / "flair.nii", values, bitpix=bits))
    np.testing.assert_array_equal(study.flair.values, values)


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """nibabel would log a header with odd zooms."""
    read_path(flair_file(tmp_path, pixdim=[0, 0, -1, 0, 0, 0, 0, 0]))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("place", "codes"),
    [
        *((place, (1, 0)) for place in PLACES),
        *((place, (0, 1)) for place in PLACES if "tilt" not in place),
    ],
)
def test_world_positions_are_nibabels(tmp_path: Path, place: str, codes: tuple[int, int]) -> None:
    path = flair_file(tmp_path, PLACES[place], codes=codes)
    study = read_path(path)
    assert study.geometry is not None
    voxels = np.stack(np.meshgrid(*[range(side) for side in study.shape], indexing="ij"), -1)
    wanted = nib.affines.apply_affine(nib.load(path).affine, voxels[..., ::-1])
    np.testing.assert_allclose(
        study.geometry.to_world(voxels), wanted, atol=WORLD_TOLERANCE_MM, rtol=0
    )


NAN_ROW = {"srow_x": [np.nan, 0, 0, 0]}
SHEARED = np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 5, 0], [0, 0, 0, 1.0]])
AXIAL = np.diag([-1.0, -1, 5, 1])


@pytest.mark.parametrize(
    ("affine", "options", "code", "words"),
    [
        (np.diag([1.0, 1, 5, 1]), {"codes": (0, 0)}, "NO_GEOMETRY", "codes are 0"),
        (np.diag([1.0, 0, 5, 1]), {"codes": (1, 0)}, "NO_GEOMETRY", "singular"),
        (np.diag([1.0, 1, 0, 1]), {"codes": (1, 0)}, "NO_GEOMETRY", "singular"),
        (np.diag([0.05, 0.05, 5, 1]), {"codes": (1, 0)}, "NO_GEOMETRY", "0.05 mm apart"),
        (np.diag([1.0, 1, 25, 1]), {"codes": (1, 0)}, "NO_GEOMETRY", "slices are 25 mm apart"),
        (SHEARED, {"codes": (1, 0)}, "NO_GEOMETRY", "not perpendicular"),
        (None, {"codes": (1, 0), **NAN_ROW}, "NO_GEOMETRY", "NaN"),
        (None, {"codes": (0, 1), "quatern_b": 3.0}, "NO_GEOMETRY", "NaN"),
        (IDENTITIES["numpy's"], {}, "NO_GEOMETRY", "the identity"),
        (IDENTITIES["ITK's"], {}, "NO_GEOMETRY", "the identity"),
        # The qform is used where the sform says nothing, or is a program's default.
        (None, NAN_ROW, "QFORM_USED", "NaN"),
        (None, sform(np.zeros((3, 4))), "QFORM_USED", "singular"),
        (AXIAL, sform(np.eye(4)), "QFORM_USED", "the identity"),
        (None, {"qoffset_x": 7.0}, "FORMS_DISAGREE", "up to 7.0 mm; the sform is used"),
        (AXIAL, sform(np.diag([1.0, -1, 5, 1])), "FORMS_DISAGREE", "which side is left"),
        (AXIAL, sform(np.diag([1.0, 1, 5, 1])), "FORMS_DISAGREE", "which side is left"),
        (AXIAL, sform(AXIAL[[1, 0, 2, 3]]), "FORMS_DISAGREE", "which side is left"),
    ],
)  # fmt: skip
def test_which_form_is_believed(
    tmp_path: Path, affine: NDArray[Any] | None, options: dict[str, Any], code: str, words: str
) -> None:
    study = read_path(flair_file(tmp_path, affine, **options))
    assert codes_of(study) == [code, *BOTH_MISSING]
    assert words in study.flags[0].message
    assert (study.geometry is None) == (code == "NO_GEOMETRY")
    if study.geometry is not None:
        assert study.geometry.slice_spacing == 5
        assert study.geometry.believed == ("all but sides" if "side" in words else "all")
        assert study.geometry.origins[0, 0] == 0  # the sform's, where forms disagree


@pytest.mark.slow
@pytest.mark.parametrize("identity", IDENTITIES)
def test_an_identity_is_believed_as_far_as_it_can_be(tmp_path: Path, identity: str) -> None:
    affine = IDENTITIES[identity]
    study = read_path(write_nifti(tmp_path / "flair.nii", make_volume(WHOLE), affine))
    assert codes_of(study)[0] == "SIDE_UNKNOWN"
    assert study.geometry is not None
    assert study.geometry.believed == "sizes"
    assert study.geometry.pixel_area == study.geometry.slice_spacing == 1
    for shape in ((28, 102, 102), (1, 102, 102)):
        study = read_path(write_nifti(tmp_path / "flair.nii", make_volume(shape), affine))
        assert codes_of(study)[0] == "NO_GEOMETRY"
    with pytest.raises(EmptyAffineError):
        geometry_of(affine[:, [2, 1, 0, 3]], (104, 104, 320))
    # With an origin of its own, as BraTS has it, or beside a real qform it is another matter.
    for shift in ((0, 239, 0), (-50, 0, 0), (0, 0, 0.5)):
        moved = affine.copy()
        moved[:3, 3] = shift
        assert codes_of(read_path(flair_file(tmp_path, moved))) == BOTH_MISSING
    path = write_nifti(tmp_path / "flair.nii", make_volume(WHOLE), AXIAL, **sform(affine))
    assert codes_of(read_path(path))[0] == "QFORM_USED"


@pytest.mark.parametrize("shape", [(100, 64, 8), (100, 8, 64), (64, 64, 1)])
def test_slices_that_lie_along_another_axis_without_geometry_are_refused(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    values = np.arange(np.prod(shape), dtype="int32").reshape(shape)
    for codes, affine in (((0, 0), None), ((2, 0), np.eye(4))):
        path = write_nifti(tmp_path / "flair.nii", values, affine, codes=codes)
        with pytest.raises(UnsupportedInputError, match=r"\(i, j, k\)"):
            read_path(path)
    assert read_path(write_nifti(path, values)).shape == shape


def sheared(shear: float, turn: NDArray[Any] | None = None) -> NDArray[np.float64]:
    """Rows and columns whose cosine is ``shear``, 0.9 by 1.1 by 4 mm, somewhere."""
    affine = affine_of(np.eye(3) if turn is None else turn, (0.9, 1.1, 4.0))
    angle = np.arcsin(shear)
    length = np.linalg.norm(affine[:3, 1])
    across, along = affine[:3, 0] / 0.9, affine[:3, 1] / length
    affine[:3, 1] = length * (np.cos(angle) * along + np.sin(angle) * across)
    return affine


@pytest.mark.parametrize("shear", [0.0011, 0.002, -0.01, 0.05, 0.149])
@pytest.mark.parametrize("turn", [np.diag([-1, -1, 1]), rotation(12, -31, 55)])
def test_a_small_shear_is_straightened(tmp_path: Path, shear: float, turn: NDArray[Any]) -> None:
    affine = sheared(shear, turn)
    for seed, name in enumerate(("flair", "t1")):
        write_nifti(tmp_path / f"{name}.nii", make_volume(seed=seed), affine, codes=(1, 0))
    study = read_path(tmp_path)
    assert codes_of(study) == ["AFFINE_STRAIGHTENED", "T1C_MISSING"]
    # Sequences of one sheared grid stay on it.
    np.testing.assert_array_equal(study.sequences[T1].values, make_volume(seed=1))
    geometry = study.geometry
    assert geometry is not None
    assert geometry.slice_spacing is not None
    volume = geometry.pixel_area * geometry.slice_spacing
    assert volume == pytest.approx(abs(np.linalg.det(affine[:3, :3])), rel=1e-5)
    # The middle stays where it was, and no corner goes farther than half of what the shear moves.
    corners = np.array([[k, j, i] for k in (0, 4) for j in (0, 23) for i in (0, 19)])
    moved = geometry.to_world(corners) - nib.affines.apply_affine(affine, corners[:, ::-1])
    np.testing.assert_allclose(moved.mean(axis=0), 0, atol=1e-4)
    diagonal = np.hypot(23 * 1.1, 19 * 0.9)
    assert np.linalg.norm(moved, axis=1).max() <= abs(shear) * diagonal / 2 + 1e-3


@pytest.mark.parametrize("shear", [0.002, 0.05, 0.3])
def test_a_sound_qform_goes_before_a_sheared_sform(tmp_path: Path, shear: float) -> None:
    path = flair_file(tmp_path, sheared(shear))
    study = read_path(path)
    assert codes_of(study) == ["QFORM_USED", *BOTH_MISSING]
    assert study.geometry is not None
    qform = nib.load(path).get_qform()
    np.testing.assert_allclose(study.geometry.affine, qform[:, [2, 1, 0, 3]], atol=1e-5)
    # The mask lies where the file says, sheared as it is.
    header = study.source.nifti_header
    np.testing.assert_allclose(header.get_best_affine(), nib.load(path).affine)


@pytest.mark.parametrize(("unit", "factor"), [(2, 1.0), (1, 1000.0)])
@pytest.mark.parametrize(("thickness", "wanted"), [(0.004, 4.0), (0.0, None)])
def test_a_lone_slice_without_a_slice_axis(
    tmp_path: Path, unit: int, factor: float, thickness: float, wanted: float | None
) -> None:
    """Usual for two dimensions: nothing is invented where pixdim is 0."""
    affine = np.diag([1 / factor, 1 / factor, 1, 1])
    pixdim = [1, 1 / factor, 1 / factor, thickness * 1000 / factor, 0, 0, 0, 0]
    rows = sform(affine[:3] * [1, 1, 0, 1])
    for codes in ((0, 1), (1, 0)):
        fields = {"codes": codes, "xyzt_units": unit, "pixdim": pixdim, **rows}
        study = read_path(write_nifti(tmp_path / "flair.nii", make_volume()[2], affine, **fields))
        np.testing.assert_array_equal(study.flair.values, make_volume()[2:3])
        assert study.geometry is not None
        assert study.geometry.spacing == pytest.approx((1, 1))
        assert study.geometry.slice_spacing == (wanted and pytest.approx(wanted))
        (lone,) = (note.message for note in study.flags if note.code == "SINGLE_SLICE")
        assert ("its thickness, 4 mm" if wanted else "nothing tells how thick") in lone


@pytest.mark.parametrize(("unit", "factor"), [(1, 1000.0), (3, 0.001), (0, 1.0), (2, 1.0)])
def test_units(tmp_path: Path, unit: int, factor: float) -> None:
    affine = np.diag([1 / factor, 1 / factor, 5 / factor, 1])
    path = flair_file(tmp_path, affine, xyzt_units=unit)
    study = read_path(path)
    assert study.geometry is not None
    assert study.geometry.slice_spacing == pytest.approx(5)
    assert ("UNITS_CONVERTED" in codes_of(study)) == (factor != 1)
    header = study.source.nifti_header
    np.testing.assert_allclose(header.get_best_affine(), nib.load(path).affine)


@pytest.mark.parametrize("codes", [(1, 1), (2, 0), (0, 1), (4, 1), (0, 0)])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_source_writes_a_mask_in_the_same_place(
    tmp_path: Path, codes: tuple[int, int], kind: Any
) -> None:
    original = kind.from_image(
        nib.load(flair_file(tmp_path / "a", PLACES["oblique, flipped"], codes=codes))
    )
    original.header["descrip"] = b"somebody's name"
    nib.save(original, tmp_path / "flair.nii")
    header = read_path(tmp_path / "flair.nii").source.nifti_header
    assert b"name" not in header.binaryblock
    header.set_data_dtype(np.uint8)
    mask = kind(np.zeros(header.get_data_shape(), np.uint8), None, header)
    nib.save(mask, tmp_path / "mask.nii")
    before, after = nib.load(tmp_path / "flair.nii"), nib.load(tmp_path / "mask.nii")
    assert after.shape == before.shape
    for name in ("sform_code", "qform_code", "srow_x", "quatern_b", "pixdim", "xyzt_units"):
        np.testing.assert_array_equal(after.header[name], before.header[name])
    np.testing.assert_allclose(after.affine, before.affine)


def ramp(shape: tuple[int, int, int], affine: NDArray[Any]) -> NDArray[np.float32]:
    """An image whose value is a linear function of the world position: interpolation is exact."""
    voxels = np.stack(np.meshgrid(*[range(n) for n in shape], indexing="ij"), -1)[..., ::-1]
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    return (world @ np.array([1.0, 2.0, -0.5]) + 500).astype(np.float32)


@pytest.mark.parametrize("place", PLACES)
def test_resampled_where_the_world_is_shared(tmp_path: Path, place: str) -> None:
    flair_affine = PLACES[place]
    shape = (5, 24, 20)
    write_nifti(tmp_path / "flair.nii", make_volume(shape), flair_affine, codes=(1, 0))
    # A larger, finer grid of axial slices around FLAIR's, wherever that lies.
    corners = np.array([[i, j, k, 1] for i in (0, 19) for j in (0, 23) for k in (0, 4)])
    world = (corners @ flair_affine.T)[:, :3]
    low, high = world.min(0) - 2, world.max(0) + 2
    t1_affine = np.diag([1.1, 0.9, 1.3, 1])
    t1_affine[:3, 3] = low
    sides = np.ceil((high - low) / np.diag(t1_affine)[:3]).astype(int) + 1
    t1 = ramp((sides[2], sides[1], sides[0]), t1_affine)
    write_nifti(tmp_path / "t1.nii", t1, t1_affine, codes=(1, 0))
    study = read_path(tmp_path)
    assert codes_of(study) == ["T1_RESAMPLED", "T1C_MISSING"]
    got = study.sequences[T1].values
    np.testing.assert_allclose(got, ramp(shape, flair_affine), atol=0.01)


# FLAIR's grid, moved to the side by millimetres.
MOVED = {
    shift: np.array([[1.0, 0, 0, shift], [0, 1, 0, 0], [0, 0, 5, 0], [0, 0, 0, 1]])
    for shift in (0, 0.01, 3, 15)
}
SMALL, HEAD = (5, 24, 20), (100, 101, 102)
NOWHERE = ["NO_GEOMETRY", "GRID_ASSUMED", "T1C_MISSING"]
RESAMPLED, LEFT_OUT = ["T1_RESAMPLED", "T1C_MISSING"], ["T1_LEFT_OUT", "T1C_MISSING"]


@pytest.mark.parametrize(
    ("codes", "flair_affine", "t1_affine", "shape", "t1_shape", "flags"),
    [
        ((1, 1), MOVED[0], MOVED[3], SMALL, SMALL, RESAMPLED),  # the same world
        ((2, 0), MOVED[0], MOVED[3], SMALL, SMALL, LEFT_OUT),  # another world
        ((2, 1), MOVED[0], MOVED[3], SMALL, SMALL, RESAMPLED),  # shared by the qforms
        ((0, 0), MOVED[0], MOVED[3], SMALL, SMALL, LEFT_OUT),  # lies nowhere
        ((2, 0), MOVED[0], MOVED[0], SMALL, SMALL, ["T1C_MISSING"]),  # one grid, whatever its name
        ((1, 1), MOVED[0], MOVED[0.01], SMALL, SMALL, ["T1C_MISSING"]),  # off by rounding only
        ((1, 1), MOVED[0], MOVED[15], SMALL, SMALL, LEFT_OUT),  # hardly overlaps
        # An identity is no shared world.
        ((0, 0), None, None, SMALL, SMALL, NOWHERE),
        ((1, 1), np.eye(4), np.eye(4), SMALL, SMALL, NOWHERE),
        ((1, 1), np.eye(4), np.eye(4), SMALL, (6, 24, 20), ["NO_GEOMETRY", *LEFT_OUT]),
        ((1, 1), np.eye(4), np.eye(4), HEAD, HEAD, ["SIDE_UNKNOWN", "T1C_MISSING"]),
        ((1, 1), np.eye(4), np.eye(4), HEAD, (100, 101, 103), ["SIDE_UNKNOWN", *LEFT_OUT]),
    ],
)
def test_worlds_of_grids(
    tmp_path: Path,
    codes: tuple[int, int],
    flair_affine: NDArray[Any] | None,
    t1_affine: NDArray[Any] | None,
    shape: tuple[int, int, int],
    t1_shape: tuple[int, int, int],
    flags: list[str],
) -> None:
    flair_codes = codes if flair_affine is None else (1, 1)
    write_nifti(tmp_path / "flair.nii", make_volume(shape), flair_affine, codes=flair_codes)
    t1 = make_volume(t1_shape, seed=1)
    write_nifti(tmp_path / "t1.nii", t1, t1_affine, codes=codes)
    study = read_path(tmp_path)
    assert codes_of(study) == flags
    if flags == ["T1C_MISSING"]:  # not a value touched
        np.testing.assert_array_equal(study.sequences[T1].values, t1)


def test_outside_is_air_and_nan_is_replaced_before_interpolation(tmp_path: Path) -> None:
    write_nifti(tmp_path / "flair.nii", make_volume())
    moved = np.diag([1.0, 1, 5, 1])
    moved[1, 3] = 10.0  # rows 0 to 9 of FLAIR lie outside
    write_nifti(tmp_path / "t1.nii", make_volume(seed=1) + 20, moved)
    t1 = read_path(tmp_path).sequences[T1].values
    assert (t1[:, :9] == 20).all()
    np.testing.assert_allclose(t1[:, 10:], make_volume(seed=1)[:, :-10] + 20.0)
    values = make_volume(seed=1, dtype="float32") + 20
    values[:, :, :2] = np.nan
    write_nifti(tmp_path / "t1.nii", values, moved)
    study = read_path(tmp_path)
    assert codes_of(study) == ["BACKGROUND_NOT_FINITE", "T1_RESAMPLED", "T1C_MISSING"]
    assert (study.sequences[T1].values[:, 10:, :2] == 0).all()


def test_what_else_lies_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "case 7"
    write_folder(folder, "p_flair.nii.gz", "p_t1.nii.gz", "p_t1ce.nii.gz", "p_t2.nii.gz")
    (folder / "notes.txt").write_text("not an image")
    write_nifti(folder / "p_seg.nii.gz", (make_volume() > 100).astype(np.uint8))
    study = read_path(folder)
    assert study.study_id == "case 7"
    assert study.flags == ()
    assert study.source.files == ("p_flair.nii.gz", "p_t1.nii.gz", "p_t1ce.nii.gz")


def test_bids_folder_is_named_by_its_files(tmp_path: Path) -> None:
    anat = tmp_path / "sub-07" / "ses-2" / "anat"
    write_folder(anat, "sub-07_ses-2_FLAIR.nii.gz", "sub-07_ses-2_T1w.nii.gz")
    assert read_path(anat).study_id == "sub-07_ses-2"
    assert read_path(tmp_path / "sub-07").study_id == "sub-07_ses-2"


def test_explicit_files(tmp_path: Path) -> None:
    write_folder(tmp_path, "a.nii", "b.nii", "c.nii", "d_flair.nii", "p_seg.nii")
    study = read(
        Request(None, flair=tmp_path / "a.nii", t1=tmp_path / "b.nii", t1c=tmp_path / "c.nii")
    )
    assert study.study_id == "a"
    assert study.flags == ()
    assert set(study.sequences) == set(MrSequence)
    study = read(Request(tmp_path / "d_flair.nii", t1=tmp_path / "b.nii"))
    assert set(study.sequences) == {FLAIR, T1}
    with pytest.raises(DamagedInputError, match=r"by its name a mask.*\(p_seg\.nii\)"):
        read(Request(tmp_path / "p_seg.nii", t1=tmp_path / "b.nii"))


@pytest.mark.parametrize(
    ("name", "option", "words"),
    [
        ("p_seg.nii", "flair", "a mask or label map"),  # labels 0 to 4: its values look like pixels
        ("p_t1.nii", "flair", "T1"),
        ("p_t2.nii", "flair", "T2"),
        ("p_flair.nii", "t1", "FLAIR"),
        ("p_t1ce.nii", "t1", "T1C"),
        ("p_t1.nii", "t1c", "T1"),
        ("p_aseg.nii", "t1c", "a mask or label map"),
    ],
)
def test_explicit_files_whose_names_contradict(
    tmp_path: Path, name: str, option: str, words: str
) -> None:
    write_folder(tmp_path, "a.nii", name)
    study = read(Request(**{"path": None, "flair": tmp_path / "a.nii", option: tmp_path / name}))
    (note,) = [note for note in study.flags if note.code == "NAME_CONTRADICTS"]
    assert note.severity == "warning"
    assert f"given as {option.upper()} ({name}) is {words} by its name" in note.message
    assert MrSequence(option.upper()) in study.sequences


def test_options_that_contradict(tmp_path: Path) -> None:
    write_folder(tmp_path, "a.nii")
    path = tmp_path / "a.nii"
    for request in (
        Request(path, flair=path),
        Request(None, t1=path),
        Request(None),
        Request(None, flair=tmp_path),
    ):
        with pytest.raises(UsageError):
            read(request)


def test_single_file_without_a_telling_name_is_flair(tmp_path: Path) -> None:
    write_folder(tmp_path / "p", "scan.nii.gz")
    for path in (tmp_path / "p" / "scan.nii.gz", tmp_path / "p"):
        assert codes_of(read_path(path)) == ["SEQUENCE_ASSUMED", *BOTH_MISSING]


@pytest.mark.parametrize(
    ("names", "taken", "words"),
    [
        ("FLAIR_km FLAIR T1", "FLAIR", "before contrast medium"),
        ("FLAIR_brain FLAIR T1", "FLAIR", "the original"),
        ("8_FLAIR_sag 5_FLAIR_ax T1_3", "5_FLAIR_ax", "axial or three-dimensional"),
        ("sub-1_run-1_FLAIR sub-1_run-2_FLAIR sub-1_T1w", "sub-1_run-2_FLAIR", "the last run"),
        ("p_FLAIR_filled p_FLAIR p_T1", "p_FLAIR", "the shortest name"),
    ],
)
def test_one_of_several_versions_of_flair(
    tmp_path: Path, names: str, taken: str, words: str
) -> None:
    write_folder(tmp_path, *(f"{name}.nii" for name in names.split()))
    study = read_path(tmp_path)
    assert study.source.files[0] == f"{taken}.nii"
    assert codes_of(study) == ["FLAIR_CHOSEN", "T1C_MISSING"]
    assert f"{taken}.nii is taken for FLAIR, {words}" in study.flags[0].message


@pytest.mark.parametrize(
    ("names", "taken", "codes"),
    [
        ("FLAIR|T1|T1Gd", {T1: "T1", T1C: "T1Gd"}, []),
        ("p_FLAIR|p_T1W|p_T1_post", {T1: "p_T1W", T1C: "p_T1_post"}, []),
        ("s_FLAIR|s_T1w|s_ce-gadolinium_T1w", {T1: "s_T1w", T1C: "s_ce-gadolinium_T1w"}, []),
        ("BraTS-GLI-1-t2f|BraTS-GLI-1-t1c", {T1C: "BraTS-GLI-1-t1c"}, ["T1_MISSING"]),
        ("BraTS-GLI-1-t2f|BraTS-GLI-1-t1n", {T1: "BraTS-GLI-1-t1n"}, ["T1C_MISSING"]),
        (
            "s-1_ses-post_FLAIR|s-1_ses-post_T1w|s-1_ses-post_ce-gd_T1w",
            {T1: "s-1_ses-post_T1w", T1C: "s-1_ses-post_ce-gd_T1w"},
            [],
        ),
        # Nothing in common but the folder.
        (
            "5_t2_tirm_tra_dark-fluid_20150101120501|t1_mpr_3|anna_T1_SE_GAD_7",
            {T1: "t1_mpr_3", T1C: "anna_T1_SE_GAD_7"},
            [],
        ),
        ("Ax T2 FLAIR wo|Ax T1 wo|Ax T1 w", {T1: "Ax T1 wo", T1C: "Ax T1 w"}, []),
        ("FLAIR|T1_without_5|T1_with_9", {T1: "T1_without_5", T1C: "T1_with_9"}, []),
        ("FLAIR|T1_W_O|T1_W", {T1: "T1_W_O", T1C: "T1_W"}, []),
        ("FLAIR|T1 wo contrast|T1 w contrast", {T1: "T1 wo contrast", T1C: "T1 w contrast"}, []),
        ("FLAIR|T1 pre|T1 post", {T1: "T1 pre", T1C: "T1 post"}, []),
        ("FLAIR wo|T1 w", {T1C: "T1 w"}, ["T1_MISSING"]),
        ("FLAIR wo|FLAIR w|T1", {T1: "T1"}, ["FLAIR_CHOSEN", "T1C_MISSING"]),
        # Alone it says nothing, nor does what is both, nor "weighted".
        ("FLAIR|T1 w", {T1: "T1 w"}, ["T1C_MISSING"]),
        ("FLAIR|T1_w_wo", {T1: "T1_w_wo"}, ["T1C_MISSING"]),
        ("FLAIR wo|T1w", {T1: "T1w"}, ["T1C_MISSING"]),
        ("w_flair|w_t1", {T1: "w_t1"}, ["T1C_MISSING"]),
        # Of another word: fat saturation, motion.
        ("FLAIR|t1_with_fs|t1_without_fs", {}, ["T1_LEFT_OUT", "T1C_MISSING"]),
        ("FLAIR|T1_with_motion|T1_without_motion", {}, ["T1_LEFT_OUT", "T1C_MISSING"]),
        ("FLAIR_without_fs|T1_W|T1_gd", {T1: "T1_W", T1C: "T1_gd"}, []),
        ("FLAIR|T1-W|T2 wo FS", {T1: "T1-W"}, ["T1C_MISSING"]),
        ("flair|t1_post|t1_sub", {T1C: "t1_post"}, ["T1_MISSING"]),
        # What is not used is named.
        ("FLAIR|T1|T1_brain", {T1: "T1"}, ["FILES_IGNORED", "T1C_MISSING"]),
        ("FLAIR|T1|T1gd|T1gd_brain", {T1: "T1", T1C: "T1gd"}, ["FILES_IGNORED"]),
        ("FLAIR|T1|T1 w", {}, ["T1_LEFT_OUT", "T1C_MISSING"]),
        ("p_flair|p_acq-a_T1w|p_acq-b_T1w", {}, ["T1_LEFT_OUT", "T1C_MISSING"]),
        # What says nothing is named where a sequence is missing.
        ("FLAIR|scan|T1_gd", {T1C: "T1_gd"}, ["FILES_IGNORED", "T1_MISSING"]),
        ("FLAIR|scan|T1|T1_gd", {T1: "T1", T1C: "T1_gd"}, []),
        # T1 with nulled fluid, as GE has it; FLAIR moved onto T1 is none.
        ("T2_FLAIR|T1_FLAIR|T1_FLAIR_+C", {T1: "T1_FLAIR", T1C: "T1_FLAIR_+C"}, []),
        ("FLAIR|FLAIR_T1_reg", {}, ["T1_MISSING", "T1C_MISSING"]),
        # Other dates and other patients' numbers and words.
        ("1999.01.23_flair|2001.05.09_t1", {}, ["T1_LEFT_OUT", "T1C_MISSING"]),
        ("GBM-00002_FLAIR|GBM-00003_T1", {}, ["T1_LEFT_OUT", "T1C_MISSING"]),
        ("p1_flair|p2_t1", {}, ["T1_LEFT_OUT", "T1C_MISSING"]),
        ("101500_FLAIR|102030_T1", {T1: "102030_T1"}, ["T1C_MISSING"]),
        ("anna_flair|anna_t1_gd|berta_t1", {T1C: "anna_t1_gd"}, ["T1_LEFT_OUT"]),
        # Of several that on FLAIR's grid, treated alike, of the same day.
        ("FLAIR|T1|T1_to_MNI|T1_to_FLAIR", {T1: "T1_to_FLAIR"}, ["FILES_IGNORED", "T1C_MISSING"]),
        ("FLAIR_brain|T1_brain|T1", {T1: "T1_brain"}, ["FILES_IGNORED", "T1C_MISSING"]),
        (
            "flair_20150101_5|t1_20150101_7|t1_20140101_5",
            {T1: "t1_20150101_7"},
            ["FILES_IGNORED", "T1C_MISSING"],
        ),
    ],
)
def test_t1_and_t1c_beside_flair(
    tmp_path: Path, names: str, taken: dict[MrSequence, str], codes: list[str]
) -> None:
    files = [f"{name}.nii" for name in names.split("|")]
    write_folder(tmp_path, *files)
    study = read_path(tmp_path)
    assert study.source.files == (files[0], *(f"{name}.nii" for name in taken.values()))
    assert codes_of(study) == codes
    assert set(study.sequences) == {FLAIR, *taken}
    for sequence, name in taken.items():
        wanted = make_volume(seed=files.index(f"{name}.nii"))
        np.testing.assert_array_equal(study.sequences[sequence].values, wanted)
    for note in study.flags:
        if note.code == "FILES_IGNORED":
            ignored = [name for name in files[1:] if name[:-4] not in taken.values()]
            assert f"not used: {', '.join(sorted(ignored))}" in note.message


def test_with_several_flairs_no_t1_is_called_missing(tmp_path: Path) -> None:
    write_folder(tmp_path, "FLAIR_1.nii", "FLAIR_2.nii", "T1.nii", "T1_gd.nii")
    for title in ("1", "2"):
        study = read_path(tmp_path / title)
        assert codes_of(study) == ["T1_LEFT_OUT", "T1C_LEFT_OUT"]
        words = "does not say to which of several FLAIR files it belongs (T1.nii)"
        assert words in study.flags[0].message


@pytest.mark.parametrize(
    "name", ["t2_tirm_tra", "Ax_T1_FLAIR", "T1_FLAIR", "FLAIR_ph", "gad", "cor_stir"]
)
def test_a_name_that_is_not_surely_flair_is_refused(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path, f"{name}.nii")
    for path in (tmp_path, tmp_path / f"{name}.nii"):
        with pytest.raises(UnsupportedInputError, match="no FLAIR"):
            read_path(path)
    assert read(Request(None, flair=tmp_path / f"{name}.nii")).flair is not None


def test_several_cases_in_one_folder(tmp_path: Path) -> None:
    write_folder(tmp_path, *(f"c{n}_{s}.nii" for n in (1, 2) for s in ("flair", "t1")))
    with pytest.raises(UnsupportedInputError, match=r"2 studies \(c1, c2\)"):
        read_path(tmp_path)
    study = read_path(tmp_path / "c2")
    assert study.study_id == "c2"
    np.testing.assert_array_equal(study.flair.values, make_volume(seed=2))
    np.testing.assert_array_equal(study.sequences[T1].values, make_volume(seed=3))


def test_two_files_say_flair(tmp_path: Path) -> None:
    write_folder(tmp_path, "p_flair.nii", "p_FLAIR.nii.gz")
    with pytest.raises(UnsupportedInputError, match=r"2 files say FLAIR.*--flair"):
        read_path(tmp_path)
