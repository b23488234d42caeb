"""Drills: what counts is told by the text before it, and the wrong answers are there as well."""

from random import Random

import pytest

from mistral_edu.training.documents import Texts
from mistral_edu.training.drills import DRILLS, chant, links, pairs, questions, verses
from mistral_edu.training.names import HOUSEHOLDS, MEN, WOMEN
from tests.training_toys import tokenizer


def drawn(drill, count=200, split="train"):
    return [drill(Random(f"test {number}"), split) for number in range(count)]


def text_of(pieces):
    return (
        " ".join(piece.text for piece in pieces)
        .replace(" .", ".")
        .replace(" \n", "\n")
        .replace("\n ", "\n")
    )


@pytest.mark.parametrize("name", DRILLS)
def test_whatever_counts_stands_in_the_text_before(name):
    for pieces in drawn(DRILLS[name]):
        assert any(piece.counts for piece in pieces)
        for place, piece in enumerate(pieces):
            if piece.counts and piece.text != "\n":
                assert piece.text.lower() in text_of(pieces[:place]).lower()


@pytest.mark.parametrize("drill", [chant, verses])
def test_a_word_that_counts_follows_the_same_word_as_before(drill):
    for pieces in drawn(drill):
        words = [piece.text for piece in pieces]
        heard = words[: words.index("\n")]
        assert len(set(heard)) == len(heard)
        for place, piece in enumerate(pieces):
            if piece.counts:
                assert heard[heard.index(words[place - 1]) + 1] == piece.text


@pytest.mark.parametrize("drill", [pairs, links])
def test_a_value_that_counts_is_the_value_of_the_key_before_it(drill):
    for pieces in drawn(drill):
        words = [piece.text for piece in pieces]
        end = words.index("\n")
        told, sentence = {}, []
        for word in words[:end]:
            if word == ".":
                told[sentence[0]] = sentence[-1]
                sentence = []
            else:
                sentence.append(word)
        assert len(set(told.values())) == len(told) >= 2
        for piece, word in zip(pieces[end + 1 :], words[end + 1 :], strict=True):
            if piece.counts:
                assert word == told[sentence[0]]
                sentence = []
            elif word != ".":
                sentence.append(word)


def test_values_said_already_are_asked_again():
    """Otherwise the values not yet said would be a better guess than chance."""
    again = 0
    for pieces in drawn(pairs):
        told = [piece.text for piece in pieces].index("\n") // 3
        first = [piece.text for piece in pieces if piece.counts][:told]
        again += len(set(first)) < told
    assert again > 100


def test_an_answer_ends_with_its_line():
    for pieces in drawn(questions):
        assert pieces[-1] == ("\n", True) or pieces[-1].counts


def test_held_out_drills_use_the_names_of_one_household():
    household = {name: number for number, home in enumerate(HOUSEHOLDS) for name in home}
    for split, expected in (("test", 1), ("train", None)):
        for pieces in drawn(DRILLS["statements"], split=split):
            met = {name for name in WOMEN + MEN if name in text_of(pieces).split()}
            homes = {household[name] for name in met}
            assert len(homes) <= expected if expected else len(homes) == len(met)


@pytest.mark.parametrize("name", DRILLS)
def test_a_drill_is_encoded_as_its_text_is(name):
    texts = Texts(tokenizer(), answer_weight=7.0)
    for pieces in drawn(DRILLS[name], 40):
        document = texts.drill(pieces)
        assert document.ids == tokenizer().encode(text_of(pieces), eos=True)
        assert {1.0, 7.0} == set(document.weights)


def test_the_weight_is_on_the_words_that_count():
    document = Texts(tokenizer(), answer_weight=7.0).drill(chant(Random(5), "train"))
    heavy = [token for token, weight in zip(*vars(document).values(), strict=True) if weight > 1]
    said = [piece.text for piece in chant(Random(5), "train") if piece.counts]
    assert heavy == tokenizer().encode(" ".join(said), bos=False)
