"""The command line: arguments in, lines out (layer: cli).

One module per command, imported when the command is called. `main` turns errors into one line and the exit
code of their class in `gliosight.errors`.
"""

from __future__ import annotations

import contextlib
import difflib
import gc
import logging
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from gliosight import __version__
from gliosight.cli.output import close_output, lost_output, print_error, print_line
from gliosight.errors import (
    GliosightError,
    InternalError,
    LimitExceededError,
    UsageError,
    causes,
    explained,
)

INTERRUPTED = "interrupted; nothing half-written was left"

COMMANDS = {
    "analyze": "Find and outline tumour in one study or several.",
    "batch": "Analyse an archive of studies; go on with it after a stop.",
    "bids": "Analyse a BIDS data set, and write BIDS derivatives.",
    "watch": "Analyse studies as they arrive in a folder.",
    "mercure": "Run as a processing module of mercure, a DICOM orchestrator.",
    "inspect": "List what is there, and what analyze would use.",
    "demo": "Analyse a built-in synthetic study.",
    "phantom": "Write synthetic studies with known truth.",
    "models": "List the shipped models, or describe one.",
    "schema": "Print the JSON Schema of our JSON files or of --json output.",
    "data": "Index, show, check and split a data set for training.",
    "train": "Train a network (extra: train).",
    "export": "Make SEG or SR from a result, or a model from runs.",
    "evaluate": "Score a model, a training run, or masks (extra: evaluate).",
    "compare-models": "Compare two evaluations (extra: evaluate).",
    "follow-up": "Compare studies of one person over time (extra: followup).",
}

# Other spellings, which no list shows.
ALIASES = {"analyse": "analyze"}

# Without Python's search for unused cycles a DICOM study takes a sixth less time: libraries that are imported
# set it off again and again, and it finds nothing. These commands end soon, or collect between studies.
WITHOUT_GARBAGE_COLLECTION = frozenset({"analyze", "analyse", "inspect", "demo", "export"})

# Signals that ask a process to end; Windows has no SIGHUP.
REQUESTS = ("SIGINT", "SIGTERM", "SIGHUP")
# One request often comes twice within this time (seconds): by itself, and passed on by what started us.
SAME_REQUEST = 1.0

# Below this limit of its memory (bytes) a process cannot load what it computes with.
LEAST_MEMORY = 512 * 2**20

# The command whose module is being imported: there is nothing to clear away meanwhile.
_loading: list[str] = []

EPILOG = """\b
Exit codes: 0 done, whatever the verdict; 2 wrong usage; 3 nothing readable; 4 damaged input;
5 not supported; 6 limit exceeded; 7 cannot write; 8 model or engine unusable; 9 network peer
failed; 10 some studies of a batch failed; 11 all of them; 70 a bug of ours; 130 interrupted.

Research use only. Not a medical device; not for diagnosis or treatment decisions."""


class SuggestingGroup(click.Group):
    """Says what a mistyped command may have meant; lists its commands in the order they are written in."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which they are used."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, as click does; raises `UsageError` for an unknown one."""
        name = args[0]
        if name.startswith("-") or self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        remedy = f"see {ctx.command_path} --help"
        if alike := difflib.get_close_matches(name, self.list_commands(ctx), n=2):
            remedy = f"did you mean {' or '.join(alike)}? See {ctx.command_path} --help"
        elif os.path.lexists(name):
            remedy = f"a command comes first, such as {ctx.command_path} analyze"
        raise UsageError(f"no such command: {name[:100]}", remedy=remedy)


class LazyGroup(SuggestingGroup):
    """Imports a command's module when it is called, so that ``--help`` is instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of this name; ``None`` if the name is unknown."""
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        _check_memory()
        _loading.append(name)
        try:
            command: click.Command = import_module(
                f"gliosight.cli.{name.replace('-', '_')}"
            ).command
        finally:
            _loading.clear()
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; click would answer an interrupt with an empty line."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise click.Abort from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
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
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Find and outline lower-grade glioma in brain MRI.

    Try it without any data: gliosight demo
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(
    arguments: list[str] | None = None, *, importing: Callable[..., Any] | None = None
) -> None:
    """Run the command line and exit with the documented code.

    Parameters
    ----------
    arguments : list of str, optional
        Those of the process if not given.
    importing : callable, optional
        The handler of signals while modules were imported, if this process is ours alone: requests to end
        that come after its work are ignored then.
    """
    _open_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    if next((word for word in arguments if word[:1] != "-"), "") in WITHOUT_GARBAGE_COLLECTION:
        gc.disable()
    try:
        with _requests_interrupt(importing), _quiet_libraries(debug="--debug" in arguments):
            code = run(arguments)
    except KeyboardInterrupt:  # just before or just after
        code = _interrupted()
    close_output()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    as_json = "--json" in arguments
    error: Exception
    try:
        # --debug is taken anywhere, since it is added to a command that has just failed.
        rest = [text for text in arguments if text != "--debug"]
        code = cli.main(rest, prog_name="gliosight", standalone_mode=False)
        lost = lost_output()
        if isinstance(code, GliosightError):  # beside an answer, which is on stdout already
            error, as_json = code, False
        elif code or lost is None:
            return int(code or 0)
        else:
            error = lost
    except (click.exceptions.Abort, KeyboardInterrupt):  # Abort is click's word for ctrl-C
        return _interrupted()
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except SystemExit as leaving:
        # Else it is click's answer when whoever read the help has had enough.
        return _interrupted() if _was_interrupt(leaving) else 0
    except Exception as caught:  # noqa: BLE001 - the last line of defence
        error = caught
    if _was_interrupt(error):
        return _interrupted()
    if "--debug" in arguments:
        with contextlib.suppress(OSError):
            traceback.print_exception(error)
    ours = _as_ours(error)
    print_error(ours, as_json=as_json)
    lost_output()  # the error itself: there is nowhere else to say so
    return ours.exit_code


def _check_memory() -> None:
    """Refuse a memory limit in which OpenBLAS, below numpy, waits for ever or ends the process."""
    if sys.platform == "win32":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_MEMORY:
        raise LimitExceededError(
            f"this process may take {limit // 2**20} MiB of memory, and "
            f"{LEAST_MEMORY // 2**20} MiB are needed",
            remedy="raise the limit (ulimit -v)",
        )


def _as_ours(error: Exception) -> GliosightError:
    """Any error as one of ours."""
    if isinstance(error, click.ClickException):
        return _usage_error(error)
    if (ours := explained(error)) is not None:
        return ours
    # Our own last line on the way to the error, whichever library raised it.
    package = Path(__file__).resolve().parent.parent
    frames = [
        (Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)
    ]
    path, line = [(path, line) for path, line in frames if path.is_relative_to(package)][-1]
    return InternalError(
        f"{type(error).__name__}: {error}",
        where=f"{path.relative_to(package).as_posix()}:{line}",
        remedy="a bug of ours: please report this line, and run again with --debug",
    )


def _usage_error(error: click.ClickException) -> UsageError:
    """An error of click in the form of ours."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    remedy = f"see {context.command_path if context else 'gliosight'} --help"
    what, where = error.message, None
    if isinstance(error, click.NoSuchOption):
        what = f"no such option: {error.option_name}"
        # click compares with the dashes, and so finds what is not alike.
        names = {text.lstrip("-"): text for text in error.possibilities or ()}
        if alike := difflib.get_close_matches(error.option_name.lstrip("-"), names, n=2):
            remedy = f"did you mean {' or '.join(names[one] for one in alike)}? S{remedy[1:]}"
    elif isinstance(error, click.BadParameter) and error.param is not None:
        where = error.param.get_error_hint(context).replace("'", "")
        if where.startswith(("{", "[")):  # an argument's choices, which the message lists
            where = (error.param.name or "").upper()
        if isinstance(error, click.MissingParameter):
            what = f"missing {error.param.param_type_name}"
    return UsageError(what[:1].lower() + what[1:].rstrip("."), where=where, remedy=remedy)


@contextlib.contextmanager
def _requests_interrupt(importing: Callable[..., Any] | None) -> Iterator[None]:
    """Within it every request to end is an interrupt as ctrl-C is, so that all is cleared away.

    Batch systems, containers and ``timeout`` send SIGTERM, a closed terminal sends SIGHUP. What whoever
    started us chose to ignore (``nohup``, a job in the background) stays ignored.
    """
    last: float | None = None

    def interrupt(*_: object) -> None:
        nonlocal last
        if _loading:  # an exception may get lost in the imports of a library
            _interrupted()
            os._exit(130)
        now = time.monotonic()
        if last is None or now - last > SAME_REQUEST:
            last = now
            raise KeyboardInterrupt

    def swallowed(unraisable: Any) -> None:
        """An exception in a destructor or a callback: nothing to print, but a request is made again."""
        nonlocal last
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            last = None
            threading.Timer(0.05, signal.raise_signal, [signal.SIGINT]).start()

    hooks = sys.unraisablehook, threading.excepthook
    sys.unraisablehook, threading.excepthook = swallowed, lambda _: None
    usual = (signal.SIG_DFL, signal.default_int_handler, importing)
    replaced: dict[int, Any] = {}
    for name in REQUESTS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) in usual:
            replaced[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in replaced.items():
            # The work is done, and the interpreter that ends would print a traceback.
            signal.signal(number, handler if importing is None else signal.SIG_IGN)
        sys.unraisablehook, threading.excepthook = hooks


@contextlib.contextmanager
def _quiet_libraries(*, debug: bool) -> Iterator[None]:
    """What libraries warn of and log is for developers; what a user has to know is a flag or an error."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        if not debug and not sys.warnoptions:
            warnings.simplefilter("ignore")
            logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)


def _open_streams() -> None:
    """Let standard streams that are closed lead nowhere: else the next file opened takes their place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def _interrupted() -> int:
    print_line(INTERRUPTED)
    return 130


def _was_interrupt(error: BaseException | None) -> bool:
    """Whether an interrupt is behind an error: a library that is being imported may wrap it."""
    return any(isinstance(cause, KeyboardInterrupt) for cause in causes(error))
