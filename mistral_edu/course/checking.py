"""The two ways to check an answer: case by case against a truth, or claim by claim.

`by_cases` is for questions with one right result; `by_claims` for open ones. Both recognise a
known mistake in the same way: the answer is compared with every mutant on all cases (or claims),
and when it behaves exactly like one, that mutant's diagnosis is shown.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from mistral_edu.course.compare import describe, first_difference, input_size, same
from mistral_edu.course.exercise import Exercise
from mistral_edu.course.running import Raised, attempt, holds_ellipsis
from mistral_edu.course.verdict import Outcome, Verdict, not_attempted


@dataclass(frozen=True)
class Claim:
    """Something that must hold of an open answer.

    Args:
        text: the claim, a sentence without a full stop.
        holds: a predicate on the answer; an exception in it counts as "does not hold".

    >>> Claim("it is a multiple of 4", lambda answer: answer % 4 == 0).holds(8)
    True
    """

    text: str
    holds: Callable[[Any], Any]


@dataclass(frozen=True)
class CaseCheck:
    """Runs an answer and the truth on the same inputs; made by `by_cases`.

    >>> by_cases([(0, 4), (4, 4)]).cases
    ((0, 4), (4, 4))
    """

    cases: tuple[tuple, ...]
    truth: Callable[..., Any] | None
    run: Callable[..., Any] | None
    equal: Callable[[Any, Any], bool]

    def __call__(self, exercise: Exercise, answer: Any) -> Verdict:
        """The verdict on `answer`, with the smallest failing case where one fails."""
        if not callable(answer):
            if any(self.cases):
                return _not_a_function(exercise, answer)
            answer = _constant(answer)
        results = self.respond(answer)
        if any(map(holds_ellipsis, results)):
            return not_attempted(exercise.id)
        expected = self.respond(self.truth or exercise.solution)
        wrong = [k for k, right in enumerate(map(self.equal, results, expected)) if not right]
        right = f"{len(self.cases) - len(wrong)} of {_count(len(self.cases), 'case')} right."
        if not wrong:
            return Verdict(exercise.id, Outcome.CORRECT, right)
        smallest = min(wrong, key=lambda k: input_size(self.cases[k]))
        lines = self._failure(exercise, self.cases[smallest], results[smallest], expected[smallest])
        lines += _likely_mistake(exercise, results, self.respond, self.equal)
        return Verdict(exercise.id, Outcome.NOT_YET, "\n".join([*lines, _more(exercise, right)]))

    def respond(self, answer: Callable[..., Any]) -> list:
        """What an answer returns, or raises, on every case."""
        return [attempt(self.run or _call, answer, case) for case in self.cases]

    def _failure(self, exercise: Exercise, case: tuple, got: Any, expected: Any) -> list[str]:
        shown = _show_case(exercise, self.run, case)
        lines = [_field("input", shown)] if case else []
        lines += [_field("yours", describe(got)), _field("expected", describe(expected))]
        return lines + [line for line in [first_difference(got, expected)] if line]


@dataclass(frozen=True)
class ClaimCheck:
    """Holds an open answer against every claim; made by `by_claims`.

    >>> by_claims([Claim("it is positive", lambda answer: answer > 0)]).respond(3)
    [True]
    """

    claims: tuple[Claim, ...]
    ask: tuple[str, ...]

    def __call__(self, exercise: Exercise, answer: Any) -> Verdict:
        """The verdict on `answer`, with the first claim that fails where one does."""
        value = _value_of(answer)
        results = self.respond(value)
        if any(map(holds_ellipsis, [value, *results])):
            return not_attempted(exercise.id)
        failing = [k for k, held in enumerate(results) if held is not True]
        right = f"{len(results) - len(failing)} of {_count(len(results), 'claim')} hold."
        if not failing:
            questions = [f"Ask yourself: {question}" for question in self.ask]
            return Verdict(exercise.id, Outcome.CORRECT, "\n".join([right, *questions]))
        lines = [_field("not true", self.claims[failing[0]].text)]
        raised = [part for part in [value, results[failing[0]]] if isinstance(part, Raised)]
        lines += [_field("raised", str(part)) for part in raised[:1]]
        lines += _likely_mistake(exercise, results, lambda a: self.respond(_value_of(a)), same)
        return Verdict(exercise.id, Outcome.NOT_YET, "\n".join([*lines, _more(exercise, right)]))

    def respond(self, value: Any) -> list:
        """For every claim True, False, or the exception met while testing it."""
        if isinstance(value, Raised):
            return [False] * len(self.claims)
        found = [attempt(lambda given, claim: claim.holds(given), value, (c,)) for c in self.claims]
        return [held if isinstance(held, Raised) else bool(held) for held in found]


def by_cases(
    cases: Sequence[tuple],
    truth: Callable[..., Any] | None = None,
    run: Callable[..., Any] | None = None,
    equal: Callable[[Any, Any], bool] = same,
) -> CaseCheck:
    """A check that runs answer and truth on the same small inputs.

    Args:
        cases: tuples of arguments; `[()]` for a question whose answer is a plain value.
        truth: what is right, preferably a function of `mistral_edu`; by default the solution.
        run: how an answer is driven, `run(answer, *case)`; by default the answer is called.
        equal: when a result counts as right, `equal(got, expected)`.

    Returns:
        The `check` of an `Exercise`. All cases right: correct. Else not yet, with the smallest
        failing input, the answer's result, the expected one, and the likely mistake.

    >>> check = by_cases([(0, 4), (9, 4)])
    >>> check.respond(lambda position, window: position % window)
    [0, 1]
    """
    return CaseCheck(tuple(map(tuple, cases)), truth, run, equal)


def by_claims(claims: Sequence[Claim], ask: Sequence[str] = ()) -> ClaimCheck:
    """A check for an open question: every claim must hold of the answer.

    Args:
        claims: in the order in which they should be met; the first that fails is shown.
        ask: questions to put to yourself, shown when all claims hold.

    Returns:
        The `check` of an `Exercise`. A function without arguments stands for the value it
        returns, so that a solution or mutant can be written for a question about a value.

    >>> by_claims([Claim("it is positive", lambda answer: answer > 0)], ask=["How large?"]).ask
    ('How large?',)
    """
    return ClaimCheck(tuple(claims), tuple(ask))


def _call(answer: Callable[..., Any], *case: Any) -> Any:
    return answer(*case)


def _constant(value: Any) -> Callable[..., Any]:
    return lambda *_: value


def _value_of(answer: Any) -> Any:
    """The result of a function without arguments; any other answer is itself."""
    bare = isinstance(answer, FunctionType) and not inspect.signature(answer).parameters
    return attempt(_call, answer, ()) if bare else answer


def _likely_mistake(
    exercise: Exercise,
    results: list,
    respond: Callable[[Any], list],
    equal: Callable[[Any, Any], bool],
) -> list[str]:
    """The diagnosis of the first mutant that behaves as the answer does everywhere."""
    for mutant in exercise.mutants:
        if all(map(equal, results, respond(mutant.answer))):
            return [f"This looks like: {mutant.diagnosis}"]
    return []


def _not_a_function(exercise: Exercise, answer: Any) -> Verdict:
    name = exercise.name
    text = f'the check needs the function itself: check("{exercise.id}", {name}), not {name}(…).'
    lines = [_field("yours", describe(answer)), text]
    return Verdict(exercise.id, Outcome.NOT_YET, "\n".join(lines))


def _show_case(exercise: Exercise, run: Callable[..., Any] | None, case: tuple) -> str:
    """The case as a call, with the arguments' names: `slot(position=4, window=4)`."""
    names = list(inspect.signature(run or exercise.solution).parameters)
    names = names[1:] if run else names
    pairs = zip(names, case, strict=False) if len(names) >= len(case) else enumerate(case)
    return f"{exercise.name}({', '.join(f'{name}={describe(value)}' for name, value in pairs)})"


def _field(name: str, text: str) -> str:
    """A name in a column of ten, then the text, its further lines indented alike."""
    return f"{name:<10}" + text.replace("\n", "\n" + " " * 10)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _more(exercise: Exercise, right: str) -> str:
    return f'{right} For a nudge: hint("{exercise.id}")'
