"""`mistral-edu generate`: its options are the rules of generation, and the prompt goes in once."""

import pytest

from mistral_edu import MistralForCausalLM, cli, load


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
        (["--repetition-penalty", "0"], "repetition_penalty=0.0"),
        (["--stop", ""], "stop_strings=['']"),
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
