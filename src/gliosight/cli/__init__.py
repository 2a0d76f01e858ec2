"""The command line: arguments in, lines out, no logic beyond (layer: cli).

One module per command, imported when the command is called. `main` turns errors into one line and an exit
code; the codes are those of `gliosight.errors`.
"""

from __future__ import annotations

import sys

INTERRUPTED = "interrupted; nothing half-written was left"

try:
    import contextlib
    import signal
    import time
    import traceback
    from collections.abc import Iterator
    from importlib import import_module
    from pathlib import Path

    import click

    from gliosight import __version__
    from gliosight.cli.output import print_error
    from gliosight.errors import GliosightError, InternalError, UsageError
except KeyboardInterrupt:  # whoever is quick with ctrl-C gets no traceback of our imports
    print(INTERRUPTED, file=sys.stderr)
    sys.exit(130)

COMMANDS = {
    "analyze": "Find and outline tumour in one study or several.",
    "inspect": "List what is there, and what analyze would take.",
    "demo": "Analyse a built-in synthetic study.",
    "phantom": "Write synthetic studies with known truth.",
    "models": "List the shipped models.",
    "data": "Index, look at, audit and split a data set for training.",
    "train": "Train a network (extra: train).",
    "export": "Make SEG, SR or NIfTI of a result; a model of runs.",
    "evaluate": "Score a model, a run or anybody's masks (extra: evaluate).",
    "compare-models": "Hold two evaluations against each other (extra: evaluate).",
}

# Signals that ask a process to end; Windows has no SIGHUP.
REQUESTS = ("SIGINT", "SIGTERM", "SIGHUP")
# One request often comes twice within this time (seconds): by itself, and passed on by what started us.
SAME_REQUEST = 1.0

EPILOG = """\b
Exit codes: 0 done, whatever was found; 2 wrong usage; 3 nothing readable; 4 damaged input;
5 not supported; 6 limit exceeded; 7 cannot write; 8 model or engine unusable; 9 network peer
failed; 70 a bug of ours; 130 interrupted.

Research use only. Not a medical device; not for diagnosis or treatment decisions."""


class LazyGroup(click.Group):
    """Imports a command's module when it is called, so that ``--help`` is instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,
        cmd_name: str,
    ) -> click.Command | None:
        """Import one command, or nothing if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(
            f"gliosight.cli.{cmd_name.replace('-', '_')}"
        ).command
        return command

    def format_commands(
        self,
        ctx: click.Context,
        formatter: click.HelpFormatter,
    ) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    epilog=EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="gliosight")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
def cli() -> None:
    """Find and outline lower-grade glioma in brain MRI.

    Try it without any data: gliosight demo
    """
    ctx = click.get_current_context()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the documented code."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        with _ending_as_interrupts():
            code = run(given)
    except KeyboardInterrupt:  # just before or just after
        code = _interrupted()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    as_json = "--json" in arguments
    debug = "--debug" in arguments
    # --debug is taken anywhere, since it is added to a command that has just failed.
    arguments = [one for one in arguments if one != "--debug"]
    found: GliosightError
    cause: BaseException
    try:
        code = cli.main(arguments, prog_name="gliosight", standalone_mode=False)
        if not isinstance(code, GliosightError):
            return code if isinstance(code, int) else 0
        # A bug of ours beside an answer, which is on stdout already.
        found, cause, as_json = code, code, False
    except (click.exceptions.Abort, KeyboardInterrupt):  # Abort is click's word for ctrl-C
        return _interrupted()
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        usage = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        found = UsageError(
            error.format_message().rstrip("."), remedy=f"see {usage or 'gliosight'} --help"
        )
        cause = error
    except GliosightError as error:
        found, cause = error, error
    except SystemExit as error:
        # Else it is click's answer when whoever read the help has had enough.
        return _interrupted() if _was_interrupt(error) else 0
    except Exception as error:  # noqa: BLE001 - the last line of defence: a bug of ours
        found = InternalError(
            f"{type(error).__name__}: {error}",
            where=_place(error),
            remedy="a bug of ours: please report this line, and run again with --debug",
        )
        cause = error
    if _was_interrupt(cause):
        return _interrupted()
    if debug:
        traceback.print_exception(cause)
    print_error(found, as_json=as_json)
    return found.exit_code


@contextlib.contextmanager
def _ending_as_interrupts() -> Iterator[None]:
    """Within it every request to end is an interrupt as ctrl-C is, so that all is cleared away.

    Batch systems, containers and ``timeout`` send SIGTERM, a closed terminal sends SIGHUP. What whoever
    started us chose to ignore (``nohup``, a job in the background) stays ignored.
    """
    before: float | None = None

    def interrupt(*_: object) -> None:
        nonlocal before
        now = time.monotonic()
        if before is None or now - before > SAME_REQUEST:
            before = now
            raise KeyboardInterrupt

    usual = (signal.SIG_DFL, signal.default_int_handler)
    numbers = [getattr(signal, one) for one in REQUESTS if hasattr(signal, one)]
    replaced = {one: signal.getsignal(one) for one in numbers if signal.getsignal(one) in usual}
    for one in replaced:
        signal.signal(one, interrupt)
    try:
        yield
    finally:
        for one, handler in replaced.items():
            signal.signal(one, handler)


def _interrupted() -> int:
    with contextlib.suppress(OSError):  # the terminal may be closed
        print(INTERRUPTED, file=sys.stderr)
    return 130


def _was_interrupt(error: BaseException | None) -> bool:
    """Whether an interrupt is behind an error: a library that is being imported may wrap it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _place(error: Exception) -> str:
    """Our own last line on the way to an error, whichever library raised it."""
    package = Path(__file__).resolve().parent.parent
    frames = [(Path(one.filename), one.lineno) for one in traceback.extract_tb(error.__traceback__)]
    path, line = [(one, line) for one, line in frames if one.is_relative_to(package)][-1]
    return f"{path.relative_to(package).as_posix()}:{line}"
