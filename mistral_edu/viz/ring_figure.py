"""Slot inspector, the picture: a chunk arriving, the row of slots, and the same tokens in order.

    chunk  →  slots (position, age)  →  unrolled along the sequence

Lesson: 08_rolling_cache. The data is in `ring.py`.

Conventions
    A slot's shade is its age on a scale that never changes while W does not, and the age is
    printed in it. A slot written in this step has a thick outline and says what it evicted; an
    empty slot is dashed. Lines join each slot to its token's place in the sequence.
"""

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from mistral_edu.viz.explorer import Explorer, Stepper, number
from mistral_edu.viz.render import draw
from mistral_edu.viz.ring import RingFrame, ring_frame, ring_steps
from mistral_edu.viz.style import (
    INK,
    LINE,
    PAPER,
    QUIET,
    SEQUENTIAL,
    SHADE,
    VERMILLION,
    bare,
    card,
    panel,
    text_on,
)

WIDEST = 8
LONGEST_PROMPT = 12

_WIDTH, _HEIGHT = 7.6, 5.0
_LEFT, _RIGHT = 1.5, 7.45
_CHUNK, _SLOTS, _SEQUENCE = 3.65, 2.2, 0.78
_SLOT, _CELL = 0.8, 0.36


@draw.register
def _(frame: RingFrame) -> Figure:
    figure = card(_HEIGHT, frame.title)
    axes = bare(panel(figure, 0, 0, _WIDTH, _HEIGHT), (0, _WIDTH), (0, _HEIGHT))
    slots = _centres(frame.window, pitch=1.0)
    places = _centres(frame.total, pitch=0.5)
    _draw_labels(axes, frame)
    _draw_chunk(axes, frame, slots)
    _draw_slots(axes, frame, slots)
    _draw_sequence(axes, frame, slots, places)
    return figure


def _centres(number: int, pitch: float) -> np.ndarray:
    """Where boxes stand in a row: `pitch` inches apart, closer if the row would not fit."""
    return _LEFT + min(pitch, (_RIGHT - _LEFT) / max(number, 1)) * (np.arange(number) + 0.5)


def _box(axes: Axes, centre: float, bottom: float, size: tuple[float, float], **look: Any) -> None:
    left = centre - size[0] / 2
    axes.add_patch(Rectangle((left, bottom), *size, **{"edgecolor": LINE, "zorder": 2, **look}))


def _shade(frame: RingFrame, slot: int) -> tuple[float, ...]:
    """Newest brightest, oldest darkest."""
    age = frame.moment.ages[slot] / max(frame.window - 1, 1)
    return mpl.colormaps[SEQUENTIAL](1.0 - 0.85 * age)


def _draw_labels(axes: Axes, frame: RingFrame) -> None:
    rows = (
        (_CHUNK + _CELL / 2, "chunk", f"{frame.phase}\nstep {frame.step} of {frame.steps}"),
        (_SLOTS + _SLOT / 2, "ring of slots", f"slot = p mod {frame.window}\nlast → first again"),
        (_SEQUENCE + _CELL / 2, "unrolled", "position in the\nsequence (tokens)"),
    )
    for height, name, detail in rows:
        axes.text(0.15, height + 0.02, name, weight="bold", va="bottom")
        axes.text(0.15, height - 0.02, detail, color=QUIET, size=8.5, va="top")
    note = "big number: position held     thick outline: written in this step     hatched: not held"
    axes.text(_LEFT, 0.12, note, color=QUIET, size=8.5)


def _draw_chunk(axes: Axes, frame: RingFrame, slots: np.ndarray) -> None:
    """The arriving tokens, each with an arrow to the slot that now holds it."""
    arriving = frame.moment.arriving
    if not len(arriving):
        axes.text(_LEFT + 0.1, _CHUNK + _CELL / 2, "none yet", color=QUIET, va="center")
    else:
        axes.text(_LEFT, _CHUNK + _CELL + 0.1, frame.sees, color=QUIET, size=8.5)
    centres = _centres(len(arriving), pitch=0.5)
    width = min(0.42, 0.84 * (_RIGHT - _LEFT) / max(len(arriving), 1))
    for centre, position in zip(centres, arriving, strict=True):
        stored = position not in frame.unstored
        look: dict[str, Any] = {
            "facecolor": PAPER if stored else SHADE,
            "linestyle": "-" if stored else "--",
        }
        _box(axes, centre, _CHUNK, (width, _CELL), hatch="" if stored else "////", **look)
        axes.text(centre, _CHUNK + _CELL / 2, str(position), ha="center", va="center", zorder=4)
        if stored:
            slot = int(np.flatnonzero(frame.moment.after == position)[0])
            tip = (slots[slot], _SLOTS + _SLOT + 0.03)
            arrow: dict[str, Any] = {
                "arrowstyle": "-|>",
                "mutation_scale": 12,
                "color": VERMILLION,
                "lw": 1.3,
            }
            axes.add_patch(FancyArrowPatch((centre, _CHUNK), tip, shrinkA=1, shrinkB=0, **arrow))


def _draw_slots(axes: Axes, frame: RingFrame, slots: np.ndarray) -> None:
    width = min(_SLOT, 0.86 * (_RIGHT - _LEFT) / frame.window)
    middle = _SLOTS + _SLOT / 2
    for slot, centre in enumerate(slots):
        held = frame.moment.after[slot]
        if held < 0:
            _box(axes, centre, _SLOTS, (width, _SLOT), facecolor=PAPER, linestyle="--")
            axes.text(centre, middle, "empty", ha="center", va="center", color=QUIET)
        else:
            shade = _shade(frame, slot)
            edge: dict[str, Any] = {"edgecolor": VERMILLION, "lw": 3} if frame.written[slot] else {}
            _box(axes, centre, _SLOTS, (width, _SLOT), facecolor=shade, **edge)
            paint: dict[str, Any] = {"color": text_on(shade), "ha": "center", "zorder": 4}
            axes.text(centre, middle + 0.1, str(held), size=15, weight="bold", va="center", **paint)
            age = f"age {frame.moment.ages[slot]}"
            axes.text(centre, middle - 0.24, age, size=8.5, va="center", **paint)
        below = "\n".join(_captions(frame, slot))
        axes.text(centre, _SLOTS - 0.06, below, size=8.5, ha="center", va="top")


def _captions(frame: RingFrame, slot: int) -> list[str]:
    before = frame.moment.before[slot]
    evicts = [f"evicts {before}"] if frame.written[slot] and before >= 0 else []
    return [f"slot {slot}", *evicts, *(["▲ next"] if slot == frame.moment.next_slot else [])]


def _draw_sequence(axes: Axes, frame: RingFrame, slots: np.ndarray, places: np.ndarray) -> None:
    """Every position of the run: held ones shaded as in their slot, lost ones hatched."""
    width = 0.9 * (places[1] - places[0]) if len(places) > 1 else 0.45
    middle, top = _SEQUENCE + _CELL / 2, _SEQUENCE + _CELL
    for position, centre in enumerate(places):
        seen = position < frame.seen
        look: dict[str, Any] = {
            "facecolor": SHADE if seen else PAPER,
            "linestyle": "-" if seen else ":",
        }
        hatch, ink, weight = "////" if seen else "", QUIET, "normal"
        if position in frame.moment.unrolled:
            slot = int(np.flatnonzero(frame.moment.after == position)[0])
            shade = _shade(frame, slot)
            look, hatch, ink, weight = {"facecolor": shade}, "", text_on(shade), "bold"
            start = _SLOTS - 0.1 - 0.155 * len(_captions(frame, slot))
            axes.plot([slots[slot], centre], [start, top], color=LINE, lw=0.9, zorder=1)
        _box(axes, centre, _SEQUENCE, (width, _CELL), hatch=hatch, **look)
        axes.text(
            centre,
            middle,
            str(position),
            color=ink,
            weight=weight,
            size=8.5,
            ha="center",
            va="center",
            zorder=4,
        )
    _draw_span(axes, places[0], places[frame.prompt - 1], width, "prompt")
    if frame.total > frame.prompt:
        _draw_span(axes, places[frame.prompt], places[-1], width, "generated")


def _draw_span(axes: Axes, first: float, last: float, width: float, name: str) -> None:
    left, right, height = first - width / 2, last + width / 2, _SEQUENCE - 0.1
    axes.plot(
        [left, left, right, right], [height + 0.05, height, height, height + 0.05], color=INK, lw=1
    )
    axes.text((left + right) / 2, height - 0.06, name, size=8.5, ha="center", va="top")


class RingExplorer(Explorer):
    """The slot inspector; `stepper.press("Next")` does what its button does."""

    def __init__(self, controls: dict, new_tokens: int) -> None:
        self.new_tokens = new_tokens
        self.stepper = Stepper(controls["step"])
        super().__init__(
            lambda **values: ring_frame(new_tokens=new_tokens, **values), controls, [self.stepper]
        )

    def adjust(self) -> None:
        prompt, chunk = self.controls["prompt"].value, self.controls["chunk"].value
        self.controls["step"].max = ring_steps(prompt, chunk, self.new_tokens)


def explore_ring(
    window: int = 4, prompt: int = 6, chunk: int = 3, step: int = 0, new_tokens: int = 8
) -> RingExplorer:
    """The slot inspector under the hand; arguments as in `ring_frame`.

    >>> explorer = explore_ring(window=4, prompt=6, chunk=3)
    >>> explorer.stepper.press("Next")
    >>> explorer.frame.moment.after.tolist()
    [0, 1, 2, -1]
    """
    controls = {
        "window": number("window (slots)", window, 1, WIDEST),
        "prompt": number("prompt (tokens)", prompt, 1, LONGEST_PROMPT),
        "chunk": number("chunk (tokens)", chunk, 1, LONGEST_PROMPT),
        "step": number("step", step, 0, ring_steps(prompt, chunk, new_tokens)),
    }
    return RingExplorer(controls, new_tokens)
