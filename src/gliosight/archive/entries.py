"""What is known of each study of an archive: a row of ``studies.csv`` and of ``index.html`` (layer: archive)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A study, and what became of it.

    Parameters
    ----------
    study_id : str
        As in ``result.json``; of a study that could not be read, the name of its folder or file.
    source : str
        Where it lies, below what was given.
    status : str
        A `gliosight.analysis.Status` as text, or ``error``.
    folder : str or None
        The result folder, relative to the folder of all results; ``None`` where there is none.
    probability : float or None
        Calibrated probability of tumour of the study, in [0, 1].
    review : int
        Rank in which to look at the studies, 1 for the first.
    findings : int
    volume_ml, volume_low_ml, volume_high_ml : float or None
        What is marked, and its 90 % interval; ``None`` without geometry.
    volume_px, volume_low_px, volume_high_px : int or None
        The same in pixels or voxels; known without geometry, too.
    warnings : tuple of str
        Codes of the flags that are warnings.
    worst_warning : str
        Message of the first of them; empty without warnings.
    seconds : float or None
        Time that its analysis took.
    exit_code : int
        0, or that of its error.
    error : str
        Its error in one line; empty where it was analysed.
    thumbnail : bytes or None
        JPEG of the slice to look at first, with the outline.
    """

    study_id: str
    source: str
    status: str
    folder: str | None = None
    probability: float | None = None
    review: int = 0
    findings: int = 0
    volume_ml: float | None = None
    volume_low_ml: float | None = None
    volume_high_ml: float | None = None
    volume_px: int | None = None
    volume_low_px: int | None = None
    volume_high_px: int | None = None
    warnings: tuple[str, ...] = ()
    worst_warning: str = ""
    seconds: float | None = None
    exit_code: int = 0
    error: str = ""
    thumbnail: bytes | None = None
