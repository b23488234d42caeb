"""Pooling key/value heads: the loop of the paper, equal heads change nothing, query heads stay."""

import pytest
import torch

from mistral_edu import MistralForCausalLM, MistralModel
from mistral_edu.rope import halves_to_pairs, pairs_to_halves
from mistral_edu.weights.convert import convert
from mistral_edu.weights.pooling import (
    first_of_heads,
    mean_of_heads,
    pool_key_value_heads,
    pooled_config,
)
from tests.models import difference, random_ids, small_model

HEADS, D = 4, 8


def with_equal_groups(model, kept, dtype=torch.float32):
    """The model with every key/value head of a group replaced by a copy of the group's first."""
    model = model.to(dtype)
    heads = model.config.num_key_value_heads
    with torch.no_grad():
        for layer in model.model.layers:
            for projection in (layer.self_attn.k_proj, layer.self_attn.v_proj):
                groups = projection.weight.view(kept, heads // kept, D, -1)
                groups.copy_(groups[:, :1].clone().expand_as(groups))
    return model


@pytest.mark.parametrize("method", ["mean", "first"])
@pytest.mark.parametrize(("heads", "kept"), [(4, 4), (4, 2), (4, 1), (2, 1), (6, 2), (6, 3)])
def test_pooling_equals_the_loop(heads, kept, method):
    weight = torch.randn(heads * D, 5)
    group = heads // kept
    rows = []
    for new in range(kept):
        members = [weight[old * D : old * D + D] for old in range(new * group, new * group + group)]
        rows.append(sum(members) / group if method == "mean" else members[0])
    pool = mean_of_heads if method == "mean" else first_of_heads
    assert torch.allclose(pool(weight, heads, kept), torch.cat(rows), atol=1e-6)


@pytest.mark.parametrize("method", ["mean", "first"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kept", [1, 2, 4])
def test_equal_heads_pool_to_the_same_bits_and_the_same_logits(kept, dtype, method):
    model = with_equal_groups(small_model(num_key_value_heads=HEADS), kept, dtype)
    pooled = pool_key_value_heads(model, kept, method)
    for old, new in zip(model.model.layers, pooled.model.layers, strict=True):
        for name in ("k_proj", "v_proj"):
            heads = getattr(new.self_attn, name).weight.unflatten(0, (kept, D))
            repeated = heads.repeat_interleave(HEADS // kept, dim=0).flatten(0, 1)
            assert torch.equal(repeated, getattr(old.self_attn, name).weight)
    # Equal weights, but a matrix of another height: its sums may be taken in another order.
    ids = random_ids(model, 2, 13)
    rounding = torch.finfo(dtype).eps * 20
    assert difference(pooled(ids).logits, model(ids).logits) < rounding
    assert pooled.config.num_key_value_heads == kept


@pytest.mark.parametrize("heads", [3, 5, 6, 7])
def test_the_mean_of_equal_heads_changes_no_bit_whatever_their_number(heads):
    weight = torch.randn(1, D, 50).expand(heads, D, 50).reshape(heads * D, 50)
    assert torch.equal(mean_of_heads(weight, heads, 1), weight[:D])


def test_from_grouped_to_multi_query_goes_through_any_number_of_steps():
    model = small_model(num_key_value_heads=4)
    at_once = pool_key_value_heads(model, 1)
    in_steps = pool_key_value_heads(pool_key_value_heads(model, 2), 1)
    for one, other in zip(at_once.parameters(), in_steps.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("method", ["mean", "first", "random"])
def test_everything_but_keys_and_values_stays_and_is_a_copy(method):
    model = small_model(num_key_value_heads=4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pooled = pool_key_value_heads(model, 2, method)
    state = pooled.state_dict()
    for name, tensor in before.items():
        if "k_proj" in name or "v_proj" in name:
            assert state[name].shape == (2 * D, 32)
        else:
            assert torch.equal(state[name], tensor)
            state[name].zero_()
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)
    assert model.config.num_key_value_heads == 4
    assert all(parameter.requires_grad for parameter in pooled.parameters())


@pytest.mark.parametrize("pool", [mean_of_heads, first_of_heads])
def test_pooling_commutes_with_the_permutation(pool):
    weight = torch.randn(HEADS * D, 5)
    for kept in (1, 2, 4):
        first = pairs_to_halves(pool(weight, HEADS, kept), kept)
        assert torch.equal(first, pool(pairs_to_halves(weight, HEADS), HEADS, kept))
        assert torch.equal(halves_to_pairs(first, kept), pool(weight, HEADS, kept))


def test_random_heads_are_drawn_with_the_config_s_width_from_the_seed():
    model = small_model(hidden_size=256, num_key_value_heads=4, initializer_range=0.05)
    draws = {}
    for seed in (0, 0, 1):
        pooled = pool_key_value_heads(model, 2, "random", seed=seed)
        names = [n for n, _ in pooled.named_parameters() if "k_proj" in n or "v_proj" in n]
        draw = torch.stack([pooled.state_dict()[name] for name in names])
        assert torch.equal(draws.setdefault(seed, draw), draw)
    both = torch.cat([draws[0], draws[1]]).flatten(1)
    assert len(both.unique(dim=0)) == 8  # no two tensors share a draw, within a seed or across
    assert abs(both.std().item() - 0.05) < 0.002


def test_the_bare_model_and_tied_embeddings_pool_too():
    model = small_model(num_key_value_heads=4, tie_word_embeddings=True)
    pooled = pool_key_value_heads(model, 1)
    assert pooled.lm_head.weight is pooled.get_input_embeddings().weight
    bare = pool_key_value_heads(model.model, 1)
    assert type(bare) is MistralModel
    ids = random_ids(model, 1, 9)
    assert torch.equal(bare(ids).last_hidden_state, pooled.model(ids).last_hidden_state)


@pytest.mark.parametrize("count", [0, 3, 8, -1])
def test_heads_that_do_not_fall_into_groups_are_refused(count):
    with pytest.raises(
        ValueError, match=rf"={count} cannot be made of the model's 4: .*\[1, 2, 4\]"
    ):
        pooled_config(small_model(num_key_value_heads=4).config, count)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="method='median' is unknown: choose one of mean, first"):
        pool_key_value_heads(small_model(), 1, "median")


@pytest.mark.parametrize("method", ["mean", "first", "random"])
@pytest.mark.parametrize("layout", ["original", "hugging-face"])
def test_converting_pools_as_the_function_does(tmp_path, layout, method):
    model = small_model(num_key_value_heads=4)
    model.save_pretrained(tmp_path / "model")
    convert(tmp_path / "model", tmp_path / "pooled", to=layout, key_value_heads=2, pooling=method)
    again = MistralForCausalLM.from_pretrained(tmp_path / "pooled", attention="eager")
    expected = pool_key_value_heads(model, 2, method)
    ids = random_ids(model, 1, 13)
    assert torch.equal(again(ids).logits, expected(ids).logits)


def test_a_pooled_model_picks_its_attention_as_the_one_it_comes_from():
    for attention in ("auto", "eager"):
        pooled = pool_key_value_heads(small_model(attention=attention), 1)
        assert pooled.model.attention == attention
