"""``gliosight models``: what is shipped (layer: cli)."""

from __future__ import annotations

import click

from gliosight.card import read_card
from gliosight.cli.output import print_text
from gliosight.infer.model import DEFAULT_MODEL, shipped_models


@click.command("models")
def command() -> None:
    """List the shipped models."""
    for name, path in shipped_models().items():
        card = read_card(path)
        default = " (default)" if name == DEFAULT_MODEL else ""
        print_text(f"{name}{default}  {card.kind}  sha256 {card.sha256[:12]}")
        print_text(f"  {card.about.get('summary', '')}")
