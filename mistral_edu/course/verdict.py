"""What a check answers: one of three outcomes, with words that help.

Lesson 00 shows the first one. A verdict is a value: it draws itself as a cell's result, and a test
can read its parts. The outcome is written in words and with a mark, never by colour alone.

Conventions
    A message is text with `code` and *emphasis*. On a page they are drawn, except in values, which
    stand in a field (`checking.py`): an answer is shown as it is.
"""

import html
import re
from dataclasses import dataclass
from enum import Enum

_VALUE = re.compile(r"(input|yours|expected|raised) | {10}")
_WRAPPED = "white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere"
_CODE = '<code style="background:var(--jp-layout-color2);padding:0 0.2em">'


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
        lines = [
            html.escape(line) if _VALUE.match(line) else inline_html(line)
            for line in self.message.splitlines()
        ]
        body = f"<pre style='{_WRAPPED}'>" + "\n".join(lines) + "</pre>" if lines else ""
        return (
            f'<div class="medu-verdict" style="border-left:4px solid {self.outcome.colour};'
            f'padding-left:0.8em"><strong>{html.escape(self.title)}</strong>{body}</div>'
        )


def inline_html(text: str) -> str:
    """Text as HTML, in which `code` and *emphasis* are drawn and everything else is itself.

    >>> inline_html("2 * 3 * 4 < *many*")
    '2 * 3 * 4 &lt; <em>many</em>'
    """
    pieces = html.escape(text).split("`")
    if len(pieces) % 2 == 0:  # a quote without its partner
        return html.escape(text)
    for k, piece in enumerate(pieces):
        emphasised = re.sub(r"(?<![\w*])\*(\w[^*]*(?<=\w))\*(?![\w*])", r"<em>\1</em>", piece)
        pieces[k] = f"{_CODE}{piece}</code>" if k % 2 else emphasised
    return "".join(pieces)


def not_attempted(exercise: str) -> Verdict:
    """The verdict on an untouched stub.

    >>> not_attempted("08.slot")
    ○ 08.slot · not attempted
      Replace the `...` above, run the cell again, and it will be checked.
    """
    text = "Replace the `...` above, run the cell again, and it will be checked."
    return Verdict(exercise, Outcome.NOT_ATTEMPTED, text)
