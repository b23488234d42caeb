"""Rows of the record: one figure of one peer, what it is of the limit, and against the baseline.

    of_limit = median / limit          ratio = how many times as good as the baseline

Lesson: 14_the_full_7b.

Conventions
    Every row has the same keys. A ratio above 1 is better than the baseline, whether more is better
    (tokens a second) or less is (bytes, seconds). It is computed from medians.
    The baseline is transformers if it was measured, or else the first peer of the row's group.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from mistral_edu.bench.ceilings import name_of
from mistral_edu.bench.roster import BASELINE, peer_named
from mistral_edu.bench.timing import Spread
from mistral_edu.experiments.record import Row


@dataclass(frozen=True)
class Quantity:
    """What is measured: its name, its unit, and whether more of it is better."""

    name: str
    unit: str
    more_is_better: bool


PREFILL = Quantity("prefill", "tokens/s", True)
FIRST = Quantity("first token", "ms", False)
DECODE = Quantity("decode", "tokens/s", True)
PER_TOKEN = Quantity("one token", "ms", False)
CACHE = Quantity("cache held", "bytes", False)
READY = Quantity("ready", "s", False)
COLD = Quantity("first token after loading", "s", False)
LOADING_PEAK = Quantity("peak while loading", "bytes", False)
PEAK = Quantity("peak", "bytes", False)


@dataclass(frozen=True)
class Case:
    """What was done: the type, the rows of the batch, the tokens before, and a word on them.

    Args:
        dtype: of the weights.
        batch: B.
        tokens: of the prompt, or of the text before the tokens that are timed.
        state: of the window ("short", "full", "wrapped"), or when it was looked at.
        window: W, or None; tells when a peer without one does more work.
    """

    dtype: torch.dtype
    batch: int
    tokens: int
    state: str = ""
    window: int | None = None


def ratio(value: float, baseline: float, more_is_better: bool) -> float | None:
    """How many times as good as the baseline; None where that has no meaning.

    >>> ratio(30.0, 10.0, more_is_better=True), ratio(5.0, 10.0, more_is_better=False)
    (3.0, 2.0)
    >>> ratio(0.0, 10.0, more_is_better=False) is None
    True
    """
    over, under = (value, baseline) if more_is_better else (baseline, value)
    return over / under if under else None


def rows_of(
    quantity: Quantity, case: Case, found: Mapping[str, Spread], limit: float | None = None
) -> list[Row]:
    """One row for each peer.

    Args:
        quantity: what was measured.
        case: of what.
        found: by peer.
        limit: the value that this run's ceilings allow, in the quantity's unit.
    """
    if not found:
        return []
    base = found.get(BASELINE) or next(iter(found.values()))
    return [_row(quantity, case, name, spread, base, limit) for name, spread in found.items()]


def _row(
    quantity: Quantity, case: Case, peer: str, spread: Spread, base: Spread, limit: float | None
) -> dict[str, Any]:
    of_limit = None
    if limit:
        of_limit = ratio(spread.median, limit, quantity.more_is_better)
    return {
        "quantity": quantity.name,
        "unit": quantity.unit,
        "dtype": name_of(case.dtype),
        "batch": case.batch,
        "tokens": case.tokens,
        "state": case.state,
        "peer": peer,
        "ratio": _rounded(ratio(spread.median, base.median, quantity.more_is_better)),
        "median": _rounded(spread.median),
        "low": _rounded(spread.low),
        "high": _rounded(spread.high),
        "blocks": spread.blocks,
        "limit": _rounded(limit),
        "of_limit": _rounded(of_limit),
        "others": spread.others,
        "note": _note(peer, case),
    }


def _note(peer: str, case: Case) -> str:
    past = case.window is not None and case.tokens >= case.window
    return (
        "attends to all tokens, not to the window" if past and not peer_named(peer).windowed else ""
    )


def _rounded(value: float | None) -> float | None:
    """Four digits: more would not be the same the next time."""
    if value is None or isinstance(value, int):
        return value
    return float(f"{value:.4g}")
