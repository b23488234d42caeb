"""The engine's ring holds what the rolling cache holds, and a count is enough to know it."""

import pytest
import torch

from mistral_edu import RollingCache
from mistral_edu.engine_attention import over_filled
from mistral_edu.engine_ring import StaticRing, ring_positions
from tests.models import small_config


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_a_count_tells_what_every_slot_holds(slots):
    cache = RollingCache.allocate(small_config(sliding_window=slots, num_hidden_layers=1), 2)
    assert ring_positions(cache.lengths, slots).tolist() == cache.positions.tolist()
    for position in range(3 * slots + 1):
        late = position - 2 if position >= 2 else -1  # the second row began two tokens later
        step = cache.begin(torch.tensor([[position], [late]]))
        cache.commit(step)
        assert ring_positions(cache.lengths, slots).tolist() == cache.positions.tolist()


@pytest.mark.parametrize("sizes", [[7, 1, 4], [1, 1, 9], [12]])
def test_chunks_land_where_the_rolling_cache_puts_them(sizes):
    config = small_config(sliding_window=3, num_hidden_layers=1)
    cache, ring = RollingCache.allocate(config, 2), StaticRing(config, 2)
    start = 0
    for size in sizes:
        at = torch.arange(start, start + size)
        positions = torch.stack([at, at - 2]).clamp(min=-1)
        start += size
        k, v = torch.randn(2, 2, 2, size, config.head_dim)
        step, landing = cache.begin(positions), ring.landing(positions)
        for name in ("rows", "columns", "slots"):
            assert getattr(landing, name).tolist() == getattr(step, name).tolist()
        cache.update(0, k, v, step)
        cache.commit(step)
        ring.store(0, k, v, landing)
        assert torch.equal(ring.keys[0], cache.keys[0])
        assert torch.equal(ring.values[0], cache.values[0])


def test_a_reset_ring_keeps_its_memory():
    ring = StaticRing(small_config(), 2)
    homes = [x.data_ptr() for x in (*ring.keys, *ring.values, ring.seen)]
    ring.seen += 3
    ring.count([3, 1])
    assert ring.filled == (1, 3)
    ring.count([3, 1])
    assert ring.filled == (2, 4)
    ring.reset()
    assert ring.filled == (0, 0) and ring.seen.tolist() == [0, 0]
    assert [x.data_ptr() for x in (*ring.keys, *ring.values, ring.seen)] == homes


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_ring_without_slots_is_refused(capacity):
    with pytest.raises(ValueError, match=f"capacity={capacity} with sliding_window=4"):
        StaticRing(small_config(), 1, capacity=capacity)


@pytest.mark.parametrize("least_known", [True, False])
def test_what_lies_beyond_the_fill_counts_for_nothing(least_known):
    q, (k, v) = torch.randn(2, 4, 1, 8), torch.randn(2, 2, 2, 6, 8)
    fill = torch.tensor([2, 5])
    known = {"least": 2, "most": 5} if least_known else {}
    found = over_filled(q, k, v, fill, **known)
    for row, n in enumerate(fill.tolist()):
        alone = over_filled(q[row, None], k[row, None, :, :n], v[row, None, :, :n], fill[row, None])
        assert torch.allclose(found[row], alone[0], atol=1e-6)
        scores = torch.einsum("hd,hsd->hs", q[row, :, 0], k[row, :, :n].repeat_interleave(2, 0))
        weights = (scores / 8**0.5).softmax(-1)
        by_hand = torch.einsum("hs,hsd->hd", weights, v[row, :, :n].repeat_interleave(2, 0))
        assert torch.allclose(found[row, :, 0], by_hand, atol=1e-6)
