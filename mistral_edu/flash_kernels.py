"""Where FlashAttention's kernels come from: the `flash-attn` package, or PyTorch's own copy.

    window_size = (W − 1, 0): the left bound does not count the query itself

Both compute the same function. The package is asked first; PyTorch carries an older copy of the
same kernels in every CUDA build, and is asked through its operator, because its public `varlen`
wrapper takes grouped heads only from torch 2.13 on.

Source: Dao, "FlashAttention-2" (arXiv 2307.08691); github.com/Dao-AILab/flash-attention, 2.8.3.
Lesson: 13_flash_attention.

Conventions
    Kernels take (…, heads, D) with D a multiple of 8, tensors in half precision.
    A ring is attended to without a window: only then do the kernels pack the query heads of one
    key/value head into rows (flash_api.cpp, `seqlenq_ngroups_swapped`), and all is visible anyway.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from jaxtyping import Float
from packaging.version import Version
from torch import Tensor

from mistral_edu.sliding_window import flash_window
from mistral_edu.spans import Fill, Runs

WINDOW_SINCE = Version("2.3.0")  # the first flash-attn whose kernels know a window
OLDEST_GPU = (8, 0)  # Ampere
OPERATOR_NEEDS = {"window_size_left", "window_size_right", "seqused_k"}
NO_DROPOUT, NO_DEBUG_MASK = 0.0, False  # positions in the operator's list that are never used


@dataclass(frozen=True)
class Kernels:
    """The two things asked of FlashAttention, and who answers."""

    name: str
    over_runs: Callable[[Tensor, Tensor, Tensor, Runs, float], Tensor]
    over_ring: Callable[[Tensor, Tensor, Tensor, Fill, float], Tensor]


def package_kernels(package: Any) -> Kernels:
    """The kernels of the `flash-attn` package, given as the imported module."""
    return Kernels(
        f"flash-attn {package.__version__}",
        partial(_package_over_runs, package),
        partial(_package_over_ring, package),
    )


def _package_over_runs(
    package: Any,
    q: Float[Tensor, "N H D"],
    k: Float[Tensor, "M Hkv D"],
    v: Float[Tensor, "M Hkv D"],
    runs: Runs,
    scale: float,
) -> Float[Tensor, "N H D"]:
    return package.flash_attn_varlen_func(
        q,
        k,
        v,
        cu_seqlens_q=runs.query_bounds,
        cu_seqlens_k=runs.key_bounds,
        max_seqlen_q=runs.most_queries,
        max_seqlen_k=runs.most_keys,
        softmax_scale=scale,
        causal=True,
        window_size=flash_window(runs.window),
    )


def _package_over_ring(
    package: Any,
    q: Float[Tensor, "B one H D"],
    k: Float[Tensor, "B S Hkv D"],
    v: Float[Tensor, "B S Hkv D"],
    fill: Fill,
    scale: float,
) -> Float[Tensor, "B one H D"]:
    return package.flash_attn_with_kvcache(q, k, v, cache_seqlens=fill.lengths, softmax_scale=scale)


def bundled_kernels(operator: Callable[..., Any]) -> Kernels:
    """The kernels inside PyTorch, given as its operator `aten._flash_attention_forward`."""
    return Kernels(
        f"PyTorch {torch.__version__}",
        partial(_bundled_over_runs, operator),
        partial(_bundled_over_ring, operator),
    )


def _bundled_over_runs(
    operator: Callable[..., Any],
    q: Float[Tensor, "N H D"],
    k: Float[Tensor, "M Hkv D"],
    v: Float[Tensor, "M Hkv D"],
    runs: Runs,
    scale: float,
) -> Float[Tensor, "N H D"]:
    left, right = flash_window(runs.window)
    bounds = (runs.query_bounds, runs.key_bounds, runs.most_queries, runs.most_keys)
    sides = {"window_size_left": left, "window_size_right": right}
    return operator(q, k, v, *bounds, NO_DROPOUT, True, NO_DEBUG_MASK, scale=scale, **sides)[0]


def _bundled_over_ring(
    operator: Callable[..., Any],
    q: Float[Tensor, "B one H D"],
    k: Float[Tensor, "B S Hkv D"],
    v: Float[Tensor, "B S Hkv D"],
    fill: Fill,
    scale: float,
) -> Float[Tensor, "B one H D"]:
    not_causal = (NO_DROPOUT, False, NO_DEBUG_MASK)
    if fill.is_even:  # the form without bounds reads the ring where it lies
        k, v = k[:, : fill.most], v[:, : fill.most]
        return operator(q, k, v, None, None, 1, fill.most, *not_causal, scale=scale)[0]
    slots = k.shape[1]
    rows = torch.arange(len(q) + 1, dtype=torch.int32, device=q.device)
    bounds = (rows, rows * slots, 1, slots)
    flat = [x.flatten(0, 1) for x in (q, k, v)]  # (B, S, Hkv, D) → (B·S, Hkv, D): a copy
    out = operator(*flat, *bounds, *not_causal, scale=scale, seqused_k=fill.lengths)[0]
    return out[:, None]


@cache
def find_kernels() -> tuple[Kernels | None, str]:
    """The kernels this machine can run, or None, with the reason and what to do about it."""
    if not torch.cuda.is_available():
        return None, "it needs a CUDA GPU and there is none here; choose attention='sdpa'"
    capability = torch.cuda.get_device_capability()
    if capability < OLDEST_GPU:
        found, wanted = (".".join(map(str, pair)) for pair in (capability, OLDEST_GPU))
        return None, (
            f"it needs a GPU of compute capability {wanted} or later, this one has {found}; "
            "choose attention='sdpa'"
        )
    package, missing = _import_package()
    if package is not None:
        return package_kernels(package), ""
    operator = _find_operator()
    if operator is not None:
        return bundled_kernels(operator), ""
    return None, (
        f"{missing}, and this PyTorch ({torch.__version__}) was built without FlashAttention; "
        'run pip install "mistral-edu[gpu]"'
    )


def _import_package() -> tuple[Any, str]:
    try:
        package = importlib.import_module("flash_attn")
    except (ImportError, OSError) as error:  # OSError: built for another torch
        return None, f"the package flash-attn does not import ({error})"
    version = Version(package.__version__)
    if version < WINDOW_SINCE:
        return None, f"flash-attn {version} knows no window, {WINDOW_SINCE} or later does"
    return package, ""


def _find_operator() -> Callable[..., Any] | None:
    operator = torch.ops.aten._flash_attention_forward.default
    known = {argument.name for argument in operator._schema.arguments}
    built = torch.backends.cuda.is_flash_attention_available()
    return operator if built and known >= OPERATOR_NEEDS else None
