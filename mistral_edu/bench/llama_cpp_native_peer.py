"""llama.cpp as a peer, compiled for this very processor, through `llama-cpp-python`.

    the same weights, as GGUF → llama_decode(batch of (id, position, row)) → logits

The wheel behind `llama_cpp_peer` must run on processors of about 2015. This package has no wheel:
`pip install llama-cpp-python` compiles llama.cpp here, minutes on two cores, for all that this
processor can do. It is llama.cpp at its best, so this is the figure to be held against.

Lesson: 14_the_full_7b.

Conventions
    As in `llama_cpp_peer`: types, flash attention, and no window.
"""

import ctypes
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mistral_edu.bench.llama_cpp_peer import AUTO, CELLS, MOST_TOKENS, OFF, TYPES
from mistral_edu.bench.peers import Material, Peer

LLAMA_CPP_NATIVE = "llama.cpp-native"
SILENT = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)


def _binding() -> Any:
    return import_module("llama_cpp")


class NativeSession:
    """A context of llama.cpp with `batch` rows."""

    def __init__(self, owner: "LlamaCppNative", batch: int, longest: int) -> None:
        self.binding = binding = _binding()
        self.owner, self.batch = owner, batch
        self.room = -(-longest // CELLS) * CELLS
        settings = binding.llama_context_default_params()
        settings.n_ctx, settings.n_seq_max = self.room * batch, batch
        settings.n_batch = MOST_TOKENS
        settings.n_threads = settings.n_threads_batch = owner.threads
        settings.type_k = settings.type_v = TYPES[owner.dtype]
        settings.flash_attn_type = OFF if owner.dtype == torch.float32 else AUTO
        settings.kv_unified = False
        self.context = binding.llama_init_from_model(owner.model, settings)
        if not self.context:
            raise RuntimeError(f"llama.cpp made no context for {batch} rows of {longest} tokens")
        self.tokens = binding.llama_batch_init(MOST_TOKENS, 0, 1)
        self.length = 0
        self.scored: list[int] = []

    def start(self, ids: Tensor) -> None:
        """Begin new texts."""
        memory = self.binding.llama_get_memory(self.context)
        self.binding.llama_memory_clear(memory, True)
        self.length = 0
        for piece in ids.split(MOST_TOKENS // self.batch, dim=1):
            self._feed(piece)

    def step(self, ids: Tensor) -> None:
        """Continue each text by one token."""
        self._feed(ids[:, None])

    def _feed(self, ids: Tensor) -> None:
        """Give all rows' columns at once; only the last column is scored."""
        tokens, self.scored, number = self.tokens, [], 0
        for row, texts in enumerate(ids.tolist()):
            for column, token in enumerate(texts):
                last = column + 1 == len(texts)
                tokens.token[number], tokens.pos[number] = token, self.length + column
                tokens.n_seq_id[number], tokens.seq_id[number][0] = 1, row
                tokens.logits[number] = last
                self.scored += [number] if last else []
                number += 1
        tokens.n_tokens = number
        if code := self.binding.llama_decode(self.context, tokens):
            raise RuntimeError(f"llama_decode answered {code} for {number} tokens")
        self.binding.llama_synchronize(self.context)
        self.length += ids.shape[1]

    def logits(self) -> Tensor:
        """The last scores."""
        get, size = self.binding.llama_get_logits_ith, self.owner.vocab_size
        rows = [np.ctypeslib.as_array(get(self.context, at), (size,)) for at in self.scored]
        return torch.from_numpy(np.stack(rows))

    def cache_bytes(self) -> int:
        """What is reserved for keys and values, by its size: llama.cpp does not say."""
        return self.owner.cache_bytes_a_token * self.room * self.batch

    def close(self) -> None:
        """Give the memory back."""
        self.binding.llama_batch_free(self.tokens)
        self.binding.llama_free(self.context)


class LlamaCppNative:
    """The model of a material's GGUF file."""

    def __init__(self, material: Material) -> None:
        binding, config = _binding(), material.config
        binding.llama_log_set(SILENT, None)
        binding.llama_backend_init()
        settings = binding.llama_model_default_params()
        path = str(material.gguf).encode()
        self.model = binding.llama_model_load_from_file(path, settings)
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load {material.gguf}")
        self.dtype, self.threads, self.vocab_size = (
            material.dtype,
            material.threads,
            config.vocab_size,
        )
        numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
        self.cache_bytes_a_token = numbers * material.dtype.itemsize

    def session(self, batch: int, longest: int) -> NativeSession:
        """A batch of so many rows, none longer than `longest` tokens."""
        return NativeSession(self, batch, longest)

    def close(self) -> None:
        """Give the memory back."""
        _binding().llama_model_free(self.model)


def why_absent(device: torch.device, dtype: torch.dtype = torch.float32) -> str | None:
    """Why it cannot run, or None."""
    if device.type != "cpu":
        return f"llama.cpp is measured on the processor, and this run computes on {device.type}"
    if dtype not in TYPES:
        return f"llama.cpp has no {dtype}"
    if find_spec("gguf") is None:
        return "gguf is not installed: pip install 'mistral-edu[bench]'"
    if find_spec("llama_cpp") is None:
        return "llama-cpp-python is not installed: pip install llama-cpp-python compiles it here"
    try:
        _binding()
    except (ImportError, OSError, RuntimeError) as problem:
        return f"llama-cpp-python cannot be loaded: {problem}"
    return None


PEERS = (
    Peer(
        LLAMA_CPP_NATIVE,
        why_absent,
        LlamaCppNative,
        "llama-cpp-python",
        windowed=False,
        prepare=lambda material: material.gguf,
    ),
)
