"""The training loop: it learns, the same way every time, and says so when it cannot."""

import math

import pytest
import torch

from mistral_edu.training.batches import pack
from mistral_edu.training.documents import Document
from mistral_edu.training.loop import Trainer, held_out_loss, optimizers_for, rate_at
from mistral_edu.training.recipe import TrainingOptions
from tests.models import small_model


def repeating_batch():
    """A text a small model can learn by heart: the numbers 3 to 10 again and again."""
    text = Document([1, *(3 + i % 8 for i in range(31))], [1.0] * 32)
    return pack(iter([text] * 8), rows=8, context=32, window=8)


def trained(steps, **model):
    trainer = Trainer(small_model(**model), TrainingOptions(steps=steps, warmup=2, decay_steps=5))
    for _ in range(steps):
        trainer.learn(repeating_batch())
    return trainer


def test_training_learns_a_simple_text():
    before = held_out_loss(small_model(), [repeating_batch()])
    trainer = trained(60)
    assert before > 3 > 0.5 > held_out_loss(trainer.model, [repeating_batch()])
    assert len(trainer.losses) == trainer.step == 60


def test_the_same_seed_gives_the_same_weights():
    one, other = (trained(3).model.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_state_that_is_restored_goes_on_to_the_same_weights():
    whole = trained(6)
    half = Trainer(small_model(), TrainingOptions(steps=6, warmup=2, decay_steps=5))
    for _ in range(3):
        half.learn(repeating_batch())
    again = Trainer(small_model(), half.options)
    again.restore(half.state())
    for _ in range(3):
        again.learn(repeating_batch())
    assert again.losses == whole.losses
    one, other = whole.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_token_without_weight_teaches_nothing():
    batch = repeating_batch()
    batch.weights[:, 16:] = 0
    batch.weights[:, 1:16] = 5.0
    first = Trainer(small_model(), TrainingOptions(steps=2)).learn(batch)
    batch.ids[:, 17:] = 4
    assert first == Trainer(small_model(), TrainingOptions(steps=2)).learn(batch)


def test_a_loss_that_is_no_number_stops_with_advice():
    model = small_model()
    model.lm_head.weight.data[0, 0] = math.nan
    with pytest.raises(FloatingPointError, match="step 0 is nan: lower learning_rate"):
        Trainer(model, TrainingOptions(steps=3)).learn(repeating_batch())


def test_the_learning_rate_rises_stays_and_falls():
    options = TrainingOptions(steps=1000, warmup=100, decay_steps=200)
    rates = [rate_at(step, options) for step in range(1000)]
    assert rates[:100] == sorted(rates[:100]) and set(rates[100:790]) == {1.0}
    assert rates[800:] == sorted(rates[800:], reverse=True) and 0.01 < rates[-1] < 0.02


def test_every_weight_has_exactly_one_optimizer():
    model = small_model()
    moved = [
        id(parameter)
        for optimizer in optimizers_for(model, TrainingOptions())
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    assert sorted(moved) == sorted(id(parameter) for parameter in model.parameters())
