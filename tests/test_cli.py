"""The `mistral-edu` command: what it writes, what it finds, and what it refuses."""

import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import pytest
import torch

import mistral_edu
from mistral_edu import (
    MistralConfig,
    MistralForCausalLM,
    MistralTokenizer,
    backends,
    cli,
    doctor,
    flash_attention,
    paths,
)
from mistral_edu.commands import arguments

TEXT = ["The miller walks to the old bridge.", "Rain falls on the valley — ☔ again."] * 4


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised model and its tokenizer on disk."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = MistralTokenizer.train(TEXT, vocab_size=300)
    config = MistralConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=8,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    MistralForCausalLM(config).save_pretrained(folder)
    tokenizer.save(folder)
    return folder


# ── generate ────────────────────────────────────────────────────────────────────────────────────


def written(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> str:
    words = ["generate", "The miller", "--model", str(folder), "--max-new-tokens", "12", *options]
    assert cli.main(words) == 0
    return capsys.readouterr().out


def test_the_text_begins_with_the_prompt_as_it_was_typed(
    model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert written(capsys, model_folder).startswith("The miller")


def test_temperature_zero_prints_what_generate_decodes_to(
    model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = MistralForCausalLM.from_pretrained(model_folder)
    tokenizer = MistralTokenizer.from_pretrained(model_folder)
    ids = model.generate(torch.tensor([tokenizer.encode("The miller")]), max_new_tokens=12)
    assert (
        written(capsys, model_folder, "--temperature", "0")
        == tokenizer.decode(ids[0].tolist()) + "\n"
    )


def test_the_seed_decides_the_text(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, again, other = (written(capsys, model_folder, "--seed", seed) for seed in "001")
    assert first == again != other


def test_the_tiny_model_writes_from_a_fresh_process() -> None:
    command = [sys.executable, "-m", "mistral_edu", "generate", "Once", "--max-new-tokens", "8"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("Once") and len(answer.stdout) > len("Once\n")


def test_a_reader_that_leaves_early_is_no_error(model_folder: Path) -> None:
    command = [sys.executable, "-m", "mistral_edu", "generate", "The", "--model", str(model_folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["generate", "x", "--model", "/no/such/folder"], "/no/such/folder"),
        (["generate", "x", "--temperature", "-1"], "'-1'"),
        (["generate", "x", "--temperature", "nan"], "'nan'"),
        (["generate", "x", "--top-p", "0"], "'0'"),
        (["generate", "x", "--top-p", "1.5"], "'1.5'"),
        (["generate", "x", "--max-new-tokens", "0"], "'0'"),
        (["generate"], "prompt"),
        (["dance"], "dance"),
        ([], "command"),
    ],
)
def test_a_mistake_is_named_on_one_line_with_status_2(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = cli.main(words)
    except SystemExit as stop:
        status = stop.code
    said = capsys.readouterr()
    assert (status, said.out) == (2, "")
    assert named in said.err and len(said.err.splitlines()) == 1


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"mistral-edu {metadata.version('mistral-edu')}\n"


def test_pytorch_is_imported_once_a_command_runs() -> None:
    """So `--help` answers at once, and a Ctrl-C during the import is that of `main`."""
    code = "import sys, mistral_edu as m, mistral_edu.cli; print('torch' in sys.modules, dir(m))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.startswith("False") and "'MistralForCausalLM'" in answer.stdout


def test_ctrl_c_ends_silently_with_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mistral_edu.load", interrupted)
    assert cli.main(["generate", "Once"]) == 130
    said = capsys.readouterr()
    assert (said.out.strip(), said.err) == ("", "")


def test_every_name_of_the_package_is_there() -> None:
    for name in mistral_edu.__all__:
        assert getattr(mistral_edu, name).__name__ == name
    with pytest.raises(AttributeError, match="'mistral_edu' has no attribute 'Mistral'"):
        getattr(mistral_edu, "Mistral")  # noqa: B009


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--config", str(paths.data_dir() / "tiny" / "lookups.toml")],
        ["bench", "--quick"],
        ["experiment", "attention"],
    ],
)
def test_an_output_that_takes_no_file_is_found_before_any_work(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for work in ("training.follow.train", "bench.run.measure", "experiments.attention.measure"):
        monkeypatch.setattr(f"mistral_edu.{work}", lambda *_, **__: pytest.fail("it began"))
    taken = tmp_path / "taken"
    taken.write_text("a file", encoding="utf-8")
    for output, reason in ((taken, "it is a file"), (taken / "in", "")):
        assert cli.main([*words, "--output", str(output)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"mistral-edu: cannot write to {output} ({reason}")
        assert said.endswith("): choose another --output\n") and len(said.splitlines()) == 1


def test_a_folder_that_lets_itself_be_made_but_takes_no_file_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(dir: Path) -> None:
        raise OSError(30, "Read-only file system", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    with pytest.raises(OSError, match=r"cannot write to .* \(Read-only file system\): choose"):
        arguments.writable(tmp_path)


# ── doctor ──────────────────────────────────────────────────────────────────────────────────────


def test_doctor_says_of_every_backend_that_it_runs_or_why_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reasons = {"eager": None, "flash": "it needs a CUDA device"}
    monkeypatch.setattr("mistral_edu.backends.available", lambda: reasons)
    rows = dict(doctor.attention())
    assert rows["eager"] == "runs"
    assert rows["flash"] == "cannot run: it needs a CUDA device"


def test_doctor_says_how_the_engine_steps_or_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "why_uncompiled", lambda weight: None)
    assert dict(doctor.engine())["on a processor"] == "compiled here, in one call"
    monkeypatch.setattr(doctor, "why_uncompiled", lambda weight: "no compiler")
    assert dict(doctor.engine())["on a processor"].endswith("after another: no compiler")
    assert "Engine" in doctor.report()[0]


@pytest.mark.parametrize(
    ("has_gpu", "picked"),
    [(False, "picks sdpa"), (True, "picks sdpa on the processor, flash in bfloat16 on the GPU")],
)
def test_doctor_says_what_auto_picks_where(
    monkeypatch: pytest.MonkeyPatch, has_gpu: bool, picked: str
) -> None:
    entry = backends.Backend(backends.eager_attention, lambda: None, flash_attention.why_unfit)
    monkeypatch.setitem(backends.REGISTRY, "flash", entry)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert dict(doctor.attention())["auto"] == picked


def test_doctor_counts_the_7b_and_its_full_window_exactly() -> None:
    bfloat16, int8 = doctor.seven_billion_needs()
    assert bfloat16.weights == 2 * 7_241_732_096
    assert bfloat16.cache == int8.cache == 2 * 2 * 32 * 8 * 128 * 4096
    # The embedding and the head (32000 × 4096 each) and the 65 norms stay in two bytes.
    assert int8.weights == 7_241_732_096 + 2 * 32000 * 4096 + 65 * 4096


def test_doctor_s_names_fit_their_column() -> None:
    rows = [line for line in doctor.report()[0].splitlines() if line.startswith("  ")]
    assert "  with --bits 8   " in [row[:18] for row in rows]
    assert all(row[18] == " " for row in rows)


@pytest.mark.parametrize(("free", "verdict"), [(15.2, "fits in memory"), (14.9, "does not fit")])
def test_doctor_holds_the_7b_against_the_free_memory(free: float, verdict: str) -> None:
    rows = dict(doctor.seven_billion("in memory", int(free * doctor.GB)))
    assert verdict in rows["bfloat16"]


def test_doctor_sees_widget_halves_that_do_not_match(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor._version
    monkeypatch.setattr(
        doctor, "_version", lambda name: "1.0.0" if name == "jupyterlab_widgets" else real(name)
    )
    line, problem = doctor.widget_match()
    assert "do not match" in line and "pip install" in str(problem)


def test_doctor_fails_when_the_tiny_model_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(paths, "data_dir", lambda: tmp_path)
    assert cli.main(["doctor"]) == 1
    assert "Fix this: " in capsys.readouterr().out


def test_doctor_is_content_with_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    assert "Everything the lessons need is here." in capsys.readouterr().out
