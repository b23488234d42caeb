"""A folder of Mistral's own files becomes a model, or is refused as a whole."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mistral_edu import MistralForCausalLM
from mistral_edu.weights import WeightsError
from mistral_edu.weights.layouts import InLayout
from mistral_edu.weights.original import load_original, open_original
from mistral_edu.weights.params_json import params_from_config
from mistral_edu.weights.sources import open_safetensors
from tests.models import random_ids, small_model


def original_tensors(model: MistralForCausalLM, folder: Path) -> dict[str, torch.Tensor]:
    """The model's weights under their original names, in the original row order."""
    model.save_pretrained(folder)
    source = InLayout(open_safetensors(folder), model.config, "original")
    return {name: source.read(name).clone() for name in source.names()}


@pytest.fixture
def original(tmp_path):
    """A model, its original tensors, and an empty folder with its params.json."""
    model = small_model()
    tensors = original_tensors(model, tmp_path / "hugging-face")
    folder = tmp_path / "original"
    folder.mkdir()
    (folder / "params.json").write_text(json.dumps(params_from_config(model.config)))
    return model, tensors, folder


@pytest.mark.parametrize(
    ("name", "save"),
    [("consolidated.00.pth", torch.save), ("consolidated.safetensors", save_file)],
)
def test_a_model_loads_from_its_original_files_with_equal_logits(original, name, save):
    model, tensors, folder = original
    save(tensors, folder / name)
    ids = random_ids(model, 2, 13)
    again = load_original(folder, attention="eager")
    assert torch.equal(again(ids).logits, model(ids).logits)
    assert not again.training
    named = MistralForCausalLM.from_pretrained(folder, attention="eager")
    assert torch.equal(named(ids).logits, model(ids).logits)
    assert load_original(folder, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_transformers_gives_the_logits_of_our_original_files(original):
    """An outside truth: the released converter's mathematics, from the files alone."""
    import transformers

    model, tensors, folder = original
    torch.save(tensors, folder / "consolidated.00.pth")
    theirs = transformers.MistralForCausalLM.from_pretrained(folder.parent / "hugging-face")
    ids = random_ids(model, 1, 4)
    with torch.no_grad():
        assert torch.allclose(theirs(ids).logits, load_original(folder)(ids).logits, atol=1e-4)


def test_files_that_hold_different_tensors_are_joined(original):
    model, tensors, folder = original
    names = sorted(tensors)
    torch.save({name: tensors[name] for name in names[:7]}, folder / "consolidated.00.pth")
    torch.save({name: tensors[name] for name in names[7:]}, folder / "consolidated.01.pth")
    ids = random_ids(model, 1, 9)
    assert torch.equal(load_original(folder, attention="eager")(ids).logits, model(ids).logits)


def test_slices_of_one_tensor_are_refused(original):
    _, tensors, folder = original
    for shard in (0, 1):
        sliced = {name: tensor.chunk(2)[shard].clone() for name, tensor in tensors.items()}
        torch.save(sliced, folder / f"consolidated.{shard:02d}.pth")
    with pytest.raises(WeightsError, match="is in .*00.pth and in .*01.pth: slices"):
        load_original(folder)


def test_safetensors_are_read_where_both_are_there(original):
    model, tensors, folder = original
    save_file(tensors, folder / "consolidated.safetensors")
    (folder / "consolidated.00.pth").write_bytes(b"not even an archive")
    assert len(open_original(folder)[1].names()) == len(tensors)


def test_an_early_file_without_vocabulary_loads(original):
    model, tensors, folder = original
    fields = params_from_config(model.config)
    del fields["vocab_size"]
    (folder / "params.json").write_text(json.dumps(fields))
    torch.save(tensors, folder / "consolidated.00.pth")
    assert load_original(folder).config.vocab_size == model.config.vocab_size


def test_every_tensor_that_does_not_fit_is_listed_at_once(original):
    _, tensors, folder = original
    del tensors["norm.weight"]
    tensors["output.weight"] = torch.zeros(3, 3)
    tensors["layers.0.attention.wq.bias"] = torch.zeros(3)
    torch.save(tensors, folder / "consolidated.00.pth")
    with pytest.raises(WeightsError) as caught:
        load_original(folder)
    for line in (
        "norm.weight: is missing",
        "output.weight: has shape (3, 3), expected (64, 32)",
        "layers.0.attention.wq.bias: belongs to no parameter",
    ):
        assert line in str(caught.value)


def test_a_config_of_too_many_layers_builds_nothing(original):
    model, tensors, folder = original
    fields = {**params_from_config(model.config), "n_layers": 1000, "dim": 2**20}
    (folder / "params.json").write_text(json.dumps(fields))
    torch.save(tensors, folder / "consolidated.00.pth")
    with pytest.raises(WeightsError, match="does not fit its config"):
        load_original(folder)


def test_a_missing_file_is_named(original):
    _, tensors, folder = original
    with pytest.raises(FileNotFoundError, match="neither consolidated.safetensors nor"):
        load_original(folder)
    torch.save(tensors, folder / "consolidated.00.pth")
    (folder / "params.json").unlink()
    with pytest.raises(FileNotFoundError, match="params.json does not exist"):
        load_original(folder)


def test_names_of_neither_layout_are_refused(original):
    _, _, folder = original
    torch.save({"transformer.wte.weight": torch.ones(2)}, folder / "consolidated.00.pth")
    with pytest.raises(WeightsError, match=r"transformer.wte.weight.*belong to neither layout"):
        MistralForCausalLM.from_pretrained(folder)
