"""The engine's matrices: right for any number of rows, and held once."""

import gc

import pytest
import torch
from torch import nn

from mistral_edu import MistralForCausalLM
from mistral_edu.engine import Engine
from mistral_edu.engine_linear import (
    FEW_ROWS,
    PackedLinear,
    fuse,
    one_matrix,
    product,
    why_unpackable,
)
from mistral_edu.quantization import quantize_linear, weight_bytes
from tests.models import difference, random_ids, small_model

unpackable = why_unpackable(torch.zeros(1, 1))
needs_packing = pytest.mark.skipif(unpackable is not None, reason=str(unpackable))


@pytest.mark.parametrize("rows", [1, 2, FEW_ROWS, FEW_ROWS + 1, 70])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_is_right_for_any_number_of_rows(rows, dtype):
    weight, x = torch.randn(33, 20).to(dtype), torch.randn(rows, 1, 20).to(dtype)
    found = product(x, weight)
    assert found.shape == (rows, 1, 33) and found.dtype == dtype
    bound = 1e-5 if dtype == torch.float32 else 1e-2
    assert difference(found.float(), x.float() @ weight.float().T) <= bound


def test_only_few_rows_of_float32_change_the_operands_over(monkeypatch):
    plain = []
    linear = torch.nn.functional.linear
    monkeypatch.setattr(
        torch.nn.functional, "linear", lambda x, w: plain.append(len(x)) or linear(x, w)
    )
    weight = torch.randn(4, 3)
    for rows in (1, FEW_ROWS, FEW_ROWS + 1):
        product(torch.randn(rows, 3), weight)
    product(torch.randn(2, 3).bfloat16(), weight.bfloat16())
    assert plain == [FEW_ROWS + 1, 2]


@needs_packing
@pytest.mark.parametrize("packed_for", [1, 8])
@pytest.mark.parametrize("rows", [1, 3, 8, 70])
def test_packed_weights_are_the_same_numbers_and_right_for_any_number_of_rows(packed_for, rows):
    weight, x = torch.randn(48, 32), torch.randn(rows, 2, 32)
    packed = PackedLinear(weight, packed_for)
    assert torch.equal(packed.unpacked(), weight)
    assert difference(packed(x), x @ weight.T) <= 1e-5


@needs_packing
def test_packing_takes_no_more_memory_than_the_weight():
    weight = torch.randn(64, 32)
    assert torch.ops.mkldnn._nbytes(PackedLinear(weight, 4)._packed) == weight.nbytes


def test_what_cannot_be_packed_says_why(monkeypatch):
    with pytest.raises(ValueError, match="float32, bfloat16 and float16, not float64"):
        PackedLinear(torch.zeros(2, 2).double())
    assert "not on meta" in why_unpackable(torch.zeros(2, 2, device="meta"))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    model = small_model()
    with pytest.raises(ValueError, match="without oneDNN; use pack=False"):
        Engine(model, pack=True)
    assert model(random_ids(model, 1, 3)).logits.isfinite().all()


def storages(model):
    return {
        p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in model.parameters()
    }


@pytest.mark.parametrize("tied", [False, True])
def test_fused_weights_are_held_once_and_the_model_goes_on_working(tied):
    model = small_model(tie_word_embeddings=tied)
    ids = random_ids(model, 2, 6)
    before, parameters = model(ids).logits, list(model.parameters())
    held = sum(storages(model).values())
    Engine(model, 2)
    assert sum(storages(model).values()) == held
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert difference(model(ids).logits, before) <= 1e-6
    made = storages(model)
    Engine(model, 1)  # a second engine finds the matrices fused
    assert storages(model) == made


def alive():
    """Bytes of all tensors that anything in this process still holds, each memory once."""
    tensors = [x for x in gc.get_objects() if issubclass(type(x), torch.Tensor)]
    memory = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}
    return sum(memory.values())


def test_no_more_than_one_matrix_is_ever_in_memory_twice(monkeypatch):
    model, seen, cat = small_model(intermediate_size=512), [], torch.cat
    largest = 4 * 2 * 512 * 32  # gate and up
    gc.collect()
    before = alive()

    def measured(*arguments, **named):
        whole = cat(*arguments, **named)
        seen.append(alive())
        return whole

    monkeypatch.setattr(torch, "cat", measured)
    engine = Engine(model)
    little = 500  # counts, frequencies
    assert len(seen) == 4 and max(seen) - before <= largest + engine.cache_bytes + little
    assert max(seen) - before > largest
    assert alive() - before <= engine.cache_bytes + little


def test_a_model_whose_weights_were_fused_is_saved_as_before(tmp_path):
    model = small_model()
    ids = random_ids(model, 1, 5)
    expected = model(ids).logits
    Engine(model)
    model.save_pretrained(tmp_path)
    again = MistralForCausalLM.from_pretrained(tmp_path, attention="eager")
    assert torch.equal(again(ids).logits, expected)


@needs_packing
@pytest.mark.parametrize("tied", [False, True])
def test_packed_weights_are_taken_from_the_model_which_says_so(tied, tmp_path):
    model = small_model(tie_word_embeddings=tied)
    linears = [x for x in model.modules() if isinstance(x, nn.Linear)]
    left = model.model.embed_tokens.weight.numel() + sum(
        p.numel() for name, p in model.named_parameters() if "norm" in name
    )
    engine, ids = Engine(model, pack=True), random_ids(model, 1, 3)
    assert weight_bytes(model) == 4 * left
    assert sum(x.weight is None for x in linears) == len(linears) - tied
    with pytest.raises(RuntimeError, match="an Engine took it with pack=True; load the model"):
        model(ids)
    with pytest.raises(RuntimeError, match="an Engine took it with pack=True"):
        Engine(model, pack=True)
    with pytest.raises(RuntimeError, match="an Engine took it with pack=True"):
        model.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())
    assert engine.generate(ids, max_new_tokens=3, eos_token_id=()).shape == (1, 6)


def test_rows_that_do_not_follow_each_other_are_copied():
    whole = torch.arange(12.0).view(6, 2)
    for parts in ([whole[2:4], whole[:2]], [whole[:, :1]], [whole[:2], whole[3:]]):
        found = one_matrix(parts)
        assert torch.equal(found, torch.cat(parts)) and found.data_ptr() != parts[0].data_ptr()
    apart = [torch.ones(2, 2), torch.ones(1, 2)]
    assert torch.equal(one_matrix(apart), torch.ones(3, 2))
    assert one_matrix([whole[1:3], whole[3:4]]).data_ptr() == whole[1:].data_ptr()


@needs_packing
def test_a_layer_that_cannot_be_fused_is_found_before_weights_are_taken():
    model, ids = small_model(), torch.tensor([[3, 4, 5]])
    model.model.layers[1].mlp.down_proj = nn.Linear(64, 32)
    with pytest.raises(ValueError, match="without bias"):
        Engine(model, pack=True)
    assert model(ids).logits.isfinite().all()


def test_layers_that_are_not_alike_are_refused():
    one = nn.Linear(4, 4, bias=False)
    with pytest.raises(ValueError, match="'Linear', 'Int8Linear'. cannot be fused"):
        fuse([one, quantize_linear(nn.Linear(4, 4, bias=False))])
    with pytest.raises(ValueError, match="without bias"):
        fuse([one, nn.Linear(4, 4)])
    with pytest.raises(ValueError, match="Identity"):
        fuse([nn.Identity()])
