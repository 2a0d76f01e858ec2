"""Packed slices are what the files hold, in the manifest's order, and what the product sees."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile

from gliosight import cli, files
from gliosight.card import InputRecipe
from gliosight.data.index import index_roots
from gliosight.data.manifest import Manifest, read_manifest
from gliosight.data.people import Root
from gliosight.data.studies import read_labelled
from gliosight.errors import CannotWriteError, DamagedInputError, UnsupportedInputError
from gliosight.phantom import PhantomSpec, make_phantom, write_lgg, write_nifti
from gliosight.prepare import prepare
from gliosight.train import packed
from gliosight.train.brain import BORDER
from gliosight.train.packed import SIZE, PackedSlices, pack, rows_of


@pytest.fixture
def no_brain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brain and ventricles are not looked for, which takes nearly all of the time."""
    for name, stub in (
        ("_depth", lambda head: head.astype(np.uint8)),
        ("find_brain", lambda _, depth, __: depth > 0),
        ("signed_distance", lambda brain: np.where(brain, BORDER + 1, 0).astype(np.uint8)),
        ("find_ventricles", lambda flair, *_: np.zeros(flair.shape, dtype=bool)),
    ):
        monkeypatch.setattr(packed, name, stub)


def _indexed(folder: Path) -> Manifest:
    path = folder.with_suffix(".csv")
    assert cli.run(["data", "index", str(folder), "-o", str(path)]) == 0
    return read_manifest(path)


def _assert_holds(slices: PackedSlices, manifest: Manifest) -> None:
    for k, row in enumerate(manifest.used):
        image = tifffile.imread(manifest.path(row.image))
        np.testing.assert_array_equal(slices.images[k], image.transpose(2, 0, 1))
        mask = tifffile.imread(manifest.path(row.mask))
        np.testing.assert_array_equal(slices.masks[k], mask > 0)


def test_pictures_are_kept_byte_for_byte(manifest: Manifest, slices: PackedSlices) -> None:
    _assert_holds(slices, manifest)
    assert slices.first.tolist() == [0, 6, 12, 18]
    assert slices.reach.tolist() == [1, 1, 1]
    chosen = manifest.by_patient[manifest.patients[1]]
    assert rows_of(manifest, chosen[::-1]).tolist() == list(range(6, 12))


@pytest.mark.slow
@pytest.mark.usefixtures("no_brain")
def test_a_cache_is_used_again_for_the_same_patients_in_the_same_order(
    manifest: Manifest, tmp_path: Path
) -> None:
    """Patients in another order have the same digest, and other rows."""
    cache = tmp_path / "cache"
    pack(manifest, cache)
    before = (cache / "images.npy").stat().st_mtime_ns
    pack(manifest, cache)
    assert (cache / "images.npy").stat().st_mtime_ns == before
    rows = [row for name in manifest.patients[::-1] for row in manifest.by_patient[name]]
    turned = Manifest(tuple(rows), manifest.folder)
    assert turned.sha256 == manifest.sha256
    slices = pack(turned, cache)
    assert slices.patients == manifest.patients[::-1]
    _assert_holds(slices, turned)
    fewer = Manifest(manifest.rows[:6], manifest.folder)
    assert len(pack(fewer, cache).images) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_brain")
def test_slices_that_another_run_packs_are_waited_for(
    manifest: Manifest,
    slices: PackedSlices,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cache, other = tmp_path / "cache", contextlib.ExitStack()
    work = other.enter_context(files.whole_folder(cache, lambda: None))
    pack(manifest, tmp_path / "first")
    for path in (tmp_path / "first").iterdir():
        path.rename(work / path.name)
    monkeypatch.setattr("gliosight.train.packed.time.sleep", lambda _: other.close())
    np.testing.assert_array_equal(pack(manifest, cache).images, slices.images)
    assert capsys.readouterr().out.count("waiting for it") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("no_brain")
def test_a_run_that_ends_while_it_fills_an_empty_folder_costs_nothing(
    manifest: Manifest, slices: PackedSlices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At none of the moves is the folder a cache before the last array is there."""
    cache = tmp_path / "cache"
    cache.mkdir()
    moved, rename = [], Path.rename

    def counted(path: Path, target: Path) -> Path:
        assert not packed.is_packed(cache, manifest)
        moved.append(target.name)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", counted)
    pack(manifest, cache)
    assert moved[-1] == packed.TABLE
    assert set(moved) == {packed.TABLE, *(f"{name}.npy" for name in packed.ARRAYS)}


@pytest.mark.slow
@pytest.mark.usefixtures("no_brain")
def test_what_cannot_be_packed_leaves_nothing(manifest: Manifest, tmp_path: Path) -> None:
    write_lgg(make_phantom(PhantomSpec(seed=4, slices=3)), tmp_path / "lgg")
    changed = _indexed(tmp_path / "lgg")
    image = changed.path(changed.rows[1].image)
    tifffile.imwrite(image, tifffile.imread(image)[::-1].copy())
    no_mask = (replace(manifest.rows[0], mask="", tumour=False), *manifest.rows[1:6])
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes").write_bytes(b"")
    for data, cache, error, words in (
        (changed, tmp_path / "cache", DamagedInputError, "not the one that was indexed"),
        (Manifest(no_mask, manifest.folder), tmp_path / "cache", UnsupportedInputError, "no mask"),
        (manifest, tmp_path / "file" / "cache", CannotWriteError, "cannot keep"),
        (manifest, tmp_path / "file", CannotWriteError, "something else lies there"),
        (manifest, tmp_path / "folder", CannotWriteError, "something else lies there"),
    ):
        with pytest.raises(error, match=words):
            pack(data, cache)
    assert not list(tmp_path.glob("cache*"))


@pytest.mark.slow
@pytest.mark.usefixtures("no_brain")
def test_collections_and_persons_come_along(manifest: Manifest, tmp_path: Path) -> None:
    first = manifest.patients[0]
    rows = tuple(
        replace(row, collection="a", person="anna") if row.patient == first else row
        for row in manifest.rows
    )
    slices = pack(Manifest(rows, manifest.folder), tmp_path / "cache")
    assert slices.collections == ("a", "", "")
    assert slices.persons == ("anna", *manifest.patients[1:])


@pytest.mark.slow
@pytest.mark.usefixtures("no_brain")
def test_people_without_a_tumour_have_empty_masks(tmp_path: Path) -> None:
    folder = write_nifti(make_phantom(PhantomSpec(seed=5, slices=3)), tmp_path / "free")
    for path in folder.rglob("*seg*"):
        path.unlink()
    rows = index_roots([Root(tmp_path / "free", "free")], tmp_path, tumour_free=["free"]).rows
    slices = pack(Manifest(rows, tmp_path), tmp_path / "cache")
    assert len(slices.masks) == len(rows) > 0
    assert not slices.masks.any()


@pytest.mark.slow
def test_a_volume_comes_into_the_network_frame(tmp_path: Path) -> None:
    """The same head as NIfTI of other pixels: lesion in the same place, neighbours 5 mm away."""
    phantom = make_phantom(PhantomSpec(seed=5, slices=6, slice_spacing_mm=2.5))
    write_nifti(phantom, tmp_path / "nifti")
    upwards = pack(_indexed(tmp_path / "nifti"), tmp_path / "cache")
    assert upwards.images.shape == (6, 3, SIZE, SIZE)
    # The same slices from above downwards: stored so, and the neighbour above is before, not after.
    for path in sorted((tmp_path / "nifti").rglob("*.nii.gz")):
        image = nib.load(path)
        affine = image.affine @ np.diag([1.0, 1.0, -1.0, 1.0])
        affine[:, 3] = image.affine @ [0, 0, image.shape[2] - 1, 1]
        flipped = nib.Nifti1Image(np.asanyarray(image.dataobj)[:, :, ::-1], affine)
        target = tmp_path / "turned" / path.relative_to(tmp_path / "nifti")
        target.parent.mkdir(parents=True, exist_ok=True)
        nib.save(flipped, target)
    downwards = pack(_indexed(tmp_path / "turned"), tmp_path / "other")
    assert sorted([int(upwards.reach[0]), int(downwards.reach[0])]) == [-2, 2]
    for name in ("images", "masks", "depth", "brain"):
        np.testing.assert_array_equal(getattr(downwards, name), getattr(upwards, name)[::-1])
    lesion = upwards.masks.astype(bool)
    assert lesion.any()
    flair = upwards.images[:, 1].astype(float)
    assert flair[lesion].mean() > 1.2 * flair[~lesion & (flair > 40)].mean()
    # On the patient's left: the right half of the network's picture.
    assert np.nonzero(lesion)[2].mean() > upwards.centre[0, 1]


def test_training_normalises_as_the_product_does(manifest: Manifest, slices: PackedSlices) -> None:
    """What air and the brightest tissue become is the same here and in `prepare`."""
    product = prepare(read_labelled(manifest, manifest.patients[0]).study, InputRecipe()).images
    for channel, (low, high, mean, std) in enumerate(slices.intensity[0]):
        assert product[:, channel].min() == pytest.approx((low - mean) / std, abs=0.01)
        assert product[:, channel].max() == pytest.approx((high - mean) / std, abs=0.01)


def test_the_brain_is_in_the_head_and_has_its_own_brightness(slices: PackedSlices) -> None:
    inside = slices.brain > BORDER
    assert 0.2 < inside[slices.depth > 0].mean() < 0.95
    assert (slices.depth[inside] > 0).mean() > 0.99
    assert np.abs(slices.brain_centre - slices.centre).max() < 20
    assert np.abs(slices.brain_intensity[..., 3] / slices.intensity[..., 3] - 1).max() > 0.1
