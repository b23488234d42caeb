"""The GPU kit, as far as it goes without a GPU: it resumes and it reports faults."""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mistral_edu import backends
from mistral_edu.bench import roster
from mistral_edu.bench.run import Settings
from mistral_edu.commands import bench, experiment
from tests.gpu import __main__ as kit
from tests.gpu import backends_check
from tests.gpu.steps import DONE, FAILED, PartFailed, Setting, Step, read_state, run_step

SMALL = ["--device", "cpu", "--small"]


@pytest.fixture
def setting(tmp_path):
    """A small run on a CPU."""
    return Setting(tmp_path / "out", "cpu", small=True)


@pytest.fixture
def in_one_type(monkeypatch):
    """All backends, in float16 only."""
    monkeypatch.setattr(backends_check, "TYPES", {torch.float16: "fp16"})


def test_what_makes_sense_on_a_cpu_runs_there_and_is_summed_up(tmp_path, in_one_type, monkeypatch):
    monkeypatch.setattr(kit, "run_bench", lambda setting, model, options: {"model": model})
    assert kit.main(["--out", str(tmp_path), *SMALL]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["machine"]["packages"]["torch"] == torch.__version__
    assert not any(summary["failed"].values())
    parts = {name: state["parts"] for name, state in summary["steps"].items()}
    assert parts["machine"]["reading"]["found"]["ceiling_bytes_per_second"] > 0
    for route in ("eager", "sdpa", "flex"):
        found = parts["backends"][f"{route}, fp16, head_dim 128"]["found"]
        assert found["worst"]["against_float64"] > 0 and found["failures"] == []
    assert parts["backends"]["flash bundled, fp16, head_dim 64"]["status"] == "not here"
    assert parts["model"]["decoding"]["found"]["cache_bytes"] == 2 * 2 * 2 * 32 * 8 * 4
    assert parts["model"]["tiny, sdpa"]["found"]["same_choice"] == 1
    assert parts["build"]["sources"]["status"] == "not here"


def test_a_step_goes_on_where_it_was_interrupted(setting):
    calls = []

    def part(name, *faults):
        def run():
            calls.append(name)
            if fault := next(planned[name], None):
                raise fault
            return {"by": name}

        planned[name] = iter(faults)
        return run

    planned = {}
    parts = {
        "first": part("first"),
        "second": part("second", KeyboardInterrupt(), ValueError("no")),
        "third": part("third"),
    }
    step = Step("work", "", lambda setting: parts)
    with pytest.raises(KeyboardInterrupt):
        run_step(step, setting)
    assert list(read_state("work", setting)["parts"]) == ["first"]
    state = run_step(step, setting)
    assert calls == ["first", "second", "second", "third"]
    assert state["parts"]["second"]["status"] == FAILED
    assert state["parts"]["second"]["reason"] == "ValueError: no"
    state = run_step(step, setting)
    assert calls[4:] == ["second"]
    assert {part["status"] for part in state["parts"].values()} == {DONE}
    assert read_state("work", setting) == state


def test_results_of_another_code_are_not_taken_for_this_ones(setting, monkeypatch):
    step = Step("work", "", lambda setting: {"only": dict})
    run_step(step, setting)
    assert read_state("work", setting)["parts"]
    monkeypatch.setattr("tests.gpu.steps.code_digest", lambda: "another")
    assert read_state("work", setting)["parts"] == {}


def one_key_too_many(q, k, v, q_positions, k_positions, window):
    """The wrong window: W + 1."""
    return backends.eager_attention(q, k, v, q_positions, k_positions, window and window + 1)


def no_numbers(*given):
    """A kernel that overflows, though not where there is nothing to see."""
    out = backends.eager_attention(*given)
    return out.masked_fill(out != 0, float("nan"))


@pytest.mark.parametrize("wrong", [one_key_too_many, no_numbers])
def test_a_wrong_backend_fails_and_every_case_is_listed(tmp_path, monkeypatch, in_one_type, wrong):
    monkeypatch.setattr(backends_check, "ROUTES", ("eager", "sdpa"))
    entry = backends.Backend(wrong, lambda: None)
    monkeypatch.setitem(backends.REGISTRY, "sdpa", entry)
    assert kit.main(["--out", str(tmp_path), *SMALL, "--only", "backends"]) == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["failed"]["backends"] == ["sdpa, fp16, head_dim 64", "sdpa, fp16, head_dim 128"]
    found = summary["steps"]["backends"]["parts"]["sdpa, fp16, head_dim 64"]["found"]
    listed = {(row["case"], row["window"]) for row in found["failures"]}
    assert ("ragged text of 15", 5) in listed
    # Where no key is left to see, one more is not seen either.
    assert (("ragged text of 4", 5) in listed) == (wrong is no_numbers)


# ── the benchmark and the command line ──────────────────────────────────────────────────────────


def test_the_benchmark_is_run_for_each_model_and_its_failure_is_told(setting, monkeypatch):
    assert list(kit.bench(setting)) == ["bench tiny"]
    assert list(kit.bench(replace(setting, small=False))) == [
        "bench small229",
        *(f"bench 7b, {name}" for name in kit.SEVEN_B),
        *("attention", "seven_b"),
    ]
    codes = iter([0, 3])

    def run(command, **options):
        folder = Path(command[command.index("--output") + 1])
        assert command[1:4] == ["-m", "mistral_edu", "bench"] and options["timeout"] < 600
        folder.mkdir(exist_ok=True)
        model = command[command.index("--model") + 1]
        (folder / f"bench-{model}.json").write_text('{"tokens_per_second": 1}')
        return SimpleNamespace(returncode=next(codes), stderr="no memory")

    monkeypatch.setattr(kit.subprocess, "run", run)
    assert kit.run_bench(setting, "7b", "") == {"tokens_per_second": 1}
    with pytest.raises(PartFailed, match="exit status 3"):
        kit.run_bench(setting, "7b", "")


def test_an_experiment_is_run_by_its_name(setting, monkeypatch):
    def run(command, **options):
        assert command[1:5] == ["-m", "mistral_edu", "experiment", "attention"]
        assert command[4] in experiment.EXPERIMENTS
        (setting.out / "attention.json").write_text('{"rows": []}')
        return SimpleNamespace(returncode=0, stderr="")

    setting.out.mkdir(exist_ok=True)
    monkeypatch.setattr(kit.subprocess, "run", run)
    assert kit.run_experiment(setting, "attention") == {"rows": []}
    assert set(kit.EXPERIMENTS) <= set(experiment.EXPERIMENTS)


@pytest.mark.parametrize("name", kit.SEVEN_B)
def test_the_benchmark_s_options_are_the_command_s_own(setting, monkeypatch, name):
    seen = []
    monkeypatch.setattr(
        kit.subprocess,
        "run",
        lambda command, **_: seen.append(command[4:]) or SimpleNamespace(returncode=1, stderr=""),
    )
    with pytest.raises(PartFailed):
        kit.bench(replace(setting, small=False))[f"bench 7b, {name}"]()
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    options = parser.parse_args(seen[0])
    assert (options.model, options.output, options.device) == ("7b", setting.out, "cpu")
    chosen = Settings("7b", options.dtype, options.peers, longest=options.longest)
    assert replace(chosen, only=options.only).plan.only == options.only
    assert set(options.peers) <= {peer.name for peer in roster.PEERS}


def test_no_part_is_given_the_record_of_another(setting, monkeypatch):
    setting.out.mkdir()
    (setting.out / "bench-7b.json").write_text("{}")
    monkeypatch.setattr(
        kit.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=0, stderr="")
    )
    with pytest.raises(PartFailed):
        kit.run_bench(setting, "7b", "--only cache")


def test_every_run_draws_a_seed_and_an_option_repeats_it(tmp_path, monkeypatch):
    drawn = []
    step = Step("work", "", lambda setting: {"only": lambda: drawn.append(setting.seed) or {}})
    monkeypatch.setattr(kit, "STEPS", (step, *kit.STEPS[:1]))
    for number, words in enumerate(([], [], ["--seed", "5"])):
        out = tmp_path / str(number)
        assert kit.main(["--out", str(out), *SMALL, "--only", "work", *words]) == 0
        state = json.loads((out / "work.json").read_text())
        assert state["parts"]["only"]["seed"] == drawn[-1]
    assert drawn[0] != drawn[1] and drawn[2] == 5


def test_steps_are_listed_with_how_far_they_are(tmp_path, capsys):
    words = ["--out", str(tmp_path), *SMALL]
    assert kit.main([*words, "--only", "build"]) == 0
    capsys.readouterr()
    assert kit.main([*words, "--list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == ["machine", "build", "backends", "model", "engine", "bench"]
    assert lines["build"].endswith("4 not here") and lines["machine"].endswith("not begun")


def test_the_7b_is_not_for_a_cpu_and_a_missing_gpu_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for words, message in ((["--device", "cpu"], "needs --small"), ([], "finds no CUDA device")):
        with pytest.raises(SystemExit):
            kit.main(["--out", str(tmp_path), *words])
        assert message in capsys.readouterr().err
