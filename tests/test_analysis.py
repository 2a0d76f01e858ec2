"""Which studies a person should look at first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gliosight.analysis import Decision, Outline, Status


def make_decision(
    status: Status, probability: float | None, softness: float | None = None
) -> Decision:
    """A decision without a mask worth looking at."""
    return Decision(
        mask=np.zeros((1, 1, 1), bool),
        slice_probabilities=np.zeros(1, np.float32),
        probability=probability,
        prevalence=0.8,
        uncertain_from=0.1,
        found_from=0.9,
        slice_threshold=0.5,
        status=status,
        reason="A test.",
        outline=None if softness is None else Outline(softness),
    )


def test_doubt_orders_studies() -> None:
    worst_first = [
        make_decision(Status.NOT_ASSESSED, None),
        make_decision(Status.UNCERTAIN, 0.52, 0.1),
        make_decision(Status.UNCERTAIN, 0.2, 0.9),
        make_decision(Status.UNCERTAIN, 0.999, 0.9),  # by a flag
        make_decision(Status.FOUND, 0.91, 1.0),
        make_decision(Status.FOUND, 0.91, 0.3),
        make_decision(Status.FOUND, 0.9999, 0.1),
        make_decision(Status.NOT_FOUND, 0.09),
        make_decision(Status.NOT_FOUND, 0.001),
    ]
    doubts = [decision.doubt for decision in worst_first]
    assert doubts == sorted(doubts, reverse=True)
    assert len(set(doubts)) == len(doubts)
    assert all(0 <= doubt <= 4 for doubt in doubts)
    # An outline of unlimited softness stays below what is uncertain.
    soft = make_decision(Status.FOUND, 0.95, 50.0)
    assert soft.doubt <= 2 < make_decision(Status.UNCERTAIN, 0.1).doubt
    assert replace(soft, outline=None).doubt == 2.0  # a model that outlines nothing
