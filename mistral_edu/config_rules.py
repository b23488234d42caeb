"""What may stand in a configuration: types, ranges, and values that go together.

Lesson: 00_map_and_toolbox.

Conventions
    Pure functions over plain fields. Each refusal is a ValueError that names the field, its value
    and what was expected; where two values disagree it names both.
    The upper limits are far above any model there is. They stop a damaged `config.json` before it
    asks for a matrix whose size no longer fits a 64-bit number.
"""

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


@dataclass(frozen=True)
class Rule:
    """One kind of value: how to tell it, how to say it, and the most a count may be."""

    accepts: Callable[[Any], bool]
    wanted: str
    most: int | None = None


def _whole(value: Any, least: int, most: int) -> bool:
    # True is an int to Python, never to us.
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _count(most: int, least: str = "at least 1") -> Rule:
    return Rule(lambda value: _whole(value, 1, most), f"a whole number, {least}", most)


def _number(least_excluded: bool) -> Rule:
    def accepts(value: Any) -> bool:
        real = isinstance(value, int | float) and not isinstance(value, bool)
        return real and math.isfinite(value) and (value > 0 if least_excluded else value >= 0)

    return Rule(
        accepts, "a finite number above 0" if least_excluded else "a finite number, 0 or more"
    )


def _or_none(rule: Rule, meaning: str) -> Rule:
    return Rule(
        lambda value: value is None or rule.accepts(value),
        f"{rule.wanted}, or None{meaning}",
        rule.most,
    )


def _is_ids(value: Any) -> bool:
    several = value if isinstance(value, list | tuple) else [value]
    return all(_whole(one, 0, 2**31 - 1) for one in several)


_FLAG = Rule(lambda value: isinstance(value, bool), "True or False")
_ID = _or_none(Rule(lambda value: _whole(value, 0, 2**31 - 1), "a token id, 0 or more"), "")
_TABLE = _or_none(Rule(lambda value: isinstance(value, Mapping), "a table"), "")

RULES: dict[str, Rule] = {
    "vocab_size": _count(2**24),
    "hidden_size": _count(2**20),
    "intermediate_size": _count(2**22),
    "num_hidden_layers": _count(4096),
    "num_attention_heads": _count(2**16),
    "num_key_value_heads": _or_none(_count(2**16), " for one to each query head"),
    "head_dim": _or_none(_count(2**16), " for hidden_size / num_attention_heads"),
    "max_position_embeddings": _count(2**31 - 1),
    "sliding_window": _or_none(
        _count(2**31 - 1, "at least 1 (a query sees itself)"), " for no window"
    ),
    "num_labels": _or_none(_count(2**24), " for 2"),
    "initializer_range": _number(least_excluded=False),
    "rms_norm_eps": _number(least_excluded=True),
    "rope_theta": _number(least_excluded=True),
    "use_cache": _FLAG,
    "tie_word_embeddings": _FLAG,
    "output_attentions": _FLAG,
    "output_hidden_states": _FLAG,
    "return_dict": _FLAG,
    "pad_token_id": _ID,
    "bos_token_id": _ID,
    "eos_token_id": Rule(lambda v: v is None or _is_ids(v), "a token id, a list of them, or None"),
    "hidden_act": Rule(lambda v: isinstance(v, str) or callable(v), "a name or a function"),
    "attention_dropout": Rule(
        lambda value: not isinstance(value, bool) and value == 0,
        "0: Mistral drops nothing in attention, and no dropout is implemented",
    ),
    "problem_type": Rule(
        lambda v: v is None or v in PROBLEM_TYPES, f"None or one of {PROBLEM_TYPES}"
    ),
    "id2label": _TABLE,
    "label2id": _TABLE,
    "pruned_heads": _TABLE,
}


def check_types(fields: Mapping[str, Any]) -> None:
    """Refuse the first field whose value is of the wrong kind or out of range.

    >>> check_types({"hidden_size": 64, "anything_else": object()})
    >>> check_types({"hidden_size": "64"})
    Traceback (most recent call last):
    ...
    ValueError: hidden_size='64' must be a whole number, at least 1
    """
    for name, value in fields.items():
        rule = RULES.get(name)
        if rule is None or rule.accepts(value):
            continue
        too_large = rule.most is not None and isinstance(value, int) and value > rule.most
        wanted = f"at most {rule.most:,}" if too_large else rule.wanted
        raise ValueError(f"{name}={reprlib.repr(value)} must be {wanted}")


def check_heads(hidden: int, heads: int, shared: int, head_dim: int | None) -> None:
    """Refuse head counts and widths that do not divide each other.

    >>> check_heads(hidden=64, heads=4, shared=2, head_dim=None)
    """
    if heads % shared:
        raise ValueError(
            f"num_attention_heads={heads} is not a multiple of num_key_value_heads={shared}: "
            "every key/value head must serve the same number of query heads"
        )
    if head_dim is None and hidden % heads:
        raise ValueError(
            f"hidden_size={hidden} is not a multiple of num_attention_heads={heads}: "
            "change one of them or give head_dim"
        )
    width = hidden // heads if head_dim is None else head_dim
    if width < 2 or width % 2:
        raise ValueError(
            f"head_dim={width} (hidden_size={hidden}, num_attention_heads={heads}) must be even: "
            "rotary embedding turns pairs"
        )


def check_together(config: Any) -> None:
    """Refuse values that are fine alone and wrong together.

    >>> from mistral_edu import MistralConfig
    >>> MistralConfig(vocab_size=100, pad_token_id=100)
    Traceback (most recent call last):
    ...
    ValueError: pad_token_id=100 is not one of the 0 to 99 of vocab_size=100: choose one, or None
    """
    pad, size = config.pad_token_id, config.vocab_size
    if pad is not None and pad >= size:
        raise ValueError(
            f"pad_token_id={pad} is not one of the 0 to {size - 1} of vocab_size={size}: "
            "choose one, or None"
        )
    if config.problem_type == PROBLEM_TYPES[1] and config.num_labels == 1:
        raise ValueError(
            f"problem_type={config.problem_type!r} needs at least 2 labels, but num_labels=1: "
            "take 2 labels for yes and no, or problem_type='regression'"
        )


def settle_rope(fields: dict[str, Any]) -> dict[str, Any]:
    """Bring the base of the rotary angles to the top level, where older files have it.

    Newer Hugging Face files nest it in `rope_parameters`. Scaled positions are refused: no
    Mistral model scales them, and ignoring the wish would compute another model.

    >>> settle_rope({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}})
    {'rope_theta': 1000000.0}
    """
    rest = dict(fields)
    for name in ("rope_parameters", "rope_scaling"):
        nested = rest.pop(name, None)
        if nested is None:
            continue
        if not isinstance(nested, Mapping):
            raise ValueError(f"{name}={reprlib.repr(nested)} must be a table")
        kind = nested.get("rope_type", nested.get("type", "default"))
        if kind != "default" or nested.get("partial_rotary_factor", 1.0) != 1.0:
            raise ValueError(
                f"{name}={reprlib.repr(dict(nested))}: rope_type={kind!r} is not 'default': "
                "Mistral scales no positions and turns every channel"
            )
        theta = nested.get("rope_theta")
        if theta is None:
            continue
        if rest.setdefault("rope_theta", theta) != theta:
            raise ValueError(
                f"rope_theta={rest['rope_theta']!r} but {name} says {theta!r}: keep one of them"
            )
    return rest


def settle_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Bring the fields of a `config.json` of either generation into the form of `MistralConfig`.

    >>> settle_fields({"model_type": "mistral", "hidden_size": 64})
    {'hidden_size': 64}
    """
    fields = settle_rope(fields)
    family = fields.pop("model_type", "mistral")
    if family != "mistral":
        raise ValueError(
            f"model_type={family!r} is not 'mistral': this library implements Mistral only"
        )
    check_types(fields)
    if "self" in fields:
        raise ValueError("'self' cannot be a field of a config: name the field otherwise")
    return fields
