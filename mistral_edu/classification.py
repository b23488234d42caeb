"""Classification of whole texts: one linear layer reads the last token of each.

    scores = W h[last],   last = the last token that is attended to

Source: the model documentation's `MistralForSequenceClassification`.
Lesson: 10_heads_and_training.

Conventions
    The decoder is causal, so only the last token has read the whole text.
    The attention mask says which token is last. Without a mask it is the last that is not the pad
    id; that fails when texts may end in a genuine pad id (pad = eos), so pass the mask.
"""

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from mistral_edu.config import MistralConfig
from mistral_edu.inputs import batch_and_tokens, real_tokens
from mistral_edu.losses import classification_loss, require_text_labels
from mistral_edu.model import MistralModel
from mistral_edu.outputs import SequenceClassifierOutput
from mistral_edu.pretrained import PretrainedModel


def last_attended(attended: Bool[Tensor, "B T"]) -> Int[Tensor, "B"]:
    """The column of the last True in each row.

    Raises:
        ValueError: for a row without any.

    >>> last_attended(torch.tensor([[True, True, False], [False, False, True]]))
    tensor([1, 2])
    """
    empty = ~attended.any(dim=1)
    if empty.any():
        raise ValueError(
            f"row {int(empty.nonzero()[0])} has no token to classify by: all of it is padding"
        )
    columns = torch.arange(attended.shape[1], device=attended.device)
    return columns.where(attended, 0).amax(dim=1)


def attended_tokens(
    input_ids: Tensor | None,
    attention_mask: Tensor | None,
    pad_token_id: int | None,
    batch: int,
    tokens: int,
) -> Bool[Tensor, "B T"]:
    """Which tokens belong to the texts: by the mask, else by the pad id, else all.

    Args:
        input_ids: (B, T), or None if embeddings were given: those cannot be told from padding.
        attention_mask: (B, at least T); one with four axes does not say what padding is.
        pad_token_id: of the config.
        batch, tokens: B and T.

    Raises:
        ValueError: for several rows of ids without a mask and without a pad id: their ends
            cannot be known.

    >>> attended_tokens(torch.tensor([[1, 5, 2, 6, 2]]), None, 2, batch=1, tokens=5)
    tensor([[ True,  True, False,  True, False]])
    """
    if attention_mask is not None and attention_mask.dim() == 2:
        return real_tokens(attention_mask, batch, tokens, so_far=True)
    if input_ids is not None and pad_token_id is not None:
        return input_ids != pad_token_id
    if input_ids is not None and batch > 1:
        raise ValueError(
            f"cannot tell where {batch} texts end: pass attention_mask, or set config.pad_token_id"
        )
    return torch.ones(batch, tokens, dtype=torch.bool)


class MistralForSequenceClassification(PretrainedModel):
    """The decoder and a linear layer without bias that scores each text.

    Args:
        config: the architecture; `num_labels` rows, `problem_type` for the loss.
        attention: a backend's name, or "auto" for the best that can run.

    >>> config = MistralConfig(vocab_size=16, hidden_size=8, intermediate_size=28,
    ...     num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, num_labels=3)
    >>> MistralForSequenceClassification(config)(torch.tensor([[1, 5, 9]])).logits.shape
    torch.Size([1, 3])
    """

    def __init__(self, config: MistralConfig, attention: str = "auto") -> None:
        super().__init__(config)
        self.model = MistralModel(config, attention)
        self.score = nn.Linear(config.hidden_size, config.num_labels, bias=False)
        self.initialise_weights(self.score)

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
    ) -> SequenceClassifierOutput | tuple:
        """Score each text by its last token; arguments as in `MistralModel.forward`, and:

        Args:
            labels: (B,) classes for cross-entropy; (B,) or (B, 1) numbers for one label;
                (B, num_labels) of 0.0 and 1.0 for several yes/no labels. See `losses`.

        Raises:
            ValueError: as `MistralModel.forward`, `attended_tokens` and `classification_loss`.
        """
        # All that can be wrong is found before the model runs, so that no cache moves on in vain.
        batch, tokens = batch_and_tokens(input_ids, inputs_embeds)
        pad = self.config.pad_token_id
        last = last_attended(attended_tokens(input_ids, attention_mask, pad, batch, tokens))
        if labels is not None:
            require_text_labels(labels, batch, self.config)
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
        states = output.last_hidden_state
        at = last.to(states.device)[:, None, None]  # (B,) → (B, 1, 1)
        logits = self.score(states.take_along_dim(at, dim=1)[:, 0])
        result = SequenceClassifierOutput(
            loss=None if labels is None else classification_loss(logits, labels, self.config),
            logits=logits,
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )
        return result if self.choice("return_dict", return_dict) else result.to_tuple()
