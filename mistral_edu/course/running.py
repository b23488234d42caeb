"""Running a learner's answer without ever letting it break the lesson.

`attempt` calls an answer and returns its result, or the exception as a value. `is_unwritten` tells
an untouched stub (`...`) from a wrong answer, so that an unread lesson runs from top to bottom.
"""

import copy
import dis
import inspect
import linecache
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch

# What a function consists of whose body is only `...`, `pass` or a docstring.
_EMPTY_BODY = {"RESUME", "NOP", "CACHE", "COPY_FREE_VARS", "MAKE_CELL", "RETURN_VALUE"}


@dataclass(frozen=True)
class Raised:
    """An exception, as a result to compare and to show.

    Args:
        kind: the exception's class name.
        message: its text.
        line: the learner's line that raised it, stripped; empty where no source is known.

    >>> print(Raised("ZeroDivisionError", "integer modulo by zero", "return position % 0"))
    ZeroDivisionError: integer modulo by zero
    in the line: return position % 0
    """

    kind: str
    message: str
    line: str = ""

    def __str__(self) -> str:
        first = f"{self.kind}: {self.message}" if self.message else self.kind
        return first + (f"\nin the line: {self.line}" if self.line else "")


def attempt(run: Callable[..., Any], answer: Any, case: tuple) -> Any:
    """Call `run(answer, *case)` on fresh copies of the inputs, from a fixed seed.

    Args:
        run: how an answer is driven with one case.
        answer: what the learner wrote.
        case: the arguments; they are copied, so an answer that writes into them harms no one.

    Returns:
        The result, or a `Raised` for whatever exception the answer raised. The lesson's own
        random stream is left as it was, so an answer cannot change the numbers of later cells.

    >>> attempt(lambda answer, position: answer(position), lambda position: position % 4, (9,))
    1
    """
    arguments = copy.deepcopy(case)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            return run(answer, *arguments)
        except (Exception, SystemExit) as error:
            return Raised(type(error).__name__, str(error), _failing_line(error, answer))


def _failing_line(error: BaseException, answer: Any) -> str:
    """The deepest line of the traceback that stands in the answer's own file."""
    code = getattr(inspect.unwrap(answer) if callable(answer) else answer, "__code__", None)
    if code is None:
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == code.co_filename]
    return linecache.getline(own[-1].filename, own[-1].lineno or 0).strip() if own else ""


def is_unwritten(answer: Any) -> bool:
    """Whether an answer is still the stub.

    Args:
        answer: a value, a function or a class.

    Returns:
        True for None and `...`, for containers holding `...`, for a function whose body is only
        `...`, `pass` or a docstring, and for a class with such a method.

    >>> def slot(position, window): ...
    >>> is_unwritten(slot), is_unwritten(...), is_unwritten(0)
    (True, True, False)
    """
    if isinstance(answer, type):
        methods = [value for value in vars(answer).values() if isinstance(value, FunctionType)]
        return any(_has_empty_body(method) for method in methods)
    if isinstance(answer, FunctionType):
        return _has_empty_body(inspect.unwrap(answer))
    return answer is None or holds_ellipsis(answer)


def _has_empty_body(function: FunctionType) -> bool:
    for step in dis.get_instructions(function):
        nothing = step.opname in {"LOAD_CONST", "RETURN_CONST"} and step.argval in (None, ...)
        if step.opname not in _EMPTY_BODY and not nothing:
            return False
    return True


def holds_ellipsis(value: Any) -> bool:
    """Whether a result shows that a `...` is still standing in the answer.

    Args:
        value: a result of `attempt`.

    >>> holds_ellipsis({"slot": ...}), holds_ellipsis([1, 2]), holds_ellipsis(...)
    (True, False, True)
    """
    if isinstance(value, Raised):
        return value.kind == "NotImplementedError" or "ellipsis" in value.message.lower()
    if isinstance(value, dict):
        return any(holds_ellipsis(part) for part in value.values())
    if isinstance(value, list | tuple | set):
        return any(holds_ellipsis(part) for part in value)
    return value is ...
