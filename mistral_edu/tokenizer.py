"""Text to ids and back: byte-fallback BPE, id by id what SentencePiece does.

    encode:  text → ▁ for every space → merge neighbours, best score first → ids
    decode:  ids → pieces, runs of bytes read as UTF-8 → spaces for ▁ → text

A character outside the vocabulary is spelled as its UTF-8 bytes, so every text has ids, nothing is
ever unknown, and decoding gives the text back. One sign cannot come back: a literal ▁ (U+2581) in
the text means the same as a space, so it reads as one.

Source: SentencePiece (Kudo and Richardson, 2018, arXiv:1808.06226). Built in lesson 01. The parts:
`bpe.py` merges, `bpe_training.py` learns what to merge, `text_encoder.py` and `token_stream.py` go
from text to ids and back, `sentencepiece_file.py` reads and writes the vocabulary.

Conventions: ids are ints; the real vocabulary has no padding piece, so padding is filled with the
unknown id, never with the end id (which a loss must be able to see), and hidden by the mask.
"""

import functools
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import SupportsIndex

from jaxtyping import Int
from torch import Tensor

from mistral_edu import bpe_training, chat, sentencepiece_file
from mistral_edu.padding import pad_rows
from mistral_edu.sentencepiece_file import FILE_NAME
from mistral_edu.sentencepiece_model import SPACE, Kind, SentencePieceModel
from mistral_edu.text_encoder import TextEncoder
from mistral_edu.token_stream import TokenStream


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

    @functools.cached_property
    def _encoder_without_prefix(self) -> TextEncoder:
        return TextEncoder(replace(self.model, add_dummy_prefix=False))

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> "MistralTokenizer":
        """Read a SentencePiece `tokenizer.model` file.

        Raises FileNotFoundError if there is none, TokenizerFileError if it cannot be used.
        """
        return cls(sentencepiece_file.read(Path(path)))

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
        return cls(sentencepiece_file.mistral_v1())

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
        from mistral_edu.weights.whole_files import whole_file

        path = Path(path)
        if path.is_dir() or ".model" not in path.name:
            path = path / FILE_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(sentencepiece_file.serialise(self.model))
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

    def ends_in_space(self, ids: Sequence[int]) -> bool:
        """Say whether ids end in a space of their own, as those of "It is " do and of "It is" not.

        A prompt that does is continued worse: the space usually belongs to the piece that follows,
        and the model has seen few texts where it stood alone before a word (trap 32).

        >>> tokenizer = MistralTokenizer.mistral_v1()
        >>> [tokenizer.ends_in_space(tokenizer.encode(text)) for text in ("It is ", "It is")]
        [True, False]
        """
        return len(ids) > 0 and set(self.pieces[ids[-1]]) == {SPACE}

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
        """Put rows of ids into one tensor, filled with `pad_id`, and its mask, as `pad_rows` does.

        >>> ids, mask = MistralTokenizer.mistral_v1().pad([[1, 5, 6], [1]])
        >>> ids.tolist(), mask.tolist()
        ([[1, 5, 6], [0, 0, 1]], [[1, 1, 1], [0, 0, 1]])
        """
        return pad_rows(batch, self.pad_id, side)

    def encode_batch(
        self, texts: Sequence[str], side: str = "left", bos: bool = True, eos: bool = False
    ) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
        """Encode every text and pad the rows; the arguments are those of `encode` and `pad`.

        >>> ids, mask = MistralTokenizer.mistral_v1().encode_batch(["Hello world", "Hello"])
        >>> ids.tolist(), mask.tolist()
        ([[1, 22557, 1526], [0, 1, 22557]], [[1, 1, 1], [0, 1, 1]])
        """
        if isinstance(texts, str):
            raise ValueError(f"texts is one text, {texts[:40]!r}, expected a list; give [text]")
        return self.pad([self.encode(text, bos=bos, eos=eos) for text in texts], side=side)

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, str]],
        rendering: str = "mistral-common",
        continue_final_message: bool = False,
    ) -> list[int]:
        """Turn a conversation into ids; the arguments, and what is refused, are those of `render`.

        >>> hello = [{"role": "user", "content": "Hello"}]
        >>> MistralTokenizer.mistral_v1().apply_chat_template(hello)
        [1, 733, 16289, 28793, 22557, 733, 28748, 16289, 28793]
        """
        segments = chat.render(messages, rendering, continue_final_message)
        keeps_prefix = chat.RENDERINGS[rendering].keeps_prefix
        encoder = self._encoder if keeps_prefix else self._encoder_without_prefix
        bos, eos = self._present("bos", self.bos_id), self._present("eos", self.eos_id)
        return chat.to_ids(segments, encoder.encode, bos, eos)
