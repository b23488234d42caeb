"""The documentation's `past_key_values`: one (key, value) per layer, as plain tensors.

Source: the model documentation, `past_key_values` (tuple(tuple(torch.FloatTensor))).
Lesson: 08_rolling_cache.

Conventions
    Each tensor is (B, Hkv, S, D) with keys rotated and columns in position order; shorter rows are
    padded on the left. That is what `RollingCache.to_legacy` writes.
    The tensors do not say at which positions they stand. `lengths_before` finds it out from what
    came with them, and refuses where two answers are possible.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mistral_edu.config import MistralConfig
from mistral_edu.inputs import token_positions

if TYPE_CHECKING:
    from mistral_edu.rolling_cache import RollingCache

Pairs = Sequence[tuple[Tensor, Tensor]]


def require_pairs(past: Any, config: MistralConfig) -> None:
    """Refuse anything but one (key, value) per layer, all of one shape that fits the config."""
    if not isinstance(past, tuple | list):
        raise ValueError(
            f"past_key_values is a {type(past).__name__}, expected a RollingCache or a tuple of "
            "(key, value) pairs: pass on what forward returned"
        )
    if len(past) != config.num_hidden_layers:
        raise ValueError(
            f"past_key_values has {len(past)} layers but num_hidden_layers="
            f"{config.num_hidden_layers}: pass the cache of this model"
        )
    wanted = ("B", config.num_key_value_heads, "S", config.head_dim)
    for layer, pair in enumerate(past):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(
                f"past_key_values[{layer}] is not a (key, value) pair: this model is a decoder "
                "only, without the two further tensors of a cross-attention"
            )
        for tensor in pair:
            shape = tuple(tensor.shape)
            if len(shape) != 4 or shape[1::2] != wanted[1::2] or shape != past[0][0].shape:
                raise ValueError(
                    f"past_key_values[{layer}] holds a tensor of shape {shape}, expected {wanted} "
                    "with the same B and S everywhere"
                )


def lengths_before(
    past: Pairs,
    window: int | None,
    real: Bool[Tensor, "B T"],
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
) -> Int[Tensor, "B"]:
    """How many tokens each row had seen when `past` was taken.

    Args:
        past: checked pairs, S columns.
        window: W; a ring of S = W columns may have wrapped any number of times.
        real: which tokens of the chunk that goes on from there are not padding.
        attention_mask: (B, tokens so far + T); its zeros so far must be on the left.
        position_ids: (B or 1, T); the first of a token is taken for the next position.

    >>> past = [(torch.zeros(2, 1, 4, 8), torch.zeros(2, 1, 4, 8))]
    >>> mask = torch.tensor([[0, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1, 1]])
    >>> lengths_before(past, 4, mask[:, -1:] == 1, mask, position_ids=None)
    tensor([5, 2])
    """
    batch, _, stored, _ = past[0][0].shape
    if position_ids is not None:
        placed = token_positions(real, position_ids)
        first = placed.where(placed >= 0, placed.max()).amin(dim=1)
        return first.where(first >= 0, stored)  # a row of padding only goes nowhere
    if attention_mask is not None and attention_mask.dim() == 2:
        return _counted(attention_mask, stored, real.shape[1], window)
    if stored == window:
        raise ValueError(
            f"past_key_values holds {stored} tokens, all that a window of {window} keeps, so it "
            "does not say how many came before: pass attention_mask for all tokens, or position_ids"
        )
    return torch.full((batch,), stored)


def _counted(mask: Tensor, stored: int, tokens: int, window: int | None) -> Int[Tensor, "B"]:
    so_far = mask.shape[1] - tokens
    if so_far < stored:
        raise ValueError(
            f"attention_mask has {mask.shape[1]} columns but past_key_values holds {stored} tokens "
            f"and the chunk {tokens}: with a tuple, give the mask over all of them"
        )
    before = mask[:, :so_far].bool()
    if (before[:, :-1] & ~before[:, 1:]).any():
        raise ValueError(
            "attention_mask has padding after a token of past_key_values, and a tuple does not say "
            "where such padding was stored: pad on the left, or pass the RollingCache itself"
        )
    counted = before.sum(dim=1)
    longest = int(counted.max())
    needed = longest if window is None else min(longest, window - 1)  # what a next token still sees
    if stored < needed:
        raise ValueError(
            f"attention_mask counts {longest} tokens so far, of which the next sees {needed}, but "
            f"past_key_values holds {stored}: pass the cache of the texts that the mask describes"
        )
    return counted


def store_pairs(cache: "RollingCache", past: Pairs, lengths: Int[Tensor, "B"] | None) -> None:
    """Put pairs into a fresh cache; `lengths` as from `lengths_before`, or S for every row."""
    batch, _, stored, _ = past[0][0].shape
    if not stored:  # so far all rows were padding
        return
    device = cache.positions.device
    seen = torch.full((batch,), stored) if lengths is None else lengths
    columns = torch.arange(-stored, 0, device=device)
    step = cache.begin((seen.to(device)[:, None] + columns).clamp(min=-1))
    for layer, (key, value) in enumerate(past):
        cache.update(layer, key, value, step)
    cache.commit(step)
