"""A request: what to continue and by which rules, checked once before any work is done.

Lesson: 12_generation_and_chat.

Conventions
    Batches are padded on the left, so that every row's next token follows its last column.
    The repetition penalty and `min_new_tokens` come before temperature and filters, as in
    `transformers`; they hold for greedy decoding, sampling and beams alike (`restrain`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mistral_edu import sampling
from mistral_edu.config import MistralConfig
from mistral_edu.generation_config import GenerationConfig
from mistral_edu.rolling_cache import RollingCache

if TYPE_CHECKING:
    from mistral_edu.heads import MistralForCausalLM


CHOOSING = (  # what of a config decides which token is chosen
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "min_new_tokens",
)


@runtime_checkable
class LanguageModel(Protocol):
    """What a prompt is checked against: the model, or an engine made of it."""

    config: MistralConfig

    @property
    def device(self) -> torch.device: ...


@dataclass(frozen=True)
class GenerationRequest:
    """A checked prompt, with the rules for continuing it.

    Args:
        ids: (B, T) the prompt, on the model's device.
        mask: (B, T) false for padding, which is on the left.
        config: the rules.
        ends: the eos ids, on the CPU.
        pad: what finished rows emit.
        tokenizer: gives a `decoder()`; None if there are no stop strings.
    """

    ids: Int[Tensor, "B T"]
    mask: Bool[Tensor, "B T"]
    config: GenerationConfig
    ends: Int[Tensor, "N"]
    pad: int
    tokenizer: Any = None

    @property
    def has_stops(self) -> bool:
        """Whether anything but an eos id ends a row."""
        return bool(self.config.strings or self.config.stop_sequences)

    @cached_property
    def ends_on_device(self) -> Int[Tensor, "N"]:
        """The eos ids where the scores are, sent once: to send them is to wait for the device."""
        return self.ends.to(self.ids.device)

    @property
    def rules(self) -> GenerationConfig:
        """What decides which token is chosen, and nothing of the rest: it can be compared.

        >>> ids = torch.tensor([[1, 5]])
        >>> def rules(**given):
        ...     config = GenerationConfig(do_sample=True, top_k=5, **given)
        ...     return GenerationRequest(ids, ids > 0, config, torch.tensor([2]), pad=0).rules
        >>> rules(seed=3) == rules(max_new_tokens=9), rules() == rules(temperature=2.0)
        (True, False)
        """
        chosen = {name: getattr(self.config, name) for name in CHOOSING}
        least = self.config.min_new_tokens
        ends = tuple(self.ends.tolist()) if least else ()  # which matter where they are held back
        return GenerationConfig(**chosen, max_new_tokens=least, eos_token_id=ends)

    def new_cache(self, model: "MistralForCausalLM") -> RollingCache:
        """An empty cache for the prompt and everything that may follow it."""
        rows, prompt = self.ids.shape
        capacity = prompt + self.config.max_new_tokens
        return RollingCache.allocate(
            model.config, rows, capacity=capacity, dtype=model.dtype, device=model.device
        )

    def seen_tokens(self, vocab_size: int) -> Bool[Tensor, "B V"] | None:
        """Which tokens each prompt holds, padding apart; None if no rule asks for it."""
        if self.config.repetition_penalty == 1:
            return None
        seen = self.mask.new_zeros(len(self.ids), vocab_size)
        rows, columns = self.mask.nonzero(as_tuple=True)
        seen[rows, self.ids[rows, columns]] = True
        return seen


def prepare(
    model: LanguageModel,
    input_ids: Int[Tensor, "B T"],
    attention_mask: Tensor | None = None,
    config: GenerationConfig | None = None,
    tokenizer: Any = None,
    options: Mapping[str, Any] | None = None,
) -> GenerationRequest:
    """Check a prompt and its rules against the model; arguments as in `generation.generate`.

    >>> from mistral_edu import MistralConfig, MistralForCausalLM
    >>> model = MistralForCausalLM(MistralConfig(vocab_size=16, hidden_size=8,
    ...     intermediate_size=28, num_hidden_layers=1, num_attention_heads=2,
    ...     num_key_value_heads=1))
    >>> request = prepare(model, torch.tensor([[1, 5]]), options={"eos_token_id": [2, 3]})
    >>> request.ends.tolist(), request.pad
    ([2, 3], 2)
    """
    config = _with_options(config or GenerationConfig(), options or {})
    mask = checked_mask(input_ids, attention_mask)
    own = model.config.eos_token_id
    ends = _as_list(own if config.eos_token_id is None else config.eos_token_id)
    choices = (config.pad_token_id, model.config.pad_token_id, *ends, 0)
    pad = next(choice for choice in choices if choice is not None)

    size = model.config.vocab_size
    _require_inside("input_ids", [int(input_ids.min()), int(input_ids.max())], size)
    _require_inside("eos_token_id", ends, size)
    _require_inside("pad_token_id", [pad], size)
    _require_inside("stop_sequences", [i for stop in config.stop_sequences for i in stop], size)
    if config.strings and tokenizer is None:
        raise ValueError(
            f"stop_strings={config.strings!r} are looked for in text, and ids become text "
            "only with a tokenizer: give tokenizer=, or stop_sequences= of ids"
        )
    ids, mask = input_ids.to(model.device), mask.to(model.device)
    return GenerationRequest(ids, mask, config, torch.tensor(ends).long(), pad, tokenizer)


def _with_options(config: GenerationConfig, options: Mapping[str, Any]) -> GenerationConfig:
    known = {field.name for field in fields(GenerationConfig)}
    if unknown := sorted(set(options) - known):
        raise TypeError(f"no option is called {unknown[0]!r}: there are {', '.join(sorted(known))}")
    return replace(config, **options)


def _as_list(value: int | Sequence[int] | None) -> list[int]:
    if value is None:
        return []
    return [value] if isinstance(value, int) else list(value)


def checked_mask(input_ids: Any, attention_mask: Any) -> Bool[Tensor, "B T"]:
    """Which tokens of a prompt are not padding, if prompt and mask have the form they must have."""
    if not _is_whole(input_ids):
        kind = input_ids.dtype if isinstance(input_ids, Tensor) else type(input_ids).__name__
        raise ValueError(
            f"input_ids is {kind}, expected a tensor of whole numbers: torch.tensor([ids])"
        )
    if input_ids.dim() != 2 or 0 in input_ids.shape:
        raise ValueError(
            f"input_ids has shape {tuple(input_ids.shape)}, expected (batch, tokens) with "
            "a row and at least one token: start from the bos id"
        )
    if attention_mask is None:
        return torch.ones_like(input_ids, dtype=torch.bool)
    is_tensor = isinstance(attention_mask, Tensor)
    if not is_tensor or attention_mask.shape != input_ids.shape:
        given = f"shape {tuple(attention_mask.shape)}" if is_tensor else type(attention_mask)
        raise ValueError(
            f"attention_mask is of {given}, expected a tensor of input_ids' "
            f"{tuple(input_ids.shape)}"
        )
    mask = attention_mask.to(input_ids.device).bool()
    if not mask[:, -1].all():
        raise ValueError(
            "a row ends in padding: pad the batch on the left (tokenizer.pad(batch, side='left'))"
        )
    return mask


def _is_whole(ids: Any) -> bool:
    is_tensor = isinstance(ids, Tensor)
    return is_tensor and not ids.is_floating_point() and ids.dtype != torch.bool


def _require_inside(name: str, ids: Sequence[int], vocab_size: int) -> None:
    if ids and not 0 <= min(ids) <= max(ids) < vocab_size:
        wrong = min(ids) if min(ids) < 0 else max(ids)
        raise ValueError(
            f"{name} holds {wrong}, expected 0 to {vocab_size - 1} (vocab_size={vocab_size}): use "
            "this model's own tokenizer and its ids"
        )


# Here, where the weights are, and not around the loops: a loop that yields would have to switch
# gradients back on for whoever it yields to.
@torch.no_grad()
def advance(
    model: "MistralForCausalLM",
    input_ids: Int[Tensor, "B T"],
    mask: Bool[Tensor, "B T"] | None,
    cache: RollingCache,
    chunk_size: int | None = None,
) -> Float[Tensor, "B V"]:
    """Feed tokens through the cache, chunk by chunk; return the scores of what comes next."""
    size = chunk_size or input_ids.shape[1]
    for start in range(0, input_ids.shape[1], size):
        ids = input_ids[:, start : start + size]
        real = mask[:, start : start + size] if mask is not None else None
        output = model(
            ids, attention_mask=real, past_key_values=cache, return_dict=True, logits_to_keep=1
        )
    return output.logits[:, -1].float()


def restrain(
    scores: Float[Tensor, "B V"],
    rules: GenerationConfig,
    ends: Int[Tensor, "N"],
    made: int,
    seen: Bool[Tensor, "B V"] | None,
) -> Float[Tensor, "B V"]:
    """Apply the rules that hold however the next token is chosen.

    Args:
        scores: of the next token.
        rules: the penalty and the least number of tokens.
        ends: the eos ids, where the scores are.
        made: how many new tokens there are.
        seen: which tokens each row holds, if there is a penalty.
    """
    if seen is not None:
        scores = sampling.penalise_repetition(scores, seen, rules.repetition_penalty)
    if made < rules.min_new_tokens:
        scores = sampling.forbid(scores, ends)
    return scores
