"""The engine says what the plain model says, by other means."""

import gc
import random
import weakref
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mistral_edu import MistralForCausalLM, RollingCache, flash_kernels
from mistral_edu.engine import Engine
from mistral_edu.engine_checks import require_column, require_fit
from mistral_edu.engine_kernel import why_uncompiled
from mistral_edu.quantized_model import quantize_model
from tests import flash_stand_in
from tests.models import (
    difference,
    left_padded,
    random_config,
    random_ids,
    small_model,
)
from tests.test_flash_attention import pretend_a_gpu

BOUND = 1e-5  # of the largest score: sums of float32 in another order
STEPS = 16


class Alive(TorchDispatchMode):
    """Remembers the most bytes that tensors held at once."""

    def __init__(self):
        super().__init__()
        self.held, self.most = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else (out,):
            if isinstance(x, torch.Tensor):
                storage = x.untyped_storage()
                if storage.data_ptr() not in self.held:
                    weakref.finalize(storage, self.held.pop, storage.data_ptr(), None)
                self.held[storage.data_ptr()] = storage.nbytes()
        self.most = max(self.most, sum(self.held.values()))
        return out


def prompts(model, rows, seed, longest=20):
    """Left-padded prompts of random lengths, one of them a single token if there are several."""
    draw = random.Random(seed)
    lengths = [draw.randint(1, longest) for _ in range(rows - 1)]
    lengths = [*lengths, 1 if rows > 1 else draw.choice([1, longest])]
    return left_padded([random_ids(model, 1, n, seed=seed + n)[0] for n in lengths])


def continued(ids, mask, seed=0, steps=STEPS):
    """The batch with so many more columns of random tokens, and its mask."""
    more = torch.randint(3, 40, (len(ids), steps), generator=torch.Generator().manual_seed(seed))
    return torch.cat([ids, more], dim=1), torch.cat([mask, torch.ones_like(more)], dim=1)


@torch.no_grad()
def oracle(model, text, mask, prompt):
    """Scores after the prompt and after each further token: one pass, no cache, eager, float32."""
    eager = MistralForCausalLM(model.config, attention="eager").eval()
    eager.load_state_dict(model.state_dict())
    return eager(text, attention_mask=mask, use_cache=False).logits[:, prompt - 1 :]


def engine_scores(engine, text, mask, prompt):
    """The same from an engine, fed one token at a time after the prompt."""
    scores = [engine.prefill(text[:, :prompt], mask[:, :prompt])]
    scores += [engine.step(text[:, at]) for at in range(prompt, text.shape[1])]
    return torch.stack(scores, dim=1)


@pytest.mark.parametrize("multiply", ["plain", "compiled"])
@pytest.mark.parametrize("seed", range(20))
def test_scores_equal_the_oracle_on_random_models_and_batches(seed, multiply):
    if multiply == "compiled" and (reason := why_uncompiled(torch.zeros(1, 1))):
        pytest.skip(reason)
    torch.manual_seed(seed)
    model = MistralForCausalLM(random_config(seed), attention="sdpa").eval()
    rows = (1, 3, 8)[seed % 3]
    ids, mask = prompts(model, rows, seed)
    text, seen = continued(ids, mask)
    expected = oracle(model, text, seen, ids.shape[1])
    chunk = random.Random(seed).choice([1, 5 * rows, 7 * rows, 1000])
    engine = Engine(model, rows, max_chunk=chunk, capacity=text.shape[1], multiply=multiply)
    engine.prefill(text, seen)  # what an earlier text left behind does no harm
    found = engine_scores(engine, text, seen, ids.shape[1])
    assert difference(found, expected) <= BOUND


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sixty_four_rows_are_continued_at_once(dtype):
    model = small_model(sliding_window=10)
    ids, mask = prompts(model, 64, seed=0)
    text, seen = continued(ids, mask)
    expected = oracle(model, text, seen, ids.shape[1])
    found = engine_scores(Engine(model.to(dtype), 64), text, seen, ids.shape[1])
    assert difference(found, expected) <= (BOUND if dtype == torch.float32 else 0.1)


@pytest.mark.parametrize("chunk", [1, 3, 4, 5, 12, 13, 100])
def test_prefill_in_any_chunks_equals_the_oracle(chunk):
    model = small_model()  # W = 4: a prompt of 13 wraps three times
    ids, mask = left_padded([random_ids(model, 1, n, seed=n)[0] for n in (13, 4)])
    text, seen = continued(ids, mask, steps=6)
    engine = Engine(model, 2, max_chunk=2 * chunk)
    assert difference(engine_scores(engine, text, seen, 13), oracle(model, text, seen, 13)) <= BOUND


@pytest.mark.parametrize("capacity", [9, 10, 50])
def test_a_capacity_below_the_window_changes_nothing_but_the_memory(capacity):
    model = small_model(sliding_window=10)
    ids = random_ids(model, 1, 4)
    text, mask = continued(ids, torch.ones_like(ids), steps=5)
    engine = Engine(model, capacity=capacity)
    assert difference(engine_scores(engine, text, mask, 4), oracle(model, text, mask, 4)) <= BOUND
    config = model.config
    cache = RollingCache.allocate(config, 1, capacity=capacity)
    assert engine.cache_bytes == cache.nbytes


def test_a_quantized_model_says_the_same_as_an_engine():
    model = quantize_model(small_model())
    ids = random_ids(model, 2, 6)
    text, mask = continued(ids, torch.ones_like(ids), steps=6)
    with torch.no_grad():
        expected = model(text, use_cache=False).logits[:, 5:]
    assert difference(engine_scores(Engine(model, 2), text, mask, 6), expected) <= BOUND


def test_memory_does_not_grow_with_the_prompt():
    model, most = small_model(), []
    engine = Engine(model, max_chunk=8)
    for length in (16, 48):
        ids = random_ids(model, 1, length)
        with Alive() as alive:
            engine.prefill(ids)
        most.append(alive.most - 2 * ids.nbytes)  # the prompt, and which of it is padding
    assert 0 < most[1] <= most[0]


def test_a_step_reads_no_further_than_the_ring_is_filled(monkeypatch):
    model, read = small_model(sliding_window=64), []
    attend = torch.nn.functional.scaled_dot_product_attention

    def noted(q, k, v, mask=None, **named):
        read.append((k.shape[2], mask is not None))
        return attend(q, k, v, mask, **named)

    engine = Engine(model, multiply="plain")
    engine.prefill(random_ids(model, 1, 9))
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noted)
    engine.step(torch.tensor([5]))
    assert read == [(10, False)] * 2


def test_what_changes_a_weight_in_place_changes_the_engine():
    model = small_model()
    engine, ids = Engine(model), random_ids(model, 1, 5)
    before = engine.prefill(ids)
    with torch.no_grad():
        model.model.layers[1].self_attn.v_proj.weight.mul_(-1)
        assert difference(engine.prefill(ids), model(ids).logits[:, -1]) <= BOUND
    assert difference(engine.prefill(ids), before) > 0.01


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_the_default_type_of_pytorch_changes_nothing(default):
    model, before = small_model(), torch.get_default_dtype()
    ids = random_ids(model, 2, 5)
    expected = Engine(model, 2).generate(ids, max_new_tokens=9, eos_token_id=())
    torch.set_default_dtype(default)
    try:
        engine = Engine(model, 2)
        assert torch.equal(engine.generate(ids, max_new_tokens=9, eos_token_id=()), expected)
    finally:
        torch.set_default_dtype(before)


def test_a_model_cast_in_part_is_refused_before_anything_is_touched():
    model = small_model().bfloat16()
    model.model.layers[1].input_layernorm.float()
    weight = model.model.layers[0].self_attn.q_proj.weight
    at = weight.data_ptr()
    with pytest.raises(ValueError, match=r"bfloat16 and float32.*cast it with model.to"):
        Engine(model)
    assert weight.data_ptr() == at


def test_rows_and_ids_that_do_not_fit_are_refused():
    model = small_model()
    engine = Engine(model, 2)
    with pytest.raises(ValueError, match="3 rows, but the engine was made for 2.*batch_size=3"):
        engine.prefill(random_ids(model, 3, 4))
    with pytest.raises(ValueError, match="1 rows"):
        engine.step(torch.tensor([3]))
    with pytest.raises(ValueError, match="range from 3 to 64, expected 0 to 63"):
        engine.prefill(torch.tensor([[3, 4], [5, 64]]))
    with pytest.raises(ValueError, match="range from -1"):
        engine.prefill(torch.tensor([[3, 4], [5, -1]]))
    with pytest.raises(ValueError, match="range from 3 to 99"):
        engine.step(torch.tensor([3, 99]))
    with pytest.raises(ValueError, match="record=True needs a CUDA GPU.*on cpu: leave record out"):
        Engine(model, record=True)
    with pytest.raises(ValueError, match="pad the batch on the left"):
        engine.prefill(torch.tensor([[3, 4], [5, 6]]), torch.tensor([[1, 1], [1, 0]]))
    for sizes, said in (((0, 1), "batch_size=0"), ((1, 0), "max_chunk=0"), ((1.5, 1), "=1.5")):
        with pytest.raises(ValueError, match=f"{said} must be a whole number, 1 or more"):
            require_fit(model, batch_size=sizes[0], max_chunk=sizes[1])
    for wrong in ("tiny", (model, None), model.model):
        with pytest.raises(ValueError, match="expected a MistralForCausalLM"):
            require_fit(wrong)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([3, 4], r"\[3, 4\]"),
        (torch.tensor([3.0, 4.0]), r"float32 of shape \(2,\)"),
        (torch.tensor([[3], [4]]), r"int64 of shape \(2, 1\)"),
        (torch.tensor([True, False]), r"bool of shape \(2,\)"),
    ],
)
def test_a_step_takes_one_whole_number_for_each_row(ids, said):
    with pytest.raises(ValueError, match=f"ids is {said}, expected one whole number for each row"):
        require_column(ids, batch_size=2, vocab_size=9)


def assigned(model):
    other = small_model(7)
    model.load_state_dict(other.state_dict(), assign=True)


@pytest.mark.parametrize("change", [lambda model: model.double(), assigned])
def test_an_engine_notices_that_its_model_has_other_weights(change):
    model = small_model()
    engine, ids = Engine(model), random_ids(model, 1, 4)
    Engine(model, 2)  # shares the same weights: nothing has moved
    engine.prefill(ids)
    change(model)
    with pytest.raises(ValueError, match=r"other weights .* make another Engine\(model\)"):
        engine.generate(ids)
    assert torch.equal(Engine(model).prefill(ids), Engine(model).prefill(ids))


def test_an_engine_does_not_keep_its_model_but_its_weights():
    model = small_model()
    engine, ids = Engine(model), random_ids(model, 1, 4)
    expected, last = engine.prefill(ids), weakref.ref(model)
    del model
    gc.collect()
    assert last() is None and torch.equal(engine.prefill(ids), expected)


def test_after_an_interrupt_a_text_is_not_continued_but_begun_again(monkeypatch):
    model = small_model()
    engine, ids, one = Engine(model), random_ids(model, 1, 4), torch.tensor([3])
    engine.prefill(ids)
    expected = engine.step(one)
    engine.prefill(ids)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(engine._ring, "count", mock.Mock(side_effect=KeyboardInterrupt))
        engine.step(one)
    with pytest.raises(RuntimeError, match="last step did not end.*begin again with prefill"):
        engine.step(one)
    engine.prefill(ids)
    assert torch.equal(engine.step(one), expected)


def test_without_a_window_the_memory_must_be_named_and_suffice():
    model = small_model(sliding_window=None)
    with pytest.raises(ValueError, match="capacity=None with sliding_window=None"):
        Engine(model)
    engine = Engine(model, capacity=5)
    with pytest.raises(ValueError, match="6 tokens do not fit the engine's capacity of 5"):
        engine.prefill(random_ids(model, 1, 6))
    engine.prefill(random_ids(model, 1, 5))
    with pytest.raises(ValueError, match="capacity=6 or more"):
        engine.step(torch.tensor([3]))


def test_pruned_heads_are_refused_before_anything_is_touched():
    model = small_model()
    model.prune_heads({1: [0]})
    ids = random_ids(model, 1, 4)
    with pytest.raises(ValueError, match="layer 1 has only the heads .1, 2, 3. left"):
        Engine(model)
    assert model(ids).logits.isfinite().all()


def flash_engine(monkeypatch, source, **changes):
    """An engine in half precision that takes this CPU for a GPU with flash kernels."""
    pretend_a_gpu(monkeypatch)
    kernels = (
        flash_kernels.package_kernels(flash_stand_in)
        if source == "package"
        else flash_kernels.bundled_kernels(flash_stand_in.Operator())
    )
    monkeypatch.setattr(flash_kernels, "find_kernels", lambda: (kernels, ""))
    model = small_model(attention="flash", **changes).to(torch.bfloat16)
    engine = Engine(model, 3, multiply="plain")
    engine._passes.static = True
    flash_stand_in.calls.clear()
    return model, engine


@pytest.mark.parametrize("source", ["package", "bundled"])
def test_flash_reads_the_fill_of_the_ring_where_it_lies(monkeypatch, source):
    model, engine = flash_engine(monkeypatch, source)
    ids, mask = left_padded([random_ids(model, 1, n, seed=n)[0] for n in (1, 2, 7)])
    text, seen = continued(ids, mask, steps=9)
    with torch.no_grad():
        expected = model(text, attention_mask=seen, use_cache=False).logits[:, 6:].float()
    scores = [engine.prefill(text[:, :7], mask)]
    flash_stand_in.calls.clear()
    scores.append(engine.step(text[:, 7]))
    name, call = flash_stand_in.calls[-1]
    if source == "package":
        assert name == "flash_attn_with_kvcache" and call["k_cache"]._is_view()
        assert call["cache_seqlens"].tolist() == [2, 3, 4]
        assert call["window_size"] == (-1, -1) and not call["causal"]
    else:
        assert call["seqused_k"].tolist() == [2, 3, 4] and call["max_k"] == 4
        assert call["window_size_left"] is None and not call["is_causal"]
    scores += [engine.step(text[:, at]) for at in range(8, text.shape[1])]
    assert difference(torch.stack(scores, dim=1), expected) <= 3e-2  # bfloat16


@pytest.mark.parametrize("changes", [{"head_dim": 6}, {"head_dim": 264}])
def test_heads_that_flash_cannot_read_in_place_are_attended_to_without_it(monkeypatch, changes):
    _, engine = flash_engine(monkeypatch, "package", **changes)
    engine.step(torch.tensor([3, 4, 5]))
    assert flash_stand_in.calls == []
