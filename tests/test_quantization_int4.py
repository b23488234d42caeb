"""Four bits for a weight: within half a step of its group, and as many bytes as promised."""

import pytest
import torch
from torch import nn

from mistral_edu import load
from mistral_edu.engine import Engine
from mistral_edu.quantization_int4 import (
    MIDDLE,
    Int4Linear,
    quantize_groups,
    quantize_linear_int4,
)
from mistral_edu.quantized_model import linear_names, load_quantized, quantize_model, weight_bytes
from tests.models import difference, small_model

TYPES = [torch.float32, torch.bfloat16, torch.float16]


def spread_weight(dtype=torch.float32):
    """Rows of very different sizes, some far from zero, one all equal."""
    weight = torch.randn(48, 128) * torch.logspace(-3, 2, 48)[:, None]
    weight[5] += 10
    weight[7] = 0.25
    return weight.to(dtype)


def values(codes, steps, zeros):
    groups = codes.unflatten(1, (steps.shape[1], -1)) - MIDDLE
    return (zeros.double()[..., None] + steps.double()[..., None] * groups).flatten(1)


@pytest.mark.parametrize("group", [32, 64, 128])
def test_every_weight_is_within_half_a_step_of_its_code(group):
    weight = spread_weight()
    codes, steps, zeros = quantize_groups(weight, group)
    assert codes.min() == 0 and codes.max() == 15
    off = (values(codes, steps, zeros) - weight.double()).abs().unflatten(1, (-1, group))
    size = weight.abs().max(dim=1).values[:, None, None]
    assert (off <= steps.double()[..., None] / 2 + 1e-6 * size).all()
    ends = weight.unflatten(1, (-1, group)).aminmax(dim=2)
    assert torch.allclose(zeros - MIDDLE * steps, ends.min, rtol=1e-5, atol=1e-6)
    assert torch.allclose(zeros + 7 * steps, ends.max, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_codes_are_chosen_for_the_steps_as_they_are_kept(dtype):
    weight = spread_weight(dtype)
    codes, steps, zeros = quantize_groups(weight, 32)
    assert steps.dtype == zeros.dtype == dtype
    inside = (codes > 0) & (codes < 15)
    off = (values(codes, steps, zeros) - weight.double()).abs()
    half = steps.double().repeat_interleave(32, dim=1) / 2
    assert (off[inside] <= half[inside] * 1.001).all()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rows", [1, 3, 20])
def test_the_layer_multiplies_by_what_it_holds(dtype, rows):
    weight, x = spread_weight(dtype), torch.randn(rows, 2, 128).to(dtype)
    layer = Int4Linear.of(weight, 64)
    held = values(*quantize_groups(weight, 64))
    bound = 1e-6 if dtype == torch.float32 else 1e-2
    found = layer(x)
    assert found.shape == (rows, 2, 48) and found.dtype == dtype
    assert difference(found.double(), x.double() @ held.T) <= bound
    assert difference(layer.dequantized().double(), held) <= bound


def test_a_group_has_its_own_step_and_its_neighbours_do_not_feel_it():
    weight = torch.randn(16, 64)
    calm = quantize_linear_int4(linear(weight)).dequantized()
    weight[:, 40] = 100.0
    loud = quantize_linear_int4(linear(weight)).dequantized()
    assert torch.equal(loud[:, :32], calm[:, :32])
    assert (loud[:, 32:40] - calm[:, 32:40]).abs().max() > 1.0


@pytest.mark.parametrize(
    ("weight", "group", "said"),
    [
        (torch.zeros(16, 48), 32, "group=32 does not divide the 48 inputs"),
        (torch.zeros(20, 64), 32, "20 outputs are no multiple of 16: use bits=8"),
        (torch.zeros(16, 64), 16, "group=16: choose one of 32, 64, 128, 256"),
        (torch.zeros(16, 64, device="meta"), 32, "for a CPU, not meta: use bits=8"),
        (torch.full((16, 64), torch.inf), 32, "not finite"),
        (torch.full((16, 64), torch.nan), 32, "not finite"),
    ],
)
def test_what_cannot_be_kept_in_4_bits_is_refused(weight, group, said):
    with pytest.raises(ValueError, match=said):
        Int4Linear.of(weight, group)


def test_a_bias_and_other_numbers_of_bits_are_refused():
    with pytest.raises(ValueError, match="has a bias"):
        quantize_linear_int4(nn.Linear(64, 16))
    with pytest.raises(ValueError, match="bits=2: a weight is kept in 8 bits, or in 4"):
        quantize_model(small_model(), bits=2)
    with pytest.raises(ValueError, match="bits=16"):
        load_quantized("tiny", bits=16)


def test_bytes_are_half_a_byte_a_weight_and_two_numbers_a_group():
    layer = Int4Linear.of(spread_weight(torch.bfloat16), 32)
    assert weight_bytes(layer) == 48 * 128 // 2 + 48 * 4 * 2 * 2


def test_the_tiny_model_still_speaks_in_4_bits_and_the_engine_says_it_cannot():
    model, tokenizer = load("tiny")
    ids = torch.tensor([tokenizer.encode("Once upon a time there was")])
    with torch.no_grad():
        exact = model(ids).logits
        small = load_quantized("tiny", bits=4, dtype=torch.float32)
        near = small(ids).logits
    assert 1e-4 < difference(near, exact) < 0.3
    matrices = sum(model.get_submodule(name).weight.numel() for name in linear_names(model))
    # half a byte for each weight and, for each 32 of them, a step and a zero in float32
    saved = 4 * matrices - (matrices // 2 + matrices // 32 * 8)
    assert weight_bytes(small) == weight_bytes(model) - saved
    assert small.generate(ids, max_new_tokens=4, eos_token_id=()).shape == (1, ids.shape[1] + 4)
    with pytest.raises(ValueError, match="'Int4Linear'.* cannot be fused"):
        Engine(small)


def linear(weight):
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight.clone(), requires_grad=False)
    return layer
