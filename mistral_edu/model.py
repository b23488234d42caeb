"""MistralModel: embeddings, L decoder layers, one final norm.

    x ← x + Attention(RMSNorm(x));   x ← x + FeedForward(RMSNorm(x))

Source: "Mistral 7B" (arXiv 2310.06825), section 2; the model documentation's `MistralModel`.
Lesson: 09_the_full_model.

Conventions
    Pre-norm, no biases. Parameter names are the Hugging Face checkpoint's.
    What a caller may pass is checked in `inputs.py`; what all layers share is settled once, in
    `chunk.py`. Here is only what the model does.
"""

import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mistral_edu import backends
from mistral_edu.attention import GroupedQueryAttention
from mistral_edu.chunk import Chunk, plan_chunk
from mistral_edu.config import MistralConfig
from mistral_edu.feed_forward import FeedForward
from mistral_edu.inputs import embed, head_factors
from mistral_edu.norm import RMSNorm
from mistral_edu.outputs import BaseModelOutput
from mistral_edu.pretrained import PretrainedModel


class DecoderLayer(nn.Module):
    """One layer: attention and feed-forward, each around a residual connection.

    >>> config = MistralConfig(hidden_size=8, intermediate_size=28, num_attention_heads=2,
    ...                        num_key_value_heads=1)
    >>> sum(p.numel() for p in DecoderLayer(config, layer=0).parameters())
    880
    """

    def __init__(self, config: MistralConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = GroupedQueryAttention(config, layer)
        self.mlp = FeedForward(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        chunk: Chunk,
        factors: Float[Tensor, "H"] | None = None,
    ) -> tuple[Float[Tensor, "B T C"], Tensor | None]:
        """Pass `x` through the layer; arguments as in `GroupedQueryAttention.forward`."""
        attended, weights = self.self_attn(self.input_layernorm(x), chunk, factors)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), weights


class MistralModel(PretrainedModel):
    """The decoder without a head: token ids in, hidden states out.

    Args:
        config: the architecture.
        attention: a backend's name, or "auto" for the best that can run where the model is.

    Raises:
        ValueError, BackendUnavailable: for an attention there is not, or not on this machine.

    >>> config = MistralConfig(vocab_size=16, hidden_size=8, intermediate_size=28,
    ...     num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, sliding_window=4)
    >>> output = MistralModel(config)(torch.tensor([[1, 5, 9]]))
    >>> output.last_hidden_state.shape, output.past_key_values.lengths
    (torch.Size([1, 3, 8]), tensor([3]))
    """

    def __init__(self, config: MistralConfig, attention: str = "auto") -> None:
        super().__init__(config)
        backends.resolve(attention)  # what cannot run on this machine is refused before it is used
        self.attention = attention
        self.gradient_checkpointing = False
        self._has_warned = False
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        layers = (DecoderLayer(config, index) for index in range(config.num_hidden_layers))
        self.layers = nn.ModuleList(layers)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.initialise_weights(self)

    @property
    def attention_backend(self) -> str:
        """Name of the backend in use; under "auto" it changes with `.to("cuda")` and `.half()`."""
        place = (self.device, self.dtype, self.config.head_dim)
        return backends.resolve(self.attention, *place)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        head_mask: Tensor | None = None,
    ) -> BaseModelOutput | tuple:
        """Run all layers over one chunk of tokens.

        What is left at None among the last five is taken from the config.

        Args:
            input_ids: (B, T) token ids; or give `inputs_embeds` (B, T, hidden).
            attention_mask: (B, T) or (B, tokens so far + T), 0 marks padding; or with four axes,
                in the place of the visibility rule (see `custom_mask.py`).
            position_ids: (B or 1, T) absolute positions, −1 for padding; counted from the cache
                if None. Who sees whom goes by them.
            past_key_values: the cache an earlier chunk returned: a `RollingCache`, updated in
                place, or a tuple of (key, value) pairs.
            use_cache: whether to keep the chunk and return the cache. A cache that is given is
                used in any case; with False it stays as it is.
            output_attentions: also return every layer's attention weights. They are computed
                eagerly under any backend, so memory grows with T · S. Columns are the cache's
                keys in the order of positions, then the chunk's tokens.
            output_hidden_states: also return L + 1 hidden states.
            return_dict: False returns a plain tuple.
            head_mask: (L, H) or (H,) factors for the heads' outputs, 0 switches a head off.

        Raises:
            ValueError: for inputs that do not fit together; the cache is then unchanged.
        """
        x = embed(self.embed_tokens, input_ids, inputs_embeds)
        factors = head_factors(head_mask, len(self.layers), self.config.num_attention_heads, x)
        chunk = plan_chunk(
            self.config,
            x,
            backends.get(self.attention_backend),
            attention_mask=attention_mask,
            position_ids=position_ids,
            past=past_key_values,
            store=self._stores(use_cache, past_key_values),
            weigh=self.choice("output_attentions", output_attentions),
        )
        self._warn_once(chunk)
        wants_states = self.choice("output_hidden_states", output_hidden_states)
        states: list[Tensor] = [x]
        attentions: list[Tensor] = []
        with chunk.kept():
            for layer, heads in zip(self.layers, factors, strict=True):
                x, weights = self._run(layer, x, chunk, heads)
                if weights is not None:
                    attentions.append(chunk.readable(weights))
                if wants_states:
                    states.append(x)
            x = self.norm(x)

        output = BaseModelOutput(
            last_hidden_state=x,
            past_key_values=chunk.past(as_pairs=isinstance(past_key_values, tuple | list)),
            hidden_states=(*states[:-1], x) if wants_states else None,
            attentions=tuple(attentions) if chunk.weigh else None,
        )
        return output if self.choice("return_dict", return_dict) else output.to_tuple()

    def _run(self, layer: nn.Module, *arguments: Any) -> tuple[Tensor, Tensor | None]:
        if self._is_checkpointing():
            return checkpoint(layer, *arguments, use_reentrant=False)
        return layer(*arguments)

    def _is_checkpointing(self) -> bool:
        return self.gradient_checkpointing and self.training and torch.is_grad_enabled()

    def _stores(self, use_cache: bool | None, past: Any) -> bool:
        if self._is_checkpointing():
            if use_cache or past is not None:
                raise ValueError(
                    "use_cache and past_key_values do not go with gradient checkpointing, which "
                    "runs each layer twice: pass use_cache=False"
                )
            return False
        return (past is not None or self.config.use_cache) if use_cache is None else use_cache

    def _warn_once(self, chunk: Chunk) -> None:
        longest = self.config.max_position_embeddings
        if self._has_warned or chunk.positions.is_meta:  # meta: shapes only, no numbers
            return
        if (chunk.positions >= longest).any():
            self._has_warned = True
            warnings.warn(
                f"position {int(chunk.positions.max())} is past max_position_embeddings={longest}: "
                "it is computed as any other, but the model was not trained so far",
                stacklevel=3,
            )
