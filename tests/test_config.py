"""MistralConfig: the documentation's defaults, the released values, and refusals that explain."""

import inspect
import json

import pytest

from mistral_edu import MistralConfig

DOCUMENTED = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "max_position_embeddings": 131072,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-6,
    "use_cache": True,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
}


def test_defaults_and_their_order_are_the_documentation_s():
    parameters = inspect.signature(MistralConfig).parameters
    documented = list(parameters)[: len(DOCUMENTED)]
    assert {name: parameters[name].default for name in documented} == DOCUMENTED
    assert {name: getattr(MistralConfig(), name) for name in DOCUMENTED} == DOCUMENTED


def test_the_released_checkpoint_differs_in_eps_and_positions():
    released = MistralConfig.mistral_7b_v0_1().to_dict()
    documented = MistralConfig().to_dict()
    assert {name for name in released if released[name] != documented[name]} == {
        "rms_norm_eps",
        "max_position_embeddings",
    }
    assert (released["rms_norm_eps"], released["max_position_embeddings"]) == (1e-5, 32768)


def test_no_key_value_heads_given_as_none_means_one_for_each_query_head():
    assert MistralConfig(num_key_value_heads=None).num_key_value_heads == 32


def test_extra_fields_are_kept_and_written(tmp_path):
    MistralConfig(torch_dtype="bfloat16").save_pretrained(tmp_path)
    assert MistralConfig.from_pretrained(tmp_path).torch_dtype == "bfloat16"


@pytest.mark.parametrize(
    "changes", [{}, {"sliding_window": None}, {"head_dim": 64, "rope_theta": 5.0}]
)
def test_a_saved_config_comes_back_equal(tmp_path, changes):
    config = MistralConfig(**changes)
    config.save_pretrained(tmp_path)
    assert MistralConfig.from_pretrained(tmp_path) == config
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_nested_rope_parameters_are_read(tmp_path):
    fields = {
        "model_type": "mistral",
        "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"},
    }
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert MistralConfig.from_pretrained(tmp_path).rope_theta == 1e6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 6, "num_key_value_heads": 4}, "heads=6 .* num_key_value_heads=4"),
        ({"num_attention_heads": 0}, "num_attention_heads=0"),
        ({"hidden_size": 100, "num_attention_heads": 8}, "hidden_size=100 .*heads=8"),
        ({"hidden_size": 96, "num_attention_heads": 32}, "head_dim=3 .* must be even"),
        ({"sliding_window": 0}, "sliding_window=0 must be at least 1"),
        ({"vocab_size": 0}, "vocab_size=0"),
        ({"rope_theta": -1.0}, "rope_theta=-1.0"),
    ],
)
def test_values_that_cannot_go_together_are_both_named(changes, message):
    with pytest.raises(ValueError, match=message):
        MistralConfig(**changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[1]", "holds a list, expected a JSON object"),
        ('{"model_type": "llama"}', "model_type='llama' is not 'mistral'"),
        ('{"rope_parameters": {"rope_type": "yarn"}}', "rope_type='yarn'"),
    ],
)
def test_a_file_that_is_no_mistral_config_is_refused(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        MistralConfig.from_pretrained(tmp_path)


def test_a_folder_without_a_config_says_what_to_give(tmp_path):
    with pytest.raises(FileNotFoundError, match="give a folder that save_pretrained wrote"):
        MistralConfig.from_pretrained(tmp_path)
