"""A model's weights: loaded from a checkpoint by name and shape, and saved as one.

Lesson: 11_weights.

Conventions
    The model is built on the meta device, which holds shapes and no numbers; loading assigns it
    tensors that are mapped from the file, or cast and moved one at a time. So no weight is
    initialised or copied in vain, and the peak of memory is the model itself.
    Every difference between checkpoint and model is found before the first tensor is read, and
    all are listed at once.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mistral_edu.pretrained import PretrainedModel
from mistral_edu.weights.checkpoint import open_safetensors
from mistral_edu.weights.errors import WeightsError, listed
from mistral_edu.weights.saving import MAX_SHARD_BYTES, Planned, write_sharded

if TYPE_CHECKING:
    from mistral_edu.weights.sources import TensorSource

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def mismatches(
    expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]
) -> list[str]:
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


def own_tensors(model: PretrainedModel) -> dict[str, Tensor]:
    """The model's tensors, without an LM head that only shares the embedding matrix."""
    tensors = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    return tensors
