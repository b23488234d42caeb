"""Text to ids and back: byte-fallback BPE, id by id what SentencePiece does.

    text → ▁ + text with every space as ▁ → merge neighbours, best score first → ids
    a character outside the vocabulary → its UTF-8 bytes, one id each

So every text has ids, nothing is ever unknown, and decoding gives the text back. Text is only text:
a literal "<s>" or "[INST]" never becomes a control id.

Source: SentencePiece (Kudo and Richardson, 2018, arXiv:1808.06226). Built in lesson 01 on
`bpe.py` (merging), `bpe_training.py` (learning the pieces) and `sentencepiece_model.py` (the file).

Conventions: ids are ints; the space put before a text is taken off again when decoding; there is no
padding id in the real vocabulary, so padding uses the unknown id, which the mask hides.
"""

import os
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from mistral_edu import bpe_training
from mistral_edu.bpe import cut_where_nothing_merges, merge, touching
from mistral_edu.sentencepiece_model import (
    Kind,
    SentencePieceModel,
    byte_piece,
    parse,
    serialise,
)
from mistral_edu.token_stream import TokenStream
from mistral_edu.wire_format import TokenizerFileError

FILE_NAME = "tokenizer.model"
SPACE = "▁"
LARGEST_FILE = 64 * 1024**2
REMEMBERED_WORDS = 1 << 16
LONGEST_REMEMBERED = 64


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
        kinds = {piece.text: piece.kind for piece in model.pieces}
        self._ids = {text: index for index, text in enumerate(self.pieces)}
        self._byte_ids = [self._ids[byte_piece(byte)] for byte in range(256 * model.byte_fallback)]
        self.unk_id = next(i for i, piece in enumerate(model.pieces) if piece.kind is Kind.UNKNOWN)
        self.bos_id, self.eos_id, pad_id = (
            self._ids[name] if kinds.get(name) is Kind.CONTROL else None
            for name in (model.bos, model.eos, model.pad)
        )
        self.pad_id = self.unk_id if pad_id is None else pad_id
        self._scores = {text: score for text, score, kind in model.pieces if kind is Kind.NORMAL}
        self._normal_ids = {text: self._ids[text] for text in self._scores}
        self._touching = touching(self._scores)
        self._whole = _any_of(text for text, kind in kinds.items() if kind is Kind.USER_DEFINED)
        self._remembered: dict[str, list[int]] = {}

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> "MistralTokenizer":
        """Read a SentencePiece `tokenizer.model` file.

        Raises FileNotFoundError if there is none, TokenizerFileError if it cannot be used.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no tokenizer file at {path}; expected a {FILE_NAME}")
        if path.stat().st_size > LARGEST_FILE:
            raise TokenizerFileError(
                f"{path} has {path.stat().st_size} bytes, expected at most {LARGEST_FILE}; "
                f"give the {FILE_NAME}, not the weights"
            )
        try:
            return cls(parse(path.read_bytes()))
        except TokenizerFileError as error:
            raise TokenizerFileError(f"{path}: {error}") from error

    @classmethod
    def from_pretrained(cls, directory: str | os.PathLike) -> "MistralTokenizer":
        """Read the `tokenizer.model` in a model's folder; raises as `from_file` does."""
        return cls.from_file(Path(directory) / FILE_NAME)

    @classmethod
    def mistral_v1(cls) -> "MistralTokenizer":
        """Read the real Mistral-7B-v0.1 tokenizer out of the installed `mistral-common` package.

        >>> MistralTokenizer.mistral_v1().vocab_size
        32000
        """
        file = resources.files("mistral_common") / "data" / "tokenizer.model.v1"
        return cls(parse(file.read_bytes()))

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, character_coverage: float = 0.99995
    ) -> "MistralTokenizer":
        """Learn a vocabulary of exactly `vocab_size` pieces from texts.

        The ids are: <unk> <s> </s>, 256 bytes, the merged pieces (most useful first), then the
        single characters (most frequent first). Equal texts give equal vocabularies.

        Arguments:
            texts: what to learn from; each line counts as a text of its own.
            vocab_size: how many pieces to make, more than 259.
            character_coverage: share of all characters to give a piece; the rest become bytes.

        Raises ValueError, with the sizes that are possible, if the texts cannot give `vocab_size`.

        >>> tokenizer = MistralTokenizer.train(["see the sea", "the bee"], 270)
        >>> [tokenizer.pieces[index] for index in tokenizer.encode("the sea")]
        ['<s>', '▁', 'the', '▁s', 'e', 'a']
        """
        return cls(bpe_training.train(texts, vocab_size, character_coverage))

    @property
    def vocab_size(self) -> int:
        """How many ids there are; every id is below it."""
        return len(self.pieces)

    def __repr__(self) -> str:
        return f"MistralTokenizer(vocab_size={self.vocab_size})"

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
        first = [self._control("bos", self.bos_id)] if bos else []
        last = [self._control("eos", self.eos_id)] if eos else []
        return first + self._encode(self._prepare(text)) + last

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids into text; control ids are silent, bytes that are not UTF-8 read as U+FFFD each.

        Raises ValueError if an id is outside the vocabulary.

        >>> MistralTokenizer.mistral_v1().decode([1, 22557, 28808, 2])
        'Hello!'
        """
        stream = self.decoder()
        return "".join([stream.add(index) for index in ids]) + stream.finish()

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

    def _control(self, name: str, index: int | None) -> int:
        if index is None:
            raise ValueError(f"this vocabulary has no {name} piece; encode with {name}=False")
        return index

    def _prepare(self, text: str) -> str:
        """Spell spaces as ▁ and put one in front, as the settings of the model say."""
        if half := re.search("[\ud800-\udfff]", text):
            raise ValueError(
                f"character {half.start()} of the text is {half[0]!r}, half a surrogate pair, "
                "expected whole characters; read the text as UTF-8 with errors='replace'"
            )
        if self.model.remove_extra_whitespaces:
            text = re.sub(" +", " ", text.strip(" "))
        if self.model.add_dummy_prefix and text:
            text = " " + text
        return text.replace(" ", SPACE)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for place, part in enumerate(self._whole.split(text)):
            if place % 2:
                ids.append(self._ids[part])
                continue
            for word in cut_where_nothing_merges(part, self._touching):
                ids += self._encode_word(word)
        return ids if self.model.byte_fallback else self._join_unknown(ids)

    def _encode_word(self, word: str) -> list[int]:
        """Merge one word; remember it, because a text is made of few words said many times."""
        known = self._remembered.get(word)
        if known is None:
            known = [index for piece in merge(word, self._scores) for index in self._spell(piece)]
            if len(word) <= LONGEST_REMEMBERED and len(self._remembered) < REMEMBERED_WORDS:
                self._remembered[word] = known
        return known

    def _spell(self, piece: str) -> list[int]:
        """The id of a piece, or of its bytes, or the unknown id."""
        if piece in self._normal_ids:
            return [self._normal_ids[piece]]
        if self.model.byte_fallback:
            return [self._byte_ids[byte] for byte in piece.encode()]
        return [self.unk_id]

    def _join_unknown(self, ids: list[int]) -> list[int]:
        """Without byte fallback, unknown neighbours are one unknown piece."""
        pairs = zip([None, *ids], ids)
        return [index for before, index in pairs if not before == index == self.unk_id]


def _any_of(symbols: Iterable[str]) -> re.Pattern[str]:
    """Match any of the symbols that must stay whole, the longest first; capture it for `split`."""
    longest_first = sorted(symbols, key=len, reverse=True)
    return re.compile("(" + ("|".join(map(re.escape, longest_first)) or "(?!)") + ")")
