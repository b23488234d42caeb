"""What a check answers: one of three outcomes, with words that help.

Lesson 00 shows the first one. A verdict is a value: it draws itself as a cell's result, and a test
can read its parts. The outcome is written in words and with a mark, never by colour alone.
"""

import html
from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """The three things a check can say; an exception is not among them.

    >>> Outcome.NOT_YET.value, Outcome.NOT_YET.mark
    ('not yet', '◐')
    """

    CORRECT = "correct"
    NOT_YET = "not yet"
    NOT_ATTEMPTED = "not attempted"

    @property
    def mark(self) -> str:
        """The sign of this outcome: full, half or empty circle."""
        return {"correct": "●", "not yet": "◐", "not attempted": "○"}[self.value]

    @property
    def colour(self) -> str:
        """A colour legible on light and on dark, told apart without red and green."""
        return {"correct": "#0072b2", "not yet": "#d55e00", "not attempted": "#888888"}[self.value]


@dataclass(frozen=True, repr=False)
class Verdict:
    """The answer to one check.

    Args:
        exercise: the exercise's id, such as "08.slot".
        outcome: correct, not yet or not attempted.
        message: lines that explain the outcome; may be empty.

    >>> Verdict("08.slot", Outcome.CORRECT)
    ● 08.slot · correct
    """

    exercise: str
    outcome: Outcome
    message: str = ""

    @property
    def title(self) -> str:
        """Mark, id and outcome in one line."""
        return f"{self.outcome.mark} {self.exercise} · {self.outcome.value}"

    def __repr__(self) -> str:
        indented = ["  " + line if line else "" for line in self.message.splitlines()]
        return "\n".join([self.title, *indented])

    def _repr_html_(self) -> str:
        body = f"<pre>{html.escape(self.message)}</pre>" if self.message else ""
        return (
            f'<div class="medu-verdict" style="border-left:4px solid {self.outcome.colour};'
            f'padding-left:0.8em"><strong>{html.escape(self.title)}</strong>{body}</div>'
        )


def not_attempted(exercise: str) -> Verdict:
    """The verdict on an untouched stub.

    >>> not_attempted("08.slot")
    ○ 08.slot · not attempted
      Replace the `...` above, run the cell again, and it will be checked.
    """
    text = "Replace the `...` above, run the cell again, and it will be checked."
    return Verdict(exercise, Outcome.NOT_ATTEMPTED, text)
