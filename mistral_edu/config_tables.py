"""The two tables in a configuration: names of labels, and heads that were pruned.

Lesson: 10_heads_and_training.

Conventions
    JSON turns whole-number keys into text; here they are numbers again, in order and checked.
"""

import reprlib
from collections.abc import Iterable, Mapping
from typing import Any


def labels_named(num_labels: int | None, id2label: Mapping | None) -> dict[int, str] | None:
    """The label names with whole-number keys (JSON has text), checked against their number.

    >>> labels_named(None, {"0": "no", "1": "yes"})
    {0: 'no', 1: 'yes'}
    """
    if id2label is None:
        return None
    names = {_index(key, "id2label"): value for key, value in id2label.items()}
    if num_labels is not None and num_labels != len(names):
        raise ValueError(
            f"num_labels={num_labels} but id2label names {len(names)} labels: drop one of the two"
        )
    if sorted(names) != list(range(len(names))) or not names:
        raise ValueError(
            f"id2label has the keys {reprlib.repr(sorted(names))}, expected 0 to n − 1: "
            "label n is row n of the classifier"
        )
    return names


def heads_pruned(pruned: Mapping | None, layers: int, heads: int) -> dict[int, list[int]]:
    """The pruned heads of each layer, sorted, with whole-number keys, checked to exist.

    >>> heads_pruned({"0": [2, 1], 1: []}, layers=2, heads=4)
    {0: [1, 2]}
    """
    result = {}
    for key, chosen in (pruned or {}).items():
        layer = _index(key, "pruned_heads")
        if not isinstance(chosen, Iterable) or isinstance(chosen, str):
            raise ValueError(f"pruned_heads[{layer}]={chosen!r} must be a list of heads")
        gone = sorted({_index(head, "pruned_heads") for head in chosen})
        if layer not in range(layers) or not set(gone) <= set(range(heads)):
            raise ValueError(
                f"pruned_heads names layer {layer}, heads {reprlib.repr(gone)}: "
                f"there are layers 0 to {layers - 1} and heads 0 to {heads - 1}"
            )
        if len(gone) == heads:
            raise ValueError(f"pruned_heads leaves layer {layer} none of its {heads} heads")
        if gone:
            result[layer] = gone
    return result


def _index(key: Any, field: str) -> int:
    if isinstance(key, str) and key.isdecimal():
        return int(key)
    if isinstance(key, int) and not isinstance(key, bool) and key >= 0:
        return key
    raise ValueError(f"{field} has the key {reprlib.repr(key)}, expected a whole number, 0 or more")
