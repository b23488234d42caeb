"""A checkpoint of one layout, read as if it were of the other.

    names → the other layout's names;   rows of W_q and W_k → the other layout's order

Converting is then writing what is read, and loading an original file needs no converting.

Lesson: 11_weights.

Conventions
    Names and shapes are checked against the config when the view is made; every difference is
    listed at once, and no tensor is read.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mistral_edu.config import MistralConfig
from mistral_edu.weights.errors import WeightsError, listed
from mistral_edu.weights.model_weights import mismatches, wrong_types
from mistral_edu.weights.name_matching import DERIVED
from mistral_edu.weights.names import Layout, entries, layout_of

if TYPE_CHECKING:
    from mistral_edu.weights.sources import TensorSource

HEADS = ("output.weight", "lm_head.weight")


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
    (['tok_embeddings.weight', 'layers.0.attention_norm.weight'], (64, 128))
    """

    def __init__(self, source: "TensorSource", config: MistralConfig, layout: Layout) -> None:
        self._source, self._layout = source, layout
        self._stored = layout_of(source.names())
        self._entries = {entry.name(layout): entry for entry in entries(config)}
        problems = misfits(source, config)
        if problems:
            raise WeightsError(f"{source} does not fit its config:\n{listed(problems)}")

    def __str__(self) -> str:
        return str(self._source)

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


def misfits(source: "TensorSource", config: MistralConfig) -> list[str]:
    """Every way in which the tensors of `source` are not those of `config`, one line each.

    Passed over: a head stored beside tied embeddings, which repeats the embedding matrix, and the
    rotary frequencies that the first converter of 2023 stored.
    """
    layout = layout_of(source.names())
    expected = {entry.name(layout): entry.shape for entry in entries(config)}
    spare = HEADS if config.tie_word_embeddings else ()
    found = [name for name in source.names() if name not in spare and not name.endswith(DERIVED)]
    lines = mismatches(expected, {name: source.shape(name) for name in found})
    return lines + wrong_types({name: source.dtype(name) for name in found}, torch.float32)
