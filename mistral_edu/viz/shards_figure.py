"""Who holds which shard, the picture: matrices to scale, cut among ranks, and what each rank has.

    way of a token  →  matrices, cut  →  one card for each rank

Lesson: 16_beyond_one_machine. The data is in `shards.py`.

Conventions
    All matrices of a picture share one scale, numbers per inch. A rank has one shade and one
    hatch, the same in every matrix and on its card, which also bears its number; where a part is
    thick enough the number stands in it. What works at this stop has a thick outline and a ▶;
    where the ranks talk, their cards have it, and arrows go round from each to the next.
"""

from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mistral_edu.config import MistralConfig
from mistral_edu.viz.budget_figure import preset_models
from mistral_edu.viz.explorer import Explorer, Stepper, choice, doublings, number
from mistral_edu.viz.frame import readable
from mistral_edu.viz.render import draw
from mistral_edu.viz.sharding import Cut
from mistral_edu.viz.shards import WAY, ShardsFrame, shards_frame, span
from mistral_edu.viz.style import (
    INK,
    LINE,
    PAPER,
    QUIET,
    SHADE,
    SKY,
    VERMILLION,
    balanced,
    bare,
    card,
    panel,
)

MOST_RANKS = 16

_WIDTH, _HEIGHT = 7.6, 6.1
_LEFT, _RIGHT = 0.15, 7.45
_STRIP, _BASE, _TALLEST, _CARDS = 5.05, 1.95, 2.35, 0.12
_SLOT, _LETTER = 0.6, 0.087  # a caption's least width, and what a letter of a name takes
_CARDS_LEFT = 1.05
_HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "||||", "oo")
_SHADES = (SKY, PAPER, SHADE, PAPER, PAPER, SHADE, PAPER, SHADE)


@draw.register
def _(frame: ShardsFrame) -> Figure:
    figure = card(_HEIGHT, frame.title)
    axes = bare(panel(figure, 0, 0, _WIDTH, _HEIGHT), (0, _WIDTH), (0, _HEIGHT))
    _draw_way(axes, frame)
    _draw_matrices(axes, frame)
    if not frame.refusal:
        _draw_ranks(axes, frame)
    elif frame.config.num_key_value_heads % frame.ranks:
        _draw_dealing(axes, frame)
    return figure


def _box(axes: Axes, corner: tuple[float, float], size: tuple[float, float], **look: Any) -> None:
    axes.add_patch(Rectangle(corner, *size, **{"edgecolor": LINE, "lw": 0.8, **look}))


def _look(rank: int) -> dict[str, Any]:
    return {"facecolor": _SHADES[rank % 8], "hatch": _HATCHES[rank % 8]}


def _draw_way(axes: Axes, frame: ShardsFrame) -> None:
    """The stops in a row, the layers' own bracketed, and a sentence about this one."""
    pitch = (_RIGHT - _LEFT) / len(WAY)
    for stop, (name, _) in enumerate(WAY):
        here = stop == frame.stop and not frame.refusal
        left = _LEFT + stop * pitch
        edge = {"edgecolor": VERMILLION, "lw": 2.5} if here else {}
        _box(axes, (left, _STRIP), (pitch - 0.12, 0.28), facecolor=PAPER, **edge)
        middle = left + (pitch - 0.12) / 2
        weight = "bold" if here else "normal"
        axes.text(middle, _STRIP + 0.13, name, size=7.4, weight=weight, ha="center", va="center")
        if stop < len(WAY) - 1:
            axes.text(left + pitch - 0.06, _STRIP + 0.13, "›", ha="center", va="center")
    start, end = _LEFT + 2 * pitch, _LEFT + 6 * pitch - 0.12
    below = _STRIP - 0.09
    axes.plot([start, start, end, end], [below + 0.05, below, below, below + 0.05], color=INK, lw=1)
    times = f"× {frame.config.num_hidden_layers} layers"
    axes.text(end + 0.06, below - 0.02, times, size=8.5, va="center")
    lines = "\n".join(balanced(frame.sentence, 96))
    weight = "bold" if frame.refusal else "normal"
    axes.text(_LEFT, below - 0.17, lines, size=9, weight=weight, va="top", linespacing=1.3)
    note = (
        "one scale: rows downwards, columns across;\nthe norms are whole on every rank;\n"
        "two bytes a number (bfloat16)"
    )
    middle = (_LEFT + _RIGHT) / 2 - 0.9
    axes.text(middle, _BASE + 1.9, note, size=8.5, color=QUIET, ha="center", va="center")


def _draw_matrices(axes: Axes, frame: ShardsFrame) -> None:
    pieces = frame.matrices
    scale = _TALLEST / max(side for piece in pieces for side in piece.shape)
    widths = [max(_SLOT, (len(p.name) + 2) * _LETTER, p.shape[1] * scale) for p in pieces]
    gap = (_RIGHT - _LEFT - sum(widths)) / (len(pieces) - 1)
    left = _LEFT
    for piece, width in zip(pieces, widths, strict=True):
        _draw_matrix(axes, frame, piece, left + width / 2, scale)
        left += width + gap


def _draw_matrix(axes: Axes, frame: ShardsFrame, piece: Cut, centre: float, scale: float) -> None:
    """One matrix above its caption, its parts in rank order from the top or from the left."""
    height, width = (side * scale for side in piece.shape)
    left, done = centre - width / 2, 0
    for rank, part in enumerate(piece.parts):
        start, size = done * scale, part * scale
        done += part
        corner = (left, _BASE + height - start - size) if piece.axis == 0 else (left + start, _BASE)
        sides = (width, size) if piece.axis == 0 else (size, height)
        look = {"facecolor": SHADE} if frame.refusal else _look(rank)
        _box(axes, corner, sides, lw=0.8 if min(sides) > 0.08 else 0.3, **look)
        if min(sides) > 0.17 and not frame.refusal:
            where = (corner[0] + sides[0] / 2, corner[1] + sides[1] / 2)
            plate = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8}
            axes.text(*where, str(rank), size=8, ha="center", va="center", bbox=plate)
    active = piece.name in frame.active and not frame.refusal
    edge = {"edgecolor": VERMILLION, "lw": 2.5} if active else {"edgecolor": INK, "lw": 1}
    _box(axes, (left, _BASE), (width, height), fill=False, zorder=3, **edge)
    name = f"▶ {piece.name}" if active else piece.name
    axes.text(centre, _BASE - 0.06, name, size=8.5, weight="bold", ha="center", va="top")
    rows, columns = (f"{side:,}" for side in piece.shape)
    cut = "the embedding" if not piece.times else "" if frame.refusal else piece.how
    words = f"{rows}\n× {columns}\n{cut}"
    axes.text(
        centre, _BASE - 0.21, words, size=7.5, color=QUIET, ha="center", va="top", linespacing=1.2
    )


def _draw_ranks(axes: Axes, frame: ShardsFrame) -> None:
    """A card for each rank: its look, its heads, its weights and its ring."""
    rows = [_CARDS + 0.62 - 0.17 * row for row in range(4)]
    for height, name in zip(rows, ("query heads", "kv heads", "weights", "cache"), strict=True):
        axes.text(_LEFT, height, name, size=8, color=QUIET, va="center")
    pitch = (_RIGHT - _CARDS_LEFT) / max(frame.ranks, 4)
    edge = {"edgecolor": VERMILLION, "lw": 2} if frame.talks else {}
    if frame.talks:
        middles = [_CARDS_LEFT + (rank + 0.5) * pitch - 0.03 for rank in range(frame.ranks)]
        _draw_ring(axes, middles)
    for rank in range(frame.ranks):
        left = _CARDS_LEFT + rank * pitch
        queries, shared = frame.heads(rank)
        _box(axes, (left, _CARDS + 0.76), (pitch - 0.06, 0.22), **_look(rank), **edge)
        plate = {"facecolor": PAPER, "edgecolor": "none", "pad": 1}
        paint: dict[str, Any] = {"ha": "center", "va": "center"}
        middle = left + (pitch - 0.06) / 2
        name = f"rank {rank}"
        axes.text(middle, _CARDS + 0.865, name, size=8, weight="bold", bbox=plate, **paint)
        sizes = (readable(frame.weight_bytes[rank]), readable(frame.cache_bytes))
        for height, words in zip(rows, (span(queries), span(shared), *sizes), strict=True):
            axes.text(middle, height, words, size=8, **paint)


def _draw_ring(axes: Axes, middles: list[float]) -> None:
    """Arrows over the cards from each rank to the next, and from the last back to the first."""
    low, high = _CARDS + 1.08, _CARDS + 1.17
    line: dict[str, Any] = {"color": VERMILLION, "lw": 1.4, "shrinkA": 0, "shrinkB": 0}
    for here, there in pairwise(middles):
        ends = (there - 0.08, low), (here + 0.08, low)
        axes.annotate("", *ends, arrowprops={"arrowstyle": "-|>", **line})
    first, last = middles[0] - 0.08, middles[-1] + 0.08
    axes.plot([last, last, first], [low, high, high], color=VERMILLION, lw=1.4)
    back = (first, _CARDS + 0.98), (first, high)
    axes.annotate("", *back, arrowprops={"arrowstyle": "-|>", **line})


def _draw_dealing(axes: Axes, frame: ShardsFrame) -> None:
    """What dealing the key/value heads to so many ranks would come to: somebody gets none, or less.

    Empty places are dashed.
    """
    heads = frame.config.num_key_value_heads
    most = -(-heads // frame.ranks)
    pitch = (_RIGHT - _CARDS_LEFT) / frame.ranks
    for height, name in ((0.86, "rank"), (0.45, "kv heads")):
        axes.text(_LEFT, _CARDS + height, name, size=8, color=QUIET, va="center")
    for rank in range(frame.ranks):
        mine = range(min(rank * most, heads), min((rank + 1) * most, heads))
        left = _CARDS_LEFT + rank * pitch
        middle = left + (pitch - 0.06) / 2
        line: dict[str, Any] = {} if mine else {"linestyle": "--"}
        _box(axes, (left, _CARDS + 0.3), (pitch - 0.06, 0.3), facecolor=PAPER, **line)
        words = span(mine) if mine else "none"
        paint: dict[str, Any] = {"size": 7.5, "ha": "center", "va": "center"}
        axes.text(middle, _CARDS + 0.45, words, color=INK if mine else QUIET, **paint)
        axes.text(middle, _CARDS + 0.86, str(rank), weight="bold", **paint)


class ShardsExplorer(Explorer):
    """The cut model under the hand; `stepper.press("Next")` moves the token on."""

    def __init__(self, models: dict[str, MistralConfig], controls: dict) -> None:
        self.stepper = Stepper(controls["stop"])
        super().__init__(
            lambda model, ranks, stop: shards_frame(models[model], model, ranks, stop - 1),
            controls,
            [self.stepper],
        )


def explore_shards(
    models: dict[str, MistralConfig] | None = None, ranks: int = 2, stop: int = 0
) -> ShardsExplorer:
    """The cut model under the hand: choose a model and a number of ranks, and walk a token through.

    Args:
        models: configs by name; by default `preset_models()`. The first is shown first.
        ranks, stop: as in `shards_frame`; the control counts stops from 1.

    >>> explorer = explore_shards({"Mistral-7B": MistralConfig.mistral_7b_v0_1()})
    >>> explorer.controls["ranks"].value = 8
    >>> explorer.frame.weight_bytes[0]
    1810898944
    """
    models = models or preset_models()
    controls = {
        "model": choice("model", list(models), next(iter(models))),
        "ranks": doublings("ranks (processes)", ranks, 1, MOST_RANKS),
        "stop": number("stop of the token", stop + 1, 1, len(WAY)),
    }
    return ShardsExplorer(models, controls)
