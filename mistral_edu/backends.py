"""Attention backends: several ways to compute one function.

    softmax(q kᵀ / √D, over visible keys) v

Every backend is a function `(q, k, v, q_positions, k_positions, window) -> out` and equals
`eager_attention` to rounding. The visibility rule decides what is visible; a query that sees
nothing yields zeros, never NaN.

Source: Vaswani et al. (arXiv 1706.03762), section 3.2.1; grouped heads: arXiv 2305.13245.
Lessons: 05_grouped_query_attention, 13_flash_attention.

Conventions
    q is (B, H, T, D); k and v are (B, Hkv, S, D) and are not repeated in memory. Key/value head g
    serves query heads g·G … g·G + G − 1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mistral_edu import flash_attention as flash
from mistral_edu.backend_errors import BackendUnavailable
from mistral_edu.flex_attention import flex_attention
from mistral_edu.sdpa_attention import sdpa_attention
from mistral_edu.sliding_window import visible

AttentionFunction = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int | None], Tensor]


def attention_scores(
    q: Float[Tensor, "B H T D"], k: Float[Tensor, "B Hkv S D"]
) -> Float[Tensor, "B H T S"]:
    """q · k / √D for every query and key, in float32; each key head scores its group of queries.

    >>> attention_scores(torch.ones(1, 2, 1, 4), torch.ones(1, 1, 1, 4)).flatten()
    tensor([2., 2.])
    """
    grouped = q.unflatten(1, (k.shape[1], -1))  # (B, H, T, D) → (B, Hkv, G, T, D)
    scores = torch.einsum("bgrtd,bgsd->bgrts", grouped.float(), k.float())
    return scores.flatten(1, 2) / math.sqrt(q.shape[-1])  # → (B, H, T, S)


def masked_softmax(
    scores: Float[Tensor, "B H T S"], seen: Bool[Tensor, "B heads T S"]
) -> Float[Tensor, "B H T S"]:
    """Softmax over the keys that are seen; rows that see nothing are zero.

    >>> masked_softmax(torch.zeros(1, 1, 1, 3), torch.tensor([[[[True, False, True]]]])).flatten()
    tensor([0.5000, 0.0000, 0.5000])
    """
    # A finite fill, not −inf: a row with no visible key would be softmax over −inf, which is NaN.
    scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1).masked_fill(~seen, 0.0)


def attention_weights(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    q_positions: Int[Tensor, "B T"],
    k_positions: Int[Tensor, "B S"],
    window: int | None,
) -> Float[Tensor, "B H T S"]:
    """The softmax weights: how much each query takes from each key.

    Rows sum to 1, except rows that see nothing, which are all zero. Computed in float32.

    >>> x, at = torch.zeros(1, 1, 2, 4), torch.tensor([[0, 1]])
    >>> attention_weights(x, x, at, at, window=None)[0, 0]
    tensor([[1.0000, 0.0000],
            [0.5000, 0.5000]])
    """
    scores = attention_scores(q, k)
    seen = visible(q_positions, k_positions, window)[:, None]  # (B, T, S) → (B, 1, T, S)
    return masked_softmax(scores, seen)


def weighted_sum(
    weights: Float[Tensor, "B H T S"], v: Float[Tensor, "B Hkv S D"]
) -> Float[Tensor, "B H T D"]:
    """Mix the values by the attention weights, each key/value head for its group of queries.

    >>> weighted_sum(torch.full((1, 2, 1, 2), 0.5), torch.tensor([[[[1.0], [3.0]]]])).flatten()
    tensor([2., 2.])
    """
    grouped = weights.unflatten(1, (v.shape[1], -1))  # (B, H, T, S) → (B, Hkv, G, T, S)
    out = torch.einsum("bgrts,bgsd->bgrtd", grouped, v.float())
    return out.flatten(1, 2).to(v.dtype)


def eager_attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S D"],
    q_positions: Int[Tensor, "B T"],
    k_positions: Int[Tensor, "B S"],
    window: int | None,
) -> Float[Tensor, "B H T D"]:
    """The oracle: the formula, written out. Memory grows with T · S.

    >>> x, at = torch.ones(1, 1, 2, 4), torch.tensor([[-1, 0]])  # the first token is padding
    >>> eager_attention(x, x, x, at, at, window=4)[0, 0]
    tensor([[0., 0., 0., 0.],
            [1., 1., 1., 1.]])
    """
    return weighted_sum(attention_weights(q, k, q_positions, k_positions, window), v)


def _runs_everywhere() -> str | None:
    return None


def _fits_everything(device: torch.device, dtype: torch.dtype, head_dim: int = 0) -> str | None:
    return None


@dataclass(frozen=True)
class Backend:
    """One entry of the registry.

    Args:
        attend: the function.
        why_unavailable: the reason it cannot run here, if any.
        why_unfit: the reason a model on some device, of some type and head size, cannot use it,
            if any.
    """

    attend: AttentionFunction
    why_unavailable: Callable[[], str | None]
    why_unfit: Callable[[torch.device, torch.dtype, int], str | None] = _fits_everything


REGISTRY: dict[str, Backend] = {
    "eager": Backend(eager_attention, _runs_everywhere),
    "sdpa": Backend(sdpa_attention, _runs_everywhere),
    "flex": Backend(flex_attention, _runs_everywhere),
    "flash": Backend(flash.flash_attention, flash.why_unavailable, flash.why_unfit),
}
PREFERENCE = ("flash", "sdpa", "eager")  # what "auto" tries, best first


def available() -> dict[str, str | None]:
    """Every registered backend, with None if it can run here or the reason it cannot.

    >>> available()["eager"] is None
    True
    """
    return {name: backend.why_unavailable() for name, backend in REGISTRY.items()}


def resolve(
    name: str,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    head_dim: int = 0,
) -> str:
    """The backend that `attention=name` means here: itself, or the best one for "auto".

    Args:
        name: a backend's name, or "auto".
        device, dtype: of the model, for "auto"; PyTorch's defaults if None.
        head_dim: D, for "auto", which passes over what cannot take it.

    Raises:
        ValueError: for a name that is not in the registry.
        BackendUnavailable: for one that cannot run here.

    >>> resolve("eager"), resolve("auto", "cpu", torch.float32)
    ('eager', 'sdpa')
    """
    if name == "auto":
        return _best(
            torch.get_default_device() if device is None else torch.device(device),
            torch.get_default_dtype() if dtype is None else dtype,
            head_dim,
        )
    if name not in REGISTRY:
        choices = ", ".join(["auto", *REGISTRY])
        raise ValueError(f"attention={name!r} is not a backend: choose one of {choices}")
    if (reason := REGISTRY[name].why_unavailable()) is not None:
        raise BackendUnavailable(f"attention={name!r} cannot run here: {reason}")
    return name


def _best(device: torch.device, dtype: torch.dtype, head_dim: int) -> str:
    for name in PREFERENCE:
        backend = REGISTRY.get(name)
        if backend is None or backend.why_unfit(device, dtype, head_dim):
            continue
        if backend.why_unavailable() is None:  # asked last: it may import a package
            return name
    raise BackendUnavailable(f"none of {', '.join(PREFERENCE)} can run on {device} in {dtype}")


def get(name: str) -> AttentionFunction:
    """The attention function called `name` (see `resolve`).

    >>> get("eager") is eager_attention
    True
    """
    return REGISTRY[resolve(name)].attend
