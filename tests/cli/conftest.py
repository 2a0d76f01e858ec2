"""Calls of the command line, a small study to analyse, and analysing without the network."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from gliosight import pipeline
from gliosight.cli import run
from gliosight.phantom import Phantom, PhantomSpec, make_phantom, write_nifti
from gliosight.study import Source
from tests.write.builders import make_analysis


@dataclass(frozen=True)
class Done:
    """What a call left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line on stderr; nothing else was printed."""
        (line,) = self.err.strip().splitlines()
        assert line.startswith("error: ")
        assert self.out == ""
        return line

    @property
    def value(self) -> Any:
        """The JSON value that was printed."""
        return json.loads(self.out)


Call: TypeAlias = Callable[..., Done]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line in this process."""

    def call(*arguments: object) -> Done:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call


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
    """Reading, writing and printing alone: the analysis is that of a small drawn head."""

    def fake(study: Any, *_: object, **__: object) -> Any:
        analysis = make_analysis((5, 24, 20), study_id=study.study_id)
        placed = replace(analysis.study, source=Source(path=study.source.path))
        return replace(analysis, study=placed, flags=study.flags)

    monkeypatch.setattr(pipeline.Settings, "load", lambda _: None)
    monkeypatch.setattr(pipeline, "analyze_study", fake)
