"""Slot inspector, the data: what a real rolling cache holds, chunk after chunk.

    slot(p) = p mod W

Nothing here computes a slot or decides who sees whom. `replay.py` drives a real `RollingCache`
through a prompt in chunks and then token by token; `sliding_window.visible` says which of the keys
it offers are seen.

Source: "Mistral 7B" (arXiv 2310.06825), section 2, "Rolling Buffer Cache" and "Pre-fill and
Chunking".
Lesson: 08_rolling_cache. The drawing is in `ring_figure.py`.

Conventions
    Step 0 is the empty ring; steps 1, 2, … each run one chunk.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Int

from mistral_edu.sliding_window import visible
from mistral_edu.viz.frame import Frame, aligned, count, listed, listing
from mistral_edu.viz.replay import Moment, replay


@dataclass(frozen=True, eq=False)
class RingFrame(Frame):
    """The ring after one step of a prompt fed in chunks, then generation token by token.

    Args:
        window: W.
        step, steps: which chunk has just run (0: none), and how many there are.
        prompt, total: tokens in the prompt, and in prompt and generated text together.
        moment: the ring around that chunk.
    """

    topic: ClassVar[str] = "ring"
    window: int
    step: int
    steps: int
    prompt: int
    total: int
    moment: Moment

    @property
    def attended(self) -> Int[np.ndarray, "seen"]:
        """Positions that at least one query of the chunk sees, in order."""
        queries, keys = (torch.tensor(x)[None] for x in (self.moment.arriving, self.moment.offered))
        seen = visible(queries, keys, self.window)[0].any(dim=0).numpy()
        return np.sort(self.moment.offered[seen])

    @property
    def sees(self) -> str:
        """`attended` in words."""
        return f"sees {count(len(self.attended), 'key')}: {listing(self.attended)}"

    @property
    def written(self) -> Bool[np.ndarray, "W"]:
        """Slots that this step wrote, (W,)."""
        return self.moment.after != self.moment.before

    @property
    def empty(self) -> Bool[np.ndarray, "W"]:
        """Slots that hold nothing, (W,)."""
        return self.moment.after < 0

    @property
    def evicted(self) -> Int[np.ndarray, "lost"]:
        """Positions that this step overwrote, in order."""
        return np.sort(self.moment.before[self.written & (self.moment.before >= 0)])

    @property
    def unstored(self) -> Int[np.ndarray, "passed"]:
        """Positions of the chunk that were attended to but never stored: a chunk longer than W."""
        return np.setdiff1d(self.moment.arriving, self.moment.after)

    @property
    def seen(self) -> int:
        """Tokens that have passed through the ring so far."""
        return int(self.moment.after.max()) + 1

    @property
    def phase(self) -> str:
        """What kind of step this is, in words."""
        if self.step == 0:
            return "nothing has arrived"
        return "prompt" if self.moment.arriving[0] < self.prompt else "generation"

    @property
    def title(self) -> str:
        if self.step == 0:
            return f"An empty ring: {count(self.window, 'slot')} reserved once, nothing held yet"
        stored = np.setdiff1d(self.moment.arriving, self.unstored)
        slots = [int(np.flatnonzero(self.moment.after == position)[0]) for position in stored]
        place = f"{'slot' if len(slots) == 1 else 'slots'} {listing(slots)}"
        news = f"Step {self.step}: {_positions(stored)} → {place}"
        if len(self.evicted):
            news += f", evicting {_positions(self.evicted)}"
        if len(self.unstored):
            news += f"; {_positions(self.unstored)} attended, never stored"
        return news

    @property
    def summary(self) -> str:
        ring = f"A ring of {count(self.window, 'slot')}"
        if self.step == 0:
            return f"{ring}, all empty, before the first of {self.steps} steps."
        held = listed("nothing" if slot < 0 else f"{slot}" for slot in self.moment.after)
        return (
            f"{ring} after step {self.step} of {self.steps}, {self.phase}. Arriving: "
            f"{_positions(self.moment.arriving)}; together they see "
            f"{count(len(self.attended), 'key')}, {listed(self.attended)}. "
            f"Evicted: {listed(self.evicted)}. Slot by slot the ring now holds {held}; in the "
            f"order of the text, {listed(self.moment.unrolled)}."
        )

    def to_text(self) -> str:
        moment = self.moment
        news = np.where(self.written, np.where(moment.before >= 0, "overwritten", "filled"), "kept")
        state = np.where(self.empty, "empty", news)
        rows = [["slot", "held before", "holds now", "age (tokens)", "this step"]]
        for slot in range(self.window):
            numbers = (moment.before[slot], moment.after[slot], moment.ages[slot])
            cells = ["–" if number < 0 else str(number) for number in numbers]
            rows.append([str(slot), *cells, str(state[slot])])
        return "\n".join(
            [
                self.title,
                *aligned(rows),
                f"chunk: {listing(moment.arriving)}",
                self.sees if self.step else "sees nothing yet",
                f"unrolled, oldest first: {listing(moment.unrolled)}",
            ]
        )


def ring_frame(
    window: int = 4, prompt: int = 6, chunk: int = 3, step: int = 0, new_tokens: int = 8
) -> RingFrame:
    """Run a real ring up to one step and describe it.

    Args:
        window: W, slots in the ring.
        prompt: tokens in the prompt, fed in chunks.
        chunk: tokens per chunk of the prompt; more than W is allowed.
        step: chunks that have run, 0 .. `ring_steps(prompt, chunk, new_tokens)`.
        new_tokens: tokens generated after the prompt, one per step.

    >>> frame = ring_frame(window=4, prompt=6, chunk=3, step=2)
    >>> frame.moment.after.tolist(), frame.evicted.tolist()
    ([4, 5, 2, 3], [0, 1])
    """
    if min(window, prompt, chunk) < 1:
        raise ValueError(f"window={window}, prompt={prompt}, chunk={chunk} must be at least 1")
    steps = ring_steps(prompt, chunk, new_tokens)
    if not 0 <= step <= steps:
        raise ValueError(f"step={step} is not in 0 .. {steps}, the steps of this run")
    total = prompt + new_tokens
    chunks = [range(start, min(start + chunk, prompt)) for start in range(0, prompt, chunk)]
    chunks += [range(position, position + 1) for position in range(prompt, total)]
    *_, moment = replay(window, chunks[:step])
    return RingFrame(window, step, steps, prompt, total, moment)


def ring_steps(prompt: int, chunk: int, new_tokens: int) -> int:
    """Steps in a run: the prompt's chunks and one for each new token.

    >>> ring_steps(prompt=6, chunk=4, new_tokens=8)
    10
    """
    return -(-prompt // chunk) + new_tokens


def _positions(positions: np.ndarray) -> str:
    return f"{'position' if len(positions) == 1 else 'positions'} {listing(positions)}"
