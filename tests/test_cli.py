"""The `mistral-edu` command: what it prints, what it refuses, and what it never overwrites."""

import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mistral_edu import MistralConfig, MistralForCausalLM, MistralTokenizer, cli, doctor, paths

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
    assert written(capsys, model_folder, "--temperature", "0") == tokenizer.decode(ids[0]) + "\n"


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


# ── doctor ──────────────────────────────────────────────────────────────────────────────────────


def test_doctor_says_of_every_backend_that_it_runs_or_why_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reasons = {"eager": None, "flash": "it needs a CUDA device"}
    monkeypatch.setattr("mistral_edu.backends.available", lambda: reasons)
    rows = dict(doctor.attention())
    assert rows["eager"] == "runs"
    assert rows["flash"] == "cannot run: it needs a CUDA device"


def test_doctor_counts_the_7b_and_its_full_window_exactly() -> None:
    bfloat16, int8 = doctor.seven_billion_needs()
    assert bfloat16.weights == 2 * 7_241_732_096
    assert bfloat16.cache == int8.cache == 2 * 2 * 32 * 8 * 128 * 4096
    # The embedding (32000 × 4096) and the 65 norms stay in two bytes.
    assert int8.weights == 7_241_732_096 + 32000 * 4096 + 65 * 4096


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


# ── lab ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Pretend to be an installed wheel with two lessons, in an empty working folder."""
    lessons = tmp_path / "package" / "_notebooks"
    lessons.mkdir(parents=True)
    for name in (cli.FIRST_LESSON, "06_sliding_window.ipynb"):
        (lessons / name).write_text('{"cells": []}', encoding="utf-8")
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    return lessons


def test_a_clone_opens_its_own_lessons(repository: Path) -> None:
    assert cli.lessons_folder(None) == repository / "notebooks"


def test_a_wheel_copies_its_lessons_beside_the_learner(wheel: Path, tmp_path: Path) -> None:
    folder = cli.lessons_folder(None)
    assert folder == tmp_path / cli.COURSE_FOLDER
    assert sorted(lesson.name for lesson in folder.iterdir()) == sorted(
        lesson.name for lesson in wheel.iterdir()
    )


def test_work_in_a_lesson_survives_a_second_start(wheel: Path, tmp_path: Path) -> None:
    mine = cli.lessons_folder(tmp_path / "mine") / cli.FIRST_LESSON
    mine.write_text("my answers", encoding="utf-8")
    cli.lessons_folder(tmp_path / "mine")
    assert mine.read_text(encoding="utf-8") == "my answers"


def test_a_clone_copies_lessons_when_a_folder_is_named(tmp_path: Path) -> None:
    assert (cli.lessons_folder(tmp_path / "mine") / cli.FIRST_LESSON).is_file()


def test_missing_lessons_are_a_clear_error(wheel: Path) -> None:
    (wheel / cli.FIRST_LESSON).unlink()
    with pytest.raises(FileNotFoundError, match=cli.FIRST_LESSON):
        cli.lessons_folder(None)


@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)])
def test_only_root_is_given_leave_to_run_as_root(
    user: int, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user, raising=False)
    command = cli.lab_command(Path("lessons"), browser=True)
    assert ("--allow-root" in command) == allowed and "--no-browser" not in command


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address, token included, that `mistral-edu lab` prints where there is no screen."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    hidden = {"DISPLAY": "", "WAYLAND_DISPLAY": ""}
    homes = ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR")
    surroundings = {**os.environ, **hidden, **{name: str(tmp_path / name) for name in homes}}
    command = [sys.executable, "-m", "mistral_edu", "lab", "--folder", str(tmp_path / "mine")]
    with subprocess.Popen(
        [*command, "--port", port],
        env=surroundings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        addresses = (re.search(r"http://127\S+", line) for line in process.stdout)
        yield next((found[0] for found in addresses if found), "it stopped before an address")
        process.terminate()


def test_lab_prints_an_address_that_opens_lesson_00_and_asks_nothing(served: str) -> None:
    assert f"/lab/tree/{cli.FIRST_LESSON}?token=" in served
    with urllib.request.urlopen(served, timeout=30) as page:
        assert page.status == 200
    plugin = "@jupyterlab/apputils-extension:notification"
    settings = served.replace(f"lab/tree/{cli.FIRST_LESSON}", f"lab/api/settings/{plugin}")
    with urllib.request.urlopen(settings, timeout=30) as answer:
        defaults = json.load(answer)["schema"]["properties"]
    assert defaults["fetchNews"]["default"] == "false"
    assert defaults["checkForUpdates"]["default"] is False
