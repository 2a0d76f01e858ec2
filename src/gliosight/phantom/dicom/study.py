"""A phantom as a study of DICOM files, as a scanner would export it (phantom layer).

In: a `Phantom`, a folder, and a `DicomSpec`. Out: ``<folder>/<study_id>/``, which did not exist or
was empty. The truth is not in it: `truth_of` gives it in the order of a reader.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydicom.fileset import FileSet

from gliosight.phantom.dicom.classic import classic, screenshot
from gliosight.phantom.dicom.enhanced import enhanced
from gliosight.phantom.dicom.part10 import SeriesWriter, put_meta
from gliosight.phantom.dicom.quirks import cut, meaningless, misspell, strip
from gliosight.phantom.dicom.series import Export, Series, sequence_series
from gliosight.phantom.dicom.spec import DicomSpec
from gliosight.phantom.dicom.traps import (
    MASK_NUMBER,
    ROI_NUMBER,
    SCREENSHOT_NUMBER,
    trap,
)
from gliosight.phantom.files import cannot_write, new_folder
from gliosight.phantom.studies import Phantom
from gliosight.study import Sequence

# The order of a scan; what a workstation stores afterwards comes last. The diffusion map is
# calculated while the next series runs.
_SCAN = ("localizer", "dwi", "map", "mosaic", "t2", "FLAIR", "T1", "T1C", "coronal")
_STORED = {"roi": ROI_NUMBER, "mask": MASK_NUMBER, "screenshot": SCREENSHOT_NUMBER}
# Between two series: prescan, and the technologist. Before T1C: the injection.
_PAUSE = 20.0
_INJECTION = 240.0
_WORKSTATION = 3600.0


@dataclass(frozen=True)
class _Instance:
    """One data set on its way into a file."""

    series: Series
    header: Any
    number: int  # of the series, counted from 1


def write_dicom(phantom: Phantom, folder: Path, spec: DicomSpec | None = None) -> Path:
    """Write a whole study.

    Parameters
    ----------
    phantom : Phantom
    folder : Path
        Gets a folder named by the phantom's study id.
    spec : DicomSpec, optional
        By default classic Siemens files with a localizer, a map and a stored ROI.

    Returns
    -------
    Path
        The folder of the study.

    Raises
    ------
    CannotWriteError
        The study's folder holds something already, or cannot be written.
    UsageError
        The transfer syntax is written by a package that is not installed.
    ValueError
        The spec does not fit the phantom: slices left out that are not there.
    """
    export = Export(phantom, DicomSpec() if spec is None else spec)
    target = new_folder(phantom, folder)
    try:
        if export.spec.dicomdir:
            _write_file_set(export, target)
        else:
            _write_files(export, target)
    except BaseException as error:
        shutil.rmtree(target, ignore_errors=True)  # half a study would pass for a shorter one
        if isinstance(error, OSError):
            raise cannot_write(target, error) from error
        raise
    return target


def all_series(export: Export) -> Iterator[Series]:
    """Make every series of the study, in the order of the scan."""
    vendor, spec = export.vendor, export.spec
    number, start = vendor.first, 60.0
    for kind in _SCAN:
        if kind in {one.value for one in export.phantom.sequences}:
            start += _INJECTION if kind == "T1C" else 0.0
            series = sequence_series(export, Sequence(kind), number, start)
        elif kind in spec.traps:
            series = trap(export, kind, number, start)
        else:
            continue
        yield series
        number += vendor.step
        start += series.protocol.minutes * 60 * series.times + _PAUSE
    for k, (kind, number) in enumerate(_STORED.items()):
        if kind in spec.traps:
            yield trap(export, kind, number, start + _WORKSTATION * (k + 1))


def _instances(export: Export) -> Iterator[_Instance]:
    for series in all_series(export):
        if series.kind == "screenshot":
            made = screenshot(export, series)
        elif export.spec.layout == "enhanced" and not (
            series.stored_later or series.kind == "mosaic"
        ):
            made = enhanced(export, series)
        else:
            made = classic(export, series)
        for number, header in enumerate(made, start=1):
            if export.spec.stripped:
                strip(header)
            yield _Instance(series, header, number)


def _write_files(export: Export, target: Path) -> None:
    spec = export.spec
    names: set[str] = set()
    running = 0
    writers: dict[int, SeriesWriter] = {}
    for one in _instances(export):
        syntax = export.syntax(one.series).uid
        put_meta(one.header, syntax, export.uid("implementation"))
        if one.series.number not in writers:
            writers = {one.series.number: SeriesWriter(syntax)}  # the one before is done
        writer = writers[one.series.number]
        if spec.wrong_charset:
            misspell(one.header, implicit=writer.implicit, little=writer.little)
        data = cut(writer.file(one.header), preamble=spec.no_preamble, meta=spec.no_meta)
        copies = 2 if one.series.kind == "FLAIR" and "copies" in spec.repeats else 1
        for k in range(copies):
            running += 1
            name = _file_name(export, one, running, copy=k)
            names.add(name)
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    if spec.shuffled_names:
        for old, new in zip(sorted(names), meaningless(export, len(names)), strict=True):
            (target / old).rename(target / new)
        folders = [one for one in target.rglob("*") if one.is_dir()]
        for folder in sorted(folders, reverse=True):  # what lies in another folder goes first
            folder.rmdir()


def _file_name(export: Export, one: _Instance, running: int, *, copy: int) -> str:
    words = "".join(c if c.isalnum() or c in "-_" else "_" for c in one.series.description)
    name = export.vendor.file_name.format(
        series=one.series.number,
        instance=one.number,
        running=running,
        description=words.upper() or "SERIES",
    )
    if copy:
        path = PurePosixPath(name)
        name = str(path.with_name(f"copy_{path.name}"))
    return name


def _write_file_set(export: Export, target: Path) -> None:
    """Write a file-set: names and folders as PS3.10 8 wants them, and a DICOMDIR on top."""
    files = FileSet()
    try:
        files.UID = export.uid("file-set")
        for one in _instances(export):
            put_meta(one.header, export.syntax(one.series).uid, export.uid("implementation"))
            files.add(one.header)
        files.write(target)
    finally:
        # pydicom 3.0 leaves its temporary folder to the garbage collector, with a warning.
        files._stage["t"].cleanup()  # noqa: SLF001
