"""The full model by one command: with a toy in its place, or the real weights if named."""

import os
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mistral_edu import MistralConfig, MistralForCausalLM, RollingCache, load
from mistral_edu.bench import sizes
from mistral_edu.experiments import seven_b
from mistral_edu.experiments.seven_b import REAL, Settings
from mistral_edu.experiments.seven_b_run import watch
from mistral_edu.paths import data_dir
from mistral_edu.weights.convert import convert
from mistral_edu.weights.shapes_only import shapes_only
from tests.models import small_config

TOY = Settings(model="toy", prompt=5, steps=3, device="cpu")


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.delenv(REAL, raising=False)
    monkeypatch.setitem(sizes.SIZES, "toy", lambda: small_config(vocab_size=40))


def values(measurement):
    return {row["what"]: row["value"] for row in measurement.rows}


def test_the_whole_run_in_a_fresh_process(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(seven_b.tempfile, "tempdir", None)
    found = seven_b.measure(TOY)
    value = values(found)
    for name in ("loading", "first prompt", "prompt", "token", "limit", "engine", "engine's token"):
        assert value[name] > 0, name
    assert 0 <= value["engine's difference"] <= 3e-2
    config = small_config(vocab_size=40)
    assert value["cache"] == RollingCache.allocate(config, 1, dtype=torch.bfloat16).nbytes
    assert found.settings["parameters"] == MistralForCausalLM(config).num_parameters()
    assert found.settings["dtype"] == "bfloat16" and len(found.settings["tokens"]) == 3
    assert found.settings["weights"] == "random" and found.settings["written"] is None
    assert not list(tmp_path.iterdir()), "the random weights are gone"
    seven_b.draw(found, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes()[1:4] == b"PNG"


def test_a_model_with_a_tokenizer_is_given_words():
    found = watch(data_dir() / "tiny", torch.device("cpu"), prompt=4, steps=5)
    model, tokenizer = load("tiny", dtype=torch.bfloat16)
    ids = torch.tensor([tokenizer.encode("The first thing to know about a rolling cache is")])
    written = model.generate(ids, max_new_tokens=5, eos_token_id=())
    assert found["written"] == tokenizer.decode(written[0].tolist())
    assert found["prompt tokens"] == ids.shape[1]


def test_weights_stay_in_their_file(tmp_path):
    folder = tmp_path / "wide"
    config = small_config(hidden_size=512, intermediate_size=4096, num_attention_heads=8)
    MistralForCausalLM(config).save_pretrained(folder, dtype=torch.bfloat16)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    found = watch(folder, torch.device("cpu"), prompt=4, steps=1)
    if found["mapped"] == 0:
        pytest.skip("only Linux tells mapped pages from others")
    assert found["mapped"] > 0.9 * size > 10e6
    assert found["own after loading"] < 0.2 * size
    # What the engine has copied, it has let go of in the file.
    fused = found["mapped"] - found["mapped with the engine"]
    assert 0.5 * size < fused < 0.8 * size


def test_a_folder_that_holds_no_model_is_named(toy, monkeypatch, tmp_path):
    monkeypatch.setenv(REAL, str(tmp_path))
    with pytest.raises(FileNotFoundError, match="is no folder with config.json or params.json"):
        seven_b.measure(TOY)


@pytest.mark.parametrize("to", ["hugging-face", "original"])
def test_a_model_of_other_shapes_is_named_and_not_measured(toy, monkeypatch, tmp_path, to):
    folder = data_dir() / "tiny"
    if to == "original":
        folder = tmp_path / "original"
        convert(data_dir() / "tiny", folder, to)
    monkeypatch.setenv(REAL, str(folder))
    monkeypatch.setattr(seven_b, "_in_fresh_process", lambda *_: pytest.fail("it was measured"))
    with pytest.raises(ValueError, match="with hidden_size=128, expected 32: name the folder of"):
        seven_b.measure(TOY)


def test_a_disk_that_is_too_small_is_found_before_anything_is_written(toy, monkeypatch):
    usage = namedtuple("usage", "total used free")(10, 9, 1)
    monkeypatch.setattr(seven_b.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(sizes, "write_weights", lambda *_: pytest.fail("weights were written"))
    with pytest.raises(OSError, match="1 bytes free .* name a larger disk by TMPDIR"):
        seven_b.measure(TOY)


def test_too_little_memory_is_found_first(toy, monkeypatch):
    memory = namedtuple("memory", "available")(1)
    monkeypatch.setattr(seven_b.psutil, "virtual_memory", lambda: memory)
    with pytest.raises(MemoryError, match=r"keep the model in 8 bits"):
        seven_b.measure(TOY)


def test_a_process_that_fails_says_why(toy, tmp_path, monkeypatch):
    MistralForCausalLM(small_config(vocab_size=40)).save_pretrained(tmp_path)
    monkeypatch.setenv(REAL, str(tmp_path))
    with pytest.raises(RuntimeError, match="in a fresh process failed: .*"):
        seven_b.measure(replace(TOY, device="mars"))


def test_the_full_model_has_its_parameters_and_its_cache_half_a_gibibyte():
    with shapes_only():
        model = MistralForCausalLM(MistralConfig.mistral_7b_v0_1())
        cache = RollingCache.allocate(
            model.config, 1, dtype=torch.bfloat16, device=torch.device("meta")
        )
    assert model.num_parameters() == 7_241_732_096
    assert all(parameter.is_meta for parameter in model.parameters())
    assert cache.nbytes == 512 * 2**20


@pytest.mark.skipif(REAL not in os.environ, reason=f"{REAL} names no folder of real weights")
def test_the_real_weights_continue_a_text():
    model, tokenizer = load(Path(os.environ[REAL]), dtype=torch.bfloat16)
    assert model.num_parameters() == 7_241_732_096
    ids = torch.tensor([tokenizer.encode("The capital of France is")])
    said = model.generate(ids, max_new_tokens=3)
    assert "Paris" in tokenizer.decode(said[0].tolist())


def test_the_finding_is_a_sentence_of_the_table(toy):
    values = {"limit": 0.5, "token": 1.0, "engine's token": 0.625, "own": 2**29}
    values["own with the engine"] = 9 * 2**30
    rows = [{"what": what, "value": value} for what, value in values.items()]
    said = seven_b.finding({"parameters": 1234, "dtype": "bfloat16"}, rows)
    assert said == (
        "1,234 parameters in bfloat16: the engine needs 0.62 seconds a token, 80% of the limit of "
        "reading, and 9.0 GiB beside the file; the plain model needs 1.00 seconds a token, 50% of "
        "the limit of reading, and 0.5 GiB beside the file"
    )


def test_pages_of_the_weights_are_given_up_before_they_are_timed(tmp_path, monkeypatch):
    if not hasattr(os, "posix_fadvise"):
        pytest.skip("this system cannot be told to give pages up")
    told = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *how: told.append(how[1:]))
    MistralForCausalLM(small_config(vocab_size=40)).save_pretrained(tmp_path)
    watch(tmp_path, torch.device("cpu"), prompt=2, steps=1)
    assert told == [(0, 0, os.POSIX_FADV_DONTNEED)]
