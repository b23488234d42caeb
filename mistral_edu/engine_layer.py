"""One decoder layer as the engine runs it: the same mathematics, four products instead of seven.

    x ← x + W_o attend(rotate(W_qkv RMSNorm(x)));   x ← x + W_down (silu(g) ⊙ u),  [g; u] = W_gu …

Read it beside `model.DecoderLayer`, `attention.GroupedQueryAttention` and
`feed_forward.FeedForward`: nothing is computed here that is not computed there.

Source: "Mistral 7B" (arXiv 2310.06825), section 2.
Lesson: 14_the_full_7b.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mistral_edu.engine_linear import fuse, require_alike
from mistral_edu.engine_rows import Rows
from mistral_edu.engine_ways import ChosenProduct
from mistral_edu.model import DecoderLayer
from mistral_edu.norm import RMSNorm

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def products_of(layer: DecoderLayer) -> tuple[list[nn.Module], ...]:
    """A layer's matrices in the order they are used, those of the same input together."""
    attention, mlp = layer.self_attn, layer.mlp
    return (
        [attention.q_proj, attention.k_proj, attention.v_proj],
        [attention.o_proj],
        [mlp.gate_proj, mlp.up_proj],
        [mlp.down_proj],
    )


def require_fusable(layer: DecoderLayer) -> None:
    """Refuse pruned heads, which leave groups of different sizes, and see `require_alike`."""
    attention = layer.self_attn
    if attention.is_pruned:
        raise ValueError(
            f"layer {attention.layer} has only the heads {attention.heads} left after pruning, "
            "and the engine needs groups of one size: use the plain model.generate"
        )
    for linears in products_of(layer):
        require_alike(linears)


@dataclass(frozen=True)
class FusedLayer:
    """A layer's weights, fused, and what is done with them.

    Args:
        into_attention: [W_q; W_k; W_v].
        out_of_attention: W_o.
        gate_and_up: [W_gate; W_up].
        down: W_down.
        attention_norm, feed_forward_norm: the model's own.
        rows: what is done between the products.
        heads: H, Hkv, and D.
    """

    into_attention: ChosenProduct
    out_of_attention: ChosenProduct
    gate_and_up: ChosenProduct
    down: ChosenProduct
    attention_norm: RMSNorm
    feed_forward_norm: RMSNorm
    rows: Rows
    heads: tuple[int, int, int]

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """Norms, and matrices each with its steps or None, in the order of their use."""
        attention = (*self.into_attention.parts, *self.out_of_attention.parts)
        feed_forward = (*self.gate_and_up.parts, *self.down.parts)
        first, second = self.attention_norm.weight, self.feed_forward_norm.weight
        return first, *attention, second, *feed_forward

    @property
    def types(self) -> set[torch.dtype]:
        """Of the numbers of its matrices."""
        matrices = (self.into_attention, self.out_of_attention, self.gate_and_up, self.down)
        return {matrix.parts[0].dtype for matrix in matrices}

    @property
    def ways(self) -> dict[str, str]:
        """How each product is multiplied."""
        return {
            "attention in": self.into_attention.way,
            "attention out": self.out_of_attention.way,
            "gate and up": self.gate_and_up.way,
            "down": self.down.way,
        }

    @classmethod
    def of(cls, layer: DecoderLayer, batch: int, multiply: str, rows: Rows) -> "FusedLayer":
        """Fuse the weights of a layer; for the rest see `ChosenProduct`."""
        attention = layer.self_attn
        qkv, out, gate_and_up, down = (
            fuse(linears, batch, multiply) for linears in products_of(layer)
        )
        return cls(
            qkv,
            out,
            gate_and_up,
            down,
            layer.input_layernorm,
            layer.post_attention_layernorm,
            rows,
            (len(attention.heads), attention.shared[-1] + 1, attention.head_dim),
        )

    def __call__(
        self, x: Float[Tensor, "B T C"], turn: tuple[Tensor, Tensor], attend: Attend
    ) -> Float[Tensor, "B T C"]:
        """Pass `x` through the layer.

        Args:
            x: (B, T, hidden).
            turn: cosine and sine of the tokens' positions (`rope.rotation`).
            attend: given q (B, H, T, D), k and v (B, Hkv, T, D), stores k and v and returns what
                the queries take from all they see, (B, H, T, D).
        """
        queries, shared, head_dim = self.heads
        rows, turned = self.rows, queries + shared  # q and k in one go
        every = self.into_attention(rows.norm(x, self.attention_norm)).unflatten(-1, (-1, head_dim))
        q, k, v = rows.turn(every, turn, turned).split([queries, shared, shared], dim=1)
        out = attend(q, k, v)
        x = x + self.out_of_attention(out.transpose(1, 2).flatten(2))  # → (B, T, H·D)
        return x + self.down(rows.gate(self.gate_and_up(rows.norm(x, self.feed_forward_norm))))
