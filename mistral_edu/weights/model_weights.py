"""A model's weights: loaded from a checkpoint by name and shape, and saved as one.

Lesson: 11_weights.

Conventions
    The model is built on the meta device, which holds shapes and no numbers; loading assigns it
    tensors that are mapped from the file, or cast and moved one at a time. So no weight is
    initialised or copied in vain, and the peak of memory is the model itself.
    Every difference between checkpoint and model is found before the first tensor is read, all
    are listed at once, and until every tensor is there the model keeps what it had.
"""

import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mistral_edu.config import MistralConfig
from mistral_edu.pretrained import PretrainedModel
from mistral_edu.weights.errors import WeightsError, listed
from mistral_edu.weights.name_matching import FRESH, matched_names
from mistral_edu.weights.saving import MAX_SHARD_BYTES, Planned, replace_weights, write_shards
from mistral_edu.weights.whole_files import whole_set

if TYPE_CHECKING:
    from mistral_edu.weights.sources import TensorSource

Shape = tuple[int, ...]
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
TENSORS_PER_LAYER = 9


def mismatches(expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> list[str]:
    """Every way in which the shapes found differ from those expected, one line each.

    >>> mismatches({"a": (2,), "b": (1,)}, {"a": (3,)})
    ['a: has shape (3,), expected (2,)', 'b: is missing']
    """
    lines = []
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            lines.append(f"{name}: is missing")
        elif name not in expected:
            lines.append(f"{name}: belongs to no parameter")
        elif expected[name] != found[name]:
            lines.append(f"{name}: has shape {found[name]}, expected {expected[name]}")
    return lines


def wrong_types(types: Mapping[str, torch.dtype], dtype: torch.dtype | None) -> list[str]:
    """What keeps tensors of these types from being one model's weights, one line each.

    Args:
        types: each tensor's type in the file.
        dtype: what they will be cast to; None keeps the file's type, which must then be one.

    >>> wrong_types({"a": torch.float32, "b": torch.int8}, None)
    ['b: has type int8, expected a floating-point type of 16 bits or more']
    """
    lines = [
        f"{name}: has type {_plain(found)}, expected a floating-point type of 16 bits or more"
        for name, found in types.items()
        if found not in FLOATS
    ]
    several = sorted(_plain(found) for found in set(types.values()))
    if dtype is None and len(several) > 1 and not lines:
        lines.append(f"the types are mixed ({', '.join(several)}): choose one with dtype=…")
    return lines


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def require_plausible(config: MistralConfig, source: "TensorSource") -> None:
    """Refuse a config that would build far more layers than the checkpoint holds.

    Raises:
        WeightsError: if the checkpoint has not enough tensors for the config's layers.
    """
    room = len(source.names()) // TENSORS_PER_LAYER
    if config.num_hidden_layers > room:
        raise WeightsError(
            f"{source} has {len(source.names())} tensors, enough for {room} layers, but its "
            f"config says num_hidden_layers={config.num_hidden_layers}: they do not belong together"
        )


def own_tensors(model: PretrainedModel) -> dict[str, Tensor]:
    """The model's tensors, without an LM head that only shares the embedding matrix."""
    tensors = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    return tensors


def load_weights(
    model: PretrainedModel,
    source: "TensorSource",
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> None:
    """Give `model`, built on any device, the weights of a checkpoint.

    Args:
        model: a `PretrainedModel`.
        source: tensors with Hugging Face's names.
        dtype, device: cast and move each tensor; None keeps the file's type.

    Raises:
        WeightsError: if names, shapes or types differ, or the file changes meanwhile; the model
            is then unchanged.
        ValueError: if `dtype` is no type for weights.
    """
    if dtype is not None and dtype not in FLOATS:
        raise ValueError(f"dtype={dtype}, expected None or one of {', '.join(map(str, FLOATS))}")
    expected = {name: tuple(tensor.shape) for name, tensor in own_tensors(model).items()}
    names = matched_names(expected, source.names())
    fresh = {name: expected.pop(name) for name in FRESH if name in expected and name not in names}
    problems = mismatches(expected, {ours: source.shape(its) for ours, its in names.items()})
    problems += wrong_types({ours: source.dtype(its) for ours, its in names.items()}, dtype)
    if problems:
        raise WeightsError(f"{source} does not fit the model:\n{listed(problems)}")
    tensors = {ours: _placed(source, its, dtype, device) for ours, its in names.items()}
    for name, shape in fresh.items():
        warnings.warn(f"{source} has no {name}: the head is new and untrained", stacklevel=3)
        like = next(iter(tensors.values()))
        tensors[name] = like.new_empty(shape).normal_(std=model.config.initializer_range)
    model.load_state_dict(tensors, strict=False, assign=True)
    model.tie_weights()


def _placed(
    source: "TensorSource", name: str, dtype: torch.dtype | None, device: torch.device | str
) -> Tensor:
    """One tensor where and as it is wanted; still mapped from the file if it is so already."""
    if torch.device(device).type == "meta":
        return torch.empty(source.shape(name), dtype=dtype or source.dtype(name), device="meta")
    return source.read(name).to(device=device, dtype=dtype)


def planned(model: PretrainedModel, dtype: torch.dtype | None = None) -> list[Planned]:
    """What `write_sharded` needs to save `model`, cast to `dtype` one tensor at a time.

    >>> from mistral_edu import load
    >>> name, dtype, shape, make = planned(load("tiny")[0], torch.float16)[-1]
    >>> name, dtype, shape == tuple(make().shape)
    ('model.norm.weight', torch.float16, True)
    """
    return [
        (name, dtype or tensor.dtype, tuple(tensor.shape), partial(tensor.to, dtype=dtype))
        for name, tensor in own_tensors(model).items()
    ]


def save_model(
    model: PretrainedModel,
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write a model's config and weights into `folder`, together or not at all.

    >>> import tempfile
    >>> from mistral_edu import MistralForCausalLM
    >>> config = MistralConfig(vocab_size=16, hidden_size=8, intermediate_size=28,
    ...     num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1)
    >>> model = MistralForCausalLM(config)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save_pretrained(folder)
    ...     again = MistralForCausalLM.from_pretrained(folder)
    >>> torch.equal(again.lm_head.weight, model.lm_head.weight)
    True
    """
    fields = model.config.to_dict() | {
        "architectures": [type(model).__name__],
        "dtype": _plain(dtype or model.dtype),
    }
    with whole_set(folder, replace_weights) as staging:
        MistralConfig(**fields).save_pretrained(staging)
        write_shards(staging, planned(model, dtype), max_shard_bytes)
