"""`mistral-edu generate`: its options are the rules of generation, and the prompt goes in once."""

import argparse
import sys
import warnings
from types import SimpleNamespace

import psutil
import pytest
import torch

from mistral_edu import MistralForCausalLM, cli, load
from mistral_edu.commands import arguments, generate, printing, writers
from mistral_edu.engine import Engine


def written(capsys, *options):
    assert cli.main(["generate", "It was", "--max-new-tokens", "20", *options]) == 0
    return capsys.readouterr().out


def test_drawing_from_one_token_is_taking_the_likeliest(capsys):
    greedy = written(capsys, "--temperature", "0")
    assert written(capsys, "--top-k", "1", "--seed", "5") == greedy
    assert written(capsys, "--min-p", "1", "--seed", "5") == greedy
    assert written(capsys, "--top-p", "1", "--temperature", "5", "--seed", "5") != greedy


def test_the_text_ends_once_a_stop_text_is_written(capsys):
    free = written(capsys, "--temperature", "0")
    stop = free.split()[4]
    stopped = written(capsys, "--temperature", "0", "--stop", stop, "--stop", "never said")
    assert stop in stopped and free.startswith(stopped.rstrip("\n")) and stopped != free


def test_a_penalty_changes_the_text(capsys):
    free = written(capsys, "--temperature", "0")
    assert written(capsys, "--temperature", "0", "--repetition-penalty", "3") != free


def test_an_engine_writes_the_same_text(monkeypatch, capsys):
    for options in (("--temperature", "0"), ("--seed", "5", "--stop", "wind")):
        plain = written(capsys, *options)
        with monkeypatch.context() as only_engine:
            only_engine.setattr(MistralForCausalLM, "stream", None)
            assert written(capsys, "--engine", *options) == plain


def test_the_prompt_begins_with_one_bos_and_no_more(monkeypatch, capsys):
    prompts = []
    monkeypatch.setattr(
        MistralForCausalLM, "stream", lambda _, ids, **__: prompts.append(ids) or iter([])
    )
    written(capsys)
    assert prompts[0].tolist() == [load("tiny")[1].encode("It was")]
    assert (prompts[0] == 1).sum() == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--repetition-penalty", "0"], "--repetition-penalty: '0' is not a number above 0"),
        (["--stop", ""], "--stop: it is empty"),
        (["--seed", "9" * 23], "--seed: '99"),
        (["--dance"], "(mistral-edu generate --help"),
        (["--top-k", "0"], "'0'"),
        (["--min-p", "2"], "'2'"),
    ],
)
def test_a_mistake_is_named_on_one_line_with_status_2(options, named, capsys):
    try:
        status = cli.main(["generate", "It was", *options])
    except SystemExit as stop:
        status = stop.code
    said = capsys.readouterr()
    assert (status, said.out) == (2, "")
    assert named in said.err and len(said.err.splitlines()) == 1


@pytest.mark.parametrize("bits", ["8", "4"])
def test_a_model_in_fewer_bits_continues_too(monkeypatch, capsys, bits):
    from mistral_edu.quantization import Int8Linear
    from mistral_edu.quantization_int4 import Int4Linear

    kind = Int8Linear if bits == "8" else Int4Linear
    used, forward = [], kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, x: used.append(1) or forward(self, x))
    assert written(capsys, "--bits", bits).startswith("It was") and used


def test_an_engine_for_4_bits_is_refused_in_one_line(capsys):
    assert cli.main(["generate", "--bits", "4", "--engine", "Once"]) == 2
    assert "cannot be fused" in capsys.readouterr().err


def test_the_engine_writes_where_it_helps_and_says_so(monkeypatch, capsys):
    plain = written(capsys, "--temperature", "0")
    monkeypatch.setattr(writers, "engine_helps", lambda model, tokens: True)
    with monkeypatch.context() as only_engine:
        only_engine.setattr(MistralForCausalLM, "stream", None)
        assert cli.main(["generate", "It was", "--max-new-tokens", "20", "--temperature", "0"]) == 0
    said = capsys.readouterr()
    assert said.out == plain and "the engine writes (--no-engine" in said.err
    monkeypatch.setattr(Engine, "stream", None)
    assert written(capsys, "--temperature", "0", "--no-engine") == plain
    assert written(capsys, "--temperature", "0", "--bits", "4")


def test_an_engine_helps_with_long_texts_of_large_models(monkeypatch):
    model, _ = load("tiny")
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    enough = writers.WORTH // size + 1
    assert writers.engine_helps(model, enough) and not writers.engine_helps(model, enough - 2)
    assert not writers.engine_helps(model.half(), 4 * enough)
    model.float()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2 * size - 1))
    assert not writers.engine_helps(model, enough)


def test_a_warning_is_one_plain_line_after_the_text(capsys):
    longer = "It was windy." * load("tiny")[0].config.max_position_embeddings
    assert cli.main(["generate", longer, "--max-new-tokens", "1", "--no-engine"]) == 0
    said = capsys.readouterr()
    assert "past max_position" not in said.out
    assert said.err.startswith("mistral-edu: position ") and len(said.err.splitlines()) == 1


def test_an_error_begins_on_its_own_line_and_warnings_come_last(capsys):
    with pytest.raises(ValueError), printing.text_printed() as write:
        write("In the")
        raise ValueError
    assert capsys.readouterr().out == "In the\n"
    with printing.plain_warnings(), printing.text_printed() as write:
        warnings.warn("too\nlong", stacklevel=1)
        warnings.warn("too\nlong", stacklevel=1)
        assert capsys.readouterr().err == ""
        write("In the")
    assert capsys.readouterr().err == "mistral-edu: too long\n"


def test_a_terminal_gets_no_control_characters(monkeypatch, capsys):
    text = "a\x1b[2J\x00b\tc\n\x9bd\x7fé"
    for on_terminal, shown in ((True, "a[2Jb\tc\ndé\n"), (False, text + "\n")):
        monkeypatch.setattr(sys.stdout, "isatty", lambda on=on_terminal: on)
        with printing.text_printed() as write:
            write(text)
        assert capsys.readouterr().out == shown


def test_weights_are_placed_as_the_options_say(monkeypatch):
    asked = []
    monkeypatch.setattr("mistral_edu.load", lambda name, **how: asked.append(tuple(how.values())))
    parser = argparse.ArgumentParser()
    generate.add_arguments(parser)
    few, wide = ["--dtype", "bfloat16", "--bits", "8"], ["--dtype", "float32", "--device", "cpu"]
    for gpu, words in ((False, []), (False, few), (True, []), (True, wide)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        arguments.load_placed(parser.parse_args(["text", *words]))
    assert asked == [
        (torch.float32, "cpu", None),
        (torch.bfloat16, "cpu", 8),
        (torch.bfloat16, "cuda", None),
        (torch.float32, "cpu", None),
    ]
