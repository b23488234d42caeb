"""Mask explorer, the picture: queries as rows, keys as columns, one cell for each pair.

Lessons: 04_masks_from_positions, 06_sliding_window. The data is in `mask.py`.

Conventions
    Allowed cells are dark with a bold number; future cells are blank, cells that are too old are
    hatched, cells of padding cross-hatched. The number is i − j wherever both positions exist.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mistral_edu.viz.explorer import Explorer, choice, number
from mistral_edu.viz.mask import (
    ABSENT,
    ALLOWED,
    KINDS,
    LONGEST,
    REASONS,
    MaskFrame,
    mask_frame,
    names,
)
from mistral_edu.viz.render import draw
from mistral_edu.viz.style import (
    BLUE,
    HATCH,
    INK,
    PAPER,
    QUIET,
    SHADE,
    bare,
    card,
    panel,
    squares,
    stamp,
)

SMALLEST = 4  # A grid of one token keeps cells of an ordinary size.

_WHY = ("i − j < 0", "i − j ≥ W", "padding: position −1")
_FILL = ((BLUE, ""), (PAPER, ""), (SHADE, "////"), (SHADE, "xxxx"))


@draw.register
def _(frame: MaskFrame) -> Figure:
    figure = card(5.75, frame.title)
    rows, columns = frame.allowed.shape
    side = max(rows, columns, SMALLEST)
    grid = panel(figure, 0.75, 0.45, 4.4, 4.4)
    grid.set(xlim=(0, side), ylim=(side, 0))
    _draw_cells(grid, frame, size=9.5 if side <= 12 else 8)
    grid.set_xticks(np.arange(columns) + 0.5, names(frame.key_positions))
    grid.set_yticks(np.arange(rows) + 0.5, names(frame.query_positions))
    grid.xaxis.tick_top()
    grid.xaxis.set_label_position("top")
    grid.set_xlabel("key j (token index)", loc="left")
    grid.set_ylabel("query i (token index)", loc="top")
    grid.tick_params(length=0)
    grid.spines[:].set_visible(False)
    _draw_margins(grid, frame)
    _draw_legend(panel(figure, 5.65, 0.45, 1.9, 4.4), frame)
    return figure


def _draw_cells(axes: Axes, frame: MaskFrame, size: float) -> None:
    """Fill by reason; then each distinct number once, at all its places."""
    for reason, (colour, hatch) in enumerate(_FILL):
        cells = np.argwhere(frame.reasons == reason)[:, ::-1]
        squares(axes, cells, colour, hatch)
        numbers = frame.distance[frame.reasons == reason]
        for distance in np.unique(numbers) if reason != ABSENT else ():
            text = str(distance).replace("-", "−")
            ink = PAPER if reason == ALLOWED else QUIET
            stamp(axes, text, cells[numbers == distance] + 0.5, size, ink, reason == ALLOWED)


def _draw_margins(axes: Axes, frame: MaskFrame) -> None:
    """Keys seen, beside each row; under a ring, which columns are slots and which the chunk."""
    rows, columns = frame.allowed.shape
    beside: dict[str, Any] = {
        "xycoords": ("data", "data"),
        "textcoords": "offset points",
        "va": "center",
    }
    for row, seen in enumerate(frame.keys_seen):
        axes.annotate(str(seen), (columns, row + 0.5), (15, 0), ha="center", color=INK, **beside)
    axes.annotate("seen", (columns, 0), (17, 9), ha="center", color=QUIET, size=8.5, **beside)
    if frame.slots:
        axes.plot([frame.slots] * 2, [0, rows], color=INK, lw=2.5, clip_on=False)
        for left, right, name in ((0, frame.slots, "slots"), (frame.slots, columns, "chunk")):
            if left < right:
                below = ((left + right) / 2, rows)
                axes.annotate(name, below, (0, -9), ha="center", color=INK, **beside)


def _draw_legend(axes: Axes, frame: MaskFrame) -> None:
    bare(axes, (0, 1.9), (4.4, 0))
    axes.text(0, 0.1, "in a cell: i − j\nbeside a row: keys seen", color=QUIET, va="center")
    why = ("i − j ≥ 0" if frame.window is None else "0 ≤ i − j < W", *_WHY)
    for place, (name, reason) in enumerate(zip(REASONS, why, strict=True)):
        top = 0.6 + 0.62 * place
        colour, hatch = _FILL[place]
        axes.add_patch(
            Rectangle((0, top), 0.34, 0.34, facecolor=colour, hatch=hatch, edgecolor=HATCH, lw=0.8)
        )
        axes.text(0.46, top + 0.05, f"{name}: {frame.counts[name]}", weight="bold", va="center")
        axes.text(0.46, top + 0.29, reason, color=QUIET, size=8.5, va="center")


class MaskExplorer(Explorer):
    """The mask explorer: controls that do not matter for the kind are greyed out."""

    def adjust(self) -> None:
        kind = self.controls["kind"].value
        self.controls["window"].disabled = kind == "causal"
        self.controls["padding"].disabled = kind != "left-padded"
        self.controls["chunk"].disabled = kind != "ring cache"


def explore_mask(
    kind: str = "window", length: int = 8, window: int = 4, padding: int = 2, chunk: int = 3
) -> MaskExplorer:
    """The mask under the hand; arguments as in `mask_frame`.

    >>> explorer = explore_mask(window=3)
    >>> explorer.controls["window"].value = 8
    >>> explorer.frame.counts["allowed"]
    36
    """
    controls = {
        "kind": choice("kind of mask", KINDS, kind),
        "length": number("length (tokens)", length, 1, LONGEST),
        "window": number("window (tokens)", window, 1, LONGEST),
        "padding": number("padding (tokens)", padding, 0, LONGEST - 1),
        "chunk": number("chunk (tokens)", chunk, 1, LONGEST),
    }
    return MaskExplorer(mask_frame, controls)
