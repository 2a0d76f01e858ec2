"""DICOM results: segmentation, probability and report of a DICOM study (stage: write).

``identity`` says what is taken over from the source, ``uids`` names what is made, ``codes`` holds the words
of the standard, ``segmentation`` and ``report`` build, and ``readback`` reads each file again on another path
before it is handed over. highdicom is imported only when something is written: with all it needs it takes a
third of a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gliosight.analysis import Analysis, Status
from gliosight.errors import UnsupportedInputError
from gliosight.study import Flag
from gliosight.write.dicom.identity import origin_of
from gliosight.write.dicom.report import write_report
from gliosight.write.dicom.segmentation import why_not, write_probability, write_segmentation

__all__ = ["write_dicom", "write_probability", "write_report", "write_segmentation"]


def write_dicom(
    analysis: Analysis, folder: Path, *, probability: bool
) -> tuple[dict[str, str], tuple[Flag, ...]]:
    """Write the DICOM results of a DICOM study into a folder.

    Parameters
    ----------
    analysis : Analysis
    folder : Path
        Gets ``segmentation.dcm`` and ``report.dcm``, and ``probability.dcm`` where it is asked for.
    probability : bool

    Returns
    -------
    files : dict of str to str
        File name and what it is. Nothing where the study was not assessed: an empty segmentation would
        claim a negative.
    flags : tuple of Flag
        ``SEG_NOT_WRITTEN``, ``SR_NOT_WRITTEN`` where the source's headers do not allow them;
        ``IDENTITY_INCOMPLETE`` where a value of the source's could not be taken over.

    Raises
    ------
    UnsupportedInputError
        The study is no DICOM study.
    InternalError
        A file read back is not what was found; it is removed.
    """
    if analysis.status is Status.NOT_ASSESSED:
        return {}, ()
    try:
        origin = origin_of(analysis)
    except UnsupportedInputError as error:
        if analysis.study.kind != "dicom":
            raise
        why = f"{error.what} ({error.where})"
        return {}, (_not_written("SEG", why), _not_written("SR", why))
    files: dict[str, str] = {}
    flags: list[Flag] = []
    reason = why_not(analysis, origin)
    if reason is None:
        write_segmentation(analysis, folder / "segmentation.dcm")
        files["segmentation.dcm"] = "DICOM segmentation, one segment per finding"
        if probability:
            write_probability(analysis, folder / "probability.dcm")
            files["probability.dcm"] = "DICOM segmentation, tumour probability of each pixel"
    else:
        flags.append(_not_written("SEG", reason))
    write_report(analysis, folder / "report.dcm")
    files["report.dcm"] = "DICOM structured report, one group per finding"
    if origin.left_empty:
        names = ", ".join(origin.left_empty)
        flags.append(
            Flag(
                "IDENTITY_INCOMPLETE",
                "info",
                f"Values that DICOM does not allow were left empty in our objects: {names}.",
            )
        )
    return files, tuple(flags)


def _not_written(kind: Literal["SEG", "SR"], reason: str) -> Flag:
    name = {"SEG": "segmentation", "SR": "report"}[kind]
    return Flag(f"{kind}_NOT_WRITTEN", "warning", f"No DICOM {name} was written: {reason}.")
