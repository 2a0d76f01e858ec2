"""Synthetic studies as DICOM, with the traps and faults of real exports (phantom layer).

In: a `Phantom` and a `DicomSpec`. Out: files, and beside them the truth in the order of a reader.

``spec`` says what is wanted, ``settings`` reads it from words; ``place`` turns the phantom into
pictures with positions; ``protocols`` and ``vendors`` are the tables of what scanners write,
``encode`` that of transfer syntaxes; ``series`` and ``traps`` put pictures into series; ``headers``,
``classic`` and ``enhanced`` make data sets of them; ``quirks`` damages these; ``part10`` encodes
them, ``study`` writes everything down.
"""

from gliosight.phantom.dicom.encode import SYNTAXES
from gliosight.phantom.dicom.place import geometry_of, truth_of, volume_of
from gliosight.phantom.dicom.settings import SETTINGS, parse_settings
from gliosight.phantom.dicom.spec import REPEATS, TRAPS, DicomSpec, turned
from gliosight.phantom.dicom.study import write_dicom

__all__ = [
    "REPEATS",
    "SETTINGS",
    "SYNTAXES",
    "TRAPS",
    "DicomSpec",
    "geometry_of",
    "parse_settings",
    "truth_of",
    "turned",
    "volume_of",
    "write_dicom",
]
