"""What forward accepts: every wrong argument is a named error, and the cache does not move."""

import pytest
import torch

from mistral_edu import MistralConfig, MistralForCausalLM, MistralModel
from mistral_edu.inputs import head_factors, real_tokens, token_positions
from tests.models import difference, oracle_logits, random_ids, small_config, small_model


def ids(*shape: int) -> torch.Tensor:
    return torch.full(shape, 5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give exactly one of input_ids and inputs_embeds"),
        (dict(input_ids=ids(1, 1), inputs_embeds=torch.ones(1, 1, 32)), "give exactly one"),
        (dict(input_ids=ids(3)), r"input_ids has shape \(3,\), expected \(batch, tokens\)"),
        (dict(input_ids=ids(1, 0)), r"shape \(1, 0\), expected .* at least one row and token"),
        (dict(input_ids=ids(0, 4)), r"shape \(0, 4\), expected .* at least one row and token"),
        (dict(input_ids=torch.ones(1, 2)), "input_ids has dtype torch.float32, expected whole"),
        (dict(input_ids=ids(1, 2) > 0), "input_ids has dtype torch.bool, expected whole"),
        (dict(input_ids=torch.tensor([[1, 64]])), "from 1 to 64, expected 0 to 63 .*vocab_size=64"),
        (dict(input_ids=torch.tensor([[-1, 2]])), "from -1 to 2, expected 0 to 63"),
        (dict(input_ids=ids(1, 2).to("meta")), "input_ids is on meta but the model on cpu"),
        (dict(inputs_embeds=torch.ones(1, 32)), r"inputs_embeds has shape \(1, 32\), expected"),
        (dict(inputs_embeds=torch.ones(1, 0, 32)), r"inputs_embeds has shape \(1, 0, 32\)"),
        (dict(inputs_embeds=torch.ones(1, 2, 31)), "31 channels but hidden_size=32"),
        (dict(inputs_embeds=torch.ones(1, 2, 32).half()), "float16 but the model torch.float32"),
        (dict(attention_mask=ids(1, 5)), r"attention_mask has shape \(1, 5\), expected \(2, 5\)"),
        (dict(attention_mask=torch.ones(2, 4)), r"shape \(2, 4\), expected \(2, 5\)$"),
        (dict(attention_mask=torch.ones(2, 6)), r"shape \(2, 6\), expected \(2, 5\)$"),
        (dict(attention_mask=torch.ones(2, 5, 5)), r"shape \(2, 5, 5\), expected \(2, 5\)$"),
        (dict(attention_mask=torch.full((2, 5), 2)), "holds 2, expected 1 for tokens and 0 for"),
        (dict(attention_mask=torch.full((2, 5), -1e9)), "expected 1 for tokens and 0 for padding"),
        (dict(position_ids=torch.arange(5)), r"position_ids has shape \(5,\), expected \(2, 5\)"),
        (dict(position_ids=torch.arange(4)[None]), r"position_ids has shape \(1, 4\)"),
        (dict(position_ids=torch.ones(1, 5)), "position_ids has dtype torch.float32"),
        (dict(position_ids=torch.tensor([[0, 1, -2, 3, 4]])), "position_ids holds -2, expected 0"),
        (dict(position_ids=torch.tensor([[0, 1, 2, 0, 1]])), "row 0 has two tokens at position 0"),
        (dict(head_mask=torch.ones(3)), r"head_mask has shape \(3,\), expected \(2, 4\)"),
        (dict(head_mask=torch.ones(4, 2)), r"head_mask has shape \(4, 2\), expected \(2, 4\)"),
    ],
)
def test_each_wrong_argument_is_a_named_error(given, message):
    alone = {"input_ids", "inputs_embeds"} & given.keys() or not given
    with pytest.raises(ValueError, match=message):
        small_model()(**({} if alone else {"input_ids": ids(2, 5)}), **given)


def test_whole_numbers_of_every_width_are_ids():
    model = small_model()
    expected = model(ids(1, 4)).logits
    for dtype in (torch.uint8, torch.int16, torch.int32):
        assert torch.equal(model(ids(1, 4).to(dtype)).logits, expected)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_a_mask_may_be_of_any_type_that_holds_0_and_1(dtype):
    mask = torch.tensor([[0, 1, 1]]).to(dtype)
    assert real_tokens(mask, 1, 3, so_far=False).tolist() == [[False, True, True]]


def test_positions_count_from_the_cache_and_skip_padding():
    real = torch.tensor([[False, True, True], [True, True, True], [True, False, True]])
    found = token_positions(real, seen=torch.tensor([4, 0, 7]))
    assert found.tolist() == [[-1, 4, 5], [0, 1, 2], [7, -1, 8]]


def test_a_position_of_minus_one_is_padding_like_a_mask_of_zero():
    model = small_model()
    text = random_ids(model, 1, 6)
    by_position = model(text, position_ids=torch.tensor([[-1, -1, 0, 1, 2, 3]])).logits
    by_mask = model(text, attention_mask=torch.tensor([[0, 0, 1, 1, 1, 1]])).logits
    assert torch.equal(by_position, by_mask)
    assert difference(by_position[:, 2:], oracle_logits(model, text[:, 2:])) <= 1e-5


def test_one_row_of_positions_serves_the_whole_batch():
    model = small_model()
    text = random_ids(model, 3, 6)
    found = model(text, position_ids=torch.arange(50, 56)[None]).logits
    assert difference(found, oracle_logits(model, text)) <= 1e-5


def test_head_factors_are_for_all_layers_or_for_each():
    like = torch.zeros(1, dtype=torch.float64)
    assert head_factors(None, 3, 2, like) == [None, None, None]
    one, two = head_factors(torch.tensor([1, 0]), 2, 2, like)
    assert one.tolist() == two.tolist() == [1, 0] and one.dtype == torch.float64
    one, two = head_factors(torch.tensor([[1, 0], [0, 1]]), 2, 2, like)
    assert (one.tolist(), two.tolist()) == ([1, 0], [0, 1])


def test_positions_past_the_limit_work_and_warn_once_for_each_model(recwarn):
    config = small_config(max_position_embeddings=8)
    torch.manual_seed(0)
    model = MistralForCausalLM(config).eval()
    text = random_ids(model, 1, 20)
    model(text[:, :8])
    assert not recwarn.list
    logits = model(text).logits
    model(text)
    assert [str(w.message) for w in recwarn.list] == [
        "position 19 is past max_position_embeddings=8: it is computed as any other, but the model "
        "was not trained so far"
    ]
    assert difference(logits, oracle_logits(model, text)) <= 1e-5
    unlimited = MistralForCausalLM(config.changed(max_position_embeddings=100)).eval()
    unlimited.load_state_dict(model.state_dict())
    assert torch.equal(unlimited(text).logits, logits)


def test_a_cache_without_a_window_goes_on_past_the_limit_too():
    model = small_model(sliding_window=None, max_position_embeddings=8)
    text, cache = random_ids(model, 1, 80), None
    with pytest.warns(UserWarning, match="past max_position_embeddings=8"):
        for start in range(0, 80, 5):
            output = model(text[:, start : start + 5], past_key_values=cache, use_cache=True)
            cache = output.past_key_values
        expected = oracle_logits(model, text)[:, 75:]
    assert difference(output.logits, expected) <= 1e-5


def test_a_model_on_the_meta_device_gives_the_shapes():
    with torch.device("meta"):
        config = MistralConfig.mistral_7b_v0_1().changed(num_hidden_layers=2)
        model = MistralModel(config, attention="eager")
        output = model(torch.ones(1, 9, dtype=torch.long), use_cache=False)
    assert output.last_hidden_state.shape == (1, 9, 4096)


def test_autocast_computes_and_caches_in_half_precision():
    model = small_model()
    text = random_ids(model, 1, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        cache = model(text[:, :6]).past_key_values
        found = model(text[:, 6:], past_key_values=cache).logits
    assert cache.keys[0].dtype == torch.bfloat16
    assert difference(found.float(), oracle_logits(model, text)[:, 6:]) <= 0.1
