"""Tile sweep, the picture: tiles over the window's mask, and what each query carries along.

Lesson: 13_flash_attention. The data is in `tile_sweep.py`.

Conventions
    Pairs taken in are dark with a dot, visible pairs still to come are light; hidden pairs are
    blank, and hatched where their whole tile is never opened. The tile just taken in has a thick
    outline. On the right a dot is the running output and a bar across the row the true one.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mistral_edu.viz.explorer import Explorer, Stepper, doublings, number
from mistral_edu.viz.render import draw
from mistral_edu.viz.style import (
    BLUE,
    INK,
    LINE,
    PAPER,
    QUIET,
    SHADE,
    SKY,
    VERMILLION,
    bare,
    card,
    panel,
    squares,
    stamp,
)
from mistral_edu.viz.tile_sweep import LENGTH, TileFrame, decimal, tile_frame, tile_steps

WIDEST, LARGEST_TILE = LENGTH, 8

_HEIGHT, _SIDE = 5.45, 3.7
_LOW = 0.95
_NOTES = (
    "dark, dot: taken in     light: visible, still to come     hatched: tile never opened",
    "thick outline: the tile just taken in     right: ● running output   | true output",
)


@draw.register
def _(frame: TileFrame) -> Figure:
    figure = card(_HEIGHT, frame.title)
    grid = panel(figure, 0.65, _LOW, _SIDE, _SIDE)
    _draw_grid(grid, frame)
    _draw_numbers(bare(panel(figure, 4.4, _LOW, 1.2, _SIDE), (0, 1.2), (frame.length, 0)), frame)
    _draw_outputs(panel(figure, 5.75, _LOW, 1.6, _SIDE), frame)
    for line, note in enumerate(_NOTES):
        figure.text(0.02, (0.32 - 0.19 * line) / _HEIGHT, note, size=8.5, color=QUIET)
    return figure


def _draw_grid(axes: Axes, frame: TileFrame) -> None:
    opened = np.kron(frame.visits, np.ones((frame.tile, frame.tile), dtype=bool))
    looks = (
        (frame.taken, BLUE, ""),
        (frame.seen & ~frame.taken, SKY, ""),
        (opened & ~frame.seen, PAPER, ""),
        (~opened, SHADE, "////"),
    )
    for cells, colour, hatch in looks:
        if cells.any():
            squares(axes, np.argwhere(cells)[:, ::-1], colour, hatch)
    if frame.taken.any():
        stamp(axes, "•", np.argwhere(frame.taken)[:, ::-1] + 0.5, 8, PAPER, bold=True)
    for place in range(0, frame.length + 1, frame.tile):
        axes.axvline(place, color=INK, lw=0.8, clip_on=False)
        axes.axhline(place, color=INK, lw=0.8, clip_on=False)
    if frame.current is not None:
        row, column = (number * frame.tile for number in frame.current)
        lit = Rectangle((column, row), frame.tile, frame.tile, fill=False, clip_on=False, zorder=5)
        lit.set(edgecolor=VERMILLION, linewidth=3.5)
        axes.add_patch(lit)
    places = np.arange(frame.length)
    axes.set(xlim=(0, frame.length), ylim=(frame.length, 0), xlabel="key j (token index)")
    axes.set_ylabel("query i (token index)")
    axes.set_xticks(places + 0.5, map(str, places))
    axes.set_yticks(places + 0.5, map(str, places))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _draw_numbers(axes: Axes, frame: TileFrame) -> None:
    """Running maximum and running sum, row by row."""
    lit = -1 if frame.current is None else frame.current[0]
    for right, name, column in ((0.55, "max m", frame.greatest), (1.15, "sum l", frame.total)):
        axes.text(right, -0.45, name, ha="right", va="bottom", color=QUIET, size=8.5)
        for query, value in enumerate(column):
            weight = "bold" if query // frame.tile == lit else "normal"
            look: dict[str, Any] = {"ha": "right", "va": "center", "size": 8.5, "weight": weight}
            axes.text(right, query + 0.5, decimal(value), **look)


def _draw_outputs(axes: Axes, frame: TileFrame) -> None:
    """Each query's running output on the way to the true one."""
    rows = np.arange(frame.length) + 0.5
    axes.hlines(rows, -1, 1, color=SHADE, lw=0.8, zorder=0)
    axes.vlines(frame.truth, rows - 0.42, rows + 0.42, color=INK, lw=1.8, zorder=2)
    begun = ~np.isnan(frame.output)
    axes.plot(frame.output[begun], rows[begun], "o", color=VERMILLION, ms=5, mec=PAPER, zorder=3)
    axes.set(xlim=(-1.05, 1.05), ylim=(frame.length, 0), xlabel="output o / l (value)")
    axes.set_xticks([-1, 0, 1], ["−1", "0", "1"])
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_color(LINE)


class TileExplorer(Explorer):
    """The tile sweep; `stepper.press("Next")` does what its button does."""

    def __init__(self, controls: dict) -> None:
        self.stepper = Stepper(controls["step"], interval=700)
        super().__init__(tile_frame, controls, [self.stepper])

    def adjust(self) -> None:
        window, tile = self.controls["window"].value, self.controls["tile"].value
        self.controls["step"].max = tile_steps(window, tile)


def explore_tiles(window: int = 6, tile: int = 4, step: int = 0) -> TileExplorer:
    """The tile sweep under the hand; arguments as in `tile_frame`.

    >>> explorer = explore_tiles(window=6, tile=4)
    >>> explorer.stepper.press("Last")
    >>> explorer.frame.title
    'All 16 outputs equal the plain softmax, 7 tiles never opened'
    """
    controls = {
        "window": number("window (tokens)", window, 1, WIDEST),
        "tile": doublings("tile (tokens)", tile, 1, LARGEST_TILE),
        "step": number("step", step, 0, tile_steps(window, tile)),
    }
    return TileExplorer(controls)
