"""The checks of lesson 16 take every right answer, and say nothing untrue of a wrong one."""

import pytest

from mistral_edu.course.lesson_16 import HEADS, heads
from mistral_edu.course.lesson_16_plan import PLAN, plan
from mistral_edu.course.verdict import Outcome


def numbers_of(heads):
    return [2 * head + number for head in heads for number in (0, 1)]


def with_channels(given, channels):
    cut = {"gate": ("rows", channels), "up": ("rows", channels), "down": ("columns", channels)}
    return {**given, **cut}


def with_heads(given, shared):
    queries = numbers_of([2 * head + member for head in shared for member in (0, 1)])
    cut = {name: ("rows", numbers_of(shared)) for name in "kv"}
    return {**given, "q": ("rows", queries), **cut, "o": ("columns", queries)}


RIGHT = {
    "the ranks backwards": lambda rank, ranks: plan(ranks - 1 - rank, ranks),
    "groups like cards": lambda rank, ranks: with_heads(plan(rank, ranks), range(rank, 4, ranks)),
    "ranks without channels": lambda rank, ranks: with_channels(
        plan(rank, ranks), [range(6), range(6, 12), range(0), range(0)][rank]
    ),
    "ranges": lambda rank, ranks: {
        name: (how, range(numbers[0], numbers[-1] + 1))
        for name, (how, numbers) in plan(rank, ranks).items()
    },
}


@pytest.mark.parametrize("name", RIGHT)
def test_many_plans_are_right(name):
    verdict = PLAN.judge(RIGHT[name])
    assert verdict.outcome is Outcome.CORRECT, verdict


def test_a_rank_without_heads_is_refused_for_the_weight_of_the_others():
    def all_to_the_first(rank, ranks):
        mine = range(4) if rank == 0 else range(0)
        return with_heads(plan(rank, ranks), mine)

    message = PLAN.judge(all_to_the_first).message
    assert message.startswith("not true  no rank holds more than"), message
    assert "5 of 6 claims hold" in message


def test_a_run_of_heads_may_be_a_range():
    verdict = HEADS.judge(lambda *given: tuple(range(n[0], n[-1] + 1) for n in heads(*given)))
    assert verdict.outcome is Outcome.CORRECT, verdict
