"""A tiny data set of phantoms, indexed, split and packed once for all tests of the bench."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra train is not installed")

from gliosight.data.manifest import Manifest, read_manifest  # noqa: E402
from gliosight.data.split import Split, split_parts  # noqa: E402
from gliosight.phantom import PhantomSpec, make_phantom, write_lgg  # noqa: E402
from gliosight.train.packed import PackedSlices, pack  # noqa: E402

# Tiny networks: a second thread costs more than it gives, and stalls where something else runs.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lgg")
    for seed in (1, 2, 3):
        write_lgg(make_phantom(PhantomSpec(seed=seed, slices=6)), folder)
    return folder


@pytest.fixture(scope="session")
def manifest_path(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from gliosight import cli

    path = tmp_path_factory.mktemp("manifest") / "manifest.csv"
    assert cli.run(["data", "index", str(root), "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="session")
def manifest(manifest_path: Path) -> Manifest:
    return read_manifest(manifest_path)


@pytest.fixture(scope="session")
def split(manifest: Manifest) -> Split:
    """One patient in each part."""
    third = 1 / 3
    return split_parts(manifest, shares={"train": third, "validation": third, "test": third})


@pytest.fixture(scope="session")
def slices(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> PackedSlices:
    return pack(manifest, tmp_path_factory.mktemp("packed") / "cache")
