"""Ids to text one id at a time, never showing half a character.

    a piece → its text, ▁ read as a space        a byte → kept back until its character is complete

Source: the decoding rules of SentencePiece (Kudo and Richardson, 2018, arXiv:1808.06226), measured
id by id. Built in lesson 01.

Conventions: control ids are silent; the first ▁ of the whole text is the space that encoding put
there, and is taken off; bytes that are not UTF-8 read as U+FFFD, one for each byte.
"""

import codecs
import re

from mistral_edu.sentencepiece_model import Kind, SentencePieceModel

SPACE = "▁"


class TokenStream:
    """Decodes a growing sequence of ids; the texts it returns, joined, are the decoded sequence.

    Arguments:
        model: the vocabulary that made the ids.

    `MistralTokenizer.decoder()` makes one; use a new one for every text.
    """

    def __init__(self, model: SentencePieceModel) -> None:
        self._model = model
        self._at_start = True
        self._bytes = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")

    def add(self, index: int) -> str:
        """Take one more id; return the text that it completes, which may be empty.

        Raises ValueError if the id is outside the vocabulary.
        """
        if not 0 <= index < len(self._model.pieces):
            raise ValueError(
                f"id {index} is outside the vocabulary, expected 0 to "
                f"{len(self._model.pieces) - 1}; decode with the tokenizer that made the ids"
            )
        text, _, kind = self._model.pieces[index]
        if kind is Kind.BYTE:
            return self._show(self._decode_bytes(bytes([int(text[3:5], 16)])))
        before = self._show(self.finish())
        if kind is Kind.CONTROL:
            return before
        if kind is Kind.UNKNOWN:
            return before + self._show(self._model.unknown_surface)
        return before + self._show(self._read_spaces(text))

    def finish(self) -> str:
        """Return what is still kept back: bytes whose character never became complete."""
        return self._decode_bytes(b"", final=True)

    def _show(self, text: str) -> str:
        self._at_start = self._at_start and not text
        return text

    def _read_spaces(self, piece: str) -> str:
        added = self._model.add_dummy_prefix or self._model.remove_extra_whitespaces
        if self._at_start and added and piece.startswith(SPACE):
            piece = piece[1:]
            self._at_start = self._model.remove_extra_whitespaces
        return piece.replace(SPACE, " ")

    def _decode_bytes(self, new: bytes, final: bool = False) -> str:
        """Complete as many characters as the bytes so far can; U+FFFD for each impossible byte."""
        text = self._bytes.decode(new, final)
        return re.sub("[\udc80-\udcff]", "\ufffd", text)
