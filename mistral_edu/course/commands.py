"""What the learner types: check, hint, solution, progress.

Each shows its answer as soon as it is called, wherever in a cell that is, and returns nothing:
a returned value shows only at the end of a cell, and there it would show twice. What happened is
noted in the journal (`progress.py`), except a check on an untouched stub, which is no event.
"""

from dataclasses import replace
from typing import Any

from IPython.display import display

from mistral_edu.course import registry
from mistral_edu.course.notebook import Text, source_of
from mistral_edu.course.progress import HINT, SOLUTION, journal
from mistral_edu.course.progress_map import ProgressMap
from mistral_edu.course.verdict import Outcome


def check(id: str, answer: Any) -> None:
    """Check your answer to an exercise and show the verdict.

    It is correct, not yet (with the smallest input that fails, your result, the expected one and
    the mistake it looks like) or not attempted. An exception in your code is a "not yet".

    Args:
        id: the exercise, such as "08.slot".
        answer: what you wrote: the function itself, or the value asked for.

    Raises:
        UnknownExercise: when there is no such exercise.

    >>> check("08.slot", ...)
    ○ 08.slot · not attempted
      Replace the `...` above, run the cell again, and it will be checked.
    """
    verdict = registry.find(id).judge(answer)
    if verdict.outcome is not Outcome.NOT_ATTEMPTED:
        trouble = journal().add(id, verdict.outcome.value)
        verdict = replace(verdict, message=f"{verdict.message}\n{trouble}".rstrip())
    display(verdict)


def hint(id: str, number: int | None = None) -> None:
    """Show the next hint of an exercise; there are three, each giving more away.

    Args:
        id: the exercise, such as "08.slot".
        number: 1, 2 or 3 for that hint; by default the one after those you have seen.

    Raises:
        UnknownExercise: when there is no such exercise.
        ValueError: when `number` is not 1, 2 or 3.

    >>> hint("08.slot", 4)
    Traceback (most recent call last):
    ValueError: hint number 4: expected 1, 2 or 3
    """
    exercise = registry.find(id)
    if number not in (None, 1, 2, 3):
        raise ValueError(f"hint number {number}: expected 1, 2 or 3")
    standings, _ = journal().read()
    seen = standings[id].hints if id in standings else 0
    shown = number or min(seen, 2) + 1
    journal().add(id, HINT)
    display(Text(f"Hint {shown} of 3: {exercise.hints[shown - 1]}"))


def solution(id: str) -> None:
    """Show the solution of an exercise: the source of the function the tests hold correct.

    Args:
        id: the exercise, such as "08.slot".

    Raises:
        UnknownExercise: when there is no such exercise.

    >>> solution("08.slot")
    def slot(position, window):
        return position % window
    """
    exercise = registry.find(id)
    journal().add(id, SOLUTION)
    source = source_of(exercise.solution)
    display(Text(source, f"**One solution of {id}**\n\n```python\n{source}\n```"))


def progress(lesson: str | None = None) -> None:
    """Show what you have done so far, from the journal on this machine, as a small map.

    Args:
        lesson: two digits, "08", for that lesson's exercises; by default the whole course.

    Raises:
        ValueError: when there is no such lesson.

    >>> progress("42")
    Traceback (most recent call last):
    ValueError: lesson '42': expected one of 00 to 17
    """
    if lesson is not None and lesson not in registry.LESSONS:
        raise ValueError(f"lesson {lesson!r}: expected one of 00 to {max(registry.LESSONS)}")
    standings, note = journal().read()
    catalogue = {number: registry.exercises(number) for number in registry.LESSONS}
    display(ProgressMap(catalogue, standings, lesson, note))
