"""Grouped-query attention: H query heads share Hkv key/value heads.

    q, k, v = W_q x, W_k x, W_v x;   rotate q and k by position;   out = W_o attend(q, k, v)

Only k and v are cached, so the cache shrinks by G = H / Hkv: four times for Mistral-7B.

Source: Ainslie et al., "GQA" (arXiv 2305.13245), section 2.2.
Lesson: 05_grouped_query_attention.

Conventions
    Key/value head g serves query heads g·G … g·G + G − 1 (repeat each head, do not tile them).
    No biases. The projections keep Hugging Face's names and row layout.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mistral_edu.chunk import Chunk
from mistral_edu.config import MistralConfig
from mistral_edu.rope import rotate_halves


class GroupedQueryAttention(nn.Module):
    """The attention block of one layer.

    Args:
        config: the architecture.
        layer: index of this layer, which selects its part of the cache and its pruned heads.

    >>> from mistral_edu.backends import get
    >>> from mistral_edu.chunk import plan_chunk
    >>> config = MistralConfig(hidden_size=8, num_attention_heads=2, num_key_value_heads=1)
    >>> x = torch.zeros(1, 3, 8)
    >>> out, _ = GroupedQueryAttention(config, layer=0)(x, plan_chunk(config, x, get("eager")))
    >>> out.shape
    torch.Size([1, 3, 8])
    """

    def __init__(self, config: MistralConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        self.heads = list(range(config.num_attention_heads))  # those left after pruning
        self.shared = [head // config.group_size for head in self.heads]  # their key/value heads
        self.is_pruned = False
        queries = config.num_attention_heads * config.head_dim
        shared = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, shared, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, shared, bias=False)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)
        self.prune(config.pruned_heads.get(layer, ()))

    def prune(self, gone: Iterable[int]) -> None:
        """Remove query heads: their rows of W_q and columns of W_o. Keys and values stay."""
        kept = [place for place, head in enumerate(self.heads) if head not in set(gone)]
        if len(kept) == len(self.heads):
            return
        self.heads = [self.heads[place] for place in kept]
        self.shared = [self.shared[place] for place in kept]
        self.is_pruned = True
        at = torch.tensor(kept)[:, None] * self.head_dim + torch.arange(self.head_dim)
        for linear, axis in ((self.q_proj, 0), (self.o_proj, 1)):
            weight = linear.weight.detach().index_select(
                axis, at.flatten().to(linear.weight.device)
            )
            linear.weight = nn.Parameter(weight, requires_grad=linear.weight.requires_grad)
            linear.out_features, linear.in_features = weight.shape

    def _split_heads(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B heads T D"]:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # → (B, T, heads, D) → …

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        chunk: Chunk,
        factors: Float[Tensor, "heads"] | None = None,
    ) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B H T S"] | None]:
        """Attend from every token of `x` to whatever it may see.

        Args:
            x: (B, T, hidden).
            chunk: where its tokens stand, what they see, and where keys and values are kept.
            factors: one for the output of each query head, pruned ones included.

        Returns:
            The block's output; and the attention weights, if the chunk asks for them.
        """
        q = rotate_halves(self._split_heads(self.q_proj(x)), *chunk.turn)
        k = rotate_halves(self._split_heads(self.k_proj(x)), *chunk.turn)
        v = self._split_heads(self.v_proj(x))
        k, v = chunk.remember(self.layer, k, v)
        if self.is_pruned:  # groups may differ in size now: give each head its own key and value
            k, v = k[:, self.shared], v[:, self.shared]  # (B, Hkv, S, D) → (B, H, S, D)
        out, weights = chunk.attend(q, k, v, self.heads if self.is_pruned else None)
        if factors is not None:
            out = out * factors[self.heads][:, None, None]
        return self.o_proj(out.transpose(1, 2).flatten(2)), weights  # (B, H, T, D) → (B, T, H·D)
