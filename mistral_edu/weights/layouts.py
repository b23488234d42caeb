"""A checkpoint of one layout, read as if it were of the other.

    names → the other layout's names;   rows of W_q and W_k → the other layout's order

Converting is then writing what is read, and loading an original file needs no converting.

Lesson: 11_weights.

Conventions
    Names and shapes are checked against the config when the view is made; every difference is
    listed at once, and no tensor is read.
"""

import torch
from torch import Tensor

from mistral_edu.config import MistralConfig
from mistral_edu.weights.errors import WeightsError, listed
from mistral_edu.weights.names import Layout, entries, layout_of
from mistral_edu.weights.sources import TensorSource


class InLayout:
    """The tensors of `source`, named and ordered as in `layout`.

    Args:
        source: a checkpoint of either layout.
        config: of the model it holds.
        layout: to read it in.

    Raises:
        WeightsError: if the checkpoint does not hold exactly the tensors of the config.

    >>> from mistral_edu.paths import data_dir
    >>> from mistral_edu.weights.sources import open_safetensors
    >>> tiny = data_dir() / "tiny"
    >>> original = InLayout(open_safetensors(tiny), MistralConfig.from_pretrained(tiny), "original")
    >>> original.names()[:2], original.shape("layers.0.attention.wk.weight")
    (['tok_embeddings.weight', 'layers.0.attention_norm.weight'], (64, 256))
    """

    def __init__(self, source: TensorSource, config: MistralConfig, layout: Layout) -> None:
        self._source, self._layout = source, layout
        self._stored = layout_of(source.names())
        self._entries = {entry.name(layout): entry for entry in entries(config)}
        problems = misfits(source, config)
        if problems:
            raise WeightsError(f"the weights do not fit the config:\n{listed(problems)}")

    def _stored_name(self, name: str) -> str:
        return self._entries[name].name(self._stored)

    def names(self) -> list[str]:
        """Every tensor's name, in the order of the layers."""
        return list(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, the same in both layouts."""
        return self._entries[name].shape

    def dtype(self, name: str) -> torch.dtype:
        """A tensor's type in the file."""
        return self._source.dtype(self._stored_name(name))

    def read(self, name: str) -> Tensor:
        """One tensor, its rows in this layout's order."""
        tensor = self._source.read(self._stored_name(name))
        if self._stored == self._layout:
            return tensor
        return self._entries[name].reordered(tensor, to=self._layout)


def misfits(source: TensorSource, config: MistralConfig) -> list[str]:
    """Every way in which the tensors of `source` are not those of `config`, one line each.

    A head stored beside tied embeddings repeats the embedding matrix and is passed over.
    """
    layout = layout_of(source.names())
    expected = {entry.name(layout): entry.shape for entry in entries(config)}
    heads = {"output.weight", "lm_head.weight"} if config.tie_word_embeddings else set()
    found = [name for name in source.names() if name not in heads]
    lines = [f"{name}: is missing" for name in expected.keys() - set(found)]
    for name in found:
        shape = source.shape(name)
        if name not in expected:
            lines.append(f"{name[:80]}: belongs to no parameter")
        elif shape != expected[name]:
            lines.append(f"{name}: has shape {shape}, expected {expected[name]}")
        elif not source.dtype(name).is_floating_point:
            lines.append(f"{name}: has type {source.dtype(name)}, expected a floating-point one")
    return sorted(lines)
