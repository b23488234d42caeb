"""Exercises of lesson 06: the band, W or W + 1, FlashAttention's bounds.

The open exercise, a stack of windows, is in `lesson_06_budget.py`.
"""

import torch

from mistral_edu.course.checking import by_cases
from mistral_edu.course.exercise import Exercise, Mutant
from mistral_edu.course.lesson_06_budget import BUDGET
from mistral_edu.sliding_window import flash_window, visible


def chunk_mask(queries, keys, window):
    """True where a query of the chunk sees a key: a boolean tensor (queries, keys)."""
    query_positions = torch.arange(keys - queries, keys)
    behind = query_positions[:, None] - torch.arange(keys)
    return (behind >= 0) & (behind < window)


def _mask(queries, keys, window):
    positions = torch.arange(keys)[None]
    return visible(positions[:, keys - queries :], positions, window)[0]


BAND = Exercise(
    id="06.band",
    title="A band for a chunk",
    difficulty=1,
    minutes=8,
    task="""A chunk of `queries` tokens has just arrived. Together with what came before there are
`keys` keys, at positions 0 to `keys - 1`, and the chunk's tokens are **the last of them**.

Write `chunk_mask(queries, keys, window)`: a boolean tensor of shape `(queries, keys)`, True where
a query sees a key. No loops. `torch` is imported.""",
    stub='''def chunk_mask(queries, keys, window):
    """True where a query of the chunk sees a key: a boolean tensor (queries, keys)."""
    ...''',
    check=by_cases(
        [(4, 4, 2), (2, 5, 3), (1, 6, 4), (3, 8, 4), (5, 5, 1), (8, 8, 16)],
        truth=_mask,
    ),
    hints=(
        "Positions first. With 5 keys and a chunk of 2, which positions do the queries have?",
        "`torch.arange(a, b)` makes the queries' positions; `i[:, None] - j` makes all distances.",
        "Queries stand at `torch.arange(keys - queries, keys)`. Seen means: the distance is at "
        "least 0 **and** less than `window`. Join the two with `&`.",
    ),
    solution=chunk_mask,
    mutants=(
        Mutant(
            lambda queries, keys, window: _mask(keys, keys, window)[:queries],
            "your chunk starts at position 0, but it is the end of the sequence: its first query "
            "stands at keys − queries",
            says="end of the sequence",
        ),
        Mutant(
            lambda queries, keys, w: _mask(queries, keys, w) | ~_mask(queries, keys, keys),
            "the band has only one edge, so queries see the future: i − j must be at least 0 too",
            says="see the future",
        ),
        Mutant(
            lambda queries, keys, window: _mask(queries, keys, window + 1),
            "`<= window` lets W + 1 keys in, because i − j = 0, the query itself, counts as one",
            says="W + 1 keys",
        ),
    ),
)


def disagreements(slots, length):
    """At how many positions the ring's keys differ from each rule's: {"W": ..., "W+1": ...}."""
    ring = {}  # slot -> the position it holds
    wrong = {"W": 0, "W+1": 0}
    for position in range(length):
        ring[position % slots] = position
        held = set(ring.values())
        wrong["W"] += held != set(range(max(0, position - slots + 1), position + 1))
        wrong["W+1"] += held != set(range(max(0, position - slots), position + 1))
    return wrong


RING = Exercise(
    id="06.ring",
    title="W or W + 1?",
    difficulty=2,
    minutes=15,
    task="""Let a cache decide. It has `slots` slots. The token at position p is written to slot
`p % slots`, over whatever was there; **then** it attends to everything the slots hold.

Two rules claim to describe it. Rule `"W"`: keys with 0 ≤ i − j < `slots`. Rule `"W+1"`: keys with
0 ≤ i − j ≤ `slots`. Keys exist only from position 0 on.

Write `disagreements(slots, length)`: play the positions 0 to `length - 1` and count, for each
rule, at how many of them the ring's keys are **not** the keys the rule names.
Return `{"W": …, "W+1": …}`. Then say which rule belongs in the mask.""",
    stub='''def disagreements(slots, length):
    """At how many positions the ring's keys differ from each rule's: {"W": ..., "W+1": ...}."""
    ring = {}  # slot -> the position it holds
    wrong = {"W": ..., "W+1": ...}
    return wrong''',
    check=by_cases([(2, 3), (3, 3), (3, 10), (4, 8), (1, 5), (5, 30)]),
    hints=(
        "Take 3 slots and a pencil. What do they hold after tokens 0, 1, 2? And after token 3?",
        "Write first: `ring[position % slots] = position`. What the query sees is then "
        "`set(ring.values())`: a set, because the order of slots means nothing.",
        'Compare with `set(range(max(0, position - slots + 1), position + 1))` for rule "W", and '
        'with one position more on the left for rule "W+1". Add 1 wherever they differ.',
    ),
    solution=disagreements,
    mutants=(
        Mutant(
            lambda slots, length: {"W": max(0, length - slots), "W+1": 0},
            "you attend before the new token takes its slot; its key must then lie somewhere "
            "else, and the keys fill W + 1 places, which is not a cache of W slots",
            says="W + 1 places",
        ),
        Mutant(
            lambda slots, length: {"W": min(length, slots - 1), "W+1": length},
            "your rules name keys before position 0, and there are none: start at max(0, …)",
            says="before position 0",
        ),
    ),
)


def flash_bounds(window):
    """FlashAttention's (left, right) for a window of `window` keys; None for no window."""
    return (-1, -1) if window is None else (window - 1, 0)


def _keys_of_query_9(flash_bounds, window):
    """What query 9 of 10 sees through `window_size=flash_bounds(window), causal=True`."""
    left, _right = flash_bounds(window)  # causal=True closes the right side, whatever it says
    return list(range(0 if left < 0 else max(0, 9 - left), 10))


_ONE_TOO_MANY = (
    "`left` does not count the query itself, so left = W shows it W + 1 keys; transformers passed "
    "(W, W) until 4.55 (huggingface/transformers #39408)"
)
_NO_LIMIT = (
    "`left` is a distance, not a direction: a negative one means no limit, so there is no window "
    "left (thu-nics/DiTFastAttn #7 made this mistake)"
)

FLASH = Exercise(
    id="06.flash",
    title="Speak to FlashAttention",
    difficulty=2,
    minutes=8,
    task="""FlashAttention takes the window as `window_size=(left, right)`. With `causal=True`,
query i then sees the keys from i − `left` up to and including i. A negative bound means
"no limit", and `(0, 0)` means "only myself".

Write `flash_bounds(window)`: the pair that makes FlashAttention obey our rule, also for
`window=None`. The check hands your pair to a stand-in for the kernel and shows **which keys query
9 of 10 then sees**.""",
    stub='''def flash_bounds(window):
    """FlashAttention's (left, right) for a window of `window` keys; None for no window."""
    ...''',
    check=by_cases(
        [(4,), (1,), (2,), (None,), (10,), (64,)], truth=flash_window, run=_keys_of_query_9
    ),
    hints=(
        "Say in words what `left` counts. Does it count the query itself?",
        "W = 1 is the clearest case: the query sees only itself. Which `left` is that?",
        "W keys are the query and W − 1 to its left. `None` needs its own line: both bounds −1.",
    ),
    solution=flash_bounds,
    mutants=(
        Mutant(
            lambda window: (-1, -1) if window is None else (window, window),
            _ONE_TOO_MANY,
            says="W + 1 keys",
        ),
        Mutant(lambda window: (window, 0), _ONE_TOO_MANY, says="W + 1 keys"),
        Mutant(
            lambda window: ((window or 1) - 1, 0),
            "(0, 0) means that a query sees only itself; no window at all is (−1, −1)",
            says="only itself",
        ),
        Mutant(
            lambda window: (window - 1, 0),
            "right wherever there is a window; `None` is not a number and needs a line of its own",
            says="a line of its own",
        ),
        Mutant(lambda window: (-(window or 1), 0), _NO_LIMIT, says="no limit"),
        Mutant(lambda window: (-window, 0), _NO_LIMIT, says="no limit"),
    ),
)


EXERCISES = (BAND, RING, FLASH, BUDGET)
