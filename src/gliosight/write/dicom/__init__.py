"""DICOM results: segmentation, probability and report of a DICOM study (stage: write).

``identity`` says what is taken over from the source, ``uids`` names what is made, ``codes`` holds the words
of the standard, ``segmentation`` and ``report`` build, and ``readback`` reads each file again on another path
before it is handed over. highdicom is imported only when something is written: with all it needs it takes a
third of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from gliosight.analysis import Analysis, Status
from gliosight.errors import InternalError, UnsupportedInputError, printable
from gliosight.study import Flag
from gliosight.write.dicom.identity import dicom_source, origin_of
from gliosight.write.dicom.report import write_report
from gliosight.write.dicom.segmentation import write_probability, write_segmentation

__all__ = ["write_dicom", "write_probability", "write_report", "write_segmentation"]


def write_dicom(
    analysis: Analysis, folder: Path, *, probability: bool
) -> tuple[dict[str, str], tuple[Flag, ...], tuple[InternalError, ...]]:
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
        ``SEG_NOT_WRITTEN``, ``SR_NOT_WRITTEN`` where the source's headers do not allow them, or where
        an object could not be built or failed its read-back; ``IDENTITY_INCOMPLETE`` where a value of
        the source's could not be taken over.
    errors : tuple of InternalError
        Our own failures among these: each is a bug to report, and withholds one object.

    Raises
    ------
    UnsupportedInputError
        The study is no DICOM study.
    """
    if analysis.status is Status.NOT_ASSESSED:
        return {}, (), ()
    dicom_source(analysis)
    files: dict[str, str] = {}
    flags: list[Flag] = []
    errors: list[InternalError] = []

    def write(title: str, name: str, content: str, writer: Callable[[Path], None]) -> bool:
        kind = "SR" if name == "report.dcm" else "SEG"
        try:
            writer(folder / name)
        except UnsupportedInputError as error:
            reason = error.what
        except InternalError as error:
            errors.append(error)
            reason = f"{printable(error.what)} (a bug of gliosight: please report this line)"
        else:
            files[name] = content
            return True
        flags.append(
            Flag(f"{kind}_NOT_WRITTEN", "warning", f"No DICOM {title} was written: {reason}.")
        )
        return False

    segmented = write(
        "segmentation",
        "segmentation.dcm",
        "DICOM segmentation, one segment per finding",
        partial(write_segmentation, analysis),
    )
    if probability and segmented:
        write(
            "segmentation of the probability",
            "probability.dcm",
            "DICOM segmentation, tumour probability of each pixel",
            partial(write_probability, analysis),
        )
    reported = write(
        "report",
        "report.dcm",
        "DICOM structured report, one group per finding",
        # A report never refers to a segmentation that is not there.
        partial(write_report, analysis, segmented=segmented),
    )
    left_empty = origin_of(analysis).left_empty if segmented or reported else ()
    if left_empty:
        flags.append(
            Flag(
                "IDENTITY_INCOMPLETE",
                "info",
                "Values that DICOM does not allow were left empty in our objects: "
                f"{', '.join(left_empty)}.",
            )
        )
    return files, tuple(flags), tuple(errors)
