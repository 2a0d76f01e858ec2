"""The page of an archive: ``index.html``, a row a study, one file for offline use (layer: archive).

The table stands in the page, in the order in which the studies should be looked at; ``index.js`` sorts,
filters and walks through it. Each thumbnail stands in a ``<noscript>`` of its row: without JavaScript it is
shown, with JavaScript it is decoded when its row comes into sight.

Names, flags and errors are hostile text: the template escapes them, and the content security policy allows
this page's own style and script, pictures as data, and nothing else.
"""

from __future__ import annotations

import re
from base64 import b64encode
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePath
from statistics import median
from typing import Any
from urllib.parse import quote

import gliosight
from gliosight.analysis import LIMITS, MASK_MEANING, RESEARCH_USE, Status
from gliosight.archive.entries import FAILED, Entry
from gliosight.files import whole_file
from gliosight.write import words
from gliosight.write.pages import (
    content_policy,
    embed_json,
    fill,
    made_visible,
    page_template,
    template_text,
)

# Of each status the word for style, icon and filter, and what people read.
VERDICTS = {
    **{s.value: (s.name.lower().replace("_", "-"), s.value.capitalize()) for s in Status},
    FAILED: ("failed", "Failed"),
}
# Names in the address, and titles; `sort_keys` has what they are sorted by.
COLUMNS = (
    ("rank", "Rank", "In which order to look at the studies: what failed and what is in doubt first"),
    ("study", "Study", "Opens the study’s report"),
    ("source", "Source", "Where the study lies in the input"),
    ("verdict", "Verdict", ""),
    ("probability", "Probability", "Probability of tumour of the study"),
    ("volume", "Volume", "Volume of what is marked, and its 90 % interval"),
    ("findings", "Findings", "Connected lesions; candidates where the study is uncertain"),
    ("warnings", "Warnings", "Codes of the warnings, the worst first, and its message"),
    ("time", "Time", "Time that the analysis took"),
)  # fmt: skip
PROBABILITY_BINS = 20
# Lower edges of the bins, in ml; the first bin is everything below the second edge.
VOLUME_EDGES = (0, 1, 2, 5, 10, 20, 50, 100, 200)


@dataclass(frozen=True)
class Chart:
    """A distribution: for each bin its words and its parts, as (kind, from, to) in percent of the height.

    ``highest`` is how many studies the highest bin holds, and the whole height stands for.
    """

    title: str
    remark: str
    highest: int
    bins: list[tuple[str, list[tuple[str, float, float]]]]
    ticks: list[str]

    @property
    def summary(self) -> str:
        """All in one sentence, for those who do not see it."""
        filled = "; ".join(text for text, parts in self.bins if parts)
        return f"{self.title}. {filled}." if filled else f"{self.title}: no studies."


def write_page(entries: Sequence[Entry], path: Path, *, title: str, unfinished: int = 0) -> None:
    """Write the page of these studies; ``unfinished`` is how many are still to be analysed.

    Raises
    ------
    CannotWriteError
    """
    page = render_page(entries, title=title, unfinished=unfinished)
    with whole_file(path, overwrite=True) as partial:
        partial.write_text(page, encoding="utf-8", errors="backslashreplace", newline="\n")


def render_page(entries: Sequence[Entry], *, title: str, unfinished: int = 0) -> str:
    """The page as text; see `write_page`."""
    ordered = sorted(entries, key=lambda entry: entry.review)
    style = "\n".join((template_text("write", "report.css"), template_text("archive", "index.css")))
    early, script = template_text("write", "early.js"), template_text("archive", "index.js")
    counts = Counter(entry.status for entry in entries)
    seconds = [entry.seconds for entry in entries if entry.seconds is not None]
    verdicts = [
        {"kind": kind, "name": name, "count": counts[status], "share": _percent(counts[status], len(entries))}
        for status, (kind, name) in VERDICTS.items()
    ]  # fmt: skip
    context = {
        "policy": content_policy(styles=(style,), scripts=(early, script)),
        "style": style,
        "early": early,
        "script": script,
        "data": embed_json(sort_keys(ordered)),
        "title": title,
        "research_use": RESEARCH_USE,
        "mask_meaning": MASK_MEANING,
        "limits": LIMITS,
        "version": gliosight.__version__,
        "studies_words": studies_words,
        "total": len(entries),
        "unfinished": unfinished,
        "time": time_words(sum(seconds)) if seconds else "",
        "median": time_words(median(seconds)) if seconds else "",
        "verdicts": verdicts,
        "charts": [probability_chart(entries), volume_chart(entries)],
        "failures": group_failures(ordered),
        "failed": counts[FAILED],
        "columns": COLUMNS,
        "rows": [_row(entry) for entry in ordered],
    }
    return fill(page_template("archive", "index.html.j2", made_visible), **context)


def sort_keys(entries: Sequence[Entry]) -> dict[str, list[float | None]]:
    """Numbers to sort the rows by, a list a column; ``None`` where there is none, which comes last.

    Volumes are compared in ml. Where no study has ml, the voxels count.
    """
    in_ml = any(entry.volume_ml is not None for entry in entries)
    volumes = [entry.volume_ml if in_ml else entry.volume_px for entry in entries]
    answered = [_has_answer(entry) for entry in entries]
    return {
        "rank": [entry.review for entry in entries],
        "study": _name_ranks([entry.study_id for entry in entries]),
        "source": _name_ranks([entry.source for entry in entries]),
        "verdict": [list(VERDICTS).index(entry.status) for entry in entries],
        "probability": [entry.probability for entry in entries],
        "volume": [v if a else None for v, a in zip(volumes, answered, strict=True)],
        "findings": [e.findings if a else None for e, a in zip(entries, answered, strict=True)],
        "warnings": [len(entry.warnings) for entry in entries],
        "time": [entry.seconds for entry in entries],
    }


def _name_ranks(names: Sequence[str]) -> list[float | None]:
    """Places of names in the order that people expect: sub-2 before sub-10."""

    def key(name: str) -> tuple[list[tuple[int, str]], str]:
        # Text and numbers take turns; a longer number without zeros in front is a larger one.
        turns = []
        for k, part in enumerate(re.split(r"([0-9]+)", name.casefold())):
            number = part.lstrip("0")
            turns.append((len(number), number) if k % 2 else (0, part))
        return turns, name

    places = {name: place for place, name in enumerate(sorted(set(names), key=key))}
    return [places[name] for name in names]


def probability_chart(entries: Iterable[Entry]) -> Chart:
    """How the probabilities of the studies are distributed, in bins of equal width."""
    known = [entry for entry in entries if entry.probability is not None]
    edges = [k / PROBABILITY_BINS for k in range(PROBABILITY_BINS)]
    names = [f"{low:.2f} to {low + 1 / PROBABILITY_BINS:.2f}" for low in edges]
    values = [(entry.probability or 0.0, entry.status) for entry in known]
    bins, highest = _bins(values, edges, names)
    remark = f"of {studies_words(len(known))}"
    return Chart("Probability of tumour", remark, highest, bins, ["0", "0.25", "0.5", "0.75", "1"])


def volume_chart(entries: Iterable[Entry]) -> Chart:
    """How the volumes of what is marked are distributed, in bins that grow."""
    values = [(e.volume_ml, e.status) for e in entries if e.volume_ml and e.status != FAILED]
    edges = [float(edge) for edge in VOLUME_EDGES]
    names = [f"{low} to {high} ml" for low, high in pairwise(VOLUME_EDGES)]
    bins, highest = _bins(values, edges, [*names, f"{VOLUME_EDGES[-1]} ml or more"])
    remark = "nothing is marked, or there are no ml"
    if values:
        remark = f"of {studies_words(len(values))}, median {words.millilitres(median(v for v, _ in values))}"
    return Chart("Volume, ml", remark, highest, bins, [*map(str, VOLUME_EDGES), ""])


def _bins(
    values: Iterable[tuple[float, str]], edges: Sequence[float], names: Sequence[str]
) -> tuple[list[tuple[str, list[tuple[str, float, float]]]], int]:
    """Of each bin its words and its stacked parts; and how many studies the highest holds."""
    counts = Counter((bisect_right(edges, value) - 1, status) for value, status in values)
    totals = [sum(counts[k, status] for status in VERDICTS) for k in range(len(edges))]
    highest, bins = max(totals), []
    for k, (total, name) in enumerate(zip(totals, names, strict=True)):
        parts, below, said = [], 0, []
        for status, (kind, _) in VERDICTS.items():
            if count := counts[k, status]:
                parts.append((kind, _percent(below, highest), _percent(below + count, highest)))
                below += count
                said.append(f"{count:,} {status}")
        bins.append((f"{name}: {studies_words(total)} ({', '.join(said)})", parts))
    return bins, highest


def group_failures(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Failed studies with the same exit code and reason, the largest group first.

    ``entries`` stand in the order of the rows. Reasons are alike where they differ only in numbers and in the
    place in parentheses.
    """
    groups: dict[tuple[int, str], dict[str, Any]] = {}
    for position, entry in enumerate(entries, start=1):
        if entry.status == FAILED:
            reason = re.sub(r" \([^()]*\)", "", entry.error)
            alike = re.sub(r"\b\d[\d.,]*", "…", reason)
            new = {"code": entry.exit_code, "reason": reason, "studies": []}
            group = groups.setdefault((entry.exit_code, alike), new)
            group["studies"].append((position, entry.source or entry.study_id))
            if reason != group["reason"]:
                group["reason"] = alike
    return sorted(groups.values(), key=lambda group: -len(group["studies"]))


def studies_words(count: int) -> str:
    """How many studies."""
    return f"{count:,} stud{'y' if count == 1 else 'ies'}"


def time_words(seconds: float) -> str:
    """A time with as many digits as mean something."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def _row(entry: Entry) -> dict[str, Any]:
    """What a row shows, in words."""
    kind, verdict = VERDICTS[entry.status]
    row = {
        "entry": entry,  # its names, codes and error
        "kind": kind,
        "verdict": verdict,
        "href": "" if entry.folder is None else _href(entry.folder),
        "thumbnail": b64encode(entry.thumbnail).decode("ascii") if entry.thumbnail else "",
        "probability": words.DASH,
        "bar": None,
        "volume": words.DASH,
        "interval": "",
        "findings": words.DASH,
        "time": words.DASH if entry.seconds is None else time_words(entry.seconds),
    }
    if entry.probability is not None:
        row["probability"] = words.probability_words(entry.probability)
        row["bar"] = round(100 * words.part(entry.probability))
    if _has_answer(entry):
        row["findings"] = entry.findings
        row["interval"] = words.between(
            _ends(entry.volume_low_ml, entry.volume_high_ml),
            _ends(entry.volume_low_px, entry.volume_high_px),
        )
        if entry.volume_ml is not None:
            row["volume"] = words.millilitres(entry.volume_ml)
        elif entry.volume_px is not None:
            row["volume"] = words.count_words(entry.volume_px, "voxel")
    return row


def _has_answer(entry: Entry) -> bool:
    """Whether volume and findings mean something: of other studies a zero would claim a negative."""
    return entry.status not in (FAILED, Status.NOT_ASSESSED.value)


def _href(folder: str) -> str:
    """The report in a result folder, or the report itself (BIDS); ``./`` keeps a name from being a scheme."""
    path = quote(PurePath(folder).as_posix(), errors="surrogateescape")
    return f"./{path}" if path.endswith(".html") else f"./{path}/report.html"


def _ends(low: Any, high: Any) -> Any:
    return None if low is None or high is None else (low, high)


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0
