"""Chunk sweep: where a cache's logits differ from the oracle's, for every window, text and chunk.

Lesson: 08_rolling_cache, which compares the logits; nothing here does.

Conventions
    One grid for each window; columns are chunk sizes, rows text lengths, longest on top. A cell
    with × is wrong; a plain cell is exact. The line marks the text that just fills the window.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mistral_edu.viz.frame import Frame, count, listed
from mistral_edu.viz.render import draw
from mistral_edu.viz.style import INK, QUIET, SHADE, SKY, VERMILLION, card, panel, squares, stamp

MOST_WINDOWS = 3

_LEGEND = "×  logits differ from the oracle     plain: exact     line: the text fills the window"


@dataclass(frozen=True)
class ChunkSweepFrame(Frame):
    """Which cases of a sweep are wrong.

    Args:
        wrong: for each (window, text length, chunk size), whether the logits differ.
    """

    topic: ClassVar[str] = "chunk-sweep"
    wrong: dict[tuple[int, int, int], bool]

    @property
    def windows(self) -> list[int]:
        """The windows swept, in order."""
        return sorted({window for window, _, _ in self.wrong})

    @property
    def lengths(self) -> list[int]:
        """The text lengths swept, in order."""
        return sorted({length for _, length, _ in self.wrong})

    @property
    def chunks(self) -> list[int]:
        """The chunk sizes swept, in order."""
        return sorted({chunk for _, _, chunk in self.wrong})

    @property
    def spares_the_easy(self) -> bool:
        """Whether no single-token case, and no text that fits the window, is wrong."""
        return all(n > w and chunk > 1 for (w, n, chunk), bad in self.wrong.items() if bad)

    @property
    def title(self) -> str:
        bad, cases = sum(self.wrong.values()), len(self.wrong)
        if not bad:
            return f"Exact in every one of {cases} cases"
        if self.spares_the_easy:
            return "Haste goes unpunished for single tokens and for texts that fit the window"
        return f"Wrong in {bad} of {cases} cases, single tokens or short texts among them"

    @property
    def summary(self) -> str:
        grids = []
        for window in self.windows:
            cells = [bad for (w, _, _), bad in self.wrong.items() if w == window]
            grids.append(f"{sum(cells)} of {count(len(cells), 'cell')} for window {window}")
        where = ""
        if any(self.wrong.values()) and self.spares_the_easy:
            where = " All of these lie above the window line and right of chunk size 1."
        return f"Grids of text length by chunk size, wrong cells crossed: {listed(grids)}.{where}"

    def to_text(self) -> str:
        rows = []
        for window in self.windows:
            for length in self.lengths:
                marks = ["×" if self.wrong[window, length, c] else "·" for c in self.chunks]
                rows.append(f"W={window} length {length:>2}: {' '.join(marks)}")
        legend = f"× wrong, · exact; columns are chunks of {listed(self.chunks)} tokens"
        return "\n".join([self.title, *rows, legend])


def chunk_sweep_frame(wrong: Mapping[tuple[int, int, int], bool]) -> ChunkSweepFrame:
    """Put a sweep's verdicts into a frame.

    Args:
        wrong: for each (window, text length, chunk size), whether the logits differ; every
            combination of the sizes that occur, for one to three windows.

    Raises:
        ValueError: when a combination is missing, or there are too many windows.

    >>> chunk_sweep_frame({(2, 1, 1): False, (2, 3, 1): False}).title
    'Exact in every one of 2 cases'
    """
    frame = ChunkSweepFrame(dict(wrong))
    full = len(frame.windows) * len(frame.lengths) * len(frame.chunks)
    if not 1 <= len(frame.windows) <= MOST_WINDOWS or len(wrong) != full:
        raise ValueError(
            f"{len(wrong)} cases for windows {frame.windows}: give all {full} combinations, for 1 "
            f"to {MOST_WINDOWS} windows"
        )
    return frame


@draw.register
def _(frame: ChunkSweepFrame) -> Figure:
    figure = card(4.7, frame.title)
    for place, window in enumerate(frame.windows):
        _draw_grid(panel(figure, 0.65 + 2.38 * place, 0.9, 2.0, 3.1), frame, window)
    figure.axes[0].set_ylabel("text (tokens)")
    figure.text(0.085, 0.04, _LEGEND, size=8.5, color=QUIET)
    return figure


def _draw_grid(axes: Axes, frame: ChunkSweepFrame, window: int) -> None:
    places = [(chunk, n) for n in range(len(frame.lengths)) for chunk in range(len(frame.chunks))]
    bad = [(c, n) for c, n in places if frame.wrong[window, frame.lengths[n], frame.chunks[c]]]
    squares(axes, np.array(places), SHADE, "")
    if bad:
        squares(axes, np.array(bad), SKY, "")
        stamp(axes, "×", np.array(bad) + 0.5, 11, INK, bold=True)
    fits = sum(length <= window for length in frame.lengths)
    axes.axhline(fits, color=VERMILLION, lw=2.5, zorder=3, clip_on=False)
    axes.set(xlim=(0, len(frame.chunks)), ylim=(0, len(frame.lengths)))
    axes.set_xticks(np.arange(len(frame.chunks)) + 0.5, map(str, frame.chunks))
    axes.set_yticks(np.arange(len(frame.lengths)) + 0.5, map(str, frame.lengths))
    axes.set(xlabel="chunk (tokens)", title=f"W = {window}")
    axes.tick_params(length=0)
