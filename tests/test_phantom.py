"""Synthetic studies: the truth is where it is said to be, and the files hold what was made."""

from __future__ import annotations

import math
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile

from gliosight.errors import CannotWriteError
from gliosight.head import find_head
from gliosight.phantom import Phantom, PhantomSpec, make_phantom, write_lgg, write_nifti
from gliosight.phantom.anatomy import build, make_grid
from gliosight.phantom.files import to_bytes
from gliosight.study import MrSequence

T1, FLAIR, T1C = MrSequence.T1, MrSequence.FLAIR, MrSequence.T1C
# Skull, midline, ventricles and sulci take from the sphere; a ragged edge gives and takes.
VOLUME_WITHIN = (0.6, 1.35)
# Coarse pixels make a head in a quarter of a second; what is tested does not hang on them.
COARSE = {"matrix": 80, "pixel_mm": 3.0, "slices": 15, "slice_spacing_mm": 5.0}
# Fine enough to tell tissues apart.
HALF = {"matrix": 128, "pixel_mm": 1.875}


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(PhantomSpec(**HALF))


@pytest.fixture(scope="module")
def clear() -> Phantom:
    return make_phantom(PhantomSpec(lesion=False, **HALF))


@pytest.fixture(scope="module")
def coarse() -> Phantom:
    return make_phantom(PhantomSpec(seed=4, lesion_side="right", **COARSE))


def test_default_is_a_thick_sliced_study_of_the_training_kind() -> None:
    study = make_phantom().study()
    assert study.shape == (28, 256, 256)
    assert set(study.sequences) == {T1, FLAIR, T1C}
    assert study.flair.values.dtype == np.uint16
    assert study.geometry is not None
    assert study.geometry.slice_spacing == pytest.approx(5.0)
    assert study.geometry.spacing == (0.9375, 0.9375)
    np.testing.assert_allclose(study.geometry.normal, (0, 0, 1))
    assert study.study_id == "phantom-0001-left"


def test_same_seed_same_study_other_seed_another() -> None:
    few = COARSE | {"slices": 4}
    one, again, other = (make_phantom(PhantomSpec(seed=seed, **few)) for seed in (4, 4, 5))
    for name, values in one.sequences.items():
        np.testing.assert_array_equal(values, again.sequences[name])
        assert (values != other.sequences[name]).mean() > 0.5
    np.testing.assert_array_equal(one.truth, again.truth)


def test_without_a_lesion_it_is_the_same_head(phantom: Phantom, clear: Phantom) -> None:
    assert not clear.truth.any()
    assert clear.volume_ml == 0
    differs = phantom.sequences[FLAIR] != clear.sequences[FLAIR]
    places = np.argwhere(phantom.truth)
    near = np.zeros_like(differs)
    # 10 pixels: the swelling that closes sulci reaches beyond the border.
    (s0, r0, c0), (s1, r1, c1) = places.min(axis=0), places.max(axis=0)
    near[max(s0 - 4, 0) : s1 + 5, r0 - 10 : r1 + 11, c0 - 10 : c1 + 11] = True
    assert differs.any()
    assert differs[~near].mean() < 1e-3


def test_same_head_however_it_is_sliced() -> None:
    thick = make_grid((-10, -50, -50), (40, 50, 50))
    inner = make_grid((0, -20, -20), (20, 20, 20))
    rows = columns = np.linspace(-15, 15, 7)
    one, two = (
        build(3, grid, 15.0, "left").slice_at(11.0, rows, columns) for grid in (thick, inner)
    )
    for name in ("x", "vault", "ventricle", "lesion"):
        np.testing.assert_allclose(one[name], two[name], atol=1e-3, err_msg=name)


@pytest.mark.parametrize("radius", [8.0, 20.0])
def test_volume_is_near_the_spheres(radius: float) -> None:
    made = make_phantom(PhantomSpec(seed=2, lesion_radius_mm=radius, **COARSE))
    expected = 4 / 3 * math.pi * radius**3 / 1000
    assert VOLUME_WITHIN[0] < made.volume_ml / expected < VOLUME_WITHIN[1]


def test_lesion_by_sequence(phantom: Phantom, clear: Phantom) -> None:
    inside = phantom.truth
    before = {name: float(values[inside].mean()) for name, values in clear.sequences.items()}
    after = {name: float(values[inside].mean()) for name, values in phantom.sequences.items()}
    assert after[FLAIR] > 1.5 * before[FLAIR]
    assert after[T1] < 0.9 * before[T1]
    assert after[T1C] < before[T1C]


def test_tissues_by_sequence(clear: Phantom) -> None:
    tissue = _tissues(clear)
    mean = {
        name: {one: float(values[where].mean()) for one, where in tissue.items()}
        for name, values in clear.sequences.items()
    }
    assert mean[T1]["fat"] > mean[T1]["white"] > mean[T1]["nucleus"] > 1.5 * mean[T1]["csf"]
    assert mean[FLAIR]["fat"] > mean[FLAIR]["nucleus"] > mean[FLAIR]["white"]
    assert mean[FLAIR]["white"] > 2 * mean[FLAIR]["csf"]
    assert mean[T1C]["fat"] > mean[T1C]["white"] > 1.5 * mean[T1C]["csf"]
    for name, values in clear.sequences.items():
        assert mean[name]["csf"] > 3 * float(np.median(values[:, :10, :10]))


def _tissues(made: Phantom) -> dict[str, np.ndarray]:
    """Where tissue is pure, asked of the anatomy: (slices, rows, columns) masks."""
    origin, pixel = made.geometry.origins, made.spec.pixel_mm
    rows = origin[0, 1] - pixel * np.arange(made.spec.matrix)
    columns = origin[0, 0] - pixel * np.arange(made.spec.matrix)
    grid = make_grid((origin[0, 2], -120, -95), (origin[-1, 2], 130, 95))
    anatomy = build(made.spec.seed, grid, None, "left")
    # All that is asked for lies in these slices.
    chosen = [k for k, z in enumerate(origin[:, 2]) if -5 < z < 45]
    planes = [anatomy.slice_at(float(origin[k, 2]), rows, columns) for k in chosen]
    f = {name: np.stack([plane[name] for plane in planes]) for name in planes[0]}
    x, y, z = np.abs(f["x"]), f["y"], f["z"]
    found = {
        "white": (np.abs(z - 32) < 8) & (np.abs(x - 20) < 6) & (np.abs(y + 5) < 25)
        & (f["ventricle"] < -6),
        "nucleus": (np.abs(z - 6) < 5) & (np.abs(x - 10.5) < 3) & (np.abs(y + 17) < 7),
        "csf": (f["ventricle"] > 2.5) & (z > 10),
        "fat": (np.abs(f["head"] - 3.2) < 0.6) & (np.abs(z - 20) < 15),
    }  # fmt: skip
    masks = {one: np.zeros(made.truth.shape, dtype=bool) for one in found}
    for one, where in found.items():
        masks[one][chosen] = where
    return masks


def test_brightness_is_that_of_the_training_set(phantom: Phantom) -> None:
    for values in phantom.sequences.values():
        shown = to_bytes(values).astype(float)
        head = find_head(shown)
        tissue = np.minimum(shown[head], np.percentile(shown[head], 99))
        assert 45 < tissue.mean() < 70
        assert 18 < tissue.std() < 40
        assert np.median(shown[:, :10, :10]) <= 5


@pytest.mark.parametrize(("side", "sign"), [("left", -1), ("right", 1)])
def test_sides_in_both_writers(tmp_path: Path, side: str, sign: int) -> None:
    made = make_phantom(PhantomSpec(seed=4, lesion_side=side, **COARSE))
    # NIfTI: world x is R+, read by nibabel's own affine.
    image = nibabel.load(next(write_nifti(made, tmp_path / "nifti").glob("*_seg.nii.gz")))
    voxels = np.argwhere(np.asarray(image.dataobj) > 0)
    world = nibabel.affines.apply_affine(image.affine, voxels)
    assert np.all(sign * world[:, 0] > 0)
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    # LGG: the patient's left is on the right of the picture.
    folder = write_lgg(made, tmp_path / "lgg")
    masks = np.stack([tifffile.imread(one) for one in sorted(folder.glob("*_mask.tif"))])
    columns = np.nonzero(masks)[2]
    middle = (made.spec.matrix - 1) / 2
    assert np.all((columns > middle) == (side == "left"))
    # Both agree with the study's own geometry.
    own = made.geometry.to_world(np.argwhere(made.truth))
    np.testing.assert_allclose(own.mean(axis=0), world.mean(axis=0), atol=1e-3)


def test_head_is_upright_and_faces_the_first_row(clear: Phantom) -> None:
    flair = clear.sequences[FLAIR].astype(float)
    inside = find_head(flair)
    # The head ends at the vertex, above; the nose and eyes are at low rows of low slices.
    assert inside[-2].sum() < 0.5 * inside[14].sum()
    # Fat behind the eyes against the cerebellum, at the same height and distance from the middle.
    origin, pixel = clear.geometry.origins, clear.spec.pixel_mm
    k = int(np.argmin(np.abs(origin[:, 2] + 28)))
    orbits, cerebellum = (
        np.mean(
            [
                clear.sequences[T1][k, round((origin[0, 1] - y) / pixel), round(column)]
                for column in ((origin[0, 0] - 30) / pixel, (origin[0, 0] + 30) / pixel)
            ]
        )
        for y in (52, -52)
    )
    assert orbits > 1.4 * cerebellum


def test_lgg_round_trip(tmp_path: Path, coarse: Phantom) -> None:
    folder = write_lgg(coarse, tmp_path)
    assert folder == tmp_path / "phantom-0004-right"
    numbered = re.compile(r"phantom-0004-right_(\d+)\.tif")
    found = sorted(int(m[1]) for p in folder.iterdir() if (m := numbered.fullmatch(p.name)))
    assert found == list(range(1, 16))
    for number in found:
        picture = tifffile.imread(folder / f"phantom-0004-right_{number}.tif")
        mask = tifffile.imread(folder / f"phantom-0004-right_{number}_mask.tif")
        assert picture.shape == (80, 80, 3)
        assert picture.dtype == mask.dtype == np.uint8
        for channel, name in enumerate((T1, FLAIR, T1C)):
            expected = to_bytes(coarse.sequences[name][number - 1])
            np.testing.assert_array_equal(picture[..., channel], expected)
        np.testing.assert_array_equal(mask, np.where(coarse.truth[number - 1], 255, 0))


def test_nifti_round_trip(tmp_path: Path, coarse: Phantom) -> None:
    folder = write_nifti(coarse, tmp_path)
    arrays = {"flair": coarse.sequences[FLAIR], "t1": coarse.sequences[T1],
              "t1ce": coarse.sequences[T1C], "seg": coarse.truth.astype(np.uint8)}  # fmt: skip
    assert {p.name for p in folder.iterdir()} == {
        f"phantom-0004-right_{name}.nii.gz" for name in arrays
    }
    for name, values in arrays.items():
        image = nibabel.load(folder / f"phantom-0004-right_{name}.nii.gz")
        read = np.asarray(image.dataobj)
        assert read.dtype == values.dtype
        np.testing.assert_array_equal(read.transpose(2, 1, 0), values)
        corner = np.array([3, 5, 7])  # slice, row, column
        world = nibabel.affines.apply_affine(image.affine, corner[::-1])
        np.testing.assert_allclose(world, coarse.geometry.to_world(corner), atol=1e-3)
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-3)


def test_missing_sequences(tmp_path: Path, coarse: Phantom) -> None:
    alone = make_phantom(PhantomSpec(seed=4, lesion_side="right", sequences=(FLAIR,), **COARSE))
    assert set(alone.study().sequences) == {FLAIR}
    np.testing.assert_array_equal(alone.sequences[FLAIR], coarse.sequences[FLAIR])
    picture = tifffile.imread(write_lgg(alone, tmp_path) / "phantom-0004-right_8.tif")
    np.testing.assert_array_equal(picture[..., 0], picture[..., 1])
    np.testing.assert_array_equal(picture[..., 2], picture[..., 1])
    folder = write_nifti(alone, tmp_path / "nifti")
    assert len(list(folder.iterdir())) == 2  # FLAIR and the truth


def test_thin_slices_hold_the_same_lesion() -> None:
    shape = {"matrix": 64, "pixel_mm": 3.0, "seed": 6}
    thin = make_phantom(PhantomSpec(slices=150, slice_spacing_mm=1.0, **shape))
    thick = make_phantom(PhantomSpec(slices=28, slice_spacing_mm=5.0, **shape))
    assert thin.truth.shape == (150, 64, 64)
    assert thin.volume_ml == pytest.approx(thick.volume_ml, rel=0.1)
    centre = [
        made.geometry.to_world(np.argwhere(made.truth)).mean(axis=0) for made in (thin, thick)
    ]
    np.testing.assert_allclose(centre[0], centre[1], atol=1.5)


def test_stripped_of_its_skull_only_the_brain_is_left(coarse: Phantom) -> None:
    brain = make_phantom(PhantomSpec(seed=4, lesion_side="right", skull=False, **COARSE)).sequences
    for name, values in brain.items():
        kept = values > 0
        assert 0.1 < kept.mean() < 0.7 * find_head(coarse.sequences[name]).mean()
        assert kept[coarse.truth].all()
        # Zero means zero: not even noise.
        assert not values[:, :8].any()


@pytest.mark.parametrize(
    ("slices", "spacing"), [(1, 5.0), (2, 0.5), (8, 3.0), (22, 10.0)],
    ids=["one slice", "a thin pair", "a slab", "down to the neck"],
)  # fmt: skip
def test_any_number_of_slices(slices: int, spacing: float) -> None:
    spec = PhantomSpec(matrix=96, pixel_mm=2.8, slices=slices, slice_spacing_mm=spacing)
    made = make_phantom(spec)
    assert made.truth.shape == (slices, 96, 96)
    assert find_head(made.sequences[FLAIR]).any(axis=(1, 2)).mean() > 0.8


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("seed", 1.5),
        ("slices", 0),
        ("slices", True),
        ("slices", 10**6),
        ("slice_spacing_mm", 0.0),
        ("slice_spacing_mm", math.nan),
        ("slice_spacing_mm", 9.0),  # with 28 slices: longer than head and neck
        ("pixel_mm", -1.0),
        ("matrix", 8),
        ("matrix", 10**6),
        ("lesion_radius_mm", 100.0),
        ("lesion_radius_mm", math.inf),
        ("lesion_side", "middle"),
        ("noise", -0.1),
        ("bias", 2.0),
        ("sequences", (T1,)),
        ("sequences", (FLAIR, FLAIR)),
        ("sequences", ()),
    ],
)
def test_wrong_specs_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match="slice|" + field):
        PhantomSpec(**{field: value})


def test_nothing_is_written_among_other_files(tmp_path: Path, coarse: Phantom) -> None:
    write_lgg(coarse, tmp_path)
    with pytest.raises(CannotWriteError, match="not empty"):
        write_nifti(coarse, tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path, coarse: Phantom) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CannotWriteError):
        write_lgg(coarse, tmp_path / "file")


@pytest.mark.parametrize("write", [write_lgg, write_nifti])
def test_a_full_disk_leaves_no_half_study(
    write: object, coarse: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    from gliosight.phantom import files

    monkeypatch.setattr(files.tifffile, "imwrite", full)
    monkeypatch.setattr(files.nibabel, "save", full)
    with pytest.raises(CannotWriteError, match="No space left"):
        write(coarse, tmp_path)  # type: ignore[operator]
    assert list(tmp_path.iterdir()) == []
