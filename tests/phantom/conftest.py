"""The phantom whose exports are looked at."""

from __future__ import annotations

import pytest

from gliosight.phantom import Phantom, PhantomSpec, make_phantom


@pytest.fixture(scope="session")
def tiny() -> Phantom:
    """A few coarse slices round a lesion on the left: nothing about it is symmetric."""
    return make_phantom(
        PhantomSpec(seed=4, slices=5, matrix=32, pixel_mm=3.0, slice_spacing_mm=7.0, noise=0.02)
    )
