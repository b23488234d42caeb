"""Exercises of lesson 08: the rolling cache.

The truth is always the library's own `RollingCache`. The open exercise is in `lesson_08_probe.py`.
"""

import torch

from mistral_edu.course.checking import by_cases
from mistral_edu.course.exercise import Exercise, Mutant
from mistral_edu.course.lesson_08_probe import PROBE, empty_cache, feed


def slot(position, window):
    return position % window


def library_slot(position, window):
    return int(empty_cache(window).begin(torch.tensor([[position]])).slots)


SLOT = Exercise(
    id="08.slot",
    title="Which slot?",
    difficulty=1,
    minutes=4,
    task="Write `slot(position, window)`: the slot, 0 … window − 1, that the token at `position` "
    "is written to.",
    stub='''def slot(position, window):
    """The slot of a position."""
    ...''',
    check=by_cases([(0, 4), (3, 4), (4, 4), (9, 4), (5, 1), (4096, 4096)], truth=library_slot),
    hints=(
        "Positions 0 to W − 1 fill the slots in order. Where must the token at position W go?",
        "It takes the place of the token at p − W. So p and p − W share a slot.",
        "Python's `%` gives the remainder: what is 9 % 4?",
    ),
    solution=slot,
    mutants=(
        Mutant(
            lambda position, window: min(position, window - 1),
            "it stops at the last slot, which is overwritten for ever; the oldest token must go",
            says="overwritten for ever",
        ),
        Mutant(
            lambda position, window: position % (window + 1),
            "it has W + 1 slots; the window counts the query's own token, so W slots are enough",
            says="W + 1 slots",
        ),
    ),
)


def unroll(ring, seen):
    if seen <= len(ring):
        return ring[:seen]
    oldest = seen % len(ring)
    return ring[oldest:] + ring[:oldest]


def library_unroll(ring, seen):
    cache = empty_cache(len(ring))
    feed(cache, list(range(seen)))
    held = next(iter(cache))[0][0, 0, :, 0].long()
    return [ring[position % len(ring)] for position in held.tolist()]


SENTENCE = ["an", "old", "clock", "in", "the", "tower", "struck", "and", "nobody", "moved"]


def ring_after(seen, window):
    held = {position % window: SENTENCE[position] for position in range(seen)}
    return [held.get(slot) for slot in range(window)], seen


UNROLL = Exercise(
    id="08.unroll",
    title="Back in order",
    difficulty=2,
    minutes=7,
    task="The ring now holds bare words, without their positions. Write `unroll(ring, seen)`: the "
    "words that `ring` (a list; `None` is an empty slot) holds after `seen` tokens, oldest first.",
    stub='''def unroll(ring, seen):
    """The words the ring holds, oldest first."""
    ...''',
    check=by_cases(
        [ring_after(*case) for case in ((2, 4), (4, 4), (5, 4), (6, 4), (8, 4), (7, 3))],
        truth=library_unroll,
    ),
    hints=(
        "Three cases: not yet full, full with the oldest word in slot 0, and turned.",
        "The next token will overwrite the oldest one. Which slot will it take?",
        "From slot `seen % len(ring)` to the end, then from the start up to it; a ring that is "
        "not full is already in order.",
    ),
    solution=unroll,
    mutants=(
        Mutant(
            lambda ring, seen: ring[:seen],
            "it reads in slot order; after a wrap the oldest word is no longer in slot 0",
            says="slot order",
        ),
        Mutant(
            lambda ring, seen: ring[seen % len(ring) :] + ring[: seen % len(ring)],
            "it also turns a ring that is not full, and empty slots come out first",
            says="empty slots come out",
        ),
        Mutant(
            lambda ring, seen: (ring[-(seen % len(ring)) :] + ring[: -(seen % len(ring))])[:seen],
            "it turns the wrong way round",
            says="wrong way round",
        ),
    ),
)


def store(held, positions):
    held = held.clone()
    rows, columns = (positions >= 0).nonzero(as_tuple=True)
    arriving = positions[rows, columns]
    held[rows, arriving % held.shape[1]] = arriving
    return held


def library_store(held, positions):
    cache = empty_cache(held.shape[1], rows=len(held))
    cache.positions, cache.lengths = held.clone(), held.amax(dim=1) + 1
    cache.commit(cache.begin(positions))
    return cache.positions


def store_padding(held, positions):
    held = held.clone()
    for row in range(len(held)):
        for position in positions[row]:
            held[row, position % held.shape[1]] = position
    return held


def store_by_column(held, positions):
    held = held.clone()
    rows, columns = (positions >= 0).nonzero(as_tuple=True)
    held[rows, columns % held.shape[1]] = positions[rows, columns]
    return held


RAGGED = Exercise(
    id="08.ragged",
    title="A ragged batch",
    difficulty=2,
    minutes=9,
    task="Rows of different lengths arrive padded on the left; padding has position −1. Write "
    "`store(held, positions)`: the positions each slot holds after a chunk. `held` is (B, W), −1 "
    "for an empty slot; `positions` is (B, T) with T ≤ W. Leave `held` itself unchanged.",
    stub='''def store(held, positions):
    """The (B, W) positions after the chunk is stored."""
    ...''',
    check=by_cases(
        [
            (torch.full((2, 4), -1), torch.tensor([[0, 1, 2], [-1, -1, 0]])),
            (torch.tensor([[0, 1, 2, -1], [0, -1, -1, -1]]), torch.tensor([[3, 4], [1, 2]])),
            (torch.tensor([[8, 9, 6, 7], [4, 5, 2, 3]]), torch.tensor([[10], [-1]])),
        ],
        truth=library_store,
    ),
    hints=(
        "What is −1 % 4 in Python? Which innocent token would that evict?",
        "Work on a clone, and only on the places where `positions >= 0`.",
        "`rows, columns = (positions >= 0).nonzero(as_tuple=True)` lists the real tokens; their "
        "slots are their positions modulo `held.shape[1]`.",
    ),
    solution=store,
    mutants=(
        Mutant(
            store_padding,
            "padding is stored too: −1 % W is W − 1, so it wipes the last slot",
            says="wipes the last slot",
        ),
        Mutant(
            store_by_column,
            "the slot comes from the column; it must come from the position",
            says="comes from the column",
        ),
    ),
)


def plan(positions, window):
    newest = max(positions)
    return [
        (column, position % window)
        for column, position in enumerate(positions)
        if position >= 0 and position > newest - window
    ]


def library_plan(positions, window):
    step = empty_cache(window).begin(torch.tensor([positions]))
    return list(zip(step.columns.tolist(), step.slots.tolist(), strict=True))


def plan_everything(positions, window):
    return [(column, p % window) for column, p in enumerate(positions) if p >= 0]


OVERSIZE = Exercise(
    id="08.oversize",
    title="A chunk longer than the ring",
    difficulty=2,
    minutes=9,
    task="All tokens of a chunk attend, but a graphics card stores them all at once: if two go to "
    "one slot, chance decides who stays. Write `plan(positions, window)`: the list of "
    "`(column, slot)` pairs to store, in column order, so that no slot is written twice and the "
    "newest tokens stay. `positions` is a list, −1 for padding, on either side.",
    stub='''def plan(positions, window):
    """(column, slot) of every token that will be stored."""
    ...''',
    check=by_cases(
        [([0, 1], 4), ([4, 5, 6], 2), ([-1, -1, 0, 1], 3), ([3, 4, 5, 6, -1, -1], 3)],
        truth=library_plan,
    ),
    hints=(
        "How many tokens can stay? Which ones does the next query still see?",
        "A token stays if its position is greater than the newest position minus the window.",
        "Filter `enumerate(positions)` by that and by `position >= 0`; the slot is the remainder.",
    ),
    solution=plan,
    mutants=(
        Mutant(
            plan_everything,
            "every token is stored, so some slots are written twice and chance decides",
            says="written twice",
        ),
        Mutant(
            lambda positions, window: plan_everything(positions, window)[:window],
            "the first W tokens stay; it must be the last W",
            says="must be the last W",
        ),
        Mutant(
            lambda positions, window: [
                pair
                for pair in plan_everything(positions, window)
                if pair[0] >= len(positions) - window
            ],
            "it keeps the last W columns, and padding among them costs real tokens",
            says="padding among them",
        ),
    ),
)

EXERCISES = (SLOT, UNROLL, RAGGED, OVERSIZE, PROBE)
