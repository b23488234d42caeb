"""Tile sweep, the data: attention computed a tile of keys at a time, stopped after any tile.

    m ← max(m, max s),   l ← l·e^(m_old − m) + Σ e^(s − m),   o ← o·e^(m_old − m) + Σ e^(s − m)·v

Nothing here adds a number on its own. `online_softmax.absorb` takes in each tile,
`online_softmax.tiles_to_visit` says which are opened, and `backends.masked_softmax` is the truth
that the rows are held against.

Source: Dao et al. (arXiv 2205.14135), algorithm 1.
Lesson: 13_flash_attention. The drawing is in `tile_sweep_figure.py`.

Conventions
    One head, one number per value, so that a query's output is one number. Step 0 is before the
    first tile; a step takes in one tile. All tiles of a row of tiles come before the next row.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mistral_edu.backends import masked_softmax
from mistral_edu.online_softmax import Running, absorb, nothing_yet, tiles_to_visit
from mistral_edu.sliding_window import visible
from mistral_edu.viz.frame import Frame, aligned, count, frozen

LENGTH = 16
TIE = 1e-9  # an output this near to the truth is the truth, in double precision


@dataclass(frozen=True, eq=False)
class TileFrame(Frame):
    """One head's attention after some of its tiles.

    Args:
        window, tile: W, and the tokens along each side of a tile.
        step, steps: tiles taken in, and how many there are to take in.
        visits: (n, n), which tiles are opened at all.
        seen: (T, T), which pairs the rule allows.
        taken: (T, T), which of them have been taken in.
        greatest, total, output: (T,), m, l and o / l of each query; NaN before its first tile.
        truth: (T,), the output of a plain softmax.
    """

    topic: ClassVar[str] = "tiles"
    window: int
    tile: int
    step: int
    steps: int
    visits: Bool[np.ndarray, "n n"]
    seen: Bool[np.ndarray, "T T"]
    taken: Bool[np.ndarray, "T T"]
    greatest: Float[np.ndarray, "T"]
    total: Float[np.ndarray, "T"]
    output: Float[np.ndarray, "T"]
    truth: Float[np.ndarray, "T"]

    @property
    def length(self) -> int:
        """T, tokens in the text."""
        return len(self.truth)

    @property
    def current(self) -> tuple[int, int] | None:
        """Row and column of the tile just taken in; None before the first."""
        if self.step == 0:
            return None
        row, column = np.argwhere(self.visits)[self.step - 1]
        return int(row), int(column)

    @property
    def skipped(self) -> int:
        """Tiles that are never opened."""
        return int((~self.visits).sum())

    @property
    def arrived(self) -> Bool[np.ndarray, "T"]:
        """Queries whose output has become the true one, (T,)."""
        return ~np.isnan(self.output) & (np.abs(self.output - self.truth) < TIE)

    def span(self, number: int) -> str:
        """The tokens of a tile along one side.

        >>> tile_frame(window=4, tile=4).span(1)
        '4–7'
        """
        first = number * self.tile
        return str(first) if self.tile == 1 else f"{first}–{first + self.tile - 1}"

    @property
    def kind(self) -> str:
        """How much of the current tile the rule shows, in words."""
        row, column = self.current or (0, 0)
        part = self.seen[self._side(row), self._side(column)]
        if self.tile == 1:
            return "visible"
        return "all pairs visible" if part.all() else f"{part.sum()} of {part.size} pairs visible"

    def _side(self, number: int) -> slice:
        return slice(number * self.tile, (number + 1) * self.tile)

    @property
    def title(self) -> str:
        tiles = self.visits.size
        if self.current is None:
            return f"Nothing read yet: {self.steps} of {tiles} tiles hold a visible pair"
        if self.step == self.steps and self.arrived.all():
            spared = f", {count(self.skipped, 'tile')} never opened" if self.skipped else ""
            return f"All {self.length} outputs equal the plain softmax{spared}"
        row, column = map(self.span, self.current)
        who = f"query {row} meets key" if self.tile == 1 else f"queries {row} meet keys"
        return f"Tile {self.step} of {self.steps}: {who} {column}, {self.kind}"

    @property
    def summary(self) -> str:
        grid = (
            f"A grid of {self.length} queries by {self.length} keys in {self.visits.size} tiles of "
            f"side {self.tile}, window {self.window}; of the tiles {self.skipped} hold no visible "
            f"pair and are hatched."
        )
        if self.current is None:
            return f"{grid} None of the other {self.steps} has been read."
        row, column = map(self.span, self.current)
        begun, done = int((~np.isnan(self.output)).sum()), int(self.arrived.sum())
        return (
            f"{grid} Lit: tile {self.step} of {self.steps}, queries {row} by keys {column}, "
            f"{self.kind}. Rows with a running output: {begun}; at the true output: {done}."
        )

    def to_text(self) -> str:
        rows = [["query", "keys taken in", "max m", "sum l", "output o/l", "true output"]]
        for query in range(self.length):
            numbers = (self.greatest, self.total, self.output, self.truth)
            cells = [decimal(column[query]) for column in numbers]
            rows.append([str(query), f"{self.taken[query].sum()}", *cells])
        return "\n".join([self.title, *aligned(rows)])


def decimal(number: float) -> str:
    """Two decimals and a true minus sign; a dash for what is not there yet.

    >>> decimal(-1.5), decimal(float("nan")), decimal(-0.001)
    ('−1.50', '–', '0.00')
    """
    if math.isnan(number):
        return "–"
    return f"{round(float(number), 2) + 0.0:.2f}".replace("-", "−")


def tile_frame(window: int = 6, tile: int = 4, step: int = 0) -> TileFrame:
    """Take in the first `step` tiles of a head's attention.

    Args:
        window: W, at least 1.
        tile: tokens along each side of a tile: 1, 2, 4, 8 or 16.
        step: tiles to take in, 0 .. `tile_steps(window, tile)`.

    >>> frame = tile_frame(window=6, tile=4, step=9)
    >>> frame.steps, frame.skipped, bool(frame.arrived.all())
    (9, 7, True)
    """
    if window < 1 or tile < 1 or LENGTH % tile:
        raise ValueError(f"window={window} must be at least 1, tile={tile} divide {LENGTH}")
    visits = _visits(window, tile)
    steps = int(visits.sum())
    if not 0 <= step <= steps:
        raise ValueError(f"step={step} is not in 0 .. {steps}, the tiles of this sweep")
    at = torch.arange(LENGTH)[None]
    seen, (scores, values) = visible(at, at, window)[0], _head()
    running = nothing_yet((LENGTH,), 1, torch.float64)
    taken = torch.zeros_like(seen)
    for row, column in visits.nonzero()[:step].tolist():
        here = slice(row * tile, (row + 1) * tile), slice(column * tile, (column + 1) * tile)
        shown = scores[here].masked_fill(~seen[here], -math.inf)
        running = _replaced(running, here[0], shown, values[here[1]])
        taken[here] = seen[here]
    truth = masked_softmax(scores[None, None], seen[None, None])[0, 0] @ values
    begun = taken.any(dim=1, keepdim=True)
    columns = (running.greatest, running.total, running.output)
    greatest, total, output = (x.masked_fill(~begun, math.nan)[:, 0] for x in columns)
    return TileFrame(
        window,
        tile,
        step,
        steps,
        visits=frozen(visits.numpy()),
        seen=frozen(seen.numpy()),
        taken=frozen(taken.numpy()),
        greatest=frozen(greatest.numpy()),
        total=frozen(total.numpy()),
        output=frozen(output.numpy()),
        truth=frozen(truth[:, 0].numpy()),
    )


def _replaced(running: Running, rows: slice, scores: Tensor, values: Tensor) -> Running:
    """The state after one row of tiles has taken in a tile, and the others have not."""
    fields = (running.greatest, running.total, running.mixed)
    moved = absorb(Running(*(field[rows] for field in fields)), scores, values)
    for field, new in zip(fields, (moved.greatest, moved.total, moved.mixed), strict=True):
        field[rows] = new
    return running


def _visits(window: int, tile: int) -> Bool[Tensor, "n n"]:
    at = torch.arange(LENGTH)[None]
    return tiles_to_visit(at, at, window, tile)


def _head() -> tuple[Float[Tensor, "T T"], Float[Tensor, "T one"]]:
    """The scores and values of a made-up head, the same on every machine."""
    generator = torch.Generator().manual_seed(13)
    scores = 2 * torch.randn(LENGTH, LENGTH, generator=generator, dtype=torch.float64)
    return scores, torch.rand(LENGTH, 1, generator=generator, dtype=torch.float64) * 2 - 1


def tile_steps(window: int, tile: int) -> int:
    """Tiles that a sweep has to open.

    >>> tile_steps(window=6, tile=4), tile_steps(window=16, tile=4)
    (9, 10)
    """
    return int(_visits(window, tile).sum())
