"""DICOM results: segmentation, probability and report of a DICOM study (stage: write).

``source`` collects what is taken from the source's headers and names what is made, ``codes`` holds the codes
of the standard, ``segmentation`` and ``report`` build, and ``readback`` reads each file again before it is
handed over. Import this only to write: highdicom takes a third of a second.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from gliosight.analysis import Analysis, Status
from gliosight.errors import InternalError, UnsupportedInputError, printable
from gliosight.flags import flag
from gliosight.study import Flag
from gliosight.write.dicom.report import write_report
from gliosight.write.dicom.segmentation import write_probability, write_segmentation
from gliosight.write.dicom.source import Origin, dicom_source, origin_of

__all__ = ["write_dicom", "write_probability", "write_report", "write_segmentation"]

# File, kind in the flag's code, what a message calls it, what result.json says of it, and what writes it.
OBJECTS: tuple[tuple[str, str, str, str, Callable[..., None]], ...] = (
    (
        "segmentation.dcm",
        "SEG",
        "segmentation",
        "DICOM segmentation, one segment per finding",
        write_segmentation,
    ),
    (
        "probability.dcm",
        "SEG",
        "segmentation of the probability",
        "DICOM segmentation, tumour probability of each pixel",
        write_probability,
    ),
    (
        "report.dcm",
        "SR",
        "report",
        "DICOM structured report, one group per finding",
        write_report,
    ),
)


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
    if analysis.status is Status.NOT_ASSESSED:
        return {}, (), ()
    files: dict[str, str] = {}
    flags: list[Flag] = []
    errors: list[InternalError] = []
    dicom_source(analysis.study)
    origin: Origin | None = None
    # Where the headers do not allow an object, each writer raises the reason again.
    with contextlib.suppress(Exception):
        origin = origin_of(analysis)
    for name, kind, title, content, write in OBJECTS:
        segmented = "segmentation.dcm" in files
        if write is write_probability and not (probability and segmented):
            continue
        # The report never refers to a segmentation that is not there.
        options = {"segmented": segmented} if write is write_report else {}
        try:
            write(analysis, folder / name, origin, **options)
        except UnsupportedInputError as error:
            reason = error.what
        except InternalError as error:
            errors.append(error)
            reason = f"{printable(error.what)} (a bug of gliosight: please report this line)"
        else:
            files[name] = content
            continue
        message = f"No DICOM {title} was written: {reason}."
        flags.append(flag(f"{kind}_NOT_WRITTEN", message))
    if origin is not None and origin.left_empty and files:
        message = (
            "Values that DICOM does not allow were left empty in our objects: "
            f"{', '.join(origin.left_empty)}."
        )
        flags.append(flag("IDENTITY_INCOMPLETE", message))
    return files, tuple(flags), tuple(errors)
