"""What a check answers to answers nobody foresaw."""

import numpy as np
import pytest
import torch
from toys import BYTES, MASK, SCHEDULE, SLOT, exercise, slot

from mistral_edu.course.checking import by_cases
from mistral_edu.course.compare import same
from mistral_edu.course.exercise import Mutant
from mistral_edu.course.verdict import Outcome


def outcome(exercise, answer):
    return exercise.judge(answer).outcome


def test_the_smallest_failing_input_is_shown_with_both_results():
    text = SLOT.judge(lambda position, window: position).message
    assert "slot(position=4, window=4)" in text
    assert "yours     4" in text
    assert "expected  0" in text
    assert "2 of 4 cases right" in text


def test_an_unknown_mistake_gets_no_invented_diagnosis():
    assert "looks like" not in SLOT.judge(lambda position, window: position).message


def test_an_exception_is_not_yet_and_shows_the_line():
    def broken(position, window):
        return position % 0

    verdict = SLOT.judge(broken)
    assert verdict.outcome is Outcome.NOT_YET
    assert "ZeroDivisionError" in verdict.message
    assert "return position % 0" in verdict.message


def leaves(position, window):
    raise SystemExit("bye")


def writes_forever(position, window):
    return writes_forever(position, window)


@pytest.mark.parametrize(
    "answer",
    [
        leaves,
        writes_forever,
        lambda: 3,
        lambda position, window: object(),
        lambda position, window: np.arange(3),
        lambda position, window: torch.ones(2, 2, device="meta"),
        lambda position, window: torch.ones(3, requires_grad=True) * 2,
        lambda position, window: "a string",
        lambda position, window: {"a": [1]},
        "not a function",
        7,
        torch.arange(3),
        object(),
        int,
    ],
)
@pytest.mark.parametrize("toy", [SLOT, MASK, SCHEDULE, BYTES], ids=lambda toy: toy.id)
def test_no_answer_can_raise_or_pass(toy, answer):
    assert outcome(toy, answer) is Outcome.NOT_YET


def test_an_answer_that_cannot_be_compared_is_not_yet():
    verdict = MASK.judge(lambda length: torch.ones(length, length, device="meta") > 0)
    assert verdict.outcome is Outcome.NOT_YET
    assert "could not be compared" in verdict.message


def raises_not_implemented(position, window):
    raise NotImplementedError


def half_written(position, window):
    start = ...
    return start + window


def returns_the_gap(position, window):
    return ...


def only_words(position, window):
    """To be done."""


@pytest.mark.parametrize(
    "answer", [None, ..., raises_not_implemented, half_written, returns_the_gap, only_words]
)
def test_a_gap_left_open_is_not_attempted(answer):
    assert outcome(SLOT, answer) is Outcome.NOT_ATTEMPTED


def test_a_class_with_an_open_method_is_not_attempted():
    class Ring:
        def write(self, position): ...

    assert outcome(SLOT, Ring) is Outcome.NOT_ATTEMPTED


def test_forgetting_return_is_not_yet():
    def forgot(position, window):
        position % window

    assert outcome(SLOT, forgot) is Outcome.NOT_YET


def test_a_value_may_be_given_as_a_value():
    assert outcome(BYTES, 64) is Outcome.CORRECT
    assert outcome(BYTES, torch.tensor(64)) is Outcome.CORRECT
    assert outcome(BYTES, 32) is Outcome.NOT_YET


def test_giving_a_call_instead_of_the_function_is_explained():
    assert 'check("99.slot", slot)' in SLOT.judge(slot(9, 4)).message


def test_the_failing_claim_is_shown_and_questions_follow_success():
    assert "not true  all are in slot 0" in SCHEDULE.judge(lambda window: [0, 4, 5]).message
    assert "longer than the window?" in SCHEDULE.judge(SCHEDULE.solution).message


def test_a_long_tensor_is_told_by_its_first_difference():
    def far_off(length):
        right = MASK.solution(length)
        right[-1, :2] = length < 20
        return right

    text = MASK.judge(far_off).message
    assert "first difference at [19, 0]: yours 0, expected 1" in text
    assert "of shape (20, 20)" in text


def test_a_mask_of_numbers_is_not_a_mask():
    text = MASK.judge(lambda length: MASK.solution(length).float()).message
    assert "dtypes differ" in text


def test_an_answer_cannot_spoil_inputs_or_the_random_stream():
    def greedy(values):
        torch.rand(5)
        values.clear()
        return 0

    mutants = (Mutant(max, "a", says="a"), Mutant(min, "b", says="b"))
    toy = exercise(
        greedy, by_cases([([1, 2],)], truth=lambda v: len(v) - 2), mutants, "greedy = ..."
    )
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    assert outcome(toy, greedy) is Outcome.CORRECT
    assert torch.equal(torch.rand(2), expected)


def test_an_expected_exception_is_matched_by_its_class():
    def guard(position):
        if position < 0:
            raise ValueError(f"position {position}")
        return position

    mutants = (
        Mutant(abs, "it repairs instead of refusing", says="refusing"),
        Mutant(lambda position: position, "it lets everything pass", says="everything"),
    )
    toy = exercise(guard, by_cases([(1,), (-1,)]), mutants, "def guard(position):\n    ...")
    assert outcome(toy, guard) is Outcome.CORRECT
    assert "refusing" in toy.judge(abs).message
    assert "ValueError" in toy.judge(abs).message


@pytest.mark.parametrize(
    ("got", "expected", "equal"),
    [
        (1.0, 1, True),
        (True, 1, True),
        (float("nan"), float("nan"), True),
        (float("inf"), float("inf"), True),
        (float("inf"), 1.0, False),
        (1.0, float("inf"), False),
        ([1, 2], (1, 2), True),
        ([1, 2], [1, 2, 3], False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"b": 1}, False),
        ("a", "a", True),
        (None, 0, False),
        ([[1, 2]], torch.tensor([[1, 2]]), True),
        (torch.tensor([1.0]), torch.tensor([1.0 + 1e-7]), True),
        (torch.tensor([1.0]), torch.tensor([1.01]), False),
        (torch.zeros(2, 1), torch.zeros(2), False),
        (torch.zeros(2), torch.zeros(2, dtype=torch.bool), False),
    ],
)
def test_sameness(got, expected, equal):
    assert same(got, expected) is equal


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "8.slot"),
        ("difficulty", 4),
        ("minutes", 0),
        ("stub", "def slot(position, window):\n    return 0"),
        ("stub", "def place(position, window):\n    ..."),
        ("hints", ("one", "two")),
        ("mutants", SLOT.mutants[:1]),
    ],
)
def test_a_malformed_exercise_is_refused_by_name(field, value):
    from dataclasses import replace

    with pytest.raises(ValueError, match=field.removesuffix("s")):
        replace(SLOT, **{field: value})
