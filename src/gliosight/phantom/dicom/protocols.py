"""What identifies an acquisition, and the protocols of one vendor, as data (phantom layer).

In: nothing. Out: `Protocol`, and `SIEMENS`, the table that ``vendors`` varies for the others. Values
are those of ordinary brain protocols and of exports seen in public data. The kinds are ``FLAIR``
and ``T1`` (``FLAIR_3D`` and ``T1_3D`` where slices are thin), and the traps of ``spec``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

Words = tuple[str, ...]


@dataclass(frozen=True)
class Protocol:
    """One acquisition: what identifies it, by the fields of PS3.3 C.8.3.1 and C.8.13.

    Parameters
    ----------
    name : str
        SeriesDescription and ProtocolName.
    scanning, variant, options : tuple of str
        ScanningSequence, SequenceVariant, ScanOptions.
    tr, te, flip : float
        RepetitionTime and EchoTime (ms), FlipAngle (degrees).
    ti : float, optional
        InversionTime, ms.
    train : int
        EchoTrainLength.
    pulse : str
        SequenceName, PulseSequenceName.
    image_type : tuple of str
        Classic ImageType.
    contrast : str
        AcquisitionContrast (enhanced).
    volume : bool
        Three-dimensional.
    minutes : float
        How long it takes.
    """

    name: str
    scanning: Words
    variant: Words
    options: Words
    tr: float
    te: float
    ti: float | None
    flip: float
    train: int
    pulse: str
    image_type: Words
    contrast: str
    volume: bool = False
    minutes: float = 3.0

    @property
    def echo_pulse(self) -> str:
        """EchoPulseSequence: what makes the echo."""
        spin, gradient = "SE" in self.scanning, bool({"GR", "EP"} & set(self.scanning))
        if "RM" in self.scanning or (spin and "EP" in self.scanning):
            return "GRADIENT" if "RM" in self.scanning else "SPIN"
        return "GRADIENT" if gradient else "SPIN"


_M = ("ORIGINAL", "PRIMARY", "M", "ND", "NORM")
_SIEMENS_FLAIR = Protocol(
    "t2_tirm_tra_dark-fluid",
    ("SE", "IR"),
    ("SK", "SP", "MP", "OSP"),
    ("IR", "PFP", "FS"),
    9000,
    86,
    2500,
    150,
    16,
    "*tir2d1_16fs",
    _M,
    "FLUID_ATTENUATED",
)
SIEMENS: Mapping[str, Protocol] = {
    "FLAIR": _SIEMENS_FLAIR,
    "FLAIR_3D": replace(
        _SIEMENS_FLAIR,
        name="t2_space_dark-fluid_sag_p2_iso",
        variant=("SK", "SP", "MP"),
        options=("IR", "PFP"),
        tr=5000,
        te=388,
        ti=1800,
        flip=120,
        train=251,
        pulse="*spcir_278ns",
        volume=True,
        minutes=5.5,
    ),
    "T1": Protocol(
        "t1_se_tra", ("SE",), ("SP", "OSP"), ("SAT1",), 550, 8.7, None, 90, 1, "*se2d1", _M, "T1"
    ),
    "T1_3D": Protocol(
        "t1_mprage_sag_p2_iso",
        ("GR", "IR"),
        ("SK", "SP", "MP"),
        ("IR", "WE"),
        2300,
        2.98,
        900,
        9,
        1,
        "*tfl3d1_16ns",
        _M,
        "T1",
        volume=True,
        minutes=5.0,
    ),
    "localizer": Protocol(
        "localizer",
        ("GR",),
        ("SP", "OSP"),
        (),
        8.6,
        4,
        None,
        20,
        1,
        "*fl2d1",
        ("ORIGINAL", "PRIMARY", "M", "ND", "NORM"),
        "T1",
        minutes=0.3,
    ),
    "dwi": Protocol(
        "ep2d_diff_3scan_trace_p2",
        ("EP",),
        ("SK", "SP"),
        ("PFP", "FS"),
        5600,
        92,
        None,
        90,
        64,
        "*ep_b{b}t",
        ("ORIGINAL", "PRIMARY", "DIFFUSION", "TRACEW", "ND", "NORM"),
        "DIFFUSION",
        minutes=1.5,
    ),
    "map": Protocol(
        "ep2d_diff_3scan_trace_p2_ADC",
        ("EP",),
        ("SK", "SP"),
        ("PFP", "FS"),
        5600,
        92,
        None,
        90,
        64,
        "*ep_b0_1000",
        ("DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND", "NORM"),
        "DIFFUSION",
        minutes=0.1,
    ),
    "t2": Protocol(
        "t2_tse_tra_512",
        ("SE",),
        ("SK", "SP", "OSP"),
        ("FC",),
        6000,
        99,
        None,
        150,
        17,
        "*tse2d1_17",
        _M,
        "T2",
    ),
    "coronal": replace(_SIEMENS_FLAIR, name="t2_tirm_cor_dark-fluid"),
    "mosaic": Protocol(
        "ep2d_bold_moco_p2",
        ("EP",),
        ("SK",),
        ("FS",),
        2000,
        30,
        None,
        90,
        1,
        "*epfid2d1_64",
        ("ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"),
        "T2_STAR",
        minutes=0.2,
    ),
}
