"""Shards sweep: what each rank holds and how long a token takes, against the number of ranks.

    memory per rank falls with 1 / n;   time = reading / n + messages · (n − 1)

Lesson: 16_beyond_one_machine, which computes the numbers; nothing here does. The cut itself is in
`shards.py`.

Conventions
    Both scales of ranks are doublings. Lines differ by dash and by marker, not by colour alone;
    the fastest point of each has a ring and its number of milliseconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mistral_edu.viz.frame import Frame, aligned, count, listed
from mistral_edu.viz.render import draw
from mistral_edu.viz.style import BLUE, INK, LINE, SKY, VERMILLION, card, panel

_LOOKS = (("-", "o", BLUE), ("--", "s", VERMILLION), (":", "^", INK))


@dataclass(frozen=True)
class ShardsSweepFrame(Frame):
    """Memory and time over a number of ranks.

    Args:
        ranks: n, rising.
        weights, cache: GB on each rank, for each n.
        milliseconds: for each kind of link by name, the time of a token for each n.
    """

    topic: ClassVar[str] = "shards-sweep"
    ranks: tuple[int, ...]
    weights: tuple[float, ...]
    cache: tuple[float, ...]
    milliseconds: dict[str, tuple[float, ...]]

    @property
    def best(self) -> dict[str, int]:
        """For each link, the number of ranks with the shortest time."""
        return {name: self.ranks[line.index(min(line))] for name, line in self.milliseconds.items()}

    @property
    def title(self) -> str:
        first, last = (self.weights[k] + self.cache[k] for k in (0, -1))
        found = listed(f"{n} at {name}" for name, n in self.best.items())
        return (
            f"Each of {count(self.ranks[-1], 'rank')} holds {last:.1f} GB instead of {first:.1f}, "
            f"but the fastest number of ranks is {found}"
        )

    @property
    def summary(self) -> str:
        held = listed(
            f"{w + c:.2f} GB on each of {n}"
            for n, w, c in zip(self.ranks, self.weights, self.cache, strict=True)
        )
        lines = "; ".join(
            f"{name}, {listed(f'{ms:.1f}' for ms in line)}"
            for name, line in self.milliseconds.items()
        )
        return (
            f"Left, bars of weights and cache for {listed(self.ranks)} ranks: {held}. Right, lines "
            f"of milliseconds a token for the same numbers of ranks: {lines}."
        )

    def to_text(self) -> str:
        rows = [["ranks", "weights", "cache", *self.milliseconds]]
        lines = self.milliseconds.values()
        for n, weights, cache, *times in zip(
            self.ranks, self.weights, self.cache, *lines, strict=True
        ):
            sizes = [f"{weights:.2f} GB", f"{cache:.2f} GB"]
            rows.append([str(n), *sizes, *(f"{ms:.1f} ms" for ms in times)])
        return "\n".join([self.title, *aligned(rows)])


def shards_sweep_frame(
    ranks: Sequence[int],
    weights: Sequence[float],
    cache: Sequence[float],
    milliseconds: Mapping[str, Sequence[float]],
) -> ShardsSweepFrame:
    """Put a sweep's numbers into a frame.

    Args:
        ranks: n, rising.
        weights, cache: GB on each rank, for each n.
        milliseconds: for one to three kinds of link by name, the time of a token for each n.

    Raises:
        ValueError: when a list has another length than `ranks`, or there are too many links.

    >>> shards_sweep_frame([1, 2], [14.5, 7.2], [0.5, 0.3], {"20 µs": [15.0, 16.0]}).best
    {'20 µs': 1}
    """
    if not 1 <= len(milliseconds) <= len(_LOOKS):
        raise ValueError(f"{len(milliseconds)} kinds of link: give 1 to {len(_LOOKS)}")
    lists = {"weights": weights, "cache": cache, **milliseconds}
    for name, line in lists.items():
        if len(line) != len(ranks):
            raise ValueError(f"{name!r} has {len(line)} numbers for {len(ranks)} numbers of ranks")
    lines = {name: tuple(line) for name, line in milliseconds.items()}
    return ShardsSweepFrame(tuple(ranks), tuple(weights), tuple(cache), lines)


@draw.register
def _(frame: ShardsSweepFrame) -> Figure:
    figure = card(4.5, frame.title)
    _draw_memory(panel(figure, 0.65, 0.65, 2.55, 2.85), frame)
    _draw_time(panel(figure, 4.0, 0.65, 3.35, 2.85), frame)
    return figure


def _draw_memory(axes: Axes, frame: ShardsSweepFrame) -> None:
    places = range(len(frame.ranks))
    look: dict = {"edgecolor": LINE, "width": 0.6}
    axes.bar(places, frame.weights, color=SKY, label="weights", **look)
    bars = axes.bar(
        places,
        frame.cache,
        bottom=frame.weights,
        color="white",
        hatch="////",
        label="cache",
        **look,
    )
    total = [w + c for w, c in zip(frame.weights, frame.cache, strict=True)]
    axes.bar_label(bars, [f"{size:.1f}" for size in total], padding=2, size=8.5)
    axes.set_xticks(places, [str(n) for n in frame.ranks])
    axes.set(xlabel="ranks (processes)", ylabel="on each rank (GB)")
    axes.legend(loc="upper right", frameon=False, fontsize=8.5)


def _draw_time(axes: Axes, frame: ShardsSweepFrame) -> None:
    places = range(len(frame.ranks))
    for (name, line), (dash, mark, colour) in zip(frame.milliseconds.items(), _LOOKS, strict=False):
        axes.plot(places, line, dash, color=colour, marker=mark, ms=5, label=name)
        best = frame.ranks.index(frame.best[name])
        axes.plot(best, line[best], "o", ms=13, mfc="none", mec=colour, mew=1.5)
        axes.annotate(
            f"{line[best]:.1f}",
            (best, line[best]),
            (0, 10),
            textcoords="offset points",
            size=8.5,
            ha="center",
            va="bottom",
        )
    axes.set_xticks(places, [str(n) for n in frame.ranks])
    axes.set(xlabel="ranks (processes)", ylabel="one token (milliseconds)", yscale="log")
    axes.set_yticks(ticks := [1, 2, 5, 10, 20, 50, 100, 200], [str(tick) for tick in ticks])
    axes.minorticks_off()
    lines = [ms for line in frame.milliseconds.values() for ms in line]
    axes.set_ylim(min(lines) / 1.7, max(lines) * 1.3)
    axes.margins(x=0.1)
    axes.legend(title="one message takes", loc="upper left", frameon=False, fontsize=8.5)
