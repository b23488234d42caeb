"""Heads: what the hidden states are used for.

    language modelling   logits = W x,   loss = mean of −log softmax(logits at t)[token at t + 1]

Source: the model documentation's `MistralForCausalLM`.
Lesson: 10_heads_and_training.

Conventions
    Labels are the input ids themselves; the shift by one happens here. A label of −100 is
    ignored. Others go from 0 to V − 1: the documentation's bracket includes V, which is no token.
    The loss is computed in float32.
    The classifier is in `classification.py`.
"""

from collections.abc import Iterator
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from mistral_edu import generation
from mistral_edu.classification import MistralForSequenceClassification
from mistral_edu.config import MistralConfig
from mistral_edu.inputs import batch_and_tokens
from mistral_edu.losses import IGNORED, mean_cross_entropy, require_classes
from mistral_edu.model import MistralModel
from mistral_edu.outputs import CausalLMOutput
from mistral_edu.pretrained import PretrainedModel

__all__ = ["IGNORED", "MistralForCausalLM", "MistralForSequenceClassification", "next_token_loss"]


def require_token_labels(labels: Tensor, batch: int, tokens: int, vocabulary: int) -> None:
    """Refuse labels that are not one token id, or −100, for each token.

    >>> import torch
    >>> require_token_labels(torch.tensor([[1, -100]]), batch=1, tokens=2, vocabulary=8)
    """
    if labels.shape != (batch, tokens):
        raise ValueError(
            f"labels has shape {tuple(labels.shape)}, expected {(batch, tokens)}: one for each "
            "token (the shift by one is done here)"
        )
    require_classes(labels, vocabulary)


def next_token_loss(logits: Float[Tensor, "B T V"], labels: Tensor) -> Float[Tensor, ""]:
    """Mean cross-entropy of predicting each token from those before it.

    Args:
        logits: scores; those at t predict the token at t + 1, so the last are not used.
        labels: (B, T) token ids, −100 where no loss is wanted.

    Returns:
        A scalar; 0 if every label is ignored, so that training goes on.

    Raises:
        ValueError: for labels of another shape or type, or out of the vocabulary.

    >>> import torch
    >>> next_token_loss(torch.zeros(1, 3, 8), torch.tensor([[1, 2, -100]]))
    tensor(2.0794)
    """
    require_token_labels(labels, *logits.shape)
    return mean_cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


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
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        head_mask: Tensor | None = None,
        logits_to_keep: int = 0,
    ) -> CausalLMOutput | tuple:
        """Score every next token; arguments as in `MistralModel.forward`, and:

        Args:
            labels: (B, T) ids to predict (the input ids), −100 where no loss is wanted.
            logits_to_keep: compute only the last so many logits; 0 means all.

        Raises:
            ValueError: as `MistralModel.forward` and `next_token_loss`.
        """
        if logits_to_keep < 0 or (logits_to_keep and labels is not None):
            raise ValueError(
                f"logits_to_keep={logits_to_keep} must be 0 or more, and 0 with labels: the loss "
                "needs every logit"
            )
        if labels is not None:  # before the model runs, so that a cache does not move on in vain
            shape = batch_and_tokens(input_ids, inputs_embeds)
            require_token_labels(labels, *shape, self.config.vocab_size)
        output = self.model(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            use_cache,
            output_attentions,
            output_hidden_states,
            return_dict=True,
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
        return result if self.choice("return_dict", return_dict) else result.to_tuple()

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
