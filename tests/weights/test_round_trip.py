"""What was saved comes back: here, in transformers, cast, sharded, tied, with another head."""

import logging
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mistral_edu import MistralConfig, MistralForCausalLM, MistralModel, load
from mistral_edu.pretrained import PretrainedModel
from tests.models import random_ids, small_model

SHARD = 30_000


class Classifier(PretrainedModel):
    """A decoder with a head of another kind."""

    def __init__(self, config, attention="auto"):
        super().__init__(config)
        self.model = MistralModel(config, attention)
        self.score = nn.Linear(config.hidden_size, 3, bias=False)


@pytest.fixture(params=[10**9, SHARD], ids=["one file", "shards"])
def saved(request, tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path, max_shard_bytes=request.param)
    assert len(list(tmp_path.glob("*.safetensors"))) == (1 if request.param > SHARD else 4)
    return model, tmp_path


def equal(ours, theirs):
    theirs = dict(theirs.named_parameters())
    return all(torch.equal(tensor, theirs[name]) for name, tensor in ours.named_parameters())


def test_a_saved_model_comes_back_in_evaluation_mode(saved):
    model, folder = saved
    again = MistralForCausalLM.from_pretrained(folder)
    ids = random_ids(model, 1, 9)
    assert equal(again, model)
    assert torch.allclose(again(ids).logits, model(ids).logits, atol=1e-5)
    assert not again.training
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_nothing_is_left_without_numbers(saved):
    again = MistralForCausalLM.from_pretrained(saved[1])
    modules = list(again.modules())
    tensors = [t for m in modules for t in (*m._parameters.values(), *m._buffers.values())]
    assert {tensor.device.type for tensor in tensors if tensor is not None} == {"cpu"}


def test_transformers_loads_what_we_save_without_a_word(saved):
    import transformers

    model, folder = saved
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("transformers").addHandler(handler)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theirs, info = transformers.AutoModelForCausalLM.from_pretrained(
            folder, attn_implementation="eager", output_loading_info=True
        )
    logging.getLogger("transformers").removeHandler(handler)
    assert said == [] and not any(info.values()), (said, info)
    assert type(theirs).__name__ == "MistralForCausalLM" and equal(model, theirs)
    ids = random_ids(model, 1, 13)
    with torch.no_grad():
        assert torch.allclose(theirs(ids).logits, model(ids).logits, atol=1e-4)


def test_we_load_what_transformers_saves(saved, tmp_path):
    import transformers

    model, folder = saved
    theirs = transformers.MistralForCausalLM.from_pretrained(folder)
    for limit in ("1GB", "30KB"):
        theirs.save_pretrained(tmp_path / limit, max_shard_size=limit)
        assert equal(MistralForCausalLM.from_pretrained(tmp_path / limit), model)
    assert len(list((tmp_path / "30KB").glob("*.safetensors"))) > 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_are_cast_on_the_way_in_and_out(saved, tmp_path, dtype):
    model, folder = saved
    cast_in = MistralForCausalLM.from_pretrained(folder, dtype=dtype)
    model.save_pretrained(tmp_path / "cast", dtype=dtype)
    cast_out = MistralForCausalLM.from_pretrained(tmp_path / "cast")
    assert cast_in.dtype == cast_out.dtype == dtype and model.dtype == torch.float32
    assert equal(cast_in, cast_out) and equal(cast_in, model.to(dtype))


def test_the_saved_config_says_what_was_saved(saved, tmp_path):
    model, _ = saved
    model.save_pretrained(tmp_path / "half", dtype=torch.float16)
    config = MistralConfig.from_pretrained(tmp_path / "half")
    assert config.dtype == "float16" and config.architectures == ["MistralForCausalLM"]
    assert not hasattr(model.config, "dtype")


def test_on_the_meta_device_there_are_shapes_and_no_numbers(saved):
    model, folder = saved
    again = MistralForCausalLM.from_pretrained(folder, device="meta", dtype=torch.bfloat16)
    assert again.device.type == "meta" and again.dtype == torch.bfloat16
    assert again.num_parameters() == model.num_parameters()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_weights_go_straight_to_a_gpu(saved):
    model, folder = saved
    again = MistralForCausalLM.from_pretrained(folder, device="cuda", dtype=torch.bfloat16)
    assert again.device.type == "cuda"
    assert equal(again.cpu(), model.to(torch.bfloat16))


@pytest.mark.parametrize("shard", [10**9, SHARD])
def test_tied_weights_are_stored_once_and_tied_again(tmp_path, shard):
    model = small_model(tie_word_embeddings=True)
    model.save_pretrained(tmp_path, max_shard_bytes=shard)
    names = [name for file in tmp_path.glob("*.safetensors") for name in load_file(file)]
    assert "lm_head.weight" not in names and "model.embed_tokens.weight" in names
    again = MistralForCausalLM.from_pretrained(tmp_path)
    assert again.lm_head.weight is again.get_input_embeddings().weight
    assert equal(again, model)


def test_a_head_stored_beside_tied_embeddings_is_passed_over(tmp_path):
    model = small_model(tie_word_embeddings=True)
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file(load_file(path) | {"lm_head.weight": torch.zeros(64, 32)}, path)
    again = MistralForCausalLM.from_pretrained(tmp_path)
    assert again.lm_head.weight is again.get_input_embeddings().weight
    assert equal(again, model)


def test_rotary_frequencies_of_the_first_converter_are_passed_over(saved):
    model, folder = saved
    path = next(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    if index.exists():
        index.write_text(
            index.read_text().replace(
                '"weight_map": {', f'"weight_map": {{"{name}": "{path.name}",'
            )
        )
    save_file(load_file(path) | {name: torch.ones(4)}, path)
    assert equal(MistralForCausalLM.from_pretrained(folder), model)


def test_the_decoder_alone_loads_from_a_language_model_and_back(saved, tmp_path):
    model, folder = saved
    decoder = MistralModel.from_pretrained(folder)
    assert equal(decoder, model.model)
    decoder.save_pretrained(tmp_path / "decoder")
    assert equal(MistralModel.from_pretrained(tmp_path / "decoder"), decoder)


def test_a_classifier_made_from_a_language_model_says_that_its_head_is_new(saved, tmp_path):
    model, folder = saved
    for source in (folder, tmp_path / "decoder"):
        if source != folder:
            model.model.save_pretrained(source)
        with pytest.warns(UserWarning, match="has no score.weight: the head is new and untrained"):
            classifier = Classifier.from_pretrained(source, dtype=torch.bfloat16)
        assert equal(classifier.model, model.to(torch.bfloat16).model)
        head = classifier.score.weight
        assert head.dtype == torch.bfloat16 and head.requires_grad
        assert 0.5 < head.std() / model.config.initializer_range < 1.5
    classifier.save_pretrained(tmp_path / "classifier")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert equal(Classifier.from_pretrained(tmp_path / "classifier"), classifier)


def test_loaded_weights_can_be_trained_and_saved_over_their_own_file(saved):
    """They are mapped from the file: training must not write to it, and saving not pull it away."""
    model, folder = saved
    files = {path: path.read_bytes() for path in folder.iterdir()}
    again = MistralForCausalLM.from_pretrained(folder)
    ids = random_ids(model, 2, 8)
    again(ids, labels=ids).loss.backward()
    torch.optim.SGD(again.parameters(), lr=0.1).step()
    assert {path: path.read_bytes() for path in files} == files
    assert not equal(again, model)
    trained = {name: tensor.clone() for name, tensor in again.named_parameters()}
    again.save_pretrained(folder)
    for held in (again, MistralForCausalLM.from_pretrained(folder)):
        assert all(torch.equal(tensor, trained[name]) for name, tensor in held.named_parameters())


def test_the_tiny_model_is_what_its_card_says():
    model, tokenizer = load("tiny")
    config = model.config
    assert isinstance(config, MistralConfig)
    assert tokenizer.vocab_size == config.vocab_size == 2048
    assert config.sliding_window * 8 <= config.max_position_embeddings
    assert config.group_size == 4
