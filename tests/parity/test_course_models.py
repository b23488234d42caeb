"""The models of the course are ordinary Mistral checkpoints: `transformers` reads them."""

import pytest
import torch

from mistral_edu import load
from mistral_edu.paths import data_dir

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("name", ["tiny", "tiny-instruct"])
def test_a_model_of_the_course_has_the_same_logits_in_transformers(name):
    model, tokenizer = load(name)
    twin = transformers.MistralForCausalLM.from_pretrained(
        data_dir() / name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    text = "Zoé lives in the barn. " * 40  # Longer than three windows.
    ids = torch.tensor([tokenizer.encode(text)])
    assert ids.shape[1] > 3 * model.config.sliding_window
    with torch.no_grad():
        ours, theirs = model(ids, use_cache=False).logits, twin(ids, use_cache=False).logits
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.mark.parametrize("name", ["tiny", "tiny-instruct"])
def test_a_model_of_the_course_is_small_and_groups_its_heads(name):
    folder = data_dir() / name
    config = load(name)[0].config
    assert (folder / "model.safetensors").stat().st_size <= 12 * 2**20
    assert config.num_hidden_layers >= 6 and config.group_size >= 4
    assert 8 * config.sliding_window <= config.max_position_embeddings
