"""Write a model as one GGUF file, the form that llama.cpp reads.

    GGUF = key/value pairs (config, tokenizer) + table of tensors + their bytes, each at 32 · n

llama.cpp turns neighbouring rows of W_q and W_k, as Mistral's own files do and ours do not:

    ours, one head of D = 6     a0 a1 a2 b0 b1 b2      (a_i, b_i) is one pair
    in GGUF                     a0 b0 a1 b1 a2 b2

So the tensors are those of the original layout under other names, and nothing is permuted here.

Source: the GGUF specification of the ggml project; `convert_hf_to_gguf.py` of llama.cpp, for what
the "llama" architecture expects.
Lesson: 11_weights.

Conventions
    Norms are float32 whatever the rest is: llama.cpp multiplies by nothing else.
    The window is written under its key, and llama.cpp's "llama" architecture does not heed it: past
    W tokens it attends to all of them. Compare inside the window.
    The tokenizer is the folder's tokenizer.model. Without one, only ids can be given to the model.
    The `gguf` package is optional, and imported when something is written.
"""

import math
import os
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from mistral_edu import sentencepiece_file
from mistral_edu.config import MistralConfig
from mistral_edu.sentencepiece_model import Kind, SentencePieceModel
from mistral_edu.weights.errors import WeightsError
from mistral_edu.weights.model_folder import ModelFolder, open_model_folder
from mistral_edu.weights.model_weights import FLOATS
from mistral_edu.weights.whole_files import require_writable, whole_set

if TYPE_CHECKING:
    from mistral_edu.weights.sources import TensorSource

ARCHITECTURE, SUFFIX, DEFAULT_NAME = "llama", ".gguf", "model.gguf"
FILE_TYPES = {torch.float32: "ALL_F32", torch.float16: "MOSTLY_F16", torch.bfloat16: "MOSTLY_BF16"}
TENSOR_TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
NAMES = {
    "tok_embeddings": "token_embd", "norm": "output_norm", "output": "output",
    "attention_norm": "attn_norm", "attention.wq": "attn_q", "attention.wk": "attn_k",
    "attention.wv": "attn_v", "attention.wo": "attn_output", "ffn_norm": "ffn_norm",
    "feed_forward.w1": "ffn_gate", "feed_forward.w3": "ffn_up", "feed_forward.w2": "ffn_down",
}  # fmt: skip


def package() -> ModuleType:
    """The `gguf` package.

    Raises:
        ImportError: if it is not installed; the message says how to get it.
    """
    try:
        return import_module("gguf")
    except ImportError as error:
        raise ImportError(
            "writing GGUF needs the gguf package, which is not installed: "
            "pip install 'mistral-edu[gguf]'"
        ) from error


def gguf_name(original: str) -> str:
    """A tensor's name in GGUF, given its name in Mistral's own files.

    >>> gguf_name("layers.3.attention.wq.weight"), gguf_name("tok_embeddings.weight")
    ('blk.3.attn_q.weight', 'token_embd.weight')
    """
    stem = original.removesuffix(".weight")
    if stem.startswith("layers."):
        _, number, part = stem.split(".", 2)
        return f"blk.{number}.{NAMES[part]}.weight"
    return f"{NAMES[stem]}.weight"


def export(
    source_folder: str | Path,
    target: str | Path,
    dtype: torch.dtype | None = None,
    *,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Write the language model of a folder as one GGUF file, whole or not at all.

    Args:
        source_folder: holds a model in either layout, and its tokenizer.model if there is one.
        target: the file, ending in .gguf, or the folder that gets a model.gguf.
        dtype: cast matrices to this; None keeps each one's.
        overwrite: replace the file if it exists.
        progress: show a bar on a terminal.

    Returns:
        The file written.

    Raises:
        ImportError: without the gguf package.
        FileNotFoundError: if the source holds no model.
        FileExistsError: if the file exists and `overwrite` is False.
        PermissionError: if nothing can be written there.
        ValueError: for another dtype.
        WeightsError: if the source is damaged, or is a model that llama.cpp cannot hold.
    """
    package()
    if dtype is not None and dtype not in FLOATS:
        raise ValueError(f"dtype={dtype}, expected None or one of {', '.join(map(str, FLOATS))}")
    path = Path(target)
    path = path if path.suffix == SUFFIX else path / DEFAULT_NAME
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"{path} exists: choose another target, or give overwrite=True to replace it"
        )
    require_writable(path)
    found = open_model_folder(source_folder)
    require_llama(found.config)
    with whole_set(path.parent) as staging:
        _write_file(staging / path.name, found, dtype, progress)
    return path


def require_llama(config: MistralConfig) -> None:
    """Refuse what llama.cpp's "llama" architecture cannot be told.

    >>> require_llama(MistralConfig())
    >>> require_llama(MistralConfig(hidden_act="gelu"))
    Traceback (most recent call last):
    ...
    mistral_edu.weights.errors.WeightsError: hidden_act='gelu': in GGUF a llama model always has \
silu
    """
    if config.hidden_act not in ("silu", "swish"):
        raise WeightsError(
            f"hidden_act={config.hidden_act!r}: in GGUF a llama model always has silu"
        )
    if config.pruned_heads:
        raise WeightsError(
            f"pruned_heads={config.pruned_heads}: in GGUF every layer has the same heads"
        )


def describe_model(writer: Any, config: MistralConfig, dtype: torch.dtype) -> None:
    """Add the architecture's numbers.

    Args:
        writer: a `gguf.GGUFWriter` that has written nothing yet.
        config: of the model.
        dtype: of the matrices.
    """
    writer.add_type("model")
    writer.add_file_type(package().LlamaFileType[FILE_TYPES[dtype]])
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.head_dim)
    if config.head_dim * config.num_attention_heads != config.hidden_size:
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    if config.sliding_window is not None:
        writer.add_sliding_window(config.sliding_window)


def describe_tokenizer(writer: Any, model: SentencePieceModel | None, vocab_size: int) -> None:
    """Add the vocabulary, or say that there is none.

    Args:
        writer: as for `describe_model`.
        model: the SentencePiece vocabulary.
        vocab_size: V of the model; ids past the vocabulary get a name and are marked unused.

    Raises:
        WeightsError: if the vocabulary has more pieces than the model has ids.
    """
    if model is None:
        writer.add_tokenizer_model("none")
        return
    spare = vocab_size - len(model.pieces)
    if spare < 0:
        raise WeightsError(
            f"the tokenizer has {len(model.pieces)} pieces and the model {vocab_size} ids: "
            "it is the tokenizer of another model"
        )
    texts = [piece.text for piece in model.pieces]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(texts + [f"<unused {number}>" for number in range(spare)])
    writer.add_token_scores([float(piece.score) for piece in model.pieces] + [-1e4] * spare)
    writer.add_token_types([int(piece.kind) for piece in model.pieces] + [int(Kind.UNUSED)] * spare)
    kinds = [piece.kind for piece in model.pieces]
    writer.add_unk_token_id(kinds.index(Kind.UNKNOWN))
    for text, add in ((model.bos, writer.add_bos_token_id), (model.eos, writer.add_eos_token_id)):
        if text in texts:
            add(texts.index(text))
    writer.add_add_bos_token(model.bos in texts)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(model.add_dummy_prefix)
    writer.add_remove_extra_whitespaces(model.remove_extra_whitespaces)


def _write_file(path: Path, found: ModelFolder, dtype: torch.dtype | None, progress: bool) -> None:
    vocabulary = found.path / sentencepiece_file.FILE_NAME
    tokenizer = sentencepiece_file.read(vocabulary) if vocabulary.is_file() else None
    tensors = found.read_as("original")
    writer = package().GGUFWriter(path, ARCHITECTURE)
    try:
        describe_model(writer, found.config, dtype or tensors.dtype(tensors.names()[0]))
        describe_tokenizer(writer, tokenizer, found.config.vocab_size)
        _write_tensors(writer, tensors, dtype, progress)
    finally:
        writer.close()
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _write_tensors(
    writer: Any, source: "TensorSource", dtype: torch.dtype | None, progress: bool
) -> None:
    """The table first, then the bytes, one tensor in memory at a time."""
    types = package().GGMLQuantizationType
    wanted = {}
    for name in source.names():
        *rows, columns = source.shape(name)
        kind = (dtype or source.dtype(name)) if rows else torch.float32
        wanted[name] = kind
        # Announced as bytes, for numpy has no bfloat16; the writer divides them by the type's size.
        shape = (*rows, columns * kind.itemsize)
        raw = types[TENSOR_TYPES[kind]]
        writer.add_tensor_info(
            gguf_name(name), shape, np.dtype(np.uint8), math.prod(shape), raw_dtype=raw
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, kind in tqdm(wanted.items(), unit=" tensors", disable=None if progress else True):
        tensor = source.read(name).to(kind).contiguous()
        writer.write_tensor_data(tensor.flatten().view(torch.uint8).numpy())
