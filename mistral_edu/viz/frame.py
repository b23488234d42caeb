"""Frames: everything a picture says, as plain data, before anything is drawn.

    state  →  frame (numbers, title, summary, text)  →  figure  →  widget

A frame is a frozen dataclass made by a pure function. Its numbers come from the model's own code
(the visibility rule, a real rolling cache), so a picture cannot agree with itself and disagree
with the model.

Lessons: 00_map_and_toolbox, 06_sliding_window, 08_rolling_cache, 16_beyond_one_machine.

Conventions
    `title` states the finding; `summary` says the picture in plain words, on one line, and is its
    alternative text; `to_text()` is the picture for a reader who has only text. All three depend
    on the frame alone, so they can be compared exactly.
    Arrays inside a frame are read-only.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar, SupportsInt

import numpy as np

_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"), (1, "bytes"))


class Frame(ABC):
    """What every frame offers; `topic` names it in CSS classes and file names."""

    topic: ClassVar[str]

    @property
    @abstractmethod
    def title(self) -> str:
        """The finding, as the figure's heading."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """The whole picture in plain words: its alternative text."""

    @abstractmethod
    def to_text(self) -> str:
        """The picture as text, the same on every machine."""


def frozen(array: Iterable) -> np.ndarray:
    """A read-only NumPy copy.

    >>> frozen([1, 2]).flags.writeable
    False
    """
    copy = np.array(array if isinstance(array, np.ndarray) else list(array))
    copy.setflags(write=False)
    return copy


def count(number: int, thing: str) -> str:
    """A number with its noun, in the plural where it needs one.

    >>> count(1, "slot"), count(36, "pair")
    ('1 slot', '36 pairs')
    """
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def listing(numbers: Iterable[SupportsInt]) -> str:
    """Numbers with commas; a dash for none.

    >>> listing([3, 4, 5]), listing([])
    ('3, 4, 5', '–')
    """
    return ", ".join(str(int(number)) for number in numbers) or "–"


def listed(things: Iterable) -> str:
    """Things as a sentence lists them.

    >>> listed([3, 4, 5]), listed([3]), listed([])
    ('3, 4 and 5', '3', 'nothing')
    """
    *most, last = [str(thing) for thing in things] or ["nothing"]
    return f"{', '.join(most)} and {last}" if most else last


def aligned(rows: Sequence[Sequence[str]], gap: str = "  ", right: bool = True) -> list[str]:
    """Rows of cells as lines of equally wide columns, without trailing spaces.

    Args:
        rows: cells, equally many in each row.
        gap: what stands between two columns.
        right: whether cells lean right.

    >>> aligned([["slot", "0", "1"], ["holds", "4", "–"]])
    [' slot  0  1', 'holds  4  –']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pad = str.rjust if right else str.ljust
    return [
        gap.join(pad(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def readable(size: int) -> str:
    """Bytes in the largest unit that leaves a number of at least 1.

    >>> readable(14_483_464_192), readable(640)
    ('14.48 GB', '640 bytes')
    """
    scale, unit = unit_for(size)
    return f"{size / scale:.2f} {unit}" if scale > 1 else f"{size} bytes"


def unit_for(size: int) -> tuple[int, str]:
    """The scale and name of that unit.

    >>> unit_for(14_483_464_192)
    (1000000000, 'GB')
    """
    return next((pair for pair in _UNITS if size >= pair[0]), _UNITS[-1])


def magnitude(number: int) -> tuple[int, str]:
    """The scale and name in which to count parameters.

    >>> magnitude(7_241_732_096)
    (1000000000, 'billions')
    """
    steps = ((10**9, "billions"), (10**6, "millions"), (10**3, "thousands"), (1, "count"))
    return next((pair for pair in steps if number >= pair[0]), steps[-1])


def short(number: int) -> str:
    """A number of parameters in three digits.

    >>> short(5_637_144_576), short(266_240), short(0)
    ('5.64 billion', '266 thousand', '0')
    """
    scale, name = magnitude(number)
    return f"{number / scale:.3g} {name[:-1]}" if scale > 1 else str(number)
