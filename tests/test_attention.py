"""Grouped-query attention: which heads share a key, and what is left after pruning."""

import pytest
import torch

from mistral_edu.attention import GroupedQueryAttention
from mistral_edu.backends import get
from mistral_edu.chunk import plan_chunk
from mistral_edu.rope import rotate_halves, rotation
from tests.models import small_config
from tests.test_backends import attend_by_loops


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
@pytest.mark.parametrize(("heads", "shared"), [(4, 1), (4, 2), (4, 4), (6, 3)])
def test_the_block_follows_its_formula_head_by_head(backend, heads, shared):
    torch.manual_seed(0)
    config = small_config(num_attention_heads=heads, num_key_value_heads=shared, head_dim=8)
    block, x = GroupedQueryAttention(config, layer=0), torch.randn(2, 7, 32)
    out, _ = block(x, plan_chunk(config, x, get(backend)))
    at = torch.arange(7).expand(2, 7)
    turn = rotation(at, 8, config.rope_theta)
    q, k, v = (
        (x @ linear.weight.T).unflatten(-1, (-1, 8)).transpose(1, 2)
        for linear in (block.q_proj, block.k_proj, block.v_proj)
    )
    mixed = attend_by_loops(rotate_halves(q, *turn), rotate_halves(k, *turn), v, at, at, 4)
    expected = mixed.transpose(1, 2).flatten(2).float() @ block.o_proj.weight.T
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


def test_a_query_head_listens_to_its_own_key_value_head_only():
    torch.manual_seed(0)
    config = small_config()  # 4 query heads, 2 key/value heads: 0, 1 → 0 and 2, 3 → 1
    block, x = GroupedQueryAttention(config, layer=0), torch.randn(1, 5, 32)
    heads_out = []
    block.o_proj.register_forward_pre_hook(lambda module, given: heads_out.append(given[0]))
    block(x, plan_chunk(config, x, get("eager")))
    block.v_proj.weight.data[8:] = 0  # silence key/value head 1
    block(x, plan_chunk(config, x, get("eager")))
    before, after = (out.unflatten(-1, (4, 8)) for out in heads_out)
    assert torch.equal(before[:, :, :2], after[:, :, :2])
    assert not after[:, :, 2:].any()


def test_pruning_keeps_the_right_rows_columns_and_partners():
    config = small_config(pruned_heads={1: [0, 3]})
    whole, pruned = GroupedQueryAttention(config, 0), GroupedQueryAttention(config, 1)
    assert whole.q_proj.weight.shape == (32, 32) and not whole.is_pruned
    assert pruned.q_proj.weight.shape == (16, 32)
    assert pruned.o_proj.weight.shape == (32, 16)
    assert pruned.k_proj.weight.shape == (16, 32), "keys and values stay as they are cached"
    assert (pruned.heads, pruned.shared) == ([1, 2], [0, 1])
    before = pruned.q_proj.weight.clone()
    pruned.prune([3])
    assert torch.equal(pruned.q_proj.weight, before), "head 3 is gone already"
    pruned.prune([1])
    assert torch.equal(pruned.q_proj.weight, before[8:])
    assert (pruned.heads, pruned.shared) == ([2], [1])
    assert (pruned.q_proj.out_features, pruned.o_proj.in_features) == (8, 8)
