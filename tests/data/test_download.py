"""Fetching the data set: where it comes whole, and what is said where it does not come."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from gliosight.data.download import DATASET, check_folder, download
from gliosight.errors import CannotWriteError, PeerError


class _Hub:
    """Stands in for kagglehub: there is no network in tests."""

    def __init__(self, cache: Path, error: Exception | None = None) -> None:
        self.cache, self.error = cache, error

    def dataset_download(self, name: str) -> str:
        assert name == DATASET
        if self.error is not None:
            raise self.error
        return str(self.cache)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    (folder / "kaggle_3m" / "P").mkdir(parents=True)
    (folder / "kaggle_3m" / "P" / "P_1.tif").write_bytes(b"x")
    return folder


def test_the_data_set_arrives_in_the_folder(cache: Path, tmp_path: Path) -> None:
    hub = _Hub(cache)
    for out in (tmp_path / "new" / "lgg", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        assert download(out, hub) == out
        assert (out / "kaggle_3m" / "P" / "P_1.tif").read_bytes() == b"x"
        assert list(out.parent.glob(".*")) == []


class ConnectionFailedError(Exception):
    """As requests and urllib3 name theirs."""


def _status(code: int) -> Exception:
    error = RuntimeError(f"{code} Client Error\nmore lines")
    error.response = SimpleNamespace(status_code=code)
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionFailedError("host"), "cannot be reached.*check the network"),
        (TimeoutError("late"), "cannot be reached"),
        (_status(401), "refused the data set .status 401.*KAGGLE_KEY"),
        (_status(403), "refused the data set .status 403"),
        (_status(500), "did not give the data set, 500 Client Error"),
        (ValueError(""), "did not give the data set, ValueError"),
    ],
)
def test_a_peer_that_fails(error: Exception, words: str, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(PeerError, match=words) as caught:
        download(tmp_path / "out", _Hub(cache, error))
    assert caught.value.exit_code == 9
    assert "more lines" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_in_the_way_is_refused_before_anything_is_fetched(
    cache: Path, tmp_path: Path
) -> None:
    check_folder(tmp_path / "new")
    (tmp_path / "file").touch()
    for folder in (cache, tmp_path / "file", tmp_path / "a\0b"):
        with pytest.raises(CannotWriteError):
            check_folder(folder)
    with pytest.raises(CannotWriteError):
        download(tmp_path / "file" / "out", _Hub(cache))
