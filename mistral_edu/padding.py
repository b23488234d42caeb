"""Padding: rows of ids of different lengths in one tensor, and the mask that tells which are real.

    left:   · · a b        right:   a b · ·        mask:   0 0 1 1        1 1 0 0
            c d e f                 c d e f                1 1 1 1        1 1 1 1

Lesson: 12_generation_and_chat.

Conventions: a mask is 1 at an id and 0 at filling. What an id means is not known here; filling
counts for nothing because every reader masks it, so any id can fill.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor


def pad_rows(
    rows: Sequence[Sequence[int]], pad_id: int, side: str
) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
    """Put rows of ids of different lengths into one tensor.

    Arguments:
        rows: at least one row; a row may be empty.
        pad_id: the id to fill with.
        side: where the filling goes. "left" to generate from (every row ends together), or "right".

    Returns:
        The ids and the mask, both (B, T) int64; T is the length of the longest row.
    Raises:
        ValueError: there are no rows, or the side is neither.

    >>> ids, mask = pad_rows([[5, 6, 7], [5]], 0, "right")
    >>> ids.tolist(), mask.tolist()
    ([[5, 6, 7], [5, 0, 0]], [[1, 1, 1], [1, 0, 0]])
    """
    if side not in ("left", "right"):
        raise ValueError(f"side is {side!r}, expected 'left' or 'right'")
    if not rows:
        raise ValueError("the batch is empty, expected at least one row of ids")
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        start = width - len(row) if side == "left" else 0
        ids[place, start : start + len(row)] = torch.tensor(row, dtype=torch.long)
        mask[place, start : start + len(row)] = 1
    return ids, mask
