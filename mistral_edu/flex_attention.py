"""FlexAttention: the visibility rule handed to PyTorch's compiler, which writes the kernel.

    a block of 128 × 128 pairs is skipped, masked by the rule, or full: its bounds say which

Positions decide again: if a block's latest query stands before its earliest key, or its earliest
query W or more after its latest key, nobody in it sees anybody.

Source: Dong et al., "Flex Attention" (arXiv 2412.05496), section 3.
Lesson: 13_flash_attention.

Conventions
    The blocks are found from the least and greatest position in each, so no T × S mask is made and
    the device is not waited for. In doubt a block is masked, which is slower but never wrong.
    Compiled where there is a GPU. On a CPU PyTorch writes the scores out, without gradients: good
    for seeing that a mask is right.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from mistral_edu.backend_errors import BackendUnavailable
from mistral_edu.spans import once_per_chunk, spans

BLOCK = 128  # what the kernels are tuned for


def visibility_mod(
    q_positions: Int[Tensor, "B T"], k_positions: Int[Tensor, "B S"], window: int | None
) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """The rule of `sliding_window.visible` for one pair: a `mask_mod` of FlexAttention.

    >>> at = torch.tensor([[0, 1, 2]])
    >>> row, head, query, key = torch.tensor([0, 0, 2, 0])
    >>> visibility_mod(at, at, window=2)(row, head, query, key)
    tensor(False)
    """

    q, k = q_positions, k_positions
    # Lambdas: tests wrap every `def` in a shape checker, and the compiler cannot trace that.
    if window is None:
        return lambda row, head, i, j: (k[row, j] >= 0) & (k[row, j] <= q[row, i])
    return lambda row, head, i, j: (
        (k[row, j] >= 0) & (k[row, j] <= q[row, i]) & (k[row, j] > q[row, i] - window)
    )


@dataclass(frozen=True)
class Blocks:
    """What can be said of all pairs of a block of queries and a block of keys.

    Args:
        partial: some may see each other.
        full: all see each other.
    """

    partial: Bool[Tensor, "B rows columns"]
    full: Bool[Tensor, "B rows columns"]


def find_blocks(
    q_positions: Int[Tensor, "B T"],
    k_positions: Int[Tensor, "B S"],
    window: int | None,
    size: int = BLOCK,
) -> Blocks:
    """Sort all blocks by the least and greatest position in them.

    >>> at = torch.arange(6)[None]
    >>> blocks = find_blocks(at, at, window=4, size=2)
    >>> blocks.partial.int()[0], blocks.full.int()[0]
    (tensor([[1, 0, 0],
            [0, 1, 0],
            [1, 0, 1]], dtype=torch.int32), tensor([[0, 0, 0],
            [1, 0, 0],
            [0, 1, 0]], dtype=torch.int32))
    """
    q_low, q_high, q_whole = (x[:, :, None] for x in _bounds(q_positions, size))
    k_low, k_high, k_whole = (x[:, None, :] for x in _bounds(k_positions, size))
    some = k_low <= q_high  # an empty block has bounds that no other can meet
    all_pairs = q_whole & k_whole & (k_high <= q_low)
    if window is not None:
        some &= q_low - k_high < window
        all_pairs &= q_high - k_low < window
    return Blocks(some & ~all_pairs, all_pairs)


def _bounds(
    positions: Int[Tensor, "B N"], size: int
) -> tuple[Int[Tensor, "B n"], Int[Tensor, "B n"], Bool[Tensor, "B n"]]:
    """Least and greatest position of each block, and whether nothing is missing in it."""
    far = torch.iinfo(torch.int32).max
    padding = -positions.shape[1] % size
    blocks = functional.pad(positions.long(), (0, padding), value=-1).unflatten(1, (-1, size))
    there = blocks >= 0
    return blocks.masked_fill(~there, far).amin(dim=2), blocks.amax(dim=2), there.all(dim=2)


@dataclass(frozen=True)
class Plan:
    """What all layers of a chunk share: the blocks to visit, and the queries that see nothing."""

    block_mask: Any
    blind: Bool[Tensor, "B T"]


def plan_blocks(
    q_positions: Int[Tensor, "B T"], k_positions: Int[Tensor, "B S"], window: int | None
) -> Plan:
    """The `BlockMask` of a chunk.

    >>> at = torch.arange(300)[None]
    >>> plan_blocks(at, at, window=100).block_mask.to_dense()[0, 0]
    tensor([[1, 0, 0],
            [1, 1, 0],
            [0, 1, 1]], dtype=torch.int32)
    """
    from torch.nn.attention.flex_attention import BlockMask  # imports the compiler: when needed

    blocks = find_blocks(q_positions, k_positions, window)
    block_mask = BlockMask.from_kv_blocks(
        *_listed(blocks.partial),
        *_listed(blocks.full),
        BLOCK_SIZE=BLOCK,
        mask_mod=visibility_mod(q_positions, k_positions, window),
        seq_lengths=(q_positions.shape[1], k_positions.shape[1]),
    )
    _, first, last = spans(q_positions, k_positions, window)
    return Plan(block_mask, first == last)


def _listed(chosen: Bool[Tensor, "B rows columns"]) -> tuple[Tensor, Tensor]:
    """For each row of blocks how many are chosen, and their columns, these first."""
    chosen = chosen[:, None]  # one mask for all heads
    columns = chosen.int().argsort(dim=-1, descending=True, stable=True)
    return chosen.sum(dim=-1).int(), columns.int()


plan_of = once_per_chunk(plan_blocks)


def flex_attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S D"],
    q_positions: Int[Tensor, "B T"],
    k_positions: Int[Tensor, "B S"],
    window: int | None,
) -> Float[Tensor, "B H T D"]:
    """A backend (see `backends`): equal to `eager_attention` to rounding.

    Raises:
        BackendUnavailable: on a CPU where gradients are wanted.
    """
    wants_gradients = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    if wants_gradients and q.device.type == "cpu":
        raise BackendUnavailable(
            "attention='flex' has no gradients on a CPU: run it under torch.no_grad(), or choose "
            "attention='sdpa'"
        )
    plan = plan_of(q_positions, k_positions, window)
    attend = _kernel(is_compiled=q.device.type != "cpu")
    out = attend(q, k, v, block_mask=plan.block_mask, enable_gqa=q.shape[1] != k.shape[1])
    return out.masked_fill(plan.blind[:, None, :, None], 0.0)


@cache
def _kernel(is_compiled: bool) -> Callable[..., Any]:
    from torch.nn.attention import flex_attention as library

    kernel: Callable[..., Any] = library.flex_attention
    return torch.compile(kernel) if is_compiled else kernel
