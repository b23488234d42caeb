"""The last exercise of lesson 06: a stack of eight windows on a budget of slots."""

from mistral_edu.course.checking import Claim, by_claims
from mistral_edu.course.exercise import Exercise, Mutant


def windows():
    """Eight equal steps back: 1 + 8 · 512 = 4,097 tokens."""
    return [513] * 8


BUDGET = Exercise(
    id="06.budget",
    title="Spend 6,144 slots",
    difficulty=3,
    minutes=15,
    open_ended=True,
    task="""Layers need not share one window. Design a stack of **eight layers** for texts of
**4,096 tokens**: a list of eight windows, where `None` lets a layer see everything. A layer of
window W adds W − 1 to the reach and needs W slots of cache; a `None` layer needs 4,096.

- Every layer sees at least two keys.
- The first token can influence the last.
- All caches together hold at most 6,144 slots.

Several answers are right. Find one, then find a quite different one, compare their pairs with
`visible_pairs(4096, window)`, and say which stack you would train.""",
    stub="windows = ...  # for example [64, 64, 64, 64, 64, 64, 64, 64]",
    check=by_claims(
        (
            Claim(
                "there are eight windows, each None or at least 2",
                lambda stack: len(stack) == 8 and all(w is None or w >= 2 for w in stack),
            ),
            Claim(
                "the first of 4,096 tokens can influence the last",
                lambda stack: 1 + sum((w or 4096) - 1 for w in stack) >= 4096,
            ),
            Claim(
                "the caches hold at most 6,144 slots together",
                lambda stack: sum(w or 4096 for w in stack) <= 6144,
            ),
        ),
        ask=(
            "How many hops does news of the first token need in your stack? Would you trust it "
            "to survive them all?",
            "One layer that sees everything needs a single hop. What does it cost in slots and "
            "in pairs, and at which depth would you put it?",
        ),
    ),
    hints=(
        "Start with eight equal windows. The reach is 1 + 8 · (W − 1): which W is just enough?",
        "Or start with one `None`: 4,096 slots are spent and the reach is settled. What may the "
        "other seven cost?",
        "Both `[513] * 8` and `[None] + [256] * 7` hold. They differ most in the number of hops.",
    ),
    solution=windows,
    mutants=(
        Mutant(
            lambda: [512] * 8,
            "8 · 512 is 4,096, but neighbouring layers share one position, so the reach is "
            "1 + 8 · 511 = 4,089: the first seven tokens stay unheard",
            says="share one position",
        ),
        Mutant(
            lambda: [None] * 8,
            "one layer that sees everything settles the reach; eight of them fill eight caches",
            says="eight caches",
        ),
    ),
)
