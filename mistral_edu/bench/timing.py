"""Time things in turns, so that what disturbs the machine disturbs all of them alike.

    round 1   a b c        a block: warm up, wait, start the clock, work, wait, stop
    round 2   b c a        a figure: the median of its blocks, with the least and the greatest
    round 3   c a b

A peer that always came after the same other one would inherit its warm or cold caches.

Lesson: 14_the_full_7b.

Conventions
    "Others" is the share of all cores that other programs and the hypervisor took meanwhile: time
    that was not idle and not ours. It is written down with every figure and changes none. Systems
    count it in hundredths of a second, so of a block that is short nothing can be told: 0.
"""

import os
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil
import torch

Name = TypeVar("Name", bound=Hashable)

TOLD = 0.2  # seconds of all cores, from which on shares of them mean something


@dataclass(frozen=True)
class Block:
    """One measured block: seconds, and the share of the machine that others took meanwhile."""

    seconds: float
    others: float


@dataclass(frozen=True)
class Work:
    """What one contender does in a block.

    Args:
        run: the work that is timed.
        warm_up: done before the clock starts.
    """

    run: Callable[[], Any]
    warm_up: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of the blocks of one figure, and the worst share of others.

    >>> Spread.of([3.0, 1.0, 2.0])
    Spread(median=2.0, low=1.0, high=3.0, blocks=3, others=0.0)
    """

    median: float
    low: float
    high: float
    blocks: int
    others: float = 0.0

    @classmethod
    def of(cls, values: Sequence[float], others: float = 0.0) -> "Spread":
        """The spread of some values."""
        return cls(statistics.median(values), min(values), max(values), len(values), others)

    @classmethod
    def of_blocks(cls, blocks: Sequence[Block], value: Callable[[float], float]) -> "Spread":
        """The spread of what `value` makes of each block's seconds.

        >>> Spread.of_blocks([Block(2.0, 0.1), Block(4.0, 0.3)], lambda s: 8 / s)
        Spread(median=3.0, low=2.0, high=4.0, blocks=2, others=0.3)
        """
        return cls.of([value(b.seconds) for b in blocks], max(b.others for b in blocks))


def turns(names: Sequence[Name], rounds: int) -> list[list[Name]]:
    """Who goes when: every round begins one contender later.

    >>> turns(["a", "b", "c"], 2)
    [['a', 'b', 'c'], ['b', 'c', 'a']]
    """
    names = list(names)
    return [[names[(r + i) % len(names)] for i in range(len(names))] for r in range(rounds)]


def interleaved(
    contenders: Mapping[Name, Work],
    rounds: int,
    finish: Callable[[], None] = lambda: None,
    discarded: int = 1,
) -> dict[Name, list[Block]]:
    """Measure every contender in turns.

    Args:
        contenders: their work, by name.
        rounds: blocks that count for each.
        finish: waits until the device has done what it was given.
        discarded: rounds before them that do not count.

    Returns:
        For each contender its blocks, in the order in which they ran.

    >>> found = interleaved({"a": Work(lambda: 1), "b": Work(lambda: 2)}, rounds=3)
    >>> {name: len(blocks) for name, blocks in found.items()}
    {'a': 3, 'b': 3}
    """
    found: dict[Name, list[Block]] = {name: [] for name in contenders}
    for number, order in enumerate(turns(list(contenders), discarded + rounds)):
        for name in order:
            block = timed(contenders[name], finish)
            if number >= discarded:
                found[name].append(block)
    return found


def timed(work: Work, finish: Callable[[], None] = lambda: None) -> Block:
    """Run one block and time it."""
    work.warm_up()
    finish()
    before = _Usage.now()
    start = time.perf_counter()
    work.run()
    finish()
    seconds = time.perf_counter() - start
    return Block(seconds, _Usage.now().others_since(before))


def finisher(device: torch.device) -> Callable[[], None]:
    """What waits for a device.

    >>> finisher(torch.device("cpu"))()
    """
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


@dataclass(frozen=True)
class _Usage:
    wall: float
    busy: float
    own: float

    @classmethod
    def now(cls) -> "_Usage":
        every, mine = psutil.cpu_times()._asdict(), psutil.Process().cpu_times()
        # What guests use is in "user" already; "iowait" is idle time by another name.
        left_out = ("idle", "iowait", "guest", "guest_nice")
        busy = sum(seconds for kind, seconds in every.items() if kind not in left_out)
        return cls(time.perf_counter(), busy, mine.user + mine.system)

    def others_since(self, before: "_Usage") -> float:
        available = (self.wall - before.wall) * (os.cpu_count() or 1)
        if available < TOLD:
            return 0.0
        taken = (self.busy - before.busy) - (self.own - before.own)
        return round(min(1.0, max(0.0, taken / available)), 3)


def load_of_the_machine() -> dict[str, Any]:
    """How busy the machine is, for the record: running tasks, and stolen time since it started.

    >>> sorted(load_of_the_machine())
    ['load average', 'stolen seconds']
    """
    averages = os.getloadavg() if hasattr(os, "getloadavg") else None
    return {
        "load average": None if averages is None else [round(value, 2) for value in averages],
        "stolen seconds": getattr(psutil.cpu_times(), "steal", None),
    }
