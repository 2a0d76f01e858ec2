"""The report a person opens: one self-contained HTML file (stage: write).

``report.html`` holds its pictures, style and script: readable offline, on a phone, printed, and without
JavaScript. Words and numbers are written here, in ``words.py`` and in ``templates/report.html.j2``; the
scripts only show what is there: ``volume.js`` decodes it, ``drawing.js`` draws a pane of the viewer,
``tools.js`` takes pointer, wheel and keys, ``report.js`` holds the page together. People count slices from 1;
the data and all indices in code from 0.

Everything that comes from the study (its id, slice names, flags) is hostile text: the template escapes it,
the data block escapes what could end it, and a content security policy allows this page's own style and
script by hash, pictures as data, and nothing else.
"""

from __future__ import annotations

import math
import os
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from gliosight.analysis import LIMITS, MASK_MEANING, RESEARCH_USE, Analysis, Status
from gliosight.errors import printable
from gliosight.flags import beside_reason, warnings_of
from gliosight.study import MrSequence
from gliosight.write import words
from gliosight.write.pages import (
    content_policy,
    embed_json,
    fill,
    made_visible,
    page_template,
    template_text,
)
from gliosight.write.pictures import (
    FINDING_COLOURS,
    HEAT_FROM,
    KNEE,
    QUALITIES,
    Display,
    Tissue,
    Window,
    choose_slices,
    encode_grey,
    encode_heat,
    find_frame,
    find_tissue,
    find_window,
    heat_colours,
    plan_cuts,
    plan_display,
    position_words,
    svg_path,
    trace,
)

if TYPE_CHECKING:
    from jinja2 import Template

# Longest side of a picture, pixels, and how many pixels all pictures may have together: thousands
# of slices get smaller pictures, so that a phone still opens the file.
LONGEST_SIDE = 384
MOST_PIXELS = 80_000_000
SMALLEST_SIDE = 96
# What the grey pictures together should take in the file at most: of many noisy slices they are coded
# more coarsely, and a report of 155 slices stays below 5 MB.
MOST_BYTES = 4_000_000
# Pictures of a sequence that are coded to find out.
TRIED = 10
STYLES = ("report.css", "viewer.css")
SCRIPTS = ("volume.js", "drawing.js", "tools.js", "report.js")
# Pictures that stand on the page itself, for print and for browsers without JavaScript.
KEY_SLICES = 6
# The report is one of the files whose writing is timed.
UNDER_WAY = "in result.json: it was still under way when this page was made"


def write_report(
    analysis: Analysis,
    path: Path,
    *,
    files: Mapping[str, str] = MappingProxyType({}),
    tissue: Tissue | None = None,
) -> None:
    """Write ``report.html`` into a folder that exists.

    ``files`` are the other outputs beside it: name relative to the report, and what it is. ``tissue`` is
    that of FLAIR, if it is known already.
    """
    # Lone surrogates, from names that are no UTF-8, become visible escapes.
    page = render_report(analysis, files=files, tissue=tissue)
    path.write_text(page, encoding="utf-8", errors="backslashreplace", newline="\n")


def render_report(
    analysis: Analysis,
    *,
    files: Mapping[str, str] = MappingProxyType({}),
    tissue: Tissue | None = None,
) -> str:
    """The report as text; see `write_report`."""
    study, decision = analysis.study, analysis.decision
    display = plan_display(study.geometry, study.shape)
    tissue = tissue or find_tissue(study.flair.values)
    pictures, windows, heat = _draw(analysis, display, tissue)
    outlines = finding_outlines(analysis, display)
    slices = _slices(analysis, outlines)
    inner, outer = _interval_outlines(analysis, display)
    listed = [
        *warnings_of(analysis.flags),
        *(flag for flag in analysis.flags if flag.severity != "warning"),
    ]
    warnings = warnings_of(beside_reason(analysis.flags, decision.reason))
    interval = words.interval_words(analysis)
    start = start_slice(analysis)
    style, script = (
        "\n".join(template_text("write", name) for name in names) for names in (STYLES, SCRIPTS)
    )
    early = template_text("write", "early.js")
    # In an element of their own, since the policy forbids style attributes.
    numbers = f":root{{--aspect:{display.aspect:.5f};--slices:{study.shape[0]}}}" + "".join(
        f".finding-{k}{{--finding:{colour}}}" for k, colour in enumerate(FINDING_COLOURS)
    )
    context = {
        "policy": content_policy(styles=(style, numbers), scripts=(early, script)),
        "style": style,
        "script": script,
        "early": early,
        "numbers": numbers,
        "data": embed_json(
            {
                "study": printable(study.study_id),
                "start": start,
                "names": [printable(name) for name in study.slice_names],
                "places": position_words(study.geometry),
                "probabilities": [row["probability"] for row in slices],
                "areas": [row["area"] for row in slices],
                "findings": [row["findings"] for row in slices],
                "outlines": outlines,
                "colours": FINDING_COLOURS,
                "inner": inner,
                "outer": outer,
                "sequences": pictures,
                "windows": {
                    name: {"low": window.low, "high": window.high, "top": window.top}
                    for name, window in windows.items()
                },
                "knee": KNEE,
                "heat": heat,
                "geometry": _shown_geometry(analysis, display, tissue),
                "texts": {
                    finding.id: words.finding_text(analysis, finding)
                    for finding in analysis.findings
                },
                "research": RESEARCH_USE,
            }
        ),
        "research_use": RESEARCH_USE,
        "mask_meaning": MASK_MEANING if analysis.findings else "",
        "limits": LIMITS,
        "words": words,
        "analysis": analysis,
        "status": analysis.status.value.capitalize(),
        "kind": analysis.status.name.lower().replace("_", "-"),
        "probability": words.study_words(decision),
        "probability_sentence": words.probability_sentence(
            decision.probability,
            decision.prevalence,
            doubted=analysis.status is Status.UNCERTAIN and words.doubted(analysis.flags),
        ),
        "bounds": words.verdict_bounds(decision.uncertain_from, decision.found_from),
        "calibrated": decision.prevalence is not None or decision.probability is None,
        "volume": words.volume_words(analysis),
        "interval": interval,
        "interval_sentence": words.interval_sentence(interval, decision.status.value),
        "warnings": warnings,
        "inner": inner,
        "outer": outer,
        "highest_slice": int(np.argmax(decision.slice_probabilities)),
        "unknown_measures": words.unknown_measures(analysis),
        "display": display,
        "display_note": words.display_note(display),
        "start": start,
        "slices": slices,
        "named": study.kind == "slices",  # else the names are ours
        "threshold": words.against(0.0, decision.slice_threshold)[1],
        "largest_area": words.area_words(analysis, int(analysis.areas_px.max())),
        "flair": pictures[MrSequence.FLAIR.value],
        "sequences": list(pictures),
        "stand_ins": words.stand_ins(analysis),
        "cuts": plan_cuts(study.geometry, display),
        "colour_of": lambda number: f"finding-{(number - 1) % len(FINDING_COLOURS)}",
        "heat": [f"#{r:02x}{g:02x}{b:02x}" for r, g, b, _ in heat_colours()[1:]],
        "has_heat": any(heat),
        "heat_from": HEAT_FROM,
        "key_slices": _key_slices(analysis, start),
        "start_words": start_words(analysis, start),
        "key_words": key_words(analysis, start),
        "flags": listed,
        "worst": listed.index(warnings[0]) + 1 if warnings else None,
        "provenance": _provenance(analysis),
        "files": [
            {"href": "./" + quote(name, errors="surrogateescape"), "name": name, "what": what}
            for name, what in files.items()
        ],
    }
    return fill(report_template(), **context)


def finding_outlines(analysis: Analysis, display: Display) -> list[list[dict[str, Any]]]:
    """For each slice the outline of each finding on it, and the box round it.

    A box is left, top, right and bottom in displayed pixels. Findings never touch, so that together their
    outlines are the mask's.
    """
    outlines: list[list[dict[str, Any]]] = [[] for _ in analysis.labels]
    for finding in analysis.findings:
        first, last = finding.slices
        for k in range(first, last + 1):
            loops = trace(display.turn(analysis.labels[k]) == finding.id)
            if loops:
                corners = np.concatenate(loops)
                box = [*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()]
                outlines[k].append({"finding": finding.id, "path": svg_path(loops), "box": box})
    return outlines


def _shown_geometry(analysis: Analysis, display: Display, tissue: Tissue) -> dict[str, Any]:
    """What the viewer has to know of planes and sizes: pixels count as 1 where millimetres are unknown."""
    geometry = analysis.study.geometry
    spacing = None if geometry is None else geometry.slice_spacing
    height, width = display.pixel
    head, rows, columns = find_frame(tissue, analysis.mask)
    # The box round the head, in displayed pixels: air round it is outside of the first view.
    ranges = [
        range(n)[part] for n, part in zip(analysis.study.shape, (head, rows, columns), strict=True)
    ]
    if display.transpose:
        ranges[1:] = ranges[:0:-1]
    for axis, flipped in ((1, display.flip_rows), (2, display.flip_columns)):
        if flipped:
            size = (display.rows, display.columns)[axis - 1]
            ranges[axis] = range(size - ranges[axis].stop, size - ranges[axis].start)
    own = {
        "plane": display.plane or "",
        "words": display.plane_words,
        "across": "x",
        "down": "y",
        "flip_across": False,
        "flip_down": False,
        "top": display.top,
        "bottom": display.bottom,
        "left": display.left,
        "right": display.right,
    }
    return {
        "columns": display.columns,
        "rows": display.rows,
        "unit": "pixels" if geometry is None else "mm",
        "head": {axis: [part.start, part.stop] for axis, part in zip("kyx", ranges, strict=True)},
        "spacing": {"x": width, "y": height, "k": spacing or 1.0},
        "planes": [
            own,
            *(vars(cut) | {"words": cut.plane} for cut in plan_cuts(geometry, display)),
        ],
    }


def _interval_outlines(analysis: Analysis, display: Display) -> tuple[list[str], list[str]]:
    """Of each slice the outlines that hold the lower and the upper end of the volume's interval."""
    volumes = interval_masks(analysis)
    if volumes is None:
        return [""] * len(analysis.mask), [""] * len(analysis.mask)
    inner, outer = (
        [svg_path(trace(display.turn(plane))) for plane in volume] for volume in volumes
    )
    return inner, outer


def interval_masks(
    analysis: Analysis,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Masks that hold the lower and the upper end of the volume's interval: (slices, rows, columns) each.

    The inner one are the most probable voxels of the mask; the outer one is the mask, grown by the same
    distance everywhere. ``None`` where there is no interval.
    """
    from scipy import ndimage

    outline, mask = analysis.decision.outline, analysis.mask
    if outline is None or outline.volume_low is None or outline.volume_high is None:
        return None
    size, values = int(mask.sum()), analysis.maps.probability[mask]
    inside = max(round(outline.volume_low * size), 1)
    inner = mask & (analysis.maps.probability >= np.partition(values, size - inside)[size - inside])
    geometry = analysis.study.geometry
    sides = (1.0, 1.0, 1.0)
    if geometry is not None:
        sides = (geometry.slice_spacing or max(geometry.spacing), *geometry.spacing)
    # As far as a ball would grow; a flat body, or one at the edge of the volume, has to grow further.
    radius = (3 * size * math.prod(sides) / (4 * math.pi)) ** (1 / 3)
    growth = radius * (outline.volume_high ** (1 / 3) - 1)
    outer = np.zeros(mask.shape, dtype=bool)
    (box,) = ndimage.find_objects(mask.view(np.uint8))
    while True:
        margins = [math.ceil(growth / side) + 1 for side in sides]
        where = tuple(
            slice(max(0, extent.start - margin), extent.stop + margin)
            for extent, margin in zip(box, margins, strict=True)
        )
        distance = ndimage.distance_transform_edt(~mask[where], sampling=sides)
        wanted = min(round(outline.volume_high * size), distance.size)
        reach = float(np.partition(distance, wanted - 1, axis=None)[wanted - 1])
        if reach <= growth + min(sides) or distance.size == mask.size:
            break
        growth = 2 * growth + max(sides)
    outer[where] = distance <= reach
    return inner, outer


def report_template() -> Template:
    """The report's template: whatever it prints has its control codes and lone surrogates made visible."""
    return page_template("write", "report.html.j2", made_visible)


def start_slice(analysis: Analysis) -> int:
    """The slice to look at first: the largest finding's, else the likeliest, else the middle."""
    if analysis.findings:
        return analysis.findings[0].largest_slice
    probabilities = analysis.decision.slice_probabilities
    if probabilities.max() >= HEAT_FROM and analysis.status is not Status.NOT_ASSESSED:
        return int(np.argmax(probabilities))
    return len(probabilities) // 2


def start_words(analysis: Analysis, start: int) -> str:
    """Why a slice is shown first, where there is no finding."""
    if analysis.findings or len(analysis.mask) == 1:
        return ""
    return f"The picture starts at slice {start + 1}: it {_start_reason(analysis, start)}."


def key_words(analysis: Analysis, start: int) -> str:
    """How the key slices were chosen; empty if they are all there are."""
    if len(analysis.mask) <= KEY_SLICES:
        return ""
    word = "candidate" if analysis.status is Status.UNCERTAIN else "finding"
    chosen = f"Slice {start + 1} {_start_reason(analysis, start)}"
    if analysis.findings:
        chosen = f"Shown are the largest slice of each {word} and slices along the largest {word}"
    return f"{chosen}; the others are spread over the stack."


def _start_reason(analysis: Analysis, start: int) -> str:
    middle = start == len(analysis.mask) // 2
    return "lies in the middle" if middle else "has the highest slice probability"


def _slices(analysis: Analysis, outlines: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What the page says of each slice: words, heights of the bars in percent, outline, findings."""
    positions = position_words(analysis.study.geometry) or [""] * len(outlines)
    decision, areas = analysis.decision, analysis.areas_px.tolist()
    above = (decision.slice_probabilities >= decision.slice_threshold).tolist()
    largest = max(*areas, 1)
    rows = []
    for index, probability in enumerate(decision.slice_probabilities.tolist()):
        area = areas[index]
        probability_text = area_text = words.DASH
        if analysis.status is not Status.NOT_ASSESSED:  # a 0 would claim a negative
            probability_text = words.probability_words(probability)
            area_text = words.area_words(analysis, area)
        rows.append(
            {
                "index": index,
                "name": analysis.study.slice_names[index],
                "position": positions[index],
                "probability": probability_text,
                "area": area_text,
                "label": f"Slice {index + 1}: probability {probability_text}, area {area_text}",
                "height": _percent(probability),
                "above": above[index],
                "area_height": _percent(area / largest),
                "outlines": outlines[index],
                "findings": [
                    finding.id
                    for finding in analysis.findings
                    if finding.slices[0] <= index <= finding.slices[1]
                ],
            }
        )
    return rows


def _percent(part: float) -> str:
    return f"{100 * words.part(part):.1f}".removesuffix(".0")


def _key_slices(analysis: Analysis, start: int) -> list[int]:
    always = [finding.largest_slice for finding in analysis.findings] or [start]
    if analysis.findings:  # how far the largest lesion goes, too
        first, last = analysis.findings[0].slices
        always += [round(first + (last - first) * part) for part in (0.25, 0.75, 0.0, 1.0)]
    return choose_slices(analysis.study.shape[0], KEY_SLICES, always)


def _provenance(analysis: Analysis) -> dict[str, dict[str, str]]:
    made_by, geometry = analysis.provenance, analysis.study.geometry
    facts = {
        "gliosight": made_by.version,
        "Model": made_by.model,
        "Model SHA-256": made_by.model_sha256,
        "Engine": made_by.engine,
        "Precision": made_by.precision,
        "Sequences used": ", ".join(dict.fromkeys(made_by.channels)) or words.DASH,
        "Slices × rows × columns": " × ".join(f"{size:,}" for size in analysis.study.shape),
        "Rules that fired": ", ".join(analysis.decision.rules) or words.DASH,
    }
    if geometry is not None:
        gap = geometry.slice_spacing
        height, width = geometry.spacing
        facts["Pixel size, slice spacing"] = (
            f"{height:.3g} × {width:.3g} mm, {'unknown' if gap is None else f'{gap:.3g} mm'}"
        )
    timings = {stage: f"{ms:,.0f} ms" for stage, ms in made_by.timings_ms.items()}
    return {
        "facts": facts,
        "Settings": dict(words.setting_words(made_by.settings)),
        "Time taken": timings if "write" in timings else {**timings, "write": UNDER_WAY},
        "Environment": dict(made_by.environment),
    }


def _draw(
    analysis: Analysis, display: Display, tissue: Tissue
) -> tuple[dict[str, list[str]], dict[str, Window], list[str | None]]:
    """JPEGs of each sequence by slice, their windows, and PNGs of the heat where there is any; in base64."""
    study = analysis.study
    present = [sequence for sequence in MrSequence if sequence in study.sequences]
    count, rows, columns = study.shape
    longest = LONGEST_SIDE
    side = min(LONGEST_SIDE, max(rows, columns))
    pixels = count * len(present) * rows * columns * (side / max(rows, columns)) ** 2
    if pixels > MOST_PIXELS:
        longest = max(SMALLEST_SIDE, int(side * math.sqrt(MOST_PIXELS / pixels)))

    def draw_grey(sequence: MrSequence, quality: int, index: int) -> str:
        plane = display.turn(study.sequences[sequence].values[index])
        jpeg = encode_grey(windows[sequence].encode(plane), longest, quality)
        return b64encode(jpeg).decode("ascii")

    def draw_heat(index: int) -> str | None:
        png = encode_heat(display.turn(analysis.maps.probability[index]), longest)
        return None if png is None else b64encode(png).decode("ascii")

    def total_size(quality: int) -> float:
        """What all pictures will take, from some of them."""
        tried = np.unique(np.linspace(0, count - 1, TRIED).round().astype(int)).tolist()
        sizes = [len(draw_grey(sequence, quality, k)) for sequence in present for k in tried]
        return sum(sizes) * count / len(tried)

    # Pillow and numpy let go of the interpreter while they work: threads pay, up to a few.
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        windows = {name: find_window(study.sequences[name].values, tissue) for name in present}
        quality = QUALITIES[0]
        # No picture takes more than a byte or two for a pixel: few pixels fit as they are.
        if pixels > MOST_BYTES / 2:
            fitting = (quality for quality in QUALITIES if total_size(quality) <= MOST_BYTES)
            quality = next(fitting, QUALITIES[-1])
        drawn = {
            sequence.value: list(pool.map(partial(draw_grey, sequence, quality), range(count)))
            for sequence in present
        }
        named = {sequence.value: window for sequence, window in windows.items()}
        return drawn, named, list(pool.map(draw_heat, range(count)))
