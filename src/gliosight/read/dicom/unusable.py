"""The rules for what is never analysed as an image (read stage, DICOM, a table of `rules`).

In: conditions of `matching`. Out: `UNUSABLE`, in the order in which they are tried, before any sequence: no
MR, captures, mosaics, stored masks, localizers, field maps, phase, maps, projections, diffusion, perfusion,
angiography. Where a word of the description alone excludes, the user may name the series all the same (see
`Identified.but_for_a_word`).
"""

from __future__ import annotations

from gliosight.read.dicom import matching as of
from gliosight.read.dicom.rule import Rule


def _never(name: str, kind: str, test: of.Condition, why: str) -> Rule:
    """A rule for what is never analysed."""
    return Rule(name, kind, None, False, test, "certain", why)


_ADDED = "the description says {kind}, {values}"

UNUSABLE: tuple[Rule, ...] = (
    # No images of a head by magnetic resonance, or none that an image is in.
    _never(
        "secondary-capture",
        "secondary capture",
        of.any_of(of.is_captured, of.image_type("SCREEN SAVE", "SCREENSHOT", "SCREEN_SAVE")),
        "a screenshot or capture, {image_type}",
    ),
    _never("not-mr", "{modality}", of.is_no_mr, "{modality}, no MR image"),
    _never("spectroscopy", "spectroscopy", of.hints("spectroscopy"), _ADDED),
    _never("mosaic", "mosaic", of.image_type("MOSAIC"), "slices tiled into one picture"),
    _never("mask-one-bit", "stored mask", of.within("bits_stored", 1, 1), "pixels of one bit"),
    _never(
        "mask-image-type",
        "stored mask",
        of.image_type(*of.MASKS),
        "no image but a mask, {image_type}",
    ),
    _never(
        "mask-word", "stored mask", of.hints("mask"), "the description says mask, ROI or labels"
    ),
    _never(
        "localizer",
        "localizer",
        of.any_of(of.image_type("LOCALIZER"), of.hints("localizer", "calibration"), of.is_scout),
        "for planning: {localizer}",
    ),
    _never(
        "field-map",
        "field map",
        of.any_of(of.image_type(*of.FIELDS), of.hints("field map"), of.beside("field map")),
        "of the magnetic field, or taken to map it: {image_type}",
    ),
    _never(
        "phase",
        "phase image",
        of.one_of("component", "P", "R", "I"),
        "phase, real or imaginary part, {image_type}",
    ),
    _never(
        "derived-map",
        "derived map",
        of.any_of(of.image_type(*of.MAPS), of.is_map, of.hints("map", "MP2RAGE")),
        "computed values, not an image: {image_type}",
    ),
    _never(
        "projection",
        "projection or subtraction",
        of.any_of(of.image_type(*of.PROJECTIONS), of.hints("projection"), of.is_subtracted),
        "computed from several images: {image_type}",
    ),
    _never(
        "diffusion",
        "diffusion",
        of.any_of(
            of.within("b_value", 1),
            of.image_type(*of.DIFFUSION),
            of.coded("variant", "DIFFUSION"),
            of.hints("diffusion"),
        ),
        "diffusion weighting, {values}",
    ),
    _never(
        "echo-planar",
        "perfusion or EPI",
        of.any_of(of.coded("scanning", "EP"), of.image_type(*of.PERFUSION), of.hints("perfusion")),
        "echo-planar or perfusion, {values}",
    ),
    _never(
        "dynamic",
        "dynamic series",
        of.within("temporal_count", of.DYNAMIC_FROM),
        "{temporal_count} times of one place",
    ),
    _never(
        "angiography",
        "angiography",
        of.any_of(
            of.flagged("angiographic"), of.hints("angiography"), of.image_type("ANGIO", "TOF")
        ),
        "made to show vessels, {values}",
    ),
    _never(
        "derived-without-timing",
        "processed image or stored mask",
        of.all_of(of.flagged("derived"), of.lacks("repetition"), of.lacks("echo")),
        "derived, and neither TR nor TE although it claims to be MR",
    ),
)
