"""The engine's matrices: right for any number of rows, and held once."""

import gc

import pytest
import torch
from torch import nn

from mistral_edu import MistralForCausalLM
from mistral_edu.engine import Engine
from mistral_edu.engine_linear import fuse, one_matrix
from mistral_edu.quantization import quantize_linear
from tests.models import difference, random_ids, small_model


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
    real = (torch.Tensor, torch.nn.Parameter)  # a compiler's stand-ins have no memory to ask for
    tensors = [x for x in gc.get_objects() if type(x) in real]
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
    engine = Engine(model, multiply="plain")
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


def test_rows_that_do_not_follow_each_other_are_copied():
    whole = torch.arange(12.0).view(6, 2)
    for parts in ([whole[2:4], whole[:2]], [whole[:, :1]], [whole[:2], whole[3:]]):
        found = one_matrix(parts)
        assert torch.equal(found, torch.cat(parts)) and found.data_ptr() != parts[0].data_ptr()
    apart = [torch.ones(2, 2), torch.ones(1, 2)]
    assert torch.equal(one_matrix(apart), torch.ones(3, 2))
    assert one_matrix([whole[1:3], whole[3:4]]).data_ptr() == whole[1:].data_ptr()


def test_a_layer_that_cannot_be_fused_is_found_before_weights_are_touched():
    model, ids = small_model(), torch.tensor([[3, 4, 5]])
    before = storages(model)
    model.model.layers[1].mlp.down_proj = nn.Linear(64, 32)
    with pytest.raises(ValueError, match="without bias"):
        Engine(model)
    changed = {p.data_ptr() for p in model.model.layers[1].mlp.down_proj.parameters()}
    assert {**before, **dict.fromkeys(changed)}.keys() == {*before, *changed}
    assert model(ids).logits.isfinite().all()


def test_layers_that_are_not_alike_are_refused():
    one = nn.Linear(4, 4, bias=False)
    with pytest.raises(ValueError, match="'Linear', 'Int8Linear'. cannot be fused"):
        fuse([one, quantize_linear(nn.Linear(4, 4, bias=False))])
    with pytest.raises(ValueError, match="without bias"):
        fuse([one, nn.Linear(4, 4)])
    with pytest.raises(ValueError, match="Identity"):
        fuse([nn.Identity()])
