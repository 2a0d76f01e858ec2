"""From chosen series to a study: grids, contrast by pixels, what is left out and why."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from gliosight.errors import (
    DamagedInputError,
    LimitExceededError,
    UnsupportedInputError,
    UsageError,
)
from gliosight.phantom import Phantom, PhantomSpec, make_phantom
from gliosight.read import Limits, Options, Request, find, join, read
from gliosight.read.candidates import DicomCandidate
from gliosight.read.dicom import files
from gliosight.read.dicom.choose import ENHANCES_FROM, enhancement
from gliosight.read.dicom.series import Series
from gliosight.read.dicom.study import DicomStudy, digest_of, without_pixels
from gliosight.read.dicom.study import joined as joined_studies
from gliosight.read.limits import DEFAULT_LIMITS, Budget
from gliosight.study import MrSequence, Study
from tests.support.dicom_phantom import DicomSpec, geometry_of, volume_of, write_dicom

F, T1, T1C = MrSequence.FLAIR, MrSequence.T1, MrSequence.T1C
# T1C is known by its pixels alone.
UNTOLD = DicomSpec(contrast_tags=False, descriptions="empty", traps=frozenset())
UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


@pytest.fixture(scope="module")
def head() -> Phantom:
    return make_phantom(PhantomSpec(seed=2, slices=6, matrix=64, pixel_mm=3.0))


@pytest.fixture(scope="module")
def small() -> Phantom:
    return make_phantom(PhantomSpec(seed=8, slices=5, matrix=32, pixel_mm=3.0))


def plain(head: Phantom, folder: Path, **settings: object) -> Path:
    """The study as files, without other series beside it."""
    return write_dicom(head, folder, DicomSpec(traps=frozenset(), **settings))  # type: ignore[arg-type]


def with_sequences(head: Phantom, **arrays: np.ndarray) -> Phantom:
    return replace(
        head, sequences={**head.sequences, **{MrSequence[k]: v for k, v in arrays.items()}}
    )


def flair_alone(head: Phantom) -> Phantom:
    """Without a T1C, after which a FLAIR that is stored later would not be the first choice."""
    return replace(head, sequences={F: head.sequences[F]})


def codes(study: Study) -> set[str]:
    return {note.code for note in study.flags}


def messages(study: Study, code: str) -> list[str]:
    return [note.message for note in study.flags if note.code == code]


def only(path: Path) -> DicomStudy:
    (candidate,) = find(path, Limits())
    assert isinstance(candidate, DicomCandidate)
    return candidate.study


def usable(source: DicomStudy, kind: str) -> Series:
    return next(s for s in source.series if s.identified.kind == kind and s.usable)


def read_headers(source: DicomStudy, series: Mapping[MrSequence, str] | None = None) -> Study:
    candidate = DicomCandidate(source="study", path=Path(), study=source)
    return candidate.read(Options(series=series or {}))


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def rewrite(folder: Path, change: Callable[[Dataset, int], None]) -> list[Path]:
    """Change the header of every file, given with its number; the files."""
    for index, path in enumerate(files := files_in(folder)):
        header = pydicom.dcmread(path)
        change(header, index)
        header.save_as(path)
    return files


def own_uids(*keywords: str) -> Callable[[Dataset, int], None]:
    """A change that gives every file UIDs of its own."""

    def change(header: Dataset, index: int) -> None:
        for keyword in keywords:
            setattr(header, keyword, f"{header.get(keyword)}.{index}")

    return change


def same_values(study: Study, other: Study) -> bool:
    return all(
        np.array_equal(study.sequences[name].values, other.sequences[name].values)
        for name in MrSequence
    )


def test_three_sequences_on_one_grid(head: Phantom, tmp_path: Path) -> None:
    study = read(Request(write_dicom(head, tmp_path)))
    assert study.kind == "dicom"
    assert set(study.sequences) == set(MrSequence)
    for name in MrSequence:
        assert np.array_equal(study.sequences[name].values, volume_of(head, DicomSpec(), name))
    assert study.geometry is not None
    assert np.allclose(study.geometry.origins, geometry_of(head).origins, atol=1e-3)
    # Of the traps none left a trace but for the reasons.
    assert set(study.source.series) == {"FLAIR", "T1", "T1C"}


def test_one_place_without_a_frame_of_reference_is_flagged(head: Phantom, tmp_path: Path) -> None:
    rewrite(plain(head, tmp_path), lambda header, _: header.pop("FrameOfReferenceUID"))
    study = read(Request(tmp_path))
    assert set(study.sequences) == set(MrSequence)
    t1, t1c = messages(study, "GRID_ASSUMED")
    assert ("T1 " in t1, "T1C " in t1c) == (True, True)


def test_t1_of_another_frame_of_reference_is_left_out(head: Phantom, tmp_path: Path) -> None:
    study = read(Request(plain(head, tmp_path, t1_frame="other")))
    assert set(study.sequences) == {F}
    assert {"T1_LEFT_OUT", "T1C_LEFT_OUT"} <= codes(study)
    assert not {"T1_MISSING", "T1C_MISSING"} & codes(study)


def test_a_volume_of_dicom_cannot_be_asked_for(head: Phantom, tmp_path: Path) -> None:
    folder = plain(head, tmp_path)
    for path in (folder, files_in(folder)[0]):
        with pytest.raises(UsageError, match="--volume 1 is for 4-D NIfTI"):
            read(Request(path, volume_index=1))


def test_the_study_is_named_by_a_digest_and_nothing_else(head: Phantom, tmp_path: Path) -> None:
    source = only(plain(head, tmp_path, identity="unicode"))
    study = read_headers(source)
    uid = str(source.series[0].frames[0].instance.header.StudyInstanceUID)
    assert study.study_id == digest_of(uid)
    assert len(study.study_id) == 12
    shown = repr((study.study_id, study.slice_names, study.flags, study.source.series))
    assert "PHANTOM" not in shown.upper()


@pytest.mark.parametrize("layout", ["classic", "enhanced"])
def test_a_source_leads_back_to_its_frames(head: Phantom, tmp_path: Path, layout: str) -> None:
    spec = DicomSpec(layout=layout, numbering="shuffled", shuffled_names=layout == "classic")
    source = only(write_dicom(head, tmp_path, spec))
    whole = read_headers(source)
    origin = whole.source.dicom
    assert len(origin.frames) == whole.shape[0]
    assert len(origin.headers) == (1 if layout == "enhanced" else whole.shape[0])
    assert not any("PixelData" in header for header in origin.headers)
    # And headers alone make the same grid.
    bare = without_pixels(source, whole.source.series[MrSequence.FLAIR].frames_digest)
    assert (bare.shape, bare.slice_names) == (whole.shape, whole.slice_names)
    assert bare.source.dicom.frames == origin.frames
    assert np.array_equal(bare.geometry.origins, whole.geometry.origins)  # type: ignore[union-attr]
    with pytest.raises(UnsupportedInputError, match="not among"):
        without_pixels(source, "0" * 12)


# Contrast medium by pixels.


def test_enhancement_has_a_direction(head: Phantom) -> None:
    t1, t1c = head.sequences[T1], head.sequences[T1C]
    assert enhancement(t1, t1c) > ENHANCES_FROM
    assert enhancement(t1c, t1) < -ENHANCES_FROM
    assert abs(enhancement(t1, t1)) < 1e-9
    # Another gain, and a coil that is brighter on one side, enhance nothing.
    ramp = np.linspace(0.7, 1.4, t1.shape[2])
    assert abs(enhancement(t1, t1 * 3.0 * ramp)) < ENHANCES_FROM
    assert enhancement(np.zeros_like(t1), t1) == 0


def test_without_contrast_fields_the_pixels_confirm_the_order(
    head: Phantom, tmp_path: Path
) -> None:
    study = read(Request(write_dicom(head, tmp_path / "told", UNTOLD)))
    assert "T1C_BY_ORDER" in codes(study)
    assert np.array_equal(study.sequences[T1C].values, volume_of(head, UNTOLD, T1C))
    # A scan repeated after the patient moved: nothing enhances.
    t1 = head.sequences[T1].astype(int)
    noise = np.random.default_rng(1).integers(-3, 4, t1.shape)
    twice = with_sequences(head, T1C=np.clip(t1 + noise, 0, 4095).astype(np.uint16))
    study = read(Request(write_dicom(twice, tmp_path / "twice", UNTOLD)))
    assert T1C not in study.sequences
    (message,) = messages(study, "T1C_LEFT_OUT")
    assert "--t1c" in message


@pytest.mark.parametrize("dated", [True, False], ids=["with dates", "without dates"])
def test_pixels_turn_an_order_round_only_where_no_date_makes_it_sure(
    head: Phantom, tmp_path: Path, dated: bool
) -> None:
    def undate(header: Dataset, _: int) -> None:
        for keyword in ("AcquisitionDate", "SeriesDate", "StudyDate", "AcquisitionDateTime"):
            header.pop(keyword, None)

    # Headers in the wrong order: the one that enhances was acquired first.
    turned = with_sequences(head, T1=head.sequences[T1C], T1C=head.sequences[T1])
    folder = write_dicom(turned, tmp_path, UNTOLD)
    if not dated:
        rewrite(folder, undate)
    study = read(Request(folder))
    if dated:
        assert set(study.sequences) == {F, T1}
        (message,) = messages(study, "T1C_LEFT_OUT")
        assert "darkens" in message
        return
    assert "T1C_BY_ORDER" in codes(study)
    for name in (T1, T1C):
        assert np.array_equal(study.sequences[name].values, volume_of(head, UNTOLD, name))
    assert "by its pixels after" in study.source.series[MrSequence.T1C].why
    t1, t1c = (study.source.series[name] for name in (MrSequence.T1, MrSequence.T1C))
    assert t1.uid_digest != t1c.uid_digest


# Stored masks.


def untold_mask(head: Phantom, folder: Path) -> int:
    """Write a study whose stored mask only the pixels tell from FLAIR; the mask's series number."""

    def unnamed(header: Dataset, _: int) -> None:
        if header.SeriesDescription.endswith("seg"):
            header.SeriesDescription = header.ProtocolName = ""
            masks.add(int(header.SeriesNumber))

    masks: set[int] = set()
    spec = DicomSpec(traps=frozenset({"mask"}))
    rewrite(write_dicom(flair_alone(head), folder, spec), unnamed)
    return masks.pop()


def test_a_mask_with_flairs_own_header_is_passed_over(head: Phantom, tmp_path: Path) -> None:
    mask = untold_mask(head, tmp_path)
    source = only(tmp_path)
    shown = [series for series in source.series if series.identified.sequence is F]
    assert len(shown) == 2  # by the headers
    study = read_headers(source)
    assert len(np.unique(study.flair.values)) > 100
    assert "MASK_PASSED_OVER" in codes(study)
    with pytest.raises(DamagedInputError, match="mask"):
        read_headers(source, {F: str(mask)})
    masks_only = [
        series for series in source.series if series not in shown or series.number == mask
    ]
    with pytest.raises(DamagedInputError, match="mask"):
        read_headers(replace(source, series=tuple(masks_only)))


def test_a_mask_with_the_header_of_t1_is_passed_over(head: Phantom, tmp_path: Path) -> None:
    binary = with_sequences(head, T1=(head.truth > 0).astype(np.uint16))
    source = only(plain(binary, tmp_path))
    study = read_headers(source)
    assert set(study.sequences) == {F, T1C}
    (message,) = messages(study, "MASK_PASSED_OVER")
    assert "looks like T1 by its header" in message
    with pytest.raises(DamagedInputError, match="mask"):
        read_headers(source, {T1: str(usable(source, "T1").number)})


def test_a_map_of_labels_with_flairs_own_header_is_passed_over(
    head: Phantom, tmp_path: Path
) -> None:
    folder = plain(flair_alone(head), tmp_path)
    flair = usable(only(folder), "FLAIR")
    for index, frame in enumerate(flair.frames):
        image = pydicom.dcmread(frame.instance.path)
        pixels = image.pixel_array
        labels = (pixels > 300).astype(np.uint16) + (pixels > 900) + 2 * (pixels > 1200)
        image.PixelData = labels.astype(np.uint16).tobytes()
        image.SeriesInstanceUID, image.SeriesNumber = "1.2.3.99", 99
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.99.{index}"
        image.AcquisitionTime = image.SeriesTime = "235500"
        image.save_as(folder / f"labels{index}.dcm")
    study = read(Request(folder))
    assert study.source.series[MrSequence.FLAIR].uid_digest == digest_of(flair.uid)
    (message,) = messages(study, "MASK_PASSED_OVER")
    assert "Series 99" in message
    assert "values only" in message
    with pytest.raises(DamagedInputError, match="map of labels"):
        read(Request(folder, series={F: "99"}))


# What is chosen and said.


def test_what_is_odd_about_t1_is_said_with_its_name(head: Phantom, tmp_path: Path) -> None:
    def lossy(header: Dataset, _: int) -> None:
        if header.SeriesInstanceUID in changed:
            header.LossyImageCompression = "01"

    source = only(plain(head, tmp_path))
    t1 = usable(source, "T1")
    t1.frames[3].instance.path.unlink()
    changed = {t1.uid}
    rewrite(tmp_path, lossy)
    study = read(Request(tmp_path))
    assert messages(study, "MISSING_SLICES")[0].startswith("T1: 1 slice is missing")
    assert messages(study, "LOSSY_SOURCE")[0].startswith("T1: ")
    # What all of them have in common is said once.
    changed = {series.uid for series in source.series}
    rewrite(tmp_path, lossy)
    (message,) = messages(read(Request(tmp_path)), "LOSSY_SOURCE")
    assert not message.startswith("T1")


def test_truncated_pixels_and_unreadable_files_are_errors(head: Phantom, tmp_path: Path) -> None:
    flair = usable(only(plain(head, tmp_path)), "FLAIR")
    path = flair.frames[4].instance.path
    whole = path.read_bytes()
    path.write_bytes(whole[:-500])
    with pytest.raises(DamagedInputError, match=rf"series {flair.number}, instance \d+"):
        read(Request(tmp_path))
    # A file beside a study may be one of its slices.
    path.write_bytes(whole)
    (path.parent / "cut.dcm").write_bytes(whole[:400])
    with pytest.raises(DamagedInputError, match=r"cut\.dcm"):
        read(Request(tmp_path))


# Several studies, and one of several names.


def test_two_patients_under_one_uid_are_two_studies(head: Phantom, tmp_path: Path) -> None:
    first, second = (plain(head, tmp_path / name) for name in ("a", "b"))
    rewrite(second, lambda header, _: setattr(header, "PatientID", "somebody else"))
    studies = [candidate.read(Options()) for candidate in find(tmp_path, Limits())]
    assert len({study.study_id for study in studies}) == len(studies) == 2
    assert all("PATIENTS_APART" in codes(study) for study in studies)
    assert "somebody" not in repr([study.flags for study in studies])
    assert set(read(Request(first)).sequences) == set(MrSequence)


@pytest.mark.slow
def test_without_uids_studies_and_series_still_have_names_of_their_own(
    head: Phantom, small: Phantom, tmp_path: Path
) -> None:
    def nameless(header: Dataset, _: int) -> None:
        for keyword in UIDS:
            header.pop(keyword, None)

    ids = []
    for name, phantom in (("a", head), ("b", small)):
        folder = plain(phantom, tmp_path / name)
        rewrite(folder, nameless)
        study = read(Request(folder))
        ids += [study.study_id, *(taken.uid_digest for taken in study.source.series.values())]
        assert read(Request(folder)).study_id == study.study_id
    assert len(ids) == len(set(ids)) == 8
    assert digest_of("") not in ids


def test_two_studies_under_one_folder(head: Phantom, small: Phantom, tmp_path: Path) -> None:
    plain(head, tmp_path)
    plain(small, tmp_path)
    studies = [candidate.read(Options()) for candidate in find(tmp_path, Limits())]
    assert {study.shape[0] for study in studies} == {6, 5}
    with pytest.raises(UnsupportedInputError, match="2 studies"):
        read(Request(tmp_path))


def test_a_zip_and_a_dicomdir_give_the_same_study(head: Phantom, tmp_path: Path) -> None:
    folder = plain(head, tmp_path / "a", dicomdir=True)
    archive = Path(shutil.make_archive(str(tmp_path / "export"), "zip", folder))
    whole, *others = (read(Request(path)) for path in (folder, archive, folder / "DICOMDIR"))
    for study in others:
        assert study.study_id == whole.study_id
        assert np.array_equal(study.flair.values, whole.flair.values)


def test_a_budget_bounds_all_series_together(head: Phantom, tmp_path: Path) -> None:
    folder = plain(head, tmp_path)
    enough = 3 * 4 * head.truth.size
    read(Request(folder, limits=Limits(decoded_bytes=enough)))
    with pytest.raises(LimitExceededError, match="--max-decoded"):
        read(Request(folder, limits=Limits(decoded_bytes=enough - 1)))


def test_each_header_is_read_once(
    head: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the folder to the pixels: a network drive would be asked for every file again."""
    folder = plain(head, tmp_path)
    asked: list[Path] = []
    real = files.read_instance

    def counted(path: Path, *others: object) -> object:
        asked.append(path)
        return real(path, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(files, "read_instance", counted)
    assert set(read(Request(folder)).sequences) == set(MrSequence)
    assert sorted(asked) == files_in(folder)


SPOILT: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "series": (("SeriesInstanceUID",), set()),
    "all": (
        ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"),
        {"STUDIES_JOINED", "FRAMES_DISAGREE", "GRID_ASSUMED"},
    ),
}


@pytest.mark.parametrize(("keywords", "more"), SPOILT.values(), ids=SPOILT)
def test_uids_that_change_with_the_slice(
    head: Phantom, tmp_path: Path, keywords: tuple[str, ...], more: set[str]
) -> None:
    whole = read(Request(plain(head, tmp_path / "whole")))
    folder = plain(head, tmp_path / "spoilt")
    files = rewrite(folder, own_uids(*keywords))
    study = read(Request(folder))
    assert codes(study) == codes(whole) | {"SERIES_JOINED"} | more
    assert same_values(study, whole)
    (candidate,) = find(folder, Limits())
    seen = candidate.describe(Limits(), pixels=False)
    joined_flags = [note.message for note in seen.flags if note.code == "SERIES_JOINED"]
    assert "FLAIR: The " in joined_flags[0]
    # Also where each file is given by itself.
    candidates = [candidate for path in files for candidate in find(path, Limits())]
    ((joined, parts),) = join(candidates)
    assert parts == tuple(range(len(candidates)))
    assert joined.read(Options()).study_id == study.study_id
    studies = [one.study for one in candidates if isinstance(one, DicomCandidate)]
    ((parts, _),) = joined_studies(studies, Budget(DEFAULT_LIMITS))
    assert parts == tuple(range(len(files)))


def test_where_joining_is_refused_no_study_is_said_to_be_joined(
    head: Phantom, tmp_path: Path
) -> None:
    plain(head, tmp_path)
    rewrite(tmp_path, own_uids("SeriesInstanceUID", "StudyInstanceUID", "PatientID"))
    for candidate in find(tmp_path, Limits()):
        seen = candidate.describe(Limits(), pixels=False)
        assert seen.error is not None
        assert "STUDIES_JOINED" not in {note.code for note in seen.flags}


@pytest.mark.parametrize("layout", ["classic", "enhanced"])
def test_a_study_exported_twice_is_one(head: Phantom, tmp_path: Path, layout: str) -> None:
    def renamed(header: Dataset, _: int) -> None:
        for keyword in UIDS:
            setattr(header, keyword, f"{header.get(keyword)}.7")

    whole = read(Request(plain(head, tmp_path / "a", layout=layout)))
    rewrite(plain(head, tmp_path / "b", layout=layout), renamed)
    study = read(Request(tmp_path))
    assert codes(study) == codes(whole) | {"EXPORTED_TWICE"}
    assert study.study_id == whole.study_id
    assert np.array_equal(study.flair.values, whole.flair.values)
