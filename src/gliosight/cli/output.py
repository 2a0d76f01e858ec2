"""What the commands print, in one place (layer: cli).

People read stderr for progress and errors, stdout for the answer; with ``--json`` stdout holds one JSON
value and nothing else. Text of the input is shown with its control characters escaped.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from gliosight.errors import CannotWriteError, GliosightError, printable

if TYPE_CHECKING:
    from rich.console import Console

    from gliosight.analysis import Progress

# Why the answer did not get to stdout, in the order in which it happened.
_lost: list[OSError] = []


def print_error(error: GliosightError, *, as_json: bool) -> None:
    """One line on stderr; with ``--json`` the same as an object on stdout."""
    before = len(_lost)
    if as_json:
        print_json({"error": error.as_object()})
    if not as_json or len(_lost) > before:
        print_line(f"error: {error.line()}")


def print_line(line: str) -> None:
    """A line on stderr, where that can take one."""
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):  # the terminal is closed, the disk is full
        _give_up(sys.stderr)


def print_json(value: Any) -> None:
    """One JSON value on stdout, ASCII only so that every terminal and pipe takes it."""
    print_text(json.dumps(value, indent=2))


def print_text(text: str) -> None:
    """A line or more on stdout; what the terminal cannot show is escaped.

    Where nobody reads any more (``| head``), or there is no room for it, the work goes on all the same: the
    files are what counts. What got lost, `lost_output` tells at the end.
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError:
        _give_up(sys.stdout)
    except OSError as error:
        _give_up(sys.stdout)
        _lost.append(error)


def lost_output() -> CannotWriteError | None:
    """Why the answer did not get to stdout, once; ``None`` where it did."""
    if not _lost:
        return None
    error = _lost[0]
    _lost.clear()
    return CannotWriteError(
        f"cannot write the answer: {error.strerror or error}",
        where="standard output",
        remedy="write it elsewhere; result folders are whole",
    )


def close_output() -> None:
    """Write what is still on its way, so that the interpreter need not complain when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _give_up(stream)


def _give_up(stream: TextIO) -> None:
    """Let a stream lead nowhere: what it still holds would fail again when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def print_summary(result: dict[str, Any], out: str) -> None:
    """The facts of one study, as a few lines."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    with console.capture() as captured:
        _summary(console, result, out)
    print_text(captured.get().rstrip("\n"))


def _summary(console: Console, result: dict[str, Any], out: str) -> None:
    from rich.text import Text

    status = result["status"]
    style = {"tumour found": "bold red", "no tumour found": "bold green"}.get(status, "bold yellow")
    line = Text(printable(result["study_id"]), style="bold")
    line.append("  ")
    line.append(status, style=style)
    console.print(line)
    detection = result["detection"]
    if detection["score"] is not None:
        from gliosight.analysis import told_apart

        marked = sum(one["area_px"] > 0 for one in detection["slices"])
        score, threshold = told_apart(detection["score"], detection["score_threshold"])
        console.print(
            f"  score {score} (threshold {threshold})   "
            f"highest slice probability {detection['probability']:.2f}   "
            f"marked slices {marked} of {len(detection['slices'])}"
        )
    else:
        console.print(Text("  " + printable(result["reason"])))
    if result["findings"]:
        console.print(f"  volume {describe_volume(result['volume_ml'], result['volume_px'])}")
    for finding in result["findings"]:
        size = describe_volume(finding["volume_ml"], finding["volume_px"])
        first, last = finding["slices"]
        side = "side unknown" if finding["side"] == "unknown" else finding["side"]
        text = f"  finding {finding['id']}: {side}, {size}, slices {first} to {last}"
        if finding["longest_diameter_mm"] is not None:
            text += (
                f", {finding['longest_diameter_mm']:.0f} x "
                f"{finding['perpendicular_diameter_mm']:.0f} mm"
            )
        console.print(text + (" (small)" if finding["small"] else ""))
    for flag in result["flags"]:
        mark = Text("  ! " if flag["severity"] == "warning" else "  i ")
        mark.stylize("yellow" if flag["severity"] == "warning" else "cyan")
        console.print(mark + Text(f"{flag['code']}: {printable(flag['message'])}"))
    seconds = sum(result["provenance"]["timings_ms"].values()) / 1000
    console.print(Text(f"  {seconds:.1f} s, results in {printable(out)}"))


def print_closing(report: str | None = None, *, masks: bool = True) -> None:
    """Say once per call that this is for research only; end with what to open."""
    from gliosight.analysis import MASK_MEANING, RESEARCH_USE

    print_text(f"{RESEARCH_USE}\n{MASK_MEANING}" if masks else RESEARCH_USE)
    if report is not None:
        print_text(f"report: {printable(report)}")


def describe_volume(ml: float | None, px: int) -> str:
    """A volume in words: ml where there is geometry, else pixels."""
    return f"{px} px (no geometry)" if ml is None else f"{ml:.1f} ml"


@contextlib.contextmanager
def progress_display(title: str, *, shown: bool, what: str = "slices") -> Iterator[Progress | None]:
    """A progress bar on stderr, only where a person watches."""
    if not shown or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        # How many slices there are is known with the first of them.
        task = bar.add_task(printable(title), total=None, count="")

        def tell(_: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, count=f"{done}/{total} {what}")

        yield tell
