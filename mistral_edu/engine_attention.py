"""One query over a ring: nothing to look up, nothing to mask, nothing to repeat.

    the G heads of a group are G rows:  softmax(Q_g K_gᵀ / √D) V_g,   Q_g (G, D), K_g and V_g (S, D)

A query that has just been stored in the ring sees all of it, in whatever order it lies. Only while
the ring fills up is a part of it empty, and that part is the end.

Source: Ainslie et al., "GQA" (arXiv 2305.13245), section 2.2; Dao (arXiv 2307.08691).
Lesson: 14_the_full_7b.

Conventions
    `fill` counts each row's slots in use, on the device. Where shapes must not change, it alone
    says what is seen; a CPU, whose shapes may change, is also told by how much rows differ, and
    reads no further than it must.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from mistral_edu.flash_attention import over_ring
from mistral_edu.flash_kernels import Kernels
from mistral_edu.spans import Fill

OverRing = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def over_filled(
    q: Float[Tensor, "B H one D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S D"],
    fill: Int[Tensor, "B"],
    least: int = 0,
    most: int | None = None,
) -> Float[Tensor, "B H one D"]:
    """Attend to the first `fill` slots of each row.

    Args:
        q, k, v: one query for each row; the ring.
        fill: slots in use, 1 or more.
        least, most: of `fill`, if known: from `most` on nothing is read, and no mask is needed
            if all are equal.

    >>> ring = torch.tensor([1.0, 3.0, 9.0]).view(1, 1, 3, 1)
    >>> over_filled(torch.zeros(1, 2, 1, 1), ring, ring, torch.tensor([2])).flatten()
    tensor([2., 2.])
    """
    rows = q.reshape(q.shape[0], k.shape[1], -1, q.shape[3])  # (B, H, 1, D) → (B, Hkv, G, D)
    most = k.shape[2] if most is None else most
    seen = None
    if least != most:
        slots = torch.arange(most, device=q.device)
        seen = (slots < fill[:, None])[:, None, None]  # (B, S) → (B, 1, 1, S)
    out = functional.scaled_dot_product_attention(rows, k[:, :, :most], v[:, :, :most], seen)
    return out.reshape(q.shape)


def over_filled_by_flash(kernels: Kernels) -> OverRing:
    """The same by FlashAttention's decoding kernel, which reads `fill` where it lies."""

    def attend(
        q: Float[Tensor, "B H one D"],
        k: Float[Tensor, "B Hkv S D"],
        v: Float[Tensor, "B Hkv S D"],
        fill: Int[Tensor, "B"],
    ) -> Float[Tensor, "B H one D"]:
        # Not even, whatever the truth: how even they are may change, a captured graph may not.
        how = Fill(fill.int(), most=k.shape[2], is_even=False, has_blind=False)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, heads, …, D) → (B, …, heads, D)
        return over_ring(kernels, q, k, v, how, 1 / math.sqrt(q.shape[3])).transpose(1, 2)

    return attend
