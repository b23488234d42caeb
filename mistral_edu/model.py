"""MistralModel: embeddings, L decoder layers, one final norm.

    x ← x + Attention(RMSNorm(x));   x ← x + FeedForward(RMSNorm(x))

Source: "Mistral 7B" (arXiv 2310.06825), section 2; the model documentation's `MistralModel`.
Lesson: 09_the_full_model.

Conventions
    Pre-norm, no biases. Parameter names are the Hugging Face checkpoint's.
    All a forward pass needs to know about padding, caching and chunks is one array of absolute
    positions; `token_positions` makes it.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mistral_edu import backends
from mistral_edu.attention import GroupedQueryAttention
from mistral_edu.config import MistralConfig
from mistral_edu.feed_forward import FeedForward
from mistral_edu.norm import RMSNorm
from mistral_edu.outputs import BaseModelOutput
from mistral_edu.pretrained import PretrainedModel
from mistral_edu.rolling_cache import RollingCache, Step
from mistral_edu.rope import rotation


def token_positions(
    batch: int,
    length: int,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    seen: Int[Tensor, "B"] | None = None,
    device: torch.device | str = "cpu",
) -> Int[Tensor, "B T"]:
    """The absolute position of every token of a chunk, −1 for padding.

    Args:
        batch, length: B and T.
        attention_mask: (B, at least T), 1 for tokens, 0 for padding. Only its last T columns
            count: what came before is in the cache.
        position_ids: (B or 1, T) explicit positions; counted from `seen` if None.
        seen: tokens each row has put into the cache so far.

    >>> token_positions(2, 3, attention_mask=torch.tensor([[0, 1, 1], [1, 1, 1]]))
    tensor([[-1,  0,  1],
            [ 0,  1,  2]])
    >>> token_positions(1, 2, seen=torch.tensor([7]))
    tensor([[7, 8]])
    """
    real = torch.ones(batch, length, dtype=torch.bool, device=device)
    if attention_mask is not None:
        if attention_mask.shape[0] != batch or attention_mask.shape[1] < length:
            raise ValueError(
                f"attention_mask has shape {tuple(attention_mask.shape)}, expected ({batch}, "
                f"{length}) or ({batch}, tokens so far + {length})"
            )
        real = attention_mask[:, -length:].to(device).bool()
    if position_ids is None:
        start = torch.zeros(batch, dtype=torch.long, device=device) if seen is None else seen
        position_ids = start[:, None] + real.long().cumsum(dim=1) - 1
    return position_ids.to(device).expand(batch, length).masked_fill(~real, -1)


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
        positions: Int[Tensor, "B T"],
        turn: tuple[Tensor, Tensor],
        attend: backends.AttentionFunction,
        cache: RollingCache | None = None,
        step: Step | None = None,
        head_mask: Float[Tensor, "H"] | None = None,
        output_weights: bool = False,
    ) -> tuple[Float[Tensor, "B T C"], Tensor | None]:
        """Pass `x` through the layer; arguments as in `GroupedQueryAttention.forward`."""
        attended, weights = self.self_attn(
            self.input_layernorm(x), positions, turn, attend, cache, step, head_mask, output_weights
        )
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), weights


class MistralModel(PretrainedModel):
    """The decoder without a head: token ids in, hidden states out.

    Args:
        config: the architecture.
        attention: a backend's name, or "auto" for the best that can run.

    >>> config = MistralConfig(vocab_size=16, hidden_size=8, intermediate_size=28,
    ...     num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, sliding_window=4)
    >>> output = MistralModel(config)(torch.tensor([[1, 5, 9]]))
    >>> output.last_hidden_state.shape, output.past_key_values.lengths
    (torch.Size([1, 3, 8]), tensor([3]))
    """

    def __init__(self, config: MistralConfig, attention: str = "auto") -> None:
        super().__init__(config)
        self.attention_backend = backends.resolve(attention)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        layers = (DecoderLayer(config, index) for index in range(config.num_hidden_layers))
        self.layers = nn.ModuleList(layers)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.initialise_weights(self)

    def _embed(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        if inputs_embeds is not None:
            return inputs_embeds
        assert input_ids is not None
        if input_ids.dim() != 2:
            raise ValueError(
                f"input_ids has shape {tuple(input_ids.shape)}, expected (batch, tokens): "
                "add a batch axis with input_ids[None]"
            )
        try:
            return self.embed_tokens(input_ids)
        except IndexError:
            raise ValueError(
                f"input_ids range from {int(input_ids.min())} to {int(input_ids.max())}, expected "
                f"0 to {self.config.vocab_size - 1} (vocab_size={self.config.vocab_size}): encode "
                "the text with this model's own tokenizer"
            ) from None

    def _cache_for(self, x: Tensor, use_cache: bool | None) -> RollingCache | None:
        if not (self.config.use_cache if use_cache is None else use_cache):
            return None
        return RollingCache.allocate(self.config, x.shape[0], dtype=x.dtype, device=x.device)

    def forward(
        self,
        input_ids: Int[Tensor, "B T"] | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: RollingCache | None = None,
        inputs_embeds: Float[Tensor, "B T C"] | None = None,
        use_cache: bool | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
        head_mask: Float[Tensor, "L H"] | None = None,
    ) -> BaseModelOutput | tuple:
        """Run all layers over one chunk of tokens.

        Args:
            input_ids: (B, T) token ids; or give `inputs_embeds` (B, T, hidden).
            attention_mask: (B, T) or (B, tokens so far + T), 0 marks padding.
            position_ids: (B, T) absolute positions; counted from the cache if None.
            past_key_values: the cache an earlier chunk returned; updated in place.
            use_cache: return a cache (default: the config's `use_cache`).
            output_attentions: also return every layer's attention weights.
            output_hidden_states: also return L + 1 hidden states.
            return_dict: False returns a plain tuple.
            head_mask: (L, H) factors for the heads' outputs, 0 switches a head off.

        Raises:
            ValueError: for inputs that do not fit together, with both shapes.
        """
        x = self._embed(input_ids, inputs_embeds)
        cache = past_key_values if past_key_values is not None else self._cache_for(x, use_cache)
        seen = cache.lengths if cache is not None else None
        batch, length, _ = x.shape
        positions = token_positions(batch, length, attention_mask, position_ids, seen, x.device)
        turn = rotation(positions, self.config.head_dim, self.config.rope_theta)
        step = cache.begin(positions) if cache is not None else None
        attend = backends.get(self.attention_backend)

        states, attentions = [x], []
        for index, layer in enumerate(self.layers):
            mask = head_mask[index] if head_mask is not None else None
            x, weights = layer(x, positions, turn, attend, cache, step, mask, output_attentions)
            states.append(x)
            attentions.append(weights)
        x = states[-1] = self.norm(x)
        if cache is not None and step is not None:
            cache.commit(step)

        output = BaseModelOutput(
            last_hidden_state=x,
            past_key_values=cache,
            hidden_states=tuple(states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )
        return output if return_dict else output.to_tuple()
