"""Ids to text, one id at a time, never showing half a character.

    a piece → its text, ▁ read as a space        a byte → kept back until its character is complete

Source: the decoding rules of SentencePiece (Kudo and Richardson, 2018, arXiv:1808.06226). Built in
lesson 01.

Conventions: control ids are silent; the first ▁ of the whole text is the space that encoding put
there, and is taken off; bytes that are not UTF-8 read as U+FFFD, one for each byte.
"""

import codecs
import re

from mistral_edu.sentencepiece_model import SPACE, Kind, SentencePieceModel

IMPOSSIBLE_BYTE = re.compile("[\udc80-\udcff]")


class TokenStream:
    """Decodes a growing sequence of ids; the texts it returns, joined, are the decoded sequence.

    Arguments:
        model: the vocabulary that made the ids. Use a new stream for every text.

    >>> from mistral_edu.sentencepiece_model import Piece
    >>> pieces = (Piece("<unk>", 0.0, Kind.UNKNOWN), Piece("▁a"))
    >>> stream = TokenStream(SentencePieceModel(pieces, byte_fallback=False))
    >>> [stream.add(1), stream.add(1), stream.finish()]
    ['a', ' a', '']
    """

    def __init__(self, model: SentencePieceModel) -> None:
        self._model = model
        self._at_start = True
        # Python marks each byte that cannot be UTF-8 as one half of a surrogate pair.
        self._bytes = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")

    def add(self, index: int) -> str:
        """Take one more id; return the text that it completes, which may be empty.

        Raises ValueError if the id is outside the vocabulary.
        """
        if not 0 <= index < len(self._model.pieces):
            last = len(self._model.pieces) - 1
            raise ValueError(
                f"id {index} is outside the vocabulary, expected 0 to {last}; "
                "decode with the tokenizer that made the ids"
            )
        text, _, kind = self._model.pieces[index]
        if kind is Kind.BYTE:
            return self._complete(bytes([int(text[3:5], 16)]))
        shown = self._complete(b"", final=True)
        if kind is Kind.UNKNOWN:
            shown += self._model.unknown_surface
        elif kind is not Kind.CONTROL:
            shown += self._read_spaces(text)
        self._at_start = self._at_start and not shown
        return shown

    def finish(self) -> str:
        """Return what is still kept back: bytes whose character never became complete."""
        return self._complete(b"", final=True)

    def _complete(self, new: bytes, final: bool = False) -> str:
        """Decode as many characters as the bytes so far allow."""
        text = IMPOSSIBLE_BYTE.sub("\ufffd", self._bytes.decode(new, final))
        self._at_start = self._at_start and not text
        return text

    def _read_spaces(self, piece: str) -> str:
        trims = self._model.remove_extra_whitespaces
        if self._at_start and (trims or self._model.add_dummy_prefix) and piece[0] == SPACE:
            self._at_start = trims
            piece = piece[1:]
        return piece.replace(SPACE, " ")
