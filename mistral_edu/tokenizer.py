"""Text to ids and back: byte-fallback BPE, id by id what SentencePiece does.

    encode:  text → ▁ for every space → merge neighbours, best score first → ids
    decode:  ids → pieces, runs of bytes read as UTF-8 → spaces for ▁ → text

A character outside the vocabulary is spelled as its UTF-8 bytes, so every text has ids, nothing is
ever unknown, and decoding gives the text back.

Source: SentencePiece (Kudo and Richardson, 2018, arXiv:1808.06226). Built in lesson 01. The parts:
`bpe.py` merges, `bpe_training.py` learns what to merge, `text_encoder.py` and `token_stream.py` go
from text to ids and back, `sentencepiece_model.py` is the file.

Conventions: ids are ints; the real vocabulary has no padding piece, so padding is filled with the
unknown id, never with the end id (which a loss must be able to see), and hidden by the mask.
"""

import functools
import operator
import os
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import SupportsIndex

import torch
from jaxtyping import Int
from torch import Tensor

from mistral_edu import bpe_training
from mistral_edu.sentencepiece_model import Kind, SentencePieceModel, parse, serialise
from mistral_edu.text_encoder import TextEncoder
from mistral_edu.token_stream import TokenStream
from mistral_edu.wire_format import TokenizerFileError

FILE_NAME = "tokenizer.model"
LARGEST_FILE = 64 * 1024**2


class MistralTokenizer:
    """A byte-fallback BPE tokenizer, read from a `tokenizer.model` file or trained.

    Arguments:
        model: the pieces and settings; `from_file`, `from_pretrained` and `train` make one.

    >>> tokenizer = MistralTokenizer.mistral_v1()
    >>> tokenizer.encode("Hello 👩")
    [1, 22557, 28705, 243, 162, 148, 172]
    >>> tokenizer.decode([1, 22557, 28705, 243, 162, 148, 172])
    'Hello 👩'
    """

    def __init__(self, model: SentencePieceModel) -> None:
        self.model = model
        self.pieces = [piece.text for piece in model.pieces]
        self.unk_id = [piece.kind for piece in model.pieces].index(Kind.UNKNOWN)
        controls = {
            piece.text: index
            for index, piece in enumerate(model.pieces)
            if piece.kind is Kind.CONTROL
        }
        self.bos_id, self.eos_id = controls.get(model.bos), controls.get(model.eos)
        self.pad_id = controls.get(model.pad, self.unk_id)
        self._encoder = TextEncoder(model)

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> "MistralTokenizer":
        """Read a SentencePiece `tokenizer.model` file.

        Raises FileNotFoundError if there is none, TokenizerFileError if it cannot be used.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no tokenizer file at {path}; expected a {FILE_NAME}")
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise TokenizerFileError(
                f"{path} has {size} bytes, expected at most {LARGEST_FILE}; "
                f"give the {FILE_NAME}, not the weights"
            )
        try:
            return cls(parse(path.read_bytes()))
        except TokenizerFileError as error:
            raise TokenizerFileError(f"{path}: {error}") from error

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike, *, revision: str | None = None
    ) -> "MistralTokenizer":
        """Read the `tokenizer.model` of a model.

        Arguments:
            name: the model's folder, or "owner/name" on the hub.
            revision: on the hub, a branch, tag or commit.

        Raises HubError if the hub does not give it, else as `from_file` does.
        """
        from mistral_edu.weights.named import local_folder

        return cls.from_file(
            local_folder(os.fspath(name), revision=revision, parts=["tokenizer"]) / FILE_NAME
        )

    @classmethod
    def mistral_v1(cls) -> "MistralTokenizer":
        """Read the real Mistral-7B-v0.1 tokenizer out of the installed `mistral-common` package.

        >>> MistralTokenizer.mistral_v1().vocab_size
        32000
        """
        return cls(_mistral_v1_model())

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, character_coverage: float = 0.99995
    ) -> "MistralTokenizer":
        """Learn a vocabulary of exactly `vocab_size` pieces; equal texts give equal vocabularies.

        The ids are: <unk> <s> </s>, 256 bytes, the merged pieces (most useful first), then the
        single characters (most frequent first).

        Arguments:
            texts: what to learn from; each line counts as a text of its own.
            vocab_size: how many pieces to make, more than 259.
            character_coverage: share of the text whose characters get a piece, 0 to 1; the others
                are spelled in bytes.

        Raises ValueError, naming the nearest possible size, if the texts cannot give `vocab_size`.

        >>> tokenizer = MistralTokenizer.train(["see the sea", "the bee"], 270)
        >>> [tokenizer.pieces[index] for index in tokenizer.encode("the sea")]
        ['<s>', '▁', 'the', '▁s', 'e', 'a']
        """
        return cls(bpe_training.train(texts, vocab_size, character_coverage))

    def save(self, path: str | os.PathLike) -> Path:
        """Write the tokenizer as a SentencePiece file, whole or not at all; return its path.

        Arguments:
            path: a name with ".model" in it is the file; any other is a folder, made if absent.
        """
        path = Path(path)
        if path.is_dir() or ".model" not in path.name:
            path = path / FILE_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            partial.write_bytes(serialise(self.model))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path

    @property
    def vocab_size(self) -> int:
        """How many ids there are; every id is below it."""
        return len(self.pieces)

    def __repr__(self) -> str:
        return f"MistralTokenizer(vocab_size={self.vocab_size})"

    def encode(self, text: str, bos: bool = True, eos: bool = False) -> list[int]:
        """Turn text into ids, equal to SentencePiece's.

        Arguments:
            text: any text; what looks like a control piece in it is ordinary text.
            bos: put the begin id first.
            eos: put the end id last.

        Raises ValueError if the text holds half a surrogate pair, which UTF-8 cannot spell, or if
        the vocabulary lacks the control piece asked for.

        >>> MistralTokenizer.mistral_v1().encode("<s> 5", bos=False)
        [523, 28713, 28767, 28705, 28782]
        """
        ids = self._encoder.encode(text)
        if bos:
            ids.insert(0, self._present("bos", self.bos_id))
        if eos:
            ids.append(self._present("eos", self.eos_id))
        return ids

    def _present(self, name: str, index: int | None) -> int:
        if index is None:
            raise ValueError(f"this vocabulary has no {name} piece; encode with {name}=False")
        return index

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """Turn ids into text; control ids are silent, bytes that are not UTF-8 read as U+FFFD each.

        Arguments:
            ids: whole numbers, as a list or one row of a tensor.

        Raises ValueError if an id is outside the vocabulary.

        >>> MistralTokenizer.mistral_v1().decode([1, 22557, 28808, 2])
        'Hello!'
        """
        stream = self.decoder()
        return "".join([stream.add(index) for index in map(operator.index, ids)]) + stream.finish()

    def decoder(self) -> TokenStream:
        """Start decoding ids one at a time, for text that is still being generated.

        >>> stream = MistralTokenizer.mistral_v1().decoder()
        >>> [stream.add(index) for index in [22557, 28705, 243, 162, 148, 172]]
        ['Hello', ' ', '', '', '', '👩']
        """
        return TokenStream(self.model)

    def pad(
        self, batch: Sequence[Sequence[int]], side: str = "left"
    ) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
        """Put rows of ids of different lengths into one tensor.

        Arguments:
            batch: at least one row of ids.
            side: "left" to generate from (every row ends together) or "right".

        Returns the ids, filled with `pad_id`, and the attention mask: 1 for an id, 0 for filling.

        Raises ValueError if the batch is empty or the side is neither.

        >>> ids, mask = MistralTokenizer.mistral_v1().pad([[1, 5, 6], [1]])
        >>> ids.tolist(), mask.tolist()
        ([[1, 5, 6], [0, 0, 1]], [[1, 1, 1], [0, 0, 1]])
        """
        if side not in ("left", "right"):
            raise ValueError(f"side is {side!r}, expected 'left' or 'right'")
        if not batch:
            raise ValueError("the batch is empty, expected at least one row of ids")
        width = max(len(row) for row in batch)
        ids = torch.full((len(batch), width), self.pad_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(batch):
            start = width - len(row) if side == "left" else 0
            ids[place, start : start + len(row)] = torch.tensor(row, dtype=torch.long)
            mask[place, start : start + len(row)] = 1
        return ids, mask


@functools.cache
def _mistral_v1_model() -> SentencePieceModel:
    return parse((resources.files("mistral_common") / "data" / "tokenizer.model.v1").read_bytes())
