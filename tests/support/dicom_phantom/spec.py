"""What is asked of a DICOM study: vendor, layout, traps and faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from .encode import SYNTAXES

TRAPS: Mapping[str, str] = {
    "localizer": "three orientations in one series",
    "map": "an apparent diffusion coefficient map, derived, on FLAIR's grid",
    "roi": "a stored ROI: a derived series of 0 and 1 with FLAIR in its description",
    "mask": "the same with FLAIR's own header and values 0 and 4095: only its pixels tell",
    "dwi": "diffusion weighted, two b values in one series",
    "t2": "an ordinary T2 series on FLAIR's grid",
    "coronal": "a second FLAIR: coronal, fewer slices, acquired later",
    "mosaic": "a time series as Siemens mosaics: all slices of a volume in one picture",
    "screenshot": "a colour screenshot (Secondary Capture)",
}
REPEATS: Mapping[str, str] = {
    "times": "two temporal positions at every place of FLAIR",
    "echoes": "two echoes at every place of FLAIR",
    "unexplained": "two different pictures at every place of FLAIR, and nothing says why",
    "copies": "every file of FLAIR twice, under another name",
}
Matrix = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class DicomSpec:
    """How a phantom is written as DICOM; ``order``, ``flips``, ``rotation``, ``shift`` as in `Placement`."""

    vendor: str = "siemens"
    # Enhanced MR (PS3.3 A.36). What a workstation stores (roi, mask) and mosaics are classic all the same.
    layout: str = "classic"  # or enhanced
    concatenation: int = 1  # enhanced: instances that each series is split into
    syntax: str = "explicit-le"  # a stored ROI never gets a lossy one, a screenshot none at all
    bits: int | None = None  # BitsStored: 8, 12, 16; None: 12, or 8 for jpeg-baseline, its most
    signed: bool = False  # PixelRepresentation 1, as GE writes; with 16 bits, uncompressed or RLE
    traps: frozenset[str] = frozenset({"localizer", "map", "roi"})
    contrast_tags: bool = True  # False: T1C's contrast fields are empty; enhanced: absent
    descriptions: str = "usual"  # or empty
    order: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)  # with order, all of 48 combinations
    rotation: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tilt_degrees: float = 0.0  # gantry: slices move along the rows by distance times tan
    missing: tuple[int, ...] = ()  # indices along the written stack, left out of FLAIR, T1 and T1C
    uneven: float = 0.0  # largest displacement of a slice along the stack, in spacings
    t1_grid: str = "same"  # coronal: T1 and T1C are the same voxels, a stack along the rows
    t1_frame: str = "same"  # other: T1 and T1C have a frame of reference of their own
    repeats: frozenset[str] = frozenset()
    numbering: str = "usual"  # InstanceNumber against position; reversed, shuffled, zero: all 0
    shuffled_names: bool = False  # files of all series in one folder, under meaningless names
    stripped: bool = False  # classic: without Type 2 and 3 attributes but SeriesDescription
    no_frame_of_reference: bool = False
    no_preamble: bool = False  # without the 128 bytes and DICM
    no_meta: bool = False  # without the file meta group as well: implicit-le and explicit-le
    identity: str = "synthetic"  # or unicode, anonymous, empty
    wrong_charset: bool = False  # the name's bytes are Latin-1, SpecificCharacterSet says UTF-8
    dicomdir: bool = False  # a file-set with a DICOMDIR (PS3.10), names as the standard wants them

    def __post_init__(self) -> None:
        for name, known in (("traps", TRAPS), ("repeats", REPEATS)):
            object.__setattr__(self, name, frozenset(getattr(self, name)))
            if not getattr(self, name) <= set(known):
                raise ValueError(f"{name} are {getattr(self, name)}, needed: some of {set(known)}")
        if self.stored_bits not in SYNTAXES[self.syntax].bits:
            raise ValueError(f"{self.syntax} does not hold {self.stored_bits} bits")
        object.__setattr__(self, "missing", tuple(sorted(set(self.missing))))
        # Plain numbers: the spec can be compared, hashed and written down.
        rotation = tuple(map(tuple, np.asarray(self.rotation, dtype=float).tolist()))
        object.__setattr__(self, "rotation", rotation)
        object.__setattr__(self, "shift", tuple(map(float, self.shift)))

    @property
    def stored_bits(self) -> int:
        """BitsStored of MR pictures."""
        if self.bits is not None:
            return self.bits
        return 8 if self.syntax == "jpeg-baseline" else 12

    @property
    def canonical(self) -> str:
        """The settings as text, the same in every process: UIDs are made from it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return "\n".join(
            f"{name}={sorted(value) if isinstance(value, frozenset) else value!r}"
            for name, value in values.items()
        )
