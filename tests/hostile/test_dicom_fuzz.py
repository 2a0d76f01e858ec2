"""DICOM files with bytes flipped, cut, doubled and overwritten: a study or one of our errors, nothing else.

The same blows at every run: each is drawn from the seed's name and its round. A broken packed frame ends the
decoder, and the next takes a third of a second to start, so they get fewer rounds.
"""

from __future__ import annotations

import random
import re
import resource
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gliosight.errors import GliosightError, InternalError
from gliosight.phantom import PhantomSpec, make_phantom
from gliosight.read import Limits, Request, find, opened, read
from gliosight.read.dicom.decoder import one_decoder
from gliosight.study import MrSequence
from tests.support.dicom_phantom import SYNTAXES, DicomSpec, write_dicom

LIMITS = Limits(decoded_bytes=64 * 1024**2, members=200)
MOST_MEMORY = 2 * 1024**3
HEAD = make_phantom(
    PhantomSpec(seed=2, slices=3, matrix=32, pixel_mm=3, sequences=(MrSequence.FLAIR,))
)
# The pixels of these are read in this process.
HERE = ("implicit-le", "explicit-le", "deflated", "explicit-be", "rle")
PACKED = tuple(name for name in SYNTAXES if name not in HERE)
# Elements' heads, lengths without end, and numbers that are none.
WORDS = (
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x01\0\0\x80",
    b"\0\0\0\0",
    b"\xfe\xff\0\xe0",
    b"\xfe\xff\xdd\xe0",
    b"SQ\0\0",
    b"UN\0\0",
    b"\xff\xd8\xff\xf7",
)
NUMBERS = (b"nan", b"inf", b"-1", b"0", b"1e308", b"-1e308", b"1e-300", b"99999999999", b"\\\\\\")
DIGITS = re.compile(rb"[0-9.][0-9.\\-]+")


def mutate(data: bytes, chance: random.Random, *, tail: int = 0) -> bytes:
    """Damage a file in one to four places; half of them in the header or the last ``tail`` bytes."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        if len(out) < 64:
            break
        at = chance.randrange(len(out))
        if chance.random() < 0.5:
            at = len(out) - 1 - at % tail if tail else at % min(2500, len(out))
        chance.choice(BLOWS)(out, at, chance)
    return bytes(out)


def flip(out: bytearray, at: int, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 8)):
        out[(at + chance.randrange(200)) % len(out)] ^= 1 << chance.randrange(8)


def cut_off(out: bytearray, at: int, chance: random.Random) -> None:
    if chance.random() < 0.4:
        del out[at:]


def double(out: bytearray, at: int, chance: random.Random) -> None:
    out[at:at] = out[at : at + chance.randint(1, 200)]


def cut_out(out: bytearray, at: int, chance: random.Random) -> None:
    del out[at : at + chance.randint(1, 200)]


def overwrite(out: bytearray, at: int, chance: random.Random) -> None:
    piece = chance.randint(1, 50)
    out[at : at + piece] = chance.randbytes(piece)


def put_word(out: bytearray, at: int, chance: random.Random) -> None:
    word = chance.choice(WORDS)
    out[at : at + len(word)] = word


def put_number(out: bytearray, _: int, chance: random.Random) -> None:
    if found := list(DIGITS.finditer(bytes(out[:4000]))):
        one = chance.choice(found)
        length = one.end() - one.start()
        out[one.start() : one.end()] = chance.choice(NUMBERS)[:length].ljust(length)


BLOWS = (flip, cut_off, double, cut_out, overwrite, put_word, put_number)


def peak() -> int:
    """The largest memory this process or a decoder has had, bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return unit * max(resource.getrusage(one).ru_maxrss for one in whose)


def looked_at(path: Path) -> None:
    """Inspect whatever studies are there; raises what inspection says would come."""
    with opened(path, LIMITS) as inside:
        for candidate in find(inside.path, LIMITS):
            seen = candidate.describe(LIMITS)
            if seen.error is not None:
                raise seen.error


def read_whole(path: Path) -> None:
    """Read the study and look at it."""
    study = read(Request(path, limits=LIMITS))
    assert np.isfinite(study.flair.values).all()
    assert all(one.message.isprintable() for one in study.flags)


def judged(path: Path) -> GliosightError | None:
    """Inspect and read a path; the error that came, after a look at it. Any other exception fails."""
    found = None
    for look in (looked_at, read_whole):
        found = None
        try:
            look(path)
        except GliosightError as error:
            found = error
        if found is not None:
            assert not isinstance(found, InternalError)
            line = found.line()
            assert line.isprintable()
            assert found.remedy
            # What is not there is told as it was typed.
            assert "no such file" in line or str(path.parent) not in line
    return found


def files(folder: Path) -> list[Path]:
    return sorted(one for one in folder.rglob("*") if one.is_file())


def beaten(
    whole: Path, one: Path, name: str, rounds: int, capfd: pytest.CaptureFixture[str], tail: int = 0
) -> None:
    """Damage ``one`` again and again and read ``whole``: it itself, or a folder it lies in."""
    data, before = one.read_bytes(), peak()
    assert judged(whole) is None
    outcomes = set()
    for turn in range(rounds):
        chance = random.Random(f"{name} {turn}")  # noqa: S311
        one.write_bytes(mutate(data, chance, tail=tail if turn % 2 else 0))
        outcomes.add(type(judged(whole)))
    assert len(outcomes) > 1 or rounds < 20, "blows that never hurt, or always kill, test nothing"
    assert peak() - before < MOST_MEMORY
    assert capfd.readouterr() == ("", "")


def study(folder: Path, **settings: object) -> Path:
    return write_dicom(HEAD, folder, DicomSpec(traps=frozenset(), **settings))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _one_decoder() -> Iterator[None]:
    with one_decoder():
        yield


def case(rounds: int, *, slow: bool = True, **settings: object) -> Any:
    name = " ".join(map(str, (*settings.values(), rounds)))
    return pytest.param(settings, rounds, id=name, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "rounds"),
    [
        *(case(40, slow=False, syntax=syntax) for syntax in HERE),
        *(case(150, syntax=syntax) for syntax in HERE),
        *(case(60, syntax=syntax, layout="enhanced") for syntax in HERE),
        *(case(4, syntax=syntax, layout="classic") for syntax in PACKED),
        *(case(4, syntax=syntax, layout="enhanced") for syntax in PACKED),
        case(60, no_meta=True, syntax="implicit-le"),
        case(60, no_meta=True, syntax="explicit-le"),
        case(60, no_preamble=True),
        case(60, stripped=True, no_frame_of_reference=True),
        case(60, vendor="ge", signed=True, bits=16),
        case(60, identity="unicode"),
    ],
)
def test_one_file(
    settings: dict[str, object], rounds: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one = files(study(tmp_path, **settings))[-1]
    tail = 700 if settings.get("syntax") in PACKED else 0
    beaten(one, one, str(settings), rounds, capfd, tail=tail)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"layout": "enhanced", "concatenation": 2}])
def test_a_file_among_others(
    settings: dict[str, object], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is wrong with one slice is told of its study, whatever the others are."""
    whole = study(tmp_path, **settings)
    beaten(whole, files(whole)[1], f"among others {settings}", 30, capfd)


@pytest.mark.slow
def test_dicomdir(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = study(tmp_path, dicomdir=True) / "DICOMDIR"
    beaten(path, path, "DICOMDIR", 40, capfd)


@pytest.mark.slow
def test_zip(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = study(tmp_path / "study")
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for one in files(folder):
            archive.write(one, one.relative_to(folder).as_posix())
    shutil.rmtree(folder)
    beaten(path, path, "zip", 40, capfd, tail=400)
    assert files(tmp_path) == [path]  # nothing was unpacked beside it
