"""The training loop: it learns, the same way every time, and says so when it cannot."""

import math

import pytest
import torch

from mistral_edu.training.batches import batches, token_blocks
from mistral_edu.training.loop import TrainingOptions, held_out_loss, learning_rate_at, train
from mistral_edu.training.world import stories
from tests.models import small_model


def repeating_blocks():
    """A text a small model can learn by heart: the numbers 3 to 10 again and again."""
    return (torch.arange(64 * 16) % 8 + 3).view(64, 16)


def test_training_learns_a_simple_text():
    model, blocks = small_model(initializer_range=0.05), repeating_blocks()
    before = held_out_loss(model, blocks)
    losses = train(
        model, batches(blocks, 8, seed=0), TrainingOptions(150, warmup=5), progress=False
    )
    assert before > 3.5 > 0.5 > held_out_loss(model, blocks)
    assert len(losses) == 150 and not model.training


def test_the_same_seed_gives_the_same_weights():
    finals = []
    for _ in range(2):
        model = small_model()
        train(model, batches(repeating_blocks(), 8, seed=3), TrainingOptions(3), progress=False)
        finals.append(model.lm_head.weight.detach().clone())
    assert torch.equal(*finals)


def test_a_loss_that_is_no_number_stops_with_advice():
    model = small_model()
    model.lm_head.weight.data[0, 0] = math.nan
    with pytest.raises(FloatingPointError, match="step 0 is nan: lower learning_rate"):
        train(model, batches(repeating_blocks(), 8, seed=0), TrainingOptions(3), progress=False)


def test_the_learning_rate_rises_then_falls_to_a_tenth():
    options = TrainingOptions(steps=1000, learning_rate=1.0, warmup=100)
    rates = [learning_rate_at(step, options) for step in range(1000)]
    assert max(rates) == 1.0 == rates[99]
    assert rates[:100] == sorted(rates[:100]) and rates[100:] == sorted(rates[100:], reverse=True)
    assert 0.1 <= rates[-1] < 0.101


def test_every_block_comes_once_an_epoch_in_an_order_of_its_own():
    stream = batches(torch.arange(10)[:, None], batch_size=5, seed=1)
    first, second = (torch.cat([next(stream), next(stream)]).flatten().tolist() for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_a_batch_larger_than_the_text_is_refused():
    with pytest.raises(ValueError, match="batch_size=9 must be between 1 and the 4 blocks"):
        next(batches(torch.zeros(4, 2, dtype=torch.long), batch_size=9, seed=0))


class Characters:
    """A tokenizer of single characters."""

    def encode(self, text, bos=True, eos=False):
        return [1, *map(ord, text), 2]


def test_blocks_hold_the_texts_end_to_end():
    texts = [story.text for story in stories(0, count=3)]
    blocks = token_blocks(texts, Characters(), context=64)
    expected = [i for text in texts for i in Characters().encode(text)]
    assert blocks.flatten().tolist() == expected[: blocks.numel()]
    assert len(expected) - blocks.numel() < 64


def test_too_little_text_is_refused():
    with pytest.raises(ValueError, match="3 tokens do not fill one block of 64"):
        token_blocks(["a"], Characters(), context=64)
