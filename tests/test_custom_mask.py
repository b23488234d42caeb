"""Masks with four axes: they replace the visibility rule, alone and over a cache."""

import pytest
import torch

from mistral_edu import RollingCache
from mistral_edu.custom_mask import as_bias
from tests.models import difference, oracle_logits, random_ids, small_model

LOWEST = torch.finfo(torch.float32).min


def banded(tokens: int, window: int | None) -> torch.Tensor:
    """What the visibility rule would say, as a mask of one's own."""
    behind = torch.arange(tokens)[:, None] - torch.arange(tokens)
    return ((behind >= 0) & (behind < (window or tokens)))[None, None]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("window", [1, 3, None])
def test_a_mask_that_says_what_the_rule_says_changes_nothing(attention, window):
    model = small_model(attention=attention, sliding_window=window)
    ids = random_ids(model, 2, 11)
    mask = banded(11, window)
    found = model(ids, attention_mask=mask).logits
    assert difference(found, oracle_logits(model, ids)) <= 1e-5


def test_the_mask_replaces_the_rule_instead_of_adding_to_it():
    model = small_model(sliding_window=2)
    unlimited = small_model(sliding_window=None)
    ids = random_ids(model, 1, 9)
    found = model(ids, attention_mask=banded(9, None)).logits
    assert difference(found, oracle_logits(unlimited, ids)) <= 1e-5
    everything = torch.ones(1, 1, 9, 9, dtype=torch.bool)
    changed = ids.clone()
    changed[0, 8] = 63
    before, after = (model(x, attention_mask=everything).logits for x in (ids, changed))
    assert not torch.equal(before[:, 0], after[:, 0]), "the first token may see the last"


def shared_prefix() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three texts of 6 tokens with 3 in common, packed into one row of 12: mask and positions."""
    branch = torch.tensor([0] * 3 + [1] * 3 + [2] * 3 + [3] * 3)
    same = (branch[:, None] == branch) | (branch == 0)
    positions = torch.tensor([[0, 1, 2, *[3, 4, 5] * 3]])
    return (same & banded(12, None)[0, 0])[None, None], positions, branch


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_shared_prefix_packed_into_one_row_equals_separate_rows(attention):
    model = small_model(attention=attention, sliding_window=None)
    mask, positions, branch = shared_prefix()
    assert mask.shape == (1, 1, 12, 12)
    ids = random_ids(model, 1, 12)
    packed = model(ids, attention_mask=mask, position_ids=positions, use_cache=False).logits[0]
    for part in (1, 2, 3):
        chosen = (branch == 0) | (branch == part)
        alone = oracle_logits(model, ids[:, chosen])[0]
        assert difference(packed[chosen], alone) <= 1e-5


def test_branches_may_look_at_a_cached_prefix_without_being_kept():
    model = small_model(sliding_window=None)
    mask, positions, branch = shared_prefix()
    ids = random_ids(model, 1, 12)
    cache = model(ids[:, :3], use_cache=True).past_key_values
    before = [x.clone() for x in (*cache.keys, *cache.values, cache.positions)]
    part = branch == 2  # one branch at a time has distinct positions: columns 0 to 5
    over = torch.ones(1, 1, 3, 6, dtype=torch.bool).tril(diagonal=3)
    output = model(ids[:, part], attention_mask=over, past_key_values=cache, use_cache=False)
    whole = oracle_logits(model, ids[:, (branch == 0) | part])[:, 3:]
    assert difference(output.logits, whole) <= 1e-5
    assert output.past_key_values is None
    assert all(map(torch.equal, before, (*cache.keys, *cache.values, cache.positions)))


def test_two_tokens_at_one_position_cannot_be_cached():
    model = small_model()
    mask, positions, _ = shared_prefix()
    ids = random_ids(model, 1, 12)
    with pytest.raises(ValueError, match="row 0 has two tokens at position 3.*use_cache=False"):
        model(ids, attention_mask=mask, position_ids=positions)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_over_a_cache_column_j_is_position_j_also_in_a_wrapped_ring(size):
    window = 4
    model = small_model(sliding_window=window)
    ids = random_ids(model, 2, 15)
    mask, cache = banded(15, window), RollingCache.allocate(model.config, 2)
    for start in range(0, 15, size):
        end = min(start + size, 15)
        with torch.no_grad():
            output = model(
                ids[:, start:end],
                attention_mask=mask[:, :, start:end],  # wider than need be: closed columns
                past_key_values=cache,
            )
    assert difference(output.logits, oracle_logits(model, ids)[:, start:]) <= 1e-5


def test_a_mask_for_each_row_and_head_is_taken_apart_rightly():
    model = small_model(sliding_window=None)
    ids = random_ids(model, 2, 5)
    rows = torch.stack([banded(5, 1)[0], banded(5, 3)[0]])  # (2, 1, 5, 5)
    found = model(ids, attention_mask=rows).logits
    for row, window in enumerate((1, 3)):
        alone = small_model(sliding_window=window)
        assert difference(found[[row]], oracle_logits(alone, ids[[row]])) <= 1e-5
    heads = banded(5, None).repeat(1, 4, 1, 1)
    heads[:, 2] = False
    blind = model(ids, attention_mask=heads).logits
    off = torch.tensor([1, 1, 0, 1])
    assert difference(blind, model(ids, head_mask=off).logits) <= 1e-5
    model.prune_heads({0: [2], 1: [2]})
    assert difference(model(ids, attention_mask=heads).logits, blind) <= 1e-5


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("low", [LOWEST, float("-inf"), torch.finfo(torch.float16).min])
def test_a_row_that_sees_nothing_is_zero_and_the_loss_stays_finite(attention, low):
    model = small_model(attention=attention)
    ids = random_ids(model, 1, 4)
    dtype = torch.float16 if low > LOWEST and low > float("-inf") else torch.float32
    mask = torch.zeros(1, 1, 4, 4, dtype=dtype)
    mask[..., 2, :] = low
    output = model(ids, attention_mask=mask, output_attentions=True, labels=ids)
    assert not output.attentions[0][:, :, 2].any()
    assert output.logits.isfinite().all()
    output.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_padding_by_position_stays_closed_whatever_the_mask_says():
    model = small_model(sliding_window=None)
    ids = random_ids(model, 1, 5)
    positions = torch.tensor([[-1, -1, 0, 1, 2]])
    mask = torch.ones(1, 1, 5, 5, dtype=torch.bool).tril()
    found = model(ids, attention_mask=mask, position_ids=positions).logits[:, 2:]
    assert difference(found, oracle_logits(model, ids[:, 2:])) <= 1e-5


def test_finite_numbers_are_added_to_the_scores():
    bias = as_bias(torch.tensor([[[[0.5, LOWEST]]]]), 1, 4, 1)
    assert bias.tolist() == [[[[0.5, float("-inf")]]]]
    half = as_bias(torch.tensor([[[[-10000.0, -65504.0]]]], dtype=torch.float16), 1, 4, 1)
    assert half.tolist() == [[[[-10000.0, float("-inf")]]]]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(3, 1, 5, 5) > 0, r"shape \(3, 1, 5, 5\), expected \(2 or 1, 4 or 1, 5, keys\)"),
        (torch.ones(2, 3, 5, 5) > 0, r"shape \(2, 3, 5, 5\)"),
        (torch.ones(1, 1, 4, 5) > 0, r"shape \(1, 1, 4, 5\)"),
        (torch.ones(1, 1, 5, 6) > 0, "has 6 columns for 5 tokens"),
        (torch.ones(1, 1, 5, 5).long(), r"dtype torch.int64, expected bool .*call .bool\(\)"),
        (torch.full((1, 1, 5, 5), float("nan")), "NaN or .inf"),
        (torch.full((1, 1, 5, 5), float("inf")), "NaN or .inf"),
    ],
)
def test_a_mask_that_does_not_fit_is_a_named_error(mask, message):
    model = small_model()
    with pytest.raises(ValueError, match=message):
        model(random_ids(model, 2, 5), attention_mask=mask)


def test_over_a_cache_a_mask_must_reach_far_enough_and_open_only_what_is_there():
    model = small_model(sliding_window=4)
    ids = random_ids(model, 1, 7)
    cache = model(ids[:, :6], use_cache=True).past_key_values
    short = torch.ones(1, 1, 1, 6, dtype=torch.bool)
    with pytest.raises(ValueError, match="has 6 columns, .* positions up to 6: give 7 columns"):
        model(ids[:, 6:], attention_mask=short, past_key_values=cache)
    with pytest.raises(ValueError, match="lets row 0 look at position 0, where no key is"):
        model(ids[:, 6:], attention_mask=banded(7, None)[:, :, 6:], past_key_values=cache)
    found = model(ids[:, 6:], attention_mask=banded(7, 4)[:, :, 6:], past_key_values=cache)
    assert difference(found.logits, oracle_logits(model, ids)[:, 6:]) <= 1e-5
