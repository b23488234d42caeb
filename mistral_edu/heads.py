"""Heads: what the hidden states are used for.

    language modelling   logits = W x,   loss = mean of −log softmax(logits at t)[token at t + 1]

Source: the model documentation's `MistralForCausalLM`.
Lesson: 10_heads_and_training.

Conventions
    Labels are the input ids themselves; the shift by one happens here. A label of −100 is
    ignored. The loss is computed in float32.
"""

from collections.abc import Iterator
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mistral_edu import generation
from mistral_edu.config import MistralConfig
from mistral_edu.model import MistralModel
from mistral_edu.outputs import CausalLMOutput
from mistral_edu.pretrained import PretrainedModel
from mistral_edu.rolling_cache import RollingCache

IGNORED = -100


def next_token_loss(logits: Float[Tensor, "B T V"], labels: Int[Tensor, "B T"]) -> Tensor:
    """Mean cross-entropy of predicting each token from those before it.

    Args:
        logits: scores; those at t predict the token at t + 1, so the last are not used.
        labels: token ids, −100 where no loss is wanted.

    Returns:
        A scalar; 0 if every label is ignored, so that training goes on.

    >>> import torch
    >>> next_token_loss(torch.zeros(1, 3, 8), torch.tensor([[1, 2, -100]]))
    tensor(2.0794)
    """
    predicted = logits[:, :-1].flatten(0, 1).float()
    targets = labels[:, 1:].flatten()
    total = functional.cross_entropy(predicted, targets, ignore_index=IGNORED, reduction="sum")
    return total / (targets != IGNORED).sum().clamp(min=1)


class MistralForCausalLM(PretrainedModel):
    """The language model: the decoder and a linear head over the vocabulary.

    Args:
        config: the architecture.
        attention: a backend's name, or "auto" for the best that can run.

    >>> import torch
    >>> config = MistralConfig(vocab_size=16, hidden_size=8, intermediate_size=28,
    ...     num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, sliding_window=4)
    >>> model = MistralForCausalLM(config)
    >>> model(torch.tensor([[1, 5, 9]])).logits.shape
    torch.Size([1, 3, 16])
    """

    def __init__(self, config: MistralConfig, attention: str = "auto") -> None:
        super().__init__(config)
        self.model = MistralModel(config, attention)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.initialise_weights(self.lm_head)
        self.tie_weights()

    @property
    def attention_backend(self) -> str:
        """Name of the backend in use."""
        return self.model.attention_backend

    def forward(
        self,
        input_ids: Int[Tensor, "B T"] | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: RollingCache | None = None,
        inputs_embeds: Float[Tensor, "B T C"] | None = None,
        labels: Int[Tensor, "B T"] | None = None,
        use_cache: bool | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
        head_mask: Float[Tensor, "L H"] | None = None,
        logits_to_keep: int = 0,
    ) -> CausalLMOutput | tuple:
        """Score every next token; arguments as in `MistralModel.forward`, and:

        Args:
            labels: (B, T) ids to predict (the input ids), −100 where no loss is wanted.
            logits_to_keep: compute only the last so many logits; 0 means all.
        """
        output = self.model(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            use_cache,
            output_attentions,
            output_hidden_states,
            head_mask=head_mask,
        )
        logits = self.lm_head(output.last_hidden_state[:, -logits_to_keep:])  # −0: all
        result = CausalLMOutput(
            loss=next_token_loss(logits, labels) if labels is not None else None,
            logits=logits,
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )
        return result if return_dict else result.to_tuple()

    def generate(
        self, input_ids: Int[Tensor, "B T"], attention_mask: Tensor | None = None, **options: Any
    ) -> Int[Tensor, "N S"]:
        """Continue each row; returns the ids with their prompt. See `generation.generate`."""
        return generation.generate(self, input_ids, attention_mask, **options)

    def generate_with_details(
        self, input_ids: Int[Tensor, "B T"], attention_mask: Tensor | None = None, **options: Any
    ) -> generation.GenerationOutput:
        """As `generate`, with log-probabilities. See `generation.generate_with_details`."""
        return generation.generate_with_details(self, input_ids, attention_mask, **options)

    def stream(
        self, input_ids: Int[Tensor, "B T"], attention_mask: Tensor | None = None, **options: Any
    ) -> Iterator[Tensor]:
        """Continue each row, yielding (B,) new ids at a time. See `generation.stream`."""
        return generation.stream(self, input_ids, attention_mask, **options)
