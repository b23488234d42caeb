"""A mask of one's own: four axes, in the place of the visibility rule.

    weights = softmax(q kᵀ / √D + bias),   bias = 0 where a query may look, −∞ where it may not

Source: `transformers` takes such a mask as it is; so do we. You take over: causality, window and
padding are then whatever the mask says.
Lesson: 04_masks_from_positions.

Conventions
    (B or 1, 1 or H, T, S): bool, True where a query may look, or float, added to the scores.
    Without past_key_values column s is token s of the chunk, so S = T. With past_key_values column
    j is absolute position j, so S reaches at least one past the highest position.
    Position −1 stays what is not there: no mask opens it. A query that sees nothing yields zeros.
    Computed eagerly, whatever the backend.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mistral_edu.backends import attention_scores, masked_softmax

NOWHERE = float("-inf")


def as_bias(mask: Tensor, batch: int, heads: int, tokens: int) -> Float[Tensor, "rows heads T S"]:
    """Check a 4D mask and turn it into what is added to the scores, −∞ where nothing is seen.

    >>> as_bias(torch.tensor([[[[True, False]]]]), batch=1, heads=4, tokens=1)
    tensor([[[[0., -inf]]]])
    """
    shape = tuple(mask.shape)
    if shape[0] not in (1, batch) or shape[1] not in (1, heads) or shape[2] != tokens:
        raise ValueError(
            f"attention_mask has shape {shape}, expected ({batch} or 1, {heads} or 1, {tokens}, "
            "keys): one row for each token of the chunk"
        )
    if mask.dtype == torch.bool:
        return torch.zeros(shape, device=mask.device).masked_fill(~mask, NOWHERE)
    if not mask.is_floating_point():
        raise ValueError(
            f"attention_mask with four axes has dtype {mask.dtype}, expected bool (True: may look) "
            "or float (added to the scores): call .bool() on zeros and ones"
        )
    if mask.isnan().any() or mask.isposinf().any():
        raise ValueError("attention_mask holds NaN or +inf, expected 0 to look and −inf not to")
    # Half the lowest number of its type is meant as −∞ by whoever wrote it; two of them added
    # would overflow to −∞ in float16 and make a row of NaN.
    return mask.float().masked_fill(mask <= torch.finfo(mask.dtype).min / 2, NOWHERE)


def over_chunk(
    bias: Float[Tensor, "rows heads T S"], positions: Int[Tensor, "B T"]
) -> Float[Tensor, "B heads T S"]:
    """The bias for a chunk on its own: a column for each of its tokens, padding closed."""
    tokens = positions.shape[1]
    if bias.shape[3] != tokens:
        raise ValueError(
            f"attention_mask has {bias.shape[3]} columns for {tokens} tokens: without "
            "past_key_values give one column for each token"
        )
    return bias.masked_fill((positions < 0)[:, None, None], NOWHERE)


def over_cache(
    bias: Float[Tensor, "rows heads T S"], key_positions: Int[Tensor, "B keys"]
) -> Float[Tensor, "B heads T keys"]:
    """The bias for a chunk and its cache: the column of each key's position, in the keys' order.

    Raises:
        ValueError: if a column lacks for a key, or a column is open that has no key (any more).

    >>> bias = torch.tensor([[[[float("-inf"), 0.0, 0.5]]]])
    >>> over_cache(bias, torch.tensor([[2, 1, -1]]))
    tensor([[[[0.5000, 0.0000,   -inf]]]])
    """
    columns, end = bias.shape[3], int(key_positions.max()) + 1
    if columns < end:
        raise ValueError(
            f"attention_mask has {columns} columns, but with past_key_values column j is position "
            f"j and there are positions up to {end - 1}: give {end} columns or more"
        )
    bias = bias.expand(len(key_positions), -1, -1, -1)
    held = torch.zeros(len(bias), columns + 1, dtype=torch.bool, device=bias.device)
    held = held.scatter(1, key_positions.where(key_positions >= 0, columns), True)[:, :columns]
    lost = (bias > NOWHERE).any(dim=2).any(dim=1) & ~held
    if lost.any():
        row, column = lost.nonzero()[0].tolist()
        raise ValueError(
            f"attention_mask lets row {row} look at position {column}, where no key is (any more): "
            "close that column; a window keeps only its last tokens"
        )
    at = key_positions.clamp(min=0)[:, None, None]  # → (B, 1, 1, keys)
    return bias.take_along_dim(at, dim=3).masked_fill((key_positions < 0)[:, None, None], NOWHERE)


def biased_weights(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    bias: Float[Tensor, "rows heads T S"],
) -> Float[Tensor, "B H T S"]:
    """The attention weights under a bias; see `backends.attention_weights` for those by the rule.

    >>> x = torch.zeros(1, 1, 2, 4)
    >>> biased_weights(x, x, torch.tensor([[[[0.0, 0.0], [NOWHERE, NOWHERE]]]]))
    tensor([[[[0.5000, 0.5000],
              [0.0000, 0.0000]]]])
    """
    return masked_softmax(attention_scores(q, k) + bias, bias > NOWHERE)
