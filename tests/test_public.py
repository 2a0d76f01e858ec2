"""The public surface: what is promised is there, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

import gliosight
from gliosight import Sequence, Status, analyze
from gliosight.errors import GliosightError, UsageError
from gliosight.phantom import Phantom
from gliosight.pipeline import Settings


def test_every_public_name_loads() -> None:
    for name in gliosight.__all__:
        assert getattr(gliosight, name) is not None
    assert dir(gliosight) == sorted(gliosight.__all__)
    with pytest.raises(AttributeError, match="nonesuch"):
        gliosight.nonesuch  # noqa: B018


def test_analyze_takes_arrays_with_and_without_an_affine(small_phantom: Phantom) -> None:
    flair = small_phantom.sequences[Sequence.FLAIR]
    bare = analyze(flair)
    assert bare.status is Status.FOUND
    assert bare.volume_ml is None
    assert bare.findings[0].side == "unknown"
    named = {one.value: values for one, values in small_phantom.sequences.items()}
    placed = analyze(named, affine=small_phantom.geometry.affine)
    assert placed.findings[0].side == "right"
    assert placed.volume_ml == pytest.approx(
        sum(one.volume_ml or 0 for one in placed.findings), rel=1e-6
    )
    assert placed.provenance.channels == ("T1", "FLAIR", "T1C")


def test_analyze_says_what_it_does_not_take() -> None:
    with pytest.raises(UsageError, match="FLAIR"):
        analyze({"T2": np.zeros((3, 8, 8))})
    with pytest.raises(UsageError, match="affine"):
        analyze("somewhere", affine=np.eye(4))
    with pytest.raises(UsageError, match="threads"):
        Settings(threads=0)


def test_a_flat_image_is_not_assessed() -> None:
    analysis = analyze(np.full((4, 64, 64), 12.0))
    assert analysis.status is Status.NOT_ASSESSED
    assert analysis.decision.score is None
    assert [one.code for one in analysis.flags if one.code == "NO_CONTRAST"]


def test_errors_have_codes_and_one_line() -> None:
    codes = {one.__name__: one.exit_code for one in _tree(GliosightError)}
    assert codes == {
        "UsageError": 2,
        "NothingReadableError": 3,
        "DamagedInputError": 4,
        "UnsupportedInputError": 5,
        "LimitExceededError": 6,
        "CannotWriteError": 7,
        "ModelError": 8,
        "PeerError": 9,
        "InternalError": 70,
    }
    line = UsageError("a\nb\x1b[31m", where="c\u202e", remedy="d").line()
    assert line == "a\\nb\\x1b[31m (c\\u202e): d"


def _tree(kind: type[GliosightError]) -> list[type[GliosightError]]:
    return [one for sub in kind.__subclasses__() for one in (sub, *_tree(sub))]


def test_a_name_that_is_no_utf8_is_a_name_all_the_same(small_phantom: Phantom) -> None:
    from dataclasses import replace

    study = replace(small_phantom.study(), study_id="M\udcfc")  # a lone surrogate, as from Latin-1
    analysis = analyze(study)
    assert analysis.findings
    assert analysis.findings[0].tracking_uid.startswith("2.25.")


def test_an_affine_for_something_that_has_one_is_refused(small_phantom: Phantom) -> None:
    with pytest.raises(UsageError, match="arrays only"):
        analyze(small_phantom.study(), affine=np.eye(4))
    with pytest.raises(UsageError, match="list"):
        analyze([[1, 2]])  # type: ignore[arg-type]
