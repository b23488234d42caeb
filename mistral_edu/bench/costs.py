"""What a token costs at the least: bytes to read, operations to do.

    decoding   bytes = (N − V·C) · size + 2 · L · Hkv · D · min(t, W) · size      a token and row
    a prompt   operations = 2 · (N − 2·V·C) · T + 4 · L · H · D · Σ min(i, W) + 2 · V·C

N parameters, C width. The embedding table is not read, one row of it is; a tied head reads it all.
The head is applied to the last token of a prompt only.

Lesson: 14_the_full_7b.

Conventions
    The weights are read once for all rows of a batch, the cache once for each row.
    A multiplication and an addition are two operations.
"""

import torch

from mistral_edu.config import MistralConfig
from mistral_edu.heads import MistralForCausalLM
from mistral_edu.weights.shapes_only import shapes_only


def body_parameters(config: MistralConfig) -> int:
    """Parameters without embedding table and head.

    >>> body_parameters(MistralConfig.mistral_7b_v0_1())
    6979588096
    """
    with shapes_only():
        model = MistralForCausalLM(config)
    tables = 1 if config.tie_word_embeddings else 2
    return model.num_parameters() - tables * config.vocab_size * config.hidden_size


def cache_bytes(config: MistralConfig, context: int, dtype: torch.dtype) -> int:
    """Bytes of keys and values that one row needs at a context of so many tokens.

    >>> cache_bytes(MistralConfig.mistral_7b_v0_1(), 9000, torch.bfloat16)
    536870912
    """
    kept = min(context, config.sliding_window or context)
    a_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return a_token * kept * dtype.itemsize


def step_bytes(config: MistralConfig, batch: int, context: int, dtype: torch.dtype) -> int:
    """Bytes that must be read to decode one token for each row.

    >>> step_bytes(MistralConfig.mistral_7b_v0_1(), 1, 4096, torch.bfloat16)
    14758191104
    """
    weights = body_parameters(config) + config.vocab_size * config.hidden_size
    return weights * dtype.itemsize + batch * cache_bytes(config, context, dtype)


def prompt_operations(config: MistralConfig, tokens: int) -> int:
    """Operations to take in a prompt and score what follows it.

    >>> round(prompt_operations(MistralConfig.mistral_7b_v0_1(), 2048) / 1e12, 1)
    29.7
    """
    window = config.sliding_window or tokens
    inside = min(tokens, window)
    seen = inside * (inside + 1) // 2 + (tokens - inside) * window
    attention = 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * seen
    head = 2 * config.vocab_size * config.hidden_size
    return 2 * body_parameters(config) * tokens + attention + head
