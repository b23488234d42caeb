"""A device that is not there is named before any work, by the library and by every command."""

import pytest
import torch

from mistral_edu import MistralForCausalLM, cli, load
from mistral_edu.devices import why_absent
from mistral_edu.quantized_model import load_quantized
from mistral_edu.weights import named
from mistral_edu.weights.verify import verify


@pytest.fixture
def without_gpu(monkeypatch):
    """A machine without a GPU, on which nothing is looked for by name."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(named, "local_folder", lambda *_, **__: pytest.fail("it began to work"))


@pytest.mark.parametrize(
    "ask",
    [
        lambda: load("tiny", device="cuda"),
        lambda: load("tiny", device=torch.device("cuda:1")),
        lambda: MistralForCausalLM.from_pretrained("tiny", device="cuda"),
        lambda: load_quantized("tiny", device="cuda"),
        lambda: next(verify("tiny", device="cuda")),
    ],
)
def test_python_is_told_that_there_is_no_gpu(without_gpu, ask):
    with pytest.raises(ValueError, match='device="cuda.*": PyTorch finds no CUDA GPU.*"cpu"'):
        ask()


@pytest.mark.parametrize(
    "words", [["generate", "It was"], ["chat"], ["verify", "tiny"], ["bench", "--model", "tiny"]]
)
def test_every_command_says_that_there_is_no_gpu(without_gpu, capsys, words):
    assert cli.main([*words, "--device", "cuda"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "mistral-edu: --device cuda: PyTorch finds no CUDA GPU here; leave --device out\n"
    )


def test_a_name_that_is_no_device_is_refused_before_the_checks(without_gpu, capsys):
    assert cli.main(["verify", "tiny", "--device", "foo"]) == 2
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)
    assert "--device foo: PyTorch knows no such device, expected cpu" in said.err


def test_a_gpu_past_the_last_is_missing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert why_absent("cuda") is why_absent("cuda:1") is None
    assert "finds 2 CUDA GPUs" in str(why_absent("cuda:2"))


def test_other_devices_are_tried(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("Torch not compiled with XPU enabled")

    assert why_absent("meta") is None
    monkeypatch.setattr(torch, "empty", refuse)
    assert "cannot use it here" in str(why_absent("xpu"))
