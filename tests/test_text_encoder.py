"""Encoding against SentencePiece, id by id: the real vocabulary, and files it trained itself."""

import argparse
import io
import random
import time
from importlib import resources
from pathlib import Path

import pytest
import sentencepiece
from text_samples import CORPUS, agree, random_text

from mistral_edu.sentencepiece_model import Kind, Piece, SentencePieceModel, parse, serialise
from mistral_edu.tokenizer import MistralTokenizer

ENGLISH = Path(argparse.__file__).read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def real():
    return MistralTokenizer.mistral_v1()


@pytest.fixture(scope="module")
def oracle():
    data = (resources.files("mistral_common") / "data" / "tokenizer.model.v1").read_bytes()
    return sentencepiece.SentencePieceProcessor(model_proto=data)


@pytest.mark.parametrize("text", CORPUS, ids=lambda text: ascii(text[:12]))
def test_the_corpus_has_the_ids_and_the_text_of_sentencepiece(text, real, oracle):
    assert agree(real, oracle, text)
    assert real.decode(real.encode(text)) == text.replace("▁", " ")


def test_random_strings_over_all_planes_have_the_ids_of_sentencepiece(real, oracle):
    rng = random.Random(5)
    for _ in range(2000):
        text = random_text(rng, real.pieces)
        assert agree(real, oracle, text), text


def test_the_published_ids_of_the_reference(real):
    assert real.encode("My favourite condiment is ") == [1, 1984, 16020, 2076, 2487, 349, 28705]
    assert real.encode("Hello  world", bos=False, eos=True) == [22557, 28705, 1526, 2]


def test_a_megabyte_takes_seconds_even_without_a_space(real):
    rng = random.Random(7)
    words = [piece.replace("▁", " ") for piece in rng.sample(real.pieces[259:28705], k=2000)]
    for text in ("".join(rng.choices(words, k=180_000)), "".join(rng.choices("etaoin", k=100_000))):
        start = time.process_time()
        real.encode(text)
        assert time.process_time() - start < 15, f"{len(text)} characters: quadratic takes minutes"


@pytest.mark.parametrize("text", ["ab\ud800c", "ab\udfff"])
def test_half_a_surrogate_pair_is_named_with_its_place(real, text):
    with pytest.raises(ValueError, match="character 2 of the text.*surrogate"):
        real.encode(text)


def test_a_control_piece_is_not_made_by_merging_even_where_its_halves_are_pieces():
    pieces = [Piece("<unk>", 0.0, Kind.UNKNOWN), Piece("<s>", 0.0, Kind.CONTROL), Piece("<s")]
    model = SentencePieceModel((*pieces, Piece("▁"), Piece(">")), byte_fallback=False)
    oracle = sentencepiece.SentencePieceProcessor(model_proto=serialise(model))
    assert MistralTokenizer(model).encode("<s>", bos=False) == oracle.encode("<s>") == [3, 2, 4]


def test_a_remembered_word_cannot_be_changed_from_outside(real):
    first = real.encode("otter", bos=False)
    first.append(0)
    assert real.encode("otter", bos=False) == first[:-1]


@pytest.mark.parametrize("trim", [True, False], ids=["trim", "keep"])
@pytest.mark.parametrize("prefix", [True, False], ids=["prefix", "bare"])
@pytest.mark.parametrize("fallback", [True, False], ids=["bytes", "unknown"])
def test_a_file_trained_by_sentencepiece_agrees_under_every_setting(trim, prefix, fallback):
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(ENGLISH[:400]),
        model_writer=file,
        vocab_size=500,
        model_type="bpe",
        normalization_rule_name="identity",
        byte_fallback=fallback,
        add_dummy_prefix=prefix,
        remove_extra_whitespaces=trim,
        user_defined_symbols=["[INST]", "[IN", "▁go", "hel"],
        allow_whitespace_only_pieces=True,
        minloglevel=2,
    )
    ours = MistralTokenizer(parse(file.getvalue()))
    oracle = sentencepiece.SentencePieceProcessor(model_proto=file.getvalue())
    rng = random.Random(10)
    texts = ["[INST][IN hello goes  help[INST] ▁ ", " ▁", "▁ x", "x▁ ", "éé üü é", *CORPUS]
    for text in texts + [random_text(rng, ours.pieces) for _ in range(100)]:
        assert agree(ours, oracle, text), text
    for _ in range(300):
        ids = rng.choices(range(500), k=rng.randrange(6))
        assert ours.decode(ids) == oracle.decode(ids), ids
