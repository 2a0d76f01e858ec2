"""From chosen series to a study: grids, contrast by pixels, what is left out and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from gliosight.errors import DamagedInputError, UnsupportedInputError, UsageError
from gliosight.phantom import Phantom, PhantomSpec, make_phantom
from gliosight.read import Limits, Options, Request, find, join, read
from gliosight.read.candidates import DicomCandidate
from gliosight.read.dicom import files
from gliosight.read.dicom.contrast import ENHANCES_FROM, enhancement
from gliosight.read.dicom.study import DicomStudy, digest_of, without_pixels
from gliosight.read.dicom.study import joined as joined_studies
from gliosight.read.limits import DEFAULT_LIMITS, Budget
from gliosight.study import MrSequence, Study
from tests.support.dicom_phantom import DicomSpec, geometry_of, volume_of, write_dicom


@pytest.fixture(scope="module")
def head() -> Phantom:
    return make_phantom(PhantomSpec(seed=2, slices=9, matrix=96, pixel_mm=2.2))


def codes(study: Study) -> set[str]:
    return {one.code for one in study.flags}


def only(path: Path) -> DicomStudy:
    (candidate,) = find(path, Limits())
    assert isinstance(candidate, DicomCandidate)
    return candidate.study


def read_headers(source: DicomStudy, series: Mapping[MrSequence, str] | None = None) -> Study:
    candidate = DicomCandidate(source="study", path=Path(), study=source)
    return candidate.read(Options(series=series or {}))


def test_three_sequences_on_one_grid(head: Phantom, tmp_path: Path) -> None:
    folder = write_dicom(head, tmp_path)
    study = read(Request(folder))
    assert study.kind == "dicom"
    assert set(study.sequences) == set(MrSequence)
    for name in MrSequence:
        assert np.array_equal(study.sequences[name].values, volume_of(head, DicomSpec(), name))
    assert study.geometry is not None
    assert np.allclose(study.geometry.origins, geometry_of(head).origins, atol=1e-3)
    # Of the traps none left a trace but for the reasons.
    assert set(study.source["chosen"]) == {"FLAIR", "T1", "T1C"}


def test_one_place_without_a_frame_of_reference_is_flagged(head: Phantom, tmp_path: Path) -> None:
    folder = write_dicom(head, tmp_path)
    for path in [one for one in folder.rglob("*") if one.is_file()]:
        header = pydicom.dcmread(path)
        del header.FrameOfReferenceUID
        header.save_as(path)
    study = read(Request(folder))
    assert set(study.sequences) == set(MrSequence)
    said = [one.message for one in study.flags if one.code == "GRID_ASSUMED"]
    assert [name in text for name, text in zip(("T1 ", "T1C "), said, strict=True)] == [True, True]


def test_a_volume_of_dicom_cannot_be_asked_for(head: Phantom, tmp_path: Path) -> None:
    folder = write_dicom(head, tmp_path)
    for path in (folder, next(one for one in folder.rglob("*") if one.is_file())):
        with pytest.raises(UsageError, match="--volume 1 is for 4-D NIfTI"):
            read(Request(path, volume_index=1))


def test_the_study_is_named_by_a_digest_and_nothing_else(head: Phantom, tmp_path: Path) -> None:
    source = only(write_dicom(head, tmp_path, DicomSpec(identity="unicode")))
    study = read_headers(source)
    uid = str(source.series[0].frames[0].instance.header.StudyInstanceUID)
    assert study.study_id == digest_of(uid)
    assert len(study.study_id) == 12
    told = repr((study.study_id, study.slice_names, study.flags, study.source["chosen"]))
    assert "PHANTOM" not in told.upper()


def test_a_source_leads_back_to_its_frames(head: Phantom, tmp_path: Path) -> None:
    for layout in ("classic", "enhanced"):
        spec = DicomSpec(layout=layout, numbering="shuffled", shuffled_names=layout == "classic")
        study = read(Request(write_dicom(head, tmp_path / layout, spec)))
        origin = study.source["dicom"]
        assert len(origin.frames) == study.shape[0]
        assert len(origin.headers) == (1 if layout == "enhanced" else study.shape[0])
        assert not any("PixelData" in one for one in origin.headers)


def test_t1_of_another_frame_of_reference_is_left_out(head: Phantom, tmp_path: Path) -> None:
    study = read(Request(write_dicom(head, tmp_path, DicomSpec(t1_frame="other"))))
    assert set(study.sequences) == {MrSequence.FLAIR}
    assert {"T1_LEFT_OUT", "T1C_LEFT_OUT"} <= codes(study)
    assert not {"T1_MISSING", "T1C_MISSING"} & codes(study)


def test_without_contrast_fields_the_pixels_confirm_the_order(
    head: Phantom, tmp_path: Path
) -> None:
    spec = DicomSpec(contrast_tags=False, descriptions="empty")
    study = read(Request(write_dicom(head, tmp_path, spec)))
    assert "T1C_BY_ORDER" in codes(study)
    assert np.array_equal(
        study.sequences[MrSequence.T1C].values, volume_of(head, spec, MrSequence.T1C)
    )


def test_a_later_t1_that_does_not_enhance_is_left_out(head: Phantom, tmp_path: Path) -> None:
    # A scan repeated after the patient moved: nothing enhances.
    twice = dict(head.sequences)
    noise = np.random.default_rng(1).integers(-3, 4, twice[MrSequence.T1].shape)
    twice[MrSequence.T1C] = np.clip(twice[MrSequence.T1].astype(int) + noise, 0, 4095).astype(
        np.uint16
    )
    spec = DicomSpec(contrast_tags=False, descriptions="empty")
    study = read(Request(write_dicom(replace(head, sequences=twice), tmp_path, spec)))
    assert MrSequence.T1C not in study.sequences
    (said,) = [one for one in study.flags if one.code == "T1C_LEFT_OUT"]
    assert "--t1c" in said.message


def test_enhancement_has_a_direction(head: Phantom) -> None:
    t1, t1c = head.sequences[MrSequence.T1], head.sequences[MrSequence.T1C]
    assert enhancement(t1, t1c) > ENHANCES_FROM
    assert enhancement(t1c, t1) < -ENHANCES_FROM
    assert abs(enhancement(t1, t1)) < 1e-9
    # Another gain, and a coil that is brighter on one side, enhance nothing.
    ramp = np.linspace(0.7, 1.4, t1.shape[2])
    assert abs(enhancement(t1, t1 * 3.0 * ramp)) < ENHANCES_FROM
    assert enhancement(np.zeros_like(t1), t1) == 0


def test_series_can_be_named_by_number_and_by_uid(head: Phantom, tmp_path: Path) -> None:
    folder = write_dicom(head, tmp_path, DicomSpec(traps=frozenset({"coronal"})))
    source = only(folder)
    other = next(
        one
        for one in source.series
        if one.identified.sequence is MrSequence.FLAIR and one.shape != head.truth.shape
    )
    assert read_headers(source).shape == head.truth.shape
    for name in (other.uid, str(other.number)):
        study = read_headers(source, {MrSequence.FLAIR: name})
        assert study.shape == other.shape
    with pytest.raises(UsageError, match=r"--flair 1\.2\.3\.4 names no series of this study"):
        read_headers(source, {MrSequence.FLAIR: "1.2.3.4"})


def test_no_flair_is_said_with_what_there_is(head: Phantom, tmp_path: Path) -> None:
    folder = write_dicom(head, tmp_path)
    for series in only(folder).series:
        if series.identified.sequence is MrSequence.FLAIR:
            for frame in series.frames:
                frame.instance.path.unlink()
    with pytest.raises(UnsupportedInputError, match="no FLAIR") as caught:
        read(Request(folder))
    assert "T1" in caught.value.line()


def flair_alone(head: Phantom) -> Phantom:
    """Without a T1C, after which a FLAIR that is stored later would not be the first choice."""
    return replace(head, sequences={MrSequence.FLAIR: head.sequences[MrSequence.FLAIR]})


def untold_mask(head: Phantom, folder: Path) -> tuple[Path, int]:
    """A study with a stored mask that nothing but its pixels tells from FLAIR; the mask's number."""
    written = write_dicom(flair_alone(head), folder, DicomSpec(traps=frozenset({"mask"})))
    numbers = set()
    for path in written.rglob("*"):
        if path.is_file():
            one = pydicom.dcmread(path)
            if one.SeriesDescription.endswith("seg"):
                one.SeriesDescription = one.ProtocolName = ""
                one.save_as(path)
                numbers.add(int(one.SeriesNumber))
    (number,) = numbers
    return written, number


def test_a_mask_with_flairs_own_header_is_passed_over(head: Phantom, tmp_path: Path) -> None:
    folder, mask = untold_mask(head, tmp_path)
    source = only(folder)
    shown = [one for one in source.series if one.identified.sequence is MrSequence.FLAIR]
    assert len(shown) == 2  # by the headers
    study = read_headers(source)
    assert len(np.unique(study.flair.values)) > 100
    assert "MASK_PASSED_OVER" in codes(study)
    with pytest.raises(DamagedInputError, match="mask"):
        read_headers(source, {MrSequence.FLAIR: str(mask)})
    masks_only = [one for one in source.series if one not in shown or one.number == mask]
    with pytest.raises(DamagedInputError, match="mask"):
        read_headers(replace(source, series=tuple(masks_only)))


def edit(folder: Path, kind: str, **values: object) -> set[str]:
    """Change headers of the series of a kind; ``None`` takes an element out. Gives their SeriesUIDs."""
    done = set()
    for series in only(folder).series:
        if series.identified.kind != kind or not series.usable:
            continue
        done.add(series.uid)
        for frame in series.frames:
            one = pydicom.dcmread(frame.instance.path)
            for keyword, value in values.items():
                if value is None:
                    one.pop(keyword, None)
                else:
                    setattr(one, keyword, value)
            one.save_as(frame.instance.path)
    return done


def test_a_mask_with_the_header_of_t1_is_passed_over(head: Phantom, tmp_path: Path) -> None:
    binary = dict(head.sequences)
    binary[MrSequence.T1] = (head.truth > 0).astype(np.uint16)
    study = read(Request(write_dicom(replace(head, sequences=binary), tmp_path)))
    assert set(study.sequences) == {MrSequence.FLAIR, MrSequence.T1C}
    (said,) = [one.message for one in study.flags if one.code == "MASK_PASSED_OVER"]
    assert "looks like T1 by its header" in said
    source = only(tmp_path)
    numbers = [one.number for one in source.series if one.identified.kind == "T1" and one.usable]
    with pytest.raises(DamagedInputError, match="mask"):
        read_headers(source, {MrSequence.T1: str(numbers[0])})


def test_a_map_of_labels_with_flairs_own_header_is_passed_over(
    head: Phantom, tmp_path: Path
) -> None:
    folder = write_dicom(flair_alone(head), tmp_path)
    flair = next(
        one
        for one in only(folder).series
        if one.identified.sequence is MrSequence.FLAIR and one.usable
    )
    for index, frame in enumerate(flair.frames):
        one = pydicom.dcmread(frame.instance.path)
        pixels = one.pixel_array
        labels = (pixels > 300).astype(np.uint16) + (pixels > 900) + 2 * (pixels > 1200)
        one.PixelData = labels.astype(np.uint16).tobytes()
        one.SeriesInstanceUID, one.SeriesNumber = "1.2.3.99", 99
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.99.{index}"
        one.AcquisitionTime = one.SeriesTime = "235500"
        one.save_as(folder / f"labels{index}.dcm")
    study = read(Request(folder))
    assert study.source["series"]["FLAIR"] == digest_of(flair.uid)
    (said,) = [one.message for one in study.flags if one.code == "MASK_PASSED_OVER"]
    assert "Series 99" in said
    assert "values only" in said
    with pytest.raises(DamagedInputError, match="map of labels"):
        read(Request(folder, series={MrSequence.FLAIR: "99"}))


@pytest.mark.parametrize("dated", [True, False], ids=["with dates", "without dates"])
def test_pixels_turn_an_order_round_only_where_no_date_makes_it_sure(
    head: Phantom, tmp_path: Path, dated: bool
) -> None:
    # Headers in the wrong order: the one that enhances was acquired first.
    turned = dict(head.sequences)
    turned[MrSequence.T1], turned[MrSequence.T1C] = turned[MrSequence.T1C], turned[MrSequence.T1]
    spec = DicomSpec(contrast_tags=False, descriptions="empty")
    folder = write_dicom(replace(head, sequences=turned), tmp_path, spec)
    if not dated:
        for path in [one for one in folder.rglob("*") if one.is_file()]:
            header = pydicom.dcmread(path)
            for keyword in ("AcquisitionDate", "SeriesDate", "StudyDate", "AcquisitionDateTime"):
                header.pop(keyword, None)
            header.save_as(path)
    study = read(Request(folder))
    if dated:
        assert set(study.sequences) == {MrSequence.FLAIR, MrSequence.T1}
        (said,) = [one.message for one in study.flags if one.code == "T1C_LEFT_OUT"]
        assert "darkens" in said
        return
    assert "T1C_BY_ORDER" in codes(study)
    assert np.array_equal(
        study.sequences[MrSequence.T1C].values, volume_of(head, spec, MrSequence.T1C)
    )
    assert np.array_equal(
        study.sequences[MrSequence.T1].values, volume_of(head, spec, MrSequence.T1)
    )
    assert "by its pixels after" in study.source["chosen"]["T1C"]
    assert study.source["series"]["T1"] != study.source["series"]["T1C"]


def test_what_is_odd_about_t1_is_said_with_its_name(head: Phantom, tmp_path: Path) -> None:
    folder = write_dicom(head, tmp_path)
    t1 = next(one for one in only(folder).series if one.identified.kind == "T1" and one.usable)
    t1.frames[3].instance.path.unlink()
    edit(folder, "T1", LossyImageCompression="01")
    study = read(Request(folder))
    told = {one.code: one.message for one in study.flags}
    assert told["MISSING_SLICES"].startswith("T1: 1 slice is missing")
    assert told["LOSSY_SOURCE"].startswith("T1: ")
    # What all of them have in common is said once.
    for kind in ("FLAIR", "T1", "T1 post-contrast"):
        edit(folder, kind, LossyImageCompression="01")
    told_all = [one.message for one in read(Request(folder)).flags if one.code == "LOSSY_SOURCE"]
    assert len(told_all) == 1
    assert not told_all[0].startswith("T1")


def test_two_patients_under_one_uid_are_two_studies(head: Phantom, tmp_path: Path) -> None:
    first, second = (write_dicom(head, tmp_path / name) for name in ("a", "b"))
    for path in [one for one in second.rglob("*") if one.is_file()]:
        header = pydicom.dcmread(path)
        header.PatientID = "somebody else"
        header.save_as(path)
    studies = [candidate.read(Options()) for candidate in find(tmp_path, Limits())]
    assert len(studies) == 2
    assert all("PATIENTS_APART" in codes(one) for one in studies)
    assert len({one.study_id for one in studies}) == 2
    assert "somebody" not in repr([one.flags for one in studies])
    assert set(read(Request(first)).sequences) == set(MrSequence)


def test_without_uids_studies_and_series_still_have_names_of_their_own(
    head: Phantom, tmp_path: Path
) -> None:
    other = make_phantom(PhantomSpec(seed=8, slices=5, matrix=64, pixel_mm=3.0))
    ids = []
    for name, phantom in (("a", head), ("b", other)):
        folder = write_dicom(phantom, tmp_path / name)
        for path in [one for one in folder.rglob("*") if one.is_file()]:
            header = pydicom.dcmread(path)
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                header.pop(keyword, None)
            header.save_as(path)
        study = read(Request(folder))
        ids += [study.study_id, *study.source["series"].values()]
        assert read(Request(folder)).study_id == study.study_id
    assert len(ids) == len(set(ids)) == 8
    assert digest_of("") not in ids


def test_truncated_pixels_name_series_and_instance(head: Phantom, tmp_path: Path) -> None:
    folder = write_dicom(head, tmp_path)
    flair = next(
        one
        for one in only(folder).series
        if one.identified.sequence is MrSequence.FLAIR and one.usable
    )
    path = flair.frames[4].instance.path
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DamagedInputError, match=rf"series {flair.number}, instance \d+"):
        read(Request(folder))


def test_an_unreadable_file_beside_a_study_is_its_problem(head: Phantom, tmp_path: Path) -> None:
    folder = write_dicom(head, tmp_path)
    some = next(path for path in folder.rglob("*") if path.is_file())
    (some.parent / "cut.dcm").write_bytes(some.read_bytes()[:400])
    with pytest.raises(DamagedInputError, match=r"cut\.dcm"):
        read(Request(folder))


def test_headers_alone_make_the_same_grid(head: Phantom, tmp_path: Path) -> None:
    source = only(write_dicom(head, tmp_path, DicomSpec(layout="enhanced")))
    whole = read_headers(source)
    bare = without_pixels(source, whole.source["frames"]["FLAIR"])
    assert bare.shape == whole.shape
    assert bare.slice_names == whole.slice_names
    assert bare.source["dicom"].frames == whole.source["dicom"].frames
    assert np.array_equal(bare.geometry.origins, whole.geometry.origins)  # type: ignore[union-attr]
    with pytest.raises(UnsupportedInputError, match="not among"):
        without_pixels(source, "0" * 12)


def test_two_studies_under_one_folder(head: Phantom, tmp_path: Path) -> None:
    other = make_phantom(PhantomSpec(seed=8, slices=5, matrix=64, pixel_mm=3.0))
    write_dicom(head, tmp_path)
    write_dicom(other, tmp_path)
    studies = [candidate.read(Options()) for candidate in find(tmp_path, Limits())]
    assert {study.shape[0] for study in studies} == {9, 5}
    with pytest.raises(UnsupportedInputError, match="2 studies"):
        read(Request(tmp_path))


def test_a_zip_and_a_dicomdir_give_the_same_study(head: Phantom, tmp_path: Path) -> None:
    import shutil

    folder = write_dicom(head, tmp_path / "a", DicomSpec(dicomdir=True))
    archive = Path(shutil.make_archive(str(tmp_path / "export"), "zip", folder))
    whole, zipped, listed = (read(Request(one)) for one in (folder, archive, folder / "DICOMDIR"))
    assert whole.study_id == zipped.study_id == listed.study_id
    for one in (zipped, listed):
        assert np.array_equal(one.flair.values, whole.flair.values)


def test_a_budget_bounds_all_series_together(head: Phantom, tmp_path: Path) -> None:
    from gliosight.errors import LimitExceededError

    folder = write_dicom(head, tmp_path)
    enough = 3 * 4 * head.truth.size
    read(Request(folder, limits=Limits(decoded_bytes=enough)))
    with pytest.raises(LimitExceededError, match="--max-decoded"):
        read(Request(folder, limits=Limits(decoded_bytes=enough - 1)))


def test_each_header_is_read_once(
    head: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the folder to the pixels: a network drive would be asked for every file again."""
    folder = write_dicom(head, tmp_path)
    asked: list[Path] = []
    real = files.read_instance

    def counted(path: Path, *others: object) -> object:
        asked.append(path)
        return real(path, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(files, "read_instance", counted)
    assert set(read(Request(folder)).sequences) == set(MrSequence)
    there = [one for one in folder.rglob("*") if one.is_file()]
    assert sorted(asked) == sorted(there)


def spoil(folder: Path, *keywords: str) -> list[Path]:
    """Give every file UIDs of its own; the files."""
    files = sorted(one for one in folder.rglob("*") if one.is_file())
    for index, path in enumerate(files):
        one = pydicom.dcmread(path)
        for keyword in keywords:
            setattr(one, keyword, f"{one.get(keyword)}.{index}")
        one.save_as(path)
    return files


SPOILT = {
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
    whole = read(Request(write_dicom(head, tmp_path / "whole")))
    files = spoil(write_dicom(head, tmp_path / "spoilt"), *keywords)
    study = read(Request(tmp_path / "spoilt"))
    assert codes(study) == codes(whole) | {"SERIES_JOINED"} | more
    for name in MrSequence:
        assert np.array_equal(study.sequences[name].values, whole.sequences[name].values)
    (whole_folder,) = find(tmp_path / "spoilt", Limits())
    seen = whole_folder.describe(Limits(), pixels=False)
    assert "FLAIR: The " in next(one.message for one in seen.flags if one.code == "SERIES_JOINED")
    # Also where each file is given by itself.
    candidates = [candidate for path in files for candidate in find(path, Limits())]
    ((joined, parts),) = join(candidates)
    assert parts == tuple(range(len(candidates)))
    assert joined.read(Options()).study_id == study.study_id
    studies = [one.study for one in candidates if isinstance(one, DicomCandidate)]
    ((parts, _),) = joined_studies(studies, Budget(DEFAULT_LIMITS))
    assert parts == tuple(range(len(files)))


PIECES = {
    "a series for each three slices": (3, ("SeriesInstanceUID",), {"SERIES_JOINED"}),
    "a study for each two": (
        2,
        ("SeriesInstanceUID", "StudyInstanceUID"),
        {"SERIES_JOINED", "STUDIES_JOINED"},
    ),
    "packages with numbers of their own": (
        4,
        ("SeriesInstanceUID", "SeriesNumber"),
        {"SERIES_JOINED"},
    ),
}


@pytest.mark.parametrize(("slices", "keywords", "more"), PIECES.values(), ids=PIECES)
def test_no_slice_of_a_flair_in_pieces_is_lost(
    head: Phantom, tmp_path: Path, slices: int, keywords: tuple[str, ...], more: set[str]
) -> None:
    whole = read(Request(write_dicom(head, tmp_path / "whole")))
    for path in write_dicom(head, tmp_path / "pieces").rglob("*"):
        if path.is_dir():
            continue
        one = pydicom.dcmread(path)
        piece = (int(one.get("InstanceNumber") or 1) - 1) // slices
        if "tirm" in str(one.get("SeriesDescription")) and piece:
            for keyword in keywords:
                own = 300 + piece if keyword == "SeriesNumber" else f"{one.get(keyword)}.{piece}"
                setattr(one, keyword, own)
            one.save_as(path)
    study = read(Request(tmp_path / "pieces"))
    assert codes(study) == codes(whole) | more
    for name in MrSequence:
        assert np.array_equal(study.sequences[name].values, whole.sequences[name].values)


def test_where_joining_is_refused_no_study_is_said_to_be_joined(
    head: Phantom, tmp_path: Path
) -> None:
    files = spoil(write_dicom(head, tmp_path), "SeriesInstanceUID", "StudyInstanceUID")
    for index, path in enumerate(files):
        one = pydicom.dcmread(path)
        one.PatientID = f"P{index}"
        one.save_as(path)
    for candidate in find(tmp_path, Limits()):
        seen = candidate.describe(Limits(), pixels=False)
        assert seen.error is not None
        assert "STUDIES_JOINED" not in {one.code for one in seen.flags}


@pytest.mark.parametrize("layout", ["classic", "enhanced"])
def test_a_study_exported_twice_is_one(head: Phantom, tmp_path: Path, layout: str) -> None:
    whole = read(Request(write_dicom(head, tmp_path / "a", DicomSpec(layout=layout))))
    again = write_dicom(head, tmp_path / "b", DicomSpec(layout=layout))
    for path in [one for one in again.rglob("*") if one.is_file()]:
        header = pydicom.dcmread(path)
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
            setattr(header, keyword, f"{header.get(keyword)}.7")
        header.save_as(path)
    study = read(Request(tmp_path))
    assert codes(study) == codes(whole) | {"EXPORTED_TWICE"}
    assert study.study_id == whole.study_id
    assert np.array_equal(study.flair.values, whole.flair.values)
