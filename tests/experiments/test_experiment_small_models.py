"""Small models of one seed learn from equal tokens, and the same way however many at a time."""

import pytest
import torch

from mistral_edu.experiments.small_models import (
    fresh_model,
    held_out,
    learn,
    recipe_for,
    side_by_side,
    tokenizer_for,
    window_of,
)
from mistral_edu.training.curriculum import batch_at
from mistral_edu.training.loop import Trainer, held_out_loss
from tests.experiment_shapes import TINY


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_for(recipe_for(0, 9, TINY))


@pytest.mark.parametrize("step", [0, 5, 8])
def test_models_of_different_windows_learn_from_the_same_tokens(tokenizer, step):
    narrow, wide = (
        batch_at(recipe_for(0, 9, TINY | {"num_key_value_heads": n}), tokenizer, step, window)
        for n, window in ((2, 8), (1, 32))
    )
    assert torch.equal(narrow.ids, wide.ids)
    assert torch.equal(narrow.weights, wide.weights)
    assert not torch.equal(narrow.positions, wide.positions)


def test_every_seed_is_measured_on_the_same_texts_and_none_of_them_is_learned(tokenizer):
    one, other = (held_out(recipe_for(seed, 9, TINY), tokenizer, 16, rows=2) for seed in (0, 1))
    assert torch.equal(one[0].ids, other[0].ids)
    learned = [batch_at(recipe_for(seed, 9, TINY), tokenizer, 8, 16).ids for seed in (0, 1)]
    assert not torch.equal(*learned)
    assert not torch.equal(one[0].ids, learned[0])


def test_no_token_counts_more_than_another(tokenizer):
    assert batch_at(recipe_for(0, 9, TINY), tokenizer, 8, 16).weights.unique().tolist() == [0, 1]


def test_further_training_goes_on_with_batches_of_its_own(tokenizer, monkeypatch):
    asked = []

    def note(recipe, tokenizer, step, window):
        asked.append((step, window))
        return batch_at(recipe, tokenizer, step, window)

    monkeypatch.setattr("mistral_edu.experiments.small_models.batch_at", note)
    recipe = recipe_for(0, 9, TINY)
    trainer = Trainer(fresh_model(recipe), recipe.training)
    learn(trainer, recipe, tokenizer, 2)
    learn(trainer, recipe, tokenizer, 1)
    learn(Trainer(fresh_model(recipe), recipe.training), recipe, tokenizer, 2, first=9)
    assert asked == [(0, 16), (1, 16), (2, 16), (9, 16), (10, 16)]


def test_a_small_model_learns(tokenizer):
    recipe = recipe_for(0, 12, TINY)
    model = fresh_model(recipe)
    batches = held_out(recipe, tokenizer, 16, rows=2)
    before = held_out_loss(model, batches)
    learn(Trainer(model, recipe.training), recipe, tokenizer, 12)
    assert held_out_loss(model, batches) < before - 0.5


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_has_one_thread_and_its_place(workers):
    assert side_by_side(threads_and_twice, [3, 1, 2], workers, progress=False) == [
        (1, 6),
        (1, 2),
        (1, 4),
    ]


def threads_and_twice(number):
    return torch.get_num_threads(), 2 * number


def test_a_model_without_a_window_is_refused():
    model = fresh_model(recipe_for(0, 9, TINY | {"sliding_window": None}))
    with pytest.raises(ValueError, match="sliding_window is None"):
        window_of(model)


def test_the_positions_of_a_packed_row_are_none_that_the_model_is_not_meant_for(tokenizer):
    recipe = recipe_for(0, 9, TINY | {"sliding_window": 256})
    highest = max(int(batch_at(recipe, tokenizer, step, 256).positions.max()) for step in range(3))
    assert recipe.training.context < highest < fresh_model(recipe).config.max_position_embeddings
