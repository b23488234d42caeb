"""Filters against their definitions, and draws against their probabilities."""

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from mistral_edu import GenerationConfig, sampling
from mistral_edu.generation import allowed

SWEEP = settings(max_examples=100, deadline=None)
SHARES = st.floats(0.01, 1.0)


def scores(seed, rows=4, size=50, spread=3.0):
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) * spread


@st.composite
def any_scores(draw):
    """One to three rows of scores, ties and ones that may not be chosen among them."""
    size = draw(st.integers(1, 30))
    score = st.floats(-30, 30, width=32) | st.sampled_from([0.0, 1.0, sampling.NEVER])
    row = st.lists(score, min_size=size, max_size=size)
    rows = draw(st.lists(row, min_size=1, max_size=3))
    logits = torch.tensor(rows)
    assume(logits.isfinite().any(-1).all())
    return logits


# ── the same as transformers ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("k", [1, 3, 50, 99])
def test_top_k_keeps_what_transformers_keeps(seed, k):
    logits = scores(seed)
    assert torch.equal(sampling.keep_top_k(logits, k), TopKLogitsWarper(k)(None, logits))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("p", [0.01, 0.5, 0.9, 0.999])
def test_top_p_keeps_what_transformers_keeps(seed, p):
    logits = scores(seed)
    assert torch.equal(sampling.keep_top_p(logits, p), TopPLogitsWarper(p)(None, logits))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("p", [0.01, 0.2, 1.0])
def test_min_p_keeps_what_transformers_keeps(seed, p):
    logits = scores(seed)
    assert torch.equal(sampling.keep_min_p(logits, p), MinPLogitsWarper(p)(None, logits))


@pytest.mark.parametrize("penalty", [0.7, 1.3, 5.0])
def test_repetition_penalty_equals_transformers(penalty):
    logits = scores(0)
    ids = torch.tensor([[3, 3, 9]] * 4)
    seen = torch.zeros_like(logits, dtype=torch.bool).scatter(1, ids, True)
    expected = RepetitionPenaltyLogitsProcessor(penalty)(ids, logits.clone())
    assert torch.equal(sampling.penalise_repetition(logits, seen, penalty), expected)


@pytest.mark.parametrize(("p", "kept"), [(0.5, 1), (0.51, 2), (0.75, 2), (0.76, 3), (1.0, 3)])
def test_top_p_stops_at_the_token_that_reaches_p(p, kept):
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log2()  # halves and quarters: sums are exact
    logits = logits * torch.tensor(2.0).log()
    assert sampling.keep_top_p(logits, p).isfinite().sum() == kept
    assert TopPLogitsWarper(p)(None, logits).isfinite().sum() == kept


def test_top_p_of_1_keeps_what_rounding_makes_look_superfluous():
    logits = torch.tensor([[0.0, -20.0]])  # the first one's probability rounds to 1
    assert torch.equal(sampling.keep_top_p(logits, 1.0), logits)


# ── for any scores whatever ─────────────────────────────────────────────────────────────────────


def filters(share, k):
    return [
        lambda logits: sampling.keep_top_k(logits, k),
        lambda logits: sampling.keep_top_p(logits, share),
        lambda logits: sampling.keep_min_p(logits, share),
    ]


@SWEEP
@given(any_scores(), SHARES, st.integers(1, 40))
def test_a_filter_keeps_the_best_token_and_changes_no_score_that_it_keeps(logits, share, k):
    for keep in filters(share, k):
        kept = keep(logits)
        assert torch.equal(kept.amax(-1), logits.amax(-1))
        stays = kept > sampling.NEVER
        assert torch.equal(kept[stays], logits[stays])


@SWEEP
@given(any_scores(), SHARES, st.integers(1, 40))
def test_a_row_is_filtered_as_it_would_be_alone(logits, share, k):
    for keep in filters(share, k):
        alone = torch.cat([keep(row[None]) for row in logits])
        assert torch.equal(keep(logits), alone)


@SWEEP
@given(any_scores(), SHARES, st.integers(1, 40))
def test_filtering_twice_by_k_or_by_min_p_is_filtering_once(logits, share, k):
    relative = logits.softmax(-1) / logits.softmax(-1).amax(-1, keepdim=True)
    assume(((relative - share).abs() > 1e-5).all())  # where rounding would decide
    for keep in (filters(share, k)[0], filters(share, k)[2]):
        assert torch.equal(keep(keep(logits)), keep(logits))


@SWEEP
@given(any_scores(), SHARES, SHARES, st.integers(1, 40), st.integers(1, 40))
def test_a_narrower_filter_keeps_a_part_of_what_a_wider_one_keeps(logits, one, other, k, more):
    low, high = sorted([one, other])
    pairs = [
        (sampling.keep_top_k(logits, min(k, more)), sampling.keep_top_k(logits, max(k, more))),
        (sampling.keep_top_p(logits, low), sampling.keep_top_p(logits, high)),
        (sampling.keep_min_p(logits, high), sampling.keep_min_p(logits, low)),
    ]
    for narrow, wide in pairs:
        assert not ((narrow > sampling.NEVER) & (wide == sampling.NEVER)).any()


@SWEEP
@given(any_scores(), SHARES)
def test_top_p_keeps_no_token_more_than_it_needs(logits, p):
    chances = logits.double().softmax(-1)
    stays = sampling.keep_top_p(logits, p) > sampling.NEVER
    for chance, kept, row in zip(chances, stays, logits, strict=True):
        assert chance[kept].sum() >= p - 1e-5
        if kept.sum() > 1 and p < 1:
            assert chance[kept].sum() - chance[kept].min() < p + 1e-5
        if not kept.all():
            assert row[kept].min() >= row[~kept].max()


# Two scores a hair apart have one probability, and the better of them stands second.
@example(torch.tensor([[0.0, 1.0]]), 0.5, 1.0, 2, 33554431.0)
@example(torch.tensor([[0.0, 1.1755e-38]]), 0.5, 1.0, 1, 16777216.0)
@SWEEP
@given(any_scores(), SHARES, SHARES, st.integers(1, 40), st.floats(1e-30, 1e30))
def test_rules_together_always_leave_the_best_token(logits, top_p, min_p, top_k, temperature):
    config = GenerationConfig(
        do_sample=True, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p
    )
    left = allowed(logits, config)
    assert not left.isnan().any()
    # Scores so near to each other that heat makes them one are equally good.
    best = sampling.heat(logits, temperature) == 0
    assert (left.isfinite() & best).any(dim=-1).all()


@SWEEP
@given(any_scores(), st.floats(1.0, 10.0), st.integers(0, 2**30 - 1))
def test_a_penalty_lowers_seen_tokens_and_no_others(logits, penalty, bits):
    seen = torch.tensor([[bool(bits >> i & 1) for i in range(logits.shape[1])]] * len(logits))
    found = sampling.penalise_repetition(logits, seen, penalty)
    assert (found <= logits).all()
    assert torch.equal(found[~seen], logits[~seen])


def test_a_hot_distribution_is_flat_and_a_cold_one_has_one_token():
    logits = scores(0)
    flat = sampling.heat(logits, 1e6).softmax(-1)
    assert (flat - 1 / 50).abs().max() < 1e-5
    cold = sampling.heat(logits, 1e-38).softmax(-1)
    assert torch.equal(cold.max(-1).values, torch.ones(4))
    assert torch.equal(cold.argmax(-1), logits.argmax(-1))
    same = sampling.heat(logits, 0.7).softmax(-1)
    assert torch.allclose(same, (logits / 0.7).softmax(-1), atol=1e-6)


def test_a_log_probability_is_the_logarithm_of_a_softmax():
    logits, tokens = scores(0), torch.tensor([0, 7, 49, 3])
    expected = logits.log_softmax(-1)[torch.arange(4), tokens]
    assert torch.allclose(sampling.log_probability(logits, tokens), expected, atol=1e-6)


# ── drawing ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(3))
def test_draws_follow_the_probabilities(seed):
    logits, count = scores(seed, rows=1, size=10, spread=1.0), 10_000
    # One generator for all rows: 10,000 draws in one call.
    drawn = sampling.draw(logits.expand(count, 10), sampling.generators(seed, rows=1) * count)
    expected = logits[0].softmax(-1) * count
    surprise = ((drawn.bincount(minlength=10) - expected) ** 2 / expected).sum()
    assert surprise < 27.9  # chi-square of 9 degrees of freedom: exceeded once in 1,000 times


@SWEEP
@given(any_scores(), st.integers(0, 2**40))
def test_what_may_not_be_chosen_is_never_drawn(logits, seed):
    drawn = sampling.draw(logits, sampling.generators(seed, len(logits)))
    assert logits.gather(1, drawn[:, None]).isfinite().all()


@pytest.mark.parametrize("place", [0.0, 0.5, 1 - 2**-53])
def test_the_ends_of_the_line_belong_to_tokens_that_may_be_chosen(monkeypatch, place):
    monkeypatch.setattr(
        torch, "rand", lambda *_, **__: torch.tensor([[place]], dtype=torch.float64)
    )
    never = [sampling.NEVER] * 3
    for size in (1, 3, 40):  # the sum of 40 of these is, rounded, 4e-16 short of 1
        logits = torch.tensor([never + [0.1 * i for i in range(size)] + never])
        drawn = int(sampling.draw(logits, sampling.generators(0, rows=1)))
        assert 3 <= drawn < 3 + size


@SWEEP
@given(any_scores(), st.lists(st.integers(0, 2**40), min_size=3, max_size=3))
def test_a_row_draws_what_it_would_draw_alone(logits, seeds):
    seeds = seeds[: len(logits)]
    together = sampling.draw(logits, sampling.generators(seeds, len(logits)))
    for row, seed in enumerate(seeds):
        alone = sampling.draw(logits[row : row + 1], sampling.generators(seed, rows=1))
        assert alone == together[row]


def test_a_generator_gives_the_next_draw_not_the_same_again():
    logits, random = torch.zeros(1, 1000), sampling.generators(0, rows=1)
    assert sampling.draw(logits, random) != sampling.draw(logits, random)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_scores_that_are_not_numbers_are_named_before_a_token_is_chosen(wrong):
    logits = torch.zeros(3, 5)
    logits[1, 4] = wrong
    with pytest.raises(sampling.DamagedScoresError, match="row 1 hold NaN or infinity"):
        sampling.most_likely(logits)
    config = GenerationConfig(do_sample=True, top_k=2, top_p=0.5, min_p=0.1)
    with pytest.raises(sampling.DamagedScoresError, match="row 1 hold NaN or infinity"):
        sampling.draw(allowed(logits, config), sampling.generators(0, rows=3))


def test_seeds_must_match_the_rows():
    with pytest.raises(ValueError, match="2 seeds were given for 3 rows"):
        sampling.generators([1, 2], rows=3)


def test_without_a_seed_two_calls_differ():
    first, second = (sampling.generators(None, rows=1)[0].initial_seed() for _ in range(2))
    assert first != second
