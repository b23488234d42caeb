"""How the commands print: a text piece by piece, a warning as one line that does not cut a text."""

import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# What moves the cursor or clears a terminal: C0 but tab and newline, DEL, and C1.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show each warning once, as a line on stderr without the place in the source it comes from.

    >>> with plain_warnings():
    ...     warnings.warn("too long")
    """
    said: set[str] = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        text = " ".join(str(message).split())
        if text not in said:
            said.add(text)
            print(f"mistral-edu: {text}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def text_printed() -> Iterator[Callable[[str], None]]:
    """A function that prints the pieces of one text; the line ends with the block.

    Warnings wait for the end of the text, and an error begins on a line of its own. A terminal
    gets no control characters, and one that lacks a letter shows "?" for it.

    >>> with text_printed() as write:
    ...     write("In the valley")
    In the valley
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    on_terminal = sys.stdout.isatty()

    def write(text: str) -> None:
        print(CONTROL.sub("", text) if on_terminal else text, end="", flush=True)

    with warnings.catch_warnings(record=True) as held:
        try:
            yield write
        except Exception:
            print(flush=True)
            raise
        print(flush=True)
    for one in held:
        warnings.showwarning(one.message, one.category, one.filename, one.lineno)
