"""The table of awkward DICOM, row by row, through the command: code, one line, nothing written.

Every study here is a phantom that a scanner might have exported, damaged on the way. What needs no network is
asked of ``inspect --pixels``, which reads all that ``analyze`` reads.
"""

from __future__ import annotations

import json
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from gliosight.cli import run
from gliosight.errors import DamagedInputError, LimitExceededError
from gliosight.phantom import Phantom, PhantomSpec, make_phantom
from gliosight.phantom.dicom import DicomSpec, write_dicom
from gliosight.read import Request, find_studies, read
from gliosight.read.limits import DEFAULT_LIMITS
from gliosight.study import Sequence

from .asserting import little_memory, refused

Capture = pytest.CaptureFixture[str]
FLAIR_ONLY = (Sequence.FLAIR,)
HEAD = make_phantom(
    PhantomSpec(seed=2, slices=4, matrix=48, pixel_mm=3, slice_spacing_mm=6, sequences=FLAIR_ONLY)
)
WHOLE = make_phantom(PhantomSpec(seed=2, slices=4, matrix=48, pixel_mm=3, slice_spacing_mm=6))
OTHER = make_phantom(PhantomSpec(seed=3, slices=5, matrix=48, pixel_mm=3, sequences=FLAIR_ONLY))
EXECUTABLE = b"MZ\x90\0" + bytes(range(1, 125))


def study(folder: Path, head: Phantom = HEAD, **settings: Any) -> Path:
    """A study without traps, unless they are asked for."""
    settings.setdefault("traps", frozenset())
    return write_dicom(head, folder, DicomSpec(**settings))


def files(folder: Path) -> list[Path]:
    return sorted(one for one in folder.rglob("*") if one.is_file() and one.name != "DICOMDIR")


def header(path: Path) -> Dataset:
    return pydicom.dcmread(path, stop_before_pixels=True)


def keep(folder: Path, wanted: Callable[[Dataset], bool]) -> Path:
    """Delete all files but some; there must be some."""
    for path in files(folder):
        if not wanted(header(path)):
            path.unlink()
    assert files(folder)
    return folder


def edit(paths: Iterable[Path], **elements: Any) -> None:
    """Set elements, or delete them with ``None``, whatever the standard says of their values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in paths:
            made = pydicom.dcmread(path)
            for keyword, value in elements.items():
                if value is None:
                    delattr(made, keyword)
                else:
                    setattr(made, keyword, value)
            made.save_as(path, enforce_file_format=False)


def edited(folder: Path, **elements: Any) -> Path:
    path = study(folder)
    edit(files(path), **elements)
    return path


def tree(folder: Path) -> dict[str, int]:
    return {
        one.relative_to(folder).as_posix(): one.lstat().st_size
        for one in folder.rglob("*")
        if not one.is_dir()
    }


# --- What is refused ------------------------------------------------------------------------------


def _no_such(folder: Path) -> Path:
    return study(folder) / "IM_9999.dcm"


def _cut(at: Callable[[int], int], suffix: str = "", which: int = 1) -> Callable[[Path], Path]:
    """One file of a study cut off; ``suffix`` instead of its own."""

    def build(folder: Path) -> Path:
        path = study(folder)
        one = files(path)[which]
        one.write_bytes(one.read_bytes()[: at(one.stat().st_size)])
        one.rename(one.with_suffix(suffix or one.suffix))
        return path

    return build


def _mislabelled(folder: Path) -> Path:
    (folder / "IM_0001.dcm").write_bytes(b"<html>login first</html>" * 40)
    return folder / "IM_0001.dcm"


def _sizes(folder: Path) -> Path:
    path = study(folder)
    one = files(path)[2]
    edit([one], Rows=24, PixelData=pydicom.dcmread(one).PixelData[: 24 * 48 * 2])
    return path


def _no_flair(folder: Path) -> Path:
    return keep(study(folder, WHOLE), lambda one: "InversionTime" not in one)


def _mask(folder: Path) -> Path:
    path = study(folder)
    for one in files(path):
        pixels = pydicom.dcmread(one).pixel_array
        edit([one], PixelData=((pixels > 400) * np.uint16(1)).tobytes())
    return path


def _syntax(named: str) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        path = study(folder)
        for one in files(path):
            made = pydicom.dcmread(one)
            made.file_meta.TransferSyntaxUID = named
            made.PixelData = encapsulate([bytes(64)])
            made["PixelData"].VR = "OB"
            made["PixelData"].is_undefined_length = True
            made.save_as(one, implicit_vr=False, little_endian=True)
        return path

    return build


def _bomb(tag: bytes, **elements: Any) -> Callable[[Path], Path]:
    """A single deflated file whose data set ends with an element of 128 MiB of zeros."""

    def build(folder: Path) -> Path:
        path = study(folder, syntax="deflated")
        for one in files(path)[1:]:
            one.unlink()
        (one,) = files(path)
        edit([one], **elements)
        raw = one.read_bytes()
        start = 132 + 12 + int.from_bytes(raw[140:144], "little")
        plain = zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw[start:])
        plain = plain[: plain.rindex(b"\xe0\x7f\x10\x00OW")]
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        packed = packer.compress(plain + tag + b"\0\0" + (128 << 20).to_bytes(4, "little"))
        packed += b"".join(packer.compress(bytes(1 << 20)) for _ in range(128))
        one.write_bytes(raw[:start] + packed + packer.flush())
        return path

    return build


_bomb_of_pixels = _bomb(b"\xe0\x7f\x10\0OW", Rows=8192, Columns=8192)
_bomb_of_a_header = _bomb(b"\x09\x7f\x10\0UN")


def _claims(**elements: Any) -> Callable[[Path], Path]:
    return lambda folder: edited(folder, **elements)


def _beyond(folder: Path) -> Path:
    path = study(folder, syntax="implicit-le")
    one = files(path)[1]
    raw = one.read_bytes()
    at = raw.index(b"\x10\x00\x10\x00", 300)  # PatientName
    one.write_bytes(raw[: at + 4] + b"\xff\xff\xff\x7f" + raw[at + 8 :])
    return path


def _dicomdir(*reference: str) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        path = study(folder / "inside", dicomdir=True)
        study(folder / "outside", OTHER)
        directory = pydicom.dcmread(path / "DICOMDIR")
        record = next(one for one in directory.DirectoryRecordSequence if "ReferencedFileID" in one)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            record.ReferencedFileID = list(reference)
            directory.save_as(path / "DICOMDIR")
        return path / "DICOMDIR"

    return build


def _dicomdir_by_link(folder: Path) -> Path:
    path = study(folder / "inside", dicomdir=True)
    outside = files(study(folder / "outside", OTHER))[0]
    one = files(path)[0]
    one.unlink()
    one.symlink_to(outside)
    return path / "DICOMDIR"


def _twice_unexplained(folder: Path) -> Path:
    return study(folder, repeats=frozenset({"unexplained"}))


def _only(wanted: Callable[[Dataset], bool], *traps: str) -> Callable[[Path], Path]:
    return lambda folder: keep(study(folder, WHOLE, traps=frozenset(traps)), wanted)


def _says(*words: str) -> Callable[[Dataset], bool]:
    return lambda one: bool(set(words) & set(one.ImageType))


def _is(number: int) -> Callable[[Dataset], bool]:
    return lambda one: one.SeriesNumber == number


def _as(kind: str, modality: str, *, pixels: bool = True) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        path = edited(folder, SOPClassUID=kind, Modality=modality)
        if not pixels:
            edit(files(path), PixelData=None, Rows=None, Columns=None)
        return path

    return build


def _colours(folder: Path) -> Path:
    path = study(folder)
    for one in files(path):
        size = len(pydicom.dcmread(one).PixelData) // 2
        edit(
            [one],
            SamplesPerPixel=3,
            PhotometricInterpretation="RGB",
            PlanarConfiguration=0,
            BitsAllocated=8,
            BitsStored=8,
            HighBit=7,
            PixelData=bytes(3 * size),
        )
    return path


def _nested(folder: Path) -> Path:
    path = study(folder)
    inside = Dataset()
    for _ in range(60):
        outside = Dataset()
        outside.ReferencedImageSequence = [inside]
        inside = outside
    edit(files(path)[:1], ReferencedStudySequence=[inside])
    return path


# What is never analysed, and what `inspect` calls it.
NEVER: dict[str, tuple[Callable[[Path], Path], str]] = {
    "Siemens mosaic": (_only(_says("MOSAIC"), "mosaic"), "mosaic"),
    "screenshot": (_only(_is(9003), "screenshot"), "secondary capture"),
    "apparent diffusion map": (_only(_says("ADC"), "map"), "derived map"),
    "stored ROI": (_only(_is(9001), "roi"), "stored mask"),
    "localizer": (_only(_is(1), "localizer"), "localizer"),
    "fractional anisotropy": (_claims(ImageType=["DERIVED", "PRIMARY", "FA"]), "derived map"),
    "subtraction": (_claims(ImageType=["DERIVED", "PRIMARY", "SUBTRACTION"]), "subtraction"),
    "CT": (_as(uid.CTImageStorage, "CT"), "CT"),
    "PET": (_as(uid.PositronEmissionTomographyImageStorage, "PT"), "PET"),
    "ultrasound": (_as(uid.UltrasoundImageStorage, "US"), "ultrasound"),
    "report": (_as(uid.BasicTextSRStorage, "SR", pixels=False), "structured report"),
    "segmentation": (_as(uid.SegmentationStorage, "SEG"), "segmentation"),
}

REFUSED: dict[str, tuple[int, Callable[[Path], Path], tuple[str, ...]]] = {
    "no such path": (3, _no_such, ("no such file",)),
    "empty folder": (3, lambda folder: folder, ("empty",)),
    "mislabelled": (4, _mislabelled, ("named .dcm", "IM_0001.dcm")),
    "cut in the pixels": (4, _cut(lambda size: size - 300), ("instance 2", "cut short")),
    "cut in the header": (4, _cut(lambda _: 700), ("cut short",)),
    "cut in the preamble": (4, _cut(lambda _: 60, ".dcm"), ("0002.dcm", "cut off at once")),
    "nothing left of it": (4, _cut(lambda _: 0, ".dcm"), ("0002.dcm", "empty")),
    "different sizes": (4, _sizes, ("instance 1", "instance 3", "48 x 48", "24 x 48")),
    "no FLAIR": (5, _no_flair, ("no FLAIR", "T1")),
    "a mask as image": (4, _mask, ("two values",)),
    "MPEG-2": (5, _syntax(uid.MPEG2MPML), ("video", "MPEG2")),
    "MPEG-4": (5, _syntax(uid.MPEG4HP41), ("video", "MPEG-4")),
    "HEVC": (5, _syntax(uid.HEVCMP51), ("video", "HEVC")),
    "a syntax nobody knows": (5, _syntax("1.2.3.4.5"), ("1.2.3.4.5",)),
    "a deflate bomb of pixels": (6, _bomb_of_pixels, ("--max-ratio",)),
    "a deflate bomb of a header": (6, _bomb_of_a_header, ("--max-ratio",)),
    "rows beyond the limit": (6, _claims(Rows=60_000, Columns=60_000), ("--max-decoded",)),
    "rows beyond the file": (4, _claims(Rows=60_00, Columns=60), ("instance 1",)),
    "frames beyond the file": (4, _claims(NumberOfFrames=9), ()),
    "an element beyond the file": (4, _beyond, ("longer than the file",)),
    "sequences nested absurdly": (4, _nested, ("nested",)),
    "DICOMDIR: up": (4, _dicomdir("..", "outside"), ("outside its own folder",)),
    "DICOMDIR: up in one name": (4, _dicomdir("../outside"), ("outside its own folder",)),
    "DICOMDIR: absolute": (4, _dicomdir("/etc/passwd"), ("outside its own folder",)),
    "DICOMDIR: a drive": (4, _dicomdir("C:\\x"), ("outside its own folder",)),
    "DICOMDIR: a link": (4, _dicomdir_by_link, ("outside its own folder",)),
    "twice, unexplained": (4, _twice_unexplained, ("instance 1", "instance 5", "no tag")),
    "colours": (5, _colours, ("colour",)),
    **{f"only {name}": (5, build, ("no FLAIR",)) for name, (build, _) in NEVER.items()},
}


def refuse(
    path: Path, code: int, words: Iterable[str], tmp_path: Path, capsys: Capture, *more: str
) -> str:
    """Analyse what must be refused; the line, after a look at it."""
    before = tree(tmp_path)
    assert run(["analyze", str(path), "-o", str(tmp_path / "out"), *more]) == code
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert line.count(": ") >= 2  # what, and what to do
    assert line.isprintable()
    assert code == 3 or str(tmp_path) not in line  # only what is not there is told as it was typed
    assert "^" not in line  # as in every patient's name here
    for word in words:
        assert word in line
    assert captured.out == ""
    assert tree(tmp_path) == before
    return line


@pytest.mark.parametrize("row", REFUSED)
def test_refused_in_one_line_with_nothing_written(
    row: str, tmp_path: Path, capsys: Capture
) -> None:
    code, build, words = REFUSED[row]
    (tmp_path / "given").mkdir()
    refuse(build(tmp_path / "given"), code, words, tmp_path, capsys)


@pytest.fixture(scope="module")
def large() -> Phantom:
    """Just over a MiB of pixels."""
    return make_phantom(PhantomSpec(seed=2, slices=9, matrix=256, sequences=FLAIR_ONLY))


@pytest.mark.parametrize(
    "settings", [{}, {"syntax": "rle"}, {"layout": "enhanced"}, {"syntax": "deflated"}]
)
def test_more_pixels_than_allowed(
    settings: dict[str, Any], tmp_path: Path, capsys: Capture, large: Phantom
) -> None:
    path = study(tmp_path / "given", large, **settings)
    refuse(path, 6, ("--max-decoded",), tmp_path, capsys, "--max-decoded", "1")


@pytest.mark.parametrize("name", ["", "DICOMDIR"])
def test_more_files_than_allowed(name: str, tmp_path: Path, capsys: Capture) -> None:
    path = study(tmp_path / "given", dicomdir=True) / name
    refuse(path, 6, ("--max-members",), tmp_path, capsys, "--max-members", "3")


BEFORE_ALLOCATION: dict[str, tuple[type[Exception], Callable[[Path], Path], int]] = {
    "rows": (LimitExceededError, _claims(Rows=60_000, Columns=60_000), 16),
    "an element": (DamagedInputError, _beyond, 16),
    "deflated pixels": (LimitExceededError, _bomb_of_pixels, 160),
    "a deflated header": (LimitExceededError, _bomb_of_a_header, 160),
}


@pytest.mark.parametrize("row", BEFORE_ALLOCATION)
def test_nothing_is_allocated_for_a_claim(row: str, tmp_path: Path) -> None:
    error, build, most = BEFORE_ALLOCATION[row]
    path = build(tmp_path)
    with little_memory(most << 20):
        refused(path, error)  # type: ignore[arg-type]


# --- What is read, with a flag or without ---------------------------------------------------------


def inspect(path: Path, capsys: Capture, *more: str) -> dict[str, Any]:
    """What `inspect` says of the one study there."""
    assert run(["inspect", str(path), "--json", "--pixels", *more]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    told = json.loads(captured.out)
    (one,) = told["studies"]
    one["codes"] = {flag["code"] for flag in (*one["flags"], *told["flags"])}
    return dict(one)


@pytest.mark.parametrize("row", NEVER)
def test_inspect_says_why_it_is_never_analysed(row: str, tmp_path: Path, capsys: Capture) -> None:
    build, shows = NEVER[row]
    told = inspect(build(tmp_path), capsys)
    assert told["error"]["exit_code"] == 5
    for one in told["series"]:
        assert shows in one["shows"]
        assert one["problem"] == "never analysed"
        assert one["why"]
        assert one["taken_as"] is None


def preamble(folder: Path) -> Path:
    path = study(folder)
    for one in files(path):
        one.write_bytes(EXECUTABLE + one.read_bytes()[128:])
    return path


def _odd_vr(folder: Path) -> Path:
    """A decimal string (the flip angle) of letters."""
    path = study(folder)
    for one in files(path):
        raw = one.read_bytes()
        at = raw.index(b"\x18\x00\x14\x13DS")
        length = int.from_bytes(raw[at + 6 : at + 8], "little")
        one.write_bytes(raw[: at + 8] + b"x" * length + raw[at + 8 + length :])
    return path


def _private(folder: Path) -> Path:
    path = study(folder)
    for one in files(path):
        made = pydicom.dcmread(one)
        block = made.private_block(0x0029, "ACME 1.0", create=True)
        block.add_new(0x10, "OB", bytes(range(256)) * 400)
        block.add_new(0x11, "UN", b"\xff\xfe\x00\xe0" * 3)
        made.save_as(one)
    return path


def wide(folder: Path) -> Path:
    path = study(folder)
    for number, one in enumerate(files(path)):
        edit([one], ImagePositionPatient=[-70, -70, 90 * number])
    return path


def _loops(folder: Path) -> Path:
    path = study(folder)
    (path / "loop").symlink_to(path)
    (path / "itself").symlink_to("itself")
    (path / "away").symlink_to("/dev/zero")
    os.mkfifo(path / "fifo")
    return path


def _names(folder: Path) -> Path:
    path = study(folder)
    for number, one in enumerate(files(path)):
        one.rename(path / f"={number} <b>\n\x1b[31m 影像'\".dcm")
    return path.rename(folder / "a \x1b[2J\n<i>ü")


def _spec(head: Phantom = HEAD, **settings: Any) -> Callable[[Path], Path]:
    return lambda folder: study(folder, head, **settings)


def _whole(**settings: Any) -> Callable[[Path], Path]:
    return lambda folder: study(folder, WHOLE, **settings)


def _zip(folder: Path) -> Path:
    path = study(folder)
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        for one in files(path):
            archive.write(one, f"a/{one.name}")
        archive.write(one, "../../out/evil.dcm")
        archive.write(one, "/evil.dcm")
        link = zipfile.ZipInfo("a/link.dcm")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    return folder / "x.zip"


def _mask_beside(folder: Path) -> Path:
    path = study(folder, traps=frozenset({"mask"}))
    edit((one for one in files(path) if header(one).SeriesNumber == 9002), SeriesDescription="x")
    return path


def _half_concatenation(folder: Path) -> Path:
    path = study(folder, layout="enhanced", concatenation=2)
    files(path)[0].unlink()
    return path


READ: dict[str, tuple[str | None, Callable[[Path], Path]]] = {
    "a missing slice": ("MISSING_SLICES", _spec(OTHER, missing=(2,))),
    "half of a concatenation": ("MISSING_SLICES", _half_concatenation),
    "uneven gaps": ("UNEVEN_SPACING", _spec(uneven=0.3)),
    "gantry tilt": ("GANTRY_TILT", _spec(tilt_degrees=15)),
    "lossy": ("LOSSY_SOURCE", _spec(syntax="jpeg-baseline")),
    "once lossy": ("LOSSY_SOURCE", lambda folder: edited(folder, LossyImageCompression="01")),
    "no preamble": ("NONSTANDARD_FILE", _spec(no_preamble=True)),
    "no meta header": ("NONSTANDARD_FILE", _spec(no_meta=True)),
    "no meta header, implicit": ("NONSTANDARD_FILE", _spec(no_meta=True, syntax="implicit-le")),
    "wrong character set": ("NONSTANDARD_FILE", _spec(wrong_charset=True)),
    "odd value representation": ("NONSTANDARD_FILE", _odd_vr),
    "private tags": (None, _private),
    "an executable for a preamble": (None, preamble),
    "spacing over 20 mm": ("NO_GEOMETRY", wide),
    "no positions": ("NO_GEOMETRY", lambda folder: edited(folder, ImagePositionPatient=None)),
    "no pixel spacing": ("NO_GEOMETRY", lambda folder: edited(folder, PixelSpacing=None)),
    "two times": ("FLAIR_CHOSEN", _spec(repeats=frozenset({"times"}))),
    "copies": (None, _spec(repeats=frozenset({"copies"}))),
    "several FLAIR": ("FLAIR_CHOSEN", _whole(traps=frozenset({"coronal"}))),
    "mask with FLAIR's header": (
        "MASK_PASSED_OVER",
        _mask_beside,
    ),
    "T1 on another grid": ("T1_RESAMPLED", _whole(t1_grid="coronal")),
    "T1 in another frame of reference": ("T1_LEFT_OUT", _whole(t1_frame="other")),
    "T1C in another frame of reference": ("T1C_LEFT_OUT", _whole(t1_frame="other")),
    "no T1": ("T1_MISSING", _spec()),
    "loops, FIFOs and devices": (None, _loops),
    "names full of traps": (None, _names),
    "a zip with members that lead outside": ("MEMBERS_SKIPPED", _zip),
    "a DICOMDIR": (None, lambda folder: study(folder, dicomdir=True) / "DICOMDIR"),
    **{
        f"enhanced, {vendor}": (None, _spec(layout="enhanced", vendor=vendor))
        for vendor in ("siemens", "ge", "philips")
    },
    "enhanced, in parts": (None, _spec(layout="enhanced", concatenation=3)),
    "everything beside": (
        None,
        _whole(traps=frozenset({"localizer", "map", "roi", "dwi", "t2", "mosaic", "screenshot"})),
    ),
}


@pytest.mark.parametrize("row", READ)
def test_read_and_said_so(row: str, tmp_path: Path, capsys: Capture) -> None:
    code, build = READ[row]
    (tmp_path / "given").mkdir()
    path = build(tmp_path / "given")
    before = tree(tmp_path)
    told = inspect(path, capsys)
    assert told["error"] is None
    assert code is None or code in told["codes"]
    assert [one["taken_as"] for one in told["series"]].count("FLAIR") == 1
    (taken,) = (one for one in told["series"] if one["taken_as"] == "FLAIR")
    assert taken["shows"] == "FLAIR"
    assert tree(tmp_path) == before
    assert run(["inspect", str(path)]) == 0  # in words
    words = capsys.readouterr().out
    assert words.replace("\n", "").isprintable()


@pytest.mark.parametrize("numbering", ["reversed", "shuffled", "zero"])
def test_numbers_and_names_never_decide_the_order(numbering: str, tmp_path: Path) -> None:
    usual = read(Request(study(tmp_path / "usual")))
    odd = read(Request(study(tmp_path / "odd", numbering=numbering, shuffled_names=True)))
    assert np.array_equal(usual.flair.values, odd.flair.values)
    assert np.array_equal(usual.flair.geometry.origins, odd.flair.geometry.origins)  # type: ignore[union-attr]


def test_two_echoes_are_told_apart(tmp_path: Path, capsys: Capture) -> None:
    path = study(tmp_path / "given", repeats=frozenset({"echoes"}))
    line = refuse(path, 5, ("equally good",), tmp_path, capsys)
    assert "echo 1" in line
    assert "echo 2" in line
    assert {one["name"] for one in inspect(path, capsys)["series"]} == {
        "series 1, echo 1",
        "series 1, echo 2",
    }


def test_flair_overrides_the_choice(tmp_path: Path, capsys: Capture) -> None:
    """The coronal FLAIR is not the rules' choice, but may be the user's."""
    path = study(tmp_path, WHOLE, traps=frozenset({"coronal"}))
    told = inspect(path, capsys)
    (other,) = (
        one for one in told["series"] if one["shows"] == "FLAIR" and one["taken_as"] is None
    )
    assert other["plane"] == "coronal"
    assert other["name"] in next(x["message"] for x in told["flags"] if x["code"] == "FLAIR_CHOSEN")
    chosen = read(Request(path, series={Sequence.FLAIR: other["uid"]}))
    assert chosen.flair.values.shape == tuple(other["shape"])


# --- Defects that are known -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 60])
def test_a_slice_cut_to_nothing_is_missed(size: int, tmp_path: Path) -> None:
    """The last slice, so that no gap tells of it either."""
    path = _cut(lambda _: size, which=-1)(tmp_path)
    try:
        codes = {one.code for one in read(Request(path)).flags}
    except DamagedInputError:
        return
    assert codes & {"FILES_IGNORED", "MISSING_SLICES"}


def test_a_zip_member_without_a_name(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("?", "text")
        for one in files(study(tmp_path / "given")):
            archive.write(one, one.name)
    path.write_bytes(path.read_bytes().replace(b"?", b"\0", 1).replace(b"?PK", b"\0PK", 1))
    assert "MEMBERS_SKIPPED" in inspect(path, capsys)["codes"]


def test_a_dicomdir_that_is_not_all_there(tmp_path: Path, capsys: Capture) -> None:
    """A disc copied in part: one study, and what is missing is told relative to the input."""
    path = study(tmp_path / "given", WHOLE, dicomdir=True)
    for one in files(path):
        if header(one).SeriesNumber == 2:
            one.unlink()
    told = inspect(path / "DICOMDIR", capsys)
    assert str(tmp_path) not in repr(told)


@pytest.mark.parametrize("name", ["DICOMDIR", "x.dcm"])
@pytest.mark.parametrize("option", ["-q", "--probability"])
def test_a_dicomdir_that_names_nothing(
    name: str, option: str, tmp_path: Path, capsys: Capture
) -> None:
    """By its own name, or taken for an image."""
    directory = pydicom.dcmread(study(tmp_path / "whole", dicomdir=True) / "DICOMDIR")
    directory.DirectoryRecordSequence = []
    (tmp_path / "given").mkdir()
    directory.save_as(tmp_path / "given" / name)
    refuse(tmp_path / "given" / name, 3, (name,), tmp_path, capsys, option)


def test_frames_that_no_file_could_hold(tmp_path: Path) -> None:
    """Thousands of such files, each of 7 kB, would take hours and all memory."""
    path = edited(tmp_path, NumberOfFrames=2**31 - 1)
    (source,) = find_studies(path, DEFAULT_LIMITS)
    assert not isinstance(source, Path)
    assert sum(len(one.frames) for one in source.series) <= sum(tree(path).values())


def test_a_missing_slice_of_a_short_stack(tmp_path: Path) -> None:
    found = read(Request(study(tmp_path, missing=(2,))))  # gaps of 6 and 12 mm
    assert "MISSING_SLICES" in {one.code for one in found.flags}
