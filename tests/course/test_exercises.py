"""Every registered exercise tells right from wrong, and says which wrong."""

import re

import pytest
import torch
from toys import BYTES, MASK, SCHEDULE, SLOT

from mistral_edu.course import registry
from mistral_edu.course.verdict import Outcome

# The toys keep these tests honest in their own right, whatever the lessons hold.
TOYS = [SLOT, BYTES, SCHEDULE, MASK]
EXERCISES = TOYS + [e for lesson in registry.LESSONS for e in registry.exercises(lesson)]
MUTANTS = [
    pytest.param(exercise, mutant, id=f"{exercise.id}-{mutant.says}")
    for exercise in EXERCISES
    for mutant in exercise.mutants
]
every_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.id)


def untouched(exercise):
    """What the lesson's cell hands to check before anyone has written a line."""
    names = {"torch": torch}
    exec(exercise.stub, names)
    return names[exercise.name]


@every_exercise
def test_the_solution_is_correct(exercise):
    verdict = exercise.judge(exercise.solution)
    assert verdict.outcome is Outcome.CORRECT, verdict


@every_exercise
def test_the_stub_is_not_attempted(exercise):
    verdict = exercise.judge(untouched(exercise))
    assert verdict.outcome is Outcome.NOT_ATTEMPTED, verdict


@pytest.mark.parametrize(("exercise", "mutant"), MUTANTS)
def test_the_mutant_is_not_yet_and_its_mistake_is_named(exercise, mutant):
    verdict = exercise.judge(mutant.answer)
    assert verdict.outcome is Outcome.NOT_YET, verdict
    assert mutant.says in verdict.message
    assert mutant.diagnosis in verdict.message


@every_exercise
def test_the_example_in_the_stub_is_not_an_answer(exercise):
    for example in re.findall(r"# for example (.+)", exercise.stub):
        assert exercise.judge(eval(example)).outcome is Outcome.NOT_YET, example


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda window: (-window, 0), "no limit"),
        (lambda window: (-window, window), "no limit"),
        (lambda window: (-1, -1) if window is None else (-window, 0), "no limit"),
        (lambda window: (window, window), "W + 1 keys"),
        (lambda window: (-1, -1) if window is None else (window, 0), "W + 1 keys"),
        (lambda window: (window - 1, 0), "a line of its own"),
        (lambda window: (0, 0) if window is None else (window - 1, 0), "only itself"),
    ],
)
def test_flash_bounds_name_the_mistake_with_or_without_a_line_for_none(answer, says):
    message = registry.find("06.flash").judge(answer).message
    assert "This looks like: " in message
    assert says in message.partition("This looks like: ")[2]


@pytest.mark.parametrize(
    ("workloads", "says"),
    [
        ([(1, 1, 1, 16), (8, 2, 1, 8)], "the context stays"),
        ([(1, 1, 4096, 16), (64, 1, 128, 16)], "bits and passing tokens never change"),
        ([(1, 1, 128, 16), (64, 1, 4096, 4)], "arithmetic looks like choosing"),
    ],
)
def test_suspects_that_stay_together_are_named_by_a_cause_that_is_true(workloads, says):
    message = registry.find("14.bottleneck").judge(workloads).message
    assert says in message.partition("This looks like: ")[2]


def test_the_machine_that_lesson_00_calls_large_enough_is_a_plan_that_fits():
    laptop = {"machine": "a laptop", "gigabytes": 16, "bytes_per_weight": 1, "batch": 1}
    plan = {**laptop, "context": 8192, "because": "eight bits cost a little accuracy"}
    assert registry.find("00.fit").judge(plan).outcome is Outcome.CORRECT


@every_exercise
def test_there_are_three_different_hints(exercise):
    assert len(set(exercise.hints)) == 3


@every_exercise
def test_the_solution_has_a_source_to_show(exercise):
    from mistral_edu.course.notebook import source_of

    assert exercise.name in source_of(exercise.solution)


def test_ids_are_unique_and_belong_to_their_lesson():
    for lesson in registry.LESSONS:
        ids = [exercise.id for exercise in registry.exercises(lesson)]
        assert len(set(ids)) == len(ids)
        assert all(id.startswith(f"{lesson}.") for id in ids)
