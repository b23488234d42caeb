"""Shapes: one forward pass as a table of what flows, from token ids to logits.

    ids (B, T)  →  hidden (B, T, hidden)  →  queries (B, H, T, D), keys (B, Hkv, S, D)  →  logits

Lesson: 00_map_and_toolbox.

Conventions
    T queries meet S keys; in a forward pass without a cache S = T.
"""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from matplotlib.figure import Figure

from mistral_edu.config import MistralConfig
from mistral_edu.viz.frame import Frame, aligned, count
from mistral_edu.viz.render import draw
from mistral_edu.viz.style import INK, LINE, QUIET, bare, card, panel

_HEADING = ("what flows", "axes", "shape", "how often", "numbers")
_COLUMNS = (0.2, 2.0, 3.65, 5.4, 7.35)
_LINE = 0.28


@dataclass(frozen=True)
class ShapeRow:
    """One tensor: its name, its axes in the course's letters, its sizes, how often it occurs."""

    name: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    times: int

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


@dataclass(frozen=True)
class ShapesFrame(Frame):
    """The tensors of one forward pass.

    Args:
        batch, length: B and T.
        rows: the tensors in the order in which they appear.
        layers: L, how often the rows of a layer repeat.
    """

    topic: ClassVar[str] = "shapes"
    batch: int
    length: int
    rows: tuple[ShapeRow, ...]
    layers: int

    @property
    def table(self) -> list[list[str]]:
        """The table's cells, heading first."""
        body = [
            [
                row.name,
                f"({', '.join(row.axes)})",
                str(row.shape),
                "once" if row.times == 1 else f"{row.times} times",
                f"{row.numbers:,}",
            ]
            for row in self.rows
        ]
        return [list(_HEADING), *body]

    @property
    def largest(self) -> ShapeRow:
        """The tensor with the most numbers."""
        return max(self.rows, key=lambda row: row.numbers)

    @property
    def title(self) -> str:
        return (
            f"{count(self.length, 'token')} in, {self.rows[-1].shape[-1]:,} scores for each out; "
            f"the largest single tensor: {self.largest.name}"
        )

    @property
    def summary(self) -> str:
        flow = "; ".join(f"{row.name} {row.shape}" for row in self.rows)
        return (
            f"A table of what flows through {count(self.layers, 'layer')} for {self.batch} × "
            f"{count(self.length, 'token')}, with its shapes: {flow}."
        )

    def to_text(self) -> str:
        return "\n".join([self.title, *aligned(self.table, right=False)])


def shapes_frame(config: MistralConfig, batch: int = 1, length: int = 8) -> ShapesFrame:
    """Every shape of one forward pass without a cache.

    Args:
        config: the model.
        batch, length: B and T.

    >>> frame = shapes_frame(MistralConfig.mistral_7b_v0_1(), batch=2, length=5)
    >>> [row.shape for row in frame.rows if row.name == "keys, values"]
    [(2, 8, 5, 128)]
    """
    sizes = {
        "B": batch,
        "T": length,
        "S": length,
        "H": config.num_attention_heads,
        "Hkv": config.num_key_value_heads,
        "D": config.head_dim,
        "hidden": config.hidden_size,
        "inter": config.intermediate_size,
        "V": config.vocab_size,
    }
    flow = (
        ("token ids", "B T", 1),
        ("embedded", "B T hidden", 1),
        ("queries", "B H T D", config.num_hidden_layers),
        ("keys, values", "B Hkv S D", config.num_hidden_layers),
        ("attention weights", "B H T S", config.num_hidden_layers),
        ("attention output", "B T hidden", config.num_hidden_layers),
        ("gate, up", "B T inter", config.num_hidden_layers),
        ("layer output", "B T hidden", config.num_hidden_layers),
        ("logits", "B T V", 1),
    )
    rows = [
        ShapeRow(name, tuple(axes.split()), tuple(sizes[axis] for axis in axes.split()), times)
        for name, axes, times in flow
    ]
    return ShapesFrame(batch, length, tuple(rows), config.num_hidden_layers)


@draw.register
def _(frame: ShapesFrame) -> Figure:
    height = 0.8 + _LINE * len(frame.table)
    figure = card(height, frame.title)
    axes = bare(panel(figure, 0, 0, 7.6, height), (0, 7.6), (0, height))
    for line, cells in enumerate(frame.table):
        up = height - 0.75 - _LINE * line
        heading = line == 0
        ink, family = (QUIET, "DejaVu Sans") if heading else (INK, "DejaVu Sans Mono")
        for left, cell in zip(_COLUMNS, cells, strict=True):
            side = "right" if left == _COLUMNS[-1] else "left"
            axes.text(left, up, cell, color=ink, family=family, ha=side, va="center")
        # A rule under the heading, and wherever a layer begins or ends.
        if heading or line > 1 and frame.rows[line - 1].times != frame.rows[line - 2].times:
            rule = up - _LINE / 2 if heading else up + _LINE / 2
            axes.plot([0.15, 7.4], [rule, rule], color=LINE, lw=0.8)
    return figure
