"""Reach sweep: how far a real model heard, against the two formulas that claim to say it.

    measured reach  =  1 + L · (W − 1)   and not   L · W

Source: "Mistral 7B" (arXiv 2310.06825), section 2, "Sliding Window Attention".
Lesson: 06_sliding_window, which measures; nothing here does. The cone itself is in `reach.py`.

Conventions
    Dots are measurements, solid lines 1 + L · (W − 1), dotted lines L · W.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from matplotlib.figure import Figure

from mistral_edu.sliding_window import reach
from mistral_edu.viz.frame import Frame, aligned, count, listed
from mistral_edu.viz.render import draw
from mistral_edu.viz.style import BLUE, LINE, QUIET, VERMILLION, card, panel

_LEGEND = "● measured     solid line: 1 + L·(W − 1)     dotted line: L·W"


@dataclass(frozen=True)
class ReachSweepFrame(Frame):
    """Measured reach over layers, for a few windows.

    Args:
        depths: L, layers stacked, rising.
        measured: for each window, the tokens reached at each depth.
    """

    topic: ClassVar[str] = "reach-sweep"
    depths: tuple[int, ...]
    measured: dict[int, tuple[int, ...]]

    @property
    def astray(self) -> list[tuple[int, int, int]]:
        """(L, W, measured) wherever a measurement is not 1 + L · (W − 1)."""
        return [
            (depth, window, found)
            for window, line in self.measured.items()
            for depth, found in zip(self.depths, line, strict=True)
            if found != reach(depth, window)
        ]

    @property
    def title(self) -> str:
        total = len(self.depths) * len(self.measured)
        if not self.astray:
            return "Every measured reach lies on 1 + L·(W − 1); L·W overshoots by L − 1"
        return f"{len(self.astray)} of {total} measured reaches do not lie on 1 + L·(W − 1)"

    @property
    def summary(self) -> str:
        lines = "; ".join(
            f"window {window} reaches {listed(line)} tokens"
            for window, line in self.measured.items()
        )
        verdict = f"{len(self.astray)} are off the line" if self.astray else "all are on the line"
        return (
            f"Dots of measured reach beside the line 1 + L·(W − 1), for L = {listed(self.depths)}: "
            f"{lines}. Of the dots {verdict}."
        )

    def to_text(self) -> str:
        rows = [["layers", *map(str, self.depths)]]
        rows += [[f"W = {window}", *map(str, line)] for window, line in self.measured.items()]
        return "\n".join([self.title, *aligned(rows)])


def reach_sweep_frame(
    depths: Sequence[int], measured: Mapping[int, Sequence[int]]
) -> ReachSweepFrame:
    """Put a sweep's measurements into a frame.

    Args:
        depths: L, layers stacked, rising.
        measured: for each window, the tokens reached at each depth.

    Raises:
        ValueError: when a window has another number of measurements than there are depths.

    >>> reach_sweep_frame([1, 2], {4: [4, 7]}).astray, reach_sweep_frame([1, 2], {4: [4, 8]}).astray
    ([], [(2, 4, 8)])
    """
    for window, line in measured.items():
        if len(line) != len(depths):
            found = count(len(line), "measurement")
            raise ValueError(f"window={window} has {found} for {count(len(depths), 'depth')}")
    return ReachSweepFrame(
        tuple(depths), {window: tuple(line) for window, line in measured.items()}
    )


@draw.register
def _(frame: ReachSweepFrame) -> Figure:
    figure = card(4.6, frame.title)
    axes = panel(figure, 0.75, 0.95, 5.9, 3.1)
    depths = np.array(frame.depths)
    for window, line in frame.measured.items():
        axes.plot(depths, depths * window, ":", color=VERMILLION)
        axes.plot(depths, 1 + depths * (window - 1), color=LINE)
        axes.plot(depths, line, "o", color=BLUE)
        where = (1.02, 1 + depths[-1] * (window - 1))
        words = f"W = {window}"
        axes.annotate(words, where, xycoords=("axes fraction", "data"), va="center")
    axes.set(xlabel="layers L (count)", ylabel="reach (tokens)", xticks=depths)
    axes.margins(x=0.03)
    axes.set_ylim(bottom=0)
    figure.text(0.02, 0.03, _LEGEND, size=8.5, color=QUIET)
    return figure
