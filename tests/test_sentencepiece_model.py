"""What cannot be a vocabulary is refused before anything is encoded with it."""

import pytest

from mistral_edu.sentencepiece_model import Kind, Piece, SentencePieceModel, byte_piece
from mistral_edu.wire_format import TokenizerFileError

UNKNOWN = Piece("<unk>", 0.0, Kind.UNKNOWN)
BYTES = tuple(Piece(byte_piece(byte), 0.0, Kind.BYTE) for byte in range(256))


@pytest.mark.parametrize("text", ["", "\0", "a\0b", "\ud800"])
def test_a_piece_that_no_file_can_hold_is_refused(text):
    with pytest.raises(TokenizerFileError, match="piece 1 is .*expected text"):
        SentencePieceModel((UNKNOWN, Piece(text)), byte_fallback=False)


def test_byte_fallback_without_all_the_bytes_names_the_missing_one():
    with pytest.raises(TokenizerFileError, match="256 byte pieces are expected.*255.*<0x0A>"):
        SentencePieceModel((UNKNOWN, *BYTES[:10], *BYTES[11:]))


def test_bytes_without_byte_fallback_are_refused():
    with pytest.raises(TokenizerFileError, match="byte_fallback is False"):
        SentencePieceModel((UNKNOWN, *BYTES), byte_fallback=False)


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ((Piece("a"), Piece("b"), Piece("a")), "pieces 0 and 2 are both 'a'"),
        ((Piece("a"),), "0 pieces are of the unknown kind"),
        ((UNKNOWN, Piece("<u>", 0.0, Kind.UNKNOWN)), "2 pieces are of the unknown kind.*<u>"),
        ((UNKNOWN, Piece("a", float("nan"))), "the score of piece 1, 'a', is not a number"),
        ((UNKNOWN, Piece("a", 0.0, Kind.UNUSED)), "piece 1, 'a', is marked unused"),
    ],
)
def test_pieces_that_make_no_vocabulary_are_named(pieces, reason):
    with pytest.raises(TokenizerFileError, match=reason):
        SentencePieceModel(pieces, byte_fallback=False)


def test_a_user_defined_run_of_spaces_needs_a_vocabulary_that_keeps_spaces():
    pieces = (UNKNOWN, Piece("a  b", 0.0, Kind.USER_DEFINED))
    assert SentencePieceModel(pieces, False, remove_extra_whitespaces=False)
    with pytest.raises(TokenizerFileError, match="piece 1, 'a  b', keeps a run of spaces"):
        SentencePieceModel(pieces, False, remove_extra_whitespaces=True)
