"""What every model shares: embeddings, resizing, pruning, checkpointing, fresh weights."""

import pytest
import torch
from torch import nn

from mistral_edu import MistralForCausalLM, MistralModel
from mistral_edu.heads import MistralForSequenceClassification
from tests.models import chunked_logits, difference, random_ids, small_config, small_model

CLASSES = [MistralModel, MistralForCausalLM, MistralForSequenceClassification]


def test_the_decoder_is_found_with_and_without_a_head():
    for kind in CLASSES:
        model = kind(small_config())
        assert model.get_input_embeddings().weight.shape == (64, 32)
        has_head = kind is MistralForCausalLM
        assert (model.get_output_embeddings() is not None) == has_head
        assert model.device == torch.device("cpu") and model.dtype == torch.float32


def test_tied_embeddings_share_one_matrix():
    model = small_model(tie_word_embeddings=True)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    untied = small_model()
    assert untied.num_parameters() - model.num_parameters() == 64 * 32


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("size", [40, 64, 65, 100])
def test_resizing_keeps_the_rows_there_were_and_draws_the_others(size, tied):
    model = small_model(tie_word_embeddings=tied)
    ids = torch.randint(3, 40, (1, 6))
    before, table = model(ids).logits, model.get_input_embeddings().weight.clone()
    returned = model.resize_token_embeddings(size)
    assert returned is model.get_input_embeddings()
    kept = min(size, 64)
    after = model(ids).logits
    assert after.shape == (1, 6, size)
    assert torch.equal(after[..., :kept], before[..., :kept])
    assert torch.equal(returned.weight[:kept], table[:kept])
    assert returned.num_embeddings == model.lm_head.out_features == size
    assert model.config.vocab_size == model.model.config.vocab_size == size
    assert (model.lm_head.weight is returned.weight) == tied
    if size > 64:
        model(torch.tensor([[size - 1]]), labels=torch.tensor([[size - 1]])).logits.sum().backward()
        assert returned.weight[64:].std() > 0.1, "initializer_range is 0.3"


def test_resizing_to_nothing_in_particular_returns_the_table():
    model = small_model()
    assert model.resize_token_embeddings() is model.get_input_embeddings()
    with pytest.raises(ValueError, match="vocab_size=0"):
        model.resize_token_embeddings(0)
    padded = small_model(pad_token_id=50)
    with pytest.raises(ValueError, match="pad_token_id=50 .* vocab_size=50"):
        padded.resize_token_embeddings(50)
    assert padded.get_input_embeddings().weight.shape == (64, 32), "refused before any change"


def test_a_model_without_a_head_is_resized_too():
    bare = small_model().model
    bare.resize_token_embeddings(70)
    assert bare(torch.tensor([[69]])).last_hidden_state.shape == (1, 1, 32)


def test_a_resized_model_saves_and_loads(tmp_path):
    model = small_model()
    model.resize_token_embeddings(70)
    model.save_pretrained(tmp_path)
    again = MistralForCausalLM.from_pretrained(tmp_path, attention="eager")
    ids = torch.tensor([[3, 66, 69]])
    assert torch.equal(again(ids).logits, model(ids).logits)


def test_models_built_from_one_config_do_not_change_each_other():
    config = small_config()
    first, second = MistralForCausalLM(config), MistralForCausalLM(config)
    first.resize_token_embeddings(70)
    first.prune_heads({0: [1]})
    assert second.config.vocab_size == config.vocab_size == 64
    assert second.config.pruned_heads == config.pruned_heads == {}


def test_new_embeddings_take_the_place_of_the_old_and_a_tied_head_follows():
    table = nn.Embedding(64, 32)
    for tied in (False, True):
        model = small_model(tie_word_embeddings=tied)
        model.set_input_embeddings(table)
        assert model.get_input_embeddings() is model.model.embed_tokens is table
        assert (model.lm_head.weight is table.weight) == tied
    with pytest.raises(ValueError, match=r"the table has shape \(65, 32\), expected \(64, 32\)"):
        model.set_input_embeddings(nn.Embedding(65, 32))


def test_a_new_head_takes_the_place_of_the_old():
    model, head = small_model(), nn.Linear(32, 64, bias=False)
    model.set_output_embeddings(head)
    assert model.get_output_embeddings() is model.lm_head is head
    with pytest.raises(ValueError, match=r"the head has shape \(64, 31\)"):
        model.set_output_embeddings(nn.Linear(31, 64))
    with pytest.raises(ValueError, match="replace that with set_input_embeddings"):
        small_model(tie_word_embeddings=True).set_output_embeddings(head)
    with pytest.raises(ValueError, match="MistralModel has no LM head"):
        small_model().model.set_output_embeddings(head)


PRUNED = [
    {0: [1]},
    {1: [0, 1]},  # all queries of one key/value head
    {0: [0, 2], 1: [3]},
    {0: [0, 1, 2], 1: [1, 2, 3]},
]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("heads", PRUNED)
def test_pruned_heads_equal_heads_masked_to_zero(heads, attention):
    model = small_model(attention=attention)
    ids = random_ids(model, 2, 13)
    mask = torch.ones(2, 4)
    for layer, gone in heads.items():
        mask[layer, gone] = 0
    expected = model(ids, head_mask=mask)
    halved = model(ids, head_mask=mask / 2).logits
    full = model.num_parameters()
    model.prune_heads(heads)
    assert difference(model(ids).logits, expected.logits) <= 1e-6
    assert difference(chunked_logits(model, ids, 3), expected.logits) <= 1e-5
    gone = sum(map(len, heads.values()))
    assert full - model.num_parameters() == gone * 2 * 8 * 32
    assert model.config.pruned_heads == heads == model.model.config.pruned_heads
    both = model(ids, head_mask=torch.tensor([0.5] * 4)).logits
    assert difference(both, halved) <= 1e-6, "a head mask goes by the full model's heads"


def test_pruning_twice_adds_up_and_names_heads_by_the_full_model():
    model, once = small_model(), small_model()
    model.prune_heads({0: [1], 1: [2]})
    model.prune_heads({0: [1, 3]})
    once.prune_heads({0: [1, 3], 1: [2]})
    ids = random_ids(model, 1, 7)
    assert torch.equal(model(ids).logits, once(ids).logits)
    assert model.config.pruned_heads == {0: [1, 3], 1: [2]}


def test_a_pruned_model_saves_and_loads(tmp_path):
    model = small_model()
    model.prune_heads({0: [1], 1: [0, 3]})
    model.save_pretrained(tmp_path)
    again = MistralForCausalLM.from_pretrained(tmp_path, attention="eager")
    ids = random_ids(model, 1, 7)
    assert torch.equal(again(ids).logits, model(ids).logits)
    weights = model(ids, output_attentions=True).attentions
    assert [layer.shape[1] for layer in weights] == [3, 2]


@pytest.mark.parametrize(
    ("heads", "message"),
    [({2: [0]}, "layer 2"), ({0: [4]}, r"heads \[4\]"), ({0: range(4)}, "none of its 4 heads")],
)
def test_heads_that_cannot_go_are_refused_before_any_change(heads, message):
    model = small_model()
    with pytest.raises(ValueError, match=message):
        model.prune_heads({1: [0], **heads})
    assert model.config.pruned_heads == {}
    assert model.model.layers[1].self_attn.q_proj.weight.shape == (32, 32)


def trained(checkpointing):
    """Loss, gradients and the bytes kept for the backward pass."""
    model = small_model(num_hidden_layers=4).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    ids, kept = random_ids(model, 2, 32), {}

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(ids, labels=ids, output_hidden_states=True, output_attentions=True)
    output.loss.backward()
    assert output.past_key_values is None or not checkpointing
    assert (len(output.hidden_states), len(output.attentions)) == (5, 4)
    gradients = {name: p.grad for name, p in model.named_parameters()}
    weights = {p.data_ptr() for p in model.parameters()}
    return output.loss, gradients, sum(n for at, n in kept.items() if at not in weights)


def test_checkpointing_keeps_less_and_computes_the_same():
    loss, gradients, kept = trained(checkpointing=False)
    same_loss, same_gradients, less = trained(checkpointing=True)
    assert torch.equal(loss, same_loss)
    for name, gradient in gradients.items():
        assert difference(same_gradients[name], gradient) <= 1e-6, name
    assert less < kept / 4, (less, kept)


def test_checkpointing_is_off_again_on_request_in_evaluation_and_without_gradients():
    model = small_model().train()
    model.gradient_checkpointing_enable()
    ids = random_ids(model, 1, 5)
    with pytest.raises(ValueError, match="do not go with gradient checkpointing"):
        model(ids, use_cache=True)
    assert model(ids).past_key_values is None
    with torch.no_grad():
        assert model(ids).past_key_values is not None
    assert model.eval()(ids).past_key_values is not None
    model.train().gradient_checkpointing_disable()
    assert model(ids, use_cache=True).past_key_values is not None


@pytest.mark.parametrize("kind", CLASSES)
def test_fresh_weights_have_the_configured_spread_and_a_zero_padding_row(kind):
    torch.manual_seed(0)
    model = kind(small_config(initializer_range=0.05, pad_token_id=7))
    for name, weight in model.named_parameters():
        if weight.dim() == 2 and weight.numel() > 500:
            assert abs(weight.std().item() - 0.05) < 0.005, name
            assert abs(weight.mean().item()) < 0.005, name
    assert not model.get_input_embeddings().weight[7].any()
    assert all((p == 1).all() for name, p in model.named_parameters() if "norm" in name)
