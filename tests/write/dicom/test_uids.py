"""UIDs: the same for the same, others for anything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from gliosight.analysis import Analysis, Status
from gliosight.write.dicom.uids import uid_from, uids_of
from gliosight.write.result import result_of
from tests.write.dicom.builders import SHAPE, blobs, make_analysis, make_source


def _settings(analysis: Analysis, **changes: object) -> Analysis:
    made_by = analysis.provenance
    return replace(analysis, provenance=replace(made_by, settings={**made_by.settings, **changes}))


def _made_by(**changes: str) -> Callable[[Analysis], Analysis]:
    return lambda one: replace(one, provenance=replace(one.provenance, **changes))


def _not_assessed(one: Analysis) -> Analysis:
    return replace(one, decision=replace(one.decision, status=Status.NOT_ASSESSED))


OTHER = {
    "threshold": lambda one: _settings(one, decision={"pixel_threshold": 0.6}),
    "setting that was not there": lambda one: _settings(one, flip=True),
    "model": _made_by(model_sha256="1f" * 32),
    "version": _made_by(version="0.1.1"),
    "engine, whose last digits differ": _made_by(engine="openvino"),
    "precision": _made_by(precision="int8"),
    "mask": lambda _: make_analysis(make_source(), blobs(size=4)),
    "source instances": lambda _: make_analysis(make_source(SOPInstanceUID="1.2.3")),
    "frames of one instance": lambda _: make_analysis(make_source(enhanced=1)),
    "status with the same empty mask": _not_assessed,
}
SAME = {
    "run again": lambda one: one,
    "built again": lambda _: make_analysis(make_source()),
    "threads": lambda one: _settings(one, threads=1),
    "times": lambda one: replace(one, provenance=replace(one.provenance, timings_ms={"read": 3.0})),
}


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER.keys())
def test_another_thing_has_another_uid(change: Callable[[Analysis], Analysis]) -> None:
    analysis = make_analysis(make_source())
    if change is _not_assessed:
        analysis = make_analysis(make_source(), np.zeros(SHAPE, dtype=bool))
    ours, theirs = (uids_of(one, "segmentation") for one in (analysis, change(analysis)))
    assert ours.instance != theirs.instance
    assert ours.series != theirs.series
    assert ours.dimensions != theirs.dimensions


@pytest.mark.parametrize("change", SAME.values(), ids=SAME.keys())
def test_the_same_thing_has_the_same_uid(change: Callable[[Analysis], Analysis]) -> None:
    analysis = make_analysis(make_source())
    assert uids_of(change(analysis), "report") == uids_of(analysis, "report")


def test_kinds_and_parts_all_differ() -> None:
    analysis = make_analysis(make_source())
    made = [uids_of(analysis, kind) for kind in ("segmentation", "probability", "report")]
    every = [uid for one in made for uid in (one.instance, one.series, one.dimensions, one.group)]
    assert len(set(every)) == len(every)


def test_a_result_read_back_from_json_gives_the_same_uids() -> None:
    """What ``gliosight export`` starts from: tuples became lists, numbers have six digits."""
    analysis = make_analysis(
        make_source(), settings={"decision": {"a": 1 / 3, "b": (1, 2.0)}, "flip": False}
    )
    record = json.loads(json.dumps(result_of(analysis, {})))["provenance"]
    again = replace(analysis, provenance=replace(analysis.provenance, settings=record["settings"]))
    assert uids_of(again, "segmentation") == uids_of(analysis, "segmentation")


def test_a_uid_is_valid() -> None:
    uid = uid_from("anything")
    assert uid.startswith("2.25.")
    assert len(uid) <= 64
    assert not uid.removeprefix("2.25.").startswith("0")
    assert uid.replace(".", "").isdigit()


def test_a_name_that_is_no_utf8_is_no_obstacle() -> None:
    analysis = _settings(make_analysis(make_source()), model="caf\udce9")
    assert uids_of(analysis, "report").instance.startswith("2.25.")
