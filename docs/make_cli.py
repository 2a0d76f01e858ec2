"""Write docs/cli.md from the real ``--help``: python docs/make_cli.py."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import click

from gliosight.archive.entries import ALL_FAILED, SOME_FAILED
from gliosight.cli import COMMANDS, cli
from gliosight.errors import GliosightError

PAGE = Path(__file__).resolve().parent / "cli.md"
WIDTH = 80

INTRODUCTION = """\
# The command line

For everybody who calls `gliosight` in a terminal or a program.

Research use only. This page is made from `--help` by `python docs/make_cli.py`; do not edit it.

- The answer goes to stdout; errors and progress go to stderr. Progress is shown only if stderr is a
  terminal.
- An error is one line: `error: WHAT (WHERE): WHAT TO DO`. `--debug`, anywhere on the line, adds the
  traceback.
- With `--json`, stdout holds one JSON value and nothing else. `gliosight schema --answer` prints its JSON
  Schema. All errors, also those of usage, have this form:

      {"error": {"kind": "usage", "exit_code": 2, "what": "...", "where": null, "remedy": "..."}}

  With several studies, the list `errors` holds objects with the same keys and `study`. Only an interrupt
  (130) leaves stdout empty: it is reported in one line on stderr.
- If nobody reads the output any more (`| head`), or if a standard stream is closed, the work continues. If
  the answer cannot be written (a full disk), the result folders are complete and the exit code is 7.
- Too little memory, or too few processes or open files: the exit code is 6, or 8 if the engine reports it.
- STUDY is a path: `-` does not mean stdin.
"""

SEVERAL = """\
## Completion with the tab key

Type the line for your shell; from then on it completes commands, options and paths. Add the line to the file
to have completion in every new terminal.

| shell | line | file |
| --- | --- | --- |
| bash, from 4.4 on | `eval "$(_GLIOSIGHT_COMPLETE=bash_source gliosight)"` | `~/.bashrc` |
| zsh | `eval "$(_GLIOSIGHT_COMPLETE=zsh_source gliosight)"` | `~/.zshrc` |
| fish | `_GLIOSIGHT_COMPLETE=fish_source gliosight \\| source` | `~/.config/fish/config.fish` |

The shell must find the command `gliosight`, so activate its environment first. The tests run the line for
bash; those for zsh and fish are click's own and have not been tried here.

## Several studies

`gliosight analyze` takes several studies, or a folder of them. Each study gets its own result folder
([what it holds](result.md)). `studies.csv` has a row for each, also for those that failed, and `index.html`
shows all of them. This is what [`gliosight batch`](archive.md) does, here in one process and with a summary
of each study.

- A study that fails does not stop the others. The exit code is then 10, or 11 if all have failed.
- The same command again keeps the studies that are finished, and tries again those that failed.
- `--overwrite` analyses finished studies again. It is required with another model or other settings.
- If no study was found, the table is written only if `-o` names a folder for it.
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
A signal that arrives while Python is still starting ends the process with the system's own code, as for any
program: `128 + number` in a shell.
"""


def _codes() -> str:
    rows = [(0, "", "done, whatever the verdict, also *not assessed*: read `status`")]
    rows += [
        (kind.exit_code, f"`{kind.kind}`", (kind.__doc__ or "").splitlines()[0].rstrip("."))
        for kind in GliosightError.__subclasses__()
    ]
    rows.append((SOME_FAILED, "", "of several studies, some failed"))
    rows.append((ALL_FAILED, "", "of several studies, all failed"))
    rows.append((130, "", "interrupted"))
    table = "".join(f"| {code} | {kind} | {text} |\n" for code, kind, text in rows)
    return f"## Exit codes\n\n| code | `kind` | meaning |\n| --- | --- | --- |\n{table}{SIGNALS}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
