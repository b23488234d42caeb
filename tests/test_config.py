"""MistralConfig: the documentation's defaults, the released values, and refusals that explain."""

import inspect
import json

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

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
    ("fields", "release"),
    [
        (dict(vocab_size=32000, rope_theta=1e4, sliding_window=4096), "v0.1"),
        (dict(vocab_size=32000, rope_theta=1e6, sliding_window=None), "v0.2"),
        (dict(vocab_size=32768, rope_theta=1e6, sliding_window=None), "v0.3"),
        (dict(vocab_size=32768, rope_parameters={"rope_theta": 1e6}, sliding_window=None), "v0.3"),
        (dict(vocab_size=32000, rope_theta=1e6, sliding_window=4096), None),
        (dict(vocab_size=32768, rope_theta=1e4, sliding_window=4096), None),
    ],
)
def test_the_releases_load_right_and_are_told_apart(tmp_path, fields, release):
    released = {
        "architectures": ["MistralForCausalLM"],
        "attention_dropout": 0.0,
        "head_dim": None,
        "max_position_embeddings": 32768,
        "model_type": "mistral",
        "rms_norm_eps": 1e-05,
        "torch_dtype": "bfloat16",
        **fields,
    }
    (tmp_path / "config.json").write_text(json.dumps(released))
    config = MistralConfig.from_pretrained(tmp_path)
    assert config.release == release
    assert (config.vocab_size, config.sliding_window) == (
        fields["vocab_size"],
        fields["sliding_window"],
    )
    assert config.head_dim == 128, "null means derived"
    assert config.rms_norm_eps == 1e-5


def test_a_base_given_twice_must_be_the_same():
    fields = {"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e6}}
    with pytest.raises(ValueError, match="rope_theta=10000.0 but rope_parameters says 1000000.0"):
        MistralConfig.from_dict(fields)
    same = {"rope_theta": 1e6, "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}
    assert MistralConfig.from_dict(same).rope_theta == 1e6
    assert MistralConfig.from_dict({"rope_scaling": None}).rope_theta == 1e4


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_scaling": {"rope_type": "yarn"}},
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e6}},
        {"rope_parameters": {"partial_rotary_factor": 0.5}},
        {"rope_parameters": [1e6]},
    ],
)
def test_scaled_positions_are_refused(fields):
    with pytest.raises(ValueError, match="scales no positions|must be a table"):
        MistralConfig.from_dict(fields)
    with pytest.raises(ValueError, match="is how files write it"):
        MistralConfig(**fields)


def test_the_key_value_heads_are_8_if_left_out_and_those_of_the_queries_if_none(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert MistralConfig.from_pretrained(tmp_path).num_key_value_heads == 8
    (tmp_path / "config.json").write_text('{"num_key_value_heads": null}')
    assert MistralConfig.from_pretrained(tmp_path).num_key_value_heads == 32


def test_the_number_of_labels_comes_from_their_names_or_is_2(tmp_path):
    assert MistralConfig().num_labels == 2
    named = MistralConfig(id2label={0: "no", 1: "yes", 2: "perhaps"}, label2id={"no": 0})
    named.save_pretrained(tmp_path)
    again = MistralConfig.from_pretrained(tmp_path)
    assert again == named
    assert (again.num_labels, again.id2label[2]) == (3, "perhaps")
    assert transformers.MistralConfig.from_pretrained(tmp_path).num_labels == 3
    MistralConfig(num_labels=7).save_pretrained(tmp_path)
    assert transformers.MistralConfig.from_pretrained(tmp_path).num_labels == 7


def test_pruned_heads_are_remembered(tmp_path):
    MistralConfig(pruned_heads={3: [31, 0, 0], 5: []}).save_pretrained(tmp_path)
    assert MistralConfig.from_pretrained(tmp_path).pruned_heads == {3: [0, 31]}


def test_a_function_may_be_the_activation_but_cannot_be_saved(tmp_path):
    config = MistralConfig(hidden_act=abs)
    with pytest.raises(ValueError, match="hidden_act is the function 'abs', which a JSON file"):
        config.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_changed_copy_leaves_the_original():
    config = MistralConfig(course="mistral_edu")
    other = config.changed(sliding_window=None, vocab_size=100)
    assert (other.sliding_window, other.vocab_size, other.course) == (None, 100, "mistral_edu")
    assert (config.sliding_window, config.vocab_size) == (4096, 32000)
    with pytest.raises(ValueError, match="vocab_size=0"):
        config.changed(vocab_size=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 6, "num_key_value_heads": 4}, "heads=6 .* num_key_value_heads=4"),
        ({"num_attention_heads": 0}, "num_attention_heads=0"),
        ({"num_key_value_heads": 0}, "num_key_value_heads=0 must be .* or None for one to each"),
        ({"hidden_size": 100, "num_attention_heads": 8}, "hidden_size=100 .*heads=8"),
        ({"hidden_size": 96, "num_attention_heads": 32}, "head_dim=3 .* must be even"),
        ({"head_dim": 7}, "head_dim=7 .* must be even"),
        ({"sliding_window": 0}, "sliding_window=0 must be .* at least 1 .*, or None for no window"),
        ({"sliding_window": -1}, "sliding_window=-1 must be"),
        ({"vocab_size": 0}, "vocab_size=0 must be a whole number, at least 1$"),
        ({"hidden_size": 2**40}, "hidden_size=1099511627776 must be at most 1,048,576$"),
        ({"rope_theta": -1.0}, "rope_theta=-1.0 must be a finite number above 0"),
        ({"rms_norm_eps": 0.0}, "rms_norm_eps=0.0 must be"),
        ({"initializer_range": -0.1}, "initializer_range=-0.1 must be"),
        ({"vocab_size": 10, "pad_token_id": 10}, "pad_token_id=10 .* vocab_size=10"),
        ({"pad_token_id": -1}, "pad_token_id=-1 must be a token id, 0 or more, or None"),
        ({"attention_dropout": 0.1}, "attention_dropout=0.1 must be 0: Mistral drops nothing"),
        ({"num_labels": 3, "id2label": {0: "a"}}, "num_labels=3 but id2label names 1"),
        ({"id2label": {1: "a", 2: "b"}}, r"id2label has the keys \[1, 2\], expected 0 to n − 1"),
        ({"id2label": {"x": "a"}}, "id2label has the key 'x', expected a whole number"),
        ({"id2label": {}}, "id2label has the keys"),
        ({"problem_type": "guess"}, "problem_type='guess' must be None or one of"),
        (
            {"problem_type": "single_label_classification", "num_labels": 1},
            "problem_type='single_label_classification' needs at least 2 labels, but num_labels=1",
        ),
        ({"pruned_heads": {32: [0]}}, "pruned_heads names layer 32, .* layers 0 to 31"),
        ({"pruned_heads": {0: [32]}}, r"heads \[32\]: .* heads 0 to 31"),
        ({"pruned_heads": {0: range(32)}}, "leaves layer 0 none of its 32 heads"),
        ({"to_dict": 1}, "'to_dict' is a method of MistralConfig"),
    ],
)
def test_values_that_cannot_stand_are_named_both_where_there_are_two(changes, message):
    with pytest.raises(ValueError, match=message):
        MistralConfig(**changes)


WRONG = {
    "a string for a number": '{"hidden_size": "64"}',
    "a list": '{"num_hidden_layers": [1, 2]}',
    "a fraction": '{"vocab_size": 10.5}',
    "a number for a truth": '{"use_cache": 1}',
    "a truth for a number": '{"vocab_size": true}',
    "null": '{"hidden_size": null}',
    "NaN": '{"rope_theta": NaN}',
    "infinity": '{"rms_norm_eps": 1e999}',
    "a huge number": '{"hidden_size": 1000000000000000000000000}',
    "a number of 5000 digits": '{"hidden_size": 1' + "0" * 5000 + "}",
    "a negative number": '{"num_attention_heads": -4}',
    "a table for a name": '{"hidden_act": {"a": 1}}',
    "names in a list": '{"id2label": ["a", "b"]}',
    "heads that are no list": '{"pruned_heads": {"0": 3}}',
    "a mixed list of ends": '{"eos_token_id": [1, "2"]}',
    "a method's name": '{"from_dict": 1}',
    "the word self": '{"self": 1}',
    "a dunder": '{"__class__": 1}',
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_a_field_of_the_wrong_kind_is_a_value_error_that_names_the_file(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json") as caught:
        MistralConfig.from_pretrained(tmp_path)
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


def test_harmless_oddities_are_kept(tmp_path):
    (tmp_path / "config.json").write_text('{"eos_token_id": [2, 7], "a b": {"c": null}}')
    config = MistralConfig.from_pretrained(tmp_path)
    assert (config.eos_token_id, config.to_dict()["a b"]) == ([2, 7], {"c": None})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
field_names = st.sampled_from([*MistralConfig().to_dict(), "rope_parameters", "rope_scaling"])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(field_names, json_values, max_size=4))
def test_whatever_a_file_holds_is_a_config_or_a_value_error(fields):
    try:
        config = MistralConfig.from_dict(fields)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert MistralConfig.from_dict(config.to_dict()) == config


DEEP = '{"a":' * 200_000 + "1" + "}" * 200_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        (DEEP, "not valid JSON .*too deep"),
        ("[1]", "holds a list, expected a JSON object"),
        ('{"model_type": "llama"}', "model_type='llama' is not 'mistral'"),
        ('{"rope_parameters": {"rope_type": "yarn"}}', "rope_type='yarn'"),
        (b"\xff\xfe{}", "not valid JSON .*utf-8"),
        (" " * (2**23 + 1), "more than 8388608 bytes"),
    ],
    ids=["cut", "deep", "list", "llama", "yarn", "utf-16", "long"],
)
def test_a_file_that_is_no_mistral_config_is_refused(tmp_path, text, message):
    (tmp_path / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        MistralConfig.from_pretrained(tmp_path)


def test_what_json_cannot_hold_is_refused_and_the_old_file_stays(tmp_path):
    MistralConfig(hidden_size=512).save_pretrained(tmp_path)
    cyclic: dict = {}
    cyclic["again"] = cyclic
    for extra in (cyclic, {1, 2}, float("nan")):
        with pytest.raises(ValueError, match="cannot be written as JSON"):
            MistralConfig(extra_field=extra).save_pretrained(tmp_path)
    assert MistralConfig.from_pretrained(tmp_path).hidden_size == 512


def test_an_interrupted_save_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    MistralConfig(hidden_size=512).save_pretrained(tmp_path)

    def full_disk(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        MistralConfig(hidden_size=256).save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert MistralConfig.from_pretrained(tmp_path).hidden_size == 512


def test_a_folder_without_a_config_says_what_to_give(tmp_path):
    with pytest.raises(FileNotFoundError, match="give a folder that save_pretrained wrote"):
        MistralConfig.from_pretrained(tmp_path)


def test_configs_print_and_compare_by_their_fields():
    assert MistralConfig() == MistralConfig()
    assert MistralConfig() != MistralConfig(vocab_size=5)
    assert repr(MistralConfig()).startswith("MistralConfig(vocab_size=32000, hidden_size=4096,")
