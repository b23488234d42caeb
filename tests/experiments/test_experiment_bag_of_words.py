"""The bag of words: it counts, it learns what words tell, and it cannot see who goes with what."""

import pytest

from mistral_edu.experiments.bag_of_words import BagOfWords, terms
from mistral_edu.training.labelled import TASKS


def accuracy(bag, examples):
    predicted = bag.predict([example.text for example in examples])
    return sum(one == e.label for one, e in zip(predicted, examples, strict=True)) / len(examples)


def learned(examples, longest):
    return BagOfWords([e.text for e in examples], [e.label for e in examples], longest)


def test_a_word_that_comes_twice_counts_twice():
    bag = BagOfWords(["rain", "rain rain rain"] * 20, [0, 1] * 20)
    assert bag.predict(["rain", "rain rain rain"]) == [0, 1]


def test_the_order_of_words_matters_only_to_bigrams():
    texts = ["wind before rain", "rain before wind"] * 10
    one, two = (BagOfWords(texts, [0, 1] * 10, longest) for longest in (1, 2))
    assert len(set(one.predict(texts))) == 1
    assert two.predict(texts) == [0, 1] * 10


def test_bigrams_do_not_leave_their_text():
    assert terms("One, two!\n\nThree", 2) == ["one", "two", "three", "one two", "two three"]


def test_a_text_of_unknown_words_is_judged_by_the_bias():
    bag = BagOfWords(["rain", "sun", "sun"], [0, 1, 1])
    assert bag.predict(["", "fog"]) == [1, 1]


def test_the_weather_is_told_by_words():
    sky = TASKS["sky"]
    assert accuracy(learned(sky.examples(0, 300), 1), sky.examples(0, 200, "test")) > 0.95


@pytest.mark.parametrize("longest", [1, 2])
def test_counted_words_know_the_three_hats_but_not_whose_is_whose(longest):
    hat = TASKS["hat"]
    bag = learned(hat.examples(0, 1000), longest)
    assert 0.2 < accuracy(bag, hat.examples(0, 500, "test")) < 0.45


def test_every_text_needs_a_label():
    with pytest.raises(ValueError, match="2 texts and 1 labels"):
        BagOfWords(["a", "b"], [1])
