"""A SentencePiece vocabulary in memory: scored pieces, and the settings they are used with.

    the id of a piece is its place;  score(xy) > score(ab) → x and y are joined before a and b

Source: SentencePiece (Kudo and Richardson, 2018, arXiv:1808.06226). Built in lesson 01;
`sentencepiece_file.py` is how it is stored. Conventions: inside a piece a space is spelled ▁
(U+2581); a vocabulary that cannot be right does not come into being.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from mistral_edu.wire_format import TokenizerFileError, damaged

SPACE = "▁"
NOT_IN_A_FILE = re.compile("[\0\ud800-\udfff]")
UNKNOWN_SURFACE = " \u2047 "


class Kind(IntEnum):
    """What a piece stands for. Merging makes normal pieces only."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Piece(NamedTuple):
    """One entry of the vocabulary: its text, its score (higher merges earlier) and its kind."""

    text: str
    score: float = 0.0
    kind: Kind = Kind.NORMAL


@dataclass(frozen=True)
class SentencePieceModel:
    """The pieces of a vocabulary, and how text is prepared for them.

    Arguments:
        pieces: the vocabulary; the id of a piece is its place here.
        byte_fallback: spell a character outside the vocabulary as its UTF-8 bytes.
        add_dummy_prefix: put a space before the text, so that a first word looks like a later one.
        remove_extra_whitespaces: trim the text and shorten every run of spaces to one.
        unknown_surface: what the unknown piece reads as when decoded.
        bos, eos, pad: the texts of the control pieces that begin, end and fill a sequence.

    Raises TokenizerFileError, naming the piece, if the pieces do not make a vocabulary.

    >>> SentencePieceModel((Piece("<unk>", 0.0, Kind.UNKNOWN), Piece("▁a")), False).pieces[1].text
    '▁a'
    """

    pieces: tuple[Piece, ...]
    byte_fallback: bool = True
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = False
    unknown_surface: str = UNKNOWN_SURFACE
    bos: str = "<s>"
    eos: str = "</s>"
    pad: str = "<pad>"

    def __post_init__(self) -> None:
        _check_pieces(self.pieces)
        _check_bytes(self.pieces, self.byte_fallback)
        if self.remove_extra_whitespaces:
            _check_trimming(self.pieces)


def byte_piece(byte: int) -> str:
    """Name the piece that stands for one byte, 0 to 255.

    >>> byte_piece(10)
    '<0x0A>'
    """
    return f"<0x{byte:02X}>"


def _check_pieces(pieces: Sequence[Piece]) -> None:
    first: dict[str, int] = {}
    for index, (text, score, kind) in enumerate(pieces):
        if not text or NOT_IN_A_FILE.search(text):
            raise damaged(
                f"piece {index} is {text!r}, expected text with no null or half character"
            )
        if first.setdefault(text, index) != index:
            raise damaged(f"pieces {first[text]} and {index} are both {text!r}")
        if math.isnan(score):
            raise damaged(f"the score of piece {index}, {text!r}, is not a number")
        if kind is Kind.UNUSED:
            raise TokenizerFileError(
                f"piece {index}, {text!r}, is marked unused, which this tokenizer cannot honour; "
                "mark it normal or control, or use the sentencepiece package"
            )
    unknown = [piece.text for piece in pieces if piece.kind is Kind.UNKNOWN]
    if len(unknown) != 1:
        raise damaged(f"{len(unknown)} pieces are of the unknown kind {unknown[:3]}, expected one")


def _check_trimming(pieces: Sequence[Piece]) -> None:
    """SentencePiece keeps a run of spaces that is in a user-defined piece; we would shorten it."""
    for index, (text, _, kind) in enumerate(pieces):
        if kind is Kind.USER_DEFINED and "  " in text:
            raise TokenizerFileError(
                f"piece {index}, {text!r}, keeps a run of spaces that remove_extra_whitespaces "
                "would shorten, which this tokenizer cannot do; use the sentencepiece package"
            )


def _check_bytes(pieces: Sequence[Piece], byte_fallback: bool) -> None:
    found = {piece.text for piece in pieces if piece.kind is Kind.BYTE}
    expected = {byte_piece(byte) for byte in range(256)} if byte_fallback else set()
    if found != expected:
        odd = sorted(found ^ expected)[:3]
        raise damaged(
            f"byte_fallback is {byte_fallback}, so {len(expected)} byte pieces are expected, but "
            f"there are {len(found)}; the first that differ: {odd}"
        )
