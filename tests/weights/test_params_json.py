"""params.json: the three releases, every variant seen in the wild, and what must be refused."""

import json

import pytest

from mistral_edu import MistralConfig
from mistral_edu.weights import WeightsError
from mistral_edu.weights.params_json import (
    config_from_params,
    params_from_config,
    read_params,
    release_of,
)
from tests.models import small_config

# The three releases as their params.json files say them; v0.1 names no theta.
SEVEN_B = {
    "dim": 4096,
    "n_layers": 32,
    "head_dim": 128,
    "hidden_dim": 14336,
    "n_heads": 32,
    "n_kv_heads": 8,
    "norm_eps": 1e-05,
}
V0_1 = {**SEVEN_B, "sliding_window": 4096, "vocab_size": 32000}
V0_2 = {**SEVEN_B, "rope_theta": 1000000.0, "vocab_size": 32000}
V0_3 = {**SEVEN_B, "rope_theta": 1000000.0, "vocab_size": 32768}


def test_the_file_of_v0_1_gives_the_released_config():
    assert config_from_params(V0_1) == MistralConfig.mistral_7b_v0_1()


@pytest.mark.parametrize(
    ("fields", "release", "window", "theta"),
    [(V0_1, "v0.1", 4096, 1e4), (V0_2, "v0.2", None, 1e6), (V0_3, "v0.3", None, 1e6)],
)
def test_the_three_releases_are_told_apart(fields, release, window, theta):
    config = config_from_params(fields)
    assert (release_of(config), config.sliding_window, config.rope_theta) == (
        release,
        window,
        theta,
    )
    assert config.rms_norm_eps == 1e-5


def test_another_model_is_no_release():
    assert release_of(small_config()) is None
    assert release_of(config_from_params({**V0_1, "rope_theta": 1e6})) is None


@pytest.mark.parametrize(("window", "theta"), [(4096, 1e4), (None, 1e6)])
def test_a_missing_theta_follows_from_the_window(window, theta):
    fields = {**SEVEN_B, "vocab_size": 32000, "sliding_window": window}
    assert config_from_params(fields).rope_theta == theta
    assert config_from_params({**fields, "rope_theta": None}).rope_theta == theta
    assert config_from_params({**fields, "rope_theta": 5000}).rope_theta == 5000


@pytest.mark.parametrize("value", [4096, "4096"])
@pytest.mark.parametrize("name", ["sliding_window", "ragged_attention"])
def test_the_window_is_read_under_both_names_as_number_or_text(name, value):
    config = config_from_params({**SEVEN_B, "vocab_size": 32000, name: value})
    assert config == MistralConfig.mistral_7b_v0_1()


@pytest.mark.parametrize("early", [{}, {"vocab_size": -1}, {"vocab_size": None}])
def test_an_early_file_takes_the_vocabulary_from_the_embedding(early):
    fields = {**SEVEN_B, "sliding_window": 4096, **early}
    assert config_from_params(fields, vocab_size=32000) == MistralConfig.mistral_7b_v0_1()
    with pytest.raises(WeightsError, match="vocab_size is missing"):
        config_from_params(fields)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sliding_window": None, "rope_theta": 1e6},
        {"tie_word_embeddings": True},
        {"max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "head_dim": 16},
    ],
)
def test_what_is_written_is_read_again_as_the_same_config(changes):
    config = small_config(initializer_range=0.02, **changes)
    again = config_from_params(json.loads(json.dumps(params_from_config(config))))
    assert again == config


def test_a_released_model_is_written_with_the_released_fields_and_its_theta():
    written = params_from_config(MistralConfig.mistral_7b_v0_1())
    assert written == {**V0_1, "rope_theta": 1e4}


def test_unknown_fields_are_passed_over():
    extra = {"max_batch_size": 4, "nested": {"a": [1, {}]}, "moe": None, "lora": {}}
    assert config_from_params({**V0_1, **extra}) == MistralConfig.mistral_7b_v0_1()


@pytest.mark.parametrize(
    "field",
    [
        {"moe": {"num_experts": 8}},
        {"lora": {"rank": 64}},
        {"quantization": {"qformat_weight": "fp8_e4m3"}},
        {"vision_encoder": {"hidden_size": 1024}},
        {"use_biases": True},
        {"yarn": {"factor": 4}},
        {"model_type": "mamba"},
        {"causal": False},
        {"activation": "gelu"},
    ],
)
def test_a_model_that_computes_something_else_is_refused_by_name(field):
    with pytest.raises(WeightsError, match=f"does not implement.*\n.*{next(iter(field))}"):
        config_from_params({**V0_1, **field})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dim": "4096"}, "dim is '4096', expected a whole number"),
        ({"dim": 4096.0}, "dim is 4096.0"),
        ({"n_heads": True}, "n_heads is True"),
        ({"n_heads": 0}, "n_heads is 0"),
        ({"n_layers": 10**9}, "n_layers is 1000000000"),
        ({"n_layers": 2000}, "n_layers is 2000, expected ≤ 1024"),
        ({"hidden_dim": [1]}, "hidden_dim is list"),
        ({"norm_eps": "1e-5"}, "norm_eps is '1e-5', expected a number"),
        ({"norm_eps": 0}, "norm_eps is 0, expected a number above 0"),
        ({"norm_eps": 10**400}, "norm_eps is a number of 1329 bits"),
        ({"norm_eps": float("nan")}, "norm_eps is nan"),
        ({"rope_theta": -1.0}, "rope_theta is -1.0"),
        ({"sliding_window": 0}, "sliding_window is 0, expected keys"),
        ({"sliding_window": "many"}, "sliding_window is 'many'"),
        ({"sliding_window": [4096, None]}, "sliding_window is list"),
        ({"ragged_attention": 8}, "sliding_window is 4096 but ragged_attention is 8"),
        ({"vocab_size": -2}, "vocab_size is -2"),
        ({"max_position_embeddings": "many"}, "max_position_embeddings is 'many'"),
        ({"n_kv_heads": 5}, "num_key_value_heads=5"),
        ({"head_dim": 127}, "head_dim=127"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(change, said):
    with pytest.raises(WeightsError, match=said):
        config_from_params({**V0_1, **change})


def test_all_missing_fields_are_listed_at_once():
    with pytest.raises(WeightsError) as caught:
        config_from_params({})
    for name in ("dim", "n_layers", "head_dim", "hidden_dim", "n_heads", "n_kv_heads", "norm_eps"):
        assert f"{name} is missing" in str(caught.value)


def test_another_activation_cannot_be_said():
    with pytest.raises(WeightsError, match="hidden_act='relu' cannot be said in params.json"):
        params_from_config(small_config(hidden_act="relu"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b"[]", "holds a list, expected a JSON object"),
        (b"{", "Expecting property name"),
        (b'{"dim": 1, "dim": 2}', "'dim' occurs twice"),
        (b'{"dim": NaN}', "NaN is not a number"),
        (b"\xff\xfe", "can't decode"),
        (b'"' + b"a" * 9_000_000, "more than 8388608 bytes of JSON"),
    ],
)
def test_a_damaged_params_json_is_named(tmp_path, text, said):
    (tmp_path / "params.json").write_bytes(text)
    with pytest.raises(WeightsError, match=said):
        read_params(tmp_path)


def test_a_params_json_that_links_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "secret.json").write_text(json.dumps(V0_1))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "params.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(WeightsError, match="outside the folder"):
        read_params(tmp_path / "model")
