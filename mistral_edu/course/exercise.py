"""One exercise: the task, how it is checked, the help it gives, and the mistakes it knows.

Everything about an exercise is in one object, so that the lesson, the checks, the hints and the
tests cannot drift apart: the lesson's cells are compared with `heading`, `task` and `cell`, and
the tests hold `judge` against the solution (correct), the stub (not attempted) and every mutant
(not yet, with the mutant's words).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mistral_edu.course.running import is_unwritten
from mistral_edu.course.verdict import Outcome, Verdict, not_attempted

Check = Callable[["Exercise", Any], Verdict]


@dataclass(frozen=True)
class Mutant:
    """A known mistake: an answer that contains it, and what to say about it.

    Args:
        answer: the wrong answer, of the same kind as the solution.
        diagnosis: one sentence, shown after "This looks like:".
        says: the phrase the verdict on this mutant must contain; the tests hold it there.

    >>> Mutant(lambda position, window: position, "it never wraps", says="never wraps").says
    'never wraps'
    """

    answer: Callable[..., Any]
    diagnosis: str
    says: str


@dataclass(frozen=True)
class Exercise:
    """An exercise of a lesson.

    Args:
        id: lesson number, a dot and a word: "08.slot".
        title: a few words.
        task: what to do, in markdown; the lesson shows it word for word.
        difficulty: 1 (one idea), 2 (two ideas) or 3 (open, or a trap).
        minutes: how long it takes, honestly.
        stub: the source the learner fills in; it holds a `...` where the answer goes.
        check: made by `checking.by_cases` or `checking.by_claims`.
        hints: exactly three, each giving more away than the one before.
        solution: a real function whose source is shown on demand and whose name the stub defines.
        mutants: at least two known mistakes.
        open_ended: True for a lesson's last exercise, which has no single right answer.

    Raises:
        ValueError: when a field is out of its range; the text names it.

    >>> from mistral_edu.course.checking import by_cases
    >>> def slot(position, window):
    ...     return position % window
    >>> mutants = (
    ...     Mutant(lambda position, window: position, "it never wraps", says="never wraps"),
    ...     Mutant(lambda position, window: 0, "every token shares a slot", says="shares a slot"),
    ... )
    >>> exercise = Exercise(
    ...     id="99.slot", title="Which slot?", task="Write `slot(position, window)`.",
    ...     difficulty=1, minutes=5, stub="def slot(position, window):\\n    ...",
    ...     check=by_cases([(3, 4), (9, 4)]), hints=("wrap", "remainder", "%"),
    ...     solution=slot, mutants=mutants,
    ... )
    >>> exercise.judge(slot)
    ● 99.slot · correct
      2 of 2 cases right.
    >>> print(exercise.heading)
    ### Exercise 99.slot · Which slot? (★☆☆, 5 minutes)
    """

    id: str
    title: str
    task: str
    difficulty: int
    minutes: int
    stub: str
    check: Check
    hints: tuple[str, ...]
    solution: Callable[..., Any]
    mutants: tuple[Mutant, ...]
    open_ended: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        rules = {
            "id must look like 08.slot": re.fullmatch(r"\d\d\.[a-z][a-z0-9_]*", self.id),
            "difficulty must be 1, 2 or 3": self.difficulty in (1, 2, 3),
            "minutes must be at least 1": self.minutes >= 1,
            "stub must hold a `...` to replace": "..." in self.stub,
            f"stub must define {self.name}": re.search(rf"\b{self.name}\b", self.stub),
            "there must be exactly three hints": len(self.hints) == 3 and all(self.hints),
            "there must be at least two mutants": len(self.mutants) >= 2,
        }
        broken = [rule for rule, holds in rules.items() if not holds]
        if broken:
            raise ValueError(f"exercise {self.id!r}: {'; '.join(broken)}")

    @property
    def lesson(self) -> str:
        """The lesson's two digits."""
        return self.id[:2]

    @property
    def name(self) -> str:
        """The name the stub defines and the check is given."""
        return self.solution.__name__

    @property
    def heading(self) -> str:
        """The exercise's heading in the lesson."""
        stars = "★" * self.difficulty + "☆" * (3 - self.difficulty)
        return f"### Exercise {self.id} · {self.title} ({stars}, {self.minutes} minutes)"

    @property
    def cell(self) -> str:
        """The code cell of the lesson: the stub, then its check."""
        stub = self.stub.strip()
        gap = "\n\n\n" if stub.splitlines()[-1].startswith(" ") else "\n\n"  # as ruff formats it
        return f'{stub}{gap}check("{self.id}", {self.name})'

    def judge(self, answer: Any) -> Verdict:
        """Say what an answer is worth; never raises because of it.

        Args:
            answer: what the learner wrote: the function or the value, not a call's result.

        Returns:
            The verdict; an answer so strange that it cannot even be compared is "not yet".
        """
        if is_unwritten(answer):
            return not_attempted(self.id)
        try:
            return self.check(self, answer)
        except Exception as error:
            text = f"your answer could not be compared: {type(error).__name__}: {error}"
            return Verdict(self.id, Outcome.NOT_YET, text)
