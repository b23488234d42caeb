"""Where queries and keys can stand in practice, for sweeping a backend against the oracle.

Every case is (name, q_positions, k_positions, window), two rows, the second one shorter.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

Case = tuple[str, Tensor, Tensor, int | None]
WINDOWS = (1, 2, 5, None)


def tensors(seed, q_positions, k_positions, heads=4, shared=2, head_dim=6, dtype=torch.float32):
    """Random q, k and v for the positions; head_dim is no power of two."""
    generator = torch.Generator().manual_seed(seed)
    rows = len(q_positions)
    shapes = ((heads, q_positions), (shared, k_positions), (shared, k_positions))
    return [
        torch.randn(rows, n, at.shape[1], head_dim, generator=generator).to(dtype)
        for n, at in shapes
    ]


def counted(start: int, real: int, width: int) -> list[int]:
    """`width` columns, left-padded, with `real` tokens from position `start` on."""
    return [-1] * (width - real) + list(range(start, start + real))


def ring(length: int, slots: int) -> list[int]:
    """Which position each slot holds after `length` tokens."""
    held = [-1] * slots
    for position in range(length):
        held[position % slots] = position
    return held


def lengths(window: int | None) -> list[int]:
    """Around the window; 0 is for caches and padding."""
    return sorted(
        {0, 1, 4, 9} if window is None else {0, 1, window - 1, window, window + 1, 3 * window}
    )


def whole_texts(window: int | None) -> Iterator[Case]:
    """No cache: the batch is even, padded on the left, or padded on the right."""
    for length in lengths(window)[1:]:
        for short in {0, 1, length - 1, length}:
            left = torch.tensor([counted(0, length, length), counted(0, short, length)])
            right = torch.tensor(
                [counted(0, length, length), [*range(short)] + [-1] * (length - short)]
            )
            yield f"left-padded {length}/{short}", left, left, window
            yield f"right-padded {length}/{short}", right, right, window


def chunks_over_a_ring(window: int | None) -> Iterator[Case]:
    """A chunk after a cache, wrapped or not: first the ring's slots, then the chunk."""
    for past in lengths(window):
        behind = max(0, past - 2)
        slots = past if window is None else min(past, window)
        for size in lengths(window)[1:]:
            for real in {0, size}:
                q = torch.tensor([counted(past, size, size), counted(behind, real, size)])
                held = torch.tensor([ring(past, slots), ring(behind, slots)]).view(2, slots).long()
                yield f"past {past}, chunk {size}/{real}", q, torch.cat([held, q], dim=1), window


def tokens_in_a_ring(window: int | None) -> Iterator[Case]:
    """One token that is in the ring already; the second row lags behind, or is not asked."""
    for past in lengths(window):
        slots = past + 1 if window is None else min(past + 1, window)
        for behind in {past, max(0, past - 2)}:
            held = torch.tensor([ring(past + 1, slots), ring(behind + 1, slots)])
            for second in (behind, -1):
                q = torch.tensor([[past], [second]])
                yield f"token {past}/{second} in a ring", q, held, window


def odd_positions() -> Iterator[Case]:
    """Packed texts, gaps smaller than the window, stale slots, and no order at all."""
    packed = torch.tensor([[0, 1, 2, 20, 21, 22, 23], [0, 9, 10, 30, 31, 50, 51]])
    gaps = torch.tensor([[0, 1, 2, 4, 5, 8, 9], [-1, 3, 4, 6, 7, 9, 12]])
    shuffled = torch.tensor([[3, 0, 2, 1, 5, 4, 6], [-1, 2, 1, 0, -1, 4, 3]])
    swapped = torch.tensor([[0, 2, 1, 4, 3, 6, 5], [0, 1, 3, 2, 4, 5, 6]])
    twice = torch.tensor([[0, 1, 1, 1, 2, 2, 3], [-1, 0, 0, 5, 5, 6, 6]])
    ordered = torch.arange(7).expand(2, 7)
    for window in (1, 3, 6, 7, None):
        yield "packed", packed, packed, window
        yield "gaps", gaps, gaps, window
        yield "shuffled", shuffled, shuffled, window
        yield "only keys shuffled", ordered, shuffled, window
        yield "only queries shuffled", shuffled, ordered, window
        yield "only queries swapped", swapped, ordered, window
        yield "several keys at one position", ordered, twice, window
        yield "middle of the keys", torch.tensor([[2, 3], [4, 5]]), shuffled, window
    yield "stale", torch.tensor([[100], [101]]), torch.tensor([[100, 1, 2, 3], [-1, 101, 98, 3]]), 4


def every_case() -> Iterator[Case]:
    """All of them, over all windows."""
    for window in WINDOWS:
        yield from whole_texts(window)
        yield from chunks_over_a_ring(window)
        yield from tokens_in_a_ring(window)
    yield from odd_positions()
