"""What a command imports: counted in modules, which do not depend on the machine (docs/decisions/0016)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gliosight.phantom import PhantomSpec, make_phantom, write_lgg, write_nifti
from gliosight.phantom.dicom import write_dicom

ENGINES = ("onnxruntime", "openvino")
HEAVY = ("torch", "matplotlib", "pandas", "sklearn")
# The words of a call, the kind of study it gets, and what it must not import.
CALLS = {
    "help": (("--help",), None, ("numpy", "scipy", "pydicom", "nibabel", "rich", *ENGINES)),
    "inspect DICOM": (
        ("inspect",),
        write_dicom,
        ("scipy", "nibabel", "highdicom", "tifffile", "jinja2", *ENGINES),
    ),
    "inspect NIfTI": (("inspect",), write_nifti, ("highdicom", "jinja2", *ENGINES)),
    "analyze slices": (("analyze", "-q"), write_lgg, ("nibabel", "pydicom", "highdicom")),
    "analyze NIfTI": (("analyze", "-q"), write_nifti, ("tifffile", "highdicom")),
    "analyze DICOM": (("analyze", "-q"), write_dicom, ("tifffile",)),
}
SCRIPT = """
import sys
from gliosight.cli import run
code = run(sys.argv[1:])
print("imported", *sorted({name.partition(".")[0] for name in sys.modules}))
sys.exit(code)
"""


@pytest.mark.parametrize("name", CALLS)
def test_a_command_imports_what_it_needs_and_no_more(name: str, tmp_path: Path) -> None:
    words, write, unwanted = CALLS[name]
    call = list(words)
    if write is not None:
        call.append(str(write(make_phantom(PhantomSpec(slices=4)), tmp_path / "in")))
    if "analyze" in words:
        call += ["-o", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *call], capture_output=True, text=True, check=True
    )
    imported = set(done.stdout.splitlines()[-1].split()[1:])
    assert sorted(imported & {*unwanted, *HEAVY}) == []
