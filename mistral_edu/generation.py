"""Generation: choose a token, feed it back, repeat.

    prefill the prompt into the cache, then decode one token at a time

Source: the model documentation ("batched generation", "fixed cache"); Holtzman et al.
(arXiv 1904.09751) for why not to take the most likely token each time.
Lesson: 12_generation_and_chat.

Conventions
    Batches are padded on the left, so that every row's next token follows its last column.
    A finished row emits the pad id and enters no cache: it is padding from then on.
    `generate` returns ids with their prompt, as `transformers` does; `stream` yields new ids.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mistral_edu import sampling
from mistral_edu.rolling_cache import RollingCache
from mistral_edu.streamers import Streamer

if TYPE_CHECKING:
    from mistral_edu.heads import MistralForCausalLM


@dataclass(frozen=True)
class GenerationConfig:
    """How to continue a text.

    Args:
        max_new_tokens: stop after so many.
        min_new_tokens: do not end a row before so many.
        do_sample: draw at random; False takes the most likely token (greedy).
        temperature: above 1 flattens the distribution, below 1 sharpens it.
        top_k, top_p, min_p: filters (see `sampling`); None switches one off.
        repetition_penalty: above 1 discourages tokens already in the row.
        eos_token_id: id or ids that end a row, () for none; None takes the model config's.
        pad_token_id: what finished rows emit; None takes the config's, or else the eos id.
        seed: row b draws from seed + b; a sequence gives each row its own.
        prefill_chunk_size: tokens of the prompt per forward pass; None takes them all at once.

    >>> GenerationConfig(temperature=0.0)
    Traceback (most recent call last):
    ...
    ValueError: temperature=0.0 must be above 0; for the most likely token use do_sample=False
    """

    max_new_tokens: int = 128
    min_new_tokens: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    eos_token_id: int | Sequence[int] | None = None
    pad_token_id: int | None = None
    seed: int | Sequence[int] | None = None
    prefill_chunk_size: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 0:
            raise ValueError(f"max_new_tokens={self.max_new_tokens} must be 0 or more")
        if self.temperature <= 0:
            raise ValueError(
                f"temperature={self.temperature} must be above 0; for the most likely token use "
                "do_sample=False"
            )
        for name in ("top_p", "min_p"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name}={value} must be above 0 and at most 1")
        for name in ("top_k", "prefill_chunk_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1, or None")
        if self.repetition_penalty <= 0:
            raise ValueError(f"repetition_penalty={self.repetition_penalty} must be above 0")


def _ids(value: int | Sequence[int] | None) -> list[int]:
    if value is None:
        return []
    return [value] if isinstance(value, int) else list(value)


def _checked_mask(input_ids: Tensor, attention_mask: Tensor | None) -> Bool[Tensor, "B T"]:
    if input_ids.dim() != 2 or input_ids.shape[1] == 0:
        raise ValueError(
            f"input_ids has shape {tuple(input_ids.shape)}, expected (batch, tokens) with at least "
            "one token: start from the bos id"
        )
    if attention_mask is None:
        return torch.ones_like(input_ids, dtype=torch.bool)
    if attention_mask.shape != input_ids.shape:
        raise ValueError(
            f"attention_mask has shape {tuple(attention_mask.shape)}, expected input_ids' "
            f"{tuple(input_ids.shape)}"
        )
    mask = attention_mask.to(input_ids.device).bool()
    if not mask[:, -1].all():
        raise ValueError(
            "a row ends in padding: pad the batch on the left (tokenizer.pad(batch, side='left'))"
        )
    return mask


def advance(
    model: "MistralForCausalLM",
    input_ids: Int[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    cache: RollingCache,
    chunk_size: int | None = None,
) -> Float[Tensor, "B V"]:
    """Feed tokens through the cache, chunk by chunk; return the scores of what comes next."""
    size = chunk_size or input_ids.shape[1]
    for ids, real in zip(input_ids.split(size, 1), mask.split(size, 1), strict=True):
        output = model(ids, attention_mask=real, past_key_values=cache, logits_to_keep=1)
    return output.logits[:, -1]


def choose(
    logits: Float[Tensor, "B V"],
    config: GenerationConfig,
    seen: Float[Tensor, "B V"],
    random: list[torch.Generator],
) -> Int[Tensor, "B"]:
    """Pick each row's next token by the config's rules."""
    if config.repetition_penalty != 1:
        logits = sampling.penalise_repetition(logits, seen, config.repetition_penalty)
    if not config.do_sample:
        return logits.argmax(dim=-1)
    logits = logits / config.temperature
    if config.top_k is not None:
        logits = sampling.keep_top_k(logits, config.top_k)
    if config.top_p is not None:
        logits = sampling.keep_top_p(logits, config.top_p)
    if config.min_p is not None:
        logits = sampling.keep_min_p(logits, config.min_p)
    return sampling.draw(logits, random)


@torch.no_grad()
def stream(
    model: "MistralForCausalLM",
    input_ids: Int[Tensor, "B T"],
    attention_mask: Tensor | None = None,
    config: GenerationConfig | None = None,
    **options: Any,
) -> Iterator[Int[Tensor, "B"]]:
    """Continue each row, yielding one new id per row at a time; arguments as in `generate`.

    Leaving the loop early is safe: the model keeps no state.
    """
    config = replace(config or GenerationConfig(), **options)
    mask = _checked_mask(input_ids, attention_mask)
    own = model.config.eos_token_id
    ends = _ids(own if config.eos_token_id is None else config.eos_token_id)
    pad = next(
        p for p in (config.pad_token_id, model.config.pad_token_id, *ends, 0) if p is not None
    )
    rows, prompt = input_ids.shape
    cache = RollingCache.allocate(
        model.config,
        rows,
        capacity=prompt + config.max_new_tokens,
        dtype=model.dtype,
        device=input_ids.device,
    )
    random = sampling.generators(config.seed, rows)
    seen = torch.zeros(rows, model.config.vocab_size, device=input_ids.device)
    seen.scatter_add_(1, input_ids, mask.float())
    finished = torch.zeros(rows, dtype=torch.bool, device=input_ids.device)

    ids, real = input_ids, mask
    for made in range(config.max_new_tokens):
        logits = advance(model, ids, real, cache, config.prefill_chunk_size)
        if made < config.min_new_tokens:
            logits[:, ends] = sampling.NEVER
        tokens = choose(logits, config, seen, random).masked_fill(finished, pad)
        yield tokens
        seen.scatter_(1, tokens[:, None], 1.0)
        finished = finished | torch.isin(tokens, torch.tensor(ends, device=tokens.device))
        if finished.all():
            return
        ids, real = tokens[:, None], ~finished[:, None]


def generate(
    model: "MistralForCausalLM",
    input_ids: Int[Tensor, "B T"],
    attention_mask: Tensor | None = None,
    config: GenerationConfig | None = None,
    streamer: Streamer | None = None,
    **options: Any,
) -> Int[Tensor, "B S"]:
    """Continue each row of a batch.

    Args:
        model: a language model.
        input_ids: (B, T) prompts, padded on the left if ragged.
        attention_mask: (B, T), 0 marks padding.
        config: how to continue; `options` replace its fields, e.g. `max_new_tokens=20`.
        streamer: told of each step's ids as they are made.

    Returns:
        (B, T + new) ids, prompt included; rows that finished early end in the pad id.

    Raises:
        ValueError: for an empty prompt, padding on the right, or options out of range.

    >>> from mistral_edu import MistralConfig, MistralForCausalLM
    >>> config = MistralConfig(vocab_size=16, hidden_size=8, intermediate_size=28,
    ...     num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, sliding_window=4)
    >>> generate(MistralForCausalLM(config), torch.tensor([[1, 5]]), max_new_tokens=3,
    ...          min_new_tokens=3).shape
    torch.Size([1, 5])
    """
    pieces = [input_ids]
    for tokens in stream(model, input_ids, attention_mask, config, **options):
        pieces.append(tokens[:, None])
        if streamer is not None:
            streamer.put(tokens)
    if streamer is not None:
        streamer.end()
    return torch.cat(pieces, dim=1)
