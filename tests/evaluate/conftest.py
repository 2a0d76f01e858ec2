"""What makes evaluation quick to test: no network, and pages without plots."""

from __future__ import annotations

import pytest

from gliosight.infer.model import Model, load_model
from tests.cli.conftest import StubEngine


@pytest.fixture(scope="session")
def model() -> Model:
    """The shipped model's card; what is bright in FLAIR is tumour."""
    return Model(load_model().card, {"joint": StubEngine()})


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing them takes longer than all the rest of a page; `test_page` looks at them once."""
    monkeypatch.setattr("gliosight.evaluate.page.plots_of", lambda _: [])
