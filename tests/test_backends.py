"""Every backend equals the formula computed one head and one query at a time."""

import math

import pytest
import torch

from mistral_edu import backends
from tests.models import random_ids, small_model

BACKENDS = [name for name, reason in backends.available().items() if reason is None]


def attend_by_loops(q, k, v, q_positions, k_positions, window):
    """The definition, in float64: no masks, no broadcasting, no grouping tricks."""
    batch, heads, queries, head_dim = q.shape
    group = heads // k.shape[1]
    out = torch.zeros(q.shape, dtype=torch.float64)
    for b in range(batch):
        for h in range(heads):
            for t in range(queries):
                i = int(q_positions[b, t])
                seen = [
                    s
                    for s, j in enumerate(k_positions[b].tolist())
                    if 0 <= j <= i and (window is None or i - j < window)
                ]
                if not seen:
                    continue
                keys, values = k[b, h // group, seen].double(), v[b, h // group, seen].double()
                scores = keys @ q[b, h, t].double() / math.sqrt(head_dim)
                out[b, h, t] = scores.softmax(0) @ values
    return out


def random_case(seed, queries, keys, heads=4, shared=2, head_dim=8):
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(2, heads, queries, head_dim, generator=generator)
    k = torch.randn(2, shared, keys, head_dim, generator=generator)
    v = torch.randn(2, shared, keys, head_dim, generator=generator)
    q_positions = torch.randint(-1, 30, (2, queries), generator=generator)
    k_positions = torch.randint(-1, 30, (2, keys), generator=generator)
    return q, k, v, q_positions, k_positions


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("window", [1, 4, None])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 9), (5, 5), (3, 12)])
def test_a_backend_equals_the_definition_on_any_positions(name, window, queries, keys):
    for seed in range(5):
        case = random_case(seed, queries, keys)
        expected = attend_by_loops(*case, window)
        torch.testing.assert_close(
            backends.get(name)(*case, window).double(), expected, rtol=0, atol=2e-6
        )


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("shared", [1, 2, 4])
def test_consecutive_query_heads_share_a_key_value_head(name, shared):
    case = random_case(7, 4, 6, heads=4, shared=shared)
    expected = attend_by_loops(*case, 8)
    torch.testing.assert_close(backends.get(name)(*case, 8).double(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_query_that_sees_nothing_yields_zeros_and_finite_gradients(name, dtype):
    q, k, v, _, k_positions = random_case(0, 3, 5)
    q, k, v = (x.to(dtype).requires_grad_() for x in (q, k, v))
    q_positions = torch.tensor([[-1, 4, 20], [-1, -1, -1]])
    out = backends.get(name)(q, k, v, q_positions, k_positions, 6)
    assert out.dtype == dtype
    assert not out[:, :, 0].any() and not out[1].any()
    out.float().sum().backward()
    assert all(x.grad.isfinite().all() for x in (q, k, v))


def test_a_kernel_that_makes_nan_of_a_blind_row_does_no_harm(monkeypatch):
    # Kernels disagree: this CPU's gives zeros, others NaN. Here is one of the others.
    def kernel(q, k, v, attn_mask, enable_gqa):
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        return scores.masked_fill(~attn_mask, float("-inf")).softmax(-1) @ v

    monkeypatch.setattr(backends.functional, "scaled_dot_product_attention", kernel)
    q, k, v, _, k_positions = random_case(0, 3, 5)
    q_positions = torch.tensor([[-1, 4, 20], [-1, -1, -1]])
    found = backends.sdpa_attention(q, k, v, q_positions, k_positions, 6)
    expected = attend_by_loops(q, k, v, q_positions, k_positions, 6)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", BACKENDS)
def test_the_loss_over_a_long_text_is_the_same_under_every_backend(name):
    model, eager = small_model(attention=name), small_model(attention="eager")
    ids = random_ids(model, 2, 40)
    loss, expected = (m(ids, labels=ids).loss.item() for m in (model, eager))
    assert abs(loss - expected) <= 1e-5 * expected
    unlimited = small_model(attention=name, sliding_window=None)
    assert abs(unlimited(ids, labels=ids).loss.item() - expected) > 1e-2, "the window must matter"


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_half_precision_stays_within_its_bound(name, dtype, bound):
    q, k, v, q_positions, k_positions = random_case(3, 6, 11)
    halves = [x.to(dtype) for x in (q, k, v)]
    found = backends.get(name)(*halves, q_positions, k_positions, 9).double()
    expected = attend_by_loops(*halves, q_positions, k_positions, 9)
    assert (found - expected).abs().max() <= bound


def test_asking_for_an_unknown_backend_names_the_choices():
    with pytest.raises(ValueError, match="attention='fast'.*auto, eager, sdpa"):
        backends.resolve("fast")


def test_a_backend_that_cannot_run_says_why(monkeypatch):
    entry = backends.Backend(backends.eager_attention, lambda: "it needs a GPU; install one")
    monkeypatch.setitem(backends.REGISTRY, "flash", entry)
    with pytest.raises(
        backends.BackendUnavailable, match="'flash' cannot run here: it needs a GPU"
    ):
        backends.resolve("flash")
    assert backends.resolve("auto") == "sdpa"


def test_auto_takes_the_best_that_can_run(monkeypatch):
    entry = backends.Backend(backends.eager_attention, lambda: None)
    monkeypatch.setitem(backends.REGISTRY, "flash", entry)
    assert backends.resolve("auto") == "flash"
