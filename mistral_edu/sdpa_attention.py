"""PyTorch's fused attention, given as little to mask as positions allow.

    one query: its G heads as rows · inside the window: causal · beyond: chunks over their own keys

A mask costs more than it saves: with one the kernel computes every pair and stops early nowhere.
So a chunk of queries is handed only the columns it can see, and a mask only for its ragged edges.

Source: Vaswani et al. (arXiv 1706.03762), section 3.2.1; PyTorch's `scaled_dot_product_attention`.
Lesson: 13_flash_attention.

Conventions
    Which path is exact is decided from positions. On a CPU they are looked at; elsewhere that
    would stop the device at every layer, so a mask is passed without looking.
    Tensors reach the kernel with four axes: with three it falls back to writing the scores out.
    Off the CPU a mask and grouped heads together do the same: there the heads are repeated.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from mistral_edu.sliding_window import visible

CPU_CHUNK, DEVICE_CHUNK = 128, 1024  # queries that share one mask


def sdpa_attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S D"],
    q_positions: Int[Tensor, "B T"],
    k_positions: Int[Tensor, "B S"],
    window: int | None,
) -> Float[Tensor, "B H T D"]:
    """A backend (see `backends`): the same function as `eager_attention`, by fused kernels.

    >>> x, at = torch.ones(1, 1, 2, 4), torch.tensor([[-1, 0]])
    >>> sdpa_attention(x, x, x, at, at, window=4)[0, 0]
    tensor([[0., 0., 0., 0.],
            [1., 1., 1., 1.]])
    """
    if q.shape[2] == 1:
        return _one_query(q, k, v, q_positions, k_positions, window)
    if may_look(q) and is_plainly_causal(q_positions, k_positions, window):
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return _chunks_of_queries(q, k, v, q_positions, k_positions, window)


def may_look(x: Tensor) -> bool:
    """Whether numbers on the device of `x` can be looked at without waiting for it.

    >>> may_look(torch.zeros(1)), may_look(torch.zeros(1, device="meta"))
    (True, False)
    """
    return x.device.type == "cpu"


def is_plainly_causal(
    q_positions: Int[Tensor, "B T"], k_positions: Int[Tensor, "B S"], window: int | None
) -> bool:
    """Whether query t sees exactly the keys 0 … t: one unbroken text, no longer than the window.

    >>> at = torch.tensor([[5, 6, 7]])
    >>> is_plainly_causal(at, at, window=3), is_plainly_causal(at, at, window=2)
    (True, False)
    """
    length = q_positions.shape[1]
    if k_positions.shape[1] != length or (window is not None and length > window):
        return False
    start = q_positions[:, :1]
    unbroken = start + torch.arange(length, device=start.device)
    at_home = (start >= 0).all() and (q_positions == unbroken).all()
    return bool(at_home and (k_positions == unbroken).all())


def _one_query(
    q: Float[Tensor, "B H one D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S D"],
    q_positions: Int[Tensor, "B one"],
    k_positions: Int[Tensor, "B S"],
    window: int | None,
) -> Float[Tensor, "B H one D"]:
    # The G heads that share a key/value head see the same keys: they are G rows of one head.
    rows = q.reshape(q.shape[0], k.shape[1], -1, q.shape[3])  # (B, H, 1, D) → (B, Hkv, G, D)
    seen = visible(q_positions, k_positions, window)[:, None]  # (B, 1, S) → (B, 1, 1, S)
    return masked_attention(rows, k, v, seen).reshape(q.shape)


def _chunks_of_queries(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S D"],
    q_positions: Int[Tensor, "B T"],
    k_positions: Int[Tensor, "B S"],
    window: int | None,
) -> Float[Tensor, "B H T D"]:
    size = CPU_CHUNK if may_look(q) else DEVICE_CHUNK
    pieces = []
    for rows, at in zip(q.split(size, dim=2), q_positions.split(size, dim=1), strict=True):
        own = columns_seen(at, k_positions, window)
        seen = visible(at, k_positions[:, own], window)[:, None]  # → (B, 1, chunk, own)
        pieces.append(masked_attention(rows, k[:, :, own], v[:, :, own], seen))
    return torch.cat(pieces, dim=2)


def columns_seen(
    q_positions: Int[Tensor, "B T"], k_positions: Int[Tensor, "B S"], window: int | None
) -> slice:
    """The columns of keys that hold all that some of the queries see; never empty.

    Off the CPU all of them, for to know better would be to wait for the device.

    >>> columns_seen(torch.tensor([[6, 7]]), torch.arange(9)[None], window=3)
    slice(4, 8, None)
    """
    if not may_look(k_positions):
        return slice(0, k_positions.shape[1])
    far = torch.iinfo(k_positions.dtype).max
    lowest = q_positions.masked_fill(q_positions < 0, far).amin(dim=1, keepdim=True)
    needed = (k_positions >= 0) & (k_positions <= q_positions.amax(dim=1, keepdim=True))
    if window is not None:
        needed &= k_positions > lowest - window
    columns = needed.any(dim=0).nonzero()
    if not len(columns):
        return slice(0, 1)
    return slice(int(columns[0]), int(columns[-1]) + 1)


def masked_attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S D"],
    seen: Bool[Tensor, "B one rows S"],
) -> Float[Tensor, "B H T D"]:
    """Fused attention under a mask; a query that sees nothing yields zeros.

    >>> x, seen = torch.ones(1, 1, 2, 4), torch.tensor([[[[False, False], [True, True]]]])
    >>> masked_attention(x, x, x, seen)[0, 0, :, 0]
    tensor([0., 1.])
    """
    if may_look(q) and seen.all():
        return functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    if not may_look(q) and q.shape[1] != k.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    # Kernels disagree on a row without a visible key (zeros, NaN; pytorch issues 103749, 110213).
    # Let such a row see everything, then discard what it saw.
    blind = ~seen.any(dim=-1, keepdim=True)
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen | blind, enable_gqa=True)
    return out.masked_fill(blind, 0.0)
