"""Files of weights: what was saved comes back, and what does not fit is refused as a whole."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from mistral_edu import MistralConfig, MistralForCausalLM, MistralModel, load
from mistral_edu.weights import WeightsError
from tests.models import random_ids, small_model


@pytest.fixture
def saved(tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path)
    return model, tmp_path


def test_a_saved_model_comes_back_with_equal_logits(saved):
    model, folder = saved
    again = MistralForCausalLM.from_pretrained(folder)
    ids = random_ids(model, 1, 9)
    assert torch.equal(again(ids).logits, MistralForCausalLM.from_pretrained(folder)(ids).logits)
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True)
    )
    assert not again.training


def test_transformers_loads_what_we_save_and_we_load_what_it_saves(saved, tmp_path):
    import transformers

    model, folder = saved
    theirs = transformers.MistralForCausalLM.from_pretrained(folder, attn_implementation="eager")
    ids = random_ids(model, 1, 13)
    with torch.no_grad():
        assert torch.allclose(theirs(ids).logits, model(ids).logits, atol=1e-4)
        theirs.save_pretrained(tmp_path / "theirs")
        ours = MistralForCausalLM.from_pretrained(tmp_path / "theirs")
        assert torch.equal(ours(ids).logits, MistralForCausalLM.from_pretrained(folder)(ids).logits)


def test_weights_are_cast_on_the_way_in_and_out(saved):
    model, folder = saved
    assert MistralForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).dtype == torch.bfloat16
    model.save_pretrained(folder, dtype=torch.float16)
    assert MistralForCausalLM.from_pretrained(folder).dtype == torch.float16
    assert model.dtype == torch.float32


def test_tied_weights_are_stored_once_and_tied_again(tmp_path):
    small_model(tie_word_embeddings=True).save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    again = MistralForCausalLM.from_pretrained(tmp_path)
    assert again.lm_head.weight is again.get_input_embeddings().weight


def test_every_mismatch_is_listed_at_once_and_nothing_is_loaded(saved):
    _, folder = saved
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    tensors["lm_head.weight"] = torch.zeros(3, 3)
    tensors["extra"] = torch.zeros(1)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(WeightsError) as caught:
        MistralForCausalLM.from_pretrained(folder)
    for line in (
        "model.norm.weight: is missing",
        "lm_head.weight: has shape (3, 3), expected (64, 32)",
        "extra: belongs to no parameter",
    ):
        assert line in str(caught.value)


def test_a_truncated_file_is_named(saved):
    _, folder = saved
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WeightsError, match="is damaged .*: copy or save it again"):
        MistralForCausalLM.from_pretrained(folder)


def test_a_missing_file_is_named(saved):
    _, folder = saved
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="give a folder that save_pretrained wrote"):
        MistralForCausalLM.from_pretrained(folder)


def test_an_interrupted_save_leaves_the_old_file(saved, monkeypatch):
    model, folder = saved
    before = (folder / "model.safetensors").read_bytes()

    def full_disk(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("mistral_edu.weights.safetensors_files.save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        model.save_pretrained(folder)
    assert (folder / "model.safetensors").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_loading_an_unknown_name_lists_the_course_s_own_models():
    with pytest.raises(FileNotFoundError, match="'tinny' is not a model of the course .*tiny"):
        load("tinny")


def test_the_bare_model_saves_and_loads(tmp_path):
    bare = small_model().model
    bare.save_pretrained(tmp_path)
    again = MistralModel.from_pretrained(tmp_path)
    assert torch.equal(again.norm.weight, bare.norm.weight)


def test_the_tiny_model_is_what_its_card_says():
    model, tokenizer = load("tiny")
    config = model.config
    assert isinstance(config, MistralConfig)
    assert tokenizer.vocab_size == config.vocab_size == 1024
    assert config.sliding_window * 4 <= config.max_position_embeddings
    assert config.group_size == 4
