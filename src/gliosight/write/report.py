"""The report a person opens: one self-contained HTML file (stage: write).

``report.html`` holds its pictures, style and script: readable offline, on a phone, printed, and without
JavaScript. Words and numbers are written here, in ``words.py`` and in ``templates/report.html.j2``; the
script only moves through what is there.

Everything that comes from the study (its id, slice names, flags) is hostile text: the template escapes it,
the data block escapes what could end it, and a content security policy allows this page's own style and
script by hash, pictures as data, and nothing else.
"""

from __future__ import annotations

import json
import math
import os
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import numpy as np
from markupsafe import Markup

from gliosight.analysis import LIMITS, MASK_MEANING, RESEARCH_USE, Analysis, Finding, Status
from gliosight.errors import printable
from gliosight.study import MrSequence
from gliosight.write.pages import environment, template_text
from gliosight.write.pictures import (
    HEAT_FROM,
    Display,
    choose_slices,
    encode_grey,
    encode_heat,
    find_window,
    heat_colours,
    plan_display,
    slice_places,
    svg_path,
    trace,
)
from gliosight.write.words import (
    DASH,
    against,
    count_words,
    display_note,
    millilitres,
    probability_words,
    score_words,
    setting_words,
    unknown_measures,
    volume_words,
)

# Longest side of a picture, pixels, and how many pixels all pictures may have together: thousands
# of slices get smaller pictures, so that a phone still opens the file.
LONGEST_SIDE = 384
MOST_PIXELS = 80_000_000
SMALLEST_SIDE = 96
# Pictures that stand on the page itself, for print and for browsers without JavaScript.
KEY_SLICES = 6
# The report is one of the files whose writing is timed.
UNDER_WAY = "in result.json: it was still under way when this page was made"


def write_report(
    analysis: Analysis, path: Path, *, files: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Write ``report.html`` into a folder that exists.

    Parameters
    ----------
    analysis : Analysis
    path : Path
    files : mapping of str to str, optional
        The other outputs beside it: name relative to the report, and what it is.
    """
    # Lone surrogates, from names that are no UTF-8, become visible escapes.
    path.write_text(
        render_report(analysis, files=files),
        encoding="utf-8",
        errors="backslashreplace",
        newline="\n",
    )


def render_report(analysis: Analysis, *, files: Mapping[str, str] = MappingProxyType({})) -> str:
    """The report as text; see `write_report`."""
    style, script, early = (
        template_text("write", name) for name in ("report.css", "report.js", "early.js")
    )
    display = plan_display(analysis.study.geometry, analysis.study.shape)
    pictures = _draw(analysis, display)
    # In an element of their own, since the policy forbids style attributes.
    numbers = f":root{{--aspect:{display.aspect:.5f};--slices:{analysis.study.shape[0]}}}"
    context = {
        "policy": _policy(styles=(style, numbers), scripts=(early, script)),
        "style": style,
        "script": script,
        "early": early,
        "numbers": numbers,
        "data": embed_json(_data(analysis, pictures)),
        "research_use": RESEARCH_USE,
        "mask_meaning": MASK_MEANING,
        "limits": LIMITS,
        "dash": DASH,
        "study_id": analysis.study.study_id,
        "verdict": _verdict(analysis),
        "findings": [_finding_row(finding) for finding in analysis.findings],
        "unknown_measures": unknown_measures(analysis),
        "display": display,
        "display_note": display_note(display),
        "start": start_slice(analysis),
        "slices": len(analysis.study.slice_names),
        "sequences": list(pictures.sequences),
        "has_heat": any(pictures.heat),
        "heat": [f"#{r:02x}{g:02x}{b:02x}" for r, g, b, _ in heat_colours()[1:]],
        "heat_from": HEAT_FROM,
        "bars": _bars(analysis),
        "key_slices": _key_pictures(analysis, pictures),
        "start_picture": _data_uri(
            pictures.sequences[MrSequence.FLAIR.value][start_slice(analysis)]
        ),
        "outlines": pictures.outlines,
        "flags": sorted(analysis.flags, key=lambda flag: flag.severity != "warning"),
        "chosen": analysis.study.source.get("chosen", {}),
        "provenance": _provenance(analysis),
        "files": [
            {"href": "./" + quote(name, errors="surrogateescape"), "name": name, "what": what}
            for name, what in files.items()
        ],
    }
    # Whatever the template prints has its control codes and lone surrogates made visible.
    page = environment().overlay(finalize=_made_visible)
    return page.from_string(template_text("write", "report.html.j2")).render(context)


def _made_visible(value: Any) -> Any:
    plain = isinstance(value, str) and not isinstance(value, Markup)
    return printable(value) if plain and not value.isprintable() else value


def start_slice(analysis: Analysis) -> int:
    """The slice to look at first: the largest finding's, else the likeliest, else the middle."""
    if analysis.findings:
        return analysis.findings[0].largest_slice
    probabilities = analysis.decision.slice_probabilities
    if probabilities.max() >= HEAT_FROM and analysis.status is not Status.NOT_ASSESSED:
        return int(np.argmax(probabilities))
    return len(probabilities) // 2


def _verdict(analysis: Analysis) -> dict[str, Any]:
    decision = analysis.decision
    volume, volume_remark = volume_words(analysis)
    score, threshold = score_words(analysis)
    probabilities = decision.slice_probabilities
    highest = int(np.argmax(probabilities))
    assessed = analysis.status is not Status.NOT_ASSESSED
    return {
        "status": analysis.status.value.capitalize(),
        "kind": analysis.status.name.lower().replace("_", "-"),
        "reason": decision.reason,
        "score": score,
        "threshold": threshold,
        "meter": None if decision.score is None else 200 * min(max(decision.score, 0.0), 1.0),
        "meter_threshold": 200 * min(max(decision.score_threshold, 0.0), 1.0),
        "highest": probability_words(float(probabilities[highest])) if assessed else DASH,
        "highest_slice": highest if assessed else None,
        "volume": volume,
        "volume_remark": volume_remark,
    }


def _finding_row(finding: Finding) -> dict[str, Any]:
    area = finding.largest_area_mm2
    diameters = (finding.longest_diameter_mm, finding.perpendicular_diameter_mm)
    first, last = finding.slices
    remarks = []
    if finding.touches_edge:
        remarks.append("touches the edge of the volume: may go on outside")
    if finding.small:
        remarks.append("small: more often mistaken than large ones")
    return {
        "id": finding.id,
        "side": finding.side,
        "slices": f"{first}–{last}" if last > first else str(first),
        "volume": None if finding.volume_ml is None else millilitres(finding.volume_ml),
        "volume_px": count_words(finding.volume_px, "pixel"),
        "area": None if area is None else f"{area:,.0f} mm²",
        "area_px": count_words(finding.largest_area_px, "pixel"),
        "largest_slice": finding.largest_slice,
        "diameters": None
        if diameters[0] is None or diameters[1] is None
        else f"{diameters[0]:.1f} × {diameters[1]:.1f} mm",
        "mean": probability_words(finding.mean_probability),
        "peak": probability_words(finding.peak_probability),
        "remarks": "; ".join(remarks),
    }


def _bars(analysis: Analysis) -> dict[str, Any]:
    decision, areas = analysis.decision, analysis.areas_px
    probability_texts, area_texts = _slice_texts(analysis)
    bars = [
        {
            "index": index,
            "height": _percent(float(probability)),
            "above": bool(probability >= decision.slice_threshold),
            "area_height": _percent(area / max(int(areas.max()), 1)),
            "label": f"Slice {index}: probability {probability_texts[index]}, area {area_texts[index]}",
        }
        for index, (probability, area) in enumerate(
            zip(decision.slice_probabilities, areas.tolist(), strict=True)
        )
    ]
    return {
        "bars": bars,
        "threshold": against(0.0, decision.slice_threshold)[1],
        "threshold_y": f"{100 - 100 * min(max(decision.slice_threshold, 0.0), 1.0):.2f}",
        "largest": _area_words(analysis, int(areas.max())),
    }


def _percent(part: float) -> str:
    return f"{100 * min(max(part, 0.0), 1.0):.1f}".removesuffix(".0")


def _slice_texts(analysis: Analysis) -> tuple[list[str], list[str]]:
    """Probability and area of each slice in words."""
    if analysis.status is Status.NOT_ASSESSED:  # a 0 would claim a negative
        unknown = [DASH] * analysis.study.shape[0]
        return unknown, unknown
    return (
        [
            probability_words(float(probability))
            for probability in analysis.decision.slice_probabilities
        ],
        [_area_words(analysis, int(area)) for area in analysis.areas_px],
    )


def _area_words(analysis: Analysis, pixels: int) -> str:
    geometry = analysis.study.geometry
    if geometry is None:
        return count_words(pixels, "pixel")
    return f"{pixels * geometry.pixel_area:,.0f} mm²"


def _key_pictures(analysis: Analysis, pictures: _Pictures) -> list[dict[str, Any]]:
    count = analysis.study.shape[0]
    always = [finding.largest_slice for finding in analysis.findings] or [start_slice(analysis)]
    if analysis.findings:  # how far the largest lesion goes, too
        first, last = analysis.findings[0].slices
        always += [round(first + (last - first) * part) for part in (0.25, 0.75, 0.0, 1.0)]
    places = slice_places(analysis.study.geometry)
    return [
        {
            "index": index,
            "name": analysis.study.slice_names[index],
            "place": places[index] if places else "",
            "picture": _data_uri(pictures.sequences[MrSequence.FLAIR.value][index]),
            "outline": pictures.outlines[index],
            "findings": _findings_on(analysis, index),
        }
        for index in choose_slices(count, KEY_SLICES, always)
    ]


def _findings_on(analysis: Analysis, index: int) -> list[int]:
    return [
        finding.id
        for finding in analysis.findings
        if finding.slices[0] <= index <= finding.slices[1]
    ]


def _provenance(analysis: Analysis) -> dict[str, Any]:
    origin = analysis.provenance
    shape = " × ".join(f"{size:,}" for size in analysis.study.shape)
    facts = {
        "gliosight": origin.version,
        "Model": origin.model,
        "Model SHA-256": origin.model_sha256,
        "Engine": origin.engine,
        "Precision": origin.precision,
        "Sequences used": ", ".join(origin.channels) or DASH,
        "Slices × rows × columns": shape,
        "Rules that fired": ", ".join(analysis.decision.rules) or DASH,
    }
    geometry = analysis.study.geometry
    if geometry is not None:
        between = (
            "unknown" if geometry.slice_spacing is None else f"{geometry.slice_spacing:.3g} mm"
        )
        height, width = geometry.spacing
        facts["Pixel size, slice spacing"] = f"{height:.3g} × {width:.3g} mm, {between}"
    return {
        "facts": facts,
        "settings": dict(setting_words(origin.settings)),
        "timings": {
            **{stage: f"{ms:,.0f} ms" for stage, ms in origin.timings_ms.items()},
            **({} if "write" in origin.timings_ms else {"write": UNDER_WAY}),
        },
        "environment": origin.environment,
    }


@dataclass(frozen=True)
class _Pictures:
    """Everything drawn, by slice: JPEGs of each sequence, PNGs of the heat, SVG outlines."""

    sequences: dict[str, list[bytes]]
    heat: list[bytes | None]
    outlines: list[str]


def _draw(analysis: Analysis, display: Display) -> _Pictures:
    study = analysis.study
    present = [sequence for sequence in MrSequence if sequence in study.sequences]
    count, rows, columns = study.shape
    longest = LONGEST_SIDE
    shrink = LONGEST_SIDE / max(rows, columns, LONGEST_SIDE)
    pixels = count * len(present) * rows * columns * shrink**2
    if pixels > MOST_PIXELS:
        side = min(LONGEST_SIDE, max(rows, columns))
        longest = max(SMALLEST_SIDE, int(side * math.sqrt(MOST_PIXELS / pixels)))

    def draw_grey(sequence: MrSequence, index: int) -> bytes:
        plane = display.turn(study.sequences[sequence].values[index])
        return encode_grey(windows[sequence].apply(plane), longest)

    def draw_heat(index: int) -> bytes | None:
        return encode_heat(display.turn(analysis.maps.probability[index]), longest)

    # Pillow and numpy let go of the interpreter while they work: threads pay, up to a few.
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        volumes = [study.sequences[sequence].values for sequence in present]
        windows = dict(zip(present, pool.map(find_window, volumes), strict=True))
        drawn = {
            sequence.value: list(pool.map(partial(draw_grey, sequence), range(count)))
            for sequence in present
        }
        heat = list(pool.map(draw_heat, range(count)))
    return _Pictures(drawn, heat, [svg_path(trace(display.turn(plane))) for plane in analysis.mask])


def _data(analysis: Analysis, pictures: _Pictures) -> dict[str, Any]:
    """What the script needs; pictures as base64 without their ``data:`` prefix."""
    probabilities, areas = _slice_texts(analysis)
    return {
        "start": start_slice(analysis),
        "names": [printable(name) for name in analysis.study.slice_names],
        "places": slice_places(analysis.study.geometry),
        "probabilities": probabilities,
        "areas": areas,
        "findings": [_findings_on(analysis, index) for index in range(len(areas))],
        "outlines": pictures.outlines,
        "sequences": {
            name: [b64encode(picture).decode("ascii") for picture in drawn]
            for name, drawn in pictures.sequences.items()
        },
        "heat": [picture and b64encode(picture).decode("ascii") for picture in pictures.heat],
    }


def embed_json(value: Any) -> str:
    """JSON that may stand in a ``<script>`` element: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    # U+2028 and U+2029 are already escaped, being no ASCII.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + b64encode(jpeg).decode("ascii")


def _policy(*, styles: tuple[str, ...], scripts: tuple[str, ...]) -> str:
    def hashes(texts: tuple[str, ...]) -> str:
        digests = (b64encode(sha256(text.encode()).digest()).decode("ascii") for text in texts)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (
        f"default-src 'none'; img-src data:; style-src {hashes(styles)}; "
        f"script-src {hashes(scripts)}; base-uri 'none'; form-action 'none'"
    )
