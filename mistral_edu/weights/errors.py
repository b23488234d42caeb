"""The error of this folder, and how it lists many problems without flooding the screen.

Lesson: 11_weights.
"""

from collections.abc import Sequence

MOST_LINES = 20


class WeightsError(ValueError):
    """Files of weights that are damaged, hostile or do not fit; the message lists every problem."""


def listed(problems: Sequence[str], most: int = MOST_LINES) -> str:
    """The problems, one indented line each; beyond `most`, only how many more there are.

    >>> print(listed(["a: is missing", "b: is missing", "c: is missing"], most=2))
      a: is missing
      b: is missing
      … and 1 more
    """
    lines = [f"  {problem}" for problem in problems[:most]]
    if len(problems) > most:
        lines.append(f"  … and {len(problems) - most} more")
    return "\n".join(lines)
