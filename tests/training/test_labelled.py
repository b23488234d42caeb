"""The labelled tasks: balanced, true to their text, and nothing held out is ever shown."""

from collections import Counter

import pytest

from mistral_edu.training.labelled import SIGNS, TASKS
from mistral_edu.training.names import HOUSEHOLDS
from mistral_edu.training.vocabulary import COLOURS, SKIES
from mistral_edu.training.world import split_of

HOUSE = {name: house for house, names in enumerate(HOUSEHOLDS) for name in names}
COUNT = 600


def sentences(text):
    return [f"{part.removeprefix(' ')}." for part in text.split(".")[:-1]]


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_label_is_the_colour_of_the_hat_that_is_asked_for(split):
    for example in TASKS["hat"].examples(3, COUNT, split):
        text, question = example.text.split("\n\n")
        (asked,) = (name for name in HOUSE if name in question)
        (told,) = (sentence for sentence in sentences(text) if asked in sentence)
        colours = [colour for colour in COLOURS if colour in told.lower().replace(".", "").split()]
        assert colours == [COLOURS[example.label]], example.text


def test_three_colours_stand_in_a_text_about_hats():
    for example in TASKS["hat"].examples(3, COUNT):
        words = example.text.lower().replace(".", " ").split()
        assert sum(colour in words for colour in COLOURS) == 3


def test_labels_are_balanced():
    for task in TASKS.values():
        counted = Counter(example.label for example in task.examples(0, 10 * len(task.labels)))
        assert counted == dict.fromkeys(range(len(task.labels)), 10)


@pytest.mark.parametrize("split", ["train", "test"])
def test_held_out_hats_use_pairs_of_names_that_training_never_shows(split):
    for example in TASKS["hat"].examples(0, COUNT, split):
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
    task = TASKS["hat"]
    assert task.examples(1, 5) == task.examples(1, 9)[:5] != task.examples(2, 5)
