"""JSON from strangers: one reading or none.

Python's parser takes more than the standard allows, and lets a later key overwrite an earlier one,
so two programs can read two things in one file. Here such a file is refused.

Source: RFC 8259; section 4 on names that are not unique, section 6 on numbers.
Lesson: 11_weights.
"""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from mistral_edu.weights.errors import WeightsError

LARGEST = 8 * 2**20  # bytes; the header of Mistral-7B needs 40,000


def parse_object(data: bytes, source: object) -> dict[str, Any]:
    """Read one JSON object.

    Args:
        data: UTF-8, at most `LARGEST` bytes.
        source: what the bytes are, for messages.

    Raises:
        WeightsError: if it is anything else: too long, not UTF-8, nested too deep, with a key
            twice in one object, with NaN or a number beyond float64, or not an object.

    >>> parse_object(b'{"a": 1}', "this file")
    {'a': 1}
    >>> parse_object(b'{"a": 1, "a": 2}', "this file")
    Traceback (most recent call last):
    ...
    mistral_edu.weights.errors.WeightsError: this file is not valid JSON (the key 'a' occurs \
twice): copy or save it again
    """
    if len(data) > LARGEST:
        raise WeightsError(
            f"{source} has more than {LARGEST} bytes of JSON: that is no honest file"
        )
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_without_repeats,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except RecursionError:
        raise WeightsError(f"{source} is not valid JSON (nested too deep)") from None
    except ValueError as error:
        raise WeightsError(
            f"{source} is not valid JSON ({error}): copy or save it again"
        ) from error
    if not isinstance(value, dict):
        raise WeightsError(f"{source} holds a {type(value).__name__}, expected a JSON object")
    return value


def read_object(path: Path) -> dict[str, Any]:
    """Read one JSON object from a file, never more than `LARGEST` bytes of it.

    Raises:
        WeightsError: as `parse_object` does.
    """
    with path.open("rb") as file:
        return parse_object(file.read(LARGEST + 1), path)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} occurs twice")
        for text in (key, value):
            # JSON can spell half a surrogate pair, which no file name and no terminal can show.
            if isinstance(text, str) and any("\ud800" <= letter <= "\udfff" for letter in text):
                raise ValueError(f"{text!r} is no Unicode text")
        result[key] = value
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:40]} is too large")
    return value
