"""Fuzz the reader of tokenizer.model: any bytes are read, or refused by name; nothing else.

python -m tests.fuzz.fuzz_tokenizer_model
"""

import sentencepiece

from mistral_edu.sentencepiece_file import parse, serialise
from mistral_edu.sentencepiece_model import (
    SPACE,
    Kind,
    Piece,
    SentencePieceModel,
    byte_piece,
)
from mistral_edu.tokenizer import MistralTokenizer
from mistral_edu.wire_format import TokenizerFileError

PROBES = ["", "a b ab é", "aab ba<s>[X] [X", "  ab  ", "▁a\n", "<unk> <0x0A>", "👩\0\ufffd"]
UNKNOWN, BEGIN = Piece("<unk>", 0.0, Kind.UNKNOWN), Piece("<s>", 0.0, Kind.CONTROL)
BYTES = tuple(Piece(byte_piece(byte), 0.0, Kind.BYTE) for byte in range(256))
WORDS = (Piece("▁a", -0.5), Piece("ab", -1.0), Piece("▁", -2.0), Piece("a", -3.0), Piece("b", -4.0))
WHOLE = Piece("[X]", 0.0, Kind.USER_DEFINED)
SEEDS = [
    serialise(SentencePieceModel((UNKNOWN, *WORDS), byte_fallback=False)),
    serialise(SentencePieceModel((UNKNOWN, BEGIN, *WORDS, WHOLE), False, False, True, "?", "<s>")),
    serialise(SentencePieceModel((UNKNOWN, BEGIN, *BYTES, *WORDS))),
]


def check(data: bytes) -> None:
    """Read `data` as a tokenizer.model; what can be read must behave, and as SentencePiece does."""
    try:
        model = parse(data)
    except TokenizerFileError as refusal:
        assert str(refusal)
        return
    assert parse(serialise(model)) == model
    ours = MistralTokenizer(model)
    oracle = sentencepiece.SentencePieceProcessor(model_proto=data)
    for text in PROBES:
        ids = ours.encode(text, bos=False)
        assert ids == oracle.encode(text), (text, ids)
        assert ours.decode(ids) == oracle.decode(ids), (text, ids)
        if model.byte_fallback and SPACE in ours.pieces and not model.remove_extra_whitespaces:
            assert ours.decode(ids) == text.replace(SPACE, " ")


if __name__ == "__main__":
    from tests.fuzz.harness import main

    main(check, seeds=SEEDS)
