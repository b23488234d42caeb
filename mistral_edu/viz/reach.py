"""Reach cone: how far back a stack of windowed layers can hear.

    after k layers the last position can be influenced by 1 + k · (W − 1) inputs

The cone is not drawn from that formula. One layer moves information along the pairs that
`sliding_window.visible` allows; k layers are that boolean matrix to the power k. The title holds
the result against the formula.

Source: "Mistral 7B" (arXiv 2310.06825), section 2, "Sliding Window Attention".
Lesson: 06_sliding_window.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Int
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from mistral_edu.sliding_window import reach, visible
from mistral_edu.viz.explorer import Explorer, number
from mistral_edu.viz.frame import Frame, aligned, count, frozen, listed
from mistral_edu.viz.render import draw
from mistral_edu.viz.style import BLUE, HATCH, INK, LINE, PAPER, QUIET, card, panel

WIDEST_WINDOW = 8
MOST_LAYERS = 6

_LEGEND = "● can influence the last position     ○ cannot     line: a pair that the rule allows"


@dataclass(frozen=True, eq=False)
class ReachFrame(Frame):
    """Which positions can influence the last one, layer by layer.

    Args:
        window: W.
        sees: (T, T), the visibility of one layer.
        cone: (L + 1, T); row k marks the positions that reach the last one through k layers.
    """

    topic: ClassVar[str] = "reach"
    window: int
    sees: Bool[np.ndarray, "T T"]
    cone: Bool[np.ndarray, "levels T"]

    @property
    def layers(self) -> int:
        """L, layers stacked."""
        return len(self.cone) - 1

    @property
    def length(self) -> int:
        """T, positions shown."""
        return self.cone.shape[1]

    @property
    def widths(self) -> Int[np.ndarray, "levels"]:
        """Positions reached through 0, 1, … L layers, (L + 1,)."""
        return self.cone.sum(axis=1)

    @property
    def reached(self) -> int:
        """Input positions that can influence the last position, counted in the composed matrix."""
        return int(self.widths[-1])

    @property
    def formula(self) -> int:
        """1 + L · (W − 1)."""
        return reach(self.layers, self.window)

    @property
    def _sum(self) -> str:
        return f"1 + {self.layers}·({self.window}−1) = {self.formula}"

    @property
    def title(self) -> str:
        stack = f"Through {count(self.layers, 'layer')} of window {self.window}"
        if self.reached == self.formula:
            heard = count(self.reached, "input")
            return f"{stack}, the last position hears {heard}: {self._sum}"
        return (
            f"{stack}, the formula gives {self._sum}, but the sequence has only {self.length} "
            f"tokens: the last position hears all {self.reached}"
        )

    @property
    def summary(self) -> str:
        return (
            f"The reach of the last of {count(self.length, 'position')} through "
            f"{count(self.layers, 'layer')} of window {self.window}: a cone that widens downward. "
            f"Positions in it, row by row from the top to the input: {listed(self.widths)}. The "
            f"formula says {self._sum}."
        )

    def to_text(self) -> str:
        lines = [["", *(str(position % 10) for position in range(self.length)), "reached"]]
        for layers_below, row in enumerate(self.cone):
            marks = ["o" if mark else "." for mark in row]
            lines.append(
                [_level(self.layers, layers_below), *marks, str(self.widths[layers_below])]
            )
        return "\n".join(
            [self.title, *aligned(lines, gap=" "), "o: can influence the last position"]
        )


def reach_frame(window: int = 4, layers: int = 3, length: int | None = None) -> ReachFrame:
    """Compose the visibility rule with itself and see how far the last position hears.

    Args:
        window: W, at least 1.
        layers: L, at least 1.
        length: T; by default two positions more than the cone needs.

    >>> frame = reach_frame(window=4, layers=3)
    >>> frame.widths.tolist(), frame.formula
    ([1, 4, 7, 10], 10)
    """
    if window < 1 or layers < 1:
        raise ValueError(f"window={window} and layers={layers} must both be at least 1")
    length = length or reach(layers, window) + 2
    positions = torch.arange(length)[None]
    sees = visible(positions, positions, window)[0].numpy()
    cone = [np.arange(length) == length - 1]
    for _ in range(layers):
        cone.append(cone[-1] @ sees)
    return ReachFrame(window, frozen(sees), frozen(cone))


@draw.register
def _(frame: ReachFrame) -> Figure:
    figure = card(4.6, frame.title)
    axes = panel(figure, 1.15, 0.9, 5.3, 3.0)
    figure.text(0.02, 0.03, _LEGEND, size=8.5, color=QUIET)
    _draw_paths(axes, frame)
    _draw_nodes(axes, frame)
    levels = range(frame.layers + 1)
    axes.set_yticks(levels, [_level(frame.layers, frame.layers - up) for up in levels])
    every = 1 if frame.length <= 26 else 2
    axes.set_xticks(range(0, frame.length, every))
    axes.set_xlabel("input position (token index)")
    axes.set_xlim(-0.8, frame.length - 0.2)
    axes.set_ylim(-0.45, frame.layers + 0.45)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for below, width in enumerate(frame.widths):
        where = (1.02, frame.layers - below)
        words = count(int(width), "position")
        axes.annotate(words, where, xycoords=("axes fraction", "data"), va="center", color=INK)
    return figure


def _level(layers: int, below: int) -> str:
    return "input" if below == layers else f"after layer {layers - below}"


def _draw_paths(axes: Axes, frame: ReachFrame) -> None:
    """Lines from each reached position down to the positions it sees in the layer below."""
    lines = [
        [(upper, frame.layers - below), (lower, frame.layers - below - 1)]
        for below in range(frame.layers)
        for upper in np.flatnonzero(frame.cone[below])
        for lower in np.flatnonzero(frame.sees[upper])
    ]
    axes.add_collection(LineCollection(lines, colors=HATCH, linewidths=0.8, zorder=1))


def _draw_nodes(axes: Axes, frame: ReachFrame) -> None:
    below, position = np.indices(frame.cone.shape)
    size = 70 if frame.length <= 26 else 34
    inside, level = frame.cone, frame.layers - below
    axes.scatter(
        position[~inside], level[~inside], s=size * 0.3, facecolor=PAPER, edgecolor=LINE, zorder=2
    )
    axes.scatter(position[inside], level[inside], s=size, color=BLUE, edgecolor=PAPER, zorder=3)


def explore_reach(window: int = 4, layers: int = 3, length: int = 24) -> Explorer:
    """The reach cone under the hand, on a sequence of fixed length.

    >>> explorer = explore_reach(window=4, layers=3)
    >>> explorer.controls["window"].value = 2
    >>> explorer.frame.reached
    4
    """
    controls = {
        "window": number("window (tokens)", window, 1, WIDEST_WINDOW),
        "layers": number("layers", layers, 1, MOST_LAYERS),
    }
    return Explorer(lambda **values: reach_frame(length=length, **values), controls)
