"""The command line: arguments in, lines out, no logic beyond (layer: cli).

One module per command, imported when the command is called. `main` turns errors into one line and an exit
code; the codes are those of `gliosight.errors`.
"""

from __future__ import annotations

import sys

INTERRUPTED = "interrupted; nothing half-written was left"

try:
    import contextlib
    import difflib
    import logging
    import os
    import signal
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
    "export": "Make SEG or SR of a result; a model of runs.",
    "evaluate": "Score a model, a run or anybody's masks (extra: evaluate).",
    "compare-models": "Hold two evaluations against each other (extra: evaluate).",
}

# Other spellings, which no list shows.
ALIASES = {"analyse": "analyze"}

# Signals that ask a process to end; Windows has no SIGHUP.
REQUESTS = ("SIGINT", "SIGTERM", "SIGHUP")
# One request often comes twice within this time (seconds): by itself, and passed on by what started us.
SAME_REQUEST = 1.0

# Below this limit of its memory (bytes) a process cannot load what it computes with.
LEAST_MEMORY = 512 * 2**20

EPILOG = """\b
Exit codes: 0 done, whatever was found; 2 wrong usage; 3 nothing readable; 4 damaged input;
5 not supported; 6 limit exceeded; 7 cannot write; 8 model or engine unusable; 9 network peer
failed; 70 a bug of ours; 130 interrupted.

Research use only. Not a medical device; not for diagnosis or treatment decisions."""


class SuggestingGroup(click.Group):
    """Says what a mistyped command may have meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, as click does; raises `UsageError` for an unknown one."""
        name = args[0]
        if name.startswith("-") or self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        alike = difflib.get_close_matches(name, self.list_commands(ctx), n=2)
        if alike:
            remedy = f"did you mean {' or '.join(alike)}? See {ctx.command_path} --help"
        elif os.path.lexists(name):
            remedy = f"a command comes first, such as {ctx.command_path} analyze"
        else:
            remedy = f"see {ctx.command_path} --help"
        raise UsageError(f"no such command: {name[:100]}", remedy=remedy)


class LazyGroup(SuggestingGroup):
    """Imports a command's module when it is called, so that ``--help`` is instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,
        cmd_name: str,
    ) -> click.Command | None:
        """Import the command of this name; ``None`` if the name is unknown."""
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        _check_memory()
        with _Requests.nothing_begun():
            command: click.Command = import_module(
                f"gliosight.cli.{name.replace('-', '_')}"
            ).command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; click would answer an interrupt with an empty line."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise click.Abort from error

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
    given = sys.argv[1:] if arguments is None else arguments
    requests = _Requests(importing)
    try:
        with requests, _quiet_libraries(debug="--debug" in given):
            code = run(given)
    except KeyboardInterrupt:  # just before or just after
        code = _interrupted()
    close_output()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    as_json = "--json" in arguments
    debug = "--debug" in arguments
    # --debug is taken anywhere, since it is added to a command that has just failed.
    arguments = [one for one in arguments if one != "--debug"]
    error: Exception
    try:
        code = cli.main(arguments, prog_name="gliosight", standalone_mode=False)
        if isinstance(code, GliosightError):
            # A bug of ours beside an answer, which is on stdout already.
            error, as_json = code, False
        else:
            code = code if isinstance(code, int) else 0
            if (lost := lost_output()) is None or code:
                return code
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
    if debug:
        with contextlib.suppress(OSError):
            traceback.print_exception(error)
    told = _told(error)
    print_error(told, as_json=as_json)
    lost_output()  # the error itself: there is nowhere else to say so
    return told.exit_code


def _check_memory() -> None:
    """Refuse a memory limit in which the libraries cannot even be loaded.

    OpenBLAS, below numpy, waits for ever or ends the process there.

    Raises
    ------
    LimitExceededError
    """
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


def _told(error: Exception) -> GliosightError:
    """Any error as one of ours."""
    if isinstance(error, click.ClickException):
        usage = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        return UsageError(
            error.format_message().rstrip("."), remedy=f"see {usage or 'gliosight'} --help"
        )
    return explained(error) or InternalError(
        f"{type(error).__name__}: {error}",
        where=_place(error),
        remedy="a bug of ours: please report this line, and run again with --debug",
    )


class _Requests:
    """Within it every request to end is an interrupt as ctrl-C is, so that all is cleared away.

    Batch systems, containers and ``timeout`` send SIGTERM, a closed terminal sends SIGHUP. What whoever
    started us chose to ignore (``nohup``, a job in the background) stays ignored.
    """

    _beginning = False

    def __init__(self, importing: Callable[..., Any] | None = None) -> None:
        self._importing = importing
        self._replaced: dict[int, Any] = {}
        self._hook = sys.unraisablehook
        self._thread_hook = threading.excepthook
        self._last: float | None = None

    @classmethod
    @contextlib.contextmanager
    def nothing_begun(cls) -> Iterator[None]:
        """Within it, as while a command is imported, there is nothing to clear away."""
        cls._beginning = True
        try:
            yield
        finally:
            cls._beginning = False

    def __enter__(self) -> None:
        sys.unraisablehook = self._swallowed
        threading.excepthook = lambda _: None
        usual = (signal.SIG_DFL, signal.default_int_handler, self._importing)
        for name in REQUESTS:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) in usual:
                self._replaced[number] = signal.signal(number, self._interrupt)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._replaced.items():
            # The work is done, and the interpreter that ends would print a traceback.
            signal.signal(number, handler if self._importing is None else signal.SIG_IGN)
        sys.unraisablehook, threading.excepthook = self._hook, self._thread_hook

    def _interrupt(self, *_: object) -> None:
        if self._beginning:  # an exception may get lost in the imports of a library
            _interrupted()
            os._exit(130)
        now = time.monotonic()
        if self._last is None or now - self._last > SAME_REQUEST:
            self._last = now
            raise KeyboardInterrupt

    def _swallowed(self, unraisable: Any) -> None:
        """An exception in a destructor or a callback: nothing to print, but a request is made again."""
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._last = None
            threading.Timer(0.05, signal.raise_signal, [signal.SIGINT]).start()


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


def _place(error: Exception) -> str:
    """Our own last line on the way to an error, whichever library raised it."""
    package = Path(__file__).resolve().parent.parent
    frames = [(Path(one.filename), one.lineno) for one in traceback.extract_tb(error.__traceback__)]
    path, line = [(one, line) for one, line in frames if one.is_relative_to(package)][-1]
    return f"{path.relative_to(package).as_posix()}:{line}"
