"""PyTorch's fused attention, given as little to mask as positions allow.

    one query: its G heads as rows · inside the window: causal · beyond: chunks over their own keys

A mask costs more than it saves: with one the kernel computes every pair and stops early nowhere.
So a chunk of queries is handed only the columns it can see, and a mask only for its ragged edges.

Source: Vaswani et al. (arXiv 1706.03762), section 3.2.1; PyTorch's `scaled_dot_product_attention`.
Lesson: 13_flash_attention.

Conventions
    Which path is exact is decided from positions. On a CPU they are looked at, once for all layers
    of a chunk; elsewhere that would stop the device, so a mask is passed without looking.
    Tensors reach the kernel with four axes: with three it falls back to writing the scores out.
    Off the CPU a mask and grouped heads together do the same: there the heads are repeated.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from mistral_edu.sliding_window import visible
from mistral_edu.spans import once_per_chunk

CPU_CHUNK, DEVICE_CHUNK = 128, 1024  # queries that share one mask
KEPT = 2**24  # pairs of a query and a key, a byte each, up to which masks wait for the next layer


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
    pieces = [
        _attend(q[:, :, piece.rows], k[:, :, piece.columns], v[:, :, piece.columns], piece.sight)
        for piece in _pieces(q_positions, k_positions, window)
    ]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=2)


def may_look(x: Tensor) -> bool:
    """Whether numbers on the device of `x` can be looked at without waiting for it.

    >>> may_look(torch.zeros(1)), may_look(torch.zeros(1, device="meta"))
    (True, False)
    """
    return x.device.type == "cpu"


@dataclass(frozen=True)
class Sight:
    """Who sees whom, as it is told to a kernel.

    Args:
        mask: pairs that see each other; None if all do, or if the next argument says it.
        is_causal: query t sees the keys 0 … t.
        blind: queries that see nothing; None if it is known that there are none.
    """

    mask: Bool[Tensor, "B one rows S"] | None = None
    is_causal: bool = False
    blind: Bool[Tensor, "B one rows one"] | None = None


@dataclass(frozen=True)
class Piece:
    """Some queries in a row, the columns of keys that hold all they see, and their sight."""

    rows: slice
    columns: slice
    sight: Sight


def cut(
    q_positions: Int[Tensor, "B T"], k_positions: Int[Tensor, "B S"], window: int | None
) -> Iterator[Piece]:
    """Cut a chunk into pieces, of which each needs one call of a kernel.

    >>> at = torch.arange(200)[None]
    >>> [(piece.rows.stop, piece.columns) for piece in cut(at, at, window=50)]
    [(128, slice(0, 128, None)), (200, slice(79, 200, None))]
    >>> [piece.sight for piece in cut(at, at, window=None)]
    [Sight(mask=None, is_causal=True, blind=None)]
    """
    tokens, looks = q_positions.shape[1], may_look(q_positions)
    if looks and tokens > 1 and is_plainly_causal(q_positions, k_positions, window):
        yield Piece(slice(0, tokens), slice(0, tokens), Sight(is_causal=True))
        return
    size = CPU_CHUNK if looks else DEVICE_CHUNK
    for start in range(0, tokens, size):
        rows = slice(start, min(start + size, tokens))
        at = q_positions[:, rows]
        own = columns_seen(at, k_positions, window)
        seen = visible(at, k_positions[:, own], window)[:, None]  # → (B, 1, rows, own)
        yield Piece(rows, own, _sight(seen))


_kept = once_per_chunk(lambda *at: list(cut(*at)))


def _pieces(
    q_positions: Int[Tensor, "B T"], k_positions: Int[Tensor, "B S"], window: int | None
) -> Iterable[Piece]:
    # Off the CPU masks cost little to make, and memory to keep.
    is_small = q_positions.numel() * k_positions.shape[1] <= KEPT
    make = _kept if is_small and may_look(q_positions) else cut
    return make(q_positions, k_positions, window)


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
    return _attend(q, k, v, _sight(seen))


def _sight(seen: Bool[Tensor, "B one rows S"]) -> Sight:
    looks = may_look(seen)
    if looks and seen.all():
        return Sight()
    blind = ~seen.any(dim=-1, keepdim=True)
    if looks and not blind.any():
        return Sight(seen)
    # Kernels disagree on a row without a visible key (zeros, NaN; pytorch issues 103749, 110213).
    # Let such a row see everything, then discard what it saw.
    return Sight(seen | blind, blind=blind)


def _attend(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S D"],
    sight: Sight,
) -> Float[Tensor, "B H T D"]:
    shape = q.shape
    if shape[2] == 1:  # the G heads that share a key/value head see the same keys: G rows of one
        q = q.reshape(shape[0], k.shape[1], -1, shape[3])  # (B, H, 1, D) → (B, Hkv, G, D)
    if sight.mask is not None and not may_look(q) and q.shape[1] != k.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    out = functional.scaled_dot_product_attention(
        q, k, v, attn_mask=sight.mask, is_causal=sight.is_causal, enable_gqa=True
    ).reshape(shape)
    return out if sight.blind is None else out.masked_fill(sight.blind, 0.0)
