"""Properties of the cache and the masks, on random texts, cuts, paddings and windows."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mistral_edu import RollingCache
from mistral_edu.custom_mask import over_cache
from mistral_edu.sliding_window import visible
from tests.models import small_config

windows = st.one_of(st.integers(1, 7), st.none())


@st.composite
def schedules(draw):
    """A window, and chunks of a batch: which columns hold a token, row by row."""
    rows = draw(st.integers(1, 3))
    widths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=8))
    bits = draw(st.randoms(use_true_random=False))
    chunks = [[[bits.random() < 0.7 for _ in range(w)] for _ in range(rows)] for w in widths]
    return draw(windows), [torch.tensor(chunk) for chunk in chunks]


def run(window, chunks):
    """Feed chunks whose keys carry their own position; yield positions, keys and the step."""
    rows = len(chunks[0])
    cache = RollingCache.allocate(small_config(sliding_window=window), rows)
    seen = torch.zeros(rows, dtype=torch.long)
    for real in chunks:
        counted = seen[:, None] + real.long().cumsum(dim=1)
        positions = (counted - 1).masked_fill(~real, -1)
        seen = counted[:, -1]
        step = cache.begin(positions)
        stamped = positions[:, None, :, None].float().expand(-1, 2, -1, 8)
        for layer in range(2):
            keys, values = cache.update(layer, stamped, 2 * stamped, step)
        assert torch.equal(values, 2 * keys)
        yield cache, positions, keys[:, 0, :, 0].long(), step
        cache.commit(step)
        assert torch.equal(cache.lengths, seen)


@settings(max_examples=150, deadline=None)
@given(schedules())
def test_every_query_sees_exactly_its_last_w_tokens(schedule):
    window, chunks = schedule
    with torch.no_grad():
        for _, positions, keys, step in run(window, chunks):
            mask = visible(positions, step.key_positions, window)
            for row, column in (positions >= 0).nonzero().tolist():
                here = int(positions[row, column])
                first = 0 if window is None else max(0, here - window + 1)
                seen = sorted(keys[row][mask[row, column]].tolist())
                assert seen == list(range(first, here + 1))


@settings(max_examples=100, deadline=None)
@given(schedules(), st.data())
def test_a_chunk_that_is_rolled_back_was_never_there(schedule, data):
    window, chunks = schedule
    with torch.no_grad():
        cache = list(run(window, chunks))[-1][0]
        before = [*cache.to_legacy()[0], cache.positions, cache.lengths]
        before = [x.clone() for x in before]
        ahead = data.draw(st.integers(1, 9))
        step = cache.begin(cache.lengths[:, None] + torch.arange(ahead))
        other = torch.full((len(cache.lengths), 2, ahead, 8), 77.0)
        for layer in range(data.draw(st.integers(0, 2))):
            cache.update(layer, other, other, step)
        cache.rollback(step)
        slots = before[2].shape[1]  # a growing cache may have more by now
        after = [*cache.to_legacy()[0], cache.positions[:, :slots], cache.lengths]
        assert all(map(torch.equal, before, after))


@settings(max_examples=100, deadline=None)
@given(schedules())
def test_pairs_hold_the_last_w_tokens_in_order_and_come_back_as_they_were(schedule):
    window, chunks = schedule
    with torch.no_grad():
        cache = list(run(window, chunks))[-1][0]
    key, _ = cache[0]
    width = key.shape[2]
    for row, length in enumerate(cache.lengths.tolist()):
        count = min(length, window or length)
        expected = [0] * (width - count) + list(range(length - count, length))
        assert key[row, 0, :, 0].tolist() == expected
    again = RollingCache.from_legacy(
        cache.to_legacy(), small_config(sliding_window=window), cache.lengths
    )
    assert torch.equal(again.lengths, cache.lengths)
    assert torch.equal(again[1][0], cache[1][0])


@settings(max_examples=100, deadline=None)
@given(schedules(), st.integers(0, 2**31))
def test_a_mask_by_positions_is_the_same_under_every_cut(schedule, seed):
    window, chunks = schedule
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for cache, positions, _, step in run(window, chunks):
            end = int(cache.lengths.max().clamp(min=positions.max() + 1)) + 1
            bias = torch.randn(len(positions), 1, positions.shape[1], end, generator=generator)
            held = torch.zeros(len(bias), end, dtype=torch.bool)
            for row, places in enumerate(step.key_positions.tolist()):
                held[row, [p for p in places if p >= 0]] = True
            bias = bias.masked_fill(~held[:, None, None], float("-inf"))
            found = over_cache(bias, step.key_positions)
            for row, places in enumerate(step.key_positions.tolist()):
                for column, place in enumerate(places):
                    one = found[row, 0, :, column]
                    hidden = torch.full_like(one, float("-inf"))
                    assert torch.equal(one, bias[row, 0, :, place] if place >= 0 else hidden)
