"""The assembled model: shapes, positions, outputs, head masks, and the numbers of the 7B."""

import pytest
import torch

from mistral_edu import MistralConfig, MistralForCausalLM, MistralModel
from mistral_edu.heads import next_token_loss
from mistral_edu.inputs import token_positions
from tests.models import difference, oracle_logits, random_ids, small_model


def test_the_7b_has_exactly_7241732096_parameters():
    with torch.device("meta"):
        model = MistralForCausalLM(MistralConfig.mistral_7b_v0_1())
        bare = MistralModel(MistralConfig.mistral_7b_v0_1())
    assert model.num_parameters() == 7_241_732_096
    assert bare.num_parameters() == 7_110_660_096
    assert len(model.state_dict()) == 291


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


def test_tuples_come_in_the_documented_order():
    model = small_model()
    ids = random_ids(model, 1, 4)
    options = dict(output_hidden_states=True, output_attentions=True)
    named = model(ids, labels=ids, **options)
    plain = model(ids, labels=ids, return_dict=False, **options)
    names = ["loss", "logits", "past_key_values", "hidden_states", "attentions"]
    assert len(plain) == len(names) == len(named)
    for value, name in zip(plain, names, strict=True):
        assert type(value) is type(named[name])
    assert torch.equal(named[1], named.logits)
    assert model(ids, use_cache=False, return_dict=False)[0].shape == (1, 4, 64)


def test_embeddings_may_be_given_instead_of_ids():
    model = small_model()
    ids = random_ids(model, 1, 4)
    found = model(inputs_embeds=model.get_input_embeddings()(ids)).logits
    assert torch.equal(found, model(ids).logits)


@pytest.mark.parametrize(
    "given",
    [{}, {"input_ids": torch.ones(1, 1, dtype=torch.long), "inputs_embeds": torch.ones(1, 1, 32)}],
)
def test_ids_and_embeddings_exclude_each_other(given):
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
        small_model()(**given)


@pytest.mark.parametrize("bad", [64, -1])
def test_ids_outside_the_vocabulary_are_named(bad):
    with pytest.raises(ValueError, match=f"{bad}.*vocab_size=64"):
        small_model()(torch.tensor([[1, bad]]))


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


def test_positions_shifted_by_a_constant_change_nothing():
    model = small_model()
    ids = random_ids(model, 1, 9)
    shifted = model(ids, position_ids=torch.arange(100, 109)[None]).logits
    assert difference(shifted, oracle_logits(model, ids)) <= 1e-5


def test_positions_count_from_the_cache_and_skip_padding():
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    found = token_positions(2, 3, attention_mask=mask, seen=torch.tensor([4, 0]))
    assert found.tolist() == [[-1, 4, 5], [0, 1, 2]]


def test_a_mask_shorter_than_the_text_is_refused():
    with pytest.raises(ValueError, match=r"attention_mask has shape \(1, 2\), expected \(1, 3\)"):
        token_positions(1, 3, attention_mask=torch.ones(1, 2))


def test_a_masked_head_contributes_nothing():
    model = small_model()
    ids = random_ids(model, 1, 5)
    mask = torch.ones(2, 4)
    assert torch.equal(model(ids, head_mask=mask).logits, model(ids).logits)
    mask[1, 2] = 0
    masked = model(ids, head_mask=mask).logits
    model.model.layers[1].self_attn.o_proj.weight.data[:, 16:24] = 0  # the columns of head 2
    assert difference(masked, model(ids).logits) <= 1e-6


def test_the_loss_predicts_the_next_token_and_skips_ignored_labels():
    model = small_model()
    ids = random_ids(model, 2, 5)
    labels = ids.clone()
    labels[0, 3:] = -100
    output = model(ids, labels=labels)
    logs = output.logits.log_softmax(-1)
    picked = [
        logs[b, t, ids[b, t + 1]] for b in range(2) for t in range(4) if labels[b, t + 1] != -100
    ]
    assert torch.allclose(output.loss, -torch.stack(picked).mean())


def test_a_batch_whose_labels_are_all_ignored_has_loss_zero_and_zero_gradients():
    logits = torch.randn(1, 3, 8, requires_grad=True)
    loss = next_token_loss(logits, torch.full((1, 3), -100))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_only_the_logits_asked_for_are_computed():
    model = small_model()
    ids = random_ids(model, 1, 5)
    found = model(ids, logits_to_keep=2).logits
    assert difference(found, model(ids).logits[:, -2:]) <= 1e-6


def test_tied_embeddings_share_one_matrix():
    model = small_model(tie_word_embeddings=True)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    untied = small_model()
    assert untied.num_parameters() - model.num_parameters() == 64 * 32


def test_fresh_weights_have_the_configured_spread_and_a_zero_padding_row():
    model = small_model(initializer_range=0.05, pad_token_id=7)
    assert abs(model.lm_head.weight.std().item() - 0.05) < 0.005
    assert not model.get_input_embeddings().weight[7].any()
    assert torch.equal(model.model.norm.weight, torch.ones(32))
