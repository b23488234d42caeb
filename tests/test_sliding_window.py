"""The visibility rule, and that every backend obeys it in prefill, chunk and decode."""

import pytest
import torch

from mistral_edu import backends
from mistral_edu.rolling_cache import RollingCache
from mistral_edu.sliding_window import flash_window, reach, visible, visible_pairs
from tests.models import small_config, small_model

BACKENDS = [name for name, reason in backends.available().items() if reason is None]


@pytest.mark.parametrize("window", [1, 2, 3, 7, None])
def test_the_rule_is_the_inequality_for_every_pair(window):
    positions = torch.tensor([[-1, 0, 1, 2, 3, 5, 8, 13]])
    mask = visible(positions, positions, window)[0]
    for row, i in enumerate(positions[0].tolist()):
        for column, j in enumerate(positions[0].tolist()):
            expected = j >= 0 and 0 <= i - j < (window or 99)
            assert mask[row, column].item() == expected, (i, j)


def test_padding_sees_nothing_and_is_seen_by_nobody():
    mask = visible(torch.tensor([[-1, 0]]), torch.tensor([[-1, 0]]), window=None)[0]
    assert mask.tolist() == [[False, False], [False, True]]


def test_sequences_packed_a_window_apart_do_not_see_each_other():
    packed = torch.tensor([[0, 1, 2, 6, 7]])  # the second begins W = 4 after the first ended
    mask = visible(packed, packed, window=4)[0]
    assert not mask[3:, :3].any()
    assert mask[4, 3:].all()


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 12])
@pytest.mark.parametrize("window", [1, 3, 4, None])
def test_visible_pairs_counts_the_mask(length, window):
    positions = torch.arange(length)[None]
    assert visible_pairs(length, window) == visible(positions, positions, window).sum()


def test_the_window_saves_2_29_times_the_pairs_at_16k():
    assert round(visible_pairs(16384, None) / visible_pairs(16384, 4096), 2) == 2.29


@pytest.mark.parametrize(("layers", "window"), [(1, 1), (1, 5), (3, 4), (2, 2)])
def test_reach_is_what_composing_the_rule_gives(layers, window):
    positions = torch.arange(40)[None]
    one_layer = visible(positions, positions, window)[0].double()
    assert (torch.linalg.matrix_power(one_layer, layers)[-1] > 0).sum() == reach(layers, window)


def test_flash_attention_bounds_leave_the_query_itself_out():
    assert flash_window(1) == (0, 0)
    assert flash_window(4096) == (4095, 0)
    assert flash_window(None) == (-1, -1)


def keys_seen(attend, query_positions, key_positions, window):
    """How many keys each query takes something from: values are one-hot, one channel per key."""
    keys = key_positions.shape[1]
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(1, 4, query_positions.shape[1], keys, generator=generator)
    k = torch.randn(1, 2, keys, keys, generator=generator)
    v = torch.eye(keys).expand(1, 2, keys, keys)
    taken = attend(q, k, v, query_positions, key_positions, window)
    return (taken > 0).sum(dim=-1)[0]  # (H, T)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("window", [1, 2, 5, 8])
class TestExactlyWKeys:
    """At any depth past W a query takes something from exactly W keys."""

    def test_in_prefill(self, name, window):
        at = torch.arange(6 * window)[None]
        counts = keys_seen(backends.get(name), at, at, window)
        expected = [min(i + 1, window) for i in range(6 * window)]
        assert counts.tolist() == [expected] * 4

    @pytest.mark.parametrize("size", [2, 3, 7, 20])
    def test_in_a_chunk_over_a_wrapped_ring(self, name, window, size):
        cache = RollingCache.allocate(small_config(sliding_window=window), 1)
        for start in range(0, 5 * window + size, size):
            step = cache.begin(torch.arange(start, start + size)[None])
            cache.commit(step)
        counts = keys_seen(backends.get(name), step.positions, step.key_positions, window)
        expected = [min(i + 1, window) for i in step.positions[0].tolist()]
        assert counts.tolist() == [expected] * 4

    @torch.no_grad()
    def test_in_decode(self, name, window):
        cache = RollingCache.allocate(small_config(sliding_window=window), 1)
        for position in range(4 * window):
            step = cache.begin(torch.tensor([[position]]))
            cache.commit(step)
            counts = keys_seen(backends.get(name), step.positions, step.key_positions, window)
            assert counts.tolist() == [[min(position + 1, window)]] * 4

    @torch.no_grad()
    def test_by_disturbing_one_token_of_a_one_layer_model(self, name, window):
        model = small_model(attention=name, sliding_window=window, num_hidden_layers=1)
        ids = torch.arange(3, 3 + 3 * window + 2)[None]
        last = model(ids).logits[0, -1]
        felt = 0
        for place in range(ids.shape[1]):
            disturbed = ids.clone()
            disturbed[0, place] = 60
            felt += int((model(disturbed).logits[0, -1] - last).abs().max() > 1e-6)
        assert felt == window
