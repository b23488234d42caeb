"""Where tensors come from: the one interface that loading, converting and verifying read through.

Lesson: 11_weights.

Conventions
    Opening a source checks all of it that can be checked without reading tensors.
    Reading gives one tensor, mapped where possible, so a checkpoint larger than memory can be
    walked through.
"""

from typing import Protocol

import torch
from torch import Tensor

from mistral_edu.weights.checkpoint import open_safetensors
from mistral_edu.weights.errors import WeightsError
from mistral_edu.weights.safetensors_files import open_safetensors_file

__all__ = ["TensorSource", "WeightsError", "open_safetensors", "open_safetensors_file"]


class TensorSource(Protocol):
    """Tensors by name, read one at a time, mapped and not copied."""

    def names(self) -> list[str]:
        """Every tensor's name."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without reading it."""
        ...

    def dtype(self, name: str) -> torch.dtype:
        """A tensor's type, without reading it."""
        ...

    def read(self, name: str) -> Tensor:
        """The tensor, on the CPU."""
        ...
