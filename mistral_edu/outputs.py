"""What a forward pass returns: named fields, or the same as a tuple.

Source: the model documentation's "Returns" of each forward.
Lesson: 09_the_full_model.

Conventions
    `to_tuple()` keeps the documentation's order and leaves out fields that are None; indexing
    and unpacking go by that tuple.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from mistral_edu.rolling_cache import RollingCache

Past = RollingCache | tuple[tuple[Tensor, Tensor], ...]


class ModelOutput:
    """Base of the outputs: a dataclass that also behaves as its tuple of present fields."""

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are not None, in order."""
        values = (getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]
        return tuple(value for value in values if value is not None)

    def __getitem__(self, key: int | slice | str) -> Any:
        return getattr(self, key) if isinstance(key, str) else self.to_tuple()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_tuple())

    def __len__(self) -> int:
        return len(self.to_tuple())


@dataclass
class BaseModelOutput(ModelOutput):
    """Of `MistralModel`.

    Args:
        last_hidden_state: (B, T, hidden), after the final norm.
        past_key_values: the cache, if the chunk was kept in one: a `RollingCache`, or pairs of
            (key, value) if pairs were given.
        hidden_states: L + 1 tensors (B, T, hidden) on request: the embeddings, then each layer's
            output, the last one after the final norm.
        attentions: L tensors (B, H, T, S) on request; fewer heads in a layer that was pruned.

    >>> import torch
    >>> len(BaseModelOutput(torch.zeros(1, 2, 4)))
    1
    """

    last_hidden_state: Tensor
    past_key_values: Past | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class CausalLMOutput(ModelOutput):
    """Of `MistralForCausalLM`: as `BaseModelOutput`, with loss and logits in front.

    Args:
        loss: scalar, if labels were given.
        logits: (B, T, V), before softmax.

    >>> import torch
    >>> CausalLMOutput(logits=torch.zeros(1, 2, 8))[0].shape
    torch.Size([1, 2, 8])
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Past | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class SequenceClassifierOutput(ModelOutput):
    """Of `MistralForSequenceClassification`: as `CausalLMOutput`, with logits for each text.

    Args:
        loss: scalar, if labels were given.
        logits: (B, num_labels), of the last token attended to in each row.

    >>> import torch
    >>> SequenceClassifierOutput(logits=torch.zeros(1, 2))["logits"].shape
    torch.Size([1, 2])
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Past | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
