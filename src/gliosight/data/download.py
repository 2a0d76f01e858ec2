"""The published LGG set, fetched by Kaggle's own client (data; extra: download). Apart: it needs a peer.

kagglehub does the work and keeps its own cache; it asks for the user's Kaggle account only where Kaggle does.
"""

from __future__ import annotations

import logging
import shutil
import stat
from functools import partial
from pathlib import Path
from typing import Any

from gliosight.errors import CannotWriteError, PeerError
from gliosight.files import is_empty, whole_folder

DATASET = "mateuszbuda/lgg-mri-segmentation"
NETWORK = "check the network, or fetch it by hand and give the folder to: gliosight data index"
ACCOUNT = "check your Kaggle account: KAGGLE_USERNAME and KAGGLE_KEY, or ~/.kaggle/kaggle.json"
# Characters of the peer's own words.
LONGEST = 200


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds something, before anything is fetched; raises `CannotWriteError`."""
    try:
        what = "a file is in the way"
        if stat.S_ISDIR(folder.stat().st_mode):
            if is_empty(folder):
                return
            what = "the folder is not empty"
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        what = f"cannot write there: {getattr(error, 'strerror', None) or error}"
    raise CannotWriteError(what, where=folder.name, remedy="choose another -o")


def download(folder: Path, kagglehub: Any) -> Path:
    """Fetch the data set into a folder, which appears whole or not at all, and give that.

    The command line imports ``kagglehub``, since it says what to do where that is not installed. Raises
    `PeerError` (no network, no account, or Kaggle refused) or `CannotWriteError`.
    """
    logging.getLogger("kagglehub").setLevel(logging.ERROR)
    try:
        fetched = Path(kagglehub.dataset_download(DATASET))
    except Exception as error:
        # kagglehub lets its own, requests' and urllib3's errors through; each says the peer failed.
        status = getattr(getattr(error, "response", None), "status_code", None)
        lines = str(error).strip().splitlines() or [type(error).__name__]
        what, remedy = f"Kaggle did not give the data set, {lines[0][:LONGEST]}", ACCOUNT
        if status in (401, 403):
            what = f"Kaggle refused the data set (status {status})"
        elif any(word in type(error).__name__ for word in ("Connection", "Timeout", "Proxy")):
            what, remedy = "Kaggle cannot be reached", NETWORK
        raise PeerError(what, where=DATASET, remedy=remedy) from error
    with whole_folder(folder, partial(check_folder, folder)) as new:
        shutil.copytree(fetched, new, dirs_exist_ok=True)
    return folder
