"""`past_key_values`: opened from whatever form it comes in, checked against the model.

Source: the model documentation's argument `past_key_values`.
Lesson: 08_rolling_cache.

Conventions
    A `RollingCache` is used as it is and updated in place. A tuple of (key, value) pairs becomes
    one for this call; the caller gets a tuple back.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mistral_edu.config import MistralConfig
from mistral_edu.inputs import require_count
from mistral_edu.legacy_cache import lengths_before, require_pairs
from mistral_edu.rolling_cache import RollingCache


def open_cache(
    past: Any,
    config: MistralConfig,
    x: Float[Tensor, "B T C"],
    real: Bool[Tensor, "B T"],
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
    store: bool,
) -> RollingCache | None:
    """The cache for one forward pass: the one given, or a new one if something is to be stored.

    Args:
        past: a `RollingCache`, pairs, or None.
        config: the architecture it must fit.
        x: the chunk's embeddings, whose batch, type and device it must share.
        real: which tokens of the chunk are not padding.
        attention_mask, position_ids: as given; they say where pairs stand.
        store: whether to make one if there is none.

    >>> config = MistralConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
    ...                        num_key_value_heads=1, sliding_window=4)
    >>> pairs = ((torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 3, 4)),)
    >>> one, real = torch.zeros(1, 1, 8), torch.ones(1, 1, dtype=torch.bool)
    >>> open_cache(pairs, config, one, real, None, None, store=False).lengths
    tensor([3])
    """
    if past is None:
        if not store:
            return None
        return RollingCache.allocate(config, len(x), dtype=_stored_dtype(x), device=x.device)
    if isinstance(past, RollingCache):
        _require_rolling(past, config)
        _require_kind(past.keys[0], x)
        if attention_mask is not None and attention_mask.dim() == 2 and position_ids is None:
            require_count(attention_mask, x.shape[1], past.lengths)
        return past
    require_pairs(past, config)
    _require_kind(past[0][0], x)
    lengths = lengths_before(past, config.sliding_window, real, attention_mask, position_ids)
    return RollingCache.from_legacy(past, config, lengths)


def _stored_dtype(x: Tensor) -> torch.dtype:
    # Under autocast the projections, and so the keys, are in half precision though x is not.
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def _require_kind(stored: Tensor, x: Tensor) -> None:
    own = (len(stored), stored.dtype, stored.device)
    wanted = (len(x), _stored_dtype(x), x.device)
    for name, has, expected in zip(("rows", "dtype", "device"), own, wanted, strict=True):
        if has != expected:
            raise ValueError(
                f"past_key_values has {name} {has}, but the chunk has {expected}: "
                "go on with the cache of the same batch and model"
            )


def _require_rolling(cache: RollingCache, config: MistralConfig) -> None:
    _, heads, _, head_dim = cache.keys[0].shape
    own = (len(cache), heads, head_dim, cache.window)
    wanted = (
        config.num_hidden_layers,
        config.num_key_value_heads,
        config.head_dim,
        config.sliding_window,
    )
    names = ("layers", "key/value heads", "head_dim", "window")
    for name, has, expected in zip(names, own, wanted, strict=True):
        if has != expected:
            raise ValueError(
                f"past_key_values has {name} {has}, but the model has {expected}: "
                "allocate it from this model's config"
            )
