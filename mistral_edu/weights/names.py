"""Two layouts of one model: Mistral's own names and row order, and Hugging Face's.

    hugging_face = names translated, rows of W_q and W_k reordered per head (pairs → halves)
    original     = the inverse

Nine tensors a layer and three outside, 9 · 32 + 3 = 291 for Mistral-7B. `TABLE` is the whole map.

Source: the tensor names in `consolidated.00.pth` and in the released Hugging Face checkpoint.
Lesson: 11_weights.

Conventions
    Every name ends in `.weight`. Shapes are (out, in), written in symbols: V vocabulary, C hidden,
    F feed-forward, H query heads, Hkv key/value heads, D head dim. {n} is the layer.
    The rows of W_q fall into H heads and those of W_k into Hkv. Giving W_k the H of W_q keeps every
    shape right and makes the model write gibberish (trap 17; transformers issue 31093).
    A checkpoint with tied embeddings stores the matrix once, as the embedding.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from mistral_edu.config import MistralConfig
from mistral_edu.rope import halves_to_pairs, pairs_to_halves
from mistral_edu.weights.errors import WeightsError

Layout = Literal["hugging-face", "original"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


@dataclass(frozen=True)
class Row:
    """One line of the map; `heads` says into how many heads the rows to reorder fall, if any."""

    original: str
    hugging_face: str
    shape: str
    heads: str | None = None


TABLE = (
    Row("tok_embeddings", "model.embed_tokens", "V, C"),
    Row("layers.{n}.attention_norm", "model.layers.{n}.input_layernorm", "C"),
    Row("layers.{n}.attention.wq", "model.layers.{n}.self_attn.q_proj", "H·D, C", heads="H"),
    Row("layers.{n}.attention.wk", "model.layers.{n}.self_attn.k_proj", "Hkv·D, C", heads="Hkv"),
    Row("layers.{n}.attention.wv", "model.layers.{n}.self_attn.v_proj", "Hkv·D, C"),
    Row("layers.{n}.attention.wo", "model.layers.{n}.self_attn.o_proj", "C, H·D"),
    Row("layers.{n}.ffn_norm", "model.layers.{n}.post_attention_layernorm", "C"),
    Row("layers.{n}.feed_forward.w1", "model.layers.{n}.mlp.gate_proj", "F, C"),
    Row("layers.{n}.feed_forward.w3", "model.layers.{n}.mlp.up_proj", "F, C"),
    Row("layers.{n}.feed_forward.w2", "model.layers.{n}.mlp.down_proj", "C, F"),
    Row("norm", "model.norm", "C"),
    Row("output", "lm_head", "V, C"),
)


@dataclass(frozen=True)
class Entry:
    """One tensor of one model: both names, its shape, and its heads if its rows are reordered."""

    original: str
    hugging_face: str
    shape: tuple[int, ...]
    heads: int | None

    def name(self, layout: Layout) -> str:
        """The tensor's name in `layout`."""
        return self.original if layout == "original" else self.hugging_face

    def reordered(self, tensor: Tensor, to: Layout) -> Tensor:
        """The tensor of the other layout, with the row order of `to`; itself where rows agree.

        >>> import torch
        >>> entry = Entry("wk", "k_proj", (4, 1), heads=1)
        >>> entry.reordered(torch.tensor([[0.0], [1.0], [2.0], [3.0]]), "hugging-face").flatten()
        tensor([0., 2., 1., 3.])
        """
        if self.heads is None:
            return tensor
        reorder = pairs_to_halves if to == "hugging-face" else halves_to_pairs
        return reorder(tensor.contiguous(), self.heads)


def entries(config: MistralConfig) -> list[Entry]:
    """Every tensor of a language model of this config, in the order of the layers.

    >>> config = MistralConfig.mistral_7b_v0_1()
    >>> len(entries(config)), sum(math.prod(entry.shape) for entry in entries(config))
    (291, 7241732096)
    >>> entries(config)[3]
    Entry(original='layers.0.attention.wk.weight',
          hugging_face='model.layers.0.self_attn.k_proj.weight', shape=(1024, 4096), heads=8)
    """
    sizes = {
        "V": config.vocab_size,
        "C": config.hidden_size,
        "F": config.intermediate_size,
        "H": config.num_attention_heads,
        "Hkv": config.num_key_value_heads,
        "D": config.head_dim,
    }
    first, *layer, norm, head = TABLE
    found = [_entry(first, sizes)]
    for n in range(config.num_hidden_layers):
        found += [_entry(row, sizes, n) for row in layer]
    found.append(_entry(norm, sizes))
    return found if config.tie_word_embeddings else [*found, _entry(head, sizes)]


def _entry(row: Row, sizes: dict[str, int], n: int = 0) -> Entry:
    return Entry(
        original=row.original.format(n=n) + ".weight",
        hugging_face=row.hugging_face.format(n=n) + ".weight",
        shape=tuple(
            math.prod(sizes[symbol] for symbol in side.split("·")) for side in row.shape.split(", ")
        ),
        heads=None if row.heads is None else sizes[row.heads],
    )


def layout_of(names: Iterable[str]) -> Layout:
    """The layout that tensors of these names are in.

    Raises:
        WeightsError: if the names are of neither layout, or of both.

    >>> layout_of(["tok_embeddings.weight", "layers.0.attention.wq.weight"])
    'original'
    >>> layout_of(["lm_head.weight", "model.layers.0.self_attn.q_proj.weight"])
    'hugging-face'
    """
    names = list(names)
    own = any(name == "tok_embeddings.weight" or ".attention.w" in name for name in names)
    theirs = any(name.endswith("embed_tokens.weight") or ".self_attn." in name for name in names)
    if own == theirs:
        seen = ", ".join(sorted(names)[:3]) or "no names at all"
        raise WeightsError(
            f"tensor names ({seen:.200}, …) belong to {'both layouts' if own else 'neither layout'}"
            ": expected those of Mistral's own files (tok_embeddings.weight, …) or those of a "
            "Hugging Face model (model.embed_tokens.weight, …)"
        )
    return "original" if own else "hugging-face"
