"""Compare the results of two checkouts, byte for byte except dates and times.

    git worktree add ../before COMMIT
    python benchmarks/same_results.py ../before . STUDY... [-- OPTION...]

Both analyse the studies, with the Python that runs this. Durations are left out, too. Ends with 1 where
anything else differs. Kept while the package is rebuilt (docs/decisions/0010).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pydicom

TIMES = re.compile(
    r"[\d,]+(?:\.\d+)? (?:m?s|seconds)\b|\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?"
)
DICOM_TIMES = {"DA", "TM", "DT"}


def analyse(checkout: Path, studies: list[Path], options: list[str], out: Path) -> None:
    """Write the results of one checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve() / "src")}
    for number, study in enumerate(studies):
        command = [sys.executable, "-m", "gliosight", "analyze", str(study), "-q", *options]
        subprocess.run([*command, "-o", str(out / str(number))], env=environment, check=True)


def comparable(path: Path) -> object:
    """What of a file must be the same."""
    if path.suffix == ".dcm":
        return _without_times(pydicom.dcmread(path).to_json_dict())
    if path.suffix == ".json":
        result = json.loads(path.read_text("utf-8"))
        result.get("provenance", {}).pop("timings_ms", None)
        return _without_times(result)
    if path.suffix in (".html", ".csv"):
        return TIMES.sub("", path.read_text("utf-8"))
    return path.read_bytes()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_times(item)
            for key, item in value.items()
            if not (isinstance(item, dict) and item.get("vr") in DICOM_TIMES) and "time" not in key
        }
    if isinstance(value, list):
        return [_without_times(item) for item in value]
    return value


def main(arguments: list[str]) -> int:
    """Compare, and name each file that differs."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    if at < 3:
        raise SystemExit(__doc__)
    before, after, *studies = map(Path, arguments[:at])
    with TemporaryDirectory() as folder:
        outs = [Path(folder) / name for name in ("before", "after")]
        for checkout, out in zip((before, after), outs, strict=True):
            analyse(checkout, studies, arguments[at + 1 :], out)
        files = {path.relative_to(out) for out in outs for path in out.rglob("*") if path.is_file()}
        differ = [
            name
            for name in sorted(files)
            if not all((out / name).is_file() for out in outs)
            or comparable(outs[0] / name) != comparable(outs[1] / name)
        ]
    for name in differ:
        print("differs:", name)
    print(f"{len(files)} files of {len(studies)} studies, {len(differ)} differ")
    return bool(differ)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
