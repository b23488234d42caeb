"""Every backend equals the formula computed one head and one query at a time."""

import math

import pytest
import torch
from torch.nn.attention import flex_attention as library

from mistral_edu import backends, sdpa_attention, sliding_window
from tests.attention_cases import every_case, tensors
from tests.models import random_ids, small_model

# Those for the float32 tensors on a CPU that are used here; flash has tests of its own.
BACKENDS = [
    name
    for name, entry in backends.REGISTRY.items()
    if not (entry.why_unavailable() or entry.why_unfit(torch.device("cpu"), torch.float32))
]
WITH_GRADIENTS = [name for name in BACKENDS if name != "flex"]  # which has none on a CPU


@pytest.fixture(autouse=True)
def flex_without_tracing(monkeypatch):
    """The same formulas, without tracing them anew for every shape."""
    monkeypatch.setattr(library, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)


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


@pytest.mark.parametrize("name", WITH_GRADIENTS)
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
    def kernel(q, k, v, attn_mask, is_causal, enable_gqa):
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        return scores.masked_fill(~attn_mask, float("-inf")).softmax(-1) @ v

    monkeypatch.setattr(sdpa_attention.functional, "scaled_dot_product_attention", kernel)
    q, k, v, _, k_positions = random_case(0, 3, 5)
    q_positions = torch.tensor([[-1, 4, 20], [-1, -1, -1]])
    found = backends.sdpa_attention(q, k, v, q_positions, k_positions, 6)
    expected = attend_by_loops(q, k, v, q_positions, k_positions, 6)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", BACKENDS)
@torch.no_grad()
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


@pytest.mark.parametrize("device", ["cpu", "another"])
def test_fused_attention_equals_the_oracle_wherever_tokens_can_stand(monkeypatch, device):
    monkeypatch.setattr(sdpa_attention, "CPU_CHUNK", 4)  # so that small cases have several
    monkeypatch.setattr(sdpa_attention, "DEVICE_CHUNK", 5)
    if device == "another":  # the path of a GPU, taken here
        monkeypatch.setattr(sdpa_attention, "may_look", lambda x: False)
    for seed, (name, q_positions, k_positions, window) in enumerate(every_case()):
        q, k, v = tensors(seed, q_positions, k_positions)
        at = (q_positions, k_positions, window)
        found, expected = (
            f(q, k, v, *at) for f in (backends.sdpa_attention, backends.eager_attention)
        )
        assert (found - expected).abs().max() <= 2e-6, (name, window)


class Recorder:
    """The real kernel, and a note of what it was asked."""

    def __init__(self, monkeypatch):
        self.calls = []
        kernel = sdpa_attention.functional.scaled_dot_product_attention

        def record(q, k, v, attn_mask=None, is_causal=False, enable_gqa=False):
            self.calls.append((q.shape, k.shape, attn_mask, is_causal))
            return kernel(q, k, v, attn_mask=attn_mask, is_causal=is_causal, enable_gqa=enable_gqa)

        monkeypatch.setattr(sdpa_attention.functional, "scaled_dot_product_attention", record)

    def attend(self, q_positions, k_positions, window):
        self.calls.clear()
        q, k, v = tensors(0, q_positions, k_positions)
        backends.sdpa_attention(q, k, v, q_positions, k_positions, window)
        assert all(len(q) == len(k) == 4 for q, k, _, _ in self.calls)
        return self.calls


def test_inside_the_window_no_mask_is_made(monkeypatch):
    at = torch.arange(9).expand(2, 9)
    ((_, _, mask, is_causal),) = Recorder(monkeypatch).attend(at, at, 9)
    assert mask is None and is_causal


def test_beyond_the_window_each_chunk_has_only_its_own_keys(monkeypatch):
    monkeypatch.setattr(sdpa_attention, "CPU_CHUNK", 4)
    at = torch.arange(12).expand(2, 12)
    calls = Recorder(monkeypatch).attend(at, at, 3)
    assert [k[2] for _, k, _, _ in calls] == [4, 6, 6]  # 4 queries and the W − 1 before them
    padded = torch.tensor([[*range(12)], [-1] * 6 + [*range(6)]])
    calls = Recorder(monkeypatch).attend(padded, padded, 3)
    assert [k[2] for _, k, _, _ in calls] == [4, 6, 6]
    within = torch.tensor([[*range(8), -1, *range(8, 11)]])
    calls = Recorder(monkeypatch).attend(within, within, 3)
    assert [k[2] for _, k, _, _ in calls] == [4, 6, 6]


def test_one_query_brings_its_group_as_rows_and_a_full_ring_needs_no_mask(monkeypatch):
    ring = torch.tensor([[8, 9, 7], [3, 4, 5]])
    ((q, k, mask, is_causal),) = Recorder(monkeypatch).attend(torch.tensor([[9], [5]]), ring, 3)
    assert (q, k) == ((2, 2, 2, 6), (2, 2, 3, 6)) and mask is None and not is_causal


@pytest.mark.parametrize(
    ("most", "looks", "times"), [(10**6, True, 1), (100, True, 3), (10**6, False, 3)]
)
@torch.no_grad()
def test_masks_are_made_once_for_all_layers_of_a_cpu_if_they_are_small_enough_to_keep(
    monkeypatch, most, looks, times
):
    made = []

    def visible(*at):
        made.append(at)
        return sliding_window.visible(*at)

    monkeypatch.setattr(sdpa_attention, "visible", visible)
    monkeypatch.setattr(sdpa_attention, "KEPT", most)
    monkeypatch.setattr(sdpa_attention, "may_look", lambda x: looks)
    model = small_model(attention="sdpa", num_hidden_layers=3, sliding_window=4)
    model(random_ids(model, 2, 11))
    assert len(made) == times


def test_where_every_query_sees_something_nothing_is_wiped_afterwards():
    at = torch.arange(6)[None]
    (piece,) = sdpa_attention.cut(at, at, 3)
    assert piece.sight.mask is not None and piece.sight.blind is None
    (piece,) = sdpa_attention.cut(torch.tensor([[-1, 0, 5]]), at, 3)
    assert piece.sight.blind.flatten().tolist() == [True, False, False]


def test_off_the_cpu_grouped_heads_are_repeated_where_there_is_a_mask(monkeypatch):
    monkeypatch.setattr(sdpa_attention, "may_look", lambda x: False)
    at = torch.arange(6).expand(2, 6)
    ((q, k, mask, _),) = Recorder(monkeypatch).attend(at, at, 3)
    assert q[1] == k[1] == 4 and mask is not None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-4), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)]
)
def test_fused_attention_on_a_gpu_equals_the_oracle(dtype, bound):
    for seed, (name, q_positions, k_positions, window) in enumerate(every_case()):
        q, k, v = tensors(seed, q_positions, k_positions, dtype=dtype)
        at = (q_positions, k_positions)
        expected = backends.eager_attention(q.float(), k.float(), v.float(), *at, window)
        found = backends.sdpa_attention(*(x.to("cuda") for x in (q, k, v, *at)), window).cpu()
        assert (found - expected).abs().max() <= bound, (name, window)


def test_off_the_cpu_positions_are_never_looked_at():
    at = torch.arange(6, device="meta").expand(2, 6)  # looking at a meta tensor is an error
    for queries in (at, at[:, :1]):
        q, k, v = (x.to("meta") for x in tensors(0, queries, at))
        out = backends.sdpa_attention(q, k, v, queries, at, 3)
        assert out.shape == q.shape and out.is_meta
