"""llama.cpp as a peer, on the processor, through the `cyllama` binding.

    the same weights, as GGUF → llama_decode(batch of (id, position, row)) → logits

Lesson: 14_the_full_7b.

Conventions
    Keys and values have the type of the weights; llama.cpp's own default would be float16. In
    float32 its flash attention is off, for with it the logits are no longer those of float32.
    Each row has its own part of the cache, all of which is reserved when the session is made.
    The "llama" architecture there knows no window: past W tokens it attends to all of them.
    The wheel is built for processors of about 2015 (AVX2); `llama_cpp_native_peer` is llama.cpp
    compiled for the one at hand.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mistral_edu.bench.peers import Material, Peer

LLAMA_CPP = "llama.cpp"
MOST_TOKENS = 2048  # of one call
CELLS = 256  # the cache is reserved in multiples of so many tokens
OFF, AUTO = 0, -1  # flash attention
TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 30}  # numbers of ggml's types


def _binding() -> Any:
    return import_module("cyllama.llama.llama_cpp")


def _model_class() -> Any:
    """The model class; reading logits asks it for `n_vocab`, which some versions lack."""
    base = _binding().LlamaModel
    if hasattr(base, "n_vocab"):
        return base
    return type("Model", (base,), {"n_vocab": property(lambda self: self.get_vocab().n_vocab)})


class LlamaCppSession:
    """A context of llama.cpp with `batch` rows."""

    def __init__(self, owner: "LlamaCpp", batch: int, longest: int) -> None:
        binding = _binding()
        room = -(-longest // CELLS) * CELLS
        settings = binding.LlamaContextParams()
        settings.n_ctx, settings.n_seq_max = room * batch, batch
        settings.n_batch = MOST_TOKENS
        settings.n_threads = settings.n_threads_batch = owner.threads
        settings.type_k = settings.type_v = TYPES[owner.dtype]
        settings.flash_attn_type = OFF if owner.dtype == torch.float32 else AUTO
        settings.kv_unified = False
        self.context = binding.LlamaContext(owner.model, settings, verbose=False)
        self.tokens = binding.LlamaBatch(n_tokens=MOST_TOKENS, embd=0, n_seq_max=1)
        self.batch, self.owner, self.room = batch, owner, room
        self.length = 0
        self.scored: list[int] = []

    def start(self, ids: Tensor) -> None:
        """Begin new texts."""
        self.context.kv_cache_clear()
        self.length = 0
        for piece in ids.split(MOST_TOKENS // self.batch, dim=1):
            self._feed(piece)

    def step(self, ids: Tensor) -> None:
        """Continue each text by one token."""
        self._feed(ids[:, None])

    def _feed(self, ids: Tensor) -> None:
        """Give all rows' columns at once; only the last column is scored."""
        self.tokens.clear()
        self.scored = []
        last = ids.shape[1] - 1
        for row, tokens in enumerate(ids.tolist()):
            for column, token in enumerate(tokens):
                if column == last:
                    self.scored.append(row * len(tokens) + column)
                self.tokens.add(token, self.length + column, [row], column == last)
        self.context.decode(self.tokens)
        self.context.synchronize()
        self.length += ids.shape[1]

    def logits(self) -> Tensor:
        """The last scores."""
        return torch.tensor([self.context.get_logits_ith(index) for index in self.scored])

    def cache_bytes(self) -> int:
        """What is reserved for keys and values, by its size: llama.cpp does not say."""
        config = self.owner.model
        heads = config.n_head_kv * self.owner.head_dim
        return 2 * config.n_layer * heads * self.room * self.batch * self.owner.dtype.itemsize

    def close(self) -> None:
        """Give the memory back."""
        self.tokens.close()
        self.context.close()


class LlamaCpp:
    """The model of a GGUF file.

    Args:
        path: the file.
        dtype: for keys and values.
        threads: to compute with.
        head_dim: D, None for width / heads.
    """

    def __init__(
        self, path: Path, dtype: torch.dtype, threads: int, head_dim: int | None = None
    ) -> None:
        binding = _binding()
        binding.disable_logging()
        self.model = _model_class()(str(path), binding.LlamaModelParams(), verbose=False)
        self.dtype, self.threads = dtype, threads
        self.head_dim = head_dim or self.model.n_embd // self.model.n_head

    @classmethod
    def of(cls, material: Material) -> "LlamaCpp":
        """The model of some material."""
        return cls(material.gguf, material.dtype, material.threads, material.config.head_dim)

    @property
    def vocabulary(self) -> Any:
        """llama.cpp's own tokenizer, with `tokenize(text, add_special, parse_special)`."""
        return self.model.get_vocab()

    def session(self, batch: int, longest: int) -> LlamaCppSession:
        """A batch of so many rows, none longer than `longest` tokens."""
        return LlamaCppSession(self, batch, longest)

    def close(self) -> None:
        """Give the memory back."""
        self.model.close()


def why_absent(device: torch.device, dtype: torch.dtype = torch.float32) -> str | None:
    """Why llama.cpp cannot run, or None."""
    if device.type != "cpu":
        return f"llama.cpp is measured on the processor, and this run computes on {device.type}"
    if dtype not in TYPES:
        return f"llama.cpp has no {dtype}"
    for name in ("cyllama", "gguf"):
        if find_spec(name) is None:
            return f"{name} is not installed: pip install 'mistral-edu[bench]'"
    try:
        _binding()
    except (ImportError, OSError) as problem:
        return f"cyllama cannot be loaded: {problem}"
    return None


PEERS = (
    Peer(
        LLAMA_CPP,
        why_absent,
        LlamaCpp.of,
        "cyllama",
        windowed=False,
        prepare=lambda material: material.gguf,
    ),
)
