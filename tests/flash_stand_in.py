"""FlashAttention's functions without a GPU: their signatures, their demands, their semantics.

Written from the documentation of flash-attn 2.8.3 and of PyTorch's operator. What the kernels
would refuse is refused here. `calls` notes which function was called, with what.
"""

import inspect
import math
from types import SimpleNamespace

import torch

__version__ = "2.8.3.post2"

calls: list[tuple[str, dict]] = []


def note(name: str, arguments: dict) -> None:
    """Remember a call: its name and all its arguments."""
    calls.append((name, dict(arguments)))


def attend_one(q, k, v, scale, left, right):
    """One sequence, (n, H, D) over (m, Hkv, D): inclusive bounds, aligned at the bottom right."""
    queries, keys, group = len(q), len(k), q.shape[1] // k.shape[1]
    k, v = (x.float().repeat_interleave(group, dim=1) for x in (k, v))
    here = torch.arange(queries)[:, None] + keys - queries
    at = torch.arange(keys)
    seen = torch.ones(queries, keys, dtype=torch.bool)
    if left >= 0:
        seen &= at >= here - left
    if right >= 0:
        seen &= at <= here + right
    scores = torch.einsum("nhd,mhd->hnm", q.float(), k) * scale
    weights = scores.masked_fill(~seen, -1e30).softmax(-1).masked_fill(~seen, 0.0)
    return torch.einsum("hnm,mhd->nhd", weights, v).to(q.dtype)


def demand(q, k, v, *indices):
    """What every kernel insists on."""
    assert q.dtype in (torch.float16, torch.bfloat16), "FlashAttention only support fp16 and bf16"
    assert q.dtype == k.dtype == v.dtype
    assert all(x.stride(-1) == 1 for x in (q, k, v)), "must have contiguous last dimension"
    assert q.shape[-1] == k.shape[-1] == v.shape[-1] <= 256
    assert k.shape == v.shape
    assert q.shape[-2] % k.shape[-2] == 0, "query heads must be a multiple of key/value heads"
    for index in indices:
        assert index.dtype == torch.int32 and index.is_contiguous()


def bounds(causal, window_size):
    """Causal closes the right side, whatever the window says."""
    left, right = window_size
    return left, 0 if causal else right


def sequences(q, k, v, query_bounds, key_bounds, most_q, most_k, scale, left, right, used=None):
    """Every sequence by itself."""
    assert query_bounds[0] == key_bounds[0] == 0
    assert query_bounds[-1] == len(q) and key_bounds[-1] == len(k)
    assert query_bounds.diff().max() <= most_q and key_bounds.diff().max() <= most_k
    pieces = []
    for n in range(len(query_bounds) - 1):
        mine = slice(int(query_bounds[n]), int(query_bounds[n + 1]))
        begin, end = int(key_bounds[n]), int(key_bounds[n + 1])
        end = end if used is None else begin + int(used[n])
        pieces.append(attend_one(q[mine], k[begin:end], v[begin:end], scale, left, right))
    return torch.cat(pieces)


def flash_attn_varlen_func(
    q,
    k,
    v,
    cu_seqlens_q,
    cu_seqlens_k,
    max_seqlen_q,
    max_seqlen_k,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    alibi_slopes=None,
    deterministic=False,
    return_attn_probs=False,
    block_table=None,
):
    """Sequences laid end to end: q (total, H, D), k and v (total, Hkv, D)."""
    note("flash_attn_varlen_func", locals())
    demand(q, k, v, cu_seqlens_q, cu_seqlens_k)
    assert dropout_p == softcap == 0.0 and alibi_slopes is None and block_table is None
    scale = q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale
    at = (cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
    return sequences(q, k, v, *at, scale, *bounds(causal, window_size))


def flash_attn_with_kvcache(
    q,
    k_cache,
    v_cache,
    k=None,
    v=None,
    rotary_cos=None,
    rotary_sin=None,
    cache_seqlens=None,
    cache_batch_idx=None,
    cache_leftpad=None,
    block_table=None,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    rotary_interleaved=True,
    alibi_slopes=None,
    num_splits=0,
    return_softmax_lse=False,
):
    """Queries (B, T, H, D) over a cache (B, S, Hkv, D) of which `cache_seqlens` are filled."""
    note("flash_attn_with_kvcache", locals())
    demand(q, k_cache, v_cache, cache_seqlens)
    assert not q.requires_grad, "the decoding kernel has no backward pass"
    unused = (k, v, rotary_cos, rotary_sin, cache_batch_idx, cache_leftpad, block_table)
    assert all(x is None for x in (*unused, alibi_slopes)) and softcap == 0.0
    scale = q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale
    sides = bounds(causal, window_size)
    rows = zip(q, k_cache, v_cache, cache_seqlens.tolist(), strict=True)
    return torch.stack([attend_one(a, b[:n], c[:n], scale, *sides) for a, b, c, n in rows])


def _flash_attention_forward(
    query,
    key,
    value,
    cum_seq_q,
    cum_seq_k,
    max_q,
    max_k,
    dropout_p,
    is_causal,
    return_debug_mask,
    *,
    scale=None,
    window_size_left=None,
    window_size_right=None,
    seqused_k=None,
    alibi_slopes=None,
):
    """PyTorch's operator, as in 2.11: with bounds as `varlen`, without them (B, T, H, D)."""
    note("_flash_attention_forward", locals())
    indices = [x for x in (cum_seq_q, cum_seq_k, seqused_k) if x is not None]
    demand(query, key, value, *indices)
    assert query.shape[-1] % 8 == 0, "head_size should be a multiple of 8"
    assert dropout_p == 0.0 and not return_debug_mask and alibi_slopes is None
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    window = [-1 if x is None else x for x in (window_size_left, window_size_right)]
    sides = bounds(is_causal, window)
    if cum_seq_q is None:
        assert cum_seq_k is None and seqused_k is None, "only sequences with bounds can be shorter"
        rows = zip(query, key, value, strict=True)
        out = torch.stack([attend_one(*row, scale, *sides) for row in rows])
    else:
        at = (cum_seq_q, cum_seq_k, max_q, max_k)
        out = sequences(query, key, value, *at, scale, *sides, used=seqused_k)
    return out, *[torch.empty(0)] * 4


class Operator:
    """The operator as PyTorch presents it: callable, with a schema."""

    _schema = SimpleNamespace(
        arguments=[
            SimpleNamespace(name=name)
            for name in inspect.signature(_flash_attention_forward).parameters
        ]
    )

    def __call__(self, *arguments, **named):
        return _flash_attention_forward(*arguments, **named)
