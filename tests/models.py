"""Small random models for the tests, and the oracle they are held against."""

import random

import torch
from torch import Tensor

from mistral_edu import MistralConfig, MistralForCausalLM


def small_config(**changes: object) -> MistralConfig:
    """Two layers, grouped heads, a window of 4: the smallest model in which everything happens."""
    fields: dict = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "sliding_window": 4,
        "max_position_embeddings": 256,
        # Large enough for attention to be peaked: with 0.02 every key counts the same and a wrong
        # window would hardly show.
        "initializer_range": 0.3,
        "rms_norm_eps": 1e-5,
    }
    return MistralConfig(**{**fields, **changes})


def small_model(seed: int = 0, attention: str = "eager", **changes: object) -> MistralForCausalLM:
    """A random model of `small_config`, in evaluation mode."""
    torch.manual_seed(seed)
    return MistralForCausalLM(small_config(**changes), attention=attention).eval()


def random_config(seed: int) -> MistralConfig:
    """A config with heads, sizes, window and constants drawn from `seed`."""
    draw = random.Random(seed)
    shared, group = draw.choice([1, 2, 3, 4]), draw.choice([1, 2, 4])
    head_dim = draw.choice([4, 8, 16])
    # The width of the residual stream need not be that of all heads together.
    hidden = shared * group * head_dim if draw.random() < 0.6 else draw.choice([12, 24, 40])
    return small_config(
        vocab_size=draw.randint(40, 120),
        hidden_size=hidden,
        head_dim=head_dim,
        intermediate_size=draw.randint(16, 96),
        num_hidden_layers=draw.randint(1, 4),
        num_attention_heads=shared * group,
        num_key_value_heads=shared,
        sliding_window=draw.choice([2, 3, 4, 5, 7, None]),
        rope_theta=draw.choice([100.0, 10000.0, 1e6]),
        rms_norm_eps=draw.choice([1e-6, 1e-5, 1e-3]),
        tie_word_embeddings=draw.random() < 0.3,
        initializer_range=0.15,  # wider models than small_config's: keep rounding from growing
    )


def random_ids(model: MistralForCausalLM, rows: int, length: int, seed: int = 0) -> Tensor:
    """Token ids drawn from `seed`, without the special ids 0, 1 and 2."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, model.config.vocab_size, (rows, length), generator=generator)


@torch.no_grad()
def oracle_logits(model: MistralForCausalLM, ids: Tensor) -> Tensor:
    """The oracle: eager attention over the whole text, no cache, float32."""
    oracle = MistralForCausalLM(model.config, attention="eager").eval()
    oracle.load_state_dict(model.state_dict())
    return oracle(ids, use_cache=False).logits


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest expected value."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return ((found - expected).abs().max() / expected.abs().max()).item()


@torch.no_grad()
def chunked_logits(
    model: MistralForCausalLM, ids: Tensor, size: int, mask: Tensor | None = None
) -> Tensor:
    """Logits of a text fed through the cache in chunks of `size` tokens."""
    mask = torch.ones_like(ids) if mask is None else mask
    cache, pieces = None, []
    for start in range(0, ids.shape[1], size):
        chunk, real = ids[:, start : start + size], mask[:, start : start + size]
        output = model(chunk, attention_mask=real, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        pieces.append(output.logits)
    return torch.cat(pieces, dim=1)


def left_padded(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows of different lengths as one left-padded batch, with its mask."""
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, width - len(row) :] = row
        mask[index, width - len(row) :] = 1
    return ids, mask
