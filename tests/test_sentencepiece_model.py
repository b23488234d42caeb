"""Reading and writing tokenizer.model files: the real one, our own, and broken ones."""

import random
from importlib import resources

import pytest
import sentencepiece

from mistral_edu.sentencepiece_model import (
    Kind,
    Piece,
    SentencePieceModel,
    byte_piece,
    parse,
    serialise,
)
from mistral_edu.tokenizer import MistralTokenizer
from mistral_edu.wire_format import TokenizerFileError, read_fields, write_field

UNKNOWN = Piece("<unk>", 0.0, Kind.UNKNOWN)
BYTES = tuple(Piece(byte_piece(byte), 0.0, Kind.BYTE) for byte in range(256))
SMALL = SentencePieceModel((UNKNOWN, Piece("▁a", -0.5), Piece("é", -1.0)), byte_fallback=False)
IDENTITY = write_field(3, write_field(1, "identity"))
TRAINER = write_field(2, write_field(3, 2))


def piece(text="a", score=0.0, kind=1):
    return write_field(1, write_field(1, text) + write_field(2, score) + write_field(3, kind))


def test_the_real_file_reads_as_sentencepiece_reads_it():
    data = (resources.files("mistral_common") / "data" / "tokenizer.model.v1").read_bytes()
    model = MistralTokenizer.mistral_v1().model
    oracle = sentencepiece.SentencePieceProcessor(model_proto=data)
    assert len(model.pieces) == oracle.vocab_size() == 32000
    for index, (text, score, kind) in enumerate(model.pieces):
        assert (text, score) == (oracle.id_to_piece(index), oracle.get_score(index))
        assert oracle.is_byte(index) == (kind is Kind.BYTE)
        assert oracle.is_control(index) == (kind is Kind.CONTROL)
    settings = (model.byte_fallback, model.add_dummy_prefix, model.remove_extra_whitespaces)
    assert settings == (True, True, False)


@pytest.mark.parametrize(
    "model",
    [
        SMALL,
        SentencePieceModel((UNKNOWN, *BYTES), True, False, True, "?", "<b>", "<e>", "<p>"),
        SentencePieceModel((UNKNOWN, Piece("x" * 300, -1e9)), False),
    ],
)
def test_what_is_written_reads_back_the_same(model):
    assert parse(serialise(model)) == model


def test_a_file_cut_anywhere_is_refused():
    data = serialise(SMALL)
    for length in range(len(data)):
        with pytest.raises(TokenizerFileError):
            parse(data[:length])


def test_damage_of_any_byte_is_read_or_refused_by_name():
    rng, data = random.Random(4), serialise(SMALL)
    refused = 0
    for _ in range(1500):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(data))] = rng.randrange(256)
        try:
            parse(bytes(damaged))
        except TokenizerFileError:
            refused += 1
    assert refused > 500


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "ends before its trainer"),
        (piece() + TRAINER, "ends before its trainer and normalizer"),
        (b"\x0a\xff\xff\xff\xff\x0f", "promises 4294967295 bytes but 0 are left"),
        (b"\xff" * 11, "the number at byte 0 has no end"),
        (b'{"config": {}}', "not a readable tokenizer.model"),
        (b"PK\x03\x04" + bytes(60), "not a readable tokenizer.model"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x0b", "wire type 3"),
        (write_field(1, 7), "piece 0 is the number 7"),
        (piece(b"\xff\xfe"), "expected UTF-8"),
        (piece(score=3), "score 3"),
        (piece(score=float("nan")) + TRAINER + IDENTITY, "not a number"),
        (piece(kind=9), "kind 9"),
        (piece(kind=5) + TRAINER + IDENTITY, "marked unused"),
        (piece("") + TRAINER + IDENTITY, "empty or there twice"),
        (piece("b") * 2 + TRAINER + IDENTITY, "empty or there twice"),
        (piece("b") + TRAINER + IDENTITY, "0 pieces are of the unknown kind"),
        (IDENTITY + write_field(2, write_field(3, 1)), "its algorithm is unigram"),
        (IDENTITY + write_field(2, b""), "its algorithm is unigram"),
        (IDENTITY + write_field(2, write_field(3, 4)), "its algorithm is char"),
        (TRAINER + write_field(3, write_field(1, "nmt_nfkc") + write_field(2, b"x")), "nmt_nfkc"),
        (TRAINER + IDENTITY + write_field(5, write_field(2, b"x")), "rewrites text"),
        (TRAINER + write_field(3, write_field(5, False)), "keeps spaces"),
        (IDENTITY + write_field(2, write_field(3, 2) + write_field(24, True)), "keeps spaces"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(data, reason):
    with pytest.raises(TokenizerFileError, match=reason):
        parse(data)


def test_byte_fallback_without_all_the_bytes_names_the_missing_one():
    with pytest.raises(TokenizerFileError, match="256 byte pieces are expected.*255.*<0x0A>"):
        SentencePieceModel((UNKNOWN, *BYTES[:10], *BYTES[11:]))


def test_bytes_without_byte_fallback_are_refused():
    with pytest.raises(TokenizerFileError, match="byte_fallback is False"):
        SentencePieceModel((UNKNOWN, *BYTES), byte_fallback=False)


def test_fields_that_later_versions_add_are_passed_over():
    extra = write_field(4, b"self test") + write_field(200, 5) + write_field(201, 1.0)
    assert parse(extra + serialise(SMALL) + extra) == SMALL


def test_a_setting_that_is_absent_has_sentencepiece_s_own_default():
    model = parse(piece("<unk>", kind=2) + TRAINER + IDENTITY)
    assert model == SentencePieceModel((UNKNOWN,), False, True, True)


def test_eight_byte_fields_are_passed_over():
    assert list(read_fields(b"\x09" + bytes(8) + write_field(2, 7))) == [(1, bytes(8)), (2, 7)]
