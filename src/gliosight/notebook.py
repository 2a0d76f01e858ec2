"""An analysis as a notebook shows it: verdict, the most telling slice, findings; and as a figure.

Apart from `gliosight.analysis`, which is below all stages, while pictures and words are the writing stage's.
Nothing is written: the HTML holds one slice of the study, and stays where the notebook is kept.
"""

from __future__ import annotations

import io
from base64 import b64encode
from typing import TYPE_CHECKING

import numpy as np

from gliosight.analysis import MASK_MEANING, RESEARCH_USE, Analysis, Status
from gliosight.errors import UsageError, printable
from gliosight.extras import needs_extra
from gliosight.write import words
from gliosight.write.overview import OUTLINE, head_lines, outlined
from gliosight.write.pages import fill, page_template
from gliosight.write.pictures import find_window, plan_display, trace
from gliosight.write.report import start_slice

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Longest sides of the picture in a notebook, pixels: width and height.
PICTURE = (420, 420)
JPEG_QUALITY = 88
THUMBNAIL = (120, 120)


class ShownAnalysis(Analysis):
    """A `gliosight.analysis.Analysis` that shows itself: what `gliosight.analyze` returns."""

    def _repr_html_(self) -> str:
        """What Jupyter shows; no style sheet, no script, no request, so that any notebook takes it."""
        status, study = self.status, self.study
        index = start_slice(self)
        return fill(
            page_template("write", "analysis.html.j2"),
            status=status.value.capitalize(),
            study_id=printable(study.study_id),
            lines=[printable(line) for line in head_lines(self, study.shape[0])],
            picture=b64encode(_picture(self, index)).decode("ascii"),
            slice_words=_slice_words(self, index),
            display_note=words.display_note(plan_display(study.geometry, study.shape)),
            alt="with the outline of the mask" if self.mask[index].any() else "nothing is marked",
            kind="Candidate" if status is Status.UNCERTAIN else "Finding",
            findings=self.findings,
            analysis=self,
            words=words,
            mask_meaning=MASK_MEANING,
            research_use=RESEARCH_USE,
        )

    def plot(self, slice_index: int | None = None, *, ax: Axes | None = None) -> Axes:
        """Draw one slice of FLAIR with the outline of the mask, in radiological display (matplotlib).

        Parameters
        ----------
        slice_index : int, optional
            Counted from 0; by default the largest slice of the largest finding, else the likeliest slice.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure of pyplot without it.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ModelError
            Matplotlib is not installed.
        UsageError
            The study has no such slice.
        """
        index = start_slice(self) if slice_index is None else slice_index
        if isinstance(index, bool) or not isinstance(index, int | np.integer):
            raise UsageError(f"the slice is {index!r}", remedy="give its index, a whole number")
        slices = self.study.shape[0]
        if not 0 <= index < slices:
            raise UsageError(f"there is no slice {index}", remedy=f"give one of 0 to {slices - 1}")
        with needs_extra("evaluate", "plot"):  # only here: the core runs without matplotlib
            from matplotlib import pyplot as plt
        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        display = plan_display(self.study.geometry, self.study.shape)
        grey = find_window(self.study.flair.values).apply(self.study.flair.values[index])
        ax.imshow(
            display.turn(grey),
            cmap="gray",
            vmin=0,
            vmax=255,
            aspect=display.pixel[0] / display.pixel[1],
        )
        for loop in trace(display.turn(self.mask[index])):
            # Loops run along the corners of pixels; matplotlib's pixels have their centres at whole numbers.
            x, y = np.vstack([loop, loop[:1]]).T - 0.5
            ax.plot(x, y, color=[part / 255 for part in OUTLINE], linewidth=1.5)
        for x, text in ((0.02, display.left), (0.98, display.right)):
            align = "left" if x < 0.5 else "right"
            ax.text(x, 0.5, text, color="white", ha=align, va="center", transform=ax.transAxes)
        ax.set_title(f"{self.status.value.capitalize()}, {_slice_words(self, int(index))}")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_xlabel(RESEARCH_USE, fontsize="small")
        return ax


def _slice_words(analysis: Analysis, index: int) -> str:
    return f"slice {index + 1} of {analysis.study.shape[0]}"


def thumbnail(analysis: Analysis) -> bytes:
    """The slice to look at first with the mask's outline, small, as JPEG."""
    return _picture(analysis, start_slice(analysis), THUMBNAIL)


def _picture(analysis: Analysis, index: int, size: tuple[int, int] = PICTURE) -> bytes:
    """One slice of FLAIR with the mask's outline, as JPEG."""
    flair = analysis.study.flair.values
    display = plan_display(analysis.study.geometry, analysis.study.shape)
    grey = find_window(flair).apply(flair[index])
    buffer = io.BytesIO()
    picture = outlined(display, grey, analysis.mask[index], size).convert("RGB")
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()
