"""The labelled tasks: balanced, true to their text, and nothing held out is ever shown."""

from collections import Counter

import pytest

from mistral_edu.training.facts import POOLS
from mistral_edu.training.names import HOUSEHOLDS, MEN, WOMEN
from mistral_edu.training.statements import PERSONAL, SIGNS, TASKS
from mistral_edu.training.vocabulary import SKIES
from mistral_edu.training.world import split_of

HOUSE = {name: house for house, names in enumerate(HOUSEHOLDS) for name in names}
COUNT = 600


def readings(sentence):
    """Every (relation, name, value) that some way of telling makes this sentence."""
    names = [name for name in WOMEN + MEN if name in sentence]
    return {
        (relation.name, name, value)
        for relation in PERSONAL
        for value in POOLS[relation.value]
        if value.lower() in sentence.lower()
        for name in names
        for form in relation.tell
        if form.format(k=name, v=value).lower() == sentence.lower()
    }


def sentences(text):
    return [f"{part.removeprefix(' ')}." for part in text.split(".")[:-1]]


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_statement_has_label_1_exactly_if_the_text_tells_it(split):
    for example in TASKS["statement"].examples(3, COUNT, split):
        text, statement = example.text.split("\n\n")
        if "said" in text:  # “I will come on Monday.” ends in the middle of a sentence
            continue
        facts = set().union(*(readings(sentence) for sentence in sentences(text)))
        (stated,) = readings(statement)
        assert (stated in facts) == bool(example.label), example.text


@pytest.mark.parametrize("split", ["train", "test"])
def test_name_and_value_of_a_false_statement_are_both_in_the_text(split):
    for example in TASKS["statement"].examples(3, COUNT, split):
        text, statement = example.text.split("\n\n")
        ((_, name, value),) = readings(statement)
        assert name in text and value.lower() in text.lower()


def test_labels_are_balanced():
    for task in TASKS.values():
        counted = Counter(example.label for example in task.examples(0, 10 * len(task.labels)))
        assert counted == dict.fromkeys(range(len(task.labels)), 10)


@pytest.mark.parametrize("split", ["train", "test"])
def test_held_out_statements_use_pairs_of_names_that_training_never_shows(split):
    for example in TASKS["statement"].examples(0, COUNT, split):
        houses = [HOUSE[name] for name in HOUSE if name in example.text]
        assert len(set(houses)) == (1 if split == "test" else len(houses))


def test_a_weather_text_has_one_sign_and_it_is_of_its_sky():
    for example in TASKS["sky"].examples(0, COUNT):
        (sign,) = SIGNS & set(sentences(example.text))
        assert sign in SKIES[example.label].signs


@pytest.mark.parametrize("split", ["train", "test"])
def test_weather_texts_belong_to_their_split(split):
    assert {split_of(example.text) for example in TASKS["sky"].examples(0, 50, split)} == {split}


def test_the_same_seed_gives_the_same_examples_and_another_seed_gives_others():
    task = TASKS["statement"]
    assert task.examples(1, 5) == task.examples(1, 9)[:5] != task.examples(2, 5)
