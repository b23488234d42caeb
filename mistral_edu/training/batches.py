"""Batches: documents packed into rows, apart from each other by their positions alone.

    row:        <s> text </s> <s> text </s> …
    positions:   0  1  2  3   W+3 …            the next text begins W further on

A query sees W positions, so no token of one document sees another document: the visibility rule
needs no new case for packing. Lessons: 04_masks_from_positions, 10_heads_and_training.

Conventions
    A row's unused end has position −1 and weight 0. A document longer than a row is cut.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mistral_edu.training.documents import Document

SHELF = 24


@dataclass(frozen=True)
class Batch:
    """Rows of packed documents.

    Args:
        ids: (B, T) token ids.
        positions: (B, T) absolute positions, −1 where there is nothing.
        weights: (B, T) how much predicting this token counts.
    """

    ids: Int[Tensor, "B T"]
    positions: Int[Tensor, "B T"]
    weights: Float[Tensor, "B T"]

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return Batch(self.ids.to(device), self.positions.to(device), self.weights.to(device))


def pack(documents: Iterator[Document], rows: int, context: int, window: int) -> Batch:
    """Fill rows with documents, each with the first of the next few that still fits.

    Args:
        documents: at least as many as fit.
        rows, context: B and T.
        window: W, how far apart the positions of two documents are.

    >>> two = [Document([1, 5, 2], [1.0] * 3), Document([1, 2], [1.0] * 2)]
    >>> batch = pack(iter(two), rows=1, context=6, window=4)
    >>> batch.ids.tolist(), batch.positions.tolist()
    ([[1, 5, 2, 1, 2, 0]], [[0, 1, 2, 6, 7, -1]])
    """
    ids = torch.zeros(rows, context, dtype=torch.long)
    positions = torch.full((rows, context), -1)
    weights = torch.zeros(rows, context)
    shelf: list[Document] = []
    for row in range(rows):
        place = position = 0
        while True:
            shelf += [one for _ in range(SHELF - len(shelf)) if (one := next(documents, None))]
            room = context - place
            fits = next((i for i, one in enumerate(shelf) if len(one) <= room), None)
            if fits is None and (place or not shelf):
                break
            one = shelf.pop(fits or 0)
            size = min(len(one), room)
            ids[row, place : place + size] = torch.tensor(one.ids[:size])
            weights[row, place : place + size] = torch.tensor(one.weights[:size])
            weights[row, place] = 0.0  # Nothing before a document tells how it begins.
            positions[row, place : place + size] = torch.arange(position, position + size)
            place, position = place + size, position + size - 1 + window
    return Batch(ids, positions, weights)
