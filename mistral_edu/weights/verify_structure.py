"""What can be verified about a checkpoint without running it: sizes, config, tokenizer, numbers.

Lesson: 11_weights.

Conventions
    Tensors are read one at a time, so 14 GB are checked in the memory of the largest.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from mistral_edu.weights.checkpoint import inside
from mistral_edu.weights.checksums import altered_files
from mistral_edu.weights.errors import WeightsError
from mistral_edu.weights.layouts import misfits
from mistral_edu.weights.model_folder import ModelFolder
from mistral_edu.weights.original import weight_files
from mistral_edu.weights.params_json import release_of
from mistral_edu.weights.pth_archive import require_checksums
from mistral_edu.weights.published import Published

if TYPE_CHECKING:
    from mistral_edu.weights.sources import TensorSource

PASS, FAIL, SKIPPED = "pass", "fail", "skipped"
PIECE = 2**24  # numbers checked at once
FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "rms_norm_eps",
    "rope_theta",
    "sliding_window",
    "tie_word_embeddings",
)


@dataclass(frozen=True)
class Line:
    """One line of the report.

    Args:
        name: what is compared.
        expected, found: as text.
        status: "pass", "fail" or "skipped".
        tolerance: how far off still passes; "" where equality is asked for.
        why: a remark; always there for "skipped".
    """

    name: str
    expected: str
    found: str
    status: str
    tolerance: str = ""
    why: str = ""


def equal(name: str, expected: object, found: object, why: str = "") -> Line:
    """A line that passes if both are equal.

    >>> equal("tensors", 291, 290).status
    'fail'
    """
    return Line(name, f"{expected}", f"{found}", PASS if expected == found else FAIL, why=why)


def structure(found: ModelFolder, published: Published) -> Iterator[Line]:
    """The lines about files, one after the other.

    Args:
        found: the checkpoint.
        published: what it should be.

    >>> from mistral_edu.paths import data_dir
    >>> from mistral_edu.weights.model_folder import open_model_folder
    >>> from mistral_edu.weights.published import MISTRAL_7B_V0_1
    >>> next(structure(open_model_folder(data_dir() / "tiny"), MISTRAL_7B_V0_1))
    Line(name='tensors', expected='291', found='56', status='fail', tolerance='', why='')
    """
    source = found.source
    names = source.names()
    yield equal("tensors", published.tensors, len(names))
    numbers = sum(prod(source.shape(name)) for name in names)
    yield equal("parameters", f"{published.parameters:,}", f"{numbers:,}")
    wrong = misfits(source, published.config)
    said = "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    yield equal("names and shapes", "those of the model", said or "those of the model")
    yield equal("release", published.release, release_of(found.config))
    for name in FIELDS:
        yield equal(name, getattr(published.config, name), getattr(found.config, name))
    yield _tokenizer(found.path, published.tokenizer_sha256)
    yield from _checksums(found)
    yield _numbers(source)


def _tokenizer(folder: Path, expected: str) -> Line:
    name = "tokenizer.model, SHA-256"
    paths = [path for path in sorted(folder.glob("tokenizer.model*")) if path.is_file()]
    if not paths:
        return Line(name, expected, "-", SKIPPED, why="the folder has none")
    with inside(folder, paths[0].name).open("rb") as file:
        return equal(name, expected, hashlib.file_digest(file, "sha256").hexdigest())


def _checksums(found: ModelFolder) -> Iterator[Line]:
    """What can tell a flipped bit: the hub's cache of any file, and a `.pth` file of itself."""
    if any(path.is_symlink() for path in found.path.iterdir()):
        altered = ", ".join(altered_files(found.path)) or "none"
        yield equal("files altered since they were downloaded", "none", altered)
    if found.layout == "original":
        for path in weight_files(found.path):
            if path.suffix == ".pth":
                try:
                    require_checksums(path)
                except WeightsError as error:
                    yield Line(f"checksums in {path.name}", "right", "wrong", FAIL, why=str(error))
                else:
                    yield equal(f"checksums in {path.name}", "right", "right")


def _numbers(source: "TensorSource") -> Line:
    names = source.names()
    bar = tqdm(names, desc="reading every weight", unit=" tensors", disable=None, leave=False)
    wrong = [name for name in bar if not is_finite(source.read(name))]
    found = "all finite" if not wrong else f"NaN or infinity in {', '.join(wrong[:3])}"
    return equal("numbers", "all finite", found)


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor is free of NaN and infinity, looked at piece by piece.

    >>> is_finite(torch.tensor([1.0, float("nan")]))
    False
    """
    pieces = tensor.flatten().split(PIECE)
    return all(bool(torch.isfinite(piece).all()) for piece in pieces)
