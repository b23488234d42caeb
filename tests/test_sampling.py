"""Filters against their definitions, and draws against their probabilities."""

import pytest
import torch
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from mistral_edu import sampling


@pytest.fixture
def logits():
    return torch.randn(4, 50, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize("k", [1, 3, 50, 99])
def test_top_k_keeps_what_transformers_keeps(logits, k):
    assert torch.equal(sampling.keep_top_k(logits, k), TopKLogitsWarper(k)(None, logits))


@pytest.mark.parametrize("p", [0.01, 0.5, 0.9, 0.999])
def test_top_p_keeps_what_transformers_keeps(logits, p):
    assert torch.equal(sampling.keep_top_p(logits, p), TopPLogitsWarper(p)(None, logits))


@pytest.mark.parametrize("p", [0.01, 0.2, 1.0])
def test_min_p_keeps_what_transformers_keeps(logits, p):
    assert torch.equal(sampling.keep_min_p(logits, p), MinPLogitsWarper(p)(None, logits))


def test_repetition_penalty_equals_transformers(logits):
    ids = torch.tensor([[3, 3, 9]] * 4)
    seen = torch.zeros_like(logits).scatter_(1, ids, 1.0)
    expected = RepetitionPenaltyLogitsProcessor(1.3)(ids, logits.clone())
    assert torch.equal(sampling.penalise_repetition(logits, seen, 1.3), expected)


@pytest.mark.parametrize("keep", [sampling.keep_top_p, sampling.keep_min_p])
def test_the_most_likely_token_always_stays(logits, keep):
    kept = keep(logits, 1e-9)
    assert torch.equal(kept.argmax(-1), logits.argmax(-1))
    assert (kept.isfinite().sum(-1) >= 1).all()


def test_draws_follow_the_probabilities():
    probabilities = torch.tensor([[0.7, 0.2, 0.1]])
    random = sampling.generators(0, rows=1)
    draws = torch.cat([sampling.draw(probabilities.log(), random) for _ in range(4000)])
    shares = draws.bincount(minlength=3) / 4000
    assert (shares - probabilities[0]).abs().max() < 0.03


def test_seeds_must_match_the_rows():
    with pytest.raises(ValueError, match="2 seeds were given for 3 rows"):
        sampling.generators([1, 2], rows=3)


def test_without_a_seed_two_calls_differ():
    first, second = (sampling.generators(None, rows=1)[0].initial_seed() for _ in range(2))
    assert first != second
