"""The filter file of ``gliosight bids``: what it says of a name, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gliosight.archive.bids.filters import Filter, read_filter
from gliosight.errors import NothingReadableError, UnsupportedInputError, UsageError

NAMES = (
    "sub-1_ses-a_acq-2d_FLAIR.nii.gz",
    "sub-1_ses-a_acq-3d_run-01_FLAIR.nii.gz",
    "sub-1_ses-a_FLAIR.nii",
    "sub-1_ses-a_acq-3d_T1w.nii.gz",
    "sub-1_ses-a_acq-3d_ce-gd_T1w.nii.gz",
    "sub-1_ses-a_acq-3d_T2w.nii.gz",
    "sub-1_ses-a_acq-3d_FLAIR.json",
    "flair.nii.gz",
)


def filter_of(content: Any, folder: Path) -> Filter:
    path = folder / "filter.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_filter(path)


@pytest.mark.parametrize(
    ("content", "left"),
    [
        ({}, {0, 1, 2, 7}),
        ({"flair": {}}, {0, 1, 2, 7}),
        ({"flair": {"acquisition": "2d"}}, {0}),
        ({"flair": {"acquisition": ["2d", "3d"]}}, {0, 1}),
        ({"flair": {"acquisition": "*"}}, {0, 1}),
        ({"flair": {"acquisition": None}}, {2, 7}),
        ({"flair": {"acquisition": [None, "3d"]}}, {1, 2, 7}),
        ({"flair": {"acquisition": "3D"}}, set()),  # labels are as they are
        ({"flair": {"run": 1}}, {1}),
        ({"flair": {"run": "01"}}, {1}),
        ({"flair": {"part": ["mag", None]}}, {0, 1, 2, 7}),  # fMRIPrep's own default
        ({"flair": {"extension": ".nii"}}, {2}),
        ({"flair": {"extension": ["nii.gz"]}}, {0, 1, 7}),
        ({"flair": {"datatype": "anat", "suffix": "FLAIR"}}, {0, 1, 2}),
        ({"flair": {"session": "a", "subject": 1}}, {0, 1, 2, 7}),  # those of the folder
        ({"t1w": {"acquisition": "2d"}, "bold": {"task": "rest"}}, {0, 1, 2, 7}),
    ],
)
def test_the_flairs_that_are_left(content: Any, left: set[int], tmp_path: Path) -> None:
    flairs = {name for name in NAMES if "flair.nii" in name.lower()}
    asked = filter_of(content, tmp_path)
    if not left:
        with pytest.raises(UnsupportedInputError, match="leaves out every FLAIR"):
            asked.left_out("sub-1/ses-a", NAMES)
        return
    left_out = asked.left_out("sub-1/ses-a", NAMES)
    assert flairs - {*left_out} == {NAMES[index] for index in left}


@pytest.mark.parametrize(
    ("content", "left_out"),
    [
        ({"t1w": {"acquisition": "2d"}}, [3]),
        ({"t1ce": {"acquisition": "2d"}}, [4]),
        ({"t1c": {"ceagent": "gadovist"}}, [4]),
        ({"t1w": {"suffix": "T1w"}, "t1ce": {"ceagent": "*"}}, []),
        ({"t2w": {"acquisition": "2d"}}, []),
    ],
)
def test_a_key_is_for_one_sequence(content: Any, left_out: list[int], tmp_path: Path) -> None:
    """T1 after contrast medium has a key of its own; other images are not filtered."""
    names = filter_of(content, tmp_path).left_out("sub-1/ses-a", NAMES)
    assert names == tuple(NAMES[index] for index in left_out)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"flair": {"run": 1}', "not JSON: .*filter.json"),
        ("[]", "not an object of objects"),
        ('{"flair": "3d"}', "not an object of objects"),
        ({"FLAIR": {}}, "unknown key FLAIR .*choose from flair, t1w, t1ce, t1c"),
        ({"t1ce": {}, "t1c": {}}, "t1ce and t1c are the same"),
        ({"flair": {"acq": "3d"}}, "unknown entity acq in flair .*write acquisition"),
        ({"t1w": {"colour": "red"}}, "unknown entity colour in t1w .*choose from subject"),
        ({"flair": {"acquisition": "acq-3d"}}, 'acquisition in flair cannot be "acq-3d"'),
        ({"flair": {"run": True}}, "run in flair cannot be true"),
        ({"flair": {"run": [1, 1.5]}}, "run in flair cannot be 1.5"),
        ({"flair": {"run": {"from": 1}}}, "run in flair cannot be {"),
    ],
)
def test_what_is_no_filter_is_refused_in_one_line(
    content: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        filter_of(content, tmp_path)
    assert "\n" not in raised.value.line()
    assert raised.value.remedy


def test_a_filter_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NothingReadableError, match="no such file"):
        read_filter(tmp_path / "filter.json")
