"""Synthetic studies: the truth is where it is said to be, and the files hold what was made."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile

from gliosight.errors import CannotWriteError
from gliosight.head import find_head
from gliosight.phantom import Phantom, PhantomSpec, files, write_lgg, write_nifti
from gliosight.phantom.files import to_bytes
from gliosight.phantom.scanner import make_phantom
from gliosight.study import MrSequence

T1, FLAIR, T1C = MrSequence.T1, MrSequence.FLAIR, MrSequence.T1C
# Coarse pixels make a head in a quarter of a second; what is tested does not hang on them.
COARSE = {"matrix": 80, "pixel_mm": 3.0, "slices": 15, "slice_spacing_mm": 5.0}
# Fine enough to tell tissues apart.
HALF = {"matrix": 128, "pixel_mm": 1.875}


@pytest.fixture(scope="module")
def half() -> Phantom:
    return make_phantom(PhantomSpec(**HALF))


@pytest.fixture(scope="module")
def clear() -> Phantom:
    return make_phantom(PhantomSpec(lesion=False, **HALF))


@pytest.fixture(scope="module")
def coarse() -> Phantom:
    return make_phantom(PhantomSpec(seed=4, lesion_side="right", **COARSE))


def test_default_is_a_thick_sliced_study_of_the_training_kind(phantom: Phantom) -> None:
    study = phantom.study()
    assert study.study_id == "phantom-0001-left"
    assert study.shape == (28, 256, 256)
    assert set(study.sequences) == {T1, FLAIR, T1C}
    assert study.geometry is not None
    assert study.geometry.slice_spacing == pytest.approx(5.0)
    assert study.geometry.spacing == (0.9375, 0.9375)
    for values in phantom.sequences.values():
        assert values.dtype == np.uint16
        shown = to_bytes(values).astype(float)
        tissue = shown[find_head(shown)]
        tissue = np.minimum(tissue, np.percentile(tissue, 99))
        assert 45 < tissue.mean() < 70
        assert 18 < tissue.std() < 40
        assert np.median(shown[:, :10, :10]) <= 5


@pytest.mark.slow
def test_same_seed_same_study_other_seed_another() -> None:
    few = COARSE | {"slices": 4}
    first, again, other = (make_phantom(PhantomSpec(seed=seed, **few)) for seed in (4, 4, 5))
    for name, values in first.sequences.items():
        np.testing.assert_array_equal(values, again.sequences[name])
        assert (values != other.sequences[name]).mean() > 0.5
    np.testing.assert_array_equal(first.truth, again.truth)


def test_without_a_lesion_it_is_the_same_head(half: Phantom, clear: Phantom) -> None:
    assert not clear.truth.any()
    assert clear.volume_ml == 0
    differs = half.sequences[FLAIR] != clear.sequences[FLAIR]
    voxels = np.argwhere(half.truth)
    near = np.zeros_like(differs)
    # 10 pixels: the swelling that closes sulci reaches beyond the border.
    (s0, r0, c0), (s1, r1, c1) = voxels.min(axis=0), voxels.max(axis=0)
    near[max(s0 - 4, 0) : s1 + 5, r0 - 10 : r1 + 11, c0 - 10 : c1 + 11] = True
    assert differs.any()
    assert differs[~near].mean() < 1e-3


def test_the_lesion_is_bright_in_flair_and_dark_in_t1(half: Phantom, clear: Phantom) -> None:
    ratio = {
        name: half.sequences[name][half.truth].mean() / clear.sequences[name][half.truth].mean()
        for name in MrSequence
    }
    assert ratio[FLAIR] > 1.5
    assert ratio[T1] < 0.9
    assert ratio[T1C] < 1


def test_the_head_is_upright_and_faces_the_first_row(clear: Phantom) -> None:
    inside = find_head(clear.sequences[FLAIR].astype(float))
    assert inside[-2].sum() < 0.5 * inside[14].sum()  # the vertex is above
    # Fat behind the eyes against the cerebellum, at the same height and distance from the middle.
    origin, pixel = clear.geometry.origins, clear.spec.pixel_mm
    plane = clear.sequences[T1][int(np.argmin(np.abs(origin[:, 2] + 28)))]
    columns = [round((origin[0, 0] - x) / pixel) for x in (30, -30)]
    orbits, cerebellum = (
        plane[round((origin[0, 1] - y) / pixel), columns].mean() for y in (52, -52)
    )
    assert orbits > 1.4 * cerebellum


@pytest.mark.slow
def test_thin_slices_hold_the_same_lesion_near_the_volume_of_its_sphere() -> None:
    shape = {"matrix": 64, "pixel_mm": 3.0, "seed": 6}
    thin = make_phantom(PhantomSpec(slices=110, slice_spacing_mm=1.0, **shape))
    thick = make_phantom(PhantomSpec(slices=22, slice_spacing_mm=5.0, **shape))
    assert thin.volume_ml == pytest.approx(thick.volume_ml, rel=0.1)
    first, second = (
        made.geometry.to_world(np.argwhere(made.truth)).mean(axis=0) for made in (thin, thick)
    )
    np.testing.assert_allclose(first, second, atol=1.5)
    # Skull, midline, ventricles and sulci take from the sphere; a ragged edge gives and takes.
    assert 0.6 < thin.volume_ml / (4 / 3 * math.pi * 1.7**3) < 1.35


@pytest.mark.slow
@pytest.mark.parametrize(("side", "sign"), [("left", -1), ("right", 1)])
def test_files_hold_what_was_made_on_its_side(tmp_path: Path, side: str, sign: int) -> None:
    made = make_phantom(PhantomSpec(seed=4, lesion_side=side, **COARSE))
    name = f"phantom-0004-{side}"
    folder = write_nifti(made, tmp_path / "nifti")
    arrays = {"flair": made.sequences[FLAIR], "t1": made.sequences[T1]}
    arrays |= {"t1ce": made.sequences[T1C], "seg": made.truth.astype(np.uint8)}
    assert {path.name for path in folder.iterdir()} == {f"{name}_{k}.nii.gz" for k in arrays}
    for kind, values in arrays.items():
        image = nibabel.load(folder / f"{name}_{kind}.nii.gz")
        read = np.asarray(image.dataobj)
        assert read.dtype == values.dtype
        np.testing.assert_array_equal(read.transpose(2, 1, 0), values)
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-3)
    # World x is R+, by nibabel's own affine, and agrees with the study's geometry.
    world = nibabel.affines.apply_affine(image.affine, np.argwhere(read > 0))
    assert np.all(sign * world[:, 0] > 0)
    own = made.geometry.to_world(np.argwhere(made.truth))
    np.testing.assert_allclose(own.mean(axis=0), world.mean(axis=0), atol=1e-3)

    folder = write_lgg(made, tmp_path / "lgg")
    assert len(list(folder.iterdir())) == 2 * 15
    for number in range(1, 16):
        picture = tifffile.imread(folder / f"{name}_{number}.tif")
        mask = tifffile.imread(folder / f"{name}_{number}_mask.tif")
        assert picture.dtype == mask.dtype == np.uint8
        for channel, sequence in enumerate((T1, FLAIR, T1C)):
            expected = to_bytes(made.sequences[sequence][number - 1])
            np.testing.assert_array_equal(picture[..., channel], expected)
        np.testing.assert_array_equal(mask, np.where(made.truth[number - 1], 255, 0))
        # The patient's left is on the right of the picture.
        assert np.all((np.nonzero(mask)[1] > 39.5) == (side == "left"))


@pytest.mark.slow
def test_missing_sequences(tmp_path: Path, coarse: Phantom) -> None:
    alone = make_phantom(PhantomSpec(seed=4, lesion_side="right", sequences=(FLAIR,), **COARSE))
    assert set(alone.study().sequences) == {FLAIR}
    np.testing.assert_array_equal(alone.sequences[FLAIR], coarse.sequences[FLAIR])
    picture = tifffile.imread(write_lgg(alone, tmp_path) / "phantom-0004-right_8.tif")
    np.testing.assert_array_equal(picture[..., [0, 2]], picture[..., [1, 1]])
    assert len(list(write_nifti(alone, tmp_path / "nifti").iterdir())) == 2  # FLAIR and the truth


@pytest.mark.slow
def test_stripped_of_its_skull_only_the_brain_is_left(coarse: Phantom) -> None:
    brain = make_phantom(PhantomSpec(seed=4, lesion_side="right", skull=False, **COARSE)).sequences
    for name, values in brain.items():
        inside = values > 0
        assert 0.1 < inside.mean() < 0.7 * find_head(coarse.sequences[name]).mean()
        assert inside[coarse.truth].all()
        assert not values[:, :8].any()  # not even noise


@pytest.mark.slow
@pytest.mark.parametrize(("slices", "spacing"), [(1, 5.0), (22, 10.0)])
def test_from_one_slice_down_to_the_neck(slices: int, spacing: float) -> None:
    spec = PhantomSpec(matrix=72, pixel_mm=3.0, slices=slices, slice_spacing_mm=spacing)
    made = make_phantom(spec)
    assert made.truth.shape == (slices, 72, 72)
    assert find_head(made.sequences[FLAIR]).any(axis=(1, 2)).mean() > 0.8


def test_wrong_specs_are_refused() -> None:
    for field, value in (
        ("seed", -1),
        ("seed", 1.5),
        ("slices", 0),
        ("slices", True),
        ("slice_spacing_mm", math.nan),
        ("slice_spacing_mm", 9.0),  # with 28 slices: longer than head and neck
        ("pixel_mm", -1.0),
        ("matrix", 10**6),
        ("lesion_radius_mm", math.inf),
        ("lesion_side", "middle"),
        ("noise", -0.1),
        ("bias", 2.0),
        ("sequences", (T1,)),
        ("sequences", (FLAIR, FLAIR)),
    ):
        with pytest.raises(ValueError, match="slice|" + field):
            PhantomSpec(**{field: value})


@pytest.mark.parametrize("write", [write_lgg, write_nifti])
def test_what_cannot_be_written_leaves_nothing(
    write: object, coarse: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CannotWriteError):
        write(coarse, tmp_path / "file")  # type: ignore[operator]
    before = sorted(write(coarse, tmp_path / "a").iterdir())  # type: ignore[operator]
    with pytest.raises(CannotWriteError, match="not empty"):
        write(coarse, tmp_path / "a")  # type: ignore[operator]
    assert sorted((tmp_path / "a" / "phantom-0004-right").iterdir()) == before

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.tifffile, "imwrite", full)
    monkeypatch.setattr(files.nibabel, "save", full)
    with pytest.raises(CannotWriteError, match="No space left"):
        write(coarse, tmp_path / "b")  # type: ignore[operator]
    assert not (tmp_path / "b").exists()
