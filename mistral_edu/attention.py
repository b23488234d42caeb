"""Grouped-query attention: H query heads share Hkv key/value heads.

    q, k, v = W_q x, W_k x, W_v x;   rotate q and k by position;   out = W_o attend(q, k, v)

Only k and v are cached, so the cache shrinks by G = H / Hkv: four times for Mistral-7B.

Source: Ainslie et al., "GQA" (arXiv 2305.13245), section 2.2.
Lesson: 05_grouped_query_attention.

Conventions
    Key/value head g serves query heads g·G … g·G + G − 1 (repeat each head, do not tile them).
    No biases. The projections keep Hugging Face's names and row layout.
"""

from jaxtyping import Float
from torch import Tensor, nn

from mistral_edu.backends import AttentionFunction, attention_weights, weighted_sum
from mistral_edu.config import MistralConfig
from mistral_edu.rolling_cache import RollingCache, Step
from mistral_edu.rope import rotate_halves


class GroupedQueryAttention(nn.Module):
    """The attention block of one layer.

    Args:
        config: the architecture.
        layer: index of this layer, which selects its part of the cache.

    >>> import torch
    >>> from mistral_edu.backends import get
    >>> from mistral_edu.rope import rotation
    >>> config = MistralConfig(hidden_size=8, num_attention_heads=2, num_key_value_heads=1)
    >>> attention = GroupedQueryAttention(config, layer=0)
    >>> at = torch.tensor([[0, 1, 2]])
    >>> x, turn = torch.zeros(1, 3, 8), rotation(at, head_dim=4, theta=10000.0)
    >>> attention(x, at, turn, get("eager"))[0].shape
    torch.Size([1, 3, 8])
    """

    def __init__(self, config: MistralConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim, self.window = layer, config.head_dim, config.sliding_window
        queries = config.num_attention_heads * config.head_dim
        shared = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, shared, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, shared, bias=False)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)

    def _split_heads(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B heads T D"]:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # → (B, T, heads, D) → …

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        positions: Tensor,
        turn: tuple[Tensor, Tensor],
        attend: AttentionFunction,
        cache: RollingCache | None = None,
        step: Step | None = None,
        head_mask: Float[Tensor, "H"] | None = None,
        output_weights: bool = False,
    ) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B H T S"] | None]:
        """Attend from every token of `x` to whatever it may see.

        Args:
            x: (B, T, hidden).
            positions: (B, T) absolute positions, −1 for padding.
            turn: cosine and sine of those positions (`rope.rotation`).
            attend: a backend.
            cache, step: where keys and values are stored, and this chunk's plan.
            head_mask: a factor for each query head's output.
            output_weights: also return the weights; they are computed eagerly, whatever `attend`.

        Returns:
            The block's output, and the attention weights or None.
        """
        q = rotate_halves(self._split_heads(self.q_proj(x)), *turn)
        k = rotate_halves(self._split_heads(self.k_proj(x)), *turn)
        v = self._split_heads(self.v_proj(x))
        key_positions = positions
        if cache is not None and step is not None:
            k, v = cache.update(self.layer, k, v, step)
            key_positions = step.key_positions
        weights = None
        if output_weights:
            weights = attention_weights(q, k, positions, key_positions, self.window)
            out = weighted_sum(weights, v)
        else:
            out = attend(q, k, v, positions, key_positions, self.window)
        if head_mask is not None:
            out = out * head_mask[:, None, None]
        return self.o_proj(out.transpose(1, 2).flatten(2)), weights  # (B, H, T, D) → (B, T, H·D)
