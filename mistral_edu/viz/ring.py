"""Slot inspector, the data: what a real rolling cache holds, chunk after chunk.

    slot(p) = p mod W

Nothing here computes a slot. A `RollingCache` is driven through a prompt in chunks and then token
by token, and asked what it holds. Every key that goes in is the number of its own position, so
what comes out in position order is read back from the stored keys.

Source: "Mistral 7B" (arXiv 2310.06825), section 2, "Rolling Buffer Cache" and "Pre-fill and
Chunking".
Lesson: 08_rolling_cache. The drawing is in `ring_figure.py`.

Conventions
    Step 0 is the empty ring; steps 1, 2, … each run one chunk. Age 0 is the newest token held.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Int

from mistral_edu.config import MistralConfig
from mistral_edu.rolling_cache import RollingCache
from mistral_edu.viz.frame import Frame, aligned, count, frozen, listing


@dataclass(frozen=True, eq=False)
class Moment:
    """One chunk's passage through the ring.

    Args:
        arriving: positions in the chunk.
        attended: positions the chunk could attend to, in the order the cache hands them over.
        before, after: the position in each slot, −1 for an empty one, (W,).
        ages: tokens since each slot's token, 0 for the newest, −1 for an empty slot, (W,).
        unrolled: positions read back from the stored keys, oldest first.
        next_slot: the slot that the next token will take.
    """

    arriving: Int[np.ndarray, "T"]
    attended: Int[np.ndarray, "S"]
    before: Int[np.ndarray, "W"]
    after: Int[np.ndarray, "W"]
    ages: Int[np.ndarray, "W"]
    unrolled: Int[np.ndarray, "held"]
    next_slot: int


def replay(window: int, chunks: Iterable[Sequence[int]]) -> Iterator[Moment]:
    """Drive a fresh one-layer rolling cache; yield what it looks like, first of all empty.

    Args:
        window: W, its number of slots.
        chunks: positions of each chunk; an empty chunk is skipped.

    >>> [moment.after.tolist() for moment in replay(3, [range(5), [5, 6]])]
    [[-1, -1, -1], [3, 4, 2], [6, 4, 5]]
    """
    config = MistralConfig(
        hidden_size=2,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        sliding_window=window,
    )
    cache = RollingCache.allocate(config, batch_size=1)
    slots = frozen(cache.positions[0].numpy())
    nothing = frozen(slots[:0])
    yield Moment(nothing, nothing, slots, slots, slots, nothing, next_slot=_next_slot(cache))
    for chunk in filter(len, chunks):
        before = frozen(cache.positions[0].numpy())
        attended = _run(cache, torch.tensor([list(chunk)]))
        yield Moment(
            arriving=frozen(chunk),
            attended=attended,
            before=before,
            after=frozen(cache.positions[0].numpy()),
            ages=frozen(-1 if slot.age is None else slot.age for slot in cache.slots()),
            unrolled=frozen(next(iter(cache))[0][0, 0, :, 0].long().numpy()),
            next_slot=_next_slot(cache),
        )


@torch.no_grad()
def _run(cache: RollingCache, positions: Int[torch.Tensor, "1 T"]) -> Int[np.ndarray, "S"]:
    step = cache.begin(positions)
    stamped = positions[:, None, :, None].expand(-1, -1, -1, 2).float()  # → (1, 1, T, 2)
    cache.update(0, stamped, stamped, step)
    cache.commit(step)
    return frozen(step.key_positions[0].numpy())


def _next_slot(cache: RollingCache) -> int:
    return int(cache.begin(cache.lengths[:, None]).slots)


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
        news = f"Step {self.step}: {_positions(stored)} → {place} (p mod {self.window})"
        if len(self.evicted):
            news += f", evicting {_positions(self.evicted)}"
        if len(self.unstored):
            news += f"; {_positions(self.unstored)} attended, never stored"
        return news

    @property
    def summary(self) -> str:
        held = ", ".join(
            "empty" if position < 0 else str(position) for position in self.moment.after
        )
        return (
            f"Ring of {count(self.window, 'slot')} after step {self.step} of {self.steps} "
            f"({self.phase}): arriving={listing(self.moment.arriving)}; slots=[{held}]; "
            f"evicted={listing(self.evicted)}; unrolled={listing(self.moment.unrolled)}."
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
                f"attends to: {listing(moment.attended)}",
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
