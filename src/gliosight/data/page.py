"""The page that describes a data set: one self-contained HTML file (data; extra: evaluate).

In: a `Manifest`, its `Summary` and a `Look`. Out: HTML text, with style and plots inside; no script, no
network, no patient's image. Names of patients and files are hostile text: the template escapes them.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

from gliosight import __version__
from gliosight.analysis import RESEARCH_USE
from gliosight.data.describe import Look
from gliosight.data.manifest import Manifest
from gliosight.data.plots import draw_plots
from gliosight.data.summary import Summary
from gliosight.errors import printable
from gliosight.write.pages import environment, template_text

FIRST_ROWS = 5
PAGE = "describe.html"


def render_page(manifest: Manifest, name: str, summary: Summary, look: Look) -> bytes:
    """The page, UTF-8.

    Parameters
    ----------
    manifest : Manifest
        With at least one usable slice.
    name : str
        Of the manifest's file.
    summary : Summary
    look : Look
    """
    style = template_text("data", "describe.css")
    digest = b64encode(sha256(style.encode()).digest()).decode("ascii")
    text = (
        environment()
        .from_string(template_text("data", "describe.html.j2"))
        .render(
            policy=f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; "
            "form-action 'none'",
            style=style,
            name=printable(name),
            version=__version__,
            digest=manifest.sha256,
            research_use=RESEARCH_USE,
            summary=summary,
            look=look,
            head=[
                {
                    "patient": printable(row.patient),
                    "number": row.number,
                    "image": printable(row.image),
                    "mask": printable(row.mask),
                    "tumour": "yes" if row.tumour else "no",
                    "area": row.area_px,
                }
                for row in manifest.rows[:FIRST_ROWS]
            ],
            spreads=summary.spreads,
            missing=[
                (
                    sequence,
                    len(patients),
                    len(summary.copied[sequence]),
                    [printable(one) for one in patients],
                )
                for sequence, patients in summary.missing.items()
                if patients
            ],
            excluded=[(printable(reason), count) for reason, count in summary.excluded.items()],
            plots=[
                (
                    one.title,
                    one.text,
                    "data:image/svg+xml;base64," + b64encode(one.svg.encode()).decode(),
                )
                for one in draw_plots(manifest)
            ],
        )
    )
    return text.encode("utf-8", "backslashreplace")
