"""``python -m gliosight`` (layer: cli)."""

from gliosight.cli import main

main()
