"""Banded attention: a window of W needs two blocks of W keys, not the whole row.

    queries of block b  ×  keys of blocks b − 1 and b        cost T · 2W instead of T · T

In a row of increasing positions a key that is visible lies fewer than W places back, so it is in
the query's block or the one before. The visibility rule decides inside. Training uses this on
machines without flash-attn: with T = 1024 and W = 128 a step is half as long again without it.
Lesson: 10_heads_and_training.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from mistral_edu import backends
from mistral_edu.sdpa_attention import masked_attention
from mistral_edu.sliding_window import visible

NAME = "banded"


def banded_attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S D"],
    q_positions: Int[Tensor, "B T"],
    k_positions: Int[Tensor, "B S"],
    window: int | None,
) -> Float[Tensor, "B H T D"]:
    """A backend (see `backends`) for whole rows without a cache; anything else goes to `sdpa`.

    >>> x, at = torch.ones(1, 1, 6, 4), torch.tensor([[0, 1, 2, 3, 4, 5]])
    >>> torch.equal(banded_attention(x, x, x, at, at, window=2), x)
    True
    """
    length = q.shape[2]
    if window is None or q_positions is not k_positions or length <= 2 * window or length % window:
        return backends.sdpa_attention(q, k, v, q_positions, k_positions, window)
    blocks = length // window
    near = torch.stack([_before(k_positions, window), k_positions.unflatten(1, (blocks, window))])
    near_positions = near.permute(1, 2, 0, 3).flatten(0, 1).flatten(1)  # → (B·blocks, 2W)
    seen = visible(q_positions.unflatten(1, (blocks, window)).flatten(0, 1), near_positions, window)
    out = masked_attention(
        q.unflatten(2, (blocks, window)).transpose(1, 2).flatten(0, 1),
        _two_blocks(k, window),
        _two_blocks(v, window),
        seen[:, None],
    )
    return out.unflatten(0, (-1, blocks)).transpose(1, 2).flatten(2, 3)  # → (B, H, T, D)


def _before(positions: Int[Tensor, "B T"], window: int) -> Int[Tensor, "B blocks W"]:
    """The positions of the block before each block; nothing is before the first."""
    shifted = functional.pad(positions, (window, 0), value=-1)[:, : positions.shape[1]]
    return shifted.unflatten(1, (-1, window))


def _two_blocks(x: Float[Tensor, "B Hkv T D"], window: int) -> Float[Tensor, "blocks Hkv two D"]:
    """For each block, itself with the one before it in front: (B, Hkv, T, D) → (B·blocks, …)."""
    shifted = functional.pad(x, (0, 0, window, 0))[:, :, : x.shape[2]]
    both = torch.cat([shifted.unflatten(2, (-1, window)), x.unflatten(2, (-1, window))], dim=3)
    return both.transpose(1, 2).flatten(0, 1)


def register() -> str:
    """Add this backend to the registry and return its name; again is harmless."""
    backends.REGISTRY[NAME] = backends.Backend(banded_attention, lambda: None)
    return NAME
