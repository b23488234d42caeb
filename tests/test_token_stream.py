"""Decoding id by id: whole characters only, and the same text as SentencePiece."""

import random
from importlib import resources

import pytest
import sentencepiece
import torch
from text_samples import CORPUS, random_text

from mistral_edu.tokenizer import MistralTokenizer


@pytest.fixture(scope="module")
def real():
    return MistralTokenizer.mistral_v1()


def test_random_ids_decode_as_sentencepiece_decodes_them(real):
    data = (resources.files("mistral_common") / "data" / "tokenizer.model.v1").read_bytes()
    oracle = sentencepiece.SentencePieceProcessor(model_proto=data)
    rng = random.Random(6)
    ranges = [(0, 32000), (0, 3), (3, 259), (180, 259), (28705, 28706)]
    for _ in range(4000):
        ids = [rng.randrange(*rng.choice(ranges)) for _ in range(rng.randrange(12))]
        assert real.decode(ids) == oracle.decode(ids), ids


def test_the_streamed_pieces_are_whole_characters_and_join_to_the_text(real):
    rng = random.Random(8)
    for text in [*CORPUS, *(random_text(rng, real.pieces) for _ in range(200))]:
        stream, ids = real.decoder(), real.encode(text)
        pieces = [stream.add(index) for index in ids] + [stream.finish()]
        assert "".join(pieces) == real.decode(ids) == text.replace("▁", " ")
        assert "\ufffd" in text or not any("\ufffd" in piece for piece in pieces)


def test_every_other_id_gives_its_text_at_once(real):
    stream = real.decoder()
    assert [stream.add(index) for index in (1, 22557, 1526, 2)] == ["", "Hello", " world", ""]


def test_bytes_that_never_become_a_character_come_out_at_the_end(real):
    stream = real.decoder()
    assert [stream.add(index) for index in (243, 162, 148)] == ["", "", ""]
    assert stream.finish() == "\ufffd" * 3
    assert stream.finish() == ""


def test_only_the_first_space_is_taken_off(real):
    assert real.decode([28705, 28705, 22557]) == "  Hello"
    assert real.decode([1, 28705, 13, 22557]) == "\n Hello"


def test_a_row_of_a_tensor_decodes_like_a_list(real):
    assert real.decode(torch.tensor([1, 22557, 1526])) == "Hello world"


@pytest.mark.parametrize("index", [-1, 32000])
def test_an_id_outside_the_vocabulary_is_named(real, index):
    with pytest.raises(ValueError, match=f"id {index} is outside the vocabulary.*31999"):
        real.decode([1, index])


def test_an_id_that_is_no_whole_number_is_refused(real):
    with pytest.raises(TypeError):
        real.decode([1.5])
