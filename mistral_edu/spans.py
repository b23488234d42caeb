"""Spans: in the order of positions, what a query sees is one slice of the keys.

    first ≤ index in order < last,    last = #{keys at ≤ i},    first = #{keys at ≤ max(i − W, −1)}

No matrix of queries by keys is needed to know them: one sort, two binary searches. Queries whose
slices follow each other as a kernel's causal window does are one run; a text without gaps is one.

Source: "Mistral 7B" (arXiv 2310.06825), section 2; the rule of `sliding_window.visible`.
Lesson: 13_flash_attention.

Conventions
    Runs are planned on the CPU: positions are small, and one wait for the device serves all
    layers of a chunk, because the latest plan is kept as long as its positions are, and no longer.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

Plan = TypeVar("Plan")


def spans(
    q_positions: Int[Tensor, "B T"], k_positions: Int[Tensor, "B S"], window: int | None
) -> tuple[Int[Tensor, "B S"], Int[Tensor, "B T"], Int[Tensor, "B T"]]:
    """The columns of keys in the order of positions; for each query its first key, and the end.

    >>> order, first, last = spans(torch.tensor([[5, -1]]), torch.tensor([[3, 4, 5, 2]]), window=2)
    >>> order, first, last
    (tensor([[3, 0, 1, 2]]), tensor([[2, 0]]), tensor([[4, 0]]))
    """
    ordered, order = k_positions.sort(dim=1, stable=True)
    q_positions = q_positions.contiguous()
    unseen = torch.full_like(q_positions, -1)  # the last position that is not seen any more
    if window is not None:
        unseen = torch.maximum(unseen, q_positions - window)
    first, last = (torch.searchsorted(ordered, at, right=True) for at in (unseen, q_positions))
    return order, first, last


@dataclass(frozen=True)
class Runs:
    """Queries and their keys, laid end to end: run n has queries and keys between its bounds.

    Query t of T' in a run of S' keys sees keys t + S' − T' − W + 1 … t + S' − T': the causal
    window of the kernels, aligned at the last key.

    Args:
        queries, keys: where they come from in a batch whose rows are laid end to end; None if
            that is the batch as it is.
        query_bounds, key_bounds: where each run starts, and at last the end.
        most_queries, most_keys: of any run.
        window: W, or None.
    """

    queries: Int[Tensor, "N"] | None
    keys: Int[Tensor, "M"] | None
    query_bounds: Int[Tensor, "runs"]
    key_bounds: Int[Tensor, "runs"]
    most_queries: int
    most_keys: int
    window: int | None


def plan_runs(
    q_positions: Int[Tensor, "B T"], k_positions: Int[Tensor, "B S"], window: int | None
) -> Runs | None:
    """Cut a batch into runs; None if no query sees anything. Any positions will do.

    Where the order of positions has gaps narrower than the window, several runs share keys, and
    each gets its own copy of them.

    >>> at = torch.tensor([[-1, -1, 0, 1], [0, 1, 2, 3]])
    >>> plan = plan_runs(at, at, window=3)
    >>> plan.queries, plan.key_bounds
    (tensor([2, 3, 4, 5, 6, 7]), tensor([0, 2, 6], dtype=torch.int32))
    """
    device, (rows, tokens), columns = q_positions.device, q_positions.shape, k_positions.shape[1]
    q_positions, k_positions = q_positions.cpu(), k_positions.cpu()
    order, first, last = spans(q_positions, k_positions, window)
    places = q_positions.argsort(dim=1, stable=True)
    row = torch.arange(rows)[:, None]
    first, last = (x.gather(1, places) + row * columns for x in (first, last))
    sighted = last > first
    first, last, queries = first[sighted], last[sighted], (places + row * tokens)[sighted]
    if not len(queries):
        return None
    joined, window = _joined(first, last, window)
    starts = torch.cat([torch.zeros(1, dtype=torch.long), (~joined).nonzero().flatten() + 1])
    query_bounds = torch.cat([starts, torch.tensor([len(queries)])])
    begin, end = first[starts], last[query_bounds[1:] - 1]
    key_bounds = torch.cat([torch.zeros(1, dtype=torch.long), (end - begin).cumsum(dim=0)])
    shift = (begin - key_bounds[:-1]).repeat_interleave(end - begin)
    keys = (order + row * columns).flatten()[torch.arange(len(shift)) + shift]
    return Runs(
        _unless_all(queries, rows * tokens, device),
        _unless_all(keys, rows * columns, device),
        query_bounds.int().to(device),
        key_bounds.int().to(device),
        int(query_bounds.diff().max()),
        int(key_bounds.diff().max()),
        window,
    )


def _joined(
    first: Int[Tensor, "N"], last: Int[Tensor, "N"], window: int | None
) -> tuple[Tensor, int | None]:
    """Which queries continue the run of the one before; and the window to run with."""
    follows = last[1:] == last[:-1] + 1
    if window is None:
        return follows & (first[1:] == first[:-1]), None
    if (last - first > window).any():  # two keys at one position: every query for itself, unbounded
        return torch.zeros_like(follows), None
    return follows & (first[1:] == torch.maximum(first[:-1], last[1:] - window)), window


def _unless_all(index: Int[Tensor, "N"], size: int, device: torch.device) -> Tensor | None:
    if len(index) == size and torch.equal(index, torch.arange(size)):
        return None
    return index.to(device)


@dataclass(frozen=True)
class Fill:
    """How far each row of a ring is filled with keys that its one query sees.

    Args:
        lengths: of each row, int32; the keys are in slots 0 … length − 1, in any order.
        most: the longest.
        is_even: whether all are equal.
        has_blind: whether one is 0.
    """

    lengths: Int[Tensor, "B"]
    most: int
    is_even: bool
    has_blind: bool


def plan_fill(
    q_positions: Int[Tensor, "B one"], k_positions: Int[Tensor, "B S"], window: int | None
) -> Fill | None:
    """The fill of a ring, or None if what a query sees does not start at slot 0 without a gap.

    >>> plan_fill(torch.tensor([[4], [1]]), torch.tensor([[3, 4, 2], [0, 1, -1]]), window=3).lengths
    tensor([3, 2], dtype=torch.int32)
    """
    at, device = k_positions.cpu(), q_positions.device
    behind = q_positions.cpu() - at  # (B, 1), (B, S) → (B, S)
    seen = (at >= 0) & (behind >= 0)
    if window is not None:
        seen &= behind < window
    lengths = seen.sum(dim=1)
    if not torch.equal(seen, torch.arange(at.shape[1]) < lengths[:, None]):
        return None
    least, most = int(lengths.min()), int(lengths.max())
    return Fill(lengths.int().to(device), most, least == most, least == 0)


def once_per_chunk(
    plan: Callable[[Tensor, Tensor, int | None], Plan],
) -> Callable[[Tensor, Tensor, int | None], Plan]:
    """Keep the latest result of `plan` for as long as it is asked about the very same tensors.

    It goes when one of them goes. Tensors made under `torch.inference_mode` do not tell when they
    are changed, so nothing is kept of them.

    >>> asked = []
    >>> plan = once_per_chunk(lambda q, k, window: asked.append(window))
    >>> at = torch.tensor([[0]])
    >>> _ = plan(at, at, 4), plan(at, at, 4), plan(at, at, 5)
    >>> asked
    [4, 5]
    """
    latest: list[tuple] = [()]

    def forget(_: object) -> None:
        latest[0] = ()

    def remembered(q_positions: Tensor, k_positions: Tensor, window: int | None) -> Plan:
        if q_positions.is_inference() or k_positions.is_inference():
            return plan(q_positions, k_positions, window)
        at = (q_positions, k_positions)
        refs = (weakref.ref(positions, forget) for positions in at)
        about = (*refs, window, *(positions._version for positions in at))
        known = latest[0]
        if not known or not _same(known[0], about):
            known = (about, plan(q_positions, k_positions, window))
            latest[0] = known
        return known[1]

    return remembered


def _same(known: tuple, about: tuple) -> bool:
    # References to tensors are compared by identity: == on tensors compares their numbers.
    is_same = known[0]() is about[0]() and known[1]() is about[1]()
    return is_same and known[2:] == about[2:]
