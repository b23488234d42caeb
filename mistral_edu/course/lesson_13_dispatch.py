"""Lesson 13, what to ask of a fused kernel: everything, causal, or pair by pair.

The truth is the visibility rule. Every mutant is a shortcut that a released library has taken.
"""

import torch

from mistral_edu.course.checking import by_cases
from mistral_edu.course.exercise import Exercise, Mutant
from mistral_edu.sliding_window import visible


def least(queries, keys, window):
    sees = [[j >= 0 and 0 <= i - j < window for j in keys] for i in queries]
    if all(all(row) for row in sees):
        return "everything"
    triangle = [[place <= turn for place in range(len(keys))] for turn in range(len(queries))]
    return "causal" if sees == triangle else "mask"


def library_least(queries, keys, window):
    seen = visible(torch.tensor([queries]), torch.tensor([keys]), window)[0]
    if seen.all():
        return "everything"
    return "causal" if (seen == torch.ones_like(seen).tril()).all() else "mask"


TEXT = [0, 1, 2, 3, 4]

LEAST = Exercise(
    id="13.dispatch",
    title="The least that is exact",
    difficulty=2,
    minutes=10,
    task='A fused kernel can be asked in three ways, the cheapest first: `"everything"`, every '
    'query sees every key; `"causal"`, query number t of the list sees exactly keys number 0 to '
    't; `"mask"`, pair by pair. Write `least(queries, keys, window)`: the first of the three '
    "that is exact. `queries` and `keys` are lists of positions in any order, −1 for padding or "
    "an empty slot: such a query sees nothing, and such a key is seen by nobody.",
    stub='''def least(queries, keys, window):
    """The cheapest exact way: "everything", "causal" or "mask"."""
    ...''',
    check=by_cases(
        [
            ([7], [4, 5, 6, 7], 4),
            ([9], [8, 9, 6, 7], 4),
            ([3], [0, 1, 2, 3], 3),
            ([2], [0, 1, 2, -1], 4),
            (TEXT[:4], TEXT[:4], 4),
            (TEXT, TEXT, 4),
            ([5, 6, 7], [5, 6, 7], 3),
            ([3, 4], [1, 2, 3, 4], 4),
            ([-1, 0, 1], [-1, 0, 1], 4),
            ([0, 1, -1], [0, 1, -1], 4),
            ([0, 1], [0, 1, -1, -1], 4),
            ([5], [5], 4),
        ],
        truth=library_least,
    ),
    hints=(
        "Do not guess from the number of queries and keys: ask the rule for every pair.",
        "Make the table of who sees whom, a list of rows. Which table means everything, and which "
        "causal?",
        "`j >= 0 and 0 <= i - j < window` for each pair; compare the rows with "
        "`[place <= turn for place in range(len(keys))]`.",
    ),
    solution=least,
    mutants=(
        Mutant(
            lambda queries, keys, window: least(queries, keys, 10**9),
            "the window is never asked, so a text longer than W is attended to without it",
            says="never asked",
        ),
        Mutant(
            lambda queries, keys, window: (
                "everything" if len(queries) == 1 else least(queries, keys, window)
            ),
            "a single query does not see everything that is offered: keys can be too old, and "
            "slots empty",
            says="single query",
        ),
        Mutant(
            lambda queries, keys, window: (
                "causal" if 1 < len(queries) < len(keys) else least(queries, keys, window)
            ),
            "a chunk behind a cache is not a triangle from the top left corner: its first query "
            "sees the cache too",
            says="behind a cache",
        ),
        Mutant(
            lambda queries, keys, window: (
                "causal"
                if len(queries) == len(keys) and 1 < len(queries) <= window
                else least(queries, keys, window)
            ),
            "equally many queries and keys within the window are not enough: padding sees nothing",
            says="padding sees nothing",
        ),
        Mutant(
            lambda queries, keys, window: least([i for i in queries if i >= 0], keys, window),
            "a padded query is a query too: it sees nothing, and the kernel has to be told",
            says="a query too",
        ),
        Mutant(
            lambda queries, keys, window: (
                "mask"
                if 1 < len(queries) != len(keys) and least(queries, keys, window) == "causal"
                else least(queries, keys, window)
            ),
            "a triangle may have more keys than queries, where those to its right are empty slots",
            says="empty slots",
        ),
        Mutant(
            lambda queries, keys, window: (
                "causal"
                if least(queries, keys, window) == "everything" and len(queries) == len(keys) == 1
                else least(queries, keys, window)
            ),
            "one query with one key is a triangle and also everything: the cheaper way comes first",
            says="comes first",
        ),
    ),
)
