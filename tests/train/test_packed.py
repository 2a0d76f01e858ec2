"""Packed slices are what the files hold, in the manifest's order, and what the product sees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile

from gliosight.card import InputRecipe
from gliosight.data.index import index_roots
from gliosight.data.manifest import Manifest, read_manifest
from gliosight.data.people import Root
from gliosight.data.studies import read_labelled
from gliosight.errors import DamagedInputError, UnsupportedInputError
from gliosight.phantom import PhantomSpec, make_phantom, write_lgg, write_nifti
from gliosight.prepare import prepare
from gliosight.train.brain import BORDER
from gliosight.train.packed import SIZE, PackedSlices, pack, rows_of


def test_pictures_are_kept_byte_for_byte(manifest: Manifest, slices: PackedSlices) -> None:
    assert slices.first.tolist() == [0, 6, 12, 18]
    for k, row in enumerate(manifest.used):
        image = tifffile.imread(manifest.path(row.image))
        mask = tifffile.imread(manifest.path(row.mask))
        np.testing.assert_array_equal(slices.images[k], image.transpose(2, 0, 1))
        np.testing.assert_array_equal(slices.masks[k], mask > 0)
    assert slices.reach.tolist() == [1, 1, 1]


def test_rows_follow_the_manifest(manifest: Manifest) -> None:
    chosen = manifest.by_patient[manifest.patients[1]]
    assert rows_of(manifest, chosen[::-1]).tolist() == list(range(6, 12))


def test_a_second_start_takes_the_cache(manifest: Manifest, tmp_path: Path) -> None:
    pack(manifest, tmp_path / "cache")
    before = (tmp_path / "cache" / "images.npy").stat().st_mtime_ns
    pack(manifest, tmp_path / "cache")
    assert (tmp_path / "cache" / "images.npy").stat().st_mtime_ns == before
    fewer = Manifest(manifest.rows[:6], manifest.folder)
    assert len(pack(fewer, tmp_path / "cache").images) == 6
    assert [one.name for one in tmp_path.iterdir()] == ["cache"]


def test_a_cache_of_patients_in_another_order_is_not_taken(
    manifest: Manifest, tmp_path: Path
) -> None:
    """One digest, other rows: a run would learn from the patients it is tested on."""
    pack(manifest, tmp_path / "cache")
    names = manifest.patients[::-1]
    turned = Manifest(
        tuple(row for name in names for row in manifest.by_patient[name]), manifest.folder
    )
    assert turned.sha256 == manifest.sha256
    slices = pack(turned, tmp_path / "cache")
    assert slices.patients == names
    for k in rows_of(turned, turned.by_patient[names[0]]):
        image = tifffile.imread(turned.path(turned.used[k].image))
        np.testing.assert_array_equal(slices.images[k], image.transpose(2, 0, 1))


def test_a_file_that_changed_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    from gliosight import cli

    write_lgg(make_phantom(PhantomSpec(seed=4, slices=3)), tmp_path / "lgg")
    path = tmp_path / "m.csv"
    assert cli.run(["data", "index", str(tmp_path / "lgg"), "-o", str(path)]) == 0
    manifest = read_manifest(path)
    image = manifest.path(manifest.rows[1].image)
    tifffile.imwrite(image, tifffile.imread(image)[::-1].copy())
    with pytest.raises(DamagedInputError, match="not the one that was indexed"):
        pack(manifest, tmp_path / "cache")
    assert not list(tmp_path.glob("cache*"))


def test_collections_and_persons_come_along(manifest: Manifest, tmp_path: Path) -> None:
    first = manifest.patients[0]
    rows = tuple(
        replace(row, collection="a", person="anna") if row.patient == first else row
        for row in manifest.rows
    )
    slices = pack(Manifest(rows, manifest.folder), tmp_path / "cache")
    assert slices.collections == ("a", "", "")
    assert slices.persons == ("anna", *manifest.patients[1:])


def test_people_without_a_tumour_have_empty_masks(tmp_path: Path) -> None:
    phantom = make_phantom(PhantomSpec(seed=5, slices=3))
    folder = write_nifti(phantom, tmp_path / "free")
    for path in folder.rglob("*seg*"):
        path.unlink()
    rows = index_roots([Root(tmp_path / "free", "free")], tmp_path, tumour_free=["free"]).rows
    manifest = Manifest(rows, tmp_path)
    assert len(manifest.patients) == 1
    slices = pack(manifest, tmp_path / "cache")
    assert len(slices.masks) == len(rows)
    assert not slices.masks.any()


def test_a_volume_comes_into_the_network_frame(tmp_path: Path) -> None:
    """The same head as NIfTI of other pixels: lesion in the same place, neighbours 5 mm away."""
    from gliosight import cli

    phantom = make_phantom(PhantomSpec(seed=5, slices=12, slice_spacing_mm=2.5))
    write_nifti(phantom, tmp_path / "nifti")
    path = tmp_path / "m.csv"
    assert cli.run(["data", "index", str(tmp_path / "nifti"), "-o", str(path)]) == 0
    manifest = read_manifest(path)
    packed = pack(manifest, tmp_path / "cache")
    assert packed.images.shape == (12, 3, SIZE, SIZE)
    # The same slices from above downwards: stored so, and the neighbour above is before, not after.
    for path_ in sorted((tmp_path / "nifti").rglob("*.nii.gz")):
        image = nib.load(path_)
        turned = image.affine @ np.diag([1.0, 1.0, -1.0, 1.0])
        turned[:, 3] = image.affine @ [0, 0, image.shape[2] - 1, 1]
        flipped = nib.Nifti1Image(np.asanyarray(image.dataobj)[:, :, ::-1], turned)
        place = tmp_path / "turned" / path_.relative_to(tmp_path / "nifti")
        place.parent.mkdir(parents=True, exist_ok=True)
        nib.save(flipped, place)
    other = tmp_path / "t.csv"
    assert cli.run(["data", "index", str(tmp_path / "turned"), "-o", str(other)]) == 0
    downwards = pack(read_manifest(other), tmp_path / "other")
    assert sorted([int(packed.reach[0]), int(downwards.reach[0])]) == [-2, 2]
    for name in ("images", "masks", "depth", "brain"):
        np.testing.assert_array_equal(getattr(downwards, name), getattr(packed, name)[::-1])
    lesion = packed.masks.astype(bool)
    assert lesion.any()
    flair = packed.images[:, 1].astype(float)
    assert flair[lesion].mean() > 1.2 * flair[~lesion & (flair > 40)].mean()
    # On the patient's left: the right half of the network's picture.
    assert np.nonzero(lesion)[2].mean() > packed.centre[0, 1]


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


def test_a_row_without_mask_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    rows = (replace(manifest.rows[0], mask="", tumour=False), *manifest.rows[1:6])
    with pytest.raises(UnsupportedInputError, match="no mask"):
        pack(Manifest(rows, manifest.folder), tmp_path / "cache")
