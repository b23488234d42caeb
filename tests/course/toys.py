"""Exercises small enough to reason about, for the tests of the framework itself."""

import torch

from mistral_edu.course.checking import Claim, by_cases, by_claims
from mistral_edu.course.exercise import Exercise, Mutant


def slot(position, window):
    return position % window


def never_wraps(position, window):
    return min(position, window - 1)


def from_one(position, window):
    return (position - 1) % window


def cache_bytes():
    return 2 * 4 * 8


def schedule(window):
    return list(range(0, 3 * window, window))


def exercise(solution, check, mutants, stub, **fields):
    """An exercise with the fields that do not matter here filled in."""
    return Exercise(
        id=f"99.{solution.__name__}",
        title="A toy",
        task="Do it.",
        difficulty=1,
        minutes=5,
        stub=stub,
        check=check,
        hints=("first", "second", "third"),
        solution=solution,
        mutants=mutants,
        **fields,
    )


SLOT = exercise(
    slot,
    by_cases([(0, 1), (3, 4), (4, 4), (9, 4)]),
    (
        Mutant(never_wraps, "the last slot is overwritten for ever", says="for ever"),
        Mutant(from_one, "positions count from 0", says="count from 0"),
    ),
    "def slot(position, window):\n    ...",
)
BYTES = exercise(
    cache_bytes,
    by_cases([()]),
    (
        Mutant(lambda: 32, "keys without values", says="without values"),
        Mutant(lambda: 16, "numbers, not bytes", says="not bytes"),
    ),
    "cache_bytes = ...",
)
SCHEDULE = exercise(
    schedule,
    by_claims(
        [
            Claim("it lists two positions", lambda schedule: len(schedule(4)) >= 2),
            Claim("all are in slot 0", lambda schedule: all(p % 4 == 0 for p in schedule(4))),
        ],
        ask=["Would it hold for a chunk longer than the window?"],
    ),
    (
        Mutant(lambda window: [0], "one position is no schedule", says="no schedule"),
        Mutant(lambda window: [0, 1], "positions, not rounds", says="not rounds"),
    ),
    "def schedule(window):\n    ...",
    open_ended=True,
)


def mask(length):
    return torch.ones(length, length).tril() > 0


MASK = exercise(
    mask,
    by_cases([(2,), (3,), (20,)]),
    (
        Mutant(lambda n: torch.ones(n, n).triu() > 0, "the future, not the past", says="future"),
        Mutant(lambda n: torch.ones(n, n) > 0, "everything is visible", says="everything"),
    ),
    "def mask(length):\n    ...",
)
