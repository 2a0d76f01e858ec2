"""What is asked of a synthetic DICOM study: vendor, layout, traps, faults; checked (phantom layer).

In: settings. Out: a `DicomSpec` that cannot contradict itself. What they mean in files is up to
``vendors`` (habits), ``place`` (geometry), ``encode`` (pixels), ``traps`` and ``quirks`` (faults).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.phantom.dicom.encode import SYNTAXES

Matrix = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]

IDENTITY: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
LARGEST_SHIFT_MM = 200.0

VENDORS = ("siemens", "ge", "philips", "canon")
LAYOUTS = ("classic", "enhanced")
DESCRIPTIONS = ("usual", "empty", "misleading")
NUMBERINGS = ("usual", "reversed", "shuffled", "zero")
IDENTITIES = ("synthetic", "unicode", "anonymous", "empty")

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


@dataclass(frozen=True)
class DicomSpec:
    """How a phantom is written as DICOM.

    Parameters
    ----------
    vendor : {"siemens", "ge", "philips", "canon"}
        Whose naming habits: see ``vendors``.
    layout : {"classic", "enhanced"}
        One file for each slice, or Enhanced MR (PS3.3 A.36). What a workstation stores (``roi``,
        ``mask``) and ``mosaic`` stay classic, a screenshot is Secondary Capture.
    concatenation : int
        Enhanced: instances that each series is split into (PS3.3 C.7.6.16.2.2.4), 1 to 16.
    syntax : str
        A name in `encode.SYNTAXES`. A stored ROI never gets a lossy one, a screenshot none at all.
    bits : {8, 12, 16}, optional
        BitsStored; 12, or 8 for ``jpeg-baseline``, which has no more. Values beyond are cut off; 8 are
        the LGG layout's brightness.
    signed : bool
        PixelRepresentation 1, as GE writes; only with 16 bits and an uncompressed or RLE syntax.
    traps : frozenset of str
        Series besides FLAIR, T1 and T1C: names in `TRAPS`.
    contrast_tags : bool
        ``False``: T1C's contrast fields are there, but empty; in enhanced files they are absent.
    descriptions : {"usual", "empty", "misleading"}
        Of FLAIR, T1 and T1C. Misleading: T1 is called FLAIR, FLAIR T2, and T1C a plain T1.
    order : permutation of (0, 1, 2)
        ``order[k]`` is the phantom's axis (slice, row, column) that becomes written axis k. The
        geometry follows: the patient stays where he is.
    flips : three bools
        Whether each *written* axis runs the other way. Any of the 48 combinations can be written:
        a left-handed one only means that the files are numbered against the normal.
    rotation : (3, 3) proper rotation
        Of the patient in the world about its origin, RAS+, before the shift; arrays stay as they
        are. See `turned`.
    shift : (x, y, z)
        RAS+ mm, up to 200 each.
    tilt_degrees : float
        Gantry tilt: slices are shifted along the row direction by their distance from the middle
        one times its tangent; -40 to 40.
    missing : tuple of int
        Indices along the written stack that are left out of FLAIR, T1 and T1C.
    uneven : float
        Largest displacement of a slice along the stack, as a part of the spacing; 0 to 0.4.
    t1_grid : {"same", "coronal"}
        Coronal: T1 and T1C are the same voxels as a stack along the phantom's rows.
    t1_frame : {"same", "other"}
        Other: T1 and T1C have a frame of reference of their own.
    repeats : frozenset of str
        What is there more than once: names in `REPEATS`.
    numbering : {"usual", "reversed", "shuffled", "zero"}
        InstanceNumber against position; zero: all of them 0.
    shuffled_names : bool
        Files of all series in one folder, under names without order or meaning.
    stripped : bool
        Type 2 and 3 attributes are gone, timing with them; SeriesDescription stays, by
        ``descriptions``. What remains is what pixels and geometry need, and UIDs, Modality,
        ImageType, ScanningSequence and SequenceVariant. Classic only.
    no_frame_of_reference, no_preamble, no_meta : bool
        Without FrameOfReferenceUID; without the 128 bytes and ``DICM``; without the file meta group
        as well (``implicit-le`` and ``explicit-le`` only: others could not be told).
    identity : {"synthetic", "unicode", "anonymous", "empty"}
        The patient's name and ID. Never a person's.
    wrong_charset : bool
        The name's bytes are Latin-1, SpecificCharacterSet says UTF-8; implies a non-ASCII name.
    dicomdir : bool
        Written as a file-set with a DICOMDIR (PS3.10), names as the standard wants them.

    Raises
    ------
    ValueError
        Naming the field, the value found and the value needed.
    """

    vendor: str = "siemens"
    layout: str = "classic"
    concatenation: int = 1
    syntax: str = "explicit-le"
    bits: int | None = None
    signed: bool = False
    traps: frozenset[str] = frozenset({"localizer", "map", "roi"})
    contrast_tags: bool = True
    descriptions: str = "usual"
    order: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)
    rotation: Matrix = IDENTITY
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tilt_degrees: float = 0.0
    missing: tuple[int, ...] = ()
    uneven: float = 0.0
    t1_grid: str = "same"
    t1_frame: str = "same"
    repeats: frozenset[str] = frozenset()
    numbering: str = "usual"
    shuffled_names: bool = False
    stripped: bool = False
    no_frame_of_reference: bool = False
    no_preamble: bool = False
    no_meta: bool = False
    identity: str = "synthetic"
    wrong_charset: bool = False
    dicomdir: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (
            ("vendor", VENDORS),
            ("layout", LAYOUTS),
            ("syntax", tuple(SYNTAXES)),
            ("descriptions", DESCRIPTIONS),
            ("t1_grid", ("same", "coronal")),
            ("t1_frame", ("same", "other")),
            ("numbering", NUMBERINGS),
            ("identity", IDENTITIES),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}, needed: one of {', '.join(allowed)}")
        for name, known in (("traps", TRAPS), ("repeats", REPEATS)):
            chosen = getattr(self, name)
            object.__setattr__(self, name, frozenset(chosen))
            odd = [chosen] if isinstance(chosen, str) else sorted(set(chosen) - set(known), key=str)
            if odd:
                raise ValueError(
                    f"{name} are {', '.join(map(str, odd))}, needed: some of {', '.join(known)}"
                )
        self._check_numbers()
        self._check_place()
        self._check_together()

    def _check_numbers(self) -> None:
        for name, low, high in (
            ("concatenation", 1, 16),
            ("tilt_degrees", -40, 40),
            ("uneven", 0, 0.4),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not (math.isfinite(value) and low <= value <= high):
                raise ValueError(f"{name} is {value}, needed: {low} to {high}")
        if not isinstance(self.concatenation, int):
            raise ValueError(f"concatenation is {self.concatenation}, not a whole number")
        if self.bits not in (None, 8, 12, 16):
            raise ValueError(f"bits is {self.bits}, needed: 8, 12 or 16")
        missing = tuple(sorted({int(one) for one in self.missing}))
        if any(one < 0 for one in missing):
            raise ValueError(f"missing are {missing}, needed: indices from 0")
        object.__setattr__(self, "missing", missing)

    def _check_place(self) -> None:
        order = tuple(int(one) for one in self.order)
        if order not in permutations(range(3)):
            raise ValueError(f"order is {self.order}, needed: a permutation of 0, 1, 2")
        flips = tuple(bool(one) for one in self.flips)
        if len(flips) != 3:
            raise ValueError(f"flips are {self.flips}, needed: three")
        rotation = np.asarray(self.rotation, dtype=np.float64)
        if (
            rotation.shape != (3, 3)
            or not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
            or np.linalg.det(rotation) < 0
        ):
            raise ValueError("rotation is no proper rotation of three axes")
        shift = np.asarray(self.shift, dtype=np.float64)
        if shift.shape != (3,) or not (np.abs(shift) <= LARGEST_SHIFT_MM).all():
            raise ValueError(
                f"shift is {self.shift}, needed: three lengths up to {LARGEST_SHIFT_MM:.0f} mm"
            )
        object.__setattr__(self, "order", order)
        object.__setattr__(self, "flips", flips)
        # Plain numbers: the spec can be compared, hashed and written down.
        object.__setattr__(self, "rotation", tuple(tuple(row) for row in rotation.tolist()))
        object.__setattr__(self, "shift", tuple(shift.tolist()))

    def _check_together(self) -> None:
        syntax = SYNTAXES[self.syntax]
        if self.stored_bits not in syntax.bits:
            raise ValueError(
                f"bits is {self.stored_bits}, {self.syntax} holds "
                f"{' or '.join(str(one) for one in syntax.bits)}"
            )
        if self.signed and (self.stored_bits != 16 or not syntax.any_type):
            raise ValueError("signed needs 16 bits and an uncompressed syntax or rle")
        if self.layout == "classic" and self.concatenation != 1:
            raise ValueError("concatenation needs the enhanced layout")
        if self.stripped and self.layout != "classic":
            raise ValueError("stripped needs the classic layout")
        if self.no_meta and self.syntax not in ("implicit-le", "explicit-le"):
            raise ValueError(f"no_meta needs implicit-le or explicit-le, not {self.syntax}")
        odd = self.no_meta or self.no_preamble or self.stripped or self.wrong_charset
        if self.dicomdir and (odd or self.identity == "empty" or "copies" in self.repeats):
            raise ValueError("a DICOMDIR lists sound files only: no missing parts, no copies")
        if self.dicomdir and self.shuffled_names:
            raise ValueError("a DICOMDIR comes with names of its own: not with shuffled_names")

    @property
    def stored_bits(self) -> int:
        """BitsStored of MR pictures."""
        if self.bits is not None:
            return self.bits
        return 8 if self.syntax == "jpeg-baseline" else 12

    @property
    def canonical(self) -> str:
        """The settings as text, the same in every process: UIDs are made from it."""
        values: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        return "\n".join(
            f"{name}={sorted(value) if isinstance(value, frozenset) else value!r}"
            for name, value in values.items()
        )


def turned(x: float, y: float, z: float) -> NDArray[np.float64]:
    """Rotation (3, 3) about the RAS+ axes by these degrees: first about x, then y, then z."""
    out = np.eye(3)
    for axis, degrees in enumerate((x, y, z)):
        sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
        one = np.eye(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        one[a, a] = one[b, b] = cosine
        one[a, b], one[b, a] = -sine, sine
        out = one @ out
    return out
