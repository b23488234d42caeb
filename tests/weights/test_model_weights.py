"""A checkpoint that does not fit is refused as a whole, with reasons; the model keeps its own."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mistral_edu import MistralForCausalLM, model
from mistral_edu.weights import WeightsError
from mistral_edu.weights.model_weights import load_weights
from mistral_edu.weights.sources import open_safetensors
from tests.models import small_model

NORM, HEAD = "model.norm.weight", "lm_head.weight"


@pytest.fixture
def folder(tmp_path):
    small_model().save_pretrained(tmp_path)
    return tmp_path


def change(folder, changes):
    """Replace tensors of a saved model; None removes one."""
    path = folder / "model.safetensors"
    tensors = {**load_file(path), **changes}
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(tensors, path, metadata={"format": "pt"})


def refusal(folder, **options):
    with pytest.raises(WeightsError) as caught:
        MistralForCausalLM.from_pretrained(folder, **options)
    return str(caught.value)


def test_missing_extra_and_misshapen_tensors_are_listed_at_once(folder):
    change(folder, {NORM: None, HEAD: torch.zeros(3, 3), "extra": torch.zeros(1)})
    message = refusal(folder)
    assert message.startswith(f"{folder / 'model.safetensors'} does not fit the model:\n")
    assert f"\n  {NORM}: is missing" in message
    assert f"\n  {HEAD}: has shape (3, 3), expected (64, 32)" in message
    assert "\n  extra: belongs to no parameter" in message


def test_a_hundred_differences_are_counted_and_twenty_shown(folder):
    change(folder, {f"extra.{i:03d}": torch.zeros(1) for i in range(100)})
    message = refusal(folder)
    assert message.count("belongs to no parameter") == 20 and "… and 80 more" in message


def test_an_untied_head_must_be_there(folder):
    change(folder, {HEAD: None})
    assert f"{HEAD}: is missing" in refusal(folder)


@pytest.mark.parametrize("prefix", ["module.", "model.model.", "base."])
def test_names_that_only_resemble_the_model_s_do_not_pass(folder, prefix):
    tensors = load_file(folder / "model.safetensors")
    save_file({prefix + name: t for name, t in tensors.items()}, folder / "model.safetensors")
    message = refusal(folder)
    assert "lm_head.weight: is missing" in message and "… and 22 more" in message


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.int64, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2]
)
@pytest.mark.parametrize("asked", [None, torch.float32])
def test_types_that_are_no_weights_are_refused_also_when_a_cast_is_asked_for(folder, dtype, asked):
    change(folder, {NORM: torch.ones(32).to(dtype)})
    plain = str(dtype).removeprefix("torch.")
    assert f"{NORM}: has type {plain}, expected a floating-point" in refusal(folder, dtype=asked)


def test_a_type_that_the_format_does_not_know_is_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"F4Q"'))
    assert "type 'F4Q' is none of BOOL, U8" in refusal(folder)


def test_mixed_types_need_a_choice(folder):
    change(folder, {NORM: torch.ones(32).half()})
    assert "the types are mixed (float16, float32): choose one with dtype=…" in refusal(folder)
    assert MistralForCausalLM.from_pretrained(folder, dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e5m2, torch.complex64])
def test_a_type_that_no_weights_can_have_is_refused_as_an_argument(folder, dtype):
    with pytest.raises(ValueError, match=f"dtype={dtype}, expected None or one of torch.float64"):
        MistralForCausalLM.from_pretrained(folder, dtype=dtype)


class Failing:
    """A source whose file goes away while it is read."""

    def __init__(self, source, reads):
        self.source, self.left = source, reads

    def __getattr__(self, name):
        return getattr(self.source, name)

    def read(self, name):
        self.left -= 1
        if self.left < 0:
            raise WeightsError("the file changed while it was read")
        return self.source.read(name)


@pytest.mark.parametrize("reads", [0, 1, 20])
def test_a_source_that_fails_midway_leaves_the_model_as_it_was(folder, reads):
    model = small_model(seed=1)
    before = dict(model.named_parameters())
    with pytest.raises(WeightsError):
        load_weights(model, Failing(open_safetensors(folder), reads))
    after = dict(model.named_parameters())
    assert all(after[name] is tensor for name, tensor in before.items())
    assert torch.equal(model.lm_head.weight, small_model(seed=1).lm_head.weight)


def test_a_model_that_is_refused_its_weights_keeps_its_own(folder):
    change(folder, {NORM: None})
    model = small_model(seed=1)
    with pytest.raises(WeightsError):
        load_weights(model, open_safetensors(folder))
    assert torch.equal(model.lm_head.weight, small_model(seed=1).lm_head.weight)


def rewrite_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("layers", [3, 4000])
def test_a_config_that_asks_for_more_layers_than_there_are_builds_nothing(
    folder, monkeypatch, layers
):
    rewrite_config(folder, num_hidden_layers=layers)
    monkeypatch.setattr(model, "DecoderLayer", lambda *_: pytest.fail("a layer was built"))
    message = refusal(folder)
    assert "21 tensors, enough for 2 layers" in message
    assert f"num_hidden_layers={layers}: they do not belong together" in message


def test_a_config_with_fewer_layers_is_refused_too(folder):
    rewrite_config(folder, num_hidden_layers=1)
    assert "model.layers.1.mlp.up_proj.weight: belongs to no parameter" in refusal(folder)


def test_a_flipped_bit_of_the_header_never_loads_another_model(folder):
    """In the data a flipped bit cannot be found: the format has no checksum."""
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    start = whole.index(b'"lm_head')  # before it, the metadata, which says nothing about tensors
    header = 8 + int.from_bytes(whole[:8], "little")
    bits = [*range(64), *range(8 * start, 8 * header, 37)]
    model = small_model()
    for bit in bits:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(WeightsError):
            load_weights(model, open_safetensors(folder))
    assert len(bits) > 500


def test_the_missing_file_is_named(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="give a folder that save_pretrained wrote"):
        MistralForCausalLM.from_pretrained(folder)
