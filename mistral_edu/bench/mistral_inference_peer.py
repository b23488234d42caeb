"""Mistral's own inference code as a peer, on a GPU.

    the same weights, in Mistral's own layout → Transformer.forward(flat ids, lengths, BufferCache)

Source: mistral-inference 1.6, `generate.py`, which calls it this way.
Lesson: 14_the_full_7b.

Conventions
    Rows of a batch are laid end to end. It scores every token of a prompt, not only the last, and
    takes in a long prompt by pieces of W tokens, as its own `generate` is told to.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mistral_edu.bench.memory import bytes_held
from mistral_edu.bench.peers import PROMPT_CHUNK, Material, Peer
from mistral_edu.weights.convert import convert

MISTRAL_INFERENCE = "mistral-inference"
LONGEST = 128_000  # positions that it has angles for; past them a GPU fails beyond repair
NEEDED = ("mistral_inference", "xformers")


class MistralInferenceSession:
    """The model with a buffer cache of its own."""

    def __init__(self, model: Any, batch: int, longest: int) -> None:
        if longest > LONGEST:
            raise ValueError(f"{longest} tokens are more than the {LONGEST:,} it has angles for")
        args = model.args
        model.args.max_batch_size = max(args.max_batch_size, batch)
        cache = import_module("mistral_inference.cache").BufferCache(
            args.n_layers, batch, longest, args.n_kv_heads, args.head_dim, args.sliding_window
        )
        self.model, self.cache = model, cache.to(device=model.device, dtype=model.dtype)
        self.piece = args.sliding_window or PROMPT_CHUNK
        self.last: Tensor | None = None

    @torch.no_grad()
    def start(self, ids: Tensor) -> None:
        """Begin new texts."""
        self.cache.reset()
        for piece in ids.split(self.piece, dim=1):
            self._feed(piece)

    @torch.no_grad()
    def step(self, ids: Tensor) -> None:
        """Continue each text by one token."""
        self._feed(ids[:, None])

    def _feed(self, ids: Tensor) -> None:
        rows, columns = ids.shape
        flat = ids.flatten().to(self.model.device)
        scores = self.model.forward(flat, seqlens=[columns] * rows, cache=self.cache)
        self.last = scores[columns - 1 :: columns]  # the last token of each row

    def logits(self) -> Tensor:
        """The last scores."""
        assert self.last is not None, "start comes first"
        return self.last.float().cpu()

    def cache_bytes(self) -> int:
        """Bytes behind the tensors of the cache."""
        return bytes_held([*self.cache.cache_k.values(), *self.cache.cache_v.values()])

    def close(self) -> None:
        """Forget the cache."""
        self.cache = self.last = None


class MistralInference:
    """The model of a folder, in Mistral's own layout."""

    def __init__(self, material: Material) -> None:
        transformer = import_module("mistral_inference.transformer").Transformer
        self.model: Any = transformer.from_folder(
            original_folder(material), device=material.device, dtype=material.dtype
        )

    def session(self, batch: int, longest: int) -> MistralInferenceSession:
        """A batch of so many rows, none longer than `longest` tokens."""
        return MistralInferenceSession(self.model, batch, longest)

    def close(self) -> None:
        """Forget the model."""
        self.model = None


def original_folder(material: Material) -> Path:
    """The weights in Mistral's own layout, written when first asked for."""
    folder = material.scratch / f"{material.folder.name}-original"
    if not folder.exists():
        convert(material.folder, folder, to="original", progress=False)
    return folder


def why_absent(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why it cannot run, or None."""
    if device.type != "cuda":
        return f"mistral-inference needs a GPU, and this run computes on {device.type}"
    for name in NEEDED:
        if find_spec(name) is None:
            return f"{name} is not installed: pip install mistral-inference xformers"
    try:
        import_module("mistral_inference.transformer")
    except (ImportError, OSError) as problem:
        return f"mistral-inference cannot be imported: {problem}"
    return None


PEERS = (
    Peer(
        MISTRAL_INFERENCE,
        why_absent,
        MistralInference,
        "mistral-inference",
        prepare=original_folder,
    ),
)
