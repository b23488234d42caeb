"""The visibility rule: who sees whom, decided by positions alone.

    query at position i sees key at position j   ⇔   j ≥ 0  and  0 ≤ i − j < W

Source: "Mistral 7B" (arXiv 2310.06825), section 2, with W keys counted so that they include the
query's own. The paper's text also admits W + 1; only W agrees with a cache of W slots.
Lessons: 04_masks_from_positions, 06_sliding_window.

Conventions
    Position −1 marks what is not there: padding, or a cache slot never written. It sees nothing
    and nobody sees it.
    Because the rule looks at positions and not at places in a tensor, left padding, ragged rows,
    chunked prefill and a wrapped ring buffer are all one case.
    Sequences packed into one row keep apart if their positions are at least W apart.
"""

from jaxtyping import Bool, Int
from torch import Tensor


def visible(
    query_positions: Int[Tensor, "B T"], key_positions: Int[Tensor, "B S"], window: int | None
) -> Bool[Tensor, "B T S"]:
    """The mask: True where a query sees a key.

    Args:
        query_positions: absolute position of each query, −1 for padding.
        key_positions: absolute position of each key in any order, −1 for an empty slot.
        window: W, keys visible to a query, itself included; None for causal attention.

    >>> import torch
    >>> queries, ring = torch.tensor([[4]]), torch.tensor([[3, 4, 2]])  # a wrapped ring, W = 3
    >>> visible(queries, ring, window=3)
    tensor([[[True, True, True]]])
    >>> visible(queries, ring, window=2)
    tensor([[[ True,  True, False]]])
    """
    behind = query_positions[:, :, None] - key_positions[:, None, :]  # (B, T), (B, S) → (B, T, S)
    seen = (behind >= 0) & (key_positions >= 0)[:, None, :]
    return seen if window is None else seen & (behind < window)


def visible_pairs(length: int, window: int | None) -> int:
    """How many (query, key) pairs are visible in one sequence: the cost of attention.

    >>> visible_pairs(4, None), visible_pairs(4, 2)
    (10, 7)
    """
    width = length if window is None else min(window, length)
    growing = width * (width + 1) // 2
    return growing + (length - width) * width


def reach(layers: int, window: int) -> int:
    """How many input positions can influence one output after `layers` layers.

    Each layer looks W − 1 tokens further back, so the span is 1 + layers · (W − 1), its own
    position included: 131,041 for Mistral-7B, although 32 · 4096 = 131,072 is often quoted.

    >>> reach(32, 4096)
    131041
    """
    return 1 + layers * (window - 1)


def flash_window(window: int | None) -> tuple[int, int]:
    """The same rule as FlashAttention's `window_size`: inclusive bounds (left, right).

    Its left bound does not count the query itself, so W keys are W − 1 to the left. Its (0, 0)
    means "only itself"; no window is (−1, −1), with `causal=True` closing the right side.

    >>> flash_window(4096), flash_window(None)
    ((4095, 0), (-1, -1))
    """
    return (-1, -1) if window is None else (window - 1, 0)
