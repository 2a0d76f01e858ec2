"""The rules themselves: each of them is met, and their reasons give values and quote no description."""

from __future__ import annotations

import pytest

from gliosight.read.dicom.acquisition import frames_of
from gliosight.read.dicom.rules import RULES, fluid_ratio
from gliosight.study import MrSequence

from .builders_series import FLAIR, STRIPPED, T1_SE, identified, instance
from .test_rules_images import IMAGES
from .test_rules_never import NEVER


def test_why_gives_the_values_and_the_contradiction() -> None:
    found = identified(**FLAIR, SeriesDescription="T1 tra")
    assert "inversion recovery" in found.why
    assert "TI 2500 ms, TE 93 ms, TR 9000 ms" in found.why
    assert "the description says T1, which these values contradict" in found.why
    assert "contradict" not in identified(**FLAIR, SeriesDescription="T2_FLAIR").why


def test_why_never_quotes_a_description() -> None:
    for values in (FLAIR, T1_SE, {}, {"ImageType": ["DERIVED", "SECONDARY", "MIP"]}):
        found = identified(**values, SeriesDescription="Doe Jane FLAIR", ProtocolName="Doe Jane")
        assert "Doe" not in found.why + found.kind + found.rule


def test_every_rule_has_a_name_of_its_own_and_the_last_one_takes_all() -> None:
    names = [one.name for one in RULES]
    assert len(set(names)) == len(names)
    assert all(
        one.sequence in (None, MrSequence.FLAIR, MrSequence.T1)
        and (one.usable or one.sequence is None)
        for one in RULES
    )
    assert identified(RepetitionTime=1).rule == "other"


def test_every_rule_is_met_by_the_tables() -> None:
    met = {identified(**one[1]).rule.split(" + ")[0] for one in (*IMAGES, *NEVER)}
    more = [
        {"SeriesDescription": "svs_se_30", **T1_SE},
        {**FLAIR, "SeriesDescription": "PSIR"},
        {**FLAIR, "RepetitionTime": 7500, "InversionTime": 3100, "SeriesDescription": "flair"},
        {**STRIPPED, "SeriesDescription": "T1 axial"},
        {**STRIPPED, "SeriesDescription": "T2 axial"},
        {**STRIPPED, "SeriesDescription": "PD"},
        {"ScanningSequence": "GR", "SequenceVariant": "MP", "RepetitionTime": 2000, "EchoTime": 3}
        | {"SeriesDescription": "T1 mprage"},
        {"ScanningSequence": "GR", "RepetitionTime": 7, "EchoTime": 3, "FlipAngle": 6}
        | {"SeriesDescription": "T1"},
        {"ScanningSequence": "GR", "RepetitionTime": 250, "EchoTime": 2.5, "FlipAngle": 70},
        {"ScanningSequence": "GR", "RepetitionTime": 900, "EchoTime": 5, "FlipAngle": 10},
        {"ScanningSequence": "RM", "RepetitionTime": 500, "EchoTime": 9, "SeriesDescription": "T1"},
        {"RepetitionTime": 1},
    ]
    met |= {identified(**one).rule.split(" + ")[0] for one in more}
    assert met == {one.name for one in RULES}


def test_fluid_is_nulled_as_textbooks_say() -> None:
    # TR 9000 ms, TI 2500 ms: Siemens' own protocol at 3 T.
    ratio = fluid_ratio(frames_of(instance(**FLAIR))[0].acquisition)
    assert ratio == pytest.approx(1.0, abs=0.03)
