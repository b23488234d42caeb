"""Attention that keeps the first tokens beside the window ("attention sinks").

    query i sees key j   ⇔   0 ≤ i − j < W − 4   or   j < 4 and j ≤ i

Source: Xiao and others, "Efficient Streaming Language Models with Attention Sinks"
(arXiv 2309.17453), section 3.
Lesson: 15_long_context.

Conventions
    W keys at most, as many as the window alone. Positions stay absolute; the paper counts them
    within the cache.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from jaxtyping import Bool, Float, Int
from torch import Tensor

from mistral_edu import backends
from mistral_edu.sdpa_attention import masked_attention
from mistral_edu.sliding_window import visible

NAME = "sinks"
FIRST = 4


def sinks_visible(
    q_positions: Int[Tensor, "B T"], k_positions: Int[Tensor, "B S"], window: int | None
) -> Bool[Tensor, "B T S"]:
    """The mask: the first 4 tokens and the last W − 4; None for causal attention.

    >>> import torch
    >>> at = torch.arange(7)[None]
    >>> sinks_visible(at, at, window=6)[0, 6].tolist()
    [True, True, True, True, False, True, True]
    """
    near = visible(q_positions, k_positions, None if window is None else window - FIRST)
    return near | visible(q_positions, k_positions, None) & (k_positions < FIRST)[:, None]


def sink_attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S D"],
    q_positions: Int[Tensor, "B T"],
    k_positions: Int[Tensor, "B S"],
    window: int | None,
) -> Float[Tensor, "B H T D"]:
    """A backend (see `backends`) that sees by `sinks_visible`.

    >>> import torch
    >>> x, at = torch.tensor([1.0, 0, 0, 0, 0, 0, 7]).view(1, 1, 7, 1), torch.arange(7)[None]
    >>> sink_attention(0 * x, 0 * x, x, at, at, window=5)[0, 0, :, 0]
    tensor([1.0000, 0.5000, 0.3333, 0.2500, 0.2000, 0.2000, 1.6000])
    """
    seen = sinks_visible(q_positions, k_positions, window)[:, None]  # (B, T, S) → (B, 1, T, S)
    return masked_attention(q, k, v, seen)


@contextmanager
def registered() -> Iterator[str]:
    """Have this backend in the registry inside the block; gives its name.

    >>> with registered() as name:
    ...     name in backends.available()
    True
    >>> name in backends.available()
    False
    """
    backends.REGISTRY[NAME] = backends.Backend(sink_attention, lambda: None)
    try:
        yield NAME
    finally:
        del backends.REGISTRY[NAME]
