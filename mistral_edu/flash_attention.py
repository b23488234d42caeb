"""FlashAttention: the scores are never written out, whatever the length.

    m ← max(m, max s),   l ← l·e^(m_old − m) + Σ e^(s − m),   o ← o·e^(m_old − m) + Σ e^(s − m)·v

The kernels know texts without gaps and a window that moves with the query. `spans` brings any
positions to that form, so padding, ragged rows, chunks and a wrapped ring take the same path.

Source: Dao et al. (arXiv 2205.14135), algorithm 1; Dao (arXiv 2307.08691).
Lesson: 13_flash_attention.

Conventions
    Runs of queries and keys are laid end to end without padding and given to the `varlen` kernel.
    One query over a ring, without gradients, goes to the decoding kernel with the ring's fill and
    no window: every key in the ring is visible, in whatever order.
    Half precision on a GPU only. What a query without keys gets is zeros.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from mistral_edu import flash_kernels
from mistral_edu.backend_errors import BackendUnavailable
from mistral_edu.flash_kernels import Kernels
from mistral_edu.spans import Fill, once_per_chunk, plan_fill, plan_runs

DEVICE = "cuda"
HALF = (torch.float16, torch.bfloat16)
LARGEST_HEAD = 256

runs_of = once_per_chunk(plan_runs)
fill_of = once_per_chunk(plan_fill)


def why_unavailable() -> str | None:
    """Why no tensor at all can be attended to by flash here, or None.

    >>> why_unavailable() is None or "choose" in why_unavailable() or "pip" in why_unavailable()
    True
    """
    return flash_kernels.find_kernels()[1] or None


def why_unfit(device: torch.device, dtype: torch.dtype, head_dim: int = 0) -> str | None:
    """Why a model there, of that type and head size, cannot use flash, and what to do; or None.

    >>> why_unfit(torch.device("cuda"), torch.bfloat16, head_dim=320)
    "it takes a head_dim up to 256, got 320: choose attention='sdpa'"
    """
    if device.type != DEVICE or dtype not in HALF:
        name = str(dtype).removeprefix("torch.")
        return (
            f"it computes in float16 or bfloat16 on {DEVICE}, not in {name} on {device.type}: load "
            "the model with dtype=torch.bfloat16, device='cuda', or choose attention='sdpa'"
        )
    if head_dim > LARGEST_HEAD:
        return f"it takes a head_dim up to {LARGEST_HEAD}, got {head_dim}: choose attention='sdpa'"
    return None


def flash_attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S D"],
    q_positions: Int[Tensor, "B T"],
    k_positions: Int[Tensor, "B S"],
    window: int | None,
) -> Float[Tensor, "B H T D"]:
    """A backend (see `backends`): equal to `eager_attention` within half precision.

    Raises:
        BackendUnavailable: without kernels, in full precision, off the GPU, or for D above 256.
    """
    kernels = _require_kernels(q)
    at = (q_positions, k_positions, window)
    head_dim = q.shape[3]
    padding = -head_dim % 8
    if padding:  # columns of zeros change no product
        q, k, v = (functional.pad(x, (0, padding)) for x in (q, k, v))
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, heads, …, D) → (B, …, heads, D)
    scale = 1 / math.sqrt(head_dim)
    fill = None
    if q.shape[1] == 1 and not torch.is_grad_enabled():  # the decoding kernel has no gradient
        fill = fill_of(*at)
    if fill is None:
        out = _over_runs(kernels, q, k, v, at, scale)
    else:
        out = over_ring(kernels, q, k, v, fill, scale)
    return out[..., :head_dim].transpose(1, 2)


def _require_kernels(q: Float[Tensor, "B H T D"]) -> Kernels:
    kernels, reason = flash_kernels.find_kernels()
    if kernels is None:
        raise BackendUnavailable(f"attention='flash' cannot run here: {reason}")
    if unfit := why_unfit(q.device, q.dtype, q.shape[3]):
        raise BackendUnavailable(f"attention='flash' cannot take these tensors: {unfit}")
    return kernels


def over_ring(
    kernels: Kernels,
    q: Float[Tensor, "B one H D"],
    k: Float[Tensor, "B S Hkv D"],
    v: Float[Tensor, "B S Hkv D"],
    fill: Fill,
    scale: float,
) -> Float[Tensor, "B one H D"]:
    """One query over a ring of which a known part is filled; does not wait for the device."""
    if not fill.most:
        return torch.zeros_like(q)
    out = kernels.over_ring(q, k, v, fill, scale)
    if fill.has_blind:
        out = out.masked_fill((fill.lengths == 0)[:, None, None, None], 0.0)
    return out


def _over_runs(
    kernels: Kernels,
    q: Float[Tensor, "B T H D"],
    k: Float[Tensor, "B S Hkv D"],
    v: Float[Tensor, "B S Hkv D"],
    at: tuple[Tensor, Tensor, int | None],
    scale: float,
) -> Float[Tensor, "B T H D"]:
    runs = runs_of(*at)
    shape = q.shape
    if runs is None:
        return torch.zeros_like(q)
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))  # (B, T, H, D) → (B·T, H, D)
    if runs.keys is not None:
        k, v = k[runs.keys], v[runs.keys]
    if runs.queries is None:
        return kernels.over_runs(q, k, v, runs, scale).unflatten(0, shape[:2])
    out = kernels.over_runs(q[runs.queries], k, v, runs, scale)
    return torch.zeros_like(q).index_copy(0, runs.queries, out).unflatten(0, shape[:2])
