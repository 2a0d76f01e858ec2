"""``gliosight models``: what is shipped, and what a card says of its model (layer: cli)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from gliosight.analysis import RESEARCH_USE
from gliosight.card import ModelCard, read_card
from gliosight.cli.output import print_json, print_text
from gliosight.errors import printable
from gliosight.infer.model import DEFAULT_MODEL, find_card, shipped_models


@click.command("models")
@click.argument("model", required=False, metavar="[NAME|PATH]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value instead of text.")
def command(model: str | None, as_json: bool) -> None:
    """List the shipped models, or describe one: licence, training data, digests.

    PATH is a model's card, or the folder of a finished training run.
    """
    if model is not None:
        card = read_card(find_card(model))
        if as_json:
            print_json(_record(card))
        else:
            _describe(card)
        return
    cards = [read_card(path) for path in shipped_models().values()]
    if as_json:
        print_json({"models": [_record(card) for card in cards]})
        return
    for card in cards:
        print_text(f"{_title(card)}  sha256 {card.sha256[:12]}")
        print_text(f"  {card.about.get('summary', '')}")


def _title(card: ModelCard) -> str:
    default = " (default)" if card.name == DEFAULT_MODEL else ""
    return f"{printable(card.name)}{default}  {card.kind}"


def _record(card: ModelCard) -> dict[str, Any]:
    """The card, and the digest by which results name the model."""
    return {"default": card.name == DEFAULT_MODEL, "sha256": card.sha256, **asdict(card)}


def _describe(card: ModelCard) -> None:
    about = card.about
    training = about.get("training")
    training = training if isinstance(training, Mapping) else {}
    rows = {
        "": about.get("summary"),
        "licence": about.get("licence"),
        "why": about.get("licence_note"),
        "trained on": training.get("data"),
        "patients": training.get("patients"),
        "network": about.get("network"),
        "made": about.get("made"),
        "sha256": card.sha256,
    }
    print_text(_title(card))
    for name, value in rows.items():
        if value is not None:
            print_text(printable(f"  {name}: {value}" if name else f"  {value}"))
    print_text(RESEARCH_USE)
