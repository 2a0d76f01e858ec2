"""What the commands print, in one place (layer: cli).

People read stderr for progress and errors, stdout for the answer; with ``--json`` stdout holds one JSON
value and nothing else. Text of the input is shown with its control characters escaped.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from gliosight.errors import GliosightError, printable

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[str, int, int], None]


def print_error(error: GliosightError, *, as_json: bool) -> None:
    """One line on stderr; with ``--json`` the same as an object on stdout."""
    if as_json:
        value = {
            "error": {
                "kind": error.kind,
                "exit_code": error.exit_code,
                "what": error.what,
                "where": error.where,
                "remedy": error.remedy,
            }
        }
        print_json(value)
    else:
        print(f"error: {error.line()}", file=sys.stderr)


def print_json(value: Any) -> None:
    """One JSON value on stdout, ASCII only so that every terminal and pipe takes it."""
    print_text(json.dumps(value, indent=2))


def print_text(text: str) -> None:
    """A line or more on stdout; what the terminal cannot show is escaped.

    Where nobody reads any more (``| head``) the work goes on all the same: the files are what counts.
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
        marked = sum(one["area_px"] > 0 for one in detection["slices"])
        console.print(
            f"  score {detection['score']:.2f} (threshold {detection['score_threshold']:.2f})   "
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
        text = f"  finding {finding['id']}: {finding['side']}, {size}, slices {first} to {last}"
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
