"""Encoding against SentencePiece, id by id: the real vocabulary, and files it trained itself."""

import argparse
import io
import random
import time
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from mistral_edu import paths
from mistral_edu.sentencepiece_file import parse, serialise
from mistral_edu.sentencepiece_model import Kind, Piece, SentencePieceModel
from mistral_edu.tokenizer import MistralTokenizer
from mistral_edu.wire_format import TokenizerFileError
from tests import tokenizer_growth
from tests.text_samples import (
    CORPUS,
    KINDS,
    PROPERTY,
    TEXTS,
    agree,
    every_character,
    generated,
    random_ids,
    random_text,
    real_oracle,
)
from tests.tokenizer_sweep import sweep

ENGLISH = Path(argparse.__file__).read_text(encoding="utf-8").splitlines()
FAMILY = "👩‍👩‍👧‍👦"


@pytest.fixture(scope="module")
def real():
    return MistralTokenizer.mistral_v1()


@pytest.fixture(scope="module")
def oracle():
    return real_oracle()


# ── the real vocabulary ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", CORPUS, ids=lambda text: ascii(text[:12]))
def test_the_corpus_has_the_ids_and_the_text_of_sentencepiece(text, real, oracle):
    assert agree(real, oracle, text)
    assert real.decode(real.encode(text)) == text.replace("▁", " ")


def test_20000_generated_texts_have_the_ids_and_the_text_of_sentencepiece(real, oracle):
    agreed, differ = sweep(real, oracle, generated(random.Random(5), real.pieces, 20_000))
    assert differ == []
    assert len(agreed) == len(KINDS) and min(agreed.values()) > 1500


def test_every_character_of_unicode_has_the_ids_of_sentencepiece(real, oracle):
    texts = list(every_character())
    assert len("".join(texts)) == 1_112_064
    assert [text for text in texts if real.encode(text, bos=False) != oracle.encode(text)] == []


@pytest.mark.parametrize(
    "around", ["{}", "a{}", "{}a", "a{}b", "\n{}\t", "{}<s>{}", "👩{}é", "▁{}▁"]
)
def test_runs_of_spaces_have_the_ids_of_sentencepiece_at_every_length(around, real, oracle):
    for length in range(41):
        assert agree(real, oracle, around.replace("{}", " " * length)), length


@pytest.mark.parametrize(
    "text",
    ["etaoinshr" * 12_000, "a" * 100_000, " " * 100_000, "=-" * 50_000, "<0x0A>" * 17_000]
    + ["小猫在河边看鱼" * 5_000, FAMILY * 4_000, "\u0301" * 50_000, "\0" * 100_000, "▁" * 33_000],
    ids=["word", "letter", "spaces", "signs", "false", "han", "emoji", "marks", "null", "▁"],
)
def test_100_kilobytes_without_a_place_to_rest_have_the_ids_of_sentencepiece(text, real, oracle):
    assert len(text.encode()) >= 98_000
    assert agree(real, oracle, text)


def test_the_published_ids_of_the_reference(real):
    assert real.encode("My favourite condiment is ") == [1, 1984, 16020, 2076, 2487, 349, 28705]
    assert real.encode("Hello  world", bos=False, eos=True) == [22557, 28705, 1526, 2]


@PROPERTY
@given(text=TEXTS)
def test_every_text_comes_back_but_for_a_literal_space_sign(text, real):
    ids = real.encode(text)
    assert real.decode(ids) == text.replace("▁", " ")
    assert ids[0] == real.bos_id and all(2 < index < real.vocab_size for index in ids[1:])


# ── how the time grows ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", tokenizer_growth.TEXTS)
def test_twice_the_text_takes_no_more_than_twice_the_heap_operations(name):
    texts = [tokenizer_growth.TEXTS[name](size) for size in (8_000, 16_000, 32_000)]
    small = MistralTokenizer.from_pretrained(paths.data_dir() / "tiny")
    counts = []
    for text in texts:
        small._encoder._remembered.clear()
        counts.append(tokenizer_growth.heap_operations(small, text))
    for fewer, more, text in zip(counts, counts[1:], texts[1:], strict=False):
        assert more <= 2.05 * fewer + 10
        assert more <= 3 * len(text)


def test_a_megabyte_takes_seconds_even_without_a_space(real):
    rng = random.Random(7)
    words = [piece.replace("▁", " ") for piece in rng.sample(real.pieces[259:28705], k=2000)]
    for text in ("".join(rng.choices(words, k=180_000)), "".join(rng.choices("etaoin", k=100_000))):
        start = time.process_time()
        real.encode(text)
        assert time.process_time() - start < 15, f"{len(text)} characters: quadratic takes minutes"


# ── what is remembered ──────────────────────────────────────────────────────────────────────────


@PROPERTY
@given(text=TEXTS | st.text("ate ", max_size=30))
def test_the_ids_do_not_depend_on_what_was_encoded_before(text, real):
    after_others = real.encode(text)
    real._encoder._remembered.clear()
    assert real.encode(text) == after_others == real.encode(text)


def test_a_remembered_word_cannot_be_changed_from_outside(real):
    first = real.encode("otter", bos=False)
    first.append(0)
    assert real.encode("otter", bos=False) == first[:-1]


def test_memory_for_words_is_bounded(real, monkeypatch):
    monkeypatch.setattr("mistral_edu.text_encoder.REMEMBERED_WORDS", 10)
    real._encoder._remembered.clear()
    real.encode(" ".join(ENGLISH) + " " + "a" * 1000)
    assert len(real._encoder._remembered) == 10
    assert max(map(len, real._encoder._remembered)) <= 64


# ── other vocabularies ──────────────────────────────────────────────────────────────────────────


def test_the_course_s_own_vocabulary_agrees_with_sentencepiece():
    file = paths.data_dir() / "tiny" / "tokenizer.model"
    ours = MistralTokenizer.from_file(file)
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(file))
    assert sweep(ours, oracle, generated(random.Random(6), ours.pieces, 5_000))[1] == []
    rng = random.Random(7)
    for _ in range(1000):
        ids = random_ids(rng, ours.vocab_size)
        assert ours.decode(ids) == oracle.decode(ids), ids


@pytest.mark.parametrize("text", ["ab\ud800c", "ab\udfff"])
def test_half_a_surrogate_pair_is_named_with_its_place(real, text):
    with pytest.raises(ValueError, match="character 2 of the text.*surrogate"):
        real.encode(text)


def test_a_control_piece_is_not_made_by_merging_even_where_its_halves_are_pieces():
    pieces = [Piece("<unk>", 0.0, Kind.UNKNOWN), Piece("<s>", 0.0, Kind.CONTROL), Piece("<s")]
    model = SentencePieceModel((*pieces, Piece("▁"), Piece(">")), byte_fallback=False)
    oracle = sentencepiece.SentencePieceProcessor(model_proto=serialise(model))
    assert MistralTokenizer(model).encode("<s>", bos=False) == oracle.encode("<s>") == [3, 2, 4]


def trained_by_sentencepiece(**options):
    """The bytes of a file that the `sentencepiece` package trained on English."""
    file = io.BytesIO()
    settings = {"vocab_size": 500, "model_type": "bpe", "normalization_rule_name": "identity"}
    settings |= {"model_writer": file, "minloglevel": 2} | options
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(ENGLISH[:400]), **settings)
    return file.getvalue()


def expect_agreement(data, seed, count=100):
    ours, rng = MistralTokenizer(parse(data)), random.Random(seed)
    oracle = sentencepiece.SentencePieceProcessor(model_proto=data)
    texts = ["[INST][IN hello goes  help[INST] ▁ ", " ▁", "▁ x", "x▁ ", "éé üü é", *CORPUS]
    for text in texts + [random_text(rng, ours.pieces) for _ in range(count)]:
        assert agree(ours, oracle, text), text
    for _ in range(3 * count):
        ids = rng.choices(range(ours.vocab_size), k=rng.randrange(6))
        assert ours.decode(ids) == oracle.decode(ids), ids


@pytest.mark.parametrize("trim", [True, False], ids=["trim", "keep"])
@pytest.mark.parametrize("prefix", [True, False], ids=["prefix", "bare"])
@pytest.mark.parametrize("fallback", [True, False], ids=["bytes", "unknown"])
def test_a_file_trained_by_sentencepiece_agrees_under_every_setting(trim, prefix, fallback):
    data = trained_by_sentencepiece(
        byte_fallback=fallback,
        add_dummy_prefix=prefix,
        remove_extra_whitespaces=trim,
        user_defined_symbols=["[INST]", "[IN", "▁go", "hel"],
        allow_whitespace_only_pieces=True,
    )
    expect_agreement(data, seed=10)


@pytest.mark.parametrize(
    "options",
    [
        {"split_by_whitespace": False, "byte_fallback": True},
        {"split_digits": True, "split_by_unicode_script": False, "split_by_number": False},
        {"control_symbols": ["<ctl>", "▁the", "he"], "user_defined_symbols": ["<sep>", "▁", "▁▁"]},
        {"unk_surface": "<?>", "unk_piece": "UNK", "bos_piece": "B", "eos_piece": "E", "pad_id": 3},
        {"bos_id": -1, "eos_id": -1, "unk_id": 0, "character_coverage": 0.98},
        {"max_sentencepiece_length": 3, "byte_fallback": True},
        {"user_defined_symbols": [" ", "a b", " x", "y ", "e", "é", "👩", "<s>x"]},
        {"user_defined_symbols": ["ab", "abc", "b", "bc", "."], "remove_extra_whitespaces": False},
    ],
    ids=lambda options: " ".join(options),
)
def test_a_file_trained_by_sentencepiece_agrees_under_rarer_settings(options):
    expect_agreement(trained_by_sentencepiece(**options), seed=11)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"model_type": "unigram"}, "its algorithm is unigram"),
        ({"model_type": "word", "vocab_size": 200}, "its algorithm is word"),
        ({"model_type": "char", "vocab_size": 60}, "its algorithm is char"),
        ({"normalization_rule_name": "nmt_nfkc"}, "b'nmt_nfkc' rewrites text"),
        ({"user_defined_symbols": ["  "]}, "piece 3, '  ', keeps a run of spaces"),
        ({"treat_whitespace_as_suffix": True}, "keeps spaces at the end"),
    ],
    ids=["unigram", "word", "char", "nmt_nfkc", "spaces", "suffix"],
)
def test_a_file_that_would_be_read_differently_is_refused(options, reason):
    with pytest.raises(TokenizerFileError, match=f"{reason}.*the sentencepiece package"):
        parse(trained_by_sentencepiece(**options))


def test_a_user_defined_piece_protects_a_run_of_spaces_in_sentencepiece():
    oracle = sentencepiece.SentencePieceProcessor(
        model_proto=trained_by_sentencepiece(user_defined_symbols=["  "])
    )
    assert oracle.decode(oracle.encode("a  b")) == "a  b", "so refusing it is right"
