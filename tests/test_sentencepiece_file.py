"""Reading and writing tokenizer.model files: the real one, our own, and broken ones."""

import random
import tracemalloc
from importlib import resources

import pytest
import sentencepiece

from mistral_edu.sentencepiece_file import parse, serialise
from mistral_edu.sentencepiece_model import (
    Kind,
    Piece,
    SentencePieceModel,
    byte_piece,
)
from mistral_edu.tokenizer import MistralTokenizer
from mistral_edu.wire_format import TokenizerFileError, read_fields, write_field
from tests.fuzz.fuzz_tokenizer_model import SEEDS, check

UNKNOWN = Piece("<unk>", 0.0, Kind.UNKNOWN)
BYTES = tuple(Piece(byte_piece(byte), 0.0, Kind.BYTE) for byte in range(256))
SMALL = SentencePieceModel((UNKNOWN, Piece("▁a", -0.5), Piece("é", -1.0)), byte_fallback=False)
IDENTITY = write_field(3, write_field(1, "identity"))
TRAINER = write_field(2, write_field(3, 2))


def piece(text="a", score=0.0, kind=1):
    return write_field(1, write_field(1, text) + write_field(2, score) + write_field(3, kind))


def parse_or_none(data):
    try:
        return parse(data)
    except TokenizerFileError:
        return None


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


@pytest.mark.parametrize("seed", SEEDS[:2], ids=["keep", "trim"])
def test_a_file_cut_anywhere_is_refused(seed):
    assert [length for length in range(len(seed)) if parse_or_none(seed[:length])] == []


@pytest.mark.parametrize("seed", SEEDS[:2], ids=["keep", "trim"])
def test_every_flipped_bit_is_refused_by_name_or_read_as_sentencepiece_reads_it(seed):
    for place in range(len(seed)):
        for bit in range(8):
            check(seed[:place] + bytes([seed[place] ^ 1 << bit]) + seed[place + 1 :])


def test_damage_of_several_bytes_is_refused_by_name_or_read_as_sentencepiece_reads_it():
    rng, refused = random.Random(4), 0
    for _ in range(1500):
        seed = rng.choice(SEEDS[:2])
        damaged = bytearray(seed)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(seed))] = rng.randrange(256)
        check(bytes(damaged))
        refused += parse_or_none(bytes(damaged)) is None
    assert 500 < refused < 1500


def peak_while_refusing(data, reason):
    """The most memory in use, in bytes, while `data` is read and refused for `reason`."""
    tracemalloc.start()
    with pytest.raises(TokenizerFileError, match=reason):
        parse(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x0a\x00" * 10_000_000, "more than the 8388608 bytes.*not the weights"),
        (b"\x0a\x00" * 200_000, "piece 0 is empty"),
        (write_field(1, b"\x0a" + b"\xff" * 9 + b"\x01"), "promises 18446744073709551615 bytes"),
        (b"\x0a\xff\xff\xff\xff\x07" + bytes(1000), "promises 2147483647 bytes but 1000"),
    ],
    ids=["too large", "empty pieces", "a length of 64 bits", "a length of 2 GB"],
)
def test_a_file_that_asks_for_much_memory_is_refused_before_it_gets_any(data, reason):
    assert peak_while_refusing(data, reason) < 1_000_000


def test_messages_in_messages_are_as_deep_as_the_format_and_no_deeper():
    nested = b""
    for _ in range(3000):
        nested = write_field(1, nested)
    for data in (nested, write_field(2, nested), write_field(99, nested) + serialise(SMALL)):
        check(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "ends before its trainer"),
        (piece() + TRAINER, "ends before its trainer and normalizer"),
        (b"\x0a\xff\xff\xff\xff\x0f", "promises 4294967295 bytes but 0 are left"),
        (b"\xff" * 11, "the number at byte 0 has no end"),
        (b"\xff" * 9 + b"\x02", "the number at byte 0 has no end or more than 64 bits"),
        (b"\x00\x01", "number 0, expected 1 to"),
        (b"\xf8\xff\xff\xff\x7f\x01", "number 4294967295, expected 1 to"),
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
        (piece("") + TRAINER + IDENTITY, "piece 0 is empty"),
        (piece("a") + piece("b") * 2 + TRAINER + IDENTITY, "pieces 1 and 2 are both 'b'"),
        (piece("a\0") + TRAINER + IDENTITY, "no null or half character"),
        (piece(score=b"\0\0\0\0"), "expected a float"),
        (piece(kind=1.0), "kind 1.0"),
        (piece("b") + TRAINER + IDENTITY, "0 pieces are of the unknown kind"),
        (IDENTITY + write_field(2, write_field(3, 1)), "its algorithm is unigram"),
        (IDENTITY + write_field(2, b""), "its algorithm is unigram"),
        (IDENTITY + write_field(2, write_field(3, 4)), "its algorithm is char"),
        (IDENTITY + write_field(2, write_field(3, 2.0)), "the algorithm is 2.0, expected a whole"),
        (
            TRAINER + write_field(3, write_field(3, b"")),
            "add_dummy_prefix is b'', expected a whole",
        ),
        (TRAINER + write_field(3, write_field(1, "nmt_nfkc") + write_field(2, b"x")), "nmt_nfkc"),
        (TRAINER + IDENTITY + write_field(5, write_field(2, b"x")), "rewrites text"),
        (TRAINER + write_field(3, write_field(5, False)), "keeps spaces"),
        (IDENTITY + write_field(2, write_field(3, 2) + write_field(24, True)), "keeps spaces"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(data, reason):
    with pytest.raises(TokenizerFileError, match=reason):
        parse(data)


def test_fields_that_later_versions_add_are_passed_over():
    extra = write_field(4, b"self test") + write_field(200, 5) + write_field(201, 1.0)
    assert parse(extra + serialise(SMALL) + extra) == SMALL


def test_a_setting_that_is_absent_has_sentencepiece_s_own_default():
    model = parse(piece("<unk>", kind=2) + TRAINER + IDENTITY)
    assert model == SentencePieceModel((UNKNOWN,), False, True, True)


def test_eight_byte_fields_are_passed_over():
    assert list(read_fields(b"\x09" + bytes(8) + write_field(2, 7))) == [(1, 0.0), (2, 7)]
