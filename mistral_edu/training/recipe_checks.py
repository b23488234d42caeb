"""Checks of what a recipe's file holds, made before anything is allocated.

    unknown key  →  refused, with the nearest known one;    missing key, wrong type  →  refused

A key that is misspelt and ignored would train something else than the recipe says; a size that is
left out would be the 7B's.
Lesson: 10_heads_and_training.
"""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mistral_edu.config import MistralConfig

# What a file may give for a field of each type.
EXPECTED: dict[Any, tuple[tuple[type, ...], str]] = {
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "text in quotes"),
    Path | None: ((str,), "a path in quotes"),
    list: ((list,), "a list"),
    tuple[str, ...]: ((list,), "a list"),
    dict[str, float]: ((dict,), "a table"),
    dict[str, Any]: ((dict,), "a table"),
}
SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads"),
)
ELSEWHERE = {
    "vocab_size": "give it above the tables",
    "max_position_embeddings": "give it as context in [training]",
}


class RecipeError(ValueError):
    """The recipe cannot be used; the message names the key, its value and what was expected."""


def require_known(names: Iterable[str], known: Iterable[str], where: str, what: str) -> None:
    """Refuse a name that is not known, and say which one is nearest.

    >>> require_known(["step"], ["rows", "steps"], "[training] ", "setting")
    Traceback (most recent call last):
    ...
    mistral_edu.training.recipe_checks.RecipeError: [training] step is no setting: did you mean \
steps?
    """
    known = list(known)
    for name in names:
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"
            raise RecipeError(f"{where}{name} is no {what}: {hint}")


def require_type(value: Any, kind: Any, where: str) -> None:
    """Refuse a value that a field of this type cannot have; other types are left alone.

    >>> require_type("x", int, "seed")
    Traceback (most recent call last):
    ...
    mistral_edu.training.recipe_checks.RecipeError: seed is 'x', expected a whole number
    """
    types, words = EXPECTED.get(kind, ((object,), ""))
    if not isinstance(value, types) or (types != (object,) and isinstance(value, bool)):
        raise RecipeError(f"{where} is {value!r}, expected {words}")


def checked(found: Any, kind: type, where: str) -> dict[str, Any]:
    """A table of the file as arguments of a dataclass.

    Args:
        found: the table.
        kind: the dataclass.
        where: what to say before a key.

    Raises:
        RecipeError: for an unknown or a missing key, or a value of another type.
    """
    require_type(found, dict[str, Any], where.strip() or "the file")
    require_known(found, [one.name for one in fields(kind)], where, "setting")
    for one in fields(kind):
        if one.name in found:
            require_type(found[one.name], one.type, f"{where}{one.name}")
        elif one.default is MISSING and one.default_factory is MISSING:
            raise RecipeError(f"{where}{one.name} is missing: give it")
    return dict(found)


def check_model(found: Mapping[str, Any]) -> None:
    """Refuse a key of [model] that is no field of `MistralConfig`, which itself would keep it."""
    for name, hint in ELSEWHERE.items():
        if name in found:
            raise RecipeError(f"[model] {name} is no setting here: {hint}")
    known = inspect.signature(MistralConfig).parameters
    named = [name for name in known if name not in ("extra", *ELSEWHERE)]
    require_known(found, named, "[model] ", "setting")


def require_sizes(found: Mapping[str, Any]) -> None:
    """Refuse a fresh model of which not every size is given.

    >>> require_sizes({name: 8 for name in SIZES[1:]})
    Traceback (most recent call last):
    ...
    mistral_edu.training.recipe_checks.RecipeError: [model] hidden_size is missing: give it, or \
start_from a model
    """
    if absent := [name for name in SIZES if name not in found]:
        one = len(absent) == 1
        raise RecipeError(
            f"[model] {', '.join(absent)} {'is' if one else 'are'} missing: "
            f"give {'it' if one else 'them'}, or start_from a model"
        )
