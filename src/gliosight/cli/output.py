"""What the commands print, in one place (layer: cli).

People read stderr for progress and errors, stdout for the answer; with ``--json`` stdout holds one JSON
value and nothing else. Text of the input is shown with its control characters escaped.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from gliosight.errors import CannotWriteError, GliosightError, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from gliosight.analysis import Progress

# What a person is told of the stages that are not counted in slices.
STAGE_WORDS = {
    "read": "reading",
    "prepare": "preparing",
    "gate": "checking the input",
    "decide": "deciding",
    "measure": "measuring",
    "write": "writing",
}
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


@contextlib.contextmanager
def rich_console() -> Iterator[Console]:
    """A console whose text is printed at the end, as `print_text` does."""
    from rich.console import Console

    # As in a terminal: in a notebook rich would colour the text, and show an empty output beside it.
    console = Console(highlight=False, markup=False, soft_wrap=True, force_jupyter=False)
    with console.capture() as captured:
        yield console
    print_text(captured.get().rstrip("\n"))


def table_of(
    titles: Iterable[str], rows: Iterable[Sequence[str]], *, left: Collection[str], padding: int = 1
) -> Table:
    """A table without lines; columns whose title is not in ``left`` are right-aligned."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, padding, 0, 0), header_style="dim")
    for title in titles:
        table.add_column(title, justify="left" if title in left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def print_summary(result: Mapping[str, Any], out: str) -> None:
    """The facts of one study, as a few lines."""
    from rich.text import Text

    from gliosight.analysis import Status, probability_words
    from gliosight.flags import beside_reason, warnings_of
    from gliosight.study import Flag

    status, detection = result["status"], result["detection"]
    # Doubt has a calm colour.
    style = {"tumour found": "bold red", "no tumour found": "bold green"}.get(status, "bold blue")
    lines = [Text.assemble((printable(result["study_id"]), "bold"), "  ", (status, style))]
    lines += [Text(f"  {line}") for line in _probability_lines(result)]
    if result["findings"]:
        lines.append(Text(f"  volume {describe_volume(result)}" + _interval(result)))
    word = "candidate" if status == Status.UNCERTAIN.value else "finding"
    for finding in result["findings"]:
        first, last = finding["slices"]
        side = "side unknown" if finding["side"] == "unknown" else finding["side"]
        extent = f"slices {first + 1} to {last + 1}" if first < last else f"slice {first + 1}"
        text = f"  {word} {finding['id']}: {side}, {describe_volume(finding)}, {extent}"
        if (longest := finding["longest_diameter_mm"]) is not None:
            text += f", {longest:.0f} x {finding['perpendicular_diameter_mm']:.0f} mm"
        if len(result["findings"]) > 1:
            text += f", probability {probability_words(finding['probability'])}"
        lines.append(Text(text + (" (small)" if finding["small"] else "")))
    if detection["probability"] is not None:
        marked = sum(item["area_px"] > 0 for item in detection["slices"])
        highest = max(detection["slices"], key=lambda item: item["probability"])
        text = f"  marked slices {marked} of {len(detection['slices'])}, highest slice probability "
        if highest["probability"] < 0.005:  # no slice stands out
            text += "< 0.01"
        else:
            text += (
                f"{probability_words(highest['probability'])} "
                f"(slice {highest['index'] + 1}, counted from 1)"
            )
        lines.append(Text(text))
    flags = beside_reason((Flag(**record) for record in result["flags"]), result["reason"])
    warnings = warnings_of(flags)
    # Notes speak of an analysis, which a study that was not assessed did not get.
    assessed = status != Status.NOT_ASSESSED.value
    notes = [flag for flag in flags if flag.severity != "warning" and assessed]
    if warnings:
        first_line = (
            "1 warning" if len(warnings) == 1 else f"{len(warnings)} warnings, the worst first"
        )
        lines.append(Text(f"  {first_line}"))
    for flag in (*warnings, *notes):
        mark = ("  ! ", "yellow") if flag.severity == "warning" else ("  i ", "cyan")
        lines.append(Text.assemble(mark, f"{flag.code}: {printable(flag.message)}"))
    seconds = sum(result["provenance"]["timings_ms"].values()) / 1000
    lines.append(Text(f"  {seconds:.1f} s, results in {printable(out)}"))
    with rich_console() as console:
        for line in lines:
            console.print(line)


def _probability_lines(result: Mapping[str, Any]) -> list[str]:
    """The study's probability and what it says; the reason where it does not say it; the caveat."""
    from gliosight.analysis import Status
    from gliosight.study import Flag
    from gliosight.write import words

    detection, status = result["detection"], result["status"]
    probability, prevalence = detection["probability"], detection["prevalence"]
    if probability is None:
        codes = [one["code"] for one in result["flags"] if one["message"] == result["reason"]]
        return [printable(" ".join([*(f"{code}:" for code in codes), result["reason"]]))]
    low, high = detection["uncertain_from"], detection["found_from"]
    name = "score" if prevalence is None else "probability of tumour"
    number = words.study_probability(probability, low, high)
    lines = [f"{name} {number} ({words.verdict_bounds(low, high)})"]
    flags = [Flag(**record) for record in result["flags"]]
    doubted = status == Status.UNCERTAIN.value and words.doubted(flags)
    lines.append(words.probability_sentence(probability, prevalence, doubted=doubted))
    if status == Status.UNCERTAIN.value:
        lines.append(printable(result["reason"]))
    return [*lines, detection["caveat"]] if detection["caveat"] else lines


def _interval(result: Mapping[str, Any]) -> str:
    """The 90 % interval of the volume, after it; nothing where it is not known."""
    from gliosight.write.words import between

    ml, voxels = (
        None
        if result[f"volume_low_{unit}"] is None
        else (result[f"volume_low_{unit}"], result[f"volume_high_{unit}"])
        for unit in ("ml", "px")
    )
    interval = between(ml, voxels)
    return f", 90 % interval {interval}" if interval else ""


def print_closing(report: str | None = None, *, marked: bool) -> None:
    """Say once per call that this is for research only, and what a mask outlines; end with what to open.

    ``marked`` says whether anything was marked.
    """
    from gliosight.analysis import MASK_MEANING, RESEARCH_USE

    print_text(f"{RESEARCH_USE}\n{MASK_MEANING}" if marked else RESEARCH_USE)
    if report is not None:
        print_text(f"report: {printable(report)}")


def describe_volume(measured: Mapping[str, Any]) -> str:
    """The volume of a result or a finding in words: ml where there is geometry, else voxels."""
    if measured["volume_ml"] is None:
        return f"{measured['volume_px']:,} voxels (no geometry)"
    return f"{measured['volume_ml']:.1f} ml"


@contextlib.contextmanager
def progress_display(title: str, *, shown: bool, what: str = "slices") -> Iterator[Progress | None]:
    """A progress bar on stderr, only where a person watches."""
    if not shown or not sys.stderr.isatty():
        yield None
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.TextColumn("{task.fields[count]}"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        # How many slices there are is known with the first of them.
        task = bar.add_task(printable(title), total=None, count="")

        def tell(stage: str, done: int, total: int) -> None:
            if total == 1 and stage in STAGE_WORDS:  # it has no parts that could be counted
                bar.update(task, completed=0, total=None, count=STAGE_WORDS[stage])
            else:
                bar.update(task, completed=done, total=total, count=f"{done}/{total} {what}")

        yield tell
