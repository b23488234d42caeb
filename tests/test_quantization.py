"""Eight bits for a weight: within half a step, close in the logits, and never whole in memory."""

import copy
import weakref

import pytest
import torch
from torch import nn

from mistral_edu import (
    MistralForCausalLM,
    MistralForSequenceClassification,
    MistralModel,
    load,
    quantized_model,
)
from mistral_edu.quantization import Int8Linear, quantize_linear, quantize_weight
from mistral_edu.quantized_model import (
    linear_names,
    load_quantized,
    quantize_model,
    weight_bytes,
)
from mistral_edu.weights.convert import convert
from mistral_edu.weights.errors import WeightsError
from mistral_edu.weights.safetensors_files import SafetensorsFile
from tests.models import chunked_logits, difference, random_ids, small_config, small_model

ROUNDING = 1e-5  # of a step: dividing in float32 by a step of which a weight holds up to 127


def matrix(kind: str, dtype: torch.dtype) -> torch.Tensor:
    """A weight with something that a rule for steps may stumble over."""
    weight = torch.randn(24, 40, generator=torch.Generator().manual_seed(1)) * 0.02
    if kind == "outliers":
        weight[::3, 7] = torch.tensor([8.0, -50.0] * 4)
    elif kind == "zeros":
        weight[5] = 0
        weight[:, 5] = 0
    elif kind == "tiny":
        weight *= torch.logspace(-44, -30, 24)[:, None]
    elif kind == "one column":
        weight = weight[:, :1]
    return weight.to(dtype)


KINDS = ("plain", "outliers", "zeros", "tiny", "one column")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_weight_is_within_half_a_step_of_its_code(kind, dtype):
    weight = matrix(kind, dtype)
    codes, steps = quantize_weight(weight)
    error = (weight.double() - steps.double()[:, None] * codes.double()).abs()
    assert (error <= steps.double()[:, None] / 2 * (1 + 2 * ROUNDING)).all()
    assert codes.dtype == torch.int8 and steps.dtype == torch.float32
    assert codes.abs().max() <= 127, "codes are symmetric: -128 is none of them"


@pytest.mark.parametrize("kind", ["plain", "outliers", "one column"])
def test_the_largest_weight_of_each_row_has_the_largest_code(kind):
    weight = matrix(kind, torch.float32)
    codes, _ = quantize_weight(weight)
    assert (codes.abs().amax(dim=1) == 127).all()
    assert torch.equal(codes.sign(), weight.sign().where(codes != 0, 0))


def test_a_large_weight_coarsens_its_own_row_only():
    weight = matrix("plain", torch.float32)
    spoiled = weight.clone()
    spoiled[3, 0] = 100.0
    before, after = quantize_weight(weight), quantize_weight(spoiled)
    others = torch.arange(24) != 3
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[others], new[others]) and not torch.equal(old[3], new[3])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_no_number_is_refused(bad):
    weight = matrix("plain", torch.float32)
    weight[2, 3] = bad
    with pytest.raises(ValueError, match="row 2 of the weight holds"):
        quantize_weight(weight)


@pytest.mark.parametrize("shape", [(40,), (3, 40), (2, 5, 40), (0, 40)])
def test_the_layer_multiplies_by_what_it_holds(shape):
    layer = quantize_linear(linear(matrix("outliers", torch.float32)))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    expected = x.double() @ layer.dequantized().double().T
    torch.testing.assert_close(layer(x).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_is_within_half_a_step_for_each_input(kind):
    plain = linear(matrix(kind, torch.float32))
    layer = quantize_linear(plain)
    x = torch.randn(8, plain.in_features, generator=torch.Generator().manual_seed(2))
    bound = x.abs().sum(dim=1, keepdim=True) * layer.scale / 2
    assert ((layer(x) - plain(x)).abs() <= bound * 1.001 + 1e-6).all()


def test_in_half_precision_a_sum_over_codes_does_not_overflow():
    plain = linear(torch.full((2, 1024), 0.001))
    x = torch.full((1, 1024), 30.0)
    found = quantize_linear(plain).half()(x.half())
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), plain(x), rtol=2e-3, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_casting_a_model_leaves_codes_and_steps_as_they_are(dtype):
    model = quantize_model(small_model())
    before = copy.deepcopy(model.state_dict())
    model.to(dtype)
    for name, tensor in model.state_dict().items():
        if name.endswith("scale") or tensor.dtype == torch.int8:
            assert torch.equal(tensor, before[name]) and tensor.dtype == before[name].dtype
        else:
            assert tensor.dtype == dtype
    model(random_ids(model, 1, 6))


def test_gradients_pass_through_to_what_comes_before():
    layer = quantize_linear(linear(matrix("plain", torch.float32)))
    x = torch.randn(3, 40, requires_grad=True)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.dequantized().sum(dim=0).expand(3, -1))


def test_a_layer_with_a_bias_is_refused():
    with pytest.raises(ValueError, match="bias"):
        quantize_linear(nn.Linear(4, 3))


@pytest.mark.parametrize(
    "kind", [MistralModel, MistralForCausalLM, MistralForSequenceClassification]
)
def test_all_matrices_of_the_layers_are_replaced_and_nothing_else(kind):
    model = kind(small_config())
    before = {name: p.clone() for name, p in model.named_parameters()}
    quantize_model(model)
    replaced = [name for name, part in model.named_modules() if isinstance(part, Int8Linear)]
    assert len(replaced) == 7 * 2 and all("layers." in name for name in replaced)
    after = dict(model.named_parameters())
    assert before.keys() - after.keys() == {f"{name}.weight" for name in replaced}
    assert all(torch.equal(before[name], after[name]) for name in after)


def test_the_head_follows_if_it_is_wanted_and_there():
    model = quantize_model(small_model(), head=True)
    assert isinstance(model.lm_head, Int8Linear)
    with pytest.raises(ValueError, match="MistralModel has no head of its own"):
        linear_names(MistralModel(small_config()), head=True)
    with pytest.raises(ValueError, match="tie_word_embeddings=True"):
        quantize_model(small_model(tie_word_embeddings=True), head=True)


def test_bytes_are_one_a_weight_and_four_a_row():
    model = small_model()
    linears = [model.get_submodule(name) for name in linear_names(model)]
    codes = sum(part.weight.numel() for part in linears)
    rows = sum(part.out_features for part in linears)
    rest = model.num_parameters() - codes
    assert weight_bytes(quantize_model(model)) == codes + 4 * rows + 4 * rest


def test_the_tiny_model_says_the_same():
    model, tokenizer = load("tiny")
    quantized = quantize_model(load("tiny")[0])
    ids = torch.tensor([tokenizer.encode("Once upon a time there was a house by the river. " * 4)])
    with torch.no_grad():
        expected, found = model(ids).logits, quantized(ids).logits
    assert 0 < difference(found, expected) <= 0.05
    truth = expected.log_softmax(-1)
    divergence = (truth.exp() * (truth - found.log_softmax(-1))).sum(-1).mean()
    assert divergence <= 5e-3, "nats a token"


def test_a_quantized_model_decodes_as_it_reads():
    model = quantize_model(small_model())
    ids = random_ids(model, 2, 13)
    with torch.no_grad():
        whole = model(ids, use_cache=False).logits
    for size in (1, 3, 4, 5):
        assert difference(chunked_logits(model, ids, size), whole) <= 1e-5


@pytest.fixture
def folders(tmp_path):
    """One model in both layouts, its file in several shards."""
    small_model().save_pretrained(tmp_path / "ours", dtype=torch.float16, max_shard_bytes=20_000)
    convert(tmp_path / "ours", tmp_path / "original", "original", progress=False)
    return tmp_path


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("layout", ["ours", "original"])
@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_loading_quantized_equals_quantizing_what_was_loaded(folders, layout, head, dtype, bits):
    expected = MistralForCausalLM.from_pretrained(folders / layout, dtype=dtype)
    expected = quantize_model(expected, bits=bits, head=head).state_dict()
    found = load_quantized(folders / layout, bits=bits, dtype=dtype, head=head)
    assert not found.training
    found = found.state_dict()
    assert found.keys() == expected.keys()
    for name in expected:
        assert torch.equal(found[name], expected[name]), name
        assert found[name].dtype == expected[name].dtype, name


def test_tied_embeddings_stay_tied(tmp_path):
    small_model(tie_word_embeddings=True).save_pretrained(tmp_path)
    model = load_quantized(tmp_path)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    model(random_ids(model, 1, 3))


def test_while_loading_there_is_never_more_than_one_matrix_in_full(folders, monkeypatch):
    full, alive = weakref.WeakSet(), []
    quantize, read = quantized_model.quantize_weight, SafetensorsFile.read

    def watched_quantize(weight):
        full.add(weight)
        return quantize(weight)

    def watched_read(file, name):
        alive.append(len(full))
        return read(file, name)

    monkeypatch.setattr(quantized_model, "quantize_weight", watched_quantize)
    monkeypatch.setattr(SafetensorsFile, "read", watched_read)
    load_quantized(folders / "ours")
    assert alive == [0] * (9 * 2 + 3), "whatever was read before is gone when the next is read"


def test_a_checkpoint_that_does_not_fit_is_refused_before_it_is_read(folders, monkeypatch):
    small_config(intermediate_size=60).save_pretrained(folders / "ours")
    monkeypatch.setattr(
        quantized_model, "quantize_weight", lambda weight: pytest.fail("a tensor was read")
    )
    with pytest.raises(WeightsError, match="mlp.down_proj.weight: has shape"):
        load_quantized(folders / "ours")


def linear(weight: torch.Tensor) -> nn.Linear:
    """A linear layer with this weight."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer
