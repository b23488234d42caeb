"""params.json: the architecture as Mistral's own files spell it.

    {"dim": 4096, "n_layers": 32, "head_dim": 128, "hidden_dim": 14336, "n_heads": 32,
     "n_kv_heads": 8, "norm_eps": 1e-05, "sliding_window": 4096, "vocab_size": 32000}

That is the whole file of Mistral-7B-v0.1: no base of the rotary angles. Its own code of
December 2023 took 10,000 where there is a window and 1,000,000 where there is none; its later code
takes 1,000,000 always, and then reads v0.1 wrong without an error (trap 18). Here the first rule
holds, and what is written always names the base.

Source: mistralai/mistral-inference, `mistral/model.py` at b818190; transformers issue 31093 for the
variants (trap 19).
Lesson: 11_weights.

Conventions
    An unknown field is ignored unless it is known to change what the model computes.
    The file says nothing of the longest sequence; 32,768 is what the three 7B releases have.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mistral_edu.config import MistralConfig
from mistral_edu.weights import strict_json
from mistral_edu.weights.checkpoint import inside
from mistral_edu.weights.errors import WeightsError, listed

PARAMS_FILE = "params.json"
COUNTS = {  # their name → ours; all must be there
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "head_dim": "head_dim",
    "hidden_dim": "intermediate_size",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
}
WINDOWS = ("sliding_window", "ragged_attention")  # the second: a file from before the release
MOST_LAYERS, LARGEST_COUNT, LARGEST_NUMBER = 1024, 2**24, 1e30
RELEASED_POSITIONS = 32768
THETA_WITH_WINDOW, THETA_WITHOUT = 1e4, 1e6
# Fields of other models. Ignoring one would load a model that computes something else.
OTHER_MODELS = {
    "moe": "a mixture of experts (Mixtral)",
    "lora": "a low-rank adapter",
    "quantization": "quantized weights",
    "vision_encoder": "an image encoder (Pixtral)",
    "rope_scaling": "scaled positions",
    "yarn": "scaled positions",
    "use_biases": "projections with biases",
}


def read_params(folder: str | Path) -> dict[str, Any]:
    """The fields of the params.json in `folder`.

    Raises:
        FileNotFoundError: if there is none.
        WeightsError: if it is not one JSON object, or a link out of the folder.
    """
    return strict_json.read_object(inside(Path(folder), PARAMS_FILE))


def config_from_params(
    fields: Mapping[str, Any], *, vocab_size: int | None = None
) -> MistralConfig:
    """The config that a params.json describes.

    Args:
        fields: of the file.
        vocab_size: rows of the embedding matrix, for early files that leave it out or say −1.

    Raises:
        WeightsError: if fields are missing, of a wrong type or out of range (all are listed), or
            describe another model than Mistral.

    >>> fields = {"dim": 64, "n_layers": 2, "head_dim": 16, "hidden_dim": 128, "n_heads": 4,
    ...           "n_kv_heads": 2, "norm_eps": 1e-5, "sliding_window": "8"}
    >>> config = config_from_params(fields, vocab_size=100)
    >>> config.sliding_window, config.rope_theta, config.vocab_size
    (8, 10000.0, 100)
    """
    _refuse_other_models(fields)
    problems: list[str] = []
    found: dict[str, Any] = {
        ours: _count(fields, theirs, problems) for theirs, ours in COUNTS.items()
    }
    found["vocab_size"] = _vocabulary(fields, vocab_size, problems)
    found["sliding_window"] = window = _window(fields, problems)
    theta = THETA_WITHOUT if window is None else THETA_WITH_WINDOW
    found["rope_theta"] = _number(fields, "rope_theta", problems, default=theta)
    found["rms_norm_eps"] = _number(fields, "norm_eps", problems)
    found["max_position_embeddings"] = _positions(fields, problems)
    if found["num_hidden_layers"] > MOST_LAYERS:
        problems.append(f"n_layers is {found['num_hidden_layers']}, expected ≤ {MOST_LAYERS}")
    if problems:
        raise WeightsError(f"{PARAMS_FILE} cannot be used:\n{listed(problems)}")
    try:
        return MistralConfig(**found, tie_word_embeddings=bool(fields.get("tied_embeddings")))
    except ValueError as error:
        raise WeightsError(f"{PARAMS_FILE} cannot be used: {error}") from error


def params_from_config(config: MistralConfig) -> dict[str, Any]:
    """The fields of a params.json for `config`; the inverse of `config_from_params`.

    A field beyond those of the released files is written only where its reader would otherwise
    assume something else. What the format has no word for (special ids, initializer_range, …) is
    left out.

    Raises:
        WeightsError: for another activation than SiLU, which Mistral's own code takes for granted.

    >>> params_from_config(MistralConfig.mistral_7b_v0_1())["rope_theta"]
    10000.0
    """
    if config.hidden_act not in ("silu", "swish"):
        raise WeightsError(
            f"hidden_act={config.hidden_act!r} cannot be said in {PARAMS_FILE}, which always means "
            "'silu': keep this model in the Hugging Face layout"
        )
    fields = {theirs: getattr(config, ours) for theirs, ours in COUNTS.items()}
    fields |= {"norm_eps": config.rms_norm_eps, "vocab_size": config.vocab_size}
    fields["rope_theta"] = config.rope_theta
    if config.sliding_window is not None:
        fields["sliding_window"] = config.sliding_window
    if config.max_position_embeddings != RELEASED_POSITIONS:
        fields["max_position_embeddings"] = config.max_position_embeddings
    if config.tie_word_embeddings:
        fields["tied_embeddings"] = True
    return fields


def release_of(config: MistralConfig) -> str | None:
    """Which release of Mistral-7B this is ("v0.1", "v0.2", "v0.3"), or None.

    >>> release_of(MistralConfig.mistral_7b_v0_1())
    'v0.1'
    """
    v0_1 = MistralConfig.mistral_7b_v0_1()
    if any(getattr(config, name) != getattr(v0_1, name) for name in COUNTS.values()):
        return None
    told_apart_by = (config.vocab_size, config.sliding_window, config.rope_theta)
    releases = {
        (32000, 4096, 1e4): "v0.1",
        (32000, None, 1e6): "v0.2",
        (32768, None, 1e6): "v0.3",
    }
    return releases.get(told_apart_by)


def _refuse_other_models(fields: Mapping[str, Any]) -> None:
    reasons = [f"{name}: {what}" for name, what in OTHER_MODELS.items() if fields.get(name)]
    if fields.get("model_type", "transformer") not in ("transformer", "mistral"):
        reasons.append(f"model_type: {fields['model_type']!r}")
    if fields.get("causal", True) is not True:
        reasons.append(f"causal: {fields['causal']!r}")
    if fields.get("activation", "silu") != "silu":
        reasons.append(f"activation: {fields['activation']!r}")
    if reasons:
        raise WeightsError(
            f"{PARAMS_FILE} describes a model that this library does not implement:\n"
            f"{listed(reasons)}\ngive the files of a dense Mistral model"
        )


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST_COUNT


def _shown(value: Any) -> str:
    if isinstance(value, int) and abs(value) > 2**63:
        return f"a number of {value.bit_length()} bits"
    return repr(value)[:60] if isinstance(value, int | float | str | None) else type(value).__name__


def _count(fields: Mapping[str, Any], name: str, problems: list[str]) -> int:
    if name not in fields:
        problems.append(f"{name} is missing")
    elif not _whole(fields[name]):
        problems.append(f"{name} is {_shown(fields[name])}, expected a whole number of at least 1")
    else:
        return fields[name]
    return 0


def _positions(fields: Mapping[str, Any], problems: list[str]) -> int:
    if fields.get("max_position_embeddings") is None:
        return RELEASED_POSITIONS
    return _count(fields, "max_position_embeddings", problems)


def _vocabulary(fields: Mapping[str, Any], rows: int | None, problems: list[str]) -> int:
    if fields.get("vocab_size") in (None, -1):
        if rows is None:
            problems.append("vocab_size is missing, and no embedding matrix to count its rows")
        return rows or 0
    return _count(fields, "vocab_size", problems)


def _window(fields: Mapping[str, Any], problems: list[str]) -> int | None:
    """The window under either name; as a text of digits too, which a pre-release file has."""
    found = {}
    for name in WINDOWS:
        value = fields.get(name)
        if isinstance(value, str) and value.isdecimal() and len(value) < 10:
            value = int(value)
        if value is not None and not _whole(value):
            problems.append(f"{name} is {_shown(value)}, expected keys (at least 1) or null")
        elif value is not None:
            found[name] = value
    if len(set(found.values())) > 1:
        problems.append(" but ".join(f"{name} is {value}" for name, value in found.items()))
    return next(iter(found.values()), None)


def _number(
    fields: Mapping[str, Any], name: str, problems: list[str], default: float | None = None
) -> float:
    value = default if fields.get(name) is None else fields[name]
    if value is None:
        problems.append(f"{name} is missing")
    elif isinstance(value, bool) or not isinstance(value, int | float):
        problems.append(f"{name} is {_shown(value)}, expected a number")
    elif not 0 < value <= LARGEST_NUMBER:  # false for NaN too
        problems.append(f"{name} is {_shown(value)}, expected a number above 0")
    else:
        return float(value)
    return 1.0
