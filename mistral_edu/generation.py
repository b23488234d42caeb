"""Generation: choose a token, feed it back, repeat.

    prefill the prompt into the cache, then decode one token at a time

Source: the model documentation ("batched generation", "fixed cache"); Holtzman et al.
(arXiv 1904.09751) for why not to take the most likely token each time.
Lesson: 12_generation_and_chat.

Conventions
    `generation_request` checks the prompt, `sampling` chooses, `stopping` ends rows,
    `beam_search` is the other way to choose; the loop that they serve is `steps`.
    A finished row emits the pad id and enters no cache: it is padding from then on.
    Chosen tokens live on the CPU, as does everything decided by them: a GPU is waited for once
    a step.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mistral_edu import beam_search, sampling, stopping
from mistral_edu.generation_config import GenerationConfig
from mistral_edu.generation_request import GenerationRequest, advance, prepare, restrain
from mistral_edu.streamers import Streamer

if TYPE_CHECKING:
    from mistral_edu.heads import MistralForCausalLM


@dataclass(frozen=True)
class Step:
    """One new token for each row.

    Args:
        tokens: the ids, on the CPU; the pad id for rows that had ended.
        logprobs: the model's log-probability of each, 0 for rows that had ended.
        endings: whether and how each row has ended by now (codes of `stopping`).
    """

    tokens: Int[Tensor, "B"]
    logprobs: Float[Tensor, "B"]
    endings: Int[Tensor, "B"]


@dataclass(frozen=True)
class GenerationOutput:
    """Of `generate_with_details`.

    Args:
        sequences: (N, T + new) ids, prompt included.
        logprobs: (N, new) natural logarithms of the probabilities that the model itself gave to
            the chosen tokens, before temperature, filters and penalties; 0 after a row's end, so
            that a row's sum is the log-probability of its text.
        finish_reasons: for each row "eos", "stop" (a stop string or sequence) or "length".
    """

    sequences: Int[Tensor, "N S"]
    logprobs: Float[Tensor, "N new"]
    finish_reasons: list[str]


def allowed(logits: Float[Tensor, "B V"], config: GenerationConfig) -> Float[Tensor, "B V"]:
    """Temperature and filters: the scores to draw by, −inf for tokens that may not be drawn.

    >>> config = GenerationConfig(do_sample=True, temperature=0.5, top_k=2)
    >>> allowed(torch.tensor([[1.0, 3.0, 2.0]]), config)
    tensor([[-inf, 0., -2.]])
    """
    logits = sampling.heat(logits, config.temperature)
    if config.top_k is not None:
        logits = sampling.keep_top_k(logits, config.top_k)
    if config.top_p is not None:
        logits = sampling.keep_top_p(logits, config.top_p)
    if config.min_p is not None:
        logits = sampling.keep_min_p(logits, config.min_p)
    return logits


def steps(model: "MistralForCausalLM", request: GenerationRequest) -> Iterator[Step]:
    """The loop: continue each row of a request, one token at a time.

    Leaving it early is safe: the model keeps no state.

    Raises:
        DamagedScoresError: for scores that are not numbers.
    """
    config, rows = request.config, len(request.ids)
    cache = request.new_cache(model)
    random = sampling.generators(config.seed, rows)
    seen = request.seen_tokens(model.config.vocab_size)
    watches = stopping.watch_rows(request)
    endings = torch.full((rows,), stopping.RUNNING)

    ids: Tensor = request.ids
    real: Tensor | None = request.mask
    for made in range(config.max_new_tokens):
        logits = advance(model, ids, real, cache, config.prefill_chunk_size)
        scores = restrain(logits, config, request.ends_on_device, made, seen)
        if config.do_sample:
            tokens = sampling.draw(allowed(scores, config), random)
        else:
            tokens = sampling.most_likely(scores)
        running = endings == stopping.RUNNING
        tokens = tokens.masked_fill(~running, request.pad)
        ids = tokens[:, None].to(logits.device)
        logprobs = sampling.log_probability(logits, ids[:, 0])
        endings = stopping.endings_after(tokens, endings, request.ends, watches)
        yield Step(tokens, logprobs.masked_fill(~running.to(ids.device), 0.0), endings)
        running = endings == stopping.RUNNING
        if not running.any():
            return
        if seen is not None:
            seen.scatter_(1, ids, True)
        real = None if running.all() else running[:, None].to(ids.device)


def stream(
    model: "MistralForCausalLM",
    input_ids: Int[Tensor, "B T"],
    attention_mask: Tensor | None = None,
    config: GenerationConfig | None = None,
    tokenizer: Any = None,
    **options: Any,
) -> Iterator[Int[Tensor, "B"]]:
    """Continue each row, yielding one new id per row at a time; arguments as in `generate`.

    The ids are on the CPU. Leave the loop whenever you have read enough.

    >>> from mistral_edu import load
    >>> model, tokenizer = load("tiny")
    >>> ids = torch.tensor([tokenizer.encode("It was a windy")])
    >>> new = [int(token) for token in stream(model, ids, max_new_tokens=2)]
    >>> len(tokenizer.decode(new)) > 2
    True
    """
    request = prepare(model, input_ids, attention_mask, config, tokenizer, options)
    if request.config.num_beams > 1:
        raise ValueError(
            f"num_beams={request.config.num_beams} cannot be streamed: which beam wins is known at "
            "the end; use generate, or num_beams=1"
        )
    return (step.tokens for step in steps(model, request))


def generate(
    model: "MistralForCausalLM",
    input_ids: Int[Tensor, "B T"],
    attention_mask: Tensor | None = None,
    config: GenerationConfig | None = None,
    streamer: Streamer | None = None,
    tokenizer: Any = None,
    **options: Any,
) -> Int[Tensor, "N S"]:
    """Continue each row of a batch.

    Args:
        model: a language model.
        input_ids: (B, T) prompts, padded on the left if ragged.
        attention_mask: (B, T), 0 marks padding.
        config: how to continue; `options` replace its fields, e.g. `max_new_tokens=20`.
        streamer: told of each step's ids as they are made; not with beams.
        tokenizer: needed for `stop_strings` only.

    Returns:
        (B · num_return_sequences, T + new) ids, prompt included, on the model's device; rows that
        finished early end in the pad id.

    Raises:
        ValueError: for an empty prompt, padding on the right, ids outside the vocabulary, or
            options out of range.
        DamagedScoresError: for scores that are not numbers.

    >>> from mistral_edu import MistralConfig, MistralForCausalLM
    >>> config = MistralConfig(vocab_size=16, hidden_size=8, intermediate_size=28,
    ...     num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, sliding_window=4)
    >>> generate(MistralForCausalLM(config), torch.tensor([[1, 5]]), max_new_tokens=3,
    ...          min_new_tokens=3).shape
    torch.Size([1, 5])
    """
    output = generate_with_details(
        model, input_ids, attention_mask, config, streamer, tokenizer, **options
    )
    return output.sequences


def generate_with_details(
    model: "MistralForCausalLM",
    input_ids: Int[Tensor, "B T"],
    attention_mask: Tensor | None = None,
    config: GenerationConfig | None = None,
    streamer: Streamer | None = None,
    tokenizer: Any = None,
    **options: Any,
) -> GenerationOutput:
    """As `generate`, and say how likely each new token was and why each row ended.

    >>> from mistral_edu import load
    >>> model, tokenizer = load("tiny")
    >>> ids = torch.tensor([tokenizer.encode("It was a windy")])
    >>> output = generate_with_details(model, ids, max_new_tokens=2)
    >>> output.finish_reasons, output.logprobs.shape
    (['length'], torch.Size([1, 2]))
    """
    request = prepare(model, input_ids, attention_mask, config, tokenizer, options)
    if request.config.num_beams == 1:
        return collect(steps(model, request), request, streamer)
    if streamer is not None:
        raise ValueError(
            f"num_beams={request.config.num_beams} has nothing for a streamer: which beam wins is "
            "known at the end; use no streamer, or num_beams=1"
        )
    return _output(request, *beam_search.search(model, request))


def collect(
    steps: Iterator[Step], request: GenerationRequest, streamer: Streamer | None = None
) -> GenerationOutput:
    """Every step's tokens and log-probabilities side by side, and the last step's endings."""
    made = []
    try:
        for step in steps:
            made.append(step)
            if streamer is not None:
                streamer.put(step.tokens)
    finally:
        if streamer is not None:
            streamer.end()  # also after an interrupt: what was held back is still written
    if not made:
        none = request.ids.new_zeros(len(request.ids), 0)
        return _output(request, none, none.float(), none.sum(dim=1))
    ids = torch.stack([step.tokens for step in made], dim=1)
    logprobs = torch.stack([step.logprobs for step in made], dim=1)
    return _output(request, ids, logprobs, made[-1].endings)


def _output(
    request: GenerationRequest,
    ids: Int[Tensor, "N S"],
    logprobs: Float[Tensor, "N S"],
    endings: Int[Tensor, "N"],
) -> GenerationOutput:
    prompts = request.ids.repeat_interleave(request.config.num_return_sequences, dim=0)
    sequences = torch.cat([prompts, ids.to(prompts.device)], dim=1)
    return GenerationOutput(
        sequences, logprobs.cpu(), [stopping.FINISH_REASONS[code] for code in endings.tolist()]
    )
