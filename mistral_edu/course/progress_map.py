"""The map that `progress()` draws: eighteen lessons in a strip, and the exercises of one or all.

Marks carry the meaning (○ untouched, ◐ begun, ● correct, · not written yet), in the text and in the
picture alike; colour only repeats it. A lesson counts as written once it has exercises.
"""

import html
from dataclasses import dataclass

from mistral_edu.course.exercise import Exercise
from mistral_edu.course.progress import Standing
from mistral_edu.course.registry import LESSONS
from mistral_edu.course.verdict import Outcome

CELL = 30
UNWRITTEN = "·"
LEGEND = "○ not attempted   ◐ begun   ● correct   · not written yet"


@dataclass(frozen=True, repr=False)
class ProgressMap:
    """A picture of the journal.

    Args:
        catalogue: the exercises of each lesson number.
        standings: how far each exercise has come, by id; untouched ones may be missing.
        lesson: the lesson whose exercises are listed; None for a line per lesson.
        note: a remark about the journal file; empty when there is nothing to say.

    >>> print(ProgressMap({}, {}, "08"))
    Lesson 08 · Rolling cache: 0 of 0 exercises correct
    Course: 00· 01· 02· 03· 04· 05· 06· 07· 08· 09· 10· 11· 12· 13· 14· 15· 16· 17·
    ○ not attempted   ◐ begun   ● correct   · not written yet
    """

    catalogue: dict[str, tuple[Exercise, ...]]
    standings: dict[str, Standing]
    lesson: str | None = None
    note: str = ""

    def mark(self, number: str) -> Outcome:
        """A lesson's standing: correct when all its exercises are, not yet once any was begun.

        Args:
            number: two digits.

        >>> ProgressMap({}, {}).mark("08").value
        'not attempted'
        """
        outcomes = [self._standing(exercise).outcome for exercise in self._exercises(number)]
        if outcomes and all(outcome is Outcome.CORRECT for outcome in outcomes):
            return Outcome.CORRECT
        begun = any(outcome is not Outcome.NOT_ATTEMPTED for outcome in outcomes)
        return Outcome.NOT_YET if begun else Outcome.NOT_ATTEMPTED

    def written(self, number: str) -> bool:
        """Whether a lesson is there to be worked through.

        Args:
            number: two digits.

        >>> ProgressMap({}, {}).written("08")
        False
        """
        return bool(self._exercises(number))

    def __repr__(self) -> str:
        marks = {n: self.mark(n).mark if self.written(n) else UNWRITTEN for n in LESSONS}
        strip = " ".join(number + mark for number, mark in marks.items())
        lines = [*self._lines(), f"Course: {strip}", LEGEND, self.note]
        return "\n".join(line for line in lines if line)

    def _repr_html_(self) -> str:
        """The strip as a drawing, the list as text below it."""
        boxes = "".join(self._box(k, number) for k, number in enumerate(LESSONS))
        words = [f"lesson {number} {self._words(number)}" for number in LESSONS]
        text = "\n".join([LEGEND, *self._lines(), self.note]).strip()
        return (
            '<div class="medu-progress">'
            f'<svg role="img" aria-label="{", ".join(words)}" '
            f'width="{CELL * len(LESSONS)}" height="46" fill="none" stroke="currentColor">'
            f"{boxes}</svg><pre>{html.escape(text)}</pre></div>"
        )

    def _box(self, column: int, number: str) -> str:
        """One lesson: a ring, half or wholly filled, above its number; faint dots if unwritten."""
        outcome, centre = self.mark(number), CELL * column + CELL // 2
        half = f"M {centre} 7 A 9 9 0 0 0 {centre} 25 Z"
        filling = {
            Outcome.CORRECT: f'<circle cx="{centre}" cy="16" r="9" fill="{outcome.colour}"/>',
            Outcome.NOT_YET: f'<path d="{half}" fill="{outcome.colour}"/>',
            Outcome.NOT_ATTEMPTED: "",
        }[outcome]
        faint = "" if self.written(number) else ' opacity="0.55" stroke-dasharray="1 3"'
        return (
            f'<g{faint}>{filling}<circle cx="{centre}" cy="16" r="9"/>'
            f'<text x="{centre}" y="42" font-size="12" text-anchor="middle" '
            f'fill="currentColor" stroke="none">{number}</text></g>'
        )

    def _words(self, number: str) -> str:
        mark = self.mark(number)
        begun = "begun" if mark is Outcome.NOT_YET else mark.value
        return begun if self.written(number) else "not written yet"

    def _exercises(self, number: str) -> tuple[Exercise, ...]:
        return self.catalogue.get(number, ())

    def _standing(self, exercise: Exercise) -> Standing:
        return self.standings.get(exercise.id, Standing())

    def _correct(self, number: str) -> str:
        exercises = self._exercises(number)
        done = [e for e in exercises if self._standing(e).outcome is Outcome.CORRECT]
        return f"{len(done)} of {len(exercises)}"

    def _lines(self) -> list[str]:
        if self.lesson is None:
            return [self._lesson_line(number) for number in LESSONS if self._exercises(number)]
        title = f"Lesson {self.lesson} · {LESSONS[self.lesson].title}"
        rows = [self._exercise_line(exercise) for exercise in self._exercises(self.lesson)]
        return [f"{title}: {self._correct(self.lesson)} exercises correct", *rows]

    def _lesson_line(self, number: str) -> str:
        marks = "".join(self._standing(e).outcome.mark for e in self._exercises(number))
        return f"{number} {LESSONS[number].title:<24} {marks} {self._correct(number)} correct"

    def _exercise_line(self, exercise: Exercise) -> str:
        standing = self._standing(exercise)
        extras = [f"{standing.hints} hints" if standing.hints > 1 else "1 hint"]
        extras = extras * bool(standing.hints) + ["solution seen"] * standing.solution_seen
        after = f" ({', '.join(extras)})" if extras else ""
        outcome = standing.outcome
        return f"  {outcome.mark} {exercise.id} {exercise.title} · {outcome.value}{after}"
