"""Checkpoints from a hub: one format of each, resumed, cached, and every refusal in plain words."""

import os
import subprocess
import sys

import pytest
import torch
from huggingface_hub import constants

from mistral_edu import MistralConfig, MistralForCausalLM, MistralTokenizer, load
from mistral_edu.weights.checksums import altered_files
from mistral_edu.weights.hub import HubError, wanted_files
from mistral_edu.weights.named import local_folder
from tests.models import small_model
from tests.weights.fake_hub import FakeHub

WORDS = ["the ring rolls over the hill and the hill rolls over the ring"] * 3


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """One model in four repositories: single, sharded, in every format at once, and without any."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = MistralTokenizer.train(WORDS, vocab_size=280)
    tokenizer.save(folder)
    model = small_model(vocab_size=280)
    model.save_pretrained(folder)
    single = files_of(folder)
    model.save_pretrained(folder, max_shard_bytes=60_000)
    sharded = files_of(folder)
    other = {"README.md": b"a card", "pytorch_model.bin": b"pickle", "tf_model.h5": b"-"}
    original = {
        "consolidated.safetensors": b"-",
        "consolidated.00.pth": b"pickle",
        "params.json": b"{}",
    }
    bare = {"config.json": single["config.json"], **other}
    return {
        "valley/single": single,
        "valley/sharded": sharded,
        "valley/all": {**single, **other, **original},
        "valley/original": {**original, **other, "tokenizer.model": single["tokenizer.model"]},
        "valley/bins": bare,
    }


@pytest.fixture
def online(monkeypatch, tmp_path):
    """Point the real client at a hub on this machine, with an empty cache."""

    def connect(address, offline=False):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return connect


@pytest.fixture
def hub(repositories, online):
    with FakeHub(repositories, gated={"valley/gated"}) as server:
        online(server.address)
        yield server


def asked(hub):
    return sorted(file for file, _ in hub.asked)


@pytest.mark.parametrize("repository", ["valley/single", "valley/sharded"])
def test_a_model_and_its_tokenizer_come_from_the_hub(hub, repository):
    model, tokenizer = load(repository)
    assert torch.equal(model.lm_head.weight, small_model(vocab_size=280).lm_head.weight)
    assert tokenizer.vocab_size == 280
    assert asked(hub) == sorted(hub.repositories[repository])


def test_only_one_format_is_fetched(hub):
    load("valley/all")
    assert asked(hub) == ["config.json", "model.safetensors", "tokenizer.model"]


def test_a_config_or_a_tokenizer_alone_fetches_nothing_else(hub):
    assert MistralConfig.from_pretrained("valley/all").vocab_size == 280
    assert asked(hub) == ["config.json"]
    assert MistralTokenizer.from_pretrained("valley/all").vocab_size == 280
    assert asked(hub) == ["config.json", "tokenizer.model"]


def test_without_safetensors_in_hugging_face_layout_the_original_files_are_fetched(hub):
    folder = local_folder("valley/original")
    assert asked(hub) == ["consolidated.safetensors", "params.json", "tokenizer.model"]
    assert sorted(path.name for path in folder.iterdir()) == asked(hub)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["consolidated.00.pth", "params.json"], ["consolidated.00.pth", "params.json"]),
        (["a/model.safetensors", "model-00001-of-00001.safetensors"], []),
        (
            ["consolidated.safetensors", "model.safetensors.index.json"]
            + ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
            ["model.safetensors.index.json"]
            + ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ),
    ],
)
def test_the_best_format_there_is_is_chosen_by_name(names, wanted):
    assert wanted_files(names, ["weights"]) == wanted


def test_a_download_that_breaks_off_goes_on_where_it_stopped(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 256)
    hub.break_after = 1000
    model, _ = load("valley/single")
    assert torch.equal(model.lm_head.weight, small_model(vocab_size=280).lm_head.weight)
    starts = [start for file, start in hub.asked if file == "model.safetensors"]
    assert starts[0] == 0 and 0 < starts[1] <= 1000 and len(starts) == 2


def test_the_hub_is_the_one_that_the_environment_names(hub, tmp_path, repository):
    program = "from mistral_edu import load; print(load('valley/single')[0].config.vocab_size)"
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.address,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "280", done.stderr
    assert asked(hub) == ["config.json", "model.safetensors", "tokenizer.model"]


def test_what_is_cached_is_not_fetched_again_and_works_without_a_network(hub, online):
    first, _ = load("valley/sharded")
    hub.asked.clear()
    load("valley/sharded")
    load("valley/sharded", revision=hub.commit("valley/sharded"))
    assert hub.asked == []
    for address, offline in (("http://127.0.0.1:9", False), (hub.address, True)):
        online(address, offline)
        again, _ = load("valley/sharded")
        assert torch.equal(again.lm_head.weight, first.lm_head.weight)


def test_a_cache_that_holds_only_a_part_does_not_pass_for_a_model(hub, online):
    MistralConfig.from_pretrained("valley/single")
    online("http://127.0.0.1:9")
    assert MistralConfig.from_pretrained("valley/single").vocab_size == 280
    with pytest.raises(HubError, match="not cached and the hub cannot be reached"):
        MistralForCausalLM.from_pretrained("valley/single")
    with pytest.raises(HubError, match="not cached"):
        MistralTokenizer.from_pretrained("valley/single")


def test_a_folder_wins_over_a_repository_of_the_same_name(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small_model(seed=1).save_pretrained("valley/single")
    model = MistralForCausalLM.from_pretrained("valley/single")
    assert torch.equal(model.lm_head.weight, small_model(seed=1).lm_head.weight)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("repository", "revision", "said"),
    [
        ("valley/gated", None, "'valley/gated' is gated: ask for access .* HF_TOKEN"),
        ("valley/missing", None, "neither a folder here nor a repository on the hub"),
        ("valley/single", "no-such", "'valley/single' has no revision 'no-such'"),
        ("valley/bins", None, r"no consolidated files \(but pytorch_model.bin, tf_model.h5\)"),
    ],
)
def test_each_refusal_says_why_and_what_to_do(hub, repository, revision, said):
    with pytest.raises(HubError, match=said):
        load(repository, revision=revision)
    assert hub.asked == []


def test_a_file_that_cannot_be_had_fails_the_download_until_it_can(hub):
    hub.lost.add("model.safetensors")
    with pytest.raises(HubError, match="downloading 'valley/single' failed .*EntryNotFound"):
        load("valley/single")
    hub.lost.clear()
    load("valley/single")
    assert asked(hub) == ["config.json", "model.safetensors", "tokenizer.model"]  # each once


@pytest.mark.parametrize("file", ["config.json", "model-00002-of-00003.safetensors"])
def test_a_bit_that_flips_in_the_cache_can_be_found(hub, file):
    folder = local_folder("valley/sharded")
    assert altered_files(folder) == []
    blob = (folder / file).resolve()
    data = bytearray(blob.read_bytes())
    data[-2] ^= 1
    blob.write_bytes(data)
    assert altered_files(folder) == [file]


def test_offline_and_not_cached_is_said(online):
    online("http://127.0.0.1:9", offline=True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE forbids to fetch it"):
        load("valley/single")


@pytest.mark.parametrize("name", ["tinny", "./valley/single", "/valley/single", "a/b/c"])
def test_what_is_no_name_of_a_repository_lists_what_there_is(hub, name):
    with pytest.raises(FileNotFoundError, match=r"is not a model of the course \(.*tiny.*\)"):
        load(name)
    assert hub.asked == []
