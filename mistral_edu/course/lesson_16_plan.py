"""The last exercise of lesson 16: a plan for a block, run by ranks that may add up once a half.

The simulator gives every rank what the learner's plan gives it, and then one sum at the end of
attention and one at the end of the feed-forward. Nothing else is ever sent, so a plan that would
need more gives a wrong answer, or pieces that do not fit.
"""

import torch

from mistral_edu.course.checking import Claim, by_claims
from mistral_edu.course.exercise import Exercise, Mutant
from mistral_edu.course.lesson_16_block import (
    CUTS,
    HEAD,
    SHAPES,
    WHOLE,
    WIDTH,
    attention,
    feed_forward,
)


def is_right(half, plan, ranks):
    """Whether the sum of all ranks' terms is what one process computes."""
    terms = [half(plan(rank, ranks)) for rank in range(ranks)]
    return torch.allclose(torch.stack(terms).sum(dim=0), half(WHOLE), atol=1e-9)


def everywhere(plan):
    """Every rank's plan, for two ranks and for four."""
    return [plan(rank, ranks) for ranks in (2, 4) for rank in range(ranks)]


def names_everything(plan):
    """Whether every rank has rows or columns of all seven matrices, none twice."""
    for given in everywhere(plan):
        if set(given) != set(SHAPES) or any(how not in CUTS for how, _ in given.values()):
            return False
        if any(len(set(numbers)) != len(numbers) for _, numbers in given.values()):
            return False
    return True


def fits(plan):
    """Whether every rank's pieces multiply, and end in the block's width."""
    for given in everywhere(plan):
        try:
            widths = {attention(given).shape[1], feed_forward(given).shape[1]}
        except (RuntimeError, ValueError, IndexError):
            return False
        if widths != {WIDTH}:
            return False
    return True


def is_light(plan):
    """Whether no rank holds more than its fair share and an eighth of all numbers."""
    total = sum(rows * columns for rows, columns in SHAPES.values())
    for ranks in (2, 4):
        for rank in range(ranks):
            cuts = plan(rank, ranks).items()
            held = sum(len(n) * SHAPES[name][how == "rows"] for name, (how, n) in cuts)
            if held > total / ranks + total / 8:
                return False
    return True


def plan(rank, ranks):
    def mine(size):
        part = size // ranks
        return list(range(rank * part, (rank + 1) * part))

    return {
        "q": ("rows", mine(16)),
        "k": ("rows", mine(8)),
        "v": ("rows", mine(8)),
        "o": ("columns", mine(16)),
        "gate": ("rows", mine(12)),
        "up": ("rows", mine(12)),
        "down": ("columns", mine(12)),
    }


def changed(**entries):
    """The plan above with other entries, each made from (rank, ranks)."""
    return lambda rank, ranks: {
        **plan(rank, ranks),
        **{name: entry(rank, ranks) for name, entry in entries.items()},
    }


def dealt(size, how):
    return lambda rank, ranks: (how, list(range(rank, size, ranks)))


def run_of(size, how):
    return lambda rank, ranks: (how, list(range(size))[rank * size // ranks :][: size // ranks])


def all_of(size, how):
    return lambda rank, ranks: (how, list(range(size)))


def backwards(size, how):
    return lambda rank, ranks: (how, run_of(size, how)(rank, ranks)[1][::-1])


def dealt_heads(how):
    return lambda rank, ranks: (
        how,
        [HEAD * head + number for head in range(rank, 8, ranks) for number in range(HEAD)],
    )


# Mistakes that fail the same claims share their words, which must be true of each.
NOT_WHOLE = (
    "some channel is not whole, and SiLU of a part is not a part of SiLU; or gate, up and down "
    "do not name the same channels in the same order"
)
STRANGERS = (
    "query heads do not meet the keys of their own group: heads are torn apart, or dealt like "
    "cards while the key/value heads are dealt in runs"
)

PLAN = Exercise(
    id="16.plan",
    title="Plan a block",
    difficulty=3,
    minutes=15,
    open_ended=True,
    task="A block is 16 numbers wide, has 8 query heads and 4 key/value heads of 2 numbers, and 12 "
    "channels. So q is 16 × 16, k and v are 8 × 16, o is 16 × 16, gate and up are 12 × 16, and "
    "down is 16 × 12. Write `plan(rank, ranks)`: for each of these seven names, what the rank "
    'holds: `("rows", numbers)` or `("columns", numbers)`. The check runs 2 ranks and 4. They add '
    "up once after attention and once after the feed-forward, and talk at no other time. No rank "
    "may hold more than 1/ranks + 1/8 of all numbers. Many plans are right.",
    stub='''def plan(rank, ranks):
    """{"q": ("rows", [0, 1, …]), …} for all seven matrices."""
    ...''',
    check=by_claims(
        (
            Claim(
                "all seven matrices are cut by rows or columns, none of them twice",
                names_everything,
            ),
            Claim("on every rank the pieces fit together and end in 16 numbers", fits),
            Claim(
                "two ranks' feed-forward adds up to the whole one",
                lambda plan: is_right(feed_forward, plan, 2),
            ),
            Claim(
                "two ranks' attention adds up to the whole one",
                lambda plan: is_right(attention, plan, 2),
            ),
            Claim(
                "four ranks add up to the whole block too",
                lambda plan: is_right(attention, plan, 4) and is_right(feed_forward, plan, 4),
            ),
            Claim("no rank holds more than 1/ranks + 1/8 of all numbers", is_light),
        ),
        ask=(
            "Which of your parts could be unequal, or in another order, and the plan still right?",
            "What would have to change in the block for one single sum to be enough?",
        ),
    ),
    hints=(
        "What a rank makes from its part must be something that it alone can finish: whole heads, "
        "whole channels.",
        "Rows of gate and up are channels. Then which part of down belongs to these channels?",
        "q, k, v, gate and up by rows, o and down by the matching columns; of q take the rows of "
        "the query heads that share the rank's key/value heads.",
    ),
    solution=plan,
    mutants=(
        Mutant(
            changed(
                gate=run_of(16, "columns"), up=run_of(16, "columns"), down=all_of(12, "columns")
            ),
            NOT_WHOLE,
            says="SiLU of a part",
        ),
        Mutant(changed(gate=backwards(12, "rows")), NOT_WHOLE, says="in the same order"),
        Mutant(
            changed(gate=run_of(16, "columns"), up=run_of(16, "columns")),
            "gate and up do not make what the rank's part of down takes: as many channels, with "
            "numbers from 0 on",
            says="do not make what",
        ),
        Mutant(changed(q=dealt(16, "rows"), o=dealt(16, "columns")), STRANGERS, says="torn apart"),
        Mutant(
            changed(q=dealt_heads("rows"), o=dealt_heads("columns")), STRANGERS, says="like cards"
        ),
        Mutant(
            changed(k=all_of(8, "rows"), v=all_of(8, "rows")),
            "every rank has all key/value heads: its query heads meet the wrong ones",
            says="meet the wrong ones",
        ),
        Mutant(
            lambda rank, ranks: {name: ("rows", range(shape[0])) for name, shape in SHAPES.items()},
            "everybody computes everything, and the sum counts it once for every rank",
            says="once for every rank",
        ),
        Mutant(
            changed(o=run_of(16, "rows"), down=run_of(16, "rows")),
            "o and down by rows need all heads and channels, but a rank has only its own: the "
            "others would have to be gathered first",
            says="gathered first",
        ),
    ),
)
