"""The rolling cache: equal to the oracle however a text is cut, in memory that never grows."""

import subprocess
import sys

import pytest
import torch

from mistral_edu import RollingCache
from tests.models import (
    chunked_logits,
    difference,
    left_padded,
    oracle_logits,
    random_ids,
    small_config,
    small_model,
)

BOUND = 1e-5


def filled(chunks, **changes):
    """A one-layer cache after `chunks` of positions; keys are positions, values squares."""
    config = small_config(num_hidden_layers=1, **changes)
    cache = RollingCache.allocate(config, len(chunks[0]))
    for chunk in chunks:
        feed(cache, chunk)
    return cache


def feed(cache, chunk):
    """Run one chunk of positions through a one-layer cache."""
    positions = torch.tensor(chunk)
    step = cache.begin(positions)
    new = positions[:, None, :, None].float().expand(-1, 2, -1, 8)
    cache.update(0, new, new**2, step)
    cache.commit(step)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("window", [1, 2, 3, 5])
def test_every_chunk_size_equals_the_oracle_at_every_length(window, attention):
    model = small_model(attention=attention, sliding_window=window)
    for length in {1, window, window + 1, 3 * window, 3 * window + 2}:
        ids = random_ids(model, rows=2, length=length)
        expected = oracle_logits(model, ids)
        for size in {1, 2, max(1, window - 1), window, window + 1, 3 * window, length}:
            assert difference(chunked_logits(model, ids, size), expected) <= BOUND, (length, size)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_uneven_chunks_of_a_ragged_batch_equal_single_rows(attention):
    model = small_model(attention=attention)
    texts = [random_ids(model, 1, length, seed=length)[0] for length in (1, 6, 15)]
    ids, mask = left_padded(texts)
    for size in (1, 3, 4, 5, 15):
        together = chunked_logits(model, ids, size, mask)
        for row, text in enumerate(texts):
            alone = oracle_logits(model, text[None])[0]
            assert difference(together[row, -len(text) :], alone) <= BOUND


def test_a_token_at_position_p_lives_in_slot_p_mod_w():
    cache = filled([[[0, 1, 2, 3, 4]], [[5]], [[6, 7, 8, 9, 10, 11]]])
    assert cache.positions.tolist() == [[8, 9, 10, 11]]
    assert [slot.position % 4 for slot in cache.slots()] == [0, 1, 2, 3]
    assert [slot.age for slot in cache.slots()] == [3, 2, 1, 0]


def test_a_chunk_attends_to_what_its_own_tokens_will_evict():
    cache = filled([[[0, 1, 2, 3]]])
    step = cache.begin(torch.tensor([[4, 5, 6]]))
    assert step.key_positions.tolist() == [[0, 1, 2, 3, 4, 5, 6]]


def test_only_the_last_w_tokens_of_an_oversize_chunk_are_written():
    cache = filled([[list(range(11))]])
    assert sorted(cache.positions[0].tolist()) == [7, 8, 9, 10]
    (keys, values), *_ = cache
    assert keys[0, 0, :, 0].tolist() == [7, 8, 9, 10]
    assert values[0, 0, :, 0].tolist() == [49, 64, 81, 100]


def test_decoding_one_token_hands_out_the_ring_itself_not_a_copy():
    cache = filled([[[0, 1, 2, 3]]])
    with torch.no_grad():
        step = cache.begin(torch.tensor([[4]]))
        new = torch.zeros(1, 2, 1, 8)
        keys, _ = cache.update(0, new, new, step)
    assert keys.data_ptr() == cache.keys[0].data_ptr()


def test_padding_is_never_written():
    cache = filled([[[-1, -1, 0], [0, 1, 2]], [[1], [-1]]])
    assert cache.positions.tolist() == [[0, 1, -1, -1], [0, 1, 2, -1]]
    assert cache.lengths.tolist() == [2, 3]
    assert cache.keys[0][1, 0, :, 0].tolist() == [0, 1, 2, 0]


def test_rows_of_different_lengths_unroll_with_zeros_on_the_left():
    cache = filled([[[-1, -1, -1, 0, 1], [0, 1, 2, 3, 4]]])
    (keys, _), *_ = cache
    assert keys[:, 0, :, 0].tolist() == [[0, 0, 0, 1], [1, 2, 3, 4]]


def test_memory_is_fixed_at_construction_and_after_a_long_prompt():
    model = small_model()
    output = model(random_ids(model, 1, 200), use_cache=True)
    cache = output.past_key_values
    layers, heads, slots, head_dim = 2, 2, 4, 8
    assert cache.nbytes == 2 * layers * heads * slots * head_dim * 4
    stored = sum(t.untyped_storage().nbytes() for t in (*cache.keys, *cache.values))
    assert stored == cache.nbytes, "a slice would keep the whole prompt alive"


@pytest.mark.parametrize("size", [3, 4, 5, 9])
def test_no_slot_is_written_twice_by_one_chunk(size):
    # Two writes to one slot race on a GPU; on a CPU the right one happens to win.
    cache = filled([[[0, 1], [-1, 0]]])
    at = cache.lengths[:, None] + torch.arange(size)
    step = cache.begin(at.masked_fill(torch.tensor([[False], [True]]), -1))
    places = list(zip(step.rows.tolist(), step.slots.tolist(), strict=True))
    assert len(set(places)) == len(places) == min(size, 4)


@torch.no_grad()
def test_beams_that_change_places_go_on_as_if_they_had_always_stood_there():
    model = small_model()
    ids, rows = random_ids(model, 3, 9), torch.tensor([2, 0, 0])
    cache = model(ids[:, :7], use_cache=True).past_key_values
    cache.reorder(rows)
    new = ids[:, 7:]
    found = model(new, past_key_values=cache).logits
    expected = oracle_logits(model, torch.cat([ids[rows, :7], new], dim=1))[:, 7:]
    assert difference(found, expected) <= BOUND


def test_rows_can_be_reordered_for_beams():
    cache = filled([[[0, 1], [-1, 0]]])
    cache.reorder(torch.tensor([1, 1]))
    assert cache.positions.tolist() == [[0, -1, -1, -1]] * 2
    assert cache.lengths.tolist() == [1, 1]


def test_cropping_then_going_on_equals_never_having_read_further():
    model = small_model(sliding_window=8)
    ids = random_ids(model, 1, 7)
    cache = model(ids[:, :5], use_cache=True).past_key_values
    cache.crop(3)
    logits = model(ids[:, 3:], past_key_values=cache).logits
    assert difference(logits, oracle_logits(model, ids)[:, 3:]) <= BOUND


def test_cropping_a_wrapped_ring_is_refused_because_keys_are_gone():
    with pytest.raises(ValueError, match="9 were seen and only the last 4 are kept"):
        filled([[list(range(9))]]).crop(6)


def test_a_reset_cache_is_as_good_as_new():
    model = small_model()
    ids = random_ids(model, 1, 9)
    cache = model(ids, use_cache=True).past_key_values
    cache.reset()
    logits = model(ids, past_key_values=cache).logits
    assert difference(logits, oracle_logits(model, ids)) <= BOUND


@pytest.mark.parametrize("length", [3, 11])
def test_legacy_pairs_go_out_and_come_back(length):
    model = small_model()
    ids = random_ids(model, 2, length + 3)
    cache = model(ids[:, :length], use_cache=True).past_key_values
    legacy = cache.to_legacy()
    assert [tuple(pair[0].shape) for pair in legacy] == [(2, 2, min(length, 4), 8)] * 2
    again = RollingCache.from_legacy(legacy, model.config, lengths=cache.lengths)
    logits = model(ids[:, length:], past_key_values=again).logits
    assert difference(logits, oracle_logits(model, ids)[:, length:]) <= BOUND


def test_without_a_window_the_cache_keeps_everything_up_to_its_capacity():
    model = small_model(sliding_window=None)
    ids = random_ids(model, 1, 12)
    cache = RollingCache.allocate(model.config, 1, capacity=12)
    for start in range(0, 12, 5):
        chunk = ids[:, start : start + 5]
        logits = model(chunk, past_key_values=cache).logits
    assert difference(logits, oracle_logits(model, ids)[:, 10:]) <= BOUND
    with pytest.raises(ValueError, match="position 12 does not fit a cache of 12 slots"):
        model(ids[:, :1], past_key_values=cache)


def test_without_a_window_and_a_capacity_the_cache_grows_by_doubling():
    model = small_model(sliding_window=None)
    ids, cache, slots = random_ids(model, 2, 200), None, []
    for start in range(0, 200, 10):
        output = model(ids[:, start : start + 10], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        slots.append(cache.slot_count)
    assert sorted(set(slots)) == [64, 128, 256]
    assert difference(output.logits, oracle_logits(model, ids)[:, 190:]) <= BOUND
    again = model(ids, use_cache=True).past_key_values
    assert again.slot_count == 200


def test_a_chunk_without_columns_is_refused():
    with pytest.raises(ValueError, match="the chunk has no tokens"):
        filled([[[0]]]).begin(torch.zeros(1, 0, dtype=torch.long))


def test_a_batch_of_another_size_is_refused():
    with pytest.raises(ValueError, match="the chunk has 3 rows but the cache has 1"):
        filled([[[0]]]).begin(torch.zeros(3, 1, dtype=torch.long))


def test_a_cache_only_goes_forward():
    cache = filled([[[0, 1, 2], [0, 1, -1]]])
    for plan in (cache.begin, cache.peek):
        with pytest.raises(ValueError, match="row 0 has a token at position 2, but .* on to 2"):
            plan(torch.tensor([[2], [2]]))
    cache.begin(torch.tensor([[3], [2]]))
    with pytest.raises(ValueError, match="row 1 has two tokens at position 4"):
        cache.begin(torch.tensor([[3, 4], [4, 4]]))
    cache.crop(2)
    cache.begin(torch.tensor([[2], [2]]))


@torch.no_grad()
def test_only_what_is_really_displaced_is_kept_for_an_undo():
    model = small_model()
    steps = []

    class Watched(RollingCache):
        def begin(self, positions):
            steps.append(super().begin(positions))
            return steps[-1]

    ids, cache = random_ids(model, 1, 20), Watched.allocate(model.config, 1)
    for part in (ids[:, :9], ids[:, 9:11], ids[:, 11:12]):
        model(part, past_key_values=cache)
    saved = [sum(before.shape[0] for _, before in step.overwritten) for step in steps]
    assert saved == [0, 2 * 2 * 2, 2 * 2 * 1], "rows × (keys and values) × layers"


def test_a_gap_in_the_positions_leaves_the_old_tokens_out_of_sight():
    cache = filled([[[0, 1, 2, 3]], [[9]]])  # W = 4: position 9 takes slot 1
    assert cache.positions.tolist() == [[0, 9, 2, 3]]
    assert cache.lengths.tolist() == [10]


def snapshot(cache):
    return [x.clone() for x in (*cache.keys, *cache.values, cache.positions, cache.lengths)]


def failing(model, layer, error=KeyboardInterrupt):
    """Let one layer of a model fail in its feed-forward block, after its cache was updated."""

    def fail(module, arguments):
        raise error("stopped")

    return model.model.layers[layer].mlp.register_forward_pre_hook(fail)


@torch.no_grad()
@pytest.mark.parametrize("error", [KeyboardInterrupt, torch.OutOfMemoryError])
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("size", [1, 3, 4, 6])
@pytest.mark.parametrize("length", [2, 4, 5, 11])
def test_a_forward_pass_that_fails_leaves_the_cache_as_it_was(length, size, layer, error):
    model = small_model()
    ids = random_ids(model, 2, length + size)
    cache = model(ids[:, :length], use_cache=True).past_key_values
    before = cache.to_legacy()
    hook = failing(model, layer, error)
    with pytest.raises(error):
        model(ids[:, length:], past_key_values=cache)
    hook.remove()
    for pair, was in zip(cache, before, strict=True):
        assert all(map(torch.equal, pair, was))
    assert cache.lengths.tolist() == [length] * 2
    if length >= 4:  # a full ring: every slot is as it was
        logits = model(ids[:, length:], past_key_values=cache).logits
        assert difference(logits, oracle_logits(model, ids)[:, length:]) <= BOUND


def test_a_forward_pass_that_fails_without_a_cache_says_so_itself():
    model = small_model()
    failing(model, 1)
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        model(random_ids(model, 1, 3), use_cache=False)


@torch.no_grad()
@pytest.mark.parametrize(
    "wrong",
    [
        dict(input_ids=torch.tensor([[99]])),
        dict(attention_mask=torch.ones(1, 3)),
        dict(attention_mask=torch.ones(1, 9)),
        dict(position_ids=torch.tensor([[3]])),
        dict(labels=torch.tensor([[64]])),
        dict(head_mask=torch.ones(7)),
    ],
)
def test_a_wrong_argument_leaves_the_cache_as_it_was(wrong):
    model = small_model()
    ids = random_ids(model, 1, 7)
    cache = model(ids[:, :6], use_cache=True).past_key_values
    before = snapshot(cache)
    with pytest.raises(ValueError):
        model(**{"input_ids": ids[:, 6:], "past_key_values": cache, **wrong})
    assert all(map(torch.equal, before, snapshot(cache)))


def test_a_mask_that_counts_other_tokens_than_the_cache_is_refused():
    model = small_model()
    ids = random_ids(model, 2, 7)
    cache = model(ids[:, :6], use_cache=True).past_key_values
    mask = torch.ones(2, 7)
    mask[0, 0] = 0
    with pytest.raises(ValueError, match=r"counts \[5, 6\] tokens so far but .* seen \[6, 6\]"):
        model(ids[:, 6:], attention_mask=mask, past_key_values=cache)


@torch.no_grad()
@pytest.mark.parametrize("size", [1, 3])
def test_with_use_cache_false_a_given_cache_is_looked_at_and_not_touched(size):
    model = small_model()
    ids = random_ids(model, 1, 9 + size)
    cache = model(ids[:, :9], use_cache=True).past_key_values
    before = snapshot(cache)
    output = model(ids[:, 9:], past_key_values=cache, use_cache=False)
    assert output.past_key_values is None
    assert all(map(torch.equal, before, snapshot(cache)))
    assert difference(output.logits, oracle_logits(model, ids)[:, 9:]) <= BOUND


def test_a_given_cache_is_filled_even_if_the_config_makes_none():
    model = small_model(use_cache=False)
    ids = random_ids(model, 1, 5)
    assert model(ids).past_key_values is None
    cache = RollingCache.allocate(model.config, 1)
    assert model(ids, past_key_values=cache).past_key_values is cache
    assert cache.lengths.tolist() == [5]


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"num_hidden_layers": 3}, {}, "has layers 3, but the model has 2"),
        ({"num_key_value_heads": 4}, {}, "has key/value heads 4, but the model has 2"),
        ({"head_dim": 16}, {}, "has head_dim 16, but the model has 8"),
        ({"sliding_window": 5}, {}, "has window 5, but the model has 4"),
        ({"sliding_window": None}, {}, "has window None, but the model has 4"),
        ({}, {"batch_size": 3}, "has rows 3, but the chunk has 1"),
        ({}, {"dtype": torch.float16}, "has dtype torch.float16, but the chunk has torch.float32"),
        ({}, {"device": "meta"}, "has device meta, but the chunk has cpu"),
    ],
)
def test_a_cache_of_another_model_is_refused(changes, options, message):
    cache = RollingCache.allocate(small_config(**changes), **{"batch_size": 1, **options})
    model = small_model()
    with pytest.raises(ValueError, match=message):
        model(random_ids(model, 1, 2), past_key_values=cache)


def test_a_cache_is_a_sequence_of_pairs_in_position_order():
    cache = filled([[[-1, -1, 0, 1, 2], [0, 1, 2, 3, 4]]])
    assert len(cache) == 1
    keys, values = cache[0]
    assert torch.equal(keys, next(iter(cache))[0])
    assert values[:, 0, :, 0].tolist() == [[0, 0, 1, 4], [1, 4, 9, 16]]
    with pytest.raises(IndexError):
        cache[1]


def test_what_was_cropped_does_not_come_back_as_pairs():
    cache = filled([[[0, 1, 2], [0, 1, 2]]])
    cache.crop(1)
    feed(cache, [[1], [-1]])
    assert cache[0][0][:, 0, :, 0].tolist() == [[0, 1], [0, 0]], "slot 1 of row 1 holds an old key"


def test_a_cache_made_under_gradients_gives_the_same_gradients_as_none():
    model = small_model()
    ids = random_ids(model, 1, 6)
    gradients = []
    for use_cache in (False, True):
        model.zero_grad()
        model(ids, labels=ids, use_cache=use_cache).loss.backward()
        gradients.append(model.model.layers[0].self_attn.k_proj.weight.grad.clone())
    assert difference(gradients[1], gradients[0]) <= BOUND


@pytest.mark.slow
def test_the_tiny_model_generates_20000_tokens_in_flat_memory(repository):
    # In a process of its own, without shape checks and other tests' memory.
    command = [sys.executable, "-m", "tests.soak", "--tokens", "20000"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
