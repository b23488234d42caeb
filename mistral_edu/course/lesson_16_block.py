"""The block that lesson 16's last exercise shares out, and what a rank computes of it.

    attention     =  Σ over ranks  o[:, own] · heads(q[own], k[own], v[own])
    feed-forward  =  Σ over ranks  down[:, own] · (SiLU(gate[own] · x) × up[own] · x)

A rank gets exactly what a plan gives it. The sums are made by whoever calls, in
`lesson_16_plan.py`.
"""

from functools import cache

import torch
from torch.nn.functional import silu

WIDTH, HEAD, CHANNELS = 16, 2, 12
SHAPES = {
    "q": (16, WIDTH),  # eight query heads of two numbers
    "k": (8, WIDTH),  # four key heads
    "v": (8, WIDTH),
    "o": (WIDTH, 16),
    "gate": (CHANNELS, WIDTH),
    "up": (CHANNELS, WIDTH),
    "down": (WIDTH, CHANNELS),
}
WHOLE = {name: ("rows", range(shape[0])) for name, shape in SHAPES.items()}
CUTS = ("rows", "columns")


@cache
def block():
    """The block's matrices, (out, in), and six tokens "x": the same on every call."""
    random = torch.Generator().manual_seed(16)
    shapes = {**SHAPES, "x": (6, WIDTH)}
    return {
        name: torch.randn(shape, generator=random, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def project(x, name, given, local=False):
    """x times a rank's part of a matrix; of x it takes the columns that its part has inputs for.

    Args:
        x: (T, in), or for `local` the rank's own (T, part of in).
        name: of the matrix.
        given: the rank's plan.
        local: whether x is already the rank's own.

    >>> project(block()["x"], "q", {"q": ("rows", [0, 1])}).shape
    torch.Size([6, 2])
    """
    how, numbers = given[name]
    numbers = torch.as_tensor(list(numbers), dtype=torch.long)
    part = block()[name].index_select(CUTS.index(how), numbers)
    return (x if local or how == "rows" else x[:, numbers]) @ part.T


def attention(given):
    """A rank's term of the attention: grouped queries, causal, with the heads that it holds."""
    x = block()["x"]
    q, k, v = (project(x, n, given).view(len(x), -1, HEAD).transpose(0, 1) for n in "qkv")
    group, left = divmod(len(q), max(len(k), 1))  # a rank may be without any heads
    if left or len(k) > len(q) or len(k) < min(len(q), 1):
        raise ValueError(f"{len(q)} query heads do not go with {len(k)} key/value heads")
    k, v = (heads.repeat_interleave(group, dim=0) for heads in (k, v))
    later = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
    scores = (q @ k.mT / HEAD**0.5).masked_fill(later, -torch.inf)
    mixed = (scores.softmax(dim=-1) @ v).transpose(0, 1).reshape(len(x), -1)
    return project(mixed, "o", given, local=True)


def feed_forward(given):
    """A rank's term of the feed-forward, with the channels that it holds."""
    x = block()["x"]
    inner = silu(project(x, "gate", given)) * project(x, "up", given)
    return project(inner, "down", given, local=True)
