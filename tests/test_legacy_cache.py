"""The documentation's tuple cache: a tuple in gives a tuple out, at the right positions."""

import pytest
import torch

from mistral_edu import RollingCache
from tests.models import difference, left_padded, oracle_logits, random_ids, small_model

BOUND = 1e-5


def as_pairs(past):
    """The documented form: a tuple of (key, value) tuples."""
    assert isinstance(past, tuple)
    assert all(isinstance(pair, tuple) and len(pair) == 2 for pair in past)
    return past


@torch.no_grad()
@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("window", [1, 4, None])
@pytest.mark.parametrize("source", ["mask", "position_ids"])
def test_tuples_carry_a_text_far_past_the_window(source, window, size):
    model = small_model(sliding_window=window)
    ids = random_ids(model, 2, 23)
    pieces = [model(ids[:, :4], use_cache=True)]
    past = pieces[0].past_key_values.to_legacy()
    for start in range(4, 23, size):
        end = min(start + size, 23)
        given = {
            "mask": {"attention_mask": torch.ones(2, end)},
            "position_ids": {"position_ids": torch.arange(start, end)[None]},
        }[source]
        pieces.append(model(ids[:, start:end], past_key_values=past, **given))
        past = as_pairs(pieces[-1].past_key_values)
        assert past[0][0].shape == (2, 2, min(end, window or end), 8)
    logits = torch.cat([piece.logits for piece in pieces], dim=1)
    assert difference(logits, oracle_logits(model, ids)) <= BOUND


@torch.no_grad()
def test_while_the_window_has_room_the_stored_length_says_enough():
    model = small_model(sliding_window=4)
    ids = random_ids(model, 1, 6)
    past, pieces = None, []
    for start in range(4):
        output = model(ids[:, [start]], past_key_values=past, use_cache=True)
        past = output.past_key_values
        past = past.to_legacy() if isinstance(past, RollingCache) else as_pairs(past)
        pieces.append(output.logits)
    assert difference(torch.cat(pieces, 1), oracle_logits(model, ids)[:, :4]) <= BOUND
    with pytest.raises(ValueError, match="holds 4 tokens, all that a window of 4 keeps"):
        model(ids[:, [4]], past_key_values=past)


@torch.no_grad()
@pytest.mark.parametrize("length", [2, 6, 11])
def test_left_padded_rows_go_on_from_a_tuple(length):
    model = small_model(sliding_window=4)
    texts = [random_ids(model, 1, n, seed=n)[0] for n in (length, 13)]
    ids, mask = left_padded(texts)
    past = model(ids[:, :12], attention_mask=mask[:, :12], use_cache=True).past_key_values
    for given in (
        {"attention_mask": mask},
        {"position_ids": torch.tensor([[length - 1], [12]])},
    ):
        found = model(ids[:, 12:], past_key_values=past.to_legacy(), **given).logits[:, 0]
        for row, text in enumerate(texts):
            assert difference(found[row], oracle_logits(model, text[None])[0, -1]) <= BOUND


@torch.no_grad()
def test_the_whole_history_of_another_library_is_taken_in_too():
    import transformers

    model = small_model(sliding_window=4)
    fields = {**model.config.to_dict(), "attn_implementation": "eager"}
    theirs = transformers.MistralForCausalLM(transformers.MistralConfig(**fields)).eval()
    theirs.load_state_dict(model.state_dict())
    ids = random_ids(model, 1, 12)
    everything = transformers.DynamicCache()  # knows no window, so it keeps all keys
    theirs(ids[:, :11], past_key_values=everything)
    pairs = tuple((layer.keys, layer.values) for layer in everything.layers)
    assert pairs[0][0].shape[2] == 11
    found = model(ids[:, 11:], past_key_values=pairs).logits
    assert difference(found, oracle_logits(model, ids)[:, 11:]) <= BOUND
    with pytest.raises(ValueError, match="is a DynamicCache, expected a RollingCache or a tuple"):
        model(ids[:, 11:], past_key_values=everything)


@torch.no_grad()
def test_a_tuple_of_padding_only_goes_on_from_nothing():
    model = small_model()
    ids, mask = random_ids(model, 1, 4), torch.tensor([[0, 0, 1, 1]])
    past = model(ids[:, :2], attention_mask=mask[:, :2], use_cache=True).past_key_values.to_legacy()
    assert past[0][0].shape == (1, 2, 0, 8)
    found = model(ids[:, 2:], attention_mask=mask, past_key_values=past).logits
    assert difference(found, oracle_logits(model, ids[:, 2:])) <= BOUND


@torch.no_grad()
def test_a_tuple_stays_as_it_was():
    model = small_model()
    ids = random_ids(model, 1, 5)
    past = model(ids[:, :3], use_cache=True).past_key_values.to_legacy()
    before = [x.clone() for pair in past for x in pair]
    first = model(ids[:, 3:], past_key_values=past).logits
    assert all(map(torch.equal, before, (x for pair in past for x in pair)))
    assert torch.equal(model(ids[:, 3:], past_key_values=past).logits, first)
    assert model(ids[:, 3:], past_key_values=past, use_cache=False).past_key_values is None


def pairs(layers=2, rows=1, heads=2, columns=3, width=8, count=2, dtype=torch.float32):
    one = torch.zeros(rows, heads, columns, width, dtype=dtype)
    return tuple((one,) * count for _ in range(layers))


@pytest.mark.parametrize(
    ("past", "message"),
    [
        ((), "has 0 layers but num_hidden_layers=2"),
        (pairs(layers=3), "has 3 layers but num_hidden_layers=2"),
        (pairs(count=4), "without the two further tensors of a cross-attention"),
        (pairs(heads=4), r"shape \(1, 4, 3, 8\), expected \('B', 2, 'S', 8\)"),
        (pairs(width=6), r"shape \(1, 2, 3, 6\)"),
        ((*pairs(layers=1), *pairs(layers=1, columns=2)), r"\[1\] holds a tensor of shape"),
        (pairs(rows=2), "has rows 2, but the chunk has 1"),
        (pairs(dtype=torch.float16), "has dtype torch.float16, but the chunk has torch.float32"),
        ("past", "is a str, expected a RollingCache or a tuple"),
    ],
)
def test_pairs_that_do_not_fit_are_a_named_error(past, message):
    model = small_model()
    with pytest.raises(ValueError, match=message):
        model(random_ids(model, 1, 2), past_key_values=past)


def test_a_mask_that_leaves_it_open_what_the_tuple_holds_is_refused():
    model = small_model()
    ids = random_ids(model, 1, 1)
    with pytest.raises(ValueError, match="has 1 columns but past_key_values holds 3 tokens"):
        model(ids, past_key_values=pairs(), attention_mask=torch.ones(1, 1))
    with pytest.raises(ValueError, match="counts 4 tokens so far, .* next sees 3, but .* holds 2"):
        model(ids, past_key_values=pairs(columns=2), attention_mask=torch.ones(1, 5))
    hole = torch.tensor([[1, 0, 1, 1]])
    with pytest.raises(ValueError, match="padding after a token of past_key_values"):
        model(ids, past_key_values=pairs(), attention_mask=hole)
