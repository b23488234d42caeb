"""Sampling: from scores over the vocabulary to one token.

    p ∝ exp(logits / temperature), after tokens that may not be chosen have been set to −inf

Source: top-k, Fan et al. (arXiv 1805.04833); top-p, Holtzman et al. (arXiv 1904.09751); min-p,
Nguyen et al. (arXiv 2407.01082); repetition penalty, Keskar et al. (arXiv 1909.05858), section 4.1.
Lesson: 12_generation_and_chat.

Conventions
    Every filter is a pure function (B, V) → (B, V) and never removes the most likely token.
    Each row draws from its own random generator, so what else is in the batch changes nothing.
    Chosen tokens come back on the CPU: the one time in a step that a GPU is waited for.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

NEVER = -float("inf")


class DamagedScoresError(ValueError):
    """A row's scores hold NaN or +inf, so that no token of it can be chosen."""


def heat(logits: Float[Tensor, "B V"], temperature: float) -> Float[Tensor, "B V"]:
    """Divide by the temperature; the best score becomes 0.

    >>> heat(torch.tensor([[3.0, 1.0]]), temperature=0.5)
    tensor([[ 0., -4.]])
    """
    # Softmax does not see the shift; without it a small temperature would make scores infinite.
    return (logits - logits.amax(dim=-1, keepdim=True)) / temperature


def keep_top_k(logits: Float[Tensor, "B V"], k: int) -> Float[Tensor, "B V"]:
    """Keep the k highest scores of each row (more if the k-th is tied).

    >>> keep_top_k(torch.tensor([[1.0, 3.0, 2.0]]), k=2)
    tensor([[-inf, 3., 2.]])
    """
    threshold = logits.topk(min(k, logits.shape[-1]), dim=-1).values[:, -1:]
    return logits.masked_fill(logits < threshold, NEVER)


def keep_top_p(logits: Float[Tensor, "B V"], p: float) -> Float[Tensor, "B V"]:
    """Keep the fewest tokens, most likely first, whose probabilities reach p; 1 keeps all.

    >>> keep_top_p(torch.tensor([[0.5, 0.3, 0.2]]).log(), p=0.6).isfinite()
    tensor([[ True,  True, False]])
    """
    if p == 1:  # Rounded sums may reach 1 before the last token.
        return logits
    # By score, not probability: rounding can make the best token's equal to the next one's.
    ranked, order = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = ranked.softmax(dim=-1)
    already = probabilities.cumsum(dim=-1) - probabilities  # what the better tokens add up to
    unwanted = already >= p
    return logits.masked_fill(unwanted.scatter(-1, order, unwanted), NEVER)


def keep_min_p(logits: Float[Tensor, "B V"], p: float) -> Float[Tensor, "B V"]:
    """Keep tokens at least p times as likely as the most likely one.

    >>> keep_min_p(torch.tensor([[0.6, 0.3, 0.1]]).log(), p=0.4).isfinite()
    tensor([[ True,  True, False]])
    """
    probabilities = logits.softmax(dim=-1)
    return logits.masked_fill(probabilities < p * probabilities.amax(-1, keepdim=True), NEVER)


def forbid(logits: Float[Tensor, "B V"], ids: Int[Tensor, "N"]) -> Float[Tensor, "B V"]:
    """Let no row choose any of `ids`.

    >>> forbid(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([1]))
    tensor([[1., -inf, 2.]])
    """
    return logits.index_fill(-1, ids, NEVER)


def penalise_repetition(
    logits: Float[Tensor, "B V"], seen: Bool[Tensor, "B V"], penalty: float
) -> Float[Tensor, "B V"]:
    """Lower the scores of tokens already in the row: divide positive ones, multiply negative ones.

    Args:
        logits: scores.
        seen: whether the row holds the token; how often makes no difference.
        penalty: 1 changes nothing, more discourages.

    >>> seen = torch.tensor([[True, True, False]])
    >>> penalise_repetition(torch.tensor([[2.0, -2.0, 2.0]]), seen, penalty=2.0)
    tensor([[ 1., -4.,  2.]])
    """
    lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, lowered, logits)


def log_probability(logits: Float[Tensor, "B V"], tokens: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
    """The natural logarithm of each row's probability of its token.

    >>> log_probability(torch.tensor([[0.0, 0.0]]), torch.tensor([1])).exp()
    tensor([0.5000])
    """
    return logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(dim=-1)


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


def most_likely(logits: Float[Tensor, "B V"]) -> Int[Tensor, "B"]:
    """Each row's highest score (greedy decoding).

    Raises:
        DamagedScoresError: for a row with NaN or +inf, whose maximum means nothing.

    >>> most_likely(torch.tensor([[0.0, 2.0, 1.0]]))
    tensor([1])
    """
    return _undamaged(logits, logits.argmax(dim=-1))


def draw(logits: Float[Tensor, "B V"], random: list[torch.Generator]) -> Int[Tensor, "B"]:
    """Draw one token for each row in proportion to softmax(logits).

    The probabilities, laid end to end, fill a line from 0 to 1; one random number per row is a
    place on it, and the token that covers the place is drawn.

    Raises:
        DamagedScoresError: for a row with NaN or +inf.

    >>> draw(torch.tensor([[NEVER, 0.0], [0.0, NEVER]]), generators(0, rows=2))
    tensor([1, 0])
    """
    return _undamaged(logits, token_at(logits, places(random)))


def places(random: list[torch.Generator]) -> Float[Tensor, "B 1"]:
    """A random number from 0 to 1 for each row, in double precision, on the CPU.

    >>> places(generators(0, rows=2)).shape
    torch.Size([2, 1])
    """
    drawn = [torch.rand(1, 1, generator=one, dtype=torch.float64) for one in random]
    return torch.cat(drawn)


def token_at(logits: Float[Tensor, "B V"], places: Float[Tensor, "B 1"]) -> Int[Tensor, "B"]:
    """The token of each row that covers its place; does not wait for the device.

    >>> token_at(torch.zeros(1, 4), torch.tensor([[0.6]]))
    tensor([2])
    """
    ends = logits.to(exact(logits.device)).softmax(dim=-1).cumsum(dim=-1)
    ends = ends / ends[:, -1:]  # exactly 1 at the end, whatever the rounding: no place is beyond
    # right=True: a token of probability 0 covers nothing, not even the place 0.0.
    return torch.searchsorted(ends, places.to(ends.dtype).to(ends.device), right=True)[:, 0]


def exact(device: torch.device) -> torch.dtype:
    """The most exact type of numbers that a device has.

    >>> exact(torch.device("cpu")), exact(torch.device("mps"))
    (torch.float64, torch.float32)
    """
    return torch.float32 if device.type == "mps" else torch.float64


def are_sound(logits: Float[Tensor, "B V"]) -> Bool[Tensor, "B"]:
    """Whether a token of each row can be chosen; does not wait for the device.

    >>> are_sound(torch.tensor([[0.0, NEVER], [0.0, float("nan")]]))
    tensor([ True, False])
    """
    return logits.amax(dim=-1).isfinite()  # NaN and +inf both survive a maximum


def _undamaged(logits: Float[Tensor, "B V"], tokens: Int[Tensor, "B"]) -> Int[Tensor, "B"]:
    """The tokens on the CPU, if their rows' scores can be trusted. One transfer answers both."""
    tokens, sound = torch.stack([tokens, are_sound(logits).long()]).cpu()
    refuse_damage(sound.bool())
    return tokens


def refuse_damage(sound: Bool[Tensor, "B"]) -> None:
    """Raise DamagedScoresError, naming the row, unless every row's scores are sound.

    >>> refuse_damage(torch.tensor([True, True]))
    """
    if not sound.all():
        raise DamagedScoresError(
            f"the scores of row {int(sound.int().argmin())} hold NaN or infinity, expected numbers:"
            " the weights are damaged or overflow their dtype; load them again, or in float32"
        )
