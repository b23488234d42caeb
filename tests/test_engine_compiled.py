"""A step in one call of compiled code: the same scores, the same ring, or a reason."""

import pytest
import torch

from mistral_edu import engine_passes
from mistral_edu.engine import Engine
from mistral_edu.engine_compiled import why_no_step
from mistral_edu.engine_kernel import why_uncompiled
from mistral_edu.quantization import quantize_linear
from mistral_edu.quantized_model import quantize_model
from mistral_edu.sampling import DamagedScoresError
from tests.models import difference, left_padded, random_ids, small_model

uncompiled = why_uncompiled(torch.zeros(1, 1))
pytestmark = pytest.mark.skipif(uncompiled is not None, reason=str(uncompiled))


def both(model, rows=1, **how):
    """An engine whose steps are called one by one, and one whose steps are compiled."""
    return [Engine(model, rows, multiply=way, **how) for way in ("plain", "compiled")]


def in_part_quantized():
    """A model of which one matrix is in 8 bits."""
    model = small_model()
    attention = model.model.layers[1].self_attn
    attention.o_proj = quantize_linear(attention.o_proj)
    return model


def scores_of(engine, ids, mask=None, steps=9):
    scores, found = engine.prefill(ids, mask), []
    for step in range(steps):
        found.append(scores)
        scores = engine.step(torch.arange(step, step + len(ids)) % 7 + 3)
    return torch.stack([*found, scores], dim=1)


@pytest.mark.parametrize(
    "shape",
    [
        {"num_attention_heads": 1, "num_key_value_heads": 1},
        {"num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 16},
        {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 10},
        {"num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 4},
        {"hidden_size": 40, "intermediate_size": 21, "head_dim": 40},
        {"head_dim": 72, "sliding_window": 33},
    ],
)
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_a_compiled_step_scores_as_calls_one_by_one(shape, rows):
    model = small_model(**shape)
    plain, compiled = both(model, rows)
    ids = random_ids(model, rows, 5)
    assert difference(scores_of(compiled, ids), scores_of(plain, ids)) <= 1e-5


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_a_step_through_matrices_in_8_bits_is_compiled_too(rows):
    plain, compiled = both(quantize_model(small_model(hidden_size=40, head_dim=10)), rows)
    assert compiled.ways["step"] == "compiled"
    ids = random_ids(small_model(), rows, 5)
    assert difference(scores_of(compiled, ids), scores_of(plain, ids)) <= 1e-5


def test_ragged_rows_see_what_is_theirs_while_the_ring_fills_and_wraps():
    model = small_model(sliding_window=6)
    ids, mask = left_padded([random_ids(model, 1, n, seed=n)[0] for n in (1, 4, 9)])
    plain, compiled = both(model, 3)
    found, expected = (scores_of(engine, ids, mask, steps=14) for engine in (compiled, plain))
    assert difference(found, expected) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_ring_holds_the_same_keys_and_values(dtype):
    model = small_model().to(dtype)
    plain, compiled = both(model, 2)
    ids = random_ids(model, 2, 3)
    for engine in (plain, compiled):
        scores_of(engine, ids)
    for kind in ("keys", "values"):
        ours, theirs = (getattr(engine._ring, kind) for engine in (compiled, plain))
        for mine, other in zip(ours, theirs, strict=True):
            assert mine.dtype == dtype
            bound = 1e-5 if dtype == torch.float32 else 3e-2
            assert difference(mine.float(), other.float()) <= bound
    assert torch.equal(plain._ring.seen, compiled._ring.seen)
    assert plain._ring.counts == compiled._ring.counts


@pytest.mark.parametrize("changed", [lambda model: model, quantize_model], ids=["16", "8 bits"])
def test_half_precision_is_nearer_to_the_exact_scores_than_calls_one_by_one(changed):
    model, half = (changed(small_model(num_hidden_layers=4)) for _ in range(2))
    ids = random_ids(model, 2, 4)
    (exact, _), (plain, compiled) = both(model, 2), both(half.bfloat16(), 2)
    expected = scores_of(exact, ids)
    near, far = (difference(scores_of(e, ids), expected) for e in (compiled, plain))
    assert near <= far <= 0.1


def test_values_are_rounded_to_the_nearest_as_they_are_stored():
    model = small_model(num_hidden_layers=1, num_key_value_heads=1).bfloat16()
    layer = model.model.layers[0]
    compiled = Engine(model, multiply="compiled")
    compiled.prefill(torch.tensor([[3]]))
    compiled.step(torch.tensor([4]))
    with torch.no_grad():
        x = model.model.embed_tokens.weight[4].float()
        x = x * torch.rsqrt(x.pow(2).mean() + model.config.rms_norm_eps)
        value = (layer.self_attn.v_proj.weight.float() @ x).bfloat16()
    off = compiled._ring.values[0][0, 0, 1].float() - value.float()
    assert (
        off.abs() <= value.float().abs() * 2**-8
    ).all()  # one unit at the most: x is rounded too
    assert (off == 0).float().mean() > 0.5


def test_other_weights_in_8_bits_bring_their_steps_along():
    model, other = (quantize_model(small_model()) for _ in range(2))
    for linear in (layer.mlp.down_proj for layer in other.model.layers):
        linear.scale *= 3
    compiled, ids = Engine(model, multiply="compiled"), random_ids(model, 1, 4)
    before = scores_of(compiled, ids)
    model.load_state_dict(other.state_dict())
    plain, _ = both(other)
    assert difference(scores_of(compiled, ids), scores_of(plain, ids)) <= 1e-5
    assert difference(scores_of(compiled, ids), before) > 0.01


def test_weights_taken_from_the_model_stay_where_the_step_reads_them():
    model = small_model()
    compiled, one = Engine(model, multiply="compiled"), torch.tensor([3])
    compiled.prefill(random_ids(model, 1, 4))
    expected = compiled.step(one)
    compiled.prefill(random_ids(model, 1, 4))
    norms = [layer.post_attention_layernorm.weight for layer in model.model.layers]
    for norm in norms:
        norm.data = norm.data.clone()
    like = norms[0].data
    others = [torch.full_like(like, torch.nan) for _ in range(100)]  # where the old ones were
    assert torch.equal(compiled.step(one), expected) and others


def test_greedy_texts_are_the_same():
    model = small_model()
    ids = random_ids(model, 2, 6)
    plain, compiled = both(model, 2)
    options = {"max_new_tokens": 30, "eos_token_id": ()}
    assert torch.equal(compiled.generate(ids, **options), plain.generate(ids, **options))


@pytest.mark.parametrize("name", ["k_proj", "v_proj", "o_proj"])
def test_damaged_weights_are_noticed(name):
    model = small_model(sliding_window=40)
    engine = Engine(model, multiply="compiled")
    engine.prefill(random_ids(model, 1, 31))  # with one more they fill whole registers
    getattr(model.model.layers[1].self_attn, name).weight.data[0, 0] = torch.nan
    assert engine.step(torch.tensor([3])).isnan().any()
    with pytest.raises(DamagedScoresError):
        engine.generate(random_ids(model, 1, 4), max_new_tokens=3)


def test_large_scores_do_not_overflow():
    model = small_model()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight.mul_(300)
            layer.mlp.gate_proj.weight.mul_(3000)
    plain, compiled = both(model)
    ids = random_ids(model, 1, 5)
    expected = scores_of(plain, ids)
    assert expected.isfinite().all() and difference(scores_of(compiled, ids), expected) <= 1e-4


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (small_model(hidden_act="gelu"), "no float32 with gelu"),
        (in_part_quantized(), "matrices of one type, got float32 and int8"),
        (small_model().double(), "not float64"),
    ],
    ids=["gelu", "8 bits in part", "float64"],
)
def test_what_cannot_be_compiled_is_called_one_by_one(model, said):
    engine = Engine(model)
    passes = engine._passes
    assert said in why_no_step(passes.layers, passes.ring, model.config)
    assert engine.ways["step"] == "plain"
    ids = random_ids(model, 1, 3)
    with torch.no_grad():
        expected = model(ids).logits[:, -1].float()
    assert difference(engine.prefill(ids).float(), expected) <= 1e-5


@pytest.mark.parametrize("fast", [True, False])
def test_the_faster_step_is_taken_and_nothing_is_left_in_the_ring(monkeypatch, fast):
    clock, slow = [0.0], engine_passes.Passes.step

    def step(self, ids):
        clock[0] += 1.0 if (self.compiled is not None) == fast else 2.0
        return slow(self, ids)

    monkeypatch.setattr(engine_passes.Passes, "step", step)
    monkeypatch.setattr(engine_passes.time, "perf_counter", lambda: clock[0])
    engine = Engine(small_model(), 2)
    assert engine.ways["step"] == ("compiled" if fast else "plain")
    assert engine._ring.counts == [0, 0] and engine._ring.seen.tolist() == [0, 0]
