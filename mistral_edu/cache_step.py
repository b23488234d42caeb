"""One chunk's way through the rolling cache: what it attends to, and which slots it takes.

Lesson: 08_rolling_cache.

Conventions
    A row of a cache only ever goes forward. A token at a position the row has passed would look
    for keys that are gone and evict keys that are still needed, so it is refused, not guessed at.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class Slot:
    """One slot as the pictures show it: its index, the position it holds, its age in tokens."""

    index: int
    position: int
    age: int | None


@dataclass(frozen=True)
class Step:
    """Where one chunk goes: planned once, used by every layer, then committed or rolled back.

    Args:
        positions: of the chunk's tokens, −1 for padding.
        key_positions: of the keys the chunk attends to: what the ring holds, then the chunk.
        rows, columns: the tokens that are stored, as indices into the chunk.
        slots: where each of them goes.
        used_slots: slots of the ring that are attended to.
        in_place: store before attending (one token, which takes the slot it no longer sees).
        evicts: whether a stored token may overwrite another.
        overwritten: rings and what the chunk displaced in them, for `rollback`. What it wrote into
            empty slots needs no undoing: no position is noted there, so nobody sees it.
    """

    positions: Int[Tensor, "B T"]
    key_positions: Int[Tensor, "B S"]
    rows: Int[Tensor, "N"]
    columns: Int[Tensor, "N"]
    slots: Int[Tensor, "N"]
    used_slots: int
    in_place: bool
    evicts: bool = False
    overwritten: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def order(self) -> Int[Tensor, "B S"]:
        """Columns of the attended keys in reading order: the ring by position, then the chunk.

        >>> at, none = torch.tensor([[5]]), torch.zeros(0, dtype=torch.long)
        >>> Step(at, torch.tensor([[3, 4, 2, 5]]), none, none, none, 3, in_place=False).order
        tensor([[2, 0, 1, 3]])
        """
        ring = self.key_positions[:, : self.used_slots].argsort(dim=1)
        rest = torch.arange(self.used_slots, self.key_positions.shape[1], device=ring.device)
        return torch.cat([ring, rest.expand(len(ring), -1)], dim=1)


def require_fit(positions: Tensor, lengths: Int[Tensor, "B"]) -> None:
    """Refuse a chunk without tokens, of another batch, or with positions that a row has passed.

    Args:
        positions: (rows, T) of the chunk.
        lengths: of the cache, one past the last position of each row.

    >>> require_fit(torch.tensor([[-1, 7]]), torch.tensor([8]))
    Traceback (most recent call last):
    ...
    ValueError: row 0 has a token at position 7, but its cache has gone on to 7: \
count positions up, or crop(7) the cache first
    """
    if not positions.shape[1]:
        raise ValueError("the chunk has no tokens: feed at least one column, padding or not")
    if len(positions) != len(lengths):
        raise ValueError(
            f"the chunk has {len(positions)} rows but the cache has {len(lengths)}: "
            "allocate a cache with the batch's size"
        )
    late = (positions >= 0) & (positions < lengths[:, None])
    if late.any():
        row, column = late.nonzero()[0].tolist()
        position = int(positions[row, column])
        raise ValueError(
            f"row {row} has a token at position {position}, but its cache has gone on to "
            f"{int(lengths[row]) - 1}: count positions up, or crop({position}) the cache first"
        )


def require_distinct(positions: Int[Tensor, "B T"], advice: str) -> None:
    """Refuse a row in which two tokens stand at one position; padding does not count.

    >>> require_distinct(torch.tensor([[-1, -1, 0]]), "unused")
    """
    ordered = positions.sort(dim=1).values
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        row, column = twice.nonzero()[0].tolist()
        raise ValueError(f"row {row} has two tokens at position {ordered[row, column]}: {advice}")


def slots_to_add(end: int, slots: int, window: int | None, grows: bool) -> int:
    """How many slots a cache lacks for tokens up to position `end` − 1.

    None if it has a slot for each of the last W tokens; at least as many again as it has if it
    grows, so that growing is rare.

    >>> slots_to_add(end=9, slots=4, window=4, grows=False)
    0
    >>> slots_to_add(end=9, slots=8, window=None, grows=True)
    8
    """
    if end <= slots or window == slots:
        return 0
    if not grows:
        raise ValueError(
            f"position {end - 1} does not fit a cache of {slots} slots with window={window}: "
            f"allocate it with capacity={end} or more"
        )
    return max(end, 2 * slots) - slots
