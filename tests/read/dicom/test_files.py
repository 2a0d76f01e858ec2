"""Many files, and DICOMDIRs: what is read once, what is a problem, and where they may not lead."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import pytest
from pydicom import uid
from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from gliosight.errors import DamagedInputError, LimitExceededError, NothingReadableError
from gliosight.read.detect import InputFile, Kind
from gliosight.read.dicom import files as module
from gliosight.read.dicom.files import EXPORTED_TWICE, discover, read_dicomdir, summed_up
from gliosight.read.dicom.instances import Instance
from gliosight.read.dicom.study import studies_in
from gliosight.read.limits import DEFAULT_LIMITS, Budget, Limits

from .builders_files import make_dataset, write


def budget(**limits: int) -> Budget:
    return Budget(Limits(**limits) if limits else DEFAULT_LIMITS)


def slice_file(path: Path, number: int, **elements: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = make_dataset(
        InstanceNumber=number,
        SOPInstanceUID=f"1.2.3.{number}",
        ImagePositionPatient=[0, 0, number],
    )
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return write(path, made)


def dicomdir(path: Path, references: Iterable[object]) -> Path:
    made = Dataset()
    made.SOPClassUID = uid.MediaStorageDirectoryStorage
    made.SOPInstanceUID = "1.2.9"
    made.FileSetID = "DISC"
    records = []
    for reference in references:
        record = Dataset()
        record.DirectoryRecordType = "PATIENT" if reference is None else "IMAGE"
        if reference is not None:
            # No validation: the standard's letters are what these names are not.
            record.add(DataElement("ReferencedFileID", "CS", reference, validation_mode=IGNORE))
        records.append(record)
    made.DirectoryRecordSequence = Sequence(records)
    return write(path, made)


def found(files: Iterable[Path], folder: Path, **limits: int) -> list[Path]:
    """The files whose instances are kept; there are no problems."""
    instances, problems = discover(files, folder, budget(**limits))
    assert problems == []
    return [instance.path for instance in instances]


def test_files_are_read_in_order(tmp_path: Path) -> None:
    files = [slice_file(tmp_path / f"{9 - k}.dcm", k) for k in range(4)]
    (tmp_path / "note.txt").write_text("nothing of interest")
    calls: list[tuple[int, int]] = []
    instances, problems = discover(
        [*files, tmp_path / "note.txt", tmp_path / "gone.dcm"],
        tmp_path,
        budget(),
        lambda done, total: calls.append((done, total)),
    )
    assert [one.header.InstanceNumber for one in instances] == [0, 1, 2, 3]
    assert [type(error) for _, error in problems] == [DamagedInputError, NothingReadableError]
    assert [error.where for _, error in problems] == ["note.txt", "gone.dcm"]
    assert calls == [(k, 6) for k in range(1, 7)]
    assert discover([], tmp_path, budget()) == ((), [])


def test_a_series_that_cannot_be_read_is_one_problem(tmp_path: Path) -> None:
    """One for what is wrong in a folder, with the first file and how many are like it."""
    whole = slice_file(tmp_path / "a" / "0.dcm", 0)
    for number in range(1, 41):
        path = slice_file(tmp_path / "a" / f"{number:02d}.dcm", number)
        path.write_bytes(path.read_bytes()[:-9])
    for number in range(2):
        slice_file(tmp_path / "b" / f"{number}.dcm", number).write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "b" / "2.dcm").write_text("text")
    paths = sorted(tmp_path.rglob("*.dcm"))
    problems = summed_up(discover(paths, tmp_path, budget())[1])
    assert [(path.relative_to(tmp_path).as_posix(), one.what) for path, one in problems] == [
        ("a/01.dcm", "cut short: the pixels end too early, as in 39 other files of its folder"),
        ("b/0.dcm", "not a DICOM object, as in 2 other files of its folder"),
    ]
    assert problems[0][1].where == "series 3, instance 1"
    studies, alone = studies_in(
        [InputFile(path, Kind.DICOM, path.name) for path in paths], tmp_path, budget()
    )
    assert [str(one.problem) for one in studies] == [str(problems[0][1])]
    assert len(alone) == 1
    assert whole.parent in studies[0].folders


@pytest.mark.slow
def test_a_dicomdir_that_leads_nowhere_is_one_problem(tmp_path: Path) -> None:
    names = [["A", f"S{number // 100}", f"I{number}"] for number in range(1200)]
    directory = dicomdir(tmp_path / "DICOMDIR", names)
    studies, problems = studies_in(
        [InputFile(directory, Kind.DICOM, "DICOMDIR")], tmp_path, budget()
    )
    assert studies == []
    ((path, problem),) = problems
    assert path == directory
    assert "1,200 files that cannot be read, such as A/S0/I0 (no such file" in problem.what


def test_the_same_instance_twice(tmp_path: Path) -> None:
    first = slice_file(tmp_path / "a" / "1.dcm", 1)
    assert found([first, slice_file(tmp_path / "b" / "copy.dcm", 1)], tmp_path) == [first]


@pytest.mark.parametrize("differing", ["ImagePositionPatient", "InConcatenationNumber"])
def test_one_uid_for_a_whole_series(tmp_path: Path, differing: str) -> None:
    """Bad de-identification gives every slice the same UID; none of them is lost."""
    files = [
        slice_file(tmp_path / f"{k}.dcm", 1, SOPInstanceUID="1.2.3", **{differing: value})
        for k, value in enumerate([[0, 0, 1], [0, 0, 2]] if "Position" in differing else [1, 2])
    ]
    assert found(files, tmp_path) == files


def test_no_uid_at_all(tmp_path: Path) -> None:
    files = [slice_file(tmp_path / f"{k}.dcm", 1) for k in range(2)]
    for k, path in enumerate(files):
        data = path.read_bytes()
        element = b"\x08\0\x18\0UI\x08\x001.2.3.1\0"
        assert element in data
        path.write_bytes(data.replace(element, b"")[:-1] + bytes([k]))
    assert found(files, tmp_path) == files


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose pixels are read to compare them."""
    paths: list[Path] = []
    real = module.open_pixels

    def counted(one: Instance, budget: Budget) -> object:
        paths.append(one.path)
        return real(one, budget)

    monkeypatch.setattr(module, "open_pixels", counted)
    return paths


COPIES: list[tuple[str, dict[str, object], int, int]] = [
    ("new instance UIDs", {"SOPInstanceUID": "9.{}"}, 3, 6),
    ("new series UIDs", {"SOPInstanceUID": "9.{}", "SeriesInstanceUID": "9"}, 3, 6),
    (
        "all UIDs, number and description",
        {
            "SOPInstanceUID": "9.{}",
            "SeriesInstanceUID": "9",
            "StudyInstanceUID": "8",
            "SeriesNumber": 99,
            "SeriesDescription": "again",
        },
        3,
        6,
    ),
    ("another patient's", {"SOPInstanceUID": "9.{}", "PatientID": "other"}, 6, 0),
    ("another time's", {"SOPInstanceUID": "9.{}", "AcquisitionTime": "120000"}, 6, 0),
    ("another kind of image", {"SOPInstanceUID": "9.{}", "ImageType": ["DERIVED", "MPR"]}, 6, 0),
    ("another echo's", {"SOPInstanceUID": "9.{}", "EchoTime": 20}, 6, 0),
    ("other pixels", {"SOPInstanceUID": "9.{}", "PixelData": b"\1\2" * 1920}, 6, 6),
    ("numbers written anew", {"SOPInstanceUID": "9.{}", "EchoTime": "125.000"}, 3, 6),
    ("no place", {"SOPInstanceUID": "{1}.{0}", "ImagePositionPatient": None}, 6, 0),
]


@pytest.mark.parametrize(
    ("values", "left", "read"), [one[1:] for one in COPIES], ids=[one[0] for one in COPIES]
)
def test_what_was_exported_twice_is_read_once(
    tmp_path: Path,
    opened: list[Path],
    values: dict[str, object],
    left: int,
    read: int,
) -> None:
    files = []
    for index, folder in enumerate("ab", 8):
        for k in range(3):
            given = {"ImagePositionPatient": [0, 0, 5 * k], "AcquisitionTime": "101500"}
            if folder == "b" or "ImagePositionPatient" in values:
                given |= values
            own = {
                key: one.format(k, index) if isinstance(one, str) else one
                for key, one in given.items()
            }
            files.append(slice_file(tmp_path / folder / f"{k}.dcm", k, **own))
    instances, _ = discover(files, tmp_path, budget())
    assert (len(instances), len(opened)) == (left, read)
    assert [one.path for one in instances][:3] == files[:3]
    assert sum(EXPORTED_TWICE in one.oddities for one in instances) == 6 - left


@pytest.mark.parametrize(("off", "left"), [(4e-4, 4), (-0.015, 4), (0.05, 8)])
def test_what_was_exported_twice_with_places_rounded(tmp_path: Path, off: float, left: int) -> None:
    """Identical pixels closer than the positions of one stack are one image, blank slices are several."""
    files = [
        slice_file(
            tmp_path / f"{k}{copy}.dcm",
            k,
            SOPInstanceUID=f"{copy}.{k}",
            ImagePositionPatient=[copy * off - 90, copy * off, copy * off + 0.125 * k],
        )
        for copy in (0, 1)
        for k in range(4)
    ]
    kept = found(files, tmp_path)
    assert len(kept) == left
    assert kept[:4] == files[:4]


@pytest.mark.parametrize(("volumes", "opens"), [(2, 4), (3, 6), (4, 0), (20, 0)])
def test_pixels_of_a_dynamic_series_are_not_read(
    tmp_path: Path, opened: list[Path], volumes: int, opens: int
) -> None:
    """So many images of one place, with equal headers, are no double export."""
    files = [
        slice_file(
            tmp_path / f"{volume}_{place}.dcm",
            volume * 2 + place,
            ImagePositionPatient=[0, 0, place],
            PixelData=bytes([volume]) * len(make_dataset().PixelData),
        )
        for volume in range(volumes)
        for place in range(2)
    ]
    assert found(files, tmp_path) == files
    assert len(opened) == opens


def test_of_two_exports_the_whole_one_is_kept(tmp_path: Path) -> None:
    """Also where the other one comes first, and its files lie between those of the first."""
    part = [
        slice_file(tmp_path / f"{k}a.dcm", k, ImagePositionPatient=[0, 0, k], SeriesInstanceUID="9")
        for k in (1, 2)
    ]
    whole = [
        slice_file(
            tmp_path / f"{k}b.dcm", k, ImagePositionPatient=[0, 0, k], SOPInstanceUID=f"8.{k}"
        )
        for k in (1, 2, 3)
    ]
    assert found(sorted(part + whole), tmp_path) == whole


def test_dicomdir_in_a_folder_is_no_image(tmp_path: Path) -> None:
    directory = dicomdir(tmp_path / "DICOMDIR", [None])
    image = slice_file(tmp_path / "1.dcm", 1)
    assert found([directory, image], tmp_path) == [image]


def test_too_many_files(tmp_path: Path) -> None:
    files = [slice_file(tmp_path / f"{k}.dcm", k) for k in range(4)]
    with pytest.raises(LimitExceededError, match="--max-members"):
        discover(files, tmp_path, budget(members=3))


@pytest.mark.parametrize(
    ("on_disc", "reference"),
    [
        ("IMAGES/IM1", ["IMAGES", "IM1"]),
        ("images/im1", ["IMAGES", "IM1"]),  # copied by a system without case
        ("IMAGES/im1;1", ["IMAGES", "IM1"]),  # ISO 9660 version
        ("IMAGES/IM1.", ["IMAGES", "IM1"]),  # ISO 9660 without extension
        ("IMAGES/IM1", "IMAGES/IM1"),  # one component for all
        ("IM1", "IM1"),
    ],
)
def test_references(tmp_path: Path, on_disc: str, reference: object) -> None:
    path = slice_file(tmp_path / on_disc, 1)
    listed = read_dicomdir(dicomdir(tmp_path / "DICOMDIR", [None, reference]), tmp_path, budget())
    assert listed == [path]
    assert found(listed, tmp_path) == [path]


def test_missing_references_are_reported(tmp_path: Path) -> None:
    slice_file(tmp_path / "IM1", 1)
    directory = dicomdir(tmp_path / "DICOMDIR", ["IM1", "IM2", ["A", "IM3"], "IM1"])
    listed = read_dicomdir(directory, tmp_path, budget())
    instances, problems = discover(listed, tmp_path, budget())
    assert len(instances) == 1
    assert [error.where for _, error in problems] == ["IM2", "A/IM3"]


@pytest.mark.parametrize(
    "reference",
    [
        ["..", "secret.dcm"],
        ["A", "..", "..", "secret.dcm"],
        "../secret.dcm",
        "/etc/passwd",
        ["", "etc", "passwd"],
        "C:secret.dcm",
        ["."],
        "LINK",
        ["OUT", "secret.dcm"],
        ["out", "SECRET.DCM"],
    ],
)
def test_never_leads_outside(tmp_path: Path, reference: object) -> None:
    slice_file(tmp_path / "secret.dcm", 1)
    disc = tmp_path / "disc"
    disc.mkdir()
    (disc / "LINK").symlink_to(tmp_path / "secret.dcm")
    (disc / "OUT").symlink_to(tmp_path)
    directory = dicomdir(disc / "DICOMDIR", [reference])
    with pytest.raises(DamagedInputError, match="outside its own folder"):
        read_dicomdir(directory, disc, budget())


def test_links_inside_are_followed(tmp_path: Path) -> None:
    slice_file(tmp_path / "a" / "IM1", 1)
    (tmp_path / "B").symlink_to(tmp_path / "a")
    directory = dicomdir(tmp_path / "DICOMDIR", [["B", "IM1"]])
    assert read_dicomdir(directory, tmp_path, budget()) == [tmp_path / "B" / "IM1"]


def test_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "LOOP").symlink_to(tmp_path / "LOOP")
    directory = dicomdir(tmp_path / "DICOMDIR", ["LOOP"])
    with contextlib.suppress(NothingReadableError):
        assert discover(read_dicomdir(directory, tmp_path, budget()), tmp_path, budget())[0] == ()


def test_an_image_called_dicomdir(tmp_path: Path) -> None:
    path = slice_file(tmp_path / "DICOMDIR", 1)
    with pytest.raises(DamagedInputError, match="not a DICOMDIR"):
        read_dicomdir(path, tmp_path, budget())


def test_too_many_references(tmp_path: Path) -> None:
    directory = dicomdir(tmp_path / "DICOMDIR", [f"IM{k}" for k in range(9)])
    with pytest.raises(LimitExceededError):
        read_dicomdir(directory, tmp_path, budget(members=5))
