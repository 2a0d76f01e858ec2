"""What can be asked of an export, as a spec and as words on the command line."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from gliosight.phantom.dicom import SETTINGS, DicomSpec, parse_settings, turned


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"vendor": "acme"}, "vendor"),
        ({"layout": "mosaic"}, "layout"),
        ({"syntax": "png"}, "syntax"),
        ({"traps": frozenset({"tiger"})}, "traps"),
        ({"traps": "map"}, "traps"),
        ({"repeats": frozenset({"often"})}, "repeats"),
        ({"concatenation": 0, "layout": "enhanced"}, "concatenation"),
        ({"concatenation": 2}, "enhanced"),
        ({"order": (0, 0, 1)}, "order"),
        ({"flips": (True, False)}, "flips"),
        ({"rotation": np.diag([-1.0, 1, 1])}, "rotation"),
        ({"rotation": 2 * np.eye(3)}, "rotation"),
        ({"shift": (0, 0, 201)}, "shift"),
        ({"shift": (0, 0, float("nan"))}, "shift"),
        ({"tilt_degrees": 60}, "tilt_degrees"),
        ({"uneven": 0.6}, "uneven"),
        ({"missing": (-1,)}, "missing"),
        ({"bits": 10}, "bits"),
        ({"bits": 12, "syntax": "jpeg-baseline"}, "bits"),
        ({"bits": 16, "syntax": "jpeg-extended"}, "bits"),
        ({"signed": True}, "signed"),
        ({"signed": True, "bits": 16, "syntax": "j2k"}, "signed"),
        ({"stripped": True, "layout": "enhanced"}, "stripped"),
        ({"no_meta": True, "syntax": "rle"}, "no_meta"),
        ({"dicomdir": True, "no_preamble": True}, "DICOMDIR"),
        ({"dicomdir": True, "shuffled_names": True}, "names of its own"),
    ],
)
def test_specs_that_cannot_be(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        DicomSpec(**wrong)


def test_specs_compare_and_hash_whatever_they_are_made_from() -> None:
    one = DicomSpec(rotation=np.eye(3), traps={"roi", "map"}, missing=[2, 1])
    two = DicomSpec(traps=frozenset({"map", "roi"}), missing=(1, 2))
    assert one == two
    assert hash(one) == hash(two)
    assert one.canonical == two.canonical


def test_settings_come_from_words() -> None:
    texts = ["vendor=ge", "traps=roi,mask", "repeats=none", "oblique=10,0,5", "missing=3,4"]
    texts += ["stripped=yes", "shift=0,0,150", "flips=no,yes,no", "bits=16", "order=2,1,0"]
    assert parse_settings(texts) == DicomSpec(
        vendor="ge",
        traps=frozenset({"roi", "mask"}),
        rotation=turned(10, 0, 5),
        missing=(3, 4),
        stripped=True,
        shift=(0, 0, 150),
        flips=(False, True, False),
        bits=16,
        order=(2, 1, 0),
    )
    assert parse_settings([]) == DicomSpec()
    fields = {one.name for one in dataclasses.fields(DicomSpec)}
    assert set(SETTINGS) == fields - {"rotation"} | {"oblique"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("vandor=ge", "vendor, layout"),
        ("bits=many", "bits cannot be 'many'"),
        ("stripped=perhaps", "stripped cannot be"),
        ("oblique=10", "three angles"),
        ("oblique=nan,0,0", "rotation"),
        ("traps", "traps"),
        ("order=0,1", "order"),
    ],
)
def test_settings_that_cannot_be_read(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_settings([text])


def test_a_setting_is_given_once() -> None:
    with pytest.raises(ValueError, match="syntax is set twice"):
        parse_settings(["syntax=rle", "syntax=j2k"])
