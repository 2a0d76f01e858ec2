"""Conditions of the rules: the arithmetic behind them."""

from __future__ import annotations

import pytest

from gliosight.read.dicom.frames import frames_of
from gliosight.read.dicom.matching import fluid_ratio

from .builders_series import FLAIR, instance


def test_fluid_is_nulled_as_textbooks_say() -> None:
    # TR 9000 ms, TI 2500 ms: Siemens' own protocol at 3 T.
    ratio = fluid_ratio(frames_of(instance(**FLAIR))[0].acquisition)
    assert ratio == pytest.approx(1.0, abs=0.03)
