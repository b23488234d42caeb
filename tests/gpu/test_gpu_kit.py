"""The GPU kit, as far as it goes without a GPU: it resumes, it reports faults, it trims exactly."""

import json
import tarfile
from types import SimpleNamespace

import pytest
import torch

from mistral_edu import backends, cli
from tests.gpu import __main__ as kit
from tests.gpu import backends_check, build_flash, flash_source
from tests.gpu.steps import DONE, FAILED, NotHere, PartFailed, Setting, Step, read_state, run_step

SMALL = ["--device", "cpu", "--small"]


@pytest.fixture
def setting(tmp_path):
    """A small run on a CPU."""
    return Setting(tmp_path / "out", "cpu", small=True)


@pytest.fixture
def in_one_type(monkeypatch):
    """All backends, in float16 only."""
    monkeypatch.setattr(backends_check, "TYPES", {torch.float16: "fp16"})


def test_what_makes_sense_on_a_cpu_runs_there_and_is_summed_up(tmp_path, in_one_type):
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


# ── the trimmed flash-attn ──────────────────────────────────────────────────────────────────────

STOCK = {
    flash_source.SWITCHES: (
        "#define FP16_SWITCH(COND, ...)  \\\n  stock()\n\n"
        "#define HEADDIM_SWITCH(HEADDIM, ...)  \\\n  stock()\n"
    ),
    flash_source.BINDINGS: f"{flash_source.FORWARD}    FP16_SWITCH();\n}}\n",
    "flash_attn/__init__.py": "",
}


def archive_of(tmp_path, **changes):
    """A miniature of the real archive, with some files changed or left out (None)."""
    kernels = dict.fromkeys(flash_source.units((64, 128), ("bf16", "fp16"))[:-2], "")
    files = {**kernels, **STOCK, **changes}
    root = tmp_path / "flash_attn-0"
    for name, text in files.items():
        if text is not None:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    with tarfile.open(tmp_path / "source.tar.gz", "w:gz") as packed:
        packed.add(root, arcname="flash_attn-0")
    return tmp_path / "source.tar.gz"


def test_sources_are_pinned_to_one_head_size_and_type_and_refuse_others(tmp_path):
    root = tmp_path / "trimmed"
    flash_source.prepare(archive_of(tmp_path), root, (128,), ("bf16",))
    switches = (root / flash_source.SWITCHES).read_text()
    pinned, stock = switches.split("#define STOCK_FP16_SWITCH(COND, ...)")
    assert "using elem_type = cutlass::bfloat16_t;" in pinned and "half_t" not in pinned
    assert "kHeadDim = 128;" in stock and "#define STOCK_HEADDIM_SWITCH(HEADDIM, ...)" in stock
    bindings = (root / flash_source.BINDINGS).read_text()
    assert "TORCH_CHECK((params.d == 128) && params.is_bf16," in bindings.splitlines()[1]
    stub = (root / flash_source.STUB).read_text()
    assert stub.count("run_mha_bwd_<cutlass::bfloat16_t, 128,") == 2
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("trimmed")) == ["trimmed"]


def test_two_sizes_and_both_types_keep_the_switch_of_types(tmp_path):
    root = tmp_path / "trimmed"
    flash_source.prepare(archive_of(tmp_path), root, (64, 128), ("bf16", "fp16"))
    switches = (root / flash_source.SWITCHES).read_text()
    assert switches.startswith("#define FP16_SWITCH(COND, ...)  \\\n  stock()")
    assert "if (HEADDIM == 64)" in switches and "kHeadDim = 128;" in switches
    guard = (root / flash_source.BINDINGS).read_text().splitlines()[1]
    assert "TORCH_CHECK(params.d == 64 || params.d == 128, " in guard
    assert (root / flash_source.STUB).read_text().count("run_mha_bwd_<") == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({flash_source.SWITCHES: STOCK[flash_source.SWITCHES] * 2}, "there 2 times, expected 1"),
        ({flash_source.BINDINGS: "void run_mha_fwd() {\n"}, "flash_api.cpp.*there 0 times"),
        ({flash_source.SWITCHES: None}, "static_switch.h.*there 0 times"),
        (
            {"csrc/flash_attn/src/flash_fwd_hdim128_bf16_sm80.cu": None},
            "has no .*hdim128_bf16_sm80",
        ),
    ],
)
def test_sources_that_have_changed_stop_the_build(tmp_path, changes, message):
    with pytest.raises(flash_source.SourceChanged, match=message):
        flash_source.prepare(
            archive_of(tmp_path, **changes), tmp_path / "trimmed", (128,), ("bf16",)
        )
    assert not (tmp_path / "trimmed").exists()


def test_edits_are_made_all_or_none(tmp_path):
    (tmp_path / "a").write_text("one")
    edits = [flash_source.Edit("a", "one", "two"), flash_source.Edit("b", "one", "two")]
    with pytest.raises(flash_source.SourceChanged, match="b: 'one' is there 0 times"):
        flash_source.apply(edits, tmp_path)
    assert (tmp_path / "a").read_text() == "one"


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """A stand-in for nvcc that notes what it compiles and refuses what the file `broken` names."""
    script = tmp_path / "nvcc"
    script.write_text(
        "#!/bin/sh\n"
        f'echo "$2" >> {tmp_path}/compiled\n'
        f'if grep -qs "$(basename "$2")" {tmp_path}/broken; then echo "no such type"; exit 1; fi\n'
        'touch "$4"\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr(build_flash, "nvcc", lambda: script)
    monkeypatch.setattr(build_flash, "architecture", lambda: "90")
    monkeypatch.setattr(build_flash, "require_tools", lambda setting: None)
    monkeypatch.setattr(build_flash.cpp_extension, "include_paths", lambda kind: ["/torch"])
    return lambda: (tmp_path / "compiled").read_text().split()


def test_a_build_compiles_only_what_is_not_compiled_yet(tmp_path, compiler):
    setting = Setting(tmp_path / "out", "cpu", True, archive_of(tmp_path))
    build_flash.sources(setting)
    (tmp_path / "broken").write_text("flash_fwd_split_hdim128_bf16_sm80.cu")
    with pytest.raises(PartFailed, match="1 of 6 units do not compile") as fault:
        build_flash.objects(setting)
    assert fault.value.found == {
        "csrc/flash_attn/src/flash_fwd_split_hdim128_bf16_sm80.cu": "no such type\n"
    }
    assert len(compiler()) == 6
    (tmp_path / "broken").unlink()
    seconds = build_flash.objects(setting)["seconds"]
    assert len(compiler()) == 7 and len(seconds) == 6
    assert len(list(build_flash.objects_folder(setting).glob("*.o"))) == 6


def test_objects_for_other_head_sizes_are_kept_apart(tmp_path, compiler):
    folders = {
        build_flash.objects_folder(Setting(tmp_path, head_dims=sizes))
        for sizes in ((128,), (64, 128))
    }
    assert len(folders) == 2


def test_the_window_is_never_left_out_of_a_build(tmp_path, compiler):
    command = build_flash.compile_command(tmp_path, "a.cu", tmp_path / "a.o", "90")
    assert "arch=compute_90,code=sm_90" in command and "-I/torch" in command
    left_out = {word for word in command if word.startswith("-DFLASHATTENTION_DISABLE_")}
    assert len(left_out) == 5 and "-DFLASHATTENTION_DISABLE_LOCAL" not in left_out


def test_a_build_without_an_archive_says_what_to_give(setting, compiler):
    with pytest.raises(NotHere, match="--flash-source flash_attn-2.8.3.post2.tar.gz"):
        build_flash.sources(setting)
    wrong = Setting(setting.out, "cpu", True, None, head_dims=(80,))
    with pytest.raises(ValueError, match=r"cannot build for \[80\]: choose from"):
        build_flash.sources(wrong)


# ── the benchmark and the command line ──────────────────────────────────────────────────────────


def test_the_benchmark_is_run_if_there_is_one(setting, monkeypatch):
    monkeypatch.setattr(cli, "COMMANDS", {})
    with pytest.raises(NotHere, match="no command `bench`"):
        kit.run_bench(setting)
    monkeypatch.setattr(cli, "COMMANDS", {"bench": None})
    codes = iter([0, 3])

    def run(command, **options):
        path = command[command.index("--output") + 1]
        assert command[1:4] == ["-m", "mistral_edu", "bench"] and options["timeout"] < 600
        setting.out.mkdir(exist_ok=True)
        (setting.out / "bench-report.json").write_text('{"tokens_per_second": 1}')
        assert path == str(setting.out / "bench-report.json")
        return SimpleNamespace(returncode=next(codes), stderr="no memory")

    monkeypatch.setattr(kit.subprocess, "run", run)
    assert kit.run_bench(setting) == {"tokens_per_second": 1}
    with pytest.raises(PartFailed, match="exit status 3"):
        kit.run_bench(setting)


def test_steps_are_listed_with_how_far_they_are(tmp_path, capsys):
    words = ["--out", str(tmp_path), *SMALL]
    assert kit.main([*words, "--only", "build"]) == 0
    capsys.readouterr()
    assert kit.main([*words, "--list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == ["machine", "build", "backends", "model", "bench"]
    assert lines["build"].endswith("4 not here") and lines["machine"].endswith("not begun")


def test_the_7b_is_not_for_a_cpu_and_a_missing_gpu_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for words, message in ((["--device", "cpu"], "needs --small"), ([], "finds no CUDA device")):
        with pytest.raises(SystemExit):
            kit.main(["--out", str(tmp_path), *words])
        assert message in capsys.readouterr().err
