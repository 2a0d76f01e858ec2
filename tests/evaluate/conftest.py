"""What makes evaluation quick to test: no network, and pages without plots."""

from __future__ import annotations

import pytest

from gliosight.infer.model import Model


@pytest.fixture(scope="session")
def model(stub_model: Model) -> Model:
    """The shipped model's card; what is bright in FLAIR is tumour."""
    return stub_model


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing them takes longer than all the rest of a page; `test_page` looks at them once."""
    monkeypatch.setattr("gliosight.evaluate.page.plots_of", lambda _: [])
