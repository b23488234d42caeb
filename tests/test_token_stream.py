"""Decoding id by id: whole characters only, and the same text as SentencePiece."""

import itertools
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mistral_edu.tokenizer import MistralTokenizer
from tests.text_samples import CORPUS, PROPERTY, TEXTS, generated, random_ids, real_oracle

CONTINUATION, LEAD = st.integers(0x80 + 3, 0xBF + 3), st.integers(0xC0 + 3, 0xFF + 3)
ANY_IDS = st.lists(
    st.integers(0, 31999)
    | st.integers(0, 2)
    | st.integers(3, 258)
    | CONTINUATION
    | LEAD
    | st.sampled_from([28705, 259, 13, 22557]),
    max_size=16,
)


@pytest.fixture(scope="module")
def real():
    return MistralTokenizer.mistral_v1()


def streamed(tokenizer, ids):
    """The text that each id completes, and what comes out at the end."""
    stream = tokenizer.decoder()
    return [stream.add(index) for index in ids] + [stream.finish()]


def test_random_ids_decode_as_sentencepiece_decodes_them(real):
    oracle, rng = real_oracle(), random.Random(6)
    for _ in range(4000):
        ids = random_ids(rng, real.vocab_size) + rng.choice([[], [28705], [259]])
        rng.shuffle(ids)
        assert real.decode(ids) == oracle.decode(ids), ids


def test_every_pair_of_bytes_and_every_edge_of_utf8_decodes_as_sentencepiece_decodes_it(real):
    oracle = real_oracle()
    edges = [0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0]
    edges += [0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF8, 0xFF]
    pairs = itertools.product(range(0x80, 0x100), repeat=2)
    triples = itertools.product(edges, repeat=3)
    quads = itertools.product(range(0xEF, 0xF6), edges[3:9], [0x7F, 0x80, 0xBF, 0xC2], [0x80, 0x41])
    for some in (pairs, triples, quads):
        for group in itertools.groupby(some, key=lambda each: each[0]):
            ids = [index for each in group[1] for index in [*(byte + 3 for byte in each), 22557]]
            assert real.decode(ids) == oracle.decode(ids), group[0]


@PROPERTY
@given(ids=ANY_IDS)
def test_what_is_shown_of_any_ids_is_final_and_joins_to_the_text_of_every_prefix(ids, real):
    oracle, whole = real_oracle(), real_oracle().decode(ids)
    for cut in range(len(ids) + 1):
        *shown, rest = streamed(real, ids[:cut])
        text = "".join(shown)
        assert whole.startswith(text)
        assert text + rest == oracle.decode(ids[:cut])
        assert rest in ("", "\ufffd", "\ufffd" * 2, "\ufffd" * 3), "never more than three bytes"


@PROPERTY
@given(text=TEXTS.filter(lambda text: "\ufffd" not in text))
def test_the_streamed_pieces_of_a_text_are_whole_characters_and_join_to_it(text, real):
    pieces = streamed(real, real.encode(text))
    assert "".join(pieces) == text.replace("▁", " ")
    assert "\ufffd" not in "".join(pieces) and pieces[-1] == ""


def test_the_streamed_pieces_of_real_texts_join_to_them(real):
    rng = random.Random(8)
    for text in [*CORPUS, *(text for _, text in generated(rng, real.pieces, 600))]:
        ids = real.encode(text, eos=True)
        assert "".join(streamed(real, ids)) == real_oracle().decode(ids) == text.replace("▁", " ")


def test_a_character_of_four_bytes_is_shown_at_its_last_byte_only(real):
    assert streamed(real, [22557, 243, 162, 148, 172]) == ["Hello", "", "", "", "👩", ""]


@pytest.mark.parametrize(
    ("after", "shown"),
    [(22557, " Hello"), (1, ""), (0, " ⁇ "), (68, "A"), (243, "")],
    ids=["a piece", "control", "unknown", "a letter's byte", "another first byte"],
)
def test_what_follows_a_broken_character_shows_it_and_goes_on(after, shown, real):
    stream = real.decoder()
    assert "".join(stream.add(index) for index in (28705, 28705, 243, 162, 148)) == " "
    assert stream.add(after) == "\ufffd" * 3 + shown


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
