"""Memory sweep: weights and cache against the length of the text, one line for each model.

    with a window the line is flat from W tokens on; without one it rises for ever

Source: "Mistral 7B" (arXiv 2310.06825), section 2, "Rolling Buffer Cache".
Lesson: 00_map_and_toolbox, which computes the numbers; nothing here does.

Conventions
    GB is 10⁹ bytes. The length is on a scale of doublings, the memory on an even one. Lines differ
    by dash and by marker, not by colour alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from matplotlib.figure import Figure

from mistral_edu.viz.frame import Frame, aligned, listed
from mistral_edu.viz.render import draw
from mistral_edu.viz.style import BLUE, INK, LINE, QUIET, VERMILLION, card, panel

_LOOKS = (("-", "o", BLUE), ("--", "s", VERMILLION), (":", "^", INK))
_MACHINES = (8, 16, 24, 80)


@dataclass(frozen=True)
class MemorySweepFrame(Frame):
    """Memory of a few models over a range of text lengths.

    Args:
        contexts: tokens in the text, rising, at least two.
        gigabytes: for each model by name, the memory at each length.
    """

    topic: ClassVar[str] = "memory-sweep"
    contexts: tuple[int, ...]
    gigabytes: dict[str, tuple[float, ...]]

    @property
    def flat(self) -> dict[str, float]:
        """Models whose memory no longer grows at the end of the sweep, with that memory."""
        return {name: line[-1] for name, line in self.gigabytes.items() if line[-1] == line[-2]}

    @property
    def title(self) -> str:
        if self.flat:
            stopped = listed(
                f"{name} stops growing at {end:.1f} GB" for name, end in self.flat.items()
            )
            return f"{stopped}, however long the text"
        most = max(line[-1] for line in self.gigabytes.values())
        return (
            f"Every line grows with the text, up to {most:.1f} GB at {self.contexts[-1]:,} tokens"
        )

    @property
    def summary(self) -> str:
        ends = "; ".join(
            f"{name}, from {line[0]:.1f} to {line[-1]:.1f} GB"
            for name, line in self.gigabytes.items()
        )
        flat = listed(self.flat) if self.flat else "none"
        return (
            f"Lines of memory, weights and cache together, for texts of {self.contexts[0]:,} to "
            f"{self.contexts[-1]:,} tokens: {ends}. Flat at the end: {flat}."
        )

    def to_text(self) -> str:
        rows = [["tokens", *self.gigabytes]]
        for context, *sizes in zip(self.contexts, *self.gigabytes.values(), strict=True):
            rows.append([f"{context:,}", *(f"{size:.1f} GB" for size in sizes)])
        return "\n".join([self.title, *aligned(rows)])


def memory_sweep_frame(
    contexts: Sequence[int], gigabytes: Mapping[str, Sequence[float]]
) -> MemorySweepFrame:
    """Put a sweep's numbers into a frame.

    Args:
        contexts: tokens in the text, rising, at least two.
        gigabytes: for each model by name, the memory at each length; one to three models.

    Raises:
        ValueError: when a line has another length than `contexts`, or there are too many lines.

    >>> memory_sweep_frame([1024, 2048], {"ring": [14.6, 14.6], "plain": [14.6, 14.8]}).title
    'ring stops growing at 14.6 GB, however long the text'
    """
    if len(contexts) < 2 or not 1 <= len(gigabytes) <= len(_LOOKS):
        raise ValueError(
            f"{len(contexts)} lengths and {len(gigabytes)} models: give at least 2 lengths and "
            f"1 to {len(_LOOKS)} models"
        )
    for name, line in gigabytes.items():
        if len(line) != len(contexts):
            raise ValueError(f"{name!r} has {len(line)} numbers for {len(contexts)} lengths")
    lines = {name: tuple(line) for name, line in gigabytes.items()}
    return MemorySweepFrame(tuple(contexts), lines)


@draw.register
def _(frame: MemorySweepFrame) -> Figure:
    figure = card(4.4, frame.title)
    axes = panel(figure, 0.8, 0.75, 5.4, 3.1)
    for (name, line), (dash, mark, colour) in zip(frame.gigabytes.items(), _LOOKS, strict=False):
        axes.plot(frame.contexts, line, dash, color=colour, marker=mark, ms=5, lw=2, label=name)
    highest = 1.1 * max(map(max, frame.gigabytes.values()))
    for size in [size for size in _MACHINES if size < highest]:
        axes.axhline(size, color=LINE, lw=0.8, zorder=0)
        where = (1.02, size)
        words = f"{size} GB machine"
        axes.annotate(words, where, xycoords=("axes fraction", "data"), color=QUIET, va="center")
    axes.legend(loc="upper left", bbox_to_anchor=(0.02, 0.84), frameon=False)
    axes.set_xscale("log", base=2)
    axes.set_xticks(frame.contexts, [f"{context:,}" for context in frame.contexts])
    axes.set(xlabel="length of the text (tokens)", ylabel="weights and cache (GB)")
    axes.set_ylim(0, highest)
    return figure
