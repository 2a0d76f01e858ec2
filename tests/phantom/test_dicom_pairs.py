"""Any two settings go together: the study can be read, or the pair is refused with a reason."""

from __future__ import annotations

import contextlib
import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from gliosight.cli import run
from gliosight.errors import DamagedInputError, UnsupportedInputError
from gliosight.phantom import Phantom, PhantomSpec, make_phantom
from gliosight.phantom.dicom import SETTINGS, SYNTAXES, parse_settings, volume_of, write_dicom
from gliosight.phantom.dicom.encode import encode
from gliosight.phantom.dicom.spec import (
    DESCRIPTIONS,
    IDENTITIES,
    LAYOUTS,
    NUMBERINGS,
    REPEATS,
    TRAPS,
    VENDORS,
)
from gliosight.read import Request, read
from gliosight.study import Sequence

# For each setting values other than its default, the most unlike first.
VALUES: dict[str, tuple[str, ...]] = {
    "vendor": VENDORS[1:],
    "layout": LAYOUTS[1:],
    "concatenation": ("3", "16"),
    "syntax": ("j2k", *sorted(set(SYNTAXES) - {"j2k", "explicit-le"})),
    "bits": ("8", "16"),
    "signed": ("yes",),
    "traps": (",".join(TRAPS), *TRAPS, "none"),
    "contrast_tags": ("no",),
    "descriptions": DESCRIPTIONS[1:],
    "order": ("2,0,1", "1,0,2", "1,2,0", "0,2,1", "2,1,0"),
    "flips": ("yes,no,no", "no,yes,yes"),
    "oblique": ("10,20,5", "90,0,45"),
    "shift": ("10,-20,30",),
    "tilt_degrees": ("15", "-40"),
    "missing": ("1", "0,4"),
    "uneven": ("0.4", "0.1"),
    "t1_grid": ("coronal",),
    "t1_frame": ("other",),
    "repeats": tuple(REPEATS),
    "numbering": NUMBERINGS[1:],
    "shuffled_names": ("yes",),
    "stripped": ("yes",),
    "no_frame_of_reference": ("yes",),
    "no_preamble": ("yes",),
    "no_meta": ("yes",),
    "identity": IDENTITIES[1:],
    "wrong_charset": ("yes",),
    "dicomdir": ("yes",),
}
PAIRS = [
    (f"{a}={x}", f"{b}={y}")
    for a, b in combinations(VALUES, 2)
    for x in VALUES[a]
    for y in VALUES[b]
]
# The first values of every two settings, a stride through them, and what has gone wrong. `make phantom-pairs`
# runs all of them.
SOME = [
    *[(f"{a}={VALUES[a][0]}", f"{b}={VALUES[b][0]}") for a, b in combinations(VALUES, 2)][::15],
    *PAIRS[::199],
    ("vendor=ge", "shuffled_names=yes"),
]
# A reader refuses these by its rules: pictures that nothing tells apart, or that say nothing of themselves.
UNREADABLE = {"repeats=unexplained", "repeats=echoes", "stripped=yes"}


def _check(phantom: Phantom, pair: tuple[str, str], folder: Path) -> None:
    try:
        spec = parse_settings(pair)
    except ValueError:  # the command's exit 2
        return
    study = write_dicom(phantom, folder, spec)
    if UNREADABLE.isdisjoint(pair):
        assert read(Request(study)).shape[0] > 0
        return
    with contextlib.suppress(DamagedInputError, UnsupportedInputError):
        read(Request(study))


def test_every_setting_has_a_value_here() -> None:
    assert set(VALUES) == set(SETTINGS)


@pytest.mark.parametrize("pair", PAIRS if os.environ.get("ALL_PAIRS") else SOME, ids=" ".join)
def test_a_pair_is_read_or_refused(pair: tuple[str, str], tiny: Phantom, tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs")
    _check(tiny, pair, tmp_path)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_picture_as_narrow_as_the_stack_is_thin(syntax: str) -> None:
    pytest.importorskip("imagecodecs")
    for bits in SYNTAXES[syntax].bits:
        for shape in ((1, 32), (3, 32), (28, 32), (32, 28), (31, 256)):
            picture = np.indices(shape).sum(axis=0).astype(np.uint8 if bits == 8 else np.uint16)
            assert encode(picture, bits, SYNTAXES[syntax])


@pytest.mark.parametrize("syntax", ["j2k", "j2k-lossy"])
def test_a_narrow_picture_is_read(syntax: str, tmp_path: Path) -> None:
    """What openjpeg cannot write below 32 pixels is written all the same, and its values come back."""
    pytest.importorskip("imagecodecs")
    phantom = make_phantom(PhantomSpec(seed=3, slices=5, matrix=32, pixel_mm=3.0))
    spec = parse_settings([f"syntax={syntax}", "order=2,0,1", "traps=none"])
    flair = read(Request(write_dicom(phantom, tmp_path, spec))).flair.values
    wanted = volume_of(phantom, spec, Sequence.FLAIR)
    error = np.abs(flair - wanted.astype(float))
    assert error.mean() < 0.01 * wanted.max()
    assert (float(error.max()) == 0) is (syntax == "j2k")


def test_the_command_writes_it_or_says_why_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("imagecodecs")
    call = ["phantom", "--dicom", "-o", str(tmp_path), "--slices", "3", "--flair-only"]
    call += ["--set", "traps=none", "--set", "order=2,0,1", "--set"]
    assert run([*call, "syntax=j2k"]) == 0
    capsys.readouterr()

    def fails(*_: object, **__: object) -> bytes:
        raise RuntimeError("an encoder's own words")

    monkeypatch.setattr("imagecodecs.jpeg2k_encode", fails)
    assert run([*call, "syntax=j2k", "--seed", "2"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written with 3 x 256 pixels" in line
    assert [one.name for one in tmp_path.iterdir()] == ["phantom-0001-left"]
