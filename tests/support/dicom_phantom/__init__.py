"""Synthetic studies as DICOM with the traps and faults of real exports, for tests of what reads them.

The product's plain study (``gliosight.phantom.dicom``) in every layout and transfer syntax, with the habits
of four vendors. `write_dicom` writes a `Phantom` by a `DicomSpec`; `truth_of`, `volume_of` and
`geometry_of` say what a reader finds: slices by position along the normal, cross(row cosines, column
cosines), growing.
"""

from gliosight.phantom.dicom import turned

from .encode import SYNTAXES
from .files import write_dicom
from .series import geometry_of, truth_of, volume_of
from .spec import TRAPS, DicomSpec

__all__ = [
    "SYNTAXES",
    "TRAPS",
    "DicomSpec",
    "geometry_of",
    "truth_of",
    "turned",
    "volume_of",
    "write_dicom",
]
