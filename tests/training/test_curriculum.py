"""What a step learns from: a function of the recipe and the step, near things before far ones."""

from dataclasses import replace
from random import Random

import pytest
import torch

from mistral_edu.paths import data_dir
from mistral_edu.training.curriculum import (
    EVERY_KIND,
    Lesson,
    batch_at,
    draw,
    lesson_at,
    shown,
    still_unseen,
)
from mistral_edu.training.dialogues import dialogue
from mistral_edu.training.documents import Texts, dialogue_document
from mistral_edu.training.recipe import Recipe, RecipeError, Stage, TrainingOptions, read_recipe
from tests.training_toys import tokenizer


def recipe(**changes):
    options = TrainingOptions(rows=2, context=256)
    stages = (Stage(0, 50, {"chant": 1.0}), Stage(4, 90, {"stories": 3.0, "recall": 1.0}))
    return Recipe(vocab_size=500, training=options, curriculum=stages, **changes)


def test_a_batch_is_a_function_of_the_recipe_and_the_step():
    first, again = (batch_at(recipe(), tokenizer(), 8, 16) for _ in range(2))
    other, later = (
        batch_at(recipe(seed=1), tokenizer(), 8, 16),
        batch_at(recipe(), tokenizer(), 9, 16),  # the same lesson as step 8
    )
    assert torch.equal(first.ids, again.ids) and torch.equal(first.weights, again.weights)
    assert not torch.equal(first.ids, other.ids) and not torch.equal(first.ids, later.ids)


def test_before_a_stage_only_the_one_before_is_shown():
    begin = lesson_at(0, recipe().curriculum)
    assert begin == Lesson({"chant": 1.0, "stories": 0.0, "recall": 0.0}, 50)
    middle = lesson_at(2, recipe().curriculum)
    assert middle == Lesson({"chant": 0.5, "stories": 1.5, "recall": 0.5}, 70)
    for step in (4, 1000):
        assert lesson_at(step, recipe().curriculum) == Lesson({"stories": 3.0, "recall": 1.0}, 90)


def test_what_is_shown_by_a_step_is_what_its_lessons_have_drawn_from():
    stages = (
        Stage(0, 50, {"chant": 1.0, "verses": 0.0}),
        Stage(3, 50, {"chant": 1.0}),
        Stage(4, 90, {"pairs": 1.0, "stories": 2.0}),
        Stage(9, 90, {"recall": 1.0}),
    )
    for steps in range(15):
        drawn = {
            kind
            for step in range(steps)
            for kind, share in lesson_at(step, stages).shares.items()
            if share > 0
        }
        assert set(shown(steps, stages)) == drawn


def test_a_loss_over_stories_that_were_never_shown_is_said_to_be_one():
    drills = (Stage(0, 50, {"chant": 1.0}), Stage(4, 50, {"chant": 1.0, "pairs": 1.0}))
    whole = (*drills, Stage(5, 50, {"stories": 1.0}))
    told = replace(recipe(), curriculum=whole)
    assert still_unseen(told, 0) == ""
    assert still_unseen(told, 1) == " (over whole stories; so far only chant was shown)"
    assert still_unseen(told, 5) == " (over whole stories; so far only chant, pairs were shown)"
    assert still_unseen(told, 6) == ""
    assert still_unseen(replace(told, kind="dialogues"), 1) == ""
    assert still_unseen(replace(told, start_from=data_dir() / "tiny"), 1) == ""


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_kind_can_be_drawn_and_says_what_counts(kind):
    texts = Texts(tokenizer(), answer_weight=9.0)
    for number in range(5):
        document = draw(Random(number), Lesson({kind: 1.0}, 60), 256, texts)
        assert document.ids[0] == 1 and document.ids[-1] == tokenizer().eos_id
        assert set(document.weights) == {1.0, 9.0}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_only_kinds_that_are_begun_have_the_begin_token(kind):
    texts = Texts(tokenizer(), answer_weight=9.0)
    whole = draw(Random(3), Lesson({kind: 1.0}, 60), 256, texts)
    begun = draw(Random(3), Lesson({kind: 1.0}, 60, begun=(kind,)), 256, texts)
    other = draw(Random(3), Lesson({kind: 1.0}, 60, begun=("poems",)), 256, texts)
    assert begun == whole
    assert (other.ids, other.weights) == (whole.ids[1:], whole.weights[1:])


def test_a_lesson_knows_what_its_recipe_begins():
    stages = recipe().curriculum
    assert {lesson_at(step, stages, ("stories",)).begun for step in (0, 2, 9)} == {("stories",)}


def test_repeated_names_come_to_count_more_in_a_straight_line():
    stages = (Stage(0, 50, {"stories": 1.0}), Stage(10, 50, {"stories": 1.0}, mention_weight=6.0))
    assert [lesson_at(step, stages).mention_weight for step in (0, 4, 10, 99)] == [1.0, 3.0, 6, 6]
    later = replace(recipe(), curriculum=stages)
    assert batch_at(later, tokenizer(), 0, 16).weights.unique().tolist() == [0, 1, 5]
    assert batch_at(later, tokenizer(), 4, 16).weights.unique().tolist() == [0, 1, 3, 5]


def test_the_course_s_own_curricula_name_only_kinds_that_exist():
    for name in ("lookups", "stories", "training"):
        one = read_recipe(data_dir() / "tiny" / f"{name}.toml")
        assert {*one.begun, *(kind for stage in one.curriculum for kind in stage.shares)} <= set(
            EVERY_KIND
        )


def test_a_curriculum_that_does_not_begin_or_goes_back_is_refused():
    late = (Stage(5, 50, {"chant": 1.0}),)
    back = (*recipe().curriculum, Stage(2, 50, {"chant": 1.0}))
    for stages in ((), late, back):
        with pytest.raises(RecipeError, match="expected 0 and then larger ones"):
            replace(recipe(), curriculum=stages)


def test_a_dialogue_is_encoded_as_the_chat_template_writes_it():
    for number in range(60):
        messages = dialogue(Random(number))
        document = dialogue_document(messages, tokenizer())
        assert document.ids == tokenizer().apply_chat_template(messages)


def test_only_what_the_assistant_says_counts():
    for number in range(60):
        messages = dialogue(Random(number))
        document = dialogue_document(messages, tokenizer())
        pairs = zip(document.ids, document.weights, strict=True)
        said = tokenizer().decode([token for token, weight in pairs if weight])
        spoken = [m["content"] for m in messages if m["role"] == "assistant"]
        assert said.replace(" ", "") == "".join(spoken).replace(" ", "")
