"""Help: every command, option and exit code is in it."""

from __future__ import annotations

from importlib import import_module

import click
import pytest

from gliosight.cli import COMMANDS, run
from gliosight.errors import GliosightError


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_option_and_explains_it(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, "-h"]) == 0
    printed = capsys.readouterr().out
    assert f"gliosight {command}" in printed
    assert "\\b" not in printed
    parameters = import_module(f"gliosight.cli.{command.replace('-', '_')}").command.params
    for one in parameters:
        if isinstance(one, click.Option):
            assert one.help, one.name
            for name in (*one.opts, *one.secondary_opts):
                assert name in printed, name


def test_examples_stand_on_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["analyze", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  gliosight analyze flair.nii.gz -o result" in lines


@pytest.mark.parametrize("call", [[], ["--help"], ["-h"], ["--debug"]])
def test_help_lists_the_commands_and_every_exit_code(
    call: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(call) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    for command, text in COMMANDS.items():
        assert f"  {command} " in captured.out
        assert text in captured.out
    for code in [0, 130, *(one.exit_code for one in GliosightError.__subclasses__())]:
        assert f" {code} " in captured.out.replace("\n", " ")
    assert "Research use only" in captured.out
