"""Text to ids: prepare the text, merge neighbours best score first, spell the rest in bytes.

    "5 é" → ▁5▁é → ▁ 5 ▁é → 28705 28782 1233       (the real vocabulary)
    a character outside the vocabulary → its UTF-8 bytes, one id each

Source: the encoding rules of SentencePiece (Kudo and Richardson, 2018, arXiv:1808.06226). Built in
lesson 01 on `bpe.py`, where the merging is.

Conventions: text is only text, so a literal "<s>" or "[INST]" never becomes a control id; no begin
or end id is added here; `token_stream.py` is the way back.
"""

import re

from mistral_edu.bpe import cut_where_nothing_merges, merge, touching
from mistral_edu.sentencepiece_model import SPACE, Kind, SentencePieceModel, byte_piece

REMEMBERED_WORDS = 1 << 16
LONGEST_REMEMBERED = 64
HALF_A_PAIR = re.compile("[\ud800-\udfff]")


def refuse_half_characters(text: str) -> None:
    """Raise ValueError, naming the place, if the text holds half a surrogate pair.

    Python's str can hold one (json and errors="surrogateescape" make them), UTF-8 cannot.

    >>> refuse_half_characters("👩")
    """
    if half := HALF_A_PAIR.search(text):
        raise ValueError(
            f"character {half.start()} of the text is {half[0]!r}, half a surrogate pair, "
            "expected whole characters; read the text as UTF-8 with errors='replace'"
        )


class TextEncoder:
    """Turns text into the ids of one vocabulary, as SentencePiece does.

    Arguments:
        model: the pieces and settings.

    >>> from mistral_edu.sentencepiece_model import Piece
    >>> pieces = (Piece("<unk>", 0.0, Kind.UNKNOWN), Piece("▁a"), Piece("▁", -1.0))
    >>> TextEncoder(SentencePieceModel(pieces, byte_fallback=False)).encode("a a b")
    [1, 1, 2, 0]
    """

    def __init__(self, model: SentencePieceModel) -> None:
        self._model = model
        ids = {piece.text: index for index, piece in enumerate(model.pieces)}
        self._unknown_id = next(ids[text] for text, _, kind in model.pieces if kind is Kind.UNKNOWN)
        self._byte_ids = [ids[byte_piece(byte)] for byte in range(256 * model.byte_fallback)]
        self._scores = {text: score for text, score, kind in model.pieces if kind is Kind.NORMAL}
        self._ids = {text: ids[text] for text in self._scores}
        self._touching = touching(self._scores)
        whole = [text for text, _, kind in model.pieces if kind is Kind.USER_DEFINED]
        self._whole_ids = {text: ids[text] for text in whole}
        self._whole = _any_of(whole)
        self._remembered: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """Turn text into ids.

        Raises ValueError if the text holds half a surrogate pair, which UTF-8 cannot spell.
        """
        ids: list[int] = []
        for place, part in enumerate(self._whole.split(self.prepare(text))):
            if place % 2:
                ids.append(self._whole_ids[part])
                continue
            for word in cut_where_nothing_merges(part, self._touching):
                ids += self._remembered.get(word) or self._encode_word(word)
        return ids if self._model.byte_fallback else self._join_unknown(ids)

    def prepare(self, text: str) -> str:
        """Spell spaces as ▁ and put one in front, as the settings of the model say."""
        refuse_half_characters(text)
        trims = self._model.remove_extra_whitespaces
        if trims:
            text = re.sub(" +", " ", text.strip(" "))
        if self._model.add_dummy_prefix and text:
            text = " " + text
        text = text.replace(" ", SPACE)
        return text.rstrip(SPACE) if trims else text

    def _encode_word(self, word: str) -> list[int]:
        """Merge one word; remember it, because a text is made of few words said many times."""
        ids: list[int] = []
        for piece in merge(word, self._scores):
            if piece in self._ids:
                ids.append(self._ids[piece])
            elif self._model.byte_fallback:
                ids += [self._byte_ids[byte] for byte in piece.encode()]
            else:
                ids.append(self._unknown_id)
        if len(word) <= LONGEST_REMEMBERED and len(self._remembered) < REMEMBERED_WORDS:
            self._remembered[word] = ids
        return ids

    def _join_unknown(self, ids: list[int]) -> list[int]:
        """Without byte fallback, unknown neighbours are one unknown piece."""
        pairs = zip([None, *ids], ids, strict=False)
        return [index for before, index in pairs if not before == index == self._unknown_id]


def _any_of(symbols: list[str]) -> re.Pattern[str]:
    """Match any of the symbols that must stay whole, the longest first; capture it for `split`."""
    longest_first = sorted(symbols, key=len, reverse=True)
    return re.compile("(" + ("|".join(map(re.escape, longest_first)) or "(?!)") + ")")
