"""When two answers are the same, how large an input is, and how a value is shown.

Numbers and tensors are compared with a tolerance, because a correct answer may add in another
order. A mask must be boolean, because a float 0/1 mask added to scores is a classic silent bug.
"""

import math
from typing import Any

import torch
from torch import Tensor

from mistral_edu.course.running import Raised

RELATIVE, ABSOLUTE = 1e-5, 1e-6
SHOWN_NUMBERS = 64
SHOWN_CHARACTERS = 600


def same(got: Any, expected: Any) -> bool:
    """Whether a result equals the expected one, up to rounding.

    Args:
        got: the learner's result.
        expected: the truth; numbers, strings, tensors, None, exceptions (by class), or
            lists, tuples and dicts of these.

    Returns:
        True when equal. Tensors must agree in shape and in being boolean; lists and tuples count
        as one kind; nan equals nan.

    >>> same([1.0, 2], (1.0 + 1e-9, 2)), same(torch.ones(2), torch.ones(2, 1))
    (True, False)
    """
    if isinstance(got, Raised) or isinstance(expected, Raised):
        return getattr(got, "kind", None) == getattr(expected, "kind", None)
    if isinstance(expected, Tensor):
        return _same_tensor(got, expected)
    if isinstance(got, Tensor) and got.numel() == 1:
        got = got.item()
    if isinstance(expected, dict):
        return isinstance(got, dict) and _same_dict(got, expected)
    if isinstance(expected, list | tuple):
        fits = isinstance(got, list | tuple) and len(got) == len(expected)
        return fits and all(map(same, got, expected))
    if isinstance(expected, float | complex | int) and isinstance(got, float | complex | int):
        return _same_number(got, expected)
    return type(got) is type(expected) and bool(got == expected)


def _same_dict(got: dict, expected: dict) -> bool:
    return got.keys() == expected.keys() and all(same(got[key], expected[key]) for key in expected)


def _same_number(got: complex, expected: complex) -> bool:
    if got == expected or (got != got and expected != expected):
        return True
    finite = math.isfinite(abs(got)) and math.isfinite(abs(expected))
    return finite and abs(got - expected) <= max(RELATIVE * abs(expected), ABSOLUTE)


def _same_tensor(got: Any, expected: Tensor) -> bool:
    try:
        got = torch.as_tensor(got)
    except (TypeError, ValueError, RuntimeError):
        return False
    if got.shape != expected.shape or (got.dtype == torch.bool) != (expected.dtype == torch.bool):
        return False
    wide = torch.complex128 if got.is_complex() or expected.is_complex() else torch.float64
    return torch.allclose(
        got.detach().to(wide), expected.detach().to(wide), RELATIVE, ABSOLUTE, equal_nan=True
    )


def input_size(value: Any) -> int:
    """How much there is to read in an input: the smallest failing one is shown first.

    Args:
        value: one case, or a part of it.

    Returns:
        The sum over its parts: a tensor counts its elements, an integer its magnitude, a string
        its length, anything else 1.

    >>> input_size((4, 3)), input_size((torch.zeros(2, 3), "ab"))
    (7, 8)
    """
    if isinstance(value, Tensor):
        return value.numel()
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, list | tuple):
        return sum(input_size(part) for part in value)
    if isinstance(value, str | bytes):
        return len(value)
    return abs(value) if isinstance(value, int) else 1


def describe(value: Any) -> str:
    """A value in few words: whole when it is small, by its shape when it is large.

    Args:
        value: anything a case or a result may hold.

    >>> print(describe(torch.arange(3)))
    tensor([0, 1, 2])
    >>> print(describe(torch.zeros(2, 64)))
    a torch.float32 tensor of shape (2, 64)
    """
    if isinstance(value, Tensor):
        if value.numel() > SHOWN_NUMBERS:
            return f"a {value.dtype} tensor of shape {tuple(value.shape)}"
        return repr(value.detach())
    text = str(value) if isinstance(value, Raised) else repr(value)
    if len(text) > SHOWN_CHARACTERS:
        return f"{text[:SHOWN_CHARACTERS]} … ({len(text)} characters)"
    return text


def first_difference(got: Any, expected: Any) -> str:
    """Why two tensors differ, in one line; empty for anything else.

    Args:
        got: the learner's result.
        expected: the truth.

    >>> first_difference(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 3]))
    'first difference at [2]: yours 2, expected 3'
    >>> first_difference(torch.zeros(2), torch.zeros(3))
    'the shapes differ: yours (2,), expected (3,)'
    """
    if not (isinstance(got, Tensor) and isinstance(expected, Tensor)):
        return ""
    if got.shape != expected.shape:
        return f"the shapes differ: yours {tuple(got.shape)}, expected {tuple(expected.shape)}"
    if (got.dtype == torch.bool) != (expected.dtype == torch.bool):
        return f"the dtypes differ: yours {got.dtype}, expected {expected.dtype}"
    close = torch.isclose(got, expected.to(got.dtype), RELATIVE, ABSOLUTE, equal_nan=True)
    where = (~close).nonzero()
    if not len(where):
        return ""
    index = tuple(where[0].tolist())
    mine, right = got[index].item(), expected[index].item()
    return f"first difference at {list(index)}: yours {mine:.6g}, expected {right:.6g}"
