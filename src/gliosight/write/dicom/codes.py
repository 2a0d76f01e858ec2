"""The codes of our DICOM objects (stage: write); apart because the table in docs/dicom.md is made from it.

They come from pydicom's dictionaries by their names in the standard, so that a wrong number cannot be typed;
what is not in them stands below with its source.
"""

from __future__ import annotations

from typing import Any

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

ABNORMAL = codes.SCT.MorphologicallyAbnormalStructure
# CID 7159 has no glioma: the word stands in the segment's label.
PRIMARY_NEOPLASM = codes.SCT.NeoplasmPrimary
TUMOUR = codes.SCT.Tumor
ARTIFICIAL_INTELLIGENCE = codes.DCM.ArtificialIntelligence
BRAIN = codes.SCT.Brain
BRAIN_MRI = codes.LN.BrainMRI

VOLUME = codes.SCT.Volume
VOLUME_METHOD = codes.DCM.SumOfSegmentedVoxelMethodForVolume
LONG_AXIS = codes.SCT.LongAxis
SHORT_AXIS = codes.SCT.ShortAxis
AREA = codes.SCT.Area
MAXIMUM = codes.SCT.Maximum
CERTAINTY = codes.DCM.CertaintyOfFinding

PRESENCE = codes.DCM.PresenceOfProperty
PRESENT = codes.SCT.Present
ABSENT = codes.SCT.Absent
UNDETERMINED = codes.SCT.Undetermined
COMMENT = codes.DCM.Comment
DEVICE = codes.DCM.Device

# UCUM's own symbol; pydicom's dictionary knows only cubic centimetres.
MILLILITRE = Code("ml", "UCUM", "milliliter")
MILLIMETRE = codes.UCUM.Millimeter
SQUARE_MILLIMETRE = codes.UCUM.SquareMillimeter
PERCENT = codes.UCUM.Percent

# The patient's side of a finding. A finding on the midline has none; what is not known is not coded.
LATERALITY: dict[str, Any] = {
    "left": codes.SCT.Left,
    "right": codes.SCT.Right,
    "bilateral": codes.SCT.Bilateral,
}
