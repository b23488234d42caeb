"""Compiled rows: the same norm, rotation and gate as PyTorch's, for any sizes and both types."""

import pytest
import torch

from mistral_edu.engine import Engine
from mistral_edu.engine_kernel import why_uncompiled
from mistral_edu.engine_rows import CompiledRows, PlainRows, why_no_rows
from mistral_edu.norm import RMSNorm
from mistral_edu.rope import rotation
from tests.models import difference, random_ids, small_model

uncompiled = why_uncompiled(torch.zeros(1, 1))
needs_compiler = pytest.mark.skipif(uncompiled is not None, reason=str(uncompiled))
BOUNDS = {torch.float32: 1e-6, torch.bfloat16: 2e-2}  # PyTorch rounds after every operation
SIZES = [1, 7, 8, 15, 16, 17, 40, 64]


def both(dtype):
    return PlainRows(torch.nn.functional.silu), CompiledRows(dtype)


@needs_compiler
@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("width", SIZES)
def test_the_norm_is_the_models(dtype, width):
    plain, compiled = both(dtype)
    x, norm = 3 * torch.randn(2, 5, width).to(dtype), RMSNorm(width, eps=1e-5)
    norm.weight.data = torch.randn(width)
    norm = norm.to(dtype)
    assert difference(compiled.norm(x, norm), plain.norm(x, norm)) <= BOUNDS[dtype]
    view = x.transpose(0, 1)
    assert difference(compiled.norm(view, norm), plain.norm(view, norm)) <= BOUNDS[dtype]


@needs_compiler
def test_eps_keeps_a_row_of_zeros_at_zero():
    found = CompiledRows(torch.float32).norm(torch.zeros(1, 2, 20), RMSNorm(20, eps=1e-5))
    assert found.eq(0).all()


@needs_compiler
@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("head_dim", [2, 6, 16, 34, 64, 128])
@pytest.mark.parametrize("rows", [1, 3])
def test_queries_and_keys_turn_and_values_do_not(dtype, head_dim, rows):
    plain, compiled = both(dtype)
    every = torch.randn(2, rows, 7, head_dim).to(dtype)
    turn = rotation(torch.randint(0, 9999, (2, rows)), head_dim, theta=10000.0)
    found, expected = (way.turn(every, turn, 5) for way in (compiled, plain))
    assert found.shape == (2, 7, rows, head_dim)
    assert difference(found, expected) <= BOUNDS[dtype]
    assert torch.equal(found[:, 5:], every.transpose(1, 2)[:, 5:])


@needs_compiler
@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("inner", SIZES)
def test_the_gate_is_silu_times_up(dtype, inner):
    plain, compiled = both(dtype)
    x = 20 * torch.randn(2, 3, 2 * inner).to(dtype)
    assert difference(compiled.gate(x), plain.gate(x)) <= BOUNDS[dtype]


@needs_compiler
def test_what_is_written_is_rounded_to_the_nearest():
    x = torch.randn(1, 4, 2 * 40).bfloat16()
    gate, up = x.float().chunk(2, dim=-1)
    exact = torch.nn.functional.silu(gate) * up
    found = CompiledRows(torch.bfloat16).gate(x)
    assert ((found.float() - exact).abs() <= exact.abs() * (2**-8 + 1e-6)).all()


@needs_compiler
@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("wide", [16, 21])
def test_damage_stays_in_its_row_and_does_not_vanish(dtype, wide):
    x = torch.ones(1, 3, 2 * wide).to(dtype)
    x[0, 1, 3] = torch.nan
    rows = CompiledRows(dtype)
    gated, normed = rows.gate(x), rows.norm(x, RMSNorm(2 * wide, eps=1e-5).to(dtype))
    assert gated[0, 1, 3].isnan() and gated.isnan().sum() == 1
    assert normed[0, 1].isnan().all() and normed.isnan().sum() == 2 * wide


def test_what_cannot_be_compiled_is_named():
    assert "float16 with silu" in why_no_rows(torch.zeros(1).half(), "silu")
    assert "float32 with gelu" in why_no_rows(torch.zeros(1), "gelu")
    assert "is on meta" in (uncompiled or why_no_rows(torch.zeros(1, device="meta"), "silu"))


@needs_compiler
@pytest.mark.parametrize(
    ("multiply", "activation", "kind"),
    [
        ("measured", "silu", CompiledRows),
        ("compiled", "silu", CompiledRows),
        ("plain", "silu", PlainRows),
        ("measured", "gelu", PlainRows),
    ],
)
def test_an_engine_takes_them_unless_it_was_told_otherwise(multiply, activation, kind):
    model = small_model(hidden_act=activation)
    engine = Engine(model, multiply=multiply)
    assert {type(layer.rows) for layer in engine._passes.layers} == {kind}
    ids = random_ids(model, 1, 20)
    expected = model(ids, use_cache=False).logits[:, -1]
    assert difference(engine.prefill(ids), expected) <= 1e-5
