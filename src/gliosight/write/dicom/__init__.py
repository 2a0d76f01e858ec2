"""DICOM results: segmentation, probability and report of a DICOM study (stage: write).

``source`` collects what is taken from the source's headers, ``uids`` names what is made, ``codes`` holds the
codes of the standard, ``segmentation`` and ``report`` build, and ``readback`` reads each file again before it
is handed over. Import this only to write: highdicom takes a third of a second.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gliosight.analysis import Analysis, Status
from gliosight.errors import InternalError, UnsupportedInputError, printable
from gliosight.study import Flag
from gliosight.write.dicom.report import write_report
from gliosight.write.dicom.segmentation import write_probability, write_segmentation
from gliosight.write.dicom.source import Origin, dicom_source, origin_of

__all__ = ["write_dicom", "write_probability", "write_report", "write_segmentation"]

# Name, the kind in the flag's code, how a message calls it, and what result.json says of it.
SEGMENTATION = (
    "segmentation.dcm",
    "SEG",
    "segmentation",
    "DICOM segmentation, one segment per finding",
)
PROBABILITY = (
    "probability.dcm",
    "SEG",
    "segmentation of the probability",
    "DICOM segmentation, tumour probability of each pixel",
)
REPORT = ("report.dcm", "SR", "report", "DICOM structured report, one group per finding")


def write_dicom(
    analysis: Analysis, folder: Path, *, probability: bool
) -> tuple[dict[str, str], tuple[Flag, ...], tuple[InternalError, ...]]:
    """Write the DICOM results of a DICOM study into a folder.

    Returns
    -------
    files : dict of str to str
        File name and what it is. Empty where the study was not assessed: an empty segmentation would
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
        The study was not DICOM.
    """
    files: dict[str, str] = {}
    flags: list[Flag] = []
    errors: list[InternalError] = []

    def write(
        writer: Callable[..., None], name: str, kind: str, title: str, content: str, **options: Any
    ) -> bool:
        try:
            writer(analysis, folder / name, origin, **options)
        except UnsupportedInputError as error:
            reason = error.what
        except InternalError as error:
            errors.append(error)
            reason = f"{printable(error.what)} (a bug of gliosight: please report this line)"
        else:
            files[name] = content
            return True
        message = f"No DICOM {title} was written: {reason}."
        flags.append(Flag(f"{kind}_NOT_WRITTEN", "warning", message))
        return False

    if analysis.status is Status.NOT_ASSESSED:
        return files, (), ()
    dicom_source(analysis.study)
    origin: Origin | None = None
    # Where the headers do not allow an object, each writer raises the reason again.
    with contextlib.suppress(Exception):
        origin = origin_of(analysis)
    segmented = write(write_segmentation, *SEGMENTATION)
    if probability and segmented:
        write(write_probability, *PROBABILITY)
    # The report never refers to a segmentation that is not there.
    reported = write(write_report, *REPORT, segmented=segmented)
    if origin is not None and origin.left_empty and (segmented or reported):
        message = (
            "Values that DICOM does not allow were left empty in our objects: "
            f"{', '.join(origin.left_empty)}."
        )
        flags.append(Flag("IDENTITY_INCOMPLETE", "info", message))
    return files, tuple(flags), tuple(errors)
