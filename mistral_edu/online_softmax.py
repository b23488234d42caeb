"""Online softmax: attention in one pass over the keys, a tile at a time, in tensors one can print.

    m ← max(m, max s),   l ← l·e^(m_old − m) + Σ e^(s − m),   o ← o·e^(m_old − m) + Σ e^(s − m)·v

After any number of keys o / l is exact attention over those keys. This is what the kernels behind
`flash_attention` compute; here it is written to be read, so it is slow.

Source: Milakov and Gimelshein (arXiv 1805.02867), section 3; Dao et al. (arXiv 2205.14135),
algorithm 1; the order of the loops is that of Dao (arXiv 2307.08691), section 3.1.
Lesson: 13_flash_attention.

Conventions
    A hidden score is −inf. A row that has met no visible key has m = −inf and l = 0, and its
    output is zeros.
    m, l and o are kept in float32 whatever the type of the tensors, as the kernels do.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mistral_edu.backends import attention_scores
from mistral_edu.flex_attention import find_blocks
from mistral_edu.sliding_window import visible

TILE = 64


@dataclass(frozen=True)
class Running:
    """What is carried from tile to tile, for every row of queries.

    Args:
        greatest: m, the greatest score met so far.
        total: l, the sum of e^(s − m).
        mixed: o, the sum of e^(s − m)·v; divided by l it is the output so far.
    """

    greatest: Float[Tensor, "*rows one"]
    total: Float[Tensor, "*rows one"]
    mixed: Float[Tensor, "*rows D"]

    @property
    def output(self) -> Float[Tensor, "*rows D"]:
        """Attention over the keys met so far; zeros where none was visible.

        >>> nothing_yet((1,), 2).output
        tensor([[0., 0.]])
        """
        return self.mixed / self.total.masked_fill(self.total == 0, 1.0)


def nothing_yet(rows: tuple[int, ...], width: int, dtype: torch.dtype = torch.float32) -> Running:
    """The state before the first key.

    >>> nothing_yet((1,), 2).greatest
    tensor([[-inf]])
    """
    empty = torch.zeros(*rows, 1, dtype=dtype)
    return Running(empty - math.inf, empty, torch.zeros(*rows, width, dtype=dtype))


def absorb(
    running: Running, scores: Float[Tensor, "*rows S"], values: Float[Tensor, "*heads S D"]
) -> Running:
    """Take in one tile of keys.

    Args:
        running: what the tiles before it left.
        scores: of every query against the tile's keys, −inf where a key is hidden.
        values: of the tile's keys.

    >>> first = absorb(nothing_yet((1,), 1), torch.tensor([[1.0, 3.0]]), torch.ones(2, 1))
    >>> absorb(first, torch.tensor([[1000.0]]), torch.full((1, 1), 5.0)).output
    tensor([[5.]])
    """
    greatest = torch.maximum(running.greatest, scores.amax(dim=-1, keepdim=True))
    # −inf − (−inf) is NaN: a row that has seen nothing measures its scores from 0.
    origin = greatest.masked_fill(greatest == -math.inf, 0.0)
    shrink = (running.greatest - origin).exp()
    weights = (scores - origin).exp()
    return Running(
        greatest,
        running.total * shrink + weights.sum(dim=-1, keepdim=True),
        running.mixed * shrink + weights @ values,
    )


def tiles_to_visit(
    q_positions: Int[Tensor, "B T"],
    k_positions: Int[Tensor, "B S"],
    window: int | None,
    tile: int = TILE,
) -> Bool[Tensor, "rows columns"]:
    """Which tiles of keys each tile of queries has to open, because some pair may be visible.

    >>> at = torch.arange(8)[None]
    >>> tiles_to_visit(at, at, window=3, tile=2).int()
    tensor([[1, 0, 0, 0],
            [1, 1, 0, 0],
            [0, 1, 1, 0],
            [0, 0, 1, 1]], dtype=torch.int32)
    """
    blocks = find_blocks(q_positions, k_positions, window, tile)
    return (blocks.partial | blocks.full).any(dim=0)


def tiled_attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S D"],
    q_positions: Int[Tensor, "B T"],
    k_positions: Int[Tensor, "B S"],
    window: int | None,
    tile: int = TILE,
) -> Float[Tensor, "B H T D"]:
    """The same function as `backends.eager_attention`, without ever holding the T × S scores.

    >>> x, at = torch.ones(1, 1, 2, 4), torch.tensor([[-1, 0]])
    >>> tiled_attention(x, x, x, at, at, window=4, tile=1)[0, 0]
    tensor([[0., 0., 0., 0.],
            [1., 1., 1., 1.]])
    """
    group = q.shape[1] // k.shape[1]
    visits = tiles_to_visit(q_positions, k_positions, window, tile)
    rows = zip(q.split(tile, dim=2), q_positions.split(tile, dim=1), strict=True)
    done = []
    for row, (queries, q_at) in enumerate(rows):
        running = nothing_yet(queries.shape[:3], v.shape[3])
        for column in visits[row].nonzero()[:, 0].tolist():
            part = slice(column * tile, (column + 1) * tile)
            seen = visible(q_at, k_positions[:, part], window)[:, None]  # → (B, 1, t, s)
            scores = attention_scores(queries, k[:, :, part]).masked_fill(~seen, -math.inf)
            # Head g of the values serves query heads g·G … g·G + G − 1.
            shared = v[:, :, part].float().repeat_interleave(group, dim=1)
            running = absorb(running, scores, shared)
        done.append(running.output)
    return torch.cat(done, dim=2).to(v.dtype)
