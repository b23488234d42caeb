"""The assembled model: what it sees, what it returns, head masks, and the numbers of the 7B."""

import pytest
import torch

from mistral_edu import MistralConfig, MistralForCausalLM, MistralModel, backends
from tests.models import difference, oracle_logits, random_ids, small_model


def test_the_7b_has_exactly_7241732096_parameters():
    with torch.device("meta"):
        model = MistralForCausalLM(MistralConfig.mistral_7b_v0_1())
        bare = MistralModel(MistralConfig.mistral_7b_v0_1())
    assert model.num_parameters() == 7_241_732_096
    assert bare.num_parameters() == 7_110_660_096
    assert len(model.state_dict()) == 291


def test_nothing_is_tabled_so_a_model_is_no_larger_than_its_weights():
    with torch.device("meta"):
        model = MistralForCausalLM(MistralConfig(num_hidden_layers=2))  # 131,072 positions
    assert list(model.buffers()) == []
    plain = [x for part in model.modules() for x in vars(part).values() if torch.is_tensor(x)]
    assert plain == []


@torch.no_grad()
def test_in_half_precision_position_5000_is_as_sharp_as_position_0():
    model = small_model(max_position_embeddings=9000).bfloat16()
    ids = random_ids(model, 1, 9)
    here = model(ids).logits.float()
    there = model(ids, position_ids=torch.arange(5000, 5009)[None]).logits.float()
    assert difference(there, here) <= 0.05


def test_hidden_states_are_the_embeddings_then_each_layer_the_last_after_the_norm():
    model = small_model()
    ids = random_ids(model, 2, 5)
    output = model(ids, output_hidden_states=True)
    assert len(output.hidden_states) == 3
    assert torch.equal(output.hidden_states[0], model.model.embed_tokens(ids))
    assert torch.equal(model.lm_head(output.hidden_states[-1]), output.logits)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attentions_on_request_sum_to_one_and_change_nothing(attention):
    model = small_model(attention=attention)
    ids = random_ids(model, 2, 6)
    output = model(ids, output_attentions=True)
    assert [tuple(weights.shape) for weights in output.attentions] == [(2, 4, 6, 6)] * 2
    assert torch.allclose(output.attentions[0].sum(-1), torch.ones(2, 4, 6))
    assert difference(output.logits, model(ids).logits) <= 1e-5


def test_embeddings_may_be_given_instead_of_ids():
    model = small_model()
    ids = random_ids(model, 1, 4)
    found = model(inputs_embeds=model.get_input_embeddings()(ids)).logits
    assert torch.equal(found, model(ids).logits)


def test_a_future_token_changes_nothing_before_it():
    model = small_model(sliding_window=None)
    ids = random_ids(model, 1, 8)
    changed = ids.clone()
    changed[0, 5] = 63
    before, after = model(ids).logits, model(changed).logits
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5:], after[:, 5:])


def test_what_padding_holds_does_not_matter_in_any_step():
    model = small_model()
    ids, mask = random_ids(model, 2, 9), torch.ones(2, 9, dtype=torch.long)
    mask[0, :3] = 0
    logits = []
    for filler in (0, 63):
        ids[0, :3] = filler
        cache = model(ids[:, :7], attention_mask=mask[:, :7], use_cache=True).past_key_values
        # A mask over all tokens so far and one over the new tokens mean the same.
        whole = mask if filler else mask[:, 7:]
        logits.append(model(ids[:, 7:], attention_mask=whole, past_key_values=cache).logits)
    assert torch.equal(*logits)


def test_right_padding_equals_single_rows_too():
    model = small_model()
    ids, mask = random_ids(model, 2, 9), torch.ones(2, 9, dtype=torch.long)
    mask[0, 6:] = 0
    found = model(ids, attention_mask=mask).logits[0, :6]
    assert difference(found, oracle_logits(model, ids[:1, :6])[0]) <= 1e-5


@torch.no_grad()
def test_rows_padded_on_the_right_go_on_where_they_ended():
    model = small_model()
    ids, mask = random_ids(model, 2, 9), torch.ones(2, 9, dtype=torch.long)
    mask[0, 3:6] = 0  # row 0: three tokens, three of padding, three more tokens
    cache = model(ids[:, :6], attention_mask=mask[:, :6], use_cache=True).past_key_values
    assert cache.lengths.tolist() == [3, 6]
    found = model(ids[:, 6:], attention_mask=mask, past_key_values=cache).logits
    alone = oracle_logits(model, ids[:1, [0, 1, 2, 6, 7, 8]])[0, 3:]
    assert difference(found[0], alone) <= 1e-5
    assert difference(found[1], oracle_logits(model, ids[1:])[0, 6:]) <= 1e-5


def test_positions_shifted_by_a_constant_change_nothing():
    model = small_model()
    ids = random_ids(model, 1, 9)
    shifted = model(ids, position_ids=torch.arange(100, 109)[None]).logits
    assert difference(shifted, oracle_logits(model, ids)) <= 1e-5


def test_hidden_states_and_attentions_of_a_chunk_are_those_of_the_whole_text():
    model = small_model(sliding_window=None)
    ids, wanted = random_ids(model, 2, 9), dict(output_hidden_states=True, output_attentions=True)
    whole = model(ids, **wanted)
    cache = model(ids[:, :5], use_cache=True).past_key_values
    part = model(ids[:, 5:], past_key_values=cache, **wanted)
    for found, expected in zip(part.hidden_states, whole.hidden_states, strict=True):
        assert difference(found, expected[:, 5:]) <= 1e-5
    for found, expected in zip(part.attentions, whole.attentions, strict=True):
        assert difference(found, expected[:, :, 5:]) <= 1e-5


@torch.no_grad()
@pytest.mark.parametrize("size", [1, 2, 5])
def test_attentions_over_a_wrapped_ring_come_in_the_order_of_positions(size):
    model = small_model(sliding_window=4)
    ids = random_ids(model, 1, 11 + size)
    cache = model(ids[:, :11], use_cache=True).past_key_values
    part = model(ids[:, 11:], past_key_values=cache, output_attentions=True)
    whole = model(ids, output_attentions=True)
    for found, expected in zip(part.attentions, whole.attentions, strict=True):
        columns = found.shape[-1]
        assert columns == (4 if size == 1 else 4 + size)
        assert difference(found, expected[:, :, 11:, -columns:]) <= 1e-5


@pytest.mark.parametrize("name", ["output_attentions", "output_hidden_states"])
def test_what_forward_is_not_told_it_takes_from_the_config(name):
    field = name.removeprefix("output_")
    told, silent = small_model(**{name: True}), small_model()
    ids = random_ids(told, 1, 4)
    for model in (told, told.model):
        assert model(ids)[field] is not None
        assert model(ids, **{name: False})[field] is None
    for model in (silent, silent.model):
        assert model(ids)[field] is None
        assert model(ids, **{name: True})[field] is not None


def test_return_dict_and_use_cache_come_from_the_config_too():
    model = small_model(return_dict=False, use_cache=False)
    ids = random_ids(model, 1, 4)
    for part in (model, model.model):
        assert isinstance(part(ids), tuple) and len(part(ids)) == 1
        named = part(ids, return_dict=True, use_cache=True)
        assert named.past_key_values.lengths.tolist() == [4]


def test_a_masked_head_contributes_nothing():
    model = small_model()
    ids = random_ids(model, 1, 5)
    mask = torch.ones(2, 4)
    assert torch.equal(model(ids, head_mask=mask).logits, model(ids).logits)
    mask[1, 2] = 0
    masked = model(ids, head_mask=mask).logits
    model.model.layers[1].self_attn.o_proj.weight.data[:, 16:24] = 0  # the columns of head 2
    assert difference(masked, model(ids).logits) <= 1e-6


def test_one_head_mask_may_serve_all_layers():
    model = small_model()
    ids, mask = random_ids(model, 1, 5), torch.tensor([1, 0, 1, 0])
    found = model(ids, head_mask=mask).logits
    assert torch.equal(found, model(ids, head_mask=mask.repeat(2, 1)).logits)
    assert not torch.equal(found, model(ids).logits)


@pytest.fixture
def half_only(monkeypatch):
    """A better backend than those of a CPU, for half precision and small heads; notes its calls."""
    calls = []

    def attend(*given):
        calls.append(given[0].dtype)
        return backends.eager_attention(*given)

    def why_unfit(device, dtype, head_dim=0):
        return None if dtype == torch.float16 and head_dim <= 8 else "not for these"

    entry = backends.Backend(attend, lambda: None, why_unfit)
    monkeypatch.setitem(backends.REGISTRY, "flash", entry)
    return calls


@torch.no_grad()
def test_auto_follows_the_weights_to_another_type_and_back(half_only):
    model = small_model(attention="auto")
    ids = random_ids(model, 1, 5)
    for dtype, name in ((None, "sdpa"), (torch.float16, "flash"), (torch.float32, "sdpa")):
        model.to(dtype=dtype)
        assert model.attention_backend == model.model.attention_backend == name
        half_only.clear()
        model(ids)
        assert half_only == ([torch.float16] * 2 if name == "flash" else [])


def test_auto_follows_the_weights_to_another_device(monkeypatch):
    entry = backends.Backend(
        backends.eager_attention,
        lambda: None,
        lambda device, *_: None if device.type == "meta" else "no",
    )
    monkeypatch.setitem(backends.REGISTRY, "flash", entry)
    model = small_model(attention="auto")
    assert model.attention_backend == "sdpa"
    assert model.to("meta").attention_backend == "flash"


def test_auto_knows_the_size_of_a_head(half_only):
    assert small_model(attention="auto", head_dim=16).half().attention_backend == "sdpa"


def test_a_loaded_model_picks_for_the_type_it_was_loaded_in(half_only, tmp_path):
    small_model().save_pretrained(tmp_path)
    for dtype, name in ((None, "sdpa"), (torch.float16, "flash")):
        model = MistralForCausalLM.from_pretrained(tmp_path, dtype=dtype)
        assert model.attention_backend == name


def test_a_backend_asked_for_by_name_stays_whatever_the_type(half_only):
    model = small_model(attention="eager")
    assert model.half().attention_backend == "eager"
