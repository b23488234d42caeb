"""Mask explorer, the data: the visibility rule as a grid of queries and keys.

    row = query at position i,  column = key at position j,  allowed ⇔ j ≥ 0 and 0 ≤ i − j < W

The grid is what `sliding_window.visible` returns; nothing here decides who sees whom.

Lessons: 04_masks_from_positions, 06_sliding_window. The drawing is in `mask_figure.py`.

Conventions
    Queries are rows, keys are columns, in the order in which the model holds them: the columns of
    a ring are its slots, so their positions need not be sorted.
    Each masked cell has one of three reasons: the key is in the future (i − j < 0), it is too old
    (i − j ≥ W), or query or key is not there at all (position −1).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, SupportsInt

import numpy as np
import torch
from jaxtyping import Bool, Int

from mistral_edu.sliding_window import visible
from mistral_edu.viz.frame import Frame, aligned, count, frozen, listed
from mistral_edu.viz.replay import replay

KINDS = ("causal", "window", "left-padded", "ring cache")
LONGEST = 16

ALLOWED, FUTURE, TOO_OLD, ABSENT = range(4)
REASONS = ("allowed", "future", "too old", "absent")
_MARK = ("", ".", "x", "#")


@dataclass(frozen=True, eq=False)
class MaskFrame(Frame):
    """Who sees whom for one set of positions.

    Args:
        kind: which case of the rule, one of `KINDS`.
        window: W, or None for causal only.
        query_positions, key_positions: absolute positions, −1 for what is not there.
        allowed: (T, S), True where the query sees the key.
        slots: how many of the keys lie in a ring; they come first, the chunk's own keys after.
    """

    topic: ClassVar[str] = "mask"
    kind: str
    window: int | None
    query_positions: Int[np.ndarray, "T"]
    key_positions: Int[np.ndarray, "S"]
    allowed: Bool[np.ndarray, "T S"]
    slots: int = 0

    @property
    def distance(self) -> Int[np.ndarray, "T S"]:
        """i − j for every cell, (T, S)."""
        return self.query_positions[:, None] - self.key_positions[None, :]

    @property
    def reasons(self) -> Int[np.ndarray, "T S"]:
        """For every cell 0 allowed, 1 future, 2 too old, 3 absent, (T, S)."""
        absent = (self.query_positions < 0)[:, None] | (self.key_positions < 0)[None, :]
        masked = np.where(absent, ABSENT, np.where(self.distance < 0, FUTURE, TOO_OLD))
        return np.where(self.allowed, ALLOWED, masked)

    @property
    def counts(self) -> dict[str, int]:
        """Cells per reason, by name."""
        found = np.bincount(self.reasons.ravel(), minlength=len(REASONS))
        return dict(zip(REASONS, found.tolist(), strict=True))

    @property
    def keys_seen(self) -> Int[np.ndarray, "T"]:
        """Keys that each query sees, (T,)."""
        return self.allowed.sum(axis=1)

    @property
    def title(self) -> str:
        counts = self.counts
        pairs, most = count(counts["allowed"], "pair"), count(int(self.keys_seen.max()), "key")
        if self.kind == "causal":
            return f"Causal mask: {pairs}; the last query sees {most}, and there is no limit"
        if self.kind == "window":
            causal = counts["allowed"] + counts["too old"]
            return f"Window {self.window}: {pairs} instead of {causal}; no query sees over {most}"
        if self.kind == "left-padded":
            blind = count(int((self.query_positions < 0).sum()), "padding row")
            return f"Left padding, window {self.window}: {pairs}; nothing seen by or of {blind}"
        order = "out of order" if np.any(np.diff(self.key_positions) < 0) else "in order this time"
        return f"Ring of {self.window}: the keys are {order}, and no query sees over {most}"

    @property
    def summary(self) -> str:
        rows, columns = self.allowed.shape
        size = f"{rows} {'query' if rows == 1 else 'queries'} by {count(columns, 'key')}"
        counts = self.counts
        return (
            f"{self._case}. A grid of {size}: {count(counts['allowed'], 'pair')} allowed, "
            f"{counts['future']} in the future, {counts['too old']} too old, {counts['absent']} "
            f"absent. No query sees more than {count(int(self.keys_seen.max()), 'key')}."
        )

    @property
    def _case(self) -> str:
        """What is shown, in words."""
        if self.kind == "causal":
            return "A causal mask without a window"
        if self.kind == "window":
            return f"A mask with a window of {self.window}"
        if self.kind == "left-padded":
            padding = count(int((self.query_positions < 0).sum()), "padding token")
            return f"A mask with a window of {self.window} and {padding} on the left"
        held, new = self.key_positions[: self.slots], self.key_positions[self.slots :]
        ring = f"slots holding {listed(held)}" if self.slots else "empty slots"
        return f"The mask of a chunk, {listed(new)}, against a ring of {self.window} {ring}"

    def to_text(self) -> str:
        cells = [
            [str(d) if r == ALLOWED else _MARK[r] for d, r in zip(ds, rs, strict=True)]
            for ds, rs in zip(self.distance, self.reasons, strict=True)
        ]
        heading = ["i\\j", *names(self.key_positions), "keys seen"]
        seen = self.keys_seen.astype(str)
        rows = zip(names(self.query_positions), cells, seen, strict=True)
        table = aligned([heading, *([name, *row, total] for name, row, total in rows)])
        legend = "number: allowed, i − j   .: future   x: too old   #: absent"
        return "\n".join([self.title, *table, legend])


def mask_frame(
    kind: str = "window", length: int = 8, window: int = 4, padding: int = 2, chunk: int = 3
) -> MaskFrame:
    """Ask the visibility rule about one case.

    Args:
        kind: "causal" (no window), "window", "left-padded" or "ring cache".
        length: tokens, padding included, 1..16.
        window: W; ignored when kind is "causal".
        padding: padding tokens on the left, at most length − 1; used when kind is "left-padded".
        chunk: the last tokens of the sequence, which attend to a real ring holding the tokens
            before them; used when kind is "ring cache".

    Raises:
        ValueError: for an unknown kind, or a length the grid cannot show.

    >>> mask_frame("window", length=8, window=3).counts["allowed"]
    21
    >>> mask_frame("ring cache", length=8, window=4, chunk=2).key_positions.tolist()
    [4, 5, 2, 3, 6, 7]
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not one of {KINDS}")
    if not 1 <= length <= LONGEST:
        raise ValueError(f"length={length} cannot be shown: give 1 to {LONGEST} tokens")
    queries = keys = np.arange(length)
    limit, slots = None if kind == "causal" else window, 0
    if kind == "left-padded":
        queries = keys = np.maximum(np.arange(length) - min(padding, length - 1), -1)
    if kind == "ring cache":
        queries = queries[-chunk:]
        *_, last = replay(window, [range(length - len(queries)), queries.tolist()])
        keys, slots = last.offered, len(last.offered) - len(queries)
    allowed = visible(torch.tensor(queries)[None], torch.tensor(keys)[None], limit)[0]
    return MaskFrame(kind, limit, frozen(queries), frozen(keys), frozen(allowed.numpy()), slots)


def names(positions: Iterable[SupportsInt]) -> list[str]:
    """Positions as labels, a dash where there is none.

    >>> names([-1, 0, 1])
    ['–', '0', '1']
    """
    return ["–" if int(position) < 0 else str(position) for position in positions]
