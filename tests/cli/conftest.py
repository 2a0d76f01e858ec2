"""A small study to analyse, and analysing without the network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gliosight import pipeline
from gliosight.phantom import Phantom, PhantomSpec, make_phantom, write_nifti
from tests.write.builders import make_analysis

pytest.register_assert_rewrite("tests.cli.asserting")


@pytest.fixture(scope="session")
def thin() -> Phantom:
    """As few slices as still show a lesion: what is tested here is not the network."""
    return make_phantom(PhantomSpec(seed=2, slices=5, lesion_side="right"))


@pytest.fixture(scope="session")
def study(thin: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It as NIfTI, a file for each sequence."""
    return write_nifti(thin, tmp_path_factory.mktemp("nifti"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing and printing alone: the network is not run."""

    def fake(study: Any, *_: object, **__: object) -> Any:
        analysis = make_analysis((5, 24, 20), study_id=study.study_id)
        placed = replace(analysis.study, source={"path": study.source["path"]})
        return replace(analysis, study=placed, flags=study.flags)

    monkeypatch.setattr(pipeline, "analyze_study", fake)
