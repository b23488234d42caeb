"""Sampling: from scores over the vocabulary to one token.

    p ∝ exp(logits / temperature), after tokens that may not be chosen have been set to −inf

Source: top-k, Fan et al. (arXiv 1805.04833); top-p, Holtzman et al. (arXiv 1904.09751); min-p,
Nguyen et al. (arXiv 2407.01082); repetition penalty, Keskar et al. (arXiv 1909.05858), section 4.1.
Lesson: 12_generation_and_chat.

Conventions
    Every filter is a pure function (B, V) → (B, V) and never removes the most likely token.
    Each row draws from its own random generator, so what else is in the batch changes nothing.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

NEVER = -float("inf")


def keep_top_k(logits: Float[Tensor, "B V"], k: int) -> Float[Tensor, "B V"]:
    """Keep the k highest scores of each row (more if the k-th is tied).

    >>> keep_top_k(torch.tensor([[1.0, 3.0, 2.0]]), k=2)
    tensor([[-inf, 3., 2.]])
    """
    threshold = logits.topk(min(k, logits.shape[-1]), dim=-1).values[:, -1:]
    return logits.masked_fill(logits < threshold, NEVER)


def keep_top_p(logits: Float[Tensor, "B V"], p: float) -> Float[Tensor, "B V"]:
    """Keep the fewest tokens, most likely first, whose probabilities reach p.

    >>> keep_top_p(torch.tensor([[0.5, 0.3, 0.2]]).log(), p=0.6).isfinite()
    tensor([[ True,  True, False]])
    """
    probabilities, order = logits.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    already = probabilities.cumsum(dim=-1) - probabilities  # what the better tokens add up to
    unwanted = already >= p
    unwanted[:, 0] = False
    return logits.masked_fill(unwanted.scatter(-1, order, unwanted), NEVER)


def keep_min_p(logits: Float[Tensor, "B V"], p: float) -> Float[Tensor, "B V"]:
    """Keep tokens at least p times as likely as the most likely one.

    >>> keep_min_p(torch.tensor([[0.6, 0.3, 0.1]]).log(), p=0.4).isfinite()
    tensor([[ True,  True, False]])
    """
    probabilities = logits.softmax(dim=-1)
    return logits.masked_fill(probabilities < p * probabilities.amax(-1, keepdim=True), NEVER)


def penalise_repetition(
    logits: Float[Tensor, "B V"], seen: Float[Tensor, "B V"], penalty: float
) -> Float[Tensor, "B V"]:
    """Lower the scores of tokens already in the row: divide positive ones, multiply negative ones.

    Args:
        logits: scores.
        seen: nonzero for each token that the row holds.
        penalty: 1 changes nothing, more discourages.

    >>> penalise_repetition(torch.tensor([[2.0, -2.0, 2.0]]), torch.tensor([[1.0, 1.0, 0.0]]), 2.0)
    tensor([[ 1., -4.,  2.]])
    """
    lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen > 0, lowered, logits)


def generators(seed: int | Sequence[int] | None, rows: int) -> list[torch.Generator]:
    """One random generator for each row.

    Args:
        seed: row b gets seed + b; a sequence gives each row its own; None draws fresh seeds.
        rows: B.

    >>> [g.initial_seed() for g in generators(7, rows=2)]
    [7, 8]
    """
    if isinstance(seed, Sequence):
        if len(seed) != rows:
            raise ValueError(f"{len(seed)} seeds were given for {rows} rows: give one for each row")
        seeds = list(seed)
    elif seed is None:
        seeds = torch.randint(2**62, (rows,)).tolist()
    else:
        seeds = [seed + row for row in range(rows)]
    return [torch.Generator().manual_seed(one) for one in seeds]


def draw(logits: Float[Tensor, "B V"], random: list[torch.Generator]) -> Int[Tensor, "B"]:
    """Draw one token for each row in proportion to softmax(logits).

    >>> draw(torch.tensor([[NEVER, 0.0], [0.0, NEVER]]), generators(0, rows=2))
    tensor([1, 0])
    """
    probabilities = logits.float().softmax(dim=-1).cpu()
    rows = zip(probabilities, random, strict=True)
    drawn = [torch.multinomial(row, 1, generator=generator) for row, generator in rows]
    return torch.cat(drawn).to(logits.device)
