"""FlexAttention: its blocks agree with the visibility rule, its results with the oracle."""

import shutil

import pytest
import torch
from torch.nn.attention import flex_attention as library

from mistral_edu import backends, flex_attention
from mistral_edu.sliding_window import visible
from tests.attention_cases import every_case, tensors
from tests.models import chunked_logits, difference, oracle_logits, random_ids, small_model

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


def positions_of_300():
    """Left padding, one text, two packed texts: longer than two blocks."""
    packed = [*range(150), *range(500, 650)]
    return torch.tensor([[-1] * 5 + [*range(295)], [*range(300)], packed])


@pytest.mark.parametrize("size", [1, 2, 4])
def test_no_visible_pair_is_in_a_block_that_is_skipped_and_all_are_visible_in_a_full_one(size):
    for name, q_positions, k_positions, window in every_case():
        blocks = flex_attention.find_blocks(q_positions, k_positions, window, size)
        seen = visible(q_positions, k_positions, window)
        by_pair = [
            x.repeat_interleave(size, 1).repeat_interleave(size, 2)[:, : seen.shape[1]]
            for x in (blocks.partial, blocks.full)
        ]
        partial, full = (x[:, :, : seen.shape[2]] for x in by_pair)
        assert not (seen & ~partial & ~full).any(), (name, window)
        assert not (full & ~seen).any(), (name, window)
        assert not (partial & full).any(), (name, window)


def test_blocks_outside_the_band_are_skipped_and_inside_it_the_rule_is_not_asked():
    at = torch.arange(16)[None]
    blocks = flex_attention.find_blocks(at, at, 8, 2)
    seen = visible(at, at, 8)[0].unflatten(0, (8, 2)).unflatten(2, (8, 2)).transpose(1, 2)
    assert torch.equal(blocks.full[0], seen.all(dim=3).all(dim=2))
    assert torch.equal((blocks.partial | blocks.full)[0], seen.any(dim=3).any(dim=2))


def test_the_rule_for_pairs_is_the_visibility_rule():
    for name, q_positions, k_positions, window in every_case():
        rule = flex_attention.visibility_mod(q_positions, k_positions, window)
        shape = (len(q_positions), q_positions.shape[1], k_positions.shape[1])
        row, query, key = torch.meshgrid(*map(torch.arange, shape), indexing="ij")
        seen = rule(row, torch.zeros_like(row), query, key)
        assert torch.equal(seen, visible(q_positions, k_positions, window)), (name, window)


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 2e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)]
)
def test_flex_equals_the_oracle_wherever_tokens_can_stand(monkeypatch, dtype, bound):
    # The switch runs the same formulas without tracing each shape first.
    monkeypatch.setattr(library, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    cases = list(every_case())[:: 1 if dtype == torch.float32 else 5]
    for seed, (name, q_positions, k_positions, window) in enumerate(cases):
        q, k, v = tensors(seed, q_positions, k_positions, dtype=dtype)
        at = (q_positions, k_positions, window)
        expected = backends.eager_attention(q.float(), k.float(), v.float(), *at)
        found = flex_attention.flex_attention(q, k, v, *at)
        assert found.dtype == dtype
        assert (found - expected).abs().max() <= bound, (name, window)


@torch.no_grad()
def test_a_text_in_chunks_through_a_wrapping_ring_equals_the_oracle():
    model = small_model(attention="flex")
    ids = random_ids(model, 2, 13)
    expected = oracle_logits(model, ids)
    for size in (1, 5, 13):
        assert difference(chunked_logits(model, ids, size), expected) <= 1e-5


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs g++")
@torch.no_grad()
def test_a_compiled_kernel_that_skips_blocks_equals_the_oracle(monkeypatch):
    # Uncompiled, the lists of blocks are not used: this is where a wrong list would show.
    kernel = torch.compile(library.flex_attention, fullgraph=True)
    monkeypatch.setattr(flex_attention, "_kernel", lambda is_compiled: kernel)
    at = positions_of_300()
    for window in (100, None):
        q, k, v = tensors(0, at, at, head_dim=16)
        expected = backends.eager_attention(q, k, v, at, at, window)
        found = flex_attention.flex_attention(q, k, v, at, at, window)
        assert (found - expected).abs().max() <= 2e-6, window


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_the_kernel_compiled_for_a_gpu_equals_the_oracle_with_gradients(dtype, bound):
    at = positions_of_300()
    for window in (100, 200, None):
        given = tensors(0, at, at, head_dim=64, dtype=dtype)
        results = []
        for function, device, kind in (
            (flex_attention.flex_attention, "cuda", dtype),
            (backends.eager_attention, "cpu", torch.float32),
        ):
            own = [x.detach().clone().to(device, kind).requires_grad_() for x in given]
            out = function(*own, at.to(device), at.to(device), window)
            out.float().sum().backward()
            results.append([out.detach().float().cpu(), *(x.grad.float().cpu() for x in own)])
        (found, *gradients), (expected, *wanted) = results
        assert (found - expected).abs().max() <= bound, window
        for gradient, right in zip(gradients, wanted, strict=True):
            assert (gradient - right).abs().max() <= 10 * bound * right.abs().max()


def test_gradients_on_a_cpu_are_refused_with_what_to_do():
    at = torch.tensor([[0, 1]])
    q, k, v = (x.requires_grad_() for x in tensors(0, at, at))
    with pytest.raises(backends.BackendUnavailable, match="no gradients on a CPU.*torch.no_grad"):
        flex_attention.flex_attention(q, k, v, at, at, 2)


def test_blocks_are_found_once_for_all_layers(monkeypatch):
    asked = []

    def plan(*at):
        asked.append(at)
        return flex_attention.plan_blocks(*at)

    monkeypatch.setattr(flex_attention, "plan_of", flex_attention.once_per_chunk(plan))
    model = small_model(attention="flex", num_hidden_layers=4)
    with torch.no_grad():
        model(random_ids(model, 1, 5))
    assert len(asked) == 1


def test_what_a_kernel_makes_of_a_query_that_sees_nothing_does_no_harm(monkeypatch):
    def kernel(q, k, v, block_mask, enable_gqa):
        return torch.full_like(q, float("nan"))

    monkeypatch.setattr(flex_attention, "_kernel", lambda is_compiled: kernel)
    at = torch.tensor([[-1, -1]])
    q, k, v = tensors(0, at, at)
    assert not flex_attention.flex_attention(q, k, v, at, at, 2).any()
