"""Write docs/cli.md from the real ``--help``: python docs/make_cli.py."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import click

from gliosight.cli import COMMANDS, cli
from gliosight.errors import GliosightError

PAGE = Path(__file__).resolve().parent / "cli.md"
WIDTH = 80

INTRODUCTION = """\
# The command line

For everybody who calls `gliosight` in a terminal or a program.

Research use only. This page is made from `--help` by `python docs/make_cli.py`; do not edit it.

The answer goes to stdout; errors and progress go to stderr. With `--json` stdout holds one JSON value and
nothing else, also for an error; `gliosight schema --answer` prints its JSON Schema. Only an interrupt (130)
leaves stdout empty: it says so in one line on stderr. An error is one line,
`error: WHAT (WHERE): WHAT TO DO`; `--debug`, anywhere on the line, adds the traceback. With `--json` every
error has the same form, also one of usage:

    {"error": {"kind": "usage", "exit_code": 2, "what": "...", "where": null, "remedy": "..."}}

and in the list `errors` of several studies the same keys, with `study`. Output that nobody reads any more
(`| head`) stops no work, nor do standard streams that are closed; where the answer cannot be written (a full
disk), the result folders are whole and the exit code is 7. Too little memory, processes or open files: 6, or
8 where the engine says so. Progress is shown only where stderr is a terminal. STUDY is a path: `-` does not
mean stdin.
"""

SEVERAL = """\
## Completion with the tab key

The shell completes commands, options and paths after this line. Added to the file beside it, it holds for
each new terminal.

| shell | line | file |
| --- | --- | --- |
| bash, from 4.4 on | `eval "$(_GLIOSIGHT_COMPLETE=bash_source gliosight)"` | `~/.bashrc` |
| zsh | `eval "$(_GLIOSIGHT_COMPLETE=zsh_source gliosight)"` | `~/.zshrc` |
| fish | `_GLIOSIGHT_COMPLETE=fish_source gliosight \\| source` | `~/.config/fish/config.fish` |

The shell has to find `gliosight` by its name, so activate its environment first. The tests run the line for
bash; those for zsh and fish are click's own and have not been tried here.

## Several studies

`gliosight analyze` takes several studies, or a folder of them. Each gets its own result folder, and
`studies.csv` has a row for each, also for those that failed. One that fails does not stop the others; the
exit code is that of the first that failed. A run that is interrupted keeps the result folders that are
finished, and writes no table. Where none could be analysed, the table is written only into a folder that `-o`
names. An earlier `studies.csv` is replaced only with `--overwrite`, like an earlier result.
What a result folder holds: [result.md](result.md).
"""


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, _help(cli, "gliosight", None)]
    top = click.Context(cli, info_name="gliosight", **_SETTINGS)
    for name in COMMANDS:
        command = import_module(f"gliosight.cli.{name.replace('-', '_')}").command
        parts.append(f"## gliosight {name}\n")
        parts.append(_help(command, name, top))
        if isinstance(command, click.Group):
            inner = click.Context(command, info_name=name, parent=top, **_SETTINGS)
            for part in command.list_commands(inner):
                parts.append(f"### gliosight {name} {part}\n")
                parts.append(_help(command.commands[part], part, inner))
    return "\n".join([*parts, SEVERAL, _codes()])


_SETTINGS = {
    "help_option_names": ["-h", "--help"],
    "terminal_width": WIDTH,
    "max_content_width": WIDTH,
}


def _help(command: click.Command, name: str, parent: click.Context | None) -> str:
    context = click.Context(command, info_name=name, parent=parent, **_SETTINGS)
    lines = (one.rstrip() for one in command.get_help(context).splitlines())
    return "```text\n" + "\n".join(lines) + "\n```\n"


SIGNALS = """
A signal that arrives before the interpreter has reached the tool's first line ends the process with the
system's own code, as any program: `128 + number` in a shell.
"""


def _codes() -> str:
    rows = [(0, "", "done, whatever the verdict, also *not assessed*: read `status`")]
    rows += [
        (kind.exit_code, f"`{kind.kind}`", (kind.__doc__ or "").splitlines()[0].rstrip("."))
        for kind in GliosightError.__subclasses__()
    ]
    rows.append((130, "", "interrupted"))
    table = "".join(f"| {code} | {kind} | {text} |\n" for code, kind, text in rows)
    return f"## Exit codes\n\n| code | `kind` | meaning |\n| --- | --- | --- |\n{table}{SIGNALS}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
