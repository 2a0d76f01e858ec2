"""gliosight: finds and outlines lower-grade glioma in brain MRI. Research use only.

Everything public is here and loaded when first used, so that ``import gliosight`` costs nothing::

    from gliosight import analyze, read_study
    analysis = analyze("study/flair.nii.gz")
"""

from __future__ import annotations

import os

# Not typing's, which is slow to import: little may run before `__main__` answers signals.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gliosight.analysis import Analysis, Finding, Status
    from gliosight.errors import GliosightError
    from gliosight.pipeline import Settings, analyze, read_study, write_analysis
    from gliosight.study import Flag, Geometry, MrSequence, Study, Volume

__version__ = "0.1.0"

# ONNX Runtime's wheel holds a telemetry client: it keeps a device id and a database in the user's cache and
# looks for its server. Its own call comes too late to prevent that; this, before any import of it, does.
# Child processes inherit it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

_HOME = {
    **dict.fromkeys(("Settings", "analyze", "read_study", "write_analysis"), "pipeline"),
    **dict.fromkeys(("Analysis", "Finding", "Status"), "analysis"),
    **dict.fromkeys(("Flag", "Geometry", "MrSequence", "Study", "Volume"), "study"),
    "GliosightError": "errors",
}

__all__ = [
    "analyze",
    "read_study",
    "write_analysis",
    "Settings",
    "Analysis",
    "Finding",
    "Status",
    "Flag",
    "Geometry",
    "MrSequence",
    "Study",
    "Volume",
    "GliosightError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    name = "MrSequence" if name == "Sequence" else name  # what it was called before
    if name not in _HOME:
        raise AttributeError(f"module 'gliosight' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"gliosight.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
