"""FlashAttention: the real call sites, held against the oracle, on a stand-in or on a GPU."""

import importlib.util
import inspect
import sys
import weakref

import pytest
import torch
from torch.nn.attention import flex_attention as library
from torch.utils._python_dispatch import TorchDispatchMode

from mistral_edu import backends, flash_attention, flash_kernels, spans
from mistral_edu.flash_attention import flash_attention as attend
from tests import flash_stand_in
from tests.attention_cases import every_case, tensors
from tests.models import left_padded, random_ids, small_model

# Rounding alone moves an output between 2 and 4 by up to 1e-3 in float16, 8e-3 in bfloat16.
BOUND = {torch.float16: 2e-3, torch.bfloat16: 2e-2}


@pytest.fixture(params=["package", "bundled"])
def kernels(request, monkeypatch):
    """A machine with a GPU, as far as the code can tell, and either source of kernels."""
    pretend_a_gpu(monkeypatch)
    if request.param == "package":
        monkeypatch.setitem(sys.modules, "flash_attn", flash_stand_in)
    else:
        monkeypatch.setitem(sys.modules, "flash_attn", None)  # importing it fails
        monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
        packet = type("Packet", (), {"default": flash_stand_in.Operator()})
        monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", packet)
    flash_stand_in.calls.clear()
    yield request.param
    flash_kernels.find_kernels.cache_clear()


def pretend_a_gpu(monkeypatch, capability=(9, 0)):
    flash_kernels.find_kernels.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(flash_attention, "DEVICE", "cpu")


def sweep(device, dtype):
    """Every case against the float32 oracle; every other one where gradients are not wanted."""
    for seed, (name, q_positions, k_positions, window) in enumerate(every_case()):
        q, k, v = tensors(seed, q_positions, k_positions, dtype=dtype)
        at = (q_positions, k_positions, window)
        expected = backends.eager_attention(q.float(), k.float(), v.float(), *at)
        on = [x.to(device) for x in (q, k, v, *at[:2])]
        with torch.set_grad_enabled(seed % 2 == 0):
            found = attend(*on, window).cpu()
        assert found.dtype == dtype and found.shape == q.shape
        assert (found - expected).abs().max() <= BOUND[dtype], (name, window)
        blind = ~expected.flatten(2).any(dim=2)
        assert not found[blind].any(), (name, window)


@pytest.mark.parametrize("dtype", BOUND)
def test_flash_equals_the_oracle_wherever_tokens_can_stand(kernels, dtype):
    sweep("cpu", dtype)
    names = {name for name, _ in flash_stand_in.calls}
    both = {"flash_attn_varlen_func", "flash_attn_with_kvcache"}
    assert names == (both if kernels == "package" else {"_flash_attention_forward"})


@torch.no_grad()
def test_in_half_precision_all_backends_agree(kernels, monkeypatch):
    monkeypatch.setattr(library, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    for seed, (name, q_positions, k_positions, window) in enumerate(list(every_case())[::4]):
        q, k, v = tensors(seed, q_positions, k_positions, dtype=torch.float16)
        at = (q_positions, k_positions, window)
        results = [backends.get(other)(q, k, v, *at) for other in backends.REGISTRY]
        spread = torch.stack(results).float()
        assert (spread.amax(0) - spread.amin(0)).max() <= BOUND[torch.float16], (name, window)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("source", ["package", "bundled"])
@pytest.mark.parametrize("dtype", BOUND)
def test_the_real_kernels_equal_the_oracle(monkeypatch, source, dtype):
    flash_kernels.find_kernels.cache_clear()
    if source == "bundled":
        monkeypatch.setitem(sys.modules, "flash_attn", None)
    elif importlib.util.find_spec("flash_attn") is None:
        pytest.skip("flash-attn is not installed")
    try:
        sweep("cuda", dtype)
    finally:
        flash_kernels.find_kernels.cache_clear()


@pytest.mark.parametrize("window", [1, 3, 8, None])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (5, 5), (2, 6)])
def test_the_stand_in_itself_equals_the_oracle(window, queries, keys):
    k_positions = torch.arange(keys)[None]
    q_positions = k_positions[:, keys - queries :]
    q, k, v = tensors(0, q_positions, k_positions, dtype=torch.float16)
    at = (q_positions, k_positions, window)
    expected = backends.eager_attention(q.float(), k.float(), v.float(), *at)
    sides = flash_stand_in.bounds(True, (-1, -1) if window is None else (window - 1, 0))
    flat = [x[0].transpose(0, 1) for x in (q, k, v)]
    found = flash_stand_in.attend_one(*flat, 6**-0.5, *sides).transpose(0, 1)[None]
    assert (found - expected).abs().max() <= BOUND[torch.float16]


def test_the_stand_in_is_aligned_at_the_bottom_right_as_documented():
    # flash-attn's own picture: 5 queries over 2 keys, causal. Values of 1 show which rows see.
    q, k = torch.zeros(5, 1, 8).half(), torch.zeros(2, 1, 8).half()
    v = torch.tensor([1.0, 3.0]).half()[:, None, None].expand(2, 1, 8)
    out = flash_stand_in.attend_one(q, k, v, 1.0, -1, 0)[:, 0, 0]
    assert out.tolist() == [0, 0, 0, 1, 2]


def test_the_stand_in_takes_what_pytorchs_operator_takes():
    schema = torch.ops.aten._flash_attention_forward.default._schema.arguments
    known = [(a.name, a.kwarg_only) for a in schema]
    stand_in = inspect.signature(flash_stand_in._flash_attention_forward).parameters.values()
    ours = [(p.name, p.kind is p.KEYWORD_ONLY) for p in stand_in]
    assert known[: len(ours)] == ours  # later versions add to it, at the end


@pytest.mark.skipif(
    importlib.util.find_spec("flash_attn") is None, reason="flash-attn is not installed"
)
@pytest.mark.parametrize("name", ["flash_attn_varlen_func", "flash_attn_with_kvcache"])
def test_the_stand_in_takes_what_the_package_takes(name):
    import flash_attn

    theirs, ours = (inspect.signature(getattr(m, name)) for m in (flash_attn, flash_stand_in))
    assert [(p.name, p.default) for p in theirs.parameters.values()] == [
        (p.name, p.default) for p in ours.parameters.values()
    ]


def attend_at(q_positions, k_positions, window, head_dim=8):
    flash_stand_in.calls.clear()
    q, k, v = tensors(0, q_positions, k_positions, head_dim=head_dim, dtype=torch.float16)
    with torch.no_grad():
        attend(q, k, v, q_positions, k_positions, window)
    (call,) = flash_stand_in.calls
    return call[1]


def test_a_window_of_w_is_w_minus_1_to_the_left(kernels):
    at = torch.arange(9).expand(2, 9)
    for window, sides in ((4, (3, 0)), (1, (0, 0)), (None, (-1, -1))):
        call = attend_at(at, at, window)
        if kernels == "package":
            assert call["window_size"] == sides and call["causal"]
        else:
            assert (call["window_size_left"], call["window_size_right"]) == sides
            assert call["is_causal"]


def test_padding_never_reaches_a_kernel(kernels):
    at = torch.tensor([[-1, -1, 0, 1, 2], [0, 1, 2, 3, 4]])
    call = attend_at(at, at, 3)
    name = "cu_seqlens_q" if kernels == "package" else "cum_seq_q"
    assert call[name].tolist() == [0, 3, 8]


def test_a_full_ring_is_attended_to_without_a_window_or_a_copy(kernels):
    ring = torch.tensor([[8, 9, 7], [3, 4, 5]])
    call = attend_at(torch.tensor([[9], [5]]), ring, 3)
    if kernels == "package":
        assert call["cache_seqlens"].tolist() == [3, 3] and call["window_size"] == (-1, -1)
        assert call["k_cache"]._is_view()
    else:
        assert call["cum_seq_k"] is None and call["window_size_left"] is None
        assert call["key"]._is_view()


def test_a_ring_that_is_not_full_says_how_far_it_is(kernels):
    ring = torch.tensor([[8, 9, 7], [0, 1, -1]])
    call = attend_at(torch.tensor([[9], [1]]), ring, 3)
    assert call["cache_seqlens" if kernels == "package" else "seqused_k"].tolist() == [3, 2]


def test_packed_texts_share_no_keys(kernels):
    at = torch.tensor([[0, 1, 2, 20, 21, 40]])
    call = attend_at(at, at, 5)
    assert call["cu_seqlens_k" if kernels == "package" else "cum_seq_k"].tolist() == [0, 3, 5, 6]


class LargestTensor(TorchDispatchMode):
    """Remembers how many numbers the largest tensor has that any operation returns."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else (out,):
            if isinstance(x, torch.Tensor):
                self.most = max(self.most, x.numel())
        return out


def test_no_tensor_has_an_entry_for_every_query_and_key(kernels, monkeypatch):
    # A kernel that computes nothing leaves only what we do around it.
    monkeypatch.setattr(flash_stand_in, "sequences", lambda q, *rest, **named: q)
    at = torch.tensor([[-1, *range(511)], [*range(512)]])
    q, k, v = tensors(0, at, at, heads=2, shared=1, head_dim=8, dtype=torch.float16)
    with LargestTensor() as largest:
        attend(q, k, v, at, at, 64)
    assert 0 < largest.most < 512 * 512


PADDED = torch.tensor([[-1, -1, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5]])
RING = torch.tensor([[8, 9, 7], [0, 1, -1]])


@pytest.mark.parametrize(
    ("q_positions", "k_positions"), [(PADDED, PADDED), (torch.tensor([[9], [1]]), RING)]
)
def test_gradients_equal_those_of_the_oracle(kernels, q_positions, k_positions):
    given = tensors(1, q_positions, k_positions, dtype=torch.float16)
    pairs = []
    for function, dtype in ((attend, torch.float16), (backends.eager_attention, torch.float32)):
        own = [x.detach().clone().to(dtype).requires_grad_() for x in given]
        (function(*own, q_positions, k_positions, 3).float() ** 2).sum().backward()
        pairs.append([x.grad.float() for x in own])
    for found, expected in zip(*pairs, strict=True):
        assert (found - expected).abs().max() <= 2e-2
    assert not pairs[0][0].transpose(1, 2)[q_positions < 0].any()


@torch.no_grad()
def test_what_a_kernel_makes_of_a_row_without_keys_does_no_harm(kernels, monkeypatch):
    attend_one = flash_stand_in.attend_one

    def nan_without_keys(q, k, *rest):
        return attend_one(q, k, *rest) if len(k) else torch.full_like(q, float("nan"))

    monkeypatch.setattr(flash_stand_in, "attend_one", nan_without_keys)
    q_positions = torch.tensor([[9], [-1]])
    q, k, v = tensors(0, q_positions, RING, dtype=torch.float16)
    out = attend(q, k, v, q_positions, RING, 3)
    assert out[0].isfinite().all() and out[0].any() and not out[1].any()


@torch.no_grad()
def test_a_model_that_flash_cannot_serve_says_so_when_it_is_used(kernels):
    model = small_model(attention="flash")
    ids = random_ids(model, 1, 5)
    with pytest.raises(backends.BackendUnavailable, match="not in float32 on cpu: load the model"):
        model(ids)
    assert model.half()(ids).logits.isfinite().all()


@torch.no_grad()
def test_a_model_in_half_precision_says_the_same_with_flash(kernels):
    models = [small_model(attention=name).to(torch.float16) for name in ("flash", "eager")]
    texts = [random_ids(models[0], 1, length, seed=length)[0] for length in (3, 11, 14)]
    ids, mask = left_padded(texts)
    logits = []
    for model in models:
        cache, pieces = None, []
        for start, end in ((0, 6), (6, 12), (12, 13), (13, 14)):  # prefill, a chunk, two tokens
            output = model(
                ids[:, start:end],
                attention_mask=mask[:, start:end],
                past_key_values=cache,
                use_cache=True,
            )
            cache = output.past_key_values
            pieces.append(output.logits)
        logits.append(torch.cat(pieces, dim=1)[mask.bool()].float())
    found, expected = logits
    assert (found - expected).abs().max() <= 1e-2 * expected.abs().max()


def test_positions_are_planned_once_for_all_layers(kernels, monkeypatch):
    asked = []

    def plan(*at):
        asked.append(at)
        return spans.plan_runs(*at)

    monkeypatch.setattr(flash_attention, "runs_of", spans.once_per_chunk(plan))
    model = small_model(attention="flash", num_hidden_layers=5).to(torch.float16)
    model(random_ids(model, 2, 9))
    assert len(asked) == 1
    model(random_ids(model, 2, 9))
    assert len(asked) == 2


def test_a_plan_is_made_anew_when_positions_changed_in_place():
    plan = spans.once_per_chunk(spans.plan_runs)
    at = torch.tensor([[0, 1, 2]])
    assert plan(at, at, 2).key_bounds.tolist() == [0, 3]
    at[0, 0] = -1
    assert plan(at, at, 2).key_bounds.tolist() == [0, 2]
    with torch.inference_mode():
        at = torch.tensor([[0, 1, 2]])
        assert plan(at, at, 2).key_bounds.tolist() == [0, 3]
        at[0, 0] = -1
        assert plan(at, at, 2).key_bounds.tolist() == [0, 2]


def test_a_plan_goes_when_its_positions_go():
    plan = spans.once_per_chunk(spans.plan_runs)
    at = torch.tensor([[0, 1, 2]])
    kept = weakref.ref(plan(at, at, 2))
    assert plan(at, at, 2) is kept()
    del at
    assert kept() is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_precision_is_refused(kernels, dtype):
    at = torch.tensor([[0, 1]])
    q, k, v = tensors(0, at, at, dtype=dtype)
    with pytest.raises(backends.BackendUnavailable, match="not in float.*dtype=torch.bfloat16"):
        attend(q, k, v, at, at, 2)


def test_tensors_off_the_gpu_are_refused(kernels, monkeypatch):
    monkeypatch.setattr(flash_attention, "DEVICE", "cuda")
    at = torch.tensor([[0, 1]])
    q, k, v = tensors(0, at, at, dtype=torch.float16)
    with pytest.raises(backends.BackendUnavailable, match="not in float16 on cpu"):
        attend(q, k, v, at, at, 2)


def test_a_head_too_large_is_refused(kernels):
    at = torch.tensor([[0, 1]])
    q, k, v = tensors(0, at, at, head_dim=264, dtype=torch.float16)
    with pytest.raises(backends.BackendUnavailable, match="up to 256, got 264"):
        attend(q, k, v, at, at, 2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_flash_says_so():
    flash_kernels.find_kernels.cache_clear()
    with pytest.raises(backends.BackendUnavailable, match="needs a CUDA GPU.*attention='sdpa'"):
        backends.resolve("flash")
    at = torch.tensor([[0, 1]])
    with pytest.raises(backends.BackendUnavailable, match="needs a CUDA GPU"):
        attend(*tensors(0, at, at), at, at, 2)


def test_an_old_gpu_is_named(monkeypatch):
    pretend_a_gpu(monkeypatch, capability=(7, 5))
    assert "capability 8.0 or later, this one has 7.5" in flash_attention.why_unavailable()
    flash_kernels.find_kernels.cache_clear()


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("2.2.5", "flash-attn 2.2.5 knows no window, 2.3.0 or later does"),
        (None, "the package flash-attn does not import"),
    ],
)
def test_without_kernels_the_reason_says_what_to_install(monkeypatch, version, reason):
    pretend_a_gpu(monkeypatch)
    package = None
    if version:
        package = type(sys)("flash_attn")
        package.__version__ = version
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: False)
    found = flash_attention.why_unavailable()
    assert reason in found and 'pip install "mistral-edu[gpu]"' in found
    flash_kernels.find_kernels.cache_clear()


def test_auto_takes_flash_only_for_half_precision_on_the_gpu(kernels):
    assert backends.resolve("auto", "cpu", torch.bfloat16) == "flash"  # "cpu" plays the GPU here
    assert backends.resolve("auto", "cpu", torch.float32) == "sdpa"
    assert backends.resolve("auto", "cuda", torch.bfloat16) == "sdpa"
    assert backends.resolve("auto", "cpu", torch.bfloat16, head_dim=264) == "sdpa"
    assert backends.resolve("auto") == "sdpa"
