"""Replay: a real rolling cache driven through chunks of positions, and asked what it holds.

    chunk  →  begin, update, commit  →  what was offered, what lies in each slot

Nothing here computes a slot. Every key that goes in is the number of its own position, so what
comes out in position order is read back from the stored keys.

Source: "Mistral 7B" (arXiv 2310.06825), section 2, "Rolling Buffer Cache" and "Pre-fill and
Chunking".
Lesson: 08_rolling_cache. The frames that use it are in `ring.py` and `mask.py`.

Conventions
    The first moment is the empty ring. Age 0 is the newest token held.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int

from mistral_edu.config import MistralConfig
from mistral_edu.rolling_cache import RollingCache
from mistral_edu.viz.frame import frozen


@dataclass(frozen=True, eq=False)
class Moment:
    """One chunk's passage through the ring.

    Args:
        arriving: positions in the chunk.
        offered: positions of the keys the chunk is offered, in the order the cache hands them
            over: the ring as it was, then the chunk itself. Which of them a query sees is the
            visibility rule's business.
        before, after: the position in each slot, −1 for an empty one, (W,).
        ages: tokens since each slot's token, 0 for the newest, −1 for an empty slot, (W,).
        unrolled: positions read back from the stored keys, oldest first.
        next_slot: the slot that the next token will take.
    """

    arriving: Int[np.ndarray, "T"]
    offered: Int[np.ndarray, "S"]
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
        offered = _run(cache, torch.tensor([list(chunk)]))
        yield Moment(
            arriving=frozen(chunk),
            offered=offered,
            before=before,
            after=frozen(cache.positions[0].numpy()),
            ages=frozen(-1 if slot.age is None else slot.age for slot in cache.slots()),
            unrolled=frozen(next(iter(cache))[0][0, 0, :, 0].long().numpy()),
            next_slot=_next_slot(cache),
        )


# With gradients off a single token overwrites before it attends, and the key at p − W, which it
# does not see, is never offered. With gradients on the cache takes every chunk the same way.
@torch.enable_grad()
def _run(cache: RollingCache, positions: Int[torch.Tensor, "1 T"]) -> Int[np.ndarray, "S"]:
    step = cache.begin(positions)
    stamped = positions[:, None, :, None].expand(-1, -1, -1, 2).float()  # → (1, 1, T, 2)
    cache.update(0, stamped, stamped, step)
    cache.commit(step)
    return frozen(step.key_positions[0].numpy())


def _next_slot(cache: RollingCache) -> int:
    return int(cache.begin(cache.lengths[:, None]).slots)
