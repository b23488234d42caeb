"""What lies between two products of a layer: norm, rotation and gate.

    norm    x → x / sqrt(mean(x²) + eps) · weight
    turn    the heads of a chunk → queries and keys, rotated, and values
    gate    [g; u] → silu(g) ⊙ u

In PyTorch each is three to ten operations, and every one of them reads and writes the whole chunk.
With fast products they take as long as the products do. `engine_rows.h` reads a row once, computes
in float32 and writes it once.

Source: "Mistral 7B" (arXiv 2310.06825), section 2.
Lesson: 14_the_full_7b.

Conventions
    Compiled rows round once, as they are written; PyTorch's round after every operation. In
    float32 that is no difference but in the last bit.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mistral_edu.engine_kernel import STEP_TYPES, library, name_of, why_uncompiled
from mistral_edu.norm import RMSNorm
from mistral_edu.rope import rotate_halves

Turn = tuple[Float[Tensor, "B 1 T half"], Float[Tensor, "B 1 T half"]]


class PlainRows:
    """In PyTorch, as the modules `norm`, `rope` and `feed_forward` do it.

    Args:
        activation: as in `FeedForward`.

    >>> PlainRows(torch.relu).gate(torch.tensor([[[2.0, 1.0, 3.0, 3.0]]]))
    tensor([[[6., 3.]]])
    """

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        self.activation = activation

    def norm(self, x: Float[Tensor, "B T C"], norm: RMSNorm) -> Float[Tensor, "B T C"]:
        """The model's own norm."""
        y: Tensor = norm(x)
        return y

    def turn(
        self, every: Float[Tensor, "B T heads D"], turn: Turn, turned: int
    ) -> Float[Tensor, "B heads T D"]:
        """Bring the heads to the front, and rotate the first `turned` of them."""
        heads = every.transpose(1, 2)
        return torch.cat([rotate_halves(heads[:, :turned], *turn), heads[:, turned:]], dim=1)

    def gate(self, both: Float[Tensor, "B T both"]) -> Float[Tensor, "B T I"]:
        """The activation of the first half times the second half."""
        gate, up = both.chunk(2, dim=-1)
        return self.activation(gate) * up


def why_no_rows(like: Tensor, activation: str | Callable[..., Any]) -> str | None:
    """Why rows of this type and device cannot be compiled, or None.

    >>> why_no_rows(torch.zeros(1), "gelu")
    'there are no compiled rows of float32 with gelu'
    """
    if like.dtype not in STEP_TYPES or activation != "silu":
        return f"there are no compiled rows of {name_of(like.dtype)} with {activation}"
    return why_uncompiled(like)


class CompiledRows:
    """The same by compiled loops, for one type of number on a CPU; see `why_no_rows`.

    Args:
        dtype: of everything that comes and goes, float32 or bfloat16.

    >>> if why_no_rows(torch.zeros(1), "silu") is None:
    ...     both = torch.tensor([[[0.0, 0.0, 3.0, 3.0]]])
    ...     assert CompiledRows(torch.float32).gate(both).tolist() == [[[0.0, 0.0]]]
    """

    def __init__(self, dtype: torch.dtype) -> None:
        names = (f"{step}_{name_of(dtype)}" for step in ("norm", "turn", "gate"))
        self._norm, self._turn, self._gate = (getattr(library(), name) for name in names)

    def norm(self, x: Float[Tensor, "B T C"], norm: RMSNorm) -> Float[Tensor, "B T C"]:
        x, weight = x.contiguous(), norm.weight.contiguous()
        y, width = torch.empty_like(x), x.shape[-1]
        rows = x.numel() // width
        self._norm(x.data_ptr(), weight.data_ptr(), y.data_ptr(), rows, width, norm.eps)
        return y

    def turn(
        self, every: Float[Tensor, "B T heads D"], turn: Turn, turned: int
    ) -> Float[Tensor, "B heads T D"]:
        every, (batch, rows, heads, head_dim) = every.contiguous(), every.shape
        cosine, sine = (each.float().contiguous() for each in turn)
        y = every.new_empty(batch, heads, rows, head_dim)
        addresses = (each.data_ptr() for each in (every, cosine, sine, y))
        self._turn(*addresses, batch, rows, heads, turned, head_dim)
        return y

    def gate(self, both: Float[Tensor, "B T both"]) -> Float[Tensor, "B T I"]:
        both, inner = both.contiguous(), both.shape[-1] // 2
        y = both.new_empty(*both.shape[:-1], inner)
        self._gate(both.data_ptr(), y.data_ptr(), both.numel() // (2 * inner), inner)
        return y


Rows = PlainRows | CompiledRows
